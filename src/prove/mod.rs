//! `flowproof prove`: every property that applies, on every filtered port, under every datapath.

mod change;
mod engines;
mod expect;
pub(crate) mod intent;
mod isolation;
mod listing;
mod real;
mod scenario;
mod text;
mod watch;

use crate::console::Console;
use crate::datapath::{Datapath, datapath};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flows::{FlowOptions, Flows, PORTS_HELP, tool};
use crate::progress::Progress;
use crate::text::list;
use change::{Change, Subject};
use clap::{Args, ValueEnum};
use expect::Mismatch;
use flowproof_packet::PortNo;
use flowproof_proofs::battery;
use flowproof_proofs::check::{Engines, Findings, Judgement, Task};
use flowproof_proofs::diagram::Host;
use flowproof_proofs::incremental::Kept;
use flowproof_proofs::intent::{Ask, Checked, IntentFinding, NAMES, check_by, check_since, rows};
use flowproof_proofs::isolation::{IsolationFinding, names, rows as isolation_rows};
use flowproof_proofs::listing::ALL;
use flowproof_proofs::ports::{self, Port};
use flowproof_proofs::properties::{Property, SENDER};
use flowproof_proofs::report::{self, PortRow, Row, Source};
use flowproof_proofs::since::Since;
use flowproof_proofs::tables::Tables;
use intent::{Intent, Outcome};
use listing::Listed;
use real::Real;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wildmatch::WildMatch;

/// Options of `prove`.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  flowproof prove examples/mitaka-2016/flows.txt
  ovs-ofctl dump-flows br-int | flowproof prove - --port 13
  flowproof prove flows.txt --intent ports.json --intent groups.json
  flowproof prove flows.txt --property 'dhcp*' --datapath kernel --format json
  flowproof prove flows.txt --write-expect known.jsonl
  flowproof prove flows.txt --expect known.jsonl
  flowproof prove flows.txt --ovs
  flowproof prove flows.txt --watch
  flowproof prove new.txt --since old.txt --intent intent.json

--ovs starts the Open vSwitch that is installed, unprivileged and in a private
directory, and repeats each counterexample in it. The programs are looked for in
PATH and in the usual places, or only in $FLOWPROOF_OVS if that is set.

--since OLD asks what the flows break that OLD did not: a property is refuted by
a packet that violates it now, replays, and does not violate it in OLD. What is
no-worse has no such packet; that does not mean that it holds.

Exit codes: 0 all proved (with --since: no worse), or exactly as --expect says;
1 something refuted, or not as expected; 2 wrong usage or input; 3 unknown or
vacuous; 4 flowproof contradicts itself.

{PORTS_HELP}
Without it filtered ports are taken for access ports of their network."))]
pub(crate) struct Options {
    #[command(flatten)]
    flows: FlowOptions,
    /// What was asked for, as Neutron's API objects in JSON; several files are merged (repeatable)
    #[arg(long, value_name = "FILE")]
    intent: Vec<PathBuf>,
    /// Only properties of this name; `*` and `?` stand for any text and any letter (repeatable)
    #[arg(long, value_name = "NAME")]
    property: Vec<String>,
    /// Only this filtered port (repeatable)
    #[arg(long, value_name = "OFPORT")]
    port: Vec<PortNo>,
    /// Whose connection tracking: userspace-3.1, kernel, kernel-2016 or all
    #[arg(long, value_name = "PROFILE", default_value = "all", value_parser = datapath)]
    datapath: Datapath,
    /// Which engine answers; both must agree
    #[arg(long, value_enum, default_value = "both")]
    engine: Engine,
    /// Repeat counterexamples in a private real switch (needs Open vSwitch)
    #[arg(long)]
    ovs: bool,
    /// Frames that are sent through the interpreter behind what is proved of what VMs send, over all ports
    #[arg(long, value_name = "N", default_value_t = battery::USUAL)]
    battery: usize,
    /// Write each query to Z3 into this directory, as SMT-LIB 2
    #[arg(long, value_name = "DIR")]
    smt2: Option<PathBuf>,
    /// Verdicts that are known, as JSON lines; anything else fails
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Write the verdicts that are not `proved` as a file for --expect
    #[arg(long, value_name = "FILE")]
    write_expect: Option<PathBuf>,
    /// A property that may be vacuous (repeatable)
    #[arg(long, value_name = "NAME")]
    allow_vacuous: Vec<String>,
    /// How to print the verdicts
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Print to a file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only what these flows break that OLD did not; says nothing about what is broken in both
    #[arg(long, value_name = "OLD", conflicts_with_all = ["watch", "smt2", "expect", "write_expect", "engine"])]
    since: Option<PathBuf>,
    /// Prove again whenever the flows change, only what depends on the change, until Ctrl-C
    #[arg(long, conflicts_with_all = ["ovs", "smt2", "write_expect", "output"])]
    watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    Diagram,
    Z3,
    Both,
}

