//! The frames a sender can make, and when one that reaches an output really leaves.

use crate::{
    arrival::Arrival,
    predicate::Predicate,
    set::PacketSets,
    symbolic::{CameIn, Emit, Event},
    symkey::{Form, SERVICE_TAG},
    vars,
};
use flowproof_packet::{Field, FlowKey, PortNo};
use flowproof_switch::{flow::Match, pipeline::RESERVED};
use std::collections::BTreeMap;

/// IPv6 extension headers that Open vSwitch skips: what a fragment may show instead of the datagram's protocol.
pub const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];

/// ICMPv6 types of neighbour and listener discovery, which connection tracking lets pass by untracked (RFC 2710, 4861,
/// 3810). Redirect, 137, is not one of them: it is invalid on every datapath.
pub const DISCOVERY: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];

/// ICMPv6 redirect (RFC 4861).
pub const REDIRECT: u8 = 137;

const IP: [u16; 2] = [0x0800, 0x86dd];

/// What is true of every frame: an ethertype is at least 0x600 (0x5ff stands for a frame without one), an absent tag is zero,
/// ICMP has eight-bit types and codes, a network service header the widths of RFC 8300.
///
/// A frame may end anywhere. Where a header is cut off its fields are zero, which they may be in any frame; and half a tag is no
/// tag but an ethertype, which is why 0x8100 need not have a tag before it.
#[must_use]
pub fn well_formed() -> Predicate {
    let bits = |field, value: u16, mask: u16| Predicate::Is(field, value.into(), mask.into());
    let high = (11..16).map(|bit| bits(Field::DlType, 1 << bit, 1 << bit)).collect();
    let ethertype = Predicate::Any(high)
        .or(bits(Field::DlType, 0x0600, 0x0600))
        .or(Predicate::is(Field::DlType, 0x05ffu16));
    let has_tag = bits(Field::VlanTci, 0x1000, 0x1000);
    let no_tag = Predicate::is(Field::VlanTci, 0u8).and(Predicate::Is(Field::VlanTpid, 0, SERVICE_TAG));
    let icmp = Predicate::is(Field::DlType, 0x0800u16).and(Predicate::is(Field::NwProto, 1u8));
    let icmpv6 = Predicate::is(Field::DlType, 0x86ddu16).and(Predicate::is(Field::NwProto, 58u8));
    let eight_bits = bits(Field::TcpSrc, 0, 0xff00).and(bits(Field::TcpDst, 0, 0xff00));
    Predicate::All(vec![
        ethertype,
        has_tag.or(no_tag),
        icmp.or(icmpv6).negate().or(eight_bits),
        Predicate::is(Field::DlType, 0x894fu16).negate().or(service_header()),
    ])
}

/// Flags and time to live have two and six bits, and only metadata of type 1 has contexts (RFC 8300, 2.2 and 2.4).
fn service_header() -> Predicate {
    let contexts = [Field::NshC1, Field::NshC2, Field::NshC3, Field::NshC4];
    let none = Predicate::All(contexts.into_iter().map(|field| Predicate::is(field, 0u8)).collect());
    Predicate::All(vec![
        Predicate::Is(Field::NshFlags, 0, 0xfc),
        Predicate::Is(Field::NshTtl, 0, 0xc0),
        Predicate::is(Field::NshMdtype, 1u8).or(none),
    ])
}

/// The TPID of a tag whose other bits are known, and the one bit that tells an 802.1ad tag from an 802.1Q tag.
pub(crate) fn complete_tag(key: &mut FlowKey) {
    let is_service = key.get(Field::VlanTpid) & SERVICE_TAG != 0;
    let tpid: u16 = match (key.get(Field::VlanTci) & 0x1000 != 0, is_service) {
        (false, _) => 0,
        (true, false) => 0x8100,
        (true, true) => 0x88a8,
    };
    key.set(Field::VlanTpid, tpid.into());
}

/// Every frame of a form. A fragment is of an IP datagram and shows its protocol; the first one of an IPv6 datagram
/// may show an extension header instead, a later one always does (44 on a real switch).
pub fn sendable<S: PacketSets>(sets: &mut S, form: Form) -> S::Set {
    let all = well_formed().to_set(sets);
    if form == Form::Whole {
        return all;
    }
    let ip = Predicate::one_of(Field::DlType, IP).to_set(sets);
    let ipv6 = Predicate::is(Field::DlType, 0x86ddu16).to_set(sets);
    let mut shown = sets.none();
    for header in EXTENSION_HEADERS {
        let bits: Vec<_> =
            vars::fragment_proto().rev().enumerate().map(|(i, var)| (var, header >> i & 1 == 1)).collect();
        let cube = sets.cube(&bits);
        shown = sets.or(shown, cube);
    }
    let extension = sets.and(ipv6, shown);
    let mut same = sets.all();
    for (sent, seen) in vars::sent(Field::NwProto).zip(vars::fragment_proto()) {
        let (ones, zeros) =
            (sets.cube(&[(sent, true), (seen, true)]), sets.cube(&[(sent, false), (seen, false)]));
        let equal = sets.or(ones, zeros);
        same = sets.and(same, equal);
    }
    let same = if form == Form::Later { sets.minus(same, ipv6) } else { same };
    let shows = sets.or(same, extension);
    let fragment = sets.and(ip, shows);
    sets.and(all, fragment)
}

