//! `flowproof lint`.

use super::{example, run, run_with};
use serde_json::Value;

/// The names of the findings in a file, each once, sorted, and the exit code.
#[track_caller]
fn check(flows: &str, code: i32, names: &[&str]) {
    let run = run_with(&["lint", "--format", "json", "-"], flows.as_bytes());
    assert_eq!(run.code, Some(code), "{flows}: {run:?}");
    let report: Value = serde_json::from_str(&run.out).unwrap();
    let mut found: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, names, "{flows}");
}

/// As `ovs-ofctl parse-flows` 3.1 warns, refuses or replaces.
#[test]
fn each_kind_of_finding_is_found_and_nothing_else() {
    check("in_port=1 actions=drop\nin_port=2 actions=NORMAL\n", 0, &[]);
    check("ip,tp_dst=80 actions=drop\n", 1, &["widened"]);
    check("nw_src=1.2.3.4 actions=drop\n", 1, &["widened"]);
    check("in_port=1,ct_state=-trk actions=ct(commit)\n", 1, &["ct-without-ip"]);
    check("ip,in_port=1 actions=strip_vlan,output:2\n", 1, &["openflow10-only"]);
    check("dl_vlan=5,in_port=1 actions=strip_vlan,output:2\n", 0, &[]);
    check("in_port=1 actions=drop\nin_port=1 actions=NORMAL\n", 1, &["duplicate"]);
    check("in_port=1 actions=drop\npriority=7 actions=NORMAL\n", 0, &[]);
}

/// What no packet hits, what two flows claim, what never ends: each by hand, with a twin that is in order.
#[test]
fn what_cannot_be_reached_or_is_undefined_is_found() {
    let halves = "priority=9,ip,nw_src=10.0.0.0/25 actions=1\npriority=9,ip,nw_src=10.0.0.128/25 actions=2\n";
    check(&format!("{halves}priority=5,ip,nw_src=10.0.0.0/24 actions=3\n"), 1, &["dead"]);
    check(&format!("{halves}priority=5,ip,nw_src=10.0.0.0/23 actions=3\n"), 0, &[]);
    check("priority=5,tcp actions=1\npriority=5,ip,nw_dst=10.0.0.9 actions=2\n", 1, &["ambiguous"]);
    check("priority=5,tcp actions=1\npriority=5,ip,nw_dst=10.0.0.9 actions=1\n", 0, &[]);
    check("priority=5,tcp actions=1\npriority=5,udp,nw_dst=10.0.0.9 actions=2\n", 0, &[]);
    let clauses =
        "ip,nw_src=10.0.0.1 actions=conjunction(7,1/2)\nip,nw_dst=10.0.0.2 actions=conjunction(7,2/2)\n";
    check(clauses, 1, &["orphaned"]);
    check(&format!("{clauses}conj_id=7,ip actions=1\n"), 0, &[]);
    check("table=5 actions=drop\nin_port=1 actions=drop\n", 0, &["unreached"]);
    check("arp actions=resubmit(,5)\ntable=5 actions=resubmit(,5)\n", 1, &["endless"]);
    check("arp actions=resubmit(,5)\ntable=5 actions=resubmit(,6)\ntable=6 actions=1\n", 0, &[]);
}

#[test]
fn what_is_not_modelled_is_a_note_and_no_defect() {
    check("in_port=1 actions=learn(table=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])\n", 0, &["opaque"]);
    check("ip,in_port=1 actions=ct(commit,nat(src=10.0.0.1))\n", 0, &["opaque"]);
}

/// 6 and 32: counted with `ovs-ofctl` 3.1, which refuses the flows one by one.
#[test]
fn the_host_of_2016_has_the_two_defects_that_todays_switches_refuse() {
    let run = run(&["lint", &example("flows.txt")]);
    assert_eq!(run.code, Some(1));
    assert!(run.out.starts_with("110 flows, 38 findings\n"), "{}", run.out);
    let flat = run.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("refused since Open vSwitch 2.6 (6 flows)"), "{flat}");
    assert!(flat.contains("accepted over OpenFlow 1.0 only (32 flows)"), "{flat}");
}

#[test]
fn the_document_as_it_was_saved_has_the_same_flows() {
    let findings = |arguments: &[&str]| {
        let run = run(arguments);
        assert_eq!(run.code, Some(1), "{run:?}");
        let report: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!(report["inputs"]["flows"]["parsed"], 110);
        let flow = |finding: &Value| finding["flow"].as_str().unwrap().to_owned();
        let flows: Vec<_> = report["findings"].as_array().unwrap().iter().map(flow).collect();
        (flows, report["skipped"].as_array().unwrap().len(), run.err)
    };
    let (cleaned, none, _) = findings(&["lint", "--format", "json", &example("flows.txt")]);
    let (saved, skipped, remarks) =
        findings(&["lint", "--format", "json", "--lenient", &example("document.txt")]);
    assert_eq!(cleaned, saved);
    assert_eq!(none, 0);
    assert_eq!(remarks.matches("passed over").count(), skipped);
    assert!(remarks.contains("document.txt:3: passed over: 作者:张华"), "{remarks}");
    let quiet = run(&["lint", "-q", "--lenient", &example("document.txt")]);
    assert_eq!(quiet.err, "");
}

#[test]
fn text_fits_80_columns_and_is_coloured_only_on_demand() {
    for verbose in [&["lint"][..], &["lint", "-v"]] {
        let run = run(&[verbose, &[&example("flows.txt")]].concat());
        let long: Vec<_> = run.out.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{long:#?}");
        assert!(!run.out.contains('\x1b'));
    }
    assert!(run(&["lint", "--color", "always", &example("flows.txt")]).out.contains("\x1b["));
}

#[test]
fn the_same_input_gives_the_same_report() {
    let report = || run(&["lint", "--format", "json", &example("flows.txt")]).out;
    assert_eq!(report(), report());
}

/// What the intent of a host does not have, its flows should not speak of.
#[test]
fn with_an_intent_stale_flows_are_found() {
    let root = env!("CARGO_MANIFEST_DIR");
    let flows = format!("{root}/tests/fixtures/corpus/29.0.0/04_dual_stack.flows");
    let own = format!("{root}/tests/fixtures/intents/04_dual_stack.json");
    let other = format!("{root}/tests/fixtures/intents/18_remote_group_3.json");
    let stale = |intent: &str| {
        let run = run(&["lint", &flows, "--intent", intent, "--format", "json"]);
        let report: Value = serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"));
        assert!(report["inputs"]["intent"]["sha256"].is_string(), "{run:?}");
        report["findings"].as_array().unwrap().iter().filter(|finding| finding["name"] == "stale").count()
    };
    assert_eq!(stale(&own), 0);
    assert!(stale(&other) > 0);
}

/// Two calls to later tables before `ct()`, one behind it.
#[test]
fn the_longest_way_is_shown() {
    let tables = "actions=resubmit(,1)\ntable=1,ip actions=resubmit(,2)\ntable=2,ip actions=ct(table=1)\n";
    let run = run_with(&["lint", "-"], tables.as_bytes());
    let told = "terminates: no packet is passed on more than 2 times in one translation, 0 deep, nor tracked more than";
    let flat = run.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(told), "{}", run.out);
}
