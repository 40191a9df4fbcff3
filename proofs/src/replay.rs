//! Every packet an engine chooses goes through the interpreter before anyone sees it.
//!
//! The judgement here owes nothing to symbolic execution: the frame is built, sent into a fresh switch, and what
//! comes out is held against the property on the fields that are read back from the frame. Where the choice assumes a
//! connection, packets that create it are looked for first.

use crate::{
    diagram::Host,
    familiar::Choice,
    ports::Port,
    properties::{self, Judge, Property},
    since::whichever,
    symkey::Form,
};
use flowproof_packet::{
    Field, FlowKey, Origin, PortNo,
    build::{ComposeOptions, FragmentExtension, FragmentOptions, compose, fragment_with},
    wire,
};
use flowproof_switch::{
    conntrack::{Profile, state},
    flow::Flow,
    pipeline::{Effect, Outcome, PortConfig, Switch, SwitchConfig},
    table::{FlowId, TieBreak},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

/// Bytes of payload in a datagram that is to be fragmented, and in its first fragment: more than the 1200 bytes
/// below which the userspace datapath calls a first fragment invalid.
const FRAGMENTED_PAYLOAD: usize = 1600;
const FIRST_FRAGMENT: usize = 1400;
/// Connections to try to create before giving up.
const MAX_PRELUDES: usize = 96;
/// An access port beside the others, where a network has only one: what `NORMAL` floods must have somewhere to go.
pub const BYSTANDER: PortNo = 0xfeff;

/// A frame that entered a switch, and what came of it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where it entered.
    pub in_port: PortNo,
    /// The frame.
    pub frame: Vec<u8>,
    /// What came in with it, if that was anything.
    pub beside: Option<Box<FlowKey>>,
    /// What came of it.
    pub outcome: Outcome,
}

impl Sent {
    /// The same without its trace, which is much larger than the path that is kept of it.
    pub(crate) fn untraced(mut self) -> Self {
        self.outcome.trace = None;
        self
    }
}

/// A replay that did what was expected of it.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Packets that set the stage, then the one (or its fragments) in question.
    pub events: Vec<Sent>,
    /// The datagram in question, whole.
    pub datagram: Vec<u8>,
    /// How many of the events set the stage.
    pub prelude: usize,
    /// What was in force while the first of these came, if not the tables in question.
    pub earlier: Option<Earlier>,
    /// How the last one that got anywhere went: tables and flows.
    pub path: Vec<(u8, FlowId)>,
    /// Whether the later of two equal-priority flows had to win.
    pub tie: TieBreak,
    /// For properties that compare a fragment with its datagram: what became of that.
    pub whole: Option<Sent>,
}

/// Flows that were in force before those in question.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The flows.
    pub flows: Vec<Flow>,
    /// How many events they saw.
    pub events: usize,
}

impl Replay {
    /// The flows that are in force in the beginning, if those of the host are so later.
    #[must_use]
    pub fn first_flows<'a>(&'a self, host: &'a Host) -> &'a [Flow] {
        self.earlier.as_ref().map_or(host.tables.flows(), |earlier| &earlier.flows)
    }

    /// Whether the event at this place is the first that the host's flows see, instead of others before.
    #[must_use]
    pub fn is_exchanged_before(&self, event: usize) -> bool {
        self.earlier.as_ref().is_some_and(|earlier| earlier.events == event)
    }

    /// What it tells, each part from the beginning on a fresh switch: the packets, and where a fragment is held
    /// against its datagram, that one in their stead.
    #[must_use]
    pub fn stories(&self) -> Vec<Vec<&Sent>> {
        let prelude = self.events.iter().take(self.prelude);
        let whole = self.whole.as_ref().map(|whole| prelude.chain([whole]).collect());
        [Some(self.events.iter().collect()), whole].into_iter().flatten().collect()
    }
}

/// What a replay is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The property is violated.
    Violates,
    /// The packet leaves, and violates nothing.
    Leaves,
    /// The packet does not leave.
    Stays,
    /// The property is not violated.
    Innocent,
}

