//! Flows as people pass them on: marked, numbered, quoted, cut, with names in the place of numbers.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail loudly")]

use flowproof_switch::flow::{Flow, ParseErrors, ParseOptions, Span, number_names, parse_bytes};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/field/lenient").join(name))
        .unwrap()
}

fn lenient(bytes: &[u8]) -> Result<(Vec<Flow>, Vec<u32>), ParseErrors> {
    let options = ParseOptions { lenient: true, ..ParseOptions::default() };
    let file = parse_bytes(bytes, &options)?;
    let bare = |flow: Flow| Flow { span: Span::default(), ..flow };
    Ok((file.flows.into_iter().map(bare).collect(), file.skipped.into_iter().map(|(line, _)| line).collect()))
}

#[test]
fn what_stands_around_flows_changes_none_of_them() {
    let (plain, _) = lenient(&fixture("plain.txt")).unwrap();
    assert_eq!(plain.len(), 7);
    for name in [
        "ansible",
        "bom",
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
        let (flows, skipped) = lenient(&fixture(&format!("{name}.txt"))).unwrap();
        assert_eq!(flows, plain, "{name}");
        assert_eq!(skipped, [0; 0], "{name}");
    }
    let crlf = String::from_utf8(fixture("plain.txt")).unwrap().replace('\n', "\r\n");
    assert_eq!(lenient(crlf.as_bytes()).unwrap().0, plain);
    let string = String::from_utf8(fixture("plain.txt")).unwrap().replace('\n', "\\n");
    assert_eq!(lenient(format!("\"stdout\": \"{string}\",").as_bytes()).unwrap().0, plain);
    let strict = parse_bytes(&fixture("bom.txt"), &ParseOptions::default()).unwrap();
    assert_eq!(strict.flows.len(), plain.len());
}

#[track_caller]
fn check(text: &str, flows: &[&str], skipped: &[u32]) {
    let (found, passed) = lenient(text.as_bytes()).unwrap();
    let words: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        (words.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), passed.as_slice()),
        (flows, skipped),
        "{text}"
    );
}

#[test]
fn prose_is_listed_whatever_words_it_uses() {
    let flow = "table=60, priority=0 actions=NORMAL";
    let text = |prose: &str| format!("{prose}\n{flow}\n");
    for prose in [
        "what conntrack first with an ``action=ct()`` rule. An accepted flow means that",
        "The driver will insert \"actions=controller\" to flows matched.",
        "    May 5 09:05:07 action=ACCEPT project_id=7",
        "table=60 is where packets are classified",
        "priority=100 flows have actions=drop",
        "delete",
        "delete the flows by hand",
        "add them again, with other actions=output",
        "- see table=3 and arp",
        "action=ACCEPT",
    ] {
        check(&text(prose), &[flow], &[1]);
    }
}

#[track_caller]
fn check_refused(text: &str, line: u32, words: &str) {
    let errors = lenient(text.as_bytes()).unwrap_err();
    let error = &errors.errors[0];
    assert!(error.line == line && error.to_string().contains(words), "{text}: {errors}");
}

#[test]
fn what_looks_like_a_flow_and_is_none_is_an_error() {
    check_refused("> ip,nw_srcs=10.0.0.1 actions=drop\n", 1, "nw_srcs");
    check_refused("x\n- in_prot=1 actions=drop\n", 2, "in_prot");
    check_refused("xcp,nw_src=10.0.0.1 actions=drop\n", 1, "xcp");
    check_refused("12: ip actions=explode\n", 1, "explode");
    check_refused("> priority=70000,ip\n> actions=drop\n", 1, "70000");
    check_refused("actions=explode\n", 1, "explode");
    check_refused("delete nosuch=3,ip\nip actions=drop\n", 1, "nosuch");
}

