//! Writing header fields and metadata in a flow key, as actions do.
//!
//! What it means: an action on a field that the packet does not have changes nothing (ovs-actions(7), "set_field").
//! Invariant: a VLAN slot has a TPID exactly when bit 12 of its TCI is set. Deliberately absent: the frame itself,
//! which is rewritten from the key when it leaves.
//!
//! Source: ovs-actions(7), ovs-fields(7), experiments with Open vSwitch 3.1.

use crate::flow::{Subfield, ast::SetForm};
use flowproof_packet::{
    Field, FlowKey, Prerequisite,
    key::low_bits,
    wire::{FRAG_LATER, VLAN_PRESENT, ethertype, proto},
};

/// A field's value, for fields of up to 16 bits.
pub(super) fn small(key: &FlowKey, field: Field) -> u16 {
    (key.get(field) & 0xffff) as u16
}

fn is_ip(key: &FlowKey) -> bool {
    matches!(small(key, Field::DlType), ethertype::IPV4 | ethertype::IPV6)
}

fn is_later_fragment(key: &FlowKey) -> bool {
    key.get(Field::NwFrag) & u128::from(FRAG_LATER) != 0
}

fn carries(key: &FlowKey, protocol: u8) -> bool {
    is_ip(key) && small(key, Field::NwProto) == u16::from(protocol)
}

fn has_ports(key: &FlowKey, protocol: u8) -> bool {
    carries(key, protocol) && !is_later_fragment(key)
}

fn is_neighbour_discovery(key: &FlowKey, kinds: &[u16]) -> bool {
    small(key, Field::DlType) == ethertype::IPV6
        && carries(key, proto::ICMPV6)
        && kinds.contains(&small(key, Field::Icmpv6Type))
        && small(key, Field::Icmpv6Code) == 0
}

/// Whether a packet has what a field requires (ovs-fields(7), "Prerequisites").
pub(super) fn has(key: &FlowKey, need: Prerequisite) -> bool {
    let dl_type = small(key, Field::DlType);
    match need {
        Prerequisite::None => true,
        Prerequisite::Ethernet => key.get(Field::PacketType) == 0,
        Prerequisite::Arp => matches!(dl_type, ethertype::ARP | ethertype::RARP),
        Prerequisite::Vlan => small(key, Field::VlanTci) & VLAN_PRESENT != 0,
        Prerequisite::Ipv4 => dl_type == ethertype::IPV4,
        Prerequisite::Ipv6 => dl_type == ethertype::IPV6,
        Prerequisite::Ip => is_ip(key),
        Prerequisite::Mpls => matches!(dl_type, ethertype::MPLS | ethertype::MPLS_MULTICAST),
        Prerequisite::Tcp => has_ports(key, proto::TCP),
        Prerequisite::Udp => has_ports(key, proto::UDP),
        Prerequisite::Sctp => has_ports(key, proto::SCTP),
        Prerequisite::Icmpv4 => dl_type == ethertype::IPV4 && carries(key, proto::ICMP),
        Prerequisite::Icmpv6 => dl_type == ethertype::IPV6 && carries(key, proto::ICMPV6),
        Prerequisite::Nd => is_neighbour_discovery(key, &[135, 136]),
        Prerequisite::NdSolicit => is_neighbour_discovery(key, &[135]),
        Prerequisite::NdAdvert => is_neighbour_discovery(key, &[136]),
        Prerequisite::Nsh => dl_type == ethertype::NSH,
        Prerequisite::CtValid => {
            use crate::conntrack::state::{EST, NEW, RPL};
            key.get(Field::CtState) & u128::from(NEW | EST | RPL) != 0
        }
    }
}

/// Carries out `load`, `set_field` or a `mod_*` action; false where the packet does not have the field.
pub(super) fn set(key: &mut FlowKey, field: Field, value: u128, mask: u128, form: SetForm) -> bool {
    let any_ports = form == SetForm::Mod && matches!(field, Field::TcpSrc | Field::TcpDst);
    let possible =
        if any_ports { is_ip(key) && !is_later_fragment(key) } else { has(key, field.spec().prerequisite) };
    if possible {
        write(key, field, value, mask);
    }
    possible
}

/// Carries out `move`; false where the packet does not have both fields.
pub(super) fn copy(key: &mut FlowKey, src: Subfield, dst: Subfield) -> bool {
    let both = [src, dst].iter().all(|part| has(key, part.field.spec().prerequisite));
    if both {
        let mask = low_bits(dst.width);
        write(key, dst.field, (read(key, src) & mask) << dst.start, mask << dst.start);
    }
    both
}

/// The value of a run of bits. The type of a neighbour discovery option can be matched and written; who reads it gets
/// zero (experiment).
pub(super) fn read(key: &FlowKey, part: Subfield) -> u128 {
    if part.field == Field::NdOptionsType {
        return 0;
    }
    key.get(part.field) >> part.start & low_bits(part.width)
}

