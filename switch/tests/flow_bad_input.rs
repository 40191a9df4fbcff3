//! Bad input is refused with its place, and nothing makes the parser panic.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly"
)]

use flowproof_switch::flow::{
    Era, FlowFile, LintKind, ParseErrors, ParseOptions, parse_bytes, parse_flows, parse_match, parse_reader,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn read(text: &str) -> Result<FlowFile, ParseErrors> {
    parse_flows(text, &ParseOptions::default())
}

/// The first error in `text` stands at this line and column, quotes this text and says this.
#[track_caller]
fn check(text: &str, line: u32, column: u32, quoted: &str, says: &str) {
    let errors = read(text).expect_err(text);
    let first = &errors.errors[0];
    assert_eq!((first.line, first.column, first.text.as_str()), (line, column, quoted), "{errors}");
    assert!(first.message.contains(says), "{errors}");
}

#[test]
fn errors_name_line_column_and_text() {
    check("ip,actions=drop\nip,frobnicate=1,actions=drop", 2, 4, "frobnicate=1", "unknown keyword");
    check("ip,actions=drop,xyzzy:3", 1, 17, "xyzzy:3", "unknown action");
    check(
        "tcp,tp_dst=99999999999999999999999999999999999999999,actions=drop",
        1,
        12,
        "99999999999999999999999999999999999999999",
        "bad syntax",
    );
    check("tcp,tp_dst=65536,actions=drop", 1, 12, "65536", "too large");
    check("priority=65536,actions=drop", 1, 10, "65536", "priority");
    check("table=256,actions=drop", 1, 1, "table=256", "table");
    check("ip,nw_src=10.0.0.0/33 actions=drop", 1, 11, "10.0.0.0/33", "prefix");
    check("ip,nw_src=10.0.0 actions=drop", 1, 11, "10.0.0", "IPv4");
    check("dl_src=00:00:00:00:00 actions=drop", 1, 8, "00:00:00:00:00", "Ethernet");
    check("ct_state=+trk+wat actions=drop", 1, 10, "+trk+wat", "ct_state");
    check("in_port=tap0 actions=drop", 1, 9, "tap0", "port");
    check("actions=output:tap0", 1, 9, "output:tap0", "port");
    check("reg0[0..3]=16 actions=drop", 1, 12, "16", "4 bits");
    check("cookie=1/2,actions=drop", 1, 1, "cookie=1/2", "mask");
    check("  table=3,actions=goto_table:3", 1, 19, "goto_table:3", "higher");
    check("actions=goto_table:0", 1, 9, "goto_table:0", "higher");
    check("actions=resubmit(,255)", 1, 9, "resubmit(,255)", "at least one");
    check("ip,actions=ct(table=255)", 1, 15, "table=255", "table 255");
    check("ip,actions=ct(force)", 1, 12, "ct(force)", "commit");
    check("ip,ct_state=+inv,actions=ct(commit)", 1, 26, "ct(commit)", "invalid");
    check("ip,actions=ct(commit,exec(load:1->NXM_NX_REG0[]))", 1, 27, "load:1->NXM_NX_REG0[]", "nested");
    check("actions=set_field:1->ct_mark", 1, 9, "set_field:1->ct_mark", "outside of ct");
    check("actions=load:16->NXM_NX_REG0[0..3]", 1, 9, "load:16->NXM_NX_REG0[0..3]", "4 bits");
    check("actions=load:1->NXM_OF_IP_SRC[]", 1, 9, "load:1->NXM_OF_IP_SRC[]", "prerequisites");
    check("actions=conjunction(1,3/2)", 1, 9, "conjunction(1,3/2)", "clauses");
    check("actions=conjunction(1,1/1)", 1, 9, "conjunction(1,1/1)", "at least 2");
    check("actions=conjunction(1,1/2),output:1", 1, 9, "conjunction(1,1/2),output:1", "no other action");
    check("actions=drop,output:1", 1, 9, "drop", "accompanied");
    check("out_port=3,actions=drop", 1, 1, "out_port=3", "queries");
}

#[test]
fn truncated_and_empty_inputs_are_refused() {
    check(
        " cookie=0xb7d7ed46110fd50e, duration=10155.140s, table=72",
        1,
        2,
        "cookie=0xb7d7ed46110fd50e, duration=10155.140s, table=72",
        "must specify an action",
    );
    check("", 1, 1, "", "no flow");
    check("# only a comment\n\n", 1, 1, "", "no flow");
    check("NXST_FLOW reply (xid=0x4):\n", 1, 1, "", "no flow");
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let place = |bytes: &[u8]| {
        let errors = parse_bytes(bytes, &ParseOptions::default()).unwrap_err();
        (errors.errors[0].line, errors.errors[0].column, errors.errors[0].message.clone())
    };
    assert_eq!(place(b"ip,actions=drop\nip\0,actions=drop").0, 2);
    assert!(place(b"ip\0,actions=drop").2.contains("NUL"));
    let (line, column, message) = place(b"ip,actions=drop\nip,\xff,actions=drop");
    assert_eq!((line, column), (2, 4));
    assert!(message.contains("UTF-8"));
    assert!(place(&[0x7f; 4096]).2.contains("action"));
    let long = [b"ip,".repeat(400_000), b"actions=drop".to_vec()].concat();
    assert!(place(&long).2.contains("longer"));
}

#[test]
fn a_stream_without_line_ends_is_refused_before_it_is_read_to_its_end() {
    struct Endless(u64);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0 += buffer.len() as u64;
            assert!(self.0 < 1 << 23, "read on and on");
            buffer.fill(b'a');
            Ok(buffer.len())
        }
    }
    let errors = parse_reader(Endless(0), &ParseOptions::default()).unwrap().unwrap_err();
    assert!(errors.to_string().contains("longer"), "{errors}");
}