/// The port a choice belongs to, and what it is to show.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The host.
    pub host: &'a Host,
    /// The sender.
    pub port: &'a Port,
    /// The property.
    pub property: &'a Property,
    /// The datapath.
    pub profile: Profile,
    /// What is to be shown.
    pub aim: Aim,
    /// Where it is tried.
    pub stage: &'a Stage,
}

/// Sends `choice` through a fresh switch, in every way that might bring about the connection it assumes, until it
/// shows what it should.
#[must_use]
pub fn replay(case: &Case<'_>, choice: &Choice) -> Option<Replay> {
    shown(case, None, choice)
}

/// The same where the same packets also show what they should in the tables of `before`, whichever of equal flows wins
/// there.
#[must_use]
pub(crate) fn replay_anew(case: &Case<'_>, before: &Case<'_>, choice: &Choice) -> Option<Replay> {
    shown(case, Some(before), choice)
}

fn shown(case: &Case<'_>, before: Option<&Case<'_>>, choice: &Choice) -> Option<Replay> {
    let frames = frames(choice)?;
    let whole = whole(choice);
    let preludes = preludes(case, choice, &whole);
    let with = |tie, prelude: &Vec<(PortNo, Vec<u8>)>| {
        let replay = attempt(case, tie, prelude, (&frames, &whole), choice)?;
        let also =
            |before| whichever(|tie| attempt(before, tie, prelude, (&frames, &whole), choice).is_some());
        before.is_none_or(also).then_some(replay)
    };
    [TieBreak::First, TieBreak::Last]
        .into_iter()
        .find_map(|tie| preludes.iter().find_map(|prelude| with(tie, prelude)))
}

fn attempt(
    case: &Case<'_>,
    tie: TieBreak,
    prelude: &[(PortNo, Vec<u8>)],
    (frames, whole): (&[Vec<u8>], &[u8]),
    choice: &Choice,
) -> Option<Replay> {
    let mut switch = case.stage.switch(case.host, case.port, None, (case.profile, tie));
    let arriving = arriving(choice, case.port.ofport);
    let mut events = Vec::new();
    for (in_port, frame) in prelude {
        let outcome = switch.receive_traced(*in_port, frame);
        events.push(Sent { in_port: *in_port, frame: frame.clone(), beside: None, outcome });
    }
    // What is not modelled may have opened or closed connections.
    if events.iter().any(|sent| sent.outcome.is_opaque()) {
        return None;
    }
    for frame in frames {
        let outcome = switch.receive_with_traced(&arriving, frame);
        let beside = beside(&arriving);
        events.push(Sent { in_port: case.port.ofport, frame: frame.clone(), beside, outcome });
    }
    let sent = events.get(prelude.len()..)?;
    let twin = matches!(case.property.judge, Judge::FragmentsLikeWholes)
        .then(|| unfragmented(case, tie, prelude, whole));
    let shown = match case.aim {
        Aim::Stays => {
            let stays = |sent: &Sent| !escapes(&sent.outcome, case.port.ofport) && !sent.outcome.is_opaque();
            sent.iter().all(stays)
        }
        Aim::Leaves => {
            sent.iter().any(|sent| escapes(&sent.outcome, case.port.ofport))
                && !violates(case, sent, whole, twin.as_ref())
        }
        Aim::Violates => violates(case, sent, whole, twin.as_ref()),
        Aim::Innocent => {
            let known = sent.iter().chain(&twin).all(|sent| !sent.outcome.is_opaque());
            known && !violates(case, sent, whole, twin.as_ref())
        }
    };
    let telling = sent.iter().rev().find(|sent| left(&sent.outcome)).or(sent.last())?;
    let path = telling.outcome.trace.as_ref().map(flowproof_switch::trace::Trace::path).unwrap_or_default();
    let datagram = whole.to_vec();
    let events = events.into_iter().map(Sent::untraced).collect();
    let whole = twin.map(Sent::untraced);
    shown.then_some(Replay { prelude: prelude.len(), earlier: None, path, tie, whole, events, datagram })
}

