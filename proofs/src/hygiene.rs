//! Hygiene of the tables: which choices are undefined, which flows no packet hits, how far packets are sent around.
//!
//! Most flows need no sets of packets for that: they clash with none whatever comes (`clashes`), a packet is seen to hit them
//! (`examples`) or nothing can (`barred`), and no way is long (`lengths`). What is left open is decided by sweeps of everything
//! that can enter anywhere, through the tables as far as they lead there (`focus`): what no execution reaches is dead, and is
//! explained by the flows of its table that take its packets first. What may be reached only from behind something that is not
//! modelled is not judged. Deliberately absent: whether a reachable flow is *wanted*, which needs an intent.

mod barred;
mod clashes;
mod counted;
mod examples;
mod focus;
mod lengths;
mod wanted;
mod ways;

pub use counted::{Counted, counted};

use crate::{
    arrival::Arrival,
    bdd::{Bdd, Bdds},
    beyond::Beyond,
    effects::is_the_end,
    frames,
    live::{Bits, Live},
    predicate::Predicate,
    set::PacketSets,
    sweep::{Guide, Scope, Sweep},
    symbolic::{self, Emit, Event, Longest, Memory, Start, Yield, loosely},
    symkey::{Form, SymKey},
    tables::{self, Tables},
    vars::Var,
};
use flowproof_packet::key::{MaskedWord, WORDS};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Flow, does_the_same},
    table::FlowId,
};
use rayon::prelude::*;
use rustc_hash::FxHashSet;
use std::{collections::BTreeSet, rc::Rc};

const NODE_LIMIT: usize = 16_000_000;
/// All bits of a key.
const ALL: Bits = [u64::MAX; WORDS];
/// Flows that were not seen to be hit above which a sweep is asked.
const MOST_UNSEEN: usize = 256;

/// Why no packet hits a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// These flows of its table, of higher or equal priority, take all its packets.
    Shadowed(Vec<FlowId>),
    /// No packet that it matches comes to its table.
    Unreached,
    /// A conjunction's clause whose other clauses, or whose `conj_id` flow, no packet completes.
    Orphaned,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Hygiene {
    /// Pairs of flows of equal priority, with different actions, that one packet matches: OpenFlow leaves open which wins.
    pub rivals: BTreeSet<(FlowId, FlowId)>,
    /// Flows that no packet hits.
    pub dead: Vec<(FlowId, Death)>,
    /// What is not modelled and packets come to, by a flow that has it.
    pub unknown: BTreeSet<(FlowId, String)>,
    /// Flows that no packet is known to hit, and that may be hit behind something that is not modelled.
    pub unjudged: Vec<FlowId>,
    /// Whether packets go on behind that, so that nobody knows how often they are passed on.
    pub goes_on: bool,
    /// The longest ways through the tables.
    pub longest: Longest,
    /// Whether some packet exceeds the limits of the switch, which then drops it with all its outputs.
    pub exceeds_limits: bool,
    /// Whether all of the tables was explored; if not, nothing is said of what is missing.
    pub complete: bool,
}

/// Looks through the tables: by examples where that is enough, by sweeps where it is not.
#[must_use]
pub fn examine(tables: &Tables) -> Hygiene {
    examine_by_examples(tables).unwrap_or_else(|| examine_by_sweeps(tables))
}

/// Nearly without sets of packets: no two flows clash, each is seen to be hit or is barred, and no way is long. Where some flows are
/// left, a sweep of what leads to those decides. Nothing where that is not enough.
#[must_use]
pub fn examine_by_examples(tables: &Tables) -> Option<Hygiene> {
    if !tables.flows().iter().all(|flow| is_modelled(flow, tables)) {
        return None;
    }
    let mut open = clashes::suspects(tables)?;
    let ways = ways::Ways::new(tables);
    let longest = lengths::longest(tables, &ways.walk)?;
    let mut hit = examples::seen(tables, &ways);
    let is_left = |(flow, hit): &(&Flow, &bool)| !**hit && tables::clauses(flow).next().is_none();
    if tables.flows().iter().zip(&hit).filter(is_left).count() > MOST_UNSEEN {
        return None;
    }
    let mut sets = Bdds::with_limit(NODE_LIMIT);
    let mut dead = dead(&mut sets, tables, &hit);
    let arrivals = barred::arrivals(tables, &ways);
    let left = dead.iter().filter(|(flow, death)| {
        *death == Death::Unreached && !barred::is_barred(&mut sets, tables, &ways, &arrivals, *flow)
    });
    open.extend(left.map(|(flow, _)| *flow));
    let mut rivals = BTreeSet::new();
    if !open.is_empty() {
        let found = settle(tables, &ways, &open)?;
        open.difference(&found.dead).for_each(|flow| note(&mut hit, *flow));
        rivals = found.rivals;
        dead = self::dead(&mut sets, tables, &hit);
    }
    Some(Hygiene { rivals, dead, longest, complete: true, ..Hygiene::default() })
}

