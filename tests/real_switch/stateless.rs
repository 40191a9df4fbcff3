//! `ofproto/trace` against the interpreter: for each packet and each legal answer of `ct()`, the same flows in the
//! same order, and the same orders to the datapath.

use super::{
    Budget, Findings,
    packets::{self, Draft, Packet},
    rng::Rng,
    scenario::{self, Step},
    world::{self, World},
};
use flowproof_ovs::{DatapathAction, RealPass, RealSwitch, RealTrace, TraceRequest};
use flowproof_packet::{Field, FlowKey, wire};
use flowproof_switch::{
    conntrack::{CtInfo, CtRequest, state},
    flow::{Flow, ParseOptions, parse_flows, print::Dialect},
    pipeline::{
        Decision, DropReason, NormalDrop, PortConfig, Scripted, Switch, SwitchConfig, trace_stateless,
    },
    table::{FlowId, Tables},
    trace::{Event, Trace},
};
use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

/// What a `ct()` may say of a packet without address translation (`openvswitch.md` §5).
const STATES: [u32; 6] = [
    state::TRK | state::NEW,
    state::TRK | state::EST,
    state::TRK | state::EST | state::RPL,
    state::TRK | state::REL,
    state::TRK | state::REL | state::RPL,
    state::TRK | state::INV,
];
/// How deep `ct()` nests in the genuine tables.
const DEPTH: usize = 2;
const BATCH: usize = 64;

/// One pass: the flows by cookie, and the orders to the datapath as far as both sides show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pass {
    lookups: Vec<(u8, Option<u64>)>,
    orders: Vec<String>,
}

/// A packet with the answers it will get.
struct Case {
    packet: Packet,
    key: FlowKey,
    answers: Vec<u32>,
}

impl Case {
    fn request(&self) -> TraceRequest<'_> {
        TraceRequest { in_port: self.packet.in_port, frame: &self.packet.frame, ct_next: &self.answers }
    }
}

fn infos(answers: &[u32]) -> Vec<CtInfo> {
    answers.iter().map(|state| CtInfo { state: *state, ..CtInfo::default() }).collect()
}

fn ct_text(request: &CtRequest, forks: bool) -> String {
    let mut words = Vec::new();
    if request.commit {
        words.push(if request.force { "force_commit".to_owned() } else { "commit".to_owned() });
    }
    if request.zone != 0 {
        words.push(format!("zone={}", request.zone));
    }
    if request.mark.1 != 0 {
        words.push(format!("mark={:#x}/{:#x}", request.mark.0, request.mark.1));
    }
    // A label's whole mask is not printed, a mark's is.
    if request.label.1 == u128::MAX {
        words.push(format!("label={:#x}", request.label.0));
    } else if request.label.1 != 0 {
        words.push(format!("label={:#x}/{:#x}", request.label.0, request.label.1));
    }
    format!("ct({}){}", words.join(","), if forks { " recirc" } else { "" })
}

/// Our passes, in the order in which the switch takes them: by level.
fn ours(trace: &Trace, tables: &Tables) -> Vec<Pass> {
    let cookie = |id: FlowId| tables.flow(id).map(|flow| flow.cookie);
    let mut passes: Vec<(u8, Pass)> = Vec::new();
    for step in &trace.steps {
        if let Event::Pass { level, .. } = step.event {
            passes.push((level, Pass::default()));
            continue;
        }
        let Some((_, pass)) = passes.last_mut() else { continue };
        match &step.event {
            Event::Lookup { table, found } => pass.lookups.push((*table, found.flow.and_then(cookie))),
            Event::Output(number) => pass.orders.push(format!("output {number}")),
            Event::Normal { ports, .. } => {
                pass.orders.extend(ports.iter().map(|number| format!("output {number}")))
            }
            Event::Controller => pass.orders.push("controller".to_owned()),
            Event::Track { request, table } => pass.orders.push(ct_text(request, table.is_some())),
            Event::Dropped(DropReason::TooDeep | DropReason::TooManyResubmits) => pass.orders.clear(),
            _ => {}
        }
    }
    passes.sort_by_key(|(level, _)| *level);
    passes.into_iter().map(|(_, pass)| pass).collect()
}

