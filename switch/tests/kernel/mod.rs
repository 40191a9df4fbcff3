//! The running kernel's connection tracking beside the `kernel` profile: the same packets, and no difference allowed.
//!
//! `judge.py` asks the kernel in a private network namespace; its first lines say how. What cannot be seen there, since
//! packets reach conntrack through IP's own input and not through Open vSwitch: broken IP headers (IP drops them
//! first), `force` and limits of zones, which Open vSwitch adds, and labels.

pub(crate) mod compare;
pub(crate) mod packets;
pub(crate) mod process;
pub(crate) mod rng;
