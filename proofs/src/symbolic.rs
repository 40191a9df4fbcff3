//! Symbolic execution: all packets through the tables at once.
//!
//! One pass follows every path that some packet of the starting set takes and yields an [`Event`] wherever a
//! packet leaves the tables. Registers, zones and VLAN rewrites are constants along a path ([`SymKey`]); only the
//! packet set narrows. Packets that hit flows of one table which do the same go on together, so that a sender's rules and a
//! receiver's do not multiply. Where all of them are for one destination its bits are taken for known and no longer carried
//! in the set: what is found out for one receiver is then found out for those with the same rules.
//!
//! Nondeterminism is followed, not resolved: of overlapping flows of equal priority with different actions each
//! may win, and so may each of several satisfied conjunctions.
//!
//! Where packets come to something that is not modelled, an [`Emit::Opaque`] stands for all that may become of them, and they
//! are followed no further, unless it surely leaves them alone.
//!
//! Deliberately over-approximated: a packet whose translation exceeds the switch's limits is dropped there with all
//! its outputs, here its earlier events stand and an [`Emit::Limit`] is added; both make refutations that do not
//! replay, never proofs that do not hold.

mod conjunction;
mod lookup;
pub(crate) mod loosely;
pub(crate) mod nested;
mod pinned;
mod recirculation;
mod sweeping;

pub use crate::effects::legal_answers;
pub(crate) use crate::effects::{
    CameIn, SECOND_TAG, UNCLEAR_TAG, emitted, icmpv6, is_the_end, is_unmodelled, may_be_overdue, own,
};
use crate::{
    arrival::Arrival,
    index::Halves,
    rewrite::{Rewrite, rewrite},
    set::PacketSets,
    sweep::Sweep,
    symkey::{Form, SymKey},
    tables::{Level, Tables},
};
use flowproof_packet::{Field, PortNo, port};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Subfield},
    table::FlowId,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::BTreeMap, rc::Rc};

/// Depth of calls to the same or an earlier table at which Open vSwitch gives up (experiment).
pub(crate) const MAX_DEPTH: u32 = 64;
/// Calls in one translation at which Open vSwitch gives up (experiment).
pub(crate) const MAX_CALLS: u32 = 4096;
/// Lookups in one execution after which it stops and says so, whatever the tables; and for small ones, with so many more for each
/// flow: what branches without an end in sight is not worth the while.
const MAX_LOOKUPS: usize = 200_000;
const FEW_LOOKUPS: usize = 20_000;
const LOOKUPS_A_FLOW: usize = 20;

/// How a packet leaves the tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Emit {
    /// `output:N`, `LOCAL`; never the packet's own input port.
    Port(PortNo),
    /// An output whose port is not a constant.
    UnknownPort,
    /// `IN_PORT`
    InPort,
    /// `NORMAL`
    Normal,
    /// `FLOOD` and `ALL`
    Flood,
    /// To the controller.
    Controller,
    /// Something that is not modelled: it may do anything.
    Opaque(String),
    /// The limits of the translation are exceeded; the switch drops the packet.
    Limit,
}

impl Emit {
    /// Whether it is known what happens to the packet.
    #[must_use]
    pub const fn is_modelled(&self) -> bool {
        !matches!(self, Self::UnknownPort | Self::Opaque(_))
    }
}

/// A step of a path: which flow of a table was hit.
#[derive(Debug)]
pub struct Step {
    /// The flow; where flows are not named one by one, any that is [like](Tables::like) it.
    pub flow: FlowId,
    before: Path,
}

/// The flows hit so far, the last one first.
pub type Path = Option<Rc<Step>>;

/// The flows of a path, first one first.
#[must_use]
pub fn flows_of(path: &Path) -> Vec<FlowId> {
    let mut flows = Vec::new();
    let mut at = path;
    while let Some(step) = at {
        flows.push(step.flow);
        at = &step.before;
    }
    flows.reverse();
    flows
}

