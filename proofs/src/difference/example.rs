//! One packet of a class, sent through both tables: nothing is shown that the interpreter does not confirm.

use super::{
    deeds::{Deed, Way, Written},
    find::{Class, Found, Question},
    places::{Axis, combination},
};
use crate::{
    arrival::Arrival,
    bdd::Bdd,
    familiar,
    ports::{self, Port},
    replay,
    set::{Literal, PacketSets},
    symbolic::Emit,
    symkey::Form,
    vars::{self, Var},
};
use flowproof_packet::{Field, FlowKey, PortNo, port, wire};
use flowproof_switch::{
    conntrack::{CtInfo, CtOutput, Profile, state},
    flow::Flow,
    pipeline::{
        Decision, Effect, NormalDrop, Outcome, PortConfig, RESERVED, Switch, SwitchConfig, Tracker, Visit,
    },
    table::{FlowId, TieBreak},
    trace::{Event, Step},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Packets to try to build before a box is shown without one.
const ATTEMPTS: usize = 4;

/// What one table does to a packet.
#[derive(Clone, Debug)]
pub struct Side {
    /// What came of it, with a trace.
    pub outcome: Outcome,
    /// The flows on its way that the other table does not have there: where the two part.
    pub flows: Vec<FlowId>,
}

/// A packet that both tables took, and what they did.
#[derive(Clone, Debug)]
pub struct Example {
    /// The frame.
    pub frame: Vec<u8>,
    /// Where it came in.
    pub in_port: PortNo,
    /// The datapath.
    pub profile: Profile,
    /// What it is of its datagram.
    pub form: Form,
    /// What connection tracking answered, by depth.
    pub answers: Vec<CtInfo>,
    /// What each table did.
    pub sides: [Side; 2],
}

/// A packet that is wished for.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    form: Form,
    profile: Profile,
    choice: familiar::Choice,
}

impl Seed {
    /// Its value on an axis, as bits.
    pub(super) fn literals(&self, axis: Axis) -> Vec<Literal> {
        let place = |at: Option<usize>| at.unwrap_or_default() as u128;
        let value = match axis {
            Axis::Sent(field) => self.choice.sent.get(field),
            Axis::Shown => u128::from(self.choice.shown_proto),
            Axis::Form => place(Form::ALL.iter().position(|form| *form == self.form)),
            Axis::Datapath => place(Profile::ALL.iter().position(|profile| *profile == self.profile)),
            Axis::Answer(depth, field) => {
                let answer = self.choice.answers.get(usize::from(depth));
                answer.map_or(0, |answer| told(answer, field))
            }
        };
        axis.literals(value)
    }
}

impl Seed {
    fn is_in(&self, found: &Found, packets: Bdd) -> bool {
        let axes = super::places::axes(found.depth).into_iter();
        let on: BTreeSet<Var> =
            axes.flat_map(|axis| self.literals(axis)).filter(|bit| bit.1).map(|bit| bit.0).collect();
        found.sets.contains(packets, |var| on.contains(&var))
    }
}

/// What an answer leaves in a field.
fn told(answer: &CtInfo, field: Field) -> u128 {
    let tuple = |of: fn(&flowproof_switch::conntrack::Tuple) -> u128, ipv6: Option<bool>| {
        answer.orig.filter(|tuple| ipv6.is_none_or(|ipv6| tuple.ipv6 == ipv6)).map_or(0, |tuple| of(&tuple))
    };
    let all = [
        (Field::CtState, u128::from(answer.state)),
        (Field::CtMark, u128::from(answer.mark)),
        (Field::CtLabel, answer.label),
        (Field::CtNwProto, tuple(|tuple| u128::from(tuple.proto), None)),
        (Field::CtNwSrc, tuple(|tuple| tuple.src, Some(false))),
        (Field::CtNwDst, tuple(|tuple| tuple.dst, Some(false))),
        (Field::CtIpv6Src, tuple(|tuple| tuple.src, Some(true))),
        (Field::CtIpv6Dst, tuple(|tuple| tuple.dst, Some(true))),
        (Field::CtTpSrc, tuple(|tuple| u128::from(tuple.tp_src), None)),
        (Field::CtTpDst, tuple(|tuple| u128::from(tuple.tp_dst), None)),
    ];
    all.into_iter().find(|(of, _)| *of == field).map_or(0, |(_, value)| value)
}