#[test]
fn errors_are_collected_up_to_a_limit() {
    let errors = read(&"ip,wat=1,actions=drop\n".repeat(100)).unwrap_err();
    assert_eq!(errors.errors.len(), 20);
    assert!(errors.truncated);
    assert_eq!(read("wat=1,actions=drop\nwat=2,actions=drop").unwrap_err().errors.len(), 2);
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("actions={}{}", "clone(".repeat(5000), ")".repeat(5000));
    assert!(read(&text).unwrap_err().to_string().contains("deeply"));
}

#[test]
fn names_of_ports_and_tables_are_those_that_the_caller_knows() {
    let options = ParseOptions {
        ports: BTreeMap::from([("tap-a".to_owned(), 7)]),
        tables: BTreeMap::from([("acl".to_owned(), 60)]),
        ..ParseOptions::default()
    };
    let named =
        parse_flows("table=acl,in_port=tap-a actions=output:\"tap-a\",resubmit(,acl)", &options).unwrap();
    let numbered = read("table=60,in_port=7 actions=output:7,resubmit(,60)").unwrap();
    assert_eq!(named.flows[0].to_string(), numbered.flows[0].to_string());
}

#[track_caller]
fn lints(text: &str) -> Vec<LintKind> {
    read(text).unwrap().lints.into_iter().map(|lint| lint.kind).collect()
}

/// Expectations are what `ovs-ofctl parse-flows` 3.1 keeps of each match.
#[test]
fn silent_widening_is_reported() {
    for (written, kept) in [
        ("tp_dst=80", ""),
        ("ip,tp_dst=80", "ip"),
        ("ip,icmp_type=8", "ip"),
        ("nw_src=1.2.3.4", ""),
        ("icmp6,nd_target=::1", "icmp6"),
        ("ipv6,nw_src=1.2.3.4", "ipv6"),
        ("udp,ct_tp_dst=1", "udp"),
        ("nw_proto=6", ""),
        ("nw_frag=no", ""),
        ("tcp_flags=+syn", ""),
    ] {
        let found = lints(&format!("{written} actions=drop"));
        let [LintKind::Widened { before, after, .. }] = found.as_slice() else {
            panic!("{written}: {found:?}")
        };
        assert_eq!((before.as_str(), after.as_str()), (written, kept));
    }
    assert_eq!(lints("arp,nw_src=1.2.3.4 actions=drop"), []);
    assert_eq!(lints("ct_mark=0,reg5=1,ct_state=-est actions=drop"), []);
    assert!(matches!(lints("dl_vlan=5000 actions=drop").as_slice(), [LintKind::Truncated { .. }]));
}

