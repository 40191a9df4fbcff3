//! How long an entry lives after the last packet that refreshed it.
//!
//! Source: for the userspace datapath, experiments with Open vSwitch 3.1 and its default timeout policy; for the
//! kernel, Linux's `nf_conntrack_*_timeout*` defaults and experiments with Linux 6.18.

use super::Profile;

/// Why an entry lives on: the timer that a packet restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    TcpFirst,
    TcpOpening,
    TcpEstablished,
    TcpClosing,
    TcpFinWait,
    TcpClosed,
    OtherFirst,
    OtherMultiple,
    OtherBidirectional,
    IcmpFirst,
    IcmpReply,
}

impl Timer {
    /// Milliseconds, in the userspace datapath's default policy.
    pub(super) const fn userspace(self) -> u64 {
        1000 * match self {
            Self::TcpEstablished => 24 * 60 * 60,
            Self::TcpClosing => 15 * 60,
            Self::OtherFirst | Self::OtherMultiple | Self::IcmpFirst => 60,
            Self::TcpFinWait => 45,
            Self::TcpFirst | Self::TcpOpening | Self::TcpClosed => 30,
            Self::OtherBidirectional | Self::IcmpReply => 30,
        }
    }
}

/// How long both ends of a UDP connection must have spoken for it to be a stream.
const STREAM_MS: u64 = 2000;

/// Milliseconds that the kernel keeps an entry without a state machine, by protocol and, if a reply was seen before the
/// packet, the entry's age in milliseconds.
pub(super) const fn kernel_plain(profile: Profile, proto: u8, replied: Option<u64>) -> u64 {
    let newer = matches!(profile, Profile::Kernel);
    1000 * match (proto, replied) {
        (1 | 58, _) | (17 | 136 | 47, None) => 30,
        (17, Some(age)) if newer && age <= STREAM_MS => 30,
        (17 | 136, Some(_)) if newer => 120,
        (17 | 136 | 47, Some(_)) => 180,
        _ => 600,
    }
}
