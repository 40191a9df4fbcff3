//! `--ovs`: what a real switch says, where there is one; and where there is none, or a strange one.

use super::{check_refused, example, flowproof, run};
use flowproof_ovs::RealSwitch;
use serde_json::Value;
use std::env;
use std::fs;
use std::io::{Write, stderr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where programs are; another place hides Open vSwitch.
const PLACE: &str = "FLOWPROOF_OVS";
const TABLES: [&str; 4] = ["--engine", "diagram", "--port", "13"];

/// Whether a real switch can be started; one must be where `CI` is set.
fn available() -> bool {
    match RealSwitch::start(&[]) {
        Ok(_) => true,
        Err(error) if error.is_missing() && env::var_os("CI").is_none() => {
            let _nobody_listens = writeln!(stderr(), "NOT TESTED with a real switch: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs with the programs of Open vSwitch in `place` only.
fn run_at(place: &Path, arguments: &[&str]) -> super::Run {
    let output = flowproof().args(arguments).env(PLACE, place).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    super::Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A directory with the real programs, but for some that are scripts.
fn place_with(name: &str, scripts: &[(&str, &str)]) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _absent = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    for known in ["ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl"] {
        let real = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
            .map(|directory| Path::new(directory).join(known))
            .into_iter()
            .find(|file| file.is_file())
            .unwrap();
        if let Some((_, script)) = scripts.iter().find(|(program, _)| *program == known) {
            let script = format!("#!/bin/sh\n{}\n", script.replace("REAL", real.to_str().unwrap()));
            fs::write(place.join(known), script).unwrap();
            fs::set_permissions(place.join(known), fs::Permissions::from_mode(0o755)).unwrap();
        } else {
            symlink(real, place.join(known)).unwrap();
        }
    }
    place
}

fn prove<'a>(flows: &'a str, property: &'a str) -> Vec<&'a str> {
    [&["prove", flows, "--ovs", "--property", property, "--format", "json"], TABLES.as_slice()].concat()
}

fn report(run: &super::Run) -> Value {
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

#[test]
fn a_counterexample_is_confirmed_with_the_version_of_the_switch() {
    if !available() {
        return;
    }
    let flows = example("flows.txt");
    let run = run(&prove(&flows, "spoofed-nd"));
    assert_eq!(run.code, Some(1), "{run:?}");
    let report = report(&run);
    assert_eq!(report["results"][0]["counterexample"]["replayed"]["switch"], true);
    assert!(report["switch"]["version"].as_str().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(
        (&report["switch"]["confirmed"], &report["switch"]["counterexamples"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn the_text_says_what_a_switch_confirmed_and_what_it_cannot_replay() {
    if !available() {
        return;
    }
    let flows = example("flows.txt");
    let text = |property| {
        let run = run(&[&["prove", &flows, "--ovs", "--property", property], TABLES.as_slice()].concat());
        assert_eq!(run.code, Some(1), "{run:?}");
        run.out
    };
    let same = text("spoofed-nd");
    assert!(same.contains("replayed: 1 of 1 counterexample repeated in a real Open vSwitch "), "{same}");
    assert!(same.contains("a real Open vSwitch does the same"), "{same}");
    // Only where ct() calls neighbour discovery new.
    let other = text("router-advertisement");
    assert!(other.contains("replayed: 0 of 1 counterexample"), "{other}");
    assert!(other.contains("not replayable on this datapath"), "{other}");
}

#[test]
fn what_only_a_kernel_lets_out_is_not_replayable() {
    if !available() {
        return;
    }
    let flows = example("flows.txt");
    let report = report(&run(&prove(&flows, "router-advertisement")));
    let refuted: Vec<&Value> =
        report["results"].as_array().unwrap().iter().filter(|row| row["verdict"] == "refuted").collect();
    let [row] = refuted.as_slice() else { panic!("{report:#}") };
    assert_eq!(row["datapath"], Value::from(["kernel-2016"].to_vec()));
    assert_eq!(row["counterexample"]["replayed"]["switch"], Value::Null);
    assert_eq!(row["counterexample"]["replayed"]["note"], "not replayable on this datapath");
}

#[test]
fn agreement_with_an_intent_is_replayed_too() {
    if !available() {
        return;
    }
    let case = "01_seed_scenario";
    let flows = format!("tests/fixtures/corpus/8.1.0/{case}.flows");
    let intent = format!("tests/fixtures/intents/{case}.json");
    let arguments = ["--ovs", "--intent", &intent, "--property", "intent-*", "--format", "json"];
    let run = run(&[&["prove", &flows], arguments.as_slice()].concat());
    assert_eq!(run.code, Some(1), "{run:?}");
    let report = report(&run);
    assert!(report["switch"]["confirmed"].as_u64().unwrap() > 0, "{report:#}");
    for row in report["results"].as_array().unwrap() {
        let replayed = &row["counterexample"]["replayed"];
        let userspace = row["datapath"].as_array().is_some_and(|all| all.contains(&"userspace-3.1".into()));
        if row["verdict"] == "refuted" && userspace {
            assert_eq!(replayed["switch"], true, "{row:#}");
        }
    }
}

#[test]
fn without_a_switch_nothing_is_proved_either() {
    let flows = example("flows.txt");
    let nowhere = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-openvswitch");
    for arguments in [prove(&flows, "*"), vec!["run", "--ovs", "tests/scenarios/even-port.scn"]] {
        check_refused(
            &run_at(&nowhere, &arguments),
            &["--ovs: `ovsdb-server` of Open vSwitch is not installed"],
        );
    }
}

/// The machine's failures are told apart from disagreements: no verdict, and not exit code 4.
#[test]
fn a_switch_that_does_not_start_is_the_machines_fault() {
    if !available() {
        return;
    }
    let flows = example("flows.txt");
    let dead = place_with("dead-switch", &[("ovs-vswitchd", "echo no memory >&2; exit 1")]);
    check_refused(&run_at(&dead, &prove(&flows, "spoofed-nd")), &["--ovs:", "the switch"]);
    let refusing = place_with(
        "refusing-switch",
        &[(
            "ovs-ofctl",
            "case \"$*\" in *add-flows*) grep -q table=71 && { echo bad flows >&2; exit 1; }; esac; exit 0",
        )],
    );
    check_refused(
        &run_at(&refusing, &prove(&flows, "spoofed-nd")),
        &["--ovs:", "refuses the flows", "bad flows"],
    );
}

/// Its database refuses connections; or it is killed when it has the flows of the host.
#[test]
fn a_switch_that_cannot_be_reached_is_the_machines_fault() {
    if !available() {
        return;
    }
    let flows = example("flows.txt");
    let refused = "echo 'database connection failed (Connection refused)' >&2; exit 1";
    let unreachable = place_with("unreachable-switch", &[("ovs-vsctl", refused)]);
    check_refused(
        &run_at(&unreachable, &prove(&flows, "spoofed-nd")),
        &["--ovs: `ovs-vsctl` failed", "Connection refused"],
    );
    let killer = "case \"$*\" in *add-flows*) tee killer.txt | REAL \"$@\"; status=$?; \
                  grep -q table=71 killer.txt && kill -KILL \"$(cat killer.pid)\"; exit $status;; *) exec REAL \"$@\";; esac";
    let killed = place_with(
        "killed-switch",
        &[("ovs-vswitchd", "echo $$ >killer.pid; exec REAL \"$@\""), ("ovs-ofctl", killer)],
    );
    check_refused(&run_at(&killed, &prove(&flows, "spoofed-nd")), &["--ovs: the switch ended"]);
}

/// A switch that does something else blocks everything: here one that never gets the flows of tables 71 and 81.
#[test]
fn a_counterexample_that_a_switch_does_not_repeat_is_a_contradiction() {
    if !available() {
        return;
    }
    let strange = place_with(
        "strange-switch",
        &[(
            "ovs-ofctl",
            "case \"$*\" in *add-flows*) grep -v -e table=71 -e table=81 | exec REAL \"$@\";; *) exec REAL \"$@\";; esac",
        )],
    );
    let flows = example("flows.txt");
    let run = run_at(&strange, &prove(&flows, "spoofed-nd"));
    assert_eq!(run.code, Some(4), "{run:?}");
    let report = report(&run);
    assert_eq!(report["verdict"], "contradiction");
    let said = report["results"].to_string();
    assert!(said.contains("does not repeat it") && said.contains("sends nothing; expected"), "{said}");
    let written = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("flowproof-contradiction-spoofed-nd-port13-userspace-3.1.flows");
    assert!(std::fs::read_to_string(&written).unwrap().contains("does not repeat it"));
    std::fs::remove_file(written).unwrap();
    let scenario = run_at(&strange, &["run", "--ovs", "tests/scenarios/even-port.scn"]);
    assert_eq!(scenario.code, Some(4), "{scenario:?}");
}
