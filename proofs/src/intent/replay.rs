//! A packet that the engine chose, sent through the interpreter and judged by the reference model.
//!
//! Nothing here knows packet sets or predicates: the frames go into a fresh switch and, one by one, into a fresh
//! [`World`]; what the switch delivers, and what it keeps of connections, is held against what the world says and
//! remembers. Where the choice assumes a connection, packets that open it are sent first, to both; if the rules do not
//! admit it, while others were in force that did.

use super::{
    errors::{self, Report},
    question::{self, Theorem, Way},
    site::{Entrance, Site},
};
use crate::{
    diagram::Host,
    familiar::Choice,
    ports,
    replay::{Earlier, Replay, Sent, answering, frames, opening, ports as switch_ports, tagged, whole},
    since::whichever,
    symkey::Form,
};
use flowproof_model::{
    frame::Frame,
    history::{Delivery, Place, Tracking},
    policy::{
        Direction, Ethertype, GroupId, Policy, Protocol, Rule, RuleId, RulePeer, SecurityGroup, Statefulness,
    },
    switches::Revocation,
    verdict::{Level, Verdict},
    world::{Event, Origin, World},
};
use flowproof_packet::{
    Field, FlowKey, PortNo,
    build::{BadChecksum, ComposeOptions, compose},
    port, wire,
};
use flowproof_switch::{
    conntrack::{Entry, Profile, state},
    flow::{Action, Ct, Flow, Match, Zone},
    pipeline::{Switch, SwitchConfig},
    table::{Tables, TieBreak},
    trace::Event as TraceEvent,
};
use std::sync::Arc;

/// What a replay is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Switch and model differ.
    Differ,
    /// They agree that the frame arrives.
    Agree,
    /// They do not differ.
    Alike,
}

/// Where a choice belongs, and what it is to show.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The host.
    pub host: &'a Host,
    /// The intent.
    pub site: &'a Site,
    /// The port that is asked about.
    pub subject: &'a ports::Port,
    /// The way of the frame.
    pub way: &'a Way<'a>,
    /// Which theorem.
    pub theorem: Theorem,
    /// The datapath.
    pub profile: Profile,
    /// What is to be shown.
    pub aim: Aim,
}

/// A replay that showed it, and what the model says of the frame.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The switch's side.
    pub replay: Replay,
    /// The model's side: what decides at the receiver, in words.
    pub says: String,
}

/// A frame, where it comes in, and what it is to the model.
struct Step {
    in_port: PortNo,
    frame: Vec<u8>,
}

/// Plays a choice in every way that might bring about what it assumes.
#[must_use]
pub fn replay(case: &Case<'_>, choice: &Choice) -> Option<Shown> {
    replay_anew(case, None, choice)
}

/// The same; with the tables of `before` only where the same packets also show what they should there, whichever of
/// equal flows wins.
#[must_use]
pub(super) fn replay_anew(case: &Case<'_>, before: Option<&Case<'_>>, choice: &Choice) -> Option<Shown> {
    let frames = frames(choice)?;
    let datagram = whole(choice);
    let preludes = preludes(case, choice, &datagram);
    let with = |tie, prelude: &Prelude| {
        let tried = |case, tie| attempt(case, tie, prelude, (&frames, &datagram), choice);
        let shown = tried(case, tie)?;
        let also = |before| whichever(|tie| tried(before, tie).is_some());
        before.is_none_or(also).then_some(shown)
    };
    [TieBreak::First, TieBreak::Last]
        .into_iter()
        .find_map(|tie| preludes.iter().find_map(|prelude| with(tie, prelude)))
}

