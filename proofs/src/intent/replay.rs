//! A packet that the engine chose, sent through the interpreter and judged by the reference model.
//!
//! Nothing here knows packet sets or predicates: the frames go into a fresh switch and, one by one, into a fresh
//! [`World`]; what the switch delivers is held against what the world says. Where the choice assumes a connection,
//! packets that open it are sent first, to both.

use super::{
    bygone,
    question::{Theorem, Way},
    site::{Entrance, Site, Target},
};
use crate::{
    diagram::Host,
    familiar::Choice,
    ports,
    replay::{Replay, Sent, frames, ports as switch_ports, reversed, whole},
    since::whichever,
    symkey::Form,
};
use flowproof_model::{
    frame::Frame,
    history::{Delivery, Place, Tracking},
    verdict::{Level, Verdict},
    world::{Event, Origin, World},
};
use flowproof_packet::{
    Field, FlowKey, PortNo,
    build::{ComposeOptions, compose},
};
use flowproof_switch::{
    conntrack::{Profile, state},
    pipeline::{Switch, SwitchConfig},
    table::TieBreak,
    trace::Event as TraceEvent,
};

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
    /// Whether rules admit its connection that are gone when the frames in question come: see [`bygone`].
    bygone: bool,
}

/// Plays a choice in every way that might bring about what it assumes.
#[must_use]
pub fn replay(case: &Case<'_>, choice: &Choice) -> Option<Shown> {
    replay_anew(case, None, choice)
}

/// The choice; and, where it assumes a connection of TCP, the same as a packet that goes on with it: what it was chosen by
/// prefers one that opens a connection, which connection tracking calls invalid in the midst of one.
fn variants(choice: &Choice) -> impl Iterator<Item = Choice> {
    let tcp =
        matches!(choice.sent.get(Field::DlType), 0x0800 | 0x86dd) && choice.sent.get(Field::NwProto) == 6;
    let assumes = choice.answers.iter().any(|answer| answer.state & state::EST != 0);
    let mut going_on = choice.clone();
    going_on.sent.set(Field::TcpFlags, ACK);
    [choice.clone()].into_iter().chain((tcp && assumes).then_some(going_on))
}

/// The same; with the tables of `before` only where the same packets also show what they should there, whichever of
/// equal flows wins.
#[must_use]
pub(super) fn replay_anew(case: &Case<'_>, before: Option<&Case<'_>>, choice: &Choice) -> Option<Shown> {
    variants(choice).find_map(|choice| replay_as_it_is(case, before, &choice))
}