/// What a sweep finds of some flows.
struct Settled {
    dead: BTreeSet<FlowId>,
    rivals: BTreeSet<(FlowId, FlowId)>,
}

/// Sweeps those tables that lead to the `open` flows.
fn settle(tables: &Tables, ways: &ways::Ways<'_>, open: &BTreeSet<FlowId>) -> Option<Settled> {
    let found = examine_by_sweeps(&focus::on(tables, ways, open));
    if !found.complete || found.exceeds_limits {
        return None;
    }
    // A flow that leads nowhere near them does nothing there, and may have done what others still do.
    let differ = |(a, b): &(FlowId, FlowId)| match (tables.flow(*a), tables.flow(*b)) {
        (Some(a), Some(b)) => !does_the_same(a, b),
        _ => true,
    };
    let rivals = found.rivals.into_iter().filter(differ).collect();
    Some(Settled { dead: found.dead.into_iter().map(|(flow, _)| flow).collect(), rivals })
}

fn note(hit: &mut [bool], flow: FlowId) {
    hit.get_mut(flow.0 as usize).into_iter().for_each(|hit| *hit = true);
}

/// Explores the tables from everywhere.
///
/// A wide sweep finds more than there is, and quickly; what it does not find is not there. A second one, which tells all
/// addresses apart, looks for what the first has found, and only where that may be.
#[must_use]
pub fn examine_by_sweeps(tables: &Tables) -> Hygiene {
    let live = Live::new(tables);
    match examine_together(tables, &live) {
        Some(explored) => conclude(tables, vec![explored]),
        None => examine_each(tables, &live),
    }
}

/// Whether all of a flow is known to both the interpreter and symbolic execution, and leaves frames with one tag at most.
fn is_modelled(flow: &Flow, tables: &Tables) -> bool {
    let pushes = |action: &Action| matches!(action, Action::PushVlan(_) | Action::RetagUnclear { .. });
    !Beyond::is_cause(flow, tables) && !flow.actions.iter().any(pushes)
}

/// Whole frames on one datapath, and everything at once: where that finds nothing more, it needs not be told apart. What either
/// has followed says nothing of the other, because connection tracking answers them differently.
fn examine_together(tables: &Tables, live: &Live) -> Option<Explored> {
    if !loosely::is_plain(tables) {
        return None;
    }
    let explore = |scope: Scope| {
        let (mut sets, mut memory) = (Bdds::with_limit(NODE_LIMIT), Memory::default());
        let mut sweep = Sweep::new(Rc::new(live.clone()));
        sweep.scope = scope;
        let packets = match scope {
            Scope::One | Scope::First => loosely::wholes(&mut sets),
            Scope::Every => loosely::every(&mut sets),
        };
        let (profile, form) = (Profile::Userspace31, Form::Whole);
        let mut found = Explored::default();
        for arrival in Arrival::told_apart(tables.flows()) {
            let premise = arrival.premise().to_set(&mut sets);
            let (packets, key) = (sets.and(packets, premise), loosely::key(arrival));
            let start = Start { tables, profile, form, key, packets, enough: usize::MAX, each_flow: true };
            let run = symbolic::execute_with(&mut sets, &mut memory, start, Some(&mut sweep));
            found = found.and(explored(run, &sets));
        }
        found
    };
    let (exact, all) = rayon::join(|| explore(Scope::First), || explore(Scope::Every));
    let nothing_new = all.hit.is_subset(&exact.hit) && all.rivals.is_subset(&exact.rivals);
    let ends = all.complete && exact.complete && !all.exceeds_limits && !exact.exceeds_limits;
    let longest = longer(exact.longest, all.longest);
    (nothing_new && ends).then_some(Explored { longest, ..exact })
}

