//! Choosing one packet out of a set: the most familiar one.
//!
//! A counterexample should look like a packet people know, and differ from an innocent one in as little as possible:
//! untagged, from the port's own addresses, TCP or UDP, well-known ports, in a new connection. The wishes
//! are tried in order; one that no packet of the set fulfils is passed over.

use crate::{
    frames,
    ports::{Pair, Port},
    predicate::Predicate,
    set::{Literal, PacketSets},
    symkey::{Form, SymKey},
    vars,
};
use flowproof_packet::{Field, FlowKey, MacAddr};
use flowproof_switch::conntrack::{CtInfo, Tuple, state};

/// Wishes that are put together before the set is narrowed: more of them grow too much among themselves.
const TOGETHER: usize = 8;
const BROADCAST: u64 = 0xffff_ffff_ffff;
/// All hosts: the group MAC that belongs to ff02::1.
const ALL_NODES_MAC: u64 = 0x3333_0000_0001;
/// A machine beyond the uplink; locally administered.
pub const REMOTE_MAC: u64 = 0x0200_0000_0001;
/// An address that nobody has; locally administered.
const NOBODY_MAC: u64 = 0x0200_0000_0099;
/// From the documentation ranges of RFC 5737 and RFC 3849.
const NOBODY_IPV4: u32 = 0xcb00_7105;
const REMOTE_IPV4: u32 = 0xcb00_7107;
const REMOTE_IPV6: u128 = 0x2001_0db8 << 96 | 7;
const ROUTER_IPV6: u128 = 0xfe80 << 112 | 1;
const ALL_NODES: u128 = 0xff02 << 112 | 1;

/// One packet, and what connection tracking says of it at each nesting depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whole datagram or fragments of it.
    pub form: Form,
    /// The datagram as it is sent.
    pub sent: FlowKey,
    /// What fragments show as protocol.
    pub shown_proto: u8,
    /// The answers of connection tracking, outermost first.
    pub answers: Vec<CtInfo>,
}

/// The most familiar member of `set`; `None` if it is empty.
pub fn choose<S: PacketSets>(
    sets: &mut S,
    set: S::Set,
    form: Form,
    wishes: &[Predicate],
    recirculations: u16,
) -> Option<Choice> {
    Wishes::new(sets, wishes).choose(sets, set, form, recirculations)
}

/// What is wished of packets, as sets: for those who choose often.
#[derive(Clone, Debug)]
pub struct Wishes<Set> {
    packet: Vec<Set>,
    answers: Vec<Vec<Set>>,
}

impl<Set: Copy + PartialEq + std::fmt::Debug> Wishes<Set> {
    /// The wishes, in their order, and that a fragment shows its datagram's protocol.
    pub fn new<S: PacketSets<Set = Set>>(sets: &mut S, wishes: &[Predicate]) -> Self {
        let mut packet: Vec<Set> = wishes.iter().map(|wish| wish.to_set(sets)).collect();
        packet.push(same_proto(sets));
        Self { packet, answers: Vec::new() }
    }

    /// The most familiar member of `set`; `None` if it is empty.
    pub fn choose<S: PacketSets<Set = Set>>(
        &mut self,
        sets: &mut S,
        set: Set,
        form: Form,
        recirculations: u16,
    ) -> Option<Choice> {
        while self.answers.len() < usize::from(recirculations) {
            let depth = self.answers.len() as u16;
            self.answers.push(calm_answer(depth).iter().map(|literals| sets.cube(literals)).collect());
        }
        let answers = self.answers.iter().take(usize::from(recirculations)).flatten();
        let answers: Vec<Set> = answers.copied().collect();
        let mut chosen = set;
        // What is wished is small and what it is asked of may be large: a few wishes are put together before a set is made.
        for some in answers.chunks(TOGETHER).chain(self.packet.chunks(TOGETHER)) {
            let wanted = some.iter().fold(sets.all(), |wanted, wish| {
                let narrowed = sets.and(wanted, *wish);
                if sets.meet(chosen, narrowed) { narrowed } else { wanted }
            });
            chosen = sets.and(chosen, wanted);
        }
        sets.member(chosen).map(|literals| assemble(&literals, form, recirculations))
    }
}

/// The connection that is shown, of the packet's own family.
pub(crate) fn tuple(number: &mut dyn FnMut(Field) -> u128, ipv6: bool) -> Tuple {
    let (src, dst) =
        if ipv6 { (Field::CtIpv6Src, Field::CtIpv6Dst) } else { (Field::CtNwSrc, Field::CtNwDst) };
    Tuple {
        src: number(src),
        dst: number(dst),
        ipv6,
        proto: number(Field::CtNwProto) as u8,
        tp_src: number(Field::CtTpSrc) as u16,
        tp_dst: number(Field::CtTpDst) as u16,
    }
}

