//! `docs/releases.md`: what each release of the driver keeps, and whether that is what its history says.
//!
//! The tables of the document are made here, by proof; the words around them are written by people. The test fails
//! when they no longer agree, and `make releases` writes the tables anew.

use super::{
    RELEASES, blesses,
    bound::{Bound, isolation_rows},
    holes::{HOLES, Hole},
    host, prove, root, sender_properties, verdicts,
};
use flowproof_proofs::{check::Engines, diagram::Host, properties::Property};
use flowproof_switch::conntrack::Profile;
use std::{collections::BTreeMap, fmt::Write, fs, path::PathBuf, sync::OnceLock};

/// The case that is compared: the host of 2016, two virtual machines that talk IPv4 and IPv6.
const CASE: &str = "01_seed_scenario";
const BEGIN: &str = "<!-- made by `make releases`: ";
const END: &str = "<!-- end -->";
/// Reasons why proof and history differ, by hole; each is told in the document.
const EXPLAINED: &[&str] = &["NA, target", "NA, source", "RA"];

/// Since when each row of section B is kept, by the history of the driver: LP 1626010 is in 11.0; LP 1889631 was closed
/// without a change that stayed; the others were never reported.
const ISOLATED: [(&str, Option<&str>); 6] = [
    ("network-isolation", Some("12.0.0")),
    ("default-deny", None),
    ("ingress-group-addressed", None),
    ("ingress-unknown-unicast", None),
    ("untracked-exceptions", None),
    ("port-independence", Some("8.1.0")),
];

fn document() -> PathBuf {
    root().join("docs/releases.md")
}

/// Verdicts by name and release.
type Matrix = BTreeMap<(&'static str, &'static str), String>;

fn matrix() -> &'static Matrix {
    static MATRIX: OnceLock<Matrix> = OnceLock::new();
    MATRIX.get_or_init(|| {
        let properties: Vec<&'static Property> =
            sender_properties().into_iter().chain(HOLES.iter().map(|hole| &hole.theorem)).collect();
        let of = |release: &'static str| {
            let host: Host = host(release, CASE);
            let found = prove(&host, &properties, Engines::Diagram);
            let bound = Bound::new(release, CASE);
            let parts = bound.isolation(&Profile::ALL);
            let mut cells = Vec::new();
            for property in &properties {
                let verdict = verdicts(&host, found.findings.iter(), property.name);
                cells.push(((property.name, release), verdict));
            }
            for property in isolation_rows() {
                let parts = parts.iter().map(|part| &part.finding);
                cells.push(((property.name, release), verdicts(&bound.host, parts, property.name)));
            }
            cells
        };
        RELEASES.into_iter().flat_map(of).collect()
    })
}

/// The first release from which on a theorem holds on every datapath.
fn closed(name: &'static str) -> Option<&'static str> {
    let open = RELEASES.iter().rposition(|release| matrix()[&(name, *release)] != "proved");
    RELEASES.get(open.map_or(0, |at| at + 1)).copied()
}

/// A verdict in a few letters: what fails is named, and where if not everywhere.
fn cell(verdict: &str) -> String {
    match verdict {
        "proved" => "✓".to_owned(),
        "refuted" => "✗".to_owned(),
        "vacuous" => "–".to_owned(),
        "unknown" => "?".to_owned(),
        mixed => {
            let refuted: Vec<&str> = mixed
                .split(", ")
                .filter_map(|part| part.split_once(' ').filter(|(_, verdict)| *verdict == "refuted"))
                .map(|(profile, _)| profile)
                .collect();
            assert!(refuted.iter().all(|name| Profile::ALL.iter().any(|p| p.name() == *name)), "{mixed}");
            format!("✗ {}", refuted.join(", "))
        }
    }
}

fn row(name: &'static str) -> String {
    RELEASES.iter().map(|release| format!(" {} |", cell(&matrix()[&(name, *release)]))).collect()
}

fn properties_table(properties: impl Iterator<Item = &'static Property>) -> String {
    let mut text = format!(
        "| property | {} | kept from |\n|---|{}---|\n",
        RELEASES.join(" | "),
        "---|".repeat(RELEASES.len())
    );
    for property in properties {
        let from = closed(property.name).unwrap_or("not yet");
        writeln!(text, "| `{}` |{} {from} |", property.name, row(property.name)).unwrap();
    }
    text
}

fn agrees(hole: &Hole) -> bool {
    closed(hole.theorem.name) == hole.closed
}

fn holes_table() -> String {
    let mut text = format!(
        "| kind of packet | reported as | {} | closed, by history | closed, by proof |\n|---|---|{}---|---|\n",
        RELEASES.join(" | "),
        "---|".repeat(RELEASES.len())
    );
    for hole in HOLES {
        let name = hole.theorem.name;
        let found = closed(name).unwrap_or("not yet");
        let found = if agrees(hole) { found.to_owned() } else { format!("**{found}**") };
        let report = if hole.report.is_empty() { "–" } else { hole.report };
        writeln!(text, "| {name} | {report} |{} {} | {found} |", row(name), hole.closed.unwrap_or("not yet"))
            .unwrap();
    }
    text
}

fn theorems() -> String {
    HOLES.iter().fold(String::new(), |mut text, hole| {
        writeln!(text, "- {}: {}.", hole.theorem.name, hole.theorem.theorem).unwrap();
        text
    })
}

/// The document with its made parts replaced.
fn remade(old: &str) -> String {
    let parts = [
        ("properties", properties_table(sender_properties().into_iter())),
        ("isolation", properties_table(isolation_rows())),
        ("holes", holes_table()),
        ("theorems", theorems()),
    ];
    parts.into_iter().fold(old.to_owned(), |text, (name, made)| {
        let begin = format!("{BEGIN}{name} -->\n");
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no part `{name}`"));
        let (_, after) = rest.split_once(END).unwrap();
        format!("{before}{begin}\n{made}\n{END}{after}")
    })
}

#[test]
fn the_document_of_releases_says_what_is_proved() {
    let old = fs::read_to_string(document()).unwrap();
    let new = remade(&old);
    if blesses() {
        fs::write(document(), &new).unwrap();
    }
    assert!(old == new || blesses(), "docs/releases.md is not what is proved; `make releases` writes\n{new}");
}

#[test]
fn holes_were_closed_when_history_says_or_the_document_tells_why_not() {
    let differing: Vec<&str> =
        HOLES.iter().filter(|hole| !agrees(hole)).map(|hole| hole.theorem.name).collect();
    assert_eq!(differing, EXPLAINED);
    let text = fs::read_to_string(document()).unwrap();
    for name in EXPLAINED {
        assert!(text.contains(&format!("### {name}")), "{name} is not explained");
    }
}

#[test]
fn isolation_is_kept_since_history_says() {
    let proved: Vec<_> = isolation_rows().map(|row| (row.name, closed(row.name))).collect();
    assert_eq!(proved, ISOLATED);
}
