//! How far frames are sent around at most, as far as constants tell.
//!
//! The longest way in the [`Walk`] from each node. Invariant: no frame's way is longer. Deliberately absent: ways without an end,
//! and such as a switch would cut short: then nothing is said.

use crate::{
    symbolic::Longest,
    tables::Tables,
    walk::{Edge, Walk},
};
use flowproof_switch::{conntrack::Profile, flow::Action};

/// What follows from a node on, if that has been found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    Unknown,
    UnderWay,
    Known(Longest),
}

struct Lengths<'w, 'a> {
    tables: &'a Tables,
    walk: &'w Walk<'a>,
    ahead: Vec<Ahead>,
    /// The longest in any translation.
    all: Longest,
}

/// Nodes on one way: more than any table number can lead on to another, so that the stack is never at risk.
const MOST_NODES: usize = 300;

/// The longest ways from the first node; nothing where one may have no end or exceed a switch's limits.
pub(super) fn longest<'a>(tables: &'a Tables, walk: &Walk<'a>) -> Option<Longest> {
    let ahead = vec![Ahead::Unknown; walk.nodes.len()];
    let mut lengths = Lengths { tables, walk, ahead, all: Longest::default() };
    let from_start = lengths.from(0, 0)?;
    lengths.translated(&from_start);
    let mut longest = lengths.all;
    longest.recirculations = from_start.recirculations;
    let least = Profile::ALL.iter().map(|profile| u16::from(profile.recirculations())).min()?;
    let within = longest.calls <= crate::symbolic::MAX_CALLS
        && longest.depth <= crate::symbolic::MAX_DEPTH
        && longest.recirculations <= least;
    within.then_some(longest)
}

impl Lengths<'_, '_> {
    /// A translation begins where this follows.
    fn translated(&mut self, of: &Longest) {
        self.all.calls = self.all.calls.max(of.calls);
        self.all.depth = self.all.depth.max(of.depth);
    }

    fn from(&mut self, node: usize, before: usize) -> Option<Longest> {
        match self.ahead.get(node)? {
            Ahead::Known(known) => return Some(*known),
            Ahead::UnderWay => return None,
            Ahead::Unknown if before > MOST_NODES => return None,
            Ahead::Unknown => {}
        }
        self.note(node, Ahead::UnderWay);
        let mut longest = Longest::default();
        for of_flow in self.walk.edges(node).chunk_by(|a, b| a.flow == b.flow) {
            let flow = self.of_flow(node, of_flow, before)?;
            longest.calls = longest.calls.max(flow.calls);
            longest.depth = longest.depth.max(flow.depth);
            longest.recirculations = longest.recirculations.max(flow.recirculations);
        }
        self.note(node, Ahead::Known(longest));
        Some(longest)
    }

    fn note(&mut self, node: usize, ahead: Ahead) {
        self.ahead.get_mut(node).into_iter().for_each(|slot| *slot = ahead);
    }

    /// What follows a flow: of its calls one comes after the other.
    fn of_flow(&mut self, node: usize, edges: &[Edge], before: usize) -> Option<Longest> {
        let (table, tables) = (self.walk.nodes.get(node)?.table, self.tables);
        let mut sum = Longest::default();
        for edge in edges {
            let behind = self.from(edge.to, before + 1)?;
            let to = self.walk.nodes.get(edge.to)?.table;
            let action = tables.flow(edge.flow)?.actions.get(edge.action)?;
            if matches!(action, Action::Ct(_)) {
                self.translated(&behind);
                sum.recirculations = sum.recirculations.max(behind.recirculations + 1);
            } else {
                sum.calls += behind.calls + 1;
                sum.depth = sum.depth.max(behind.depth + u32::from(to <= table));
                sum.recirculations = sum.recirculations.max(behind.recirculations);
            }
        }
        Some(sum)
    }
}
