//! Ways from where frames enter to a flow, and what a frame must be to go one of them.
//!
//! Each way is a chain of calls in the [`Walk`] of the tables, gone through backwards: what the flow matches, before it what
//! the flow matches that calls its table, and so on. What flows of higher priority take on the way is not thought of: a frame
//! that is made of this is to be sent, and seen.
//!
//! Deliberately bounded: a few ways for each flow, and a bounded search for them.

use super::wanted::Wanted;
use crate::{
    arrival::Arrival,
    symkey::SymKey,
    tables::{self, Tables},
    walk::{self, Edge, Walk},
};
use flowproof_packet::{Field, key::WORDS};
use flowproof_switch::{flow::Flow, table::FlowId};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Ways to a flow that are looked for.
const MOST_WAYS: usize = 8;
/// Calls that are gone back at most in looking for them.
const MOST_STEPS: usize = 400;
/// Calls on one way.
const MOST_CALLS: usize = 40;

/// A way to a flow.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// What a frame must be where it enters.
    pub(super) entering: Wanted,
    /// What the connection tracker must answer, the first time first.
    pub(super) answers: Vec<Wanted>,
}

/// Everywhere that frames may come to.
pub(super) struct Ways<'a> {
    tables: &'a Tables,
    pub(super) walk: Walk<'a>,
    /// For each node, from where frames come to it.
    callers: Vec<Vec<(usize, Edge)>>,
    /// The nodes of a table by the port register.
    places: FxHashMap<(u8, Option<u32>), Vec<usize>>,
    /// For each table and conjunction, the flows of each clause.
    clauses: FxHashMap<(u8, u32), BTreeMap<u8, Vec<FlowId>>>,
    /// What a sender chooses.
    free: [u64; WORDS],
}

/// A search for ways to one flow.
struct Search {
    found: Vec<Way>,
    steps: usize,
}

impl<'a> Ways<'a> {
    /// Follows everything from where frames enter.
    pub(super) fn new(tables: &'a Tables) -> Self {
        let mut walk = Walk::new(tables);
        walk.place(walk::entering(None, &Arrival::told_apart(tables.flows())));
        let mut callers: Vec<Vec<(usize, Edge)>> = Vec::new();
        let mut at = 0;
        while at < walk.nodes.len() {
            walk.explore(at);
            callers.resize(walk.nodes.len(), Vec::new());
            for edge in walk.edges(at) {
                callers.get_mut(edge.to).into_iter().for_each(|of| of.push((at, *edge)));
            }
            at += 1;
        }
        let mut places: FxHashMap<(u8, Option<u32>), Vec<usize>> = FxHashMap::default();
        for (at, node) in walk.nodes.iter().enumerate() {
            places.entry((node.table, node.known[1])).or_default().push(at);
        }
        let free = sendable_bits();
        Self { tables, walk, callers, places, clauses: all_clauses(tables), free }
    }

    /// From where frames come to a node.
    pub(super) fn callers(&self, node: usize) -> &[(usize, Edge)] {
        self.callers.get(node).map_or(&[], Vec::as_slice)
    }

    /// The nodes of a flow's table to which frames may come with what it wants, as far as constants tell.
    pub(super) fn nodes_for(&self, flow: &Flow) -> Vec<usize> {
        let wanted = walk::wanted(flow);
        let [_, port, _, _] = wanted;
        let all: Vec<usize> = match port {
            Some(_) => [port, None].iter().flat_map(|port| self.with_port(flow.table, *port)).collect(),
            None => (0..self.walk.nodes.len()).collect(),
        };
        let fits = |at: &usize| {
            let node = self.walk.nodes.get(*at);
            node.is_some_and(|node| node.table == flow.table && walk::fits(&node.known, &wanted))
        };
        all.into_iter().filter(fits).collect()
    }

    /// Whether a flow matches a `conj_id` of which its table does not have every clause.
    pub(super) fn is_never_satisfied(&self, flow: &Flow) -> bool {
        let Some(id) = flow.matching.exact(Field::ConjId).filter(|id| *id != 0) else { return false };
        let clauses = u32::try_from(id).ok().and_then(|id| self.clauses.get(&(flow.table, id)));
        let Some(clauses) = clauses else { return true };
        let all = clauses.values().flatten().filter_map(|id| self.tables.flow(*id)).flat_map(tables::clauses);
        let mut wanted =
            all.filter(|clause| u128::from(clause.id) == id).map(|clause| usize::from(clause.clauses));
        !wanted.any(|wanted| clauses.len() >= wanted)
    }

    fn with_port(&self, table: u8, port: Option<u32>) -> impl Iterator<Item = usize> {
        self.places.get(&(table, port)).into_iter().flatten().copied()
    }

