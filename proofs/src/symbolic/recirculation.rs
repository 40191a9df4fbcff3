//! What becomes of packets at `ct()`: who is asked, what may be answered, and where packets come back to.
//!
//! What it means: a copy goes on in the table that is named, as connection tracking shows it, read again from its frame; the rest
//! of the list goes on untracked. Invariant: answers are legal ones, by datapath and form. Deliberately absent: what lies behind a
//! second tag, and translations that a flow begins.

use super::{Emit, Execution, SECOND_TAG, State, UNCLEAR_TAG, is_unmodelled, legal_answers, may_be_overdue};
use crate::{
    rewrite::reread,
    set::PacketSets,
    sweep::Scope,
    symkey::{Bit, Form},
};
use flowproof_packet::Field;
use flowproof_switch::flow::{Ct, Zone};
use std::collections::BTreeMap;

impl<S: PacketSets> Execution<'_, S> {
    /// `ct()`: with a table a tracked copy goes on there; either way the rest of the list goes on untracked.
    pub(super) fn ct(&mut self, ct: &Ct, mut state: State<S::Set>) -> Vec<State<S::Set>> {
        if is_unmodelled(ct, self.tables) {
            self.emit(Emit::Opaque("ct() with nat or alg".to_owned()), &state);
            return Vec::new();
        }
        let more = state.recirculations < self.recirculations();
        // A sweep that does not mind how often packets came back would take what is behind for explored.
        self.cut |= ct.table.is_some() && !more && self.scope() != Scope::One;
        if let Some(table) = ct.table.filter(|_| more) {
            let mut copy = state.clone();
            let depth = self.answer_place(&mut copy);
            let zone = match ct.zone {
                Zone::Const(zone) => Some(u128::from(zone)),
                Zone::Field(part) => copy.key.constant(part),
            };
            let roomy = self.scope() != Scope::One;
            copy.key.track(depth, roomy || may_be_overdue(self.profile, self.form));
            match zone {
                Some(zone) => copy.key.set(Field::CtZone, zone, u128::MAX),
                None => self.emit(Emit::Opaque("ct() in a zone taken from the packet".to_owned()), &copy),
            }
            if self.form != Form::Whole && self.profile.reassembles() {
                copy.key.reassemble();
            }
            copy.recirculations += 1;
            self.recirculated(copy.recirculations);
            (copy.depth, copy.calls) = (0, 0);
            if self.scope() == Scope::Every {
                copy.packets = self.put_together(copy.packets);
            }
            let legal = match self.scope() {
                Scope::One | Scope::First => self.legal(depth),
                Scope::Every => self.legal_anywhere(depth),
            };
            copy.packets = self.sets.and(copy.packets, legal);
            for copy in self.rewritten(reread(&copy.key), copy) {
                let copy = self.without_second_tag(copy);
                self.recirculate(table, copy);
            }
        }
        state.key.untrack();
        vec![state]
    }

    /// A packet comes back to a table: at once, or together with others later.
    fn recirculate(&mut self, table: u8, copy: State<S::Set>) {
        if self.sets.is_empty(copy.packets) {
            return;
        }
        if self.waiting.is_none() {
            let outside = std::mem::take(&mut self.reach);
            self.enter(table, None, copy, true);
            self.reach = outside;
            return;
        }
        // Where a destination is taken for known, the key says which.
        let place = (copy.recirculations, table, copy.pin.is_some(), copy.key.clone());
        let waiting = self.waiting.get_or_insert_default();
        match waiting.get_mut(&place) {
            Some(others) => others.packets = self.sets.or(others.packets, copy.packets),
            None => drop(waiting.insert(place, copy)),
        }
    }

    /// Follows those that wait, the ones that came back least often first.
    pub(super) fn come_back(&mut self) {
        while let Some(((_, table, ..), state)) = self.waiting.as_mut().and_then(BTreeMap::pop_first) {
            if self.stopped() {
                return;
            }
            self.reach = (0, 0);
            self.enter(table, None, state, true);
        }
    }

    fn legal(&mut self, depth: u16) -> S::Set {
        let key = (self.profile, self.form, depth);
        if let Some(known) = self.memory.legal.get(&key) {
            return *known;
        }
        let legal = legal_answers(self.sets, self.profile, self.form, depth);
        self.memory.legal.insert(key, legal);
        legal
    }

    /// Whether a tag is changed or another one comes around it a dump does not tell: of frames that have one nothing is known
    /// from there on.
    pub(super) fn without_tag(&mut self, state: State<S::Set>) -> State<S::Set> {
        let tag = state.key.tag();
        self.without(tag, UNCLEAR_TAG, state)
    }

    /// A recirculated frame is read again, and behind a second tag nothing is seen; that is not modelled.
    fn without_second_tag(&mut self, state: State<S::Set>) -> State<S::Set> {
        let tag = state.key.second_tag();
        self.without(tag, SECOND_TAG, state)
    }

    /// What is left of packets where nothing is known of those that have a bit set.
    fn without(&mut self, bit: Bit, what: &str, mut state: State<S::Set>) -> State<S::Set> {
        let having = match bit {
            Bit::Known(false) => return state,
            Bit::Known(true) => self.sets.all(),
            Bit::Free(var) => self.sets.cube(&[(var, true)]),
        };
        let lost = State { packets: self.sets.and(state.packets, having), ..state.clone() };
        self.emit(Emit::Opaque(what.to_owned()), &lost);
        state.packets = self.sets.minus(state.packets, having);
        state
    }
}
