//! `flowproof prove`.

use super::{check_refused, example, run, run_with};
use serde_json::Value;
use std::collections::BTreeSet;

const DIAGRAM: [&str; 2] = ["--engine", "diagram"];

fn report(arguments: &[&str]) -> Value {
    let run = run(&[&["prove", "--format", "json"], arguments].concat());
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// (property, verdict, datapaths) of every result.
fn verdicts(report: &Value) -> BTreeSet<(String, String, usize)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| {
        (text(&row["property"]), text(&row["verdict"]), row["datapath"].as_array().unwrap().len())
    };
    report["results"].as_array().unwrap().iter().map(row).collect()
}

/// A host without a port says nothing about ports: inconclusive, unless that is allowed by name.
#[test]
fn tables_without_filtered_ports_do_not_open_the_gate() {
    let flows = b"in_port=1 actions=NORMAL\n";
    let run = run_with(&["prove", "-"], flows);
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.out.contains("0 filtered ports"), "{}", run.out);
    assert_eq!(run_with(&["prove", "-", "--allow-vacuous", "*"], flows).code, Some(0));
    assert_eq!(run_with(&["prove", "-", "--allow-vacuous", "spoofed-mac"], flows).code, Some(3));
}

#[test]
fn the_exit_code_says_what_was_found() {
    let flows = example("flows.txt");
    let code = |arguments: &[&str]| run(&[&["prove", &flows], DIAGRAM.as_slice(), arguments].concat()).code;
    assert_eq!(code(&["--property", "spoofed-arp"]), Some(0));
    assert_eq!(code(&["--property", "spoofed-*"]), Some(1));
    assert_eq!(code(&["--property", "router-advertisement", "--datapath", "kernel"]), Some(0));
    assert_eq!(code(&["--property", "router-advertisement", "--datapath", "kernel-2016"]), Some(1));
}

#[test]
fn a_selection_selects() {
    let flows = example("flows.txt");
    let report = report(&[
        &flows,
        "--engine",
        "diagram",
        "--port",
        "13",
        "--property",
        "dhcp*-server",
        "--datapath",
        "kernel",
    ]);
    let both = ["dhcp-server", "dhcpv6-server"].map(|name| (name.to_owned(), "proved".to_owned(), 1));
    assert_eq!(verdicts(&report), BTreeSet::from(both));
    assert_eq!(report["results"][0]["port"], 13);
}

#[test]
fn what_cannot_be_selected_is_refused() {
    let flows = example("flows.txt");
    check_refused(
        &run(&["prove", &flows, "--property", "spoofed-nothing"]),
        &["`spoofed-nothing`", "spoofed-mac"],
    );
    check_refused(&run(&["prove", &flows, "--port", "14"]), &["14", "10, 13"]);
    let run = run(&["prove", &flows, "--datapath", "kernel-2.6"]);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    assert!(run.err.contains("userspace-3.1, kernel, kernel-2016 and all"), "{}", run.err);
}

