//! Frames on the wire: what is in them, and how to write changes back.
//!
//! Invariant: reading never fails and never panics; a frame that is nonsense reads as Open vSwitch 3.1 reads it.
//! Deliberately absent: any verdict about a packet, connection state, reassembly of streams.
//!
//! Source: ovs-fields(7); RFC 791, 768, 793, 792, 826, 4443, 4861, 8200, 4302, 9260; experiments with
//! Open vSwitch 3.1.0's userspace datapath where those leave the reader a choice.

mod bytes;
mod checksum;
mod commit;
mod ether;
mod extract;
mod ip;
mod l4;
mod nd;
#[cfg(test)]
pub(crate) mod tests;
mod translate;

pub(crate) use bytes::put;
pub(crate) use checksum::{SCTP_CHECKSUM, checksum_offset, sctp_checksum, segment_checksum, updated};
pub use checksum::{checksum, ipv4_header_checksum_ok, l4_checksum_ok, sctp_checksum_ok};
pub use commit::commit;
pub use ether::{Ether, VlanTag, ether};
pub(crate) use extract::ARP_PREFIX;
pub use extract::{FRAG_ANY, FRAG_LATER, VLAN_PRESENT, extract, lookup_key};
pub use ip::{Faults, Fragment, IpVersion, L3, inner_l3, l3};
pub use l4::{IcmpView, PortsView, TcpView, UdpView, icmp, sctp, tcp, udp};
pub(crate) use nd::is_nd as nd_kind;
pub use nd::{NdView, nd};
pub use translate::{Ends, translate, translate_quoted};

/// Ethertypes that the codec knows (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP.
    pub const RARP: u16 = 0x8035;
    /// Customer VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// Service VLAN tag (802.1ad).
    pub const QINQ: u16 = 0x88a8;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// MPLS, unicast.
    pub const MPLS: u16 = 0x8847;
    /// MPLS, multicast.
    pub const MPLS_MULTICAST: u16 = 0x8848;
    /// Network service header.
    pub const NSH: u16 = 0x894f;
    /// Smallest value that is a type and not an 802.3 length.
    pub const MIN: u16 = 0x0600;
    /// What Open vSwitch calls a frame without a type (802.3 with LLC).
    pub const NONE: u16 = 0x05ff;
}

/// IP protocol numbers that the codec knows (IANA).
pub mod proto {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DEST_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}
