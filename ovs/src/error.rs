//! What can go wrong with the machine, told apart from what a switch says.

use std::{io, path::Path};

/// The machine failed; nothing is known about any packet.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// A program or file of Open vSwitch is not there.
    #[error("`{name}` of Open vSwitch is not installed")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A file, a socket or a process could not be used: no permission, no space, refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command of Open vSwitch failed.
    #[error("`{command}` failed: {message}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        message: String,
    },
    /// The switch is gone.
    #[error("the switch ended: {log}")]
    Ended {
        /// The last that it said.
        log: String,
    },
    /// The switch does not answer.
    #[error("no answer from the switch in time: {what}")]
    Timeout {
        /// What was waited for.
        what: String,
    },
    /// The switch says something that this harness does not understand.
    #[error("unexpected answer from the switch: `{text}`")]
    Answer {
        /// The beginning of it.
        text: String,
    },
}

impl EnvError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    pub(crate) fn file(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        Self::io(format!("cannot {verb} `{}`", path.display()))
    }

    pub(crate) fn answer(text: &str) -> Self {
        Self::Answer { text: text.chars().take(200).collect() }
    }

    /// Whether the machine simply has no Open vSwitch.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// Flows could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The switch does not accept them.
    #[error("the switch refuses the flows: {message}")]
    Refused {
        /// Why not, in its words.
        message: String,
    },
    /// The machine failed.
    #[error(transparent)]
    Env(#[from] EnvError),
}
