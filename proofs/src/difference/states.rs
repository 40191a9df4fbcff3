//! Which differences nobody can see: in states that no connection is in, and in what changes nothing.
//!
//! What is left out is certain: only errors are related and only answers answer ([`crate::intent`] has the table), a
//! packet that is looked up twice in one zone, with nothing committed before, is answered twice alike, and a connection has
//! no mark that neither table gives it. Deliberately absent: everything else that no sequence of packets leads to.

use super::{
    deeds::{Deed, Way},
    find::{Class, Found, Question},
    places::combination,
};
use crate::{
    arrival::Arrival,
    bdd::Bdd,
    effects::is_modelled,
    intent::plausible,
    set::{Literal, PacketSets},
    symkey::Form,
    vars::{self, Var},
};
use flowproof_packet::Field;
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Flow},
};
use std::collections::BTreeSet;

/// The flags of `ct_state` that are told apart, from the least significant.
const FLAGS: usize = 6;

impl Found {
    /// Those packets of a class that are in a state that some connection can be in, as far as that is certain.
    pub fn reachable(&mut self, question: &Question<'_>, class: &Class) -> Bdd {
        let marks = marks([question.a.flows(), question.b.flows()].into_iter().flatten());
        let mut packets = class.packets;
        for depth in 0..self.depth {
            if let Some(marks) = &marks {
                let marked = self.marked(depth, marks);
                packets = self.sets.and(packets, marked);
            }
            let mut possible = self.sets.none();
            for profile in Profile::ALL {
                let answers = plausible(&mut self.sets, profile, depth);
                for (form, arrival) in
                    Form::ALL.into_iter().flat_map(|form| Arrival::ANY.map(|one| (form, one)))
                {
                    let here = self.sets.cube(&combination(form, profile, arrival));
                    let here = self.sets.and(here, answers);
                    possible = self.sets.or(possible, here);
                }
            }
            packets = self.sets.and(packets, possible);
            if depth > 0 && class.asks_alike() {
                let alike = self.answered_as_before(depth, marks.as_ref());
                packets = self.sets.and(packets, alike);
            }
        }
        packets
    }

    /// The answers at `depth` with one of these marks.
    fn marked(&mut self, depth: u16, marks: &BTreeSet<u32>) -> Bdd {
        let none = self.sets.none();
        marks.iter().fold(none, |sum, mark| {
            let cube = self.sets.cube(&mark_is(depth, *mark));
            self.sets.or(sum, cube)
        })
    }

    /// The answers at `depth` with the flags of those before and, if there are only these, with their mark.
    fn answered_as_before(&mut self, depth: u16, marks: Option<&BTreeSet<u32>>) -> Bdd {
        let flags = |depth| vars::tracked(depth, Field::CtState).rev().take(FLAGS).collect::<Vec<Var>>();
        let (before, now) = (flags(depth - 1), flags(depth));
        let mut alike = self.sets.none();
        for state in 0..1u32 << FLAGS {
            let both = [&before, &now].into_iter().flat_map(|flags| flags.iter().enumerate());
            let literals: Vec<_> = both.map(|(bit, var)| (*var, state >> bit & 1 == 1)).collect();
            let cube = self.sets.cube(&literals);
            alike = self.sets.or(alike, cube);
        }
        let Some(marks) = marks else { return alike };
        let none = self.sets.none();
        let marked = marks.iter().fold(none, |sum, mark| {
            let both = [depth - 1, depth].map(|depth| mark_is(depth, *mark)).concat();
            let cube = self.sets.cube(&both);
            self.sets.or(sum, cube)
        });
        self.sets.and(alike, marked)
    }
}

/// The answers at `depth` with a mark.
fn mark_is(depth: u16, mark: u32) -> Vec<Literal> {
    let bits = vars::tracked(depth, Field::CtMark).rev().enumerate();
    bits.map(|(bit, var)| (var, mark >> bit & 1 == 1)).collect()
}

/// The marks that connections have under these flows; nothing if that is not known.
fn marks<'f>(flows: impl Iterator<Item = &'f Flow>) -> Option<BTreeSet<u32>> {
    let mut marks = BTreeSet::from([0]);
    let mut take = |action: &Action| {
        let Action::Set { field, value, mask, .. } = action else { return None };
        if *field != Field::CtMark {
            return Some(());
        }
        marks.insert(*value as u32);
        (*mask as u32 == u32::MAX).then_some(())
    };
    flows.flat_map(|flow| &flow.actions).try_for_each(|action| {
        if !is_modelled(action) {
            return None;
        }
        let Action::Ct(ct) = action else { return Some(()) };
        ct.exec.iter().try_for_each(&mut take)
    })?;
    Some(marks)
}

impl Class {
    /// Whether all lookups are in one zone, with nothing committed by the same table before the last of them.
    fn asks_alike(&self) -> bool {
        let zones: BTreeSet<_> =
            self.a.iter().chain(&self.b).filter_map(tracked).map(|tracking| &tracking.zone).collect();
        let in_order = |deeds: &BTreeSet<Deed>| {
            let all = || deeds.iter().filter_map(tracked);
            let last = all().filter(|tracking| tracking.recirculates).map(|tracking| tracking.depth).max();
            let first =
                all().filter(|tracking| tracking.commit.is_some()).map(|tracking| tracking.depth).min();
            first.is_none_or(|first| last.is_none_or(|last| first > last))
        };
        zones.len() == 1 && [&self.a, &self.b].into_iter().all(in_order)
    }

    /// Whether the two only differ in what they ask connection tracking, and neither in what it keeps nor in what leaves.
    /// After how many lookups something is kept does not matter.
    #[must_use]
    pub fn only_asks(&self) -> bool {
        let lasting = |deeds: &BTreeSet<Deed>| -> BTreeSet<Deed> {
            let lasts = |deed: &&Deed| tracked(deed).is_none_or(|tracking| tracking.commit.is_some());
            let mut lasting: Vec<Deed> = deeds.iter().filter(lasts).cloned().collect();
            for deed in &mut lasting {
                if let Way::Tracked(tracking) = &mut deed.way {
                    tracking.depth = 0;
                }
            }
            lasting.into_iter().collect()
        };
        lasting(&self.a) == lasting(&self.b)
    }

    /// Whether all that the second does the first does, too, but for what only asks.
    #[must_use]
    pub fn only_withholds(&self) -> bool {
        let asks = |deed: &Deed| tracked(deed).is_some_and(|tracking| tracking.commit.is_none());
        self.b.iter().all(|deed| asks(deed) || self.a.contains(deed))
    }
}

fn tracked(deed: &Deed) -> Option<&super::deeds::Tracking> {
    if let Way::Tracked(tracking) = &deed.way { Some(tracking) } else { None }
}
