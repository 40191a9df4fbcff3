//! Whether VLAN tags are kept, for all ports of a network at once.
//!
//! Every tagged frame gets far into the tables, to every receiver; so here the question is asked once for all senders of
//! a network, by a sweep. It says more than it must: where it finds that a tag may be lost, each port is asked alone.

use crate::{
    arrival::Arrival,
    bdd::Bdds,
    diagram::Host,
    frames,
    live::Live,
    ports::Port,
    predicate::Predicate,
    properties::{Judge, Property, violation},
    set::PacketSets,
    sweep::{Scope, Sweep},
    symbolic::{self, Emit, Memory, Start, loosely},
    symkey::{Form, SymKey},
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Subfield},
};
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// The field that an action writes.
const fn written(action: &Action) -> Option<Field> {
    if let Action::Set { field, .. } | Action::Move { dst: Subfield { field, .. }, .. } = action {
        Some(*field)
    } else {
        None
    }
}

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
    if ports.is_empty() || !matches!(property.judge, Judge::KeepsVlan) {
        return BTreeSet::new();
    }
    let live = &Live::new(&host.tables);
    let asked: Vec<Asked<'_>> = groups
        .values()
        .filter_map(|group| {
            let senders = Predicate::one_of(Field::InPort, group.iter().map(|port| port.ofport));
            let first = *group.first()?;
            let frames = senders.and(spared.clone().negate()).and(violation(property, first));
            Some(Asked { host, group, first, frames })
        })
        .collect();
    let writes = |action: &Action| written(action).is_some_and(|field| field.overlaps(Field::InPort));
    if host.tables.flows().iter().flat_map(|flow| &flow.actions).any(writes) {
        // A sweep does not keep what `NORMAL` takes for the input port then.
        return BTreeSet::new();
    }
    let together = loosely::is_plain(&host.tables);
    let sure = asked.par_iter().with_max_len(1).flat_map_iter(|asked| {
        let everywhere = together && asked.keeps(live, &EVERYTHING);
        let on = move |profile: &&Profile| {
            everywhere || asked.keeps(live, &Form::ALL.map(|form| (Scope::One, **profile, form)))
        };
        profiles.iter().filter(on).flat_map(|profile| asked.group.iter().map(|port| (port.ofport, *profile)))
    });
    sure.collect()
}

/// All forms on all datapaths.
const EVERYTHING: [(Scope, Profile, Form); 1] = [(Scope::Every, Profile::Userspace31, Form::Whole)];

/// What ports of one network send with a tag.
struct Asked<'a> {
    host: &'a Host,
    group: &'a [&'a Port],
    first: &'a Port,
    frames: Predicate,
}

impl Asked<'_> {
    /// Whether none of them loses its tag.
    fn keeps(&self, live: &Live, frames: &[(Scope, Profile, Form)]) -> bool {
        let Self { host, first, .. } = *self;
        let (mut sets, mut memory) = (Bdds::with_limit(NODE_LIMIT), Memory::default());
        let mut sweep = Sweep::widely(Rc::new(live.clone()));
        let members = host.members();
        let access = host.is_access(first.ofport);
        let tagged = self.frames.to_set(&mut sets);
        let mut safe = true;
        for (scope, profile, form) in frames.iter().copied() {
            let (sendable, key) = match scope {
                Scope::One | Scope::First => {
                    (frames::sendable(&mut sets, form), SymKey::entering_anywhere(form, Arrival::Ordinary))
                }
                Scope::Every => (loosely::every(&mut sets), loosely::key(Arrival::Ordinary)),
            };
            sweep.scope = scope;
            let packets = sets.and(sendable, tagged);
            let start = Start {
                tables: &host.tables,
                profile,
                form,
                key,
                packets,
                enough: usize::MAX,
                each_flow: false,
            };
            let run = symbolic::execute_with(&mut sets, &mut memory, start, Some(&mut sweep));
            safe &= run.complete;
            for mut event in run.events {
                safe &= event.emit != Emit::Limit;
                event.packets = frames::escaping(&mut sets, &event, access);
                let inside = frames::inside(&mut sets, &event, first.network, &members);
                let lost = sets.minus(event.packets, inside);
                safe &= sets.is_empty(lost);
            }
        }
        safe && !sets.overflown()
    }
}
