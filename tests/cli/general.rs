//! What holds for every subcommand.

use super::{flowproof, run};
use std::process::Stdio;

/// The subcommands, as the program lists them.
fn subcommands() -> Vec<String> {
    let help = run(&["--help"]).out;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    commands
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn every_subcommand_has_help_with_examples() {
    let names = subcommands();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let help = run(&[&name, "--help"]);
        assert_eq!(help.code, Some(0), "{name}");
        assert!(help.out.contains(&format!("Examples:\n  flowproof {name}")), "{name}: {}", help.out);
    }
}

/// The examples in a subcommand's help, continued lines joined.
fn examples(name: &str) -> Vec<String> {
    let help = run(&[name, "--help"]).out.replace("\\\n", " ");
    let lines =
        help.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn examples_on_files_of_the_repository_work() {
    let mut ran = 0;
    for example in subcommands().iter().flat_map(|name| examples(name)) {
        let words: Vec<_> = example.split_whitespace().collect();
        if words.iter().any(|word| word.starts_with("examples/")) {
            let run = run(&words[1..]);
            assert!(run.code.is_some_and(|code| code < 2), "{example}: {run:?}");
            ran += 1;
        }
    }
    assert!(ran >= 2, "the help has lost its examples");
}

/// Commands of the README on files of the repository, each with the lines of output that it shows.
fn readme_examples() -> Vec<(String, Vec<String>)> {
    let readme = std::fs::read_to_string("README.md").unwrap().replace("\\\n", " ");
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut in_console = false;
    for line in readme.lines() {
        let command = line.strip_prefix("$ ").unwrap_or(line);
        if line.starts_with("```") {
            in_console = line == "```console";
        } else if command.starts_with("flowproof ") && command.contains(" examples/") {
            found.push((command.to_owned(), Vec::new()));
        } else if in_console && !line.trim().is_empty() && line.trim() != "…" {
            found.last_mut().unwrap().1.push(line.to_owned());
        }
    }
    found
}

#[test]
fn the_readme_shows_what_happens() {
    let examples = readme_examples();
    assert!(examples.len() >= 3, "{examples:?}");
    for (command, lines) in examples {
        let words: Vec<_> = command.split_whitespace().skip(1).collect();
        let run = run(&words);
        assert!(run.code.is_some_and(|code| code < 2), "{command}: {run:?}");
        for line in lines {
            assert!(run.out.contains(&line), "{command}: no {line:?} in {}", run.out);
        }
    }
}

#[test]
fn help_fits_80_columns() {
    for name in subcommands() {
        let help = run(&[&name, "--help"]).out;
        let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{name}: {long:#?}");
    }
}

#[test]
fn every_subcommand_has_a_manual_page() {
    for name in subcommands() {
        let page = run(&["man", &name]);
        assert_eq!(page.code, Some(0), "{name}");
        assert!(page.out.contains(&format!(".TH flowproof-{name} 1")), "{name}: {}", page.out);
    }
    assert!(run(&["man"]).out.contains(".TH flowproof 1"));
    assert_eq!(run(&["man", "nothing"]).code, Some(2));
}

#[test]
fn every_shell_gets_completions_for_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{shell}");
        for name in subcommands() {
            assert!(script.out.contains(&name), "{shell} does not know {name}");
        }
    }
}

#[test]
fn wrong_usage_exits_2_and_writes_nothing() {
    for arguments in
        [&[][..], &["fly"], &["trace"], &["lint"], &["lint", "--nonsense", "x"], &["--color", "pink"]]
    {
        let run = run(arguments);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!run.err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn version_is_the_manifests() {
    assert_eq!(run(&["--version"]).out, format!("flowproof {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child =
        flowproof().args(["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = flowproof().args(["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("flowproof: cannot write"));
}
