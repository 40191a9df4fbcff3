//! `flowproof diff`: which packets two flow tables do not do the same to, and what each does.

mod json;
mod text;

use crate::console::Console;
use crate::datapath::{Datapath, datapath};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::flows::{FlowOptions, PORTS_HELP};
use crate::input;
use clap::{Args, ValueEnum};
use flowproof_proofs::difference::{Bounds, Found, Question, Told, find, tell};
use flowproof_proofs::tables::Tables;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::Flow;
use std::path::PathBuf;

/// Options of `diff`.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  flowproof diff before.txt after.txt
  ovs-ofctl dump-flows br-int | flowproof diff - wanted.txt
  flowproof diff before.txt after.txt --datapath kernel --format json

Packets are of one class if A does one thing to all of them and B another. A
class is shown as boxes that do not overlap; what a box does not name may have
any value. Every example went through both tables in the interpreter. The worst
come first: what B delivers and A does not. Only outputs and what connection
tracking is told are compared, not how the tables come to it.

Exit codes: 0 the same for all packets; 1 they differ; 2 wrong usage or input;
3 not known (something that is not modelled, limits); 4 flowproof contradicts
itself.

{PORTS_HELP}"))]
pub(crate) struct Options {
    /// The flows as they were; `-` is standard input
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The flows as they are to be; `-` is standard input
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Join flows wrapped over several lines, and pass over prose
    #[arg(long)]
    lenient: bool,
    /// Names and numbers of the ports, as JSON that ovs-vsctl printed (see below)
    #[arg(long, value_name = "FILE")]
    ports: Option<PathBuf>,
    /// The groups that flows of both name: what `ovs-ofctl dump-groups` prints
    #[arg(long, value_name = "FILE")]
    groups: Option<PathBuf>,
    /// The datapath: userspace-3.1, kernel, kernel-2016, all
    #[arg(long, value_name = "PROFILE", default_value = "all", value_parser = datapath)]
    datapath: Datapath,
    /// How to print the classes
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write to a file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What is shown without `-v`, with it, and as JSON.
const BRIEF: Bounds = Bounds { classes: 12, boxes: 3 };
const VERBOSE: Bounds = Bounds { classes: 256, boxes: 32 };

/// Two tables, and how they differ.
struct Report<'r> {
    tables: [&'r Tables; 2],
    datapath: &'r Datapath,
    found: &'r Found,
    told: &'r [Told],
}

impl Report<'_> {
    fn verdict(&self) -> &'static str {
        if self.found.differs() {
            "differs"
        } else if self.found.is_known() {
            "same"
        } else {
            "unknown"
        }
    }

    /// Classes that are not shown.
    fn hidden(&self) -> usize {
        self.found.classes.len().saturating_sub(self.told.len())
    }
}

/// Reads, compares, prints.
pub(crate) fn run(options: &Options, console: &Console) -> Result<Exit, Failure> {
    input::only_one_stdin([&options.a, &options.b].into_iter().chain(&options.ports))?;
    let (flows, lenient, ports) = (options.a.clone(), options.lenient, options.ports.clone());
    let groups = options.groups.clone();
    let (a, b) = FlowOptions { flows, lenient, ports, groups }.read_beside(Some(&options.b), console)?;
    let Some(b) = b else { return Err(Failure::input(["there is nothing to compare with".to_owned()])) };
    let [mut before, mut after] = [&a, &b].map(|flows| Tables::new(flows.file.flows.clone()));
    before.translate_like(&mut after);
    let [before, after] = [&before, &after];
    let question = Question { a: before, b: after, profiles: &options.datapath.0 };
    let mut found = find(&question);
    let bounds = if console.verbose || options.format == Format::Json { VERBOSE } else { BRIEF };
    let told = match tell(&question, &mut found, bounds) {
        Ok(told) => told,
        Err(why) => {
            crate::console::complain(&format!("contradiction: {}", input::printable(&why)));
            return Ok(Exit::Contradiction);
        }
    };
    let report = Report { tables: [before, after], datapath: &options.datapath, found: &found, told: &told };
    let text = match options.format {
        Format::Text => text::render(&report, [&a, &b], console),
        Format::Json => json::render(&report, [&a, &b]),
    };
    match &options.output {
        Some(path) => std::fs::write(path, text).map_err(|error| input::io_failure(path, &error))?,
        None => console.print(text.as_bytes())?,
    }
    Ok(match report.verdict() {
        "same" => Exit::Holds,
        "differs" => Exit::Refuted,
        _ => Exit::Inconclusive,
    })
}

/// Beside a list of flows a few classes are enough.
const BESIDE: Bounds = Bounds { classes: 5, boxes: 1 };
/// Flows that are compared where nobody has asked for it; more may take longer than somebody waits.
const MOST_FLOWS: usize = 5000;

/// What a change of flows means for packets, for those who are about to make it; nothing where it would take long.
pub(crate) fn meaning(before: &[Flow], after: &[Flow], console: &Console) -> String {
    if before.len() + after.len() > MOST_FLOWS {
        return String::new();
    }
    let [mut a, mut b] = [before, after].map(|flows| Tables::new(flows.to_vec()));
    a.translate_like(&mut b);
    let [a, b] = [&a, &b];
    let datapath = Datapath(vec![Profile::Kernel]);
    let question = Question { a, b, profiles: &datapath.0 };
    let mut found = find(&question);
    match tell(&question, &mut found, BESIDE) {
        Ok(told) => {
            let report = Report { tables: [a, b], datapath: &datapath, found: &found, told: &told };
            text::beside(&report, console)
        }
        Err(why) => {
            console.remark(&format!("contradiction: {}", input::printable(&why)));
            String::new()
        }
    }
}
