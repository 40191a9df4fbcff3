//! Differences for a person at a terminal of 80 columns.

use super::Report;
use crate::console::Console;
use crate::flows::Flows;
use crate::text::{WIDTH, count, cut, hanging, list};
use flowproof_packet::summary::summary;
use flowproof_proofs::difference::{Danger, Example, Told};
use flowproof_proofs::symkey::Form;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::Flow;
use flowproof_switch::trace::state_text;
use std::fmt::Write;

/// Flows of one table that are shown of each example.
const FLOWS: usize = 3;

/// What is not modelled: so much of it is named.
const UNMODELLED: usize = 6;

/// What each table is called.
const NAMES: [&str; 2] = ["A", "B"];

pub(super) fn danger(danger: Danger) -> &'static str {
    match danger {
        Danger::Delivered => "newly delivered",
        Danger::Rewritten => "delivered differently",
        Danger::Tracked => "tracked differently",
        Danger::Dropped => "no longer delivered",
    }
}

/// The whole report.
pub(super) fn render(report: &Report<'_>, flows: [&Flows; 2], console: &Console) -> String {
    let mut out = String::new();
    for (name, flows) in NAMES.iter().zip(flows) {
        let told = format!("{}, {}", flows.name, count(flows.file.flows.len(), "flow"));
        out.push_str(&hanging(&format!("{name}: "), &told));
    }
    classes(&mut out, report, console, if console.verbose { "" } else { " (-v shows more)" });
    for note in report.notes() {
        out.push_str(&hanging("note: ", &note));
    }
    let profiles = list(report.datapath.0.iter().map(|profile| profile.name()));
    let verdict = console.style.strong(&verdict(report));
    let _infallible = writeln!(out, "\n{verdict}, under {profiles}");
    out
}

/// Beside what changes of the flows: what that means.
pub(super) fn beside(report: &Report<'_>, console: &Console) -> String {
    let mut out = String::new();
    classes(&mut out, report, console, "");
    let verdict = verdict(report);
    let _infallible = writeln!(out, "\nof the flows as they are (A) and as they are to be (B): {verdict}");
    out
}

fn verdict(report: &Report<'_>) -> String {
    let classes = report.found.classes.len();
    match report.verdict() {
        "same" => "the same for all packets".to_owned(),
        "differs" => {
            let noun = if classes == 1 { "class" } else { "classes" };
            format!("they differ: {classes} {noun} of packets")
        }
        _ => "not known whether they differ".to_owned(),
    }
}

fn classes(out: &mut String, report: &Report<'_>, console: &Console, hint: &str) {
    for (at, told) in report.told.iter().enumerate() {
        class(out, report, (at + 1, told), console);
    }
    let hidden = report.hidden();
    if hidden > 0 {
        let _infallible = writeln!(out, "\n… and {hidden} more{hint}");
    }
}

fn class(out: &mut String, report: &Report<'_>, (number, told): (usize, &Told), console: &Console) {
    let style = console.style;
    let heading = danger(told.danger);
    let heading = match told.danger {
        Danger::Delivered => style.bad(heading),
        Danger::Rewritten | Danger::Tracked | Danger::Dropped => style.strong(heading),
    };
    let _infallible = writeln!(out, "\n{number}. {heading}");
    for (name, words) in NAMES.iter().zip(&told.sides) {
        out.push_str(&hanging(&format!("   {name}        "), &words.join("; ")));
    }
    for (items, example) in &told.boxes {
        let text = if items.is_empty() { "all".to_owned() } else { items.join(", ") };
        out.push_str(&hanging("   packets  ", &text));
        match example {
            Some(example) => shown(out, report, example),
            None => out.push_str("   example  none: no frame could be built\n"),
        }
    }
    if told.more {
        let verb = if console.verbose { "" } else { " (-v shows more)" };
        let _infallible = writeln!(out, "   … and more packets{verb}");
    }
}

fn shown(out: &mut String, report: &Report<'_>, example: &Example) {
    out.push_str(&hanging("   example  ", &sentence(example)));
    for (at, (name, side)) in NAMES.iter().zip(&example.sides).enumerate() {
        let Some(tables) = report.tables.get(at) else { continue };
        let skipped = side.flows.len().saturating_sub(FLOWS);
        for (place, id) in side.flows.iter().enumerate() {
            // The first is where they part, the last ones decide.
            if skipped > 0 && (1..=skipped).contains(&place) {
                continue;
            }
            let Some(flow) = tables.flow(*id) else { continue };
            let text = Flow { cookie: 0, ..flow.clone() }.to_string();
            let line = format!("   {name}:{:<6} {}", flow.span.line, text.trim());
            out.push_str(&cut(&line, WIDTH));
            out.push('\n');
        }
        if side.flows.is_empty() {
            let _infallible = writeln!(out, "   {name}        no flow");
        }
    }
}

/// The packet, where it comes in, and what is said of its connection.
fn sentence(example: &Example) -> String {
    let form = match example.form {
        Form::Whole => "",
        Form::First => ", the first fragment",
        Form::Later => ", a later fragment",
    };
    let answers: Vec<String> = example.answers.iter().map(state_text).collect();
    let answers = if answers.is_empty() { String::new() } else { format!("; ct: {}", answers.join(", ")) };
    format!(
        "{}, in by port {}{form}, {}{answers}",
        summary(&example.frame),
        example.in_port,
        example.profile.name()
    )
}

impl Report<'_> {
    /// What bounds the answer.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.found.open {
            notes.push(
                "flows of equal priority overlap: where OpenFlow leaves open which wins, everything that may happen is compared"
                    .to_owned(),
            );
        }
        if self.found.is_limited() {
            let shown = self.found.unmodelled.iter().take(UNMODELLED);
            let mut words: Vec<String> = shown
                .map(|(side, line, text)| {
                    format!("`{text}` ({}:{line})", NAMES.get(*side).copied().unwrap_or_default())
                })
                .collect();
            let more = self.found.unmodelled.len().saturating_sub(UNMODELLED);
            words.extend((more > 0).then(|| format!("{more} more")));
            notes.push(match words.is_empty() {
                true => "some packets exceed the limits of the switch: of these nothing is known".to_owned(),
                false => format!(
                    "of some packets it is not known whether they differ: what is done with them rests on something that is not modelled, {}",
                    list(&words)
                ),
            });
        }
        if !self.found.complete {
            notes.push("the tables are too large to explore completely".to_owned());
        }
        let unvalidated: Vec<&str> = self
            .datapath
            .0
            .iter()
            .filter(|profile| !Profile::is_validated(**profile))
            .map(|profile| profile.name())
            .collect();
        if !unvalidated.is_empty() && !self.told.is_empty() {
            notes.push(format!("no experiment has judged {}", list(unvalidated)));
        }
        notes
    }
}
