//! Reduced ordered binary decision diagrams: hash-consed, so that equal sets are equal numbers.
//!
//! Invariants: node 0 is false and node 1 is true; a node's children have greater levels than its own; no node
//! has two equal children; no two nodes are alike. Nodes are never freed: a manager lives as long as the work on
//! one port, and its size is bounded by [`Bdds::with_limit`]; so is the work for one question.
//!
//! Deliberately absent: complement edges, reordering, garbage collection. The order is fixed by
//! [`crate::vars::level`], which puts the fields that tables branch on first.

use crate::{
    set::{Literal, PacketSets},
    vars::{self, Var},
};
use rustc_hash::{FxHashMap, FxHashSet};

/// A set of packets: the number of its diagram's root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Bdd(u32);

const FALSE: Bdd = Bdd(0);
const TRUE: Bdd = Bdd(1);
/// The level of the two leaves, below every variable.
const LEAF: u16 = u16::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    level: u16,
    low: Bdd,
    high: Bdd,
}

impl Node {
    fn hash(&self) -> u32 {
        hash(self.low.0, self.high.0, self.level.into())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Op {
    #[default]
    And,
    Or,
    Minus,
}

/// A result that is remembered until another one takes its place.
#[derive(Clone, Copy)]
struct Computed {
    op: Op,
    a: Bdd,
    b: Bdd,
    result: Bdd,
}

/// No operation on two leaves is ever remembered, so this stands for nothing.
const NOTHING: Computed = Computed { op: Op::And, a: FALSE, b: FALSE, result: FALSE };

/// A manager: the nodes, a table to find them again, and a cache of what has been computed.
///
/// `unique` is open addressing over node numbers, 0 for a free place, at most half full; the bits that no number needs hold
/// some of the node's hash, so that few other nodes are looked at, which are seldom at hand. `computed` forgets: a result
/// that falls on a taken place replaces what was there, which costs time and never an answer.
pub struct Bdds {
    nodes: Vec<Node>,
    unique: Vec<u32>,
    computed: Vec<Computed>,
    limit: usize,
    /// The bits that numbers of nodes need.
    numbers: u32,
    /// Steps that may still be made.
    steps: u64,
    overflown: bool,
}

/// Steps for one question: many times what the largest hosts need, and some minutes of work at most. A step is a pair of nodes whose
/// result is not remembered, so their number depends on the question alone and not on the machine.
const MOST_STEPS: u64 = 1 << 30;

/// Places in the tables of a new manager; a power of two, like every later size.
const FIRST_SIZE: usize = 1 << 12;
/// Results that are remembered at most: 64 MiB.
const MOST_COMPUTED: usize = 1 << 20;

/// Multiplication spreads differences upwards, so only the upper half is of use (Knuth, TAOCP 3, 6.4).
const fn hash(a: u32, b: u32, c: u32) -> u32 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed =
        ((a as u64) << 32 | b as u64).wrapping_mul(GOLDEN) ^ (c as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed.wrapping_mul(GOLDEN) >> 32) as u32
}

/// Where a search begins in a table of this size.
const fn place(hash: u32, size: usize) -> usize {
    hash as usize & (size - 1)
}

impl Bdds {
    /// A manager that holds at most `limit` nodes (12 bytes each, about 40 with its tables). When the limit is
    /// reached results are no longer meaningful and [`Bdds::overflown`] says so.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        let leaf = Node { level: LEAF, low: FALSE, high: FALSE };
        let (unique, computed) = (vec![0; FIRST_SIZE], vec![NOTHING; FIRST_SIZE]);
        let numbers = u32::try_from(limit.checked_next_power_of_two().unwrap_or(usize::MAX))
            .map_or(u32::MAX, |above| above - 1);
        let (nodes, steps) = (vec![leaf, leaf], MOST_STEPS);
        Self { nodes, unique, computed, limit, numbers, steps, overflown: false }
    }

    /// The same with another limit on the work for one question.
    #[must_use]
    pub const fn within(mut self, steps: u64) -> Self {
        self.steps = steps;
        self
    }

    /// Begins another question: the work for earlier ones does not count any more.
    pub const fn begin(&mut self) {
        self.steps = MOST_STEPS;
    }

