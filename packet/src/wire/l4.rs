//! The upper-layer headers that have ports, flags or types.
//!
//! Each view is of the payload of an [`L3`](super::L3), and is `None` if the header is not all there.

use super::bytes::{u8_at, u16_at, u32_at};

/// A TCP header (RFC 793).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpView {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, whether or not ACK is set.
    pub ack: u32,
    /// The 12 bits below the data offset: reserved, NS, CWR, ECE, URG, ACK, PSH, RST, SYN, FIN.
    pub flags: u16,
    /// Window, not scaled.
    pub window: u16,
    /// Header length in bytes, options included.
    pub header_len: usize,
    /// Bytes of data behind the header.
    pub data_len: usize,
    /// The shift of the window scale option (RFC 7323), as it stands in the packet.
    pub wscale: Option<u8>,
}

impl TcpView {
    /// FIN.
    pub const FIN: u16 = 0x01;
    /// SYN.
    pub const SYN: u16 = 0x02;
    /// RST.
    pub const RST: u16 = 0x04;
    /// PSH.
    pub const PSH: u16 = 0x08;
    /// ACK.
    pub const ACK: u16 = 0x10;
    /// URG.
    pub const URG: u16 = 0x20;
}

/// A UDP header (RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpView {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// The length field: header and data, as the packet claims.
    pub length: u16,
    /// The checksum field; 0 means none.
    pub checksum: u16,
}

/// The ports of any protocol that begins with them, such as SCTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortsView {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
}

/// An ICMP or ICMPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpView<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier, of messages that have one.
    pub id: u16,
    /// Sequence number, of messages that have one.
    pub seq: u16,
    /// What follows the 8-byte header; in an error message, the quoted packet from its IP header on.
    pub body: &'a [u8],
}

/// The TCP header; `None` if it claims fewer than 20 bytes or more than there are.
#[must_use]
pub fn tcp(payload: &[u8]) -> Option<TcpView> {
    let control = u16_at(payload, 12)?;
    let header_len = usize::from(control >> 12) * 4;
    let options = payload.get(20..header_len)?;
    Some(TcpView {
        src: u16_at(payload, 0)?,
        dst: u16_at(payload, 2)?,
        seq: u32_at(payload, 4)?,
        ack: u32_at(payload, 8)?,
        flags: control & 0x0fff,
        window: u16_at(payload, 14)?,
        header_len,
        data_len: payload.len() - header_len,
        wscale: window_scale(options),
    })
}

/// The window scale among TCP options (kind 3, length 3); options behind a malformed one are not read.
fn window_scale(mut options: &[u8]) -> Option<u8> {
    loop {
        match options {
            [] | [0, ..] => return None,
            [1, rest @ ..] => options = rest,
            [3, 3, shift, ..] => return Some(*shift),
            [_, length, ..] if *length >= 2 => options = options.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}

/// The UDP header.
#[must_use]
pub fn udp(payload: &[u8]) -> Option<UdpView> {
    Some(UdpView {
        src: u16_at(payload, 0)?,
        dst: u16_at(payload, 2)?,
        length: u16_at(payload, 4)?,
        checksum: u16_at(payload, 6)?,
    })
}

/// The ports of an SCTP packet; `None` without the whole common header of 12 bytes (RFC 9260).
#[must_use]
pub fn sctp(payload: &[u8]) -> Option<PortsView> {
    payload.get(..12)?;
    Some(PortsView { src: u16_at(payload, 0)?, dst: u16_at(payload, 2)? })
}

/// The ICMP or ICMPv6 header of 8 bytes.
#[must_use]
pub fn icmp(payload: &[u8]) -> Option<IcmpView<'_>> {
    Some(IcmpView {
        kind: u8_at(payload, 0)?,
        code: u8_at(payload, 1)?,
        id: u16_at(payload, 4)?,
        seq: u16_at(payload, 6)?,
        body: payload.get(8..)?,
    })
}