/// Fragments show the datagram's own protocol.
fn same_proto<S: PacketSets>(sets: &mut S) -> S::Set {
    let pairs: Vec<_> = vars::sent(Field::NwProto).zip(vars::fragment_proto()).collect();
    pairs.into_iter().fold(sets.all(), |equal, (sent, shown)| {
        let (ones, zeros) =
            (sets.cube(&[(sent, true), (shown, true)]), sets.cube(&[(sent, false), (shown, false)]));
        let bit = sets.or(ones, zeros);
        sets.and(equal, bit)
    })
}

/// A new connection, in its original direction, unmarked, unlabelled; what is shown of another one is UDP's or TCP's.
pub(crate) fn calm_answer(depth: u16) -> Vec<Vec<Literal>> {
    let bit = |flag: u32| vars::tracked(depth, Field::CtState).rev().nth(flag.trailing_zeros() as usize);
    let zero = |field| vars::tracked(depth, field).map(|var| (var, false)).collect();
    let mut wishes: Vec<Vec<Literal>> = Vec::new();
    wishes.extend(bit(state::NEW).map(|var| vec![(var, true)]));
    wishes.extend(bit(state::INV).map(|var| vec![(var, false)]));
    wishes.extend(bit(state::RPL).map(|var| vec![(var, false)]));
    wishes.extend([zero(Field::CtMark), zero(Field::CtLabel)]);
    wishes.extend([17u8, 6].map(|protocol| {
        let bits = vars::tracked(depth, Field::CtNwProto).rev().enumerate();
        bits.map(|(bit, var)| (var, protocol >> bit & 1 == 1)).collect()
    }));
    wishes
}

fn assemble(literals: &[Literal], form: Form, recirculations: u16) -> Choice {
    let on: std::collections::BTreeSet<_> = literals.iter().filter(|l| l.1).map(|l| l.0).collect();
    let number = |run: &mut dyn Iterator<Item = vars::Var>| {
        run.fold(0u128, |sum, var| sum << 1 | u128::from(on.contains(&var)))
    };
    let mut sent = FlowKey::default();
    for var in on.iter().filter(|var| usize::from(var.0) < flowproof_packet::key::BITS) {
        sent.set_bit(var.0, true);
    }
    frames::complete_tag(&mut sent);
    let is_v6 = sent.get(Field::DlType) == 0x86dd;
    let answer = |depth| CtInfo {
        state: number(&mut vars::tracked(depth, Field::CtState)) as u32 | state::TRK,
        mark: number(&mut vars::tracked(depth, Field::CtMark)) as u32,
        label: number(&mut vars::tracked(depth, Field::CtLabel)),
        orig: Some(tuple(&mut |field| number(&mut vars::tracked(depth, field)), is_v6)),
        unknown: None,
    };
    let shown_proto = number(&mut vars::fragment_proto()) as u8;
    Choice { form, sent, shown_proto, answers: (0..recirculations).map(answer).collect() }
}

/// Fields that ordinary frames have, for which more particular things are wished.
const ORDINARY: &[Field] = &[
    Field::DlSrc,
    Field::DlDst,
    Field::DlType,
    Field::VlanTci,
    Field::NwSrc,
    Field::NwDst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::Ipv6Label,
    Field::NwProto,
    Field::NwTos,
    Field::NwTtl,
    Field::ArpSha,
    Field::ArpTha,
    Field::TcpSrc,
    Field::TcpDst,
    Field::TcpFlags,
    Field::NdTarget,
    Field::NdReserved,
    Field::NdOptionsType,
    Field::MplsLabel,
    Field::MplsTc,
    Field::MplsBos,
    Field::MplsTtl,
];

fn when(condition: Predicate, then: Predicate) -> Predicate {
    condition.negate().or(then)
}

