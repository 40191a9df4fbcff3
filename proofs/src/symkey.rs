//! The flow key of a symbolic packet: some bits are known, the others are variables.
//!
//! Tables only ever load constants into registers and zones, so along one path of execution those bits are known
//! and matching on them costs nothing. An unknown bit is the variable of the same number (the bit as it was sent)
//! unless a `ct()`, a fragment's view or a `move` renamed it.
//!
//! Invariant: `value` is zero where `known` is.

use crate::{
    arrival::Arrival,
    set::Literal,
    vars::{self, Var},
};
use flowproof_packet::{
    Field, FlowKey,
    key::{MaskedWord, WORDS, low_bits, masked_words},
};
use flowproof_switch::flow::{Match, Subfield};
use std::sync::LazyLock;

/// How much of a datagram one frame carries, which decides what table lookup sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// All of it.
    Whole,
    /// The first of several fragments: ports and ICMP type read zero.
    First,
    /// A later fragment: nothing of layer 4 is there.
    Later,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Whole, Self::First, Self::Later];

    /// Its name in those of queries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::First => "first-fragment",
            Self::Later => "later-fragment",
        }
    }
}

/// A bit of the key: known, or some variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bit {
    /// Known.
    Known(bool),
    /// A variable.
    Free(Var),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Renamed {
    start: u16,
    width: u16,
    first: Var,
}

/// A symbolic flow key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SymKey {
    known: [u64; WORDS],
    value: [u64; WORDS],
    renamed: Vec<Renamed>,
    /// What `push` put away, each the least significant bit first.
    stack: Vec<Vec<Bit>>,
}

/// The bit of a tag's TPID that tells 0x88a8 from 0x8100, the only two that Open vSwitch takes for tags. An absent tag has it at
/// zero, so a tag that is added with the default TPID needs no write.
pub(crate) const SERVICE_TAG: u128 = 0x0800;

/// `nw_frag` of a first fragment, and of a later one (ovs-fields(7)).
pub(crate) const FIRST: u128 = 1;
pub(crate) const LATER: u128 = 3;

/// What a later fragment does not show.
pub(crate) const LAYER4: &[Field] = &[
    Field::TcpSrc,
    Field::TcpDst,
    Field::TcpFlags,
    Field::ArpSha,
    Field::ArpTha,
    Field::NdTarget,
    Field::NdReserved,
    Field::NdOptionsType,
];

static CONSTANT: LazyLock<[u64; WORDS]> = LazyLock::new(|| {
    let mut key = SymKey::entering(0, Form::Whole, Arrival::Ordinary);
    for field in vars::tracked_fields() {
        key.release(field);
    }
    key.known
});

impl Default for SymKey {
    fn default() -> Self {
        Self::entering(0, Form::Whole, Arrival::Ordinary)
    }
}

impl SymKey {
    /// Any frame of this form as it enters anywhere, with what it may bring along.
    #[must_use]
    pub fn entering_anywhere(form: Form, arrival: Arrival) -> Self {
        let mut key = Self::entering(0, form, arrival);
        key.release(Field::InPort);
        key
    }

    /// Any frame of this form as it enters at `in_port`: what only flows write has its initial value, and so has what this
    /// `arrival` does not leave open.
    #[must_use]
    pub fn entering(in_port: u16, form: Form, arrival: Arrival) -> Self {
        let initial = *FlowKey::default().words();
        let mut key =
            Self { known: [u64::MAX; WORDS], value: initial, renamed: Vec::new(), stack: Vec::new() };
        for field in Field::all().filter(|field| field.spec().is_slot_owner() && arrival.frees(*field)) {
            if field == Field::VlanTpid {
                masked_words(field, 0, SERVICE_TAG).for_each(|part| key.update(part, false));
            } else if field != Field::NwFrag {
                key.release(field);
            }
        }
        if arrival == Arrival::Tracked {
            key.set(Field::CtState, u128::from(tracked_state::TRK), u128::from(!tracked_state::OPEN));
        }
        key.set(Field::InPort, u128::from(in_port), u128::MAX);
        let (fragment, hidden): (u128, &[Field]) = match form {
            Form::Whole => return key,
            Form::First => (FIRST, &[]),
            Form::Later => (LATER, LAYER4),
        };
        key.set(Field::NwFrag, fragment, u128::MAX);
        for field in hidden {
            key.set(*field, 0, u128::MAX);
        }
        key.rename(Field::NwProto, vars::fragment_proto().next());
        key
    }

