//! The verdicts for a person at a terminal of 80 columns.

use super::intent::Outcome;
use super::{Replays, Report};
use crate::console::{Console, Style};
use crate::text::{count, cut, hanging, list};
use flowproof_proofs::report::{Hop, PortRow, Row, Story};
use flowproof_switch::conntrack::Profile;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Verdicts in the order in which a reader wants them.
const ORDER: [&str; 6] = ["contradiction", "refuted", "unknown", "vacuous", "no-worse", "proved"];
const NAME_WIDTH: usize = 33;
const FLOW_WIDTH: usize = 78;

/// The whole report.
pub(super) fn render(report: &Report, console: &Console) -> String {
    let style = console.style;
    let mut out = String::new();
    inputs(&mut out, report, style);
    if let Some(Replays { version, confirmed, counterexamples }) = &report.switch {
        let of = count(*counterexamples, "counterexample");
        let told = format!("{confirmed} of {of} repeated in a real Open vSwitch {version}");
        out.push_str(&hanging("  replayed: ", &told));
    }
    ports(&mut out, &report.ports, console);
    for verdict in ORDER.iter().rev() {
        details(&mut out, report, verdict, console);
    }
    table(&mut out, report, style);
    if let Some(unfinished) = super::engines::unfinished(report) {
        out.push_str(&hanging("engines: ", &unfinished));
    }
    for line in report.unexpected.iter().flatten() {
        let _infallible = writeln!(out, "{} {line}", style.bad("unexpected:"));
    }
    let as_expected = report.unexpected.as_ref().map(Vec::is_empty);
    let close = match as_expected {
        Some(true) => format!("{}, exactly as expected", count(report.rows().count(), "verdict")),
        Some(false) => "not as expected".to_owned(),
        None => format!("verdict: {}", report.verdict),
    };
    let partial = if report.partial { " (interrupted: partial)" } else { "" };
    let _infallible = writeln!(out, "{}{partial}, {:.2} s", style.strong(&close), report.seconds);
    out
}

fn inputs(out: &mut String, report: &Report, style: Style) {
    let flows = report.inputs.get("flows");
    let text = |key| flows.and_then(|flows| flows.get(key)).map(ToString::to_string).unwrap_or_default();
    let file = text("file");
    let _infallible = writeln!(
        out,
        "{}: parsed {} of {} flows",
        style.strong(file.trim_matches('"')),
        text("parsed"),
        text("total")
    );
    for assumption in &report.assumptions {
        out.push_str(&hanging("  assumed: ", assumption));
    }
}

/// Ports listed without `-v`.
const SHOWN: usize = 6;

fn ports(out: &mut String, ports: &[PortRow], console: &Console) {
    let source = ports.first().map_or("derived", |port| port.source);
    let _infallible = writeln!(
        out,
        "\n{}",
        console.style.strong(&format!("{} ({source})", count(ports.len(), "filtered port")))
    );
    let shown = if console.verbose { ports.len() } else { SHOWN };
    for port in ports.iter().take(shown) {
        let network = port.network.map_or_else(|| "unknown".to_owned(), |network| network.to_string());
        let label = format!("  port {:<5} network {network:<5} ", port.ofport);
        out.push_str(&hanging(&label, &format!("MAC {}", list(&port.macs))));
        let margin = " ".repeat(label.len());
        for (name, pairs) in [("IPv4", &port.pairs4), ("IPv6", &port.pairs6)] {
            let addresses = pairs.iter().map(|pair| match pair.split_once(' ') {
                Some((mac, address)) if port.macs.as_slice() == [mac] => address.to_owned(),
                _ => pair.clone(),
            });
            let addresses = list(addresses.collect::<Vec<_>>());
            out.push_str(&hanging(
                &margin,
                &format!("{name} {}", if addresses.is_empty() { "none" } else { &addresses }),
            ));
        }
    }
    if ports.len() > shown {
        let _infallible = writeln!(out, "  … and {} more (-v lists them)", ports.len() - shown);
    }
}

/// The explanations of one verdict: for each property the first port's, or all of them with `-v`.
fn details(out: &mut String, report: &Report, verdict: &str, console: &Console) {
    let mut told = BTreeSet::new();
    for row in report.rows().filter(|row| row.verdict == verdict) {
        let subject = (row.property, row.direction, row.peer);
        if !told.insert(subject) && !console.verbose {
            continue;
        }
        let mark = mark(row.verdict, &format!("{} {}", row.verdict, name(row)), console.style);
        let _infallible = writeln!(out, "\n{mark}  {}", console.style.faint(&datapaths(row)));
        out.push_str(&hanging("  ", &row.explanation));
        if let Some(story) = &row.counterexample {
            tell(out, story, console);
        }
        if let Some(witness) = &row.witness {
            for (name, story) in [("stopped", witness.stopped.as_ref()), ("escapes", Some(&witness.escapes))]
            {
                let Some(story) = story else { continue };
                let packet = story.events.last().map_or("", |event| &event.packet.summary);
                let lines: Vec<String> = story.path.iter().map(|hop| hop.line.to_string()).collect();
                out.push_str(&hanging(
                    "  witness: ",
                    &format!("{name}: {packet} (flows on lines {})", lines.join(" ")),
                ));
            }
        }
    }
}

