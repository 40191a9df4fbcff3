//! Isolation and default deny: the layouts' verdicts as they are known, and mutants that each row must refute.

use super::hosts::{self, HARDENED, SEED};
use flowproof_compiler::{Layout, Options, compile};
use flowproof_model::policy::Policy;
use flowproof_packet::PortNo;
use flowproof_proofs::{
    check::{Judgement, Witness},
    diagram::Host,
    isolation::{self, Ask, IsolationFinding, ROWS},
    properties::Property,
    replay::left,
};
use flowproof_switch::conntrack::Profile;
use std::collections::BTreeMap;

/// Our layout's tables for an intent of the fixtures, with its rules or without.
fn strict(case: &str, rules: bool) -> String {
    let path = format!("{}/tests/fixtures/intents/{case}.json", env!("CARGO_MANIFEST_DIR"));
    let mut intent: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for group in intent["security_groups"].as_array_mut().unwrap().iter_mut().filter(|_| !rules) {
        group["security_group_rules"] = serde_json::json!([]);
    }
    let policy = Policy::from_json(&intent.to_string()).unwrap();
    let compiled = compile(&policy, policy.host.as_ref().unwrap(), Layout::Strict, &Options::default());
    compiled.flows.iter().map(|one| format!("{}\n", one.flow)).collect()
}

fn judge(host: &Host, names: &[&str], ports: &[PortNo], profiles: &[Profile]) -> Vec<IsolationFinding> {
    let chosen = |name: &&str| isolation::by_name(name).map(|row| &row.property).unwrap();
    let properties: Vec<&'static Property> = names.iter().map(chosen).collect();
    let ports = host.ports.iter().filter(|port| ports.is_empty() || ports.contains(&port.ofport)).collect();
    isolation::check(&Ask { host, site: None, ports, properties, profiles: profiles.to_vec(), watch: &() })
}

pub(super) fn every_row() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.property.name).collect()
}

/// The verdicts by row; one that differs between ports or datapaths is shown with all of them.
fn verdicts(findings: &[IsolationFinding]) -> BTreeMap<&'static str, String> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for of in findings {
        all.entry(of.finding.property.name).or_default().push(of.finding.judgement.name());
    }
    all.into_iter()
        .map(|(name, mut verdicts)| {
            verdicts.dedup();
            (name, verdicts.join(" "))
        })
        .collect()
}

#[track_caller]
fn check(text: &str, profiles: &[Profile], refuted: &[&str]) -> Vec<IsolationFinding> {
    let findings = judge(&hosts::host(text), &every_row(), &[], profiles);
    for (name, verdict) in verdicts(&findings) {
        let expected = if refuted.contains(&name) { "refuted" } else { "proved" };
        assert_eq!(verdict, expected, "{name}: {findings:#?}");
    }
    findings
}

const FLOODING: [&str; 3] = ["ingress-group-addressed", "ingress-unknown-unicast", "untracked-exceptions"];

#[test]
fn the_host_of_2016_isolates_nothing_but_rules() {
    let refuted: Vec<&str> = FLOODING.into_iter().chain(["network-isolation", "default-deny"]).collect();
    for of in check(SEED, &Profile::ALL, &refuted) {
        if let Judgement::Refuted(replay) = &of.finding.judgement {
            assert!(replay.events.iter().any(|sent| left(&sent.outcome)), "{:?}", of.finding.property);
        }
    }
}

#[test]
fn our_layout_keeps_every_row() {
    for of in check(&strict("01_seed_scenario", true), &[Profile::Userspace31, Profile::Kernel], &[]) {
        let Judgement::Proved(witness) = &of.finding.judgement else { panic!("{of:#?}") };
        let strangers = of.finding.property.name == "ingress-unknown-unicast";
        assert_eq!(matches!(witness, Witness::Twins { .. }), strangers, "{of:#?}");
    }
}

/// A change of one flow: in each line with all of these, this becomes that.
type Edit = (&'static [&'static str], &'static str, &'static str);

#[track_caller]
fn edited(text: &str, (with, from, to): Edit) -> String {
    let mut changed = 0;
    let lines = text.lines().map(|line| {
        let hit = with.iter().all(|part| line.contains(part)) && line.contains(from);
        changed += usize::from(hit);
        if hit { line.replacen(from, to, 1) } else { line.to_owned() }
    });
    let lines: Vec<String> = lines.collect();
    assert!(changed > 0, "no flow with {with:?} and {from:?}");
    lines.join("\n")
}

