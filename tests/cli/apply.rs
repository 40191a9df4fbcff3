//! `flowproof compile --apply`, into a private real switch.

use super::{Run, check_refused, flowproof, run};
use flowproof_compiler::{Layout, Options, compile};
use flowproof_model::policy::Policy;
use flowproof_ovs::RealSwitch;
use flowproof_switch::{
    flow::{Flow, ParseOptions, parse_flows},
    pipeline::PortConfig,
};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

const SEED: &str = "tests/fixtures/intents/01_seed_scenario.json";

/// A switch; `None` where there is none to be had.
fn switch() -> Option<RealSwitch> {
    let ports = [PortConfig::trunk(1), PortConfig::access(10, 1), PortConfig::access(13, 1)];
    match RealSwitch::start(&ports) {
        Ok(switch) => Some(switch),
        Err(flowproof_ovs::EnvError::Missing { .. }) if std::env::var_os("CI").is_none() => None,
        Err(error) => panic!("{error}"),
    }
}

/// `flowproof compile INTENT --apply br0 …`, with `answer` on standard input.
fn apply(switch: &RealSwitch, arguments: &[&str], answer: &str) -> Run {
    let mut command = flowproof();
    command.env("OVS_RUNDIR", switch.directory()).args(["compile", SEED]).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn set(flows: &[Flow]) -> BTreeSet<String> {
    let plain = |flow: &Flow| Flow { cookie: 0, ..flow.clone() }.to_string();
    flows.iter().map(plain).collect()
}

fn there(switch: &mut RealSwitch) -> BTreeSet<String> {
    let lines = switch.dump_flows().unwrap();
    let text = lines.into_iter().filter(|line| line.contains("actions=")).collect::<Vec<_>>().join("\n");
    if text.is_empty() {
        return BTreeSet::new();
    }
    set(&parse_flows(&text, &ParseOptions::default()).unwrap().flows)
}

fn compiled(layout: Layout) -> BTreeSet<String> {
    let policy = Policy::from_json(&std::fs::read_to_string(SEED).unwrap()).unwrap();
    let host = policy.host.clone().unwrap();
    let flows = compile(&policy, &host, layout, &Options::default()).flows;
    set(&flows.into_iter().map(|one| one.flow).collect::<Vec<_>>())
}

#[test]
fn a_bridge_holds_what_was_applied_and_a_second_time_nothing_changes() {
    let Some(mut switch) = switch() else { return };
    for (layout, name) in [(Layout::Neutron, "neutron"), (Layout::Strict, "strict")] {
        let first = apply(&switch, &["--layout", name, "--apply", "br0", "--yes"], "");
        assert_eq!(first.code, Some(0), "{first:?}");
        assert!(first.out.contains("to add") && first.out.contains("\n+table="), "{first:?}");
        assert_eq!(there(&mut switch), compiled(layout));
        let again = apply(&switch, &["--layout", name, "--apply", "br0"], "");
        assert_eq!(again.code, Some(0), "{again:?}");
        assert!(again.out.contains("nothing to change"), "{again:?}");
    }
}

#[test]
fn nothing_changes_unless_somebody_says_yes() {
    let Some(mut switch) = switch() else { return };
    let before = there(&mut switch);
    for answer in ["", "\n", "n\n", "yep\n"] {
        let run = apply(&switch, &["--apply", "br0"], answer);
        assert_eq!(run.code, Some(2), "{answer:?}: {run:?}");
        assert!(run.err.contains("nothing was changed"), "{run:?}");
    }
    assert_eq!(there(&mut switch), before);
    let run = apply(&switch, &["--apply", "br0"], "y\n");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(there(&mut switch), compiled(Layout::Neutron));
}

/// A table that takes no more than five flows: the switch refuses the bundle, and what was there stays.
#[test]
fn what_a_switch_refuses_leaves_no_flow_behind() {
    let Some(mut switch) = switch() else { return };
    let first = apply(&switch, &["--layout", "strict", "--apply", "br0", "--yes"], "");
    assert_eq!(first.code, Some(0), "{first:?}");
    let limited = ["--", "--id=@t", "create", "Flow_Table", "flow_limit=5", "overflow_policy=refuse"];
    let status = Command::new("ovs-vsctl")
        .env("OVS_RUNDIR", switch.directory())
        .args(["--timeout=20"])
        .args(limited)
        .args(["--", "set", "Bridge", "br0", "flow_tables:91=@t", "flow_tables:94=@t", "flow_tables:59=@t"])
        .args(["flow_tables:82=@t"])
        .status()
        .unwrap();
    assert!(status.success());
    let before = there(&mut switch);
    let run = apply(&switch, &["--layout", "neutron", "--apply", "br0", "--yes"], "");
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.err.contains("TABLE_FULL") || run.err.contains("Error"), "{run:?}");
    assert_eq!(there(&mut switch), before);
}

#[test]
fn a_bridge_that_is_none_is_named() {
    let Some(switch) = switch() else { return };
    check_refused(&apply(&switch, &["--apply", "br-none", "--yes"], ""), &["br-none", "not a bridge"]);
}

#[test]
fn tables_for_study_are_not_applied() {
    check_refused(&run(&["compile", SEED, "--layout", "mitaka", "--apply", "br0"]), &["mitaka", "study"]);
    check_refused(&run(&["compile", "-", "--apply", "br0"]), &["--yes"]);
}
