//! `flowproof explore`: random scenarios, many at a time, until time or cases are used up.

mod campaign;
mod report;
mod state;

use crate::console::Console;
use crate::datapath::{Datapath, datapath};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{compile, input};
use campaign::{Budget, Campaign};
use clap::{Args, ValueEnum};
use flowproof_compiler::Layout;
use flowproof_fuzz::bare::Bare;
use flowproof_fuzz::campaign::Subject;
use flowproof_lockstep::Scenario;
use flowproof_lockstep::scenario::Tables;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::ParseOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Options of `explore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  flowproof explore
  flowproof explore --layout mitaka --layout strict --seconds 600 --state night.json
  flowproof explore --cases 1000 --seed 7 --jobs 4
  flowproof explore --layout strict --datapath all --cases 1000
  flowproof explore --flows flows.txt --intent intent.json --ovs
  flowproof explore --flows flows.txt

Each case is a random policy (or the intent's) with twenty events, drawn from the
seed and the case's number, and played in model and tables; in every other case
the last of several flows of one priority wins, not the first. Divergences that
are known by name are counted; any other is made small and written as a scenario
for `flowproof run`. Without an intent ports are derived from the flows, as `prove`
does: no random packet may refute what is proved of them, nor go another way than
symbolic execution says. The same seed and number of cases find the same, whatever --jobs
says. With --state a campaign goes on where the last one ended.

Exit codes: 0 nothing found; 1 something diverges; 2 wrong usage or input; 4 the
real switch differs from the interpreter, or flowproof contradicts itself; 130
interrupted, the report is partial.")]
pub(crate) struct Options {
    /// Tables of this layout, compiled from random policies (repeatable; neutron if nothing is said)
    #[arg(long, value_parser = layout, value_name = "LAYOUT")]
    layout: Vec<Layout>,
    /// Whose connection tracking random policies are played with: userspace-3.1, kernel, kernel-2016 or all
    #[arg(long, value_name = "PROFILE", default_value = "userspace-3.1", value_parser = datapath, conflicts_with = "flows")]
    datapath: Datapath,
    /// These tables, under an intent or alone
    #[arg(long, value_name = "FLOWS", conflicts_with = "layout")]
    flows: Option<PathBuf>,
    /// What the tables are meant to do, as Neutron's API objects in JSON (repeatable; merged)
    #[arg(long, value_name = "FILE", requires = "flows")]
    intent: Vec<PathBuf>,
    /// Stop after so many seconds (10, if nothing else ends it)
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Stop after so many cases of each layout, those of --state included
    #[arg(long, value_name = "N")]
    cases: Option<u64>,
    /// Where cases come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Cases at a time; as many as there are processors, if nothing is said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Stop after so many different failures
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    failures: u64,
    /// Play each case in a private real switch, too (needs Open vSwitch)
    #[arg(long)]
    ovs: bool,
    /// Keep the campaign in this file, and go on with what is in it
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Where failing scenarios are written
    #[arg(long, value_name = "DIR", default_value = "failures")]
    output: PathBuf,
    /// How to print the statistics
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn layout(name: &str) -> Result<Layout, String> {
    let known = Layout::ALL.into_iter().find(|layout| layout.name() == name);
    known.ok_or_else(|| {
        let names: Vec<_> = Layout::ALL.iter().map(|layout| layout.name()).collect();
        format!("layouts are {}", names.join(", "))
    })
}

/// Explores, writes what was found, prints statistics.
pub(crate) fn run(options: &Options, console: &Console) -> Result<Exit, Failure> {
    let mut campaigns = campaigns(options)?;
    let previous = options.state.as_deref().map(|path| state::load(path, options.seed, &mut campaigns));
    previous.transpose()?;
    let seconds = options.seconds.or_else(|| options.cases.is_none().then_some(10));
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let budget = Budget { seed: options.seed, cases: options.cases, deadline, failures: options.failures };
    let judge = options.ovs.then(crate::real::summon).transpose()?;
    let progress = Progress::of_words();
    let save = |campaigns: &[Campaign]| {
        options.state.as_deref().map_or(Ok(()), |path| state::save(path, options.seed, campaigns))
    };
    campaign::explore(&mut campaigns, &budget, options.jobs, judge, &progress, save)?;
    progress.clear();
    let written = report::write_failures(&options.output, &campaigns)?;
    let interrupted = progress.interrupted();
    let text = match options.format {
        Format::Text => report::text(&campaigns, &written, interrupted, console.style),
        Format::Json => report::json(&campaigns, &written, interrupted, options.seed),
    };
    console.print(text.as_bytes())?;
    Ok(exit(&campaigns, interrupted))
}

fn exit(campaigns: &[Campaign], interrupted: bool) -> Exit {
    let mut failures = campaigns.iter().flat_map(|campaign| &campaign.failures);
    if failures.clone().any(|failure| failure.contradiction) {
        Exit::Contradiction
    } else if interrupted {
        Exit::Interrupted
    } else if failures.next().is_some() {
        Exit::Refuted
    } else {
        Exit::Holds
    }
}

fn campaigns(options: &Options) -> Result<Vec<Campaign>, Failure> {
    if let Some(flows) = &options.flows {
        let (name, subject) = match options.intent.as_slice() {
            [] => bare(flows, options.ovs)?,
            intents => given(flows, intents)?,
        };
        return Ok(vec![Campaign::new(name, subject)]);
    }
    let mut layouts = options.layout.clone();
    if layouts.is_empty() {
        layouts.push(Layout::Neutron);
    }
    layouts.dedup();
    let profiles = &options.datapath.0;
    if options.ovs && profiles.iter().any(|profile| *profile != Profile::Userspace31) {
        let text = "--ovs: a private switch has the datapath userspace-3.1, and no other";
        return Err(Failure::input([text.to_owned()]));
    }
    let all = layouts.into_iter().flat_map(|layout| profiles.iter().map(move |of| campaign_of(layout, *of)));
    Ok(all.collect())
}

/// What one layout's tables do on one datapath.
fn campaign_of(layout: Layout, profile: Profile) -> Campaign {
    let name = match profile {
        Profile::Userspace31 => layout.name().to_owned(),
        Profile::Kernel | Profile::Kernel2016 => format!("{}-{}", layout.name(), profile.name()),
    };
    Campaign::new(name, Subject::Compiled(layout, profile))
}

/// Tables of a file under an intent, and what to call them: the name of the file and the hash of its bytes.
fn given(flows: &Path, intents: &[PathBuf]) -> Result<(String, Subject), Failure> {
    input::only_one_stdin(intents.iter().chain([&flows.to_owned()]))?;
    let policy = compile::read(intents)?;
    if policy.host.is_none() || policy.local_ports().next().is_none() {
        let names: Vec<_> = intents.iter().map(|path| input::name(path)).collect();
        return Err(Failure::input([format!("{}: no port is bound to this host", names.join(", "))]));
    }
    let (file, hash) = input::read_flows(flows, &ParseOptions::default())?;
    let mut scenario = Scenario::new(policy, Vec::new());
    scenario.tables = Tables::Inline(file.flows.iter().map(ToString::to_string).collect());
    Ok((called(flows, &hash), Subject::Given(Box::new(scenario))))
}

/// Tables of a file alone, with what is proved of them.
fn bare(flows: &Path, ovs: bool) -> Result<(String, Subject), Failure> {
    if ovs {
        return Err(Failure::input(["--ovs: with --flows it needs --intent".to_owned()]));
    }
    let (file, hash) = input::read_flows(flows, &ParseOptions::default())?;
    let bare = Bare::new(file.flows).ok_or_else(|| {
        Failure::input([format!("{}: the flows speak of no filtered port", input::name(flows))])
    })?;
    Ok((format!("{}, no intent", called(flows, &hash)), Subject::Bare(Arc::new(bare))))
}

/// The name of a file, with what tells it from others of that name.
fn called(flows: &Path, hash: &str) -> String {
    format!("{} ({})", input::name(flows), hash.get(..12).unwrap_or_default())
}