fn write(key: &mut FlowKey, field: Field, value: u128, mask: u128) {
    // DSCP only: the two bits below it are ECN and have their own field.
    let mask = if field == Field::NwTos { mask & 0xfc } else { mask };
    key.set_masked(field, value, mask);
    match field {
        Field::VlanVid | Field::VlanPcp => set_vlan(key, small(key, Field::VlanTci) | VLAN_PRESENT),
        Field::VlanTci | Field::VlanVidOxm => set_vlan(key, small(key, Field::VlanTci)),
        _ => {}
    }
}

/// Sets the outer tag, with the TPID it has, or 0x8100 if it is new.
fn set_vlan(key: &mut FlowKey, tci: u16) {
    let tpid = match (tci & VLAN_PRESENT, small(key, Field::VlanTpid)) {
        (0, _) => 0,
        (_, 0) => ethertype::VLAN,
        (_, old) => old,
    };
    key.set(Field::VlanTci, u128::from(tci));
    key.set(Field::VlanTpid, u128::from(tpid));
}

/// Whether the packet has a tag.
pub(super) fn is_tagged(key: &FlowKey) -> bool {
    has(key, Prerequisite::Vlan)
}

/// `mod_vlan_vid` and `mod_vlan_pcp`: replaces the bits of `mask`, adding a tag where there is none.
pub(super) fn modify_vlan(key: &mut FlowKey, bits: u16, mask: u16) {
    let old = if has(key, Prerequisite::Vlan) { small(key, Field::VlanTci) } else { 0 };
    set_vlan(key, old & !mask | bits & mask | VLAN_PRESENT);
}

/// `push_vlan`: a tag with VLAN 0 and priority 0 outside the others; the key has room for two.
pub(super) fn push_vlan(key: &mut FlowKey, tpid: u16) {
    let outer = (key.get(Field::VlanTci), key.get(Field::VlanTpid));
    if has(key, Prerequisite::Vlan) {
        key.set(Field::InnerVlanTci, outer.0);
        key.set(Field::InnerVlanTpid, outer.1);
    }
    key.set(Field::VlanTci, u128::from(VLAN_PRESENT));
    key.set(Field::VlanTpid, u128::from(tpid));
}

/// `strip_vlan` and `pop_vlan`: the outer tag goes, if there is one.
pub(super) fn pop_vlan(key: &mut FlowKey) {
    if !has(key, Prerequisite::Vlan) {
        return;
    }
    let inner = (key.get(Field::InnerVlanTci), key.get(Field::InnerVlanTpid));
    key.set(Field::VlanTci, inner.0);
    key.set(Field::VlanTpid, inner.1);
    key.set(Field::InnerVlanTci, 0);
    key.set(Field::InnerVlanTpid, 0);
}

/// `dec_ttl`: false where the packet has no hops left, which ends the flow's actions.
pub(super) fn decrement_ttl(key: &mut FlowKey) -> bool {
    if !is_ip(key) {
        return true;
    }
    let ttl = key.get(Field::NwTtl);
    if ttl > 1 {
        key.set(Field::NwTtl, ttl - 1);
    }
    ttl > 1
}

/// The key with a connection's original tuple in the place of the packet's own, for `resubmit(…,ct)`; `None` for a
/// packet that is not IP or has no such tuple.
pub(super) fn with_original_tuple(key: &FlowKey) -> Option<FlowKey> {
    const ALWAYS: [(Field, Field); 3] = [
        (Field::NwProto, Field::CtNwProto),
        (Field::TcpSrc, Field::CtTpSrc),
        (Field::TcpDst, Field::CtTpDst),
    ];
    const V4: [(Field, Field); 2] = [(Field::NwSrc, Field::CtNwSrc), (Field::NwDst, Field::CtNwDst)];
    const V6: [(Field, Field); 2] = [(Field::Ipv6Src, Field::CtIpv6Src), (Field::Ipv6Dst, Field::CtIpv6Dst)];
    if key.get(Field::CtNwProto) == 0 || !is_ip(key) {
        return None;
    }
    let addresses = if has(key, Prerequisite::Ipv4) { V4 } else { V6 };
    let mut swapped = key.clone();
    for (own, original) in ALWAYS.into_iter().chain(addresses) {
        swapped.set(own, key.get(original));
        swapped.set(original, key.get(own));
    }
    Some(swapped)
}

/// The top of a stack that `pop` takes off: as many bits as fit, zeroes above them; whether the packet has such a field is not
/// asked.
pub(super) fn pop(key: &mut FlowKey, part: Subfield, value: u128) {
    let mask = low_bits(part.width);
    write(key, part.field, (value & mask) << part.start, mask << part.start);
}
