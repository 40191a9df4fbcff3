//! The file that a campaign is kept in, so that it can go on another day.
//!
//! Invariant: a file is replaced as a whole or not at all; one of another campaign is an error, not a beginning.

use super::campaign::{Campaign, Found};
use crate::failure::Failure;
use crate::input;
use flowproof_fuzz::campaign::Counts;
use flowproof_fuzz::coverage::{Coverage, Template};
use flowproof_lockstep::{known::KNOWN, reason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

const SCHEMA: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    schema: u32,
    version: String,
    seed: u64,
    campaigns: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    subject: String,
    cases: u64,
    drawn: u64,
    steps: u64,
    packets: u64,
    by_rule: u64,
    seconds: f64,
    reasons: Vec<String>,
    known: BTreeMap<String, u64>,
    /// Table, priority, ethertype, whether a packet reached it.
    templates: Vec<(u8, u16, Option<u16>, bool)>,
    failures: Vec<KeptFailure>,
}

#[derive(Serialize, Deserialize)]
struct KeptFailure {
    case: u64,
    scenario: String,
    story: String,
    contradiction: bool,
}

/// Goes on with what is in the file, if there is one.
pub(super) fn load(path: &Path, seed: u64, campaigns: &mut [Campaign]) -> Result<(), Failure> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| input::io_failure(path, &error))?,
    };
    let complaint = |text: String| Failure::input([format!("{}: {text}", input::name(path))]);
    let file: File = serde_json::from_slice(&bytes)
        .map_err(|error| complaint(format!("not the state of a campaign: {error}")))?;
    if file.schema != SCHEMA || file.version != env!("CARGO_PKG_VERSION") {
        return Err(complaint(format!("it is of version `{}`", input::printable(&file.version))));
    }
    let subjects: Vec<&str> = file.campaigns.iter().map(|kept| kept.subject.as_str()).collect();
    let wanted: Vec<&str> = campaigns.iter().map(|campaign| campaign.name.as_str()).collect();
    if file.seed != seed || subjects != wanted {
        let (is, asked) = (subjects.join(", "), wanted.join(", "));
        let text = format!(
            "it is of seed {}, `{}`; asked is seed {seed}, `{asked}`",
            file.seed,
            input::printable(&is)
        );
        return Err(complaint(text));
    }
    for (campaign, kept) in campaigns.iter_mut().zip(file.campaigns) {
        restore(campaign, kept).map_err(complaint)?;
    }
    Ok(())
}

/// The name among those that there are.
fn known_name(names: impl IntoIterator<Item = &'static str>, name: &str) -> Result<&'static str, String> {
    let found = names.into_iter().find(|known| *known == name);
    found.ok_or_else(|| format!("nothing is called `{}`", input::printable(name)))
}

fn restore(campaign: &mut Campaign, kept: Kept) -> Result<(), String> {
    let Kept { cases, drawn, steps, packets, by_rule, .. } = kept;
    campaign.counts = Counts { cases, drawn, steps, packets, by_rule };
    campaign.spent = Duration::try_from_secs_f64(kept.seconds).map_err(|error| error.to_string())?;
    let mut coverage = Coverage::default();
    for name in &kept.reasons {
        coverage.reasons.insert(known_name(reason::NAMES.iter().copied(), name)?);
    }
    for (name, count) in &kept.known {
        coverage.known.insert(known_name(KNOWN.iter().map(|known| known.name), name)?, *count);
    }
    for (table, priority, ethertype, hit) in kept.templates {
        coverage.templates.insert(Template { table, priority, ethertype }, hit);
    }
    campaign.coverage = coverage;
    let found =
        |KeptFailure { case, scenario, story, contradiction }| Found { case, scenario, story, contradiction };
    campaign.failures = kept.failures.into_iter().map(found).collect();
    Ok(())
}

fn keep(campaign: &Campaign) -> Kept {
    let Counts { cases, drawn, steps, packets, by_rule } = campaign.counts;
    let Coverage { reasons, templates, known } = &campaign.coverage;
    Kept {
        subject: campaign.name.clone(),
        cases,
        drawn,
        steps,
        packets,
        by_rule,
        seconds: campaign.spent.as_secs_f64(),
        reasons: reasons.iter().map(|name| (*name).to_owned()).collect(),
        known: known.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        templates: templates
            .iter()
            .map(|(one, hit)| (one.table, one.priority, one.ethertype, *hit))
            .collect(),
        failures: campaign
            .failures
            .iter()
            .map(|Found { case, scenario, story, contradiction }| KeptFailure {
                case: *case,
                scenario: scenario.clone(),
                story: story.clone(),
                contradiction: *contradiction,
            })
            .collect(),
    }
}

/// Replaces the file.
pub(super) fn save(path: &Path, seed: u64, campaigns: &[Campaign]) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let file = File { schema: SCHEMA, version, seed, campaigns: campaigns.iter().map(keep).collect() };
    let text = serde_json::to_string(&file).map_err(io::Error::from)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let replaced = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    replaced.map_err(|error| input::io_failure(path, &error))
}
