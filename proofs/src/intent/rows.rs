//! Section D in the report: its findings in words, and what stands there without an intent.

use super::{IntentFinding, NAMES, UNSUPPORTED_RULE, question::Placement};
use crate::{
    check::{Judgement, Witness},
    diagram::Host,
    ports::Port,
    report::{self, Row},
};
use flowproof_model::policy::Direction;
use flowproof_packet::summary::summary;
use rayon::prelude::*;
use serde::Serialize;

/// A property that was not checked, and why.
#[derive(Clone, Debug, Serialize)]
pub struct NotChecked {
    /// The property.
    pub property: &'static str,
    /// Always `not-checked`.
    pub verdict: &'static str,
    /// Why.
    pub explanation: &'static str,
}

/// Section D without an intent.
#[must_use]
pub fn not_checked() -> Vec<NotChecked> {
    let row =
        |property| NotChecked { property, verdict: "not-checked", explanation: "needs an intent (--intent)" };
    NAMES.map(row).to_vec()
}

/// What the tables' layout cannot express: all of it is listed, so the theorem holds, whatever its consequences; those
/// are the other theorems'.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// `unsupported-rule`
    pub property: &'static str,
    /// `proved`: everything is listed.
    pub verdict: &'static str,
    /// The layout that was recognised.
    pub layout: &'static str,
    /// In a sentence.
    pub explanation: String,
    /// What is listed.
    pub unsupported: Vec<ListedRow>,
}

/// Something that a layout cannot express.
#[derive(Clone, Debug, Serialize)]
pub struct ListedRow {
    /// `rule`, `security group` or `port`.
    pub object: &'static str,
    /// Its id.
    pub id: String,
    /// `widened`, `narrowed` or `unfiltered`.
    pub consequence: &'static str,
    /// Why.
    pub reason: String,
}

/// The row of `unsupported-rule`.
#[must_use]
pub fn listed(recognised: &super::layout::Recognised) -> Listed {
    let row = |of: &flowproof_compiler::Unsupported| ListedRow {
        object: of.object,
        id: of.id.clone(),
        consequence: of.consequence.name(),
        reason: of.reason.clone(),
    };
    Listed {
        property: UNSUPPORTED_RULE,
        verdict: "proved",
        layout: recognised.layout.name(),
        explanation: super::layout::listed(recognised),
        unsupported: recognised.unsupported.iter().map(row).collect(),
    }
}

/// The findings, one row for each property, port, direction, placement and verdict; `each` is told in full, or the first with its
/// verdict.
#[must_use]
pub fn rows(host: &Host, ports: &[&Port], findings: &[IntentFinding], each: bool) -> Vec<Row> {
    let mut groups: Vec<Vec<&IntentFinding>> = Vec::new();
    let key = |of: &IntentFinding| {
        (of.finding.property.name, of.finding.port, of.direction, of.placement, of.finding.judgement.name())
    };
    let mut sorted: Vec<&IntentFinding> = findings.iter().collect();
    let order = |of: &IntentFinding| NAMES.iter().position(|name| *name == of.finding.property.name);
    sorted.sort_by_key(|of| (order(of), of.finding.port));
    for finding in sorted {
        match groups
            .iter_mut()
            .rev()
            .take(16)
            .find(|group| group.first().is_some_and(|of| key(of) == key(finding)))
        {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    let subject = |group: &Vec<&IntentFinding>| {
        let of = group.first()?;
        Some((of.finding.property.name, of.direction, of.placement, of.finding.judgement.name()))
    };
    let told = report::told(&groups, subject, each);
    groups.par_iter().zip(told).filter_map(|(group, told)| row(host, ports, group, told)).collect()
}

fn row(host: &Host, ports: &[&Port], group: &[&IntentFinding], told: bool) -> Option<Row> {
    let first = *group.first()?;
    let port = ports.get(first.finding.port)?;
    let parts: Vec<_> = group.iter().map(|of| &of.finding).collect();
    let mut row = report::Row {
        direction: Some(first.direction.name()),
        peer: Some(first.placement.name()),
        explanation: if told { explanation(port, first) } else { String::new() },
        ..report::frame(host, port, &parts, told)?
    };
    for story in
        row.counterexample.iter_mut().chain(row.witness.iter_mut().map(|witness| &mut witness.escapes))
    {
        story.replayed.model = Some(true);
    }
    Some(row)
}

fn explanation(port: &Port, of: &IntentFinding) -> String {
    let says = of.says.as_deref().unwrap_or("nothing");
    let between = between(port, of);
    match &of.finding.judgement {
        Judgement::Listed(why)
        | Judgement::Unknown(why)
        | Judgement::Vacuous(why)
        | Judgement::NoWorse(why)
        | Judgement::Contradiction(why) => {
            format!("{between}: {why}")
        }
        Judgement::Proved(Witness::Escapes(_) | Witness::Twins { .. }) => {
            format!("{between}: {}; the intent says of the frame shown: {says}", of.finding.property.theorem)
        }
        Judgement::Refuted(replay) => {
            let what = summary(&replay.datagram);
            let goes = report::destinations(replay);
            let fragments = replay.events.len() - replay.prelude;
            let pieces = if fragments > 1 { format!(" in {fragments} fragments") } else { String::new() };
            let once =
                if replay.earlier.is_some() { ", of a connection that rules admitted once," } else { "" };
            format!("{between}: {what}{pieces}{once} goes {goes}; the intent says: {says}")
        }
    }
}

fn between(port: &Port, of: &IntentFinding) -> String {
    let other = match of.placement {
        Placement::Remote => "other hosts",
        Placement::LocalFiltered => "filtered ports of this host",
        Placement::LocalUnfiltered => "unfiltered ports of this host",
    };
    match of.direction {
        Direction::Egress => format!("from port {} to {other}", port.ofport),
        Direction::Ingress => format!("from {other} to port {}", port.ofport),
    }
}
