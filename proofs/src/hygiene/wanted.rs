//! Bits that a key must have, and what it must have had before some actions.
//!
//! Deliberately approximate: what a called table writes is not known, and a packet that does not have a field is not thought of.
//! Who relies on it sends the packet and looks.

use crate::vars;
use flowproof_packet::{
    Field, FlowKey,
    key::{MaskedWord, WORDS, low_bits, masked_words},
};
use flowproof_switch::flow::{Action, Ct, Match, Subfield, Zone};

/// Some bits of a key, each with the value it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mask: FlowKey,
    pub(super) value: FlowKey,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { mask: FlowKey::zero(), value: FlowKey::zero() }
    }
}

/// The tag is there (ovs-fields(7), `vlan_tci`).
const PRESENT: u128 = 0x1000;

impl Wanted {
    /// Wants a part of a word, too; nothing if another value is wanted there.
    fn require(&mut self, part: MaskedWord) -> Option<()> {
        let at = usize::from(part.word);
        let both = self.mask.word(at) & part.mask;
        if (self.value.word(at) ^ part.value) & both != 0 {
            return None;
        }
        self.mask.set_word(at, u64::MAX, part.mask);
        self.value.set_word(at, part.value, part.mask);
        Some(())
    }

    fn require_field(&mut self, field: Field, value: u128, mask: u128) -> Option<()> {
        masked_words(field, value, mask).try_for_each(|part| self.require(part))
    }

    /// Wants what a flow matches, too.
    pub(super) fn require_match(&mut self, matching: &Match) -> Option<()> {
        matching.words().iter().try_for_each(|part| self.require(*part))
    }

    /// Value and mask of what is wanted of a field.
    pub(super) fn get(&self, field: Field) -> (u128, u128) {
        (self.value.get(field), self.mask.get(field))
    }

    /// The same, and it is wanted no longer.
    pub(super) fn take(&mut self, field: Field, mask: u128) -> (u128, u128) {
        let (value, wanted) = self.get(field);
        self.value.set_masked(field, 0, mask);
        self.mask.set_masked(field, 0, mask);
        (value & mask, wanted & mask)
    }

    /// Wants it no longer, if it is as it is wanted.
    fn written(&mut self, field: Field, value: u128, mask: u128) -> Option<()> {
        let (wanted, bits) = self.take(field, mask);
        ((wanted ^ value) & bits == 0).then_some(())
    }

    fn moved(&mut self, src: Subfield, dst: Subfield) -> Option<()> {
        let bits = low_bits(dst.width);
        let (value, mask) = self.take(dst.field, bits << dst.start);
        let onto = |bits: u128| bits >> dst.start << src.start;
        self.require_field(src.field, onto(value), onto(mask))
    }

    /// Makes it what was wanted before these actions of a flow; nothing if they never leave a packet as it is wanted.
    pub(super) fn before(&mut self, actions: &[Action]) -> Option<()> {
        let mut closed = 0_u32;
        actions.iter().rev().try_for_each(|action| {
            // What a copy does is forgotten, unless it goes on from there.
            if matches!(action, Action::End) {
                closed += 1;
            } else if matches!(action, Action::Begin(_)) {
                closed = closed.saturating_sub(1);
            } else if closed == 0 {
                return self.before_one(action);
            }
            Some(())
        })
    }

    fn before_one(&mut self, action: &Action) -> Option<()> {
        match action {
            Action::Set { field, value, mask, .. } => self.written(*field, *value, *mask),
            Action::Move { src, dst } => self.moved(*src, *dst),
            Action::ModVlanVid(vid) => {
                self.written(Field::VlanTci, PRESENT | u128::from(*vid), PRESENT | 0xfff)
            }
            Action::RetagUnclear { bits, mask } => {
                self.written(Field::VlanTci, PRESENT | u128::from(*bits), PRESENT | u128::from(*mask))
            }
            Action::ModVlanPcp(pcp) => {
                self.written(Field::VlanTci, PRESENT | u128::from(*pcp) << 13, PRESENT | 0xe000)
            }
            // Frames come in with one tag at most.
            Action::StripVlan => self.written(Field::VlanTci, 0, u128::MAX),
            Action::PushVlan(_) => self.written(Field::VlanTci, PRESENT, u128::MAX),
            Action::Ct(_) | Action::CtClear => self.untracked(),
            // What a stack or a length says cannot be wanted.
            Action::Pop(dst) | Action::CheckPktLarger { dst, .. } => {
                self.take(dst.field, low_bits(dst.width) << dst.start);
                Some(())
            }
            Action::Output(_)
            | Action::OutputField(_)
            | Action::Controller(_)
            | Action::Resubmit { .. }
            | Action::GotoTable(_)
            | Action::DecTtl(_)
            | Action::Conjunction(_)
            | Action::Note(_)
            | Action::SetQueue(_)
            | Action::PopQueue
            | Action::Push(_)
            | Action::Clone(_)
            | Action::Exit
            | Action::Group(_)
            | Action::Meter(_)
            | Action::Learn(_)
            | Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::DecMplsTtl
            | Action::WriteActions(_)
            | Action::ClearActions
            | Action::OutputTruncated { .. }
            | Action::Enqueue { .. }
            | Action::Begin(_)
            | Action::End
            | Action::Opaque(_) => Some(()),
        }
    }

    fn untracked(&mut self) -> Option<()> {
        vars::tracked_fields().chain([Field::CtZone]).try_for_each(|field| self.written(field, 0, u128::MAX))
    }

    /// Makes it what was wanted before a call to another table; what the connection tracker must answer there, if it is asked.
    pub(super) fn before_call(&mut self, action: &Action) -> Option<Option<Self>> {
        if let Action::Resubmit { port: Some(port), .. } = action {
            self.written(Field::InPort, u128::from(*port), u128::MAX)?;
        }
        if let Action::Ct(ct) = action { self.before_tracking(ct).map(Some) } else { Some(None) }
    }

    fn before_tracking(&mut self, ct: &Ct) -> Option<Self> {
        let mut answer = Self::default();
        for field in vars::tracked_fields() {
            let (value, mask) = self.take(field, u128::MAX);
            answer.require_field(field, value, mask)?;
        }
        let (zone, mask) = self.take(Field::CtZone, u128::MAX);
        match ct.zone {
            Zone::Const(number) => ((zone ^ u128::from(number)) & mask == 0).then_some(())?,
            Zone::Field(part) => self.require_field(part.field, zone << part.start, mask << part.start)?,
        }
        Some(answer)
    }

    /// Whether nothing is wanted but what the `free` bits can give: the others are what they are at first.
    pub(super) fn is_initial_but_for(&self, free: &[u64; WORDS]) -> bool {
        let initial = FlowKey::default();
        let words = self.value.words().iter().zip(self.mask.words()).zip(initial.words()).zip(free);
        words.into_iter().all(|(((value, mask), initial), free)| (value ^ initial) & mask & !free == 0)
    }

    /// Whether a key has in these fields what is wanted.
    pub(super) fn allows(&self, key: &FlowKey, fields: &[Field]) -> bool {
        fields.iter().all(|field| {
            let (value, mask) = self.get(*field);
            (key.get(*field) ^ value) & mask == 0
        })
    }

    /// A key with the wanted bits changed to what is wanted.
    pub(super) fn imposed_on(&self, key: &FlowKey) -> FlowKey {
        let mut key = key.clone();
        for (at, (value, mask)) in self.value.words().iter().zip(self.mask.words()).enumerate() {
            key.set_word(at, *value, *mask);
        }
        key
    }
}
