//! Frames between two hosts, with right checksums unless a test spoils them.

use flowproof_packet::wire::checksum;

/// The hosts of the tests, by way: from the client, or from the server.
pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    There,
    Back,
}

impl Way {
    pub(crate) const fn hosts(self) -> ([u8; 4], [u8; 4]) {
        match self {
            Self::There => (CLIENT, SERVER),
            Self::Back => (SERVER, CLIENT),
        }
    }

    /// Source and destination port of a connection from 1000 to `port`.
    const fn ports(self, port: u16) -> (u16, u16) {
        match self {
            Self::There => (1000, port),
            Self::Back => (port, 1000),
        }
    }
}

/// An IPv4 packet; `fragment` is the header's flags and offset.
pub(crate) fn ipv4(way: Way, proto: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = way.hosts();
    let mut header = vec![0x45, 0];
    header.extend(((20 + payload.len()) as u16).to_be_bytes());
    header.extend([0, 1]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, proto, 0, 0]);
    header.extend(src);
    header.extend(dst);
    let check = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&check);
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0], &header[..], payload].concat()
}

/// The same over IPv6, between fd00::1 and fd00::2.
pub(crate) fn ipv6(way: Way, proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([proto, 255]);
    let (src, dst) = if way == Way::There { (1, 2) } else { (2, 1) };
    for last in [src, dst] {
        header.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd], &header[..], payload].concat()
}

/// Writes the checksum of `segment` at `at`, over the pseudo header of its way.
fn sealed(pseudo: &[u8], mut segment: Vec<u8>, at: usize) -> Vec<u8> {
    let check = checksum(&[pseudo, &segment].concat()).to_be_bytes();
    segment[at..at + 2].copy_from_slice(&check);
    segment
}

fn pseudo(way: Way, proto: u8, length: usize) -> Vec<u8> {
    let (src, dst) = way.hosts();
    [&src[..], &dst, &[0, proto], &(length as u16).to_be_bytes()].concat()
}

/// A TCP segment of the connection to port 80, with a window of 1000; `flags` in letters.
pub(crate) fn tcp(way: Way, flags: &str, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
    let bits = flags.chars().map(|flag| 1 << "FSRPAU".find(flag).unwrap()).sum::<u8>();
    let (src, dst) = way.ports(80);
    let mut segment = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, bits, 3, 0xe8, 0, 0, 0, 0]);
    segment.extend(data);
    ipv4(way, 6, 0, &sealed(&pseudo(way, 6, segment.len()), segment, 16))
}

/// A UDP datagram of the connection to `port`.
pub(crate) fn udp_segment(way: Way, port: u16, data: &[u8]) -> Vec<u8> {
    let (src, dst) = way.ports(port);
    let mut segment = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    segment.extend(((8 + data.len()) as u16).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(data);
    sealed(&pseudo(way, 17, segment.len()), segment, 6)
}

/// The same in a packet.
pub(crate) fn udp(way: Way, port: u16) -> Vec<u8> {
    ipv4(way, 17, 0, &udp_segment(way, port, b"x"))
}

/// An ICMP message: type, code, and what follows the checksum.
pub(crate) fn icmp(way: Way, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    ipv4(way, 1, 0, &sealed(&[], [&[kind, code, 0, 0], body].concat(), 2))
}

/// An ICMPv6 message with code 0.
pub(crate) fn icmp6(way: Way, kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0], body].concat();
    let empty = ipv6(way, 58, &[]);
    let pseudo = [&empty[22..54], &[0, 0, 0, message.len() as u8, 0, 0, 0, 58]].concat();
    ipv6(way, 58, &sealed(&pseudo, message, 2))
}