#[track_caller]
fn refutes(base: &str, name: &str, port: PortNo, edit: Edit) {
    let text = edited(base, edit);
    let findings = judge(&hosts::host(&text), &[name], &[port], &[Profile::Userspace31]);
    let found: Vec<&str> = findings.iter().map(|of| of.finding.judgement.name()).collect();
    assert_eq!(found, ["refuted"], "{name} on {edit:?}: {findings:#?}");
}

/// Defects of our layout's tables for two ports, 13 and 10, of one network behind port 1.
const MUTANTS: &[(&str, PortNo, Edit)] = &[
    ("network-isolation", 13, (&["priority=3", "in_port=1"], ",dl_vlan=1053", ",vlan_tci=0x1000/0x1000")),
    (
        "network-isolation",
        13,
        (&["table=71", "in_port=13", "ct(table=72", ",ip,"], "zone=NXM_NX_REG6", "zone=NXM_NX_REG5"),
    ),
    (
        "network-isolation",
        13,
        (&["table=73", "e9:f9:c8"], "resubmit(,81)", "set_field:0x2->reg6,resubmit(,81)"),
    ),
    ("default-deny", 13, (&["priority=0 actions=drop"], "actions=drop", "actions=NORMAL")),
    ("default-deny", 13, (&["table=60, priority=0"], "drop", "NORMAL")),
    ("ingress-group-addressed", 13, (&["table=74, priority=100"], "actions=", "actions=output:13,")),
    ("ingress-group-addressed", 10, (&["table=73, priority=95"], "resubmit(,74)", "NORMAL")),
    ("ingress-unknown-unicast", 13, (&["table=73, priority=80"], "actions=", "actions=NORMAL,")),
    ("ingress-unknown-unicast", 10, (&["table=73, priority=80"], "actions=", "actions=output:10,")),
    (
        "untracked-exceptions",
        13,
        (&["table=81, priority=90", "reg5=0xd", ",ip,"], "ct(table=82,zone=NXM_NX_REG6[0..15])", "output:13"),
    ),
    (
        "untracked-exceptions",
        13,
        (
            &["table=71, priority=65", ",ip,", "in_port=13"],
            "ct(table=72,zone=NXM_NX_REG6[0..15])",
            "resubmit(,73)",
        ),
    ),
    ("port-independence", 10, (&["table=82", "-rel-rpl", "icmp,reg5=0xd"], "icmp,reg5=0xd", "udp")),
    (
        "port-independence",
        10,
        (&["table=82", "-rel-rpl", "icmp,reg5=0xd"], "resubmit(,83)", "set_field:0xa->reg5,resubmit(,83)"),
    ),
];

#[test]
fn each_defect_of_our_layout_is_refuted_by_its_row() {
    let base = strict("01_seed_scenario", true);
    for (name, port, edit) in MUTANTS {
        refutes(&base, name, *port, *edit);
    }
    for row in &ROWS {
        let caught = MUTANTS.iter().filter(|(name, _, _)| *name == row.property.name).count();
        assert!(caught >= 2, "{}", row.property.name);
    }
}

#[test]
fn a_port_without_rules_receives_what_needs_none_only() {
    let base = strict("01_seed_scenario", false);
    let bare = judge(&hosts::host(&base), &["default-deny"], &[], &[Profile::Kernel]);
    assert!(bare.iter().all(|of| of.finding.judgement.name() == "proved"), "{bare:#?}");
    let opened: Edit =
        (&["table=81, priority=90", "reg5=0xd", ",ip,"], "ct(table=82,zone=NXM_NX_REG6[0..15])", "output:13");
    refutes(&base, "default-deny", 13, opened);
}

#[test]
fn an_order_of_equal_flows_that_decides_is_refuted() {
    let base = strict("01_seed_scenario", true);
    let twice = "table=82, priority=80,ct_state=-rel-rpl-inv+trk,icmp,reg5=0xd,icmp_type=8 actions=drop";
    let host = hosts::host(&format!("{base}{twice}\n"));
    let findings = judge(&host, &["port-independence"], &[13], &[Profile::Kernel]);
    let found: Vec<&str> = findings.iter().map(|of| of.finding.judgement.name()).collect();
    assert_eq!(found, ["refuted"], "{findings:#?}");
}

#[test]
fn hand_made_tables_that_forward_by_normal_flood() {
    let findings = judge(&hosts::host(HARDENED), &FLOODING, &[5], &[Profile::Userspace31]);
    assert!(findings.iter().all(|of| of.finding.judgement.name() == "refuted"), "{findings:#?}");
}
