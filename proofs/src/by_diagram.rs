//! What the diagram engine says of all ports of a host.
//!
//! Ports that are alike are judged after the first of them: its counterexamples and witnesses, with the addresses of
//! the other port, are tried there, and count only if they replay. What the first port keeps is proved anew for
//! each: all properties at once, from the packets that they forbid. Where two ports may be exchanged ([`crate::symmetry`])
//! not even that is needed.

use crate::{
    check::{INTERRUPTED, Judgement, Slot, Task, Witness},
    diagram::{self, Depends, Diagram, Exhausted, Workshop},
    familiar::Choice,
    kin::{kin, renamed},
    ports::Port,
    predicate::Predicate,
    properties::{Judge, Property},
    replay::{Aim, Case, Replay, Stage, replay},
    symmetry::Symmetry,
    vlans,
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::conntrack::Profile;
use rayon::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Ports that one workshop serves, one after another.
const BATCH: usize = 8;

/// Ports of a network from which on it is cheaper to ask about their VLAN tags together.
const MANY: usize = 3;

/// A verdict, and the packets whose replays it shows.
pub(crate) struct Judged {
    /// The verdict.
    pub(crate) judgement: Judgement,
    shown: Vec<Choice>,
}

impl Judged {
    const fn plainly(judgement: Judgement) -> Self {
        Self { judgement, shown: Vec::new() }
    }

    const fn proved(witness: Witness, shown: Vec<Choice>) -> Self {
        Self { judgement: Judgement::Proved(witness), shown }
    }
}

/// The verdicts on one port.
type Verdicts = BTreeMap<Slot, Judged>;

/// The verdicts on every port, in the task's order. `total` is how many parts the whole work has.
pub(crate) fn check(task: &Task<'_>, total: usize) -> Vec<BTreeMap<Slot, Judgement>> {
    let kin = kin(&task.ports);
    let symmetry = Symmetry::new(task.host, None);
    let same = symmetry.firsts(&task.ports);
    let spared = symmetry.spared(task.host, &task.ports, |_| 1);
    let mut first: Vec<usize> = kin.clone();
    first.sort_unstable();
    first.dedup();
    let (certain, stage) = (tags_kept(task, &same, &spared), Stage::default());
    let leaders: BTreeMap<usize, Verdicts> = first
        .par_iter()
        .with_max_len(1)
        .filter_map(|at| {
            let verdicts = lead(task, &stage, task.ports.get(*at)?, (&spared, &certain));
            task.watch.done(total);
            Some((*at, verdicts))
        })
        .collect();
    let is_first = |at: usize| same.get(at) == Some(&at);
    let others: Vec<(usize, usize)> =
        kin.iter().copied().enumerate().filter(|(at, first)| at != first && is_first(*at)).collect();
    let followed: Vec<(usize, Verdicts)> = others
        .par_chunks(BATCH)
        .flat_map_iter(|batch| {
            let mut workshop = Some(Workshop::sparing(spared.clone()));
            let judged = batch.iter().filter_map(|(at, first)| {
                let (port, leader) = (task.ports.get(*at)?, task.ports.get(*first)?);
                let mut engine = Diagram::within(workshop.take()?, task.host, port, &task.profiles);
                let verdicts =
                    follow((task, &stage), &mut engine, (port, leader), leaders.get(first)?, &certain);
                workshop = Some(engine.into_workshop().renewed());
                task.watch.done(total);
                Some((*at, verdicts))
            });
            judged.collect::<Vec<_>>()
        })
        .collect();
    let mut all: BTreeMap<usize, Verdicts> = leaders.into_iter().chain(followed).collect();
    let others: Vec<(usize, usize)> =
        same.into_iter().enumerate().filter(|(at, first)| at != first).collect();
    let repeated: Vec<(usize, Verdicts)> = others
        .par_iter()
        .filter_map(|(at, first)| {
            let (port, leader) = (task.ports.get(*at)?, task.ports.get(*first)?);
            let verdicts = repeat(task, &stage, (port, leader), all.get(first)?);
            task.watch.done(total);
            Some((*at, verdicts))
        })
        .collect();
    all.extend(repeated);
    (0..task.ports.len())
        .map(|at| {
            all.remove(&at).unwrap_or_default().into_iter().map(|(slot, v)| (slot, v.judgement)).collect()
        })
        .collect()
}

/// Ports and datapaths.
type Certain = BTreeSet<(PortNo, Profile)>;

/// Those that surely keep VLAN tags, of the ports that are the `same` as no earlier one.
fn tags_kept(task: &Task<'_>, same: &[usize], spared: &Predicate) -> Certain {
    let Some(property) = task.properties.iter().find(|property| matches!(property.judge, Judge::KeepsVlan))
    else {
        return Certain::new();
    };
    let firsts = task.ports.iter().enumerate().filter(|(at, _)| same.get(*at) == Some(at));
    let mut asked: Vec<&Port> = firsts.map(|(_, port)| *port).collect();
    let mut beside: BTreeMap<Option<u16>, usize> = BTreeMap::new();
    asked.iter().for_each(|port| *beside.entry(port.network).or_default() += 1);
    asked.retain(|port| beside.get(&port.network).is_some_and(|ports| *ports >= MANY));
    vlans::certain(task.host, &asked, property, &task.profiles, spared)
}

fn is_certain(certain: &Certain, case: &Case<'_>) -> bool {
    matches!(case.property.judge, Judge::KeepsVlan) && certain.contains(&(case.port.ofport, case.profile))
}

/// Every question to one port, by its place in the task.
fn cases<'a>(task: &'a Task<'_>, stage: &'a Stage, port: &'a Port) -> impl Iterator<Item = (Slot, Case<'a>)> {
    task.properties.iter().enumerate().flat_map(move |(p, property)| {
        task.profiles.iter().enumerate().map(move |(d, profile)| {
            let (host, profile, aim) = (task.host, *profile, Aim::Violates);
            ((p, d), Case { host, port, property, profile, aim, stage })
        })
    })
}

