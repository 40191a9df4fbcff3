//! `flowproof explore`: the same cases whoever runs them, failures as scenarios that replay, campaigns that go on.

use crate::cli::{Run, check_refused, run};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("flowproof-explore-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn explore(arguments: &[&str]) -> Run {
    run(&[&["explore"], arguments].concat())
}

/// Everything in a report but the time it took.
fn facts(run: &Run) -> Value {
    let mut report: Value = serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    report["seconds"] = Value::Null;
    report
}

const FLOWS: &str = "tests/fixtures/corpus/29.0.0/04_dual_stack.flows";
const INTENT: &str = "tests/fixtures/intents/04_dual_stack.json";

#[test]
fn the_same_cases_have_the_same_results_however_many_run_at_a_time() {
    let cases =
        ["--cases", "40", "--seed", "7", "--format", "json", "--layout", "mitaka", "--layout", "strict"];
    let one = explore(&[&cases[..], &["--jobs", "1"]].concat());
    let many = explore(&[&cases[..], &["--jobs", "3"]].concat());
    assert_eq!(one.code, Some(0), "{one:?}");
    assert_eq!(facts(&one), facts(&many));
    let report = facts(&one);
    assert_eq!(report["results"][1]["cases"], 40);
    let (drawn, happened) =
        (&report["results"][0]["events"]["drawn"], &report["results"][0]["events"]["happened"]);
    assert!(happened.as_u64().unwrap() * 100 >= drawn.as_u64().unwrap() * 80, "{report:#}");
    let templates = &report["results"][0]["templates"];
    assert!(
        templates["reached"].as_u64().unwrap() * 2 > templates["reachable"].as_u64().unwrap(),
        "{report:#}"
    );
    let other = explore(&["--cases", "40", "--seed", "8", "--format", "json", "--layout", "mitaka"]);
    assert_ne!(facts(&other)["results"][0], report["results"][0]);
}

