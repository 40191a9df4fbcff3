//! What connection tracking reads from a frame.
//!
//! Invariant: a frame without a [`Segment`] is invalid to connection tracking, whatever state there is.
//! Deliberately absent: fragments, which [`super::fragments`] deals with first.
//!
//! Source: experiments with Open vSwitch 3.1; RFC 792, RFC 4443 for errors and what they quote.

use super::{
    Profile,
    tuple::{Endpoint, Key},
};
use flowproof_packet::wire::{self, IpVersion, L3, TcpView, proto};

/// A packet as a state machine sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    /// The packet's own key; of an ICMP error, the reverse of the quoted packet's.
    pub(super) key: Key,
    /// Whether this is an ICMP error about the connection `key`.
    pub(super) related: bool,
    pub(super) body: Body<'a>,
}

impl Segment<'_> {
    /// Whether there is nothing in it that a helper would read.
    pub(super) const fn is_bare(&self) -> bool {
        match self.body {
            Body::Tcp(tcp) => tcp.header.data_len == 0,
            Body::Icmp(_) | Body::Sctp(_) | Body::Untracked => true,
            Body::Other => self.related || self.key.proto != proto::TCP,
        }
    }
}

/// The part that belongs to one protocol.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    Tcp(TcpSegment<'a>),
    /// ICMP type.
    Icmp(u8),
    /// SCTP's common header and chunks.
    Sctp(&'a [u8]),
    /// ND and MLD, which the kernel does not track.
    Untracked,
    Other,
}

/// A TCP segment's header and options.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpSegment<'a> {
    pub(super) header: TcpView,
    pub(super) options: &'a [u8],
}

impl TcpSegment<'_> {
    pub(super) const fn has(&self, flag: u16) -> bool {
        self.header.flags & flag != 0
    }

    /// The length of this segment in sequence space.
    pub(super) const fn span(&self) -> u32 {
        self.header.data_len as u32 + self.has(TcpView::SYN) as u32 + self.has(TcpView::FIN) as u32
    }
}

/// What errors ICMP and ICMPv6 send about other packets.
const ICMP_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
const ICMPV6_ERRORS: [u8; 4] = [1, 2, 3, 4];

/// Query type and the type that answers it.
const USERSPACE_QUERIES: &[(u8, u8)] = &[(8, 0), (13, 14), (15, 16)];
const KERNEL_QUERIES: &[(u8, u8)] = &[(8, 0), (13, 14), (15, 16), (17, 18)];
const USERSPACE_QUERIES_V6: &[(u8, u8)] = &[(128, 129)];
const KERNEL_QUERIES_V6: &[(u8, u8)] = &[(128, 129), (139, 140)];

/// ND and MLD messages that the kernel leaves untracked.
const UNTRACKED_V6: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];

/// The query types of ICMP or ICMPv6 in a profile, with their answers.
const fn queries(profile: Profile, proto: u8) -> &'static [(u8, u8)] {
    match (profile, proto) {
        (Profile::Userspace31, proto::ICMP) => USERSPACE_QUERIES,
        (Profile::Userspace31, proto::ICMPV6) => USERSPACE_QUERIES_V6,
        (Profile::Kernel | Profile::Kernel2016, proto::ICMP) => KERNEL_QUERIES,
        (Profile::Kernel | Profile::Kernel2016, proto::ICMPV6) => KERNEL_QUERIES_V6,
        _ => &[],
    }
}

/// Whether an ICMP or ICMPv6 type asks a question, so that it may begin a connection.
pub(super) fn asks(profile: Profile, proto: u8, kind: u8) -> bool {
    queries(profile, proto).iter().any(|(ask, _)| *ask == kind)
}

/// The type that answers `kind`, or that `kind` answers.
fn opposite(profile: Profile, proto: u8, kind: u8) -> Option<u8> {
    queries(profile, proto).iter().find_map(|(ask, answer)| match kind {
        _ if kind == *ask => Some(*answer),
        _ if kind == *answer => Some(*ask),
        _ => None,
    })
}

