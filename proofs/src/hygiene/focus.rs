//! The tables as far as they lead to some flows.
//!
//! Invariant: the same packets come to these flows, by the same ways, and of two of them that some packet may hit either of both
//! are there still. What leads nowhere near them does nothing any more, though it takes what it took, unless it is called by
//! actions that go on afterwards.

use super::ways::Ways;
use crate::{
    tables::{Tables, clauses},
    walk::called,
};
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
    let returned_from = returned_from(tables);
    let stays = |flow: &Flow| clauses(flow).next().is_some() || returned_from.contains(&flow.table);
    let all = (0..).map(FlowId).zip(tables.flows());
    kept.extend(all.filter(|(_, flow)| stays(flow)).map(|(id, _)| id));
    kept
}

/// The tables from which packets come back to a list of actions that goes on: what these write is seen there.
fn returned_from(tables: &Tables) -> BTreeSet<u8> {
    let calls = |flow: &Flow, places: usize| {
        flow.actions.iter().take(places).filter_map(|action| called(action, flow.table)).collect::<Vec<u8>>()
    };
    let mut returned: BTreeSet<u8> = BTreeSet::new();
    let mut ahead: Vec<u8> =
        tables.flows().iter().flat_map(|flow| calls(flow, flow.actions.len().saturating_sub(1))).collect();
    while let Some(table) = ahead.pop() {
        if returned.insert(table) {
            let flows = tables.switch().in_table(table).iter().filter_map(|id| tables.flow(*id));
            ahead.extend(flows.flat_map(|flow| calls(flow, usize::MAX)));
        }
    }
    returned
}
