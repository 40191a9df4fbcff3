//! Constructs beyond fields and outputs are printed as a real switch prints them in each version of OpenFlow.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail loudly")]

use flowproof_switch::flow::{Action, Dialect, Flow, ParseOptions, Style, parse_flows};
use std::{fs, path::Path};

const DIALECTS: [Dialect; 3] = [Dialect::Nxm, Dialect::OpenFlow13, Dialect::OpenFlow15];

fn read(text: &str) -> Flow {
    parse_flows(text, &ParseOptions::default()).unwrap().flows.remove(0)
}

fn rows() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/flows/constructs.tsv");
    let text = fs::read_to_string(path).unwrap();
    let row = |line: &str| line.split('\t').map(str::to_owned).collect();
    text.lines().filter(|line| !line.starts_with("# ")).map(row).collect()
}

#[test]
fn constructs_are_printed_as_a_switch_prints_them() {
    for row in rows() {
        let flow = read(&row[0]);
        for (dialect, expected) in DIALECTS.into_iter().zip(&row[1..]).filter(|(_, text)| *text != "-") {
            let printed = flow.printed(Style::Dump, dialect).to_string();
            assert_eq!(printed.trim(), expected, "{} in {dialect:?}", row[0]);
        }
    }
}

#[test]
fn what_a_switch_prints_reads_back_as_it_was_printed() {
    for text in rows().iter().flat_map(|row| &row[1..]).filter(|text| *text != "-") {
        let flow = read(text);
        assert_eq!(flow.to_string(), *text);
    }
}

/// Two spellings of one action print apart and write the same bits.
#[test]
fn set_tunnel_is_a_load_by_another_name() {
    let written = |text: &str| {
        let flow = read(&format!("actions={text}"));
        let Action::Set { field, value, mask, .. } = flow.actions[0] else { panic!("{text} sets nothing") };
        (field, value, mask)
    };
    assert_eq!(written("set_tunnel:0x10"), written("load:0x10->NXM_NX_TUN_ID[]"));
    assert_eq!(written("set_tunnel64:0x10"), written("set_field:0x10->tun_id"));
    assert_eq!(written("write_metadata:0x10/0xff"), written("set_field:0x10/0xff->metadata"));
}