#[test]
fn a_line_cut_at_the_width_of_a_window_goes_on_inside_the_word() {
    let cut = |text: &str| {
        text.as_bytes()
            .chunks(50)
            .map(|c| String::from_utf8(c.to_vec()).unwrap())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let flows = "cookie=0x0, duration=1.5s, table=0, n_packets=0, priority=12,in_port=7 actions=load:0x12->NXM_NX_REG5[],output:12";
    let last = "cookie=0x0, duration=1.5s, table=0, n_packets=0, priority=11,in_port=6 actions=output:1234";
    let expected = [
        "priority=12,in_port=7 actions=load:0x12->NXM_NX_REG5[],output:12",
        "priority=11,in_port=6 actions=output:1234",
    ];
    check(&format!("{}\n{}\n", cut(flows), cut(last)), &expected, &[]);
    // The first line ends where the window does, and its actions could be whole.
    let whole = format!("priority=12,in_port=7,dl_src=00:00:00:00:00:0{}", "1 actions=output:12");
    let (first, rest) = whole.split_at(whole.len() - 1);
    let other = "x".repeat(first.len());
    check(
        &format!("{first}\n{rest}\n{other}\n"),
        &["priority=12,in_port=7,dl_src=00:00:00:00:00:01 actions=output:12"],
        &[3],
    );
}

#[test]
fn wrapped_lines_may_be_quoted_and_numbered() {
    check("> priority=3,in_port=1\n> actions=drop\n", &["priority=3,in_port=1 actions=drop"], &[]);
    check("1: priority=3,in_port=\n2: 1 actions=drop\n", &["priority=3,in_port=1 actions=drop"], &[]);
    check("ip actions=resubmit(,\n 5)\n", &["ip actions=resubmit(,5)"], &[]);
    let ports = BTreeMap::from([("tap1".to_owned(), 1)]);
    let options = ParseOptions { lenient: true, ports, ..ParseOptions::default() };
    let named = b"priority=3,in_port=\n\"tap1\" actions=output:\n\"tap1\"\n";
    let file = parse_bytes(named, &options).unwrap();
    assert_eq!(file.flows[0].to_string(), "priority=3,in_port=1 actions=output:1");
}

fn numbers(pairs: &[(&str, u16)]) -> BTreeMap<String, u16> {
    pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

#[track_caller]
fn check_names(text: &str, derived: &[(&str, u16)], given: &[(&str, u16)]) {
    let found = number_names(text.as_bytes(), &ParseOptions::default());
    assert_eq!((found.derived, found.given), (numbers(derived), numbers(given)), "{text}");
}

#[test]
fn names_of_ports_get_the_numbers_that_flows_say_and_others_free_ones() {
    let classified = "table=60,in_port=\"tap-a\" actions=load:0x5->NXM_NX_REG5[],resubmit(,71)\n";
    let delivered = "table=82,reg5=0x7 actions=output:\"tap-b\"\n";
    check_names(classified, &[("tap-a", 5)], &[]);
    check_names(delivered, &[("tap-b", 7)], &[]);
    check_names(
        &format!("{classified}{delivered}in_port=eth0 actions=output:9\n"),
        &[("tap-a", 5), ("tap-b", 7)],
        &[("eth0", 10)],
    );
    check_names("in_port=a actions=output:b,resubmit(c,3),4\n", &[], &[("a", 5), ("b", 6), ("c", 7)]);
    // Two flows that disagree, and two names for one number, say nothing.
    check_names(
        "in_port=a actions=load:5->NXM_NX_REG5[]\nip,in_port=a actions=load:6->NXM_NX_REG5[]\n",
        &[],
        &[("a", 7)],
    );
    check_names(
        "in_port=a actions=load:5->NXM_NX_REG5[]\nin_port=b actions=load:5->NXM_NX_REG5[]\n",
        &[],
        &[("a", 6), ("b", 7)],
    );
    // What a switch prints of every place that has a port's name.
    check_names(
        "actset_output=\"a-1\" actions=set_field:\"a-1\"->in_port,learn(in_port=\"a-1\",output:NXM_OF_IN_PORT[]),\
         bundle(eth_src,1,hrw,ofport,members:\"a-1\",\"b\"),output(port=\"b\",max_len=100),clone(output:\"12\")\n",
        &[],
        &[("12", 1), ("a-1", 2), ("b", 3)],
    );
    check_names("in_port=LOCAL actions=NORMAL,output:NXM_NX_REG0[],output:reg1\n", &[], &[]);
}

#[test]
fn names_of_tables_are_numbered_in_their_order() {
    let tables = |text: &str| number_names(text.as_bytes(), &ParseOptions::default()).tables;
    let expected = |pairs: &[(&str, u8)]| -> BTreeMap<String, u8> {
        pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    };
    let text = "table=in actions=resubmit(,acl)\ntable=acl actions=goto_table:out\ntable=60 actions=drop\ntable=\"out\" actions=1\n";
    assert_eq!(tables(text), expected(&[("in", 0), ("acl", 1), ("out", 61)]));
    // By priority, as `--sort` prints: what no flow leads to is the entrance.
    let text = "table=acl,priority=5 actions=drop\ntable=in,priority=3 actions=resubmit(,acl)\n";
    assert_eq!(tables(text)["in"], 0);
    let text = "actions=resubmit(,acl)\ntable=acl actions=drop\n";
    assert_eq!(tables(text), expected(&[("acl", 1)]));
}

#[test]
fn bridge_dump_flows_is_read_and_the_switchs_own_flows_are_listed() {
    let file = parse_bytes(
        b"duration=4370s, n_packets=12, n_bytes=2520, priority=100,in_port=4,actions=resubmit(,71)\n\
          table_id=71, duration=4370s, n_packets=0, n_bytes=0, priority=0,actions=controller(reason=)\n\
          table_id=254, duration=187221s, n_packets=0, n_bytes=0, priority=2,recirc_id=0,actions=drop\n",
        &ParseOptions::default(),
    )
    .unwrap();
    assert_eq!(file.flows.iter().map(|flow| flow.table).collect::<Vec<_>>(), [0, 71]);
    assert_eq!(file.skipped.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3]);
}
