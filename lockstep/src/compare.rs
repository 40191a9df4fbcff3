//! What the tables did, held against what the model allows.
//!
//! Invariant: a difference that is written down in the scenario is not reported, and one that is written down but
//! does not show is. Deliberately absent: tolerance; what either side may do is in [`Allowed`](crate::Allowed).

use crate::allowed::Leeway;
use crate::frames::{destination, untagged};
use crate::reason;
use crate::run::{Lockstep, Observation};
use crate::scenario::{Expectation, Step, Target};
use crate::watch::{is_invalid, is_same};
use flowproof_model::frame::Frame;
use flowproof_model::history::Tuple;
use flowproof_model::switches::Readmission;
use flowproof_model::verdict::{Reason, Verdict};
use flowproof_model::world::Origin;
use flowproof_packet::build::defragment;
use flowproof_packet::summary::summary;
use flowproof_packet::wire::{self, proto};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::conntrack::{Entry, state};
use flowproof_switch::pipeline::Effect;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a packet is to connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It opens a connection or goes in its original direction.
    Forward,
    /// It answers.
    Reply,
    /// It reports an error.
    Related,
    /// Nobody asked.
    Untracked,
}

/// One way in which tables differ from the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Somebody gets it who must not.
    OverPermitted {
        /// Who.
        to: Target,
        /// Whether by `NORMAL`.
        normal: bool,
    },
    /// Somebody does not get it who must.
    OverBlocked {
        /// Who.
        to: Target,
    },
    /// Somebody gets something else than was sent, or with another tag than it should have.
    Altered {
        /// Who.
        to: Target,
        /// What arrives.
        frame: String,
    },
    /// It passes for another reason.
    Class {
        /// The model's.
        model: Class,
        /// The tables'.
        tables: Class,
    },
    /// A connection is tracked that was not admitted.
    Committed {
        /// The entry.
        entry: String,
        /// Whether it is marked, and so admits nothing.
        marked: bool,
    },
    /// A connection was admitted and is not tracked.
    NotCommitted {
        /// The connection.
        tuple: Box<Tuple>,
    },
    /// An entry is marked and its connection not revoked, or the other way round.
    Mark {
        /// The entry.
        entry: String,
        /// Whether the model has revoked the connection.
        revoked: bool,
    },
    /// Something that is not modelled had a part in it.
    Unknown {
        /// What.
        text: String,
    },
    /// The model does not say what the scenario expects.
    Expectation {
        /// What is expected.
        expected: String,
        /// What the model says.
        model: String,
    },
    /// A divergence is written down that does not show.
    Idle {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "by rule",
            Self::Reply => "as a reply",
            Self::Related => "as related",
            Self::Untracked => "untracked",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverPermitted { to, normal: false } => write!(f, "`{to}` gets it and must not"),
            Self::OverPermitted { to, normal: true } => write!(f, "`{to}` gets it by NORMAL and must not"),
            Self::OverBlocked { to } => write!(f, "`{to}` does not get it and must"),
            Self::Altered { to, frame } => write!(f, "`{to}` gets something else: {frame}"),
            Self::Class { model, tables } => {
                write!(f, "the model lets it pass {model}, the tables {tables}")
            }
            Self::Committed { entry, .. } => {
                write!(f, "a connection is tracked that was not admitted: {entry}")
            }
            Self::NotCommitted { tuple } => write!(
                f,
                "the connection from {} to {} was admitted and is not tracked",
                tuple.src, tuple.dst
            ),
            Self::Mark { entry, revoked: false } => {
                write!(f, "a connection that is not revoked is marked: {entry}")
            }
            Self::Mark { entry, revoked: true } => {
                write!(f, "a connection that is revoked is not marked: {entry}")
            }
            Self::Unknown { text } => write!(f, "`{text}` is not modelled"),
            Self::Expectation { expected, model } => {
                write!(f, "expected is `{expected}`, the model says `{model}`")
            }
            Self::Idle { name } => write!(f, "the divergence `{name}` does not show any more"),
        }
    }
}

/// What arrived somewhere.
#[derive(Clone, Debug, Default)]
struct Arrived {
    frames: Vec<Vec<u8>>,
    /// All of it by `NORMAL`.
    normal: bool,
}