/// Both tables as switches, and who their ports are.
pub(super) struct Stage<'t> {
    question: Question<'t>,
    ports: Vec<Port>,
    /// Everything that flows name.
    named: Vec<PortNo>,
    class: Option<Class>,
}

impl<'t> Stage<'t> {
    pub(super) fn new(question: Question<'t>) -> Self {
        let mut known: BTreeMap<PortNo, Port> = BTreeMap::new();
        for tables in [question.b, question.a] {
            known.extend(ports::derive(tables.flows()).into_iter().map(|port| (port.ofport, port)));
        }
        let mut named: BTreeSet<PortNo> = known.keys().copied().collect();
        for tables in [question.a, question.b] {
            named.extend(tables.named_ports());
        }
        named.insert(port::LOCAL);
        Self {
            question,
            ports: known.into_values().collect(),
            named: named.into_iter().collect(),
            class: None,
        }
    }

    /// From now on packets are of this class.
    pub(super) fn set(&mut self, class: &Class) {
        self.class = Some(class.clone());
    }

    /// The most familiar packet of a set.
    pub(super) fn familiar(&mut self, found: &mut Found, packets: Bdd) -> Option<Seed> {
        let (form, profile, mut packets) = self.usual(found, packets)?;
        let mut sender = Port::default();
        let mut comes = |port: PortNo| entering(found, packets, port) != found.sets.none();
        let own = self.ports.iter().find(|port| comes(port.ofport));
        let named = self.named.iter().find(|port| comes(**port));
        if let Some(ofport) = own.map(|port| port.ofport).or(named.copied()) {
            packets = entering(found, packets, ofport);
            sender = own.cloned().unwrap_or_default();
        }
        let others: Vec<&Port> = self.ports.iter().filter(|port| port.ofport != sender.ofport).collect();
        let wishes = familiar::wishes(&sender, &others);
        let mut choice = familiar::choose(&mut found.sets, packets, form, &wishes, found.depth)?;
        choice.sent.set(Field::RecircId, 0);
        let mut seed = Seed { form, profile, choice };
        if !seed.is_in(found, packets) {
            // A fragment that waited in vain is invalid and not tracked.
            let invalid = seed.choice.answers.iter_mut().filter(|answer| answer.state & state::INV != 0);
            invalid.for_each(|answer| answer.state &= !state::TRK);
        }
        seed.is_in(found, packets).then_some(seed)
    }

    fn usual(&self, found: &mut Found, packets: Bdd) -> Option<(Form, Profile, Bdd)> {
        let profiles = [Profile::Kernel, Profile::Userspace31, Profile::Kernel2016];
        let of = |arrival: Arrival| {
            let forms = Form::ALL.into_iter();
            forms.flat_map(move |form| profiles.map(|profile| (form, profile, arrival)))
        };
        Arrival::ANY.into_iter().flat_map(of).find_map(|(form, profile, arrival)| {
            let cube = found.sets.cube(&combination(form, profile, arrival));
            let here = found.sets.and(packets, cube);
            (!found.sets.is_empty(here)).then_some((form, profile, here))
        })
    }

    /// The packet, or another one of the box, with what both tables do to it; none where no frame is like that.
    ///
    /// # Errors
    /// The interpreter does something else than what is said of the class.
    pub(super) fn show(
        &mut self,
        found: &mut Found,
        inside: Bdd,
        seed: &Seed,
    ) -> Result<Option<Example>, String> {
        let (mut left, mut seed) = (inside, seed.clone());
        for _ in 0..ATTEMPTS {
            if let Some(packet) = packet(&seed)
                && found.sets.contains(left, |var| packet.bits.contains(&var))
            {
                return self.send(&seed, &packet).map(Some);
            }
            let axes = super::places::axes(found.depth);
            let literals: Vec<Literal> = axes.into_iter().flat_map(|axis| seed.literals(axis)).collect();
            let tried = found.sets.cube(&literals);
            left = found.sets.minus(left, tried);
            let Some(next) = self.familiar(found, left) else { return Ok(None) };
            seed = next;
        }
        Ok(None)
    }

