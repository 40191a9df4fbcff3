//! Symbolic execution: all packets through the tables at once.
//!
//! One pass follows every path that some packet of the starting set takes and yields an [`Event`] wherever a
//! packet leaves the tables. Registers, zones and VLAN rewrites are constants along a path ([`SymKey`]); only the
//! packet set narrows.
//!
//! Nondeterminism is followed, not resolved: of overlapping flows of equal priority with different actions each
//! may win, and so may each of several satisfied conjunctions.
//!
//! Deliberately over-approximated: a packet whose translation exceeds the switch's limits is dropped there with all
//! its outputs, here its earlier events stand and an [`Emit::Limit`] is added; both make refutations that do not
//! replay, never proofs that do not hold.

use crate::{
    frames,
    predicate::Predicate,
    set::{Literal, PacketSets},
    symkey::{Bit, Form, SymKey, tracked_state},
    tables::Tables,
    vars,
};
use flowproof_packet::{Field, PortNo, port};
use flowproof_switch::{
    conntrack::{Profile, state},
    flow::{Action, Conjunction, Ct, Subfield, Zone},
    table::FlowId,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Depth of calls to the same or an earlier table at which Open vSwitch gives up (experiment).
const MAX_DEPTH: u32 = 64;
/// Calls in one translation at which Open vSwitch gives up (experiment).
const MAX_CALLS: u32 = 4096;
/// Lookups in one execution after which it stops and says so.
const MAX_LOOKUPS: usize = 200_000;

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

/// A step of a path: the flow that was hit in a table.
#[derive(Debug)]
pub struct Step {
    /// The flow.
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
    path: Path,
    recirculations: u16,
    calls: u32,
    depth: u32,
    table: u8,
}

/// The answer of one lookup: each way it can go, and the packets that find nothing.
struct Found<Set> {
    hits: Vec<(FlowId, Set)>,
    missed: Set,
}

/// One symbolic execution.
pub struct Execution<'a, S: PacketSets> {
    tables: &'a Tables,
    profile: Profile,
    form: Form,
    sets: &'a mut S,
    events: Vec<Event<S::Set>>,
    reached: Vec<Option<S::Set>>,
    rivals: BTreeSet<(FlowId, FlowId)>,
    longest: Longest,
    lookups: usize,
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

/// What one execution yields.
#[derive(Debug)]
pub struct Yield<Set> {
    /// Every way out of the tables.
    pub events: Vec<Event<Set>>,
    /// By flow: the packets that hit it, `None` where there are none.
    pub reached: Vec<Option<Set>>,
    /// Flows of equal priority and different actions that some packet matches both of; for conjunctions, those that
    /// are satisfied together, by the flows they lead to.
    pub rivals: BTreeSet<(FlowId, FlowId)>,
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
    execute_from(sets, tables, profile, form, SymKey::entering(in_port, form), packets)
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
    let start = State { key, packets, path: None, recirculations: 0, calls: 0, depth: 0, table: 0 };
    let reached = vec![None; tables.flows().len()];
    let (rivals, longest) = (BTreeSet::new(), Longest::default());
    let mut execution =
        Execution { tables, profile, form, sets, events: Vec::new(), reached, rivals, longest, lookups: 0 };
    execution.enter(0, None, start);
    let complete = execution.lookups < MAX_LOOKUPS;
    let Execution { events, reached, rivals, longest, .. } = execution;
    Yield { events, reached, rivals, longest, complete }
}

impl<S: PacketSets> Execution<'_, S> {
    /// Looks `state` up in `table` and runs what is found; returns the states in which the caller goes on.
    fn enter(&mut self, table: u8, in_port: Option<PortNo>, state: State<S::Set>) -> Vec<State<S::Set>> {
        self.lookups += 1;
        if self.lookups >= MAX_LOOKUPS {
            return Vec::new();
        }
        let found = self.lookup(table, in_port, &state);
        let mut after = Vec::new();
        for (flow, packets) in found.hits {
            let path = Some(Rc::new(Step { flow, before: state.path.clone() }));
            if let Some(slot) = self.reached.get_mut(flow.0 as usize) {
                let known = slot.unwrap_or(self.sets.none());
                *slot = Some(self.sets.or(known, packets));
            }
            let hit = State { packets, path, table, ..state.clone() };
            let Some(flow) = self.tables.flow(flow) else { continue };
            if flow.opaque_match.is_empty() {
                after.extend(self.run(&flow.actions, hit));
            } else {
                self.emit(Emit::Opaque(flow.opaque_match.join(",")), &hit);
            }
        }
        if !self.sets.is_empty(found.missed) {
            after.push(State { packets: found.missed, ..state });
        }
        after
    }

    fn lookup(&mut self, table: u8, in_port: Option<PortNo>, state: &State<S::Set>) -> Found<S::Set> {
        let mut key = state.key.seen();
        if let Some(port) = in_port.filter(|port| *port != port::IN_PORT) {
            key.set(Field::InPort, u128::from(port), u128::MAX);
        }
        let mut found = Found { hits: Vec::new(), missed: state.packets };
        for level in self.tables.levels(table) {
            self.hard(&key, &level.hard, &mut found);
            if !level.soft.is_empty() {
                self.soft(table, &key, &level.soft, &mut found);
            }
            if self.sets.is_empty(found.missed) {
                break;
            }
        }
        found
    }

    /// The ordinary flows of one priority: where several match and differ in what they do, each may win.
    fn hard(&mut self, key: &SymKey, level: &[FlowId], found: &mut Found<S::Set>) {
        let mut here: Vec<(FlowId, S::Set)> = Vec::new();
        let mut taken = self.sets.none();
        for id in level {
            let Some(flow) = self.tables.flow(*id) else { continue };
            let Some(literals) = key.wanted(&flow.matching) else { continue };
            let cube = self.sets.cube(&literals);
            let mut hit = self.sets.and(found.missed, cube);
            let contested = self.sets.and(hit, taken);
            if !self.sets.is_empty(contested) {
                for (other, packets) in &here {
                    let same = self.tables.flow(*other).is_some_and(|other| other.actions == flow.actions);
                    if same {
                        hit = self.sets.minus(hit, *packets);
                        continue;
                    }
                    let both = self.sets.and(hit, *packets);
                    if !self.sets.is_empty(both) {
                        self.rivals.insert((*other, *id));
                    }
                }
            }
            if !self.sets.is_empty(hit) {
                taken = self.sets.or(taken, hit);
                here.push((*id, hit));
            }
        }
        found.missed = self.sets.minus(found.missed, taken);
        found.hits.extend(here);
    }

    /// The conjunctive flows of one priority. A packet that satisfies all clauses of an id is looked up once more
    /// with that `conj_id`, in the whole table and among ordinary flows only; if that finds nothing it goes on
    /// here, at the next lower priority.
    fn soft(&mut self, table: u8, key: &SymKey, level: &[(FlowId, Conjunction)], found: &mut Found<S::Set>) {
        let mut clauses: BTreeMap<(u32, u8), BTreeMap<u8, S::Set>> = BTreeMap::new();
        for (id, clause) in level {
            let Some(flow) = self.tables.flow(*id) else { continue };
            let Some(literals) = key.wanted(&flow.matching) else { continue };
            let cube = self.sets.cube(&literals);
            let none = self.sets.none();
            let slot =
                clauses.entry((clause.id, clause.clauses)).or_default().entry(clause.clause).or_insert(none);
            *slot = self.sets.or(*slot, cube);
        }
        let mut taken = self.sets.none();
        for ((id, wanted), clauses) in clauses {
            if clauses.len() != usize::from(wanted) {
                continue;
            }
            let satisfied =
                clauses.into_values().fold(found.missed, |packets, clause| self.sets.and(packets, clause));
            if self.sets.is_empty(satisfied) {
                continue;
            }
            let mut again = key.clone();
            again.set(Field::ConjId, u128::from(id), u128::MAX);
            let mut second = Found { hits: Vec::new(), missed: satisfied };
            for level in self.tables.levels(table) {
                self.hard(&again, &level.hard, &mut second);
            }
            let hit = self.sets.minus(satisfied, second.missed);
            let contested = self.sets.and(hit, taken);
            if !self.sets.is_empty(contested) {
                self.contested(&found.hits, &second.hits);
            }
            taken = self.sets.or(taken, hit);
            found.hits.extend(second.hits);
        }
        found.missed = self.sets.minus(found.missed, taken);
    }

    /// Notes those of `earlier` and `later` that some packet may hit both of and that differ in what they do.
    fn contested(&mut self, earlier: &[(FlowId, S::Set)], later: &[(FlowId, S::Set)]) {
        for (a, packets) in earlier {
            for (b, others) in later {
                let actions = |id: &FlowId| self.tables.flow(*id).map(|flow| &flow.actions);
                let both = self.sets.and(*packets, *others);
                if actions(a) != actions(b) && !self.sets.is_empty(both) {
                    self.rivals.insert((*a, *b));
                }
            }
        }
    }

    fn emit(&mut self, emit: Emit, state: &State<S::Set>) {
        if !self.sets.is_empty(state.packets) {
            self.events.push(Event {
                packets: state.packets,
                emit,
                key: state.key.clone(),
                path: state.path.clone(),
                recirculations: state.recirculations,
            });
        }
    }

    fn run(&mut self, actions: &[Action], state: State<S::Set>) -> Vec<State<S::Set>> {
        actions.iter().fold(vec![state], |states, action| {
            states.into_iter().flat_map(|state| self.act(action, state)).collect()
        })
    }

    /// One action: what it does to the packet, and the states in which the next action begins.
    fn act(&mut self, action: &Action, mut state: State<S::Set>) -> Vec<State<S::Set>> {
        match action {
            Action::Output(_)
            | Action::OutputField(_)
            | Action::Controller(_)
            | Action::DecTtl(_)
            | Action::Opaque(_)
            | Action::Resubmit { ct: true, .. } => {
                if let Some(emit) = emitted(action, &state.key) {
                    self.emit(emit, &state);
                }
            }
            Action::Resubmit { port, table, ct: false } => {
                return self.call(table.unwrap_or(state.table), *port, state);
            }
            Action::GotoTable(table) => return self.call(*table, None, state),
            Action::Set { field, value, mask, .. } => state.key.write(*field, *value, *mask),
            Action::Move { src, dst } => state.key.copy(*src, *dst),
            Action::ModVlanVid(_) | Action::ModVlanPcp(_) | Action::StripVlan | Action::PushVlan(_) => {
                retag(action, &mut state.key);
            }
            Action::Ct(ct) => return self.ct(ct, state),
            Action::CtClear => state.key.untrack(),
            Action::Conjunction(_) | Action::Note(_) => {}
        }
        vec![state]
    }

    /// `resubmit` and `goto_table`: a call, after which the caller goes on with the changed packet.
    fn call(&mut self, table: u8, port: Option<PortNo>, mut state: State<S::Set>) -> Vec<State<S::Set>> {
        let (depth, caller) = (state.depth, state.table);
        state.calls += 1;
        state.depth += u32::from(table <= caller);
        self.longest.calls = self.longest.calls.max(state.calls);
        self.longest.depth = self.longest.depth.max(state.depth);
        if state.calls > MAX_CALLS || state.depth > MAX_DEPTH {
            self.emit(Emit::Limit, &state);
            return Vec::new();
        }
        let back = |state| State { depth, table: caller, ..state };
        self.enter(table, port, state).into_iter().map(back).collect()
    }

    /// `ct()`: with a table a tracked copy goes on there; either way the rest of the list goes on untracked.
    fn ct(&mut self, ct: &Ct, mut state: State<S::Set>) -> Vec<State<S::Set>> {
        if ct.nat.is_some() || !ct.other.is_empty() {
            self.emit(Emit::Opaque("ct() with nat or alg".to_owned()), &state);
        }
        if let Some(table) =
            ct.table.filter(|_| state.recirculations < u16::from(self.profile.recirculations()))
        {
            let mut copy = state.clone();
            let depth = copy.recirculations;
            let zone = match ct.zone {
                Zone::Const(zone) => Some(u128::from(zone)),
                Zone::Field(part) => copy.key.constant(part),
            };
            copy.key.track(depth, may_be_overdue(self.profile, self.form));
            match zone {
                Some(zone) => copy.key.set(Field::CtZone, zone, u128::MAX),
                None => self.emit(Emit::Opaque("ct() in a zone taken from the packet".to_owned()), &copy),
            }
            if self.form != Form::Whole && self.profile.reassembles() {
                copy.key.reassemble();
            }
            copy.recirculations += 1;
            self.longest.recirculations = self.longest.recirculations.max(copy.recirculations);
            (copy.depth, copy.calls) = (0, 0);
            let legal = legal_answers(self.sets, self.profile, self.form, depth);
            copy.packets = self.sets.and(copy.packets, legal);
            copy = self.without_second_tag(copy);
            if !self.sets.is_empty(copy.packets) {
                self.enter(table, None, copy);
            }
        }
        state.key.untrack();
        vec![state]
    }

    /// A recirculated frame is read again, and behind a second tag nothing is seen; that is not modelled.
    fn without_second_tag(&mut self, mut state: State<S::Set>) -> State<S::Set> {
        let double = match state.key.second_tag() {
            Bit::Known(false) => return state,
            Bit::Known(true) => self.sets.all(),
            Bit::Free(var) => self.sets.cube(&[(var, true)]),
        };
        let doubly_tagged = State { packets: self.sets.and(state.packets, double), ..state.clone() };
        self.emit(Emit::Opaque(SECOND_TAG.to_owned()), &doubly_tagged);
        state.packets = self.sets.minus(state.packets, double);
        state
    }
}

