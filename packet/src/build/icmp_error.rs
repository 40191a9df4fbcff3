//! ICMP and ICMPv6 errors around a packet.

use crate::wire::{IpVersion, checksum, ether, l3, proto, put, segment_checksum};

/// What an error message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IcmpError {
    /// Type: 3, 4, 5, 11, 12 (RFC 792) or 1 to 4 (RFC 4443). Any is written.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Who sends it; IPv4 in the low 32 bits.
    pub src: u128,
    /// Who gets it; without it the source of the packet that is quoted, as is right.
    pub dst: Option<u128>,
    /// The second word: unused, next-hop MTU, gateway or pointer.
    pub rest_of_header: u32,
    /// How many bytes of the packet to quote, its IP header included. Without it as many as the RFCs ask for: what
    /// fits into 576 bytes (RFC 1812) or 1280 (RFC 4443).
    pub quote: Option<usize>,
}

impl IcmpError {
    /// A message of this type and code from `src` to the sender of the packet that is quoted.
    #[must_use]
    pub const fn new(kind: u8, code: u8, src: u128) -> Self {
        Self { kind, code, src, dst: None, rest_of_header: 0, quote: None }
    }
}

const TTL: u8 = 64;

/// The error message about `original`, back to whoever sent it: Ethernet addresses swapped, the same VLAN tag, ICMP
/// for IPv4 and ICMPv6 for IPv6. `None` if `original` is not an IP packet with at least its fixed header.
#[must_use]
pub fn icmp_error(original: &[u8], error: &IcmpError) -> Option<Vec<u8>> {
    let link = ether(original)?;
    let inner = l3(original).filter(|inner| !inner.faults.truncated)?;
    let (outer_header, limit) = match inner.version {
        IpVersion::V4 => (20, 576),
        IpVersion::V6 => (40, 1280),
    };
    let quoted = error.quote.unwrap_or(limit - outer_header - 8).min(inner.total_len());
    let packet = original.get(inner.offset..inner.offset + quoted)?;
    let dst = error.dst.unwrap_or(inner.src);
    let message = message(error, inner.version, dst, packet);
    let mut frame = [link.src.0, link.dst.0].concat();
    frame.extend(original.get(12..inner.offset)?);
    frame.extend(header(inner.version, error.src, dst, message.len())?);
    frame.extend(message);
    Some(frame)
}

fn message(error: &IcmpError, version: IpVersion, dst: u128, packet: &[u8]) -> Vec<u8> {
    let mut message = vec![error.kind, error.code, 0, 0];
    message.extend(error.rest_of_header.to_be_bytes());
    message.extend(packet);
    let protocol = match version {
        IpVersion::V4 => proto::ICMP,
        IpVersion::V6 => proto::ICMPV6,
    };
    let sum = segment_checksum(version, error.src, dst, protocol, &message);
    put(&mut message, 2, &sum.to_be_bytes());
    message
}

fn header(version: IpVersion, src: u128, dst: u128, length: usize) -> Option<Vec<u8>> {
    match version {
        IpVersion::V4 => {
            let total = u16::try_from(20 + length).ok()?;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 1, 0, 0, TTL, proto::ICMP, 0, 0]);
            header.extend((src as u32).to_be_bytes());
            header.extend((dst as u32).to_be_bytes());
            let sum = checksum(&header);
            put(&mut header, 10, &sum.to_be_bytes());
            Some(header)
        }
        IpVersion::V6 => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(u16::try_from(length).ok()?.to_be_bytes());
            header.extend([proto::ICMPV6, TTL]);
            header.extend(src.to_be_bytes());
            header.extend(dst.to_be_bytes());
            Some(header)
        }
    }
}