/// Every form of frame on every datapath, one after the other.
fn examine_each(tables: &Tables, live: &Live) -> Hygiene {
    let wide: Vec<Wide> =
        combinations().par_iter().with_max_len(1).map(|at| explore_widely(tables, live, *at)).collect();
    let mut reached: FxHashSet<FlowId> = FxHashSet::default();
    let mut rivals: BTreeSet<(FlowId, FlowId)> = BTreeSet::new();
    let mut explored = Vec::new();
    for (at, Wide { guide, found }) in combinations().into_iter().zip(wide) {
        let sweep = if found.exceeds_limits || !found.complete {
            Sweep::new(Rc::new(live.clone()))
        } else {
            let unreached = found.hit.iter().filter(|flow| !reached.contains(*flow)).copied().collect();
            let open = found.rivals.difference(&rivals).copied().collect();
            Sweep::guided(Rc::new(live.clone()), guide, unreached, open)
        };
        let mut exact = explore(tables, at, &Predicate::always(), Some(sweep)).0;
        if !found.exceeds_limits && found.complete {
            exact.longest = found.longest;
        }
        reached.extend(exact.hit.iter().copied());
        rivals.extend(exact.rivals.iter().copied());
        explored.push(exact);
    }
    conclude(tables, explored)
}

/// The same without what makes it fast: every packet goes its whole way, whoever went there before.
#[must_use]
pub fn examine_slowly(tables: &Tables) -> Hygiene {
    conclude(
        tables,
        combinations().into_iter().map(|at| explore(tables, at, &Predicate::always(), None).0).collect(),
    )
}

/// The flows that some of the `wanted` frames may hit, wherever they enter; more than there are, but none is missing. None if
/// that is too much work.
pub(crate) fn hit_by(tables: &Tables, wanted: &Predicate) -> Option<FxHashSet<FlowId>> {
    let live = Live::new(tables);
    let mut sets = Bdds::with_limit(NODE_LIMIT);
    let of_any = wanted.to_set(&mut sets);
    if loosely::is_plain(tables) && !sets.support(of_any).into_iter().any(loosely::hides) {
        let mut sweep = Sweep::widely(Rc::new(live));
        sweep.scope = Scope::Every;
        let (all, wanted) = (loosely::every(&mut sets), of_any);
        let packets = sets.and(all, wanted);
        let (profile, form) = (Profile::Userspace31, Form::Whole);
        let (mut found, mut memory) = (Explored::default(), Memory::default());
        for arrival in Arrival::told_apart(tables.flows()) {
            let premise = arrival.premise().to_set(&mut sets);
            let (packets, key) = (sets.and(packets, premise), loosely::key(arrival));
            let start = Start { tables, profile, form, key, packets, enough: usize::MAX, each_flow: true };
            let run = symbolic::execute_with(&mut sets, &mut memory, start, Some(&mut sweep));
            found = found.and(explored(run, &sets));
        }
        return found.is_all(tables).then(|| found.hit.into_iter().collect());
    }
    let hit = |at: &(Form, Profile)| {
        let sweep = Sweep::widely(Rc::new(live.clone()));
        let found = explore(tables, *at, wanted, Some(sweep)).0;
        found.is_all(tables).then_some(found.hit)
    };
    let all: Option<Vec<_>> = combinations().par_iter().with_max_len(1).map(hit).collect();
    Some(all?.into_iter().flatten().collect())
}

fn combinations() -> Vec<(Form, Profile)> {
    Form::ALL.into_iter().flat_map(|form| Profile::ALL.map(|profile| (form, profile))).collect()
}

/// What one execution finds.
struct Explored {
    hit: BTreeSet<FlowId>,
    rivals: BTreeSet<(FlowId, FlowId)>,
    longest: Longest,
    exceeds_limits: bool,
    unknown: BTreeSet<(FlowId, String)>,
    complete: bool,
}

impl Default for Explored {
    fn default() -> Self {
        let (hit, rivals, longest) = (BTreeSet::new(), BTreeSet::new(), Longest::default());
        Self { hit, rivals, longest, exceeds_limits: false, unknown: BTreeSet::new(), complete: true }
    }
}

impl Explored {
    /// What two executions find.
    fn and(mut self, other: Self) -> Self {
        self.hit.extend(other.hit);
        self.rivals.extend(other.rivals);
        self.unknown.extend(other.unknown);
        self.longest = longer(self.longest, other.longest);
        self.exceeds_limits |= other.exceeds_limits;
        self.complete &= other.complete;
        self
    }

    /// Whether no packet can hit any flow that was not found to be hit.
    fn is_all(&self, tables: &Tables) -> bool {
        let unknown = self.unknown.iter().map(|(flow, _)| *flow);
        self.complete && !self.exceeds_limits && Beyond::new(tables).behind(unknown).is_empty()
    }
}

struct Wide {
    guide: Guide,
    found: Explored,
}

