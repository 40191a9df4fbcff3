//! Rules of the house that neither rustc nor clippy checks.

use std::fs;
use std::path::Path;

/// Files of others, kept as they came.
const NOT_OURS: &[&str] = &["Cargo.lock", "LICENSE", "examples/mitaka-2016/document.txt"];

/// Directories that are not part of the source, by name, at any depth.
const NOT_SOURCE: &[&str] = &["target", ".git", ".z3"];

/// Lines a source file may have besides its tests.
const LONGEST_FILE: usize = 600;

/// A text file of the repository.
pub(crate) struct Source {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All text files of ours whose name ends in `.extension`; all of them for an empty one.
pub(crate) fn sources(extension: &str) -> impl Iterator<Item = Source> {
    let mut found = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut found);
    let suffix = if extension.is_empty() { String::new() } else { format!(".{extension}") };
    found.into_iter().filter(move |source| source.path.ends_with(&suffix))
}

fn collect(directory: &Path, prefix: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            if !NOT_SOURCE.contains(&name.as_str()) {
                collect(&entry.path(), &format!("{path}/"), found);
            }
        } else if !NOT_OURS.contains(&path.as_str()) {
            // Captures and the like are no text.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                found.push(Source { path, text });
            }
        }
    }
}

/// Numbered lines of the sources for which `offends` holds.
fn offences(extension: &str, offends: impl Fn(&str) -> bool) -> Vec<String> {
    sources(extension)
        .flat_map(|Source { path, text }| {
            let lines: Vec<_> = text
                .lines()
                .enumerate()
                .filter(|(_, line)| offends(line))
                .map(|(at, line)| format!("{path}:{}: {line}", at + 1))
                .collect();
            lines
        })
        .collect()
}

/// Whether the line names a place on somebody's machine.
fn names_a_machine(line: &str) -> bool {
    const HOMES: &[&str] =
        &[concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/")];
    HOMES.iter().any(|home| {
        line.match_indices(home)
            .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_ascii_alphanumeric()))
    })
}

/// Whether the line is an attribute that silences a lint for good; `expect` says why, and complains when it is idle.
fn silences_a_lint(line: &str) -> bool {
    line.trim_start().starts_with('#') && line.contains(concat!("allow", "("))
}

/// Whether the line says that something is unfinished or switched off.
fn is_unfinished(line: &str) -> bool {
    const MARKS: &[&str] = &[
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ig", "nore"),
    ];
    MARKS.iter().any(|mark| line.contains(mark))
}

/// Lines of a source file before its inline tests, which stand last.
fn length_without_tests(text: &str) -> usize {
    let tests = concat!("#[cfg(", "test)]\nmod tests {");
    text.find(tests).and_then(|at| text.get(..at)).unwrap_or(text).lines().count()
}

#[test]
fn no_file_names_a_machine() {
    let found = offences("", names_a_machine);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_lint_is_silenced() {
    let found = offences("rs", silences_a_lint);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let found = offences("rs", is_unfinished);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn files_are_short_enough_to_read() {
    let long: Vec<_> = sources("rs")
        .filter(|source| !source.path.split('/').any(|part| part == "tests"))
        .map(|source| (length_without_tests(&source.text), source.path))
        .filter(|(length, _)| *length > LONGEST_FILE)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_rules_find_what_they_forbid() {
    assert!(sources("rs").any(|source| source.path == "src/main.rs"), "the sources are not where they were");
    assert!(names_a_machine(concat!("see /", "work/x")) && names_a_machine(concat!("\"/", "root/.cargo\"")));
    assert!(!names_a_machine("https://example.org/home/page") && !names_a_machine("network/packet"));
    assert!(silences_a_lint(concat!("    #[allow", "(dead_code)]")) && !silences_a_lint("// allow(x)"));
    assert!(is_unfinished(concat!("// TO", "DO later")) && !is_unfinished("todos are done"));
    assert_eq!(length_without_tests(concat!("a\nb\n#[cfg(", "test)]\nmod tests {\n}\n")), 2);
    assert_eq!(length_without_tests(concat!("a\n#[cfg(", "test)]\nmod tests;\nb\n")), 4);
}