fn attempt(
    case: &Case<'_>,
    tie: TieBreak,
    prelude: &Prelude,
    (frames, datagram): (&[Vec<u8>], &[u8]),
    choice: &Choice,
) -> Option<Shown> {
    let instead = prelude.instead.as_ref().map(|frame| (std::slice::from_ref(frame), frame.as_slice()));
    let (frames, datagram) = instead.unwrap_or((frames, datagram));
    let (mut stage, earlier) =
        Stage::set(case, tie, prelude, crate::replay::arriving(choice, case.way.entrance.ofport))?;
    // What was not modelled may have opened or closed connections.
    if stage.events.iter().any(|sent| sent.outcome.is_opaque()) {
        return None;
    }
    let before = stage.ledger();
    let told = stage.events.len();
    let in_port = case.way.entrance.ofport;
    let created: Vec<bool> = frames
        .iter()
        .map(|frame| {
            let before = stage.entries();
            stage.send(in_port, frame);
            stage.entries().iter().any(|entry| !before.iter().any(|old| is_same(old, entry)))
        })
        .collect();
    let sent = stage.events.get(told..)?;
    let invalid = sent.iter().any(is_invalid);
    let tracking = if invalid { Tracking::Invalid } else { Tracking::Plausible };
    let deliveries = judge(case, &mut stage.world, in_port, datagram, tracking)?;
    let after = stage.ledger();
    let sent = stage.events.get(told..)?;
    let seen = Seen { form: choice.form, sent, created: &created, deliveries: &deliveries, before, after };
    let says = seen.shows(case)?;
    let telling = sent.iter().rev().find(|sent| crate::replay::left(&sent.outcome)).or(sent.last())?;
    let path = telling.outcome.trace.as_ref().map(flowproof_switch::trace::Trace::path).unwrap_or_default();
    let events = stage.events.into_iter().map(Sent::untraced).collect();
    let datagram = datagram.to_vec();
    Some(Shown { replay: Replay { prelude: told, earlier, path, tie, whole: None, datagram, events }, says })
}

/// Switch and model side by side.
struct Stage {
    switch: Switch,
    world: World,
    /// What comes in with the frames of the entrance in question.
    arriving: FlowKey,
    events: Vec<Sent>,
}

/// What is left of connections: entries in connection tracking, and history in the model.
struct Ledger {
    entries: Vec<Entry>,
    /// How many connections are remembered, and whether one of them was revoked.
    connections: usize,
    revoked: bool,
}

impl Stage {
    /// A fresh one on which the prelude has been played; and what was in force earlier, if anything else was.
    fn set(
        case: &Case<'_>,
        tie: TieBreak,
        prelude: &Prelude,
        arriving: FlowKey,
    ) -> Option<(Self, Option<Earlier>)> {
        let config =
            SwitchConfig { ports: switch_ports(case.host, case.subject), profile: case.profile, tie };
        let switch = Switch::new(case.host.tables.switch().clone(), config);
        let world = World::new(case.site.policy.clone(), case.site.switches);
        let mut stage = Self { switch, world, arriving, events: Vec::new() };
        let mut earlier = None;
        if !prelude.earlier.is_empty() {
            let flows = admitting(question::vlan(case.way)?);
            stage.switch.replace_tables(Arc::new(Tables::new(flows.clone())));
            stage.world.policy = open(case.site.policy.clone());
            stage.play(case, &prelude.earlier)?;
            stage.switch.replace_tables(case.host.tables.switch().clone());
            stage.world.policy = case.site.policy.clone();
            earlier = Some(Earlier { flows, events: prelude.earlier.len() });
        }
        stage.play(case, &prelude.now)?;
        Some((stage, earlier))
    }

    fn play(&mut self, case: &Case<'_>, steps: &[Step]) -> Option<()> {
        steps.iter().try_for_each(|Step { in_port, frame }| {
            self.send(*in_port, frame);
            judge(case, &mut self.world, *in_port, frame, Tracking::Plausible).map(drop)
        })
    }

    fn send(&mut self, in_port: PortNo, frame: &[u8]) {
        let outcome = match self.arriving.get(Field::InPort) == u128::from(in_port) {
            true => self.switch.receive_with_traced(&self.arriving, frame),
            false => self.switch.receive_traced(in_port, frame),
        };
        let own = self.arriving.get(Field::InPort) == u128::from(in_port);
        let beside = crate::replay::beside(&self.arriving).filter(|_| own);
        self.events.push(Sent { in_port, frame: frame.to_vec(), beside, outcome });
    }

    fn entries(&self) -> Vec<Entry> {
        self.switch.tracker().entries().collect()
    }

    fn ledger(&self) -> Ledger {
        let history = &self.world.history;
        Ledger {
            entries: self.entries(),
            connections: history.connections().count(),
            revoked: history.connections().any(|(_, connection)| connection.revoked),
        }
    }
}

fn is_same(one: &Entry, other: &Entry) -> bool {
    one.zone() == other.zone() && one.orig() == other.orig()
}

