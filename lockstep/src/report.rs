//! A divergence, explained to people: what happened, what the model says and why, what the tables did and how.

use crate::allowed::target;
use crate::run::Observation;
use crate::scenario::{Scenario, Target};
use flowproof_model::verdict::Outcome;
use flowproof_packet::summary::summary;
use std::fmt::Write;

fn verdict(outcome: &Outcome) -> String {
    let (egress, ingress) = (outcome.egress.to_string(), outcome.ingress.to_string());
    if egress == ingress { egress } else { format!("egress {egress}; ingress {ingress}") }
}

/// What the model says, a line for each receiver.
#[must_use]
pub fn model_lines(seen: &Observation) -> Vec<String> {
    let mut lines: Vec<String> = seen
        .model
        .iter()
        .map(|delivery| format!("{}: {}", target(&delivery.to), verdict(&delivery.outcome)))
        .collect();
    lines.extend(seen.allowed.may.iter().map(|(to, leeway)| format!("{to}: either is fine ({leeway:?})")));
    if lines.is_empty() {
        lines.push("nobody is addressed".to_owned());
    }
    lines
}

/// What the tables did, a line for each frame that left.
#[must_use]
pub fn table_lines(seen: &Observation) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in &seen.outcomes {
        for (number, frame) in outcome.delivered() {
            let host = seen.policy.host.as_ref();
            let bound = host.and_then(|host| host.bindings.iter().find(|(_, at)| at.ofport == number));
            let name = match bound {
                Some((id, _)) => format!("`{}`", Target::Port(id.clone())),
                None => format!("port {number}"),
            };
            lines.push(format!("{name}: {}", summary(&frame)));
        }
        if let Some(reason) = outcome.dropped {
            lines.push(format!("dropped: {reason}"));
        }
    }
    lines
}

/// The divergence at a step, in full.
#[must_use]
pub fn explain(scenario: &Scenario, at: usize, seen: &Observation) -> String {
    let mut text = String::new();
    let mut line = |indent: usize, content: &str| {
        let _infallible = writeln!(text, "{:indent$}{content}", "");
    };
    if let Some(step) = scenario.steps.get(at) {
        line(0, &format!("event {}: {}", at + 1, step.event));
    }
    line(2, &summary(&seen.arrival.whole));
    for difference in &seen.differences {
        line(2, &format!("differs: {difference}"));
    }
    line(0, "model:");
    model_lines(seen).iter().for_each(|one| line(2, one));
    line(0, "tables:");
    table_lines(seen).iter().for_each(|one| line(2, one));
    for trace in seen.outcomes.iter().filter_map(|outcome| outcome.trace.as_ref()) {
        trace.render(&seen.tables).lines().for_each(|one| line(2, one));
    }
    text
}