    fn send(&self, seed: &Seed, packet: &Packet) -> Result<Example, String> {
        let Some(class) = &self.class else { return Err("no class".to_owned()) };
        let tables = [self.question.a, self.question.b];
        let mut sides = Vec::new();
        let mut seen = Vec::new();
        for (tables, deeds) in tables.into_iter().zip([&class.a, &class.b]) {
            let took = self.take(tables.switch(), seed, packet, TieBreak::First);
            let last = self.take(tables.switch(), seed, packet, TieBreak::Last);
            let expected = self.expected(deeds, packet);
            let mut got: BTreeSet<Shown> = took.1.union(&last.1).cloned().collect();
            // What is not modelled the interpreter may do in part.
            let unmodelled = expected.contains(&Shown::Opaque) || got.remove(&Shown::Opaque);
            let ambiguous = unmodelled || took.1 != last.1 || is_open(&took.0) || is_open(&last.0);
            let confirmed = if ambiguous { got.is_subset(&expected) } else { got == expected };
            if !confirmed {
                let what = wire::extract(&packet.frame, packet.in_port);
                let text = flowproof_switch::flow::text::key_to_text(&what);
                return Err(format!(
                    "{text} under {}, answers {:?}: expected {expected:?}, the interpreter has {got:?}",
                    seed.profile.name(),
                    packet.answers
                ));
            }
            seen.push((got, ambiguous));
            sides.push(Side { outcome: took.0, flows: Vec::new() });
        }
        let sides: [Side; 2] = sides.try_into().map_err(|_| "two tables, two sides".to_owned())?;
        let sides = part(self.question, sides);
        Ok(Example {
            frame: packet.frame.clone(),
            in_port: packet.in_port,
            profile: seed.profile,
            form: seed.form,
            answers: packet.answers.clone(),
            sides,
        })
    }

    fn take(
        &self,
        tables: &Arc<flowproof_switch::table::Tables>,
        seed: &Seed,
        packet: &Packet,
        tie: TieBreak,
    ) -> (Outcome, BTreeSet<Shown>) {
        let mut ports: Vec<PortConfig> = self.named.iter().map(|port| PortConfig::trunk(*port)).collect();
        if !self.named.contains(&packet.in_port) {
            ports.push(PortConfig::trunk(packet.in_port));
        }
        let config = SwitchConfig { ports, profile: seed.profile, tie };
        let script = Script { packet, reassembles: seed.profile.reassembles(), asked: BTreeSet::new() };
        let mut switch = Switch::with_tracker(Arc::clone(tables), config, script);
        let outcome = switch.receive_with_traced(&packet.arriving, &packet.frame);
        let asked = switch.tracker().asked.clone();
        let partial = partial_tags(&outcome);
        let effects = outcome.effects.iter().filter(|effect| partial == 0 || !is_normal(effect));
        let shown = effects.filter_map(shown).chain(asked).collect();
        (outcome, shown)
    }