/// A place where packets leave the tables.
#[derive(Debug, Clone)]
pub struct Event<Set> {
    /// The packets.
    pub packets: Set,
    /// Where to.
    pub emit: Emit,
    /// The key as it is then.
    pub key: SymKey,
    /// How they came there.
    pub path: Path,
    /// How many `ct()` recirculations they went through.
    pub recirculations: u16,
}

#[derive(Clone)]
struct State<Set> {
    key: SymKey,
    packets: Set,
    /// The packets for the one destination that the key takes for known; `packets` leaves it open then.
    pin: Option<Set>,
    path: Path,
    recirculations: u16,
    calls: u32,
    depth: u32,
    table: u8,
}

/// Packets that came back from `ct()` and were not followed yet, by how often they did, and where with which key.
type Waiting<Set> = BTreeMap<(u16, u8, bool, SymKey), State<Set>>;

/// The answer of one lookup: each way it can go, and the packets that find nothing.
struct Found<Set> {
    hits: Vec<(FlowId, Set)>,
    missed: Set,
    pin: Option<Set>,
}

/// What executions over the same tables may share as long as they share a manager of sets.
#[derive(Clone, Debug)]
pub struct Memory<Set> {
    halves: Halves<Set>,
    legal: FxHashMap<(Profile, Form, u16), Set>,
    anywhere: FxHashMap<u16, Set>,
    /// Keys that differ in the values of registers only, numbered.
    views: FxHashMap<SymKey, u32>,
    /// What a flow takes under a view, if its registers fit.
    cubes: FxHashMap<(FlowId, u32), Set>,
    ways: lookup::Ways<Set>,
}

impl<Set> Default for Memory<Set> {
    fn default() -> Self {
        let (legal, anywhere) = (FxHashMap::default(), FxHashMap::default());
        let (views, cubes) = (FxHashMap::default(), FxHashMap::default());
        let (halves, ways) = (Halves::default(), lookup::Ways::default());
        Self { halves, legal, anywhere, views, cubes, ways }
    }
}

/// One symbolic execution.
pub struct Execution<'a, S: PacketSets> {
    tables: &'a Tables,
    profile: Profile,
    form: Form,
    sets: &'a mut S,
    memory: &'a mut Memory<S::Set>,
    events: Vec<Event<S::Set>>,
    hit: FxHashSet<FlowId>,
    rivals: Rivals<S::Set>,
    longest: Longest,
    lookups: usize,
    most: usize,
    enough: usize,
    each_flow: bool,
    came_in: CameIn,
    waiting: Option<Waiting<S::Set>>,
    sweep: Option<&'a mut Sweep<S::Set>>,
    /// The most calls, and the deepest, in the translation under way.
    reach: (u32, u32),
    /// Whether packets were not followed that may be followed if they come by another way.
    cut: bool,
    /// The most recirculations since a sweep came to the place that is being explored.
    recirculated: u16,
}

/// The longest ways that some packet takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Longest {
    /// Calls (`resubmit`, `goto_table`) in one translation.
    pub calls: u32,
    /// Nested calls to the same or an earlier table.
    pub depth: u32,
    /// Recirculations by `ct()`.
    pub recirculations: u16,
}

/// Flows of equal priority and different actions, and the packets that match both; for conjunctions, those that are satisfied
/// together, by the flows they lead to.
pub type Rivals<Set> = BTreeMap<(FlowId, FlowId), Set>;

/// What one execution yields.
#[derive(Debug)]
pub struct Yield<Set> {
    /// Every way out of the tables.
    pub events: Vec<Event<Set>>,
    /// The flows that some packet hits, as far as they are named.
    pub hit: FxHashSet<FlowId>,
    /// Flows of which some packet may hit either.
    pub rivals: Rivals<Set>,
    /// The longest ways.
    pub longest: Longest,
    /// Whether the execution ran to its end; if not, nothing may be concluded from what is missing.
    pub complete: bool,
}

/// Sends `packets`, as frames of `form` that enter at `in_port`, through the tables.
pub fn execute<S: PacketSets>(
    sets: &mut S,
    tables: &Tables,
    profile: Profile,
    form: Form,
    in_port: PortNo,
    packets: S::Set,
) -> Yield<S::Set> {
    execute_from(sets, tables, profile, form, SymKey::entering(in_port, form, Arrival::Ordinary), packets)
}

