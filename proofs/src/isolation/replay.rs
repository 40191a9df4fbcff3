//! What the engine chose, sent through the interpreter and judged on frames.
//!
//! Nothing here knows packet sets: the network of a frame is read off its tag, what reaches a port off what the switch
//! delivers, zones and registers off the trace. Where a row compares, so does the replay: a frame for a group with the
//! same frame for the receiver alone, a rule of a third port with tables without it, one order of equal flows with the
//! other.

use super::{
    Question, admit,
    scene::{Scene, registers},
    world::{Kind, Sender},
};
use crate::{
    familiar::Choice,
    intent::encode::{Standing, Words},
    ports::Port,
    predicate::Predicate,
    properties::Property,
    replay::{self, Replay, Sent, frames, left, whole},
    since::whichever,
    symbolic::Emit,
    tables::Tables,
};
use flowproof_model::{policy::Direction, switches::GroupAddressed};
use flowproof_packet::{Field, FlowKey, PortNo, port, wire};
use flowproof_switch::{
    conntrack::{Profile, state},
    flow::{Action, Flow},
    pipeline::{Effect, PortConfig, Switch, SwitchConfig},
    table::{FlowId, TieBreak},
    trace::Event,
};
use std::sync::Arc;

/// An address that nobody has; locally administered.
const NOBODY_MAC: u64 = 0x0200_0000_0099;

/// What a replay is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The row is violated.
    Violates,
    /// The frame reaches the port, and violates nothing.
    Arrives,
    /// The frame does not reach the port.
    Stays,
    /// The row is not violated.
    Innocent,
}

/// Where a choice belongs, and what it is to show.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// Host, senders, intent.
    pub scene: Scene<'a>,
    /// Who sends it.
    pub sender: &'a Sender,
    /// The port that is asked about.
    pub receiver: &'a Port,
    /// The row's name and words.
    pub property: &'static Property,
    /// What it asks.
    pub question: Question,
    /// The datapath.
    pub profile: Profile,
    /// What is to be shown.
    pub aim: Aim,
}

/// Frames and the stage that was set for them.
struct Play<'a> {
    tie: TieBreak,
    prelude: &'a [(PortNo, Vec<u8>)],
    frames: &'a [Vec<u8>],
    datagram: FlowKey,
    choice: &'a Choice,
}

/// Plays a choice in every way that might bring about what it assumes.
#[must_use]
pub fn replay(case: &Case<'_>, choice: &Choice) -> Option<Replay> {
    replay_anew(case, None, choice)
}

/// The same; with the tables of `before` only where the same packets also show what they should there, whichever of
/// equal flows wins.
#[must_use]
pub(super) fn replay_anew(case: &Case<'_>, before: Option<&Case<'_>>, choice: &Choice) -> Option<Replay> {
    let frames = frames(choice)?;
    let datagram = whole(choice);
    let preludes = preludes(case, choice, &datagram);
    let with = |tie, prelude: &Vec<(PortNo, Vec<u8>)>| {
        let key = wire::extract(&datagram, entrance(case, choice));
        let play = Play { tie, prelude, frames: &frames, datagram: key, choice };
        let events = shown(case, &play)?;
        let also = |before| {
            whichever(|tie| shown(before, &Play { tie, datagram: play.datagram.clone(), ..play }).is_some())
        };
        before.is_none_or(also).then_some((events, prelude.len(), tie))
    };
    let (events, prelude, tie) = [TieBreak::First, TieBreak::Last]
        .into_iter()
        .find_map(|tie| preludes.iter().find_map(|prelude| with(tie, prelude)))?;
    let sent = events.get(prelude..)?;
    let telling = sent.iter().rev().find(|sent| left(&sent.outcome)).or(sent.last())?;
    let path = path(telling);
    let events = events.into_iter().map(Sent::untraced).collect();
    Some(Replay { prelude, earlier: None, path, tie, whole: None, datagram, events })
}

/// What came of a play, if it shows what it should.
fn shown(case: &Case<'_>, play: &Play<'_>) -> Option<Vec<Sent>> {
    let events = run(case, None, play);
    let (before, sent) = events.split_at_checked(play.prelude.len())?;
    // What is not modelled may have opened or closed connections.
    (is_known(before) && shows(case, play, sent)).then_some(events)
}

