//! The nouns of flowproof: header fields as one table, flow keys, frames on the wire, captures.
//!
//! Invariant: nothing here decides anything about a packet; it only says what the packet *is*, exactly as
//! Open vSwitch's flow extraction sees it. Deliberately absent: matching, connection state, policy.
//!
//! Source: ovs-fields(7); RFC 791, 793, 826, 8200, 4861.

pub mod build;
pub mod field;
pub mod key;
pub mod mac;
pub mod pcap;
pub mod summary;
pub mod wire;

pub use field::{Field, FieldSpec, Format, Maskable, Origin, Prerequisite};
pub use key::FlowKey;
pub use mac::MacAddr;

/// An OpenFlow 1.0 port number. The reserved ones are in [`port`].
pub type PortNo = u16;

/// Reserved OpenFlow port numbers (ovs-fields(7), `in_port`).
pub mod port {
    use super::PortNo;
    /// No output port yet, in an action set.
    pub const UNSET: PortNo = 0xfff7;
    /// Send the packet back where it came from.
    pub const IN_PORT: PortNo = 0xfff8;
    /// Resubmit through the flow tables (packet-out only).
    pub const TABLE: PortNo = 0xfff9;
    /// Process as a learning L2 switch would.
    pub const NORMAL: PortNo = 0xfffa;
    /// All ports but the input port and those with flooding disabled.
    pub const FLOOD: PortNo = 0xfffb;
    /// All ports but the input port.
    pub const ALL: PortNo = 0xfffc;
    /// The controller.
    pub const CONTROLLER: PortNo = 0xfffd;
    /// The bridge's own network device.
    pub const LOCAL: PortNo = 0xfffe;
    /// No port at all.
    pub const NONE: PortNo = 0xffff;
    /// The reserved ports and their names, as ovs-ofctl writes them.
    pub const NAMES: &[(&str, PortNo)] = &[
        ("IN_PORT", IN_PORT),
        ("TABLE", TABLE),
        ("NORMAL", NORMAL),
        ("FLOOD", FLOOD),
        ("ALL", ALL),
        ("CONTROLLER", CONTROLLER),
        ("LOCAL", LOCAL),
        ("ANY", NONE),
        ("NONE", NONE),
    ];
}
