//! `flowproof lint`: what a flow file says that its author may not have meant.

mod hygiene;

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flows::{FlowOptions, Flows, PORTS_HELP, tool};
use crate::prove::intent::Intent;
use crate::text::{WIDTH, count, cut, hanging};
use clap::{Args, ValueEnum};
use flowproof_packet::Field;
use flowproof_proofs as proofs;
use flowproof_proofs::hygiene::Hygiene;
use flowproof_proofs::symbolic::Longest;
use flowproof_switch::flow::{Action, Flow, LintKind, same_actions};
use flowproof_switch::table::Tables;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::PathBuf;

/// Options of `lint`.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  flowproof lint examples/mitaka-2016/flows.txt
  ovs-ofctl dump-flows br-int | flowproof lint -
  flowproof lint --format json flows.txt
  flowproof lint flows.txt --intent ports.json --intent groups.json

With an intent flows are named, too, that speak of what it does not have: ports,
MACs, addresses, networks, groups and rules that are gone.

What may lie behind something that is not modelled is not judged. A dump's own
counters are witnesses: a flow that no packet is found to hit, and that has been
hit while the flows were as they are, is a contradiction of flowproof's own.

Exit codes: 0 nothing found, 1 something found, 2 wrong usage or input, 3 flows
were not judged, or too many to explore, 4 flowproof contradicts itself. Notes
(what is not modelled, what no packet comes to) are listed and change no exit
code.

{PORTS_HELP}"))]
pub(crate) struct Options {
    #[command(flatten)]
    flows: FlowOptions,
    /// What was asked for, as Neutron's API objects in JSON; several files are merged (repeatable)
    #[arg(long, value_name = "FILE")]
    intent: Vec<PathBuf>,
    /// How to print the findings
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Whether a finding is a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Counters of the switch say otherwise than what is found here.
    Contradiction,
    /// The flow does not do what it says, or a switch refuses it.
    Defect,
    /// Something the reader should know.
    Note,
}

/// One remark about one flow.
struct Finding<'a> {
    severity: Severity,
    name: &'static str,
    message: String,
    line: u32,
    flow: Option<&'a Flow>,
}

/// Remarks of the same name and message, in the order of the file.
type Groups<'f, 'a> = BTreeMap<(Severity, &'static str, &'f str), Vec<&'f Finding<'a>>>;

/// Flows that are listed of each group without `-v`.
const SHOWN: usize = 4;

/// Finds, prints.
pub(crate) fn run(options: &Options, console: &Console) -> Result<Exit, Failure> {
    crate::input::only_one_stdin(options.intent.iter().chain([&options.flows.flows]))?;
    let flows = options.flows.read(console)?;
    let intent = Intent::read(&options.intent, &flows.file.flows, console)?;
    let tables = proofs::tables::Tables::new(flows.file.flows.clone());
    let hygiene = proofs::check::with_deep_stack(|| proofs::hygiene::examine(&tables));
    let mut findings = find(&flows, tables.switch());
    findings.extend(opaque(&flows.file.flows, &tables));
    findings.extend(hygiene::findings(&tables, &hygiene));
    findings.extend(intent.iter().flat_map(|intent| stale(&flows.file.flows, intent)));
    findings.extend(conflicts(&flows.file.flows, intent.as_ref()));
    findings.sort_by_key(|finding| finding.line);
    let text = match options.format {
        Format::Text => text(&flows, &findings, &hygiene, console),
        Format::Json => json(&flows, intent.as_ref(), &findings, &hygiene),
    };
    console.print(text.as_bytes())?;
    let any = |severity| findings.iter().any(|finding| finding.severity == severity);
    let known = hygiene.complete && hygiene.unjudged.is_empty();
    Ok(match (any(Severity::Contradiction), any(Severity::Defect), known) {
        (true, ..) => {
            let path = PathBuf::from(WRITTEN_DOWN);
            std::fs::write(&path, reproducer(&flows.file.flows, &findings))
                .map_err(|error| crate::input::io_failure(&path, &error))?;
            console.remark(&format!("a contradiction is written down: {}", path.display()));
            Exit::Contradiction
        }
        (false, true, _) => Exit::Refuted,
        (false, false, true) => Exit::Holds,
        (false, false, false) => Exit::Inconclusive,
    })
}

/// Where a contradiction is written down.
const WRITTEN_DOWN: &str = "flowproof-contradiction-lint.flows";