impl Options {
    /// Whether all verdicts are told in full: in JSON, with -v, and to a real switch. Else a person is shown the first of each.
    fn tells_each(&self, console: &Console) -> bool {
        console.verbose || self.format == Format::Json || self.ovs
    }
}

/// Ports to name in a message before it counts the others.
const MANY: usize = 16;

/// What is printed, in the stable form of `--format json`.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    tool: Value,
    inputs: Value,
    ports: Vec<PortRow>,
    assumptions: Vec<String>,
    verdict: &'static str,
    seconds: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unexpected: Option<Vec<String>>,
    /// What a real switch said, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    switch: Option<Replays>,
    results: Vec<Outcome>,
}

/// Counterexamples in a real switch.
#[derive(Debug, Serialize)]
struct Replays {
    /// Its version.
    version: String,
    /// How many of them happened in it.
    confirmed: usize,
    /// How many there are, those under datapaths that it does not have included.
    counterexamples: usize,
}

impl Report {
    /// The verdicts on ports.
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.results.iter().filter_map(|outcome| match outcome {
            Outcome::Verdict(row) => Some(&**row),
            Outcome::Listed(_) | Outcome::Unfiltered(_) | Outcome::NotChecked(_) => None,
        })
    }
}

/// Reads, checks, prints; with `--watch` again and again.
pub(crate) fn run(options: &Options, console: &Console) -> Result<Exit, Failure> {
    // What is kept for the next time may be the first of its verdict then.
    let progress = Progress::of_parts().wanting(options.watch || options.tells_each(console));
    if options.watch {
        watch::run(options, console, &progress)
    } else {
        once(options, console, &progress, None)
    }
}