/// Every frame of a form, with what may come in beside it.
pub fn arriving<S: PacketSets>(sets: &mut S, form: Form, arrival: Arrival) -> S::Set {
    let (frames, premise) = (sendable(sets, form), arrival.premise().to_set(sets));
    sets.and(frames, premise)
}

/// A match on the frame as it is at an output.
fn now(field: Field, value: u128, mask: u128) -> Match {
    let mut matching = Match::default();
    matching.set(field, value, mask);
    matching
}

/// What `NORMAL` drops, whatever port it comes from: frames to reserved addresses ([`RESERVED`]), and those in which a tag follows
/// though none was read: a second tag that became the first, or half a tag.
#[must_use]
pub fn never_switched() -> Vec<Match> {
    let reserved = RESERVED.iter().map(|(mac, mask)| now(Field::DlDst, (*mac).into(), (*mask).into()));
    let partial = [0x8100u16, 0x88a8].map(|ethertype| {
        let mut matching = now(Field::DlType, ethertype.into(), u128::MAX);
        matching.set(Field::VlanTci, 0, 0x1000);
        matching
    });
    reserved.chain(partial).collect()
}

/// A frame without a tag, or with VLAN 0: what `NORMAL` takes from an access port. It matches one of these; what stands in the
/// other bits of a tag that is not there is nothing.
#[must_use]
pub fn untagged_or_priority() -> [Match; 2] {
    [now(Field::VlanTci, 0, 0x1000), now(Field::VlanTci, 0, 0x0fff)]
}

/// The event's packets that [have no VLAN](untagged_or_priority).
pub fn without_vlan<S: PacketSets>(sets: &mut S, event: &Event<S::Set>) -> S::Set {
    let [untagged, priority] = untagged_or_priority().map(|tag| select(sets, event, &tag));
    sets.or(untagged, priority)
}

/// Whether what leaves so leaves for anybody but its sender and the controller.
pub(crate) const fn is_to_others(emit: &Emit, came_in: CameIn) -> bool {
    match (emit, came_in) {
        (Emit::InPort | Emit::Controller, _) => false,
        (Emit::Port(port), CameIn::By(own)) => *port != own,
        _ => true,
    }
}

/// Those of an event's packets that really leave. `NORMAL` drops what an `access` port sends with a VLAN id.
pub fn escaping<S: PacketSets>(sets: &mut S, event: &Event<S::Set>, access: bool) -> S::Set {
    match event.emit {
        Emit::Limit => sets.none(),
        Emit::Normal => {
            let admitted = if access { without_vlan(sets, event) } else { event.packets };
            never_switched().iter().fold(admitted, |packets, matching| {
                let dropped = select(sets, event, matching);
                sets.minus(packets, dropped)
            })
        }
        Emit::Port(_)
        | Emit::UnknownPort
        | Emit::InPort
        | Emit::Flood
        | Emit::Controller
        | Emit::Opaque(_) => event.packets,
    }
}

/// The event's packets whose key at that moment matches.
pub fn select<S: PacketSets>(sets: &mut S, event: &Event<S::Set>, matching: &Match) -> S::Set {
    let Some(literals) = event.key.wanted(matching) else { return sets.none() };
    let cube = sets.cube(&literals);
    sets.and(event.packets, cube)
}

/// The frames that, leaving like this, are *inside* network `network` still: they carry its VLAN id, or go with any
/// VLAN id to a filtered port of it. Filtered ports and their networks are `members`; any other port is taken to
/// belong to whatever network the frame's tag names. What a controller does with a frame nobody knows.
#[must_use]
pub fn inside_network(emit: &Emit, network: Option<u16>, members: &BTreeMap<PortNo, Option<u16>>) -> Inside {
    let Some(vid) = network else { return Inside::Never };
    let by_tag = Inside::Tagged(now(Field::VlanTci, 0x1000 | u128::from(vid), 0x1fff));
    match emit {
        Emit::Normal => Inside::Never,
        Emit::InPort => Inside::NotUntagged,
        Emit::Port(port) => match members.get(port) {
            Some(other) if *other == network => Inside::NotUntagged,
            Some(_) => Inside::Never,
            None => by_tag,
        },
        Emit::Flood if members.values().all(|other| *other == network) => by_tag,
        Emit::Flood | Emit::UnknownPort | Emit::Controller | Emit::Opaque(_) | Emit::Limit => Inside::Never,
    }
}

/// Those of an event's packets that leave inside network `network` still.
pub fn inside<S: PacketSets>(
    sets: &mut S,
    event: &Event<S::Set>,
    network: Option<u16>,
    members: &BTreeMap<PortNo, Option<u16>>,
) -> S::Set {
    match inside_network(&event.emit, network, members) {
        Inside::Never => sets.none(),
        Inside::Tagged(tag) => select(sets, event, &tag),
        Inside::NotUntagged => {
            let untagged = without_vlan(sets, event);
            sets.minus(event.packets, untagged)
        }
    }
}

/// Which frames an output keeps inside a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// None.
    Never,
    /// Those with a VLAN id other than 0.
    NotUntagged,
    /// Those that match.
    Tagged(Match),
}
