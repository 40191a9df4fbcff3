//! What an error message may be about: connections that bring about that connection tracking calls it related.
//!
//! A set of packets says of such a message only what lookup sees; what makes it related is the datagram that it quotes.
//! Invariant: the message has the addresses, type and code of the choice. Deliberately absent: errors about queries of
//! ICMP, and errors in fragments.

use super::replay::Case;
use crate::{familiar::Choice, replay::answering, symkey::Form};
use flowproof_model::policy::{Direction, Port, Protocol};
use flowproof_packet::{
    Field, FlowKey,
    build::{ComposeOptions, IcmpError, compose, icmp_error},
};
use flowproof_switch::conntrack::{Tuple, state};
use std::collections::BTreeSet;

/// Source port of who opens a connection, if nothing depends on it.
const SOURCE: u16 = 4000;
/// Destination port, if nothing depends on it and no rule names one.
const SERVICE: (u8, u16) = (17, 53);
/// A destination port that rules hardly name (discard).
const UNNAMED: u16 = 9;
/// Different services that are tried.
const MOST: usize = 8;

/// A connection, and an error about it.
pub(super) struct Report {
    /// The first packet of the connection.
    pub(super) opening: FlowKey,
    /// The other side's answer.
    pub(super) answer: FlowKey,
    /// Whether the error goes to whoever opened it.
    pub(super) back: bool,
    /// The error about the one that its receiver has sent.
    pub(super) error: Vec<u8>,
}

/// What a choice may report about, if it is an error: the connection that connection tracking showed, and others of the
/// same ends.
pub(super) fn reports(case: &Case<'_>, choice: &Choice) -> Vec<Report> {
    let related = |state: u32| state & (state::REL | state::INV) == state::REL;
    let answer = choice.answers.iter().find(|answer| related(answer.state));
    let Some(answer) = answer.filter(|_| choice.form == Form::Whole) else { return Vec::new() };
    let back = answer.state & state::RPL != 0;
    let shown = answer.orig.into_iter().filter(|tuple| has_ports(tuple.proto));
    let opener = if back { Direction::Ingress } else { Direction::Egress };
    let unnamed =
        |tuple: Tuple| Tuple { tp_dst: if tuple.tp_dst == 0 { UNNAMED } else { tuple.tp_dst }, ..tuple };
    let shown = shown.flat_map(|tuple| [tuple, unnamed(tuple)]);
    let mut connections: Vec<Tuple> = shown.map(|tuple| filled(tuple, &choice.sent, back)).collect();
    connections.extend(services(case, opener).into_iter().map(|(proto, tp_dst)| {
        let tuple = Tuple { src: 0, dst: 0, ipv6: is_v6(&choice.sent), proto, tp_src: 0, tp_dst };
        filled(tuple, &choice.sent, back)
    }));
    connections.into_iter().filter_map(|tuple| report(&choice.sent, &tuple, back)).collect()
}

const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132 | 136)
}

fn is_v6(sent: &FlowKey) -> bool {
    sent.get(Field::DlType) == 0x86dd
}

fn ends(ipv6: bool) -> [Field; 2] {
    if ipv6 { [Field::Ipv6Src, Field::Ipv6Dst] } else { [Field::NwSrc, Field::NwDst] }
}

/// A connection between the ends of the error, where it says nothing else.
fn filled(tuple: Tuple, sent: &FlowKey, back: bool) -> Tuple {
    let [mut src, mut dst] = ends(tuple.ipv6).map(|field| sent.get(field));
    if back {
        (src, dst) = (dst, src);
    }
    let or = |value: u128, other: u128| if value == 0 { other } else { value };
    let port = |value: u16, other: u16| if value == 0 { other } else { value };
    Tuple {
        src: or(tuple.src, src),
        dst: or(tuple.dst, dst),
        tp_src: port(tuple.tp_src, SOURCE),
        tp_dst: port(tuple.tp_dst, SERVICE.1),
        ..tuple
    }
}

/// Protocols and ports that the rules of the ends name, for a connection that is opened at this end of the error's way.
fn services(case: &Case<'_>, opener: Direction) -> BTreeSet<(u8, u16)> {
    let (from, to) = (case.way.sender, case.way.receiver.map(|(port, _)| port));
    let (client, server) = if opener == Direction::Egress { (from, to) } else { (to, from) };
    let rules = |port: Option<&Port>, direction: Direction| -> Vec<(u8, u16)> {
        let rules = port.into_iter().flat_map(|port| case.site.policy.rules_of(port));
        let named = |protocol: Protocol| match protocol {
            Protocol::Transport(transport, range) => {
                Some((transport.number(), range.map_or(SERVICE.1, |range| range.min())))
            }
            Protocol::Any | Protocol::Icmp(_) | Protocol::Other(_) => None,
        };
        rules.filter(|rule| rule.direction == direction).filter_map(|rule| named(rule.protocol)).collect()
    };
    let named = rules(client, Direction::Egress).into_iter().chain(rules(server, Direction::Ingress));
    [SERVICE].into_iter().chain(named).take(MOST).collect()
}

/// The packets of a connection, and the error about one of them.
fn report(sent: &FlowKey, tuple: &Tuple, back: bool) -> Option<Report> {
    let mut opening = FlowKey::default();
    let kept = [Field::VlanTci, Field::DlType];
    let [src, dst] = if back { [Field::DlDst, Field::DlSrc] } else { [Field::DlSrc, Field::DlDst] };
    let copied =
        kept.map(|field| (field, field)).into_iter().chain([(Field::DlSrc, src), (Field::DlDst, dst)]);
    copied.for_each(|(to, from)| opening.set(to, sent.get(from)));
    let [from, to] = ends(tuple.ipv6);
    let flags = if tuple.proto == 6 { 2 } else { 0 };
    let values = [
        (Field::NwProto, u128::from(tuple.proto)),
        (Field::NwTtl, 64),
        (from, tuple.src),
        (to, tuple.dst),
        (Field::TcpSrc, u128::from(tuple.tp_src)),
        (Field::TcpDst, u128::from(tuple.tp_dst)),
        (Field::TcpFlags, flags),
    ];
    values.into_iter().for_each(|(field, value)| opening.set(field, value));
    let mut answer = answering(&opening);
    if tuple.proto != 6 {
        answer.set(Field::TcpFlags, 0);
    }
    // Its receiver has sent what it is about.
    let about = compose(if back { &opening } else { &answer }, &ComposeOptions::default());
    let [kind, code] = [Field::Icmpv4Type, Field::Icmpv4Code].map(|field| sent.get(field) as u8);
    let [src, dst] = ends(tuple.ipv6).map(|field| sent.get(field));
    let error = icmp_error(&about, &IcmpError { dst: Some(dst), ..IcmpError::new(kind, code, src) })?;
    Some(Report { opening, answer, back, error })
}
