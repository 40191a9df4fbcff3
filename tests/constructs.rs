//! Constructs of real hosts, answered as a real switch does: tables that were answered wrongly once.
//!
//! `tests/fixtures/field/NAME/README.md` says what was wrong.

use crate::cli::run;

/// Runs `flowproof COMMAND` on files of one case; its exit code is the answer.
#[track_caller]
fn check(case: &str, command: &[&str], code: i32) -> String {
    let path = |word: &&str| match word.rsplit_once('.') {
        Some((_, "txt" | "flows")) => format!("tests/fixtures/field/{case}/{word}"),
        _ => (*word).to_owned(),
    };
    let words: Vec<String> = command.iter().map(path).collect();
    let run = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run.code, Some(code), "{case}: {command:?}\n{}{}", run.out, run.err);
    run.out
}

const CHANGED: [&str; 3] =
    ["attack-20-diff-clone", "attack-20-diff-push-pop", "attack-20-diff-write_metadata"];

#[test]
fn a_change_behind_a_construct_is_a_difference() {
    for case in CHANGED {
        let text = check(case, &["diff", "old.txt", "new.txt"], 1);
        assert!(text.contains("newly delivered"), "{case}\n{text}");
        check(case, &["diff", "old.txt", "old.txt"], 0);
    }
}

#[test]
fn what_a_change_lets_out_behind_a_construct_is_refuted() {
    for case in ["attack-21-since-push-pop", "attack-21-since-set_queue", "attack-21-since-write_metadata"] {
        let prove = ["prove", "new.txt", "--since", "old.txt", "--port", "13", "--property", "spoofed-mac"];
        check(case, &prove, 1);
        let same = ["prove", "old.txt", "--since", "old.txt", "--port", "13", "--property", "spoofed-mac"];
        check(case, &same, 0);
    }
}

#[test]
fn a_queue_is_no_way_out() {
    let prove = ["prove", "flows.txt", "--engine", "both", "--property", "spoofed-mac", "--port", "13"];
    check("attack-40-refuted-set_queue-nothing-leaves", &prove, 0);
}

#[test]
fn two_spellings_of_one_action_do_the_same() {
    check("field-a08-set-tunnel", &["diff", "load.txt", "set-tunnel.txt"], 0);
    let text = check("field-a08-set-tunnel", &["lint", "set-tunnel.txt"], 0);
    assert!(!text.contains("opaque"), "{text}");
}

#[test]
fn what_metadata_leads_to_is_reached() {
    let text = check("attack-50-lint-unreached-but-hit", &["lint", "flows.txt"], 1);
    assert!(!text.contains("table=130") && !text.contains("opaque"), "{text}");
    let text = check("field-b10-lint-unreached-refuted-by-counters", &["lint", "a.flows"], 0);
    assert!(!text.contains("line 2"), "{text}");
}

#[test]
fn a_meter_changes_no_verdict() {
    let properties = ["spoofed-mac", "spoofed-ipv4", "vlan-escape", "unknown-ethertype"];
    for file in ["minimal-none.txt", "minimal-meter.txt"] {
        for property in properties {
            check("field-a03-meter-controller-nat-refuted", &["prove", file, "--property", property], 0);
        }
    }
}