fn theirs(trace: &RealTrace) -> Vec<Pass> {
    let pass = |real: &RealPass| {
        let lookup =
            |step: &flowproof_ovs::RealStep| (step.table, step.rule.as_ref().map(|rule| rule.cookie));
        let mut orders: Vec<String> = Vec::new();
        for action in &real.actions {
            match action {
                DatapathAction::Output(number) => orders.push(format!("output {number}")),
                DatapathAction::Ct(arguments) => orders.push(format!("ct({arguments})")),
                DatapathAction::Recirculate => orders.last_mut().unwrap().push_str(" recirc"),
                DatapathAction::Controller => orders.push("controller".to_owned()),
                DatapathAction::Change(_) | DatapathAction::CtClear | DatapathAction::Drop => {}
            }
        }
        Pass { lookups: real.steps.iter().map(lookup).collect(), orders }
    };
    trace.passes.iter().map(pass).collect()
}

/// Outputs that follow one another, in ascending order: among the ports of a flood the switch has an order of its own.
fn normalised(mut passes: Vec<Pass>) -> Vec<Pass> {
    for pass in &mut passes {
        let is_output = |order: &String| order.starts_with("output");
        pass.orders.chunk_by_mut(|a, b| is_output(a) && is_output(b)).for_each(<[String]>::sort_unstable);
    }
    passes
}

/// Whether `NORMAL` met an address that it had learned from this same packet.
fn met_what_it_learned(trace: &Trace) -> bool {
    let decided = |event: &Event| match event {
        Event::Normal { decision, .. } => Some(*decision),
        _ => None,
    };
    let mut decisions = trace.steps.iter().filter_map(|step| decided(&step.event));
    decisions.any(|decision| matches!(decision, Decision::Learned(_) | Decision::Drop(NormalDrop::SamePort)))
}

/// Whether the answers are handed out in the same order: the interpreter follows a copy to its end before it comes
/// to the next one, the switch's trace goes level by level.
fn answers_in_order(trace: &Trace) -> bool {
    let level = |event: &Event| match event {
        Event::Pass { level, .. } => Some(*level),
        _ => None,
    };
    trace.steps.iter().filter_map(|step| level(&step.event)).is_sorted()
}

/// What the interpreter says of a case.
enum Said {
    /// These passes.
    Passes(Vec<Pass>),
    /// `ofproto/trace` does something else than the datapath, or would not end: only a packet that is sent can tell.
    ToBeSent,
    /// OpenFlow leaves it open.
    Open,
}

struct Suite<'w> {
    world: &'w World,
    tables: &'w Arc<Tables>,
    config: SwitchConfig,
    hit: BTreeSet<u64>,
}

