//! Writing header changes back into a frame, as the datapath does with what actions did to the key.

use super::{
    bytes::put,
    checksum::{SCTP_CHECKSUM, checksum, checksum_offset, sctp_checksum, updated},
    ether::{VlanTag, ether, is_tpid},
    ethertype,
    extract::{ARP_LEN, ARP_PREFIX, VLAN_PRESENT},
    ip::{IpVersion, L3, l3},
    nd::{self, Options},
    proto,
};
use crate::{Field, FlowKey};

/// The frame with the header changes that actions made to its key: from `base`, what [`extract`](super::extract())
/// says of `frame`, to `now`.
///
/// Only fields that differ are written; everything else stays as it is, nonsense included. Checksums are kept right
/// incrementally: a wrong one stays wrong by the same amount, a UDP checksum of 0 stays 0 (RFC 1624, RFC 768).
/// Two faults of Open vSwitch 3.1's userspace datapath are not copied, so that the rest stays true: if an address is
/// rewritten, it takes the payload of later IPv4 fragments for a TCP or UDP header, and it forgets the checksum of
/// IPv6 packets that have a routing header with segments left or an atomic fragment header. Network and transport headers are left alone if `nw_proto` is 0, as in
/// the switch; so are ports whose header is not there. A change of `dl_type`, `nw_proto` or `nw_frag`, which no
/// action of a security-group table makes, has no effect.
///
/// Source: ovs-actions(7), `set_field`, `push_vlan`, `pop_vlan`.
#[must_use]
pub fn commit(frame: &[u8], base: &FlowKey, now: &FlowKey) -> Vec<u8> {
    if base == now {
        return frame.to_vec();
    }
    let mut edit = Edit { frame: frame.to_vec(), base, now };
    edit.macs();
    match base.get(Field::DlType) as u16 {
        ethertype::IPV4 | ethertype::IPV6 => edit.ip(frame),
        ethertype::ARP => edit.arp(frame),
        ethertype::MPLS | ethertype::MPLS_MULTICAST => edit.mpls(frame),
        ethertype::NSH => edit.nsh(frame),
        _ => {}
    }
    edit.vlans();
    edit.frame
}

/// A frame being rewritten in place; sizes change only in [`Edit::vlans`], which comes last.
struct Edit<'k> {
    frame: Vec<u8>,
    base: &'k FlowKey,
    now: &'k FlowKey,
}

/// A checksum field and the place from which it covers its 16-bit words.
#[derive(Clone, Copy)]
struct Sum {
    /// Offset of the field in the frame.
    at: usize,
    /// Any offset in the frame where a 16-bit word begins.
    origin: usize,
    /// UDP: 0 means none, and must not arise.
    zero_is_none: bool,
}

