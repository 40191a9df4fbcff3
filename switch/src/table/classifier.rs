//! One table compiled for lookup: tuple space search, staged field by field.
//!
//! What it means: a branch tests some bits of one word. Flows that match all of these bits stand below their value,
//! found by hashing; all others stand in the branch's `rest`. A packet therefore visits at most one child and the
//! rest of each branch, and skips what cannot reach the priority already found. Invariant: each flow stands in one
//! leaf only, with the bits that no branch above it has tested; leaves list flows by falling priority, then by age.
//! Deliberately absent: what the flows mean (conjunctions, ties and opaque matches are the caller's) and changes:
//! tables never change once built.
//!
//! Source: the idea of tuple space search, V. Srinivasan and others, SIGCOMM 1999.

mod build;

pub(super) use build::Entry;

use super::FlowId;
use flowproof_packet::{FlowKey, key::MaskedWord};
use smallvec::SmallVec;

/// Index of no node.
const NONE: u32 = u32::MAX;

/// A flow that matches: its priority and its name.
pub(super) type Hit = (u16, FlowId);
/// The flows that match, in the order of a scan: by falling priority, then by age.
pub(super) type Hits = SmallVec<[Hit; 16]>;

/// A compiled table.
#[derive(Clone, Debug, Default)]
pub(super) struct Classifier {
    /// The root is the last one; none for a table without flows.
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    rules: Vec<Rule>,
    words: Vec<MaskedWord>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The highest priority below it.
    top: u16,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A run of rules.
    Leaf { start: u32, end: u32 },
    /// Children by the value of some bits: a hash table of `1 << log` slots that begin at `start`.
    Branch { word: u8, log: u8, mask: u64, start: u32, rest: u32 },
}

/// A place in a branch's hash table; free where `node` is [`NONE`].
#[derive(Clone, Copy, Debug)]
struct Slot {
    value: u64,
    node: u32,
}

/// A flow in a leaf: the bits that are still to be tested are `words[start..end]`.
#[derive(Clone, Copy, Debug)]
struct Rule {
    id: FlowId,
    start: u32,
    end: u32,
    priority: u16,
}

/// The slot at which the search for a value begins, of `1 << log`.
const fn home(value: u64, log: u8) -> u32 {
    // The multiplier is 2^64 divided by the golden ratio; the high bits of the product are the well mixed ones.
    let mixed = (value ^ value >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    if log == 0 { 0 } else { (mixed >> (64 - log)) as u32 }
}

fn run<T>(all: &[T], start: u32, end: u32) -> &[T] {
    all.get(start as usize..end as usize).unwrap_or_default()
}

impl Classifier {
    /// All flows that match and share the highest priority among those that match, by age.
    pub(super) fn top(&self, key: &FlowKey) -> Hits {
        let mut best = Hits::new();
        self.visit(
            key,
            |best: &mut Hits, hit| {
                if best.first().is_some_and(|(priority, _)| *priority < hit.0) {
                    best.clear();
                }
                best.push(hit);
                hit.0
            },
            &mut best,
        );
        best.sort_unstable_by_key(|(_, id)| *id);
        best
    }

    /// All flows that match.
    pub(super) fn all(&self, key: &FlowKey) -> Hits {
        let mut all = Hits::new();
        self.visit(
            key,
            |all: &mut Hits, hit| {
                all.push(hit);
                0
            },
            &mut all,
        );
        all.sort_unstable_by_key(|(priority, id)| (std::cmp::Reverse(*priority), *id));
        all
    }

    /// Shows `take` the flows that match; what it returns is the lowest priority that still matters.
    fn visit<S>(&self, key: &FlowKey, take: impl Fn(&mut S, Hit) -> u16, state: &mut S) {
        let mut floor = 0;
        let mut open: SmallVec<[u32; 32]> = SmallVec::new();
        open.extend(u32::try_from(self.nodes.len()).ok().and_then(|len| len.checked_sub(1)));
        while let Some(node) = open.pop() {
            let Some(node) = self.nodes.get(node as usize).filter(|node| node.top >= floor) else { continue };
            match node.kind {
                Kind::Leaf { start, end } => {
                    for rule in run(&self.rules, start, end) {
                        if rule.priority < floor {
                            break;
                        }
                        if self.applies(rule, key) {
                            floor = take(state, (rule.priority, rule.id));
                        }
                    }
                }
                Kind::Branch { word, log, mask, start, rest } => {
                    let child = self.child(key.word(usize::from(word)) & mask, log, start);
                    // What stands higher is visited first, so that the other may be skipped.
                    let top = |node: u32| self.nodes.get(node as usize).map(|node| node.top);
                    let (first, second) = if top(child) >= top(rest) { (child, rest) } else { (rest, child) };
                    open.extend([second, first].into_iter().filter(|node| *node != NONE));
                }
            }
        }
    }

    fn applies(&self, rule: &Rule, key: &FlowKey) -> bool {
        run(&self.words, rule.start, rule.end)
            .iter()
            .all(|part| key.word(usize::from(part.word)) & part.mask == part.value)
    }

    fn child(&self, value: u64, log: u8, start: u32) -> u32 {
        let mut at = home(value, log);
        // A free slot ends the search; there always is one.
        loop {
            match self.slots.get((start + at) as usize) {
                Some(slot) if slot.node != NONE && slot.value != value => {
                    at = (at + 1) & ((1 << log) - 1);
                }
                Some(slot) => return slot.node,
                None => return NONE,
            }
        }
    }
}