    /// Steps that may still be made for this question.
    #[must_use]
    pub const fn steps_left(&self) -> u64 {
        self.steps
    }

    fn step(&mut self) {
        self.overflown |= self.steps == 0;
        self.steps = self.steps.saturating_sub(1);
    }

    /// Whether the limit on nodes or work was reached: every answer since then is worthless.
    #[must_use]
    pub const fn overflown(&self) -> bool {
        self.overflown
    }

    /// Nodes in use.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, set: Bdd) -> Node {
        self.nodes.get(set.0 as usize).copied().unwrap_or(Node { level: LEAF, low: FALSE, high: FALSE })
    }

    fn make(&mut self, level: u16, low: Bdd, high: Bdd) -> Bdd {
        if low == high {
            return low;
        }
        let wanted = Node { level, low, high };
        let hash = wanted.hash();
        let mut at = place(hash, self.unique.len());
        while let Some(&known) = self.unique.get(at).filter(|known| **known != 0) {
            let number = Bdd(known & self.numbers);
            if (known ^ hash) & !self.numbers == 0 && self.node(number) == wanted {
                return number;
            }
            at = (at + 1) & (self.unique.len() - 1);
        }
        if self.nodes.len() >= self.limit {
            self.overflown = true;
            return FALSE;
        }
        let new = self.nodes.len() as u32;
        self.nodes.push(wanted);
        if let Some(free) = self.unique.get_mut(at) {
            *free = new | hash & !self.numbers;
        }
        if self.nodes.len() * 2 > self.unique.len() {
            self.grow();
        }
        Bdd(new)
    }

    fn grow(&mut self) {
        let size = self.unique.len() * 2;
        let mut unique = vec![0; size];
        for (number, node) in self.nodes.iter().enumerate().skip(2) {
            let hash = node.hash();
            let mut at = place(hash, size);
            while unique.get(at).is_some_and(|taken| *taken != 0) {
                at = (at + 1) & (size - 1);
            }
            if let Some(free) = unique.get_mut(at) {
                *free = number as u32 | hash & !self.numbers;
            }
        }
        self.unique = unique;
        if self.computed.len() < size.min(MOST_COMPUTED) {
            let old = std::mem::replace(&mut self.computed, vec![NOTHING; size]);
            for entry in old.into_iter().filter(|entry| entry.a != entry.b) {
                self.remember(entry);
            }
        }
    }

    fn computed_at(&self, op: Op, a: Bdd, b: Bdd) -> usize {
        place(hash(a.0, b.0, op as u32), self.computed.len())
    }

    fn remember(&mut self, entry: Computed) {
        let at = self.computed_at(entry.op, entry.a, entry.b);
        if let Some(slot) = self.computed.get_mut(at) {
            *slot = entry;
        }
    }

    /// The answer where no recursion is needed.
    fn trivial(op: Op, a: Bdd, b: Bdd) -> Option<Bdd> {
        match op {
            Op::And if a == b || b == TRUE => Some(a),
            Op::And if a == TRUE => Some(b),
            Op::And if a == FALSE || b == FALSE => Some(FALSE),
            Op::Or if a == b || b == FALSE => Some(a),
            Op::Or if a == FALSE => Some(b),
            Op::Or if a == TRUE || b == TRUE => Some(TRUE),
            Op::Minus if a == b || a == FALSE || b == TRUE => Some(FALSE),
            Op::Minus if b == FALSE => Some(a),
            Op::And | Op::Or | Op::Minus => None,
        }
    }

    fn apply(&mut self, op: Op, a: Bdd, b: Bdd) -> Bdd {
        if let Some(answer) = Self::trivial(op, a, b) {
            return answer;
        }
        let (a, b) = if op != Op::Minus && b < a { (b, a) } else { (a, b) };
        let remembered = self.computed.get(self.computed_at(op, a, b));
        if let Some(known) = remembered.filter(|known| known.op == op && known.a == a && known.b == b) {
            return known.result;
        }
        self.step();
        if self.overflown {
            return FALSE;
        }
        let (left, right) = (self.node(a), self.node(b));
        let level = left.level.min(right.level);
        let split =
            |node: Node, whole: Bdd| if node.level == level { (node.low, node.high) } else { (whole, whole) };
        let ((a0, a1), (b0, b1)) = (split(left, a), split(right, b));
        let low = self.apply(op, a0, b0);
        let high = self.apply(op, a1, b1);
        let result = self.make(level, low, high);
        self.remember(Computed { op, a, b, result });
        result
    }

    fn project(&mut self, set: Bdd, drop: &dyn Fn(Var) -> bool, done: &mut FxHashMap<Bdd, Bdd>) -> Bdd {
        if set == FALSE || set == TRUE {
            return set;
        }
        if let Some(known) = done.get(&set) {
            return *known;
        }
        let node = self.node(set);
        let low = self.project(node.low, drop, done);
        let high = self.project(node.high, drop, done);
        let result = if drop(vars::at_level(node.level)) {
            self.apply(Op::Or, low, high)
        } else {
            self.make(node.level, low, high)
        };
        done.insert(set, result);
        result
    }

    /// Whether two sets have a packet in common: walks down both diagrams without making a third, and stops at the first
    /// one. `barren` are pairs of nodes that have nothing in common.
    fn overlap(&self, (a, b): (Bdd, Bdd), barren: &mut FxHashSet<(Bdd, Bdd)>) -> bool {
        if a == FALSE || b == FALSE || barren.contains(&(a, b)) {
            return false;
        }
        if a == TRUE || b == TRUE || a == b {
            return true;
        }
        let (left, right) = (self.node(a), self.node(b));
        let level = left.level.min(right.level);
        let split =
            |node: Node, whole: Bdd| if node.level == level { (node.low, node.high) } else { (whole, whole) };
        let ((a0, a1), (b0, b1)) = (split(left, a), split(right, b));
        let common = self.overlap((a0, b0), barren) || self.overlap((a1, b1), barren);
        if !common {
            barren.insert((a, b));
        }
        common
    }

    /// The packets that have one of these values, which are sorted, in these bits, the most significant first.
    fn having(&mut self, levels: &[u16], values: &[u128]) -> Bdd {
        let Some((level, below)) = levels.split_first() else {
            return if values.is_empty() { FALSE } else { TRUE };
        };
        if values.is_empty() {
            return FALSE;
        }
        let ones = values.partition_point(|value| value >> below.len() & 1 == 0);
        let (zeros, ones) = values.split_at(ones);
        let (low, high) = (self.having(below, zeros), self.having(below, ones));
        self.make(*level, low, high)
    }

    /// Whether the packet whose bits `bit` tells is in `set`.
    #[must_use]
    pub fn contains(&self, set: Bdd, bit: impl Fn(Var) -> bool) -> bool {
        let mut at = set;
        while at != FALSE && at != TRUE {
            let node = self.node(at);
            at = if bit(vars::at_level(node.level)) { node.high } else { node.low };
        }
        at == TRUE
    }
}

