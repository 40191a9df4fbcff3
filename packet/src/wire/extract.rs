//! From a frame to its flow key, exactly as Open vSwitch 3.1's userspace datapath does it.

use super::{
    bytes::{u8_at, u16_at, u32_at, u48_at},
    ether::{Ether, ether},
    ethertype,
    ip::{IpVersion, L3, l3},
    l4::{icmp, sctp, tcp, udp},
    nd::nd,
    proto,
};
use crate::{Field, FlowKey, PortNo};

/// The bit of `vlan_tci` that says that there is a tag (ovs-fields(7), `vlan_tci`).
pub const VLAN_PRESENT: u16 = 0x1000;
/// The bit of `nw_frag` that any fragment has (ovs-fields(7), `ip_frag`).
pub const FRAG_ANY: u8 = 1;
/// The bit of `nw_frag` that a fragment has which is not the first.
pub const FRAG_LATER: u8 = 2;

/// The key of a frame that came in through `in_port`; metadata other than the port is zero.
///
/// What the switch makes of the corners, each confirmed by experiment with Open vSwitch 3.1.0:
///
/// * Fewer than 14 bytes: only `in_port`. A VLAN tag without two bytes behind it is no tag but an ethertype.
/// * One tag is taken off (TPID 0x8100 or 0x88a8); the type behind a second one is that tag's TPID. The tag's
///   drop-eligible bit is lost: bit 12 is always set.
/// * An IP header length or total length that cannot be stops everything above `dl_type`; the version in the
///   header is not looked at. IPv6: the same for the payload length, so jumbograms (0) have no upper layer.
/// * IPv6 extension headers hop-by-hop (anywhere), routing, destination options, AH and fragment are skipped. One
///   that is cut off leaves only the addresses: protocol, label, class, hop limit and `nw_frag` are zero, even if
///   a fragment header stood before it. ESP, mobility, HIP, shim6 are not skipped and end the chain.
/// * An atomic fragment (offset 0, no more fragments) is no fragment; but reserved bits set in its offset word
///   make it one. A later fragment's `nw_proto` is 44 whatever its fragment header names as next header; of two
///   fragment headers, a later-fragment one behind a first or an atomic one makes the packet a later fragment.
/// * A TCP header with a data offset below 5 or beyond the segment has no ports and no flags. UDP's own length
///   field is not looked at.
/// * ICMP numbers are read by protocol number alone: protocol 58 in IPv4 and 1 in IPv6 have a type too, and
///   neighbour discovery is read even in IPv4. IGMP has type and code in the ports' place.
/// * An upper-layer header in a first fragment is read, see [`lookup_key`].
#[must_use]
pub fn extract(frame: &[u8], in_port: PortNo) -> FlowKey {
    let mut key = FlowKey::default();
    key.set(Field::InPort, u128::from(in_port));
    let Some(ether) = ether(frame) else { return key };
    put_ether(&mut key, &ether);
    match ether.ethertype {
        ethertype::IPV4 | ethertype::IPV6 => {
            if let Some(l3) = l3(frame) {
                put_ip(&mut key, &l3);
            }
        }
        ethertype::ARP | ethertype::RARP => put_arp(&mut key, ether.payload),
        ethertype::MPLS | ethertype::MPLS_MULTICAST => put_mpls(&mut key, ether.payload),
        ethertype::NSH => {
            put_nsh(&mut key, ether.payload);
        }
        _ => {}
    }
    key
}

/// What table lookup sees: for any fragment, the first included, the ports (and so the ICMP type and code) are 0.
///
/// Source: ovs-ofctl(8), `frags normal`, the default.
#[must_use]
pub fn lookup_key(key: &FlowKey) -> FlowKey {
    let mut seen = key.clone();
    let dl_type = key.get(Field::DlType) as u16;
    let ip = matches!(dl_type, ethertype::IPV4 | ethertype::IPV6);
    if ip && key.get(Field::NwFrag) & u128::from(FRAG_ANY) != 0 {
        seen.set(Field::TcpSrc, 0);
        seen.set(Field::TcpDst, 0);
    }
    seen
}

fn put_ether(key: &mut FlowKey, ether: &Ether<'_>) {
    key.set(Field::DlSrc, u128::from(ether.src.to_bits()));
    key.set(Field::DlDst, u128::from(ether.dst.to_bits()));
    key.set(Field::DlType, u128::from(ether.ethertype));
    if let Some(vlan) = ether.vlan {
        key.set(Field::VlanTci, u128::from(vlan.tci | VLAN_PRESENT));
        key.set(Field::VlanTpid, u128::from(vlan.tpid));
    }
}

fn put_ip(key: &mut FlowKey, l3: &L3<'_>) {
    if l3.faults.stops_l3() {
        return;
    }
    let (src, dst) = match l3.version {
        IpVersion::V4 => (Field::NwSrc, Field::NwDst),
        IpVersion::V6 => (Field::Ipv6Src, Field::Ipv6Dst),
    };
    key.set(src, l3.src);
    key.set(dst, l3.dst);
    if l3.faults.bad_extension {
        return;
    }
    key.set(Field::Ipv6Label, u128::from(l3.label));
    key.set(Field::NwTos, u128::from(l3.tos));
    key.set(Field::NwTtl, u128::from(l3.ttl));
    key.set(Field::NwFrag, u128::from(nw_frag(l3)));
    key.set(Field::NwProto, u128::from(key_protocol(l3)));
    if !l3.is_later_fragment() {
        put_l4(key, l3.protocol, l3.payload);
    }
}

