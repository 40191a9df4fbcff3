//! The IPv4 or IPv6 header with everything up to the upper layer.

use super::{
    bytes::{rest, u8_at, u16_at, u32_at, u128_at},
    ether::ether,
    ethertype, proto,
};

/// Which Internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// The ethertype that announces it.
    #[must_use]
    pub const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => ethertype::IPV4,
            Self::V6 => ethertype::IPV6,
        }
    }
}

/// Where a fragment lies in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// The datagram's identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Offset of this piece in bytes, a multiple of 8.
    pub offset: u32,
    /// Whether more pieces follow.
    pub more: bool,
    /// IPv6 only: where the fragment header begins, counted from the start of the IP header.
    pub header_offset: usize,
}

impl Fragment {
    /// Whether something is missing; an IPv6 atomic fragment (RFC 6946) is whole.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.more || self.offset != 0
    }

    /// Whether this is not the first piece, so that there is no upper-layer header in it.
    #[must_use]
    pub const fn is_later(&self) -> bool {
        self.offset != 0
    }
}

/// What is wrong with an IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Fewer bytes than the fixed header needs; nothing else was read.
    pub truncated: bool,
    /// The version is not the one that the ethertype promises. Open vSwitch's extraction does not look.
    pub bad_version: bool,
    /// IPv4: a header length below 20 or beyond the bytes that are there.
    pub bad_header_length: bool,
    /// The total (IPv4) or payload (IPv6) length goes beyond the bytes that are there.
    pub length_beyond_frame: bool,
    /// IPv4: the total length is smaller than the header.
    pub length_below_header: bool,
    /// IPv6: an extension header is cut off.
    pub bad_extension: bool,
}

impl Faults {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether extraction stops at the network layer and leaves addresses and protocol zero.
    #[must_use]
    pub const fn stops_l3(&self) -> bool {
        self.truncated || self.bad_header_length || self.length_beyond_frame || self.length_below_header
    }
}

/// The network layer of a packet.
///
/// With faults the other members hold what could be read, and zero or nothing where it could not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L3<'a> {
    /// IPv4 or IPv6, as the ethertype says.
    pub version: IpVersion,
    /// Where the IP header begins in the slice that was read: behind Ethernet in a frame, 0 for [`inner_l3`].
    pub offset: usize,
    /// The header: IPv4 with options; IPv6 with extension headers.
    pub header: &'a [u8],
    /// Source address; IPv4 in the low 32 bits.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv6 flow label; 0 in IPv4.
    pub label: u32,
    /// The protocol after all extension headers that could be read. In a later fragment it is the next header
    /// that the fragment header names, which may be a further extension header.
    pub protocol: u8,
    /// Fragment information; also there for an IPv6 atomic fragment.
    pub fragment: Option<Fragment>,
    /// IPv6: a fragment header has reserved bits set in its offset word, which Open vSwitch takes for a fragment
    /// even if nothing is missing.
    pub reserved_fragment_bits: bool,
    /// IPv6: a routing header says that the destination here is not the final one.
    pub segments_left: bool,
    /// What the total length says belongs to the datagram behind the headers: no Ethernet padding.
    pub payload: &'a [u8],
    /// What is wrong.
    pub faults: Faults,
}

impl L3<'_> {
    /// The fixed header's length: 20 and options (IPv4) or 40 (IPv6).
    #[must_use]
    pub const fn fixed_header_len(&self) -> usize {
        match self.version {
            IpVersion::V4 => self.header.len(),
            IpVersion::V6 => 40,
        }
    }

    /// Where the payload begins in the slice that was read.
    #[must_use]
    pub const fn payload_offset(&self) -> usize {
        self.offset + self.header.len()
    }

    /// Length of the whole datagram, headers included.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    /// Whether this is a fragment that is not the first one.
    #[must_use]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.is_later())
    }

    /// Whether something of the datagram is in other packets.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.is_partial())
    }
}

/// The network layer of a frame; `None` if its ethertype is neither IPv4 nor IPv6.
#[must_use]
pub fn l3(frame: &[u8]) -> Option<L3<'_>> {
    let ether = ether(frame)?;
    let version = match ether.ethertype {
        ethertype::IPV4 => IpVersion::V4,
        ethertype::IPV6 => IpVersion::V6,
        _ => return None,
    };
    Some(L3 { offset: ether.payload_offset, ..read(version, ether.payload, Extent::Whole) })
}

/// The network layer of a packet quoted in an ICMP or ICMPv6 error: `data` begins at its IP header and may end
/// early, so a length beyond the data is no fault here.
#[must_use]
pub fn inner_l3(version: IpVersion, data: &[u8]) -> L3<'_> {
    read(version, data, Extent::Quoted)
}

/// Whether all of a datagram must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    Quoted,
}

fn read(version: IpVersion, data: &[u8], extent: Extent) -> L3<'_> {
    let known = match version {
        IpVersion::V4 => read_v4(data, extent),
        IpVersion::V6 => read_v6(data, extent),
    };
    known.unwrap_or_else(|| L3 { faults: Faults { truncated: true, ..Faults::default() }, ..blank(version) })
}

const fn blank(version: IpVersion) -> L3<'static> {
    L3 {
        version,
        offset: 0,
        header: &[],
        src: 0,
        dst: 0,
        tos: 0,
        ttl: 0,
        label: 0,
        protocol: 0,
        fragment: None,
        reserved_fragment_bits: false,
        segments_left: false,
        payload: &[],
        faults: Faults {
            truncated: false,
            bad_version: false,
            bad_header_length: false,
            length_beyond_frame: false,
            length_below_header: false,
            bad_extension: false,
        },
    }
}