fn explore_widely(tables: &Tables, live: &Live, at: (Form, Profile)) -> Wide {
    let sweep = Sweep::widely(Rc::new(live.clone()));
    let (found, sweep) = explore(tables, at, &Predicate::always(), Some(sweep));
    let guide = sweep.map_or_else(|| Sweep::<Bdd>::new(Rc::default()).into_guide(), Sweep::into_guide);
    Wide { guide, found }
}

fn explore(
    tables: &Tables,
    (form, profile): (Form, Profile),
    wanted: &Predicate,
    mut sweep: Option<Sweep<Bdd>>,
) -> (Explored, Option<Sweep<Bdd>>) {
    let mut sets = Bdds::with_limit(NODE_LIMIT);
    let (all, wanted) = (frames::sendable(&mut sets, form), wanted.to_set(&mut sets));
    let packets = sets.and(all, wanted);
    let (mut found, mut memory) = (Explored::default(), Memory::default());
    for arrival in Arrival::told_apart(tables.flows()) {
        let premise = arrival.premise().to_set(&mut sets);
        let (packets, key) = (sets.and(packets, premise), SymKey::entering_anywhere(form, arrival));
        let start = Start { tables, profile, form, key, packets, enough: usize::MAX, each_flow: true };
        let run = symbolic::execute_with(&mut sets, &mut memory, start, sweep.as_mut());
        found = found.and(explored(run, &sets));
    }
    (found, sweep)
}

/// What `ct()` does with frames of two tags is not modelled, so where some come there it is not known what they hit.
fn explored(run: Yield<Bdd>, sets: &Bdds) -> Explored {
    let second_tag = Emit::Opaque(symbolic::SECOND_TAG.to_owned());
    let lost = run.events.iter().any(|event| event.emit == second_tag);
    let unknown = |event: &Event<Bdd>| {
        let Emit::Opaque(text) = &event.emit else { return None };
        Some((event.path.as_ref()?.flow, text.clone())).filter(|_| is_the_end(&event.emit))
    };
    Explored {
        unknown: run.events.iter().filter_map(unknown).collect(),
        hit: run.hit.into_iter().collect(),
        rivals: run.rivals.into_keys().collect(),
        longest: run.longest,
        exceeds_limits: run.events.iter().any(|event| event.emit == Emit::Limit),
        complete: run.complete && !lost && !sets.overflown(),
    }
}

fn conclude(tables: &Tables, explored: Vec<Explored>) -> Hygiene {
    let mut hygiene = Hygiene { complete: true, ..Hygiene::default() };
    let mut hit = vec![false; tables.flows().len()];
    for one in explored {
        for flow in one.hit {
            hit.get_mut(flow.0 as usize).into_iter().for_each(|hit| *hit = true);
        }
        hygiene.exceeds_limits |= one.exceeds_limits;
        hygiene.longest = longer(hygiene.longest, one.longest);
        hygiene.complete &= one.complete;
        hygiene.rivals.extend(one.rivals);
        hygiene.unknown.extend(one.unknown);
    }
    if hygiene.complete {
        hygiene.dead = dead(&mut Bdds::with_limit(NODE_LIMIT), tables, &hit);
    }
    beyond(tables, &mut hygiene);
    hygiene
}

/// Takes back what is said of flows that packets may hit behind what is not modelled. That others take all that a flow matches
/// is so whatever comes.
fn beyond(tables: &Tables, hygiene: &mut Hygiene) {
    let behind = Beyond::new(tables).behind(hygiene.unknown.iter().map(|(flow, _)| *flow));
    hygiene.goes_on = !behind.is_empty();
    let may_be_hit = |(flow, death): &(FlowId, Death)| {
        let comes = tables.flow(*flow).is_some_and(|flow| behind.contains(&flow.table));
        comes && !matches!(death, Death::Shadowed(_))
    };
    let (unjudged, dead) = std::mem::take(&mut hygiene.dead).into_iter().partition(may_be_hit);
    hygiene.dead = dead;
    hygiene.unjudged = Vec::into_iter(unjudged).map(|(flow, _)| flow).collect();
}

fn longer(a: Longest, b: Longest) -> Longest {
    Longest {
        calls: a.calls.max(b.calls),
        depth: a.depth.max(b.depth),
        recirculations: a.recirculations.max(b.recirculations),
    }
}

