//! Packets that a world's flows care about, and some that nobody should send.

use super::{
    rng::Rng,
    world::{Host, World},
};
use flowproof_packet::{
    Field, FlowKey, PortNo,
    build::{BadChecksum, ComposeOptions, compose},
    wire::{FRAG_ANY, FRAG_LATER, VLAN_PRESENT, ethertype, proto},
};

/// A frame and where it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) in_port: PortNo,
    pub(super) frame: Vec<u8>,
}

/// What a packet is before it is bytes.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) in_port: PortNo,
    pub(super) key: FlowKey,
    pub(super) options: ComposeOptions,
}

impl Draft {
    pub(super) fn packet(&self) -> Packet {
        Packet { in_port: self.in_port, frame: compose(&self.key, &self.options) }
    }
}

const PORTS: [u128; 12] = [22, 53, 67, 68, 80, 443, 546, 547, 1024, 40000, 65535, 0];
const ICMP_TYPES: [u128; 10] = [8, 0, 3, 5, 11, 12, 13, 14, 17, 30];
const ICMPV6_TYPES: [u128; 14] = [128, 129, 1, 2, 3, 130, 131, 132, 133, 134, 135, 136, 137, 143];
const FLAGS: [u128; 12] = [0x02, 0x02, 0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0x00, 0x03, 0x29];
const OTHER_PROTOCOLS: [u8; 8] = [proto::SCTP, 47, 50, proto::IGMP, 112, 136, 0, 255];
/// Header fields in which a packet may differ from what it was going to be.
const NOISE: [Field; 22] = [
    Field::DlSrc,
    Field::DlDst,
    Field::DlType,
    Field::VlanTci,
    Field::NwSrc,
    Field::NwDst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::NwProto,
    Field::NwTos,
    Field::NwTtl,
    Field::TcpSrc,
    Field::TcpDst,
    Field::TcpFlags,
    Field::ArpOp,
    Field::ArpSha,
    Field::ArpTha,
    Field::NdTarget,
    Field::NdSll,
    Field::Icmpv6Type,
    Field::Icmpv6Code,
    Field::Ipv6Label,
];

/// A packet from one host to another, as a whole datagram with right checksums.
pub(super) fn draft(world: &World, rng: &mut Rng) -> Draft {
    let from = rng.pick(&world.hosts).clone();
    let to = rng.pick(&world.hosts).clone();
    draft_between(world, &from, &to, rng)
}

fn draft_between(world: &World, from: &Host, to: &Host, rng: &mut Rng) -> Draft {
    let mut key = FlowKey::default();
    key.set(Field::DlSrc, from.mac);
    key.set(Field::DlDst, to.mac);
    let tagged = if from.vlans.is_empty() { 3 } else { 60 };
    if rng.chance(tagged) {
        let vid = from.vlans.get(rng.below(from.vlans.len().max(1))).copied().unwrap_or(1);
        key.set(Field::VlanTci, u128::from(VLAN_PRESENT | vid));
        key.set(Field::VlanTpid, u128::from(ethertype::VLAN));
    }
    let mut options = ComposeOptions {
        payload_len: rng.below(12),
        icmp_id: 1 + rng.below(3) as u16,
        id: rng.next() as u32,
        ..ComposeOptions::default()
    };
    options.min_frame_len = *rng.pick(&[0, 60, 60, 70]);
    match rng.below(20) {
        0..9 => ip(&mut key, false, from, to, world, rng),
        9..15 => ip(&mut key, true, from, to, world, rng),
        15..18 => arp(&mut key, from, to, rng),
        _ => key.set(Field::DlType, *rng.pick(&[0x0800, 0x86dd, 0x0806, 0x9000, 0x8847, 0x05ff, 0x88a8])),
    }
    Draft { in_port: from.port, key, options }
}

fn address(own: &[u128], rng: &mut Rng) -> u128 {
    if own.is_empty() { 0 } else { *rng.pick(own) }
}

fn arp(key: &mut FlowKey, from: &Host, to: &Host, rng: &mut Rng) {
    key.set(Field::DlType, u128::from(if rng.chance(90) { ethertype::ARP } else { ethertype::RARP }));
    key.set(Field::ArpOp, 1 + rng.below(2) as u128);
    key.set(Field::ArpSpa, address(&from.ipv4, rng));
    key.set(Field::ArpTpa, address(&to.ipv4, rng));
    key.set(Field::ArpSha, from.mac);
    if rng.chance(50) {
        key.set(Field::DlDst, 0xffff_ffff_ffff);
    } else {
        key.set(Field::ArpTha, to.mac);
    }
}