/// Tables that leave in connection tracking what those leave whose rules admit everything.
fn admitting(zone: u16) -> Vec<Flow> {
    let commit = Ct {
        commit: true,
        force: false,
        table: None,
        zone: Zone::Const(zone),
        exec: Vec::new(),
        nat: None,
        alg: None,
    };
    let ip = |ethertype: u16| {
        let mut matching = Match::default();
        matching.set(Field::DlType, ethertype.into(), u128::MAX);
        let actions = vec![Action::Ct(Box::new(commit.clone())), Action::Output(port::NORMAL)];
        Flow { priority: 1, matching, actions, ..Flow::default() }
    };
    vec![ip(0x0800), ip(0x86dd)]
}

/// The policy with rules that admit everything, for everybody.
fn open(mut policy: Policy) -> Policy {
    let id = GroupId::from("everything, earlier");
    let mut rules = Vec::new();
    for direction in [Direction::Egress, Direction::Ingress] {
        for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
            let id = RuleId::from(format!("{} {ethertype:?}, earlier", direction.name()).as_str());
            let (protocol, peer) = (Protocol::Any, RulePeer::Any);
            rules.push(Rule { id, direction, ethertype, protocol, protocol_spelling: None, peer });
        }
    }
    let group = SecurityGroup { id: id.clone(), statefulness: Statefulness::Stateful, rules };
    policy.groups.insert(id.clone(), group);
    policy.ports.values_mut().for_each(|port| port.groups.push(id.clone()));
    policy
}

/// Whether connection tracking called a frame invalid: what it says is the oracle that the model is told.
fn is_invalid(sent: &Sent) -> bool {
    let mut steps = sent.outcome.trace.iter().flat_map(|trace| &trace.steps);
    steps.any(|step| matches!(&step.event, TraceEvent::Tracked(info) if info.state & state::INV != 0))
}

/// Whether connection tracking took a frame for one of the original direction of a connection that was answered.
fn goes_on(sent: &Sent) -> bool {
    let mut steps = sent.outcome.trace.iter().flat_map(|trace| &trace.steps);
    let original = |bits: u32| bits & (state::EST | state::REL | state::RPL) == state::EST;
    steps.any(|step| matches!(&step.event, TraceEvent::Tracked(info) if original(info.state)))
}

/// What the model says of a frame that comes in here.
fn judge(
    case: &Case<'_>,
    world: &mut World,
    in_port: PortNo,
    frame: &[u8],
    tracking: Tracking,
) -> Option<Vec<Delivery>> {
    let origin = match case.site.at(in_port) {
        Some((port, _)) => Origin::Port(port.id.clone()),
        None => {
            let local = case.way.receiver.map(|(port, _)| port).or(case.way.sender)?;
            Origin::Network(local.network.clone())
        }
    };
    let mut frame = Frame::from_wire(frame);
    if case.site.at(in_port).is_none() {
        frame.vlan = None;
    }
    world.apply(Event::Frame { origin, frame, tracking }).ok()
}

/// What switch and model did with the frames in question.
struct Seen<'a> {
    form: Form,
    sent: &'a [Sent],
    /// Whether each frame created an entry.
    created: &'a [bool],
    deliveries: &'a [Delivery],
    before: Ledger,
    after: Ledger,
}

