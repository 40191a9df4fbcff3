//! Why there is no answer: always the user's or the machine's doing, always exit code 2.

use std::io;
use thiserror::Error;

/// Why a subcommand could not answer.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// An input, or a combination of options, makes no sense; one message a line.
    #[error("{}", .0.join("\n"))]
    Input(Vec<String>),
    /// The results could not be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// An input that makes no sense.
    pub(crate) fn input(messages: impl Into<Vec<String>>) -> Self {
        Self::Input(messages.into())
    }
}