fn unfragmented(case: &Case<'_>, tie: TieBreak, prelude: &[(PortNo, Vec<u8>)], whole: &[u8]) -> Sent {
    let mut switch = case.stage.switch(case.host, case.port, None, (case.profile, tie));
    for (in_port, frame) in prelude {
        switch.receive(*in_port, frame);
    }
    let outcome = switch.receive_traced(case.port.ofport, whole);
    Sent { in_port: case.port.ofport, frame: whole.to_vec(), beside: None, outcome }
}

/// Whether anything but a drop surely happened to the packet. What is not modelled may be a drop, too.
#[must_use]
pub fn left(outcome: &Outcome) -> bool {
    outcome.effects.iter().any(|effect| match effect {
        Effect::Output { .. } | Effect::Controller { .. } => true,
        Effect::Normal { delivered, .. } => !delivered.is_empty(),
        Effect::Opaque { .. } => false,
    })
}

/// Whether anybody but its sender and the controller surely gets anything of the packet.
#[must_use]
pub fn escapes(outcome: &Outcome, sender: PortNo) -> bool {
    outcome.deliveries().any(|(port, _)| port != sender)
}

/// Whether what became of a datagram, or of all its fragments, violates the property.
pub(crate) fn violates(case: &Case<'_>, sent: &[Sent], whole: &[u8], twin: Option<&Sent>) -> bool {
    let datagram = wire::extract(whole, case.port.ofport);
    if !properties::violation(case.property, case.port).holds(&datagram) {
        return false;
    }
    let escaped = |sent: &Sent| escapes(&sent.outcome, case.port.ofport);
    match case.property.judge {
        Judge::Implication { .. } | Judge::Prohibition { .. } => sent.iter().any(escaped),
        Judge::KeepsVlan => sent.iter().any(|sent| loses_vlan(case, &sent.outcome)),
        Judge::FragmentsLikeWholes => {
            let Some(twin) = twin else { return false };
            let exits = |outcome| exits(outcome, case.port.ofport);
            let allowed = exits(&twin.outcome);
            !twin.outcome.is_opaque() && sent.iter().any(|sent| !exits(&sent.outcome).is_subset(&allowed))
        }
    }
}

/// To whom a packet went but its sender, and in which VLAN.
fn exits(outcome: &Outcome, sender: PortNo) -> BTreeSet<(PortNo, u128)> {
    let vlan = |frame: &[u8]| wire::extract(frame, 0).get(Field::VlanTci);
    let others = outcome.deliveries().filter(|(port, _)| *port != sender);
    others.map(|(port, frame)| (port, vlan(frame))).collect()
}

fn loses_vlan(case: &Case<'_>, outcome: &Outcome) -> bool {
    let members = case.host.members();
    let inside = |port: PortNo, frame: &[u8]| {
        let tci = wire::extract(frame, 0).get(Field::VlanTci);
        let vid = tci & 0x0fff;
        match members.get(&port) {
            Some(network) => *network == case.port.network && vid != 0,
            None => case.port.network.is_some_and(|network| vid == u128::from(network)),
        }
    };
    let mut others = outcome.deliveries().filter(|(port, _)| *port != case.port.ofport);
    others.any(|(port, frame)| !inside(port, frame))
}

/// Where packets are tried: switches with every port that the host's flows name, on which nothing has happened. Filtered ports
/// are access ports of their network. A switch is set up once for all senders that may share it.
#[derive(Default)]
pub struct Stage {
    switches: Mutex<Vec<(Setting, Switch)>>,
}

/// What switches for one host differ in: a port that stands for the rest of a network, one that is known to the sender only,
/// datapath, order of equal flows.
type Setting = (Option<u16>, Option<PortNo>, Profile, TieBreak);

