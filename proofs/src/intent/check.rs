//! From the engine's answers to verdicts on section D.
//!
//! Of ports that may be exchanged one is asked about, and each way to one of every class stands for those to the others
//! ([`crate::symmetry`]); the rest repeat what was found.

use super::{
    encode,
    judge::{Answer, Entering, Judge, probed},
    question::{self, Facet, Placement, Theorem, Way},
    replay::{self, Aim, Case, Shown},
    site::{Entrance, Site, Target},
};
use crate::{
    check::{Finding, INTERRUPTED, Judgement, Watch, Witness},
    diagram::{self, Exhausted, Host},
    familiar::{self, Choice, REMOTE_MAC},
    kin::renamed,
    ports::{self, Pair},
    predicate::Predicate,
    properties::Property,
    replay::whole,
    since::{self, Since, Twins},
    symmetry::{Exchange, Symmetry},
    tables::Tables,
};
use flowproof_model::policy::Direction;
use flowproof_packet::{Field, MacAddr, PortNo, summary::summary};
use flowproof_switch::conntrack::Profile;
use rayon::prelude::*;
use std::{cell::LazyCell, collections::BTreeSet, sync::Arc};

/// What to check.
#[derive(Clone)]
pub struct Ask<'a> {
    /// The host, with the ports of the intent.
    pub host: &'a Host,
    /// The intent.
    pub site: &'a Site,
    /// The ports to check, of those of the host.
    pub ports: Vec<&'a ports::Port>,
    /// Which of [`super::PROPERTIES`].
    pub properties: Vec<&'static Property>,
    /// The datapaths.
    pub profiles: Vec<Profile>,
    /// Who watches the work.
    pub watch: &'a dyn Watch,
}

/// A verdict of section D: on one port and datapath, one direction and one kind of other end.
#[derive(Clone, Debug)]
pub struct IntentFinding {
    /// Property, port, datapath, verdict.
    pub finding: Finding,
    /// From the port or to it.
    pub direction: Direction,
    /// Who is at the other end.
    pub placement: Placement,
    /// What the model says of the frame that is shown, in words.
    pub says: Option<String>,
}

/// A finding, and the packet and the place of the way that it is shown with.
struct Found {
    finding: IntentFinding,
    shown: Option<Show>,
}

/// A packet on one of the ways of a facet.
#[derive(Clone)]
struct Show {
    way: usize,
    choice: Choice,
}

/// Checks every theorem for every port, direction, placement and datapath: by port, then property.
#[must_use]
pub fn check(ask: &Ask<'_>) -> Vec<IntentFinding> {
    check_with(ask, &symmetry(ask), None)
}

/// The ports that may be exchanged.
pub(super) fn symmetry(ask: &Ask<'_>) -> Symmetry {
    let asked = encode::group_addressed().negate();
    Symmetry::among(ask.host, Some(ask.site), &asked)
}

/// What a change breaks: see [`crate::since`]. Host and ports are those of the change.
#[must_use]
pub fn check_since(ask: &Ask<'_>, since: &Since) -> Vec<IntentFinding> {
    let probed = probed(&since.before.tables);
    check_with(ask, &Symmetry::trivial(ask.host), Some(Before { since, probed: &probed }))
}

/// The same without making use of symmetry, which is what [`check`] is compared with.
#[must_use]
pub fn check_slowly(ask: &Ask<'_>) -> Vec<IntentFinding> {
    check_with(ask, &Symmetry::trivial(ask.host), None)
}

/// What is asked, and what is known before the first answer.
#[derive(Clone, Copy)]
struct Work<'a> {
    ask: &'a Ask<'a>,
    symmetry: &'a Symmetry,
    probed: &'a Tables,
    before: Option<Before<'a>>,
}

/// The tables of before a change, with probes.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    since: &'a Since,
    probed: &'a Tables,
}

