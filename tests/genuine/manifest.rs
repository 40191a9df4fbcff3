//! The manifest: which tables, what they are about, and the verdict on each property.

use super::{blesses, host, prove, real, root, sender_properties, verdicts};
use flowproof_proofs::check::{Engines, Finding, Judgement};
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
        let text = verdicts(&host, found.findings.iter(), property.name);
        let listed = entry.verdicts.get(property.name);
        if listed != Some(&text) && !blesses() {
            wrong.push(format!("{name} {}: {text}, listed as {listed:?}", property.name));
        }
        said.insert(property.name.to_owned(), text);
    }
    wrong.extend(found.findings.iter().filter_map(|finding| contradiction(&name, finding)));
    if !blesses() {
        wrong.extend(
            entry
                .verdicts
                .keys()
                .filter(|listed| !said.contains_key(*listed))
                .map(|listed| format!("{name}: `{listed}` is listed, and no property")),
        );
    }
    entry.verdicts = said;
    let (confirmed, denied) = real::confirm(&host, &found.findings);
    wrong.extend(denied.into_iter().map(|text| format!("{name} {text}")));
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
