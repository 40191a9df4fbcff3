//! The diagram engine on the questions of section B, for one class of senders.
//!
//! One symbolic execution for each profile and form of frame serves every row and every receiver. Where only a rule could
//! say whether a frame may pass, and there is no intent, a frame is held against its *twin*: the same packet in the
//! same state from the same sender, addressed to the receiver alone and put out to it by number.

mod arrives;

use super::{
    Question, admit,
    scene::{Ingress, Scene, registers},
    world::{Kind, Sender},
};
use crate::{
    arrival::Arrival,
    bdd::{Bdd, Bdds},
    diagram::{Exhausted, Found, WORN},
    familiar::{self, Wishes},
    frames,
    intent::{
        encode::{Standing, Words},
        judge::{STANDINGS, answered},
        site::Site,
    },
    ports::Port,
    predicate::Predicate,
    probe,
    set::{Literal, PacketSets},
    symbolic::{self, Emit, Event, Memory, Rivals, Start, Yield, flows_of},
    symkey::{Bit, Form, SymKey},
    tables::Tables,
    vars,
};
use flowproof_model::{policy::Direction, switches::GroupAddressed};
use flowproof_packet::{Field, PortNo, key::low_bits};
use flowproof_switch::{
    conntrack::{Profile, state},
    flow::{Action, Match, Subfield},
};
use std::collections::BTreeMap;

const NODE_LIMIT: usize = 16_000_000;

/// What one execution came to.
pub(super) struct Run {
    profile: Profile,
    pub(super) form: Form,
    /// Every way out, with the packets that really leave.
    events: Vec<Event<Bdd>>,
    /// What `ct()` is asked with, or a register written with, and the network that this names, if it is a constant.
    probes: Vec<(Option<u16>, Event<Bdd>)>,
    pub(super) rivals: Rivals<Bdd>,
    pub(super) limited: bool,
    /// Outputs by number.
    direct: BTreeMap<PortNo, Vec<usize>>,
    /// All other ways out.
    wide: Vec<usize>,
}

/// Diagrams, and what has been found out with them about the tables of one scene: for one sender after another.
pub struct Bench {
    sets: Bdds,
    memory: Memory<Bdd>,
}

impl Default for Bench {
    fn default() -> Self {
        Bdds::with_limit(NODE_LIMIT).into()
    }
}

impl From<Bdds> for Bench {
    fn from(sets: Bdds) -> Self {
        Self { sets, memory: Memory::default() }
    }
}

/// All frames of one class of senders through the tables.
pub struct Engine<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) sender: &'a Sender,
    pub(super) sets: Bdds,
    memory: Memory<Bdd>,
    pub(super) runs: Vec<Run>,
    /// What was wished last, and of what.
    pub(super) wishes: Option<((Question, PortNo), Wishes<Bdd>)>,
}

impl<'a> Engine<'a> {
    /// Runs everything that `sender` can send, in every form and under every profile, but for the `spared` frames.
    ///
    /// # Errors
    /// When the limits on memory or work are reached.
    pub fn new(
        bench: Bench,
        (scene, sender): (Scene<'a>, &'a Sender),
        profiles: &[Profile],
        spared: &Predicate,
    ) -> Result<Self, Exhausted> {
        let Bench { mut sets, memory } = bench;
        sets.begin();
        let mut engine = Self { scene, sender, sets, memory, runs: Vec::new(), wishes: None };
        let spared = spared.to_set(&mut engine.sets);
        let arrivals = sender.arrivals(scene.host.tables.flows());
        for form in Form::ALL {
            let all = frames::sendable(&mut engine.sets, form);
            let mut start = engine.sets.minus(all, spared);
            if let Some(numbers) = &sender.numbers {
                let numbers = numbers.to_set(&mut engine.sets);
                start = engine.sets.and(start, numbers);
            }
            let arrivals = arrivals.iter();
            for (profile, arrival) in
                profiles.iter().flat_map(|one| arrivals.clone().map(move |way| (one, way)))
            {
                let premise = arrival.premise().to_set(&mut engine.sets);
                let start = engine.sets.and(start, premise);
                let mut run = engine.run((form, *arrival), *profile, start, false);
                if !run.rivals.is_empty() {
                    run = engine.run((form, *arrival), *profile, start, true);
                }
                if !run.complete {
                    return Err(Exhausted("too many lookups in one execution"));
                }
                let run = engine.arranged(*profile, form, run);
                engine.runs.push(run);
            }
        }
        engine.bounded().map(|()| engine)
    }