fn tell(out: &mut String, story: &Story, console: &Console) {
    let several = story.events.len() > 1;
    for (at, event) in story.events.iter().enumerate() {
        let label = if several { format!("  packet {} ", at + 1) } else { "  packet ".to_owned() };
        let entered = format!("in_port={}: {}", event.packet.in_port, event.packet.summary);
        out.push_str(&hanging(&label, &entered));
        if several {
            let outputs = if event.outputs.is_empty() {
                "held or dropped".to_owned()
            } else {
                event.outputs.join("; ")
            };
            out.push_str(&hanging("           ", &outputs));
        }
        if console.verbose {
            out.push_str(&hanging("    flow ", &event.packet.flow));
            let _infallible = writeln!(out, "    hex  {}", event.packet.hex);
        }
    }
    if let Some(true) = story.replayed.switch {
        out.push_str(&hanging("  switch ", "a real Open vSwitch does the same"));
    }
    if let Some(note) = story.replayed.note {
        out.push_str(&hanging("  switch ", note));
    }
    for hop in &story.path {
        out.push_str(&hop_text(hop, console.verbose));
    }
}

fn hop_text(hop: &Hop, verbose: bool) -> String {
    let label = format!("  table {:<3} line {:<5} ", hop.table, hop.line);
    let flow = hop.flow.trim_start_matches(|c: char| c != 'p' || c == 't');
    let flow = hop.flow.find("priority=").and_then(|at| hop.flow.get(at..)).unwrap_or(flow);
    if verbose { hanging(&label, flow) } else { format!("{}\n", cut(&format!("{label}{flow}"), FLOW_WIDTH)) }
}

/// The property, and in section D between whom: `intent-sound to remote`.
fn name(row: &Row) -> String {
    let (Some(direction), Some(peer)) = (row.direction, row.peer) else { return row.property.to_owned() };
    let way = if direction == "egress" { "to" } else { "from" };
    // Long ones need more than their column, and a space behind.
    format!("{} {way} {} ", row.property, peer.trim_start_matches("local-"))
}

fn mark(verdict: &str, text: &str, style: Style) -> String {
    match verdict {
        "proved" => style.good(text),
        "refuted" | "contradiction" => style.bad(text),
        _ => style.strong(text),
    }
}

fn datapaths(row: &Row) -> String {
    let all = row.datapath.len() == Profile::ALL.len();
    let names = if all { "all datapaths".to_owned() } else { list(row.datapath.iter().copied()) };
    let unvalidated = if row.unvalidated { " (unvalidated)" } else { "" };
    format!("{names}{unvalidated}")
}

/// One line for each property, verdict and set of datapaths, with the ports.
fn table(out: &mut String, report: &Report, style: Style) {
    let mut lines: Vec<(&Row, Vec<u16>)> = Vec::new();
    let mut known: BTreeMap<(String, &str, &[&str]), usize> = BTreeMap::new();
    for row in report.rows() {
        let key = (name(row), row.verdict, row.datapath.as_slice());
        let at = *known.entry(key).or_insert(lines.len());
        match lines.get_mut(at) {
            Some((_, ports)) => ports.push(row.port),
            None => lines.push((row, vec![row.port])),
        }
    }
    let _infallible = writeln!(
        out,
        "\n{}",
        style.strong(&format!("{:<NAME_WIDTH$}{:<9}{:<12}datapaths", "property", "verdict", "ports"))
    );
    for (row, ports) in lines {
        let everyone = ports.len() == report.ports.len() && ports.len() > 2;
        let ports = if everyone {
            format!("all {}", ports.len())
        } else {
            cut(&list(ports.iter().map(ToString::to_string)), 11)
        };
        let verdict = mark(row.verdict, &format!("{:<8} ", row.verdict), style);
        let _infallible = writeln!(out, "{:<NAME_WIDTH$}{verdict}{ports:<12}{}", name(row), datapaths(row));
    }
    for outcome in &report.results {
        let (name, verdict, why) = match outcome {
            Outcome::Verdict(_) => continue,
            Outcome::Listed(listed) => (listed.property, listed.verdict, &*listed.explanation),
            Outcome::Unfiltered(listing) => (listing.property, listing.verdict, &*listing.explanation),
            Outcome::NotChecked(row) => (row.property, row.verdict, row.explanation),
        };
        out.push_str(&hanging(&format!("{name:<NAME_WIDTH$}{verdict} "), why));
    }
}
