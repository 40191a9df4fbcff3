//! Compiling: which bits to branch on.
//!
//! Invariant: a branch leaves a flow less than [`WORTH`] of its group to be found among, so that depth is
//! logarithmic in the number of flows and building them all takes time `n log n`. Which bits a branch tests is a
//! matter of speed only, never of what a lookup finds; a group's flows are sampled for it.

use super::{Classifier, FlowId, Kind, NONE, Node, Rule, Slot, home};
use crate::flow::Match;
use flowproof_packet::{
    Field,
    key::{MaskedWord, WORDS, masked_words},
};
use rustc_hash::FxHashMap;
use std::sync::LazyLock;

/// Groups of so many flows or fewer are leaves.
const LEAF: usize = 4;
/// How many flows of a group are looked at for the choice of a branch.
const SAMPLE: usize = 32;
/// The share of a group that a packet may still have to be compared with after a branch.
const WORTH: f64 = 0.7;
/// Branches above a leaf; a bound against samples that mislead.
const DEPTH: u8 = 64;

/// The bits that stand for one thing, by word: candidates for a branch lie inside one of them.
static FIELDS: LazyLock<Vec<Vec<u64>>> = LazyLock::new(|| {
    let mut fields = vec![Vec::new(); WORDS];
    for field in Field::all().filter(|field| field.spec().is_slot_owner()) {
        for part in masked_words(field, 0, u128::MAX) {
            if let Some(masks) = fields.get_mut(usize::from(part.word)) {
                masks.push(part.mask);
            }
        }
    }
    fields
});

/// A flow to be placed.
#[derive(Clone, Copy)]
pub(in crate::table) struct Entry<'f> {
    /// Its name.
    pub(in crate::table) id: FlowId,
    /// Its priority.
    pub(in crate::table) priority: u16,
    /// What it matches.
    pub(in crate::table) matching: &'f Match,
    /// Where it goes at the branch being built; nothing for the rest.
    value: Option<u64>,
}

impl<'f> Entry<'f> {
    /// A flow by its name, priority and match.
    pub(in crate::table) const fn new(id: FlowId, priority: u16, matching: &'f Match) -> Self {
        Self { id, priority, matching, value: None }
    }

    /// What it wants of these bits, if it wants all of them.
    fn wants(&self, bits: Bits) -> Option<u64> {
        let part = self.matching.words().iter().find(|part| part.word == bits.word)?;
        (part.mask & bits.mask == bits.mask).then_some(part.value & bits.mask)
    }
}

/// Some bits of one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Bits {
    word: u8,
    mask: u64,
}

struct Builder {
    done: Classifier,
    /// The bits that branches above have tested, by word.
    tested: [u64; WORDS],
    /// Room for the values of a sample.
    values: Vec<u64>,
}

impl Classifier {
    /// Compiles flows that are sorted by falling priority, then by age.
    pub(in crate::table) fn new(mut flows: Vec<Entry<'_>>) -> Self {
        let done =
            Self { root: NONE, nodes: Vec::new(), slots: Vec::new(), rules: Vec::new(), words: Vec::new() };
        let mut builder = Builder { done, tested: [0; WORDS], values: Vec::new() };
        let root = builder.group(&mut flows, 0);
        Self { root, ..builder.done }
    }
}

fn index<T>(all: &[T]) -> u32 {
    u32::try_from(all.len()).unwrap_or(NONE)
}

