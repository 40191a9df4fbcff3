//! Hosts on which senders were forgotten, or on which the tool contradicted itself: each as a user would ask about it.
//!
//! The flows and what they show lie under `tests/fixtures/field`; what is expected is what a real Open vSwitch 3.1 does with them.

use super::{Run, run, scratch};
use serde_json::{Value, json};

fn flows(case: &str) -> String {
    format!("tests/fixtures/field/{case}/flows.txt")
}

fn prove(case: &str, arguments: &[&str]) -> Run {
    run(&[&["prove", &flows(case)], arguments].concat())
}

/// The exit code, and a verdict on some ports, as the table of the report has it.
#[track_caller]
fn check(case: &str, arguments: &[&str], code: i32, rows: &[(&str, &str, &str)]) {
    let run = prove(case, arguments);
    assert_eq!(run.code, Some(code), "{run:?}");
    for (property, verdict, ports) in rows {
        let row = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let wanted: Vec<&str> =
                [*property, *verdict].into_iter().chain(ports.split_whitespace()).collect();
            words.starts_with(&wanted)
        };
        assert!(run.out.lines().any(row), "no {property} {verdict} {ports} in {}", run.out);
    }
}

#[test]
fn every_port_that_tables_can_tell_apart_is_a_sender() {
    for (case, property) in [
        ("proved-10-LOCAL-is-no-sender-ingress-unknown-unicast", "ingress-unknown-unicast"),
        ("proved-10-LOCAL-is-no-sender-network-isolation", "network-isolation"),
        ("proved-11-unknown-port-by-move-ingress-unknown-unicast", "ingress-unknown-unicast"),
    ] {
        check(case, &["--property", property, "--port", "13"], 1, &[(property, "refuted", "13")]);
    }
}

#[test]
fn a_port_that_only_a_register_names_is_there() {
    let case = flows("field-b01-output-by-register-unknown-port");
    let run = run(&["trace", &case, "--in-port", "1", "--packet", "icmp"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.contains("leaves by 73"), "{run:?}");
}

#[test]
fn half_a_tag_is_an_ethertype() {
    let case = "proved-14-truncated-tag-section-B-ingress-unknown-unicast";
    let property = "ingress-unknown-unicast";
    check(case, &["--property", property, "--port", "13"], 1, &[(property, "refuted", "13")]);
}

#[test]
fn normal_drops_a_second_tag_that_becomes_the_first() {
    let rows = [("spoofed-mac", "proved", "10, 13"), ("ingress-unknown-unicast", "proved", "10, 13")];
    check("exit4-pop_vlan-of-two-tags-NORMAL", &[], 1, &rows);
}

#[test]
fn what_leaves_goes_by_the_input_port_as_it_is_written() {
    for (case, property) in [
        ("proved-13-NORMAL-from-written-port-ingress-unknown-unicast", "ingress-unknown-unicast"),
        ("proved-13-NORMAL-from-written-port-network-isolation", "network-isolation"),
    ] {
        check(case, &["--property", property, "--port", "13"], 1, &[(property, "refuted", "13")]);
    }
    let property = "ingress-unknown-unicast";
    check("attack-36-exit4-in_port-written-NORMAL", &[], 1, &[(property, "refuted", "10, 13")]);
}

#[test]
fn a_replay_judges_as_the_engine_does() {
    for (case, property, ports) in [
        ("attack-30-exit4-ct-table-then-output", "untracked-exceptions", "13"),
        ("attack-31-exit4-FLOOD", "ingress-group-addressed", "10, 13"),
    ] {
        check(case, &["--property", property], 1, &[(property, "refuted", ports)]);
    }
}

#[test]
fn what_rests_on_a_choice_that_nobody_can_force_is_no_contradiction() {
    let property = "port-independence";
    let rows = [(property, "refuted", "11, 12, 13"), (property, "unknown", "10")];
    check("attack-37-exit4-overlap-port-independence", &["--property", property], 1, &rows);
    let both = ["--port", "13", "--property", "untracked-exceptions", "--property", property];
    let run = prove("attack-33-exit4-two-conjunctions-satisfied", &both);
    assert_ne!(run.code, Some(4), "{run:?}");
}

#[test]
fn a_port_that_nothing_classifies_is_listed_judged_and_found() {
    let case = "field-a06-half-port-silent";
    let rows = [
        ("spoofed-mac", "refuted", "3"),
        ("derivation-conflict", "refuted", "3"),
        ("unfiltered-ports", "refuted", ""),
    ];
    check(case, &["--engine", "diagram"], 1, &rows);
    check(case, &["--port", "3", "--property", "spoofed-ipv4"], 1, &[("spoofed-ipv4", "refuted", "3")]);
    let lint = run(&["lint", &flows(case)]);
    assert_eq!(lint.code, Some(1), "{lint:?}");
    assert!(lint.out.contains("derivation-conflict: port 3: nothing classifies what it sends"), "{lint:?}");
}

fn intent(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(format!("tests/fixtures/intents/{name}.json")).unwrap()).unwrap()
}