impl Edit<'_> {
    /// The new value of a field, if it changed.
    fn change(&self, field: Field) -> Option<u128> {
        let value = self.now.get(field);
        (value != self.base.get(field)).then_some(value)
    }

    /// Writes the low bytes of `value` at `at`, if the field changed, and corrects the checksums that cover them.
    fn field<const BYTES: usize>(&mut self, field: Field, at: usize, sums: &[Option<Sum>]) {
        let Some(value) = self.change(field) else { return };
        let bytes = value.to_be_bytes();
        if let Some(low) = bytes.last_chunk::<BYTES>() {
            self.write(at, low, sums);
        }
    }

    /// Writes bytes and corrects the checksums that cover them.
    fn write(&mut self, at: usize, new: &[u8], sums: &[Option<Sum>]) {
        let before = self.frame.clone();
        if !put(&mut self.frame, at, new) {
            return;
        }
        for sum in sums.iter().flatten() {
            let start = at - (at.abs_diff(sum.origin) % 2);
            let end = at + new.len();
            let end = (end + (end - start) % 2).min(before.len());
            let (Some(was), Some(is)) = (before.get(start..end), self.frame.get(start..end)) else {
                continue;
            };
            let Some(old) = super::bytes::u16_at(&before, sum.at) else { continue };
            if sum.zero_is_none && old == 0 {
                continue;
            }
            let fresh = updated(old, was, is);
            let fresh = if sum.zero_is_none && fresh == 0 { 0xffff } else { fresh };
            put(&mut self.frame, sum.at, &fresh.to_be_bytes());
        }
    }

    fn macs(&mut self) {
        self.field::<6>(Field::DlDst, 0, &[]);
        self.field::<6>(Field::DlSrc, 6, &[]);
    }

    fn ip(&mut self, frame: &[u8]) {
        let Some(l3) = l3(frame).filter(|l3| !l3.faults.stops_l3() && !l3.faults.bad_extension) else {
            return;
        };
        if self.now.get(Field::NwProto) == 0 {
            return;
        }
        let upper = upper_sum(&l3);
        match l3.version {
            IpVersion::V4 => self.ipv4(l3.offset, upper.filter(|_| covers_addresses(&l3))),
            IpVersion::V6 => self.ipv6(&l3, upper),
        }
        if !l3.is_later_fragment() {
            self.upper(&l3, upper);
        }
    }

    fn ipv4(&mut self, offset: usize, upper: Option<Sum>) {
        let header = Some(Sum { at: offset + 10, origin: offset, zero_is_none: false });
        self.field::<1>(Field::NwTos, offset + 1, &[header]);
        self.field::<1>(Field::NwTtl, offset + 8, &[header]);
        self.field::<4>(Field::NwSrc, offset + 12, &[header, upper]);
        self.field::<4>(Field::NwDst, offset + 16, &[header, upper]);
    }

    /// The traffic class and the label share the first word. The destination that the checksum covers is the final
    /// one, which a routing header with segments left keeps elsewhere (RFC 8200, section 8.1).
    fn ipv6(&mut self, l3: &L3<'_>, upper: Option<Sum>) {
        let offset = l3.offset;
        if self.change(Field::NwTos).or(self.change(Field::Ipv6Label)).is_some() {
            let word = (self.now.get(Field::NwTos) << 20 | self.now.get(Field::Ipv6Label)) as u32;
            let version = super::bytes::u8_at(l3.header, 0).unwrap_or(0x60) & 0xf0;
            self.write(offset, &(u32::from(version) << 24 | word).to_be_bytes(), &[]);
        }
        self.field::<1>(Field::NwTtl, offset + 7, &[]);
        self.field::<16>(Field::Ipv6Src, offset + 8, &[upper]);
        self.field::<16>(Field::Ipv6Dst, offset + 24, &[upper.filter(|_| !l3.segments_left)]);
    }

    fn upper(&mut self, l3: &L3<'_>, sum: Option<Sum>) {
        let at = l3.payload_offset();
        match l3.protocol {
            proto::TCP if super::tcp(l3.payload).is_some() => self.ports(at, sum),
            proto::UDP if super::udp(l3.payload).is_some() => self.ports(at, sum),
            proto::SCTP if super::sctp(l3.payload).is_some() => self.sctp(at, l3.payload.len()),
            proto::ICMP | proto::ICMPV6 if sum.is_some() => {
                self.field::<1>(Field::Icmpv4Type, at, &[sum]);
                self.field::<1>(Field::Icmpv4Code, at + 1, &[sum]);
                if l3.version == IpVersion::V6 && nd::nd(l3.payload).is_some() {
                    self.nd(at, l3.payload, sum);
                    self.nd_extension(l3);
                }
            }
            _ => {}
        }
    }

    fn ports(&mut self, at: usize, sum: Option<Sum>) {
        self.field::<2>(Field::TcpSrc, at, &[sum]);
        self.field::<2>(Field::TcpDst, at + 2, &[sum]);
    }

    /// The difference between the checksum and the right one is kept, as the switch keeps it.
    fn sctp(&mut self, at: usize, length: usize) {
        let right = |frame: &[u8]| {
            let packet = frame.get(at..at + length).unwrap_or_default();
            let (before, rest) = packet.split_at_checked(SCTP_CHECKSUM).unwrap_or_default();
            sctp_checksum(before, rest.get(4..).unwrap_or_default())
        };
        let was = right(&self.frame);
        self.ports(at, None);
        let difference = was ^ right(&self.frame);
        let field = super::bytes::at::<4>(&self.frame, at + SCTP_CHECKSUM).copied();
        if let Some(found) = field.filter(|_| difference != 0) {
            let fresh = u32::from_le_bytes(found) ^ difference;
            put(&mut self.frame, at + SCTP_CHECKSUM, &fresh.to_le_bytes());
        }
    }

    /// Of the options only the first link-layer address is written, and never one added.
    fn nd(&mut self, at: usize, message: &[u8], sum: Option<Sum>) {
        if message.len() >= nd::OPTIONS {
            self.field::<16>(Field::NdTarget, at + nd::TARGET, &[sum]);
        }
        let mut offset = at + nd::OPTIONS;
        for option in (Options { data: super::bytes::rest(message, nd::OPTIONS) }) {
            match option {
                [nd::SOURCE_LINK, 1, ..] => return self.field::<6>(Field::NdSll, offset + 2, &[sum]),
                [nd::TARGET_LINK, 1, ..] => return self.field::<6>(Field::NdTll, offset + 2, &[sum]),
                _ => offset += option.len(),
            }
        }
    }

    /// The reserved word, and with it the type of the first option, whether there is one or not. The switch sums up the
    /// message anew then, over what the IPv6 header says of length and next header (experiment).
    fn nd_extension(&mut self, l3: &L3<'_>) {
        let changed = self.change(Field::NdReserved).or(self.change(Field::NdOptionsType)).is_some();
        if !changed || l3.payload.len() < nd::OPTIONS {
            return;
        }
        let at = l3.payload_offset();
        put(&mut self.frame, at + nd::RESERVED, &(self.now.get(Field::NdReserved) as u32).to_be_bytes());
        put(&mut self.frame, at + nd::OPTIONS, &[self.now.get(Field::NdOptionsType) as u8]);
        put(&mut self.frame, at + 2, &[0, 0]);
        let header =
            |from: usize, to: usize| self.frame.get(l3.offset + from..l3.offset + to).unwrap_or_default();
        let next = [0, header(6, 7).first().copied().unwrap_or_default()];
        let message = self.frame.get(at..at + l3.payload.len()).unwrap_or_default();
        let sum = checksum(&[header(8, 40), &next, header(4, 6), message].concat());
        put(&mut self.frame, at + 2, &sum.to_be_bytes());
    }

    /// Like the switch, leaves RARP alone, and packets whose opcode reads as 0.
    fn arp(&mut self, frame: &[u8]) {
        if self.now.get(Field::ArpOp) == 0 {
            return;
        }
        let Some(ether) = ether(frame) else { return };
        if !ether.payload.starts_with(&ARP_PREFIX) || ether.payload.len() < ARP_LEN {
            return;
        }
        let at = ether.payload_offset;
        self.field::<2>(Field::ArpOp, at + 6, &[]);
        self.field::<6>(Field::ArpSha, at + 8, &[]);
        self.field::<4>(Field::ArpSpa, at + 14, &[]);
        self.field::<6>(Field::ArpTha, at + 18, &[]);
        self.field::<4>(Field::ArpTpa, at + 24, &[]);
    }

    fn mpls(&mut self, frame: &[u8]) {
        let Some(ether) = ether(frame) else { return };
        let of = |key: &FlowKey| {
            let [label, tc, bos, ttl] = [Field::MplsLabel, Field::MplsTc, Field::MplsBos, Field::MplsTtl]
                .map(|field| key.get(field) as u32);
            label << 12 | tc << 9 | bos << 8 | ttl
        };
        if of(self.base) != of(self.now) {
            self.write(ether.payload_offset, &of(self.now).to_be_bytes(), &[]);
        }
    }

    /// Flags and time to live share a word with the length, the path is one; the contexts are those of type 1 (RFC 8300,
    /// section 2). What does not fit its bits is lost, as in the switch.
    fn nsh(&mut self, frame: &[u8]) {
        const LENGTH: u128 = 0xc03f;
        let Some(ether) = ether(frame).filter(|_| self.base.get(Field::NshMdtype) != 0) else { return };
        let at = ether.payload_offset;
        let Some(first) = super::bytes::u16_at(frame, at) else { return };
        if self.change(Field::NshFlags).or(self.change(Field::NshTtl)).is_some() {
            let bits = (self.now.get(Field::NshFlags) & 3) << 12 | (self.now.get(Field::NshTtl) & 0x3f) << 6;
            let word = (u128::from(first) & LENGTH | bits) as u16;
            self.write(at, &word.to_be_bytes(), &[]);
        }
        if self.change(Field::NshSpi).or(self.change(Field::NshSi)).is_some() {
            let path = (self.now.get(Field::NshSpi) << 8 | self.now.get(Field::NshSi)) as u32;
            self.write(at + 4, &path.to_be_bytes(), &[]);
        }
        if self.base.get(Field::NshMdtype) == 1 {
            self.field::<4>(Field::NshC1, at + 8, &[]);
            self.field::<4>(Field::NshC2, at + 12, &[]);
            self.field::<4>(Field::NshC3, at + 16, &[]);
            self.field::<4>(Field::NshC4, at + 20, &[]);
        }
    }

    /// Takes the tags off that are no longer there and puts the new ones on; a frame that has none, as it may be if it came
    /// along with others, loses nothing. Tags that stayed, counted from the innermost, keep every bit; a new one has the drop-eligible bit clear, whose place in the key says that
    /// there is a tag at all.
    fn vlans(&mut self) {
        let (was, is) = (tags(self.base), tags(self.now));
        let common = was.iter().rev().zip(is.iter().rev()).take_while(|(a, b)| a == b).count();
        for _ in common..was.len() {
            if super::bytes::u16_at(&self.frame, 12).is_some_and(is_tpid) {
                self.frame.drain(12..16.min(self.frame.len()));
            }
        }
        for tag in is.iter().rev().skip(common) {
            let [a, b] = tag.tpid.to_be_bytes();
            let [c, d] = (tag.tci & !VLAN_PRESENT).to_be_bytes();
            let at = 12.min(self.frame.len());
            self.frame.splice(at..at, [a, b, c, d]);
        }
    }
}

