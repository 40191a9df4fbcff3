//! Flow strings of Open vSwitch's own suite, with what `ovs-ofctl parse-flows` 3.1 makes of them.
//!
//! Columns of the fixture: where in the suite; mode; input; `OK` or `ERR`; the tool's normalisation or message; …

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail loudly")]

use flowproof_switch::flow::{Dialect, Era, ParseOptions, Style, parse_flows};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The tool speaks OpenFlow 1.0 unless told otherwise; with `-O OpenFlow13` it accepts these.
const NEEDS_A_LATER_VERSION: &str = "accepted with -O OpenFlow13";
/// The expectation is printed with `-m`, as raw match entries.
const RAW_ENTRIES: &str = "printed as raw match entries";
/// The tool takes the action and then cannot read its own message.
const DEBUG_BUILD: &str = "an action of debug builds";
/// OpenFlow 1.0 cannot say the match or the action, and the tool says something else.
const LOST_IN_OPENFLOW10: &str = "OpenFlow 1.0 loses a mask or a bit";

/// Records where we deviate, and why.
const DEVIATIONS: &[(&str, &str)] = &[
    ("sctp6,ipv6_src=2001:db8:3c4d:1::5,tp_dst=309 actions=drop", RAW_ENTRIES),
    ("sctp,nw_src=192.168.0.3,tp_dst=309 actions=pop_queue,output:1", RAW_ENTRIES),
    ("actions=push:reg0[0..31],pop:reg0", RAW_ENTRIES),
    ("ip,actions=ct(commit,exec(load(1->NXM_NX_CT_LABEL[])))", RAW_ENTRIES),
    ("ip,actions=ct(commit,exec(set_field(1->ct_label)))", RAW_ENTRIES),
    ("in_port=1 actions=2,debug_recirc,4", DEBUG_BUILD),
    ("table=1 in_port=1 actions=debug_recirc", DEBUG_BUILD),
    ("vlan_vid=11,actions=drop", LOST_IN_OPENFLOW10),
    ("table=1 vlan_tci=0x1302/0x1fff actions=set_field:0x1402/0x1fff->vlan_tci,output:2", LOST_IN_OPENFLOW10),
];

/// Records whose expectation is in the words of OpenFlow 1.2 and later.
const LATER_WORDS: &[&str] = &[
    "ipv6,actions=set_field:fe80:0123:4567:890a:a6ba:dbff:fefe:59fa->ipv6_src",
    "tcp actions=mod_tp_dst:1234",
    "ip actions=mod_nw_src:10.1.1.2,mod_nw_dst:192.168.10.1,mod_nw_ttl:1,mod_nw_tos:16,mod_nw_ecn:2",
];

struct Record {
    input: String,
    accepted: bool,
    says: String,
}

fn records() -> Vec<Record> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/flows/parse-flows-cases.tsv");
    let text = fs::read_to_string(path).unwrap();
    let record = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        Record {
            input: columns[2].to_owned(),
            accepted: columns[3] == "OK",
            says: columns[4].trim().to_owned(),
        }
    };
    text.lines().filter(|line| !line.starts_with("# ")).map(record).collect()
}

fn deviation(record: &Record) -> Option<&'static str> {
    let listed = DEVIATIONS.iter().find(|(input, _)| *input == record.input).map(|(_, why)| *why);
    listed.or_else(|| (record.says == "no usable protocol").then_some(NEEDS_A_LATER_VERSION))
}

/// What we make of an input: the flow as the tool would print it, or the error.
fn ours(record: &Record) -> Result<String, String> {
    let options = ParseOptions { era: Era::Strict31, ..ParseOptions::default() };
    let dialect = match LATER_WORDS.contains(&record.input.as_str()) {
        true => Dialect::OpenFlow13,
        false => Dialect::Nxm,
    };
    let parsed = parse_flows(&record.input, &options).map_err(|errors| errors.to_string())?;
    Ok(parsed.flows.iter().map(|flow| flow.printed(Style::ParseFlows, dialect).to_string()).collect())
}

fn agrees(record: &Record) -> Result<(), String> {
    match (ours(record), record.accepted) {
        (Ok(text), true) if text == record.says => Ok(()),
        (Err(_), false) => Ok(()),
        (found, _) => Err(format!("{}\n  tool: {}\n  ours: {found:?}", record.input, record.says)),
    }
}

#[test]
fn every_string_is_read_and_printed_or_refused_as_the_tool_does() {
    let records = records();
    assert!(records.len() > 400);
    let wrong: Vec<String> =
        records.iter().filter(|r| deviation(r).is_none()).filter_map(|r| agrees(r).err()).collect();
    assert!(wrong.is_empty(), "{} of {} deviate:\n{}", wrong.len(), records.len(), wrong.join("\n"));
}

#[test]
fn listed_deviations_are_few_and_deviate() {
    let records = records();
    let listed: Vec<&Record> = records.iter().filter(|r| deviation(r).is_some()).collect();
    assert!(listed.len() * 10 <= records.len());
    for record in &listed {
        assert!(agrees(record).is_err(), "no longer deviates: {}", record.input);
    }
    let inputs: BTreeSet<&str> = records.iter().map(|r| r.input.as_str()).collect();
    for (input, _) in DEVIATIONS {
        assert!(inputs.contains(input), "no such record: {input}");
    }
}

#[test]
fn what_a_later_version_takes_is_accepted() {
    for record in records().iter().filter(|r| deviation(r) == Some(NEEDS_A_LATER_VERSION)) {
        assert!(ours(record).is_ok(), "{}", record.input);
    }
}

#[test]
fn accepted_strings_read_back_as_they_were_printed() {
    for record in records().iter().filter(|r| r.accepted) {
        let Ok(parsed) = parse_flows(&record.input, &ParseOptions::default()) else { continue };
        for flow in parsed.flows {
            let printed = flow.to_string();
            let mut again = parse_flows(&printed, &ParseOptions::default()).expect(&printed).flows;
            again[0].span = flow.span;
            assert_eq!(again, [flow], "{printed}");
        }
    }
}