impl Seen<'_> {
    /// Whether that is what the case wants to show; what the model says, if so.
    fn shows(&self, case: &Case<'_>) -> Option<String> {
        let differ = || self.says(&Case { aim: Aim::Differ, ..*case });
        // What did something that is not modelled may have done anything else, too; what it surely did it did.
        let certain = case.theorem == Theorem::Sound && case.aim == Aim::Differ;
        if !certain && self.sent.iter().any(|sent| sent.outcome.is_opaque()) {
            return None;
        }
        match case.aim {
            Aim::Differ | Aim::Agree => self.says(case),
            Aim::Alike => differ().is_none().then(String::new),
        }
    }

    /// What the model says, if they differ or agree as the case wants it.
    fn says(&self, case: &Case<'_>) -> Option<String> {
        let place = case.way.receiver.map_or(Place::Elsewhere, |(port, _)| Place::Port(port.id.clone()));
        let there = self.deliveries.iter().find(|delivery| delivery.to == place)?;
        let refused = |verdict: &Verdict| matches!(verdict, Verdict::Drop(_));
        let arrived = self.sent.iter().filter(|sent| arrives(case, sent, false)).count();
        let intact = self.sent.iter().filter(|sent| arrives(case, sent, true)).count();
        let left = self.sent.iter().any(|sent| sent.outcome.deliveries().next().is_some());
        let whole = self.form == Form::Whole || case.profile.reassembles();
        let delivered = intact >= if whole { 1 } else { self.sent.len() };
        let differ = case.aim == Aim::Differ;
        let must = there.outcome.level() == Level::Must;
        let shown = match (case.theorem, case.aim) {
            (Theorem::Sound, Aim::Differ) => {
                refused(&there.outcome.egress) && left || refused(&there.outcome.ingress) && arrived > 0
            }
            (Theorem::Complete, Aim::Differ) => must && !delivered,
            (Theorem::Sound, _) => there.outcome.is_delivered() && arrived > 0,
            (Theorem::Complete, _) => must && delivered,
            (Theorem::Commit, _) => self.creates() && self.creates_wrongly(case) == differ,
            (Theorem::Delivery, _) => {
                let opened = self.after.connections > self.before.connections;
                opened && there.outcome.opens() && arrived > 0 && self.has_entry(case) != differ
            }
            (Theorem::Mark, Aim::Differ) => !self.is_marked_as_it_should(case)?,
            (Theorem::Mark, _) => self.sent.iter().any(goes_on) && self.is_marked_as_it_should(case)?,
        };
        let says = there.outcome.decisive();
        shown.then(|| match case.theorem {
            Theorem::Sound | Theorem::Complete => says.to_string(),
            Theorem::Commit | Theorem::Delivery | Theorem::Mark => format!("{says}; {}", self.entries()),
        })
    }

    fn creates(&self) -> bool {
        self.created.iter().any(|created| *created)
    }

    /// Whether what created an entry did not arrive, or did so twice, in another network's zone or with a mark.
    fn creates_wrongly(&self, case: &Case<'_>) -> bool {
        let zone = question::vlan(case.way);
        // Each of the fragments that come out of a train is committed for itself.
        let whole = self.form == Form::Whole || case.profile.reassembles();
        let lost = |(sent, created): (&Sent, &bool)| *created && !arrives(case, sent, false);
        let astray = |entry: &Entry| {
            let new = !self.before.entries.iter().any(|old| is_same(old, entry));
            new && (Some(entry.zone()) != zone || entry.mark() != 0)
        };
        let twice = |sent: &Sent| {
            commits(sent).any(|(at, zone)| commits(sent).skip(at + 1).any(|(_, other)| other == zone))
        };
        self.sent.iter().zip(self.created).any(lost)
            || self.after.entries.iter().any(astray)
            || whole && self.sent.iter().any(twice)
    }

    /// Whether the connection has an entry in its network's zone, without a mark.
    fn has_entry(&self, case: &Case<'_>) -> bool {
        let zone = question::vlan(case.way);
        self.after.entries.iter().any(|entry| Some(entry.zone()) == zone && entry.mark() == 0)
    }

    /// Whether an entry that was there before has a mark now if, and only if, the model has revoked its connection.
    fn is_marked_as_it_should(&self, case: &Case<'_>) -> Option<bool> {
        let Ledger { entries, connections: 1.., .. } = &self.before else { return None };
        let old = |entry: &&Entry| entries.iter().any(|old| is_same(old, entry) && old.mark() == 0);
        let marked = self.after.entries.iter().find(old)?.mark() != 0;
        let marks = case.site.switches.revocation == Revocation::Grace;
        Some(marked == (marks && self.after.revoked))
    }

    /// The entries that are there in the end, in words.
    fn entries(&self) -> String {
        let all: Vec<String> = self.after.entries.iter().map(ToString::to_string).collect();
        if all.is_empty() {
            "no connection is tracked then".to_owned()
        } else {
            format!("tracked is then {}", all.join("; "))
        }
    }
}

/// The zones that one frame was committed in, each with its place among them.
fn commits(sent: &Sent) -> impl Iterator<Item = (usize, u16)> {
    let steps = sent.outcome.trace.iter().flat_map(|trace| &trace.steps);
    let commit = |step: &flowproof_switch::trace::Step| {
        let TraceEvent::Track { request, .. } = &step.event else { return None };
        request.commit.then_some(request.zone)
    };
    steps.filter_map(commit).enumerate()
}

