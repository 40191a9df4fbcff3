//! All packets at once against one packet at a time: what symbolic execution says of a packet is what the interpreter
//! does with it, exit by exit, flow by flow.

use super::{Objection, Verdict, object, subject};
use crate::Choices;
use crate::packets::{self, Assignment, Frame, Pool};
use crate::tables::{self, Spice};
use flowproof_packet::{
    Field, PortNo,
    build::{ComposeOptions, compose},
    port, wire,
};
use flowproof_proofs::{
    bdd::{Bdd, Bdds},
    frames, replay,
    symbolic::{self, Emit, Event, Yield},
    symkey::{Bit, Form},
    tables::Tables,
};
use flowproof_switch::conntrack::{CtInfo, CtOutput, Profile};
use flowproof_switch::flow::{Action, Conjunction, Flow, ParseOptions, Subfield, parse_flows};
use flowproof_switch::pipeline::{
    self, DropReason, Effect, NormalDrop, PortConfig, Switch, SwitchConfig, Tracker, Visit,
};
use flowproof_switch::table::{FlowId, TieBreak};
use flowproof_switch::trace;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;
use std::slice;

/// Nodes of the diagrams of one pass; random tables need a fraction.
const NODES: usize = 4_000_000;

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Port(PortNo),
    Normal,
    Controller,
    Opaque(String),
}

/// One way out: where to, the headers then, the flows that led there. Flows that do the same count as one.
type Exit = (Way, Vec<u128>, Vec<FlowId>);

/// Headers that any frame shows as its key has them, but for the tag: where the frame has more tags than its key, it shows the
/// next one if the first goes.
const OUTER: [Field; 3] = [Field::VlanTci, Field::DlSrc, Field::DlDst];

/// Headers that a sound frame shows as its key has them.
const INNER: [Field; 26] = [
    Field::DlType,
    Field::NwSrc,
    Field::NwDst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::Ipv6Label,
    Field::NwProto,
    Field::NwTos,
    Field::NwTtl,
    Field::ArpSha,
    Field::ArpTha,
    Field::TcpSrc,
    Field::TcpDst,
    Field::TcpFlags,
    Field::NdTarget,
    Field::MplsLabel,
    Field::MplsTc,
    Field::MplsBos,
    Field::MplsTtl,
    Field::NshFlags,
    Field::NshTtl,
    Field::NshSpi,
    Field::NshSi,
    Field::NshC1,
    Field::NshC2,
    Field::NshNp,
];

/// What is looked at of a frame.
#[derive(Clone, Copy)]
struct Looked {
    /// The tag.
    tag: bool,
    /// Inner headers.
    inner: bool,
}

impl Looked {
    fn of(frame: &Frame) -> Self {
        Self { tag: !is_tag(frame.sent.get(Field::DlType)), inner: is_sound(frame) }
    }

    /// Of a frame whose fields have these values.
    fn seen(self, value: impl Fn(Field) -> u128) -> Vec<u128> {
        let inner: &[Field] = if self.inner { &INNER } else { &[] };
        let outer = OUTER.iter().filter(|field| self.tag || **field != Field::VlanTci);
        outer.chain(inner).map(|field| value(*field)).collect()
    }
}

/// Whether a type is that of a tag, behind which nothing is read.
const fn is_tag(dl_type: u128) -> bool {
    matches!(dl_type, 0x8100 | 0x88a8)
}

/// Whether what an action writes shows in the frame: all of its headers are there, and none is a lie.
fn is_sound(frame: &Frame) -> bool {
    let key = &frame.sent;
    // Ports can be written in a key whose protocol has none.
    let has_ports = match (key.get(Field::DlType), key.get(Field::NwProto)) {
        (0x0800, 1 | 6 | 17 | 132) | (0x86dd, 6 | 17 | 58 | 132) => true,
        (dl_type, _) => !matches!(dl_type, 0x0800 | 0x86dd),
    };
    let again = compose(key, &ComposeOptions { min_frame_len: 0, ..ComposeOptions::default() });
    has_ports
        && has_upper_header(frame)
        && frame.form == Form::Whole
        && !is_tag(key.get(Field::DlType))
        && frame.bytes.len() >= again.len()
        && wire::extract(&again, key.get(Field::InPort) as PortNo) == *key
}

