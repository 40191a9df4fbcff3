//! `flowproof run`: scenarios in model, interpreter and, if wanted, a real switch.

use crate::console::{Console, Style};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flows::tool;
use crate::input;
use clap::{Args, ValueEnum};
use flowproof_lockstep::report::{explain, model_lines, table_lines};
use flowproof_lockstep::{Observation, Run, Scenario, StepRun, parse_with, run as replay, shrink};
use flowproof_ovs::{EnvError, LoadError, RealSwitch, split_untyped_ct};
use flowproof_packet::PortNo;
use flowproof_packet::summary::summary;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::table::Tables;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Options of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  flowproof run tests/scenarios/even-port.scn
  flowproof run --ovs --minimise failure.scn
  flowproof run --format json tests/scenarios/*.scn

A scenario that names layouts runs once for each of them.

Exit codes: 0 everything is as the scenarios say, 1 model and tables differ,
2 wrong usage or input, 4 the real switch differs from the interpreter.")]
pub(crate) struct Options {
    /// Scenarios
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Replay in a real switch, too (needs Open vSwitch)
    #[arg(long)]
    ovs: bool,
    /// Print a scenario that diverges as small as it can be
    #[arg(long)]
    minimise: bool,
    /// How to print the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// One scenario under one layout.
struct Played {
    file: String,
    scenario: Scenario,
    run: Run,
    /// The same scenario, small; only of what diverges, and if it was asked for.
    small: Option<Scenario>,
    real: Real,
}

/// What a real switch did.
enum Real {
    /// Nobody asked.
    NotAsked,
    /// It has no such datapath.
    Impossible,
    /// The same in every step.
    Same,
    /// Something else at this step.
    Differs(usize, String),
}

/// Runs the scenarios, prints.
pub(crate) fn run(options: &Options, console: &Console) -> Result<Exit, Failure> {
    input::only_one_stdin(&options.scenarios)?;
    let scenarios =
        options.scenarios.iter().map(|path| Ok((path, read(path)?))).collect::<Result<Vec<_>, Failure>>()?;
    let mut all = Vec::new();
    for (path, scenario) in &scenarios {
        for layout in scenario.layouts() {
            all.push(play(options, &input::name(path), scenario, layout)?);
        }
    }
    let text = match options.format {
        Format::Text => all.iter().map(|played| text(played, console.style)).collect(),
        Format::Json => json(&all),
    };
    console.print(text.as_bytes())?;
    Ok(if all.iter().any(|played| matches!(played.real, Real::Differs(..))) {
        Exit::Contradiction
    } else if all.iter().any(|played| played.run.first_divergence().is_some()) {
        Exit::Refuted
    } else {
        Exit::Holds
    })
}

/// A scenario; the files that it names are beside it.
fn read(path: &Path) -> Result<Scenario, Failure> {
    let name = input::name(path);
    let text = |path: &Path| {
        String::from_utf8(input::read_bytes(path)?)
            .map_err(|error| Failure::input([format!("{}: not text: {error}", input::name(path))]))
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    let source = text(path)?;
    let parsed =
        parse_with(&source, &mut |file| text(&directory.join(file)).map_err(|error| error.to_string()));
    parsed.map_err(|error| Failure::input([format!("{name}:{}", input::printable(&error.to_string()))]))
}

fn play(
    options: &Options,
    file: &str,
    scenario: &Scenario,
    layout: Option<flowproof_compiler::Layout>,
) -> Result<Played, Failure> {
    let complaint =
        |error: &dyn ToString| Failure::input([format!("{file}:{}", input::printable(&error.to_string()))]);
    let run = replay(scenario, layout).map_err(|error| complaint(&error))?;
    let differs =
        |scenario: &Scenario| replay(scenario, layout).is_ok_and(|run| run.first_divergence().is_some());
    let small = (options.minimise && run.first_divergence().is_some()).then(|| shrink(scenario, differs));
    let real = match (options.ovs, scenario.datapath) {
        (false, _) => Real::NotAsked,
        (true, Profile::Userspace31) => replay_for_real(&run).map_err(|error| complaint(&error))?,
        (true, Profile::Kernel | Profile::Kernel2016) => Real::Impossible,
    };
    Ok(Played { file: file.to_owned(), scenario: scenario.clone(), run, small, real })
}

fn load(switch: &mut RealSwitch, tables: &Tables) -> Result<(), EnvError> {
    switch.load(&split_untyped_ct(tables.flows())).map_err(|error| match error {
        LoadError::Env(error) => error,
        LoadError::Refused { message } => EnvError::Answer { text: message },
    })
}

/// The same frames through a real switch.
fn replay_for_real(run: &Run) -> Result<Real, EnvError> {
    let mut switch = RealSwitch::start(&run.ports)?;
    load(&mut switch, &run.tables)?;
    for (at, step) in run.steps.iter().enumerate() {
        match step {
            StepRun::Packet(seen) => {
                if let Some(difference) = send(&mut switch, seen)? {
                    return Ok(Real::Differs(at, difference));
                }
            }
            StepRun::Tables(tables) => load(&mut switch, tables)?,
            StepRun::Advance(ms) => switch.advance(*ms)?,
            StepRun::Flush => switch.reset()?,
            StepRun::ForgetMarked(zone) => forget_marked(&mut switch, *zone)?,
        }
    }
    Ok(Real::Same)
}

/// Sends a packet's frames; what came out, if it is not what the interpreter said.
fn send(switch: &mut RealSwitch, seen: &Observation) -> Result<Option<String>, EnvError> {
    for (frame, outcome) in seen.arrival.frames.iter().zip(&seen.outcomes) {
        let mut expected = outcome.delivered();
        expected.sort_by_key(|(port, _)| *port);
        let real = switch.send(seen.arrival.in_port, frame)?;
        if real != expected {
            return Ok(Some(format!("a real switch sends {}; expected {}", list(&real), list(&expected))));
        }
    }
    Ok(None)
}

fn list(frames: &[(PortNo, Vec<u8>)]) -> String {
    let one = |(port, frame): &(PortNo, Vec<u8>)| format!("{} by port {port}", summary(frame));
    match frames {
        [] => "nothing".to_owned(),
        _ => frames.iter().map(one).collect::<Vec<_>>().join(" and "),
    }
}

/// The value of a key in a line of `dpctl/dump-conntrack`, in its original direction.
fn value<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once("orig=(")?;
    let (original, _) = rest.split_once(')')?;
    original.split(',').find_map(|item| item.split_once('=').filter(|(name, _)| *name == key)).map(|(_, v)| v)
}

/// Protocols as the dump names them.
const PROTOCOLS: [(&str, &str); 5] =
    [("tcp", "6"), ("udp", "17"), ("icmp", "1"), ("icmpv6", "58"), ("sctp", "132")];

/// Removes the entries with mark 1 of a zone, one by one.
fn forget_marked(switch: &mut RealSwitch, zone: u16) -> Result<(), EnvError> {
    for line in switch.conntrack()? {
        let has = |item: &str| line.split(',').any(|other| other == item);
        let (Some(src), Some(dst)) = (value(&line, "src"), value(&line, "dst")) else { continue };
        if !has(&format!("zone={zone}")) || !has("mark=1") {
            continue;
        }
        let name = line.split(',').next().unwrap_or_default();
        let number = PROTOCOLS.iter().find(|(known, _)| *known == name).map_or(name, |(_, number)| *number);
        let (a, b) =
            if src.contains(':') { ("ct_ipv6_src", "ct_ipv6_dst") } else { ("ct_nw_src", "ct_nw_dst") };
        let mut tuple = format!("{a}={src},{b}={dst},ct_nw_proto={number}");
        for (key, to) in [
            ("sport", "ct_tp_src"),
            ("dport", "ct_tp_dst"),
            ("id", "icmp_id"),
            ("type", "icmp_type"),
            ("code", "icmp_code"),
        ] {
            if let Some(value) = value(&line, key) {
                let _infallible = write!(tuple, ",{to}={value}");
            }
        }
        switch.appctl("dpctl/flush-conntrack", &[&format!("zone={zone}"), &tuple])?;
    }
    Ok(())
}

fn layout_name(run: &Run) -> &'static str {
    run.layout.map_or("given tables", flowproof_compiler::Layout::name)
}

fn text(played: &Played, style: Style) -> String {
    let Played { file, scenario, run, small, real } = played;
    let heading = format!("{file}, {}", layout_name(run));
    let mut out = String::new();
    let mut line = |text: &str| {
        let _infallible = writeln!(out, "{text}");
    };
    match run.first_divergence() {
        None => line(&format!("{heading}: {}", style.good("holds"))),
        Some((at, seen)) => {
            let place = scenario.steps.get(at).map_or(0, |step| step.line.0);
            line(&format!("{heading}: {} at line {place}", style.bad("diverges")));
            line(explain(scenario, at, seen).trim_end());
        }
    }
    match real {
        Real::NotAsked | Real::Same => {}
        Real::Impossible => line("  no real switch of ours has this datapath"),
        Real::Differs(at, text) => line(&style.bad(&format!("  event {}: {text}", at + 1))),
    }
    if let Some(small) = small {
        line(&format!("as small as it can be:\n{}", small.to_string().trim_end()));
    }
    out
}

fn json(all: &[Played]) -> String {
    let refuted = all.iter().any(|played| played.run.first_divergence().is_some());
    let report = json!({
        "schema": 1,
        "tool": tool(),
        "verdict": if refuted { "diverges" } else { "holds" },
        "results": all.iter().map(result_json).collect::<Vec<Value>>(),
    });
    format!("{report:#}\n")
}

fn result_json(played: &Played) -> Value {
    let Played { file, scenario, run, small, real } = played;
    let divergence = run.first_divergence().map(|(at, seen)| {
        let step = scenario.steps.get(at);
        let differences: Vec<String> = seen.differences.iter().map(ToString::to_string).collect();
        json!({
            "event": at + 1,
            "line": step.map(|step| step.line.0),
            "text": step.map(|step| step.event.to_string()),
            "packet": summary(&seen.arrival.whole),
            "differences": differences,
            "model": model_lines(seen),
            "tables": table_lines(seen),
        })
    });
    json!({
        "scenario": file,
        "layout": run.layout.map(flowproof_compiler::Layout::name),
        "datapath": scenario.datapath.name(),
        "events": run.steps.len(),
        "verdict": if divergence.is_some() { "diverges" } else { "holds" },
        "divergence": divergence,
        "minimised": small.as_ref().map(ToString::to_string),
        "switch": match real {
            Real::NotAsked | Real::Impossible => Value::Null,
            Real::Same => json!(true),
            Real::Differs(..) => json!(false),
        },
    })
}