    /// Where it is open which of two flows is hit, each flow must be named: those that are alike may not all be.
    fn run(
        &mut self,
        (form, arrival): (Form, Arrival),
        profile: Profile,
        packets: Bdd,
        each_flow: bool,
    ) -> Yield<Bdd> {
        let tables = &self.scene.world.tables;
        let key = match &self.sender.numbers {
            None => SymKey::entering(self.sender.ofport, form, arrival),
            Some(_) => SymKey::entering_anywhere(form, arrival),
        };
        let start = Start { tables, profile, form, key, packets, enough: usize::MAX, each_flow };
        symbolic::execute_with(&mut self.sets, &mut self.memory, start, None)
    }

    /// The bench, for the next sender; a new one where this holds much that nobody will ask for again.
    #[must_use]
    pub fn into_bench(self) -> Bench {
        let Self { sets, memory, .. } = self;
        if sets.size() > WORN || sets.overflown() { Bench::default() } else { Bench { sets, memory } }
    }

    fn bounded(&self) -> Result<(), Exhausted> {
        if self.sets.overflown() {
            Err(Exhausted("decision diagrams outgrew their memory limit"))
        } else {
            Ok(())
        }
    }

    fn arranged(&mut self, profile: Profile, form: Form, run: Yield<Bdd>) -> Run {
        let mut arranged = Run {
            profile,
            form,
            events: Vec::new(),
            probes: Vec::new(),
            rivals: run.rivals,
            limited: run.events.iter().any(|event| event.emit == Emit::Limit),
            direct: BTreeMap::new(),
            wide: Vec::new(),
        };
        for event in run.events {
            if let Emit::Opaque(text) = &event.emit
                && let Some(action) = probe::behind(self.scene.host.tables.flows(), text)
            {
                let named = if let Action::Ct(ct) = action {
                    probe::zone(ct, &event.key)
                } else {
                    registers(self.scene.host, action).flatten()
                };
                arranged.probes.push((named, event));
                continue;
            }
            let event = Event { emit: by_number(event.emit, &event.key), ..event };
            let packets = self.leaving(&event);
            if self.sets.is_empty(packets) {
                continue;
            }
            let place = arranged.events.len();
            let same_way = match event.emit {
                Emit::Port(port) => arranged.direct.entry(port).or_default(),
                Emit::UnknownPort
                | Emit::InPort
                | Emit::Normal
                | Emit::Flood
                | Emit::Controller
                | Emit::Opaque(_)
                | Emit::Limit => &mut arranged.wide,
            };
            same_way.push(place);
            arranged.events.push(Event { packets, ..event });
        }
        arranged
    }

    /// What reaches a filtered port in one run, by the way it leaves the tables.
    fn arrivals(&mut self, run: &Run, receiver: &Port) -> Vec<Found> {
        let direct = run.direct.get(&receiver.ofport).into_iter().flatten();
        let mut found = Vec::new();
        for event in direct.chain(&run.wide).filter_map(|place| run.events.get(*place)) {
            let packets = self.arrives(event, receiver);
            self.keep(&mut found, run.form, event, packets);
        }
        found
    }

    fn keep(&mut self, into: &mut Vec<Found>, form: Form, event: &Event<Bdd>, packets: Bdd) {
        if !self.sets.is_empty(packets) {
            into.push(Found { form, event: Event { packets, ..event.clone() } });
        }
    }