impl Bdds {
    /// The same set in this manager.
    pub fn copy(&mut self, from: &Self, set: Bdd) -> Bdd {
        self.copied(from, set, &mut FxHashMap::default())
    }

    /// The same, with what is copied already.
    pub(crate) fn copied(&mut self, from: &Self, set: Bdd, done: &mut FxHashMap<Bdd, Bdd>) -> Bdd {
        if set == FALSE || set == TRUE {
            return set;
        }
        if let Some(known) = done.get(&set) {
            return *known;
        }
        let node = from.node(set);
        let (low, high) = (self.copied(from, node.low, done), self.copied(from, node.high, done));
        let copied = self.make(node.level, low, high);
        done.insert(set, copied);
        copied
    }

    /// The variables that a set looks at.
    #[must_use]
    pub fn support(&self, set: Bdd) -> FxHashSet<Var> {
        let (mut seen, mut ahead, mut vars) = (FxHashSet::default(), vec![set], FxHashSet::default());
        while let Some(at) = ahead.pop() {
            if at != FALSE && at != TRUE && seen.insert(at) {
                let node = self.node(at);
                vars.insert(vars::at_level(node.level));
                ahead.extend([node.low, node.high]);
            }
        }
        vars
    }

    /// How many bits the broadest cube of a set wants; `None` for the empty set.
    #[must_use]
    pub fn shortest(&self, set: Bdd) -> Option<u32> {
        fn walk(sets: &Bdds, at: Bdd, done: &mut FxHashMap<Bdd, Option<u32>>) -> Option<u32> {
            if at == FALSE || at == TRUE {
                return (at == TRUE).then_some(0);
            }
            if let Some(known) = done.get(&at) {
                return *known;
            }
            let node = sets.node(at);
            let (low, high) = (walk(sets, node.low, done), walk(sets, node.high, done));
            let shortest = low.into_iter().chain(high).min().map(|bits| bits + 1);
            done.insert(at, shortest);
            shortest
        }
        walk(self, set, &mut FxHashMap::default())
    }