/// The frame for nobody that is like `choice` in all but its destination.
#[must_use]
pub fn for_nobody(choice: &Choice) -> Choice {
    let mut sent = choice.sent.clone();
    sent.set(Field::DlDst, NOBODY_MAC.into());
    Choice { sent, ..choice.clone() }
}

/// The frame for everybody that is like `choice` in all but its destination.
#[must_use]
pub fn for_everybody(choice: &Choice) -> Choice {
    let mut sent = choice.sent.clone();
    sent.set(Field::DlDst, 0xffff_ffff_ffff);
    Choice { sent, ..choice.clone() }
}

/// The sender as the other properties know ports.
fn port_of(case: &Case<'_>) -> Port {
    let filtered = case.scene.host.ports.iter().find(|port| port.ofport == case.sender.ofport);
    let network = case.receiver.network;
    filtered.cloned().unwrap_or_else(|| Port { ofport: case.sender.ofport, network, ..Port::default() })
}

fn preludes(case: &Case<'_>, choice: &Choice, datagram: &[u8]) -> Vec<Vec<(PortNo, Vec<u8>)>> {
    let port = port_of(case);
    let Case { scene, property, profile, .. } = *case;
    let aim = replay::Aim::Leaves;
    replay::preludes(
        &replay::Case { host: scene.host, port: &port, property, profile, aim, stage: scene.stage },
        choice,
        datagram,
    )
}

/// Where the sender's frames come in: by its number, or by the one that was chosen where it may have several.
fn entrance(case: &Case<'_>, choice: &Choice) -> PortNo {
    let chosen = PortNo::try_from(choice.sent.get(Field::InPort)).ok().filter(|number| *number != 0);
    chosen.filter(|_| case.sender.numbers.is_some()).unwrap_or(case.sender.ofport)
}

/// Plays on the host's tables, or on others.
fn run(case: &Case<'_>, other: Option<&Tables>, play: &Play<'_>) -> Vec<Sent> {
    let (sender, kind) = (entrance(case, play.choice), (case.profile, play.tie));
    let Scene { host, stage, .. } = case.scene;
    let mut switch = match other {
        None => stage.switch(host, case.receiver, Some(sender), kind),
        Some(tables) => {
            let mut ports = replay::ports(host, case.receiver);
            if !ports.iter().any(|port| port.ofport == sender) {
                ports.push(PortConfig::trunk(sender));
            }
            let config = SwitchConfig { ports, profile: case.profile, tie: play.tie };
            Switch::new(Arc::clone(tables.switch()), config)
        }
    };
    let own = play.frames.iter().map(|frame| (sender, frame));
    let all = play.prelude.iter().map(|(port, frame)| (*port, frame)).chain(own);
    let arriving = replay::arriving(play.choice, sender);
    all.map(|(in_port, frame)| {
        let outcome = match in_port == sender {
            true => switch.receive_with_traced(&arriving, frame),
            false => switch.receive_traced(in_port, frame),
        };
        let beside = replay::beside(&arriving).filter(|_| in_port == sender);
        Sent { in_port, frame: frame.clone(), beside, outcome }
    })
    .collect()
}

fn path(sent: &Sent) -> Vec<(u8, FlowId)> {
    sent.outcome.trace.as_ref().map(flowproof_switch::trace::Trace::path).unwrap_or_default()
}

fn steps(sent: &Sent) -> impl Iterator<Item = &Event> {
    sent.outcome.trace.iter().flat_map(|trace| &trace.steps).map(|step| &step.event)
}

fn shows(case: &Case<'_>, play: &Play<'_>, sent: &[Sent]) -> bool {
    match case.aim {
        Aim::Stays => is_known(sent) && !reaches(case, sent),
        Aim::Arrives => reaches(case, sent) && !violates(case, play, sent),
        Aim::Violates => violates(case, play, sent),
        Aim::Innocent => is_known(sent) && !violates(case, play, sent),
    }
}

/// Whether nothing had a part in it that is not modelled.
fn is_known(sent: &[Sent]) -> bool {
    !sent.iter().any(|sent| sent.outcome.is_opaque())
}