    /// Packets that violate a row at a port, by the way they leave: what reaches it from this sender, and, where it is the
    /// sender itself, what it does to others.
    ///
    /// # Errors
    /// When the memory limit is reached.
    pub fn violations(
        &mut self,
        question: Question,
        profile: Profile,
        receiver: &Port,
    ) -> Result<Vec<Found>, Exhausted> {
        let mut wrong = Vec::new();
        let runs = std::mem::take(&mut self.runs);
        for run in runs.iter().filter(|run| run.profile == profile) {
            let arrivals = self.arrivals(run, receiver);
            match question {
                Question::Networks => self.foreign(&mut wrong, run, receiver, &arrivals),
                Question::Denied => self.undenied(&mut wrong, receiver, &arrivals),
                Question::Groups => self.flooded(&mut wrong, run, receiver, &arrivals),
                Question::Strangers => self.strange(&mut wrong, receiver, &arrivals),
                Question::Untracked => self.untracked(&mut wrong, run, receiver, &arrivals),
                Question::Thirds => self.decided_by_others(&mut wrong, run, receiver, &arrivals),
            }
        }
        self.runs = runs;
        self.bounded().map(|()| wrong)
    }

    /// Frames that come from another network; zones and registers that name another one.
    fn foreign(&mut self, wrong: &mut Vec<Found>, run: &Run, receiver: &Port, arrivals: &[Found]) {
        let Some(network) = receiver.network else { return };
        let own = self.sender.frames_of(network).to_set(&mut self.sets);
        for found in arrivals {
            let packets = self.sets.minus(found.event.packets, own);
            self.keep(wrong, found.form, &found.event, packets);
        }
        for (named, event) in &run.probes {
            if self.concerns(receiver, named.unwrap_or(network)) {
                let right = self.of(*named);
                let packets = self.sets.minus(event.packets, right);
                let event = Event { emit: Emit::Controller, ..event.clone() };
                self.keep(wrong, run.form, &event, packets);
            }
        }
    }

    /// Whether what is said of a network is said of this port: it sent it, or it is of the network.
    fn concerns(&self, receiver: &Port, network: u16) -> bool {
        match self.sender.kind {
            Kind::Filtered(_) => self.sender.ofport == receiver.ofport,
            Kind::Other | Kind::Unknown => receiver.network == Some(network) || network == 0,
        }
    }

    fn of(&mut self, network: Option<u16>) -> Bdd {
        let frames = network.map_or(Predicate::never(), |network| self.sender.frames_of(network));
        frames.to_set(&mut self.sets)
    }

    /// What comes without a rule, by a table miss, or from nowhere.
    fn undenied(&mut self, wrong: &mut Vec<Found>, receiver: &Port, arrivals: &[Found]) {
        let [rules_in, rules_out] = [Direction::Ingress, Direction::Egress]
            .map(|direction| self.scene.has_rules(receiver.ofport, direction));
        let group = admit::group_addressed().to_set(&mut self.sets);
        let free = admit::received(receiver).to_set(&mut self.sets);
        let admitted = self.sets.or(group, free);
        for Found { form, event } in arrivals {
            let everything = self.sender.kind == Kind::Unknown || self.scene.is_miss(event);
            let mut packets = if everything { event.packets } else { self.sets.none() };
            for standing in STANDINGS {
                let has_rule = rules_in || standing == Standing::Follows && rules_out;
                if !has_rule {
                    let answered = answered(&mut self.sets, standing, event.recirculations);
                    let without_rule = self.sets.minus(event.packets, admitted);
                    let without_rule = self.sets.and(without_rule, answered);
                    packets = self.sets.or(packets, without_rule);
                }
            }
            self.keep(wrong, *form, event, packets);
        }
    }