/// What is not modelled of frames with two tags.
pub(crate) const SECOND_TAG: &str = "ct() of a frame with two tags";

/// How an action lets a packet with this key leave, if it does.
pub(crate) fn emitted(action: &Action, key: &SymKey) -> Option<Emit> {
    let port = match action {
        Action::Output(port) => Some(*port),
        // A number that no port has goes nowhere.
        Action::OutputField(part) => match key.constant(*part).map(PortNo::try_from) {
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => return None,
            None => None,
        },
        Action::Controller(_) => return Some(Emit::Controller),
        Action::DecTtl(_) => return Some(Emit::Opaque("dec_ttl".to_owned())),
        Action::Opaque(text) => return Some(Emit::Opaque(text.clone())),
        Action::Resubmit { ct: true, .. } => return Some(Emit::Opaque("resubmit(…,ct)".to_owned())),
        Action::Resubmit { ct: false, .. }
        | Action::GotoTable(_)
        | Action::Set { .. }
        | Action::Move { .. }
        | Action::ModVlanVid(_)
        | Action::ModVlanPcp(_)
        | Action::StripVlan
        | Action::PushVlan(_)
        | Action::Ct(_)
        | Action::CtClear
        | Action::Conjunction(_)
        | Action::Note(_) => return None,
    };
    let in_port = key.constant(Subfield::whole(Field::InPort));
    match port {
        Some(port::NONE) => None,
        // Numbers that no port has (ovs-vswitchd.conf.db(5), `ofport_request`).
        Some(0 | 0xff00..port::IN_PORT) => None,
        Some(port) if in_port == Some(u128::from(port)) => None,
        Some(port::IN_PORT) => Some(Emit::InPort),
        Some(port::NORMAL) => Some(Emit::Normal),
        Some(port::FLOOD | port::ALL) => Some(Emit::Flood),
        Some(port::CONTROLLER) => Some(Emit::Controller),
        Some(port::TABLE) => Some(Emit::Opaque("TABLE".to_owned())),
        Some(port) => Some(Emit::Port(port)),
        None => Some(Emit::UnknownPort),
    }
}

