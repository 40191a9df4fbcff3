//! Which bits of the key may still be looked at, from each place of the tables on.
//!
//! What nobody will look at need not be told apart: two senders whose packets differ in dead bits only are one from there on.
//! A fixpoint over the tables, computed once: a bit is live in a flow if its match or an action reads it, or if
//! it is live in a table that its actions call and none of them has overwritten it before.
//!
//! Deliberately coarse: what a called table overwrites stays live after the call. Where packets leave only their VLAN
//! bits are read: whether a port is the packet's own input port is not, so a sweep must not depend on it.

use crate::{rewrite::having, tables::Tables, vars};
use flowproof_packet::{
    Field, Prerequisite,
    key::{WORDS, low_bits, masked_words},
};
use flowproof_switch::flow::{Action, Ct, Flow, Subfield, Zone};
use std::collections::BTreeMap;

/// Bits of the key, by word.
pub type Bits = [u64; WORDS];

const NONE: Bits = [0; WORDS];

/// The live bits, by table and by the place of a priority in it.
#[derive(Clone, Debug, Default)]
pub struct Live {
    levels: BTreeMap<u8, Vec<Bits>>,
}

impl Live {
    /// Looks through all tables until nothing changes.
    #[must_use]
    pub fn new(tables: &Tables) -> Self {
        let numbers: Vec<u8> = tables.switch().numbers().collect();
        let mut whole: BTreeMap<u8, Bits> = numbers.iter().map(|table| (*table, NONE)).collect();
        loop {
            let mut live = Self::default();
            for table in &numbers {
                live.levels.insert(*table, levels(tables, *table, &whole));
            }
            let next: BTreeMap<u8, Bits> = live
                .levels
                .iter()
                .map(|(table, levels)| (*table, levels.iter().fold(NONE, |all, level| union(&all, level))))
                .collect();
            if next == whole {
                return live;
            }
            whole = next;
        }
    }

    /// The bits that are live where a packet comes to the priority at `place` of `table`, as far as its flows decide.
    #[must_use]
    pub fn at(&self, table: u8, place: usize) -> Option<&Bits> {
        self.levels.get(&table).and_then(|levels| levels.get(place))
    }
}

/// Whether any bit of a field is live.
pub(crate) fn is_live(live: &Bits, field: Field) -> bool {
    masked_words(field, 0, u128::MAX)
        .any(|part| live.get(usize::from(part.word)).is_some_and(|bits| bits & part.mask != 0))
}

fn levels(tables: &Tables, table: u8, whole: &BTreeMap<u8, Bits>) -> Vec<Bits> {
    let of_level = |flows: &mut dyn Iterator<Item = &Flow>| {
        flows.fold(NONE, |all, flow| union(&all, &of_flow(flow, table, whole)))
    };
    tables
        .levels(table)
        .iter()
        .map(|level| {
            let flows = level.hard.iter().chain(level.soft.iter().map(|(id, _)| id));
            of_level(&mut flows.filter_map(|id| tables.flow(*id)))
        })
        .collect()
}

fn of_flow(flow: &Flow, table: u8, whole: &BTreeMap<u8, Bits>) -> Bits {
    let (mut live, mut outside) = (NONE, Vec::new());
    for action in flow.actions.iter().rev() {
        if matches!(action, Action::End) {
            outside.push(std::mem::replace(&mut live, NONE));
        } else if matches!(action, Action::Begin(_)) {
            live = union(&live, &outside.pop().unwrap_or(NONE));
        } else {
            live = before(action, live, table, whole);
        }
    }
    for part in flow.matching.words() {
        add(&mut live, part.word, part.mask);
    }
    live
}