/// The same for any key that a packet may enter with.
pub fn execute_from<S: PacketSets>(
    sets: &mut S,
    tables: &Tables,
    profile: Profile,
    form: Form,
    key: SymKey,
    packets: S::Set,
) -> Yield<S::Set> {
    let start = Start { tables, profile, form, key, packets, enough: usize::MAX, each_flow: true };
    execute_with(sets, &mut Memory::default(), start, None)
}

/// What to execute, for those who want more than [`execute`] says.
#[derive(Debug)]
pub struct Start<'a, Set> {
    /// The tables.
    pub tables: &'a Tables,
    /// The datapath.
    pub profile: Profile,
    /// The form of the frames.
    pub form: Form,
    /// The key that they enter with.
    pub key: SymKey,
    /// The packets.
    pub packets: Set,
    /// Ways out of the tables after which to stop; the execution is then not complete.
    pub enough: usize,
    /// Whether each flow that is hit is to be named, and its packets go on for themselves; if not, one of those that are alike
    /// stands for all.
    pub each_flow: bool,
}

/// The same, with what earlier executions over the same tables in the same manager found out. Where a `sweep` is given,
/// packets go on only where no earlier ones of that sweep were.
pub fn execute_with<S: PacketSets>(
    sets: &mut S,
    memory: &mut Memory<S::Set>,
    start: Start<'_, S::Set>,
    sweep: Option<&mut Sweep<S::Set>>,
) -> Yield<S::Set> {
    run(sets, memory, start, sweep, None)
}

/// The same for those who do not ask which way packets went: where packets come back from `ct()` to the same table with the same
/// key, by whatever way, they go on together, and the path of one stands for all.
pub fn execute_joined<S: PacketSets>(
    sets: &mut S,
    memory: &mut Memory<S::Set>,
    start: Start<'_, S::Set>,
) -> Yield<S::Set> {
    run(sets, memory, start, None, Some(Waiting::new()))
}

fn run<S: PacketSets>(
    sets: &mut S,
    memory: &mut Memory<S::Set>,
    start: Start<'_, S::Set>,
    sweep: Option<&mut Sweep<S::Set>>,
    waiting: Option<Waiting<S::Set>>,
) -> Yield<S::Set> {
    let Start { tables, profile, form, key, packets, enough, each_flow } = start;
    let in_port = key.constant(Subfield::whole(Field::InPort)).and_then(|port| PortNo::try_from(port).ok());
    let came_in = in_port.map_or(CameIn::Anywhere, CameIn::By);
    let start =
        State { key, packets, pin: None, path: None, recirculations: 0, calls: 0, depth: 0, table: 0 };
    let (events, hit, rivals) = (Vec::new(), FxHashSet::default(), Rivals::new());
    let (longest, lookups) = (Longest::default(), 0);
    // A sweep comes to each flow a few times only.
    let of_flows = LOOKUPS_A_FLOW * tables.flows().len();
    let most = match sweep {
        Some(_) => MAX_LOOKUPS.max(of_flows),
        None => MAX_LOOKUPS.min(FEW_LOOKUPS + of_flows),
    };
    let mut execution = Execution {
        tables,
        profile,
        form,
        sets,
        memory,
        events,
        hit,
        rivals,
        longest,
        lookups,
        most,
        enough,
        each_flow: each_flow || sweep.is_some(),
        came_in,
        waiting,
        sweep,
        reach: (0, 0),
        cut: false,
        recirculated: 0,
    };
    execution.enter(0, None, start, true);
    execution.come_back();
    let complete = !execution.stopped() && !execution.cut;
    let Execution { events, hit, rivals, longest, .. } = execution;
    Yield { events, hit, rivals, longest, complete }
}

