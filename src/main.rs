//! The command line: reads files, asks the crates below, prints, exits. The only place that does the last two.
//!
//! Invariant: nothing is decided here; a subcommand is its options, one call, and how the answer is shown.

mod compile;
mod completions;
mod console;
mod datapath;
mod diff;
mod exit;
mod explore;
mod failure;
mod flows;
mod input;
mod lint;
mod man;
mod ports;
mod progress;
mod prove;
mod real;
mod run;
mod script;
mod text;
mod trace;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use console::Console;
use exit::Exit;
use failure::Failure;
use std::process::ExitCode;

const EXIT_CODES: &str = "Exit codes:
  0  all that was asked holds
  1  something was refuted, or differs
  2  wrong usage or input; nothing was written
  3  inconclusive
  4  flowproof contradicts itself
130  interrupted; the report is partial";

/// Proves, for all packets and all connection states, what Open vSwitch security-group flow tables do
#[derive(Debug, Parser)]
#[command(name = "flowproof", version, after_help = EXIT_CODES, max_term_width = 80)]
struct Cli {
    #[command(flatten)]
    options: console::ConsoleOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile security groups into flow tables
    Compile(compile::Options),
    /// Say exactly which packets two flow tables do not do the same to
    Diff(diff::Options),
    /// Play random scenarios in model and tables, and make small what diverges
    Explore(explore::Options),
    /// Find what the author of a flow file may not have meant
    Lint(lint::Options),
    /// Prove or refute, for all packets and states, what the ports may send
    Prove(prove::Options),
    /// Play scenarios in model and tables, and say where they first differ
    Run(run::Options),
    /// Send packets through the tables, one after the other
    Trace(trace::Options),
    /// Print a script that completes flowproof's options in a shell
    Completions(completions::Options),
    /// Print the manual page
    Man(man::Options),
}

fn run(cli: &Cli, console: &Console) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Compile(options) => compile::run(options, console),
        Command::Diff(options) => diff::run(options, console),
        Command::Explore(options) => explore::run(options, console),
        Command::Lint(options) => lint::run(options, console),
        Command::Prove(options) => prove::run(options, console),
        Command::Run(options) => run::run(options, console),
        Command::Trace(options) => trace::run(options, console),
        Command::Completions(options) => completions::run(options, &mut Cli::command(), console),
        Command::Man(options) => man::run(options, Cli::command(), console),
    }
}

fn main() -> ExitCode {
    let colors = console::help_colors(std::env::args_os().filter_map(|arg| arg.into_string().ok()));
    let matches = Cli::command().color(colors).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let console = Console::new(&cli.options);
    let exit = run(&cli, &console).unwrap_or_else(|failure| {
        console::complain(&failure.to_string());
        Exit::Usage
    });
    exit.into()
}
