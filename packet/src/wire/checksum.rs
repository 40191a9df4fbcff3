//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

use super::{
    bytes::u16_at,
    ip::{IpVersion, L3},
    proto,
};

/// The one's complement sum of big-endian 16-bit words, folded; an odd last byte is padded with zero.
fn sum(data: &[u8], start: u32) -> u32 {
    let (pairs, odd) = data.as_chunks::<2>();
    let words = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair)));
    let last = odd.first().map_or(0, |byte| u32::from(*byte) << 8);
    fold(words.fold(fold(start), |total, word| fold(total + word)) + last)
}

const fn fold(total: u32) -> u32 {
    let once = (total >> 16) + (total & 0xffff);
    (once >> 16) + (once & 0xffff)
}

/// The Internet checksum of `data` (RFC 1071): over data that contains its right checksum it is 0.
#[must_use]
pub fn checksum(data: &[u8]) -> u16 {
    !(sum(data, 0) as u16)
}

/// What the pseudo header adds to an upper-layer checksum (RFC 793, RFC 8200 section 8.1).
fn pseudo_header(version: IpVersion, src: u128, dst: u128, protocol: u8, length: usize) -> u32 {
    let addresses = match version {
        IpVersion::V4 => sum(&(dst as u32).to_be_bytes(), sum(&(src as u32).to_be_bytes(), 0)),
        IpVersion::V6 => sum(&dst.to_be_bytes(), sum(&src.to_be_bytes(), 0)),
    };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    fold(addresses + u32::from(protocol) + (length >> 16) + (length & 0xffff))
}

/// The checksum that an upper-layer segment between two addresses should carry, its checksum field being zero.
#[must_use]
pub(crate) fn segment_checksum(
    version: IpVersion,
    src: u128,
    dst: u128,
    protocol: u8,
    segment: &[u8],
) -> u16 {
    let start = match (version, protocol) {
        (IpVersion::V4, proto::ICMP | proto::IGMP) => 0,
        _ => pseudo_header(version, src, dst, protocol, segment.len()),
    };
    !(sum(segment, start) as u16)
}

/// Where the checksum of a protocol lies in its header; none for protocols without an Internet checksum.
pub(crate) const fn checksum_offset(version: IpVersion, protocol: u8) -> Option<usize> {
    match (version, protocol) {
        (_, proto::TCP) => Some(16),
        (_, proto::UDP) => Some(6),
        (IpVersion::V4, proto::ICMP | proto::IGMP) | (IpVersion::V6, proto::ICMPV6) => Some(2),
        _ => None,
    }
}

/// `old_sum`, a checksum field, after 16-bit words of what it covers changed from `old` to `new` (RFC 1624,
/// equation 3). A wrong checksum stays wrong by the same amount.
#[must_use]
pub(crate) fn updated(old_sum: u16, old: &[u8], new: &[u8]) -> u16 {
    let complement = |data: &[u8]| fold(!sum(data, 0) & 0xffff);
    !(fold(sum(new, fold(u32::from(!old_sum) + complement(old)))) as u16)
}

/// Whether the checksum of an IPv4 header (options included) is right; true for IPv6, which has none.
#[must_use]
pub fn ipv4_header_checksum_ok(l3: &L3<'_>) -> bool {
    l3.version == IpVersion::V6 || checksum(l3.header) == 0
}

/// Whether the upper-layer checksum of a whole TCP, UDP, ICMP or ICMPv6 datagram is right.
///
/// True too for what carries none that connection tracking checks: other protocols, a UDP checksum of 0 over IPv4,
/// and fragments, whose checksum covers bytes that are elsewhere. False for segments too short to hold it.
#[must_use]
pub fn l4_checksum_ok(l3: &L3<'_>) -> bool {
    if l3.is_partial() || l3.protocol == proto::IGMP {
        return true;
    }
    let Some(offset) = checksum_offset(l3.version, l3.protocol) else { return true };
    let Some(found) = u16_at(l3.payload, offset) else { return false };
    let unchecked = l3.protocol == proto::UDP && l3.version == IpVersion::V4 && found == 0;
    unchecked || segment_checksum(l3.version, l3.src, l3.dst, l3.protocol, l3.payload) == 0
}

/// Where SCTP keeps its CRC32c (RFC 9260 section 3.1).
pub(crate) const SCTP_CHECKSUM: usize = 8;

/// Whether the CRC32c of an SCTP packet is right; true for other protocols and for fragments. Open vSwitch's
/// userspace connection tracking does not look at it, the kernel's does.
#[must_use]
pub fn sctp_checksum_ok(l3: &L3<'_>) -> bool {
    l3.protocol != proto::SCTP || l3.is_partial() || sctp_ok(l3.payload)
}

fn sctp_ok(segment: &[u8]) -> bool {
    let Some((before, rest)) = segment.split_at_checked(SCTP_CHECKSUM) else { return false };
    let Some((found, after)) = rest.split_first_chunk::<4>() else { return false };
    sctp_checksum(before, after).to_le_bytes() == *found
}

/// The CRC32c of an SCTP packet given what lies before and after the checksum field, which counts as zero.
/// It is stored least significant byte first (RFC 9260 appendix A).
pub(crate) fn sctp_checksum(before: &[u8], after: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !before.iter().chain(&[0; 4]).chain(after).fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_rfc_1071_example() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn incremental_update_is_the_rfc_1624_example() {
        assert_eq!(updated(0xdd2f, &[0x55, 0x55], &[0x32, 0x85]), 0x0000);
    }

    #[test]
    fn crc32c_of_the_check_string_is_the_published_one() {
        // RFC 3720 appendix B.4: 32 bytes of zeroes.
        assert_eq!(sctp_checksum(&[0; 20], &[0; 8]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
    }
}