/// Reads, checks, prints. What `before` holds is used, and is then what was found now.
fn once(
    options: &Options,
    console: &Console,
    progress: &Progress,
    before: Option<&mut Option<Kept>>,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    let expected = options.expect.as_deref().map(expect::read).transpose()?;
    let properties = properties(&options.property)?;
    crate::input::only_one_stdin(options.intent.iter().chain([&options.flows.flows]).chain(&options.since))?;
    let (flows, before_flows) = options.flows.read_beside(options.since.as_deref(), console)?;
    let intent = Intent::read(&options.intent, &flows.file.flows, console)?;
    let subject = Subject::read(options, host(&flows, intent.as_ref()), before_flows, console);
    let host = subject.host();
    let ports = senders(host, &options.port)?;
    let mut real = options.ovs.then(Real::summon).transpose()?;
    let task = Task {
        host,
        ports,
        properties,
        profiles: options.datapath.0.clone(),
        engines: match options.engine {
            Engine::Diagram => Engines::Diagram,
            Engine::Z3 => Engines::Z3,
            Engine::Both => Engines::Both,
        },
        keep_queries: options.smt2.is_some(),
        watch: progress,
    };
    let mut found = match before {
        Some(kept) if !task.properties.is_empty() => watch::again(&task, kept, console),
        _ => subject.check(&task),
    };
    let since = subject.since();
    battery::hold(&task, &mut found.findings, options.battery);
    let agreement = intent.as_ref().map(|intent| agreement(options, &task, intent, since));
    let Checked { findings: mut agreement, queries } = agreement.unwrap_or_default();
    found.queries.extend(queries);
    let site = intent.as_ref().map(|intent| &intent.site);
    let mut isolated = isolation::check(&task, site, since, wanted(options));
    let listed = listing::check(&task, intent.as_ref(), &subject, wanted(options));
    if let Some(real) = &mut real {
        replay(real, &task, &mut found, &mut isolated, &mut agreement)?;
    }
    progress.clear();
    let parts = (&found, &*isolated, &*agreement, &listed);
    let mut results = results((options, console), &task, parts, intent.as_ref());
    if let Some(intent) = intent.as_ref().filter(|_| options.format == Format::Json) {
        scenario::annotate(&mut results, intent, &flows.file.flows);
    }
    let switch = real.map(|real| real.annotate(&mut results));
    let (task, found) = everything(task, found, (isolated, agreement, listed));
    let mismatches = expected.map(|expected| expect::compare(&expected, &task, &found));
    let exit = exit(options, &task, &found, mismatches.as_deref(), progress.interrupted());
    let report = Report {
        verdict: verdict(&found, &results),
        switch,
        results,
        ..report(&flows, intent.as_ref(), &subject, mismatches.as_deref(), progress, started)
    };
    if let Some(directory) = &options.smt2 {
        write_queries(directory, &found)?;
    }
    for path in engines::write_down(options, &task, &found, &flows.file.flows)? {
        console.remark(&format!("a contradiction is written down: {}", path.display()));
    }
    if let Some(path) = options.write_expect.as_ref().filter(|_| !progress.interrupted()) {
        write(path, expect::render(&expect::known(&task, &found)).as_bytes())?;
    }
    let text = match options.format {
        Format::Text => text::render(&report, console),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default()),
    };
    match &options.output {
        Some(path) => write(path, text.as_bytes())?,
        None => console.print(text.as_bytes())?,
    }
    Ok(exit)
}

/// The properties that the patterns select; all without patterns.
fn properties(patterns: &[String]) -> Result<Vec<&'static Property>, Failure> {
    let chosen = |pattern: &String| {
        let pattern = WildMatch::new(pattern);
        move |property: &&Property| pattern.matches(property.name)
    };
    let of_intent = |pattern: &String| NAMES.iter().any(|name| WildMatch::new(pattern).matches(name));
    let of_isolation = |pattern: &String| names().any(|name| WildMatch::new(pattern).matches(name));
    let of_listing = |pattern: &String| ALL.iter().any(|p| WildMatch::new(pattern).matches(p.name));
    let known = |pattern: &String| {
        let of_others = of_isolation(pattern) || of_intent(pattern) || of_listing(pattern);
        SENDER.iter().any(|p| chosen(pattern)(&p)) || of_others
    };
    if let Some(unknown) = patterns.iter().find(|pattern| !known(pattern)) {
        let own = SENDER.iter().map(|property| property.name);
        let known = list(own.chain(names()).chain(NAMES).chain(ALL.map(|property| property.name)));
        return Err(Failure::input([format!("no property is called `{unknown}`; there are {known}")]));
    }
    let wanted = |property: &&Property| patterns.is_empty() || patterns.iter().any(|p| chosen(p)(property));
    Ok(SENDER.iter().filter(wanted).collect())
}

/// Whether the patterns select a property of this name; all without patterns.
fn wanted(options: &Options) -> impl Fn(&str) -> bool {
    |name| options.property.is_empty() || options.property.iter().any(|p| WildMatch::new(p).matches(name))
}

fn agreement(options: &Options, task: &Task<'_>, intent: &Intent, since: Option<&Since>) -> Checked {
    let properties = intent::properties(wanted(options));
    if properties.is_empty() {
        return Checked::default();
    }
    let ask = Ask {
        host: task.host,
        site: &intent.site,
        ports: task.ports.clone(),
        properties,
        profiles: task.profiles.clone(),
        watch: task.watch,
    };
    match since {
        Some(since) => Checked { findings: check_since(&ask, since), queries: Vec::new() },
        None => check_by(&ask, task.engines, task.keep_queries),
    }
}

