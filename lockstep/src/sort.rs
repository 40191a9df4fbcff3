//! What sort of divergence an observation shows, so that making a scenario small does not end at another defect.
//!
//! Invariant: nothing of it is lost when names, addresses, ports or bystanders go, and it tells apart what the model
//! decides and why, which way the packet goes, what becomes of its connection, and whose zone it is tracked in.
//! Deliberately absent: protocol and contents of the packet, which may go.

use crate::allowed::target;
use crate::compare::{Class, Difference};
use crate::reason;
use crate::run::Observation;
use crate::scenario::Target;
use flowproof_model::world::Origin;
use std::collections::BTreeSet;

/// Who is meant, without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Port,
    Elsewhere,
    Nowhere,
}

/// A difference without what is particular to its packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    OverPermitted { to: End, normal: bool, model: &'static str },
    OverBlocked { to: End, model: &'static str },
    Altered { to: End },
    Class { model: Class, tables: Class },
    Committed { marked: bool },
    NotCommitted,
    Mark { revoked: bool },
    Unknown(String),
    Expectation { expected: String, model: String },
    Idle(String),
}

/// A divergence as far as it stays the same when its scenario becomes smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Divergence {
    from: End,
    sorts: BTreeSet<Sort>,
    /// Whether connection tracking was asked in the zone of the network, in another one, or both.
    zones: BTreeSet<bool>,
}

impl Divergence {
    /// What an observation shows.
    pub(crate) fn of(seen: &Observation) -> Self {
        let sorts = seen.differences.iter().map(|one| sort(seen, one)).collect();
        let (from, network) = match &seen.arrival.origin {
            Origin::Port(id) => (End::Port, seen.policy.ports.get(id).map(|port| &port.network)),
            Origin::Network(network) => (End::Elsewhere, Some(network)),
            Origin::Unprovisioned => (End::Nowhere, None),
        };
        let own = network.and_then(|network| seen.policy.vlan_of(network));
        Self { from, sorts, zones: seen.answers.iter().map(|answer| Some(answer.zone) == own).collect() }
    }
}

fn sort(seen: &Observation, difference: &Difference) -> Sort {
    match difference {
        Difference::OverPermitted { to, normal } => {
            Sort::OverPermitted { to: end(to), normal: *normal, model: model(seen, to) }
        }
        Difference::OverBlocked { to } => Sort::OverBlocked { to: end(to), model: model(seen, to) },
        Difference::Altered { to, .. } => Sort::Altered { to: end(to) },
        Difference::Class { model, tables } => Sort::Class { model: *model, tables: *tables },
        Difference::Committed { marked, .. } => Sort::Committed { marked: *marked },
        Difference::NotCommitted { .. } => Sort::NotCommitted,
        Difference::Mark { revoked, .. } => Sort::Mark { revoked: *revoked },
        Difference::Unknown { text } => Sort::Unknown(text.clone()),
        Difference::Expectation { expected, model } => {
            Sort::Expectation { expected: expected.clone(), model: model.clone() }
        }
        Difference::Idle { name } => Sort::Idle(name.clone()),
    }
}

const fn end(to: &Target) -> End {
    match to {
        Target::Port(_) => End::Port,
        Target::Elsewhere => End::Elsewhere,
    }
}

/// Why the model lets somebody have it, or not; nothing if it does not speak of them.
fn model(seen: &Observation, to: &Target) -> &'static str {
    let there = seen.model.iter().find(|delivery| target(&delivery.to) == *to);
    there.map_or("", |delivery| reason::name(delivery.outcome.decisive()))
}
