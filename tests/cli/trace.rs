//! `flowproof trace`. What becomes of the packets is what a real Open vSwitch 3.1 did with the same flows and packets
//! (the scenarios S1 to S12 on the host of 2016, the two VM ports access ports of VLAN 1 where tags matter).

use super::{Run, check_refused, example, run, run_with, scratch};
use serde_json::Value;

const A: &str = "dl_src=fa:16:3e:e9:f9:c8,dl_dst=ff:ff:ff:ff:ff:ff";
/// From outside to the VM at port 13, and back.
const TO_A: &str = "dl_src=fa:16:3e:00:00:01,dl_dst=fa:16:3e:e9:f9:c8,nw_src=203.0.113.5,nw_dst=10.0.1.8";
const FROM_A: &str = "dl_src=fa:16:3e:e9:f9:c8,dl_dst=fa:16:3e:00:00:01,nw_src=10.0.1.8,nw_dst=203.0.113.5";

/// What ovs-vsctl prints of that host.
const PORTS: &str = r#"{"data":[["int-br-phy",["set",[]]],["tapA",1],["tapB",1],["br-int",["set",[]]]],"headings":["name","tag"]}
{"data":[["tapA",13],["tapB",10],["int-br-phy",1],["br-int",65534]],"headings":["name","ofport"]}"#;

