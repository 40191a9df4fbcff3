//! All packets at once against one packet at a time: what symbolic execution says of a packet is what the interpreter
//! does with it, exit by exit, flow by flow.

use super::{
    hosts::{self, CORPUS, HARDENED, SEED},
    random_flows::{self, Spice},
    random_packets::{self, Assignment, Frame, Pool},
    rng::Rng,
};
use flowproof_packet::{Field, PortNo, port, wire};
use flowproof_proofs::{
    bdd::Bdds,
    frames, replay,
    symbolic::{self, Emit, Event, Yield},
    symkey::{Bit, Form},
    tables::Tables,
};
use flowproof_switch::{
    conntrack::{CtInfo, CtOutput, Profile},
    flow::Subfield,
    pipeline::{DropReason, Effect, PortConfig, Switch, SwitchConfig, Tracker, Visit},
    table::{FlowId, TieBreak},
    trace::{self, Trace},
};
use std::{
    collections::{BTreeSet, VecDeque},
    iter::Peekable,
    slice,
};

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Port(PortNo),
    Normal,
    Controller,
    Opaque(String),
}

/// One way out: where to, the VLAN bits, the flows that led there. Flows that do the same count as one.
type Exit = (Way, u128, Vec<FlowId>);

/// Gives answers in order, the last one for ever; fragments come out whole where the datapath has it so.
struct Oracle<'a> {
    answers: &'a [CtInfo],
    frame: &'a Frame,
    reassembles: bool,
}

impl Tracker for Oracle<'_> {
    fn track(&mut self, frame: &[u8], visit: &Visit) -> CtOutput {
        let Some((first, rest)) = self.answers.split_first() else { panic!("no answer") };
        if visit.recirculates && !rest.is_empty() {
            self.answers = rest;
        }
        let (was, is) = (wire::extract(&self.frame.bytes, 0), wire::extract(frame, 0));
        let whole = self.reassembles && is.get(Field::NwFrag) != 0;
        let frame = if whole { wire::commit(&self.frame.whole, &was, &is) } else { frame.to_vec() };
        vec![(frame, *first)]
    }
}

/// What is the same for many packets.
struct Case<'a> {
    tables: &'a Tables,
    profile: Profile,
    ports: &'a [PortNo],
    in_port: PortNo,
}

/// How the interpreter took a packet.
struct Took {
    /// With each exit the answers on the way there.
    exits: Vec<(Exit, Vec<CtInfo>)>,
    /// Whether all copies got the same answers, if they were asked equally often.
    uniform: bool,
    ambiguous: bool,
}