/// Whether the header above IP is all there, behind however many extension headers; and an ARP message is one.
fn has_upper_header(frame: &Frame) -> bool {
    let (dl_type, operation) = (frame.sent.get(Field::DlType), frame.sent.get(Field::NwProto));
    // What is written of RARP shows in the key alone.
    if dl_type == 0x8035 || dl_type == 0x0806 && operation == 0 {
        return false;
    }
    // Neighbour discovery with a bad option is read as if it had nothing.
    let kind = (frame.sent.get(Field::TcpSrc), frame.sent.get(Field::TcpDst));
    let is_nd = dl_type == 0x86dd && operation == 58 && matches!(kind, (135 | 136, 0));
    if is_nd && frame.sent.get(Field::NdTarget) == 0 {
        return false;
    }
    wire::l3(&frame.bytes).is_none_or(|l3| match l3.protocol {
        1 | 58 => wire::icmp(l3.payload).is_some(),
        6 => wire::tcp(l3.payload).is_some(),
        17 => wire::udp(l3.payload).is_some(),
        132 => wire::sctp(l3.payload).is_some(),
        _ => true,
    })
}

/// Gives answers in order, the last one for ever; fragments come out whole where the datapath has it so.
struct Oracle<'a> {
    answers: &'a [CtInfo],
    frame: &'a Frame,
    reassembles: bool,
}

impl Tracker for Oracle<'_> {
    fn track(&mut self, frame: &[u8], visit: &Visit) -> CtOutput {
        // More calls than answers are for the last of them.
        let Some((first, rest)) = self.answers.split_first() else {
            return vec![(frame.to_vec(), CtInfo::default())];
        };
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
pub(super) struct Case<'a> {
    pub(super) tables: &'a Tables,
    pub(super) profile: Profile,
    pub(super) ports: &'a [PortConfig],
    pub(super) in_port: PortNo,
}

/// How the interpreter took a packet.
pub(super) struct Took {
    /// With each exit the answers on the way there.
    exits: Vec<(Exit, Vec<CtInfo>)>,
    /// Whether all copies got the same answers, if they were asked equally often.
    pub(super) uniform: bool,
    pub(super) ambiguous: bool,
    /// How often connection tracking was asked by somebody who looks at the answer.
    pub(super) asked: usize,
    /// Whether anything but a drop happened to it.
    pub(super) left: bool,
    /// Whether the limits of a translation were exceeded.
    pub(super) limited: bool,
}