    /// Disjoint cubes that together are the set, but no more than `most`; `None` where there are more.
    #[must_use]
    pub fn cubes(&self, set: Bdd, most: usize) -> Option<Vec<Vec<Literal>>> {
        let (mut cubes, mut ahead) = (Vec::new(), vec![(set, Vec::new())]);
        while let Some((at, literals)) = ahead.pop() {
            if at == TRUE {
                cubes.push(literals);
            } else if at != FALSE {
                let node = self.node(at);
                let with = |on| literals.iter().copied().chain([(vars::at_level(node.level), on)]).collect();
                ahead.extend([(node.high, with(true)), (node.low, with(false))]);
            }
            if cubes.len() > most || ahead.len() > most.saturating_mul(200) {
                return None;
            }
        }
        Some(cubes)
    }
}

impl PacketSets for Bdds {
    type Set = Bdd;

    fn none(&self) -> Bdd {
        FALSE
    }

    fn all(&self) -> Bdd {
        TRUE
    }

    fn cube(&mut self, literals: &[Literal]) -> Bdd {
        let mut sorted: Vec<(u16, bool)> =
            literals.iter().map(|(var, on)| (vars::level(*var), *on)).collect();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            return FALSE;
        }
        sorted.into_iter().rev().fold(TRUE, |below, (level, on)| {
            if on { self.make(level, FALSE, below) } else { self.make(level, below, FALSE) }
        })
    }

    fn and(&mut self, a: Bdd, b: Bdd) -> Bdd {
        self.apply(Op::And, a, b)
    }

    fn or(&mut self, a: Bdd, b: Bdd) -> Bdd {
        self.apply(Op::Or, a, b)
    }

    fn minus(&mut self, a: Bdd, b: Bdd) -> Bdd {
        self.apply(Op::Minus, a, b)
    }

    fn exists(&mut self, set: Bdd, drop: &dyn Fn(Var) -> bool) -> Bdd {
        self.project(set, drop, &mut FxHashMap::default())
    }

    fn one_of(&mut self, vars: &[Var], values: &[u128]) -> Bdd {
        let mut values = values.to_vec();
        values.sort_unstable();
        values.dedup();
        let levels: Vec<u16> = vars.iter().map(|var| vars::level(*var)).collect();
        debug_assert!(levels.is_sorted(), "the bits of a field stand in their order");
        self.having(&levels, &values)
    }

    fn meet(&mut self, a: Bdd, b: Bdd) -> bool {
        self.overlap((a, b), &mut FxHashSet::default())
    }

    /// Only for variables that come first in the order, as [`crate::vars::level`] has it.
    fn agreed(&self, set: Bdd, vars: &[Var]) -> Option<(Vec<Literal>, Bdd)> {
        let (mut literals, mut at) = (Vec::with_capacity(vars.len()), set);
        for var in vars {
            let node = self.node(at);
            let on = match (node.low, node.high) {
                (FALSE, _) => true,
                (_, FALSE) => false,
                _ => return None,
            };
            if node.level != vars::level(*var) {
                return None;
            }
            literals.push((*var, on));
            at = if on { node.high } else { node.low };
        }
        Some((literals, at))
    }

    fn member(&self, set: Bdd) -> Option<Vec<Literal>> {
        let mut literals = Vec::new();
        let mut at = set;
        while at != TRUE {
            if at == FALSE {
                return None;
            }
            let node = self.node(at);
            let on = node.low == FALSE;
            literals.push((vars::at_level(node.level), on));
            at = if on { node.high } else { node.low };
        }
        Some(literals)
    }
}
