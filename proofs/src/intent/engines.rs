//! Section D by two engines, and one verdict from what both say.
//!
//! Invariants: where they say opposite things that is a contradiction, never a verdict; where Z3 does not know, diagrams
//! alone decide, and the finding says so.

use super::{
    IntentFinding,
    by_z3::{self, Said},
    check::{self, Ask},
    judge::probed,
};
use crate::{
    by_diagram::NOT_REACHED,
    check::{Engines, Judgement, TURN, reconcile, with_deep_stack},
    symmetry::Symmetry,
    z3_engine::Answer,
    z3_port::Query,
};
use rayon::prelude::*;
use std::sync::PoisonError;

/// How much Z3 may work for a port, in its own units, and for all of them.
const PORT: u32 = 50_000_000;
const HOST: u32 = 500_000_000;

/// All findings, and the queries if they were to be kept.
#[derive(Debug, Default)]
pub struct Checked {
    /// By port, then property.
    pub findings: Vec<IntentFinding>,
    /// The SMT queries.
    pub queries: Vec<Query>,
}

/// Checks as [`check::check`] does, by these engines; keeps Z3's queries if `keep` is set.
#[must_use]
pub fn check_by(ask: &Ask<'_>, engines: Engines, keep: bool) -> Checked {
    if !engines.z3() {
        return Checked { findings: check::check(ask), queries: Vec::new() };
    }
    let symmetry = check::symmetry(ask);
    let alone = !engines.diagram();
    let diagrams = || check::check_with(ask, &symmetry, None);
    let z3 = || by_z3(ask, &symmetry, (PORT, HOST), (keep, alone));
    // What Z3 finds nothing against needs a witness, and those come from diagrams.
    let (findings, (said, queries)) = with_deep_stack(|| rayon::join(diagrams, z3));
    Checked { findings: merge(ask, &symmetry, findings, &said, alone), queries }
}

/// What Z3 says of each port that stands for others: by property, facet, datapath.
fn by_z3(
    ask: &Ask<'_>,
    symmetry: &Symmetry,
    (of_port, of_host): (u32, u32),
    (keep, alone): (bool, bool),
) -> (Vec<Option<Vec<Said>>>, Vec<Query>) {
    let probed = probed(&ask.host.tables);
    let firsts = symmetry.firsts(&ask.ports);
    let is_first = |number: &usize| firsts.get(*number) == Some(number);
    let asked = (0..ask.ports.len()).filter(is_first).count();
    let budget = of_port.min(of_host / u32::try_from(asked.max(1)).unwrap_or(u32::MAX));
    let said_of = |number: usize| {
        let subject = ask.ports.get(number).filter(|_| is_first(&number))?;
        let facets = check::facets(ask, symmetry, subject);
        let port = by_z3::Port { ask, probed: &probed, subject, facets: &facets, budget, keep, alone };
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Some(by_z3::port(&port))
    };
    let all: Vec<_> = (0..ask.ports.len()).into_par_iter().with_max_len(1).map(said_of).collect();
    let mut queries = Vec::new();
    let said = all.into_iter().map(|of| {
        let (said, asked) = of?;
        queries.extend(asked);
        Some(said)
    });
    (said.collect(), queries)
}

fn merge(
    ask: &Ask<'_>,
    symmetry: &Symmetry,
    findings: Vec<IntentFinding>,
    said: &[Option<Vec<Said>>],
    alone: bool,
) -> Vec<IntentFinding> {
    let firsts = symmetry.firsts(&ask.ports);
    let mut merged: Vec<IntentFinding> = Vec::new();
    let (mut port, mut at) = (usize::MAX, 0);
    for finding in findings {
        at = if finding.finding.port == port { at + 1 } else { 0 };
        port = finding.finding.port;
        let first = firsts.get(port).copied().unwrap_or(port);
        let said = said.get(first).and_then(Option::as_ref).and_then(|said| said.get(at));
        merged.push(match said {
            None => finding,
            Some(said) if alone => by_one(finding, said, first == port),
            Some(said) => by_both(finding, &said.answer),
        });
    }
    merged
}

fn by_both(mut of: IntentFinding, answer: &Answer) -> IntentFinding {
    let judged = std::mem::replace(&mut of.finding.judgement, Judgement::Unknown(String::new()));
    let (judgement, diagram, z3) = reconcile(Some(judged), Some((answer.clone(), None)));
    of.finding.judgement = judgement;
    (of.finding.diagram, of.finding.z3) = (diagram, z3);
    of
}

