//! Making frames: from a flow key, by fragmenting, by quoting in an ICMP error.
//!
//! Invariant: what is made is a frame that a host could send, with right lengths and checksums, unless the options
//! ask for a wrong one. Deliberately absent: streams; every frame is made on its own.
//!
//! Source: RFC 791, 768, 793, 792, 826, 4443, 4861, 8200, 9260, 3032, 8300.

mod compose;
mod fragment;
mod icmp_error;
#[cfg(test)]
pub(crate) mod tests;
mod upper;

pub use compose::{BadChecksum, ComposeOptions, compose};
pub use fragment::{FragmentExtension, FragmentOptions, defragment, fragment, fragment_with};
pub use icmp_error::{IcmpError, icmp_error};
