//! From engines to verdicts.
//!
//! Invariants: a refutation is shown only with a replay; a proof only with a witness; engines that disagree, and a
//! counterexample that needs no connection and does not replay, are contradictions, never verdicts on the tables.

use crate::{
    by_diagram::{self, NOT_REACHED, witness},
    diagram::{Diagram, Exhausted, Host},
    ports::Port,
    properties::Property,
    replay::{Aim, Case, Replay, Stage, replay},
    z3_engine::Answer,
    z3_port::{Query, Z3Port},
};
use flowproof_switch::conntrack::Profile;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Which engines answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engines {
    /// Decision diagrams.
    Diagram,
    /// Z3.
    Z3,
    /// Both, and they must agree.
    #[default]
    Both,
}

impl Engines {
    pub(crate) const fn diagram(self) -> bool {
        !matches!(self, Self::Z3)
    }

    pub(crate) const fn z3(self) -> bool {
        !matches!(self, Self::Diagram)
    }
}

/// What to check.
#[derive(Clone)]
pub struct Task<'a> {
    /// The host.
    pub host: &'a Host,
    /// The ports to check, of those of the host.
    pub ports: Vec<&'a Port>,
    /// The properties to check.
    pub properties: Vec<&'static Property>,
    /// The datapaths.
    pub profiles: Vec<Profile>,
    /// The engines.
    pub engines: Engines,
    /// Whether to keep the SMT queries.
    pub keep_queries: bool,
    /// Who watches the work.
    pub watch: &'a dyn Watch,
}

/// Somebody who watches the work, and may stop it.
pub trait Watch: Sync {
    /// Another part of the work is done, of so many in all.
    fn done(&self, _parts: usize) {}

    /// Whether to give up; what is not decided by then is `unknown`.
    fn stop(&self) -> bool {
        false
    }

    /// Whether packets are wanted for each port. If not, one that may be exchanged with an earlier one has what was shown there.
    fn wants_each(&self) -> bool {
        true
    }
}

/// Nobody watches.
impl Watch for () {}

/// Why what was not decided by then is unknown.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// Why a property is proved and not vacuous.
#[derive(Clone, Debug)]
pub enum Witness {
    /// A packet the property speaks of that rightly escapes.
    Escapes(Arc<Replay>),
    /// A forbidden packet that is stopped, and its twin that differs only in what makes it forbidden and escapes.
    Twins {
        /// The forbidden packet.
        stopped: Arc<Replay>,
        /// Its twin.
        twin: Arc<Replay>,
    },
}

/// A verdict on one property of one port on one datapath.
#[derive(Clone, Debug)]
pub enum Judgement {
    /// It holds for all packets and states.
    Proved(Witness),
    /// It does not.
    Refuted(Arc<Replay>),
    /// It does not, which no packet need show.
    Listed(String),
    /// It was not decided.
    Unknown(String),
    /// There is no packet it speaks of.
    Vacuous(String),
    /// No packet violates it that did not before a change: see [`crate::since`].
    NoWorse(String),
    /// flowproof contradicts itself.
    Contradiction(String),
}

impl Judgement {
    /// The verdict's name in reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Proved(_) => "proved",
            Self::Refuted(_) | Self::Listed(_) => "refuted",
            Self::Unknown(_) => "unknown",
            Self::Vacuous(_) => "vacuous",
            Self::NoWorse(_) => "no-worse",
            Self::Contradiction(_) => "contradiction",
        }
    }

    /// Whether packets are shown with it.
    pub(crate) const fn shows(&self) -> bool {
        matches!(self, Self::Proved(_) | Self::Refuted(_))
    }
}

/// What was found for one property, port and datapath.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The property.
    pub property: &'static Property,
    /// The port's place among the task's ports.
    pub port: usize,
    /// The datapath.
    pub profile: Profile,
    /// The verdict.
    pub judgement: Judgement,
    /// What the diagram engine said, if asked.
    pub diagram: Option<&'static str>,
    /// What Z3 said, if asked.
    pub z3: Option<&'static str>,
}

/// All findings, and the queries if they were to be kept.
#[derive(Debug, Default)]
pub struct Findings {
    /// By property, then port, then datapath, in the task's order.
    pub findings: Vec<Finding>,
    /// The SMT queries.
    pub queries: Vec<Query>,
}