pub(super) fn check_with(
    ask: &Ask<'_>,
    symmetry: &Symmetry,
    before: Option<Before<'_>>,
) -> Vec<IntentFinding> {
    let work = Work { ask, symmetry, probed: &probed(&ask.host.tables), before };
    let total = ask.ports.len();
    let firsts = symmetry.firsts(&ask.ports);
    let of_first = |number: usize| {
        let port = ask.ports.get(number).filter(|_| firsts.get(number) == Some(&number))?;
        let found = port_findings(work, number, port);
        ask.watch.done(total);
        Some(found)
    };
    let known: Vec<Option<Vec<Found>>> = (0..total).into_par_iter().with_max_len(1).map(of_first).collect();
    let of_port = |number: usize| -> Option<Vec<IntentFinding>> {
        let first = *firsts.get(number)?;
        let known = known.get(first)?.as_ref()?;
        if first == number {
            return Some(known.iter().map(|found| found.finding.clone()).collect());
        }
        let repeated = Repeat { work, first: ask.ports.get(first)?, number, port: ask.ports.get(number)? };
        let findings = repeated.findings(known);
        ask.watch.done(total);
        Some(findings)
    };
    let all: Vec<_> = (0..total).into_par_iter().with_max_len(1).filter_map(of_port).collect();
    all.into_iter().flatten().collect()
}

/// The ways of each direction and placement of a port: with other ends that may be exchanged, one for all of them.
pub(super) fn facets<'a>(ask: &Ask<'a>, symmetry: &Symmetry, subject: &ports::Port) -> Vec<Facet<'a>> {
    let Some((port, binding)) = ask.site.at(subject.ofport) else { return Vec::new() };
    let mut facets = question::facets(ask.site, port, binding, ask.host.tables.flows());
    for facet in facets.iter_mut().filter(|facet| facet.direction == Direction::Egress) {
        let mut seen = BTreeSet::new();
        facet.ways.retain(|way| way.receiver.is_none_or(|(_, at)| seen.insert(symmetry.class(at.ofport))));
    }
    facets
}

pub(super) fn theorem(property: &Property) -> Theorem {
    match property.name {
        "intent-sound" => Theorem::Sound,
        "commit-implies-delivery" => Theorem::Commit,
        "delivery-implies-commit" => Theorem::Delivery,
        "mark-means-revoked" => Theorem::Mark,
        _ => Theorem::Complete,
    }
}

fn port_findings(work: Work<'_>, number: usize, subject: &ports::Port) -> Vec<Found> {
    let Work { ask, symmetry, .. } = work;
    let facets = facets(ask, symmetry, subject);
    let engines = |each_flow| Engines { work, subject, facets: &facets, each_flow, known: Vec::new() };
    let (mut coarse, mut fine) = (engines(false), engines(true));
    let mut findings = Vec::new();
    for property in &ask.properties {
        for facet in &facets {
            for profile in &ask.profiles {
                let (verdict, shown) = if ask.watch.stop() {
                    ((Judgement::Unknown(INTERRUPTED.to_owned()), None), None)
                } else {
                    judged([&mut coarse, &mut fine], theorem(property), facet, *profile)
                };
                findings.push(Found { finding: finding(property, number, *profile, facet, verdict), shown });
            }
        }
    }
    findings
}

/// What the quick engines say, and where their packets show nothing what the thorough ones do.
fn judged(
    engines: [&mut Engines<'_>; 2],
    theorem: Theorem,
    facet: &Facet<'_>,
    profile: Profile,
) -> (Verdict, Option<Show>) {
    let [mut coarse, mut fine] = engines.map(|engines| move || engines.judge(theorem, facet, profile));
    let found = coarse();
    if matches!(found.0.0, Judgement::Unknown(_) | Judgement::Contradiction(_)) { fine() } else { found }
}

fn finding(
    property: &'static Property,
    port: usize,
    profile: Profile,
    facet: &Facet<'_>,
    (judgement, says): Verdict,
) -> IntentFinding {
    let diagram = Some(judgement.name());
    let finding = Finding { property, port, profile, judgement, diagram, z3: None };
    IntentFinding { finding, direction: facet.direction, placement: facet.placement, says }
}

/// A port that may be exchanged with one of which everything is known.
struct Repeat<'a> {
    work: Work<'a>,
    first: &'a ports::Port,
    number: usize,
    port: &'a ports::Port,
}

