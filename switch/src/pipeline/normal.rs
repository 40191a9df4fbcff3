//! What `NORMAL` does: the learning switch.
//!
//! What it means: access ports add and remove their VLAN, trunks keep it; addresses are learned only when `NORMAL`
//! executes, with whatever source the packet has then. Invariant: nothing leaves through the port it came in by.
//! Deliberately absent: bonds (and the gratuitous-ARP lock that is for them), STP, multicast snooping, mirrors,
//! trunks that carry only some VLANs, the limit of the table's size.
//!
//! Source: ovs-actions(7), "normal"; ovs-vswitchd.conf.db(5), Port table; experiments with Open vSwitch 3.1.

use super::{PortConfig, find, write::small};
use flowproof_packet::{
    Field, FlowKey, MacAddr, PortNo,
    key::low_bits,
    wire::{VLAN_PRESENT, ethertype},
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::fmt;

/// How long an address is remembered without a packet from it, in milliseconds.
pub const MAC_AGE_MS: u64 = 300_000;

const VID: u16 = 0x0fff;
const PCP: u16 = 0xe000;

/// The addresses that `NORMAL` has learned: (VLAN, address) → port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fdb {
    entries: FxHashMap<(u16, MacAddr), Learned>,
}

/// One learned address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Learned {
    port: PortNo,
    expires: u64,
}

impl Fdb {
    /// The port behind which an address is, at the time `now` in milliseconds.
    #[must_use]
    pub fn lookup(&self, vlan: u16, mac: MacAddr, now: u64) -> Option<PortNo> {
        self.entries.get(&(vlan, mac)).filter(|entry| now < entry.expires).map(|entry| entry.port)
    }

    /// Remembers the source of a packet; group addresses are never learned.
    pub fn learn(&mut self, vlan: u16, mac: MacAddr, port: PortNo, now: u64) {
        if !mac.is_group() {
            let expires = now.saturating_add(MAC_AGE_MS);
            self.entries.insert((vlan, mac), Learned { port, expires });
        }
    }

    /// Forgets everything, as `ovs-appctl fdb/flush` does.
    pub fn flush(&mut self) {
        self.entries.clear();
    }

    /// Forgets what is too old at the time `now`.
    pub fn expire(&mut self, now: u64) {
        self.entries.retain(|_, entry| now < entry.expires);
    }

    /// The entries as (port, VLAN, address), sorted.
    #[must_use]
    pub fn entries(&self) -> Vec<(PortNo, u16, MacAddr)> {
        let mut all: Vec<_> =
            self.entries.iter().map(|((vlan, mac), entry)| (entry.port, *vlan, *mac)).collect();
        all.sort_unstable();
        all
    }
}

/// Where `NORMAL` sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// To the port behind which the destination was learned.
    Learned(PortNo),
    /// To all ports of the VLAN.
    Flood,
    /// Nowhere.
    Drop(NormalDrop),
}

/// Why `NORMAL` drops a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormalDrop {
    /// The input port is not a port of the switch.
    UnknownInputPort,
    /// What follows the addresses is a tag, yet the packet counts as untagged: a second tag that became
    /// the first, or half a tag.
    PartialTag,
    /// An access port accepts no VLAN tag, not even its own.
    TaggedOnAccessPort,
    /// The destination is a reserved group address, such as spanning tree's.
    ReservedDestination,
    /// The destination was learned on the input port.
    SamePort,
    /// The destination was learned on a port that is no longer there.
    UnknownLearnedPort,
}

impl fmt::Display for NormalDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownInputPort => "the input port is unknown",
            Self::PartialTag => "what is left of its tags is not read as one",
            Self::TaggedOnAccessPort => "an access port accepts no tag",
            Self::ReservedDestination => "the destination is a reserved address",
            Self::SamePort => "the destination is behind the input port",
            Self::UnknownLearnedPort => "the destination is behind an unknown port",
        })
    }
}

/// What `NORMAL` does with one packet.
#[derive(Clone, Debug)]
pub(super) struct Forward<'p> {
    pub(super) decision: Decision,
    /// The VLAN the packet travels in; 0 for none.
    pub(super) vlan: u16,
    /// Whether the source was learned.
    pub(super) learned: bool,
    /// The ports it leaves by.
    pub(super) outputs: SmallVec<[&'p PortConfig; 4]>,
    tags: Tags,
}

impl Forward<'_> {
    /// The key of the packet as it leaves through `port`; all access ports see the same, and so do all trunks.
    pub(super) fn leaving(&self, key: &FlowKey, port: &PortConfig) -> FlowKey {
        self.tags.leaving(key, port)
    }
}

/// Addresses, with masks, that a bridge does not forward frames to: IEEE 802.1D, table 7-10, and what vendors reserved: Cisco's
/// CFM, ISL, CDP and its kin, PVST+, STP uplink fast; Extreme's EDP and EAPS.
pub const RESERVED: [(u64, u64); 9] = [
    (0x0180_c200_0000, 0xffff_ffff_fff0),
    (0x0100_0ccc_ccc0, 0xffff_ffff_fff8),
    (0x00e0_2b00_0000, 0xffff_ffff_ffff),
    (0x00e0_2b00_0004, 0xffff_ffff_ffff),
    (0x00e0_2b00_0006, 0xffff_ffff_ffff),
    (0x0100_0c00_0000, 0xffff_ffff_ffff),
    (0x0100_0ccc_cccc, 0xffff_ffff_ffff),
    (0x0100_0ccc_cccd, 0xffff_ffff_ffff),
    (0x0100_0ccd_cdcd, 0xffff_ffff_ffff),
];