/// What to wish of a packet that `port` sends; `others` are the filtered ports beside it.
#[must_use]
pub fn wishes(port: &Port, others: &[&Port]) -> Vec<Predicate> {
    let mut wishes = vec![Predicate::is(Field::VlanTci, 0u8)];
    addresses(&mut wishes, Field::DlSrc, mac_pool(port, others, &[NOBODY_MAC]));
    addresses(&mut wishes, Field::DlType, [0x0800u16, 0x86dd, 0x0806, 0x8035, 0x88b5]);
    let arp = || Predicate::is(Field::DlType, 0x0806u16);
    wishes.push(when(arp(), Predicate::is(Field::ArpOp, 2u8)));
    transport(&mut wishes);
    destination(&mut wishes, port, others);
    let own4 = port.pairs4.iter();
    addresses(&mut wishes, Field::NwSrc, ips(own4, others, |p| &p.pairs4).chain([u128::from(NOBODY_IPV4)]));
    addresses(
        &mut wishes,
        Field::Ipv6Src,
        ips(port.pairs6.iter(), others, |p| &p.pairs6).chain([ROUTER_IPV6]),
    );
    wishes.push(when(arp(), Predicate::Same(Field::DlSrc, Field::ArpSha)));
    let visible = arp().or(icmpv6(135)).or(icmpv6(136));
    wishes.push(when(icmpv6(135), Predicate::Same(Field::DlSrc, Field::NdSll)));
    addresses(&mut wishes, Field::ArpSha, mac_pool(port, others, &[NOBODY_MAC]));
    wishes.push(when(visible.negate(), Predicate::is(Field::ArpSha, 0u8)));
    let own = port.macs.iter().next().map_or(0, |mac| mac.to_bits());
    wishes.push(when(icmpv6(136), Predicate::is(Field::NdTll, own)));
    addresses(&mut wishes, Field::NdTll, [0].into_iter().chain(mac_pool(port, others, &[NOBODY_MAC])));
    addresses(
        &mut wishes,
        Field::NdTarget,
        ips(port.pairs6.iter(), others, |p| &p.pairs6).chain([ROUTER_IPV6]),
    );
    wishes
        .extend([when(icmpv6_any(), Predicate::is(Field::NwTtl, 255u8)), Predicate::is(Field::NwTtl, 64u8)]);
    // Nothing that an ordinary frame does not have.
    let rare = |field: &Field| SymKey::is_sent(*field) && !(ORDINARY.iter().any(|of| of.overlaps(*field)));
    let rare: Vec<Predicate> = Field::all().filter(rare).map(|field| Predicate::is(field, 0u8)).collect();
    wishes.push(Predicate::All(rare.clone()));
    wishes.extend(rare);
    let rest = [
        Field::NwTos,
        Field::Ipv6Label,
        Field::MplsLabel,
        Field::MplsTc,
        Field::MplsBos,
        Field::MplsTtl,
        Field::NdReserved,
        Field::NdOptionsType,
        Field::TcpFlags,
    ];
    wishes.extend(rest.into_iter().map(|field| Predicate::is(field, 0u8)));
    wishes
}

fn addresses(wishes: &mut Vec<Predicate>, field: Field, pool: impl IntoIterator<Item = impl Into<u128>>) {
    wishes.extend(first_of(field, pool.into_iter().map(Into::into).collect()));
}

/// One of the pool rather than none; and the earlier in the pool the better.
fn first_of(field: Field, pool: Vec<u128>) -> Vec<Predicate> {
    let mut wishes = vec![Predicate::one_of(field, pool.iter().copied())];
    wishes.extend((1..pool.len()).rev().map(|n| Predicate::one_of(field, pool.iter().copied().take(n))));
    wishes
}

fn mac_pool(port: &Port, others: &[&Port], more: &[u64]) -> impl Iterator<Item = u128> {
    let bits = |mac: &MacAddr| u128::from(mac.to_bits());
    let all: Vec<u128> = port
        .macs
        .iter()
        .map(bits)
        .chain(others.iter().flat_map(|p| p.macs.iter().map(bits)).take(4))
        .collect();
    all.into_iter().chain(more.iter().map(|mac| u128::from(*mac)).collect::<Vec<_>>())
}