/// A file of an intent, and one of the flows that the current driver writes for it.
fn compiled(name: &str, intent: &Value) -> (String, String) {
    let path = scratch(&format!("{name}.json"), intent.to_string().as_bytes());
    let flows = scratch(&format!("{name}.flows"), b"");
    let [path, flows] = [path, flows].map(|path| path.to_str().unwrap().to_owned());
    let run = run(&["compile", &path, "--layout", "neutron", "--output", &flows]);
    assert_eq!(run.code, Some(0), "{run:?}");
    (path, flows)
}

const LISTED: [&str; 4] = ["--property", "unfiltered-ports", "--property", "derivation-conflict"];

#[test]
fn a_port_that_is_meant_to_be_unfiltered_is_listed_and_no_finding() {
    for (name, why) in [
        ("16_port_security_off", "nothing filters port 6: port security is off"),
        ("17_trusted_ports", "nothing filters ports 2, 3: it belongs to the network itself (trusted owner)"),
    ] {
        let flows = format!("tests/fixtures/corpus/29.0.0/{name}.flows");
        let intent = format!("tests/fixtures/intents/{name}.json");
        let run = run(&[&["prove", &flows, "--intent", &intent], LISTED.as_slice()].concat());
        assert_eq!(run.code, Some(0), "{run:?}");
        let words: Vec<&str> = run.out.split_whitespace().collect();
        assert!(words.join(" ").contains(why), "{run:?}");
    }
}

#[test]
fn a_group_among_the_address_pairs_is_read_and_found() {
    let group = "01:00:5e:01:02:03";
    let mut taken = intent("15_allowed_pairs_cidr_mac");
    let without = compiled("without-group", &taken);
    let bound = taken["host"]["bindings"][0]["port_id"].clone();
    let port = taken["ports"].as_array_mut().unwrap().iter_mut().find(|port| port["id"] == bound).unwrap();
    port["allowed_address_pairs"] = json!([{"ip_address": "224.1.2.3", "mac_address": group}]);
    let (path, flows) = compiled("with-group", &taken);
    let found = run(&[&["prove", &flows, "--intent", &path], LISTED.as_slice()].concat());
    assert_eq!(found.code, Some(1), "{found:?}");
    let words: Vec<&str> = found.out.split_whitespace().collect();
    assert!(words.join(" ").contains(&format!("gives the group {group} to port")), "{found:?}");
    let fine = run(&[&["prove", &without.1, "--intent", &without.0], LISTED.as_slice()].concat());
    assert_eq!(fine.code, Some(0), "{fine:?}");
    // The pair is gone from the intent, its flows are not.
    let lint = run(&["lint", &flows, "--intent", &without.0]);
    assert_eq!(lint.code, Some(1), "{lint:?}");
    assert!(lint.out.contains(&format!("stale: no port has or may use {group}")), "{lint:?}");
}

#[test]
fn a_bound_port_of_which_no_flow_speaks_is_an_error_of_the_host() {
    let mut wanted = intent("02_ipv4_only");
    let (_, flows) = compiled("bound", &wanted);
    let binding = wanted["host"]["bindings"][0].clone();
    let port = wanted["ports"].as_array().unwrap().iter().find(|port| port["id"] == binding["port_id"]);
    let mut port = port.unwrap().clone();
    port["id"] = json!("late");
    port["mac_address"] = json!("fa:16:3e:00:77:77");
    port["fixed_ips"][0]["ip_address"] = json!("10.0.1.77");
    wanted["ports"].as_array_mut().unwrap().push(port);
    let elsewhere = scratch("elsewhere.json", wanted.to_string().as_bytes());
    let vlan = binding["vlan"].clone();
    let here = json!({"port_id": "late", "ofport": 77, "vlan": vlan});
    wanted["host"]["bindings"].as_array_mut().unwrap().push(here);
    let here = scratch("here.json", wanted.to_string().as_bytes());
    let prove = |intent: &std::path::Path| {
        run(&[&["prove", &flows, "--intent", intent.to_str().unwrap()], LISTED.as_slice()].concat())
    };
    let missing = prove(&here);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.out.contains("no flow speaks of port 77"), "{missing:?}");
    assert_eq!(prove(&elsewhere).code, Some(0));
}

/// What NORMAL takes to come from port 6 it does not bring there, whoever sent it.
#[test]
fn agreement_goes_by_the_input_port_as_it_is_written() {
    let (path, flows) = compiled("agreement", &intent("04_dual_stack"));
    let mut text = std::fs::read_to_string(&flows).unwrap();
    text.push_str(
        "table=0,priority=200,in_port=5,dl_dst=fa:16:3e:00:00:06 actions=load:6->NXM_OF_IN_PORT[],NORMAL\n",
    );
    let diverted = scratch("diverted.flows", text.as_bytes());
    let ask = |flows: &str| {
        run(&["prove", flows, "--intent", &path, "--property", "intent-complete", "--datapath", "kernel"])
    };
    let says = |run: &Run, verdict: &str| {
        let of = |line: &str| line.starts_with("intent-complete to filtered") && line.contains(verdict);
        run.out.lines().any(of)
    };
    let (before, after) = (ask(&flows), ask(diverted.to_str().unwrap()));
    assert!(before.code == Some(0) && says(&before, "proved"), "{before:?}");
    assert!(after.code == Some(1) && says(&after, "refuted"), "{after:?}");
}
