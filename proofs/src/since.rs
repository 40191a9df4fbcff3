//! What a change of the tables breaks that was not broken before.
//!
//! A property that is refuted already cannot be lost, so its verdict says nothing about a hole that a change adds. Here a
//! theorem is broken by a change if some packet, with what connection tracking answers, violates it now and did not before.
//! Both tables are executed with the sets of one manager, and what may have violated it before is taken away from what
//! violates it now: this is exact on one pass, and takes for before what surely was before, not what may have been: where something
//! is not modelled it is unknown whether a packet is treated worse now. What is left is replayed in both: it counts if it violates the theorem in the
//! tables of now and, after the same packets, does not in those of before, whichever of two equal flows wins there.
//!
//! Invariants: `refuted` shows such a packet; `no-worse` says that there is none, and not that the theorem holds. Ports,
//! networks and intent are those of now for both tables. Deliberately absent: states of connections that only one of the
//! tables leads to; a second engine; symmetry, instead of which senders are passed over whose frames come to no changed flow.

use crate::{
    arrival::Arrival,
    bdd::Bdds,
    by_diagram::not_replayed,
    check::{Finding, Findings, INTERRUPTED, Judgement, Task, with_deep_stack},
    diagram::{self, Depends, Diagram, Exhausted, Found, Host, Workshop, unmodelled},
    difference::{self, Marked},
    familiar::Choice,
    ports::Port,
    predicate::literals,
    replay::{self, Aim, Case, Stage},
    set::PacketSets,
    symbolic::legal_answers,
    symkey::Form,
    tables::Tables,
    vars::{self, Var},
};
use flowproof_packet::{Field, PortNo};
use flowproof_switch::{conntrack::Profile, table::TieBreak};
use rayon::prelude::*;
use std::{collections::BTreeSet, mem, sync::Arc};

/// Why nothing is new where packets come to changed flows.
pub(crate) const AS_BEFORE: &str =
    "no packet violates it that did not before; this does not say that it holds";
/// Why nothing is new where they do not.
pub(crate) const UNTOUCHED: &str =
    "what is sent there comes to no flow that changed; this does not say that it holds";
/// Why a violation was not shown to be new.
pub(crate) const NOT_SHOWN: &str =
    "not shown that a violation is new: packets that should show it do the same before";

/// A change: the host as it is, the tables as they were.
#[derive(Debug)]
pub struct Since {
    /// The host as it is, with the ports that either of the tables names.
    pub now: Host,
    /// The same host with the tables of before.
    pub before: Host,
    /// Ports, named or not, through which no packet comes to a flow that changed.
    untouched: BTreeSet<PortNo>,
    /// Where packets come to a change; nothing if there is none.
    marked: Option<Marked>,
}

impl Since {
    /// The change from the tables `before` to `host`.
    #[must_use]
    pub fn new(mut host: Host, mut before: Tables, profiles: &[Profile]) -> Self {
        before.translate_like(&mut host.tables);
        let both: BTreeSet<PortNo> =
            host.tables.named_ports().iter().chain(before.named_ports()).copied().collect();
        for ofport in both.iter().filter(|ofport| host.ports.iter().all(|port| port.ofport != **ofport)) {
            host.tags.entry(*ofport).or_insert(None);
        }
        let all: BTreeSet<PortNo> = both
            .into_iter()
            .chain(host.ports.iter().map(|port| port.ofport))
            .chain(host.tags.keys().copied())
            .collect();
        let question = difference::Question { a: &before, b: &host.tables, profiles };
        let touched = difference::touched(&question, &all);
        let marked = difference::marked(&before, &host.tables);
        let untouched = all.into_iter().filter(|ofport| !touched.contains(ofport)).collect();
        let before = Host { tables: before, ports: host.ports.clone(), tags: host.tags.clone() };
        Self { now: host, before, untouched, marked }
    }

    /// Whether packets that come in by this port may come to a flow that changed.
    #[must_use]
    pub fn touches(&self, ofport: PortNo) -> bool {
        !self.untouched.contains(&ofport)
    }
}

/// An engine that has a manager of sets.
pub(crate) trait Engine {
    /// The manager.
    fn sets(&mut self) -> &mut Bdds;

    /// The tables.
    fn tables(&self) -> &Tables;

    /// By which port packets come in.
    fn in_port(&self) -> PortNo;

    /// What may come in with them.
    fn arrivals(&self) -> Vec<Arrival>;

