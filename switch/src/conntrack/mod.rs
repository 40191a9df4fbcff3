//! Connection tracking, parameterised by datapath profile.
//!
//! Time is virtual: nothing happens between two calls unless [`Conntrack::advance`] says so.

/// Which implementation of connection tracking, and which of its habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Open vSwitch 3.1's userspace datapath; judged by experiment.
    Userspace31,
    /// The Linux kernel datapath, 4.12 and later.
    Kernel,
    /// The Linux kernel datapath before 4.12, which calls neighbour discovery `+new`.
    Kernel2016,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 3] = [Self::Userspace31, Self::Kernel, Self::Kernel2016];

    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Userspace31 => "userspace-3.1",
            Self::Kernel => "kernel",
            Self::Kernel2016 => "kernel-2016",
        }
    }

    /// Whether an experiment has judged this profile.
    #[must_use]
    pub const fn is_validated(self) -> bool {
        matches!(self, Self::Userspace31)
    }

    /// Whether `ct()` turns the fragments of a datagram into one whole packet.
    #[must_use]
    pub const fn reassembles(self) -> bool {
        !matches!(self, Self::Userspace31)
    }

    /// Whether ND and MLD come out of `ct()` as `+new` instead of `+inv`.
    #[must_use]
    pub const fn nd_is_new(self) -> bool {
        matches!(self, Self::Kernel2016)
    }
}

/// Bits of `ct_state` (ovs-fields(7)).
pub mod state {
    /// Beginning of a new connection.
    pub const NEW: u32 = 0x01;
    /// Part of an existing connection.
    pub const EST: u32 = 0x02;
    /// Related to an existing connection.
    pub const REL: u32 = 0x04;
    /// In the reply direction.
    pub const RPL: u32 = 0x08;
    /// Not identifiable.
    pub const INV: u32 = 0x10;
    /// Connection tracking has been applied.
    pub const TRK: u32 = 0x20;
    /// Source address translated.
    pub const SNAT: u32 = 0x40;
    /// Destination address translated.
    pub const DNAT: u32 = 0x80;
}

/// The five-tuple of a connection's original direction, as `ct_nw_src`, `ct_tp_src`, … show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address; IPv4 in the low 32 bits.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Whether the addresses are IPv6.
    pub ipv6: bool,
    /// IP protocol.
    pub proto: u8,
    /// Source port, or ICMP type.
    pub tp_src: u16,
    /// Destination port, or ICMP code.
    pub tp_dst: u16,
}

/// What `ct()` says of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtInfo {
    /// Bits of [`state`].
    pub state: u32,
    /// `ct_mark`
    pub mark: u32,
    /// `ct_label`
    pub label: u128,
    /// The connection's original tuple, where there is one.
    pub orig: Option<Tuple>,
}

/// What a `ct()` action asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtRequest {
    /// The zone.
    pub zone: u16,
    /// Create the connection.
    pub commit: bool,
    /// Replace a connection of the other direction.
    pub force: bool,
    /// `exec(…->ct_mark)`: value and mask.
    pub mark: (u32, u32),
    /// `exec(…->ct_label)`: value and mask.
    pub label: (u128, u128),
}

/// What comes out of `ct()`: frames (more than one when a train of fragments is complete, none when a fragment is
/// held), each with its connection's information.
pub type CtOutput = Vec<(Vec<u8>, CtInfo)>;