/// One campaign for each datapath: the same policies and packets, other answers of connection tracking.
#[test]
fn random_policies_are_played_on_every_datapath() {
    let asked = ["--cases", "300", "--seed", "7", "--format", "json", "--layout", "neutron"];
    let run = explore(&[&asked[..], &["--datapath", "all"]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let report = facts(&run);
    let results = report["results"].as_array().unwrap();
    let names: Vec<&str> = results.iter().map(|result| result["subject"].as_str().unwrap()).collect();
    assert_eq!(names, ["neutron", "neutron-kernel", "neutron-kernel-2016"]);
    let packets = |at: usize| &results[at]["events"]["packets"];
    assert!(packets(0) == packets(1) && packets(1) == packets(2), "{report:#}");
    assert!((1..3).all(|at| results[at]["known"] != results[0]["known"]), "{report:#}");
    let datapaths: Vec<&Value> = results.iter().map(|result| &result["datapath"]).collect();
    assert_eq!(datapaths, ["userspace-3.1", "kernel", "kernel-2016"]);
    check_refused(&explore(&["--datapath", "kernel", "--ovs", "--cases", "1"]), &["userspace-3.1"]);
}

#[test]
fn a_campaign_goes_on_where_it_ended() {
    let directory = Directory::new();
    let state = directory.path("state.json");
    let asked = ["--seed", "3", "--format", "json", "--jobs", "2"];
    let first = explore(&[&asked[..], &["--cases", "30", "--state", &state]].concat());
    assert_eq!(first.code, Some(0), "{first:?}");
    let second = explore(&[&asked[..], &["--cases", "60", "--state", &state]].concat());
    let whole = explore(&[&asked[..], &["--cases", "60"]].concat());
    assert_eq!(facts(&second), facts(&whole));
    let again = explore(&[&asked[..], &["--cases", "60", "--state", &state]].concat());
    assert_eq!(facts(&again), facts(&whole), "nothing is left to do");
    check_refused(&explore(&["--seed", "4", "--state", &state]), &["seed 3", "seed 4"]);
    check_refused(
        &explore(&["--seed", "3", "--state", &state, "--layout", "strict"]),
        &["neutron", "strict"],
    );
    fs::write(&state, "{}").unwrap();
    check_refused(
        &explore(&["--seed", "3", "--state", &state]),
        &["state.json", "not the state of a campaign"],
    );
}

/// Flows of one priority contend: whichever wins, and the scenario says who.
#[test]
fn a_failure_that_only_the_last_flow_shows_says_so() {
    let directory = Directory::new();
    let (flows, output) = (directory.path("flows.txt"), directory.path("found"));
    let contending = "table=60,priority=100,ip,in_port=5 actions=drop";
    fs::write(&flows, format!("{}{contending}\n", fs::read_to_string(FLOWS).unwrap())).unwrap();
    let asked = ["--flows", &flows, "--intent", INTENT, "--cases", "60", "--output", &output];
    let first = explore(&asked);
    assert_eq!(first.code, Some(1), "{first:?}");
    let written = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| (fs::read_to_string(&path).unwrap(), path);
    let (text, path) = written.map(read).find(|(text, _)| text.contains("\ntie last\n")).unwrap();
    assert_eq!(run(&["run", path.to_str().unwrap()]).code, Some(1), "{text}");
    fs::write(&path, text.replace("\ntie last\n", "\ntie first\n")).unwrap();
    assert_eq!(run(&["run", path.to_str().unwrap()]).code, Some(0), "{text}");
}

#[test]
fn a_failure_is_written_as_a_small_scenario_that_replays() {
    let directory = Directory::new();
    let flows = directory.path("flows.txt");
    let open: String = fs::read_to_string(FLOWS)
        .unwrap()
        .lines()
        .map(|line| if line.contains("table=82") { "" } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&flows, open).unwrap();
    let output = directory.path("found");
    let asked =
        ["--flows", &flows, "--intent", INTENT, "--cases", "60", "--failures", "2", "--output", &output];
    let first = explore(&asked);
    assert_eq!(first.code, Some(1), "{first:?}");
    let written: Vec<PathBuf> = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!written.is_empty(), "{first:?}");
    for path in written {
        let replay = run(&["run", path.to_str().unwrap()]);
        assert_eq!(replay.code, Some(1), "{replay:?}");
        let text = fs::read_to_string(&path).unwrap();
        let packets = text.lines().filter(|line| line.starts_with("packet "));
        assert!((1..=3).contains(&packets.count()), "{text}");
        assert_eq!(
            text.matches("\nport ").count(),
            2,
            "tables keep the policy that they were made for: {text}"
        );
    }
}

/// What is proved of tables holds of random packets, and they go where symbolic execution says.
#[test]
fn tables_are_explored_without_an_intent() {
    let run = explore(&["--flows", FLOWS, "--cases", "12", "--seed", "2", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let report = facts(&run);
    let result = &report["results"][0];
    assert!(result["subject"].as_str().unwrap().ends_with("no intent"), "{report:#}");
    assert!(result["events"]["packets"].as_u64().unwrap() > 300, "{report:#}");
    assert!(result["events"]["happened"].as_u64().unwrap() > 20, "{report:#}");
    assert!(result["templates"]["reached"].as_u64().unwrap() > 15, "{report:#}");
    let text = explore(&["--flows", FLOWS, "--cases", "1", "--seed", "2"]);
    assert!(text.out.contains("proved verdicts on "), "{text:?}");
    check_refused(&explore(&["--flows", FLOWS, "--ovs"]), &["--ovs", "--intent"]);
    check_refused(&explore(&["--flows", "Makefile"]), &["Makefile:1"]);
    let directory = Directory::new();
    let flows = directory.path("flows.txt");
    fs::write(&flows, "actions=NORMAL\n").unwrap();
    check_refused(&explore(&["--flows", &flows]), &["flows.txt", "no filtered port"]);
}

#[test]
fn what_cannot_be_explored_is_refused() {
    check_refused(&explore(&["--flows", FLOWS, "--intent", "nowhere.json"]), &["nowhere.json"]);
    for arguments in [
        &["--layout", "openstack"][..],
        &["--jobs", "0"],
        &["--flows", FLOWS, "--layout", "strict", "--intent", INTENT],
    ] {
        assert_eq!(explore(arguments).code, Some(2), "{arguments:?}");
    }
}