    /// Whether a frame decides what this field holds at first, or what comes in with it.
    #[must_use]
    pub fn is_sent(field: Field) -> bool {
        let spec = field.spec();
        spec.is_slot_owner() && field != Field::NwFrag && Arrival::ANY.iter().any(|one| one.frees(field))
    }

    /// The bits of the key that neither a sender nor connection tracking chooses, by word.
    #[must_use]
    pub fn constant_bits() -> [u64; WORDS] {
        *CONSTANT
    }

    /// The value of the bits `mask` of a word, if all are known.
    #[must_use]
    pub fn known(&self, word: u8, mask: u64) -> Option<u64> {
        let (known, value) = self.word(word);
        (mask & !known == 0).then_some(value & mask)
    }

    /// The known ones among the bits `mask` of a word, the others zero.
    #[must_use]
    pub fn value(&self, word: u8, mask: u64) -> u64 {
        self.word(word).1 & mask
    }

    /// Whether the bits `mask` of a word are unknown, and as they were sent.
    #[must_use]
    pub fn is_as_sent(&self, word: u8, mask: u64) -> bool {
        let start = u16::from(word) * 64;
        let touches = |run: &Renamed| {
            (run.start.max(start)..(run.start + run.width).min(start + 64))
                .any(|bit| mask & (1 << (63 - (bit - start))) != 0)
        };
        self.word(word).0 & mask == 0 && !self.renamed.iter().any(touches)
    }

    /// The key without those bits that are not `live`: they are zero, whatever they were.
    #[must_use]
    pub fn only(&self, live: &[u64; WORDS]) -> Self {
        let mut key = self.clone();
        for (at, live) in live.iter().enumerate() {
            key.update(MaskedWord { word: at as u8, value: 0, mask: !live }, true);
        }
        let is_live = |bit: u16| {
            let word = live.get(usize::from(bit / 64)).copied().unwrap_or(u64::MAX);
            word >> (63 - bit % 64) & 1 == 1
        };
        key.renamed.retain(|run| (run.start..run.start + run.width).any(is_live));
        key
    }

    /// Whether any bit is what connection tracking answered at nesting `depth`.
    #[must_use]
    pub fn shows_answer(&self, depth: u16) -> bool {
        let answers = vars::answers(depth);
        let shows = |run: &Renamed| run.first.0 < answers.end && answers.start < run.first.0 + run.width;
        self.renamed.iter().any(shows) || self.stacked().any(|var| answers.contains(&var.0))
    }

    /// The key without the values of its known bits: what a flow takes of packets under it depends on no more, once
    /// [`SymKey::may_match`] says that these fit.
    #[must_use]
    pub fn view(&self) -> Self {
        Self { value: [0; WORDS], ..self.clone() }
    }

    /// Takes a field that is as it was sent for known.
    pub fn assume(&mut self, field: Field, value: u128) {
        self.set(field, value, u128::MAX);
    }

    /// Takes back what [`SymKey::assume`] did.
    pub fn forget(&mut self, field: Field) {
        self.release(field);
    }

    /// Whether all of a field is as it was sent, and shown nowhere else.
    #[must_use]
    pub fn is_only_as_sent(&self, field: Field) -> bool {
        let spec = field.spec();
        let sent = spec.offset..spec.offset + spec.width;
        let shows = |run: &Renamed| {
            run.first.0 < sent.end && sent.start < run.first.0 + run.width
                || run.start < sent.end && sent.start < run.start + run.width
        };
        masked_words(field, 0, u128::MAX).all(|part| self.word(part.word).0 & part.mask == 0)
            && !self.renamed.iter().any(shows)
            && !self.stacked().any(|var| sent.contains(&var.0))
    }

    /// Whether the known bits are as the match wants them.
    #[must_use]
    pub fn may_match(&self, matching: &Match) -> bool {
        matching.words().iter().all(|part| {
            let (known, value) = self.word(part.word);
            (value ^ part.value) & part.mask & known == 0
        })
    }

    /// What a packet must have been sent as to match, whatever the constant bits are.
    #[must_use]
    pub fn as_sent(matching: &Match) -> Vec<Literal> {
        let constant = Self::constant_bits();
        let (renamed, stack) = (Vec::new(), Vec::new());
        let mut key = Self { known: constant, value: [0; WORDS], renamed, stack };
        for part in matching.words() {
            let mask = part.mask & constant.get(usize::from(part.word)).copied().unwrap_or(0);
            key.update(MaskedWord { word: part.word, value: part.value & mask, mask }, true);
        }
        key.wanted(matching).unwrap_or_default()
    }

    fn fragment(&self) -> Option<u128> {
        self.constant(Subfield::whole(Field::NwFrag))
    }