/// Which property, which datapath, by their places in the task.
pub(crate) type Slot = (usize, usize);

/// What Z3 answers, and the verdict where it is the only engine.
type Answers = BTreeMap<Slot, (Answer, Option<Judgement>)>;

/// Checks every property on every port under every datapath, in parallel.
#[must_use]
pub fn check(task: &Task<'_>) -> Findings {
    let engines = usize::from(task.engines.diagram()) + task.profiles.len() * usize::from(task.engines.z3());
    let total = task.ports.len() * engines;
    let diagrams = || match task.engines.diagram() {
        true => by_diagram::check(task, total),
        false => vec![BTreeMap::new(); task.ports.len()],
    };
    let z3 = || {
        let work: Vec<(usize, usize)> = match task.engines.z3() {
            true => (0..task.ports.len())
                .flat_map(|port| (0..task.profiles.len()).map(move |p| (port, p)))
                .collect(),
            false => Vec::new(),
        };
        let parts = work.par_iter().with_max_len(1).filter_map(|(port, profile)| {
            let (sender, datapath) = (task.ports.get(*port)?, task.profiles.get(*profile)?);
            let part = by_z3(task, sender, *profile, *datapath);
            task.watch.done(total);
            Some((*port, part))
        });
        parts.collect::<Vec<_>>()
    };
    let (judged, answers) = with_deep_stack(|| rayon::join(diagrams, z3));
    merge(task, judged, answers)
}

/// Both engines recurse as deep as tables call each other: thousands of calls, where tables are hostile.
const STACK: usize = 512 << 20;

/// Does `work` on threads whose stacks no table can exhaust.
pub fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match rayon::ThreadPoolBuilder::new().stack_size(STACK).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

fn merge(
    task: &Task<'_>,
    mut diagrams: Vec<BTreeMap<Slot, Judgement>>,
    parts: Vec<(usize, (Answers, Vec<Query>))>,
) -> Findings {
    let mut findings = Findings::default();
    let mut answers = vec![Answers::new(); task.ports.len()];
    for (port, (judged, queries)) in parts {
        answers.get_mut(port).into_iter().for_each(|known| known.extend(judged.clone()));
        findings.queries.extend(queries);
    }
    for (p, property) in task.properties.iter().enumerate() {
        for port in 0..task.ports.len() {
            for (d, profile) in task.profiles.iter().enumerate() {
                let judgement = diagrams.get_mut(port).and_then(|judged| judged.remove(&(p, d)));
                let answer = answers.get_mut(port).and_then(|answers| answers.remove(&(p, d)));
                let (judgement, diagram, z3) = reconcile(judgement, answer);
                findings.findings.push(Finding { property, port, profile: *profile, judgement, diagram, z3 });
            }
        }
    }
    findings
}

const fn z3_name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Sat => "refuted",
        Answer::Unsat => "proved",
        Answer::Unknown(_) => "unknown",
    }
}

/// One verdict from what the engines say. Z3 may not know; it may not say otherwise.
pub(crate) fn reconcile(
    diagram: Option<Judgement>,
    z3: Option<(Answer, Option<Judgement>)>,
) -> (Judgement, Option<&'static str>, Option<&'static str>) {
    let names = (diagram.as_ref().map(Judgement::name), z3.as_ref().map(|(answer, _)| z3_name(answer)));
    let judgement = match (diagram, z3) {
        (Some(judgement), None) => judgement,
        (None, Some((_, Some(judgement)))) => judgement,
        (None, Some((answer, None))) => Judgement::Unknown(format!("Z3 answers {}", z3_name(&answer))),
        (None, None) => Judgement::Unknown("no engine was asked".to_owned()),
        (Some(judgement), Some((answer, _))) => match (&judgement, &answer) {
            (Judgement::Proved(_) | Judgement::Vacuous(_), Answer::Sat)
            | (Judgement::Refuted(_), Answer::Unsat) => {
                let (diagram, z3) = (judgement.name(), z3_name(&answer));
                Judgement::Contradiction(format!(
                    "the engines disagree: diagrams say {diagram}, Z3 says {z3}"
                ))
            }
            _ => judgement,
        },
    };
    (judgement, names.0, names.1)
}

/// Z3 is asked by one thread at a time: two that work in its allocator at once are slower than one after the other
/// (measured: 2.7 s against 3.4 s for a port).
pub(crate) static TURN: Mutex<()> = Mutex::new(());