/// Whether the port surely receives it.
fn reaches(case: &Case<'_>, sent: &[Sent]) -> bool {
    sent.iter().any(|sent| {
        let to = |(port, _): (PortNo, &[u8])| port == case.receiver.ofport;
        sent.outcome.deliveries().any(to)
    })
}

fn violates(case: &Case<'_>, play: &Play<'_>, sent: &[Sent]) -> bool {
    let arrived = reaches(case, sent);
    match case.question {
        Question::Networks => foreign(case, play, sent, arrived),
        Question::Denied => arrived && undenied(case, play, sent),
        Question::Groups => arrived && is_group(play) && is_ip(play) && !admitted(case, play),
        Question::Strangers => {
            let addressed = admit::addressed(case.receiver);
            !is_group(play) && !addressed.holds(&play.datagram) && strange(case, sent, &addressed)
        }
        Question::Untracked => untracked(case, play, sent),
        Question::Thirds => decided_by_others(case, play, sent, arrived),
    }
}

/// Whether the port receives a frame that is no answer to its own.
fn strange(case: &Case<'_>, sent: &[Sent], addressed: &Predicate) -> bool {
    let own = case.sender.ofport == case.receiver.ofport;
    let is_answer = |frame: &[u8]| own && addressed.holds(&wire::extract(frame, case.receiver.ofport));
    let strange = |(port, frame): (PortNo, &[u8])| port == case.receiver.ofport && !is_answer(frame);
    sent.iter().any(|sent| sent.outcome.deliveries().any(strange))
}

fn is_group(play: &Play<'_>) -> bool {
    admit::group_addressed().holds(&play.datagram)
}

fn is_ip(play: &Play<'_>) -> bool {
    admit::ip().holds(&play.datagram)
}

/// Delivered into another network, tracked in its zone, or booked as another network's.
fn foreign(case: &Case<'_>, play: &Play<'_>, sent: &[Sent], arrived: bool) -> bool {
    let network = case.sender.network(play.datagram.get(Field::VlanTci));
    let zone = |event: &Event| matches!(event, Event::Track { request, .. } if Some(request.zone) != network);
    let booked = |(_, id): (u8, FlowId)| {
        let flow = case.scene.host.tables.flow(id);
        let named = |action: &Action| registers(case.scene.host, action);
        flow.is_some_and(|flow| flow.actions.iter().filter_map(named).any(|named| named != network))
    };
    arrived && network != case.receiver.network
        || sent.iter().any(|sent| steps(sent).any(zone) || path(sent).into_iter().any(booked))
}

fn follows(play: &Play<'_>) -> bool {
    play.choice.answers.last().is_some_and(|answer| {
        let reply = state::EST | state::RPL;
        answer.state & state::REL != 0 || answer.state & reply == reply
    })
}

fn undenied(case: &Case<'_>, play: &Play<'_>, sent: &[Sent]) -> bool {
    if case.sender.kind == Kind::Unknown {
        return true;
    }
    let miss = |sent: &Sent| path(sent).last().is_some_and(|(_, id)| case.scene.is_miss_flow(*id));
    let rules = |direction| case.scene.has_rules(case.receiver.ofport, direction);
    let has_rule = rules(Direction::Ingress) || follows(play) && rules(Direction::Egress);
    let free = is_group(play) || admit::received(case.receiver).holds(&play.datagram);
    sent.iter().any(miss) || !has_rule && !free
}

/// Whether the port's ingress admits a frame: by the intent, or because the same frame reaches it when it is addressed to
/// it alone.
fn admitted(case: &Case<'_>, play: &Play<'_>) -> bool {
    if let Some(site) = case.scene.site
        && !follows(play)
    {
        let Some((port, _)) = site.at(case.receiver.ofport) else { return false };
        let switches = flowproof_model::switches::Switches {
            group_addressed: GroupAddressed::Filtered,
            ..site.switches
        };
        let words = Words { policy: &site.policy, switches: &switches };
        return words.receives(port, Standing::ByRule).may.holds(&play.datagram);
    }
    if admit::received(case.receiver).holds(&play.datagram) {
        return true;
    }
    let Some(mac) = case.receiver.macs.first() else { return false };
    let mut twin = play.choice.clone();
    twin.sent.set(Field::DlDst, mac.to_bits().into());
    let Some(frames) = frames(&twin) else { return false };
    let play = Play { frames: &frames, datagram: play.datagram.clone(), ..*play };
    let events = run(case, without_flooding(case).as_ref(), &play);
    let by_number =
        |effect: &Effect| matches!(effect, Effect::Output { port, .. } if *port == case.receiver.ofport);
    events.iter().skip(play.prelude.len()).any(|sent| sent.outcome.effects.iter().any(by_number))
}