fn replay_as_it_is(case: &Case<'_>, before: Option<&Case<'_>>, choice: &Choice) -> Option<Shown> {
    let frames = frames(choice)?;
    let datagram = whole(choice);
    let preludes = preludes(case, choice, &datagram);
    let with = |tie, prelude: &Vec<Step>| {
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
    prelude: &[Step],
    (frames, datagram): (&[Vec<u8>], &[u8]),
    choice: &Choice,
) -> Option<Shown> {
    let config = SwitchConfig { ports: switch_ports(case.host, case.subject), profile: case.profile, tie };
    let mut switch = Switch::new(case.host.tables.switch().clone(), config);
    let mut world = World::new(case.site.policy.clone(), case.site.switches);
    let (once, since): (Vec<&Step>, Vec<&Step>) = prelude.iter().partition(|step| step.bygone);
    let mut events = if once.is_empty() { Vec::new() } else { before(case, &once, &mut switch, &mut world)? };
    for Step { in_port, frame, .. } in since {
        let outcome = switch.receive_traced(*in_port, frame);
        events.push(Sent { in_port: *in_port, frame: frame.clone(), outcome });
        judge(case, &mut world, *in_port, frame, Tracking::Plausible)?;
    }
    let in_port = case.way.entrance.ofport;
    for frame in frames {
        let outcome = switch.receive_traced(in_port, frame);
        events.push(Sent { in_port, frame: frame.clone(), outcome });
    }
    let assumed = choice.answers.iter().any(|answer| answer.state & state::INV != 0);
    let invalid = assumed || events.get(prelude.len()..)?.iter().any(is_invalid);
    let tracking = if invalid { Tracking::Invalid } else { Tracking::Plausible };
    let deliveries = judge(case, &mut world, in_port, datagram, tracking)?;
    let sent = events.get(prelude.len()..)?;
    let says = shows(case, choice.form, sent, &deliveries)?;
    let telling = sent.iter().rev().find(|sent| crate::replay::left(&sent.outcome)).or(sent.last())?;
    let path = telling.outcome.trace.as_ref().map(flowproof_switch::trace::Trace::path).unwrap_or_default();
    let events = events.into_iter().map(Sent::untraced).collect();
    let bygone = once.len();
    let replay = Replay {
        prelude: prelude.len(),
        bygone,
        path,
        tie,
        whole: None,
        datagram: datagram.to_vec(),
        events,
    };
    Some(Shown { replay, says })
}

/// What happened while rules admitted a connection that are gone now; both sides are then as they are now.
fn before(case: &Case<'_>, steps: &[&Step], switch: &mut Switch, world: &mut World) -> Option<Vec<Sent>> {
    let ends: Vec<_> = case.way.sender.into_iter().chain(case.way.receiver.map(|(port, _)| port)).collect();
    world.policy = bygone::policy(&case.site.policy, &ends);
    switch.replace_tables(bygone::tables(zone(case)?).switch().clone());
    let mut events = Vec::new();
    for Step { in_port, frame, .. } in steps {
        let deliveries = judge(case, world, *in_port, frame, Tracking::Plausible)?;
        deliveries.iter().any(|one| one.outcome.is_delivered()).then_some(())?;
        let outcome = switch.receive_traced(*in_port, frame);
        events.push(Sent { in_port: *in_port, frame: frame.clone(), outcome });
    }
    world.policy = case.site.policy.clone();
    switch.replace_tables(case.host.tables.switch().clone());
    Some(events)
}

/// The zone of the network that a way is in: its VLAN on this host.
const fn zone(case: &Case<'_>) -> Option<u16> {
    match case.way.target {
        Target::Local(_, vlan) => Some(vlan),
        Target::Remote => case.way.entrance.access,
    }
}

/// Whether connection tracking called a frame invalid: what it says is the oracle that the model is told.
fn is_invalid(sent: &Sent) -> bool {
    let mut steps = sent.outcome.trace.iter().flat_map(|trace| &trace.steps);
    steps.any(|step| matches!(&step.event, TraceEvent::Tracked(info) if info.state & state::INV != 0))
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

/// Whether switch and model show what the case wants; what the model says, if so.
fn shows(case: &Case<'_>, form: Form, sent: &[Sent], deliveries: &[Delivery]) -> Option<String> {
    let place = case.way.receiver.map_or(Place::Elsewhere, |(port, _)| Place::Port(port.id.clone()));
    let there = deliveries.iter().find(|delivery| delivery.to == place)?;
    let refused = |verdict: &Verdict| matches!(verdict, Verdict::Drop(_));
    let arrived = sent.iter().filter(|sent| arrives(case, sent)).count();
    let left = sent.iter().any(|sent| crate::replay::left(&sent.outcome));
    let whole = form == Form::Whole || case.profile.reassembles();
    let delivered = arrived >= if whole { 1 } else { sent.len() };
    let differ = match case.theorem {
        Theorem::Sound => {
            refused(&there.outcome.egress) && left || refused(&there.outcome.ingress) && arrived > 0
        }
        Theorem::Complete => there.outcome.level() == Level::Must && !delivered,
    };
    let shown = match (case.theorem, case.aim) {
        (_, Aim::Differ) => differ,
        (_, Aim::Alike) => !differ,
        (Theorem::Sound, Aim::Agree) => there.outcome.is_delivered() && arrived > 0,
        (Theorem::Complete, Aim::Agree) => there.outcome.level() == Level::Must && delivered,
    };
    shown.then(|| there.outcome.decisive().to_string())
}

fn arrives(case: &Case<'_>, sent: &Sent) -> bool {
    let at_target = |port: PortNo| match case.way.receiver {
        Some((_, binding)) => port == binding.ofport,
        None => case.site.at(port).is_none(),
    };
    sent.outcome.delivered().iter().any(|(port, _)| at_target(*port))
}

/// Ways to bring about the connection a choice assumes: none for a new one; else the packet itself and its answer, or a
/// packet of the other side.
fn preludes(case: &Case<'_>, choice: &Choice, datagram: &[u8]) -> Vec<Vec<Step>> {
    let mut all = vec![Vec::new()];
    let connected = state::EST | state::REL | state::RPL;
    if choice.answers.iter().all(|answer| answer.state & connected == 0) {
        return all;
    }
    let own = || Step { in_port: case.way.entrance.ofport, frame: datagram.to_vec(), bygone: false };
    all.push(vec![own()]);
    for entrance in others(case) {
        let mut key = reversed(&choice.sent);
        key.set(Field::VlanTci, entrance.tag.map_or(0, |vid| 0x1000 | u128::from(vid)));
        let open = compose(&key, &ComposeOptions::default());
        key.set(Field::TcpFlags, 0x12);
        let reply = compose(&key, &ComposeOptions::default());
        let (in_port, bygone) = (entrance.ofport, false);
        all.push(vec![Step { in_port, frame: open, bygone }]);
        all.push(vec![own(), Step { in_port, frame: reply, bygone }]);
    }
    if case.theorem == Theorem::Sound {
        all.extend(others(case).iter().flat_map(|entrance| bygones(case, choice, entrance)));
    }
    all
}

const SYN: u128 = 0x02;
const ACK: u128 = 0x10;

/// Ways to a connection that rules admitted which are gone: opened from either side and answered, and perhaps gone on with
/// since from the side that opened it, which lets tables mark it.
fn bygones(case: &Case<'_>, choice: &Choice, entrance: &Entrance) -> Vec<Vec<Step>> {
    let mut other = reversed(&choice.sent);
    other.set(Field::VlanTci, entrance.tag.map_or(0, |vid| 0x1000 | u128::from(vid)));
    let ends = [(case.way.entrance.ofport, choice.sent.clone()), (entrance.ofport, other)];
    let step = |(in_port, key): &(PortNo, FlowKey), flags: u128, bygone: bool| {
        let mut key = key.clone();
        key.set(Field::TcpFlags, flags);
        Step { in_port: *in_port, frame: compose(&key, &ComposeOptions::default()), bygone }
    };
    let [own, other] = &ends;
    let mut all = Vec::new();
    for (opens, answers) in [(own, other), (other, own)] {
        let both = || vec![step(opens, SYN, true), step(answers, SYN | ACK, true)];
        all.push(both());
        all.push(both().into_iter().chain([step(opens, ACK, false)]).collect());
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
