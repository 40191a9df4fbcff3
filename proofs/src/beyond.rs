//! What may lie behind what is not modelled.
//!
//! Packets that come to a construct which is not modelled may be anything behind it, and go on as its actions, or those that
//! called them, say; some constructs may also have them looked up in any table. Invariant: whatever the construct does, packets
//! are looked up behind it in these tables only. Deliberately coarse: in a table that such packets come to they may hit any flow.

use crate::{effects::unknown, tables::Tables, walk::called};
use flowproof_switch::{
    flow::{Action, Extent, Flow},
    table::FlowId,
};
use std::collections::{BTreeMap, BTreeSet};

/// A list of actions as far as it sends packets on: the tables, and whether a copy goes there that does not come back.
type Calls = Vec<(u8, bool)>;

/// How tables lead to each other.
pub(crate) struct Beyond<'t> {
    tables: &'t Tables,
    /// The different lists of a table's flows.
    calls: BTreeMap<u8, BTreeSet<Calls>>,
    /// Tables with flows from which packets may go anywhere.
    anywhere: BTreeSet<u8>,
}

impl<'t> Beyond<'t> {
    /// Looks through all flows once.
    pub(crate) fn new(tables: &'t Tables) -> Self {
        let (mut calls, mut anywhere) = (BTreeMap::<u8, BTreeSet<Calls>>::new(), BTreeSet::new());
        for flow in tables.flows() {
            calls.entry(flow.table).or_default().insert(sent_on(flow, 0));
            if flow.actions.iter().any(|action| unknown(action, tables) == Some(Extent::Anywhere)) {
                anywhere.insert(flow.table);
            }
        }
        Self { tables, calls, anywhere }
    }

    /// Whether a flow has anything that may do more to a packet than is modelled.
    pub(crate) fn is_cause(flow: &Flow, tables: &Tables) -> bool {
        !flow.opaque_match.is_empty() || first_unknown(flow, tables).is_some()
    }

    /// The tables in which packets may be looked up behind what is not modelled in these flows.
    pub(crate) fn behind(&self, causes: impl IntoIterator<Item = FlowId>) -> BTreeSet<u8> {
        let mut search = Search { of: self, reached: BTreeSet::new(), returning: BTreeSet::new() };
        for cause in causes {
            search.add(cause);
        }
        search.close();
        search.reached
    }
}

/// The first action of a flow that is not modelled and does more than let copies leave.
fn first_unknown(flow: &Flow, tables: &Tables) -> Option<(usize, Extent)> {
    let each = flow.actions.iter().enumerate();
    each.filter_map(|(at, action)| Some((at, unknown(action, tables)?)))
        .find(|(_, extent)| *extent != Extent::Beside)
}

/// Where the actions of a flow send packets on, from this one on.
fn sent_on(flow: &Flow, from: usize) -> Calls {
    let tracks = |action: &Action| matches!(action, Action::Ct(_));
    let all = flow.actions.iter().skip(from);
    all.filter_map(|action| Some((called(action, flow.table)?, tracks(action)))).collect()
}

struct Search<'b, 't> {
    of: &'b Beyond<'t>,
    reached: BTreeSet<u8>,
    /// Tables from whose flows such packets come back to who called.
    returning: BTreeSet<u8>,
}

impl Search<'_, '_> {
    fn add(&mut self, cause: FlowId) {
        let Some(flow) = self.of.tables.flow(cause) else { return };
        if !flow.opaque_match.is_empty() {
            // It may match or not: then others of its table do.
            self.reached.insert(flow.table);
            self.returning.insert(flow.table);
        } else if let Some((at, extent)) = first_unknown(flow, self.of.tables) {
            self.returning.insert(flow.table);
            self.reached.extend(sent_on(flow, at).into_iter().map(|(table, _)| table));
            let tables = self.of.tables;
            let later =
                flow.actions.iter().skip(at).any(|action| unknown(action, tables) == Some(Extent::Anywhere));
            if later || extent == Extent::Anywhere {
                self.reached.extend(self.of.calls.keys());
            }
        }
    }

    fn close(&mut self) {
        loop {
            let before = (self.reached.len(), self.returning.len());
            if !self.of.anywhere.is_disjoint(&self.reached) {
                self.reached.extend(self.of.calls.keys());
            }
            self.returning.extend(&self.reached);
            for (table, lists) in &self.of.calls {
                for calls in lists {
                    let come = self.reached.contains(table);
                    let back = |(to, copy): &(u8, bool)| !copy && self.returning.contains(to);
                    // Packets come back to the action behind the first call that they come back from.
                    let from = if come { Some(0) } else { calls.iter().position(back).map(|at| at + 1) };
                    let Some(from) = from else { continue };
                    self.reached.extend(calls.iter().skip(from).map(|(to, _)| *to));
                    self.returning.insert(*table);
                }
            }
            if before == (self.reached.len(), self.returning.len()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowproof_switch::flow::{ParseOptions, parse_flows};

    #[track_caller]
    fn check(flows: &str, behind: &[u8]) {
        let tables = Tables::new(parse_flows(flows, &ParseOptions::default()).unwrap().flows);
        let causes =
            (0..).map(FlowId).zip(tables.flows()).filter(|(_, flow)| Beyond::is_cause(flow, &tables));
        let causes: Vec<FlowId> = causes.map(|(id, _)| id).collect();
        let found: Vec<u8> = Beyond::new(&tables).behind(causes).into_iter().collect();
        assert_eq!(found, behind, "{flows}");
    }

    #[test]
    fn behind_it_is_where_the_actions_that_follow_lead_and_those_that_called_them() {
        let multipath = "multipath(eth_src,0,modulo_n,4,0,NXM_NX_REG0[0..7])";
        let rest = "table=1 actions=2\ntable=2 actions=3\ntable=3 actions=drop\ntable=4 actions=drop\n";
        check(&format!("in_port=1 actions={multipath},resubmit(,1)\n{rest}"), &[1]);
        check(&format!("in_port=1 actions=resubmit(,1),{multipath}\n{rest}"), &[]);
        check(
            &format!("in_port=1 actions=resubmit(,5),resubmit(,1)\ntable=5 actions={multipath}\n{rest}"),
            &[1],
        );
        check(
            "in_port=1 actions=resubmit(,5),resubmit(,1)\ntable=1 actions=resubmit(,2)\ntable=2 actions=drop
             table=3 actions=drop\ntable=5 actions=sample(probability=1),resubmit(,3)",
            &[],
        );
        // A copy of which connection tracking is asked does not come back.
        check(
            &format!("ip,in_port=1 actions=ct(table=5),resubmit(,1)\ntable=5 actions={multipath}\n{rest}"),
            &[],
        );
        check(&format!("in_port=1 actions=group:1\n{rest}"), &[0, 1, 2, 3, 4]);
        check(&format!("tun_metadata0=1 actions=resubmit(,1)\n{rest}"), &[0, 1]);
    }
}