/// Repeats all refutations in a real switch, until somebody stops it.
fn replay(
    real: &mut Real,
    task: &Task<'_>,
    found: &mut Findings,
    isolated: &mut [IsolationFinding],
    agreement: &mut [IntentFinding],
) -> Result<(), Failure> {
    let isolated = isolated.iter_mut().map(|of| &mut of.finding);
    let own = found.findings.iter_mut().chain(isolated).map(|finding| (finding, None));
    let of_intent = agreement.iter_mut().map(|of| {
        let between = (of.direction.name(), of.placement.name());
        (&mut of.finding, Some(between))
    });
    for (finding, between) in own.chain(of_intent) {
        let Some(port) = task.ports.get(finding.port).filter(|_| !task.watch.stop()) else { continue };
        real.hear(task.host, port, finding, between)?;
    }
    Ok(())
}

fn results(
    (options, console): (&Options, &Console),
    task: &Task<'_>,
    (found, isolated, agreement, listed): (&Findings, &[IsolationFinding], &[IntentFinding], &Listed),
    intent: Option<&Intent>,
) -> Vec<Outcome> {
    let each = options.tells_each(console);
    let isolated = isolation_rows::rows(task.host, &task.ports, isolated, each);
    let agreement = rows::rows(task.host, &task.ports, agreement, each);
    let conflicts = Findings { findings: listed.conflicts.clone(), queries: Vec::new() };
    let conflicts = report::rows(task, &conflicts, each);
    let rows = report::rows(task, found, each).into_iter().chain(isolated).chain(agreement).chain(conflicts);
    let verdicts = rows.map(|row| Outcome::Verdict(Box::new(row)));
    let unfiltered = listed.listing.clone().map(Outcome::Unfiltered);
    verdicts.chain(unfiltered).chain(intent::other_results(intent, wanted(options))).collect()
}

/// The findings of all sections as one, for exit codes and known verdicts.
fn everything<'a>(
    task: Task<'a>,
    mut found: Findings,
    (isolated, agreement, listed): (Vec<IsolationFinding>, Vec<IntentFinding>, Listed),
) -> (Task<'a>, Findings) {
    let mut properties = task.properties.clone();
    let isolated = isolated.into_iter().map(|of| of.finding);
    let listed = listed.conflicts.into_iter().chain(listed.faults);
    for finding in isolated.chain(agreement.into_iter().map(|of| of.finding)).chain(listed) {
        if !properties.iter().any(|property| property.name == finding.property.name) {
            properties.push(finding.property);
        }
        found.findings.push(finding);
    }
    (Task { properties, ..task }, found)
}

fn host(flows: &Flows, intent: Option<&Intent>) -> Host {
    let mut tags = intent.map_or_else(BTreeMap::new, |intent| intent.site.tags());
    tags.extend(flows.ports.iter().flatten().map(|port| (port.ofport, port.tag)));
    let ports = match intent {
        Some(intent) => intent.site.ports(&flows.file.flows),
        None => ports::derive(&flows.file.flows),
    };
    Host { tables: Tables::new(flows.file.flows.clone()), ports, tags }
}

fn senders<'a>(host: &'a Host, wanted: &[PortNo]) -> Result<Vec<&'a Port>, Failure> {
    if let Some(unknown) = wanted.iter().find(|number| !host.ports.iter().any(|port| port.ofport == **number))
    {
        let some = host.ports.iter().take(MANY).map(|port| port.ofport.to_string());
        let known = match host.ports.len() {
            0 => "none".to_owned(),
            all if all > MANY => format!("{all}: {} and {} others", list(some), all - MANY),
            _ => list(some),
        };
        return Err(Failure::input([format!(
            "no filtered port has number {unknown}; the flows speak of {known}"
        )]));
    }
    Ok(host.ports.iter().filter(|port| wanted.is_empty() || wanted.contains(&port.ofport)).collect())
}

