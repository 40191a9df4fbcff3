//! The command line as scripts see it: exit codes, streams, messages. Every check runs the real binary.

mod apply;
mod brought;
mod compile;
mod diff;
mod formats;
mod general;
mod hostile;
mod inputs;
mod lint;
mod ovs;
mod prove;
mod senders;
mod trace;
mod translation;
mod unmodelled;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// The binary under test, with an environment that cannot colour it.
pub(crate) fn flowproof() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowproof"));
    command.env_remove("NO_COLOR").env("TERM", "xterm").current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Runs `flowproof ARGUMENTS` without any input.
pub(crate) fn run(arguments: &[&str]) -> Run {
    run_with(arguments, &[])
}

/// Runs `flowproof ARGUMENTS` with `input` on standard input.
pub(crate) fn run_with(arguments: &[&str], input: &[u8]) -> Run {
    let mut command = flowproof();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // A program that has seen enough closes its end: that is its right.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Exit code 2, nothing on standard output, and one message that begins with `flowproof:` and has all of `words`.
#[track_caller]
pub(crate) fn check_refused(run: &Run, words: &[&str]) {
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{run:?}");
    assert!(run.err.starts_with("flowproof: "), "{run:?}");
    for word in words {
        assert!(run.err.contains(word), "no {word:?} in {:?}", run.err);
    }
}

/// The example host of the repository.
pub(crate) fn example(file: &str) -> String {
    format!("examples/mitaka-2016/{file}")
}

/// A file of one test, in cargo's directory for such; overwritten by each run.
pub(crate) fn scratch(name: &str, contents: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, contents).unwrap();
    path
}
