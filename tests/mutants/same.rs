//! Whether two tables do the same: the same packets leave by the same ways, and `ct()` does the same to the same packets.
//!
//! Exact on one pass through the tables, for every packet and every answer of connection tracking. What is stored in
//! connection tracking is compared as the actions that store it. Deliberately absent: registers at the end.

use super::bases::Case;
use flowproof_packet::{Field, PortNo};
use flowproof_proofs::{
    bdd::{Bdd, Bdds},
    frames,
    set::PacketSets,
    symbolic::{self, Emit},
    symkey::{Bit, Form},
};
use flowproof_switch::{conntrack::Profile, flow::Action};
use std::collections::BTreeMap;

/// By what happens, the packets that it happens to.
type Effects = BTreeMap<String, Bdd>;

/// Everything that tables do, by entrance, datapath and form.
pub(super) struct Deeds(Vec<Effects>);

fn effects(sets: &mut Bdds, case: &Case, profile: Profile, form: Form, port: PortNo) -> Effects {
    let start = frames::sendable(sets, form);
    let run = symbolic::execute(sets, &case.host.tables, profile, form, port, start);
    assert!(run.complete, "too many lookups");
    let mut all = Effects::new();
    let mut add = |sets: &mut Bdds, what: String, packets: Bdd| {
        let known = all.get(&what).copied().unwrap_or_else(|| sets.none());
        let sum = sets.or(known, packets);
        all.insert(what, sum);
    };
    for event in &run.events {
        if event.emit != Emit::InPort {
            let spec = Field::VlanTci.spec();
            let tag: Vec<Bit> = (spec.offset..spec.offset + spec.width).map(|at| event.key.bit(at)).collect();
            add(sets, format!("{:?} {tag:?} after {}", event.emit, event.recirculations), event.packets);
        }
    }
    for (id, packets) in &run.reached {
        let actions = case.host.tables.flow(*id).map_or(&[][..], |flow| &flow.actions);
        for action in actions.iter().filter(|action| matches!(action, Action::Ct(_))) {
            add(sets, format!("{action:?}"), *packets);
        }
    }
    all.retain(|_, packets| !sets.is_empty(*packets));
    all
}

/// What these tables do with all that can come in at these ports.
pub(super) fn deeds(sets: &mut Bdds, case: &Case, ports: &[PortNo]) -> Deeds {
    let mut all = Vec::new();
    for port in ports {
        for profile in [Profile::Userspace31, Profile::Kernel2016] {
            for form in Form::ALL {
                all.push(effects(sets, case, profile, form, *port));
            }
        }
    }
    Deeds(all)
}

impl Deeds {
    /// Whether the others are no different.
    pub(super) fn are(&self, others: &Self) -> bool {
        self.0 == others.0
    }
}
