//! Why there is no answer: always the user's or the machine's doing, always exit code 2.

use crate::input::InputError;
use std::io;
use thiserror::Error;

/// Why a subcommand could not answer.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// An input could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// An input, or a combination of options, makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The results could not be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// An input that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }
}
