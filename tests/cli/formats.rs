//! Flows and ports as people have them: names, marks, prose, commands, gzip. What is read is what a real Open vSwitch
//! 3.1 has or prints; the READMEs of the fixtures say what was wrong before.

use super::{Run, check_refused, run, run_with, scratch};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;

const FIELD: &str = "tests/fixtures/field";

fn field(file: &str) -> String {
    format!("{FIELD}/{file}")
}

/// What `lint --format json` says of flows that are read, whatever it finds.
#[track_caller]
fn linted(arguments: &[&str]) -> (Run, Value) {
    let run = run(&[&["lint", "--format", "json"], arguments].concat());
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
    let report = serde_json::from_str(&run.out).unwrap();
    (run, report)
}

/// What `trace --format json` says of any packet: these flows are parts of tables, which `lint` would rightly object to.
#[track_caller]
fn traced(arguments: &[&str]) -> (Run, Value) {
    let packet = ["--in-port", "LOCAL", "--packet", "arp", "--format", "json"];
    let run = run(&[&["trace"], arguments, &packet].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
    let report = serde_json::from_str(&run.out).unwrap();
    (run, report)
}

/// Two files of flows cannot be told apart.
#[track_caller]
fn check_same(a: &str, b: &str, options: &[&str]) {
    let run = run(&[&["diff", a, b], options].concat());
    assert_eq!(run.code, Some(0), "{a} {b}: {run:?}");
}

fn zipped(name: &str, bytes: &[u8]) -> PathBuf {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).unwrap();
    scratch(name, &packed.finish().unwrap())
}

#[test]
fn names_without_numbers_get_those_that_the_flows_say_and_others_free_ones() {
    let (run, report) = traced(&[&field("port-names/flows.txt")]);
    let names = &report["inputs"]["flows"]["names"];
    assert_eq!(names["derived"]["tap00000005-aa"], 5, "{report}");
    assert_eq!(names["given"]["int-br-ex"], 6, "{report}");
    let remarks: Vec<_> = run.err.lines().filter(|line| line.contains("numbered")).collect();
    let [remark] = remarks.as_slice() else { panic!("one remark is due: {run:?}") };
    assert!(remark.contains("--ports") && remark.contains("tap00000005-aa is 5"), "{run:?}");
    // The numbers are those of trace too.
    let traced =
        super::run(&["trace", &field("port-names/flows.txt"), "--in-port", "int-br-ex", "--packet", "arp"]);
    assert!(traced.code == Some(0) && traced.out.contains("port 6"), "{traced:?}");
}

#[test]
fn names_are_looked_up_in_what_the_tools_print() {
    let shown = field("port-names/ofctl-show.txt");
    let (run, report) = traced(&[&field("port-names/flows.txt"), "--ports", &shown]);
    assert_eq!(report["inputs"]["flows"]["names"]["given"], serde_json::json!({}), "{report}");
    assert!(
        run.err.contains("--ports does not say theirs") && run.err.contains("tap00000005-aa is 5"),
        "{run:?}"
    );
    let run = super::run(&[
        "trace",
        &field("port-names/flows.txt"),
        "--ports",
        &shown,
        "--in-port",
        "int-br-ex",
        "--packet",
        "arp",
    ]);
    assert!(run.code == Some(0) && run.out.contains("port 1"), "{run:?}");
    let (_, report) =
        linted(&[&field("cut-port-names/a.flows"), "--ports", &field("cut-port-names/ports.json")]);
    assert_eq!(report["inputs"]["flows"]["names"], Value::Null, "{report}");
}