impl Repeat<'_> {
    fn findings(&self, known: &[Found]) -> Vec<IntentFinding> {
        let Work { ask, symmetry, .. } = self.work;
        let trivial = Symmetry::trivial(ask.host);
        let ways = LazyCell::new(|| (facets(ask, symmetry, self.first), facets(ask, &trivial, self.port)));
        let mut alone = None;
        let repeat = |(at, found): (usize, &Found)| {
            let finding = IntentFinding {
                finding: Finding { port: self.number, ..found.finding.finding.clone() },
                ..found.finding.clone()
            };
            if !finding.finding.judgement.shows() || !ask.watch.wants_each() {
                return Some(finding);
            }
            self.shown(&ways.0, &ways.1, found, finding).or_else(|| {
                let found = alone.get_or_insert_with(|| port_findings(self.work, self.number, self.port));
                found.get(at).map(|found| found.finding.clone())
            })
        };
        known.iter().enumerate().filter_map(repeat).collect()
    }

    /// The finding, shown with the packets of this port; None if they do not show it.
    fn shown(
        &self,
        from: &[Facet<'_>],
        all: &[Facet<'_>],
        known: &Found,
        finding: IntentFinding,
    ) -> Option<IntentFinding> {
        let of = Exchange::of(self.first, self.port)?;
        let same =
            |facet: &&Facet<'_>| facet.direction == finding.direction && facet.placement == finding.placement;
        let Show { way, choice } = known.shown.as_ref()?;
        let way = from.iter().find(same)?.ways.get(*way)?;
        let goes = |way: &Way<'_>| (way.entrance.ofport, way.entrance.tag, way.target);
        let (entrance, tag, target) = goes(way);
        let target = match target {
            Target::Local(ofport, vlan) => Target::Local(of.port(ofport), vlan),
            Target::Remote => Target::Remote,
        };
        let wanted = (of.port(entrance), tag, target);
        let way = all.iter().find(same)?.ways.iter().find(|way| goes(way) == wanted)?;
        let Ask { host, site, .. } = *self.work.ask;
        let Finding { property, profile, .. } = finding.finding;
        let aim =
            if matches!(finding.finding.judgement, Judgement::Proved(_)) { Aim::Agree } else { Aim::Differ };
        let case = Case { host, site, subject: self.port, way, theorem: theorem(property), profile, aim };
        let Shown { replay, says } = replay::replay(&case, &renamed(choice, self.first, self.port))?;
        let judgement = match aim {
            Aim::Agree => Judgement::Proved(Witness::Escapes(Arc::new(replay))),
            Aim::Differ | Aim::Alike => Judgement::Refuted(Arc::new(replay)),
        };
        Some(IntentFinding { finding: Finding { judgement, ..finding.finding }, says: Some(says), ..finding })
    }
}

/// The engine of each entrance, made when it is first asked.
struct Engines<'a> {
    work: Work<'a>,
    subject: &'a ports::Port,
    facets: &'a [Facet<'a>],
    each_flow: bool,
    known: Vec<(Entrance, Result<Twins<'a, Judge<'a>>, Exhausted>)>,
}

type Verdict = (Judgement, Option<String>);

fn unknown(why: impl ToString) -> Verdict {
    (Judgement::Unknown(why.to_string()), None)
}

impl<'a> Engines<'a> {
    fn engine(&mut self, way: &Way<'_>) -> Option<&mut Result<Twins<'a, Judge<'a>>, Exhausted>> {
        let place = match self.known.iter().position(|(entrance, _)| *entrance == way.entrance) {
            Some(place) => place,
            None => {
                let Ask { host, site, profiles, .. } = self.work.ask;
                let ways = self.facets.iter().flat_map(|facet| &facet.ways);
                let here = ways.filter(|other| other.entrance == way.entrance);
                let asked = here.map(|way| question::addressed(site, way, false)).collect();
                let (asked, probed) = (Predicate::Any(asked), self.work.probed);
                let (subject, each_flow) = (self.subject, self.each_flow);
                let (asked, way) = (&asked, way);
                let entering = Entering { host, probed, site, subject, asked, way, profiles, each_flow };
                let twins = Judge::new(&entering).and_then(|now| match self.work.before {
                    None => Ok(Twins::alone(now)),
                    Some(Before { since, probed }) => {
                        let entering = Entering { host: &since.before, probed, ..entering };
                        Twins::new(now, since, |sets| Judge::within(sets, &entering))
                    }
                });
                self.known.push((way.entrance.clone(), twins));
                self.known.len() - 1
            }
        };
        self.known.get_mut(place).map(|(_, engine)| engine)
    }