    /// What the interpreter should show of a packet to which these deeds are done.
    fn expected(&self, deeds: &BTreeSet<Deed>, packet: &Packet) -> BTreeSet<Shown> {
        let tag = |deed: &Deed| tci(deed, packet);
        let ports = || self.named.iter().copied().chain([packet.in_port]);
        let mut all = BTreeSet::new();
        for deed in deeds {
            match &deed.way {
                Way::Leaves(Emit::Port(port)) => {
                    all.extend(ports().any(|known| known == *port).then(|| Shown::Port(*port, tag(deed))));
                }
                Way::Leaves(Emit::InPort) => {
                    all.insert(Shown::Port(packet.in_port, tag(deed)));
                }
                Way::Leaves(Emit::Flood) => {
                    let others = ports().filter(|port| *port != packet.in_port);
                    all.extend(others.map(|port| Shown::Port(port, tag(deed))));
                }
                Way::Leaves(Emit::Normal) => {
                    all.insert(Shown::Normal(tag(deed)));
                }
                Way::Leaves(Emit::Opaque(_)) => {
                    all.insert(Shown::Opaque);
                }
                Way::Leaves(Emit::UnknownPort | Emit::Controller | Emit::Limit) => {}
                Way::Controller(_) => {
                    all.insert(Shown::Controller(tag(deed)));
                }
                Way::LeavesBy(bits) => {
                    let port = bits.iter().fold(0u128, |sum, bit| sum << 1 | u128::from(packet.is(*bit)));
                    let known = ports().find(|known| u128::from(*known) == port);
                    all.extend(known.map(|port| Shown::Port(port, tag(deed))));
                }
                Way::Tracked(tracking) => {
                    let zone =
                        tracking.zone.iter().fold(0u128, |sum, bit| sum << 1 | u128::from(packet.is(*bit)));
                    all.insert(Shown::Tracked(zone, tracking.commit.is_some()));
                }
            }
        }
        all
    }
}

fn is_open(outcome: &Outcome) -> bool {
    let normal = outcome.effects.iter().filter(|effect| is_normal(effect)).count();
    let partial = partial_tags(outcome);
    outcome.trace.as_ref().is_some_and(|trace| !trace.ambiguities().is_empty())
        || outcome.is_opaque()
        || partial != 0 && partial != normal
}

const fn is_normal(effect: &Effect) -> bool {
    matches!(effect, Effect::Normal { .. })
}

/// How often `NORMAL` dropped the packet because a tag follows that it has not read.
fn partial_tags(outcome: &Outcome) -> usize {
    let dropped = |step: &&Step| {
        matches!(step.event, Event::Normal { decision: Decision::Drop(NormalDrop::PartialTag), .. })
    };
    outcome.trace.iter().flat_map(|trace| &trace.steps).filter(dropped).count()
}

fn entering(found: &mut Found, packets: Bdd, ofport: PortNo) -> Bdd {
    let cube = super::find::entering(&mut found.sets, ofport);
    found.sets.and(packets, cube)
}

/// What of an outcome is held against what was expected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    Port(PortNo, u128),
    Normal(u128),
    Controller(u128),
    Opaque,
    Tracked(u128, bool),
}

fn shown(effect: &Effect) -> Option<Shown> {
    let tag = |frame: &[u8]| wire::extract(frame, 0).get(Field::VlanTci);
    match effect {
        Effect::Output { port, frame } => Some(Shown::Port(*port, tag(frame))),
        Effect::Normal { frame, .. } => {
            let to = wire::extract(frame, 0).get(Field::DlDst);
            let reserved = |(mac, mask): &(u64, u64)| (to ^ u128::from(*mac)) & u128::from(*mask) == 0;
            (!RESERVED.iter().any(reserved)).then(|| Shown::Normal(tag(frame)))
        }
        Effect::Controller { frame } => Some(Shown::Controller(tag(frame))),
        Effect::Opaque { .. } => Some(Shown::Opaque),
    }
}

/// The VLAN bits with which a packet leaves.
fn tci(deed: &Deed, packet: &Packet) -> u128 {
    let spec = Field::VlanTci.spec();
    let bit = |offset: u16| {
        let changed = deed.change.iter().find(|(at, _)| *at == offset);
        packet.is(changed.map_or(Written::From(Var(offset)), |(_, written)| *written))
    };
    (spec.offset..spec.offset + spec.width).fold(0, |sum, offset| sum << 1 | u128::from(bit(offset)))
}

/// A frame that was made, and what the proofs call it.
struct Packet {
    frame: Vec<u8>,
    whole: Vec<u8>,
    in_port: PortNo,
    /// What comes in with the frame.
    arriving: FlowKey,
    answers: Vec<CtInfo>,
    bits: BTreeSet<Var>,
}

impl Packet {
    fn is(&self, bit: Written) -> bool {
        match bit {
            Written::Known(on) => on,
            Written::From(var) => self.bits.contains(&var),
        }
    }
}

