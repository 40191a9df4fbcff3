//! What the flows of one priority take of the packets that come to them.
//!
//! What flows that are alike take together is computed once, and then again and again asked of other packets
//! (`Execution::ways`): a receiver's rules are so much work for the first sender only.

use super::{Execution, Found, Level};
use crate::{
    index::{FEW, Group, Index},
    set::PacketSets,
    symkey::SymKey,
    tables::Tables,
};
use flowproof_switch::{flow::does_the_same, table::FlowId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// A group of flows, by its first one, and what of the key decides what they take: which bits are known, and the values of
/// those that they look at.
type Asked = (FlowId, u32, SmallVec<[u64; 6]>);

/// What groups of flows take of any packets, by flows that stand for those that are alike; nothing for groups of which too many
/// are not.
pub(super) type Ways<Set> = FxHashMap<Asked, Option<Taken<Set>>>;

/// Flows, and what they take of any packets.
type Taken<Set> = Arc<[(FlowId, Set)]>;

impl<S: PacketSets> Execution<'_, S> {
    pub(super) fn level(&mut self, table: u8, key: &SymKey, level: &Level, found: &mut Found<S::Set>) {
        self.hard(key, level, found);
        if !level.soft.is_empty() {
            self.soft(table, key, level, found);
        }
    }

    /// The flows that may take some of the packets that are left, each with what it takes of any; where flows need not be named
    /// one by one, one of those that are alike with what they all take.
    fn entries(&mut self, index: &Index, key: &SymKey, found: &Found<S::Set>) -> Vec<(FlowId, S::Set)> {
        let view = self.view(key);
        let (mut entries, mut apart) = (Vec::new(), Vec::new());
        for group in index.groups(key) {
            match self.ways(group, key, view) {
                Some(ways) => entries.extend(ways.iter().copied()),
                None => apart.push(group),
            }
        }
        for id in self.candidates(&apart, key, found.missed, found.pin) {
            entries.extend(self.cube(id, key, view).map(|cube| (id, cube)));
        }
        entries.sort_unstable_by_key(|(id, _)| *id);
        entries
    }

    /// What the flows of a group take of any packets, those that are alike together.
    fn ways(&mut self, group: &Group, key: &SymKey, view: u32) -> Option<Taken<S::Set>> {
        if self.each_flow {
            return None;
        }
        let asked = (group.first()?, view, group.values(key));
        if let Some(known) = self.memory.ways.get(&asked) {
            return known.clone();
        }
        let mut ways: Vec<(FlowId, S::Set)> = Vec::new();
        for id in group.flows() {
            let Some(cube) = self.cube(*id, key, view) else { continue };
            let tables = self.tables;
            let alike = |(other, _): &&mut (FlowId, S::Set)| tables.like(*other) == tables.like(*id);
            match ways.iter_mut().find(alike) {
                Some((_, others)) => *others = self.sets.or(*others, cube),
                None => ways.push((*id, cube)),
            }
            if ways.len() > FEW {
                self.memory.ways.insert(asked, None);
                return None;
            }
        }
        let ways: Taken<S::Set> = ways.into();
        self.memory.ways.insert(asked, Some(Arc::clone(&ways)));
        Some(ways)
    }

    /// What a flow takes of packets with this key.
    pub(super) fn cube(&mut self, id: FlowId, key: &SymKey, view: u32) -> Option<S::Set> {
        let flow = self.tables.flow(id)?;
        if let Some(known) = self.memory.cubes.get(&(id, view)) {
            return key.may_match(&flow.matching).then_some(*known);
        }
        let literals = key.wanted(&flow.matching)?;
        let cube = self.sets.cube(&literals);
        self.memory.cubes.insert((id, view), cube);
        Some(cube)
    }

    pub(super) fn view(&mut self, key: &SymKey) -> u32 {
        let next = self.memory.views.len() as u32;
        *self.memory.views.entry(key.view()).or_insert(next)
    }

    /// The ordinary flows of one priority: where several match and differ in what they do, each may win.
    pub(super) fn hard(&mut self, key: &SymKey, level: &Level, found: &mut Found<S::Set>) {
        self.hard_among(key, level, found, |_, _| true);
    }

    /// The same of those that are `seen`; flows that are alike are seen or not together.
    pub(super) fn hard_among(
        &mut self,
        key: &SymKey,
        level: &Level,
        found: &mut Found<S::Set>,
        seen: fn(&Tables, FlowId) -> bool,
    ) {
        let mut here: Vec<(FlowId, S::Set)> = Vec::new();
        let mut taken = self.sets.none();
        for (id, cube) in self.entries(&level.index.hard, key, found) {
            let Some(flow) = self.tables.flow(id).filter(|_| seen(self.tables, id)) else { continue };
            let mut hit = self.sets.and(found.missed, cube);
            let contested = self.sets.and(hit, taken);
            if !self.sets.is_empty(contested) {
                for (other, packets) in &here {
                    if self.tables.flow(*other).is_some_and(|other| does_the_same(other, flow)) {
                        hit = self.sets.minus(hit, *packets);
                        continue;
                    }
                    let both = self.sets.and(hit, *packets);
                    if !self.sets.is_empty(both) {
                        self.contest(*other, id, both, found.pin);
                    }
                }
            }
            if !self.sets.is_empty(hit) {
                taken = self.sets.or(taken, hit);
                here.push((id, hit));
            }
        }
        found.missed = self.sets.minus(found.missed, taken);
        found.hits.extend(here);
    }

    /// Notes those of `earlier` and `later` that some packet may hit both of and that differ in what they do.
    pub(super) fn contested(&mut self, earlier: &[(FlowId, S::Set)], later: &Found<S::Set>) {
        for (a, packets) in earlier {
            for (b, others) in &later.hits {
                let same = match (self.tables.flow(*a), self.tables.flow(*b)) {
                    (Some(a), Some(b)) => does_the_same(a, b),
                    _ => false,
                };
                let both = self.sets.and(*packets, *others);
                if !same && !self.sets.is_empty(both) {
                    self.contest(*a, *b, both, later.pin);
                }
            }
        }
    }

    fn contest(&mut self, a: FlowId, b: FlowId, packets: S::Set, pin: Option<S::Set>) {
        let packets = self.with_pin(packets, pin);
        let known = self.rivals.entry((a, b)).or_insert(packets);
        *known = self.sets.or(*known, packets);
    }
}
