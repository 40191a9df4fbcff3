//! Decision diagrams against Z3 on agreement with an intent: one answer for every theorem, way and datapath.

use super::support::{Case, bind, corpus, policy};
use flowproof_compiler::{Layout, Options, compile};
use flowproof_fuzz::{
    Choices, Wishes,
    choices::bytes,
    scenario::{BYTES, scenario},
};
use flowproof_proofs::{
    check::Engines,
    intent::{Ask, IntentFinding, PROPERTIES, check_by},
    ports::Port,
};
use flowproof_switch::{conntrack::Profile, flow::Flow};
use std::collections::BTreeMap;

fn judged(case: &Case, ports: usize, profiles: &[Profile]) -> Vec<IntentFinding> {
    let ports: Vec<&Port> = case.host.ports.iter().take(ports).collect();
    let (properties, profiles) = (PROPERTIES.to_vec(), profiles.to_vec());
    let ask = Ask { host: &case.host, site: &case.site, ports, properties, profiles, watch: &() };
    check_by(&ask, Engines::Both, false).findings
}

/// How often each answer came. What diagrams find and no packet leads to, Z3 finds as well: it knows nothing of packets.
/// It need not finish.
fn agree(what: &str, findings: &[IntentFinding]) -> BTreeMap<&'static str, usize> {
    let mut answers = BTreeMap::new();
    for of in findings {
        let (diagram, z3) = (of.finding.diagram.unwrap(), of.finding.z3.unwrap());
        let expected = match diagram {
            "vacuous" | "proved" => "proved",
            _ => "refuted",
        };
        assert!(z3 == "unknown" || z3 == expected, "{what}: diagrams say {diagram}: {of:#?}");
        *answers.entry(z3).or_default() += 1;
    }
    answers
}

#[test]
fn engines_agree_on_what_drivers_wrote() {
    let mut sum: BTreeMap<&str, usize> = BTreeMap::new();
    for (release, name) in [
        ("29.0.0", "02_ipv4_only"),
        ("29.0.0", "07_icmp_type_code"),
        ("29.0.0", "09_protocol_numbers"),
        ("29.0.0", "27_no_rules"),
        ("8.1.0", "01_seed_scenario"),
        ("8.1.0", "09_protocol_numbers"),
        ("8.1.0", "16_port_security_off"),
    ] {
        let case = corpus(release, name);
        for (answer, count) in agree(name, &judged(&case, 1, &[Profile::Userspace31, Profile::Kernel])) {
            *sum.entry(answer).or_default() += count;
        }
    }
    assert!(["proved", "refuted"].iter().all(|answer| sum[answer] > 20) && sum.len() == 2, "{sum:?}");
}

#[test]
fn engines_agree_on_the_layout_whose_rules_judge_replies() {
    let policy = policy("02_ipv4_only");
    let host = policy.host.clone().unwrap();
    let compiled = compile(&policy, &host, Layout::Strict, &Options::default());
    let flows = compiled.flows.into_iter().map(|annotated| annotated.flow).collect();
    let answers = agree("strict", &judged(&bind(policy, flows), 1, &Profile::ALL));
    assert!(answers["proved"] > 20 && !answers.contains_key("unknown"), "{answers:?}");
}

/// Tables of random policies, some of them without one of their flows.
#[test]
fn engines_agree_on_random_policies() {
    let mut sum: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..ROUNDS {
        // In `strict` rules judge replies, too, which is hard for Z3.
        let layout = [Layout::Mitaka, Layout::Neutron][seed as usize / 2 % 2];
        let drawn = scenario(&mut Choices::of(&bytes(seed, BYTES)), &Wishes::new(&[layout]));
        let policy = drawn.scenario.policy;
        let Some(host) = policy.host.clone() else { continue };
        let compiled = compile(&policy, &host, layout, &Options::default());
        let mut flows: Vec<Flow> = compiled.flows.into_iter().map(|annotated| annotated.flow).collect();
        if seed % 2 == 1 {
            flows.remove(seed as usize * 7919 % flows.len());
        }
        let profile = Profile::ALL[seed as usize / 3 % Profile::ALL.len()];
        let case = bind(policy, flows);
        let what = format!("policy {seed} in {layout:?} under {profile:?}");
        for (answer, count) in agree(&what, &judged(&case, 1, &[profile])) {
            *sum.entry(answer).or_default() += count;
        }
    }
    assert!(["proved", "refuted"].iter().all(|answer| sum[answer] > ROUNDS as usize), "{sum:?}");
    assert!(sum.get("unknown").is_none_or(|unknown| unknown * 4 < sum["proved"]), "{sum:?}");
}

const ROUNDS: u64 = 16;
