//! Which packets satisfy a conjunction, as the switch's classifier decides it.
//!
//! What it means (the same rules, of one packet: `switch/src/table/conjunction.rs`):
//! * a conjunction of `n` clauses is satisfied by no fewer than `n` flows of its priority, whichever conjunctions they stand for;
//! * where clauses of one id disagree about `n`, the flow that the classifier visits first decides;
//! * of several that are satisfied any may be taken, and one that leads nowhere may keep another from being seen.
//!
//! Invariant: packets that *may* be taken and packets that *surely* are. The order in which the classifier visits flows is left open.

use super::{Execution, Found, Level};
use crate::{index::Group, set::PacketSets, symkey::SymKey, tables};
use flowproof_packet::Field;
use flowproof_switch::{flow::Conjunction, table::FlowId};
use std::collections::{BTreeMap, BTreeSet};

/// The clauses that stand at one priority, and what their flows take of the packets that are left.
struct Clauses<Set> {
    /// By id: the clauses of each flow, with what it takes.
    of: BTreeMap<u32, Vec<(Conjunction, Set)>>,
    /// By number of flows: the packets that no fewer match. Empty where that goes without saying.
    matching: Vec<Set>,
    /// The ids that share a flow with others.
    shared: BTreeMap<u32, BTreeSet<u32>>,
}

/// The packets that satisfy a conjunction, whatever order flows are visited in, and in some order.
struct Satisfied<Set> {
    surely: Set,
    perhaps: Set,
}

impl<S: PacketSets> Execution<'_, S> {
    /// The conjunctive flows of one priority. A packet that satisfies all clauses of an id is looked up once more
    /// with that `conj_id`, in the whole table and among ordinary flows only; if that finds nothing it goes on
    /// here, at the next lower priority.
    pub(super) fn soft(&mut self, table: u8, key: &SymKey, level: &Level, found: &mut Found<S::Set>) {
        let clauses = self.clauses(key, level, found);
        let mut ways: Vec<(u32, Found<S::Set>)> = Vec::new();
        let mut sure = Vec::new();
        let mut blocked: BTreeMap<u32, S::Set> = BTreeMap::new();
        for (id, of) in &clauses.of {
            let Satisfied { surely, perhaps } = self.satisfied(of, &clauses.matching, found.missed);
            if self.sets.is_empty(perhaps) {
                continue;
            }
            let mut again = key.clone();
            again.set(Field::ConjId, u128::from(*id), u128::MAX);
            let mut second = Found { hits: Vec::new(), missed: perhaps, pin: found.pin };
            for level in self.tables.levels(table) {
                self.hard_among(&again, level, &mut second, |tables, id| !tables.is_hidden(id));
            }
            let hit = self.sets.minus(surely, second.missed);
            sure.push((*id, hit));
            blocked.insert(*id, second.missed);
            ways.push((*id, second));
        }
        self.contested_ways(&ways);
        let mut taken = self.sets.none();
        for (id, mut hit) in sure {
            for other in clauses.shared.get(&id).into_iter().flatten() {
                let nowhere = blocked.get(other).copied().unwrap_or(self.sets.none());
                hit = self.sets.minus(hit, nowhere);
            }
            taken = self.sets.or(taken, hit);
        }
        found.missed = self.sets.minus(found.missed, taken);
        found.hits.extend(ways.into_iter().flat_map(|(_, second)| second.hits));
    }

    fn contested_ways(&mut self, ways: &[(u32, Found<S::Set>)]) {
        for (at, (_, later)) in ways.iter().enumerate() {
            for (_, earlier) in ways.iter().take(at) {
                self.contested(&earlier.hits, later);
            }
        }
    }

    /// What each clause of one priority takes of the packets that nothing has taken yet.
    fn clauses(&mut self, key: &SymKey, level: &Level, found: &Found<S::Set>) -> Clauses<S::Set> {
        let mut of: BTreeMap<u32, Vec<(Conjunction, S::Set)>> = BTreeMap::new();
        let mut shared: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let (view, mut cubes, mut crowded) = (self.view(key), Vec::new(), false);
        let groups: Vec<&Group> = level.index.soft.groups(key).collect();
        for flow in self.candidates(&groups, key, found.missed, found.pin) {
            let Some(cube) = self.cube(flow, key, view) else { continue };
            cubes.push(cube);
            let these = self.clauses_of(flow);
            let ids: BTreeSet<u32> = these.iter().map(|clause| clause.id).collect();
            crowded |= ids.len() < these.len();
            for clause in these {
                of.entry(clause.id).or_default().push((clause, cube));
                shared.entry(clause.id).or_default().extend(ids.iter().filter(|id| **id != clause.id));
            }
        }
        for clauses in of.values() {
            let mut numbers = clauses.iter().map(|(clause, _)| clause.clauses);
            let first = numbers.next();
            crowded |= numbers.any(|number| Some(number) != first);
        }
        let most = of.values().flatten().map(|(clause, _)| clause.clauses).max().unwrap_or(0);
        let matching = if crowded { self.counted(&cubes, most, found.missed) } else { Vec::new() };
        Clauses { of, matching, shared }
    }

    fn clauses_of(&self, flow: FlowId) -> Vec<Conjunction> {
        self.tables.flow(flow).map(|flow| tables::clauses(flow).collect()).unwrap_or_default()
    }

    /// By number, up to `most`: those of `packets` that are in no fewer of the cubes.
    fn counted(&mut self, cubes: &[S::Set], most: u8, packets: S::Set) -> Vec<S::Set> {
        let mut counted = vec![packets];
        counted.resize(usize::from(most) + 1, self.sets.none());
        for cube in cubes {
            for number in (1..counted.len()).rev() {
                let Some(fewer) = counted.get(number - 1).copied() else { continue };
                let more = self.sets.and(fewer, *cube);
                if let Some(slot) = counted.get_mut(number) {
                    *slot = self.sets.or(*slot, more);
                }
            }
        }
        counted
    }

    /// The packets for which one id is complete.
    fn satisfied(
        &mut self,
        clauses: &[(Conjunction, S::Set)],
        matching: &[S::Set],
        packets: S::Set,
    ) -> Satisfied<S::Set> {
        let mut filled: BTreeMap<u8, S::Set> = BTreeMap::new();
        let mut deciding: BTreeMap<u8, S::Set> = BTreeMap::new();
        for (clause, cube) in clauses {
            let enough = matching.get(usize::from(clause.clauses)).copied().unwrap_or(packets);
            let takes = self.sets.and(enough, *cube);
            for (of, number) in [(&mut filled, clause.clause), (&mut deciding, clause.clauses)] {
                let slot = of.entry(number).or_insert(self.sets.none());
                *slot = self.sets.or(*slot, takes);
            }
        }
        let (mut perhaps, mut not) = (self.sets.none(), self.sets.none());
        for (number, decided) in &deciding {
            let none = self.sets.none();
            let complete = (1..=*number).fold(*decided, |packets, clause| {
                let filled = filled.get(&clause).copied().unwrap_or(none);
                self.sets.and(packets, filled)
            });
            perhaps = self.sets.or(perhaps, complete);
            let incomplete = self.sets.minus(*decided, complete);
            not = self.sets.or(not, incomplete);
        }
        Satisfied { surely: self.sets.minus(perhaps, not), perhaps }
    }
}