    /// IP for groups that the port's ingress does not admit.
    fn flooded(&mut self, wrong: &mut Vec<Found>, run: &Run, receiver: &Port, arrivals: &[Found]) {
        let group = admit::group_addressed().and(admit::ip()).to_set(&mut self.sets);
        let free = admit::received(receiver).to_set(&mut self.sets);
        let (none, mut known) = (self.sets.none(), None);
        for Found { form, event } in arrivals {
            let depth = event.recirculations;
            let packets = self.sets.and(event.packets, group);
            if self.sets.is_empty(packets) {
                continue;
            }
            let twins = match &mut known {
                Some(twins) => twins,
                slot => slot.insert(self.twins(run, receiver)),
            };
            let of = |depth| twins.get(&depth).copied().unwrap_or(none);
            let (stateless, first) = (of(0), of(u16::MAX));
            let mut same = of(depth);
            let rest = self.sets.minus(packets, same);
            if depth > 1 && !self.sets.is_empty(rest) {
                let other = self.renamed(of(1), depth - 1);
                same = self.sets.or(same, other);
            }
            let allowed = match self.scene.site {
                Some(site) => self.admitted_by(site, receiver, depth, same),
                None => {
                    let opens = self.opens(depth.checked_sub(1));
                    let first = self.sets.and(first, opens);
                    [same, stateless, first].into_iter().fold(free, |sum, set| self.sets.or(sum, set))
                }
            };
            let packets = self.sets.minus(packets, allowed);
            self.keep(wrong, *form, event, packets);
        }
    }

    /// What the intent lets reach a port, in the standing that the answers of connection tracking give. What follows a
    /// connection may also be what would reach it as a frame for it alone: whether that is right is section D's.
    fn admitted_by(&mut self, site: &Site, receiver: &Port, depth: u16, twins: Bdd) -> Bdd {
        let switches = flowproof_model::switches::Switches {
            group_addressed: GroupAddressed::Filtered,
            ..site.switches
        };
        let words = Words { policy: &site.policy, switches: &switches };
        let mut allowed = self.sets.none();
        let Some((port, _)) = site.at(receiver.ofport) else { return allowed };
        for standing in STANDINGS {
            let mut may = words.receives(port, standing).may.to_set(&mut self.sets);
            if matches!(standing, Standing::Follows | Standing::Revoked) {
                may = self.sets.or(may, twins);
            }
            let answered = answered(&mut self.sets, standing, depth);
            let both = self.sets.and(may, answered);
            allowed = self.sets.or(allowed, both);
        }
        allowed
    }

    /// The packets, whatever their destination MAC, that would reach the port by number if they were addressed to it, by
    /// the depth of connection tracking; under `u16::MAX` those that would as the first of a connection.
    fn twins(&mut self, run: &Run, receiver: &Port) -> BTreeMap<u16, Bdd> {
        let own = admit::addressed(receiver).to_set(&mut self.sets);
        let mut twins: BTreeMap<u16, Bdd> = BTreeMap::new();
        let destination: Vec<_> = vars::sent(Field::DlDst).collect();
        for place in run.direct.get(&receiver.ofport).into_iter().flatten() {
            let Some(event) = run.events.get(*place) else { continue };
            let addressed = self.sets.and(event.packets, own);
            let any = self.sets.exists(addressed, &|var| destination.contains(&var));
            let depth = event.recirculations;
            let known = twins.get(&depth).copied().unwrap_or(self.sets.none());
            let sum = self.sets.or(known, any);
            twins.insert(depth, sum);
            if depth > 0 {
                let first = self.opens(0..depth);
                let first = self.sets.and(any, first);
                let first = self.sets.exists(first, &|var| is_answer(var));
                let known = twins.get(&u16::MAX).copied().unwrap_or(self.sets.none());
                let sum = self.sets.or(known, first);
                twins.insert(u16::MAX, sum);
            }
        }
        twins
    }

    /// The same packets, their first answer of connection tracking taken for the one at `depth`.
    fn renamed(&mut self, set: Bdd, depth: u16) -> Bdd {
        let bits =
            vars::tracked_fields().flat_map(|field| vars::tracked(0, field).zip(vars::tracked(depth, field)));
        let mut set = set;
        for (from, to) in bits {
            let without = self.sets.exists(set, &|var| var == from);
            if without == set {
                continue;
            }
            let [zero, one] = [false, true].map(|on| {
                let (was, is) = (self.sets.cube(&[(from, on)]), self.sets.cube(&[(to, on)]));
                let half = self.sets.and(set, was);
                let half = self.sets.exists(half, &|var| var == from);
                self.sets.and(half, is)
            });
            set = self.sets.or(zero, one);
        }
        set
    }