/// The tables without actions that put a packet out to everybody; nothing if there are none. Within groups and copies they stay.
fn without_flooding(case: &Case<'_>) -> Option<Tables> {
    let floods = |action: &Action| matches!(action, Action::Output(port::FLOOD | port::ALL));
    let flows = case.scene.host.tables.flows();
    flows.iter().any(|flow| flow.actions.iter().any(floods)).then(|| {
        let without = |flow: &Flow| {
            let actions = flow.actions.iter().filter(|action| !floods(action)).cloned().collect();
            Flow { actions, ..flow.clone() }
        };
        Tables::new(flows.iter().map(without).collect())
    })
}

/// The ports that a step of a packet's way puts it out to.
fn put_out(event: &Event) -> &[PortNo] {
    if let Event::Output(port) = event {
        std::slice::from_ref(port)
    } else if let Event::Normal { ports, .. } = event {
        ports
    } else {
        &[]
    }
}

/// What leaves past connection tracking: in no pass that a `ct(table=…)` began, or in that of a fragment which it let go of.
fn untracked(case: &Case<'_>, play: &Play<'_>, sent: &[Sent]) -> bool {
    let own = case.sender.ofport == case.receiver.ofport;
    let (mut arrives, mut leaves) = (false, false);
    for sent in sent {
        let (mut tracked, mut answer) = (false, 0);
        for event in steps(sent) {
            if let Event::Pass { level, .. } = event {
                tracked = *level > 0 && answer & state::TRK != 0;
            } else if let Event::Tracked(info) = event {
                answer = info.state;
            } else if !tracked {
                let ports = put_out(event);
                leaves |= ports.iter().any(|port| *port != case.sender.ofport);
                arrives |= ports.contains(&case.receiver.ofport);
            }
        }
    }
    arrives && !admit::received(case.receiver).holds(&play.datagram)
        || own && leaves && !admit::sent(case.receiver).holds(&play.datagram)
}

/// Without the third port's rules, or with the other order of equal flows, something else happens.
fn decided_by_others(case: &Case<'_>, play: &Play<'_>, sent: &[Sent], arrived: bool) -> bool {
    let own = case.sender.ofport == case.receiver.ofport;
    let here = |sent: &[Sent]| -> Vec<(PortNo, Vec<u8>)> {
        let all = sent.iter().flat_map(|sent| sent.outcome.delivered());
        all.filter(|(port, _)| own || *port == case.receiver.ofport).collect()
    };
    if !arrived && !own {
        return false;
    }
    let before = here(sent);
    let other = if play.tie == TieBreak::First { TieBreak::Last } else { TieBreak::First };
    let play_other = Play { tie: other, datagram: play.datagram.clone(), ..*play };
    let events = run(case, None, &play_other);
    if here(events.get(play.prelude.len()..).unwrap_or_default()) != before {
        return true;
    }
    let others = third_rules(case, sent);
    if others.is_empty() {
        return false;
    }
    let flows = case.scene.host.tables.flows().iter().enumerate();
    let kept = flows.filter(|(at, _)| !others.contains(&FlowId(*at as u32))).map(|(_, flow)| flow.clone());
    let without = Tables::new(kept.collect());
    let events = run(case, Some(&without), play);
    here(events.get(play.prelude.len()..).unwrap_or_default()) != before
}

/// The flows on the way that hold rules of third ports or of none in particular.
fn third_rules(case: &Case<'_>, sent: &[Sent]) -> Vec<FlowId> {
    let mut all = Vec::new();
    for sent in sent {
        let path: Vec<FlowId> = path(sent).into_iter().map(|(_, id)| id).collect();
        for (port, _) in sent.outcome.deliveries() {
            let ends = [case.sender.ofport, case.receiver.ofport, port];
            all.extend(case.scene.thirds(&path, &Emit::Port(port), &ends));
            all.extend(case.scene.thirds(&path, &Emit::Normal, &ends));
        }
    }
    all
}