/// The tables with their counters, and what contradicts them.
fn reproducer(flows: &[Flow], findings: &[Finding<'_>]) -> String {
    let mut out = String::new();
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Contradiction) {
        let flow = finding.flow.map(ToString::to_string).unwrap_or_default();
        let _infallible = writeln!(out, "# {}\n#   {}", finding.message, flow.trim());
    }
    let version = env!("CARGO_PKG_VERSION");
    let _infallible = writeln!(out, "# flowproof {version} lint {WRITTEN_DOWN}");
    for flow in flows {
        let counters = flow.counters;
        if let Some(age) = counters.age {
            let _infallible = write!(out, "duration={}.{:03}s, ", age / 1000, age % 1000);
        }
        for (name, number) in [("n_packets", counters.packets), ("idle_age", counters.idle)] {
            if let Some(number) = number {
                let _infallible = write!(out, "{name}={number}, ");
            }
        }
        let _infallible = writeln!(out, "{}", flow.to_string().trim());
    }
    out
}

fn find<'a>(flows: &'a Flows, tables: &'a Tables) -> Vec<Finding<'a>> {
    let by_line: HashMap<_, _> = flows.file.flows.iter().map(|flow| (flow.span.line, flow)).collect();
    let said = flows.file.lints.iter().map(|lint| Finding {
        severity: Severity::Defect,
        name: kind_name(&lint.kind),
        message: lint.kind.to_string(),
        line: lint.line,
        flow: by_line.get(&lint.line).copied(),
    });
    said.chain(duplicates(tables)).chain(unclear(&flows.file.flows)).collect()
}

const fn kind_name(kind: &LintKind) -> &'static str {
    match kind {
        LintKind::Widened { .. } => "widened",
        LintKind::Truncated { .. } => "truncated",
        LintKind::CtWithoutIp => "ct-without-ip",
        LintKind::OpenFlow10Only { .. } => "openflow10-only",
    }
}

/// Flows with the table, priority and match of a later one, which takes their place when the file is loaded.
fn duplicates(tables: &Tables) -> impl Iterator<Item = Finding<'_>> {
    tables.replaced().iter().filter_map(|replaced| {
        let by = tables.flow(replaced.by)?;
        let same = if same_actions(&by.actions, &replaced.earlier.actions) { "the same" } else { "other" };
        Some(Finding {
            severity: Severity::Defect,
            name: "duplicate",
            message: format!("a later flow has the same table, priority and match, and {same} actions"),
            line: replaced.earlier.span.line,
            flow: Some(&replaced.earlier),
        })
    })
}

/// Flows that the intent does not account for.
fn stale<'a>(flows: &'a [Flow], intent: &Intent) -> Vec<Finding<'a>> {
    let found = proofs::intent::stale::stale(&intent.site, &intent.recognised, flows);
    let finding = |(place, why): (usize, proofs::intent::stale::Stale)| {
        let flow = flows.get(place)?;
        let (severity, line) = (Severity::Defect, flow.span.line);
        Some(Finding { severity, name: "stale", message: why.to_string(), line, flow: Some(flow) })
    };
    found.into_iter().filter_map(finding).collect()
}

/// What the flows contradict each other about, or the intent: of which ports nothing classifies what they send, which addresses only
/// one place knows. Each stands beside the first flow that speaks of the port.
fn conflicts<'a>(flows: &'a [Flow], intent: Option<&Intent>) -> Vec<Finding<'a>> {
    let ports = intent.map_or_else(|| proofs::ports::derive(flows), |intent| intent.site.ports(flows));
    let finding = |port: &proofs::ports::Port, conflict: &String| {
        let own = |field| move |flow: &&Flow| flow.matching.exact(field) == Some(u128::from(port.ofport));
        let flow = flows.iter().find(own(Field::InPort)).or_else(|| flows.iter().find(own(Field::Reg5)));
        let (severity, line) = (Severity::Defect, flow.map_or(0, |flow| flow.span.line));
        let message = format!("port {}: {conflict}", port.ofport);
        Finding { severity, name: "derivation-conflict", message, line, flow }
    };
    let of_port = |port: &proofs::ports::Port| {
        port.conflicts.iter().map(|conflict| finding(port, conflict)).collect::<Vec<_>>()
    };
    ports.iter().flat_map(of_port).collect()
}

/// What is accepted but not modelled.
fn opaque<'f>(flows: &'f [Flow], tables: &proofs::tables::Tables) -> impl Iterator<Item = Finding<'f>> {
    flows.iter().flat_map(|flow| {
        let action = |action: &Action| match action {
            Action::Ct(ct) => proofs::is_unmodelled(ct, tables).then(|| action.to_string()),
            _ => (!proofs::is_modelled(action)).then(|| action.to_string()),
        };
        let texts = flow.actions.iter().filter_map(action).chain(flow.opaque_match.iter().cloned());
        texts.map(move |text| Finding {
            severity: Severity::Note,
            name: "opaque",
            message: format!("`{text}` is accepted but not modelled: what it does is unknown"),
            line: flow.span.line,
            flow: Some(flow),
        })
    })
}

