//! Which flows of one priority a symbolic key may match, without asking them all.
//!
//! The flows of a host speak of one port each: in `in_port`, in `reg5`, or in `dl_dst`. Registers are constants along a
//! path, so a hash of what a flow wants of them finds the few that can match ([`candidates`]). `dl_dst` is the
//! packet's own, so the flows that differ in it are halved again and again, with a diagram of what each half takes
//! together ([`Halves`]).
//!
//! Invariant: a flow that some packet of the set matches is always among the candidates; they come in file order.

use crate::{set::PacketSets, symkey::SymKey};
use flowproof_switch::table::{FlowId, Tables};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Groups that are no larger than this are asked one by one.
pub(crate) const FEW: usize = 16;

/// Flows that want the same of the constant bits.
#[derive(Clone, Debug, Default)]
pub struct Group {
    flows: Vec<FlowId>,
    /// The constant bits that they look at, by word.
    wants: Vec<(u8, u64)>,
    /// The other bits that any of them looks at, by word.
    looks_at: Vec<(u8, u64)>,
}

impl Group {
    /// Its flows, in file order.
    #[must_use]
    pub fn flows(&self) -> &[FlowId] {
        &self.flows
    }

    /// The flow that names it: none is in two groups.
    #[must_use]
    pub fn first(&self) -> Option<FlowId> {
        self.flows.first().copied()
    }

    /// Whether it is too large to be asked one by one.
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.flows.len() > FEW
    }

    /// What the key has in the bits that any of its flows looks at, where it is known.
    pub(crate) fn values(&self, key: &SymKey) -> SmallVec<[u64; 6]> {
        let bits = self.wants.iter().chain(&self.looks_at);
        bits.map(|(word, mask)| key.value(*word, *mask)).collect()
    }
}

type Groups = FxHashMap<Vec<u64>, Group>;

/// Flows that look at the same constant bits, by what they want of them.
#[derive(Clone, Debug)]
struct Kind {
    mask: Vec<(u8, u64)>,
    groups: Groups,
}

/// The ordinary flows of one priority of one table.
#[derive(Clone, Debug, Default)]
pub struct Index {
    kinds: Vec<Kind>,
}

impl Index {
    /// Arranges `flows`.
    #[must_use]
    pub fn new(tables: &Tables, flows: &[FlowId]) -> Self {
        let mut kinds: BTreeMap<Vec<(u8, u64)>, Groups> = BTreeMap::new();
        let constants = SymKey::constant_bits();
        for id in flows {
            let Some(flow) = tables.flow(*id) else { continue };
            let (mut mask, mut value, mut rest) = (Vec::new(), Vec::new(), Vec::new());
            for part in flow.matching.words() {
                let constant = constants.get(usize::from(part.word)).copied().unwrap_or(0);
                if part.mask & constant != 0 {
                    mask.push((part.word, part.mask & constant));
                    value.push(part.value & constant);
                }
                if part.mask & !constant != 0 {
                    rest.push((part.word, part.mask & !constant));
                }
            }
            let group = kinds.entry(mask.clone()).or_default().entry(value).or_default();
            group.wants = mask;
            group.flows.push(*id);
            for (word, mask) in rest {
                match group.looks_at.iter_mut().find(|seen| seen.0 == word) {
                    Some(seen) => seen.1 |= mask,
                    None => group.looks_at.push((word, mask)),
                }
            }
        }
        Self { kinds: kinds.into_iter().map(|(mask, groups)| Kind { mask, groups }).collect() }
    }

    /// The groups that a packet with this key may match.
    pub fn groups(&self, key: &SymKey) -> impl Iterator<Item = &Group> {
        self.kinds.iter().flat_map(move |kind| {
            let known: Option<Vec<u64>> =
                kind.mask.iter().map(|(word, mask)| key.known(*word, *mask)).collect();
            let (one, all) = match known {
                Some(value) => (kind.groups.get(&value), None),
                None => (None, Some(kind.groups.values())),
            };
            one.into_iter().chain(all.into_iter().flatten())
        })
    }
}

/// The flows of these groups that a packet of `packets` with this key may match, in file order.
pub fn candidates<S: PacketSets>(
    groups: &[&Group],
    tables: &Tables,
    sets: &mut S,
    halves: &mut Halves<S::Set>,
    key: &SymKey,
    packets: S::Set,
) -> Vec<FlowId> {
    let mut found = Vec::new();
    for group in groups {
        let plain = || group.looks_at.iter().all(|(word, mask)| key.is_as_sent(*word, *mask));
        if group.is_wide() && plain() {
            halves.narrow(tables, sets, &group.flows, packets, &mut found);
        } else {
            found.extend(&group.flows);
        }
    }
    found.sort_unstable();
    found
}

/// For each run of flows that was ever halved: the packets that any of it takes, as sent.
///
/// Belongs to one manager of sets. The key is the run's first flow and its length, which name it uniquely: a flow is in one
/// group only.
#[derive(Clone, Debug)]
pub struct Halves<Set> {
    taken: FxHashMap<(FlowId, usize), Set>,
}

impl<Set> Default for Halves<Set> {
    fn default() -> Self {
        Self { taken: FxHashMap::default() }
    }
}

impl<Set: Copy> Halves<Set> {
    fn narrow<S: PacketSets<Set = Set>>(
        &mut self,
        tables: &Tables,
        sets: &mut S,
        flows: &[FlowId],
        packets: Set,
        found: &mut Vec<FlowId>,
    ) {
        let taken = self.taken(tables, sets, flows);
        let hit = sets.and(packets, taken);
        if sets.is_empty(hit) {
            return;
        }
        if let [flow] = flows {
            found.push(*flow);
        } else {
            let (left, right) = flows.split_at(flows.len() / 2);
            self.narrow(tables, sets, left, hit, found);
            self.narrow(tables, sets, right, hit, found);
        }
    }

    fn taken<S: PacketSets<Set = Set>>(&mut self, tables: &Tables, sets: &mut S, flows: &[FlowId]) -> Set {
        let Some(first) = flows.first() else { return sets.none() };
        if let Some(known) = self.taken.get(&(*first, flows.len())) {
            return *known;
        }
        let taken = if flows.len() == 1 {
            let literals = tables.flow(*first).map(|flow| SymKey::as_sent(&flow.matching));
            literals.map_or(sets.none(), |literals| sets.cube(&literals))
        } else {
            let (left, right) = flows.split_at(flows.len() / 2);
            let left = self.taken(tables, sets, left);
            let right = self.taken(tables, sets, right);
            sets.or(left, right)
        };
        self.taken.insert((*first, flows.len()), taken);
        taken
    }
}