/// The verdict where Z3 is the only engine: what diagrams found is its witness. A port that repeats another shows what that one
/// does.
fn by_one(finding: IntentFinding, said: &Said, first: bool) -> IntentFinding {
    let mut of = by_both(finding, &said.answer);
    of.finding.diagram = None;
    match (&said.answer, &of.finding.judgement) {
        (_, Judgement::Contradiction(_)) | (Answer::Unsat, _) => {}
        (Answer::Unknown(why), _) => of.finding.judgement = Judgement::Unknown(format!("Z3: {why}")),
        (Answer::Sat, Judgement::Refuted(_)) if !first => {}
        (Answer::Sat, _) => {
            let unknown = || (Judgement::Unknown(NOT_REACHED.to_owned()), None);
            (of.finding.judgement, of.says) = said.judged.clone().unwrap_or_else(unknown);
        }
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagram::Host,
        intent::{COMPLETE, MARK, SOUND, layout, site::Site},
        ports::Port,
        tables::Tables,
    };
    use flowproof_compiler::{Layout, Options, compile};
    use flowproof_model::policy::Policy;
    use flowproof_switch::{conntrack::Profile, flow::Flow};

    fn policy() -> Policy {
        let directory = env!("CARGO_MANIFEST_DIR");
        let path = format!("{directory}/../tests/fixtures/intents/02_ipv4_only.json");
        Policy::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The tables of a small intent, but for those flows.
    fn bound(without: impl Fn(&Flow) -> bool) -> (Host, Site) {
        let policy = policy();
        let host = policy.host.clone().unwrap();
        let compiled = compile(&policy, &host, Layout::Strict, &Options::default());
        let all: Vec<Flow> = compiled.flows.into_iter().map(|annotated| annotated.flow).collect();
        let (site, _, _) = layout::bind(policy, &all);
        let flows: Vec<Flow> = all.iter().filter(|flow| !without(flow)).cloned().collect();
        let host = Host { ports: site.ports(&all), tags: site.tags(), tables: Tables::new(flows) };
        (host, site)
    }

    fn ask<'a>(host: &'a Host, site: &'a Site) -> Ask<'a> {
        let ports: Vec<&Port> = host.ports.iter().collect();
        let (properties, profiles) = (vec![&SOUND, &COMPLETE, &MARK], vec![Profile::Kernel]);
        Ask { host, site, ports, properties, profiles, watch: &() }
    }

    fn names(findings: &[IntentFinding]) -> Vec<&'static str> {
        findings.iter().map(|of| of.finding.judgement.name()).collect()
    }

    /// What both say if Z3 is asked about other tables than diagrams, and which of it contradicts itself.
    #[track_caller]
    fn check_planted(diagrams: &(Host, Site), z3: &(Host, Site), wanted: &str) {
        let (ours, theirs) = (ask(&diagrams.0, &diagrams.1), ask(&z3.0, &z3.1));
        let symmetry = Symmetry::trivial(&diagrams.0);
        let findings = check::check_with(&ours, &symmetry, None);
        let (said, _) = by_z3(&theirs, &symmetry, (PORT, HOST), (false, false));
        for of in merge(&ours, &symmetry, findings, &said, false) {
            let Judgement::Contradiction(why) = &of.finding.judgement else {
                let names = (of.finding.diagram, of.finding.z3);
                assert!(names.0 == names.1 || names.0 == Some("vacuous"), "{names:?}");
                continue;
            };
            if why.contains(wanted) {
                return;
            }
        }
        panic!("nobody notices that {wanted}");
    }

    #[test]
    fn engines_that_are_asked_about_different_tables_contradict_each_other() {
        let (good, deaf) = (bound(|_| false), bound(|flow| flow.table == 82));
        check_planted(&good, &deaf, "diagrams say proved, Z3 says refuted");
        check_planted(&deaf, &good, "diagrams say refuted, Z3 says proved");
    }

    #[test]
    fn where_the_work_that_z3_may_do_is_done_diagrams_decide_or_nobody() {
        let (host, site) = bound(|_| false);
        let ask = ask(&host, &site);
        let symmetry = Symmetry::trivial(&host);
        let findings = check::check_with(&ask, &symmetry, None);
        assert!(names(&findings).contains(&"proved"));
        for alone in [false, true] {
            let (said, _) = by_z3(&ask, &symmetry, (1, 1), (false, alone));
            let merged = merge(&ask, &symmetry, findings.clone(), &said, alone);
            assert!(merged.iter().all(|of| of.finding.z3 == Some("unknown")), "{merged:#?}");
            match alone {
                true => assert!(names(&merged).iter().all(|name| *name == "unknown")),
                false => assert_eq!(names(&merged), names(&findings)),
            }
        }
    }

    #[test]
    fn one_engine_alone_proves_and_refutes_what_both_do() {
        for (host, site) in [bound(|_| false), bound(|flow| flow.table == 82)] {
            let ask = ask(&host, &site);
            let both = check_by(&ask, Engines::Both, false).findings;
            let z3 = check_by(&ask, Engines::Z3, true);
            assert_eq!(names(&z3.findings), names(&both));
            assert!(z3.findings.iter().all(|of| of.finding.diagram.is_none()));
            assert!(
                z3.queries
                    .iter()
                    .any(|query| query.name.starts_with("intent-sound-port5-egress-remote-kernel-whole-0"))
            );
        }
    }
}
