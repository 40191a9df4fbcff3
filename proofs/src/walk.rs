//! Where frames may come to, as far as a few constants tell.
//!
//! An abstract execution of all frames at once. A *node* is a table with what is known of the three things that tables tell
//! ports apart by, which are the input port, the port register and the network register, and whether the frame is tracked;
//! everything else of it may be anything. Frames go on from a node by every flow that such a frame may match, whatever its priority.
//!
//! Invariant: where some frame is looked up in a table there is a node of that table, among those that are explored from the
//! nodes where frames enter, of which all that is known is true of the frame. Deliberately coarse: where a call returns,
//! nothing is known of what it may have written; behind what is not modelled a frame may be anything, and be anywhere.

use crate::{
    arrival::Arrival,
    effects::{may_show, unknown},
    tables::Tables,
};
use flowproof_packet::{Field, PortNo, key::low_bits};
use flowproof_switch::{
    flow::{Action, Extent, Flow},
    table::FlowId,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of input port, port register and network register, and of `+trk`; `None` is anything.
pub(crate) type Known = [Option<u32>; 4];

pub(crate) const FIELDS: [Field; 3] = [Field::InPort, Field::Reg5, Field::Reg6];
const IN_PORT: usize = 0;
const TRK: usize = 3;

/// What is known of a frame where it enters at a port, or at any, in any of these ways.
pub(crate) fn entering(in_port: Option<PortNo>, arrivals: &[Arrival]) -> Node {
    let trk = (!arrivals.contains(&Arrival::Tracked)).then_some(0);
    Node { table: 0, known: [in_port.map(u32::from), Some(0), Some(0), trk] }
}

/// Where frames come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) table: u8,
    pub(crate) known: Known,
}

/// A call: frames go on by an action of a flow to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) flow: FlowId,
    /// The place of the action in the flow's list.
    pub(crate) action: usize,
    /// The number of the node.
    pub(crate) to: usize,
}

/// The flows of one table that want the same of the same things.
#[derive(Debug, Default)]
struct Kinds {
    /// By which of these are wanted: the flows by what they want.
    of: BTreeMap<[bool; 4], FxHashMap<Known, Vec<FlowId>>>,
}

/// What a flow wants of these; nothing where it looks at some of the bits only.
pub(crate) fn wanted(flow: &Flow) -> Known {
    shown(|field| flow.matching.get(field))
}

/// What a value and a mask of each field say of these.
pub(crate) fn shown(get: impl Fn(Field) -> (u128, u128)) -> Known {
    let [in_port, reg5, reg6] = FIELDS.map(|field| {
        let (value, mask) = get(field);
        (mask == low_bits(field.spec().width)).then(|| u32::try_from(value).ok()).flatten()
    });
    let trk = match may_show(get(Field::CtState)) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    };
    [in_port, reg5, reg6, trk]
}

