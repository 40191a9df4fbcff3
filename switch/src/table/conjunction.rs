//! Conjunctive matches: flows that apply when every clause of an `id` matches.
//!
//! What it means (ovs-actions(7), "conjunction", and Open vSwitch 3.1's classifier, by experiment):
//! * Flows with the same match stand in one pile, the highest priority on top; only tops are looked at.
//! * The best ordinary top is the answer unless a clause on a top has a higher priority. Equal: the ordinary flow.
//! * At the highest priority that clauses have, an id is satisfied when all its clauses are on tops *of that
//!   priority*. Then the table is looked up once more with `conj_id` set and all clauses ignored, *and with them
//!   everything below them in their piles*. Whatever that finds applies, whichever its priority.
//! * If nothing is satisfied or found, the clauses of that priority are taken off their piles, and again.
//!
//! Invariant: each round takes a clause off a pile, so the loop ends. Deliberately absent: the order in which the
//! classifier visits its subtables; ties follow [`TieBreak`] and are reported.

use super::{Index, Lookup, Rival, Tables, TieBreak, conjunctions, is_conjunctive};
use crate::flow::{Flow, Match};
use flowproof_packet::{Field, FlowKey};
use smallvec::SmallVec;

type Candidate<'a> = (super::FlowId, &'a Flow);
/// The matching flows with one and the same match, highest priority first.
type Pile<'a> = SmallVec<[Candidate<'a>; 1]>;