/// The frame of a seed; what it holds is read back from it.
fn packet(seed: &Seed) -> Option<Packet> {
    let frames = replay::frames(&seed.choice)?;
    let frame = match seed.form {
        Form::Whole | Form::First => frames.into_iter().next()?,
        Form::Later => frames.into_iter().nth(1)?,
    };
    let whole = replay::whole(&seed.choice);
    let in_port = seed.choice.sent.get(Field::InPort) as PortNo;
    let arriving = replay::arriving(&seed.choice, in_port);
    let mut sent = wire::extract(&whole, in_port);
    for field in Field::all().filter(|field| replay::comes_beside(*field)) {
        sent.set(field, arriving.get(field));
    }
    let shown = wire::extract(&frame, in_port).get(Field::NwProto) as u8;
    let answers = seed.choice.answers.clone();
    let read = Seed {
        choice: familiar::Choice {
            form: seed.form,
            sent: sent.clone(),
            shown_proto: shown,
            answers: answers.clone(),
        },
        ..seed.clone()
    };
    Some(Packet { bits: bits(&read, &sent), frame, whole, in_port, arriving, answers })
}

fn bits(seed: &Seed, sent: &FlowKey) -> BTreeSet<Var> {
    let owners = Field::all().filter(|field| field.spec().is_slot_owner());
    let header = owners.filter(|field| *field != Field::RecircId).flat_map(|field| {
        vars::sent(field).rev().enumerate().filter(move |(bit, _)| sent.get(field) >> bit & 1 == 1)
    });
    let mut bits: BTreeSet<Var> = header.map(|(_, var)| var).collect();
    let answers = (0..seed.choice.answers.len() as u16)
        .flat_map(|depth| vars::tracked_fields().map(move |field| Axis::Answer(depth, field)));
    for axis in [Axis::Shown, Axis::Form, Axis::Datapath].into_iter().chain(answers) {
        bits.extend(seed.literals(axis).into_iter().filter(|bit| bit.1).map(|bit| bit.0));
    }
    bits
}

/// Answers by depth; fragments come out whole where the datapath has it so.
struct Script<'p> {
    packet: &'p Packet,
    reassembles: bool,
    asked: BTreeSet<Shown>,
}

impl Tracker for Script<'_> {
    fn track(&mut self, frame: &[u8], visit: &Visit) -> CtOutput {
        let zone = u128::from(visit.request.zone);
        self.asked.insert(Shown::Tracked(zone, visit.request.commit));
        let answer = self.packet.answers.get(usize::from(visit.depth)).copied().unwrap_or_default();
        let (was, is) = (wire::extract(&self.packet.frame, 0), wire::extract(frame, 0));
        let whole = self.reassembles && is.get(Field::NwFrag) != 0;
        let frame = if whole { wire::commit(&self.packet.whole, &was, &is) } else { frame.to_vec() };
        vec![(frame, answer)]
    }
}

/// Notes for each side the flows that the other does not have on its way.
fn part(question: Question<'_>, mut sides: [Side; 2]) -> [Side; 2] {
    let path = |side: &Side| -> Vec<FlowId> {
        let trace = side.outcome.trace.as_ref();
        trace.map(|trace| trace.path().into_iter().map(|(_, flow)| flow).collect()).unwrap_or_default()
    };
    let paths = sides.each_ref().map(path);
    let tables = [question.a, question.b];
    let bare = |side: usize, id: FlowId| -> Option<Flow> {
        let flow = tables.get(side)?.flow(id)?.clone();
        Some(Flow { cookie: 0, span: flowproof_switch::flow::Span::default(), ..flow })
    };
    for (at, side) in sides.iter_mut().enumerate() {
        let other: Vec<Option<Flow>> =
            paths.get(1 - at).into_iter().flatten().map(|id| bare(1 - at, *id)).collect();
        let own = paths.get(at).into_iter().flatten();
        let mut flows: Vec<FlowId> = own.copied().filter(|id| !other.contains(&bare(at, *id))).collect();
        if flows.is_empty() {
            flows.extend(paths.get(at).and_then(|path| path.last()));
        }
        flows.dedup();
        side.flows = flows;
    }
    sides
}