    /// The answers that open a connection, at these depths.
    fn opens(&mut self, depths: impl IntoIterator<Item = u16>) -> Bdd {
        let literals: Vec<Literal> = depths.into_iter().flat_map(familiar::calm_answer).flatten().collect();
        self.sets.cube(&literals)
    }

    /// Frames for somebody else; but not what comes back to its sender as an answer to it.
    fn strange(&mut self, wrong: &mut Vec<Found>, receiver: &Port, arrivals: &[Found]) {
        let right = admit::addressed(receiver).or(admit::group_addressed()).to_set(&mut self.sets);
        let own = self.sender.ofport == receiver.ofport;
        for Found { form, event } in arrivals {
            let mut packets = self.sets.minus(event.packets, right);
            for mac in receiver.macs.iter().filter(|_| own) {
                let mut answer = Match::default();
                answer.set(Field::DlDst, mac.to_bits().into(), u128::MAX);
                let answers = frames::select(&mut self.sets, event, &answer);
                packets = self.sets.minus(packets, answers);
            }
            self.keep(wrong, *form, event, packets);
        }
    }

    /// What goes past connection tracking and is not among what needs no rule.
    fn untracked(&mut self, wrong: &mut Vec<Found>, run: &Run, receiver: &Port, arrivals: &[Found]) {
        let free = admit::received(receiver).to_set(&mut self.sets);
        for Found { form, event } in arrivals {
            let packets = self.not_tracked(event);
            let packets = self.sets.minus(packets, free);
            self.keep(wrong, *form, event, packets);
        }
        if self.sender.ofport == receiver.ofport {
            let free = admit::sent(receiver).to_set(&mut self.sets);
            // What goes to the controller, or comes back to the sender, leaves for nobody.
            let own = Emit::Port(self.sender.ofport);
            let nobody = [Emit::Controller, Emit::InPort, own];
            for event in run.events.iter().filter(|event| !nobody.contains(&event.emit)) {
                let packets = self.not_tracked(event);
                let packets = self.sets.minus(packets, free);
                self.keep(wrong, run.form, event, packets);
            }
        }
    }

    /// Those of an event's packets that no connection tracking has taken note of.
    fn not_tracked(&mut self, event: &Event<Bdd>) -> Bdd {
        let Some(depth) = event.recirculations.checked_sub(1) else { return event.packets };
        let flag = state::TRK.trailing_zeros() as usize;
        let literal = vars::tracked(depth, Field::CtState).rev().nth(flag).map(|var| (var, false));
        let overdue = self.sets.cube(literal.as_slice());
        self.sets.and(event.packets, overdue)
    }

    /// Packets on whose way a third port's rules, or an undefined order, decide.
    fn decided_by_others(&mut self, wrong: &mut Vec<Found>, run: &Run, receiver: &Port, arrivals: &[Found]) {
        let own = self.sender.ofport == receiver.ofport;
        let sent: Vec<Found> = if own {
            let sent = run.events.iter().filter(|event| event.emit != Emit::Controller);
            sent.map(|event| Found { form: run.form, event: event.clone() }).collect()
        } else {
            Vec::new()
        };
        for found in arrivals.iter().chain(&sent) {
            let goes = if let Emit::Port(port) = found.event.emit { port } else { receiver.ofport };
            if self.scene.is_third(&found.event, &[self.sender.ofport, receiver.ofport, goes]) {
                wrong.push(found.clone());
            }
        }
        let arrived: Vec<Exit> =
            arrivals.iter().map(|found| self.delivered(&found.event, receiver)).collect();
        self.undefined(wrong, run, arrivals, &arrived);
        let left: Vec<Exit> = sent.iter().map(|found| exit(&found.event)).collect();
        self.undefined(wrong, run, &sent, &left);
    }

