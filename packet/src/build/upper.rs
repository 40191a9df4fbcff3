//! What lies in IP datagrams and directly in Ethernet.

use super::compose::{BadChecksum, ComposeOptions, low, pattern};
use crate::{
    Field, FlowKey,
    wire::{
        ARP_PREFIX, IpVersion, SCTP_CHECKSUM, checksum_offset, nd_kind, proto, put, sctp_checksum,
        segment_checksum,
    },
};

/// What to write behind an IP header.
pub(super) struct Segment<'a> {
    pub(super) key: &'a FlowKey,
    pub(super) opts: &'a ComposeOptions,
    pub(super) version: IpVersion,
    pub(super) src: u128,
    pub(super) dst: u128,
    pub(super) protocol: u8,
    /// Bytes to add to the payload.
    pub(super) extra: usize,
}

/// The header, the payload and the checksum of the upper layer.
pub(super) fn segment(of: &Segment<'_>) -> Vec<u8> {
    let mut bytes = header(of);
    let payload = if carries_payload(of) { of.opts.payload_len } else { 0 };
    bytes.extend(pattern(payload + of.extra));
    let wrong = of.opts.bad_checksum == BadChecksum::Upper;
    if of.protocol == proto::SCTP {
        let (before, rest) = bytes.split_at_checked(SCTP_CHECKSUM).unwrap_or_default();
        let sum = sctp_checksum(before, rest.get(4..).unwrap_or_default()) ^ u32::from(wrong);
        put(&mut bytes, SCTP_CHECKSUM, &sum.to_le_bytes());
    } else if let Some(offset) = checksum_offset(of.version, of.protocol) {
        let right = segment_checksum(of.version, of.src, of.dst, of.protocol, &bytes);
        // Zero would say that there is none (RFC 768); the other zero of one's complement means the same sum.
        let right = if of.protocol == proto::UDP && right == 0 { 0xffff } else { right };
        let sum = match (wrong, right) {
            (false, right) => right,
            (true, 0x5555) => 0x1111,
            (true, right) => right ^ 0x5555,
        };
        put(&mut bytes, offset, &sum.to_be_bytes());
    }
    bytes
}

/// Neighbour discovery ends with its options, our SCTP packets with their only chunk.
fn carries_payload(of: &Segment<'_>) -> bool {
    of.protocol != proto::SCTP && !is_nd(of)
}

fn is_nd(of: &Segment<'_>) -> bool {
    of.version == IpVersion::V6
        && of.protocol == proto::ICMPV6
        && nd_kind(icmp_type(of.key), icmp_code(of.key))
}

fn icmp_type(key: &FlowKey) -> u8 {
    key.get(Field::Icmpv4Type) as u8
}

fn icmp_code(key: &FlowKey) -> u8 {
    key.get(Field::Icmpv4Code) as u8
}

/// The header with its checksum field zero.
fn header(of: &Segment<'_>) -> Vec<u8> {
    let ports = || [low::<2>(of.key.get(Field::TcpSrc)), low::<2>(of.key.get(Field::TcpDst))].concat();
    match of.protocol {
        proto::TCP => [ports(), tcp(of)].concat(),
        proto::UDP => {
            let length = (8 + of.opts.payload_len + of.extra) as u16;
            [ports(), length.to_be_bytes().to_vec(), vec![0, 0]].concat()
        }
        proto::SCTP => [ports(), sctp(of.opts.seq)].concat(),
        proto::ICMPV6 if is_nd(of) => nd(of.key),
        proto::ICMP | proto::ICMPV6 | proto::IGMP => icmp(of),
        _ => Vec::new(),
    }
}

/// From the sequence number on.
fn tcp(of: &Segment<'_>) -> Vec<u8> {
    let control = 5 << 12 | of.key.get(Field::TcpFlags) as u16;
    let numbers = [of.opts.seq.to_be_bytes(), of.opts.ack.to_be_bytes()].concat();
    let words = [control.to_be_bytes(), of.opts.window.to_be_bytes(), [0; 2], [0; 2]].concat();
    [numbers, words].concat()
}

/// From the verification tag on: an INIT chunk, which goes alone and with tag 0 (RFC 9260, section 3.3.2).
fn sctp(tsn: u32) -> Vec<u8> {
    const INIT: [u8; 16] = [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1];
    [vec![0; 8], INIT.to_vec(), tsn.to_be_bytes().to_vec()].concat()
}