fn dead(sets: &mut Bdds, tables: &Tables, hit: &[bool]) -> Vec<(FlowId, Death)> {
    let completed: BTreeSet<u32> = hit_conjunctions(tables, hit);
    let mut dead = Vec::new();
    for (at, flow) in tables.flows().iter().enumerate() {
        let id = FlowId(at as u32);
        let clauses: Vec<u32> = flow.actions.iter().filter_map(conjunction).collect();
        if !clauses.is_empty() {
            if !clauses.iter().any(|id| completed.contains(id)) {
                dead.push((id, Death::Orphaned));
            }
        } else if hit.get(at) == Some(&false) {
            let death = shadows(sets, tables, id, flow).map_or(Death::Unreached, Death::Shadowed);
            dead.push((id, death));
        }
    }
    dead
}

const fn conjunction(action: &Action) -> Option<u32> {
    if let Action::Conjunction(clause) = action { Some(clause.id) } else { None }
}

/// The conjunctions whose `conj_id` flow some packet hits.
fn hit_conjunctions(tables: &Tables, hit: &[bool]) -> BTreeSet<u32> {
    let flows = tables.flows().iter().zip(hit).filter(|(_, hit)| **hit);
    let id = |flow: &Flow| flow.matching.exact(flowproof_packet::Field::ConjId);
    flows.filter_map(|(flow, _)| id(flow)).filter_map(|id| u32::try_from(id).ok()).collect()
}

/// The flow of the same table that takes every packet that `flow` matches, or else those that do so together, if they do.
fn shadows(sets: &mut Bdds, tables: &Tables, id: FlowId, flow: &Flow) -> Option<Vec<FlowId>> {
    let all = tables.levels(flow.table).iter().flat_map(|level| &level.hard);
    let earlier: Vec<(FlowId, &Flow)> = all
        .filter_map(|other| Some((*other, tables.flow(*other)?)))
        .filter(|(other, candidate)| {
            candidate.priority > flow.priority || candidate.priority == flow.priority && *other < id
        })
        // What else it asks for nobody knows; and a clause with the same match may hide it.
        .filter(|(other, candidate)| candidate.opaque_match.is_empty() && !tables.is_hidden(*other))
        .filter(|(_, candidate)| candidate.matching.overlaps(&flow.matching))
        .collect();
    if let Some((whole, _)) = earlier.iter().find(|(_, candidate)| covers(candidate, flow)) {
        return Some(vec![*whole]);
    }
    if passes(flow, &earlier) {
        return None;
    }
    let mut rest = cube(sets, flow, &ALL);
    let mut by = Vec::new();
    for (other, candidate) in earlier {
        let taken = cube(sets, candidate, &ALL);
        let left = sets.minus(rest, taken);
        if left != rest {
            by.push(other);
            rest = left;
        }
        if sets.is_empty(rest) {
            return Some(by);
        }
    }
    None
}

/// What is tried in the bits that a flow leaves open.
const PATTERNS: [u64; 4] = [0, u64::MAX, 0x9e37_79b9_7f4a_7c15, 0x61c8_8646_80b5_83ea];

/// Whether a packet that is easily made up matches a flow and none of the earlier ones.
fn passes(flow: &Flow, earlier: &[(FlowId, &Flow)]) -> bool {
    PATTERNS.into_iter().any(|pattern| {
        let bits = |word: u8| {
            let part = flow.matching.words().iter().find(|part| part.word == word);
            part.map_or(pattern, |part| part.value | pattern & !part.mask)
        };
        let hits = |(_, of): &(FlowId, &Flow)| {
            of.matching.words().iter().all(|part| bits(part.word) & part.mask == part.value)
        };
        !earlier.iter().any(hits)
    })
}

/// Whether a flow asks nothing of a packet that the other does not.
fn covers(flow: &Flow, other: &Flow) -> bool {
    includes(flow.matching.words(), other.matching.words())
}

/// Whether everything that has what the second wants has what the first wants.
fn includes(wants: &[MaskedWord], of: &[MaskedWord]) -> bool {
    wants.iter().all(|part| {
        of.iter().any(|of| {
            of.word == part.word && of.mask & part.mask == part.mask && of.value & part.mask == part.value
        })
    })
}

/// What a flow matches, as far as these bits tell, each of which is taken for a variable of its own.
fn cube(sets: &mut Bdds, flow: &Flow, bits: &Bits) -> Bdd {
    let mut literals = Vec::new();
    for part in flow.matching.words() {
        let mask = part.mask & bits.get(usize::from(part.word)).copied().unwrap_or(0);
        for bit in (0..64u16).filter(|bit| mask >> (63 - bit) & 1 == 1) {
            literals.push((Var(u16::from(part.word) * 64 + bit), part.value >> (63 - bit) & 1 == 1));
        }
    }
    sets.cube(&literals)
}