/// [`Tables::lookup`] in a table that has conjunctions.
pub(super) fn lookup(tables: &Tables, index: &Index, key: &FlowKey, tie: TieBreak) -> Lookup {
    let all = tables.matching(index, key);
    let Some((_, first)) = all.first() else { return Lookup::default() };
    let top = || all.iter().copied().take_while(|(_, flow)| flow.priority == first.priority);
    if top().any(is_ordinary) {
        return tables.best(top().filter(|found| is_ordinary(*found)), tie);
    }
    let mut piles = piles(&all);
    if tie == TieBreak::Last {
        piles.reverse();
    }
    let mut rival = None;
    loop {
        let mut hard = best_ordinary(tables, &piles, tie);
        hard.rival = hard.rival.or(rival);
        let floor = hard.flow.and_then(|id| tables.flow(id)).map(|flow| flow.priority);
        let clauses = || piles.iter().filter_map(|pile| pile.first()).filter(|found| !is_ordinary(**found));
        let Some(priority) = clauses().map(|(_, flow)| flow.priority).max() else { return hard };
        if floor.is_some_and(|floor| floor >= priority) {
            return hard;
        }
        let level: SmallVec<[Candidate<'_>; 8]> =
            clauses().filter(|(_, flow)| flow.priority == priority).copied().collect();
        let again = |id| second_lookup(tables, index, key, tie, id);
        let found = satisfied(&level, tie, again);
        rival = rival.or_else(|| other_choice(tables, &level, found.as_ref(), again));
        if let Some(found) = found {
            return Lookup { rival: found.rival.or(rival), ..found };
        }
        for pile in &mut piles {
            if pile.first().is_some_and(|found| !is_ordinary(*found) && found.1.priority == priority) {
                pile.remove(0);
            }
        }
    }
}

fn is_ordinary((_, flow): Candidate<'_>) -> bool {
    !is_conjunctive(flow)
}

fn piles<'a>(matching: &[Candidate<'a>]) -> SmallVec<[Pile<'a>; 16]> {
    let mut piles: SmallVec<[Pile<'a>; 16]> = SmallVec::new();
    for &(id, flow) in matching {
        let same = |pile: &&mut Pile<'_>| pile.first().is_some_and(|(_, top)| top.matching == flow.matching);
        match piles.iter_mut().find(same) {
            Some(pile) => pile.push((id, flow)),
            None => piles.push(SmallVec::from_iter([(id, flow)])),
        }
    }
    piles
}

/// The best of the ordinary flows that lie on top of their piles.
fn best_ordinary(tables: &Tables, piles: &[Pile<'_>], tie: TieBreak) -> Lookup {
    let mut tops: SmallVec<[Candidate<'_>; 16]> =
        piles.iter().filter_map(|pile| pile.first()).filter(|found| is_ordinary(**found)).copied().collect();
    tops.sort_unstable_by_key(|(id, flow)| (std::cmp::Reverse(flow.priority), *id));
    tables.best(tops, tie)
}

/// The clauses seen of one id: a bit for each, and ones above the last.
struct Progress {
    id: u32,
    clauses: u64,
}

/// What the first satisfied conjunction leads to, among the clauses of one priority.
fn satisfied(
    level: &[Candidate<'_>],
    tie: TieBreak,
    again: impl Fn(u32) -> Option<Lookup>,
) -> Option<Lookup> {
    let mut progress: SmallVec<[Progress; 4]> = SmallVec::new();
    level.iter().find_map(|(_, flow)| again(completed_by(flow, level.len(), tie, &mut progress)?))
}

/// A conjunction of the same priority that is satisfied too and leads elsewhere. Which one wins depends on the order
/// in which the classifier happens to visit the clauses.
fn other_choice(
    tables: &Tables,
    level: &[Candidate<'_>],
    found: Option<&Lookup>,
    again: impl Fn(u32) -> Option<Lookup>,
) -> Option<Rival> {
    let actions = |found: &Lookup| found.flow.and_then(|id| tables.flow(id)).map(|flow| &flow.actions);
    let clauses = || level.iter().flat_map(|(_, flow)| conjunctions(flow));
    // The clause that is visited first says how many there are; the others only count.
    let own = |id| clauses().filter(move |conj| conj.id == id && usize::from(conj.clauses) <= level.len());
    let completes = |id, of: u8| {
        let start = u64::MAX << (of & 63);
        own(id).fold(start, |seen, conj| seen | 1 << (conj.clause.wrapping_sub(1) & 63)) == u64::MAX
    };
    let complete = |id| own(id).any(|conj| completes(id, conj.clauses));
    let mut ids: SmallVec<[u32; 4]> = clauses().map(|conj| conj.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let others = ids.into_iter().filter(|id| found.and_then(|found| found.conj_id) != Some(*id));
    let mut others = others.filter(|id| complete(*id));
    // Even an id that leads nowhere matters if its completion keeps the classifier from reading a flow to its end.
    let shared = found.is_some() && level.iter().any(|(_, flow)| conjunctions(flow).nth(1).is_some());
    let differs = |id: &u32| match again(*id) {
        Some(other) => found.and_then(actions) != actions(&other),
        None => shared,
    };
    let disputed = |id: &u32| !own(*id).all(|conj| completes(*id, conj.clauses));
    others
        .find(differs)
        .or_else(|| found.and_then(|found| found.conj_id).filter(disputed))
        .map(Rival::Conjunction)
}

/// Adds a flow's clauses to what was seen; the id that is complete with them. The clauses after the completing one
/// are not looked at, and an id cannot be complete with fewer flows than clauses, both as in the switch.
fn completed_by(
    flow: &Flow,
    flows: usize,
    tie: TieBreak,
    progress: &mut SmallVec<[Progress; 4]>,
) -> Option<u32> {
    let mut clauses: SmallVec<[_; 4]> =
        conjunctions(flow).filter(|conj| usize::from(conj.clauses) <= flows).collect();
    if tie == TieBreak::Last {
        clauses.reverse();
    }
    for conj in clauses {
        let at = progress.iter().position(|seen| seen.id == conj.id).unwrap_or_else(|| {
            let clauses = u64::MAX << (conj.clauses & 63);
            progress.push(Progress { id: conj.id, clauses });
            progress.len() - 1
        });
        let Some(seen) = progress.get_mut(at) else { continue };
        seen.clauses |= 1 << (conj.clause.wrapping_sub(1) & 63);
        if seen.clauses == u64::MAX {
            return Some(conj.id);
        }
    }
    None
}

/// The lookup with `conj_id` set. A clause hides the flows below it in its pile.
fn second_lookup(
    tables: &Tables,
    index: &Index,
    key: &FlowKey,
    tie: TieBreak,
    conj_id: u32,
) -> Option<Lookup> {
    let mut key = key.clone();
    key.set(Field::ConjId, u128::from(conj_id));
    let matching = tables.matching(index, &key);
    let hidden: SmallVec<[(&Match, u16); 16]> = matching
        .iter()
        .filter(|found| !is_ordinary(**found))
        .map(|(_, flow)| (&flow.matching, flow.priority))
        .collect();
    let hides = |flow: &Flow| {
        hidden.iter().any(|(wanted, priority)| *priority > flow.priority && **wanted == flow.matching)
    };
    let visible = matching.iter().copied().filter(|found| is_ordinary(*found) && !hides(found.1));
    let found = tables.best(visible, tie);
    found.flow.is_some().then_some(Lookup { conj_id: Some(conj_id), ..found })
}
