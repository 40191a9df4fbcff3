//! What a campaign has found, as files, for people and for scripts.

use super::campaign::Campaign;
use crate::console::Style;
use crate::failure::Failure;
use crate::flows::tool;
use crate::input;
use crate::text::{count, hanging};
use flowproof_fuzz::campaign::{Counts, Subject};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// A layout's name, or that of a file without what is no letter of a file's name.
fn stem(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name).split(' ').next().unwrap_or_default();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

/// Writes the failures as scenarios; their files, by campaign and failure.
pub(super) fn write_failures(directory: &Path, campaigns: &[Campaign]) -> Result<Vec<Vec<PathBuf>>, Failure> {
    let write = |campaign: &Campaign| {
        campaign
            .failures
            .iter()
            .map(|found| {
                fs::create_dir_all(directory).map_err(|error| input::io_failure(directory, &error))?;
                let kind = if matches!(campaign.subject, Subject::Bare(_)) { "txt" } else { "scn" };
                let path = directory.join(format!("{}-{}.{kind}", stem(&campaign.name), found.case));
                fs::write(&path, &found.scenario).map_err(|error| input::io_failure(&path, &error))?;
                Ok(path)
            })
            .collect()
    };
    campaigns.iter().map(write).collect()
}

/// Statistics for people.
pub(super) fn text(
    campaigns: &[Campaign],
    written: &[Vec<PathBuf>],
    interrupted: bool,
    style: Style,
) -> String {
    let mut out = String::new();
    for (campaign, files) in campaigns.iter().zip(written) {
        out.push_str(&campaign_text(campaign, style));
        for (found, file) in campaign.failures.iter().zip(files) {
            let heading = format!("  case {}: {}", found.case, input::name(file));
            let _infallible = writeln!(out, "{}", style.bad(&heading));
            for line in found.story.lines() {
                let _infallible = writeln!(out, "    {line}");
            }
        }
    }
    if interrupted {
        out.push_str("interrupted: the report is partial\n");
    }
    out
}

fn campaign_text(campaign: &Campaign, style: Style) -> String {
    let layout = campaign.subject.layout();
    let (counts, (hit, all)) = (campaign.counts, campaign.coverage.reached(layout));
    let verdict = match campaign.failures.len() {
        0 => style.good("nothing found"),
        count => style.bad(&format!("{count} failures")),
    };
    let mut out = format!("{}: {verdict} in {} cases\n", campaign.name, counts.cases);
    let mut line = |label: &str, text: &str| out.push_str(&hanging(&format!("  {label}: "), text));
    match &campaign.subject {
        Subject::Bare(bare) => {
            let (ports, proved) = (count(bare.ports(), "port"), count(bare.proved(), "proved verdict"));
            line("packets", &format!("{} against {proved} on {ports}", counts.packets));
            line("ways out", &format!("{}, in interpreter and symbolic execution alike", counts.steps));
        }
        Subject::Compiled(..) | Subject::Given(_) => {
            let (accepted, rate) = (campaign.accepted(), campaign.rate());
            let Counts { steps, drawn, .. } = counts;
            line("events", &format!("{steps} of {drawn} drawn ({accepted:.0} %), {rate:.0}/s"));
            line("packets", &format!("{}, {} let through by a rule", counts.packets, counts.by_rule));
        }
    }
    line("templates", &format!("{hit} of {all} reached"));
    let missed: Vec<String> = campaign.coverage.missed(layout).iter().map(ToString::to_string).collect();
    if !missed.is_empty() {
        line("not reached", &missed.join("; "));
    }
    if matches!(campaign.subject, Subject::Bare(_)) {
        return out;
    }
    line("reasons not met", &list(&campaign.coverage.unnamed(layout)));
    let known: Vec<String> =
        campaign.coverage.known.iter().map(|(name, count)| format!("{name} {count}")).collect();
    line("known divergences", &list(&known));
    out
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => "none".to_owned(),
        _ => items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "),
    }
}

/// Statistics for scripts.
pub(super) fn json(campaigns: &[Campaign], written: &[Vec<PathBuf>], interrupted: bool, seed: u64) -> String {
    let found = campaigns.iter().any(|campaign| !campaign.failures.is_empty());
    let results: Vec<Value> =
        campaigns.iter().zip(written).map(|(campaign, files)| campaign_json(campaign, files)).collect();
    let report = json!({
        "schema": 1,
        "tool": tool(),
        "seed": seed,
        "verdict": if found { "diverges" } else { "holds" },
        "interrupted": interrupted,
        "seconds": campaigns.iter().map(|campaign| campaign.spent.as_secs_f64()).sum::<f64>(),
        "results": results,
    });
    format!("{report:#}\n")
}

fn campaign_json(campaign: &Campaign, files: &[PathBuf]) -> Value {
    let layout = campaign.subject.layout();
    let (counts, (hit, all)) = (campaign.counts, campaign.coverage.reached(layout));
    let failures: Vec<Value> = campaign
        .failures
        .iter()
        .zip(files)
        .map(|(found, file)| {
            json!({
                "case": found.case,
                "file": input::name(file),
                "scenario": found.scenario,
                "explanation": found.story,
                "contradiction": found.contradiction,
            })
        })
        .collect();
    json!({
        "subject": campaign.name,
        "layout": layout.map(flowproof_compiler::Layout::name),
        "datapath": campaign.subject.datapath().map(flowproof_switch::conntrack::Profile::name),
        "cases": counts.cases,
        "events": {"drawn": counts.drawn, "happened": counts.steps, "packets": counts.packets,
            "by_rule": counts.by_rule},
        "templates": {"reached": hit, "reachable": all,
            "missed": campaign.coverage.missed(layout).iter().map(ToString::to_string).collect::<Vec<_>>()},
        "reasons": {"met": campaign.coverage.reasons, "not_met": campaign.coverage.unnamed(layout)},
        "known": campaign.coverage.known,
        "failures": failures,
    })
}