    /// The key as table lookup sees it: ports, and ICMP type and code, are zero in any fragment.
    #[must_use]
    pub fn seen(&self) -> Self {
        let mut seen = self.clone();
        if self.fragment() == Some(FIRST) {
            seen.set(Field::TcpSrc, 0, u128::MAX);
            seen.set(Field::TcpDst, 0, u128::MAX);
        }
        seen
    }

    /// The same key once `ct()` has put the datagram together again.
    pub fn reassemble(&mut self) {
        let missing: &[Field] = if self.fragment() == Some(LATER) { LAYER4 } else { &[] };
        self.set(Field::NwFrag, 0, u128::MAX);
        for field in missing.iter().chain(&[Field::NwProto]) {
            self.release(*field);
        }
    }

    /// The answer of a `ct()` at nesting `depth`: no NAT, the rest unknown. `+trk` is known unless the packet `may_be_overdue`:
    /// a fragment that waited in vain for the rest of its train.
    pub fn track(&mut self, depth: u16, may_be_overdue: bool) {
        for field in vars::tracked_fields() {
            self.rename(field, vars::tracked(depth, field).next());
        }
        let unknown = tracked_state::UNKNOWN | if may_be_overdue { tracked_state::TRK } else { 0 };
        self.set(Field::CtState, u128::from(tracked_state::TRK), !u128::from(unknown));
    }

    /// Whether there is a second tag, which only `push_vlan` shows.
    #[must_use]
    pub fn second_tag(&self) -> Bit {
        self.presence(Field::InnerVlanTci)
    }

    /// Whether there is a tag.
    #[must_use]
    pub fn tag(&self) -> Bit {
        self.presence(Field::VlanTci)
    }

    fn presence(&self, tci: Field) -> Bit {
        const PRESENT: u16 = 12;
        let spec = tci.spec();
        self.bit(spec.offset + spec.width - 1 - PRESENT)
    }

    /// As after `ct_clear`, or after a `ct()` for the actions that follow it.
    pub fn untrack(&mut self) {
        for field in vars::tracked_fields().chain([Field::CtZone]) {
            self.set(field, 0, u128::MAX);
        }
    }

    fn word(&self, word: u8) -> (u64, u64) {
        let at = usize::from(word);
        (self.known.get(at).copied().unwrap_or(u64::MAX), self.value.get(at).copied().unwrap_or(0))
    }

    fn update(&mut self, part: MaskedWord, known: bool) {
        let at = usize::from(part.word);
        if let (Some(k), Some(v)) = (self.known.get_mut(at), self.value.get_mut(at)) {
            *k = if known { *k | part.mask } else { *k & !part.mask };
            *v = *v & !part.mask | if known { part.value } else { 0 };
        }
    }

    fn forget_names(&mut self, start: u16, width: u16) {
        let end = start + width;
        let old = std::mem::take(&mut self.renamed);
        for run in old {
            let run_end = run.start + run.width;
            if run.start < start {
                self.renamed.push(Renamed { width: run.width.min(start - run.start), ..run.clone() });
            }
            if run_end > end {
                let cut = end.saturating_sub(run.start);
                let first = Var(run.first.0 + cut);
                self.renamed.push(Renamed { start: run.start + cut, width: run.width - cut, first });
            }
        }
        self.renamed.sort_unstable_by_key(|run| run.start);
    }

    /// Makes `field` what the sender chose.
    fn release(&mut self, field: Field) {
        let spec = field.spec();
        self.forget_names(spec.offset, spec.width);
        for part in masked_words(field, 0, u128::MAX) {
            self.update(part, false);
        }
    }

    /// Makes `field` the run of variables that begins at `first`.
    fn rename(&mut self, field: Field, first: Option<Var>) {
        self.release(field);
        let spec = field.spec();
        self.renamed.extend(first.map(|first| Renamed { start: spec.offset, width: spec.width, first }));
        self.renamed.sort_unstable_by_key(|run| run.start);
    }

    /// Sets those bits of `field` that `mask` selects.
    pub fn set(&mut self, field: Field, value: u128, mask: u128) {
        for part in masked_words(field, value, mask) {
            self.update(part, true);
        }
        if mask & low_bits(field.spec().width) == low_bits(field.spec().width) {
            self.forget_names(field.spec().offset, field.spec().width);
        }
    }