impl Stage {
    /// A switch for what is about `port`; with `beside` as a trunk, if nothing else is known of it.
    pub(crate) fn switch(
        &self,
        host: &Host,
        port: &Port,
        beside: Option<PortNo>,
        (profile, tie): (Profile, TieBreak),
    ) -> Switch {
        let beside = beside.filter(|beside| !is_known(host, *beside));
        let setting = (lonely(host, port), beside, profile, tie);
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, switch)) = switches.iter().find(|(known, _)| *known == setting) {
            return switch.fresh();
        }
        let mut ports = ports(host, port);
        ports.extend(beside.map(PortConfig::trunk));
        let switch = Switch::new(host.tables.switch().clone(), SwitchConfig { ports, profile, tie });
        let fresh = switch.fresh();
        switches.push((setting, switch));
        fresh
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stage")
    }
}

fn is_known(host: &Host, ofport: PortNo) -> bool {
    host.tables.named_ports().binary_search(&ofport).is_ok()
        || host.tags.contains_key(&ofport)
        || host.ports.iter().any(|port| port.ofport == ofport)
}

/// The network of a port that is the only filtered one of it.
fn lonely(host: &Host, port: &Port) -> Option<u16> {
    let others = host.ports.iter().filter(|other| other.network == port.network).take(2);
    port.network.filter(|_| others.count() < 2)
}

/// The ports of the switch on which `sender` is tried.
#[must_use]
pub fn ports(host: &Host, sender: &Port) -> Vec<PortConfig> {
    let mut ports: BTreeMap<PortNo, PortConfig> =
        host.tables.named_ports().iter().map(|p| (*p, PortConfig::trunk(*p))).collect();
    for port in &host.ports {
        let config =
            port.network.map_or(PortConfig::trunk(port.ofport), |vid| PortConfig::access(port.ofport, vid));
        ports.insert(port.ofport, config);
    }
    if let Some(vid) = lonely(host, sender) {
        ports.insert(BYSTANDER, PortConfig::access(BYSTANDER, vid));
    }
    for (port, tag) in &host.tags {
        ports.insert(*port, tag.map_or(PortConfig::trunk(*port), |vid| PortConfig::access(*port, vid)));
    }
    ports.into_values().collect()
}

/// Whether a field comes in beside the frame.
#[must_use]
pub fn comes_beside(field: Field) -> bool {
    let spec = field.spec();
    spec.is_slot_owner() && matches!(spec.origin, Origin::Tunnel | Origin::Host | Origin::Datapath)
}

/// What comes in with the frames of a choice at a port.
#[must_use]
pub fn arriving(choice: &Choice, in_port: PortNo) -> FlowKey {
    let mut arriving = FlowKey::default();
    arriving.set(Field::InPort, in_port.into());
    for field in Field::all().filter(|field| comes_beside(*field)) {
        arriving.set(field, choice.sent.get(field));
    }
    arriving
}

/// The same, if it is anything.
#[must_use]
pub fn beside(arriving: &FlowKey) -> Option<Box<FlowKey>> {
    let any = Field::all().any(|field| comes_beside(field) && arriving.get(field) != 0);
    any.then(|| Box::new(arriving.clone()))
}

/// The datagram of a choice, whole.
pub(crate) fn whole(choice: &Choice) -> Vec<u8> {
    let payload_len = if choice.form == Form::Whole { 0 } else { FRAGMENTED_PAYLOAD };
    compose(&choice.sent, &ComposeOptions { payload_len, ..ComposeOptions::default() })
}

/// The frames of a choice: one, or all fragments of a datagram.
pub(crate) fn frames(choice: &Choice) -> Option<Vec<Vec<u8>>> {
    let whole = whole(choice);
    if choice.form == Form::Whole {
        return Some(vec![whole]);
    }
    let extension = match choice.shown_proto {
        60 => Some(FragmentExtension::DestinationOptions),
        43 => Some(FragmentExtension::Routing),
        _ => None,
    };
    // Neighbour discovery and SCTP are composed without payload, so that there is less to divide.
    let divided =
        |first| fragment_with(&whole, &FragmentOptions { extension, ..FragmentOptions::two(first) });
    [FIRST_FRAGMENT, 24, 8].into_iter().find_map(divided)
}

