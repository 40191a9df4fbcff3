//! The questions of section D: between which two places, and what the intent says there.
//!
//! Invariant: what a sender does wrong by itself, whoever receives it, is judged by the properties of what a VM sends
//! (its MACs, addresses, ARP, neighbour discovery, DHCP and router messages, tags, ethertypes); the questions here are
//! about the frames that obey them. Both together say that tables and intent agree. Group addresses are left to the properties of
//! isolation.

use super::{
    encode::{Admission, Standing, Words, group_addressed, headless, unread_discovery},
    site::{Entrance, Site, Target},
};
use crate::{frames, ports, predicate::Predicate, properties, symkey::Form};
use flowproof_model::policy::{Binding, Direction, Port};
use flowproof_switch::{conntrack::Profile, flow::Flow};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Placement {
    /// Somebody on another host.
    Remote,
    /// A filtered port of this host.
    LocalFiltered,
    /// A port of this host that nobody filters.
    LocalUnfiltered,
}

impl Placement {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 3] = [Self::Remote, Self::LocalFiltered, Self::LocalUnfiltered];

    /// The word in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::LocalFiltered => "local-filtered",
            Self::LocalUnfiltered => "local-unfiltered",
        }
    }
}

/// Which of the two directions of agreement is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Theorem {
    /// What is delivered may be.
    Sound,
    /// What must be delivered is.
    Complete,
    /// What creates an entry in connection tracking is delivered.
    Commit,
    /// What opens a connection and is delivered creates an entry.
    Delivery,
    /// What is marked is no longer admitted, and the other way round.
    Mark,
}

/// Frames from one place to another.
#[derive(Clone, Debug)]
pub struct Way<'a> {
    /// Where they come in.
    pub entrance: Entrance,
    /// The sender, if it is here.
    pub sender: Option<&'a Port>,
    /// The receiver, if it is here.
    pub receiver: Option<(&'a Port, Binding)>,
    /// Where they are to arrive.
    pub target: Target,
}

/// All ways of one direction and placement for one port.
#[derive(Clone, Debug)]
pub struct Facet<'a> {
    /// From the port or to it.
    pub direction: Direction,
    /// Who is at the other end.
    pub placement: Placement,
    /// The ways; none if nobody is there.
    pub ways: Vec<Way<'a>>,
}

fn placement(port: &Port) -> Placement {
    if port.is_filtered() { Placement::LocalFiltered } else { Placement::LocalUnfiltered }
}

/// What is asked about `port`: what it sends to anybody, and what it receives from those who are not filtered themselves
/// (what filtered ports send to it is asked about them).
#[must_use]
pub fn facets<'a>(site: &'a Site, port: &'a Port, binding: Binding, flows: &[Flow]) -> Vec<Facet<'a>> {
    let neighbours = site.neighbours(port);
    let to = |(other, at): &(&'a Port, Binding)| Way {
        entrance: site.entrance(binding),
        sender: Some(port),
        receiver: Some((*other, *at)),
        target: Target::Local(at.ofport, at.vlan),
    };
    let from = |entrance, sender| Way {
        entrance,
        sender,
        receiver: Some((port, binding)),
        target: Target::Local(binding.ofport, binding.vlan),
    };
    let of = |wanted: Placement| neighbours.iter().filter(move |(other, _)| placement(other) == wanted);
    let beyond =
        Way { entrance: site.entrance(binding), sender: Some(port), receiver: None, target: Target::Remote };
    let arrivals = site.arrivals(&port.network, binding.vlan, flows);
    let unfiltered = of(Placement::LocalUnfiltered);
    let facet = |direction, placement, ways| Facet { direction, placement, ways };
    let all = vec![
        facet(Direction::Egress, Placement::Remote, vec![beyond]),
        facet(Direction::Egress, Placement::LocalFiltered, of(Placement::LocalFiltered).map(to).collect()),
        facet(
            Direction::Egress,
            Placement::LocalUnfiltered,
            of(Placement::LocalUnfiltered).map(to).collect(),
        ),
        facet(
            Direction::Ingress,
            Placement::Remote,
            arrivals.into_iter().map(|entrance| from(entrance, None)).collect(),
        ),
        facet(
            Direction::Ingress,
            Placement::LocalUnfiltered,
            unfiltered.map(|(other, at)| from(site.entrance(*at), Some(*other))).collect(),
        ),
    ];
    all.into_iter().filter(|facet| facet.placement == Placement::Remote || !facet.ways.is_empty()).collect()
}

/// What a `subject` sends that no property of what a VM sends objects to.
fn obedient(subject: &ports::Port) -> Predicate {
    let judged = properties::SENDER.iter().filter(|property| {
        !property.name.ends_with("-strict")
            && !matches!(property.judge, properties::Judge::FragmentsLikeWholes)
    });
    Predicate::All(judged.map(|property| properties::violation(property, subject).negate()).collect())
}