/// What a dump does not tell.
fn unclear(flows: &[Flow]) -> impl Iterator<Item = Finding<'_>> {
    let is_unclear =
        |flow: &&Flow| flow.actions.iter().any(|action| matches!(action, Action::RetagUnclear { .. }));
    flows.iter().filter(is_unclear).map(|flow| Finding {
        severity: Severity::Note,
        name: "unclear-tag",
        message: "a dump over OpenFlow 1.0 does not say whether `mod_vlan` changes the tag of a frame that has one or \
                  adds another: what becomes of such frames is unknown (`ovs-ofctl -O OpenFlow13 dump-flows` says it)"
            .to_owned(),
        line: flow.span.line,
        flow: Some(flow),
    })
}

fn text(flows: &Flows, findings: &[Finding<'_>], hygiene: &Hygiene, console: &Console) -> String {
    let mut groups: Groups<'_, '_> = BTreeMap::new();
    for finding in findings {
        groups.entry((finding.severity, finding.name, &finding.message)).or_default().push(finding);
    }
    let defects = findings.iter().filter(|finding| finding.severity != Severity::Note).count();
    let summary = format!("{}, {}", count(flows.file.flows.len(), "flow"), count(defects, "finding"));
    let mut out = format!("{}\n", console.style.strong(&summary));
    for ((severity, name, message), members) in groups {
        let mark = match severity {
            Severity::Contradiction | Severity::Defect => console.style.bad(name),
            Severity::Note => console.style.faint(name),
        };
        let about = members.iter().filter(|finding| finding.flow.is_some()).count();
        let about = if about == 0 { String::new() } else { format!(" ({})", count(about, "flow")) };
        let heading = format!("{message}{about}");
        let heading = hanging(&" ".repeat(name.len() + 2), &heading);
        let _infallible = write!(out, "\n{mark}: {}", heading.trim_start());
        out.push_str(&members_text(&members, console.verbose));
    }
    if hygiene.goes_on && !hygiene.exceeds_limits {
        let unknown = "not judged: how often packets are passed on behind what is not modelled is not known";
        let _infallible = write!(out, "\n{}", hanging("terminates: ", unknown));
    } else if hygiene.complete && !hygiene.exceeds_limits {
        let Longest { calls, depth, recirculations } = hygiene.longest;
        let (calls, tracked) = (count(calls as usize, "time"), count(usize::from(recirculations), "time"));
        let longest = format!(
            "no packet is passed on more than {calls} in one translation, {depth} deep, nor tracked more than {tracked}"
        );
        let _infallible = write!(out, "\n{}", hanging("terminates: ", &longest));
    }
    out
}

fn members_text(members: &[&Finding<'_>], verbose: bool) -> String {
    let shown = if verbose { members.len() } else { SHOWN };
    let mut out = String::new();
    for finding in members.iter().take(shown).filter(|finding| finding.line > 0) {
        let label = format!("  line {:<5} ", finding.line);
        // The cookie says nothing about the packets.
        let flow =
            finding.flow.map(|flow| Flow { cookie: 0, ..flow.clone() }.to_string()).unwrap_or_default();
        if verbose {
            out.push_str(&hanging(&label, flow.trim()));
        } else {
            out.push_str(&cut(&format!("{label}{}", flow.trim()), WIDTH));
            out.push('\n');
        }
    }
    if members.len() > shown {
        let _infallible = writeln!(out, "  … and {} more (-v lists them)", members.len() - shown);
    }
    out
}

fn json(flows: &Flows, intent: Option<&Intent>, findings: &[Finding<'_>], hygiene: &Hygiene) -> String {
    let finding = |finding: &Finding<'_>| {
        json!({
            "name": finding.name,
            "severity": match finding.severity {
                Severity::Contradiction => "contradiction",
                Severity::Defect => "defect",
                Severity::Note => "note",
            },
            "line": finding.line,
            "message": finding.message,
            "flow": finding.flow.map(ToString::to_string),
        })
    };
    let skipped = |(line, text): &(u32, String)| json!({"line": line, "text": text});
    let Longest { calls, depth, recirculations } = hygiene.longest;
    let mut inputs = json!({"flows": flows.json()});
    if let (Some(inputs), Some(intent)) = (inputs.as_object_mut(), intent) {
        inputs.insert("intent".to_owned(), intent.json());
    }
    let report = json!({
        "schema": 1,
        "tool": tool(),
        "inputs": inputs,
        "longest": {"calls": calls, "depth": depth, "recirculations": recirculations},
        "terminates": if hygiene.goes_on || !hygiene.complete { Value::Null } else { json!(!hygiene.exceeds_limits) },
        "findings": findings.iter().map(finding).collect::<Vec<Value>>(),
        "skipped": flows.file.skipped.iter().map(skipped).collect::<Vec<Value>>(),
    });
    format!("{report:#}\n")
}