    /// Packets that match two flows of equal priority and go another way, of `ways`, by one than by the other.
    fn undefined(&mut self, wrong: &mut Vec<Found>, run: &Run, found: &[Found], ways: &[Exit]) {
        let mut exits = ways.to_vec();
        exits.dedup();
        for ((a, b), contested) in &run.rivals {
            for way in &exits {
                let mut packets = [self.sets.none(), self.sets.none()];
                let mut by_either = Vec::new();
                for (found, _) in found.iter().zip(ways).filter(|(_, of)| *of == way) {
                    let path = flows_of(&found.event.path);
                    for (flow, set) in [a, b].into_iter().zip(&mut packets) {
                        if path.contains(flow) {
                            *set = self.sets.or(*set, found.event.packets);
                            by_either.push(found);
                        }
                    }
                }
                let [by_a, by_b] = packets;
                let (more, less) = (self.sets.minus(by_a, by_b), self.sets.minus(by_b, by_a));
                let either = self.sets.or(more, less);
                let either = self.sets.and(either, *contested);
                for found in by_either {
                    let packets = self.sets.and(found.event.packets, either);
                    self.keep(wrong, found.form, &found.event, packets);
                }
            }
        }
    }

    /// Frames that a row speaks of and that rightly reach the port.
    ///
    /// # Errors
    /// When the memory limit is reached.
    pub fn innocent(
        &mut self,
        question: Question,
        profile: Profile,
        receiver: &Port,
    ) -> Result<Vec<Found>, Exhausted> {
        let premise = match question {
            Question::Networks | Question::Denied | Question::Thirds => admit::group_addressed().negate(),
            Question::Groups => admit::group_addressed().and(admit::ip()),
            Question::Strangers => admit::addressed(receiver),
            Question::Untracked => admit::received(receiver),
        };
        let premise = premise.to_set(&mut self.sets);
        let mut right = Vec::new();
        let runs = std::mem::take(&mut self.runs);
        for run in runs.iter().filter(|run| run.profile == profile) {
            for Found { form, event } in self.arrivals(run, receiver) {
                let tracked = event.recirculations > 0;
                let speaks = match question {
                    Question::Thirds => tracked,
                    Question::Untracked => !tracked,
                    Question::Networks | Question::Denied | Question::Groups | Question::Strangers => true,
                };
                if speaks && event.emit.is_modelled() {
                    let packets = self.sets.and(event.packets, premise);
                    self.keep(&mut right, form, &event, packets);
                }
            }
        }
        self.runs = runs;
        self.bounded().map(|()| right)
    }
}

impl crate::since::Engine for Engine<'_> {
    fn sets(&mut self) -> &mut Bdds {
        &mut self.sets
    }

    fn tables(&self) -> &Tables {
        &self.scene.host.tables
    }

    fn in_port(&self) -> PortNo {
        self.sender.ofport
    }

    fn arrivals(&self) -> Vec<Arrival> {
        self.sender.arrivals(self.scene.host.tables.flows())
    }
}

/// `IN_PORT` as the output that it is where the input port, as written or not, is a constant.
fn by_number(emit: Emit, key: &SymKey) -> Emit {
    let number = key.constant(Subfield::whole(Field::InPort)).and_then(|port| PortNo::try_from(port).ok());
    match (emit, number) {
        (Emit::InPort, Some(port)) => Emit::Port(port),
        (emit, _) => emit,
    }
}

/// Where to, and with which VLAN bits.
type Exit = (Emit, Vec<Bit>);

fn exit(event: &Event<Bdd>) -> Exit {
    let vlan = Field::VlanTci.spec();
    (event.emit.clone(), (vlan.offset..vlan.offset + vlan.width).map(|bit| event.key.bit(bit)).collect())
}

const fn is_answer(var: vars::Var) -> bool {
    (var.0 as usize) >= flowproof_packet::key::BITS + 8
}