fn ip(key: &mut FlowKey, v6: bool, from: &Host, to: &Host, world: &World, rng: &mut Rng) {
    let (dl_type, src, dst) = if v6 {
        (ethertype::IPV6, (Field::Ipv6Src, &from.ipv6), (Field::Ipv6Dst, &to.ipv6))
    } else {
        (ethertype::IPV4, (Field::NwSrc, &from.ipv4), (Field::NwDst, &to.ipv4))
    };
    key.set(Field::DlType, u128::from(dl_type));
    key.set(src.0, address(src.1, rng));
    key.set(dst.0, address(dst.1, rng));
    key.set(Field::NwTtl, *rng.pick(&[64, 64, 64, 255, 1, 0]));
    let icmp = if v6 { proto::ICMPV6 } else { proto::ICMP };
    let protocol = match rng.below(20) {
        0..8 => proto::TCP,
        8..12 => proto::UDP,
        12..18 => icmp,
        18 => world.value(Field::NwProto, rng).map_or(proto::SCTP, |value| value as u8),
        _ => *rng.pick(&OTHER_PROTOCOLS),
    };
    key.set(Field::NwProto, u128::from(protocol));
    let number = |field, rng: &mut Rng| match world.value(field, rng) {
        Some(value) if rng.chance(70) => value,
        _ => *rng.pick(&PORTS),
    };
    match protocol {
        proto::TCP | proto::UDP | proto::SCTP => {
            key.set(Field::TcpSrc, number(Field::TcpSrc, rng));
            key.set(Field::TcpDst, number(Field::TcpDst, rng));
            if protocol == proto::TCP {
                key.set(Field::TcpFlags, *rng.pick(&FLAGS));
            }
        }
        _ if protocol == icmp && v6 => icmpv6(key, from, rng),
        _ if protocol == icmp => key.set(Field::Icmpv4Type, *rng.pick(&ICMP_TYPES)),
        _ => {}
    }
    if protocol == icmp && rng.chance(7) {
        key.set(Field::Icmpv4Code, rng.below(5) as u128);
    }
}

fn icmpv6(key: &mut FlowKey, from: &Host, rng: &mut Rng) {
    let kind = *rng.pick(&ICMPV6_TYPES);
    key.set(Field::Icmpv6Type, kind);
    if matches!(kind, 135 | 136) {
        let solicit = kind == 135;
        key.set(Field::NdTarget, address(&from.ipv6, rng));
        if rng.chance(80) {
            key.set(if solicit { Field::NdSll } else { Field::NdTll }, from.mac);
            key.set(Field::NdOptionsType, if solicit { 1 } else { 2 });
        }
        key.set(Field::NwTtl, 255);
    }
}

/// Makes the packet another than it was going to be: what a flow wants, a field at random, a fragment, a wrong sum.
pub(super) fn disturb(draft: &mut Draft, world: &World, rng: &mut Rng) {
    match rng.below(10) {
        0..4 => overlay(draft, world, rng),
        4..7 => {
            let field = *rng.pick(&NOISE);
            let value = match world.value(field, rng) {
                Some(value) if rng.chance(80) => value,
                _ => rng.bits() >> rng.below(128),
            };
            draft.key.set(field, value);
        }
        7 => {
            let frag = *rng.pick(&[FRAG_ANY, FRAG_ANY | FRAG_LATER]);
            draft.key.set(Field::NwFrag, u128::from(frag));
            draft.options.fragment_offset = 8 * (1 + rng.below(200) as u16);
            draft.options.more_fragments = rng.chance(50);
            draft.options.payload_len = *rng.pick(&[0, 16, 1300]);
        }
        8 => draft.options.bad_checksum = *rng.pick(&[BadChecksum::IpHeader, BadChecksum::Upper]),
        _ => draft.in_port = rng.pick(&world.hosts).port,
    }
}

/// Gives the packet what some flow matches of headers and input port.
pub(super) fn overlay(draft: &mut Draft, world: &World, rng: &mut Rng) {
    let wanted = &rng.pick(world.flows()).matching;
    for field in NOISE.into_iter().chain([Field::NwFrag]) {
        let (value, mask) = wanted.get(field);
        if mask != 0 {
            draft.key.set_masked(field, value, mask);
            if field == Field::VlanTci && value as u16 & VLAN_PRESENT != 0 {
                draft.key.set(Field::VlanTpid, u128::from(ethertype::VLAN));
            }
        }
    }
    if let Some(number) = wanted.exact(Field::InPort) {
        draft.in_port = number as PortNo;
    }
    if let Some(host) = world.hosts.iter().find(|host| host.port == draft.in_port).filter(|_| rng.chance(50))
    {
        draft.key.set(Field::DlSrc, host.mac);
    }
}

/// Breaks bytes: cuts, flips, pads, adds a tag. The Ethernet header stays whole.
pub(super) fn damage(frame: &mut Vec<u8>, rng: &mut Rng) {
    const HEADER: usize = 14;
    match rng.below(5) {
        0 => frame.truncate(HEADER + rng.below(frame.len() - HEADER + 1)),
        1 => frame.extend((0..rng.below(20)).map(|byte| byte as u8)),
        2 => {
            let tag = [0x81, 0x00, 0x00, rng.below(6) as u8];
            frame.splice(12..12, tag);
        }
        _ => {
            let at = 12 + rng.below(frame.len().min(90) - 12);
            frame[at] = if rng.chance(50) { frame[at] ^ (1 << rng.below(8)) } else { rng.next() as u8 };
        }
    }
}

/// Any packet: mostly as hosts send it, sometimes disturbed, seldom damaged.
pub(super) fn packet(world: &World, rng: &mut Rng) -> Packet {
    let mut draft = draft(world, rng);
    while rng.chance(35) {
        disturb(&mut draft, world, rng);
    }
    let mut packet = draft.packet();
    if rng.chance(6) {
        damage(&mut packet.frame, rng);
    }
    clear_drop_eligible(&mut packet.frame);
    // The harness's own sentinel has this type.
    if packet.frame.get(12..14) == Some(&[0x88, 0xb5]) {
        packet.frame[13] = 0xb6;
    }
    packet
}

/// Clears the DEI bit of the outer tag. Ports that a flood reaches behind an access port get a new tag, without it.
pub(super) fn clear_drop_eligible(frame: &mut [u8]) {
    if frame.get(12..14) == Some(&[0x81, 0x00]) {
        frame.iter_mut().skip(14).take(1).for_each(|byte| *byte &= !0x10);
    }
}