    /// Ways to a flow.
    pub(super) fn to(&self, flow: FlowId) -> Vec<Way> {
        let Some(of) = self.tables.flow(flow) else { return Vec::new() };
        let mut search = Search { found: Vec::new(), steps: 0 };
        for wanted in self.matches(flow) {
            for node in self.nodes_for(of) {
                self.back(node, wanted.clone(), &mut Vec::new(), &mut search);
                if search.is_over() {
                    return search.found;
                }
            }
        }
        search.found
    }

    /// What a packet must be to match a flow: one that matches a `conj_id` must match a flow of each clause.
    fn matches(&self, flow: FlowId) -> Vec<Wanted> {
        let Some(of) = self.tables.flow(flow) else { return Vec::new() };
        let mut wanted = Wanted::default();
        if wanted.require_match(&of.matching).is_none() {
            return Vec::new();
        }
        let (id, mask) = wanted.take(Field::ConjId, u128::MAX);
        if mask == 0 || id == 0 {
            return vec![wanted];
        }
        let id = u32::try_from(id).unwrap_or_default();
        let Some(clauses) = self.clauses.get(&(of.table, id)) else { return Vec::new() };
        let firsts = clauses.values().next().into_iter().flatten().take(MOST_WAYS);
        firsts.filter_map(|first| self.with_clauses(&wanted, *first, clauses.values().skip(1))).collect()
    }

    /// The same and a flow of each clause.
    fn with_clauses<'c>(
        &self,
        wanted: &Wanted,
        first: FlowId,
        others: impl Iterator<Item = &'c Vec<FlowId>>,
    ) -> Option<Wanted> {
        let with = |wanted: &Wanted, clause: &FlowId| {
            let mut both = wanted.clone();
            both.require_match(&self.tables.flow(*clause)?.matching).map(|()| both)
        };
        let mut all = with(wanted, &first)?;
        for clause in others {
            all = clause.iter().find_map(|flow| with(&all, flow))?;
        }
        Some(all)
    }

    /// Goes back from a node to where frames enter. `answers` are what the connection tracker must say later, the last first.
    fn back(&self, node: usize, wanted: Wanted, answers: &mut Vec<Wanted>, search: &mut Search) {
        let wants = walk::shown(|field| wanted.get(field));
        if !self.walk.nodes.get(node).is_some_and(|node| walk::fits(&node.known, &wants)) {
            return;
        }
        if node == 0 && wanted.is_initial_but_for(&self.free) {
            let answers = answers.iter().rev().cloned().collect();
            return search.found.push(Way { entering: wanted, answers });
        }
        for (from, edge) in self.callers(node) {
            search.steps += 1;
            if search.is_over() || answers.len() > MOST_CALLS {
                return;
            }
            let mut earlier = wanted.clone();
            let Some(answer) = self.before(&mut earlier, edge) else { continue };
            let asked = answer.is_some();
            answers.extend(answer);
            self.back(*from, earlier, answers, search);
            if asked {
                answers.pop();
            }
        }
    }

    /// What was wanted before a call, and what the connection tracker must answer at it.
    fn before(&self, wanted: &mut Wanted, edge: &Edge) -> Option<Option<Wanted>> {
        let flow = self.tables.flow(edge.flow)?;
        let answer = wanted.before_call(flow.actions.get(edge.action)?)?;
        wanted.before(flow.actions.get(..edge.action)?)?;
        wanted.require_match(&flow.matching)?;
        Some(answer)
    }
}

impl Search {
    const fn is_over(&self) -> bool {
        self.found.len() >= MOST_WAYS || self.steps >= MOST_STEPS
    }
}

fn all_clauses(tables: &Tables) -> FxHashMap<(u8, u32), BTreeMap<u8, Vec<FlowId>>> {
    let mut all: FxHashMap<(u8, u32), BTreeMap<u8, Vec<FlowId>>> = FxHashMap::default();
    for (id, flow) in (0..).map(FlowId).zip(tables.flows()) {
        for clause in tables::clauses(flow) {
            all.entry((flow.table, clause.id)).or_default().entry(clause.clause).or_default().push(id);
        }
    }
    all
}

/// The bits of the key that are not the same whoever sends what: what comes in with a frame, and its input port.
fn sendable_bits() -> [u64; WORDS] {
    let mut free = [0; WORDS];
    let sent = Field::all().filter(|field| SymKey::is_sent(*field));
    for field in sent.chain([Field::InPort, Field::NwFrag]) {
        for part in flowproof_packet::key::masked_words(field, 0, u128::MAX) {
            free.get_mut(usize::from(part.word)).into_iter().for_each(|word| *word |= part.mask);
        }
    }
    free
}
