//! What rules alone say of a reply or an error: what the layout `strict` goes by, whose flows do not remember to whom
//! the first packet of a connection was delivered.
//!
//! Invariant: what passes or never passes without rules, and whoever is not filtered, is as the model has it; an end
//! with rules lets pass what the rules that concern the connection's first packet admit, turned round where it goes
//! back. Deliberately absent: who took part, but for telling whether that is what this is about.
//! Source: compiler/DIVERGENCES.md, `strict`.

use crate::allowed::target;
use crate::case::Case;
use crate::compare::{Class, Difference};
use crate::mistaken::PORTLESS;
use crate::run::Observation;
use crate::scenario::{Target, switches_of};
use crate::watch::is_of;
use flowproof_compiler::Layout;
use flowproof_model::frame::{Datagram, Frame, Icmp, Payload, Upper};
use flowproof_model::history::Place;
use flowproof_model::policy::{Direction, Policy, Port};
use flowproof_model::rules::admits;
use flowproof_model::verdict::{Reason, Refusal, Verdict};
use flowproof_model::world::Origin;
use flowproof_packet::wire::proto;
use flowproof_switch::conntrack::{CtInfo, Tuple, state};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A packet that connection tracking calls a reply or an error.
pub(crate) struct Answer<'s> {
    seen: &'s Observation,
    tracked: CtInfo,
    /// A packet of the original direction, as the ends of this one would have sent it to each other.
    opening: Frame,
}

impl<'s> Answer<'s> {
    /// The packet of an observation, if connection tracking calls it that.
    pub(crate) fn of(seen: &'s Observation, frame: &Frame) -> Option<Self> {
        let lookups = seen.answers.iter().filter(|answer| !answer.commit);
        let tracked = *lookups.flat_map(|answer| &answer.infos).last()?;
        let opening = opening(frame, &tracked)?;
        Some(Self { seen, tracked, opening })
    }

    /// A reply, or an error.
    pub(crate) const fn class(&self) -> Class {
        if self.tracked.state & state::REL != 0 { Class::Related } else { Class::Reply }
    }

    /// Whether connection tracking keeps no ports for the protocol of the connection.
    fn has_no_ports(&self) -> bool {
        self.tracked
            .orig
            .is_some_and(|orig| PORTLESS.contains(&orig.proto) && (orig.tp_src, orig.tp_dst) == (0, 0))
    }

    /// Whether it goes against the direction of the connection's first packet.
    const fn goes_back(&self) -> bool {
        self.tracked.state & state::RPL != 0
    }

    /// Whether it goes from one of those between whom its connection was admitted to the other.
    pub(crate) fn is_between_participants(&self, to: &Target) -> bool {
        let from = match &self.seen.arrival.origin {
            Origin::Port(id) => Place::Port(id.clone()),
            Origin::Network(_) | Origin::Unprovisioned => Place::Elsewhere,
        };
        let its_own = |one: &&(_, _)| self.tracked.orig.is_some_and(|orig| is_of(&one.0, &orig));
        self.seen.connections.iter().filter(its_own).any(|(_, connection)| {
            let receives = |place: &Place| target(place) == *to;
            let (opened_to_it, opened_by_it) =
                (connection.receivers.iter().any(receives), receives(&connection.sender));
            if self.goes_back() {
                opened_by_it && connection.receivers.contains(&from)
            } else {
                opened_to_it && connection.sender == from
            }
        })
    }

    /// Whether rules alone let a receiver have it; nothing if the model knows no such receiver.
    pub(crate) fn passes(&self, to: &Target) -> Option<bool> {
        self.passes_under(&self.seen.policy, to)
    }

    /// The same if this were the policy.
    fn passes_under(&self, policy: &Policy, to: &Target) -> Option<bool> {
        let outcome = &self.seen.model.iter().find(|one| target(&one.to) == *to)?.outcome;
        let (sends, receives) = if self.goes_back() {
            (Direction::Ingress, Direction::Egress)
        } else {
            (Direction::Egress, Direction::Ingress)
        };
        let ports = &policy.ports;
        let sender = match &self.seen.arrival.origin {
            Origin::Port(id) => ports.get(id),
            Origin::Network(_) | Origin::Unprovisioned => None,
        };
        let receiver = match to {
            Target::Port(id) => ports.get(id),
            Target::Elsewhere => None,
        };
        let ends = [(&outcome.egress, sender, sends), (&outcome.ingress, receiver, receives)];
        Some(ends.into_iter().all(|end| self.end(policy, end)))
    }

    /// Whether nothing is wrong but that nobody gets it, and rules alone, if this were the policy, say so.
    fn is_withheld(&self, policy: &Policy) -> bool {
        self.seen.differences.iter().all(|one| {
            matches!(one, Difference::OverBlocked { to } if self.passes_under(policy, to) == Some(false))
        })
    }

