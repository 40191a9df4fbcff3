//! The tables as far as they lead to some flows.
//!
//! Invariant: the same packets come to these flows, by the same ways, and of two flows that some packet may hit either of both are
//! there still. Whatever leads nowhere near them does nothing any more, though it takes what it took.

use super::ways::Ways;
use crate::tables::{Tables, clauses};
use flowproof_switch::{
    flow::{Action, Flow},
    table::FlowId,
};
use std::collections::BTreeSet;

/// The tables with only those actions that lead to one of `flows`; all flows keep their places.
pub(super) fn on(tables: &Tables, ways: &Ways<'_>, flows: &BTreeSet<FlowId>) -> Tables {
    let kept = leading(tables, ways, flows);
    let cut = |(id, flow): (FlowId, &Flow)| {
        let actions = if kept.contains(&id) { flow.actions.clone() } else { Vec::<Action>::new() };
        Flow { actions, ..flow.clone() }
    };
    Tables::new((0..).map(FlowId).zip(tables.flows()).map(cut).collect())
}

/// These flows, those that send packets on to where one of them may be hit, and clauses.
fn leading(tables: &Tables, ways: &Ways<'_>, flows: &BTreeSet<FlowId>) -> BTreeSet<FlowId> {
    let mut kept: BTreeSet<FlowId> = flows.clone();
    let wanted = flows.iter().filter_map(|id| tables.flow(*id));
    let mut ahead: Vec<usize> = wanted.flat_map(|flow| ways.nodes_for(flow)).collect();
    let mut seen: BTreeSet<usize> = ahead.iter().copied().collect();
    while let Some(node) = ahead.pop() {
        for (from, edge) in ways.callers(node) {
            kept.insert(edge.flow);
            if seen.insert(*from) {
                ahead.push(*from);
            }
        }
    }
    let all = (0..).map(FlowId).zip(tables.flows());
    kept.extend(all.filter(|(_, flow)| clauses(flow).next().is_some()).map(|(id, _)| id));
    kept
}
