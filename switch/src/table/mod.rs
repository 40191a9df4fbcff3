//! Flow tables and the lookup in them.
//!
//! What it means: the highest priority that matches wins; conjunctions as in `conjunction`. Invariant: within a
//! table no two flows have the same priority and match, and the index lists each flow once, by falling priority and
//! then in the order they were added; both ways to search it ([`Search`]) find the same. Deliberately absent:
//! counters, timeouts and `check_overlap`.
//!
//! Source: ovs-fields(7), ovs-ofctl(8), experiments with Open vSwitch 3.1.

mod classifier;
mod conjunction;

use crate::flow::{Action, Flow, Match};
use classifier::{Classifier, Entry, Hit, Top};
use flowproof_packet::FlowKey;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHasher};
use smallvec::SmallVec;
use std::{
    hash::{Hash, Hasher},
    sync::OnceLock,
};

/// A flow's index in [`Tables::flows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u32);

impl FlowId {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which of several matching flows of one priority wins. OpenFlow leaves it undefined; Open vSwitch 3.1 was seen to
/// prefer the earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TieBreak {
    /// The one that was added first.
    #[default]
    First,
    /// The one that was added last.
    Last,
}

impl TieBreak {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Last];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
        }
    }
}

/// How a table is searched. What is found does not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Search {
    /// By hashing; a small table flow by flow, which is as fast.
    #[default]
    Usual,
    /// By hashing; a table is compiled when it is first searched.
    Compiled,
    /// Flow by flow: the reference for the other.
    Scan,
}

/// Flows that are as quickly asked one by one.
const SMALL: usize = 16;

/// What a lookup finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The flow that applies; `None` is a table miss.
    pub flow: Option<FlowId>,
    /// The conjunction that led to it, if one did.
    pub conj_id: Option<u32>,
    /// Another choice that would have been as good and is not the same: OpenFlow does not say which one applies.
    pub rival: Option<Rival>,
    /// A flow whose match is not wholly modelled and that, if it matched, would change the answer.
    pub opaque: Option<FlowId>,
}

/// The other choice of an ambiguous lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// A flow of the same priority with other actions.
    Flow(FlowId),
    /// A conjunction of the same priority that is satisfied too.
    Conjunction(u32),
}

/// A flow that was given twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The flow that is no longer there.
    pub earlier: Flow,
    /// The flow with the same table, priority and match that took its place.
    pub by: FlowId,
}

/// A switch's flow tables.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    flows: Vec<Flow>,
    replaced: Vec<Replaced>,
    index: Vec<Index>,
    search: Search,
}

/// One table's flows, by falling priority, then by age.
#[derive(Clone, Debug, Default)]
struct Index {
    order: Vec<FlowId>,
    /// Those of them whose match is not wholly modelled.
    opaque: Vec<FlowId>,
    has_conjunctions: bool,
    compiled: OnceLock<Classifier>,
}

/// The flows of a table that match a key, as [`Index::order`] has them; those with an opaque match are left out.
type Matching<'t> = SmallVec<[(FlowId, &'t Flow); 16]>;

impl Tables {
    /// The tables after `flows` were added in order. A flow with the table, priority and match of an earlier one
    /// takes its place, as in the switch.
    #[must_use]
    pub fn new(flows: Vec<Flow>) -> Self {
        let mut tables = Self { flows: Vec::with_capacity(flows.len()), ..Self::default() };
        let mut seen = FxHashMap::with_capacity_and_hasher(flows.len(), FxBuildHasher);
        for flow in flows {
            let id = tables.place(&mut seen, &flow);
            match tables.flows.get_mut(id.index()) {
                Some(place) => {
                    let earlier = std::mem::replace(place, flow);
                    tables.replaced.push(Replaced { earlier, by: id });
                }
                None => tables.flows.push(flow),
            }
        }
        tables.build_index();
        tables
    }

    /// Where a flow belongs: the place of the one with the same identity, or the next free one. Flows are `seen` by
    /// the hash of what identifies them, or the next number that is free, rather than by a copy of it.
    fn place(&self, seen: &mut FxHashMap<u64, FlowId>, flow: &Flow) -> FlowId {
        let mut hasher = FxHasher::default();
        identity(flow).hash(&mut hasher);
        let next = FlowId(u32::try_from(self.flows.len()).unwrap_or(u32::MAX));
        let mut hash = hasher.finish();
        loop {
            let id = *seen.entry(hash).or_insert(next);
            if id == next || self.flow(id).is_some_and(|other| identity(other) == identity(flow)) {
                return id;
            }
            hash = hash.wrapping_add(1);
        }
    }

