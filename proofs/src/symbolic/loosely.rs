//! Frames of every form on every datapath, in one sweep.
//!
//! A fragment here is a packet that shows what table lookup sees of it, with `nw_frag` for a variable; where connection
//! tracking might put it together, anything may be in layer 4 from then on; and connection tracking answers what it may on
//! any datapath. That is more than there is: only what such a sweep does *not* find is certain.
//!
//! Invariant: what any form of frame does on any datapath is among what the sweep finds, in tables whose actions neither read
//! nor write what a fragment hides ([`is_plain`]).

use super::{Execution, legal_answers};
use crate::{
    arrival::Arrival,
    effects::touched,
    frames,
    predicate::Predicate,
    set::PacketSets,
    sweep::Scope,
    symkey::{FIRST, Form, LATER, LAYER4, SymKey},
    tables::Tables,
    vars::Var,
};
use flowproof_packet::Field;
use flowproof_switch::conntrack::Profile;

/// What a `ct()` may change of a fragment by putting it together.
const MORE: [Field; 2] = [Field::NwProto, Field::NwFrag];

/// Whether no action reads or writes what a fragment hides.
pub(crate) fn is_plain(tables: &Tables) -> bool {
    tables
        .flows()
        .iter()
        .flat_map(|flow| &flow.actions)
        .flat_map(touched)
        .flatten()
        .all(|field| !is_hidden(field))
}

fn is_hidden(field: Field) -> bool {
    hidden().any(|hidden| hidden.overlaps(field))
}

fn hidden() -> impl Iterator<Item = Field> {
    LAYER4.iter().copied().chain(MORE)
}

/// Whether the bit is one that a fragment hides.
pub(crate) fn hides(var: Var) -> bool {
    hidden().map(Field::spec).any(|spec| (spec.offset..spec.offset + spec.width).contains(&var.0))
}

/// The key that such frames enter with, anywhere.
pub(crate) fn key(arrival: Arrival) -> SymKey {
    let mut key = SymKey::entering_anywhere(Form::Whole, arrival);
    key.forget(Field::NwFrag);
    key
}

/// Whole frames.
pub(crate) fn wholes<S: PacketSets>(sets: &mut S) -> S::Set {
    let (all, whole) = (frames::sendable(sets, Form::Whole), form(0).to_set(sets));
    sets.and(all, whole)
}

/// Frames of every form.
pub(crate) fn every<S: PacketSets>(sets: &mut S) -> S::Set {
    let zero =
        |fields: &[Field]| Predicate::All(fields.iter().map(|field| Predicate::is(*field, 0u8)).collect());
    let ip = Predicate::one_of(Field::DlType, [0x0800u16, 0x86dd]);
    let first = form(FIRST).and(zero(&[Field::TcpSrc, Field::TcpDst]));
    let pieces = ip.and(first.or(form(LATER).and(zero(LAYER4))));
    let seen = frames::well_formed().and(form(0).or(pieces));
    seen.to_set(sets)
}

fn form(fragment: u128) -> Predicate {
    Predicate::is(Field::NwFrag, fragment)
}

impl<S: PacketSets> Execution<'_, S> {
    pub(super) fn scope(&self) -> Scope {
        self.sweep.as_ref().map_or(Scope::One, |sweep| sweep.scope)
    }

    /// How often a packet may come back.
    pub(super) fn recirculations(&self) -> u16 {
        match self.scope() {
            Scope::One | Scope::First => u16::from(self.profile.recirculations()),
            Scope::Every => {
                Profile::ALL.iter().map(|profile| u16::from(profile.recirculations())).max().unwrap_or(0)
            }
        }
    }

    /// What may become of packets that connection tracking puts together or holds.
    pub(super) fn put_together(&mut self, packets: S::Set) -> S::Set {
        let whole = form(0).to_set(self.sets);
        let pieces = self.sets.minus(packets, whole);
        let anything = self.sets.exists(pieces, &hides);
        self.sets.or(packets, anything)
    }

    /// What connection tracking may answer at a depth, on any datapath to any form.
    pub(super) fn legal_anywhere(&mut self, depth: u16) -> S::Set {
        if let Some(known) = self.memory.anywhere.get(&depth) {
            return *known;
        }
        let mut legal = self.sets.none();
        for (profile, form) in
            Profile::ALL.into_iter().flat_map(|profile| Form::ALL.map(|form| (profile, form)))
        {
            let answers = legal_answers(self.sets, profile, form, depth);
            legal = self.sets.or(legal, answers);
        }
        self.memory.anywhere.insert(depth, legal);
        legal
    }
}