/// What the tables did: who got which frames, tags included.
fn arrived(lockstep: &Lockstep, seen: &Observation) -> BTreeMap<Target, Arrived> {
    let mut all: BTreeMap<Target, Arrived> = BTreeMap::new();
    let mut add = |(number, frame): &(PortNo, Vec<u8>), normal: bool| {
        let Some(to) = lockstep.behind(*number) else { return };
        let own = seen.arrival.frames.iter().any(|sent| untagged(sent) == untagged(frame));
        // A fragment that was held for another packet's sake.
        if !own && lockstep.fragments.contains(&untagged(frame)) {
            return;
        }
        let arrived = all.entry(to).or_insert(Arrived { frames: Vec::new(), normal });
        arrived.frames.push(frame.clone());
        arrived.normal &= normal;
    };
    for effect in seen.outcomes.iter().flat_map(|outcome| &outcome.effects) {
        match effect {
            Effect::Output { port, frame } => add(&(*port, frame.to_vec()), false),
            Effect::Normal { delivered, .. } => {
                delivered.iter().for_each(|(port, frame)| add(&(*port, frame.to_vec()), true));
            }
            Effect::Controller { .. } | Effect::Opaque { .. } => {}
        }
    }
    all
}

/// Whether frames are all of what was sent: the whole, or every fragment.
fn is_complete(seen: &Observation, frames: &[Vec<u8>]) -> bool {
    let plain: Vec<Vec<u8>> = frames.iter().map(|frame| untagged(frame)).collect();
    let whole = untagged(&seen.arrival.whole);
    let sent: Vec<Vec<u8>> = seen.arrival.frames.iter().map(|frame| untagged(frame)).collect();
    let joined = defragment(&plain).filter(|_| seen.arrival.frames.len() > 1);
    plain.contains(&whole)
        || sent.iter().all(|frame| plain.contains(frame))
        || joined.is_some_and(|joined| Some(joined) == defragment(&sent))
}

/// The first frame that is not what was sent, or whose tag is not the one it should have there.
fn altered(lockstep: &Lockstep, seen: &Observation, to: &Target, frames: &[Vec<u8>]) -> Option<String> {
    let policy = &lockstep.world().policy;
    let network = match &seen.arrival.origin {
        Origin::Port(id) => policy.ports.get(id).map(|port| &port.network),
        Origin::Network(network) => Some(network),
        Origin::Unprovisioned => None,
    };
    let tag = match to {
        Target::Port(_) => 0,
        Target::Elsewhere => network.and_then(|network| policy.vlan_of(network)).unwrap_or_default(),
    };
    let vid = |frame: &[u8]| wire::extract(frame, 0).get(Field::VlanVid) as u16;
    let sent: Vec<Vec<u8>> =
        seen.arrival.frames.iter().chain([&seen.arrival.whole]).map(|frame| untagged(frame)).collect();
    let joined = defragment(&sent.iter().take(seen.arrival.frames.len()).collect::<Vec<_>>());
    let is_sent = |frame: &Vec<u8>| sent.contains(frame) || joined.as_ref() == Some(frame);
    let odd = frames.iter().find(|frame| vid(frame) != tag || !is_sent(&untagged(frame)));
    odd.map(|frame| summary(frame))
}

/// The model's class of what it delivers there.
fn model_class(seen: &Observation, to: &Target) -> Option<Class> {
    let delivery = seen.model.iter().find(|delivery| crate::allowed::target(&delivery.to) == *to)?;
    let reasons = [&delivery.outcome.egress, &delivery.outcome.ingress];
    let has = |wanted: &Reason| reasons.iter().any(|verdict| **verdict == Verdict::Admit(wanted.clone()));
    if has(&Reason::Related) {
        Some(Class::Related)
    } else if has(&Reason::Reply) {
        Some(Class::Reply)
    } else {
        reasons.iter().any(|verdict| verdict.is_by_rule()).then_some(Class::Forward)
    }
}

fn tables_class(seen: &Observation) -> Class {
    let infos = seen.answers.iter().filter(|answer| !answer.commit).flat_map(|answer| &answer.infos);
    match infos.last().map(|info| info.state) {
        Some(bits) if bits & state::REL != 0 => Class::Related,
        Some(bits) if bits & state::RPL != 0 => Class::Reply,
        Some(_) => Class::Forward,
        None => Class::Untracked,
    }
}