/// The tags that a key says there are, outermost first. Without a TPID a tag is a customer tag.
fn tags(key: &FlowKey) -> Vec<VlanTag> {
    [(Field::VlanTci, Field::VlanTpid), (Field::InnerVlanTci, Field::InnerVlanTpid)]
        .map(|(tci, tpid)| (key.get(tci) as u16, key.get(tpid) as u16))
        .into_iter()
        .filter(|(tci, _)| tci & VLAN_PRESENT != 0)
        .map(|(tci, tpid)| VlanTag { tpid: if tpid == 0 { ethertype::VLAN } else { tpid }, tci })
        .collect()
}

/// The upper layer's checksum field; none in later fragments, without a header, or where there is no such field.
fn upper_sum(l3: &L3<'_>) -> Option<Sum> {
    let whole_header = match l3.protocol {
        proto::TCP => 20,
        _ => 8,
    };
    let field = checksum_offset(l3.version, l3.protocol)
        .filter(|_| !l3.is_later_fragment() && l3.payload.len() >= whole_header)?;
    let origin = l3.payload_offset();
    Some(Sum { at: origin + field, origin, zero_is_none: l3.protocol == proto::UDP })
}

/// Whether the upper layer's checksum covers the addresses.
const fn covers_addresses(l3: &L3<'_>) -> bool {
    matches!((l3.version, l3.protocol), (_, proto::TCP | proto::UDP) | (IpVersion::V6, proto::ICMPV6))
}