/// `ovs-vsctl show` knows bridges, VLANs and types, but no numbers.
#[test]
fn a_list_without_numbers_gives_vlans_to_ports_that_the_flows_name() {
    let show = "9a1c\n    Bridge br-ex\n        Port eth0\n            Interface eth0\n    Bridge br-int\n        \
                Port tap00000005-aa\n            tag: 7\n            Interface tap00000005-aa\n        \
                Port int-br-ex\n            Interface int-br-ex\n                type: patch\n";
    let ports = scratch("formats-show.txt", show.as_bytes());
    let flows = scratch(
        "formats-normal.txt",
        b"table=0,in_port=int-br-ex actions=NORMAL\ntable=0,in_port=\"tap00000005-aa\" actions=load:5->NXM_NX_REG5[],NORMAL\n",
    );
    let (flows, ports) = (flows.to_str().unwrap(), ports.to_str().unwrap());
    let run = run(&["trace", flows, "--ports", ports, "--in-port", "tap00000005-aa", "--packet", "arp"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.contains("packet 1, port 5") && run.out.contains("in VLAN 7"), "{run:?}");
    check_refused(
        &super::run(&["lint", &field("tunnel-trace/flows.txt"), "--ports", ports]),
        &["formats-show.txt:1:1", "ovs-ofctl show"],
    );
}

#[test]
fn a_cut_name_of_two_ports_is_an_error_that_names_both() {
    let ports = scratch(
        "formats-ambiguous.json",
        br#"{"headings":["name","ofport"],"data":[["patch-br-int-to-a",1],["patch-br-int-to-b",2],["tap704a9e45-54",3]]}"#,
    );
    let run = run(&["lint", &field("cut-port-names/a.flows"), "--ports", ports.to_str().unwrap()]);
    check_refused(&run, &["a.flows:1:", "`patch-br-int-to-a`", "`patch-br-int-to-b`", "`patch-br-int-to`"]);
}

/// The same port has the same number in both, whichever of them says it.
#[test]
fn files_that_are_compared_are_numbered_together() {
    let a = scratch("formats-a.txt", b"table=0,in_port=tap1 actions=output:tap2\n");
    let b = scratch(
        "formats-b.txt",
        b"table=0,in_port=tap1 actions=output:tap2\ntable=9,in_port=tap2 actions=load:9->NXM_NX_REG5[]\n",
    );
    check_same(a.to_str().unwrap(), b.to_str().unwrap(), &[]);
}

#[test]
fn what_stands_around_flows_changes_nothing() {
    let plain = field("lenient/plain.txt");
    for name in [
        "ansible",
        "bullets",
        "cut-at-99",
        "grepcolor",
        "html",
        "nbsp",
        "nl",
        "quoted",
        "quoted-wrapped",
        "zuul",
    ] {
        check_same(&plain, &field(&format!("lenient/{name}.txt")), &["--lenient"]);
    }
    // A mark at the beginning of a file and other line ends need no option.
    check_same(&plain, &field("lenient/bom.txt"), &[]);
    let text = std::fs::read_to_string(&plain).unwrap();
    let other = scratch("formats-crlf.txt", text.replace('\n', "\r\n").as_bytes());
    check_same(&plain, other.to_str().unwrap(), &[]);
}

#[test]
fn what_is_no_flow_is_passed_over_and_listed() {
    for (file, flows, lines) in [
        ("prose-action", 1, vec![1, 3]),
        ("prose-log", 1, vec![1, 3]),
        ("bridge-dump-flows", 2, vec![1, 4, 5, 6]),
        ("hardwrapped", 6, vec![]),
    ] {
        let path = field(&format!("lenient/{file}.txt"));
        let (run, report) = linted(&["--lenient", &path]);
        assert_eq!(report["inputs"]["flows"]["parsed"], flows, "{file}: {report}");
        let listed: Vec<String> = lines.iter().map(|line| format!("{path}:{line}: passed over:")).collect();
        let found: Vec<_> = run.err.lines().filter(|line| line.contains("passed over")).collect();
        assert_eq!(found.len(), listed.len(), "{file}: {run:?}");
        assert!(listed.iter().all(|line| run.err.contains(line)), "{file}: {run:?}");
    }
}

#[test]
fn what_looks_like_a_flow_and_is_none_is_refused_in_every_document() {
    let check = |text: &str, words: &[&str]| {
        check_refused(&run_with(&["lint", "--lenient", "-"], text.as_bytes()), words)
    };
    check("Hello\n\n> ip,nw_srcs=10.0.0.1 actions=drop\n", &["<stdin>:3:", "nw_srcs"]);
    check("- table=3,ip actions=explode\n", &["<stdin>:1:", "explode"]);
}

#[test]
fn commands_change_the_flows_before_them() {
    let only = scratch("formats-only.txt", b"table=0,priority=1,ip actions=output:1\n");
    check_same(&field("flow-mods/a.flows"), only.to_str().unwrap(), &[]);
    let run = run_with(&["lint", "-"], b"add ip actions=drop\ndelete priority=3\n");
    check_refused(&run, &["<stdin>:2:", "priority"]);
}

#[test]
fn vlan_vid_has_twelve_bits() {
    let check = |flow: &str| run_with(&["lint", "-"], format!("{flow}\n").as_bytes());
    linted(&[&field("vlan-vid/a.flows")]);
    for taken in [
        "ip,actions=move:OXM_OF_VLAN_VID[]->NXM_NX_REG0[0..11]",
        "ip,dl_vlan=5,actions=load:0x5->OXM_OF_VLAN_VID[]",
        "ip,dl_vlan=5,actions=set_field:0x1005/0x1fff->vlan_vid",
        "OXM_OF_VLAN_VID[]=5,actions=drop",
        "vlan_vid=0x1005/0x1fff,actions=drop",
    ] {
        assert_eq!(check(taken).code, Some(0), "{taken}");
    }
    for refused in [
        "ip,actions=move:NXM_NX_CT_LABEL[64..76]->OXM_OF_VLAN_VID[]",
        "ip,actions=move:OXM_OF_VLAN_VID[0..12]->NXM_NX_REG0[0..12]",
        "ip,dl_vlan=5,actions=load:0x1005->OXM_OF_VLAN_VID[]",
        "ip,dl_vlan=5,actions=load:1->OXM_OF_VLAN_VID[12]",
        "ip,actions=load:0x5->OXM_OF_VLAN_VID[]",
        "OXM_OF_VLAN_VID[12]=1,actions=drop",
        "vlan_vid[0..12]=0x1005,actions=drop",
    ] {
        check_refused(&check(refused), &["<stdin>:1:"]);
    }
}

#[test]
fn what_gzip_has_packed_is_read() {
    let plain = std::fs::read(field("lenient/plain.txt")).unwrap();
    let flows = zipped("formats-flows.gz", &plain);
    check_same(&field("lenient/plain.txt"), flows.to_str().unwrap(), &[]);
    let ports = zipped("formats-ports.gz", &std::fs::read(field("cut-port-names/ports.json")).unwrap());
    linted(&[&field("cut-port-names/a.flows"), "--ports", ports.to_str().unwrap()]);
    let cut = std::fs::read(&flows).unwrap();
    let broken = scratch("formats-broken.gz", &cut[..cut.len() / 2]);
    check_refused(&run(&["lint", broken.to_str().unwrap()]), &["formats-broken.gz"]);
    // A gigabyte of one line, packed.
    let bomb = zipped("formats-bomb.gz", &vec![b'a'; 64 << 20]);
    check_refused(&run(&["lint", bomb.to_str().unwrap()]), &["formats-bomb.gz:1:", "longer than"]);
}

/// Measured with a switch: both are dumps of the same flow. Frames without a tag are the same to both; of others the
/// first does not tell what becomes of them.
#[test]
fn a_dump_that_does_not_tell_a_new_tag_from_a_changed_one_is_unknown_for_frames_with_a_tag() {
    let (of10, of13) = (field("vlan-rewrite/of10.txt"), field("vlan-rewrite/of13.txt"));
    let differ = run(&["diff", &of10, &of13]);
    assert_eq!(differ.code, Some(3), "{differ:?}");
    assert!(differ.err.contains("of10.txt:1: `mod_vlan`") && !differ.err.contains("of13.txt"), "{differ:?}");
    let check = |flows: &str, packet: &str, code: i32, words: &str| {
        let run = run(&["trace", flows, "--in-port", "5", "--packet", packet]);
        assert_eq!(run.code, Some(code), "{flows} {packet}: {run:?}");
        assert!(run.out.contains(words), "{flows} {packet}: {run:?}");
    };
    let (plain, tagged) = ("dl_type=0x1234", "dl_type=0x1234,dl_vlan=7");
    check(&of10, plain, 0, "= leaves by 2: VLAN 1: ethertype 0x1234");
    check(&of13, plain, 0, "= leaves by 2: VLAN 1: ethertype 0x1234");
    check(&of10, tagged, 3, "= unknown: `mod_vlan");
    check(&of13, tagged, 0, "= leaves by 2: VLAN 1: second VLAN tag");
    // What came over OpenFlow 1.0 changes the tag, and `reset_counts` says so.
    let text = std::fs::read_to_string(&of13).unwrap().replace("in_port=5", "reset_counts in_port=5");
    let resets = scratch("formats-resets.txt", text.as_bytes());
    check(resets.to_str().unwrap(), tagged, 0, "= leaves by 2: VLAN 1: ethertype 0x1234");
    // Files for `add-flows` are what they say, and so is what the switch prints of itself.
    let file = scratch("formats-add.txt", b"in_port=5 actions=mod_vlan_vid:1,output:2\n");
    check(file.to_str().unwrap(), tagged, 0, "= leaves by 2: VLAN 1: ethertype 0x1234");
    // Where a frame surely has a tag, or surely none, there is nothing unclear.
    for matching in ["dl_vlan=7", "vlan_tci=0x1000/0x1000"] {
        let dump = format!(
            " cookie=0x0, duration=0s, table=0, n_packets=0, n_bytes=0, {matching} actions=mod_vlan_vid:1,output:2\n"
        );
        let dump = scratch("formats-tagged.txt", dump.as_bytes());
        check(dump.to_str().unwrap(), tagged, 0, "= leaves by 2: VLAN 1: ethertype 0x1234");
    }
    let stripped = text.replace("reset_counts in_port=5 actions=", "in_port=5 actions=strip_vlan,");
    let dump = stripped.replace("push_vlan:0x8100,set_field:4097->vlan_vid", "mod_vlan_vid:1");
    let dump = scratch("formats-stripped.txt", dump.as_bytes());
    check(dump.to_str().unwrap(), tagged, 0, "= leaves by 2: VLAN 1: ethertype 0x1234");
}

/// Nothing is proved of what a dump does not tell: a VM's frame that has a tag may leave with two.
#[test]
fn nothing_is_proved_of_frames_with_a_tag_that_a_dump_is_unclear_about() {
    let host = |actions: &str, statistics: &str| {
        format!(
            "{statistics}table=0,priority=100,in_port=5 actions=load:0x5->NXM_NX_REG5[],load:0x1->NXM_NX_REG6[],resubmit(,71)\n\
             {statistics}table=71,priority=95,arp,reg5=0x5,in_port=5,dl_src=fa:16:3e:00:00:01,arp_spa=10.0.0.1 actions=resubmit(,73)\n\
             {statistics}table=73,priority=100,reg6=0x1,dl_dst=fa:16:3e:00:00:01 actions=output:5\n\
             {statistics}table=73,priority=80,reg5=0x5 actions={actions}\n"
        )
    };
    let verdict = |name: &str, text: String| {
        let path = scratch(name, text.as_bytes());
        let run = run(&[
            "prove",
            path.to_str().unwrap(),
            "--property",
            "vlan-escape",
            "--datapath",
            "userspace-3.1",
            "--format",
            "json",
        ]);
        let report: Value = serde_json::from_str(&run.out).unwrap();
        report["results"][0]["verdict"].as_str().unwrap().to_owned()
    };
    let dumped = "duration=1s, n_packets=1, ";
    let plain = verdict("formats-host-a.txt", host("mod_vlan_vid:1,output:1", ""));
    let unclear = verdict("formats-host-b.txt", host("mod_vlan_vid:1,output:1", dumped));
    assert_eq!(plain, "proved");
    assert_eq!(unclear, "unknown");
}
