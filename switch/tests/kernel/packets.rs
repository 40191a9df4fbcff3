//! Packets that the frames of the other tests leave out: of either version, with any header.

use crate::frames::{Way, ipv4, ipv6};
use flowproof_packet::wire::checksum;

/// A host's packet with an upper-layer header whose checksum, at `at`, is made right.
pub(crate) fn sealed(way: Way, is_ipv6: bool, proto: u8, mut segment: Vec<u8>, at: usize) -> Vec<u8> {
    let length = (segment.len() as u16).to_be_bytes();
    let pseudo = if is_ipv6 {
        [&ipv6(way, proto, &[])[22..54], &[0, 0], &length, &[0, 0, 0, proto]].concat()
    } else {
        let (src, dst) = way.hosts();
        [&src[..], &dst, &[0, proto], &length].concat()
    };
    let pseudo = if proto == 1 { Vec::new() } else { pseudo };
    let sum = checksum(&[pseudo, segment.clone()].concat()).to_be_bytes();
    segment[at..at + 2].copy_from_slice(&sum);
    packet(way, is_ipv6, proto, &segment)
}

/// A packet of either version.
pub(crate) fn packet(way: Way, is_ipv6: bool, proto: u8, payload: &[u8]) -> Vec<u8> {
    if is_ipv6 { ipv6(way, proto, payload) } else { ipv4(way, proto, 0, payload) }
}

/// A segment of the connection from port 1000 to port 80.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tcp<'a> {
    pub(crate) way: Way,
    pub(crate) ipv6: bool,
    /// FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    /// A multiple of four bytes.
    pub(crate) options: &'a [u8],
    /// Bytes of data.
    pub(crate) data: usize,
}

impl Tcp<'_> {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut segment = ports(self.way, 80);
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(self.options);
        segment.extend(vec![b'x'; self.data]);
        sealed(self.way, self.ipv6, 6, segment, 16)
    }
}

/// The ports of a connection from 1000 to `port`, as a packet that way has them.
pub(crate) fn ports(way: Way, port: u16) -> Vec<u8> {
    let (src, dst) = if way == Way::There { (1000, port) } else { (port, 1000) };
    [src.to_be_bytes(), dst.to_be_bytes()].concat()
}

/// A UDP datagram with these ports.
pub(crate) fn udp(way: Way, is_ipv6: bool, src: u16, dst: u16, data: &[u8]) -> Vec<u8> {
    let length = 8 + data.len() as u16;
    let mut segment: Vec<u8> = [src, dst, length, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    segment.extend(data);
    sealed(way, is_ipv6, 17, segment, 6)
}

/// An ICMP or ICMPv6 message: type, code, and what follows the checksum.
pub(crate) fn icmp(way: Way, is_ipv6: bool, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    sealed(way, is_ipv6, if is_ipv6 { 58 } else { 1 }, [&[kind, code, 0, 0], body].concat(), 2)
}

/// An SCTP packet from port 1000 to 36412 with a right CRC32c: tag, then chunks of type and value.
pub(crate) fn sctp(way: Way, tag: u32, chunks: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = ports(way, 36412);
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    for (kind, value) in chunks {
        packet.extend([*kind, 0]);
        packet.extend(((4 + value.len()) as u16).to_be_bytes());
        packet.extend(*value);
    }
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), bit);
    let crc = !packet.iter().fold(u32::MAX, byte);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    ipv4(way, 132, 0, &packet)
}

/// An IPv4 frame with another identification.
pub(crate) fn identified(mut frame: Vec<u8>, id: u16) -> Vec<u8> {
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = checksum(&frame[14..34]).to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
    frame
}

/// A fragment over IPv6 of a payload of `proto`.
pub(crate) fn fragment6(way: Way, proto: u8, id: u32, offset: u16, more: bool, piece: &[u8]) -> Vec<u8> {
    let place = (offset & !7 | u16::from(more)).to_be_bytes();
    ipv6(way, 44, &[&[proto, 0], &place[..], &id.to_be_bytes(), piece].concat())
}