/// What a VLAN action does to the key; nothing for other actions.
pub(crate) fn retag(action: &Action, key: &mut SymKey) {
    const PRESENT: u128 = 0x1000;
    let (outer, inner) = (Subfield::whole(Field::VlanTci), Subfield::whole(Field::InnerVlanTci));
    if let Action::ModVlanVid(vid) = action {
        key.set(Field::VlanTci, PRESENT | u128::from(*vid), 0x1fff);
    } else if let Action::ModVlanPcp(pcp) = action {
        key.set(Field::VlanTci, PRESENT | u128::from(*pcp) << 13, 0xf000);
    } else if let Action::StripVlan = action {
        key.copy(inner, outer);
        key.set(Field::InnerVlanTci, 0, u128::MAX);
    } else if let Action::PushVlan(_) = action {
        key.copy(outer, inner);
        key.set(Field::VlanTci, PRESENT, u128::MAX);
    }
}

/// Whether `ct()` may let go of a frame before its train is complete, untracked and invalid.
pub(crate) fn may_be_overdue(profile: Profile, form: Form) -> bool {
    form != Form::Whole && !profile.reassembles()
}

/// What connection tracking may answer at nesting `depth`: exactly one of `new`, `est`, `rel`, `inv`; `rpl` only
/// with `est` or `rel`; no mark and no label on what is invalid, except that userspace leaves those of the connection on
/// a segment outside its window; neighbour and listener discovery as the profile has it, redirects invalid. An overdue
/// fragment is `inv` without `trk`, its mark and label anything.
pub fn legal_answers<S: PacketSets>(sets: &mut S, profile: Profile, form: Form, depth: u16) -> S::Set {
    let answer = |sets: &mut S, flags: u32, unmarked: bool| {
        let bits = vars::tracked(depth, Field::CtState).rev().enumerate();
        let open = if flags & (state::EST | state::REL) != 0 { state::RPL } else { 0 };
        let mut literals: Vec<Literal> = bits
            .filter(|(i, _)| {
                (tracked_state::UNKNOWN | state::TRK) & !open & 1u32.checked_shl(*i as u32).unwrap_or(0) != 0
            })
            .map(|(i, var)| (var, flags >> i & 1 == 1))
            .collect();
        if unmarked {
            let marks = vars::tracked(depth, Field::CtMark).chain(vars::tracked(depth, Field::CtLabel));
            literals.extend(marks.map(|var| (var, false)));
        }
        sets.cube(&literals)
    };
    let tracked = |flag| flag | state::TRK;
    let mut legal = answer(sets, tracked(state::INV), profile.reassembles());
    for kind in [state::NEW, state::EST, state::REL] {
        let one = answer(sets, tracked(kind), false);
        legal = sets.or(legal, one);
    }
    let invalid = answer(sets, tracked(state::INV), true);
    let untrackable = if profile.nd_is_new() { answer(sets, tracked(state::NEW), true) } else { invalid };
    let discovery = icmpv6(&frames::DISCOVERY).to_set(sets);
    let redirect = icmpv6(&[frames::REDIRECT]).to_set(sets);
    let mut answers = sets.minus(legal, discovery);
    answers = sets.minus(answers, redirect);
    for (packets, answer) in [(discovery, untrackable), (redirect, invalid)] {
        let these = sets.and(packets, answer);
        answers = sets.or(answers, these);
    }
    if may_be_overdue(profile, form) {
        let overdue = answer(sets, state::INV, false);
        answers = sets.or(answers, overdue);
    }
    answers
}

/// ICMPv6 of these types.
pub(crate) fn icmpv6(types: &[u8]) -> Predicate {
    Predicate::All(vec![
        Predicate::is(Field::DlType, 0x86ddu16),
        Predicate::is(Field::NwProto, 58u8),
        Predicate::one_of(Field::Icmpv6Type, types.iter().copied()),
    ])
}