impl Suite<'_> {
    fn trace(&mut self, case: &Case) -> Said {
        let answers = infos(&case.answers);
        // A packet that is traced lets NORMAL learn, for the rest of its own way.
        let mut switch =
            Switch::with_tracker(Arc::clone(self.tables), self.config.clone(), Scripted::new(&answers));
        let trace = switch.receive_traced(case.packet.in_port, &case.packet.frame).trace.unwrap();
        let alone = trace_stateless(self.tables, &self.config, &case.key, &case.packet.frame, &answers);
        let alone = ours(&alone.trace.unwrap(), self.tables);
        assert!(
            alone == ours(&trace, self.tables) || met_what_it_learned(&trace),
            "learning changed a packet"
        );
        self.hit
            .extend(trace.path().iter().filter_map(|(_, id)| self.tables.flow(*id)).map(|flow| flow.cookie));
        let endless = Event::Dropped(DropReason::TooManyRecirculations);
        if !trace.ambiguities().is_empty() {
            Said::Open
        } else if trace.steps.iter().any(|step| step.event == endless) || !answers_in_order(&trace) {
            Said::ToBeSent
        } else {
            Said::Passes(normalised(ours(&trace, self.tables)))
        }
    }

    /// Whether each pass reads from the frame what the passes before have written: a header that is cut off cannot be
    /// written, and `ofproto/trace` has no frame, but only a key.
    fn frame_keeps_what_is_written(&self, case: &Case) -> bool {
        let answers = infos(&case.answers);
        let passes = |frame| {
            let outcome = trace_stateless(self.tables, &self.config, &case.key, frame, &answers);
            ours(&outcome.trace.unwrap(), self.tables)
        };
        passes(&case.packet.frame) == passes(&[])
    }

    /// The same orders, by the same flows or by flows that tie and do the same: which of those applies is nobody's
    /// concern.
    fn agree(&self, ours: &[Pass], theirs: &[Pass]) -> bool {
        let flow =
            |cookie: Option<u64>| self.world.flows().get(usize::try_from(cookie?).ok()?.checked_sub(1)?);
        let what = |(table, cookie): &(u8, Option<u64>)| {
            (*table, flow(*cookie).map(|flow| (flow.table, flow.priority, &flow.actions)))
        };
        let same = |(a, b): (&Pass, &Pass)| {
            a.orders == b.orders
                && (a.lookups == b.lookups || a.lookups.iter().map(what).eq(b.lookups.iter().map(what)))
        };
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
    }

    fn compare(&mut self, real: &mut RealSwitch, cases: &[Case], findings: &mut Findings) {
        let (mut said, mut to_be_sent) = (Vec::new(), Vec::new());
        for case in cases {
            match self.trace(case) {
                Said::Passes(passes) if self.frame_keeps_what_is_written(case) => said.push((case, passes)),
                Said::Passes(_) | Said::ToBeSent => to_be_sent.push(case),
                Said::Open => {}
            }
        }
        let requests: Vec<_> = said.iter().map(|(case, _)| case.request()).collect();
        let traces = real.traces(&requests).unwrap();
        for ((case, ours), real) in said.iter().zip(&traces) {
            let theirs = normalised(theirs(real));
            findings.count(1);
            if !self.agree(ours, &theirs) {
                findings.report(|| describe(self.world, case, ours, &theirs, &real.text));
            }
        }
        to_be_sent.into_iter().for_each(|case| self.send(real, case, findings));
    }

    /// Compares by sending, to switches that know of no connection. A fragment would be held; the other suites send some.
    fn send(&self, real: &mut RealSwitch, case: &Case, findings: &mut Findings) {
        if case.key.get(Field::NwFrag) != 0 {
            return;
        }
        let Packet { in_port, frame } = &case.packet;
        let mut fresh = Switch::new(Arc::clone(self.tables), self.config.clone());
        real.reset().unwrap();
        let crossing = scenario::cross(real, &mut fresh, *in_port, frame).unwrap();
        if !crossing.open {
            findings.count(1);
            findings.sent += 1;
            if crossing.ours != crossing.theirs {
                real.check_health().unwrap();
                let step = Step::Frame(*in_port, frame.clone());
                findings.report(|| format!("SENT: {}\n{step:?}\n{crossing:02x?}", self.world.name));
            }
        }
    }
}

fn describe(world: &World, case: &Case, ours: &[Pass], theirs: &[Pass], text: &str) -> String {
    let Packet { in_port, frame } = &case.packet;
    let mut out =
        format!("{}\nport {in_port}, answers {:x?}, frame {}\n", world.name, case.answers, super::hex(frame));
    write!(out, "{:?}\nours   {ours:?}\ntheirs {theirs:?}\n{text}", case.key).unwrap();
    out
}

fn case(packet: Packet, answers: Vec<u32>) -> Case {
    let key = wire::extract(&packet.frame, packet.in_port);
    Case { packet, key, answers }
}

fn answers(rng: &mut Rng) -> Vec<u32> {
    (0..DEPTH).map(|_| *rng.pick(&STATES)).collect()
}

/// Looks for packets that reach flows which no packet has reached: those that did are varied further.
fn explore(suite: &mut Suite<'_>, rng: &mut Rng, tries: usize) -> Vec<Case> {
    let mut kept: Vec<(Draft, Vec<u32>)> = Vec::new();
    let mut cases = Vec::new();
    for _ in 0..tries {
        let (mut draft, mut next) = match kept.get(rng.below(kept.len().max(1))) {
            Some((draft, next)) if rng.chance(60) => (draft.clone(), next.clone()),
            _ => (packets::draft(suite.world, rng), answers(rng)),
        };
        match rng.below(3) {
            0 => packets::overlay(&mut draft, suite.world, rng),
            1 => next = answers(rng),
            _ => packets::disturb(&mut draft, suite.world, rng),
        }
        let before = suite.hit.len();
        let new = case(draft.packet(), next.clone());
        suite.trace(&new);
        if suite.hit.len() > before {
            kept.push((draft, next));
            cases.push(new);
        }
    }
    cases
}