/// `nw_frag` of a packet: [`FRAG_ANY`], [`FRAG_LATER`].
fn nw_frag(l3: &L3<'_>) -> u8 {
    match l3.fragment {
        Some(fragment) if fragment.is_later() => FRAG_ANY | FRAG_LATER,
        Some(fragment) if fragment.is_partial() || l3.reserved_fragment_bits => FRAG_ANY,
        _ => 0,
    }
}

const fn key_protocol(l3: &L3<'_>) -> u8 {
    match (l3.version, l3.fragment) {
        (IpVersion::V6, Some(fragment)) if fragment.is_later() => proto::FRAGMENT,
        _ => l3.protocol,
    }
}

fn put_l4(key: &mut FlowKey, protocol: u8, payload: &[u8]) {
    let mut ports = |src: u16, dst: u16| {
        key.set(Field::TcpSrc, u128::from(src));
        key.set(Field::TcpDst, u128::from(dst));
    };
    match protocol {
        proto::TCP => {
            if let Some(tcp) = tcp(payload) {
                ports(tcp.src, tcp.dst);
                key.set(Field::TcpFlags, u128::from(tcp.flags));
            }
        }
        proto::UDP => {
            if let Some(udp) = udp(payload) {
                ports(udp.src, udp.dst);
            }
        }
        proto::SCTP => {
            if let Some(sctp) = sctp(payload) {
                ports(sctp.src, sctp.dst);
            }
        }
        proto::ICMP | proto::IGMP | proto::ICMPV6 => {
            if let Some(icmp) = icmp(payload) {
                ports(u16::from(icmp.kind), u16::from(icmp.code));
            }
            if protocol == proto::ICMPV6 {
                put_nd(key, payload);
            }
        }
        _ => {}
    }
}

fn put_nd(key: &mut FlowKey, message: &[u8]) {
    let Some(nd) = nd(message) else { return };
    key.set(Field::NdTarget, nd.target);
    key.set(Field::NdSll, u128::from(nd.sll));
    key.set(Field::NdTll, u128::from(nd.tll));
    key.set(Field::NdReserved, u128::from(nd.reserved));
    key.set(Field::NdOptionsType, u128::from(nd.first_option));
}

/// Ethernet hardware, IPv4 protocol, and their address lengths (RFC 826).
pub(crate) const ARP_PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Length of an ARP packet for IPv4 over Ethernet.
pub(crate) const ARP_LEN: usize = 28;

/// ARP for IPv4 over Ethernet only; an opcode that needs more than eight bits reads as 0.
fn put_arp(key: &mut FlowKey, data: &[u8]) {
    let Some(packet) = data.get(..ARP_LEN).filter(|packet| packet.starts_with(&ARP_PREFIX)) else { return };
    let number = |value: Option<u32>| u128::from(value.unwrap_or(0));
    let address = |offset| u128::from(u48_at(packet, offset).unwrap_or(0));
    let op = u16_at(packet, 6).and_then(|op| u8::try_from(op).ok()).unwrap_or(0);
    key.set(Field::ArpOp, u128::from(op));
    key.set(Field::ArpSha, address(8));
    key.set(Field::ArpSpa, number(u32_at(packet, 14)));
    key.set(Field::ArpTha, address(18));
    key.set(Field::ArpTpa, number(u32_at(packet, 24)));
}

/// The outermost label stack entry (RFC 3032); what lies below is not read.
fn put_mpls(key: &mut FlowKey, data: &[u8]) {
    let entry = u128::from(u32_at(data, 0).unwrap_or(0));
    key.set(Field::MplsLabel, entry >> 12);
    key.set(Field::MplsTc, entry >> 9);
    key.set(Field::MplsBos, entry >> 8);
    key.set(Field::MplsTtl, entry);
}

/// A network service header (RFC 8300) of version 0 whose length fits; `None` if there is none.
fn put_nsh(key: &mut FlowKey, data: &[u8]) -> Option<()> {
    const BASE: usize = 8;
    const WITH_CONTEXT: usize = 24;
    let (first, path) = (u16_at(data, 0)?, u32_at(data, 4)?);
    let (kind, next) = (u8_at(data, 2)?, u8_at(data, 3)?);
    let length = usize::from(first & 0x3f) * 4;
    let fits = match kind {
        1 => length == WITH_CONTEXT,
        2 => length >= BASE,
        _ => true,
    };
    if first >> 14 != 0 || length > data.len() || !fits {
        return None;
    }
    key.set(Field::NshFlags, u128::from(first >> 12 & 3));
    key.set(Field::NshTtl, u128::from(first >> 6 & 0x3f));
    key.set(Field::NshMdtype, u128::from(kind));
    key.set(Field::NshNp, u128::from(next));
    key.set(Field::NshSpi, u128::from(path >> 8));
    key.set(Field::NshSi, u128::from(path));
    if kind == 1 {
        for (index, field) in [Field::NshC1, Field::NshC2, Field::NshC3, Field::NshC4].into_iter().enumerate()
        {
            key.set(field, u128::from(u32_at(data, BASE + index * 4)?));
        }
    }
    Some(())
}