    /// All ways of a facet: refuted if one is, unknown if one is, proved with the first witness.
    fn judge(&mut self, theorem: Theorem, facet: &Facet<'_>, profile: Profile) -> (Verdict, Option<Show>) {
        let mut undecided = None;
        let mut proved = None;
        for (place, way) in facet.ways.iter().enumerate() {
            let (verdict, choice) = self.way(theorem, way, profile);
            let shown = choice.map(|choice| Show { way: place, choice });
            match verdict.0 {
                Judgement::Refuted(_) | Judgement::Listed(_) | Judgement::Contradiction(_) => {
                    return (verdict, shown);
                }
                Judgement::Unknown(_) => undecided = undecided.or(Some((verdict, None))),
                Judgement::Proved(_) | Judgement::NoWorse(_) => {
                    proved = proved.or(Some((verdict, shown)));
                }
                Judgement::Vacuous(_) => {}
            }
        }
        undecided.or(proved).unwrap_or_else(|| {
            if self.work.before.is_some() {
                return ((Judgement::NoWorse(since::AS_BEFORE.to_owned()), None), None);
            }
            let (why, none) = match facet.ways.as_slice() {
                [] => ("no uplink carries the network of the port", None),
                _ => ("the intent lets no such frame pass", None),
            };
            ((Judgement::Vacuous(why.to_owned()), none), None)
        })
    }

    fn way(&mut self, theorem: Theorem, way: &Way<'_>, profile: Profile) -> (Verdict, Option<Choice>) {
        let plainly = |verdict: Verdict| (verdict, None);
        let Ask { host, site, .. } = *self.work.ask;
        let subject = self.subject;
        let since = self.work.before.map(|before| before.since);
        if since.is_some_and(|since| !since.touches(way.entrance.ofport)) {
            return plainly((Judgement::NoWorse(since::UNTOUCHED.to_owned()), None));
        }
        let twins = match self.engine(way) {
            Some(Ok(twins)) => twins,
            Some(Err(why)) => return plainly(unknown(&*why)),
            None => return plainly(unknown("no engine")),
        };
        let answer = answer(twins, theorem, way, profile);
        let Answer { violations, witnesses, opaque } = match answer {
            Ok(answer) => answer,
            Err(why) => return plainly(unknown(why)),
        };
        let opaque = twins.unmodelled.take().or(opaque);
        let engine = &mut twins.now;
        let case = Case { host, site, subject, way, theorem, profile, aim: Aim::Differ };
        if !violations.is_empty() {
            let before = since.map(|since| Case { host: &since.before, aim: Aim::Alike, ..case });
            return violated(&case, before.as_ref(), engine, violations, opaque);
        }
        if let Some(why) = opaque {
            return plainly(unknown(why));
        }
        if since.is_some() {
            return plainly((Judgement::NoWorse(since::AS_BEFORE.to_owned()), None));
        }
        let case = Case { aim: Aim::Agree, ..case };
        let shown = engine.examples(witnesses, wished(&case), &mut |choice, _| {
            replay::replay(&case, &choice).map(|shown| (shown, choice))
        });
        match shown {
            Some((Shown { replay, says }, choice)) => {
                ((Judgement::Proved(Witness::Escapes(Arc::new(replay))), Some(says)), Some(choice))
            }
            None => plainly((Judgement::Vacuous("no frame that it speaks of is delivered".to_owned()), None)),
        }
    }
}

/// What a theorem comes to on a way; where a change is asked about, without what violates it in the tables of before.
fn answer(
    twins: &mut Twins<'_, Judge<'_>>,
    theorem: Theorem,
    way: &Way<'_>,
    profile: Profile,
) -> Result<Answer, Exhausted> {
    let answer = twins.now.answer(theorem, way, profile)?;
    let depth = twins.now.depth(profile);
    let guilty = |engine: &mut Judge<'_>| {
        let guilty = engine.answer(theorem, way, profile)?.violations;
        Ok((guilty, depth.max(engine.depth(profile))))
    };
    let violations = twins.anew(profile, answer.violations, guilty)?;
    Ok(Answer { violations, ..answer })
}

