//! Which differences nobody can see: in states that no connection is in, and in what changes nothing.
//!
//! What is left out is certain: only errors are related and only answers answer ([`crate::intent`] has the table), and a
//! packet that is looked up twice in one zone, with nothing committed before, is answered twice alike. Deliberately
//! absent: everything else that no sequence of packets leads to.

use super::{
    deeds::{Deed, Way},
    find::{Class, Found},
    places::combination,
};
use crate::{
    bdd::Bdd,
    intent::plausible,
    set::PacketSets,
    symkey::Form,
    vars::{self, Var},
};
use flowproof_packet::Field;
use flowproof_switch::conntrack::Profile;
use std::collections::BTreeSet;

/// The flags of `ct_state` that are told apart, from the least significant.
const FLAGS: usize = 6;

impl Found {
    /// Those packets of a class that are in a state that some connection can be in, as far as that is certain.
    pub fn reachable(&mut self, class: &Class) -> Bdd {
        let mut packets = class.packets;
        for depth in 0..self.depth {
            let mut possible = self.sets.none();
            for profile in Profile::ALL {
                let answers = plausible(&mut self.sets, profile, depth);
                for form in Form::ALL {
                    let here = self.sets.cube(&combination(form, profile));
                    let here = self.sets.and(here, answers);
                    possible = self.sets.or(possible, here);
                }
            }
            packets = self.sets.and(packets, possible);
            if depth > 0 && class.asks_alike() {
                let alike = self.answered_as_before(depth);
                packets = self.sets.and(packets, alike);
            }
        }
        packets
    }

    /// The answers at `depth` with the flags of those before.
    fn answered_as_before(&mut self, depth: u16) -> Bdd {
        let flags = |depth| vars::tracked(depth, Field::CtState).rev().take(FLAGS).collect::<Vec<Var>>();
        let (before, now) = (flags(depth - 1), flags(depth));
        let mut alike = self.sets.none();
        for state in 0..1u32 << FLAGS {
            let both = [&before, &now].into_iter().flat_map(|flags| flags.iter().enumerate());
            let literals: Vec<_> = both.map(|(bit, var)| (*var, state >> bit & 1 == 1)).collect();
            let cube = self.sets.cube(&literals);
            alike = self.sets.or(alike, cube);
        }
        alike
    }
}

impl Class {
    /// Whether all lookups are in one zone, with nothing committed before the last of them.
    fn asks_alike(&self) -> bool {
        let all = || self.a.iter().chain(&self.b).filter_map(tracked);
        let zones: BTreeSet<_> = all().map(|tracking| &tracking.zone).collect();
        let last = all().filter(|tracking| tracking.recirculates).map(|tracking| tracking.depth).max();
        let first = all().filter(|tracking| tracking.commit.is_some()).map(|tracking| tracking.depth).min();
        zones.len() == 1 && first.is_none_or(|first| last.is_none_or(|last| first > last))
    }

    /// Whether the two only differ in what they ask connection tracking, and neither in what it keeps nor in what leaves.
    #[must_use]
    pub fn only_asks(&self) -> bool {
        let lasting = |deeds: &BTreeSet<Deed>| -> BTreeSet<Deed> {
            let lasts = |deed: &&Deed| tracked(deed).is_none_or(|tracking| tracking.commit.is_some());
            deeds.iter().filter(lasts).cloned().collect()
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