fn is_reserved(mac: MacAddr) -> bool {
    RESERVED.iter().any(|(value, mask)| (mac.to_bits() ^ value) & mask == 0)
}

fn mac(key: &FlowKey, field: Field) -> MacAddr {
    MacAddr::from_bits((key.get(field) & low_bits(48)) as u64)
}

/// A packet's VLAN tags as they travel through the switch.
#[derive(Clone, Copy, Debug, Default)]
struct Tags {
    outer: (u16, u16),
    inner: (u16, u16),
}

impl Tags {
    /// The tags a packet enters with through this port.
    fn entering(key: &FlowKey, port: &PortConfig) -> Result<Self, NormalDrop> {
        // Without its presence bit a tag is none, whatever else stands there.
        let tag = |tci, tpid| match small(key, tci) {
            tci if tci & VLAN_PRESENT != 0 => (tci, small(key, tpid)),
            _ => (0, 0),
        };
        let outer = tag(Field::VlanTci, Field::VlanTpid);
        let inner = if outer == (0, 0) { outer } else { tag(Field::InnerVlanTci, Field::InnerVlanTpid) };
        match port.access_vlan {
            None => Ok(Self { outer, inner }),
            Some(_) if outer.0 & VID != 0 => Err(NormalDrop::TaggedOnAccessPort),
            Some(vlan) => {
                let tpid = if outer.1 == 0 { ethertype::VLAN } else { outer.1 };
                Ok(Self { outer: (vlan & VID | outer.0 & PCP, tpid), inner: (0, 0) })
            }
        }
    }

    const fn vlan(self) -> u16 {
        self.outer.0 & VID
    }

    /// The key of the packet as it leaves through `port`: a tag with VLAN 0 and priority 0 is not written, and no other is
    /// behind one that is not (experiment).
    fn leaving(self, key: &FlowKey, port: &PortConfig) -> FlowKey {
        let none = (0, 0);
        let bare = port.access_vlan.is_some() || self.outer.0 & (VID | PCP) == 0;
        let (outer, inner) = if bare { (none, none) } else { (self.outer, self.inner) };
        let mut key = key.clone();
        let slots =
            [(outer, Field::VlanTci, Field::VlanTpid), (inner, Field::InnerVlanTci, Field::InnerVlanTpid)];
        for ((tci, tpid), tci_field, tpid_field) in slots {
            let bits = tci & (VID | PCP);
            let present = bits != 0;
            key.set(tci_field, u128::from(if present { bits | VLAN_PRESENT } else { 0 }));
            key.set(tpid_field, u128::from(if present { tpid } else { 0 }));
        }
        key
    }
}

/// Decides where `NORMAL` sends the packet with this key, and learns its source if `learn` says so. The ports are in
/// ascending order.
pub(super) fn forward<'p>(
    ports: &'p [PortConfig],
    fdb: &mut Fdb,
    now: u64,
    learn: bool,
    key: &FlowKey,
) -> Forward<'p> {
    let mut forward = Forward {
        decision: Decision::Flood,
        vlan: 0,
        learned: false,
        outputs: SmallVec::new(),
        tags: Tags::default(),
    };
    let drop = |why, forward| Forward { decision: Decision::Drop(why), ..forward };
    let in_port = small(key, Field::InPort);
    let Some(input) = find(ports, in_port) else { return drop(NormalDrop::UnknownInputPort, forward) };
    let tag_follows = matches!(small(key, Field::DlType), ethertype::VLAN | ethertype::QINQ);
    if tag_follows && small(key, Field::VlanTci) & VLAN_PRESENT == 0 {
        return drop(NormalDrop::PartialTag, forward);
    }
    forward.tags = match Tags::entering(key, input) {
        Ok(tags) => tags,
        Err(why) => return drop(why, forward),
    };
    let vlan = forward.tags.vlan();
    forward.vlan = vlan;
    if is_reserved(mac(key, Field::DlDst)) {
        return drop(NormalDrop::ReservedDestination, forward);
    }
    let src = mac(key, Field::DlSrc);
    forward.learned = learn && !src.is_group();
    if forward.learned {
        fdb.learn(vlan, src, in_port, now);
    }
    match fdb.lookup(vlan, mac(key, Field::DlDst), now) {
        None => forward.outputs.extend(flood(ports, in_port, forward.tags)),
        Some(port) if port == in_port => return drop(NormalDrop::SamePort, forward),
        Some(port) => match find(ports, port) {
            None => return drop(NormalDrop::UnknownLearnedPort, forward),
            Some(output) => {
                forward.decision = Decision::Learned(port);
                forward.outputs.push(output);
            }
        },
    }
    forward
}

fn flood(ports: &[PortConfig], in_port: PortNo, tags: Tags) -> impl Iterator<Item = &PortConfig> {
    ports.iter().filter(move |port| {
        let carries = port.access_vlan.is_none_or(|vlan| vlan == tags.vlan() && tags.inner.0 & VID == 0);
        port.ofport != in_port && !port.no_flood && carries
    })
}