    /// One bit, by its offset in the key.
    #[must_use]
    pub fn bit(&self, offset: u16) -> Bit {
        let (known, value) = self.word((offset / 64) as u8);
        let mask = 1 << (63 - offset % 64);
        if known & mask != 0 {
            return Bit::Known(value & mask != 0);
        }
        let run = self.renamed.iter().find(|run| (run.start..run.start + run.width).contains(&offset));
        Bit::Free(run.map_or(Var(offset), |run| Var(run.first.0 + offset - run.start)))
    }

    fn set_bit(&mut self, offset: u16, bit: Bit) {
        let mask = 1 << (63 - offset % 64);
        let part = |value| MaskedWord { word: (offset / 64) as u8, value, mask };
        self.forget_names(offset, 1);
        match bit {
            Bit::Known(on) => self.update(part(if on { mask } else { 0 }), true),
            Bit::Free(var) => {
                self.update(part(0), false);
                if var != Var(offset) {
                    self.renamed.push(Renamed { start: offset, width: 1, first: var });
                    self.renamed.sort_unstable_by_key(|run| run.start);
                }
            }
        }
    }

    /// Copies a run of bits, as `move:src->dst` does where the packet has both.
    pub fn copy(&mut self, src: Subfield, dst: Subfield) {
        self.copy_from(&self.clone(), src, dst);
    }

    /// The same from another key.
    pub(crate) fn copy_from(&mut self, from: &Self, src: Subfield, dst: Subfield) {
        let offset =
            |part: Subfield, i: u16| part.field.spec().offset + part.field.spec().width - 1 - part.start - i;
        let bits: Vec<Bit> = (0..src.width).map(|i| from.bit(offset(src, i))).collect();
        for (i, bit) in (0..dst.width).zip(bits) {
            self.set_bit(offset(dst, i), bit);
        }
    }

    /// `push:part`
    pub fn push(&mut self, part: Subfield) {
        let spec = part.field.spec();
        let last = spec.offset + spec.width - 1 - part.start;
        self.stack.push((0..part.width).map(|i| self.bit(last - i)).collect());
    }

    /// `pop:part`; nothing where the stack is empty.
    pub fn pop(&mut self, part: Subfield) {
        let Some(bits) = self.stack.pop() else { return };
        let spec = part.field.spec();
        let last = spec.offset + spec.width - 1 - part.start;
        for i in 0..part.width {
            let bit = bits.get(usize::from(i)).copied().unwrap_or(Bit::Known(false));
            self.set_bit(last - i, bit);
        }
    }

    /// The variables that the stack shows.
    pub(crate) fn stacked(&self) -> impl Iterator<Item = Var> {
        self.stack.iter().flatten().filter_map(|bit| if let Bit::Free(var) = bit { Some(*var) } else { None })
    }

    /// Whether both have the same on their stacks.
    pub(crate) fn has_stack_of(&self, other: &Self) -> bool {
        self.stack == other.stack
    }

    /// Takes over what another key has on its stack.
    pub(crate) fn take_stack_of(&mut self, other: &Self) {
        self.stack.clone_from(&other.stack);
    }

    /// The value of a run of bits, if all are known.
    #[must_use]
    pub fn constant(&self, part: Subfield) -> Option<u128> {
        let last = part.field.spec().offset + part.field.spec().width - 1 - part.start;
        (0..part.width).try_fold(0, |sum, i| match self.bit(last - i) {
            Bit::Known(on) => Some(sum | u128::from(on) << i),
            Bit::Free(_) => None,
        })
    }

    /// What a packet with this key must look like to match: `None` if the known bits already differ.
    #[must_use]
    pub fn wanted(&self, matching: &Match) -> Option<Vec<Literal>> {
        if !self.may_match(matching) {
            return None;
        }
        let mut literals = Vec::new();
        for part in matching.words() {
            let mut rest = part.mask & !self.word(part.word).0;
            while rest != 0 {
                let at = rest.leading_zeros() as u16;
                rest &= !(1 << (63 - at));
                let on = part.value >> (63 - at) & 1 == 1;
                if let Bit::Free(var) = self.bit(u16::from(part.word) * 64 + at) {
                    literals.push((var, on));
                }
            }
        }
        Some(literals)
    }
}

/// Which bits of `ct_state` a `ct()` may answer.
pub mod tracked_state {
    use flowproof_switch::conntrack::state;

    /// Set after a `ct()`, unless a fragment is overdue.
    pub const TRK: u32 = state::TRK;
    /// Left to connection tracking; NAT is not modelled.
    pub const UNKNOWN: u32 = state::NEW | state::EST | state::REL | state::RPL | state::INV;
    /// What the host may say of a packet that it has tracked.
    pub const OPEN: u32 = state::NEW | state::EST | state::REL | state::RPL | state::SNAT | state::DNAT;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(field: Field, value: u128) -> Match {
        let mut wanted = Match::default();
        wanted.set(field, value, u128::MAX);
        wanted
    }