/// The same input gives the same report, but for the time it took.
#[test]
fn reports_are_reproducible_byte_for_byte() {
    let flows = example("flows.txt");
    let text = || {
        let out = run(&["prove", &flows, "--engine", "diagram", "--format", "json"]).out;
        out.lines()
            .filter(|line| !line.contains("\"seconds\""))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let first = text();
    assert!(first.len() > 10_000, "{first}");
    assert_eq!(first, text());
}

/// Every packet of a report can be sent again: `trace` takes its hex and ends where the report says.
#[test]
fn a_counterexample_replays_by_hand() {
    let flows = example("flows.txt");
    let report = report(&[&flows, "--engine", "diagram", "--port", "13", "--property", "spoofed-ipv4"]);
    let story = &report["results"][0]["counterexample"];
    let packet = &story["events"][0]["packet"];
    assert_eq!(story["replayed"]["interpreter"], true);
    let traced = run(&["trace", &flows, "--in-port", "13", "--hex", packet["hex"].as_str().unwrap()]);
    assert_eq!(traced.code, Some(0), "{traced:?}");
    assert!(traced.out.contains("NORMAL"), "{}", traced.out);
    let lines: Vec<u64> =
        story["path"].as_array().unwrap().iter().map(|hop| hop["line"].as_u64().unwrap()).collect();
    for line in lines {
        assert!(traced.out.contains(&format!("line {line}")), "line {line} in {}", traced.out);
    }
}

fn scratch(name: &str) -> String {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    directory.join(name).to_str().unwrap().to_owned()
}

#[test]
fn what_is_known_is_written_and_read_back() {
    let flows = example("flows.txt");
    let known = scratch("known.jsonl");
    let prove = |arguments: &[&str]| run(&[&["prove", &flows], DIAGRAM.as_slice(), arguments].concat());
    assert_eq!(prove(&["--write-expect", &known]).code, Some(1));
    assert_eq!(prove(&["--expect", &known]).code, Some(0));
    assert_eq!(prove(&["--expect", &example("known.jsonl")]).code, Some(0));
    let lines = std::fs::read_to_string(&known).unwrap();
    let check = |edited: String, why: &str| {
        let file = scratch("edited.jsonl");
        std::fs::write(&file, edited).unwrap();
        let run = prove(&["--expect", &file]);
        assert_eq!(run.code, Some(1), "{why}");
        assert!(run.out.contains(why), "no {why:?} in {}", run.out);
    };
    let without =
        lines.lines().filter(|line| !line.contains("\"spoofed-nd\"")).collect::<Vec<_>>().join("\n");
    check(without, "not listed: spoofed-nd is refuted on port 10 under userspace-3.1");
    let hopeful = lines.replacen("\"verdict\":\"refuted\"", "\"verdict\":\"unknown\"", 1);
    check(hopeful, "line 1 no longer holds: spoofed-mac is refuted");
    let other = lines.replacen("\"port\":\"*\"", "\"port\":99", 1);
    check(other, "line 1 speaks of nothing that was checked");
    let over = lines.replacen("\"reason\"", "\"until\":\"2020-01-01\",\"reason\"", 1);
    check(over, "line 1 was good until 2020-01-01");
}

#[test]
fn expectations_that_mean_nothing_are_refused_with_their_line() {
    let file = scratch("wrong.jsonl");
    std::fs::write(&file, "\n{\"property\":\"spoofed-mac\"}\n").unwrap();
    let run = run(&["prove", &example("flows.txt"), "--expect", &file]);
    check_refused(&run, &["wrong.jsonl:2:", "missing field `port`"]);
}

#[test]
fn queries_are_written_as_smt_lib() {
    let directory = scratch("queries");
    let flows = example("flows.txt");
    let run = run(&[
        "prove",
        &flows,
        "--port",
        "13",
        "--property",
        "dhcp-server",
        "--datapath",
        "kernel",
        "--smt2",
        &directory,
    ]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let query =
        std::fs::read_to_string(format!("{directory}/dhcp-server-port13-kernel-whole-0.smt2")).unwrap();
    assert!(query.contains("(declare-fun dl_type () (_ BitVec 16))"), "{query}");
    let begin = "(set-info :smt-lib-version 2.6)\n(set-logic QF_BV)\n(set-info :status unsat)\n(declare-fun ";
    assert!(query.starts_with(begin) && query.ends_with("(check-sat)\n(exit)\n"), "{query}");
    // Words of Z3's own that no other solver knows.
    assert!(!["pbeq", "(_ at-"].iter().any(|word| query.contains(word)), "{query}");
}

/// `--ports` replaces the assumption: the port of a trunk may send what no access port may.
#[test]
fn known_vlans_replace_the_assumption() {
    let flows = example("flows.txt");
    let ports = |tag: &str| {
        let file = scratch(&format!("ports{}.json", tag.len()));
        let text = format!(
            r#"{{"data":[["a",{tag}],["b",1]],"headings":["name","tag"]}}{{"data":[["a",13],["b",10]],"headings":["name","ofport"]}}"#
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    let normal = |file: &str| {
        let report = report(&[
            &flows,
            "--ports",
            file,
            "--engine",
            "diagram",
            "--port",
            "13",
            "--property",
            "vlan-escape",
            "--datapath",
            "kernel",
        ]);
        assert!(!report["assumptions"].to_string().contains("access ports"), "{}", report["assumptions"]);
        verdicts(&report)
    };
    let refuted = BTreeSet::from([("vlan-escape".to_owned(), "refuted".to_owned(), 1)]);
    assert_eq!(normal(&ports("1")), refuted);
    assert_eq!(normal(&ports(r#"["set",[]]"#)), refuted);
}

#[test]
fn the_text_fits_a_terminal() {
    let run = run(&["prove", &example("flows.txt"), "--engine", "diagram"]);
    let long: Vec<&str> = run.out.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
    assert!(run.out.lines().last().unwrap().starts_with("verdict: refuted"), "{}", run.out);
}

#[test]
fn isolation_is_judged_by_diagrams_alone_and_the_report_says_so() {
    let all = ["--property", "network-isolation", "--property", "port-independence"];
    let report = report(&[&[example("flows.txt").as_str()], all.as_slice()].concat());
    let assumed = report["assumptions"].to_string();
    assert!(assumed.contains("section B (network-isolation, default-deny"), "{assumed}");
    for row in report["results"].as_array().unwrap() {
        assert_eq!(row["engines"], serde_json::json!({"diagram": row["verdict"]}), "{row}");
        let isolation = row["property"] == "network-isolation";
        assert_eq!(row["verdict"], if isolation { "refuted" } else { "proved" }, "{row}");
        if isolation {
            let story = &row["counterexample"];
            assert_eq!(story["replayed"]["interpreter"], true, "{story}");
            let port = row["port"].as_u64().unwrap();
            let event = story["events"].as_array().unwrap().last().unwrap();
            assert_ne!(event["packet"]["in_port"].as_u64().unwrap(), port);
            assert!(event["outputs"].to_string().contains(&format!("to port {port}")), "{event}");
        }
    }
}

/// Two flows of equal priority put the same frames out to a local port, with their tag and without. Frames that are tracked
/// come there as well as frames that are not, which need no connection to replay.
#[test]
fn an_order_that_is_left_open_is_shown_by_a_packet_that_replays() {
    let case = "35_explicitly_egress_direct";
    let flows = format!("tests/fixtures/corpus/29.0.0/{case}.flows");
    let intent = format!("tests/fixtures/intents/{case}.json");
    let property = ["--property", "port-independence", "--intent", &intent];
    let found = verdicts(&report(&[&[flows.as_str()], &property[..], &DIAGRAM].concat()));
    let expected = [("proved", 3), ("refuted", 3)];
    assert_eq!(found, expected.map(|(verdict, on)| ("port-independence".into(), verdict.into(), on)).into());
}

/// Old and new flows in a directory of their own.
struct Change {
    directory: std::path::PathBuf,
}

impl Change {
    fn new(name: &str, more: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("flowproof-since-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let old = std::fs::read_to_string(example("flows.txt")).unwrap();
        std::fs::write(directory.join("old"), &old).unwrap();
        std::fs::write(directory.join("new"), format!("{old}{more}")).unwrap();
        Self { directory }
    }

    fn prove(&self, [new, old]: [&str; 2], more: &[&str]) -> super::Run {
        let [new, old] = [new, old].map(|name| self.directory.join(name).display().to_string());
        run(&[&["prove", &new, "--since", &old, "--property", "spoofed-*"], more].concat())
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// The host forges MACs in some packets, before and after: only those of the new flow count, and back again nothing does.
#[test]
fn since_says_what_is_broken_that_was_not() {
    let change = Change::new("hole", "table=71,priority=200,tcp,in_port=13,tp_dst=4242 actions=NORMAL\n");
    let worse = change.prove(["new", "old"], &[]);
    assert_eq!(worse.code, Some(1), "{worse:?}");
    for words in [
        "refuted spoofed-mac",
        ":4242",
        "no-worse spoofed-arp",
        "verdict: refuted",
        "since",
        "not that the property holds",
    ] {
        let joined = worse.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(joined.contains(words), "{words}: {}", worse.out);
    }
    assert!(worse.out.lines().all(|line| line.chars().count() <= 80), "{}", worse.out);
    for files in [["old", "new"], ["old", "old"], ["new", "new"]] {
        let better = change.prove(files, &["--format", "json"]);
        assert_eq!(better.code, Some(0), "{files:?}: {better:?}");
        let report: Value = serde_json::from_str(&better.out).unwrap();
        assert_eq!(report["verdict"], "no-worse");
        assert!(report["inputs"]["since"]["sha256"].is_string(), "{report}");
        assert!(verdicts(&report).iter().all(|(_, verdict, _)| verdict == "no-worse"), "{report}");
    }
}

#[test]
fn since_goes_with_no_option_that_asks_for_all_verdicts() {
    let flows = example("flows.txt");
    for option in [["--expect", &flows], ["--write-expect", "x"], ["--smt2", "x"], ["--engine", "z3"]] {
        let run = run(&[&["prove", &flows, "--since", &flows], option.as_slice()].concat());
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{option:?}: {run:?}");
    }
    check_refused(&run(&["prove", &flows, "--since", "nowhere"]), &["nowhere"]);
}

/// A port that is no filtered port any more is not passed over in silence; one of which half the flows are left is still one,
/// and what it sends unfiltered then is the change's.
#[test]
fn since_names_ports_that_are_not_filtered_any_more() {
    let change = Change::new("port", "");
    let old = std::fs::read_to_string(change.directory.join("old")).unwrap();
    let without = |texts: &[&str]| {
        let kept = old.lines().filter(|line| !texts.iter().any(|text| line.contains(text)));
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        std::fs::write(change.directory.join("new"), kept).unwrap();
        change.prove(["new", "old"], &[])
    };
    let gone = without(&["in_port=13", "reg5=0xd"]);
    assert!(gone.err.contains("13") && gone.err.contains("filtered port"), "{gone:?}");
    let half = without(&["in_port=13"]);
    assert_eq!((half.code, half.err.as_str()), (Some(1), ""), "{half:?}");
}