/// Every answer at both depths for one packet.
fn all_answers(packet: &Packet) -> impl Iterator<Item = Case> {
    let pairs =
        STATES.into_iter().flat_map(|first| STATES.into_iter().map(move |second| vec![first, second]));
    pairs.map(|answers| case(packet.clone(), answers))
}

/// Compares about `count` traces in one world; how many of its flows were reached.
fn compare(
    real: &mut RealSwitch,
    world: &World,
    rng: &mut Rng,
    count: usize,
    findings: &mut Findings,
) -> (usize, usize) {
    compare_variant(real, world, 0, rng, count, findings)
}

/// The same, the interpreter having a variant of the flows.
fn compare_variant(
    real: &mut RealSwitch,
    world: &World,
    variant: usize,
    rng: &mut Rng,
    count: usize,
    findings: &mut Findings,
) -> (usize, usize) {
    real.load(world.flows()).unwrap();
    let config = SwitchConfig::new(world.ports.clone());
    let mut suite = Suite { world, tables: &world.variants[variant], config, hit: BTreeSet::new() };
    let mut cases = explore(&mut suite, rng, 8 * count);
    if count > 200 {
        let exhaustive: Vec<Case> =
            cases.iter().take(count / 100).flat_map(|case| all_answers(&case.packet)).collect();
        cases.extend(exhaustive);
    }
    cases.truncate(count);
    while cases.len() < count {
        let packet = packets::packet(world, rng);
        cases.push(case(packet, answers(rng)));
    }
    for batch in cases.chunks(BATCH) {
        suite.compare(real, batch, findings);
    }
    (suite.hit.len(), world.flows().len())
}

#[test]
fn tables_decide_as_the_real_switch_traces() {
    let budget = Budget::of("stateless", 4000);
    super::over_worlds(&budget, "traces", |mut real, world, rng, count, findings| {
        let (hit, all) = compare(&mut real, world, rng, count, findings);
        findings.reached(hit, all);
        real
    });
}

/// What the switch prints of its flows, read again; cookies are those of [`World`].
#[test]
fn the_real_switch_prints_the_flows_that_were_loaded() {
    let genuine = world::genuine();
    let mut running: Option<(Vec<PortConfig>, RealSwitch)> = None;
    for world in genuine.iter().step_by(9) {
        if running.as_ref().is_none_or(|(ports, _)| *ports != world.ports) {
            drop(running.take());
            let Some(real) = super::start(world) else { return };
            running = Some((world.ports.clone(), real));
        }
        let Some((_, real)) = &mut running else { return };
        real.load(world.flows()).unwrap();
        let text = real.dump_flows().unwrap().join("\n");
        let mut printed = parse_flows(&text, &ParseOptions::default()).unwrap().flows;
        let mut loaded = world.flows().to_vec();
        assert_eq!(printed.len(), loaded.len(), "{}", world.name);
        printed.sort_by_key(|flow| flow.cookie);
        loaded.sort_by_key(|flow| flow.cookie);
        for (printed, loaded) in printed.iter().zip(&loaded) {
            let identity = |flow: &Flow| (flow.table, flow.priority, flow.cookie, flow.matching.clone());
            assert_eq!(identity(printed), identity(loaded), "{}: {printed} for {loaded}", world.name);
            // Over OpenFlow 1.0 there is no goto_table.
            let actions = |flow: &Flow| {
                let text = flow.actions_text(Dialect::OpenFlow15);
                text.split_once("goto_table:")
                    .map_or(text.clone(), |(before, to)| format!("{before}resubmit(,{to})"))
            };
            assert_eq!(actions(printed), actions(loaded), "{}: {loaded}", world.name);
        }
    }
}

#[test]
fn a_flow_that_is_missing_is_noticed() {
    let genuine = world::genuine();
    let world = &genuine[0];
    let Some(mut real) = super::start(world) else { return };
    let mut findings = Findings::default();
    compare_variant(&mut real, world, 2, &mut Rng::new(1), 200, &mut findings);
    assert!(findings.differences > 0, "nobody notices");
}
