//! From the engine's answers to verdicts on section D.

use super::{
    judge::{Answer, Judge},
    question::{self, Facet, Placement, Theorem, Way},
    replay::{self, Aim, Case, Shown},
    site::Site,
};
use crate::{
    check::{Finding, INTERRUPTED, Judgement, Watch, Witness},
    diagram::{Exhausted, Host},
    familiar::{self, Choice, REMOTE_MAC},
    ports::{self, Pair},
    predicate::Predicate,
    properties::Property,
    replay::whole,
};
use flowproof_model::policy::Direction;
use flowproof_packet::{Field, MacAddr, summary::summary};
use flowproof_switch::conntrack::Profile;
use rayon::prelude::*;
use std::collections::BTreeSet;

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

/// Checks every theorem for every port, direction, placement and datapath: by port, then property.
#[must_use]
pub fn check(ask: &Ask<'_>) -> Vec<IntentFinding> {
    let total = ask.ports.len();
    let of_port = |number: usize| {
        let findings = ask.ports.get(number).map_or_else(Vec::new, |port| port_findings(ask, number, port));
        ask.watch.done(total);
        findings
    };
    let all: Vec<Vec<IntentFinding>> = (0..total).into_par_iter().with_max_len(1).map(of_port).collect();
    all.into_iter().flatten().collect()
}

const fn theorem(property: &Property) -> Theorem {
    if matches!(property.name.as_bytes(), b"intent-sound") { Theorem::Sound } else { Theorem::Complete }
}

fn port_findings(ask: &Ask<'_>, number: usize, subject: &ports::Port) -> Vec<IntentFinding> {
    let Some((port, binding)) = ask.site.at(subject.ofport) else { return Vec::new() };
    let facets = question::facets(ask.site, port, binding, ask.host.tables.flows());
    let mut engines = Engines { ask, subject, known: Vec::new() };
    let mut findings = Vec::new();
    for property in &ask.properties {
        for facet in &facets {
            for profile in &ask.profiles {
                let (judgement, says) = if ask.watch.stop() {
                    (Judgement::Unknown(INTERRUPTED.to_owned()), None)
                } else {
                    engines.judge(theorem(property), facet, *profile)
                };
                let diagram = Some(judgement.name());
                let profile = *profile;
                let finding = Finding { property, port: number, profile, judgement, diagram, z3: None };
                let (direction, placement) = (facet.direction, facet.placement);
                findings.push(IntentFinding { finding, direction, placement, says });
            }
        }
    }
    findings
}

/// The engine of each entrance, made when it is first asked.
struct Engines<'a> {
    ask: &'a Ask<'a>,
    subject: &'a ports::Port,
    known: Vec<(super::site::Entrance, Result<Judge<'a>, Exhausted>)>,
}

type Verdict = (Judgement, Option<String>);

fn unknown(why: impl ToString) -> Verdict {
    (Judgement::Unknown(why.to_string()), None)
}

impl<'a> Engines<'a> {
    fn engine(&mut self, way: &Way<'_>) -> Option<&mut Result<Judge<'a>, Exhausted>> {
        let place = match self.known.iter().position(|(entrance, _)| *entrance == way.entrance) {
            Some(place) => place,
            None => {
                let Ask { host, site, profiles, .. } = self.ask;
                let engine = Judge::new(host, site, self.subject, way, profiles);
                self.known.push((way.entrance.clone(), engine));
                self.known.len() - 1
            }
        };
        self.known.get_mut(place).map(|(_, engine)| engine)
    }

    /// All ways of a facet: refuted if one is, unknown if one is, proved with the first witness.
    fn judge(&mut self, theorem: Theorem, facet: &Facet<'_>, profile: Profile) -> Verdict {
        let mut undecided = None;
        let mut proved = None;
        for way in &facet.ways {
            let verdict = self.way(theorem, way, profile);
            match verdict.0 {
                Judgement::Refuted(_) | Judgement::Contradiction(_) => return verdict,
                Judgement::Unknown(_) => undecided = undecided.or(Some(verdict)),
                Judgement::Proved(_) => proved = proved.or(Some(verdict)),
                Judgement::Vacuous(_) => {}
            }
        }
        undecided.or(proved).unwrap_or_else(|| {
            let (why, none) = match facet.ways.as_slice() {
                [] => ("no uplink carries the network of the port", None),
                _ => ("the intent lets no such frame pass", None),
            };
            (Judgement::Vacuous(why.to_owned()), none)
        })
    }

    fn way(&mut self, theorem: Theorem, way: &Way<'_>, profile: Profile) -> Verdict {
        let Ask { host, site, .. } = *self.ask;
        let wishes = wishes(host, self.subject, way);
        let subject = self.subject;
        let engine = match self.engine(way) {
            Some(Ok(engine)) => engine,
            Some(Err(why)) => return unknown(&*why),
            None => return unknown("no engine"),
        };
        let Answer { violations, witnesses, opaque } = match engine.answer(theorem, way, profile) {
            Ok(answer) => answer,
            Err(why) => return unknown(why),
        };
        let case = Case { host, site, subject, way, theorem, profile, aim: Aim::Differ };
        if !violations.is_empty() {
            let (mut stateless, mut assumed) = (None, None);
            for (choice, is_stateless) in engine.examples(violations, &wishes) {
                if let Some(Shown { replay, says }) = replay::replay(&case, &choice) {
                    return (Judgement::Refuted(Box::new(replay)), Some(says));
                }
                if is_stateless {
                    stateless.get_or_insert(choice);
                } else {
                    assumed.get_or_insert(choice);
                }
            }
            return match (stateless, opaque) {
                (_, Some(why)) => unknown(why),
                (Some(choice), None) => {
                    let text = format!("a counterexample does not replay: {:?}", choice.sent);
                    (Judgement::Contradiction(text), None)
                }
                (None, None) => unknown(not_reached(assumed.as_ref())),
            };
        }
        if let Some(why) = opaque {
            return unknown(why);
        }
        let case = Case { aim: Aim::Agree, ..case };
        for (choice, _) in engine.examples(witnesses, &wishes) {
            if let Some(Shown { replay, says }) = replay::replay(&case, &choice) {
                return (Judgement::Proved(Witness::Escapes(Box::new(replay))), Some(says));
            }
        }
        (Judgement::Vacuous("no frame that it speaks of is delivered".to_owned()), None)
    }
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

/// What to wish of a frame on a way: that it comes from its sender and is for its receiver.
fn wishes(host: &Host, subject: &ports::Port, way: &Way<'_>) -> Vec<Predicate> {
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