fn ips<'a>(
    own: impl Iterator<Item = &'a Pair>,
    others: &[&'a Port],
    pairs: fn(&'a Port) -> &'a std::collections::BTreeSet<Pair>,
) -> impl Iterator<Item = u128> {
    let all: Vec<u128> =
        own.chain(others.iter().flat_map(|port| pairs(port)).take(4)).map(|pair| pair.address).collect();
    all.into_iter()
}

fn icmpv6_any() -> Predicate {
    Predicate::is(Field::DlType, 0x86ddu16).and(Predicate::is(Field::NwProto, 58u8))
}

fn icmpv6(kind: u8) -> Predicate {
    icmpv6_any().and(Predicate::is(Field::Icmpv6Type, kind)).and(Predicate::is(Field::Icmpv6Code, 0u8))
}

fn transport(wishes: &mut Vec<Predicate>) {
    let ipv4 = || Predicate::is(Field::DlType, 0x0800u16);
    let proto = |value: u8| Predicate::is(Field::NwProto, value);
    let is_ip = Predicate::one_of(Field::DlType, [0x0800u16, 0x86dd]);
    wishes.push(when(is_ip, Predicate::one_of(Field::NwProto, [6u8, 17, 1, 58])));
    wishes.push(when(ipv4(), Predicate::one_of(Field::NwProto, [6u8, 17, 1])));
    let arp = || Predicate::one_of(Field::DlType, [0x0806u16, 0x8035]);
    wishes.extend([arp().or(proto(6)).or(proto(17)), arp().or(proto(6))]);
    wishes.push(when(proto(6), Predicate::is(Field::TcpFlags, 2u8)));
    wishes.push(when(proto(17), Predicate::one_of(Field::UdpDst, [53u16, 67, 547, 68, 546])));
    wishes.push(when(proto(17), Predicate::one_of(Field::UdpSrc, [40000u16, 68, 546, 67, 547])));
    wishes.push(when(proto(17), Predicate::is(Field::UdpDst, 53u16)));
    wishes.push(when(proto(17), Predicate::is(Field::UdpSrc, 40000u16)));
    wishes.push(when(proto(6), Predicate::is(Field::TcpDst, 80u16)));
    wishes.push(when(proto(6), Predicate::is(Field::TcpSrc, 40000u16)));
    let echo = |family: Predicate, protocol: u8, kind: u8| {
        when(family.and(proto(protocol)), Predicate::is(Field::TcpSrc, kind))
    };
    wishes.push(echo(ipv4(), 1, 8));
    wishes.push(when(icmpv6_any(), Predicate::one_of(Field::Icmpv6Type, [128u8, 133, 134, 135, 136])));
    for kind in [128, 136, 135] {
        wishes.push(echo(Predicate::is(Field::DlType, 0x86ddu16), 58, kind));
    }
    wishes.push(when(icmpv6_any().or(proto(1)), Predicate::is(Field::TcpDst, 0u8)));
}

/// A MAC that is no port's, and so not the source either: what goes to its own source `NORMAL` never delivers.
fn remote_mac(port: &Port, others: &[&Port]) -> u64 {
    let local = |mac: &u64| {
        let mac = MacAddr::from_bits(*mac);
        port.macs.contains(&mac) || others.iter().any(|other| other.macs.contains(&mac))
    };
    (REMOTE_MAC..NOBODY_MAC).find(|mac| !local(mac)).unwrap_or(REMOTE_MAC)
}

/// The destinations that [`wishes`] ask for: somebody beyond the uplink, everybody, some of the `others`.
#[must_use]
pub fn destinations(port: &Port, others: &[&Port]) -> Vec<u64> {
    let local = others.iter().flat_map(|port| port.macs.iter()).map(|mac| mac.to_bits()).take(4);
    [remote_mac(port, others), BROADCAST, ALL_NODES_MAC].into_iter().chain(local).collect()
}

fn destination(wishes: &mut Vec<Predicate>, port: &Port, others: &[&Port]) {
    let remote = remote_mac(port, others);
    let dhcp = Predicate::one_of(Field::UdpDst, [67u16, 68]).and(Predicate::is(Field::NwProto, 17u8));
    let dhcp = dhcp.and(Predicate::is(Field::DlType, 0x0800u16));
    let everyone = dhcp.or(Predicate::one_of(Field::DlType, [0x0806u16, 0x8035]));
    let multicast = icmpv6_any().and(Predicate::one_of(Field::Icmpv6Type, (130..=137).chain([143u8])));
    let neither = everyone.clone().or(multicast.clone()).negate();
    wishes.push(when(everyone, Predicate::is(Field::DlDst, BROADCAST)));
    wishes.push(when(multicast, Predicate::is(Field::DlDst, ALL_NODES_MAC)));
    wishes.push(when(neither, Predicate::is(Field::DlDst, remote)));
    addresses(wishes, Field::DlDst, destinations(port, others));
    for other in others.iter().take(4) {
        for pair in other.pairs4.iter().take(1) {
            wishes.push(when(
                Predicate::is(Field::DlDst, pair.mac.to_bits()),
                Predicate::is(Field::NwDst, pair.address),
            ));
        }
        for pair in other.pairs6.iter().take(1) {
            wishes.push(when(
                Predicate::is(Field::DlDst, pair.mac.to_bits()),
                Predicate::is(Field::Ipv6Dst, pair.address),
            ));
        }
    }
    let ip_broadcast = Predicate::is(Field::DlDst, BROADCAST).and(Predicate::is(Field::DlType, 0x0800u16));
    wishes.push(when(ip_broadcast, Predicate::is(Field::NwDst, u32::MAX)));
    wishes.push(when(Predicate::is(Field::DlDst, ALL_NODES_MAC), Predicate::is(Field::Ipv6Dst, ALL_NODES)));
    wishes.extend([Predicate::is(Field::NwDst, REMOTE_IPV4), Predicate::is(Field::Ipv6Dst, REMOTE_IPV6)]);
}