    /// What may be answered at this depth.
    fn answers(&mut self, profile: Profile, form: Form, depth: u16) -> crate::bdd::Bdd {
        legal_answers(self.sets(), profile, form, depth)
    }
}

/// An engine, and where a change is asked about one for the tables of before, which borrows the other's manager.
pub(crate) struct Twins<'s, E> {
    /// For the tables of now.
    pub(crate) now: E,
    before: Option<(E, &'s Since)>,
    /// What of the tables of before is not modelled, and may have done what those of now do.
    pub(crate) unmodelled: Option<String>,
}

impl<'s, E: Engine> Twins<'s, E> {
    /// One engine alone.
    pub(crate) const fn alone(now: E) -> Self {
        Self { now, before: None, unmodelled: None }
    }

    /// Two, the second of which is made with the manager of the first.
    pub(crate) fn new(
        mut now: E,
        since: &'s Since,
        before: impl FnOnce(Bdds) -> Result<E, Exhausted>,
    ) -> Result<Self, Exhausted> {
        let sets = mem::replace(now.sets(), Bdds::with_limit(0));
        let mut before = before(sets)?;
        mem::swap(now.sets(), before.sets());
        Ok(Self { now, before: Some((before, since)), unmodelled: None })
    }

    /// Those of `found` that are not among what the tables of before are `guilty` of; everything where there are none. A set
    /// of packets of `depth` answers is told apart by as many. Where something had a part in it before that is not modelled, only
    /// those are left out that come to no change and to nothing behind which one may lie: the same is done to them.
    pub(crate) fn anew(
        &mut self,
        profile: Profile,
        mut found: Vec<Found>,
        guilty: impl FnOnce(&mut E) -> Result<(Vec<Found>, u16), Exhausted>,
    ) -> Result<Vec<Found>, Exhausted> {
        self.unmodelled = None;
        let Some((before, since)) = self.before.as_mut().filter(|_| !found.is_empty()) else {
            return Ok(found);
        };
        mem::swap(self.now.sets(), before.sets());
        let guilty = guilty(before);
        mem::swap(self.now.sets(), before.sets());
        let (guilty, depth) = guilty?;
        let (guilty, perhaps): (Vec<Found>, Vec<Found>) =
            guilty.into_iter().partition(|found| found.event.emit.is_modelled());
        self.unmodelled =
            unmodelled(&perhaps, before.tables()).map(|why| format!("in the tables of before {why}"));
        for Found { form, event } in &mut found {
            for depth in event.recirculations..depth {
                let answers = self.now.answers(profile, *form, depth);
                event.packets = self.now.sets().and(event.packets, answers);
            }
            event.recirculations = event.recirculations.max(depth);
            for guilty in guilty.iter().filter(|guilty| guilty.form == *form) {
                event.packets = self.now.sets().minus(event.packets, guilty.event.packets);
            }
        }
        if !perhaps.is_empty() {
            concerned(&mut self.now, since, profile, &mut found);
        }
        let none = self.now.sets().none();
        found.retain(|found| found.event.packets != none);
        match self.now.sets().overflown() {
            true => Err(Exhausted("decision diagrams outgrew their memory limit")),
            false => Ok(found),
        }
    }
}

/// Leaves those of what was found that come to a change, or to something that is not modelled and behind which one may lie.
fn concerned(engine: &mut impl Engine, since: &Since, profile: Profile, found: &mut [Found]) {
    let (in_port, arrivals) = (engine.in_port(), engine.arrivals());
    for form in Form::ALL {
        let sets = engine.sets();
        let all = found.iter().filter(|found| found.form == form);
        let all = all.fold(sets.none(), |sum, found| sets.or(sum, found.event.packets));
        let comes = sets.cube(&literals(Field::InPort, in_port.into(), u128::MAX));
        let all = sets.and(all, comes);
        if sets.is_empty(all) {
            continue;
        }
        let come = match &since.marked {
            Some(marked) => arrivals.iter().fold(sets.none(), |sum, arrival| {
                let premise = arrival.premise().to_set(sets);
                let these = sets.and(all, premise);
                let come = marked.packets(sets, (profile, form, *arrival), these);
                sets.or(sum, come)
            }),
            None => sets.none(),
        };
        let ports: Vec<Var> = vars::sent(Field::InPort).collect();
        let come = sets.exists(come, &|var| ports.contains(&var));
        for found in found.iter_mut().filter(|found| found.form == form) {
            found.event.packets = sets.and(found.event.packets, come);
        }
    }
}