/// The shortest body behind the 8-byte header that the message may have: (IP version, type, bytes).
/// RFC 792, RFC 950, RFC 4861 sections 4.1 to 4.5, RFC 2710 section 3.
const BODIES: &[(IpVersion, u8, usize)] = &[
    (IpVersion::V4, 13, 12),
    (IpVersion::V4, 14, 12),
    (IpVersion::V4, 17, 4),
    (IpVersion::V4, 18, 4),
    (IpVersion::V6, 130, 16),
    (IpVersion::V6, 131, 16),
    (IpVersion::V6, 132, 16),
    (IpVersion::V6, 134, 8),
    (IpVersion::V6, 137, 32),
];

/// ICMP, ICMPv6 and IGMP; only the first two have identifiers, and only in messages without another use for them.
fn icmp(of: &Segment<'_>) -> Vec<u8> {
    let (kind, code) = (icmp_type(of.key), icmp_code(of.key));
    let numbered = match of.version {
        IpVersion::V4 => of.protocol == proto::ICMP && matches!(kind, 0 | 8 | 13..=18),
        IpVersion::V6 => matches!(kind, 128 | 129),
    };
    let mut bytes = vec![kind, code, 0, 0];
    if numbered {
        bytes.extend([of.opts.icmp_id.to_be_bytes(), of.opts.icmp_seq.to_be_bytes()].concat());
    }
    let body = BODIES.iter().find(|(version, known, _)| (*version, *known) == (of.version, kind));
    let body = body.filter(|_| of.protocol != proto::IGMP).map_or(0, |(.., length)| *length);
    bytes.resize(8 + body, 0);
    bytes
}

/// A solicitation or advertisement with its link-layer address options.
fn nd(key: &FlowKey) -> Vec<u8> {
    let mut bytes = vec![icmp_type(key), icmp_code(key), 0, 0];
    bytes.extend(low::<4>(key.get(Field::NdReserved)));
    bytes.extend(key.get(Field::NdTarget).to_be_bytes());
    let first = key.get(Field::NdOptionsType) as u8;
    let mut options = [(1, key.get(Field::NdSll)), (2, key.get(Field::NdTll))];
    if first == 2 {
        options.reverse();
    }
    for (kind, address) in options {
        if address != 0 || kind == first {
            bytes.extend([kind, 1]);
            bytes.extend(low::<6>(address));
        }
    }
    bytes
}

/// ARP or RARP for IPv4 over Ethernet.
pub(super) fn arp(key: &FlowKey) -> Vec<u8> {
    let mut packet = ARP_PREFIX.to_vec();
    packet.extend(low::<2>(key.get(Field::ArpOp)));
    packet.extend(low::<6>(key.get(Field::ArpSha)));
    packet.extend(low::<4>(key.get(Field::ArpSpa)));
    packet.extend(low::<6>(key.get(Field::ArpTha)));
    packet.extend(low::<4>(key.get(Field::ArpTpa)));
    packet
}

/// One label stack entry; below one that is not the bottom, an explicit null label that is.
pub(super) fn mpls(key: &FlowKey, payload_len: usize) -> Vec<u8> {
    let bottom = key.get(Field::MplsBos) & 1;
    let entry =
        key.get(Field::MplsLabel) << 12 | key.get(Field::MplsTc) << 9 | bottom << 8 | key.get(Field::MplsTtl);
    let mut packet = low::<4>(entry).to_vec();
    if bottom == 0 {
        packet.extend([0, 0, 1, 0]);
    }
    packet.extend(pattern(payload_len));
    packet
}

/// A network service header; with the four context words if its metadata type is 1.
pub(super) fn nsh(key: &FlowKey, payload_len: usize) -> Vec<u8> {
    let kind = key.get(Field::NshMdtype);
    let words = if kind == 1 { 6 } else { 2 };
    let mut packet = low::<2>(key.get(Field::NshFlags) << 12 | key.get(Field::NshTtl) << 6 | words).to_vec();
    packet.extend([kind as u8, key.get(Field::NshNp) as u8]);
    packet.extend(low::<4>(key.get(Field::NshSpi) << 8 | key.get(Field::NshSi)));
    if kind == 1 {
        for field in [Field::NshC1, Field::NshC2, Field::NshC3, Field::NshC4] {
            packet.extend(low::<4>(key.get(field)));
        }
    }
    packet.extend(pattern(payload_len));
    packet
}