/// Reads a whole datagram.
pub(super) fn segment<'a>(profile: Profile, l3: &L3<'a>) -> Option<Segment<'a>> {
    let kernel = profile != Profile::Userspace31;
    let bad = l3.faults.stops_l3() || l3.faults.bad_extension || (kernel && l3.faults.bad_version);
    if bad || l3.is_partial() || !(kernel || wire::ipv4_header_checksum_ok(l3)) {
        return None;
    }
    let reader = Reader { profile, ipv6: l3.version == IpVersion::V6, outer: Some(l3) };
    reader.read(reader.key(l3), l3.payload)
}

/// How to read one upper-layer header: the packet's own, or one that an ICMP error quotes.
struct Reader<'r, 'a> {
    profile: Profile,
    ipv6: bool,
    /// The packet itself, or none in a quoted packet, which is read leniently.
    outer: Option<&'r L3<'a>>,
}

impl<'a> Reader<'_, 'a> {
    fn key(&self, l3: &L3<'_>) -> Key {
        Key {
            src: Endpoint { addr: l3.src, ..Endpoint::default() },
            dst: Endpoint { addr: l3.dst, ..Endpoint::default() },
            ipv6: self.ipv6,
            proto: l3.protocol,
        }
    }

    fn read(&self, key: Key, data: &'a [u8]) -> Option<Segment<'a>> {
        let kernel = self.profile != Profile::Userspace31;
        match key.proto {
            proto::TCP => self.tcp(key, data),
            proto::UDP => self.udp(key, data),
            proto::ICMP if !self.ipv6 => self.icmp(key, data),
            proto::ICMPV6 if self.ipv6 => self.icmpv6(key, data),
            // ICMP over IPv6 and the like: the userspace datapath only wants the type of a query at first, which it
            // reads from beyond the packet if there is nothing in it; that is taken for no query.
            proto::ICMP | proto::ICMPV6 if kernel => None,
            proto::ICMP | proto::ICMPV6 => {
                let kind = data.first().copied().unwrap_or(0);
                Some(Segment { key, related: false, body: Body::Icmp(kind) })
            }
            proto::SCTP if kernel => {
                let body = Body::Sctp(data);
                let short = self.outer.is_some() && (data.len() < 12 || !self.checksum_ok());
                if short { None } else { self.ported(key, data, body) }
            }
            UDPLITE if kernel && self.outer.is_some_and(|l3| !udplite_ok(l3)) => None,
            UDPLITE if kernel => self.ported(key, data, Body::Other),
            _ => Some(Segment { key, related: false, body: Body::Other }),
        }
    }

    fn checksum_ok(&self) -> bool {
        self.outer.is_none_or(|l3| wire::l4_checksum_ok(l3) && wire::sctp_checksum_ok(l3))
    }

    fn ported(&self, mut key: Key, data: &'a [u8], body: Body<'a>) -> Option<Segment<'a>> {
        let ([s0, s1, d0, d1], _) = data.split_first_chunk::<4>()?;
        key.src.port = u16::from_be_bytes([*s0, *s1]);
        key.dst.port = u16::from_be_bytes([*d0, *d1]);
        let zero = self.profile == Profile::Userspace31 && (key.src.port == 0 || key.dst.port == 0);
        (!zero).then_some(Segment { key, related: false, body })
    }

    /// Quoted, eight bytes do; of IPv6 the userspace datapath wants the whole header.
    fn quoted_enough(&self, data: &[u8], header_len: usize) -> bool {
        let least = match self.profile {
            Profile::Userspace31 if self.ipv6 => header_len,
            Profile::Userspace31 | Profile::Kernel2016 => 8,
            // The ports are all that is read.
            Profile::Kernel => 4,
        };
        self.outer.is_some() || data.len() >= least
    }

    fn tcp(&self, key: Key, data: &'a [u8]) -> Option<Segment<'a>> {
        if self.outer.is_none() {
            return if self.quoted_enough(data, 20) { self.ported(key, data, Body::Other) } else { None };
        }
        let header = wire::tcp(data).filter(|_| self.checksum_ok())?;
        let options = data.get(20..header.header_len)?;
        self.ported(key, data, Body::Tcp(TcpSegment { header, options }))
    }

    fn udp(&self, key: Key, data: &'a [u8]) -> Option<Segment<'a>> {
        if self.outer.is_some() {
            let length = usize::from(wire::udp(data)?.length);
            let unchecked = self.profile != Profile::Userspace31 && data.get(6..8) == Some(&[0, 0]);
            if length < 8 || length > data.len() || !(unchecked || self.checksum_ok()) {
                return None;
            }
        } else if !self.quoted_enough(data, 8) {
            return None;
        }
        self.ported(key, data, Body::Other)
    }

    fn icmp(&self, key: Key, data: &'a [u8]) -> Option<Segment<'a>> {
        let icmp = wire::icmp(data).filter(|_| self.checksum_ok())?;
        if ICMP_ERRORS.contains(&icmp.kind) {
            return self.quoted(IpVersion::V4, &key, icmp.body);
        }
        self.query(key, &icmp)
    }

    fn icmpv6(&self, key: Key, data: &'a [u8]) -> Option<Segment<'a>> {
        let icmp = wire::icmp(data).filter(|_| self.checksum_ok())?;
        if ICMPV6_ERRORS.contains(&icmp.kind) {
            return self.quoted(IpVersion::V6, &key, icmp.body);
        }
        if self.profile != Profile::Userspace31 && self.outer.is_some() && UNTRACKED_V6.contains(&icmp.kind) {
            return Some(Segment { key, related: false, body: Body::Untracked });
        }
        self.query(key, &icmp)
    }

    /// A query or its answer; only the kernel takes other codes than 0.
    fn query(&self, mut key: Key, icmp: &wire::IcmpView<'_>) -> Option<Segment<'a>> {
        let answer = opposite(self.profile, key.proto, icmp.kind)?;
        if self.profile == Profile::Userspace31 && icmp.code != 0 {
            return None;
        }
        key.src = Endpoint { port: icmp.id, icmp: (icmp.kind, icmp.code), ..key.src };
        key.dst = Endpoint { port: icmp.id, icmp: (answer, icmp.code), ..key.dst };
        Some(Segment { key, related: false, body: Body::Icmp(icmp.kind) })
    }

    /// The connection that an error's quoted packet belongs to. An error about an error is invalid.
    fn quoted(&self, version: IpVersion, outer: &Key, body: &'a [u8]) -> Option<Segment<'a>> {
        self.outer?;
        let l3 = wire::inner_l3(version, body);
        let faults = l3.faults;
        if faults.truncated || faults.bad_header_length || faults.bad_extension || l3.is_partial() {
            return None;
        }
        // Linux compares the error's destination only since 5.1.
        if self.profile != Profile::Kernel2016 && l3.src != outer.dst.addr {
            return None;
        }
        let inner = Reader { outer: None, ..*self };
        let quoted = inner.read(inner.key(&l3), body.get(l3.payload_offset()..)?)?;
        Some(Segment { key: quoted.key.reversed(), related: true, ..quoted })
    }
}

/// UDP-Lite, RFC 3828.
const UDPLITE: u8 = 136;

/// Whether the checksum of a UDP-Lite datagram, which there must be, is right as far as it reaches.
fn udplite_ok(l3: &L3<'_>) -> bool {
    let Some([_, _, _, _, high, low, sum @ ..]) = l3.payload.first_chunk::<8>() else { return false };
    let length = l3.payload.len();
    let covered = match usize::from(u16::from_be_bytes([*high, *low])) {
        0 => length,
        covered => covered,
    };
    let Some(head) = l3.payload.get(..covered).filter(|head| head.len() >= 8) else { return false };
    let pseudo = pseudo_header(l3, length as u32);
    *sum != [0, 0] && wire::checksum(&[&pseudo, head].concat()) == 0
}

/// What a checksum covers before the upper-layer header (RFC 768, RFC 8200 section 8.1).
fn pseudo_header(l3: &L3<'_>, length: u32) -> Vec<u8> {
    let (src, dst, tail) = (l3.src.to_be_bytes(), l3.dst.to_be_bytes(), length.to_be_bytes());
    let skip = if l3.version == IpVersion::V6 { 0 } else { 12 };
    let addresses = [src, dst].into_iter().flat_map(|address| address.into_iter().skip(skip));
    addresses.chain(tail).chain([0, 0, 0, l3.protocol]).collect()
}
