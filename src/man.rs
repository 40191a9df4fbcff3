//! `flowproof man`: the manual page.

use crate::{console::Console, exit::Exit, failure::Failure};
use clap::{Args, Command};
use clap_mangen::Man;

/// Options of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  flowproof man | man -l -
  flowproof man trace > flowproof-trace.1")]
pub(crate) struct Options {
    /// The subcommand whose page to print; the program's own without one
    #[arg(value_name = "SUBCOMMAND")]
    subcommand: Option<String>,
}

pub(crate) fn run(options: &Options, mut command: Command, console: &Console) -> Result<Exit, Failure> {
    // Subcommands learn their full names by this.
    command.build();
    let page = match &options.subcommand {
        None => command,
        Some(name) => {
            let found = command.find_subcommand(name);
            found.ok_or_else(|| Failure::input([format!("no subcommand `{name}`")]))?.clone()
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    console.print(&text)?;
    Ok(Exit::Holds)
}
