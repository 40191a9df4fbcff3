//! `flowproof run`: scenarios in model, interpreter and, if wanted, a real switch.

use crate::console::{Console, Style};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flows::tool;
use crate::input;
use crate::real;
use clap::{Args, ValueEnum};
use flowproof_fuzz::real::hear;
use flowproof_lockstep::report::{explain, model_lines, table_lines};
use flowproof_lockstep::{Run, Scenario, parse_with, run as replay, shrink};
use flowproof_ovs::{Answer, Judge, LoadError, OTHER_DATAPATH};
use flowproof_packet::summary::summary;
use flowproof_switch::conntrack::Profile;
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
    /// It could not be asked, or need not do the same: why.
    Open(&'static str),
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
    let mut judge = options.ovs.then(real::summon).transpose()?;
    let mut all = Vec::new();
    for (path, scenario) in &scenarios {
        for layout in scenario.layouts() {
            all.push(play(options, judge.as_mut(), &input::name(path), scenario, layout)?);
        }
    }
    let text = match options.format {
        Format::Text => all.iter().map(|played| text(played, console.style)).collect(),
        Format::Json => json(&all, judge.as_ref().map(Judge::version)),
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
    judge: Option<&mut Judge>,
    file: &str,
    scenario: &Scenario,
    layout: Option<flowproof_compiler::Layout>,
) -> Result<Played, Failure> {
    let complaint =
        |error: &dyn ToString| Failure::input([format!("{file}:{}", input::printable(&error.to_string()))]);
    let run = replay(scenario, layout).map_err(|error| complaint(&error))?;
    let small = run.first_divergence().filter(|_| options.minimise).map(|(_, seen)| {
        let differs = |other: &Scenario| {
            let again = replay(other, layout).ok()?;
            Some(again.first_divergence()?.1.is_like(seen))
        };
        shrink(scenario, |other| differs(other) == Some(true))
    });
    let real = match (judge, scenario.datapath) {
        (None, _) => Real::NotAsked,
        (Some(judge), Profile::Userspace31) => {
            replay_for_real(judge, &run).map_err(|error| real::failed(&error))?
        }
        (Some(_), Profile::Kernel | Profile::Kernel2016) => Real::Open(OTHER_DATAPATH),
    };
    Ok(Played { file: file.to_owned(), scenario: scenario.clone(), run, small, real })
}

/// The same story in a real switch.
fn replay_for_real(judge: &mut Judge, run: &Run) -> Result<Real, LoadError> {
    Ok(match hear(judge, run)? {
        (Answer::Same, _) => Real::Same,
        (Answer::Open(why), _) => Real::Open(why),
        (Answer::Differs(difference), at) => Real::Differs(at, real::words(&difference)),
    })
}

/// What a real switch does otherwise than the interpreter in a run, and at which step.
pub(crate) fn for_real(judge: &mut Judge, run: &Run) -> Result<Option<(usize, String)>, Failure> {
    match replay_for_real(judge, run).map_err(|error| real::failed(&error))? {
        Real::Differs(at, words) => Ok(Some((at, words))),
        Real::Same | Real::Open(_) | Real::NotAsked => Ok(None),
    }
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
        Real::NotAsked => {}
        Real::Same => line("  a real switch does the same"),
        Real::Open(why) => line(&format!("  switch: {why}")),
        Real::Differs(at, text) => line(&style.bad(&format!("  event {}: {text}", at + 1))),
    }
    if let Some(small) = small {
        line(&format!("as small as it can be:\n{}", small.to_string().trim_end()));
    }
    out
}

fn json(all: &[Played], version: Option<&str>) -> String {
    let refuted = all.iter().any(|played| played.run.first_divergence().is_some());
    let report = json!({
        "schema": 1,
        "tool": tool(),
        "switch": version.map(|version| json!({"version": version})),
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
        "tie": scenario.tie.name(),
        "events": run.steps.len(),
        "verdict": if divergence.is_some() { "diverges" } else { "holds" },
        "divergence": divergence,
        "minimised": small.as_ref().map(ToString::to_string),
        "switch": match real {
            Real::NotAsked | Real::Open(_) => Value::Null,
            Real::Same => json!(true),
            Real::Differs(..) => json!(false),
        },
    })
}
