//! Where results and remarks go: results to standard output in one piece, remarks to standard error.
//!
//! Invariant: a closed pipe is no error, and nothing here panics when a stream is gone.

use clap::{Args, ColorChoice, ValueEnum};
use std::io::{self, IsTerminal, Write};

/// Options that every subcommand has.
#[derive(Debug, Args)]
pub(crate) struct ConsoleOptions {
    /// Print results only, no remarks
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 900)]
    quiet: bool,
    /// Print more
    #[arg(short, long, global = true, display_order = 901)]
    verbose: bool,
    /// When to use colours; NO_COLOR turns `auto` off
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", display_order = 902)]
    color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// The streams, as the options want them used.
#[derive(Debug)]
pub(crate) struct Console {
    /// Whether to print more than the results.
    pub(crate) verbose: bool,
    quiet: bool,
    /// How to mark things on standard output.
    pub(crate) style: Style,
}

/// How to mark text: with escape sequences, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    colored: bool,
}

impl Style {
    fn mark(self, code: &str, text: &str) -> String {
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A heading, or what matters most.
    pub(crate) fn strong(self, text: &str) -> String {
        self.mark("1", text)
    }

    /// Something good: delivered, holds.
    pub(crate) fn good(self, text: &str) -> String {
        self.mark("32", text)
    }

    /// Something bad: dropped, refuted.
    pub(crate) fn bad(self, text: &str) -> String {
        self.mark("31", text)
    }

    /// Detail.
    pub(crate) fn faint(self, text: &str) -> String {
        self.mark("2", text)
    }
}

impl Console {
    /// The console that `options` describe.
    pub(crate) fn new(options: &ConsoleOptions) -> Self {
        let colored = match options.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
            }
        };
        Self { verbose: options.verbose, quiet: options.quiet, style: Style { colored } }
    }

    /// Prints results.
    ///
    /// # Errors
    /// The stream's, unless it is that nobody listens any more.
    pub(crate) fn print(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Remarks on standard error, unless they are not wanted.
    pub(crate) fn remark(&self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }
}

/// Says on standard error what is wrong, `flowproof:` before each line; silently if nobody listens.
pub(crate) fn complain(text: &str) {
    let text: String = text.lines().map(|line| format!("flowproof: {line}\n")).collect();
    let _closed = io::stderr().lock().write_all(text.as_bytes());
}

/// The colours that clap's own help should use: it is printed before the options are known.
pub(crate) fn help_colors(arguments: impl Iterator<Item = String>) -> ColorChoice {
    let mut choice = ColorChoice::Auto;
    let mut after_color = false;
    for argument in arguments {
        let value = if after_color { Some(argument.as_str()) } else { argument.strip_prefix("--color=") };
        choice = match value {
            Some("always") => ColorChoice::Always,
            Some("never") => ColorChoice::Never,
            Some(_) | None => choice,
        };
        after_color = argument == "--color";
    }
    choice
}