pub(crate) fn fits(known: &Known, wanted: &Known) -> bool {
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
        let reads = flow.actions.iter().any(|action| matches!(action, Action::Move { .. } | Action::Push(_)));
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
pub(crate) fn called(action: &Action, table: u8) -> Option<u8> {
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

/// The nodes that were come to so far, and how frames go on from those that were explored.
pub(crate) struct Walk<'a> {
    tables: &'a Tables,
    kinds: BTreeMap<u8, Kinds>,
    /// All tables.
    numbers: Vec<u8>,
    asks: BTreeSet<u8>,
    /// Whether no lookup is made as if the frame had come in elsewhere, so that a flow that matches an input port tells it.
    tells_in_port: bool,
    places: FxHashMap<Node, usize>,
    pub(crate) nodes: Vec<Node>,
    edges: Vec<Option<Vec<Edge>>>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(tables: &'a Tables) -> Self {
        let elsewhere = |action: &Action| matches!(action, Action::Resubmit { port: Some(_), .. });
        Self {
            tables,
            kinds: kinds(tables),
            numbers: tables.switch().numbers().collect(),
            asks: asking(tables),
            tells_in_port: !tables.flows().iter().flat_map(|flow| &flow.actions).any(elsewhere),
            places: FxHashMap::default(),
            nodes: Vec::new(),
            edges: Vec::new(),
        }
    }

    /// The number of a node, which is new if nothing came there before.
    pub(crate) fn place(&mut self, mut node: Node) -> usize {
        if let Some(in_port) = node.known.get_mut(IN_PORT).filter(|_| !self.asks.contains(&node.table)) {
            *in_port = None;
        }
        if let Some(known) = self.places.get(&node) {
            return *known;
        }
        let new = self.nodes.len();
        self.nodes.push(node);
        self.edges.push(None);
        self.places.insert(node, new);
        new
    }

    /// How frames go on from a node that was explored.
    pub(crate) fn edges(&self, at: usize) -> &[Edge] {
        self.edges.get(at).and_then(Option::as_deref).unwrap_or(&[])
    }

    /// The nodes that frames go on to from a node that was explored, each once.
    pub(crate) fn next(&self, at: usize) -> Vec<usize> {
        let mut next: Vec<usize> = self.edges(at).iter().map(|edge| edge.to).collect();
        next.sort_unstable();
        next.dedup();
        next
    }

    /// Finds out how frames go on from a node, unless that is known.
    pub(crate) fn explore(&mut self, at: usize) {
        let Some(node) = self.nodes.get(at).copied().filter(|_| self.edges.get(at) == Some(&None)) else {
            return;
        };
        let tables = self.tables;
        let mut edges = Vec::new();
        for id in self.matching(&node) {
            let Some(flow) = tables.flow(id) else { continue };
            let known = refined(&node.known, &wanted(flow), self.tells_in_port);
            for (action, node) in calls(flow, known, tables, &self.numbers) {
                edges.push(Edge { flow: id, action, to: self.place(node) });
            }
        }
        self.edges.get_mut(at).into_iter().for_each(|slot| *slot = Some(std::mem::take(&mut edges)));
    }

    /// The flows that frames at a node may match.
    pub(crate) fn matching(&self, node: &Node) -> Vec<FlowId> {
        let mut found = Vec::new();
        for (asked, flows) in self.kinds.get(&node.table).into_iter().flat_map(|kinds| &kinds.of) {
            let mut wanted = node.known;
            wanted.iter_mut().zip(asked).filter(|(_, asked)| !**asked).for_each(|(one, _)| *one = None);
            let unknown = |at: &usize| matches!((wanted.get(*at), asked.get(*at)), (Some(None), Some(true)));
            match (0..wanted.len()).filter(unknown).collect::<SmallVec<[usize; 4]>>().as_slice() {
                [] => found.extend(flows.get(&wanted).into_iter().flatten()),
                // Only two values, so both are looked for.
                [TRK] => {
                    for trk in [Some(0), Some(1)] {
                        let [in_port, reg5, reg6, _] = wanted;
                        found.extend(flows.get(&[in_port, reg5, reg6, trk]).into_iter().flatten());
                    }
                }
                _ => {
                    let fitting = flows.iter().filter(|(of, _)| fits(&node.known, of));
                    found.extend(fitting.flat_map(|(_, flows)| flows));
                }
            }
        }
        found
    }
}

/// What is known of frames that have hit a flow.
fn refined(known: &Known, wanted: &Known, in_port_too: bool) -> Known {
    let mut both = *known;
    for (at, (one, wanted)) in both.iter_mut().zip(wanted).enumerate() {
        if at != IN_PORT || in_port_too {
            *one = one.or(*wanted);
        }
    }
    both
}

/// Where the actions of a flow send frames on to, as they then are. What is not modelled may do so to any of the tables.
fn calls(flow: &Flow, mut known: Known, tables: &Tables, numbers: &[u8]) -> Vec<(usize, Node)> {
    let (mut nodes, mut outside) = (Vec::new(), Vec::new());
    for (at, action) in flow.actions.iter().enumerate() {
        let extent = unknown(action, tables).filter(|extent| *extent != Extent::Beside);
        if extent.is_some() {
            known = [None; 4];
        }
        if extent == Some(Extent::Anywhere) {
            nodes.extend(numbers.iter().map(|table| (at, Node { table: *table, known })));
        }
        if matches!(action, Action::Begin(_)) {
            outside.push(known);
        } else if matches!(action, Action::End) {
            known = outside.pop().unwrap_or([None; 4]);
        } else if let Action::Pop(dst) | Action::CheckPktLarger { dst, .. } = action {
            // What was pushed may be anything.
            write(&mut known, dst.field, None);
        } else if let Action::Set { field, value, mask, .. } = action {
            write(&mut known, *field, Some((*value, *mask)));
        } else if let Action::Move { dst, .. } = action {
            write(&mut known, dst.field, None);
        }
        let clears = matches!(action, Action::Ct(_) | Action::CtClear);
        let Some(table) = called(action, flow.table) else {
            known[TRK] = if clears { Some(0) } else { known[TRK] };
            continue;
        };
        if let Action::Resubmit { port: Some(_), .. } = action {
            let mut elsewhere = known;
            elsewhere[IN_PORT] = None;
            nodes.push((at, Node { table, known: elsewhere }));
        }
        if clears {
            // A tracked copy goes on by itself.
            let [in_port, reg5, reg6, _] = known;
            nodes.push((at, Node { table, known: [in_port, reg5, reg6, None] }));
            known[TRK] = Some(0);
        } else {
            // What is called comes back with whatever it wrote.
            nodes.push((at, Node { table, known }));
            known = [None; 4];
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