#[test]
fn what_only_old_switches_take_parses_with_a_lint_and_is_refused_in_strict_mode() {
    let text = "ct_state=+est,reg5=1 actions=ct(commit,zone=1)";
    assert_eq!(lints(text), [LintKind::CtWithoutIp]);
    let strict = ParseOptions { era: Era::Strict31, ..ParseOptions::default() };
    assert!(parse_flows(text, &strict).is_err());
    let strip = "arp actions=strip_vlan,output:1";
    assert_eq!(lints(strip), [LintKind::OpenFlow10Only { action: "strip_vlan".to_owned() }]);
    assert!(parse_flows(strip, &strict).is_ok(), "ovs-ofctl takes it over OpenFlow 1.0");
    // As `ovs-ofctl -O OpenFlow15 dump-flows` prints what came over 1.0, and does not take back.
    let dumped = "reset_counts arp actions=pop_vlan,output:1";
    assert_eq!(lints(dumped), [LintKind::OpenFlow10Only { action: "strip_vlan".to_owned() }]);
    assert!(parse_flows(dumped, &strict).is_err());
}

#[test]
fn a_packet_without_its_protocol_is_an_error_where_a_flow_would_be_wider() {
    assert!(parse_match("tp_dst=80").is_err());
    assert!(parse_match("tcp,tp_dst=80,priority=3").is_err());
    assert_eq!(parse_match("dl_type=0x800,nw_proto=6,tp_dst=22"), parse_match("tcp,tcp_dst=0x16"));
}