impl Case<'_> {
    fn same(&self, id: FlowId) -> FlowId {
        let flow = self.tables.flow(id).unwrap();
        let same = |other: &&FlowId| {
            let other = self.tables.flow(**other).unwrap();
            other.priority == flow.priority && other.actions == flow.actions
        };
        self.tables.switch().in_table(flow.table).iter().filter(same).min().copied().unwrap()
    }

    fn interpret(&self, frame: &Frame, answers: &[CtInfo], tie: TieBreak) -> Took {
        let ports = self.ports.iter().map(|port| PortConfig::trunk(*port)).collect();
        let config = SwitchConfig { ports, profile: self.profile, tie };
        let tracker = Oracle { answers, frame, reassembles: self.profile.reassembles() };
        let mut switch = Switch::with_tracker(self.tables.switch().clone(), config, tracker);
        let outcome = switch.receive_traced(self.in_port, &frame.bytes);
        let trace = outcome.trace.unwrap();
        let mut reader = Reader {
            case: self,
            events: trace.steps.iter().peekable(),
            effects: outcome.effects.into(),
            exits: Vec::new(),
            by_depth: Vec::new(),
            uniform: true,
        };
        reader.pass(Vec::new(), Vec::new());
        assert!(
            reader.events.next().is_none() && reader.effects.is_empty(),
            "{}",
            render(&trace, self.tables)
        );
        Took { exits: reader.exits, uniform: reader.uniform, ambiguous: !trace.ambiguities().is_empty() }
    }

    /// The exits that symbolic execution has for a packet; `None` among them where it gives up precision.
    fn predicted(
        &self,
        sets: &Bdds,
        run: &Yield<flowproof_proofs::bdd::Bdd>,
        packet: &Assignment,
    ) -> Vec<Option<Exit>> {
        let holds = |event: &&Event<_>| sets.contains(event.packets, |var| packet.bit(var));
        run.events.iter().filter(holds).flat_map(|event| self.exits(event, packet)).collect()
    }

    fn exits(&self, event: &Event<flowproof_proofs::bdd::Bdd>, packet: &Assignment) -> Vec<Option<Exit>> {
        let vlan = Field::VlanTci.spec();
        let vlan = (vlan.offset..vlan.offset + vlan.width).fold(0u128, |sum, bit| {
            let on = match event.key.bit(bit) {
                Bit::Known(on) => on,
                Bit::Free(var) => packet.bit(var),
            };
            sum << 1 | u128::from(on)
        });
        let flows: Vec<FlowId> =
            symbolic::flows_of(&event.path).into_iter().map(|flow| self.same(flow)).collect();
        let in_port = event.key.constant(Subfield::whole(Field::InPort)).unwrap() as PortNo;
        let all = || self.ports.iter().copied().chain([port::LOCAL]);
        let ways: Vec<Option<Way>> = match &event.emit {
            Emit::Port(port) => all().filter(|known| known == port).map(Way::Port).map(Some).collect(),
            Emit::InPort => all().filter(|known| *known == in_port).map(Way::Port).map(Some).collect(),
            Emit::Flood => all().filter(|known| *known != in_port).map(Way::Port).map(Some).collect(),
            Emit::Normal => vec![Some(Way::Normal)],
            Emit::Controller => vec![Some(Way::Controller)],
            Emit::UnknownPort | Emit::Opaque(_) | Emit::Limit => vec![None],
        };
        ways.into_iter().map(|way| way.map(|way| (way, vlan, flows.clone()))).collect()
    }

    #[track_caller]
    fn check(
        &self,
        sets: &Bdds,
        run: &Yield<flowproof_proofs::bdd::Bdd>,
        frame: &Frame,
        answers: &[CtInfo],
    ) -> usize {
        let mut exits = 0;
        for tie in [TieBreak::First, TieBreak::Last] {
            let took = self.interpret(frame, answers, tie);
            for (exit, answers) in &took.exits {
                let packet = Assignment::new(frame, answers);
                let predicted = self.predicted(sets, run, &packet);
                assert!(
                    predicted.iter().any(|known| known.as_ref().is_none_or(|known| known == exit)),
                    "{:?}: the interpreter has an exit that symbolic execution has not: {exit:?}\nit has {predicted:#?}\n{}\n{}",
                    self.profile,
                    self.story(frame, answers, tie),
                    self.text()
                );
            }
            exits += took.exits.len();
            if took.ambiguous || !took.uniform {
                continue;
            }
            let longest = took.exits.iter().map(|(_, answers)| answers).max_by_key(|answers| answers.len());
            let packet = Assignment::new(frame, longest.map_or(answers, |_| answers));
            let predicted = self.predicted(sets, run, &packet);
            if predicted.iter().any(Option::is_none) {
                continue;
            }
            let predicted: BTreeSet<Exit> = predicted.into_iter().flatten().collect();
            let took: BTreeSet<Exit> = took.exits.into_iter().map(|(exit, _)| exit).collect();
            let extra: Vec<_> = predicted.difference(&took).collect();
            assert!(
                extra.is_empty(),
                "{:?}: symbolic execution has exits that the interpreter has not: {extra:#?}\n{}\n{}",
                self.profile,
                self.story(frame, answers, tie),
                self.text()
            );
        }
        exits
    }

    fn story(&self, frame: &Frame, answers: &[CtInfo], tie: TieBreak) -> String {
        let ports = self.ports.iter().map(|port| PortConfig::trunk(*port)).collect();
        let config = SwitchConfig { ports, profile: self.profile, tie };
        let tracker = Oracle { answers, frame, reassembles: self.profile.reassembles() };
        let mut switch = Switch::with_tracker(self.tables.switch().clone(), config, tracker);
        let outcome = switch.receive_traced(self.in_port, &frame.bytes);
        format!(
            "{:?} {}\nof {}\n{}",
            frame.form,
            flowproof_switch::flow::key_to_text(&wire::extract(&frame.bytes, self.in_port)),
            flowproof_switch::flow::key_to_text(&frame.sent),
            render(&outcome.trace.unwrap(), self.tables)
        )
    }

    fn text(&self) -> String {
        let flows = self.tables.flows();
        if flows.len() > 80 { String::new() } else { flows.iter().map(|flow| format!("{flow}\n")).collect() }
    }
}

fn render(trace: &Trace, tables: &Tables) -> String {
    trace.render(tables.switch())
}

/// What a pass decides to do.
enum Decision {
    Out(Way, Vec<FlowId>),
    Track(Option<u8>, Vec<FlowId>),
}

/// Reads a trace: each pass decides everything first, then its copies go their ways.
struct Reader<'a> {
    case: &'a Case<'a>,
    events: Peekable<slice::Iter<'a, trace::Step>>,
    effects: VecDeque<Effect>,
    exits: Vec<(Exit, Vec<CtInfo>)>,
    by_depth: Vec<CtInfo>,
    uniform: bool,
}