fn traced(arguments: &[&str]) -> (Run, Value) {
    let run = run(&[&["trace", &example("flows.txt"), "--format", "json"], arguments].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let report = serde_json::from_str(&run.out).unwrap();
    (run, report)
}

/// The ports that each packet left by, in ascending order, `LOCAL` last.
fn outputs(report: &Value) -> Vec<Vec<String>> {
    let ports = |packet: &Value| {
        let mut ports: Vec<_> = packet["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| o["port"].as_str().unwrap().to_owned())
            .collect();
        ports.sort_by_key(|port| port.parse::<u32>().unwrap_or(u32::MAX));
        assert_eq!(ports.is_empty(), packet["dropped"].is_string(), "{packet}");
        ports
    };
    report["packets"].as_array().unwrap().iter().map(ports).collect()
}

/// One packet alone leaves by `expected`.
#[track_caller]
fn check(in_port: &str, packet: &str, expected: &[&str]) {
    let (_, report) = traced(&["--in-port", in_port, "--packet", packet]);
    assert_eq!(outputs(&report), [expected], "{packet}");
}

#[test]
fn single_packets_go_where_the_real_switch_sent_them() {
    let flood = ["1", "10", "LOCAL"];
    check("13", &format!("arp,{A},arp_spa=10.0.1.8,arp_tpa=10.0.1.7"), &flood);
    check("13", &format!("arp,{A},arp_spa=10.0.1.99,arp_tpa=10.0.1.7"), &[]);
    check("13", &format!("arp,{A},arp_spa=10.0.1.8,arp_sha=fa:16:3e:00:00:66"), &flood);
    check("1", &format!("tcp,{TO_A},tp_src=40000,tp_dst=22"), &["13"]);
    check("1", &format!("tcp,{TO_A},tp_src=40000,tp_dst=23"), &["13"]);
    check("1", &format!("tcp,{TO_A},tp_src=40000,tp_dst=21"), &[]);
    check("1", &format!("tcp,{TO_A},tp_src=40000,tp_dst=80"), &[]);
    check("1", &format!("tcp,{TO_A},tp_src=40000,tp_dst=22,tcp_flags=+ack"), &["13"]);
    check("1", &format!("tcp,{TO_A},tp_src=40000,tp_dst=22,tcp_flags=+syn+ack"), &[]);
    check("1", &format!("udp,{TO_A},tp_src=53,tp_dst=1000"), &[]);
    check("13", &format!("udp,{A},nw_src=0.0.0.0,nw_dst=255.255.255.255,tp_src=68,tp_dst=67"), &flood);
    check("13", &format!("udp,{A},nw_src=10.0.1.8,nw_dst=255.255.255.255,tp_src=67,tp_dst=68"), &[]);
    check("13", &format!("dl_type=0x1234,{A}"), &[]);
}

#[test]
fn connections_are_remembered_from_packet_to_packet() {
    let (_, report) = traced(&[
        "--in-port",
        "13",
        "--packet",
        &format!("udp,{FROM_A},tp_src=1000,tp_dst=53"),
        "--in-port",
        "1",
        "--packet",
        &format!("udp,{TO_A},tp_src=53,tp_dst=1000"),
        "--packet",
        &format!("udp,{TO_A},tp_src=53,tp_dst=1001"),
    ]);
    let flood = vec!["1".to_owned(), "10".to_owned(), "LOCAL".to_owned()];
    assert_eq!(outputs(&report), [flood, vec!["13".to_owned()], vec![]]);
}

/// An unreplied UDP entry lives for 60 seconds in the userspace datapath.
#[test]
fn time_passes_where_it_is_told_to() {
    let reply_after = |ms: &str| {
        let out = format!("udp,{FROM_A},tp_src=1000,tp_dst=53");
        let back = format!("udp,{TO_A},tp_src=53,tp_dst=1000");
        let (_, report) = traced(&[
            "--in-port",
            "13",
            "--packet",
            &out,
            "--advance",
            ms,
            "--in-port",
            "1",
            "--packet",
            &back,
        ]);
        outputs(&report)[1].clone()
    };
    assert_eq!(reply_after("50000"), ["13"]);
    assert_eq!(reply_after("70000"), [] as [&str; 0]);
}

#[test]
fn tags_and_names_come_from_ovs_vsctl() {
    let ports = scratch("trace-ports.json", PORTS.as_bytes());
    let arp = "arp,dl_vlan=1053,dl_src=fa:16:3e:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,arp_spa=10.0.1.1,arp_tpa=10.0.1.8";
    let (_, report) =
        traced(&["--ports", ports.to_str().unwrap(), "--in-port", "int-br-phy", "--packet", arp]);
    assert_eq!(outputs(&report), [["10", "13", "LOCAL"]]);
    let frames = report["packets"][0]["outputs"].as_array().unwrap();
    for frame in frames {
        // Access ports take the tag off, the trunk keeps it as VLAN 1.
        let tagged = &frame["hex"].as_str().unwrap()[24..32] == "81000001";
        assert_eq!(tagged, frame["port"] == "LOCAL", "{frame}");
    }
    assert_eq!(report["assumptions"].as_array().unwrap().len(), 0);
}

#[test]
fn what_left_by_capture_comes_in_by_capture() {
    let capture = scratch("trace.pcap", b"");
    let capture = capture.to_str().unwrap();
    let packet = format!("tcp,{TO_A},tp_src=40000,tp_dst=22");
    let (_, report) =
        traced(&["--in-port", "1", "--packet", &packet, "--packet", &packet, "--pcap-out", capture]);
    let (_, again) = traced(&["--in-port", "1", "--pcap", capture]);
    assert_eq!(outputs(&again), [["13"], ["13"]]);
    assert_eq!(again["packets"][0]["packet"]["hex"], report["packets"][0]["outputs"][0]["hex"]);
    let hex = report["packets"][0]["packet"]["hex"].as_str().unwrap();
    assert_eq!(outputs(&traced(&["--in-port", "1", "--hex", hex]).1), [["13"]]);
}

#[test]
fn the_text_names_path_line_effect_and_ports_in_80_columns() {
    let packet = format!("tcp,{TO_A},tp_src=40000,tp_dst=22");
    let run = run(&["trace", &example("flows.txt"), "--in-port", "1", "--packet", &packet]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for words in [
        "packet 1, port 1: ",
        "table 0 (line 4)",
        "reg5 = 0xd",
        "table 81 (line 80)",
        "+trk+new",
        "leaves by 13",
    ] {
        assert!(run.out.contains(words), "no {words:?} in {}", run.out);
    }
    assert!(run.err.contains("assumed: the ports are 1, 10, 13 and LOCAL, all of them trunks"), "{run:?}");
    let long: Vec<_> = run.out.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// The entry is as `ovs-appctl dpctl/dump-conntrack` has it; an unreplied UDP connection lasts 60 seconds there, and
/// `NORMAL` learns the sender's address.
#[test]
fn with_verbosity_the_text_names_all_fields_and_what_is_remembered() {
    let packet = format!("udp,{FROM_A},tp_src=1000,tp_dst=53");
    let arguments = ["trace", &example("flows.txt"), "--in-port", "13", "--packet", &packet];
    let (brief, long) = (run(&arguments), run(&[&arguments[..], &["-v"]].concat()));
    let words = [
        "fields: udp,in_port=13,",
        "tracked: udp,orig=(src=10.0.1.8,",
        "60s",
        "learned: fa:16:3e:e9:f9:c8 in VLAN 0 on port 13",
    ];
    for words in words {
        assert!(long.out.contains(words) && !brief.out.contains(words), "{words:?}: {}", long.out);
    }
    let (_, report) = traced(&["--in-port", "13", "--packet", &packet, "-v"]);
    let memory = &report["packets"][0]["memory"];
    assert_eq!(memory["connections"][0]["expires_in_ms"], 60_000, "{memory:#}");
    assert_eq!(memory["addresses"].as_array().unwrap().len(), 1, "{memory:#}");
    let nothing = run_with(&["trace", "-", "--in-port", "1", "--packet", "ip", "-v"], b"actions=drop\n");
    assert!(nothing.out.contains("nothing is tracked, no address is learned"), "{nothing:?}");
}

#[test]
fn flows_can_come_from_standard_input() {
    let flows = b"in_port=1 actions=output:2\n";
    let run = run_with(&["trace", "-", "--in-port", "1", "--packet", "ip"], flows);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.contains("leaves by 2: unchanged"), "{run:?}");
}

#[test]
fn what_is_not_modelled_makes_the_answer_inconclusive() {
    let run = run_with(&["trace", "-", "--in-port", "1", "--packet", "ip"], b"in_port=1 actions=group:5\n");
    assert_eq!(run.code, Some(3), "{run:?}");
    assert!(run.out.contains("unknown: `group:5` of line 1 is not modelled"), "{run:?}");
}

/// `flowproof trace` on the host of 2016 refuses these arguments, with a message that has `words`.
#[track_caller]
fn check_wrong(arguments: &[&str], words: &[&str]) {
    check_refused(&run(&[&["trace", &example("flows.txt")], arguments].concat()), words);
}

#[test]
fn wrong_packets_are_refused_with_their_place() {
    check_wrong(&["--in-port", "1"], &["no packet"]);
    check_wrong(&["--packet", "ip"], &["--in-port"]);
    check_wrong(&["--in-port", "tap9", "--packet", "ip"], &["--in-port: `tap9`"]);
    check_wrong(&["--in-port", "70000", "--packet", "ip"], &["--in-port: `70000`"]);
    check_wrong(&["--in-port", "1", "--packet", "ip,nw_scr=1.2.3.4"], &["--packet:1:4", "nw_scr"]);
    check_wrong(&["--in-port", "1", "--packet", "tp_dst=80"], &["--packet:1:", "prerequisites"]);
    check_wrong(&["--in-port", "1", "--hex", "00112"], &["--hex:1:5", "odd"]);
    check_wrong(&["--in-port", "1", "--hex", "0x0g"], &["--hex:1:4", "`g`"]);
    check_wrong(&["--in-port", "1", "--hex", "0011"], &["2 bytes are no Ethernet frame"]);
    check_wrong(&["--in-port", "1", "--pcap", "no/such"], &["no/such: no such file"]);
    check_wrong(&["--in-port", "1", "--pcap", &example("flows.txt")], &["flows.txt: not a pcap"]);
    check_wrong(
        &["--in-port", "1", "--packet", "ip", "--ports", &example("flows.txt")],
        &["flows.txt:1:", "no port has both"],
    );
    check_wrong(
        &["--in-port", "1", "--packet", "ip", "--pcap-out", "no/such/dir"],
        &["no/such/dir: no such file"],
    );
    check_refused(&run(&["trace", "-", "--in-port", "1", "--pcap", "-"]), &["only once"]);
}

#[test]
fn a_cut_capture_is_refused() {
    let whole = [
        &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0][..],
        &[0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 14, 0, 0, 0],
        &[0; 14],
    ]
    .concat();
    let name = |name: &str, bytes: &[u8]| scratch(name, bytes).to_str().unwrap().to_owned();
    let good = name("trace-whole.pcap", &whole);
    assert_eq!(outputs(&traced(&["--in-port", "13", "--pcap", &good]).1).len(), 1);
    let truncated = name("trace-truncated.pcap", &whole[..whole.len() - 1]);
    check_wrong(&["--in-port", "13", "--pcap", &truncated], &["trace-truncated.pcap: byte 24"]);
    let mut snapped = whole;
    snapped[36] = 60;
    let snapped = name("trace-snapped.pcap", &snapped);
    check_wrong(
        &["--in-port", "13", "--pcap", &snapped],
        &["trace-snapped.pcap: byte 24: only 14 of the frame's 60"],
    );
}
