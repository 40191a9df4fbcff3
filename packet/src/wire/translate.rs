//! Address translation of a whole packet, and of the packet that an ICMP error quotes.
//!
//! Invariant: nothing but addresses, ports and the checksums over them changes, and a right checksum stays right. What
//! is not there (ports of protocols that have none, checksums of quoted packets that end early) is left alone.
//! Deliberately absent: which address; ICMP identifiers; payloads that quote addresses.
//!
//! Source: RFC 3022; RFC 1624; experiments with Open vSwitch 3.1.

use super::{
    bytes::{put, u16_at},
    checksum::{checksum, segment_checksum, updated},
    ip::{IpVersion, L3, inner_l3, l3},
    proto,
};

/// What addresses and ports become; what is none stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Source address; IPv4 in the low 32 bits.
    pub src: Option<u128>,
    /// Destination address.
    pub dst: Option<u128>,
    /// Source port of TCP and UDP.
    pub tp_src: Option<u16>,
    /// Destination port of TCP and UDP.
    pub tp_dst: Option<u16>,
}

/// Bytes of an ICMP error before the packet that it quotes.
const ICMP_HEADER: usize = 8;

/// The frame with other addresses and ports; as it is if it is no IP packet.
#[must_use]
pub fn translate(frame: &[u8], ends: &Ends) -> Vec<u8> {
    let mut out = frame.to_vec();
    if let Some(l3) = l3(frame) {
        rewrite(&mut out, &l3, ends);
    }
    out
}

/// The frame of an ICMP or ICMPv6 error with the addresses and ports of the packet that it quotes exchanged for others.
#[must_use]
pub fn translate_quoted(frame: &[u8], ends: &Ends) -> Vec<u8> {
    let mut out = frame.to_vec();
    let Some(outer) = l3(frame).filter(|l3| l3.payload.len() > ICMP_HEADER) else { return out };
    let from = outer.payload_offset();
    let quoted = outer.payload.get(ICMP_HEADER..).unwrap_or_default();
    let inner = inner_l3(outer.version, quoted);
    let Some(place) = out.get_mut(from..from + outer.payload.len()) else { return out };
    if let Some(body) = place.get_mut(ICMP_HEADER..) {
        rewrite(body, &inner, ends);
    }
    put(place, 2, &[0, 0]);
    let sum = match outer.version {
        IpVersion::V4 => checksum(place),
        IpVersion::V6 => segment_checksum(outer.version, outer.src, outer.dst, outer.protocol, place),
    };
    put(place, 2, &sum.to_be_bytes());
    out
}

/// The bytes of an address, as long as the version has them.
fn bytes(version: IpVersion, address: u128) -> ([u8; 16], usize) {
    (address.to_be_bytes(), if version == IpVersion::V4 { 12 } else { 0 })
}

/// Corrects a checksum field, where it is, for bytes that changed.
fn correct(data: &mut [u8], at: usize, was: &[u8], is: &[u8], zero_is_none: bool) {
    let Some(old) = u16_at(data, at).filter(|old| !(zero_is_none && *old == 0)) else { return };
    let fresh = match updated(old, was, is) {
        0 if zero_is_none => 0xffff,
        fresh => fresh,
    };
    put(data, at, &fresh.to_be_bytes());
}

/// The upper layer's checksum: where it is in the payload, and how much must be there for addresses to be put right.
fn upper(l3: &L3<'_>) -> Option<(usize, usize)> {
    let place = match (l3.version, l3.protocol) {
        (_, proto::TCP) => Some((16, 20)),
        (_, proto::UDP) => Some((6, 8)),
        (IpVersion::V6, proto::ICMPV6) => Some((2, 8)),
        _ => None,
    };
    place.filter(|_| !l3.is_later_fragment())
}

/// Writes into `data`, which `l3` was read from.
fn rewrite(data: &mut [u8], l3: &L3<'_>, ends: &Ends) {
    let places = match l3.version {
        IpVersion::V4 => [(ends.src, l3.src, 12), (ends.dst, l3.dst, 16)],
        IpVersion::V6 => [(ends.src, l3.src, 8), (ends.dst, l3.dst, 24)],
    };
    for (new, old, at) in places {
        if let Some(new) = new.filter(|new| *new != old) {
            address(data, l3, l3.offset + at, old, new);
        }
    }
    ports(data, l3, ends);
}

fn address(data: &mut [u8], l3: &L3<'_>, at: usize, old: u128, new: u128) {
    let ((new, skip), (old, _)) = (bytes(l3.version, new), bytes(l3.version, old));
    let (new, old) = (new.get(skip..).unwrap_or_default(), old.get(skip..).unwrap_or_default());
    if !put(data, at, new) {
        return;
    }
    if l3.version == IpVersion::V4 {
        correct(data, l3.offset + 10, old, new, false);
    }
    if let Some((sum, _)) = upper(l3).filter(|(_, least)| l3.payload.len() >= *least) {
        correct(data, l3.payload_offset() + sum, old, new, l3.protocol == proto::UDP);
    }
}

fn ports(data: &mut [u8], l3: &L3<'_>, ends: &Ends) {
    let (payload, length) = (l3.payload_offset(), l3.payload.len());
    if !matches!(l3.protocol, proto::TCP | proto::UDP) || l3.is_later_fragment() || length < 4 {
        return;
    }
    for (new, at) in [(ends.tp_src, payload), (ends.tp_dst, payload + 2)] {
        let (Some(new), Some(old)) = (new, u16_at(data, at)) else { continue };
        put(data, at, &new.to_be_bytes());
        if let Some((sum, _)) = upper(l3).filter(|(sum, _)| length >= sum + 2) {
            let udp = l3.protocol == proto::UDP;
            correct(data, payload + sum, &old.to_be_bytes(), &new.to_be_bytes(), udp);
        }
    }
}
