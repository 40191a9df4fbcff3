//! The Ethernet header, as Open vSwitch with `vlan-limit=1` reads it.

use super::{
    bytes::{at, rest, u16_at, u48_at},
    ethertype,
};
use crate::MacAddr;

/// An 802.1Q or 802.1ad tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// The tag's own ethertype.
    pub tpid: u16,
    /// Priority (3 bits), drop eligibility (1 bit), VLAN id (12 bits), as on the wire.
    pub tci: u16,
}

/// The Ethernet header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ether<'a> {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// The outer tag; a second one is part of the payload.
    pub vlan: Option<VlanTag>,
    /// The type after at most one tag (that of an inner tag if there are two); 0x05ff without one.
    pub ethertype: u16,
    /// Where the payload begins in the frame.
    pub payload_offset: usize,
    /// What follows, Ethernet padding included.
    pub payload: &'a [u8],
}

/// LLC and SNAP with the Ethernet organisation code (RFC 1042).
const SNAP_ETHERNET: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];
const SNAP_LEN: usize = 8;

/// Whether a type announces a VLAN tag.
pub(crate) const fn is_tpid(kind: u16) -> bool {
    matches!(kind, ethertype::VLAN | ethertype::QINQ)
}

/// The Ethernet header; `None` for fewer than 14 bytes. A tag that is cut off counts as an unknown ethertype.
#[must_use]
pub fn ether(frame: &[u8]) -> Option<Ether<'_>> {
    let outer = u16_at(frame, 12)?;
    let tag = u16_at(frame, 14).filter(|_| is_tpid(outer)).zip(u16_at(frame, 16));
    let (vlan, kind, offset) = match tag {
        Some((tci, inner)) => (Some(VlanTag { tpid: outer, tci }), inner, 18),
        None => (None, outer, 14),
    };
    let (ethertype, payload_offset) = typed(frame, kind, offset);
    Some(Ether {
        dst: MacAddr::from_bits(u48_at(frame, 0)?),
        src: MacAddr::from_bits(u48_at(frame, 6)?),
        vlan,
        ethertype,
        payload_offset,
        payload: rest(frame, payload_offset),
    })
}

/// The type, and where the payload begins, given the type-or-length field that ends before `offset`.
fn typed(frame: &[u8], kind: u16, offset: usize) -> (u16, usize) {
    if kind >= ethertype::MIN {
        return (kind, offset);
    }
    let snap = at(frame, offset).is_some_and(|llc| *llc == SNAP_ETHERNET);
    match u16_at(frame, offset + 6).filter(|_| snap) {
        Some(inner) if inner >= ethertype::MIN => (inner, offset + SNAP_LEN),
        _ => (ethertype::NONE, offset),
    }
}