impl Builder {
    /// Places flows; the index of their node, or [`NONE`] if there are none.
    fn group(&mut self, flows: &mut [Entry<'_>], depth: u8) -> u32 {
        let Some(top) = flows.first().map(|flow| flow.priority) else { return NONE };
        let choice = (flows.len() > LEAF && depth < DEPTH).then(|| self.choose(flows)).flatten();
        let kind = match choice {
            Some(bits) => self.branch(flows, bits, depth),
            None => self.leaf(flows),
        };
        self.done.nodes.push(Node { top, kind });
        index(&self.done.nodes) - 1
    }

    fn leaf(&mut self, flows: &[Entry<'_>]) -> Kind {
        let start = index(&self.done.rules);
        for flow in flows {
            let first = index(&self.done.words);
            for part in flow.matching.words() {
                let mask = part.mask & !self.tested.get(usize::from(part.word)).copied().unwrap_or(0);
                if mask != 0 {
                    self.done.words.push(MaskedWord { mask, value: part.value & mask, ..*part });
                }
            }
            let (id, priority) = (flow.id, flow.priority);
            self.done.rules.push(Rule { id, priority, start: first, end: index(&self.done.words) });
        }
        Kind::Leaf { start, end: index(&self.done.rules) }
    }

    fn branch(&mut self, flows: &mut [Entry<'_>], bits: Bits, depth: u8) -> Kind {
        for flow in &mut *flows {
            flow.value = flow.wants(bits);
        }
        // Stable, so that each part keeps its order; the rest comes first.
        flows.sort_by_key(|flow| flow.value);
        let (rest, valued) = flows.split_at_mut(flows.partition_point(|flow| flow.value.is_none()));
        let rest = self.group(rest, depth + 1);
        let word = usize::from(bits.word);
        let before = self.tested.get(word).copied().unwrap_or(0);
        if let Some(tested) = self.tested.get_mut(word) {
            *tested |= bits.mask;
        }
        let children: Vec<Slot> = valued
            .chunk_by_mut(|a, b| a.value == b.value)
            .filter_map(|flows| {
                let value = flows.first()?.value?;
                Some(Slot { value, node: self.group(flows, depth + 1) })
            })
            .collect();
        if let Some(tested) = self.tested.get_mut(word) {
            *tested = before;
        }
        let (log, start) = self.hash(&children);
        Kind::Branch { word: bits.word, log, mask: bits.mask, start, rest }
    }

    /// A hash table that is at most half full: its size and place.
    fn hash(&mut self, children: &[Slot]) -> (u8, u32) {
        let size = (children.len() * 2).next_power_of_two();
        let (log, start) = (size.trailing_zeros() as u8, self.done.slots.len());
        self.done.slots.resize(start + size, Slot { value: 0, node: NONE });
        let table = self.done.slots.get_mut(start..).unwrap_or_default();
        for child in children {
            let first = home(child.value, log) as usize;
            let free = (first..first + size).map(|at| at & (size - 1));
            let free = free.into_iter().find(|at| table.get(*at).is_some_and(|slot| slot.node == NONE));
            if let Some(slot) = free.and_then(|at| table.get_mut(at)) {
                *slot = *child;
            }
        }
        (log, u32::try_from(start).unwrap_or(NONE))
    }

    /// The bits that leave the fewest flows to compare a packet with, if they leave few enough.
    fn choose(&mut self, flows: &[Entry<'_>]) -> Option<Bits> {
        let step = flows.len().div_ceil(SAMPLE);
        let sample: Vec<Entry<'_>> = flows.iter().step_by(step).copied().collect();
        let mut candidates: FxHashMap<Bits, ()> = FxHashMap::default();
        for part in sample.iter().flat_map(|flow| flow.matching.words()) {
            let tested = self.tested.get(usize::from(part.word)).copied().unwrap_or(0);
            let fields = FIELDS.get(usize::from(part.word)).map_or(&[][..], Vec::as_slice);
            for mask in fields.iter().map(|field| part.mask & field).filter(|mask| mask & !tested != 0) {
                candidates.insert(Bits { word: part.word, mask }, ());
            }
        }
        let rated = candidates.into_keys().map(|bits| (self.cost(&sample, bits), bits));
        let (cost, bits) =
            rated.min_by(|(a, x), (b, y)| a.total_cmp(b).then((x.word, x.mask).cmp(&(y.word, y.mask))))?;
        (cost < WORTH).then_some(bits)
    }

    /// The share of a group that a packet must be compared with after a branch: all of the rest, and of the others
    /// as many as two of them are likely to want the same.
    fn cost(&mut self, sample: &[Entry<'_>], bits: Bits) -> f64 {
        self.values.clear();
        self.values.extend(sample.iter().filter_map(|flow| flow.wants(bits)));
        self.values.sort_unstable();
        let (all, valued) = (sample.len() as f64, self.values.len() as f64);
        let pairs: f64 =
            self.values.chunk_by(|a, b| a == b).map(|run| (run.len() * (run.len() - 1)) as f64).sum();
        let alike = if valued > 1.0 { pairs / (valued * (valued - 1.0)) } else { 0.0 };
        (all - valued + valued * alike) / all
    }
}
