//! The manifest: which tables, what they are about, and the verdict on each property.

use super::{blesses, bound::Bound, host, prove, real, root, sender_properties, summary, verdicts};
use flowproof_proofs::check::{Engines, Finding, Judgement};
use flowproof_switch::conntrack::Profile;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// One file of flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The release of Neutron whose driver wrote it.
    pub(super) release: String,
    /// What it was asked for: the name of the intent.
    pub(super) case: String,
    /// What is to be seen in it.
    pub(super) about: String,
    /// Whether Z3 is asked as well as the diagrams.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) both_engines: bool,
    /// Whether agreement with the intent is judged as well, under `userspace-3.1`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) agreement: bool,
    /// The verdict on each property.
    pub(super) verdicts: BTreeMap<String, String>,
}

fn path() -> PathBuf {
    root().join("tests/fixtures/manifest.json")
}

pub(super) fn read() -> Vec<Entry> {
    let entries: Vec<Entry> = serde_json::from_str(&fs::read_to_string(path()).unwrap()).unwrap();
    assert!(entries.len() >= 10, "the manifest has lost its entries");
    entries
}

/// Checks one entry, confirms its refutations, and says what is not as listed.
fn judge(entry: &mut Entry, wrong: &mut Vec<String>) -> usize {
    let host = host(&entry.release, &entry.case);
    let engines = if entry.both_engines { Engines::Both } else { Engines::Diagram };
    let properties = sender_properties();
    let found = prove(&host, &properties, engines);
    let name = format!("{}/{}", entry.release, entry.case);
    let mut said = BTreeMap::new();
    for property in properties {
        said.insert(property.name.to_owned(), verdicts(&host, found.findings.iter(), property.name));
    }
    let bound = Bound::new(&entry.release, &entry.case);
    let mut parts = bound.isolation(&Profile::ALL);
    if entry.agreement {
        parts.extend(bound.agreement(&[Profile::Userspace31]));
    }
    for part in &parts {
        let of_row = parts.iter().filter(|other| other.row == part.row).map(|other| &other.finding);
        said.entry(part.row.clone()).or_insert_with(|| summary(&bound.host, of_row, &part.row));
    }
    let findings = || found.findings.iter().chain(parts.iter().map(|part| &part.finding));
    wrong.extend(findings().filter_map(|finding| contradiction(&name, finding)));
    if !blesses() {
        for (row, text) in &said {
            let listed = entry.verdicts.get(row);
            if listed != Some(text) {
                wrong.push(format!("{name} {row}: {text}, listed as {listed:?}"));
            }
        }
        wrong.extend(
            entry
                .verdicts
                .keys()
                .filter(|listed| !said.contains_key(*listed))
                .map(|listed| format!("{name}: `{listed}` is listed, and no property")),
        );
    }
    entry.verdicts = said;
    let mut confirmed = 0;
    for (count, denied) in [
        real::confirm(&host, found.findings.iter()),
        real::confirm(&bound.host, parts.iter().map(|part| &part.finding)),
    ] {
        wrong.extend(denied.into_iter().map(|text| format!("{name} {text}")));
        confirmed += count;
    }
    confirmed
}

fn contradiction(name: &str, finding: &Finding) -> Option<String> {
    match &finding.judgement {
        Judgement::Contradiction(why) => Some(format!("{name} {}: {why}", finding.property.name)),
        _ => None,
    }
}

#[test]
fn genuine_tables_show_what_the_manifest_lists_and_a_real_switch_confirms_it() {
    let mut entries = read();
    let mut wrong = Vec::new();
    let confirmed: usize = entries.iter_mut().map(|entry| judge(entry, &mut wrong)).sum();
    if blesses() {
        fs::write(path(), format!("{}\n", serde_json::to_string_pretty(&entries).unwrap())).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        confirmed > 100 || !real::available(),
        "a real switch was asked about {confirmed} refutations only"
    );
}
