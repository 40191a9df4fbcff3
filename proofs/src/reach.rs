//! Which ports' frames may come to a flow: what must be proved again when it changes.
//!
//! An abstract execution for all ports at once. A *node* is a table with what is known of three things that tables tell
//! ports apart by: the input port, the port register and the network register; everything else of a frame may be
//! anything. Frames go on from a node by every flow that such a frame may match, whatever its priority. Each node has the
//! set of ports whose frames may come there.
//!
//! Invariant: if some frame of a port is looked up in a table with a key that a flow may match, the port is among those
//! that [`Reach::ports`] has for the flow; of the frame nothing else is asked, nor of other flows, so the same is true of a
//! flow that is not there yet. Deliberately coarse: where a call returns, nothing is known of what it may have written.

use crate::tables::Tables;
use flowproof_packet::{Field, PortNo, key::low_bits};
use flowproof_switch::{
    flow::{Action, Flow},
    table::FlowId,
};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of input port, port register and network register; `None` is anything.
type Known = [Option<u32>; 3];

const FIELDS: [Field; 3] = [Field::InPort, Field::Reg5, Field::Reg6];
const IN_PORT: usize = 0;

/// A set of ports, by their places.
type Set = Vec<u64>;

/// Where frames come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    table: u8,
    known: Known,
}