/// The frames that come in at the beginning of a way, to whomever. Neighbour discovery whose code is not 0 is left out:
/// receivers ignore it (RFC 4861), and neither switch nor [`properties`] look into it; so are datagrams that end within
/// their headers.
#[must_use]
pub fn entering(way: &Way<'_>, subject: &ports::Port) -> Predicate {
    let read = unread_discovery().or(headless()).negate();
    let mut parts = vec![way.entrance.frames.clone(), group_addressed().negate(), read];
    if way.sender.is_some_and(Port::is_filtered) {
        parts.push(obedient(subject));
    }
    Predicate::All(parts)
}

/// Those of them that are for the receiver. `alone` leaves out MACs that several ports share.
#[must_use]
pub fn addressed(site: &Site, way: &Way<'_>, alone: bool) -> Predicate {
    match (way.receiver, way.sender) {
        (Some((receiver, _)), _) => site.addressed(receiver, alone),
        (None, Some(sender)) => site.addressed_beyond(sender),
        (None, None) => Predicate::never(),
    }
}

/// What the intent says about a way's frames, at the sender's end and at the receiver's.
#[must_use]
pub fn admissions(words: Words<'_>, way: &Way<'_>, standing: Standing) -> (Admission, Admission) {
    let sends = way.sender.map_or_else(Admission::unfiltered, |port| words.sends(port, standing));
    let receives =
        way.receiver.map_or_else(Admission::unfiltered, |(port, _)| words.receives(port, standing));
    (sends, receives)
}

/// What a datapath has to deliver of frames of a form. What passes without a rule has to pass unfragmented only: DHCP
/// messages fit a frame, and fragmented neighbour discovery is void (RFC 6980). Where fragments are not reassembled,
/// rules that need ports cannot be held against them.
#[must_use]
pub fn required(
    words: Words<'_>,
    way: &Way<'_>,
    standing: Standing,
    form: Form,
    profile: Profile,
) -> Predicate {
    let (sends, receives) = admissions(words, way, standing);
    let must = sends.must.and(receives.must);
    if form == Form::Whole {
        return must;
    }
    let seen = |port: &Port, direction| match (standing, profile.reassembles()) {
        (Standing::ByRule, false) => words.rules_without_ports(port, direction),
        _ => Predicate::always(),
    };
    let sent = way
        .sender
        .filter(|port| port.is_filtered())
        .map(|port| words.sent_by_rule(port, standing).and(seen(port, Direction::Egress)));
    let received = way
        .receiver
        .map(|(port, _)| port)
        .filter(|port| port.is_filtered())
        .map(|port| words.received_by_rule(port, standing).and(seen(port, Direction::Ingress)));
    let divided = crate::symbolic::icmpv6(&NEIGHBOURS).negate();
    Predicate::All([Some(must), Some(divided), sent, received].into_iter().flatten().collect())
}

/// A filtered end of a way, and which of its rules judge there.
fn filtered<'a>(way: &Way<'a>) -> impl Iterator<Item = (&'a Port, Direction)> {
    let receiver = way.receiver.map(|(port, _)| (port, Direction::Ingress));
    let ends = [way.sender.map(|port| (port, Direction::Egress)), receiver];
    ends.into_iter().flatten().filter(|(port, _)| port.is_filtered())
}

/// What opens a connection that the model remembers: both ends let it pass, one of them for no other reason than a rule.
#[must_use]
pub fn opens(words: Words<'_>, way: &Way<'_>) -> Predicate {
    let (sends, receives) = admissions(words, way, Standing::ByRule);
    let by_rule = filtered(way).map(|(port, direction)| words.only_by_rule(port, direction)).collect();
    Predicate::All(vec![sends.must, receives.must, Predicate::Any(by_rule), untracked().negate()])
}

/// What ends a connection if it is a packet of its original direction: the sender's rules do not admit it, or those of
/// the receiver do not. What a sender may send without a rule need not get to the receiver in fragments.
#[must_use]
pub fn revokes(words: Words<'_>, way: &Way<'_>, form: Form) -> Predicate {
    let sent = match way.sender.filter(|port| port.is_filtered()) {
        Some(port) if form == Form::Whole => words.sends(port, Standing::ByRule).may,
        Some(port) => words.only_by_rule(port, Direction::Egress),
        None => Predicate::always(),
    };
    let wants = |(port, direction)| {
        let wants = words.wants_a_rule(port, direction);
        if direction == Direction::Egress { wants } else { wants.and(sent.clone()) }
    };
    Predicate::Any(filtered(way).map(wants).collect())
}

/// What each end lets pass for no other reason than a rule, or because nobody filters there.
#[must_use]
pub fn ruled(words: Words<'_>, way: &Way<'_>) -> Predicate {
    Predicate::All(filtered(way).map(|(port, direction)| words.only_by_rule(port, direction)).collect())
}

/// The local VLAN of the network that a way is in.
#[must_use]
pub fn vlan(way: &Way<'_>) -> Option<u16> {
    way.receiver.map(|(_, binding)| binding.vlan).or(way.entrance.access)
}

/// ICMPv6 of neighbour and router discovery and redirects, which receivers ignore in fragments (RFC 6980).
const NEIGHBOURS: [u8; 5] = [133, 134, 135, 136, 137];

/// ICMPv6 of neighbour and listener discovery, which connection tracking takes no part in.
#[must_use]
pub fn untracked() -> Predicate {
    crate::symbolic::icmpv6(&frames::DISCOVERY)
}
