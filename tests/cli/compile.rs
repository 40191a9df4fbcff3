//! `flowproof compile`.

use super::{check_refused, run, run_with};
use std::collections::BTreeSet;

const SEED: &str = "tests/fixtures/intents/01_seed_scenario.json";

/// The flows of a text without comments and cookies, as a set.
fn flows(text: &str) -> BTreeSet<String> {
    let plain = |line: &str| {
        line.split(", ").filter(|item| !item.trim().starts_with("cookie=")).collect::<Vec<_>>().join(", ")
    };
    text.lines().filter(|line| !line.starts_with('#')).map(|line| plain(line).trim().to_owned()).collect()
}

#[test]
fn the_host_of_2016_compiles_to_as_many_flows_as_it_has() {
    let run = run(&["compile", SEED, "--layout", "mitaka"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(flows(&run.out).len(), 110);
    let linted = run_with(&["lint", "--format", "json", "-"], run.out.as_bytes());
    let report: serde_json::Value = serde_json::from_str(&linted.out).unwrap();
    assert_eq!(report["inputs"]["flows"]["parsed"], 110);
}

#[test]
fn comments_change_no_flow_and_say_what_flows_are_for() {
    for layout in ["mitaka", "neutron", "strict"] {
        let plain = run(&["compile", SEED, "--layout", layout]);
        let annotated = run(&["compile", SEED, "--layout", layout, "--annotate"]);
        assert_eq!(flows(&plain.out), flows(&annotated.out), "{layout}");
        assert!(!plain.out.contains('#') && annotated.out.contains("\n# "), "{layout}");
        assert_eq!(plain, run(&["compile", SEED, "--layout", layout]), "{layout}");
    }
}

/// 22 to 22 in 2016: one port too many; corrected: just the one. (LP 1611991)
#[test]
fn port_ranges_of_2016_can_be_corrected() {
    let intent = std::fs::read_to_string(SEED).unwrap();
    let narrow = intent.replacen("\"port_range_max\": 23", "\"port_range_max\": 22", 1);
    assert_ne!(intent, narrow, "the seed's intent has the range 22 to 23");
    let out = |more: &[&str]| {
        run_with(&[&["compile", "-", "--layout", "mitaka"], more].concat(), narrow.as_bytes()).out
    };
    assert!(out(&[]).contains("tp_dst=0x16/0xfffe"));
    assert!(!out(&["--exact-ports"]).contains("tp_dst=0x16/0xfffe"));
    assert!(out(&["--exact-ports"]).contains("tp_dst=22 "));
}

#[test]
fn intents_that_are_wrong_are_refused_with_object_field_and_value() {
    let intent = std::fs::read_to_string(SEED).unwrap();
    let check = |from: &str, to: &str, words: &[&str]| {
        let wrong = intent.replacen(from, to, 1);
        assert_ne!(wrong, intent, "{from}");
        check_refused(&run_with(&["compile", "-"], wrong.as_bytes()), words);
    };
    check("\"port_range_max\": 23", "\"port_range_max\": 21", &["port_range", "22", "21"]);
    check("10.0.1.8", "10.0.1.800", &["10.0.1.800"]);
    check_refused(&run_with(&["compile", "-"], b"{}"), &["<stdin>", "networks"]);
    check_refused(&run_with(&["compile", "-"], b"{\"ports\": ["), &["<stdin>", "not JSON"]);
    check_refused(&run(&["compile", "no-such-file.json"]), &["no-such-file.json", "no such file"]);
}
