//! Exit codes: what a script may rely on.

use std::process::ExitCode;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All that was asked holds.
    Holds,
    /// Something was refuted, or differs.
    Refuted,
    /// The question or its input is wrong; nothing was answered.
    Usage,
    /// What was asked is neither shown nor refuted.
    Inconclusive,
    /// Two answers of flowproof's own do not fit together.
    Contradiction,
    /// Ctrl-C.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Holds => 0,
            Exit::Refuted => 1,
            Exit::Usage => 2,
            Exit::Inconclusive => 3,
            Exit::Contradiction => 4,
            Exit::Interrupted => 130,
        })
    }
}