/// Whether a frame gets where its way ends; `intact` if without a VLAN, where that is an access port.
fn arrives(case: &Case<'_>, sent: &Sent, intact: bool) -> bool {
    let at_target = |port: PortNo, frame: &[u8]| match case.way.receiver {
        Some((_, binding)) => {
            let tagged = intact && wire::extract(frame, 0).get(Field::VlanTci) & 0x0fff != 0;
            port == binding.ofport && !tagged
        }
        None => case.site.at(port).is_none(),
    };
    sent.outcome.deliveries().any(|(port, frame)| at_target(port, frame))
}

/// Packets that set the stage.
#[derive(Default)]
struct Prelude {
    /// Those that come while rules are in force that admit everything. Of these only connections are left.
    earlier: Vec<Step>,
    /// Those that come after that.
    now: Vec<Step>,
    /// What then is sent for the choice's own frames, where more depends on it than a choice says.
    instead: Option<Vec<u8>>,
}

/// Ways to bring about the connection a choice assumes: none for a new one; else the packet itself and its answer, or a
/// packet of the other side; for an error all that and what it quotes. If the rules do not admit that, they did once.
/// What is invalid has a wrong checksum.
fn preludes(case: &Case<'_>, choice: &Choice, datagram: &[u8]) -> Vec<Prelude> {
    let mut all = vec![Prelude::default()];
    if choice.form == Form::Whole && choice.answers.iter().any(|answer| answer.state & state::INV != 0) {
        let options = ComposeOptions { bad_checksum: BadChecksum::Upper, ..ComposeOptions::default() };
        let instead = Some(compose(&choice.sent, &options));
        all.push(Prelude { instead, ..Prelude::default() });
    }
    let connected = state::EST | state::REL | state::RPL;
    if choice.answers.iter().all(|answer| answer.state & connected == 0) {
        return all;
    }
    let own = || Step { in_port: case.way.entrance.ofport, frame: datagram.to_vec() };
    let now = |now| Prelude { now, ..Prelude::default() };
    all.push(now(vec![own()]));
    let mut begun = Vec::new();
    for entrance in others(case) {
        let from_there = |key: &FlowKey| Step { in_port: entrance.ofport, frame: tagged(key, entrance.tag) };
        let open = || from_there(&opening(&choice.sent));
        let reply = || from_there(&answering(&choice.sent));
        all.push(now(vec![open()]));
        all.push(now(vec![own(), reply()]));
        begun.push(Prelude { earlier: vec![own(), reply()], ..Prelude::default() });
        begun.push(Prelude { earlier: vec![open()], ..Prelude::default() });
        begun.push(Prelude { earlier: vec![open(), own()], now: vec![open()], ..Prelude::default() });
    }
    all.extend(begun);
    all.extend(about(case, choice));
    all
}

/// Connections that an error may be about, admitted now or earlier.
fn about(case: &Case<'_>, choice: &Choice) -> Vec<Prelude> {
    let mut all = Vec::new();
    for Report { opening, answer, back, error } in errors::reports(case, choice) {
        for entrance in others(case) {
            let there = |key| Step { in_port: entrance.ofport, frame: tagged(key, entrance.tag) };
            let here = |key| {
                let frame = compose(key, &ComposeOptions::default());
                Step { in_port: case.way.entrance.ofport, frame }
            };
            let talk = || if back { vec![there(&opening)] } else { vec![here(&opening), there(&answer)] };
            let instead = || Some(error.clone());
            all.push(Prelude { now: talk(), instead: instead(), ..Prelude::default() });
            all.push(Prelude { earlier: talk(), instead: instead(), ..Prelude::default() });
        }
    }
    all
}

/// Where the other side's frames come in.
fn others(case: &Case<'_>) -> Vec<Entrance> {
    match case.way.receiver {
        Some((_, binding)) => vec![case.site.entrance(binding)],
        None => case.way.sender.map_or_else(Vec::new, |sender| {
            let vlan = case.way.entrance.access.unwrap_or_default();
            case.site.arrivals(&sender.network, vlan, case.host.tables.flows())
        }),
    }
}