impl Case<'_> {
    fn send(&self, frame: &Frame, answers: &[CtInfo], tie: TieBreak) -> flowproof_switch::pipeline::Outcome {
        let config = SwitchConfig { ports: self.ports.to_vec(), profile: self.profile, tie };
        let tracker = Oracle { answers, frame, reassembles: self.profile.reassembles() };
        let mut switch = Switch::with_tracker(self.tables.switch().clone(), config, tracker);
        switch.receive_traced(self.in_port, &frame.bytes)
    }

    pub(super) fn interpret(
        &self,
        frame: &Frame,
        answers: &[CtInfo],
        tie: TieBreak,
    ) -> Result<Took, Objection> {
        let outcome = self.send(frame, answers, tie);
        let mut left = replay::escapes(&outcome, self.in_port);
        let trace = outcome.trace.unwrap_or_default();
        // What `NORMAL` has learned is arbitrary: another switch would know the destination behind another port.
        let elsewhere = |step: &trace::Step| {
            let behind = pipeline::Decision::Drop(NormalDrop::SamePort);
            matches!(&step.event, trace::Event::Normal { decision, .. } if *decision == behind)
        };
        left |= trace.steps.iter().any(elsewhere);
        let limits = |step: &trace::Step| {
            matches!(step.event, trace::Event::Dropped(DropReason::TooDeep | DropReason::TooManyResubmits))
        };
        let limited = trace.steps.iter().any(limits);
        let mut reader = Reader {
            case: self,
            events: trace.steps.iter().peekable(),
            effects: outcome.effects.into(),
            exits: Vec::new(),
            looked: Looked::of(frame),
            by_depth: Vec::new(),
            uniform: true,
            asked: 0,
        };
        reader.pass(Vec::new(), Vec::new())?;
        if reader.events.next().is_some() || !reader.effects.is_empty() {
            return object(format!("a trace is not read to its end\n{}", self.story(frame, answers, tie)));
        }
        let Reader { exits, uniform, asked, .. } = reader;
        Ok(Took { exits, uniform, ambiguous: !trace.ambiguities().is_empty(), asked, left, limited })
    }

    /// The exits that symbolic execution has for a packet; `None` among them where it gives up precision.
    fn predicted(
        &self,
        (sets, run): (&Bdds, &Yield<Bdd>),
        packet: &Assignment,
        looked: Looked,
    ) -> Vec<Option<Exit>> {
        let holds = |event: &&Event<_>| sets.contains(event.packets, |var| packet.bit(var));
        run.events.iter().filter(holds).flat_map(|event| self.exits(event, packet, looked)).collect()
    }

    fn exits(&self, event: &Event<Bdd>, packet: &Assignment, looked: Looked) -> Vec<Option<Exit>> {
        let on = |bit: Bit| match bit {
            Bit::Known(on) => on,
            Bit::Free(var) => packet.bit(var),
        };
        let value = |field: Field| {
            let spec = field.spec();
            let bits = spec.offset..spec.offset + spec.width;
            bits.fold(0u128, |sum, bit| sum << 1 | u128::from(on(event.key.bit(bit))))
        };
        let inner = looked.inner && !on(event.key.second_tag());
        // Who writes another type or code has a frame that shows no neighbour discovery, in a key that does.
        let is_icmp = matches!((value(Field::DlType), value(Field::NwProto)), (0x0800, 1) | (0x86dd, 58));
        let other = value(Field::DlType) == 0x86dd
            && value(Field::NwProto) == 58
            && !(matches!(value(Field::TcpSrc), 135 | 136) && value(Field::TcpDst) == 0);
        let of_nd = |field| matches!(field, Field::NdTarget | Field::ArpSha | Field::ArpTha);
        let shown = |field| match (field, value(field)) {
            (field, _) if other && of_nd(field) => 0,
            // Of a tag without its presence bit nothing is written.
            (Field::VlanTci, tci) if tci & 0x1000 == 0 => 0,
            // A key has room for ports where a message has a byte each.
            (Field::TcpSrc | Field::TcpDst, port) if is_icmp => port & 0xff,
            (_, value) => value,
        };
        let headers = Looked { inner, ..looked }.seen(shown);
        let flows: Vec<FlowId> =
            symbolic::flows_of(&event.path).into_iter().map(|flow| self.tables.like(flow)).collect();
        let in_port = event.key.constant(Subfield::whole(Field::InPort)).unwrap_or_default() as PortNo;
        let all = || self.ports.iter().map(|port| port.ofport).chain([port::LOCAL]);
        let ways: Vec<Option<Way>> = match &event.emit {
            Emit::Port(port) => all().filter(|known| known == port).map(Way::Port).map(Some).collect(),
            Emit::InPort => all().filter(|known| *known == in_port).map(Way::Port).map(Some).collect(),
            Emit::Flood => all().filter(|known| *known != in_port).map(Way::Port).map(Some).collect(),
            Emit::Normal => vec![Some(Way::Normal)],
            Emit::Controller => vec![Some(Way::Controller)],
            Emit::UnknownPort | Emit::Opaque(_) | Emit::Limit => vec![None],
        };
        ways.into_iter().map(|way| way.map(|way| (way, headers.clone(), flows.clone()))).collect()
    }

    /// Holds one packet to both; how many exits it has.
    fn check(
        &self,
        (sets, run): (&Bdds, &Yield<Bdd>),
        frame: &Frame,
        answers: &[CtInfo],
    ) -> Result<usize, Objection> {
        let mut exits = 0;
        let looked = Looked::of(frame);
        let ties = [TieBreak::First, TieBreak::Last];
        let each = ties.map(|tie| self.interpret(frame, answers, tie));
        let [first, last] = each;
        let (first, last) = (first?, last?);
        // Where the order of flows decides, either may happen, and symbolic execution has all there is.
        let is_open = first.exits.len() != last.exits.len() || numbers_disagree(self.tables.flows());
        for (tie, took) in ties.into_iter().zip([first, last]) {
            for (exit, answers) in &took.exits {
                let predicted = self.predicted((sets, run), &Assignment::new(frame, answers), looked);
                if !predicted.iter().any(|known| known.as_ref().is_none_or(|known| known == exit)) {
                    let text =
                        format!("an exit that symbolic execution has not: {exit:?}\nit has {predicted:#?}");
                    return object(format!("{text}\n{}", self.story(frame, answers, tie)));
                }
            }
            exits += took.exits.len();
            if is_open || took.ambiguous || !took.uniform {
                continue;
            }
            let longest = took.exits.iter().map(|(_, answers)| answers).max_by_key(|answers| answers.len());
            let packet = Assignment::new(frame, longest.map_or(answers, |longest| longest));
            let predicted = self.predicted((sets, run), &packet, looked);
            if predicted.iter().any(Option::is_none) {
                continue;
            }
            let predicted: BTreeSet<Exit> = predicted.into_iter().flatten().collect();
            let took: BTreeSet<Exit> = took.exits.into_iter().map(|(exit, _)| exit).collect();
            let extra: Vec<_> = predicted.difference(&took).collect();
            if !extra.is_empty() {
                let story = self.story(frame, answers, tie);
                return object(format!("exits that the interpreter has not: {extra:#?}\n{story}"));
            }
        }
        Ok(exits)
    }

    pub(super) fn story(&self, frame: &Frame, answers: &[CtInfo], tie: TieBreak) -> String {
        let trace = self.send(frame, answers, tie).trace.unwrap_or_default();
        let hex: String = frame.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let flows: String = self.tables.flows().iter().map(|flow| format!("  {flow}\n")).collect();
        format!(
            "{}\nunder {:?}, as {:?}; with {answers:?}\nflows\n{flows}hex {} {hex}\n",
            trace.render(self.tables.switch()),
            self.profile,
            frame.form,
            self.in_port
        )
    }
}

