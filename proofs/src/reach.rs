//! Which ports' frames may come to a flow: what must be proved again when it changes.
//!
//! Each node of a `Walk` has the set of ports whose frames may come there.
//!
//! Invariant: if some frame of a port is looked up in a table with a key that a flow may match, the port is among those
//! that [`Reach::ports`] has for the flow; of the frame nothing else is asked, nor of other flows, so the same is true of a
//! flow that is not there yet.

use crate::{
    arrival::Arrival,
    tables::Tables,
    walk::{self, Known, Walk, fits, wanted},
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::flow::Flow;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// A set of ports, by their places.
type Set = Vec<u64>;

/// Where the frames of each port may come to.
#[derive(Debug)]
pub struct Reach {
    ports: Vec<PortNo>,
    by_table: BTreeMap<u8, Vec<(Known, Set)>>,
}

impl Reach {
    /// Follows the frames of `ports`.
    #[must_use]
    pub fn new(tables: &Tables, ports: &[PortNo]) -> Self {
        let mut walk = Walk::new(tables);
        let mut sets: Vec<Set> = Vec::new();
        // Earlier tables first: most frames go forwards, so most places are left once only.
        let mut changed: BTreeSet<(u8, usize)> = BTreeSet::new();
        for (at, port) in ports.iter().enumerate() {
            let start = walk.place(walk::entering(Some(*port), &Arrival::ANY));
            sets.resize(walk.nodes.len(), vec![0; ports.len().div_ceil(64)]);
            if let Some(word) = sets.get_mut(start).and_then(|set| set.get_mut(at / 64)) {
                *word |= 1 << (at % 64);
            }
            changed.insert((0, start));
        }
        while let Some((_, at)) = changed.pop_first() {
            walk.explore(at);
            sets.resize(walk.nodes.len(), vec![0; ports.len().div_ceil(64)]);
            let Some(set) = sets.get(at).cloned() else { continue };
            for to in walk.next(at) {
                if sets.get_mut(to).is_some_and(|other| join(other, &set)) {
                    changed.extend(walk.nodes.get(to).map(|node| (node.table, to)));
                }
            }
        }
        let mut by_table: BTreeMap<u8, Vec<(Known, Set)>> = BTreeMap::new();
        for (node, set) in walk.nodes.into_iter().zip(sets) {
            by_table.entry(node.table).or_default().push((node.known, set));
        }
        Self { ports: ports.to_vec(), by_table }
    }

    /// The ports whose frames may come to a flow with this table and match.
    #[must_use]
    pub fn ports(&self, flow: &Flow) -> BTreeSet<PortNo> {
        let wanted = wanted(flow);
        let mut all = vec![0; self.ports.len().div_ceil(64)];
        for (_, set) in places(&self.by_table, flow.table).filter(|(known, _)| fits(known, &wanted)) {
            join(&mut all, set);
        }
        let has = |at: usize| all.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
        self.ports.iter().enumerate().filter(|(at, _)| has(*at)).map(|(_, port)| *port).collect()
    }
}

/// Whether frames come to the same places after a change of flows: where each that is gone has one that is new and sends
/// the same frames on alike, as far as is known of them here.
#[must_use]
pub(crate) fn is_same(gone: &[&Flow], new: &[&Flow]) -> bool {
    let all = |flows: &[&Flow]| {
        let mut counts: FxHashMap<_, isize> = FxHashMap::default();
        for flow in flows {
            let asks = flow.matching.looks_at(Field::InPort);
            *counts.entry((flow.table, wanted(flow), asks, flow.actions.clone())).or_default() += 1;
        }
        counts
    };
    all(gone) == all(new)
}

fn places(by_table: &BTreeMap<u8, Vec<(Known, Set)>>, table: u8) -> impl Iterator<Item = &(Known, Set)> {
    by_table.get(&table).into_iter().flatten()
}

/// Adds `more` to a set; whether that changed it.
fn join(set: &mut Set, more: &Set) -> bool {
    let mut grown = false;
    for (word, more) in set.iter_mut().zip(more) {
        grown |= *more & !*word != 0;
        *word |= more;
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowproof_switch::flow::parse::{ParseOptions, parse_flows};

    /// Whether frames come to the same places after one flow has become another.
    fn stays(gone: &str, new: &str) -> bool {
        let [gone, new] = [gone, new].map(|text| parse_flows(text, &ParseOptions::default()).unwrap().flows);
        is_same(&gone.iter().collect::<Vec<_>>(), &new.iter().collect::<Vec<_>>())
    }

    #[test]
    fn places_stay_where_registers_and_actions_do() {
        let before = "table=72,priority=70,tcp,reg5=0xd,tp_dst=22 actions=resubmit(,73)";
        assert!(stays(before, "table=72,priority=77,tcp,reg5=0xd,tp_dst=80 actions=resubmit(,73)"));
        for after in [
            "table=82,priority=70,tcp,reg5=0xd,tp_dst=22 actions=resubmit(,73)",
            "table=72,priority=70,tcp,reg5=0xe,tp_dst=22 actions=resubmit(,73)",
            "table=72,priority=70,tcp,reg5=0xd/0xe,tp_dst=22 actions=resubmit(,73)",
            "table=72,priority=70,tcp,reg5=0xd,in_port=7,tp_dst=22 actions=resubmit(,73)",
            "table=72,priority=70,tcp,reg5=0xd,tp_dst=22 actions=resubmit(,74)",
        ] {
            assert!(!stays(before, after), "{after}");
        }
        assert!(!stays(before, &format!("{before}\n{before}")));
    }
}
