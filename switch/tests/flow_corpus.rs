//! Genuine flow tables: everything the driver wrote or a switch printed parses, prints and reads back as it was.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail loudly")]

use flowproof_switch::flow::{
    Dialect, Era, Flow, LintKind, ParseOptions, Style, parse_flows, text::parse_match,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let releases = fs::read_dir(root().join("tests/fixtures/corpus")).unwrap();
    let mut found: Vec<PathBuf> = releases
        .flat_map(|release| fs::read_dir(release.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

#[track_caller]
fn read(path: &Path) -> Vec<Flow> {
    let text = fs::read_to_string(path).unwrap();
    parse_flows(&text, &ParseOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display())).flows
}

fn dump_line(flow: &Flow) -> String {
    flow.printed(Style::Dump, Dialect::Nxm).to_string()
}

/// A line of a dump without what `--no-stats` leaves out and without the table that it does not print.
fn without_statistics(line: &str) -> String {
    let statistic = |item: &&str| {
        let name = item.split('=').next().unwrap();
        matches!(name, "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age") || *item == "table=0"
    };
    let items: Vec<&str> = line.trim().split(", ").filter(|item| !statistic(item)).collect();
    format!(" {}", items.join(", "))
}

#[test]
fn every_table_parses_and_reads_back_as_it_was_printed() {
    let paths: Vec<_> = files("flows").into_iter().chain(files("dump")).collect();
    assert!(paths.len() > 50, "fixtures are missing");
    for path in paths {
        let flows = read(&path);
        let printed: String = flows.iter().map(|flow| format!("{flow}\n")).collect();
        let again = parse_flows(&printed, &ParseOptions::default()).unwrap().flows;
        assert_eq!(flows.len(), again.len(), "{}", path.display());
        for (flow, mut copy) in flows.into_iter().zip(again) {
            copy.span = flow.span;
            assert_eq!(flow, copy, "{}: {flow}", path.display());
        }
    }
}

#[test]
fn dumps_are_printed_exactly_as_the_switch_printed_them() {
    for path in files("dump") {
        let text = fs::read_to_string(&path).unwrap();
        let real: Vec<String> =
            text.lines().filter(|line| line.contains("actions=")).map(without_statistics).collect();
        let ours: Vec<String> = read(&path).iter().map(dump_line).collect();
        assert_eq!(ours, real, "{}", path.display());
    }
}

#[test]
fn a_switch_holds_the_flows_that_the_driver_wrote_but_for_those_that_the_lint_says_it_refuses() {
    let mut refused_somewhere = false;
    for dump in files("dump") {
        let text = fs::read_to_string(dump.with_extension("flows")).unwrap();
        let parsed = parse_flows(&text, &ParseOptions::default()).unwrap();
        let refused: BTreeSet<u32> = parsed
            .lints
            .iter()
            .filter(|lint| lint.kind == LintKind::CtWithoutIp)
            .map(|lint| lint.line)
            .collect();
        refused_somewhere |= !refused.is_empty();
        let accepted = parsed.flows.iter().filter(|flow| !refused.contains(&flow.span.line));
        let written: BTreeSet<String> = accepted.map(dump_line).collect();
        let held: BTreeSet<String> = read(&dump).iter().map(dump_line).collect();
        assert_eq!(written, held, "{}", dump.display());
        let strict = ParseOptions { era: Era::Strict31, ..ParseOptions::default() };
        let errors = parse_flows(&text, &strict).err().map(|e| e.errors).unwrap_or_default();
        assert_eq!(errors.iter().map(|e| e.line).collect::<BTreeSet<_>>(), refused, "{}", dump.display());
    }
    assert!(refused_somewhere);
}

#[test]
fn lenient_reading_finds_all_flows_of_the_document_of_2016() {
    let text = fs::read_to_string(root().join("examples/mitaka-2016/document.txt")).unwrap();
    let parsed = parse_flows(&text, &ParseOptions { lenient: true, ..ParseOptions::default() }).unwrap();
    assert_eq!(parsed.flows.len(), 110);
    let set = |flows: &[Flow]| flows.iter().map(dump_line).collect::<BTreeSet<_>>();
    for same in ["examples/mitaka-2016/flows.txt", "tests/fixtures/flows/mitaka-2016-regenerated.flows"] {
        assert_eq!(set(&parsed.flows), set(&read(&root().join(same))), "{same}");
    }
    assert_eq!(set(&parsed.flows).len(), 110);
    let ct = parsed.lints.iter().filter(|lint| lint.kind == LintKind::CtWithoutIp).count();
    let old = parsed.lints.iter().filter(|lint| matches!(lint.kind, LintKind::OpenFlow10Only { .. })).count();
    assert_eq!((ct, old, parsed.lints.len()), (6, 32, 38));
    // Every line is part of a flow, blank, a comment, or listed.
    let mut start = 0;
    let mut expected = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let said = line.split('#').next().unwrap().trim();
        let part = parsed.flows.iter().any(|flow| (flow.span.start..flow.span.end).contains(&start.max(1)));
        let begins = parsed.flows.iter().any(|flow| flow.span.line == number);
        if !said.is_empty() && !part && !begins {
            expected.push((number, said.to_owned()));
        }
        start += line.len() + 1;
    }
    assert_eq!(parsed.skipped, expected);
}

#[test]
fn spans_lead_back_to_the_text() {
    for path in files("flows").into_iter().chain(files("dump")) {
        let text = fs::read_to_string(&path).unwrap();
        for flow in read(&path) {
            let piece = &text[flow.span.start..flow.span.end];
            assert_eq!(text.lines().nth(flow.span.line as usize - 1).unwrap().trim(), piece);
        }
    }
    let document = fs::read_to_string(root().join("examples/mitaka-2016/document.txt")).unwrap();
    let options = ParseOptions { lenient: true, ..ParseOptions::default() };
    for flow in parse_flows(&document, &options).unwrap().flows {
        let piece = &document[flow.span.start..flow.span.end];
        assert!(piece.starts_with("cookie=") && piece.contains("actions="), "{piece}");
        assert_eq!(document[..flow.span.start].matches('\n').count() + 1, flow.span.line as usize);
    }
}

#[test]
fn the_document_of_2016_as_it_stands_is_refused_and_lenient_is_named() {
    let text = fs::read_to_string(root().join("examples/mitaka-2016/document.txt")).unwrap();
    let errors = parse_flows(&text, &ParseOptions::default()).unwrap_err();
    assert!(errors.try_lenient);
    assert!(errors.to_string().contains("--lenient"));
    assert!(errors.errors.len() <= 20);
}

#[test]
fn matches_of_genuine_flows_are_matches_alone() {
    for path in files("dump") {
        for flow in read(&path) {
            let text = flow.match_text();
            assert_eq!(parse_match(&text).unwrap(), flow.matching, "{text}");
        }
    }
}