/// What is live before an action, if `after` is behind it.
fn before(action: &Action, mut after: Bits, table: u8, whole: &BTreeMap<u8, Bits>) -> Bits {
    match action {
        // What a packet does not have is not written, so only what every packet has is surely overwritten.
        Action::Set { field, mask, .. } if field.spec().prerequisite == Prerequisite::None => {
            clear(&mut after, *field, *mask);
        }
        Action::Set { field, .. } => require(&mut after, *field),
        Action::Move { src, dst } => {
            read(&mut after, *src);
            [src.field, dst.field].into_iter().for_each(|field| require(&mut after, field));
        }
        Action::OutputField(part) => read(&mut after, *part),
        Action::Resubmit { table: to, .. } => {
            return union(&after, whole.get(&to.unwrap_or(table)).unwrap_or(&NONE));
        }
        Action::GotoTable(to) => return union(&after, whole.get(to).unwrap_or(&NONE)),
        Action::Ct(ct) => return before_ct(ct, after, whole),
        Action::CtClear => untrack(&mut after),
        Action::Push(part) => read(&mut after, *part),
        Action::SetQueue(_)
        | Action::PopQueue
        | Action::Meter(_)
        | Action::Exit
        | Action::Pop(_)
        | Action::CheckPktLarger { .. }
        | Action::Begin(_)
        | Action::End => {}
        Action::Output(_)
        | Action::Controller(_)
        | Action::DecTtl(_)
        | Action::ModVlanVid(_)
        | Action::RetagUnclear { .. }
        | Action::ModVlanPcp(_)
        | Action::StripVlan
        | Action::PushVlan(_)
        | Action::Conjunction(_)
        | Action::Note(_)
        | Action::Enqueue { .. }
        | Action::OutputTruncated { .. }
        | Action::Clone(_)
        | Action::Group(_)
        | Action::Learn(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::WriteActions(_)
        | Action::ClearActions
        | Action::Opaque(_) => {
            read(&mut after, Subfield::whole(Field::VlanTci));
            read(&mut after, Subfield::whole(Field::InnerVlanTci));
        }
    }
    after
}

fn before_ct(ct: &Ct, mut after: Bits, whole: &BTreeMap<u8, Bits>) -> Bits {
    untrack(&mut after);
    let mut there = ct.table.and_then(|table| whole.get(&table)).copied().unwrap_or(NONE);
    untrack(&mut there);
    let mut live = union(&after, &there);
    if let Zone::Field(part) = ct.zone {
        read(&mut live, part);
    }
    // Neighbour discovery and redirects are told apart by connection tracking, and a second tag hides what is behind it.
    let asked = [Field::DlType, Field::NwProto, Field::Icmpv6Type, Field::NwFrag, Field::InnerVlanTci];
    for field in asked {
        read(&mut live, Subfield::whole(field));
    }
    live
}

fn untrack(live: &mut Bits) {
    for field in vars::tracked_fields().chain([Field::CtZone]) {
        clear(live, field, u128::MAX);
    }
}

fn add(live: &mut Bits, word: u8, mask: u64) {
    if let Some(bits) = live.get_mut(usize::from(word)) {
        *bits |= mask;
    }
}

/// What tells whether a packet has a field.
fn require(live: &mut Bits, field: Field) {
    let more = [Prerequisite::Ip, Prerequisite::Tcp].map(having);
    let own = [having(field.spec().prerequisite)];
    let ports = [Field::TcpSrc, Field::TcpDst].iter().any(|of| of.overlaps(field));
    for matching in own.iter().chain(more.iter().filter(|_| ports)).copied().flatten() {
        for part in matching.words() {
            add(live, part.word, part.mask);
        }
    }
}

fn read(live: &mut Bits, part: Subfield) {
    for part in masked_words(part.field, 0, low_bits(part.width) << part.start) {
        add(live, part.word, part.mask);
    }
}

pub(crate) fn clear(live: &mut Bits, field: Field, mask: u128) {
    for part in masked_words(field, 0, mask) {
        if let Some(bits) = live.get_mut(usize::from(part.word)) {
            *bits &= !part.mask;
        }
    }
}

fn union(a: &Bits, b: &Bits) -> Bits {
    let mut all = *a;
    for (bits, more) in all.iter_mut().zip(b) {
        *bits |= more;
    }
    all
}
