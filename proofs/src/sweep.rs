//! Explored once is explored for all: what executions need not repeat.
//!
//! A *unit* is one priority of one table, together with those bits of the key that may still be looked at from there
//! ([`crate::live`]). Packets come to it with everything forgotten that nobody will look at; those that were there before
//! need not go on again, whoever sent them. A host's receivers are thus explored once, not once for each sender.
//!
//! What a sweep reaches, it reaches exactly (but see [`Sweep::widely`]): forgetting dead variables adds no way through the tables. What it forgets is who
//! sent a packet, and whether a port is the packet's own.

use crate::{
    live::{Bits, Live},
    set::PacketSets,
    symbolic::Rivals,
    symkey::{Bit, SymKey},
    vars::{self, Var},
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::table::FlowId;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::BTreeSet, rc::Rc};

/// What a wide sweep does not tell apart.
const ADDRESSES: &[Field] = &[
    Field::DlSrc,
    Field::NwSrc,
    Field::NwDst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::ArpSha,
    Field::ArpTha,
    Field::NdTarget,
];

/// Where packets come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) table: u8,
    /// Which priority of the table, from the highest.
    pub(crate) level: usize,
    /// The input port that a `resubmit` gave this lookup.
    pub(crate) in_port: Option<PortNo>,
    pub(crate) recirculations: u16,
    /// What may still be looked at.
    pub(crate) key: SymKey,
}

/// What is known of a place.
#[derive(Clone, Debug)]
pub(crate) struct Unit<Set> {
    /// Variables that may still be looked at.
    pub(crate) keep: Rc<Vec<u64>>,
    /// The packets that were there, everything else forgotten.
    pub(crate) explored: Set,
    /// What the flows of the priority take of any packets.
    pub(crate) taken: Set,
    /// The most calls, and the deepest, that follow in the same translation.
    pub(crate) calls: u32,
    pub(crate) depth: u32,
    /// The most recirculations that follow.
    pub(crate) recirculations: u16,
    /// Explorations of it that are under way.
    pub(crate) active: u32,
    /// The flows that were hit there, and where packets came to next.
    hits: Vec<FlowId>,
    next: BTreeSet<usize>,
}

/// Which frames a sweep is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of one form, on one datapath.
    #[default]
    One,
    /// Whole ones on one datapath, with room in the key for every other.
    First,
    /// All, as [`crate::symbolic::loosely`] has them.
    Every,
}

/// Everywhere that packets came to.
#[derive(Debug)]
pub struct Sweep<Set> {
    live: Rc<Live>,
    pub(crate) widely: bool,
    pub(crate) scope: Scope,
    /// Sets without what nobody will look at.
    pub(crate) forgotten: FxHashMap<(Rc<Vec<u64>>, Set), Set>,
    places: FxHashMap<Place, usize>,
    units: Vec<Unit<Set>>,
    under_way: Option<usize>,
    guide: Option<Guide>,
}

/// Where a wide sweep of the same packets came to: what is not to be found behind a place need not be looked for there.
#[derive(Debug)]
pub struct Guide {
    places: FxHashMap<Place, usize>,
    hits: Vec<Vec<FlowId>>,
    next: Vec<BTreeSet<usize>>,
    settled: Vec<bool>,
    /// Flows that were not reached yet.
    unreached: FxHashSet<FlowId>,
    /// Flows that may both be hit and differ, where it is not known yet.
    open: BTreeSet<(FlowId, FlowId)>,
}

impl<Set: Copy> Sweep<Set> {
    /// Nowhere yet.
    #[must_use]
    pub fn new(live: Rc<Live>) -> Self {
        Self {
            live,
            widely: false,
            scope: Scope::One,
            forgotten: FxHashMap::default(),
            places: FxHashMap::default(),
            units: Vec::new(),
            under_way: None,
            guide: None,
        }
    }

    /// Nowhere yet, and going only where the guide says that something is left to be found: any of the flows `unreached`, any
    /// of the pairs `open`.
    #[must_use]
    pub fn guided(
        live: Rc<Live>,
        guide: Guide,
        unreached: FxHashSet<FlowId>,
        open: BTreeSet<(FlowId, FlowId)>,
    ) -> Self {
        let guide = Guide { unreached, open, ..guide };
        Self { guide: Some(guide), ..Self::new(live) }
    }

    /// What this sweep found, as a guide for another one of the same packets.
    #[must_use]
    pub fn into_guide(self) -> Guide {
        let settled = vec![false; self.units.len()];
        let (hits, next) = self.units.into_iter().map(|unit| (unit.hits, unit.next)).unzip();
        let (unreached, open) = (FxHashSet::default(), BTreeSet::new());
        Guide { places: self.places, hits, next, settled, unreached, open }
    }