fn lead(task: &Task<'_>, stage: &Stage, port: &Port, (spared, certain): (&Predicate, &Certain)) -> Verdicts {
    let workshop = Workshop::sparing(spared.clone());
    let mut engine = Diagram::within(workshop, task.host, port, &task.profiles).explored();
    let judge = |(slot, case): (Slot, Case<'_>)| {
        let judged = match &mut engine {
            _ if task.watch.stop() => unknown(INTERRUPTED),
            Err(why) => unknown(&why.to_string()),
            Ok(engine) => judge(engine, &case, is_certain(certain, &case))
                .unwrap_or_else(|why| unknown(&why.to_string())),
        };
        (slot, judged)
    };
    cases(task, stage, port).map(judge).collect()
}

fn unknown(why: &str) -> Judged {
    Judged::plainly(Judgement::Unknown(why.to_owned()))
}

fn follow(
    (task, stage): (&Task<'_>, &Stage),
    engine: &mut Diagram<'_>,
    (port, leader): (&Port, &Port),
    known: &Verdicts,
    certain: &Certain,
) -> Verdicts {
    let surely = |property: &Property, profile: Profile| {
        matches!(property.judge, Judge::KeepsVlan) && certain.contains(&(port.ofport, profile))
    };
    let mut asked: Vec<&'static Property> = kept(task, known);
    asked.retain(|property| !task.profiles.iter().all(|profile| surely(property, *profile)));
    let holding = engine.that_hold(&asked);
    let judge = |(slot, case): (Slot, Case<'_>)| {
        let holds = || match &holding {
            _ if surely(case.property, case.profile) => true,
            Ok(holding) => {
                holding.get(&case.profile).is_some_and(|names| names.contains(&case.property.name))
            }
            Err(_) => false,
        };
        let judged = match known.get(&slot) {
            _ if task.watch.stop() => Ok(unknown(INTERRUPTED)),
            Some(example) => alike(&case, leader, example, holds)
                .map_or_else(|| judge(engine, &case, is_certain(certain, &case)), Ok),
            None => judge(engine, &case, is_certain(certain, &case)),
        };
        (slot, judged.unwrap_or_else(|why| unknown(&why.to_string())))
    };
    cases(task, stage, port).map(judge).collect()
}

/// The verdicts on a port that may be exchanged with another one: those on the other, each shown with packets of its own.
fn repeat(task: &Task<'_>, stage: &Stage, (port, leader): (&Port, &Port), known: &Verdicts) -> Verdicts {
    let mut engine = None;
    let judge = |(slot, case): (Slot, Case<'_>)| {
        let judged = match known.get(&slot) {
            _ if task.watch.stop() => unknown(INTERRUPTED),
            Some(Judged { judgement, .. }) if !judgement.shows() || !task.watch.wants_each() => {
                Judged::plainly(judgement.clone())
            }
            example => {
                example.and_then(|example| alike(&case, leader, example, || true)).unwrap_or_else(|| {
                    let engine = engine.get_or_insert_with(|| {
                        Diagram::within(Workshop::default(), task.host, port, &task.profiles)
                    });
                    judge(engine, &case, false).unwrap_or_else(|why| unknown(&why.to_string()))
                })
            }
        };
        (slot, judged)
    };
    cases(task, stage, port).map(judge).collect()
}

/// The properties that the leader keeps on some datapath.
fn kept(task: &Task<'_>, known: &Verdicts) -> Vec<&'static Property> {
    let proved = |p: usize| {
        known.iter().any(|((of, _), judged)| *of == p && matches!(judged.judgement, Judgement::Proved(_)))
    };
    task.properties.iter().enumerate().filter(|(p, _)| proved(*p)).map(|(_, property)| *property).collect()
}

/// The leader's verdict on this port, if its packets show the same here.
fn alike(case: &Case<'_>, leader: &Port, known: &Judged, holds: impl Fn() -> bool) -> Option<Judged> {
    let shown: Vec<Choice> = known.shown.iter().map(|choice| renamed(choice, leader, case.port)).collect();
    let show = |aim: Aim, choice: &Choice| -> Option<Arc<Replay>> {
        replay(&Case { aim, ..*case }, choice).map(Arc::new)
    };
    let judgement = match (&known.judgement, shown.as_slice()) {
        (Judgement::Refuted(_), [choice]) => Judgement::Refuted(show(Aim::Violates, choice)?),
        (Judgement::Proved(_), [choice]) if holds() => {
            Judgement::Proved(Witness::Escapes(show(Aim::Leaves, choice)?))
        }
        (Judgement::Proved(_), [stopped, twin]) if holds() => Judgement::Proved(Witness::Twins {
            stopped: show(Aim::Stays, stopped)?,
            twin: show(Aim::Leaves, twin)?,
        }),
        _ => return None,
    };
    Some(Judged { judgement, shown })
}

/// The verdict of one engine on one case: what may be wrong on the way to familiar destinations first, then anywhere, unless it
/// is certain that there nothing is.
fn judge(engine: &mut Diagram<'_>, case: &Case<'_>, certain: bool) -> Result<Judged, Exhausted> {
    let (mut doubts, mut unmodelled) = (Vec::new(), None);
    for far in [false, true].into_iter().take(if certain { 1 } else { 2 }) {
        let found = match far {
            false => engine.near(case.property, case.profile)?,
            true => engine.far(case.property, case.profile)?,
        };
        unmodelled = unmodelled.or_else(|| diagram::unmodelled(&found, &case.host.tables));
        let refuted = engine.examples(case.profile, found, &mut |choice, depends| {
            if let Some(replay) = replay(case, &choice) {
                return Some(Judged { judgement: Judgement::Refuted(Arc::new(replay)), shown: vec![choice] });
            }
            doubts.push((depends, choice));
            None
        });
        if let Some(refuted) = refuted {
            return Ok(refuted);
        }
    }
    match doubts.is_empty() && unmodelled.is_none() {
        true => witness(engine, case),
        false => Ok(Judged::plainly(not_replayed(&doubts, unmodelled))),
    }
}

/// Counterexamples that nothing brought about, and what is not modelled, if they rest on that. One that depends on nothing is a
/// defect of flowproof.
pub(crate) fn not_replayed(doubts: &[(Depends, Choice)], unmodelled: Option<String>) -> Judgement {
    if let Some((_, choice)) = doubts.iter().find(|(depends, _)| *depends == Depends::Nothing) {
        let text = format!("a counterexample does not replay: {:?}", choice.sent);
        return Judgement::Contradiction(text);
    }
    if let Some(why) = unmodelled {
        return Judgement::Unknown(why);
    }
    let rests_on = |what| doubts.iter().any(|(depends, _)| *depends == what);
    let why = if rests_on(Depends::Precision) {
        "not shown: something on the way is not modelled exactly"
    } else if rests_on(Depends::Choice) {
        NOT_FORCED
    } else {
        NOT_REACHED
    };
    Judgement::Unknown(why.to_owned())
}

/// Why a violation was not shown that some choice of flows brings about.
pub(crate) const NOT_FORCED: &str = "it rests on which of several flows is hit where OpenFlow leaves that open, and no replay brings it about";

pub(crate) const NOT_REACHED: &str = "state not shown reachable";

/// The fields whose change turns a forbidden packet into one that may pass.
const fn traits(property: &Property) -> Option<&'static [Field]> {
    match property.judge {
        Judge::Prohibition { traits, .. } => Some(traits),
        Judge::KeepsVlan => Some(&[Field::VlanTci]),
        Judge::Implication { .. } | Judge::FragmentsLikeWholes => None,
    }
}

/// Why a property that holds is not vacuous; what goes to familiar destinations first. A packet that should be stopped and
/// violates the property instead contradicts the proof.
pub(crate) fn witness(engine: &mut Diagram<'_>, case: &Case<'_>) -> Result<Judged, Exhausted> {
    let leaves = Case { aim: Aim::Leaves, ..*case };
    let stays = Case { aim: Aim::Stays, ..*case };
    let violates = Case { aim: Aim::Violates, ..*case };
    let mut against = None;
    for far in [false, true] {
        let escapes = engine.innocent(case.property, case.profile, far, &mut |choice| {
            Some((replay(&leaves, choice)?, choice.clone()))
        })?;
        if let Some((replay, choice)) = escapes {
            return Ok(Judged::proved(Witness::Escapes(Arc::new(replay)), vec![choice]));
        }
        let Some(traits) = traits(case.property) else { continue };
        let twins = engine.twins(case.property, case.profile, (traits, far), &mut |stopped, twin| {
            let shown = vec![stopped.clone(), twin.clone()];
            let Some(stays) = replay(&stays, stopped) else {
                let violates = || replay(&violates, stopped).map(|_| stopped.clone());
                against = against.take().or_else(violates);
                return None;
            };
            Some((stays, replay(&leaves, twin)?, shown))
        })?;
        if let Some((stopped, twin, shown)) = twins {
            let witness = Witness::Twins { stopped: Arc::new(stopped), twin: Arc::new(twin) };
            return Ok(Judged::proved(witness, shown));
        }
    }
    Ok(Judged::plainly(without_witness(case.property, against.as_ref())))
}

/// The verdict on a property that seems to hold and of which nothing was shown.
fn without_witness(property: &Property, against: Option<&Choice>) -> Judgement {
    match against {
        Some(choice) => Judgement::Contradiction(format!(
            "it seems to hold, and a packet that should be stopped violates it: {:?}",
            choice.sent
        )),
        None => Judgement::Vacuous(format!(
            "nothing that `{}` speaks of, nor anything like it, escapes",
            property.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_replay_and_does_not_is_a_contradiction() {
        let choice = || Choice {
            form: crate::symkey::Form::Whole,
            sent: flowproof_packet::FlowKey::default(),
            shown_proto: 0,
            answers: Vec::new(),
        };
        let verdict = |doubts: &[Depends]| {
            let doubts: Vec<_> = doubts.iter().map(|depends| (*depends, choice())).collect();
            not_replayed(&doubts, None).name()
        };
        assert_eq!(verdict(&[Depends::State, Depends::Precision]), "unknown");
        assert_eq!(verdict(&[Depends::State, Depends::Choice]), "unknown");
        assert_eq!(verdict(&[Depends::State, Depends::Nothing]), "contradiction");
        assert_eq!(verdict(&[]), "unknown");
    }

    #[test]
    fn a_packet_that_should_be_stopped_and_is_not_contradicts_the_proof() {
        let property = crate::properties::by_name("dhcp-server").unwrap();
        let choice = Choice {
            form: crate::symkey::Form::Whole,
            sent: flowproof_packet::FlowKey::default(),
            shown_proto: 0,
            answers: Vec::new(),
        };
        assert_eq!(without_witness(property, None).name(), "vacuous");
        assert_eq!(without_witness(property, Some(&choice)).name(), "contradiction");
    }
}