fn by_z3(task: &Task<'_>, port: &Port, slot: usize, profile: Profile) -> (Answers, Vec<Query>) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut engine = Z3Port::new(task.host, port, profile, task.keep_queries);
    let stage = Stage::default();
    let mut judged = BTreeMap::new();
    let mut diagram = None;
    for (p, property) in task.properties.iter().enumerate() {
        let answer = if task.watch.stop() {
            Answer::Unknown(INTERRUPTED.to_owned())
        } else {
            engine.violated(property)
        };
        let case = Case { host: task.host, port, property, profile, aim: Aim::Violates, stage: &stage };
        let judgement = (!task.engines.diagram()).then(|| alone(&engine, &answer, &case, &mut diagram));
        judged.insert((p, slot), (answer, judgement));
    }
    (judged, engine.queries())
}

/// The verdict where Z3 is the only engine. It finds no witnesses: those come from a diagram.
fn alone<'a>(
    engine: &Z3Port<'_>,
    answer: &Answer,
    case: &Case<'a>,
    diagram: &mut Option<Result<Diagram<'a>, Exhausted>>,
) -> Judgement {
    let exhausted = |why: Exhausted| Judgement::Unknown(why.to_string());
    match answer {
        Answer::Unknown(why) => Judgement::Unknown(format!("Z3: {why}")),
        Answer::Sat => {
            let Some(choice) = engine.example() else {
                return Judgement::Unknown("Z3 gives no model".to_owned());
            };
            replay(case, &choice).map_or_else(
                || Judgement::Unknown(NOT_REACHED.to_owned()),
                |replay| Judgement::Refuted(Arc::new(replay)),
            )
        }
        Answer::Unsat => {
            match diagram.get_or_insert_with(|| Diagram::new(case.host, case.port, &[case.profile])) {
                Err(why) => exhausted(why.clone()),
                Ok(diagram) => witness(diagram, case).map_or_else(exhausted, |judged| judged.judgement),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowproof_switch::table::TieBreak;

    fn shown() -> Arc<Replay> {
        let (events, datagram, path) = (Vec::new(), Vec::new(), Vec::new());
        let (earlier, whole) = (None, None);
        Arc::new(Replay { events, datagram, prelude: 0, earlier, path, tie: TieBreak::First, whole })
    }

    fn said(name: &str) -> Judgement {
        match name {
            "proved" => Judgement::Proved(Witness::Escapes(shown())),
            "refuted" => Judgement::Refuted(shown()),
            "vacuous" => Judgement::Vacuous(String::new()),
            "contradiction" => Judgement::Contradiction(String::new()),
            _ => Judgement::Unknown(String::new()),
        }
    }

    #[track_caller]
    fn check(diagram: &str, z3: Answer, verdict: &str) {
        let (judgement, by_diagram, by_z3) = reconcile(Some(said(diagram)), Some((z3.clone(), None)));
        assert_eq!((judgement.name(), by_diagram, by_z3), (verdict, Some(diagram), Some(z3_name(&z3))));
    }

    #[test]
    fn an_engine_that_says_the_opposite_is_a_contradiction() {
        for diagram in ["proved", "vacuous"] {
            check(diagram, Answer::Unsat, diagram);
            check(diagram, Answer::Sat, "contradiction");
        }
        check("refuted", Answer::Sat, "refuted");
        check("refuted", Answer::Unsat, "contradiction");
    }

    #[test]
    fn an_engine_that_does_not_know_changes_nothing() {
        for diagram in ["proved", "refuted", "vacuous", "unknown", "contradiction"] {
            check(diagram, Answer::Unknown("rlimit".to_owned()), diagram);
        }
        for answer in [Answer::Sat, Answer::Unsat] {
            check("unknown", answer.clone(), "unknown");
            check("contradiction", answer, "contradiction");
        }
    }

    #[test]
    fn one_engine_alone_decides_and_none_decides_nothing() {
        assert_eq!(reconcile(Some(said("refuted")), None).0.name(), "refuted");
        assert_eq!(reconcile(None, Some((Answer::Unsat, Some(said("proved"))))).0.name(), "proved");
        assert_eq!(reconcile(None, Some((Answer::Sat, None))).0.name(), "unknown");
        assert_eq!(reconcile(None, None).0.name(), "unknown");
    }
}