    /// Whether its connection is one that a DHCP client began.
    fn is_about_dhcp(&self) -> bool {
        let ends = self.opening.datagram().map(|datagram| (datagram.protocol, &datagram.upper));
        let requests = [(68, 67), (546, 547)];
        matches!(ends, Some((proto::UDP, Upper::Ports { src, dst })) if requests.contains(&(*src, *dst)))
    }

    fn end(&self, policy: &Policy, (verdict, port, direction): (&Verdict, Option<&Port>, Direction)) -> bool {
        let (Some(port), Some(datagram)) = (port, self.opening.datagram()) else { return true };
        match verdict {
            Verdict::Admit(Reason::Rule(_) | Reason::Reply | Reason::Related)
            | Verdict::Drop(Refusal::NoRule | Refusal::Revoked) => {
                let switches = switches_of(Some(Layout::Strict));
                admits((policy, &switches), (port, direction), &self.opening, datagram)
            }
            Verdict::Admit(_) => true,
            Verdict::Drop(_) => false,
        }
    }
}

impl Case<'_> {
    /// Whether another host reports an error of a connection whose other end is a filtered port of this host.
    pub(crate) fn reports_on_neighbours(&self) -> bool {
        let other = self.frame.datagram().and_then(|datagram| match &datagram.upper {
            Upper::Icmp(Icmp { quoted, .. }) => quoted.as_ref().map(|quoted| quoted.dst),
            Upper::Ports { .. } | Upper::Unseen => None,
        });
        let has = |port: &Port| port.is_filtered() && other.is_some_and(|ip| port.fixed_ips.contains(&ip));
        self.sender.is_none() && self.any_port(has)
    }

    fn error(&self) -> Option<Answer<'_>> {
        Answer::of(self.seen, &self.frame).filter(|answer| answer.class() == Class::Related)
    }

    /// Whether it is an error that nobody gets because its connection has other ports to the rules than to connection
    /// tracking, which has none.
    pub(crate) fn is_error_without_ports(&self) -> bool {
        self.error().is_some_and(|error| error.has_no_ports() && error.is_withheld(&self.seen.policy))
    }

    /// Whether it is an error about a DHCP request, which rules alone do not let back to a client that needed none.
    pub(crate) fn is_about_a_request(&self) -> bool {
        self.error().is_some_and(|error| error.is_about_dhcp() && error.is_withheld(&self.seen.policy))
    }

    /// Whether rules withhold it as soon as no member may use every address but under a MAC that it shows.
    pub(crate) fn is_told_by_mac(&self) -> bool {
        let mut policy = self.seen.policy.clone();
        let shown = [self.frame.src, self.frame.dst];
        for port in policy.ports.values_mut() {
            port.address_pairs.retain(|pair| pair.prefix.prefix_len() > 0 || shown.contains(&pair.mac));
        }
        Answer::of(self.seen, &self.frame).is_some_and(|answer| answer.is_withheld(&policy))
    }
}

/// A frame of the original direction of a connection that this one answers or reports about.
fn opening(frame: &Frame, tracked: &CtInfo) -> Option<Frame> {
    let (related, back) = (tracked.state & state::REL != 0, tracked.state & state::RPL != 0);
    let (datagram, orig) = (frame.datagram()?, tracked.orig?);
    let datagram = match (related, back) {
        (true, _) => of_tuple(&orig),
        (false, true) => turned(datagram, &orig),
        (false, false) => return None,
    };
    let (src, dst) = if back { (frame.dst, frame.src) } else { (frame.src, frame.dst) };
    Some(Frame { src, dst, vlan: frame.vlan, payload: Payload::Ip(datagram) })
}

const fn query(tuple: &Tuple) -> Upper {
    let (kind, code) = (tuple.tp_src as u8, tuple.tp_dst as u8);
    Upper::Icmp(Icmp { kind, code, ident: 0, neighbour: None, quoted: None })
}

/// A datagram as connection tracking remembers it.
fn of_tuple(tuple: &Tuple) -> Datagram {
    let address = |bits: u128| match tuple.ipv6 {
        true => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        false => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
    };
    let upper = match tuple.proto {
        proto::ICMP | proto::ICMPV6 => query(tuple),
        proto::TCP | proto::UDP | proto::SCTP => Upper::Ports { src: tuple.tp_src, dst: tuple.tp_dst },
        _ => Upper::Unseen,
    };
    Datagram { src: address(tuple.src), dst: address(tuple.dst), protocol: tuple.proto, upper }
}

/// A reply turned round; what it answers, if it is ICMP, is what connection tracking remembers.
fn turned(reply: &Datagram, tuple: &Tuple) -> Datagram {
    let upper = match &reply.upper {
        Upper::Ports { src, dst } => Upper::Ports { src: *dst, dst: *src },
        Upper::Icmp(_) => query(tuple),
        Upper::Unseen => Upper::Unseen,
    };
    Datagram { src: reply.dst, dst: reply.src, protocol: reply.protocol, upper }
}