    /// Adds a flow that a packet makes, or gives the one that is there its actions and cookie, unless `limit` flows of its
    /// cookie are in its table already (0 for any number); whether the flow is there then. `by` is the flow that made it.
    pub(crate) fn learn(&mut self, learned: Flow, limit: u32, by: FlowId) -> bool {
        let span = self.flow(by).map_or_else(crate::flow::Span::default, |flow| flow.span);
        let same = |flow: &&mut Flow| identity(flow) == identity(&learned);
        let settled = |flow: &Flow| {
            let key = |flow: &Flow| (flow.cookie, flow.idle_timeout, flow.hard_timeout, flow.flags);
            flow.actions == learned.actions && key(flow) == key(&learned)
        };
        if self.flows.iter_mut().find(same).is_some_and(|there| settled(there)) {
            return true;
        }
        let of_cookie = |flow: &&Flow| (flow.table, flow.cookie) == (learned.table, learned.cookie);
        if limit != 0 && self.flows.iter().filter(of_cookie).count() >= limit as usize {
            return false;
        }
        match self.flows.iter_mut().find(same) {
            Some(there) => (there.actions, there.cookie) = (learned.actions, learned.cookie),
            None => self.flows.push(Flow { span, ..learned }),
        }
        self.build_index();
        true
    }

    /// The same tables, searched in this way.
    #[must_use]
    pub fn searched_by(self, search: Search) -> Self {
        Self { search, ..self }
    }

    fn build_index(&mut self) {
        let mut order: Vec<(u8, FlowId)> = Vec::with_capacity(self.flows.len());
        order.extend((0..).map(FlowId).zip(&self.flows).map(|(id, flow)| (flow.table, id)));
        order.sort_by_key(|(table, id)| {
            let priority = self.flows.get(id.index()).map_or(0, |flow| flow.priority);
            (*table, std::cmp::Reverse(priority), *id)
        });
        let last = order.last().map_or(0, |(table, _)| usize::from(*table) + 1);
        self.index = vec![Index::default(); last];
        for (table, id) in order {
            let Some(index) = self.index.get_mut(usize::from(table)) else { continue };
            let Some(flow) = self.flows.get(id.index()) else { continue };
            index.order.push(id);
            index.has_conjunctions |= is_conjunctive(flow);
            if !flow.opaque_match.is_empty() {
                index.opaque.push(id);
            }
        }
    }

    /// All flows that are in effect, in the order in which they were added.
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The flows that later ones replaced.
    #[must_use]
    pub fn replaced(&self) -> &[Replaced] {
        &self.replaced
    }