/// The answers that tell apart what was found.
pub(crate) fn depth(found: &[Found]) -> u16 {
    found.iter().map(|found| found.event.recirculations).max().unwrap_or_default()
}

/// Whether what shows something under one order of equal flows shows it under both.
pub(crate) fn whichever(shows: impl Fn(TieBreak) -> bool) -> bool {
    shows(TieBreak::First) && shows(TieBreak::Last)
}

/// What the change breaks of the properties of what ports send: by property, then port, then datapath. The task's
/// host and ports are those of the change.
#[must_use]
pub fn check(task: &Task<'_>, since: &Since) -> Findings {
    let of_port = |port: &&Port| {
        let judged = of_port(task, since, port);
        task.watch.done(task.ports.len());
        judged
    };
    let judged: Vec<Vec<Judgement>> =
        with_deep_stack(|| task.ports.par_iter().with_max_len(1).map(of_port).collect());
    let mut judged: Vec<_> = judged.into_iter().map(Vec::into_iter).collect();
    let mut findings = Findings::default();
    for property in &task.properties {
        for (port, judged) in judged.iter_mut().enumerate() {
            for (profile, judgement) in task.profiles.iter().zip(judged) {
                let diagram = Some(judgement.name());
                let (profile, z3) = (*profile, None);
                findings.findings.push(Finding { property, port, profile, judgement, diagram, z3 });
            }
        }
    }
    findings
}

/// The verdicts on one port, by property, then datapath.
fn of_port(task: &Task<'_>, since: &Since, port: &Port) -> Vec<Judgement> {
    let all = task.properties.iter().flat_map(|property| task.profiles.iter().map(move |d| (*property, *d)));
    if !since.touches(port.ofport) {
        return all.map(|_| Judgement::NoWorse(UNTOUCHED.to_owned())).collect();
    }
    let [now, stage_before] = &[Stage::default(), Stage::default()];
    let engine = |host| Diagram::within(Workshop::default(), host, port, &task.profiles);
    let before = |sets| Ok(engine(&since.before).counting_with(sets));
    let twins = Twins::new(engine(&since.now), since, before);
    let mut twins = match twins {
        Ok(twins) => twins,
        Err(why) => return all.map(|_| Judgement::Unknown(why.to_string())).collect(),
    };
    let judge = |(property, profile)| {
        let case = Case { host: &since.now, port, property, profile, aim: Aim::Violates, stage: now };
        let before = Case { host: &since.before, aim: Aim::Innocent, stage: stage_before, ..case };
        match task.watch.stop() {
            true => Judgement::Unknown(INTERRUPTED.to_owned()),
            false => {
                judge(&mut twins, &case, &before).unwrap_or_else(|why| Judgement::Unknown(why.to_string()))
            }
        }
    };
    all.map(judge).collect()
}

fn judge(
    twins: &mut Twins<'_, Diagram<'_>>,
    case: &Case<'_>,
    before: &Case<'_>,
) -> Result<Judgement, Exhausted> {
    let (property, profile) = (case.property, case.profile);
    let (mut doubts, mut as_before, mut why) = (Vec::new(), false, None);
    for far in [false, true] {
        let violations = |engine: &mut Diagram<'_>| match far {
            false => engine.near(property, profile),
            true => engine.far(property, profile),
        };
        let found = violations(&mut twins.now)?;
        let found = twins.anew(profile, found, |engine| {
            let guilty = violations(engine)?;
            let depth = depth(&guilty);
            Ok((guilty, depth))
        })?;
        if !found.is_empty() {
            let of_now = || diagram::unmodelled(&found, &case.host.tables);
            why = why.or_else(|| twins.unmodelled.clone()).or_else(of_now);
        }
        let mut show = |choice: Choice, depends: Depends| {
            let shown = replay::replay_anew(case, before, &choice);
            if shown.is_none() {
                match replay::replay(case, &choice) {
                    Some(_) => as_before = true,
                    None => doubts.push((depends, choice)),
                }
            }
            shown
        };
        if let Some(replay) = twins.now.examples(profile, found, &mut show) {
            return Ok(Judgement::Refuted(Arc::new(replay)));
        }
    }
    Ok(match (doubts.is_empty() && why.is_none(), as_before) {
        (false, _) => not_replayed(&doubts, why),
        (true, true) => Judgement::Unknown(NOT_SHOWN.to_owned()),
        (true, false) => Judgement::NoWorse(AS_BEFORE.to_owned()),
    })
}
