//! What is wrong with a piece of text, before anyone knows on which line it stands.

use std::borrow::Cow;

/// A complaint about a slice of the line being read.
#[derive(Debug)]
pub(crate) struct Fault<'a> {
    /// The offending text; a slice of the line, so that its place can be found again.
    pub(crate) at: &'a str,
    /// What is wrong with it.
    pub(crate) message: Cow<'static, str>,
}

/// A value, or what is wrong with its text.
pub(crate) type Parsed<'a, T> = Result<T, Fault<'a>>;

/// A fault at `at`.
pub(crate) fn fault<T>(at: &str, message: impl Into<Cow<'static, str>>) -> Parsed<'_, T> {
    Err(Fault { at, message: message.into() })
}
