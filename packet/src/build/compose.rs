//! From a flow key to a frame.

use super::upper::{Segment, arp, mpls, nsh, segment};
use crate::{
    Field, FlowKey,
    wire::{FRAG_ANY, FRAG_LATER, IpVersion, VLAN_PRESENT, checksum, ethertype, proto, put},
};

/// Which checksum to make wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BadChecksum {
    /// None.
    #[default]
    None,
    /// That of the IPv4 header.
    IpHeader,
    /// That of TCP, UDP, ICMP, ICMPv6, IGMP or SCTP.
    Upper,
}

/// What a flow key does not say of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ComposeOptions {
    /// Bytes behind the innermost header. Neighbour discovery and SCTP have none.
    pub payload_len: usize,
    /// The frame is padded with zeroes to this many bytes.
    pub min_frame_len: usize,
    /// Identification of a fragment (IPv6) or of the datagram (IPv4, low 16 bits).
    pub id: u32,
    /// Offset of a later fragment in bytes; the low three bits are dropped.
    pub fragment_offset: u16,
    /// Whether a later fragment is followed by others.
    pub more_fragments: bool,
    /// What a later IPv6 fragment's header names as next header if the key says 44, which tells nothing.
    pub fragment_protocol: u8,
    /// TCP sequence number.
    pub seq: u32,
    /// TCP acknowledgement number.
    pub ack: u32,
    /// TCP window.
    pub window: u16,
    /// ICMP and ICMPv6 identifier.
    pub icmp_id: u16,
    /// ICMP and ICMPv6 sequence number.
    pub icmp_seq: u16,
    /// Which checksum to make wrong.
    pub bad_checksum: BadChecksum,
}

impl Default for ComposeOptions {
    /// A frame as short as Ethernet allows.
    fn default() -> Self {
        Self {
            payload_len: 0,
            min_frame_len: 60,
            id: 1,
            fragment_offset: 1480,
            more_fragments: false,
            fragment_protocol: proto::UDP,
            seq: 1,
            ack: 0,
            window: 65535,
            icmp_id: 1,
            icmp_seq: 1,
            bad_checksum: BadChecksum::None,
        }
    }
}

/// A frame whose key is `key`, apart from metadata, which no frame holds.
///
/// [`extract`](crate::wire::extract) gives the header fields back if they are those of some frame: ports only where
/// the protocol has them, `nd_options_type` in agreement with the options, and so on; of other keys the frame takes
/// what it can. Neighbour discovery has an option for each link-layer address that is not zero, that of
/// `nd_options_type` first. An IPv6 packet with `nw_proto` 0 or another extension header's number ends behind that
/// number, so that it extracts as a packet whose protocol cannot be found.
#[must_use]
pub fn compose(key: &FlowKey, opts: &ComposeOptions) -> Vec<u8> {
    let mut frame = Vec::with_capacity(opts.min_frame_len.max(64));
    let dl_type = key.get(Field::DlType) as u16;
    frame.extend(low::<6>(key.get(Field::DlDst)));
    frame.extend(low::<6>(key.get(Field::DlSrc)));
    for (tci, tpid) in [(Field::VlanTci, Field::VlanTpid), (Field::InnerVlanTci, Field::InnerVlanTpid)] {
        let tag = key.get(tci) as u16;
        if tag & VLAN_PRESENT != 0 {
            let tpid = Some(key.get(tpid) as u16).filter(|tpid| *tpid != 0).unwrap_or(ethertype::VLAN);
            frame.extend(tpid.to_be_bytes());
            frame.extend((tag & !VLAN_PRESENT).to_be_bytes());
        }
    }
    let body = match dl_type {
        ethertype::IPV4 => ipv4(key, opts),
        ethertype::IPV6 => ipv6(key, opts),
        ethertype::ARP | ethertype::RARP => arp(key),
        ethertype::MPLS | ethertype::MPLS_MULTICAST => mpls(key, opts.payload_len),
        ethertype::NSH => nsh(key, opts.payload_len),
        ethertype::NONE => return llc(frame, opts),
        ethertype::VLAN | ethertype::QINQ if frame.len() == 12 => {
            // More bytes would read as a tag.
            frame.extend(dl_type.to_be_bytes());
            return frame;
        }
        _ => pattern(opts.payload_len),
    };
    frame.extend(dl_type.to_be_bytes());
    frame.extend(body);
    padded(frame, opts)
}

fn padded(mut frame: Vec<u8>, opts: &ComposeOptions) -> Vec<u8> {
    frame.resize(frame.len().max(opts.min_frame_len), 0);
    frame
}