/// Whether clauses of one conjunction differ about how many there are: the first one that a lookup meets decides.
fn numbers_disagree(flows: &[Flow]) -> bool {
    let mut numbers: BTreeMap<(u8, u16, u32), u8> = BTreeMap::new();
    flows.iter().any(|flow| {
        flow.actions.iter().any(|action| {
            let Action::Conjunction(Conjunction { id, clauses, .. }) = action else { return false };
            *numbers.entry((flow.table, flow.priority, *id)).or_insert(*clauses) != *clauses
        })
    })
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
    looked: Looked,
    by_depth: Vec<CtInfo>,
    uniform: bool,
    asked: usize,
}

impl Reader<'_> {
    fn pass(&mut self, mut path: Vec<FlowId>, answers: Vec<CtInfo>) -> Verdict {
        let first = self.events.next().map(|step| &step.event);
        if let Some(trace::Event::Dropped(DropReason::TooManyRecirculations)) = first {
            return Ok(());
        }
        if !matches!(first, Some(trace::Event::Pass { .. })) {
            return object(format!("a pass begins with {first:?}"));
        }
        let (mut decisions, mut outside) = (Vec::new(), Vec::new());
        while let Some(step) = self.events.next_if(|step| !carried_out(&step.event)) {
            match &step.event {
                trace::Event::Lookup { found, .. } => {
                    path.extend(found.flow.map(|flow| self.case.tables.like(flow)))
                }
                trace::Event::Output(port) => decisions.push(Decision::Out(Way::Port(*port), path.clone())),
                trace::Event::Controller => decisions.push(Decision::Out(Way::Controller, path.clone())),
                trace::Event::Normal { .. } => decisions.push(Decision::Out(Way::Normal, path.clone())),
                trace::Event::Opaque { text, .. } => {
                    decisions.push(Decision::Out(Way::Opaque(text.clone()), path.clone()));
                }
                trace::Event::Copied => outside.push(path.clone()),
                trace::Event::Uncopied => path = outside.pop().unwrap_or_default(),
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
                    let headers = match self.effects.pop_front() {
                        Some(
                            Effect::Output { frame, .. }
                            | Effect::Normal { frame, .. }
                            | Effect::Controller { frame },
                        ) => {
                            let key = wire::extract(&frame, 0);
                            let inner = self.looked.inner && !is_tag(key.get(Field::DlType));
                            Looked { inner, ..self.looked }.seen(|field| key.get(field))
                        }
                        Some(Effect::Opaque { .. }) => Vec::new(),
                        None => return object(format!("{way:?} without effect")),
                    };
                    self.exits.push(((way, headers, path), answers.clone()));
                }
                Decision::Track(table, path) => {
                    let Some(trace::Event::Tracked(info)) = self.events.next().map(|step| &step.event) else {
                        return object("connection tracking without an answer");
                    };
                    if table.is_some() {
                        self.asked += 1;
                        match self.by_depth.get(answers.len()) {
                            Some(before) => self.uniform &= before == info,
                            None => self.by_depth.push(*info),
                        }
                        let mut answers = answers.clone();
                        answers.push(*info);
                        self.pass(path, answers)?;
                    }
                }
            }
        }
        Ok(())
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