fn deliveries(lockstep: &Lockstep, seen: &Observation) -> Vec<Difference> {
    let mut differences = Vec::new();
    let arrived = arrived(lockstep, seen);
    for (to, there) in &arrived {
        if !seen.allowed.permits(to, there.normal) {
            differences.push(Difference::OverPermitted { to: to.clone(), normal: there.normal });
        } else if seen.allowed.may.get(to) == Some(&Leeway::Transit) {
            // How others are told their networks is not this host's firewall.
        } else if let Some(frame) = altered(lockstep, seen, to, &there.frames) {
            differences.push(Difference::Altered { to: to.clone(), frame });
        }
    }
    for to in &seen.allowed.must {
        if !arrived.get(to).is_some_and(|there| is_complete(seen, &there.frames)) {
            differences.push(Difference::OverBlocked { to: to.clone() });
        }
    }
    let held = seen.allowed.must.iter().find_map(|to| model_class(seen, to));
    let tables = tables_class(seen);
    if let Some(model) = held.filter(|_| differences.is_empty() && !is_invalid(&seen.answers)) {
        // Neighbour discovery and its kin may pass untracked although a rule admits them, too.
        let may_be_untracked = tables == Class::Untracked
            && wire::l3(&seen.arrival.whole).is_some_and(|l3| l3.protocol == proto::ICMPV6);
        if model != tables && !may_be_untracked {
            differences.push(Difference::Class { model, tables });
        }
    }
    differences
}

/// Entries against history.
fn connections(
    lockstep: &Lockstep,
    seen: &Observation,
    (before, opened): (&[Entry], &[Tuple]),
) -> Vec<Difference> {
    let (policy, world) = (&lockstep.world().policy, lockstep.world());
    let mut differences = Vec::new();
    let known = |entry: &Entry| world.history.connections().any(|(tuple, _)| is_same(policy, tuple, entry));
    // Where the tables are free to let it pass, they are free to track and to mark.
    let is_free = |leeway: &Leeway| matches!(leeway, Leeway::Infrastructure(_));
    let free = seen.allowed.may.values().any(is_free);
    for entry in lockstep.gained(before) {
        if !known(&entry) && !free {
            let marked = entry.mark() != 0;
            differences.push(Difference::Committed { entry: entry.to_string(), marked });
        }
    }
    let entries = lockstep.switch().tracker().entries();
    for tuple in opened {
        // Nobody answers in the name of a group: whether that is tracked makes no difference.
        let must = !seen.allowed.must.is_empty() && !destination(&seen.arrival.whole).is_group();
        if must && !entries.iter().any(|entry| is_same(policy, tuple, entry)) {
            differences.push(Difference::NotCommitted { tuple: Box::new(tuple.clone()) });
        }
    }
    if world.switches.readmission == Readmission::AfterExpiry && !free {
        for (tuple, connection) in world.history.connections() {
            let entry = entries.iter().find(|entry| is_same(policy, tuple, entry));
            if let Some(entry) = entry.filter(|entry| (entry.mark() != 0) != connection.revoked) {
                let (entry, revoked) = (entry.to_string(), connection.revoked);
                differences.push(Difference::Mark { entry, revoked });
            }
        }
    }
    differences
}

fn shown(targets: &BTreeSet<Target>) -> String {
    let names: Vec<_> = targets.iter().cloned().collect();
    Expectation::Delivered(names).to_string()
}

fn expectations(step: &Step, seen: &Observation) -> Vec<Difference> {
    let mut differences = Vec::new();
    for expected in &step.expectations {
        let model = match expected {
            Expectation::Delivered(targets) => {
                let wanted: BTreeSet<Target> = targets.iter().cloned().collect();
                let real = seen.receivers();
                (real != wanted).then(|| shown(&real))
            }
            Expectation::Reason(name) => {
                let verdicts = seen.model.iter().flat_map(|one| [&one.outcome.egress, &one.outcome.ingress]);
                let names: BTreeSet<_> = verdicts.map(reason::name).collect();
                let text = || names.iter().copied().collect::<Vec<_>>().join(", ");
                (!names.contains(name.as_str())).then(text)
            }
        };
        if let Some(model) = model {
            differences.push(Difference::Expectation { expected: expected.to_string(), model });
        }
    }
    differences
}

/// All differences that are not written down.
pub(crate) fn compare(
    lockstep: &Lockstep,
    step: &Step,
    seen: &Observation,
    (before, opened, _): (&[Entry], &[Tuple], &Frame),
) -> Vec<Difference> {
    let mut found = deliveries(lockstep, seen);
    found.extend(connections(lockstep, seen, (before, opened)));
    let opaque =
        seen.outcomes.iter().flat_map(|outcome| &outcome.effects).filter_map(|effect| match effect {
            Effect::Opaque { text, .. } => Some(Difference::Unknown { text: text.clone() }),
            Effect::Output { .. } | Effect::Normal { .. } | Effect::Controller { .. } => None,
        });
    found.extend(opaque);
    if let Some(written) = step.written(lockstep.layout()) {
        found =
            if found.is_empty() { vec![Difference::Idle { name: written.name.clone() }] } else { Vec::new() };
    }
    found.extend(expectations(step, seen));
    found
}
