//! What can be wrong with a scenario.

use std::fmt;

/// Characters of offending text that an error repeats.
const MAX_QUOTE: usize = 80;

/// What is wrong with the text of a scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}: `{text}`")]
pub struct ParseError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The offending text, shortened if it is long.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

impl ParseError {
    pub(crate) fn new(line: u32, column: u32, text: &str, message: impl Into<String>) -> Self {
        let short: String = text.chars().take(MAX_QUOTE).collect();
        let text = if short.len() < text.len() { format!("{short}…") } else { short };
        Self { line, column, text, message: message.into() }
    }
}

/// A scenario that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// The line of the step, 0 for the scenario as a whole.
    pub line: u32,
    /// Why not.
    pub message: String,
}

impl std::error::Error for RunError {}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "{line}: {}", self.message),
        }
    }
}
