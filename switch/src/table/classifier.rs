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
#[derive(Clone, Debug)]
pub(super) struct Classifier {
    /// Where lookups begin; [`NONE`] for a table without flows.
    root: u32,
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

/// The flows that match and share the highest priority among those that match.
#[derive(Default)]
pub(super) struct Top {
    /// One of them.
    pub(super) one: Option<Hit>,
    /// The others; nearly always none.
    pub(super) others: Hits,
}

impl Top {
    /// Takes a flow that matches and that does not stand below the others; returns its priority.
    #[inline]
    fn take(&mut self, hit: Hit) -> u16 {
        match self.one {
            Some(one) if one.0 == hit.0 => self.others.push(hit),
            _ => {
                self.one = Some(hit);
                self.others.clear();
            }
        }
        hit.0
    }
}

impl Classifier {
    /// All flows that match and share the highest priority among those that match.
    pub(super) fn top(&self, key: &FlowKey) -> Top {
        let mut top = Top::default();
        self.visit(key, |hit| top.take(hit));
        top
    }

    /// All flows that match.
    pub(super) fn all(&self, key: &FlowKey) -> Hits {
        let mut all = Hits::new();
        self.visit(key, |hit| {
            all.push(hit);
            0
        });
        all.sort_unstable_by_key(|(priority, id)| (std::cmp::Reverse(*priority), *id));
        all
    }

    /// Shows `take` the flows that match; what it returns is the lowest priority that still matters.
    #[inline]
    fn visit(&self, key: &FlowKey, mut take: impl FnMut(Hit) -> u16) {
        let mut floor = 0;
        // What stands higher is visited first, so that what waits may be skipped.
        let mut waiting: SmallVec<[u32; 16]> = SmallVec::new();
        let mut next = self.root;
        loop {
            match self.nodes.get(next as usize).filter(|node| node.top >= floor) {
                Some(Node { kind: Kind::Leaf { start, end }, .. }) => {
                    for rule in run(&self.rules, *start, *end) {
                        if rule.priority < floor {
                            break;
                        }
                        if self.applies(rule, key) {
                            floor = take((rule.priority, rule.id));
                        }
                    }
                }
                Some(Node { kind: Kind::Branch { word, log, mask, start, rest }, .. }) => {
                    let child = self.child(key.word(usize::from(*word)) & mask, *log, *start);
                    let top = |node: u32| self.nodes.get(node as usize).map(|node| node.top);
                    let (first, second) =
                        if top(child) >= top(*rest) { (child, *rest) } else { (*rest, child) };
                    if second != NONE {
                        waiting.push(second);
                    }
                    if first != NONE {
                        next = first;
                        continue;
                    }
                }
                None => {}
            }
            match waiting.pop() {
                Some(node) => next = node,
                None => return,
            }
        }
    }

    #[inline]
    fn applies(&self, rule: &Rule, key: &FlowKey) -> bool {
        run(&self.words, rule.start, rule.end)
            .iter()
            .all(|part| key.word(usize::from(part.word)) & part.mask == part.value)
    }

    #[inline]
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
