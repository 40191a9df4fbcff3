//! `--expect` and `--write-expect`: the verdicts that are known, as JSON lines.
//!
//! A line is `{"property": …, "port": 13 or "*", "datapath": … or "*", "verdict": …, "reason": …, "until": …}`. What
//! is proved needs no line; every other verdict does. A line holds if something matches it and all that does has its
//! verdict; after the day `until` (year-month-day, optional) it counts no more.

use crate::failure::Failure;
use crate::input;
use flowproof_packet::PortNo;
use flowproof_proofs::check::{Finding, Findings, Task};
use flowproof_switch::conntrack::Profile;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use time::{Date, OffsetDateTime, macros::format_description};

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    property: String,
    port: Selector<PortNo>,
    datapath: String,
    verdict: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip)]
    line: usize,
}

/// A value, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Selector<T> {
    One(T),
    Any(Star),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Star {
    #[serde(rename = "*")]
    Star,
}

const ANY: &str = "*";
const VERDICTS: [&str; 4] = ["proved", "refuted", "unknown", "vacuous"];

/// What is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// A verdict that no line speaks of.
    Unlisted { property: &'static str, port: PortNo, datapath: &'static str, verdict: &'static str },
    /// A line that something contradicts.
    Otherwise {
        line: usize,
        property: &'static str,
        port: PortNo,
        datapath: &'static str,
        verdict: &'static str,
    },
    /// A line that nothing matches.
    Unmatched { line: usize },
    /// A line whose day is over.
    Expired { line: usize, until: String },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted { property, port, datapath, verdict } => {
                write!(f, "not listed: {property} is {verdict} on port {port} under {datapath}")
            }
            Self::Otherwise { line, property, port, datapath, verdict } => {
                write!(
                    f,
                    "line {line} no longer holds: {property} is {verdict} on port {port} under {datapath}"
                )
            }
            Self::Unmatched { line } => write!(f, "line {line} speaks of nothing that was checked"),
            Self::Expired { line, until } => write!(f, "line {line} was good until {until}"),
        }
    }
}

/// Reads the known verdicts.
pub(super) fn read(path: &Path) -> Result<Vec<Expectation>, Failure> {
    let name = input::name(path);
    let bytes = input::read_bytes(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Failure::input([format!("{name}: not text: {error}")]))?;
    let mut all = Vec::new();
    let mut wrong = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match parse(line, at + 1) {
            Ok(expectation) => all.push(expectation),
            Err(why) => wrong.push(format!("{name}:{}: {}", at + 1, input::printable(&why))),
        }
    }
    if wrong.is_empty() { Ok(all) } else { Err(Failure::input(wrong)) }
}

fn parse(line: &str, number: usize) -> Result<Expectation, String> {
    let mut parsed: Expectation = serde_json::from_str(line).map_err(|error| error.to_string())?;
    parsed.line = number;
    if !VERDICTS.contains(&parsed.verdict.as_str()) {
        return Err(format!("`{}` is no verdict; there are {}", parsed.verdict, VERDICTS.join(", ")));
    }
    let of_intent = flowproof_proofs::intent::NAMES.contains(&parsed.property.as_str());
    let of_isolation = flowproof_proofs::isolation::by_name(&parsed.property).is_some();
    let of_listing = flowproof_proofs::listing::by_name(&parsed.property).is_some();
    let of_host = of_isolation || of_listing;
    if !of_intent && !of_host && flowproof_proofs::properties::by_name(&parsed.property).is_none() {
        return Err(format!("no property is called `{}`", parsed.property));
    }
    if parsed.datapath != ANY && !Profile::ALL.iter().any(|profile| profile.name() == parsed.datapath) {
        return Err(format!("no datapath is called `{}`", parsed.datapath));
    }
    if let Some(until) = &parsed.until {
        day(until).ok_or_else(|| format!("`{until}` is no day of the form 2026-12-31"))?;
    }
    Ok(parsed)
}

fn day(text: &str) -> Option<Date> {
    Date::parse(text, format_description!("[year]-[month]-[day]")).ok()
}

impl Expectation {
    fn speaks_of(&self, task: &Task<'_>, finding: &Finding) -> bool {
        let port = task.ports.get(finding.port).map(|port| port.ofport);
        let same_port = match &self.port {
            Selector::Any(Star::Star) => true,
            Selector::One(number) => port == Some(*number),
        };
        let same_datapath = self.datapath == ANY || self.datapath == finding.profile.name();
        self.property == finding.property.name && same_port && same_datapath
    }

    fn is_over(&self) -> bool {
        let last = self.until.as_deref().and_then(day);
        last.is_some_and(|last| OffsetDateTime::now_utc().date() > last)
    }
}