/// Drawn packets of every form on one host, in the interpreter and among all packets at once; how many exits they had,
/// and nothing where the tables outgrow the memory of a pass.
///
/// # Errors
/// A packet takes another way in one of them.
pub fn compare(
    choices: &mut Choices<'_>,
    tables: &Tables,
    ports: &[PortNo],
    profile: Profile,
    in_port: PortNo,
    packets: usize,
) -> Result<Option<usize>, Objection> {
    let pool = Pool::of(tables);
    let ports: Vec<PortConfig> = ports.iter().map(|port| PortConfig::trunk(*port)).collect();
    let case = Case { tables, profile, ports: &ports, in_port };
    let mut exits = 0;
    // What symbolic execution is told, if defects are planted: fewer flows.
    let fewer = subject(None, |_: Option<Tables>| {
        let flows = tables.flows().iter();
        Some(Tables::new(flows.filter(|flow| !flow.matching.looks_at(Field::TcpDst)).cloned().collect()))
    });
    for form in Form::ALL {
        let mut sets = Bdds::with_limit(NODES);
        let start = frames::sendable(&mut sets, form);
        let told = fewer.as_ref().unwrap_or(tables);
        let run = symbolic::execute(&mut sets, told, profile, form, in_port, start);
        if !run.complete || sets.overflown() {
            return Ok(None);
        }
        for _ in 0..packets {
            let Some(frame) = packets::frame(choices, &pool, form, in_port) else { continue };
            let packet = Assignment::new(&frame, &[]);
            if !sets.contains(start, |var| packet.bit(var)) {
                let story = case.story(&frame, &[CtInfo::default()], TieBreak::First);
                return object(format!("a frame that nobody could send\n{story}"));
            }
            let usual = packets::answer(choices, &frame.sent, profile);
            let same = choices.chance(60);
            let mut one = |_| if same { usual } else { packets::answer(choices, &frame.sent, profile) };
            let answers: Vec<CtInfo> = (0..16).map(&mut one).collect();
            exits += case.check((&sets, &run), &frame, &answers)?;
        }
    }
    Ok(Some(exits))
}

/// Given packets on one table, in the interpreter and among all packets at once.
pub(super) struct Given<'a> {
    case: Case<'a>,
    runs: [Option<Execution>; 3],
}

/// One symbolic execution, with what could enter.
struct Execution {
    sets: Bdds,
    start: Bdd,
    run: Yield<Bdd>,
}

impl<'a> Given<'a> {
    /// For frames that come in by one port.
    pub(super) fn new(
        tables: &'a Tables,
        profile: Profile,
        ports: &'a [PortConfig],
        in_port: PortNo,
    ) -> Self {
        Self { case: Case { tables, profile, ports, in_port }, runs: [None, None, None] }
    }

    /// Holds one packet to both; how many exits it has, nothing where the tables outgrow the memory of a pass.
    pub(super) fn hold(&mut self, frame: &Frame, answers: &[CtInfo]) -> Result<Option<usize>, Objection> {
        let Case { tables, profile, in_port, .. } = self.case;
        let Some(place) = self.runs.get_mut(frame.form as usize) else { return Ok(None) };
        let Execution { sets, start, run } = place.get_or_insert_with(|| {
            let mut sets = Bdds::with_limit(NODES);
            let start = frames::sendable(&mut sets, frame.form);
            let run = symbolic::execute(&mut sets, tables, profile, frame.form, in_port, start);
            Execution { sets, start, run }
        });
        if !run.complete || sets.overflown() {
            return Ok(None);
        }
        let packet = Assignment::new(frame, &[]);
        if !sets.contains(*start, |var| packet.bit(var)) {
            return object("a frame that nobody could send");
        }
        self.case.check((sets, run), frame, answers).map(Some)
    }
}

/// Flows of random tables; lines that are no flow are left out by who draws them.
pub(super) fn flows(text: &str) -> Vec<Flow> {
    parse_flows(text, &ParseOptions::default()).map(|file| file.flows).unwrap_or_default()
}

/// Random tables, and packets that look for their differences.
///
/// # Errors
/// Symbolic execution and interpreter differ.
pub fn symbolic(bytes: &[u8]) -> Verdict {
    let choices = &mut Choices::of(bytes);
    let spice = Spice { opaque: choices.chance(20), ..Spice::default() };
    let text = tables::text(choices, spice);
    let tables = Tables::new(flows(&text));
    let profile = *choices.pick(&Profile::ALL);
    let in_port = 1 + choices.below(3) as PortNo;
    // Nothing goes backwards in these tables, so no stack is too small.
    match compare(choices, &tables, &[1, 2, 3, 4], profile, in_port, 4)? {
        Some(_) => Ok(()),
        None => object("tables as small as these outgrow the memory of symbolic execution"),
    }
}
