//! The arrows between the crates, read from the manifests: who may know whom.

use crate::tidy::{Source, sources};
use serde_json::Value;
use std::process::Command;

/// Each crate with the crates of ours it may depend on (directly or for its tests). `model` and `switch` do not know
/// each other: a shared matcher or connection state would let one mistake cancel out in both.
const ARROWS: &[(&str, &[&str])] = &[
    ("flowproof-packet", &[]),
    ("flowproof-model", &["packet"]),
    ("flowproof-switch", &["packet"]),
    // The real switch in a private directory: it judges the interpreter, so nothing below the suites may lean on it.
    ("flowproof-ovs", &["packet", "switch"]),
    ("flowproof-compiler", &["packet", "model", "switch"]),
    ("flowproof-lockstep", &["packet", "model", "switch", "compiler"]),
    ("flowproof-proofs", &["packet", "model", "switch", "compiler", "lockstep"]),
    ("flowproof-fuzz", &["packet", "model", "switch", "compiler", "lockstep", "proofs", "ovs"]),
    // Measures what the others do; nobody knows it.
    ("flowproof-bench", &["packet", "model", "switch", "compiler", "proofs", "ovs"]),
    ("flowproof", &["packet", "model", "switch", "compiler", "lockstep", "proofs", "fuzz", "ovs"]),
];

/// Crates of others that only one of ours may know, and the `cfg` it must stand under.
const RESERVED: &[(&str, &str, Option<&str>)] = &[
    ("z3", "flowproof-proofs", None),
    ("z3-sys", "flowproof-proofs", None),
    ("libfuzzer-sys", "flowproof-fuzz", Some("cfg(fuzzing)")),
];

/// What the compiler may use of its neighbours: syntax, never a semantics.
const COMPILER_MAY_USE: &[(&str, &str)] = &[("flowproof_switch", "flow"), ("flowproof_model", "policy")];

/// One dependency in one manifest.
#[derive(Debug, Clone, Copy)]
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    target: Option<&'a str>,
}

/// Why `arrow` may not be, if it may not.
fn objection(arrow: Arrow<'_>) -> Option<String> {
    let Arrow { from, to, target } = arrow;
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
        return Some(format!("`{from}` is not in the table of crates"));
    };
    if let Some((_, owner, cfg)) = RESERVED.iter().find(|(name, ..)| *name == to) {
        return (from != *owner || cfg.is_some() && *cfg != target).then(|| {
            format!("`{from}` depends on `{to}`, which is for `{owner}` {}", cfg.unwrap_or_default())
        });
    }
    let ours = to == "flowproof" || to.starts_with("flowproof-");
    let permitted = to.strip_prefix("flowproof-").is_some_and(|short| allowed.contains(&short));
    (ours && !permitted).then(|| format!("`{from}` depends on `{to}`"))
}

/// The lines of a compiler source that use more of a neighbour than its syntax.
fn improper_uses(source: &str) -> Vec<String> {
    let improper = |line: &&str| {
        COMPILER_MAY_USE.iter().any(|(neighbour, module)| {
            line.match_indices(neighbour)
                .any(|(at, _)| !line[at + neighbour.len()..].starts_with(&format!("::{module}")))
        })
    };
    source.lines().filter(improper).map(str::to_owned).collect()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn crates_depend_along_the_arrows_only() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() >= 3, "the workspace has lost its members");
    let mut objections = Vec::new();
    for package in packages {
        let from = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let arrow = Arrow {
                from,
                to: dependency["name"].as_str().unwrap(),
                target: dependency["target"].as_str(),
            };
            objections.extend(objection(arrow));
        }
        assert!(ARROWS.iter().any(|(name, _)| *name == from), "`{from}` is not in the table of crates");
    }
    assert!(objections.is_empty(), "{objections:#?}");
}

#[test]
fn the_compiler_uses_syntax_only() {
    let mut found = Vec::new();
    for Source { path, text } in sources("rs").filter(|source| source.path.starts_with("compiler/")) {
        found.extend(improper_uses(&text).into_iter().map(|line| format!("{path}: {line}")));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[track_caller]
fn check(from: &str, to: &str, target: Option<&str>, allowed: bool) {
    let objection = objection(Arrow { from, to, target });
    assert_eq!(objection.is_none(), allowed, "{from} → {to}: {objection:?}");
}

#[test]
fn forbidden_arrows_are_noticed() {
    check("flowproof-switch", "flowproof-packet", None, true);
    check("flowproof-switch", "flowproof-model", None, false);
    check("flowproof-model", "flowproof-switch", None, false);
    check("flowproof-packet", "flowproof-switch", None, false);
    check("flowproof-lockstep", "flowproof-proofs", None, false);
    check("flowproof-switch", "flowproof-ovs", None, false);
    check("flowproof-proofs", "flowproof", None, false);
    check("flowproof-proofs", "flowproof-lockstep", None, true);
    check("flowproof-switch", "smallvec", None, true);
    check("flowproof-proofs", "z3", None, true);
    check("flowproof", "z3", None, false);
    check("flowproof-fuzz", "libfuzzer-sys", Some("cfg(fuzzing)"), true);
    check("flowproof-fuzz", "libfuzzer-sys", None, false);
    check("flowproof-proofs", "libfuzzer-sys", Some("cfg(fuzzing)"), false);
    check("flowproof-stranger", "smallvec", None, false);
}

#[test]
fn forbidden_uses_are_noticed() {
    assert!(
        improper_uses("use flowproof_switch::flow::Flow;\nuse flowproof_model::policy::Rule;").is_empty()
    );
    assert_eq!(improper_uses("use flowproof_switch::conntrack::Profile;").len(), 1);
    assert_eq!(improper_uses("use flowproof_model::{policy, semantics};").len(), 1);
    assert_eq!(improper_uses("use flowproof_switch as switch;").len(), 1);
}