impl Reader<'_> {
    fn pass(&mut self, mut path: Vec<FlowId>, answers: Vec<CtInfo>) {
        let first = self.events.next().map(|step| &step.event);
        if let Some(trace::Event::Dropped(DropReason::TooManyRecirculations)) = first {
            return;
        }
        assert!(matches!(first, Some(trace::Event::Pass { .. })), "{first:?}");
        let mut decisions = Vec::new();
        while let Some(step) = self.events.next_if(|step| !carried_out(&step.event)) {
            match &step.event {
                trace::Event::Lookup { found, .. } => {
                    path.extend(found.flow.map(|flow| self.case.same(flow)))
                }
                trace::Event::Output(port) => decisions.push(Decision::Out(Way::Port(*port), path.clone())),
                trace::Event::Controller => decisions.push(Decision::Out(Way::Controller, path.clone())),
                trace::Event::Normal { .. } => decisions.push(Decision::Out(Way::Normal, path.clone())),
                trace::Event::Opaque { text, .. } => {
                    decisions.push(Decision::Out(Way::Opaque(text.clone()), path.clone()));
                }
                trace::Event::Track { table, .. } => decisions.push(Decision::Track(*table, path.clone())),
                trace::Event::Dropped(DropReason::TooDeep | DropReason::TooManyResubmits) => {
                    decisions.clear()
                }
                _ => {}
            }
        }
        for decision in decisions {
            match decision {
                Decision::Out(way, path) => {
                    let vlan = match self.effects.pop_front() {
                        Some(
                            Effect::Output { frame, .. }
                            | Effect::Normal { frame, .. }
                            | Effect::Controller { frame },
                        ) => wire::extract(&frame, 0).get(Field::VlanTci),
                        Some(Effect::Opaque { .. }) => 0,
                        None => panic!("{way:?} without effect"),
                    };
                    self.exits.push(((way, vlan, path), answers.clone()));
                }
                Decision::Track(table, path) => {
                    let Some(trace::Event::Tracked(info)) = self.events.next().map(|step| &step.event) else {
                        panic!("no answer")
                    };
                    if table.is_some() {
                        match self.by_depth.get(answers.len()) {
                            Some(before) => self.uniform &= before == info,
                            None => self.by_depth.push(*info),
                        }
                        let mut answers = answers.clone();
                        answers.push(*info);
                        self.pass(path, answers);
                    }
                }
            }
        }
    }
}

/// Whether an event is of the carrying out, not of the deciding.
fn carried_out(event: &trace::Event) -> bool {
    matches!(
        event,
        trace::Event::Pass { .. }
            | trace::Event::Tracked(_)
            | trace::Event::Held
            | trace::Event::Dropped(DropReason::TooManyRecirculations)
    )
}

/// Random packets of every form on one host; how many exits were compared.
#[track_caller]
fn compare(
    rng: &mut Rng,
    tables: &Tables,
    ports: &[PortNo],
    profile: Profile,
    in_port: PortNo,
    packets: usize,
) -> usize {
    let pool = Pool::of(tables);
    let case = Case { tables, profile, ports, in_port };
    let mut exits = 0;
    for form in Form::ALL {
        let mut sets = Bdds::with_limit(4_000_000);
        let start = frames::sendable(&mut sets, form);
        let run = symbolic::execute(&mut sets, tables, profile, form, in_port, start);
        assert!(run.complete && !sets.overflown());
        for _ in 0..packets {
            let Some(frame) = random_packets::frame(rng, &pool, form, in_port) else { continue };
            let packet = Assignment::new(&frame, &[]);
            assert!(
                sets.contains(start, |var| packet.bit(var)),
                "not sendable: {:?}",
                case.story(&frame, &[CtInfo::default()], TieBreak::First)
            );
            let usual = random_packets::answer(rng, &frame.sent, profile);
            let same = rng.chance(60);
            let answers: Vec<CtInfo> = (0..16)
                .map(|_| if same { usual } else { random_packets::answer(rng, &frame.sent, profile) })
                .collect();
            exits += case.check(&sets, &run, &frame, &answers);
        }
    }
    exits
}

#[test]
fn random_tables_do_with_all_packets_what_they_do_with_each() {
    hosts::deep(random_tables);
}

fn random_tables() {
    let mut rng = Rng::new(3);
    let mut exits = 0;
    let rounds = std::env::var("FLOWPROOF_ROUNDS").map_or(TABLES, |n| n.parse().unwrap());
    for round in 0..rounds {
        let spice = Spice { opaque: round % 5 == 0, ..Spice::default() };
        let text = random_flows::text(&mut rng, spice);
        let tables = Tables::new(hosts::flows(&text));
        let profile = *rng.pick(&Profile::ALL);
        exits += compare(&mut rng, &tables, &[1, 2, 3, 4], profile, 1 + (round % 3) as PortNo, PACKETS);
    }
    assert!(exits > TABLES * PACKETS, "only {exits} exits");
}

const TABLES: usize = 250;
const PACKETS: usize = 8;

#[test]
fn real_tables_do_with_all_packets_what_they_do_with_each() {
    let mut rng = Rng::new(4);
    let hosts = CORPUS.iter().map(|(_, text)| *text).chain([SEED, HARDENED]);
    for (number, text) in hosts.enumerate() {
        let host = hosts::host(text);
        let named = replay::ports(&host, host.ports.first().unwrap());
        let ports: Vec<PortNo> = named.iter().map(|port| port.ofport).collect();
        let profile = Profile::ALL[number % Profile::ALL.len()];
        let senders = [host.ports.first().unwrap().ofport, 1];
        for sender in senders {
            let exits = compare(&mut rng, &host.tables, &ports, profile, sender, 60);
            assert!(exits > 0, "nothing gets anywhere from port {sender} of host {number}");
        }
    }
}
