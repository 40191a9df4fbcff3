//! `ct(nat)` and helpers: what is known is said, and what is not lasts.

use super::run;

fn field(name: &str) -> String {
    format!("tests/fixtures/field/{name}")
}

/// A SYN from port 1 and what answers it at port 2.
fn asked_and_answered(flows: &str, answered: &str) -> super::Run {
    let there = "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=1000,tp_dst=21,tcp_flags=+syn";
    let back = format!("tcp,nw_src=10.0.0.2,nw_dst={answered},tp_src=21,tp_dst=1000,tcp_flags=+syn+ack");
    run(&["trace", &field(flows), "--in-port", "1", "--packet", there, "--in-port", "2", "--packet", &back])
}

/// A real Open vSwitch 3.1 delivers both.
#[test]
fn the_answer_to_a_translated_connection_finds_it() {
    let run = asked_and_answered("unknown-lasts/nat.flows", "10.0.0.9");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.contains("= leaves by 2: TCP 10.0.0.9:1000 > 10.0.0.2:21 [SYN]"), "{}", run.out);
    assert!(run.out.contains("= leaves by 1: unchanged"), "{}", run.out);
}

#[test]
fn what_a_helper_may_have_opened_is_unknown_for_later_packets() {
    let run = asked_and_answered("unknown-lasts/helper.flows", "10.0.0.1");
    assert_eq!(run.code, Some(3), "{run:?}");
    let [_, second] = run.out.split("packet 2,").collect::<Vec<_>>()[..] else { panic!("{}", run.out) };
    assert!(second.contains("= unknown:") && !second.contains("dropped"), "{second}");
}

#[test]
fn what_is_behind_a_bare_nat_is_reached() {
    for name in ["nat.flows", "natc.flows"] {
        let run = run(&["lint", &field(&format!("behind-nat/{name}"))]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(!run.out.contains("unreached") && !run.out.contains("not modelled"), "{}", run.out);
    }
}

/// A host with one port, whose packets go through this `ct()`.
fn host(ct: &str, more: &str) -> String {
    format!(
        "table=0,priority=0 actions=resubmit(,60)\n\
         table=60,priority=100,in_port=5 actions=load:0x5->NXM_NX_REG5[],load:0x2->NXM_NX_REG6[],resubmit(,71)\n\
         table=60,priority=90,dl_vlan=2,dl_dst=fa:16:3e:00:00:05 \
         actions=load:0x5->NXM_NX_REG5[],load:0x2->NXM_NX_REG6[],strip_vlan,resubmit(,81)\n\
         table=60,priority=3 actions=NORMAL\n\
         table=71,priority=95,arp,reg5=0x5,in_port=5,dl_src=fa:16:3e:00:00:05,arp_spa=10.0.1.5 \
         actions=resubmit(,94)\n\
         table=71,priority=65,ip,reg5=0x5,in_port=5,dl_src=fa:16:3e:00:00:05,nw_src=10.0.1.5 actions={ct}\n\
         table=72,priority=74,ip,reg5=0x5 actions=resubmit(,94)\n\
         table=73,priority=100,reg6=0x2,dl_dst=fa:16:3e:00:00:05 actions=load:0x5->NXM_NX_REG5[],resubmit(,81)\n\
         table=81,priority=100,arp,reg5=0x5 actions=output:5\n\
         table=94,priority=1 actions=NORMAL\n{more}"
    )
}

/// What is proved, refuted or neither of what the port may send.
fn verdicts(flows: &str) -> Vec<(String, String)> {
    let properties = ["spoofed-mac", "spoofed-ipv4", "vlan-escape", "unknown-ethertype"];
    let options = properties.iter().flat_map(|property| ["--property", property]);
    let arguments: Vec<&str> = ["prove", "-", "--format", "json"].into_iter().chain(options).collect();
    let run = super::run_with(&arguments, flows.as_bytes());
    let report: serde_json::Value = serde_json::from_str(&run.out).unwrap_or_else(|_| panic!("{run:?}"));
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = report["results"].as_array().unwrap().iter();
    rows.map(|row| (text(row, "property"), text(row, "verdict"))).collect()
}

#[test]
fn a_bare_nat_changes_no_verdict_where_nothing_begins_a_translation() {
    let plain = verdicts(&host("ct(table=72,zone=NXM_NX_REG6[0..15])", ""));
    assert!(plain.iter().all(|(_, verdict)| verdict == "proved"), "{plain:?}");
    assert_eq!(verdicts(&host("ct(table=72,nat,zone=NXM_NX_REG6[0..15])", "")), plain);
}

#[test]
fn what_may_be_translated_is_neither_proved_nor_refuted() {
    let other = "table=72,priority=80,ip,nw_dst=10.0.1.10 actions=ct(commit,nat(dst=10.0.1.51),table=94)\n";
    let found = verdicts(&host("ct(table=72,nat,zone=NXM_NX_REG6[0..15])", other));
    assert!(found.iter().all(|(_, verdict)| verdict != "refuted"), "{found:?}");
    assert!(found.iter().any(|(_, verdict)| verdict == "unknown"), "{found:?}");
}
