//! `flowproof completions`: scripts for shells.

use crate::{console::Console, exit::Exit, failure::Failure};
use clap::{Args, Command};
use clap_complete::Shell;

/// Options of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  flowproof completions bash > /etc/bash_completion.d/flowproof
  flowproof completions zsh > ~/.zfunc/_flowproof")]
pub(crate) struct Options {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(options: &Options, command: &mut Command, console: &Console) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, command, "flowproof", &mut script);
    console.print(&script)?;
    Ok(Exit::Holds)
}