    /// One flow; `None` for an identifier from other tables.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(id.index())
    }

    /// One table's flows by falling priority, equal priorities in the order they were added.
    #[must_use]
    pub fn in_table(&self, table: u8) -> &[FlowId] {
        self.index.get(usize::from(table)).map_or(&[], |index| &index.order)
    }

    /// The table numbers that have flows, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = u8> {
        let used = |(number, index): (u8, &Index)| (!index.order.is_empty()).then_some(number);
        (0..=u8::MAX).zip(&self.index).filter_map(used)
    }

    /// The flow of `table` that applies to a packet with this key.
    ///
    /// The key must be one for lookups: L4 ports already zero for fragments, `in_port` the port to look up with,
    /// `conj_id` 0.
    #[must_use]
    pub fn lookup(&self, table: u8, key: &FlowKey, tie: TieBreak) -> Lookup {
        let Some(index) = self.index.get(usize::from(table)) else { return Lookup::default() };
        let mut found = if index.has_conjunctions {
            conjunction::lookup(self, index, key, tie)
        } else {
            self.highest(index, key, tie)
        };
        if !index.opaque.is_empty() {
            found.opaque = self.decisive_opaque(index, key, &found);
        }
        found
    }

    fn scans(&self, index: &Index) -> bool {
        match self.search {
            Search::Usual => index.order.len() <= SMALL,
            Search::Compiled => false,
            Search::Scan => true,
        }
    }

    fn compiled<'t>(&'t self, index: &'t Index) -> &'t Classifier {
        index.compiled.get_or_init(|| {
            let flows = index.order.iter().filter_map(|id| Some((*id, self.flow(*id)?)));
            let flows = flows.filter(|(_, flow)| flow.opaque_match.is_empty());
            Classifier::new(flows.map(|(id, flow)| Entry::new(id, flow.priority, &flow.matching)).collect())
        })
    }

    fn scan<'t>(&'t self, index: &'t Index, key: &FlowKey) -> impl Iterator<Item = (FlowId, &'t Flow)> {
        let flows = index.order.iter().filter_map(|id| Some((*id, self.flow(*id)?)));
        flows.filter(move |(_, flow)| flow.matching.matches(key) && flow.opaque_match.is_empty())
    }

    fn resolve(&self, hits: &[Hit]) -> Matching<'_> {
        hits.iter().filter_map(|(_, id)| Some((*id, self.flow(*id)?))).collect()
    }

    /// The matching flows of a table.
    fn matching<'t>(&'t self, index: &'t Index, key: &FlowKey) -> Matching<'t> {
        if self.scans(index) {
            self.scan(index, key).collect()
        } else {
            self.resolve(&self.compiled(index).all(key))
        }
    }

    /// The lookup in a table without conjunctions.
    fn highest(&self, index: &Index, key: &FlowKey, tie: TieBreak) -> Lookup {
        if self.scans(index) {
            return self.best(self.scan(index, key), tie);
        }
        let Top { one, mut others } = self.compiled(index).top(key);
        if others.is_empty() {
            return Lookup { flow: one.map(|(_, id)| id), ..Lookup::default() };
        }
        others.extend(one);
        others.sort_unstable_by_key(|(_, id)| *id);
        self.best(self.resolve(&others), tie)
    }

    /// The winner among flows that are sorted by falling priority.
    fn best<'a>(&self, flows: impl IntoIterator<Item = (FlowId, &'a Flow)>, tie: TieBreak) -> Lookup {
        let mut flows = flows.into_iter();
        let Some((first, best)) = flows.next() else { return Lookup::default() };
        let mut found = Lookup { flow: Some(first), ..Lookup::default() };
        for (id, flow) in flows.take_while(|(_, flow)| flow.priority == best.priority) {
            if flow.actions != best.actions && found.rival.is_none() {
                found.rival = Some(Rival::Flow(if tie == TieBreak::First { id } else { first }));
            }
            if tie == TieBreak::Last {
                found.flow = Some(id);
            }
        }
        found
    }

    /// The first flow with an opaque match that could take the place of what was found: one whose modelled part
    /// matches and that does not stand below both the winner and the clauses that led to it.
    fn decisive_opaque(&self, index: &Index, key: &FlowKey, found: &Lookup) -> Option<FlowId> {
        let priority = |id: FlowId| self.flow(id).map(|flow| flow.priority);
        let mut floor = found.flow.and_then(priority);
        let mut again = key.clone();
        if let Some(conj_id) = found.conj_id {
            let leads = |flow: &Flow| conjunctions(flow).any(|conj| conj.id == conj_id);
            let lowest = self.matching(index, key).into_iter().rfind(|(_, flow)| leads(flow));
            floor = floor.min(lowest.map(|(_, flow)| flow.priority));
            again.set(flowproof_packet::Field::ConjId, u128::from(conj_id));
        }
        let suspects = index.opaque.iter().filter_map(|id| Some((*id, self.flow(*id)?)));
        suspects
            .take_while(|(_, flow)| floor.is_none_or(|floor| flow.priority >= floor))
            .find(|(_, flow)| flow.matching.matches(key) || flow.matching.matches(&again))
            .map(|(id, _)| id)
    }
}

/// What no two flows have in common.
fn identity(flow: &Flow) -> (u8, u16, &Match, &[String]) {
    (flow.table, flow.priority, &flow.matching, &flow.opaque_match)
}

/// The `conjunction(…)` actions of a flow.
pub(crate) fn conjunctions(flow: &Flow) -> impl Iterator<Item = crate::flow::Conjunction> {
    flow.actions.iter().filter_map(|action| match action {
        Action::Conjunction(conjunction) => Some(*conjunction),
        _ => None,
    })
}

/// Whether a flow is a clause of conjunctions; such a flow never applies by itself.
pub(crate) fn is_conjunctive(flow: &Flow) -> bool {
    conjunctions(flow).next().is_some()
}

#[cfg(test)]
mod tests;