/// `None` if not even the fixed header is there.
fn read_v4(data: &[u8], extent: Extent) -> Option<L3<'_>> {
    let dst = u32_at(data, 16)?;
    let first = u8_at(data, 0)?;
    let header_len = usize::from(first & 0x0f) * 4;
    let total = usize::from(u16_at(data, 2)?);
    let frag = u16_at(data, 6)?;
    let bad_header_length = header_len < 20 || header_len > data.len();
    let faults = Faults {
        bad_version: first >> 4 != 4,
        bad_header_length,
        length_beyond_frame: extent == Extent::Whole && total > data.len(),
        length_below_header: header_len > total,
        ..Faults::default()
    };
    let (header, behind) = data.split_at_checked(header_len).unwrap_or((data, &[]));
    let payload_len = total.saturating_sub(header_len).min(behind.len());
    let fragment = Fragment {
        id: u32::from(u16_at(data, 4)?),
        offset: u32::from(frag & 0x1fff) * 8,
        more: frag & 0x2000 != 0,
        header_offset: 0,
    };
    Some(L3 {
        header,
        src: u128::from(u32_at(data, 12)?),
        dst: u128::from(dst),
        tos: u8_at(data, 1)?,
        ttl: u8_at(data, 8)?,
        protocol: u8_at(data, 9)?,
        fragment: fragment.is_partial().then_some(fragment),
        payload: behind.get(..payload_len).unwrap_or_default(),
        faults,
        ..blank(IpVersion::V4)
    })
}

/// `None` if not even the fixed header is there.
fn read_v6(data: &[u8], extent: Extent) -> Option<L3<'_>> {
    let dst = u128_at(data, 24)?;
    let first = u32_at(data, 0)?;
    let claimed = usize::from(u16_at(data, 4)?);
    let behind = rest(data, 40);
    let body = behind.get(..claimed).unwrap_or(behind);
    let chain = extensions(u8_at(data, 6)?, body);
    let (header, _) = data.split_at_checked(40 + chain.len).unwrap_or((data, &[]));
    Some(L3 {
        header,
        src: u128_at(data, 8)?,
        dst,
        tos: (first >> 20) as u8,
        ttl: u8_at(data, 7)?,
        label: first & 0xf_ffff,
        protocol: chain.next,
        fragment: chain.fragment,
        reserved_fragment_bits: chain.reserved_bits,
        segments_left: chain.segments_left,
        payload: rest(body, chain.len),
        faults: Faults {
            bad_version: first >> 28 != 6,
            length_beyond_frame: extent == Extent::Whole && claimed > behind.len(),
            bad_extension: chain.cut_off,
            ..Faults::default()
        },
        ..blank(IpVersion::V6)
    })
}

/// What a chain of IPv6 extension headers comes to.
struct Chain {
    next: u8,
    len: usize,
    fragment: Option<Fragment>,
    reserved_bits: bool,
    segments_left: bool,
    cut_off: bool,
}

/// Walks the extension headers that Open vSwitch walks: hop-by-hop, routing, destination options, AH, fragment,
/// in any order and number, until another header or a later fragment's data.
fn extensions(first: u8, body: &[u8]) -> Chain {
    let mut chain = Chain::from(first);
    while let Some(unit) = extension_unit(chain.next) {
        let here = rest(body, chain.len);
        let (Some(next), Some(extra), true) = (u8_at(here, 0), u8_at(here, 1), here.len() >= 8) else {
            chain.cut_off = true;
            break;
        };
        if chain.next == proto::FRAGMENT {
            chain.add_fragment(here, 40 + chain.len);
        }
        chain.segments_left |= chain.next == proto::ROUTING && u8_at(here, 3) != Some(0);
        let len = unit.len(extra);
        if len > here.len() {
            chain.cut_off = true;
            break;
        }
        chain.next = next;
        chain.len += len;
        if chain.fragment.is_some_and(|fragment| fragment.is_later()) {
            break;
        }
    }
    chain
}

impl Chain {
    const fn from(next: u8) -> Self {
        Self { next, len: 0, fragment: None, reserved_bits: false, segments_left: false, cut_off: false }
    }

    /// Notes a fragment header. Of several, the one that says most counts: later, first, atomic.
    fn add_fragment(&mut self, here: &[u8], header_offset: usize) {
        let (Some(word), Some(id)) = (u16_at(here, 2), u32_at(here, 4)) else { return };
        let found = Fragment { id, offset: u32::from(word & 0xfff8), more: word & 1 != 0, header_offset };
        self.reserved_bits |= word & 6 != 0;
        if found.is_later() || !self.fragment.is_some_and(|fragment| fragment.is_partial()) {
            self.fragment = Some(found);
        }
    }
}

/// How an extension header states its length.
#[derive(Clone, Copy)]
enum LengthUnit {
    /// In units of 8 bytes beyond the first 8.
    Eights,
    /// In units of 4 bytes beyond the first 8 (RFC 4302).
    Fours,
    /// Always 8 bytes.
    Fixed,
}

impl LengthUnit {
    fn len(self, extra: u8) -> usize {
        match self {
            Self::Eights => (usize::from(extra) + 1) * 8,
            Self::Fours => (usize::from(extra) + 2) * 4,
            Self::Fixed => 8,
        }
    }
}

const fn extension_unit(number: u8) -> Option<LengthUnit> {
    match number {
        proto::HOP_BY_HOP | proto::ROUTING | proto::DEST_OPTIONS => Some(LengthUnit::Eights),
        proto::AH => Some(LengthUnit::Fours),
        proto::FRAGMENT => Some(LengthUnit::Fixed),
        _ => None,
    }
}
