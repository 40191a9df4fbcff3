//! Whether VLAN tags are kept, for all ports of a network at once.
//!
//! Every tagged frame gets far into the tables, to every receiver; so here the question is asked once for all senders of
//! a network, by a sweep. It says more than it must: where it finds that a tag may be lost, each port is asked alone.

use crate::{
    bdd::Bdds,
    diagram::Host,
    frames,
    live::Live,
    ports::Port,
    predicate::Predicate,
    properties::{Judge, Property, violation},
    set::PacketSets,
    sweep::Sweep,
    symbolic::{self, Memory, Start},
    symkey::{Form, SymKey},
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::conntrack::Profile;
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

const NODE_LIMIT: usize = 8_000_000;

/// The ports and datapaths of which it is certain that `property`, if it is about VLAN tags, holds; `spared` frames, for
/// which others stand, are not looked into.
#[must_use]
pub fn certain(
    host: &Host,
    ports: &[&Port],
    property: &Property,
    profiles: &[Profile],
    spared: &Predicate,
) -> BTreeSet<(PortNo, Profile)> {
    let mut groups: BTreeMap<(Option<u16>, bool), Vec<&Port>> = BTreeMap::new();
    for port in ports {
        groups.entry((port.network, host.is_access(port.ofport))).or_default().push(port);
    }
    let wanted = matches!(property.judge, Judge::KeepsVlan);
    let questions: Vec<(&Vec<&Port>, Profile)> =
        groups.values().flat_map(|group| profiles.iter().map(move |profile| (group, *profile))).collect();
    questions
        .par_iter()
        .with_max_len(1)
        .filter(|(group, profile)| wanted && keeps(host, group, property, *profile, spared))
        .flat_map_iter(|(group, profile)| group.iter().map(|port| (port.ofport, *profile)))
        .collect()
}

/// Whether no frame that any of the `group` sends, all of one network, loses its tag.
fn keeps(host: &Host, group: &[&Port], property: &Property, profile: Profile, spared: &Predicate) -> bool {
    let Some(first) = group.first() else { return true };
    let (mut sets, mut memory) = (Bdds::with_limit(NODE_LIMIT), Memory::default());
    let mut sweep = Sweep::widely(Rc::new(Live::new(&host.tables)));
    let members = host.members();
    let access = host.is_access(first.ofport);
    let senders = Predicate::one_of(Field::InPort, group.iter().map(|port| port.ofport));
    let mut safe = true;
    for form in Form::ALL {
        let asked = senders.clone().and(spared.clone().negate());
        let tagged = violation(property, first).and(asked).to_set(&mut sets);
        let sendable = frames::sendable(&mut sets, form);
        let packets = sets.and(sendable, tagged);
        let key = SymKey::entering_anywhere(form);
        let start = Start { tables: &host.tables, profile, form, key, packets, enough: usize::MAX };
        let run = symbolic::execute_with(&mut sets, &mut memory, start, Some(&mut sweep));
        safe &= run.complete;
        for mut event in run.events {
            event.packets = frames::escaping(&mut sets, &event, access);
            let inside = frames::inside(&mut sets, &event, first.network, &members);
            let lost = sets.minus(event.packets, inside);
            safe &= sets.is_empty(lost);
        }
    }
    safe && !sets.overflown()
}