/// Ways to bring about the connection a choice assumes: none for a new one; else the packet itself, its answer, or a
/// packet of the other side, from wherever that may sit.
pub(crate) fn preludes(case: &Case<'_>, choice: &Choice, whole: &[u8]) -> Vec<Vec<(PortNo, Vec<u8>)>> {
    let mut all = vec![Vec::new()];
    if choice.answers.iter().all(|answer| answer.state & (state::EST | state::REL | state::RPL) == 0) {
        return all;
    }
    let own = (case.port.ofport, whole.to_vec());
    all.push(vec![own.clone()]);
    let (open, reply) = (opening(&choice.sent), answering(&choice.sent));
    let networks: BTreeSet<u16> = case.host.tables.vlans().iter().copied().chain(case.port.network).collect();
    'enough: for port in ports(case.host, case.port)
        .iter()
        .map(|config| config.ofport)
        .filter(|port| *port != case.port.ofport)
    {
        for vid in [None].into_iter().chain(networks.iter().copied().map(Some)) {
            all.push(vec![(port, tagged(&open, vid))]);
            all.push(vec![own.clone(), (port, tagged(&reply, vid))]);
            if all.len() >= MAX_PRELUDES {
                break 'enough;
            }
        }
    }
    all.truncate(MAX_PRELUDES);
    all
}

/// What asks, and what answers it.
type Pairs = &'static [(u128, u128)];

/// ICMP messages that ask, and those that answer them, by family and protocol (RFC 792, 950, 4443, 4620).
const ASKED: [(u128, u128, Pairs); 2] =
    [(0x0800, 1, &[(8, 0), (13, 14), (15, 16), (17, 18)]), (0x86dd, 58, &[(128, 129), (139, 140)])];

/// The pairs of messages of the packet's protocol.
fn asked(sent: &FlowKey) -> Pairs {
    let of = (sent.get(Field::DlType), sent.get(Field::NwProto));
    ASKED.iter().find(|(family, protocol, _)| (*family, *protocol) == of).map_or(&[], |(.., pairs)| pairs)
}

/// A packet with which the other side opens the connection that this one may be part of.
pub(crate) fn opening(sent: &FlowKey) -> FlowKey {
    let mut key = reversed(sent);
    let answered = asked(sent).iter().find(|(_, answer)| *answer == sent.get(Field::TcpSrc));
    if let Some((query, _)) = answered {
        key.set(Field::TcpSrc, *query);
    }
    key
}

/// What the other side answers.
pub(crate) fn answering(sent: &FlowKey) -> FlowKey {
    let mut key = reversed(sent);
    match asked(sent).iter().find(|(query, _)| *query == sent.get(Field::TcpSrc)) {
        Some((_, answer)) => key.set(Field::TcpSrc, *answer),
        None => key.set(Field::TcpFlags, 0x12),
    }
    key
}

/// The frame of a key, under a VLAN or none.
pub(crate) fn tagged(key: &FlowKey, vid: Option<u16>) -> Vec<u8> {
    let mut key = key.clone();
    key.set(Field::VlanTci, vid.map_or(0, |vid| 0x1000 | u128::from(vid)));
    compose(&key, &ComposeOptions::default())
}

/// The same packet from the other side.
fn reversed(sent: &FlowKey) -> FlowKey {
    let mut key = sent.clone();
    let pairs = [
        (Field::DlSrc, Field::DlDst),
        (Field::NwSrc, Field::NwDst),
        (Field::Ipv6Src, Field::Ipv6Dst),
        (Field::TcpSrc, Field::TcpDst),
    ];
    let icmp = !asked(sent).is_empty();
    for (a, b) in pairs.into_iter().take(if icmp { 3 } else { 4 }) {
        key.set(a, sent.get(b));
        key.set(b, sent.get(a));
    }
    key
}