    #[test]
    fn known_bits_decide_and_unknown_bits_become_literals() {
        let key = SymKey::entering(13, Form::Whole, Arrival::Ordinary);
        assert_eq!(key.wanted(&matching(Field::InPort, 13)), Some(vec![]));
        assert_eq!(key.wanted(&matching(Field::InPort, 10)), None);
        assert_eq!(key.wanted(&matching(Field::DlType, 0x800)).unwrap().len(), 16);
        assert_eq!(key.wanted(&matching(Field::CtState, 0)), Some(vec![]));
    }

    #[test]
    fn fragments_hide_layer_four_until_reassembled() {
        let mut key = SymKey::entering(13, Form::Later, Arrival::Ordinary);
        assert_eq!(key.wanted(&matching(Field::TcpDst, 67)), None);
        let shown: Vec<Var> =
            key.wanted(&matching(Field::NwProto, 17)).unwrap().into_iter().map(|l| l.0).collect();
        assert_eq!(shown, vars::fragment_proto().collect::<Vec<_>>());
        key.reassemble();
        let seen: Vec<Var> =
            key.wanted(&matching(Field::TcpDst, 67)).unwrap().into_iter().map(|l| l.0).collect();
        assert_eq!(seen, vars::sent(Field::TcpDst).collect::<Vec<_>>());
        assert_eq!(key.wanted(&matching(Field::NwFrag, 0)), Some(vec![]));
    }

    #[test]
    fn actions_read_the_ports_of_a_first_fragment_that_lookup_does_not_see() {
        let mut key = SymKey::entering(13, Form::First, Arrival::Ordinary);
        assert_eq!(key.seen().wanted(&matching(Field::TcpDst, 67)), None);
        let reg0 = Subfield { field: Field::Reg0, start: 0, width: 16 };
        key.copy(Subfield::whole(Field::TcpDst), reg0);
        let port: Vec<Var> = vars::sent(Field::TcpDst).collect();
        let read: Vec<Var> = key.wanted(&matching(Field::Reg0, 67)).unwrap().iter().map(|l| l.0).collect();
        assert_eq!(read, port);
        key.set(Field::TcpDst, 80, u128::MAX);
        assert_eq!(key.seen().wanted(&matching(Field::TcpDst, 80)), None);
        key.reassemble();
        assert_eq!(key.seen().wanted(&matching(Field::TcpDst, 80)), Some(vec![]));
    }

    #[test]
    fn a_second_tag_is_seen_only_after_a_push() {
        let mut key = SymKey::entering(13, Form::Whole, Arrival::Ordinary);
        assert_eq!(key.second_tag(), Bit::Known(false));
        key.copy(Subfield::whole(Field::VlanTci), Subfield::whole(Field::InnerVlanTci));
        assert_eq!(key.second_tag(), Bit::Free(vars::sent(Field::VlanTci).nth(3).unwrap()));
    }

    #[test]
    fn tracking_leaves_five_state_bits_open_and_untracking_none() {
        let mut key = SymKey::entering(13, Form::Whole, Arrival::Ordinary);
        key.track(0, false);
        assert_eq!(key.wanted(&matching(Field::CtState, 0x21)).unwrap().len(), 5);
        assert_eq!(key.wanted(&matching(Field::CtState, 0x01)), None);
        key.untrack();
        assert_eq!(key.wanted(&matching(Field::CtState, 0)), Some(vec![]));
        assert_eq!(key, SymKey::entering(13, Form::Whole, Arrival::Ordinary));
    }

    #[test]
    fn moved_bits_keep_their_names() {
        let mut key = SymKey::entering(13, Form::Whole, Arrival::Ordinary);
        key.set(Field::Reg3, 0xabcd, u128::MAX);
        key.copy(Subfield::whole(Field::DlSrc), Subfield { field: Field::Xxreg0, start: 0, width: 48 });
        let literals = key.wanted(&matching(Field::Reg3, 5)).unwrap();
        let low: Vec<Var> = vars::sent(Field::DlSrc).skip(16).collect();
        assert_eq!(literals.iter().map(|l| l.0).collect::<Vec<_>>(), low);
        key.set(Field::Reg3, 7, u128::MAX);
        assert_eq!(key.constant(Subfield::whole(Field::Reg3)), Some(7));
        assert_eq!(
            key.bit(Field::Reg2.spec().offset + 31),
            Bit::Free(vars::sent(Field::DlSrc).nth(15).unwrap())
        );
    }
}