/// The verdict where there are packets that violate a theorem: one that is shown, or why none is.
fn violated(
    case: &Case<'_>,
    before: Option<&Case<'_>>,
    engine: &mut Judge<'_>,
    violations: Vec<diagram::Found>,
    opaque: Option<String>,
) -> (Verdict, Option<Choice>) {
    let (mut stateless, mut assumed, mut as_before) = (None, None, false);
    let shown = engine.examples(violations, wished(case), &mut |choice, is_stateless| {
        if let Some(shown) = replay::replay_anew(case, before, &choice) {
            return Some((shown, choice));
        }
        if before.is_some() && replay::replay(case, &choice).is_some() {
            as_before = true;
        } else if is_stateless {
            stateless.get_or_insert(choice);
        } else {
            assumed.get_or_insert(choice);
        }
        None
    });
    if let Some((Shown { replay, says }, choice)) = shown {
        return ((Judgement::Refuted(Arc::new(replay)), Some(says)), Some(choice));
    }
    let verdict = match (stateless, opaque) {
        (_, Some(why)) => unknown(why),
        (Some(choice), None) => {
            let text = format!("a counterexample does not replay: {:?}", choice.sent);
            (Judgement::Contradiction(text), None)
        }
        (None, None) if assumed.is_none() && as_before => unknown(since::NOT_SHOWN),
        (None, None) => unknown(not_reached(assumed.as_ref())),
    };
    (verdict, None)
}

/// A state that no packets were found to lead to, and the frame that would violate the theorem in it.
fn not_reached(choice: Option<&Choice>) -> String {
    let Some(choice) = choice else { return "state not shown reachable".to_owned() };
    let frame = summary(&whole(choice));
    let answer = choice.answers.first();
    let state = answer.map_or_else(|| "0x0/0xffffffff".to_owned(), |answer| format!("{:#x}", answer.state));
    let mark = answer.map_or(0, |answer| answer.mark);
    format!("state not shown reachable: {frame} with ct_state={state}, ct_mark={mark:#x}")
}

/// Somebody on another host; the address is from the documentation ranges (RFC 5737, RFC 3849).
pub(crate) fn stranger() -> ports::Port {
    let mac = MacAddr::from_bits(REMOTE_MAC);
    let pair = |address, mask| BTreeSet::from([Pair { mac, address, mask }]);
    ports::Port {
        macs: BTreeSet::from([mac]),
        pairs4: pair(0xcb00_7107, 0xffff_ffff),
        pairs6: pair(0x2001_0db8 << 96 | 7, u128::MAX),
        ..ports::Port::default()
    }
}

/// What to wish of a frame of this case, and whose frames it depends on.
fn wished<'c>(case: &'c Case<'_>) -> (Option<PortNo>, impl FnOnce() -> Vec<Predicate> + 'c) {
    let receiver = case.way.receiver.map(|(_, binding)| binding.ofport);
    (receiver, || wishes(case.host, case.subject, case.way))
}

/// What to wish of a frame on a way: that it comes from its sender and is for its receiver.
pub(super) fn wishes(host: &Host, subject: &ports::Port, way: &Way<'_>) -> Vec<Predicate> {
    let of = |ofport| host.ports.iter().find(|port| port.ofport == ofport);
    let stranger = stranger();
    let sender = match way.sender {
        Some(port) if port.is_filtered() => subject,
        _ => &stranger,
    };
    let receiver = way.receiver.and_then(|(_, binding)| of(binding.ofport));
    let mut others: Vec<&ports::Port> = receiver.into_iter().collect();
    others.extend(host.ports.iter().filter(|port| port.ofport != subject.ofport));
    others.dedup_by_key(|port| port.ofport);
    others.truncate(4);
    let mut wishes = vec![query()];
    wishes.extend(familiar::wishes(sender, &others));
    wishes
}

/// ICMP that opens a connection: echo, timestamp, information, address mask. Anything else of ICMP is part of one.
pub(crate) fn query() -> Predicate {
    let icmp = Predicate::is(Field::DlType, 0x0800u16).and(Predicate::is(Field::NwProto, 1u8));
    icmp.negate().or(Predicate::one_of(Field::Icmpv4Type, [8u8, 13, 15, 17]))
}
