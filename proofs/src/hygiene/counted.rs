//! Counters as witnesses: a flow that a switch has seen packets hit is not dead, or has not always been.
//!
//! A switch counts what hits a flow as long as the flow is there, whatever other flows come and go. So a counter above zero
//! contradicts that no packet hits the flow only if nothing says that the tables were others then: no flow that takes its
//! packets, or that leads to it, is younger than the last packet may be, and some flow leads to its table at all. Invariant:
//! without ages nothing is contradicted. Deliberately absent: flows that are gone leave no trace.

use super::{Death, Hygiene};
use crate::{tables::Tables, walk::called};
use flowproof_switch::{flow::Flow, table::FlowId};
use std::collections::BTreeSet;

/// What a counter says of a flow that no packet is found to hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Packets have hit it, and the tables are as they were.
    Contradicts,
    /// Packets have hit it before this flow was there.
    Before(FlowId),
    /// Packets have hit it when other flows led to its table: none does.
    Gone,
    /// Packets have hit it; how old flows are is not said.
    Undated,
}

/// Flows that are said to be dead and have been hit, with their counters.
#[must_use]
pub fn counted(tables: &Tables, hygiene: &Hygiene) -> Vec<(FlowId, u64, Counted)> {
    let led_to = led_to(tables);
    let of = |(id, death): &(FlowId, Death)| {
        let flow = tables.flow(*id)?;
        let packets = flow.counters.packets.filter(|packets| *packets > 0)?;
        if !led_to.contains(&flow.table) {
            return Some((*id, packets, Counted::Gone));
        }
        let others: Vec<FlowId> = match death {
            Death::Shadowed(by) => by.clone(),
            Death::Unreached | Death::Orphaned => concerned(tables, flow),
        };
        Some((*id, packets, says(tables, flow, &others)))
    };
    hygiene.dead.iter().filter_map(of).collect()
}

/// What a counter says if these other flows decide whether the flow is hit.
fn says(tables: &Tables, flow: &Flow, others: &[FlowId]) -> Counted {
    let Some(age) = flow.counters.age else { return Counted::Undated };
    // The last packet came so long ago at most.
    let last = flow.counters.idle.map_or(age, |idle| age.min(idle.saturating_add(1).saturating_mul(1000)));
    let age_of = |id: &FlowId| tables.flow(*id).and_then(|flow| flow.counters.age);
    if others.iter().any(|id| age_of(id).is_none()) {
        return Counted::Undated;
    }
    let younger = others.iter().find(|id| age_of(id).is_some_and(|age| age < last));
    younger.map_or(Counted::Contradicts, |id| Counted::Before(*id))
}

/// The tables that flows may lead to from the first one, whatever comes.
fn led_to(tables: &Tables) -> BTreeSet<u8> {
    let mut reached = BTreeSet::from([0]);
    let mut ahead = vec![0];
    while let Some(table) = ahead.pop() {
        let flows = tables.switch().in_table(table).iter().filter_map(|id| tables.flow(*id));
        for to in flows.flat_map(|flow| flow.actions.iter().filter_map(move |action| called(action, table))) {
            if reached.insert(to) {
                ahead.push(to);
            }
        }
    }
    reached
}

/// The flows that decide what comes to a flow: all of its table, and of those that lead to it.
fn concerned(tables: &Tables, flow: &Flow) -> Vec<FlowId> {
    let calls =
        |to: u8| move |of: &Flow| of.actions.iter().any(|action| called(action, of.table) == Some(to));
    let mut found = BTreeSet::from([flow.table]);
    let mut ahead = vec![flow.table];
    while let Some(table) = ahead.pop() {
        for of in tables.flows().iter().filter(|of| calls(table)(of)) {
            if found.insert(of.table) {
                ahead.push(of.table);
            }
        }
    }
    (0..)
        .map(FlowId)
        .zip(tables.flows())
        .filter(|(_, of)| found.contains(&of.table))
        .map(|(id, _)| id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hygiene::examine;
    use flowproof_switch::flow::{ParseOptions, parse_flows};

    #[track_caller]
    fn check(flows: &str, expected: &[(u64, Counted)]) {
        let tables = Tables::new(parse_flows(flows, &ParseOptions::default()).unwrap().flows);
        let found = counted(&tables, &examine(&tables));
        let found: Vec<(u64, Counted)> =
            found.into_iter().map(|(_, packets, says)| (packets, says)).collect();
        assert_eq!(found, expected, "{flows}");
    }

    const ABOVE: &str = "table=0, n_packets=9, priority=9,ip actions=1";
    const BELOW: &str = "table=0, n_packets=7, priority=5,tcp actions=2";

    fn aged(above: &str, below: &str) -> String {
        format!("duration={above}, {ABOVE}\nduration={below}, {BELOW}\n")
    }

    #[test]
    fn a_counter_contradicts_only_where_the_tables_were_the_same() {
        check(&aged("9.5s", "9.5s"), &[(7, Counted::Contradicts)]);
        check(&aged("9.501s", "9.5s"), &[(7, Counted::Contradicts)]);
        check(&aged("9.499s", "9.5s"), &[(7, Counted::Before(FlowId(0)))]);
        check(&format!("{ABOVE}\n{BELOW}\n"), &[(7, Counted::Undated)]);
        // The last packet came when the flow above was there.
        check(&aged("100.0s", "900.0s, idle_age=3"), &[(7, Counted::Contradicts)]);
        check(&aged("100.0s", "900.0s, idle_age=300"), &[(7, Counted::Before(FlowId(0)))]);
        let none = BELOW.replace("n_packets=7", "n_packets=0");
        check(&format!("duration=9s, {ABOVE}\nduration=9s, {none}\n"), &[]);
    }

    #[test]
    fn what_no_flow_leads_to_was_led_to_by_one_that_is_gone() {
        check("duration=9s, table=5, n_packets=3, actions=drop\n", &[(3, Counted::Gone)]);
        let led = "duration=9s, table=0, n_packets=3, arp actions=resubmit(,5)\n";
        let ip = "duration=9s, table=5, n_packets=3, ip actions=drop\n";
        check(&format!("{led}{ip}"), &[(3, Counted::Contradicts)]);
        check(&format!("{}{ip}", led.replace("9s", "8s")), &[(3, Counted::Before(FlowId(0)))]);
    }

    #[test]
    fn a_flow_that_is_not_judged_contradicts_nothing() {
        let group = "duration=9s, table=0, n_packets=3, ip actions=group:1\n";
        check(&format!("{group}duration=9s, table=5, n_packets=3, ip actions=drop\n"), &[]);
    }
}
