//! What rests on something that is not modelled is not known, in every command.
//!
//! The tables of `tests/fixtures/field` are such as a real Open vSwitch 3.1 contradicted us on; each has a README. Their actions may be
//! modelled by now, and then there is a verdict; `multipath` and `bundle` are not, and `sample` surely leaves the packet alone.

use super::{Run, flowproof, run, run_with};
use serde_json::Value;
use std::time::{Duration, Instant};

fn field(name: &str) -> String {
    format!("{}/tests/fixtures/field/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// An action that is not modelled: it may set a register to anything.
const UNKNOWN: &str = "multipath(eth_src,0,modulo_n,4,0,NXM_NX_REG0[0..7])";

fn lint(flows: &str) -> (Run, Vec<(String, u64, String)>) {
    let run = run_with(&["lint", "--format", "json", "-"], flows.as_bytes());
    let report: Value = serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let finding = |finding: &Value| {
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        (text("name"), finding["line"].as_u64().unwrap(), text("message"))
    };
    let findings = report["findings"].as_array().unwrap().iter().map(finding).collect();
    (run, findings)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn two_tables_are_not_called_the_same_for_the_words_of_what_is_not_modelled() {
    for name in ["clone", "push-pop", "write_metadata", "push_vlan-tpid"] {
        let [old, new] = ["old", "new"].map(|file| field(&format!("attack-20-diff-{name}/{file}.txt")));
        let run = run(&["diff", &old, &new]);
        assert!(matches!(run.code, Some(1 | 3)), "{name}: {run:?}");
        assert!(!run.out.contains("the same for all packets"), "{name}: {run:?}");
    }
}

/// The exit code of `diff`.
#[track_caller]
fn differs(a: &str, b: &str, code: i32) -> Run {
    let directory = std::env::temp_dir().join(format!("flowproof-unmodelled-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut paths = [a, b].into_iter().enumerate().map(|(at, text)| {
        let path = directory.join(format!("{:?}-{at}.flows", std::thread::current().id()));
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    });
    let [a, b] = [paths.next().unwrap(), paths.next().unwrap()];
    let run = run(&["diff", &a, &b]);
    assert_eq!(run.code, Some(code), "{run:?}");
    run
}

#[test]
fn a_difference_that_rests_on_something_that_is_not_modelled_is_not_known() {
    let mine = format!("in_port=1 actions={UNKNOWN},resubmit(,5)\n");
    let behind = |port: u8| format!("table=5,reg0=1 actions=output:{port}\n");
    let elsewhere = "in_port=2 actions=output:7\n";
    // Behind it something is changed, or is not.
    let run = differs(&format!("{mine}{}", behind(2)), &format!("{mine}{}", behind(3)), 3);
    let flat = run.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("multipath(") && flat.contains("(A:1)"), "{flat}");
    differs(&format!("{mine}{}", behind(2)), &format!("{mine}{}in_port=9 actions=drop\n", behind(2)), 0);
    differs(&format!("{mine}{}", behind(2)), &format!("{mine}{}{elsewhere}", behind(2)), 1);
    // One of the tables has it and the other has not.
    differs("in_port=1 actions=output:2\n", &mine, 3);
    differs("in_port=1 actions=drop\n", "in_port=1 actions=group:1\n", 3);
    // The same words where the packet is the same, and where it is not.
    let halves = |second: &str| {
        format!(
            "in_port=1,ip actions=sample(probability=1),2\nin_port=1,arp actions={second}sample(probability=1),2\n"
        )
    };
    let whole =
        "in_port=1,ip actions=sample(probability=1),2\nin_port=1,arp actions=sample(probability=1),2\n";
    differs(whole, &halves(""), 0);
    differs(whole, &halves("load:1->NXM_NX_REG0[],"), 3);
    // A match of which nothing is known.
    let hidden = "priority=9,tun_metadata0=1 actions=drop\n";
    let below = |port: u8| format!("priority=1,in_port=1 actions=output:{port}\n");
    differs(&format!("{hidden}{}", below(2)), &format!("{hidden}{}", below(3)), 3);
    differs(&format!("{hidden}table=5 actions=drop\n"), &format!("{hidden}table=5 actions=output:2\n"), 0);
}

#[test]
fn two_spellings_of_one_action_do_the_same() {
    differs("in_port=1 actions=load:5->NXM_NX_REG0[],2\n", "in_port=1 actions=set_field:5->reg0,2\n", 0);
    let (run, _) = lint(
        "priority=5,tcp actions=load:5->NXM_NX_REG0[],2\npriority=5,ip,nw_dst=10.0.0.9 actions=set_field:5->reg0,2\n",
    );
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn the_controller_is_named_as_it_is_written() {
    let run = differs("in_port=1 actions=drop\n", "in_port=1 actions=controller\n", 1);
    assert!(run.out.contains("CONTROLLER:65535") && !run.out.contains("::"), "{}", run.out);
}

#[test]
fn a_tag_that_is_pushed_differs_by_its_tpid() {
    let push =
        |tpid: &str| format!("in_port=1,vlan_tci=0 actions=push_vlan:{tpid},set_field:4101->vlan_vid,2\n");
    let run = differs(&push("0x8100"), &push("0x88a8"), 1);
    assert!(run.out.contains("TPID 0x88a8"), "{}", run.out);
    // A new tag has 0x8100 if nobody says otherwise.
    differs(&push("0x8100"), "in_port=1,vlan_tci=0 actions=mod_vlan_vid:5,2\n", 0);
    differs("in_port=1 actions=push_vlan:0x88a8,strip_vlan,2\n", "in_port=1 actions=2\n", 0);
}

#[test]
fn a_change_behind_what_is_not_modelled_is_not_called_no_worse() {
    for name in ["dec_ttl", "push-pop", "set_queue", "write_metadata"] {
        let [old, new] = ["old", "new"].map(|file| field(&format!("attack-21-since-{name}/{file}.txt")));
        let run = run(&["prove", &new, "--since", &old, "--port", "13", "--format", "json"]);
        assert!(matches!(run.code, Some(1 | 3)), "{name}: {run:?}");
        let report: Value = serde_json::from_str(&run.out).unwrap();
        let of = |property: &str| {
            let all = report["results"].as_array().unwrap().iter();
            let verdicts = all.filter(|result| result["property"] == property);
            verdicts.map(|result| result["verdict"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let verdicts = of("spoofed-mac");
        let known = verdicts.iter().any(|verdict| verdict == "refuted" || verdict == "unknown");
        assert!(known, "{name}: {verdicts:?}");
    }
}

/// A host of one port, and what it does with frames that it does not send.
fn host(spoofed: &str) -> String {
    format!(
        "table=0,priority=100,in_port=13 actions=load:0xd->NXM_NX_REG5[],load:1->NXM_NX_REG6[],resubmit(,71)
table=60,priority=90,dl_dst=fa:16:3e:00:00:13,dl_vlan=1 actions=load:0xd->NXM_NX_REG5[],load:1->NXM_NX_REG6[],strip_vlan,resubmit(,81)
table=71,priority=95,arp,reg5=0xd,in_port=13,dl_src=fa:16:3e:00:00:13,arp_sha=fa:16:3e:00:00:13,arp_spa=10.0.1.13 actions=output:1
table=71,priority=65,ip,reg5=0xd,in_port=13,dl_src=fa:16:3e:00:00:13,nw_src=10.0.1.13 actions=ct(table=72,zone=NXM_NX_REG6[0..15])
table=71,priority=10,in_port=13 actions={spoofed}
table=73,priority=100,reg6=1,dl_dst=fa:16:3e:00:00:13 actions=load:0xd->NXM_NX_REG5[],resubmit(,81)
table=81,priority=100,arp,reg5=0xd actions=output:13\n"
    )
}

/// The verdict on `spoofed-mac`, why, and the exit code.
fn spoofed_mac(flows: &str) -> (String, String, Option<i32>) {
    let run = run_with(&["prove", "-", "--property", "spoofed-mac", "--format", "json"], flows.as_bytes());
    let report: Value = serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let result = &report["results"][0];
    let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("explanation"), run.code)
}

#[test]
fn what_goes_to_something_that_is_not_modelled_is_not_refuted() {
    let (verdict, why, code) = spoofed_mac(&host("drop"));
    assert_eq!((verdict.as_str(), code), ("proved", Some(0)), "{why}");
    let (verdict, why, code) = spoofed_mac(&host("output:1"));
    assert_eq!((verdict.as_str(), code), ("refuted", Some(1)), "{why}");
    for unknown in [&format!("{UNKNOWN},output:1"), "bundle(eth_src,0,hrw,ofport,members:1)", "group:1"] {
        let (verdict, why, code) = spoofed_mac(&host(unknown));
        assert_eq!((verdict.as_str(), code), ("unknown", Some(3)), "{unknown}: {why}");
        let name = unknown.split(['(', ':']).next().unwrap();
        assert!(why.contains(name) && why.contains("line 5"), "{why}");
    }
    // What surely leaves before it leaves.
    let (verdict, why, code) = spoofed_mac(&host(&format!("output:1,{UNKNOWN}")));
    assert_eq!((verdict.as_str(), code), ("refuted", Some(1)), "{why}");
}

#[test]
fn lint_does_not_judge_what_may_be_hit_behind_what_is_not_modelled() {
    // The lines that a real switch hits, or may hit.
    let hit: [(&str, &[u64]); 6] = [
        ("field-b09-lint-behind-opaque/group.flows", &[2]),
        ("field-b09-lint-behind-opaque/learn.flows", &[4]),
        ("field-b09-lint-behind-opaque/nat.flows", &[2, 3, 4]),
        ("field-b09-lint-behind-opaque/natc.flows", &[2, 3, 4, 5]),
        ("field-b09-lint-behind-opaque/wa.flows", &[2]),
        ("field-b10-lint-unreached-refuted-by-counters/a.flows", &[2]),
    ];
    for (file, lines) in hit {
        let (_, found) = lint(&read(&field(file)));
        let claims = ["unreached", "orphaned", "dead", "contradiction"];
        let claim =
            found.iter().find(|(name, line, _)| lines.contains(line) && claims.contains(&name.as_str()));
        assert_eq!(claim, None, "{file}");
    }
    let (_, found) = lint(&read(&field("attack-50-lint-unreached-but-hit/flows.txt")));
    assert!(!found.iter().any(|(name, line, _)| name == "unreached" && *line == 44), "{found:?}");
}

#[test]
fn lint_says_what_is_not_judged_and_why() {
    let (run, found) = lint(&format!(
        "in_port=1 actions={UNKNOWN},resubmit(,5)\ntable=5,reg0=1 actions=2\ntable=6 actions=3\n"
    ));
    assert_eq!(run.code, Some(3));
    let of = |name: &str| -> Vec<&(String, u64, String)> { found.iter().filter(|of| of.0 == name).collect() };
    assert_eq!(of("not-judged").iter().map(|of| of.1).collect::<Vec<_>>(), [2]);
    assert!(of("not-judged")[0].2.contains("on line 1"), "{found:?}");
    // Nothing leads there, whatever the register is.
    assert_eq!(of("unreached").iter().map(|of| of.1).collect::<Vec<_>>(), [3]);
    // Another flow takes all that it matches, whatever that is.
    let (run, found) = lint(
        "in_port=1 actions=group:1\ntable=5,priority=9,ip actions=2\ntable=5,tcp,priority=5 actions=3\n",
    );
    assert!(found.iter().any(|of| of.0 == "dead" && of.1 == 3), "{found:?}");
    assert_eq!(run.code, Some(1));
}

#[test]
fn a_counter_above_zero_contradicts_that_nothing_hits_a_flow() {
    let directory = std::env::temp_dir().join(format!("flowproof-counters-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let lint = |above: &str, below: &str| {
        let flows = format!(
            "duration={above}, n_packets=9, priority=9,ip actions=2\nduration={below}, n_packets=7, priority=5,tcp actions=3\n"
        );
        let path = directory.join(format!("{above}-{below}.flows"));
        std::fs::write(&path, flows).unwrap();
        let path = path.display().to_string();
        let output = flowproof().args(["lint", &path]).current_dir(&directory).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), out.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (code, out) = lint("20.5s", "20.5s");
    assert_eq!(code, Some(4), "{out}");
    assert!(out.contains("7 packets hit it"), "{out}");
    // What is written down shows it again.
    let written = "flowproof-contradiction-lint.flows";
    let again = flowproof().args(["lint", written]).current_dir(&directory).output().unwrap();
    assert_eq!(again.status.code(), Some(4), "{}", read(&directory.join(written).display().to_string()));
    let (code, out) = lint("3.5s", "20.5s");
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("before the flow on line 1 was there"), "{out}");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// What a port hands in beside a frame is not zero for want of better knowledge.
#[test]
fn flows_for_what_comes_in_beside_a_frame_are_not_called_unreached() {
    for name in ["tun-a", "tun-b", "mark-a", "mark-b", "trk-a", "trk-b"] {
        let (_, found) = lint(&read(&field(&format!("field-a02-same-for-all-packets-false/{name}.txt"))));
        let text = read(&field(&format!("field-a02-same-for-all-packets-false/{name}.txt")));
        let asks = |line: u64| {
            let flow = text.lines().nth(line as usize - 1).unwrap_or_default();
            let tracked = flow.contains("+trk") && flow.contains("table=0,");
            flow.contains("tun_id") || flow.contains("pkt_mark") || tracked
        };
        let claim = found.iter().find(|(name, line, _)| name == "unreached" && asks(*line));
        assert_eq!(claim, None, "{name}");
    }
    for name in ["a", "b", "m"] {
        let (_, found) = lint(&read(&field(&format!("field-b05-tunnel-fields/{name}.flows"))));
        assert_eq!(found.iter().find(|(name, ..)| name == "unreached"), None, "{name}");
    }
}

/// A clause with the same match hides the flow that would take all its packets.
#[test]
fn a_flow_below_one_that_a_clause_hides_is_not_dead() {
    let (_, found) = lint(&read(&field("attack-51-lint-dead-but-hit/flows.txt")));
    assert_eq!(found.iter().find(|(name, line, _)| name == "dead" && *line == 48), None);
}

/// Eight levels of `ct()` that branch.
#[test]
fn answers_come_within_a_bound() {
    let flows = field("attack-60-slow-ct-branching/flows.txt");
    let (begun, bound) = (Instant::now(), Duration::from_secs(120));
    let run = run(&["lint", &flows]);
    assert!(begun.elapsed() < bound && matches!(run.code, Some(0 | 1 | 3)), "{run:?}");
}