/// The flows of one table that want the same of the same things.
#[derive(Debug, Default)]
struct Kinds {
    /// By which of the three are wanted: the flows by what they want.
    of: BTreeMap<[bool; 3], FxHashMap<Known, Vec<FlowId>>>,
}

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
        let mut walk = Walk {
            tables,
            kinds: kinds(tables),
            asks: asking(tables),
            places: FxHashMap::default(),
            nodes: Vec::new(),
            next: Vec::new(),
        };
        let mut sets: Vec<Set> = Vec::new();
        // Earlier tables first: most frames go forwards, so most places are left once only.
        let mut changed: BTreeSet<(u8, usize)> = BTreeSet::new();
        for (at, port) in ports.iter().enumerate() {
            let start = walk.place(Node { table: 0, known: [Some((*port).into()), Some(0), Some(0)] });
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
            for to in walk.next.get(at).into_iter().flatten().flatten() {
                if sets.get_mut(*to).is_some_and(|other| join(other, &set)) {
                    changed.extend(walk.nodes.get(*to).map(|node| (node.table, *to)));
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

/// What a flow wants of the three; nothing where it looks at some of the bits only.
fn wanted(flow: &Flow) -> Known {
    FIELDS.map(|field| flow.matching.exact(field).and_then(|value| u32::try_from(value).ok()))
}

fn fits(known: &Known, wanted: &Known) -> bool {
    known.iter().zip(wanted).all(|(a, b)| a.is_none() || b.is_none() || a == b)
}

fn kinds(tables: &Tables) -> BTreeMap<u8, Kinds> {
    let mut all: BTreeMap<u8, Kinds> = BTreeMap::new();
    for (at, flow) in tables.flows().iter().enumerate() {
        let wanted = wanted(flow);
        let kind = all.entry(flow.table).or_default().of.entry(wanted.map(|one| one.is_some())).or_default();
        kind.entry(wanted).or_default().push(FlowId(at as u32));
    }
    all
}

/// The tables from which on somebody may still ask for the input port.
fn asking(tables: &Tables) -> BTreeSet<u8> {
    let mut asking: BTreeSet<u8> = BTreeSet::new();
    let mut calls: BTreeSet<(u8, u8)> = BTreeSet::new();
    for flow in tables.flows() {
        let reads = flow.actions.iter().any(|action| matches!(action, Action::Move { .. }));
        if flow.matching.looks_at(Field::InPort) || reads {
            asking.insert(flow.table);
        }
        calls.extend(
            flow.actions.iter().filter_map(|action| called(action, flow.table)).map(|to| (flow.table, to)),
        );
    }
    loop {
        let before = asking.len();
        let more = calls.iter().filter(|(_, to)| asking.contains(to)).map(|(from, _)| *from);
        asking.extend(more.collect::<Vec<_>>());
        if asking.len() == before {
            return asking;
        }
    }
}

/// The table that an action looks the packet up in.
fn called(action: &Action, table: u8) -> Option<u8> {
    if let Action::Resubmit { table: to, .. } = action {
        Some(to.unwrap_or(table))
    } else if let Action::GotoTable(to) = action {
        Some(*to)
    } else if let Action::Ct(ct) = action {
        ct.table
    } else {
        None
    }
}

struct Walk<'a> {
    tables: &'a Tables,
    kinds: BTreeMap<u8, Kinds>,
    asks: BTreeSet<u8>,
    places: FxHashMap<Node, usize>,
    nodes: Vec<Node>,
    next: Vec<Option<Vec<usize>>>,
}

impl Walk<'_> {
    fn place(&mut self, mut node: Node) -> usize {
        if let Some(in_port) = node.known.get_mut(IN_PORT).filter(|_| !self.asks.contains(&node.table)) {
            *in_port = None;
        }
        if let Some(known) = self.places.get(&node) {
            return *known;
        }
        let new = self.nodes.len();
        self.nodes.push(node);
        self.next.push(None);
        self.places.insert(node, new);
        new
    }

    /// Finds out where frames go on to from a node, unless that is known.
    fn explore(&mut self, at: usize) {
        let Some(node) = self.nodes.get(at).copied().filter(|_| self.next.get(at) == Some(&None)) else {
            return;
        };
        let tables = self.tables;
        let mut next = Vec::new();
        for id in self.matching(&node) {
            for node in tables.flow(id).into_iter().flat_map(|flow| calls(flow, &node)) {
                next.push(self.place(node));
            }
        }
        next.sort_unstable();
        next.dedup();
        self.next.get_mut(at).into_iter().for_each(|slot| *slot = Some(std::mem::take(&mut next)));
    }

    fn matching(&self, node: &Node) -> Vec<FlowId> {
        let mut found = Vec::new();
        for (asked, flows) in self.kinds.get(&node.table).into_iter().flat_map(|kinds| &kinds.of) {
            let mut wanted = node.known;
            wanted.iter_mut().zip(asked).filter(|(_, asked)| !**asked).for_each(|(one, _)| *one = None);
            let all_known = wanted.iter().zip(asked).all(|(one, asked)| one.is_some() || !asked);
            if all_known {
                found.extend(flows.get(&wanted).into_iter().flatten());
            } else {
                found.extend(
                    flows.iter().filter(|(of, _)| fits(&node.known, of)).flat_map(|(_, flows)| flows),
                );
            }
        }
        found
    }
}

/// Where a flow sends the frames of a node on to, as they then are.
fn calls(flow: &Flow, node: &Node) -> Vec<Node> {
    let mut known = node.known;
    let mut nodes = Vec::new();
    for action in &flow.actions {
        if let Action::Set { field, value, mask, .. } = action {
            write(&mut known, *field, Some((*value, *mask)));
        } else if let Action::Move { dst, .. } = action {
            write(&mut known, dst.field, None);
        }
        let Some(table) = called(action, flow.table) else { continue };
        nodes.push(Node { table, known });
        if let Action::Resubmit { port: Some(_), .. } = action {
            let mut elsewhere = known;
            elsewhere.iter_mut().take(1).for_each(|in_port| *in_port = None);
            nodes.push(Node { table, known: elsewhere });
        }
        // A tracked copy goes on by itself; what is called comes back with whatever it wrote.
        if !matches!(action, Action::Ct(_)) {
            known = [None; 3];
        }
    }
    nodes
}

/// A write of a value with a mask, or of something unknown.
fn write(known: &mut Known, field: Field, value: Option<(u128, u128)>) {
    for (place, of) in known.iter_mut().zip(FIELDS) {
        let (written, own) = (field.spec(), of.spec());
        let apart = written.offset + written.width <= own.offset || own.offset + own.width <= written.offset;
        if apart {
            continue;
        }
        let whole = value.filter(|(_, mask)| field == of && *mask == low_bits(own.width));
        *place = whole.and_then(|(value, _)| u32::try_from(value).ok());
    }
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
