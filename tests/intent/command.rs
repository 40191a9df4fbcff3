//! `flowproof prove --intent`.

use super::support::read;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::process::{Command, Output};

const FLOWS: &str = "examples/mitaka-2016/flows.txt";
const INTENT: &str = "tests/fixtures/intents/01_seed_scenario.json";

fn prove(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowproof"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["prove", FLOWS, "--engine", "diagram", "--datapath", "kernel"])
        .args(arguments)
        .output()
        .unwrap()
}

fn report(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = prove(&[arguments, &["--format", "json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn file(name: &str, text: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_intent_is_named_hashed_and_the_source_of_the_ports() {
    let (code, report) = report(&["--intent", INTENT, "--property", "intent-sound"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &Value::from("proved")));
    let hash: String = Sha256::digest(read(INTENT)).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(report["inputs"]["intent"], serde_json::json!({"file": INTENT, "sha256": hash}));
    assert!(report["ports"].as_array().unwrap().iter().all(|port| port["source"] == "intent"));
    let row = &report["results"][0];
    assert_eq!((&row["direction"], &row["peer"]), (&Value::from("egress"), &Value::from("remote")));
    assert_eq!(row["witness"]["escapes"]["replayed"]["model"], true);
}

#[test]
fn without_an_intent_section_d_is_not_checked_and_changes_no_exit_code() {
    let (code, report) = report(&["--property", "intent-*", "--property", "spoofed-arp"]);
    assert_eq!((code, &report["verdict"]), (Some(0), &Value::from("proved")));
    let rows = report["results"].as_array().unwrap();
    let not_checked: Vec<&Value> = rows.iter().filter(|row| row["verdict"] == "not-checked").collect();
    assert_eq!(not_checked.len(), 2, "{rows:#?}");
}

#[test]
fn both_engines_answer_unless_one_is_chosen_and_queries_are_written() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("queries of an intent");
    let output = Command::new(env!("CARGO_BIN_EXE_flowproof"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["prove", FLOWS, "--intent", INTENT, "--property", "intent-sound", "--datapath", "kernel"])
        .args(["--port", "13", "--format", "json", "--smt2"])
        .arg(&directory)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["results"].as_array().unwrap();
    let both = serde_json::json!({"diagram": "proved", "z3": "proved"});
    assert!(rows.len() > 1 && rows.iter().all(|row| row["engines"] == both), "{rows:#?}");
    let query =
        std::fs::read_to_string(directory.join("intent-sound-port13-all-kernel-whole-0.smt2")).unwrap();
    assert!(query.contains("(set-info :status unsat)"), "{query}");
}

#[test]
fn several_files_are_one_intent() {
    let whole: Value = serde_json::from_str(&read(INTENT)).unwrap();
    let part = |keys: &[&str]| {
        let chosen = whole.as_object().unwrap().iter().filter(|(key, _)| keys.contains(&key.as_str()));
        Value::Object(chosen.map(|(key, value)| (key.clone(), value.clone())).collect()).to_string()
    };
    let groups = file("groups.json", &part(&["security_groups", "address_groups"]));
    let ports = file("ports.json", &part(&["networks", "ports", "host"]));
    let (code, report) = report(&["--intent", &groups, "--intent", &ports, "--property", "intent-sound"]);
    assert_eq!(code, Some(0));
    assert_eq!(report["inputs"]["intent"].as_array().unwrap().len(), 2);
}

#[test]
fn a_faulty_intent_is_refused_by_object_field_and_value() {
    let faulty = file("faulty.json", &read(INTENT).replace("fa:16:3e:e9:f9:c8", "fa:16:3e:e9:f9"));
    let output = prove(&["--intent", &faulty]);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{complaint}");
    for part in ["p13-seed-port", "mac_address", "fa:16:3e:e9:f9"] {
        assert!(complaint.contains(part), "no {part} in {complaint}");
    }
}

/// Counterexamples under the intent whose rule for TCP says 22 only: property, scenario.
fn counterexamples(arguments: &[&str]) -> Vec<(String, Value)> {
    let (code, report) = report(arguments);
    assert_eq!(code, Some(1));
    let rows = report["results"].as_array().unwrap().iter().filter(|row| row["verdict"] == "refuted");
    let of = |row: &Value| {
        let (property, peer) = (row["property"].as_str().unwrap(), row["peer"].as_str().unwrap_or_default());
        (format!("{property} {} {peer}", row["port"]), row["counterexample"]["scenario"].clone())
    };
    rows.map(of).collect()
}

#[test]
fn a_counterexample_is_a_scenario_that_runs_and_shows_the_same() {
    let stated = read(INTENT).replace("\"port_range_max\": 23", "\"port_range_max\": 22");
    let intent = file("port-22.json", &stated);
    let properties =
        ["--property", "intent-*", "--property", "spoofed-nd", "--property", "dhcp-server-fragments"];
    let all = counterexamples(&[&["--intent", &*intent], &properties[..]].concat());
    assert!(all.len() > 6, "{all:#?}");
    for (number, (name, scenario)) in all.iter().enumerate() {
        let text = scenario.as_str().unwrap_or_else(|| panic!("{name} has no scenario"));
        let path = file(&format!("counterexample-{number}.scn"), text);
        let output = Command::new(env!("CARGO_BIN_EXE_flowproof")).args(["run", &path]).output().unwrap();
        let (shown, complaint) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(1), "{name}: {complaint}{text}");
        let wanted = if name.starts_with("intent-complete") { "does not get it" } else { "must not" };
        assert!(shown.contains(wanted), "{name}: {shown}");
    }
}

#[test]
fn without_an_intent_a_counterexample_is_no_scenario() {
    let all = counterexamples(&["--property", "spoofed-nd"]);
    assert!(all.iter().all(|(_, scenario)| scenario.is_null()), "{all:#?}");
}