/// The precedence is contradiction, not as expected, refuted, undecided, all well; an interruption comes first.
fn exit(
    options: &Options,
    task: &Task<'_>,
    found: &Findings,
    mismatches: Option<&[Mismatch]>,
    interrupted: bool,
) -> Exit {
    let any =
        |wanted: fn(&Judgement) -> bool| found.findings.iter().any(|finding| wanted(&finding.judgement));
    if interrupted {
        return Exit::Interrupted;
    }
    if any(|judgement| matches!(judgement, Judgement::Contradiction(_))) {
        return Exit::Contradiction;
    }
    if let Some(mismatches) = mismatches {
        return if mismatches.is_empty() { Exit::Holds } else { Exit::Refuted };
    }
    let vacuous = found.findings.iter().any(|finding| {
        let allowed =
            options.allow_vacuous.iter().any(|name| WildMatch::new(name).matches(finding.property.name));
        matches!(finding.judgement, Judgement::Vacuous(_)) && !allowed
    });
    let nothing = found.findings.is_empty()
        && task
            .properties
            .iter()
            .any(|p| !options.allow_vacuous.iter().any(|name| WildMatch::new(name).matches(p.name)));
    if any(|judgement| matches!(judgement, Judgement::Refuted(_) | Judgement::Listed(_))) {
        Exit::Refuted
    } else if vacuous || nothing || any(|judgement| matches!(judgement, Judgement::Unknown(_))) {
        Exit::Inconclusive
    } else {
        Exit::Holds
    }
}

fn verdict(found: &Findings, results: &[Outcome]) -> &'static str {
    let order = ["contradiction", "refuted", "unknown", "vacuous", "no-worse"];
    let has = |name: &&&str| found.findings.iter().any(|finding| finding.judgement.name() == **name);
    match order.iter().find(has) {
        Some(name) => name,
        None if results.iter().all(|outcome| matches!(outcome, Outcome::NotChecked(_)))
            && !results.is_empty() =>
        {
            "not-checked"
        }
        None if found.findings.is_empty() && !results.iter().any(Outcome::is_listed) => "vacuous",
        None => "proved",
    }
}

/// The report but for its results.
fn report(
    flows: &Flows,
    intent: Option<&Intent>,
    subject: &Subject,
    mismatches: Option<&[Mismatch]>,
    progress: &Progress,
    started: Instant,
) -> Report {
    let mut tool = tool();
    if let Some(tool) = tool.as_object_mut() {
        tool.insert("z3".to_owned(), Value::from(flowproof_proofs::z3_version()));
    }
    let mut inputs = serde_json::json!({"flows": flows.json()});
    if let (Some(inputs), Some(intent)) = (inputs.as_object_mut(), intent) {
        inputs.insert("intent".to_owned(), intent.json());
    }
    let (host, change) = (subject.host(), subject.change());
    if let (Some(inputs), Some(change)) = (inputs.as_object_mut(), change) {
        inputs.insert("since".to_owned(), change.flows.json());
    }
    let source = if intent.is_some() { Source::Intent } else { Source::Derived };
    let mut assumptions = change.map(Change::assumptions).unwrap_or_default();
    assumptions.extend(report::assumptions_from(source, flows.ports.is_some()));
    assumptions.extend(isolation_rows::assumptions(host, intent.map(|intent| &intent.site)));
    assumptions.extend(intent.iter().flat_map(|intent| intent.assumptions()));
    Report {
        schema: 1,
        tool,
        inputs,
        ports: report::ports_from(host, source),
        assumptions,
        verdict: "not-checked",
        seconds: started.elapsed().as_secs_f64(),
        partial: progress.interrupted(),
        unexpected: mismatches.map(|all| all.iter().map(ToString::to_string).collect()),
        switch: None,
        results: Vec::new(),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| crate::input::io_failure(path, &error))
}

fn write_queries(directory: &Path, found: &Findings) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|error| crate::input::io_failure(directory, &error))?;
    for query in &found.queries {
        write(&directory.join(format!("{}.smt2", query.name)), query.text.as_bytes())?;
    }
    Ok(())
}