impl<S: PacketSets> Execution<'_, S> {
    /// Looks `state` up in `table` and runs what is found; returns the states in which the caller goes on, unless
    /// nothing comes after the call.
    fn enter(
        &mut self,
        table: u8,
        in_port: Option<PortNo>,
        state: State<S::Set>,
        last: bool,
    ) -> Vec<State<S::Set>> {
        self.lookups += 1;
        let mut key = state.key.seen();
        if let Some(port) = in_port.filter(|port| *port != port::IN_PORT) {
            key.set(Field::InPort, u128::from(port), u128::MAX);
        }
        if let Some(unknown) = self.tables.added(table) {
            self.emit(unknown, &state);
        }
        if last && self.sweep.is_some() {
            self.sweep_table(table, in_port, &key, &state);
            return Vec::new();
        }
        let tables = self.tables;
        let mut found = Found { hits: Vec::new(), missed: state.packets, pin: state.pin };
        for level in tables.levels(table) {
            if self.sets.is_empty(found.missed) {
                break;
            }
            self.level(table, &key, level, &mut found);
        }
        let mut after = self.follow(found.hits, table, &state, last);
        if !last && !self.sets.is_empty(found.missed) {
            after.push(State { packets: found.missed, ..state });
        }
        after
    }

    fn stopped(&self) -> bool {
        self.lookups >= self.most || self.events.len() >= self.enough
    }

    /// Runs the flows that were hit, those that do the same once for all their packets.
    fn follow(
        &mut self,
        hits: Vec<(FlowId, S::Set)>,
        table: u8,
        state: &State<S::Set>,
        last: bool,
    ) -> Vec<State<S::Set>> {
        let mut after = Vec::new();
        for (flow, packets) in self.together(hits) {
            if self.stopped() {
                break;
            }
            let path = Some(Rc::new(Step { flow, before: state.path.clone() }));
            let hit = self.pinned(State { packets, path, table, ..state.clone() });
            let Some(flow) = self.tables.flow(flow) else { continue };
            if flow.opaque_match.is_empty() {
                after.extend(self.run(&flow.actions, hit, last));
            } else {
                self.emit(Emit::Opaque(flow.opaque_match.join(",")), &hit);
            }
        }
        after
    }

    /// Notes the flows that were hit; and of those that are alike one, with the packets of all, unless each is to be named.
    fn together(&mut self, hits: Vec<(FlowId, S::Set)>) -> Vec<(FlowId, S::Set)> {
        let mut ways: Vec<(FlowId, S::Set)> = Vec::new();
        let mut places: FxHashMap<FlowId, usize> = FxHashMap::default();
        for (flow, packets) in hits {
            self.hit.insert(flow);
            if let Some(sweep) = self.sweep.as_mut() {
                sweep.hit(flow, &self.rivals);
            }
            let apart = self.each_flow && self.sweep.is_none();
            let way = if apart { flow } else { self.tables.like(flow) };
            let place = *places.entry(way).or_insert(ways.len());
            match ways.get_mut(place) {
                Some((_, others)) => *others = self.sets.or(*others, packets),
                None => ways.push((flow, packets)),
            }
        }
        ways
    }

    fn recirculated(&mut self, times: u16) {
        self.recirculated = self.recirculated.max(times);
        self.longest.recirculations = self.longest.recirculations.max(times);
    }

    fn reached_so_far(&mut self, calls: u32, depth: u32) {
        self.reach = (self.reach.0.max(calls), self.reach.1.max(depth));
        self.longest.calls = self.longest.calls.max(calls);
        self.longest.depth = self.longest.depth.max(depth);
    }

    fn emit(&mut self, emit: Emit, state: &State<S::Set>) {
        if !self.sets.is_empty(state.packets) {
            let State { packets, key, path, recirculations, .. } = self.unpinned(state.clone());
            self.events.push(Event { packets, emit, key, path, recirculations });
        }
    }

    /// What an output sends out: not what came in by that port.
    fn put_out(&mut self, emit: Emit, came_in: CameIn, state: &State<S::Set>) {
        let Emit::Port(port) = emit else { return self.emit(emit, state) };
        match own(port, &state.key).filter(|_| came_in != CameIn::Anyhow) {
            None => self.emit(emit, state),
            Some(literals) => {
                let own = self.sets.cube(&literals);
                let packets = self.sets.minus(state.packets, own);
                self.emit(emit, &State { packets, ..state.clone() });
            }
        }
    }

    /// One action: what it does to the packet, and the states in which the next action begins.
    fn act(&mut self, action: &Action, mut state: State<S::Set>, last: bool) -> Vec<State<S::Set>> {
        if pinned::touches(action) {
            state = self.unpinned(state);
        }
        match action {
            Action::Output(_)
            | Action::OutputField(_)
            | Action::Controller(_)
            | Action::DecTtl(_)
            | Action::SetQueue(_)
            | Action::PopQueue
            | Action::Clone(_)
            | Action::Group(_)
            | Action::Learn(_)
            | Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::DecMplsTtl
            | Action::WriteActions(_)
            | Action::ClearActions
            | Action::OutputTruncated { .. }
            | Action::Enqueue { .. }
            | Action::Opaque(_)
            | Action::Resubmit { ct: true, .. } => {
                if self.emitted(action, &state) {
                    return Vec::new();
                }
            }
            Action::Resubmit { port, table, ct: false } => {
                return self.call(table.unwrap_or(state.table), *port, state, last);
            }
            Action::GotoTable(table) => return self.call(*table, None, state, last),
            Action::Push(part) => state.key.push(*part),
            Action::Pop(part) => {
                self.emitted(action, &state);
                state.key.pop(*part);
            }
            // Brackets are seen to in lists of actions; a meter lets pass, or what is behind it does not happen.
            Action::Begin(_)
            | Action::End
            | Action::CheckPktLarger { .. }
            | Action::Exit
            | Action::Meter(_) => {}
            Action::Set { .. }
            | Action::Move { .. }
            | Action::ModVlanVid(_)
            | Action::ModVlanPcp(_)
            | Action::StripVlan
            | Action::PushVlan(_) => {
                return rewrite(action, &state.key).map_or_else(Vec::new, |to| self.rewritten(to, state));
            }
            Action::RetagUnclear { .. } => {
                let state = self.without_tag(state);
                return rewrite(action, &state.key).map_or_else(Vec::new, |to| self.rewritten(to, state));
            }
            Action::Ct(ct) => return self.ct(ct, state),
            Action::CtClear => state.key.untrack(),
            Action::Conjunction(_) | Action::Note(_) => {}
        }
        vec![state]
    }

    /// The packets whose key is written, and those for which it is not, or otherwise.
    fn rewritten(&mut self, to: Rewrite, mut state: State<S::Set>) -> Vec<State<S::Set>> {
        if to.requires.is_empty() {
            state.key = to.then;
            return vec![state];
        }
        let written = to.written(self.sets, state.packets);
        let rest = self.sets.minus(state.packets, written);
        let otherwise = State { packets: rest, key: to.otherwise, ..state.clone() };
        let then = State { packets: written, key: to.then, ..state };
        [then, otherwise].into_iter().filter(|state| !self.sets.is_empty(state.packets)).collect()
    }

    /// Puts packets out; whether what becomes of them behind it is not known.
    fn emitted(&mut self, action: &Action, state: &State<S::Set>) -> bool {
        let came_in = if self.sweep.is_some() { CameIn::Anyhow } else { self.came_in };
        let Some(emit) = emitted(action, &state.key, came_in) else { return false };
        let is_end = is_the_end(&emit);
        self.put_out(emit, came_in, state);
        is_end
    }

    /// `resubmit` and `goto_table`: a call, after which the caller goes on with the changed packet.
    fn call(
        &mut self,
        table: u8,
        port: Option<PortNo>,
        mut state: State<S::Set>,
        last: bool,
    ) -> Vec<State<S::Set>> {
        let (depth, caller) = (state.depth, state.table);
        state.calls += 1;
        state.depth += u32::from(table <= caller);
        self.reached_so_far(state.calls, state.depth);
        if state.calls > MAX_CALLS || state.depth > MAX_DEPTH {
            self.emit(Emit::Limit, &state);
            return Vec::new();
        }
        let back = |state| State { depth, table: caller, ..state };
        self.enter(table, port, state, last).into_iter().map(back).collect()
    }
}