/// Pieces of the grammar, so that random strings get past the first token.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "ip",
        "tcp",
        "icmp6",
        "reg5=",
        "nw_src=",
        "10.0.0.1",
        "/24",
        "ct_state=",
        "+trk",
        "-new",
        "0x",
        "65535",
        "actions=",
        "ct(",
        "exec(",
        "load:",
        "->",
        "NXM_NX_REG0",
        "[0..15]",
        ")",
        ",",
        " ",
        "output:",
        "resubmit(",
        "conjunction(1,1/2)",
        "learn(",
        "clone(",
        "nat(src=",
        "dl_vlan=",
        "vlan_tci=",
        "set_field:",
        "\"",
        "\u{fc}",
        "note:",
        "controller(",
        "bundle(",
        "multipath(",
        "sample(",
        "#",
        "\n",
        "dl_src=",
        "aa:bb:cc:dd:ee:ff",
        "::",
        "ipv6_src=",
        "cookie=",
        "table=",
        "tun_metadata0",
        "actions=drop",
        "mod_nw_tos:",
        "[",
        "]",
        "=",
        "|",
        "in_port=",
    ];
    prop_oneof![4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

/// A flow that Open vSwitch takes: a protocol, items that fit it, actions that fit it.
fn flow_text() -> impl Strategy<Value = String> {
    let protocol = prop::sample::select(vec!["tcp", "tcp6", "udp", "udp6", "sctp"]);
    let item = prop_oneof![
        any::<u16>().prop_map(|n| format!("tp_src={n}")),
        (any::<u16>(), any::<u16>()).prop_map(|(v, m)| format!("tp_dst={v:#x}/{m:#x}")),
        (0_u8..16, any::<u32>(), any::<u32>()).prop_map(|(r, v, m)| format!("reg{r}={v}/{m:#x}")),
        any::<u128>().prop_map(|v| format!("ct_label={v:#x}")),
        any::<u64>().prop_map(|v| format!("metadata={v:#x}")),
        (any::<u8>(), any::<u8>()).prop_map(|(v, m)| format!("ct_state={v}/{m}")),
        (any::<u16>(), any::<u16>()).prop_map(|(v, m)| format!("vlan_tci={v}/{m}")),
        (0_u16..4096).prop_map(|vid| format!("dl_vlan={vid}")),
        (0_u16..0xff00).prop_map(|port| format!("in_port={port}")),
        prop::sample::select(vec!["no", "yes", "first", "later", "not_later"])
            .prop_map(|f| format!("nw_frag={f}")),
        any::<u16>().prop_map(|priority| format!("priority={priority}")),
        any::<u64>().prop_map(|cookie| format!("cookie={cookie}")),
        (0_u8..255).prop_map(|table| format!("table={table}")),
    ];
    let action = prop_oneof![
        (1_u16..0xff00).prop_map(|port| format!("output:{port}")),
        (0_u8..255).prop_map(|table| format!("resubmit(,{table})")),
        (0_u8..16, 0_u16..32).prop_map(|(reg, bit)| format!("load:1->NXM_NX_REG{reg}[{bit}]")),
        any::<u64>().prop_map(|id| format!("set_field:{id}->tun_id")),
        (any::<u32>(), any::<u32>()).prop_map(|(v, m)| format!("set_field:{v}/{m}->reg3")),
        (0_u16..4096).prop_map(|vid| format!("mod_vlan_vid:{vid}")),
        (any::<u16>(), 0_u8..255).prop_map(|(zone, table)| format!("ct(zone={zone},table={table})")),
        any::<u32>().prop_map(|mark| format!("clone(ct_clear,output:{},set_queue:{mark})", mark % 1000)),
        Just("move:NXM_NX_REG0[0..15]->NXM_NX_REG5[16..31]".to_owned()),
        Just("learn(table=3,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])".to_owned()),
    ];
    let items = prop::collection::vec(item, 0..6);
    let actions = prop::collection::vec(action, 0..5);
    (protocol, items, actions).prop_map(|(protocol, items, actions)| {
        format!("{protocol},{} actions={}", items.join(","), actions.join(","))
    })
}

proptest! {
    #[test]
    fn generated_flows_are_accepted_and_read_back(text in flow_text()) {
        let parsed = match read(&text) {
            Ok(parsed) => parsed,
            Err(errors) => panic!("{text}: {errors}"),
        };
        let printed = parsed.flows[0].to_string();
        let mut again = read(&printed).unwrap();
        again.flows[0].span = parsed.flows[0].span;
        prop_assert_eq!(&again.flows, &parsed.flows, "{}", printed);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), lenient in any::<bool>()) {
        let options = ParseOptions { lenient, ..ParseOptions::default() };
        let _ = parse_flows(&text, &options);
        let _ = parse_flows(&format!("actions={text}"), &options);
        let _ = parse_match(&text);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = parse_bytes(&bytes, &ParseOptions::default());
    }

    #[test]
    fn pieces_of_grammar_in_any_order_do_not_panic_and_what_parses_reads_back(
        pieces in prop::collection::vec(piece(), 0..20),
        lenient in any::<bool>(),
    ) {
        let options = ParseOptions { lenient, ..ParseOptions::default() };
        let Ok(parsed) = parse_flows(&pieces.concat(), &options) else { return Ok(()) };
        for flow in parsed.flows {
            let printed = flow.to_string();
            let again = parse_flows(&printed, &ParseOptions::default());
            let Ok(mut again) = again else { panic!("{printed}: {again:?}") };
            again.flows[0].span = flow.span;
            prop_assert_eq!(&again.flows[0], &flow, "{}", printed);
        }
    }

    #[test]
    fn real_flows_with_changed_bytes_do_not_panic(at in 0_usize..20_000, change in any::<u8>(), cut in any::<bool>()) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/corpus/29.0.0/01_seed_scenario.flows");
        let mut bytes = std::fs::read(path).unwrap();
        let at = at.min(bytes.len() - 1);
        if cut { bytes.truncate(at) } else { bytes[at] = change }
        let _ = parse_bytes(&bytes, &ParseOptions::default());
        let _ = parse_bytes(&bytes, &ParseOptions { lenient: true, ..ParseOptions::default() });
    }
}
