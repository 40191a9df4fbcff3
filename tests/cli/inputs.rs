//! What packets bring along, what the switch writes, and what it looks up: hosts of which something was proved that is not so.
//!
//! The flows and what they show lie under `tests/fixtures/field`; what is expected is what a real Open vSwitch 3.1 does with them.

use super::{Run, run};

fn flows(case: &str, file: &str) -> String {
    format!("tests/fixtures/field/{case}/{file}")
}

/// The verdict of a property on a port.
#[track_caller]
fn refutes(case: &str, properties: &[&str]) {
    let flows = flows(case, "flows.txt");
    let asked = properties.iter().flat_map(|property| ["--property", property]);
    let run = run(&["prove", &flows].into_iter().chain(asked).collect::<Vec<_>>());
    assert_eq!(run.code, Some(1), "{run:?}");
    for property in properties {
        let mut rows = run.out.lines().filter(|line| line.starts_with(&format!("{property} ")));
        assert!(rows.any(|row| row.contains("refuted")), "{case}: {run:?}");
    }
}

#[test]
fn writes_do_what_the_switch_does() {
    refutes("proved-01-mod_nw_src-on-arp", &["spoofed-arp"]);
    refutes("proved-07-in_port-written-NORMAL", &["vlan-escape"]);
    refutes("proved-09-tci-bit12-cleared", &["vlan-escape"]);
}

#[test]
fn conjunctions_are_satisfied_as_the_classifier_does_it() {
    refutes("proved-02-conj-two-clauses-in-one-flow", &["dhcp-server"]);
    refutes("proved-04-conj-mixed-n", &["dhcp-server"]);
    let run = run(&["prove", &flows("attack-35-exit4-conj-two-clauses", "flows.txt"), "--port", "13"]);
    assert_ne!(run.code, Some(4), "{run:?}");
}

#[test]
fn a_clause_hides_the_flow_below_it_in_the_second_lookup() {
    let run = run(&["lint", &flows("attack-51-lint-dead-but-hit", "flows.txt"), "-v"]);
    assert!(!run.out.contains("line 48 "), "{run:?}");
}

#[test]
fn senders_choose_every_field_of_a_frame() {
    refutes("proved-05-nsh", &["unknown-ethertype"]);
    refutes("field-a01-nsh-false-proof", &["spoofed-mac", "unknown-ethertype"]);
    refutes("proved-06-truncated-tag", &["spoofed-mac"]);
    refutes("proved-06b-truncated-tag-ethertype", &["unknown-ethertype"]);
}

#[test]
fn tunnels_tell_what_they_like() {
    refutes("attack-41-tun_id-constant-zero", &["network-isolation"]);
    let run = run(&["lint", &flows("field-b05-tunnel-fields", "a.flows")]);
    assert!(!run.out.contains("unreached"), "{run:?}");
}

/// Two tables that differ in what they do to packets with this.
#[track_caller]
fn differ(case: &str, [a, b]: [&str; 2], item: &str) -> Run {
    let run = run(&["diff", &flows(case, a), &flows(case, b)]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.out.contains(item), "no {item} in {run:?}");
    run
}

#[test]
fn what_comes_in_beside_a_frame_tells_packets_apart() {
    let case = "field-a02-same-for-all-packets-false";
    differ(case, ["tun-a.txt", "tun-b.txt"], "in_port=2, tun_id=0x6ab");
    differ(case, ["mark-a.txt", "mark-b.txt"], "in_port=2, pkt_mark=0x1");
    differ(case, ["trk-a.txt", "trk-b.txt"], "tracked by the host");
    let case = "field-b05-tunnel-fields";
    differ(case, ["a.flows", "b.flows"], "in_port=1, tun_id=0x5");
    differ(case, ["a.flows", "c.flows"], "in_port=1, tun_id=0x5");
    differ(case, ["m.flows", "m2.flows"], "tun_id=0x3/0xffffff");
    differ(case, ["s.flows", "c.flows"], "tun_src=10.0.0.1");
    differ("field-b06-nsh-frames", ["a.flows", "b.flows"], "nsh_spi=0x5");
}

#[test]
fn a_difference_in_the_type_of_a_tag_is_one() {
    let run = differ("attack-20-diff-push_vlan-tpid", ["old.txt", "new.txt"], "TPID 0x88a8");
    assert!(!run.out.contains("packet_type"), "no flow asks for it: {run:?}");
}

#[test]
fn logging_is_no_escape() {
    let verdicts = |file: &str| {
        let flows = flows("field-a03-meter-controller-nat-refuted", file);
        let run = run(&["prove", &flows, "--property", "spoofed-*", "--property", "*-e*"]);
        let table = run.out.lines().skip_while(|line| !line.starts_with("property "));
        let rows: Vec<String> =
            table.take_while(|line| !line.starts_with("verdict")).map(str::to_owned).collect();
        assert!(rows.len() > 6, "{run:?}");
        rows
    };
    assert_eq!(verdicts("minimal-logging.txt"), verdicts("minimal-none.txt"));
}
