//! The flows of a host, arranged as both engines walk them: by table, by falling priority, in file order.
//!
//! Invariant: the flows of one [`Level`] have one priority; ordinary and conjunctive flows are kept apart.

use flowproof_switch::{
    flow::{Action, Conjunction, Flow},
    table::{self, FlowId},
};
use std::{collections::BTreeMap, sync::Arc};

/// The flows of one table that share a priority.
#[derive(Debug, Default, Clone)]
pub struct Level {
    /// Flows with ordinary actions.
    pub hard: Vec<FlowId>,
    /// Flows with `conjunction()` actions, one entry for each such action.
    pub soft: Vec<(FlowId, Conjunction)>,
}

/// All flows of a host.
#[derive(Debug, Default)]
pub struct Tables {
    switch: Arc<table::Tables>,
    levels: BTreeMap<u8, Vec<Level>>,
}

impl Tables {
    /// Arranges `flows`, as a switch would hold them.
    #[must_use]
    pub fn new(flows: Vec<Flow>) -> Self {
        let switch = table::Tables::new(flows);
        let levels = switch.numbers().map(|table| (table, levels(&switch, table))).collect();
        Self { switch: Arc::new(switch), levels }
    }

    /// The same flows as the interpreter holds them.
    #[must_use]
    pub const fn switch(&self) -> &Arc<table::Tables> {
        &self.switch
    }

    /// The flows, in file order.
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        self.switch.flows()
    }

    /// One flow.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.switch.flow(id)
    }

    /// The priorities of a table, highest first.
    #[must_use]
    pub fn levels(&self, table: u8) -> &[Level] {
        self.levels.get(&table).map_or(&[], Vec::as_slice)
    }
}

fn levels(switch: &table::Tables, table: u8) -> Vec<Level> {
    let mut levels: BTreeMap<u16, Level> = BTreeMap::new();
    for id in switch.in_table(table) {
        let Some(flow) = switch.flow(*id) else { continue };
        let level = levels.entry(flow.priority).or_default();
        let clauses: Vec<Conjunction> = flow.actions.iter().filter_map(conjunction).collect();
        if clauses.is_empty() {
            level.hard.push(*id);
        } else {
            level.soft.extend(clauses.into_iter().map(|clause| (*id, clause)));
        }
    }
    levels.into_values().rev().collect()
}

const fn conjunction(action: &Action) -> Option<Conjunction> {
    if let Action::Conjunction(clause) = action { Some(*clause) } else { None }
}
