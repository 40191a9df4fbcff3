//! ICMP and ICMPv6 queries in the userspace datapath: asked, or answered.

use super::timeouts::Timer;

/// Whether a query has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Icmp {
    replied: bool,
}

impl Icmp {
    pub(super) const fn new() -> (Self, Timer) {
        (Self { replied: false }, Timer::IcmpFirst)
    }

    /// Whether the packet is still a first one, and the timer to restart.
    pub(super) const fn update(&mut self, reply: bool) -> (bool, Timer) {
        self.replied |= reply;
        if self.replied { (false, Timer::IcmpReply) } else { (true, Timer::IcmpFirst) }
    }
}
