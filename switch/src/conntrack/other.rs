//! UDP and every protocol without a state machine in the userspace datapath: once, more than once, both ways.

use super::timeouts::Timer;

/// How much has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    First,
    Multiple,
    Bidirectional,
}

impl Other {
    pub(super) const fn new() -> (Self, Timer) {
        (Self::First, Timer::OtherFirst)
    }

    /// Whether the packet is still a first one, and the timer to restart.
    pub(super) const fn update(&mut self, reply: bool) -> (bool, Timer) {
        *self = match (*self, reply) {
            (Self::Bidirectional, _) | (_, true) => Self::Bidirectional,
            (Self::First | Self::Multiple, false) => Self::Multiple,
        };
        match self {
            Self::Bidirectional => (false, Timer::OtherBidirectional),
            Self::First | Self::Multiple => (true, Timer::OtherMultiple),
        }
    }
}
