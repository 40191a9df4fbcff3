//! Lists of receivers that may be served in any order, as `strict` serves those of a frame for a group.
//!
//! A *turn* is an output, or the loading of the port register and a call that reads it. Turns may change places where
//! each finds the packet as the one before found it, and where nobody looks at the register after the last: the calls
//! write nothing and track nothing but copies of what was not tracked, and whoever called the list looks nothing up when it
//! returns. What is done to a packet is then the same, in another order.
//!
//! Invariant: this is decided by all flows that a call may come to; one that asks for other destinations than the list
//! does is none of them, as nobody writes the destination. Deliberately absent: lists so long that a translation may
//! come to its limits, whose order says what is done before.

use flowproof_packet::{Field, PortNo, key::low_bits};
use flowproof_switch::{
    conntrack::state,
    flow::{Action, Flow},
};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// Calls that a list may come to at most: half of what a translation may (experiment).
const MOST_CALLS: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// An output.
    Output(PortNo),
    /// The port register loaded with this, and a call of this table.
    Call(u128, u8),
}

/// The turns of a list of actions, in a fixed order; none if it has any other action.
pub(super) fn turns(actions: &[Action]) -> Option<Vec<Turn>> {
    let mut all = Vec::new();
    let mut rest = actions;
    loop {
        match rest {
            [] => break,
            [Action::Output(port), after @ ..] => {
                all.push(Turn::Output(*port));
                rest = after;
            }
            [
                Action::Set { field: Field::Reg5, value, mask, .. },
                Action::Resubmit { port: None, table: Some(table), ct: false },
                after @ ..,
            ] if mask & low_bits(32) == low_bits(32) => {
                all.push(Turn::Call(*value, *table));
                rest = after;
            }
            _ => return None,
        }
    }
    all.sort_unstable();
    Some(all)
}

/// The flows of a host by their table.
pub(super) struct Order<'a> {
    tables: FxHashMap<u8, Vec<&'a Flow>>,
}

impl<'a> Order<'a> {
    pub(super) fn new(flows: &'a [Flow]) -> Self {
        let mut tables: FxHashMap<u8, Vec<&Flow>> = FxHashMap::default();
        for flow in flows {
            tables.entry(flow.table).or_default().push(flow);
        }
        Self { tables }
    }

    /// Whether the actions of a flow are turns that may change places.
    pub(super) fn is_open(&self, list: &Flow) -> bool {
        let Some(turns) = turns(&list.actions).filter(|turns| turns.len() > 1) else { return false };
        let called =
            turns.iter().filter_map(|turn| if let Turn::Call(_, to) = turn { Some(*to) } else { None });
        let Some(behind) = self.unchanging(list, called.collect()) else { return false };
        turns.len() * behind <= MOST_CALLS && self.is_last(list.table)
    }

    /// How many tables calls of these come to, if none of their flows changes a packet of the list.
    fn unchanging(&self, list: &Flow, mut todo: BTreeSet<u8>) -> Option<usize> {
        let mut count = 0;
        while let Some(table) = todo.pop_first() {
            count += 1;
            for flow in self.tables.get(&table).into_iter().flatten() {
                if !contradict(list, flow) {
                    todo.extend(call_of(flow)?);
                }
            }
        }
        Some(count)
    }

    /// Whether nothing is looked up, nor read of registers, after a call of this table returns.
    fn is_last(&self, table: u8) -> bool {
        let (mut todo, mut known) = (vec![table], BTreeSet::from([table]));
        while let Some(table) = todo.pop() {
            for flow in self.tables.values().flatten() {
                for (at, _) in
                    flow.actions.iter().enumerate().filter(|(_, action)| calls(action, flow) == Some(table))
                {
                    if !flow.actions.iter().skip(at + 1).all(is_blind) {
                        return false;
                    }
                    if known.insert(flow.table) {
                        todo.push(flow.table);
                    }
                }
            }
        }
        true
    }
}

/// Whether two flows ask for different destinations, so that no packet of one hits the other.
fn contradict(a: &Flow, b: &Flow) -> bool {
    let ((value, mask), (other, others)) = (a.matching.get(Field::DlDst), b.matching.get(Field::DlDst));
    (value ^ other) & mask & others != 0
}

/// The table that an action of `flow` calls.
fn calls(action: &Action, flow: &Flow) -> Option<u8> {
    if let Action::Resubmit { table, .. } = action {
        Some(table.unwrap_or(flow.table))
    } else if let Action::GotoTable(table) = action {
        Some(*table)
    } else {
        None
    }
}

/// The table that a flow calls, a later one, if it calls any; none if it does anything to the packet.
fn call_of(flow: &Flow) -> Option<Option<u8>> {
    let mut call = None;
    for action in &flow.actions {
        if let Some(table) = calls(action, flow) {
            let plain =
                !matches!(action, Action::Resubmit { port: Some(_), .. } | Action::Resubmit { ct: true, .. });
            if !plain || table <= flow.table || call.replace(table).is_some() {
                return None;
            }
        } else if let Action::Ct(ct) = action {
            // The packet goes on untracked, which it was.
            let (value, mask) = flow.matching.get(Field::CtState);
            let untracked = mask & u128::from(state::TRK) != 0 && value & u128::from(state::TRK) == 0;
            if ct.commit || ct.table.is_none() || !untracked {
                return None;
            }
        } else if !matches!(action, Action::Output(_) | Action::Conjunction(_) | Action::Note(_)) {
            return None;
        }
    }
    Some(call)
}

/// Whether an action neither looks anything up nor reads a register.
const fn is_blind(action: &Action) -> bool {
    matches!(
        action,
        Action::Output(_)
            | Action::Set { .. }
            | Action::ModVlanVid(_)
            | Action::ModVlanPcp(_)
            | Action::StripVlan
            | Action::PushVlan(_)
            | Action::Note(_)
    )
}