    /// Places so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Whether nothing came anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(crate) fn find(&self, at: &Place) -> Option<usize> {
        self.places.get(at).copied()
    }

    pub(crate) fn add(&mut self, at: Place, unit: Unit<Set>) -> usize {
        let new = self.units.len();
        self.units.push(unit);
        self.places.insert(at, new);
        new
    }

    pub(crate) fn unit(&self, number: usize) -> Option<&Unit<Set>> {
        self.units.get(number)
    }

    pub(crate) fn unit_mut(&mut self, number: usize) -> Option<&mut Unit<Set>> {
        self.units.get_mut(number)
    }

    /// From now on packets are followed from this place; returns where they were followed from before.
    pub(crate) fn follow_from(&mut self, place: Option<usize>) -> Option<usize> {
        std::mem::replace(&mut self.under_way, place)
    }

    /// Packets come from where they are followed to this place. Whether they need to go on.
    pub(crate) fn arrive(&mut self, at: &Place, number: usize) -> bool {
        if let Some(from) = self.under_way.and_then(|from| self.units.get_mut(from)) {
            from.next.insert(number);
        }
        self.guide.as_mut().is_none_or(|guide| !guide.is_settled(at))
    }

    /// Packets hit a flow.
    pub(crate) fn hit(&mut self, flow: FlowId, rivals: &Rivals<Set>) {
        if let Some(unit) = self.under_way.and_then(|at| self.units.get_mut(at)) {
            unit.hits.push(flow);
        }
        if let Some(guide) = &mut self.guide {
            guide.unreached.remove(&flow);
            if !guide.open.is_empty() {
                guide.open.retain(|pair| !rivals.contains_key(pair));
            }
        }
    }
}

impl Guide {
    /// Whether nothing is left to be found at this place or behind it.
    fn is_settled(&mut self, at: &Place) -> bool {
        let Some(start) = self.places.get(at).copied() else { return false };
        let (mut seen, mut ahead) = (FxHashSet::default(), vec![start]);
        while let Some(at) = ahead.pop() {
            if self.settled.get(at) == Some(&true) || !seen.insert(at) {
                continue;
            }
            if self.hits.get(at).into_iter().flatten().any(|flow| self.is_wanted(*flow)) {
                return false;
            }
            ahead.extend(self.next.get(at).into_iter().flatten());
        }
        for at in seen {
            self.settled.get_mut(at).into_iter().for_each(|settled| *settled = true);
        }
        true
    }

    fn is_wanted(&self, flow: FlowId) -> bool {
        self.unreached.contains(&flow) || self.open.iter().any(|(a, b)| *a == flow || *b == flow)
    }
}

impl<Set: Copy> Sweep<Set> {
    /// Nowhere yet; and wherever packets come to, packets with any other source and addresses come to it too. That is more than
    /// there is, so only what such a sweep does *not* find is certain.
    #[must_use]
    pub fn widely(live: Rc<Live>) -> Self {
        Self { widely: true, ..Self::new(live) }
    }

    /// The live bits of one priority of a table.
    pub(crate) fn live(&self, table: u8, level: usize) -> Bits {
        self.live.at(table, level).copied().unwrap_or([u64::MAX; flowproof_packet::key::WORDS])
    }
}

impl<Set> Unit<Set> {
    /// A place that nothing came to yet, and whose flows take `taken`.
    pub(crate) fn new(key: &SymKey, live: &Bits, widely: bool, none: Set, taken: Set) -> Self {
        let mut keep = kept(key, live);
        for var in ADDRESSES.iter().filter(|_| widely).flat_map(|field| vars::sent(*field)) {
            keep.get_mut(usize::from(var.0 / 64))
                .into_iter()
                .for_each(|word| *word &= !(1u64 << (var.0 % 64)));
        }
        let (hits, next) = (Vec::new(), BTreeSet::new());
        let keep = Rc::new(keep);
        Self { keep, explored: none, taken, calls: 0, depth: 0, recirculations: 0, active: 0, hits, next }
    }
}

/// `packets` without what nobody will look at.
pub(crate) fn forget<S: PacketSets>(sets: &mut S, packets: S::Set, keep: &[u64]) -> S::Set {
    sets.exists(packets, &|var: Var| {
        keep.get(usize::from(var.0 / 64)).is_none_or(|w| w >> (var.0 % 64) & 1 == 0)
    })
}

/// The variables that live bits show now, or will show when a datagram is whole again.
fn kept(key: &SymKey, live: &Bits) -> Vec<u64> {
    let mut keep = vec![0; usize::from(vars::COUNT).div_ceil(64)];
    let mut add = |var: Var| {
        keep.get_mut(usize::from(var.0 / 64)).into_iter().for_each(|word| *word |= 1u64 << (var.0 % 64));
    };
    for (word, bits) in live.iter().enumerate() {
        for bit in (0..64u16).filter(|bit| bits >> (63 - bit) & 1 == 1) {
            let offset = word as u16 * 64 + bit;
            add(Var(offset));
            if let Bit::Free(var) = key.bit(offset) {
                add(var);
            }
        }
    }
    key.stacked().for_each(add);
    keep
}
