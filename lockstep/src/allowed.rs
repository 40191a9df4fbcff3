//! What tables may do with a packet, according to the model: legal nondeterminism as a type.
//!
//! Invariant: `must` and `may` have no target in common; what is in neither must not get the packet. Deliberately
//! absent: what tables do.

use crate::scenario::Target;
use flowproof_model::history::{Delivery, Place};
use flowproof_model::verdict::{Infrastructure, Level, Outcome, Reason, Refusal, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Why either is fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leeway {
    /// The traffic may pass without a rule, and may not.
    Infrastructure(Infrastructure),
    /// `NORMAL` floods what it has not learned: a copy, for somebody who is not addressed.
    Flooding,
    /// A fragment may be dropped where the datapath does not show its ports.
    Fragment,
    /// From one way out to another: nobody on this host is concerned.
    Transit,
}

/// What tables may do with a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Who has to get it.
    pub must: BTreeSet<Target>,
    /// Who may get it, and why.
    pub may: BTreeMap<Target, Leeway>,
}

/// What the answer depends on besides the model's.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Whether it is unicast and `NORMAL` may flood it: to these.
    pub flooding: BTreeSet<Target>,
    /// Whether it comes in fragments that the datapath does not put together.
    pub unseen_ports: bool,
    /// Whether it comes in fragments.
    pub fragments: bool,
    /// Whether it comes from another host.
    pub from_elsewhere: bool,
    /// Whether there is a way to other hosts.
    pub has_uplink: bool,
}

/// A place as a target.
#[must_use]
pub fn target(place: &Place) -> Target {
    match place {
        Place::Port(id) => Target::Port(id.clone()),
        Place::Elsewhere => Target::Elsewhere,
    }
}

/// What leaves a delivery open, if anything does.
fn leeway(delivery: &Delivery, circumstances: &Circumstances) -> Option<Leeway> {
    let verdicts = [&delivery.outcome.egress, &delivery.outcome.ingress];
    let infrastructure = verdicts.into_iter().find_map(|verdict| match verdict {
        Verdict::Admit(Reason::Infrastructure(kind)) => Some(*kind),
        Verdict::Admit(_) | Verdict::Drop(_) => None,
    });
    let may = infrastructure.filter(|kind| kind.level() == Level::May).map(Leeway::Infrastructure);
    let in_pieces = circumstances.unseen_ports || circumstances.fragments && infrastructure.is_some();
    may.or_else(|| in_pieces.then_some(Leeway::Fragment))
}

impl Allowed {
    /// What follows from the model's deliveries.
    #[must_use]
    pub fn of(deliveries: &[Delivery], circumstances: &Circumstances) -> Self {
        let mut allowed = Self::default();
        let mut refused = BTreeSet::new();
        for delivery in deliveries {
            let to = target(&delivery.to);
            match (delivery.outcome.level(), leeway(delivery, circumstances)) {
                (Level::MustNot, _) => {
                    refused.insert(to);
                }
                (Level::May | Level::Must, Some(leeway)) => {
                    allowed.may.insert(to, leeway);
                }
                (Level::May | Level::Must, None) => {
                    allowed.must.insert(to);
                }
            }
        }
        // Where nobody may have it there is nothing to flood; but where nobody else is addressed there may be.
        let hairpin = |one: &Delivery| one.outcome == Outcome::refused(Refusal::Hairpin);
        if !allowed.must.is_empty() || !allowed.may.is_empty() || deliveries.iter().all(hairpin) {
            for to in &circumstances.flooding {
                if !allowed.must.contains(to) && !refused.contains(to) {
                    allowed.may.entry(to.clone()).or_insert(Leeway::Flooding);
                }
            }
        }
        if circumstances.from_elsewhere {
            allowed.must.remove(&Target::Elsewhere);
            allowed.may.insert(Target::Elsewhere, Leeway::Transit);
        } else if !circumstances.has_uplink && allowed.must.remove(&Target::Elsewhere) {
            allowed.may.insert(Target::Elsewhere, Leeway::Transit);
        }
        allowed
    }

    /// Whether this target may have the packet; `copied` if it gets it by flooding.
    #[must_use]
    pub fn permits(&self, to: &Target, copied: bool) -> bool {
        self.must.contains(to) || self.may.get(to).is_some_and(|leeway| copied || *leeway != Leeway::Flooding)
    }
}
