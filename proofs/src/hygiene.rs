//! Hygiene of the tables: which choices are undefined, which flows no packet hits, how far packets are sent around.
//!
//! One symbolic execution of everything that can enter anywhere, for each form of frame and each datapath. What no execution
//! reaches is dead, and is explained by the flows of its table that take its packets first. Deliberately absent: whether a
//! reachable flow is *wanted*, which needs an intent.

use crate::{
    bdd::{Bdd, Bdds},
    frames,
    set::PacketSets,
    symbolic::{self, Emit, Longest},
    symkey::{Form, SymKey},
    tables::Tables,
};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Flow},
    table::FlowId,
};
use std::collections::BTreeSet;

const NODE_LIMIT: usize = 16_000_000;

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
    /// The longest ways through the tables.
    pub longest: Longest,
    /// Whether some packet exceeds the limits of the switch, which then drops it with all its outputs.
    pub exceeds_limits: bool,
    /// Whether all of the tables was explored; if not, nothing is said of what is missing.
    pub complete: bool,
}

/// Explores the tables from everywhere.
#[must_use]
pub fn examine(tables: &Tables) -> Hygiene {
    let mut sets = Bdds::with_limit(NODE_LIMIT);
    let mut hygiene = Hygiene { complete: true, ..Hygiene::default() };
    let mut hit = vec![false; tables.flows().len()];
    for form in Form::ALL {
        let packets = frames::sendable(&mut sets, form);
        for profile in Profile::ALL {
            if !hygiene.complete {
                return hygiene;
            }
            let key = SymKey::entering_anywhere(form);
            let run = symbolic::execute_from(&mut sets, tables, profile, form, key, packets);
            for (hit, reached) in hit.iter_mut().zip(&run.reached) {
                *hit |= reached.is_some();
            }
            hygiene.exceeds_limits |= run.events.iter().any(|event| event.emit == Emit::Limit);
            hygiene.longest = longer(hygiene.longest, run.longest);
            hygiene.complete &= run.complete;
            hygiene.rivals.extend(run.rivals);
        }
    }
    hygiene.complete &= !sets.overflown();
    if hygiene.complete {
        hygiene.dead = dead(&mut sets, tables, &hit);
    }
    hygiene
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

/// The flows of the same table that together take every packet that `flow` matches, if they do.
fn shadows(sets: &mut Bdds, tables: &Tables, id: FlowId, flow: &Flow) -> Option<Vec<FlowId>> {
    let mut rest = cube(sets, flow);
    let mut by = Vec::new();
    for level in tables.levels(flow.table) {
        for other in &level.hard {
            let Some(candidate) = tables.flow(*other) else { continue };
            let earlier =
                candidate.priority > flow.priority || (candidate.priority == flow.priority && *other < id);
            if !earlier {
                continue;
            }
            let taken = cube(sets, candidate);
            let left = sets.minus(rest, taken);
            if left != rest {
                by.push(*other);
                rest = left;
            }
            if sets.is_empty(rest) {
                return Some(by);
            }
        }
    }
    None
}

/// What a flow matches, every bit of the key taken for a variable of its own.
fn cube(sets: &mut Bdds, flow: &Flow) -> Bdd {
    let mut literals = Vec::new();
    for part in flow.matching.words() {
        for bit in (0..64u16).filter(|bit| part.mask >> (63 - bit) & 1 == 1) {
            literals
                .push((crate::vars::Var(u16::from(part.word) * 64 + bit), part.value >> (63 - bit) & 1 == 1));
        }
    }
    sets.cube(&literals)
}