/// Everything that is not as expected.
pub(super) fn compare(expected: &[Expectation], task: &Task<'_>, found: &Findings) -> Vec<Mismatch> {
    let port = |finding: &Finding| task.ports.get(finding.port).map_or(0, |port| port.ofport);
    let mut wrong = Vec::new();
    for line in expected {
        if line.is_over() {
            wrong.push(Mismatch::Expired { line: line.line, until: line.until.clone().unwrap_or_default() });
            continue;
        }
        let about: Vec<&Finding> =
            found.findings.iter().filter(|finding| line.speaks_of(task, finding)).collect();
        if about.is_empty() {
            wrong.push(Mismatch::Unmatched { line: line.line });
        }
        wrong.extend(about.iter().filter(|finding| finding.judgement.name() != line.verdict).map(
            |finding| Mismatch::Otherwise {
                line: line.line,
                property: finding.property.name,
                port: port(finding),
                datapath: finding.profile.name(),
                verdict: finding.judgement.name(),
            },
        ));
    }
    let listed =
        |finding: &Finding| expected.iter().any(|line| !line.is_over() && line.speaks_of(task, finding));
    let unlisted =
        found.findings.iter().filter(|finding| finding.judgement.name() != "proved" && !listed(finding));
    wrong.extend(unlisted.map(|finding| Mismatch::Unlisted {
        property: finding.property.name,
        port: port(finding),
        datapath: finding.profile.name(),
        verdict: finding.judgement.name(),
    }));
    wrong
}

/// What was found and is not proved, in as few lines as say it exactly.
pub(super) fn known(task: &Task<'_>, found: &Findings) -> Vec<Expectation> {
    let mut lines = Vec::new();
    for property in &task.properties {
        let of_property: Vec<&Finding> =
            found.findings.iter().filter(|f| f.property.name == property.name).collect();
        let line = |port, datapath: &str, verdict: &str| Expectation {
            property: property.name.to_owned(),
            port,
            datapath: datapath.to_owned(),
            verdict: verdict.to_owned(),
            reason: "as found when this file was written".to_owned(),
            until: None,
            line: 0,
        };
        let verdicts = |of: &[&Finding]| {
            let mut names: Vec<&str> = of.iter().map(|finding| finding.judgement.name()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let any = || Selector::Any(Star::Star);
        if let [verdict] = verdicts(&of_property).as_slice() {
            lines.extend((*verdict != "proved").then(|| line(any(), ANY, verdict)));
            continue;
        }
        for profile in &task.profiles {
            let under: Vec<&Finding> =
                of_property.iter().filter(|f| f.profile == *profile).copied().collect();
            if let [verdict] = verdicts(&under).as_slice() {
                lines.extend((*verdict != "proved").then(|| line(any(), profile.name(), verdict)));
                continue;
            }
            for finding in under.iter().filter(|finding| finding.judgement.name() != "proved") {
                let port = task.ports.get(finding.port).map_or(0, |port| port.ofport);
                lines.push(line(Selector::One(port), profile.name(), finding.judgement.name()));
            }
        }
    }
    lines
}

/// The lines as a file.
pub(super) fn render(lines: &[Expectation]) -> String {
    lines.iter().filter_map(|line| serde_json::to_string(line).ok()).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_round_trips() {
        let text = r#"{"property":"spoofed-mac","port":13,"datapath":"*","verdict":"refuted","reason":"known","until":"2030-01-01"}"#;
        let line = parse(text, 1).unwrap();
        assert_eq!(render(&[line]).trim(), text);
        assert_eq!(parse(&text.replace("13", "\"*\""), 1).unwrap().port, Selector::Any(Star::Star));
    }

    #[track_caller]
    fn refused(from: &str, to: &str, why: &str) {
        let text =
            r#"{"property":"spoofed-mac","port":"*","datapath":"*","verdict":"refuted","reason":"known"}"#;
        assert!(text.contains(from), "{from}");
        let error = parse(&text.replace(from, to), 1).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn a_line_that_means_nothing_is_refused() {
        refused("refuted", "refudet", "`refudet` is no verdict");
        refused("spoofed-mac", "spoofed-mca", "no property is called `spoofed-mca`");
        refused("\"datapath\":\"*\"", "\"datapath\":\"kernal\"", "no datapath is called `kernal`");
        refused("reason", "reazon", "unknown field");
        refused("\"port\":\"*\"", "\"port\":-1", "did not match");
        refused("\"known\"", "\"known\",\"until\":\"tomorrow\"", "is no day");
    }
}