/// An 802.3 frame with an LLC header that is not SNAP: the spanning tree's.
fn llc(mut frame: Vec<u8>, opts: &ComposeOptions) -> Vec<u8> {
    const SPANNING_TREE: [u8; 3] = [0x42, 0x42, 0x03];
    const LONGEST: usize = 1500;
    let payload = pattern(opts.payload_len.min(LONGEST - SPANNING_TREE.len()));
    let length = (SPANNING_TREE.len() + payload.len()) as u16;
    frame.extend(length.to_be_bytes());
    frame.extend(SPANNING_TREE);
    frame.extend(payload);
    padded(frame, opts)
}

/// The low bytes of a field's value.
pub(super) fn low<const N: usize>(value: u128) -> [u8; N] {
    value.to_be_bytes().last_chunk().copied().unwrap_or([0; N])
}

/// Bytes that are easy to recognise in a dump.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

/// Where a fragment lies: offset in bytes and whether more follow.
fn place(key: &FlowKey, opts: &ComposeOptions) -> Option<(u16, bool)> {
    let frag = key.get(Field::NwFrag) as u8;
    if frag & FRAG_LATER != 0 {
        Some(((opts.fragment_offset & 0xfff8).max(8), opts.more_fragments))
    } else {
        (frag & FRAG_ANY != 0).then_some((0, true))
    }
}

/// The upper layer; a fragment that is not the last is filled up to a multiple of eight bytes.
fn upper(key: &FlowKey, opts: &ComposeOptions, version: IpVersion, protocol: u8) -> Vec<u8> {
    let (src, dst) = match version {
        IpVersion::V4 => (key.get(Field::NwSrc), key.get(Field::NwDst)),
        IpVersion::V6 => (key.get(Field::Ipv6Src), key.get(Field::Ipv6Dst)),
    };
    let place = place(key, opts);
    if let Some((offset, more)) = place.filter(|(offset, _)| *offset != 0) {
        let length = opts.payload_len.max(8).min(usize::from(u16::MAX - offset) & !7);
        return pattern(if more { length.next_multiple_of(8) } else { length });
    }
    let whole = |extra| segment(&Segment { key, opts, version, src, dst, protocol, extra });
    match place {
        None => whole(0),
        Some(_) => {
            let length = whole(0).len();
            whole(length.next_multiple_of(8) - length)
        }
    }
}

fn ipv4(key: &FlowKey, opts: &ComposeOptions) -> Vec<u8> {
    const HEADER: usize = 20;
    let protocol = key.get(Field::NwProto) as u8;
    let mut body = upper(key, opts, IpVersion::V4, protocol);
    body.truncate(usize::from(u16::MAX) - HEADER);
    let (offset, more) = place(key, opts).unwrap_or((0, false));
    let fragment = (offset / 8) | (u16::from(more) << 13);
    let mut packet = vec![0x45, key.get(Field::NwTos) as u8];
    packet.extend(((HEADER + body.len()) as u16).to_be_bytes());
    packet.extend((opts.id as u16).to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([key.get(Field::NwTtl) as u8, protocol, 0, 0]);
    packet.extend(low::<4>(key.get(Field::NwSrc)));
    packet.extend(low::<4>(key.get(Field::NwDst)));
    let wrong = if opts.bad_checksum == BadChecksum::IpHeader { 0x5555 } else { 0 };
    let sum = checksum(&packet) ^ wrong;
    put(&mut packet, 10, &sum.to_be_bytes());
    packet.extend(body);
    packet
}

fn ipv6(key: &FlowKey, opts: &ComposeOptions) -> Vec<u8> {
    let protocol = key.get(Field::NwProto) as u8;
    let mut body = Vec::new();
    let mut next = protocol;
    match place(key, opts) {
        Some((offset, more)) => {
            next = proto::FRAGMENT;
            let inner = if protocol == proto::FRAGMENT { opts.fragment_protocol } else { protocol };
            body.extend([inner, 0]);
            body.extend((offset | u16::from(more)).to_be_bytes());
            body.extend(opts.id.to_be_bytes());
            body.extend(upper(key, opts, IpVersion::V6, inner));
        }
        None if is_extension(protocol) => {}
        None => body = upper(key, opts, IpVersion::V6, protocol),
    }
    body.truncate(usize::from(u16::MAX));
    let first = 6 << 28 | key.get(Field::NwTos) << 20 | key.get(Field::Ipv6Label);
    let mut packet = low::<4>(first).to_vec();
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, key.get(Field::NwTtl) as u8]);
    packet.extend(key.get(Field::Ipv6Src).to_be_bytes());
    packet.extend(key.get(Field::Ipv6Dst).to_be_bytes());
    packet.extend(body);
    packet
}

/// Whether extraction would read on behind this number.
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, proto::HOP_BY_HOP | proto::ROUTING | proto::FRAGMENT | proto::AH | proto::DEST_OPTIONS)
}
