//! All that is refuted under `userspace-3.1` happens in a real switch: on the host of 2016 and on everything of the corpus
//! that has an intent, in sections A, B and D.
//!
//! `make test` takes four small hosts, beside those of the manifest; with `FLOWPROOF_SOAK` all are taken.

use super::{RELEASES, bound::Bound, corpus, prove_under, real, root, sender_properties};
use flowproof_proofs::check::{Engines, Finding, Judgement};
use flowproof_switch::conntrack::Profile;
use std::{
    env, fs,
    io::{Write, stderr},
    path::PathBuf,
};

const USERSPACE: &[Profile] = &[Profile::Userspace31];
/// What `make test` takes: the host of 2016, and three small cases.
const QUICK: [&str; 4] =
    ["mitaka-2016", "8.1.0/07_icmp_type_code", "20.0.0/04_dual_stack", "29.0.0/09_protocol_numbers"];

/// Everything with an intent: its name, its flows, its intent.
fn cases() -> Vec<(String, PathBuf, PathBuf)> {
    let (seed, asked) = ("examples/mitaka-2016/flows.txt", "tests/fixtures/intents/01_seed_scenario.json");
    let mut cases = vec![("mitaka-2016".to_owned(), root().join(seed), root().join(asked))];
    for release in RELEASES {
        let files = fs::read_dir(corpus().join(release)).unwrap().map(|file| file.unwrap().path());
        let mut flows: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "flows")).collect();
        flows.sort_unstable();
        for path in flows {
            let case = path.file_stem().unwrap().to_string_lossy().into_owned();
            let intent = root().join("tests/fixtures/intents").join(&case).with_extension("json");
            cases.push((format!("{release}/{case}"), path, intent));
        }
    }
    cases
}

/// What is found out in all three sections.
fn findings(bound: &Bound) -> Vec<Finding> {
    let sender = prove_under(&bound.host, &sender_properties(), Engines::Diagram, USERSPACE).findings;
    let parts = bound.isolation(USERSPACE).into_iter().chain(bound.agreement(USERSPACE));
    sender.into_iter().chain(parts.map(|part| part.finding)).collect()
}

#[test]
fn what_is_refuted_in_userspace_happens_in_a_real_switch() {
    if !real::available() {
        return;
    }
    let all = env::var_os("FLOWPROOF_SOAK").is_some();
    let (mut wrong, mut confirmed, mut hosts, mut refused) = (Vec::new(), 0, 0, 0);
    for (name, flows, intent) in cases() {
        if !all && !QUICK.contains(&name.as_str()) {
            continue;
        }
        let bound = Bound::read(&flows, &intent);
        let found = findings(&bound);
        for finding in &found {
            if let Judgement::Contradiction(why) = &finding.judgement {
                wrong.push(format!("{name} {}: {why}", finding.property.name));
            }
        }
        let (count, denied) = real::confirm(&bound.host, found.iter());
        (confirmed, hosts, refused) = (confirmed + count, hosts + 1, refused + denied.len());
        wrong.extend(denied.into_iter().map(|text| format!("{name} {text}")));
    }
    let text =
        format!("counterexamples on {hosts} hosts: {confirmed} repeated by a real switch, {refused} not");
    let _nobody_listens = writeln!(stderr(), "{text}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(hosts >= QUICK.len() && confirmed > 50, "{confirmed} on {hosts} hosts");
}
