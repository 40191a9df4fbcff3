//! The written scenarios: each holds in every layout that it names, but for divergences that are written down.

use flowproof_lockstep::{Scenario, known::classify, parse_with, report::explain, run};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// All scenarios by name.
pub(super) fn scenarios() -> Vec<(String, Scenario)> {
    let mut paths: Vec<_> = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "scn"));
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let file =
            &mut |file: &str| fs::read_to_string(directory().join(file)).map_err(|error| error.to_string());
        let scenario = parse_with(&text, file).unwrap_or_else(|error| panic!("{name}:{error}"));
        (name, scenario)
    };
    paths.iter().map(read).collect()
}

#[test]
fn every_scenario_holds_in_its_layouts_but_for_what_is_written_down() {
    let mut failures = Vec::new();
    let mut runs = 0;
    for (name, scenario) in scenarios() {
        for layout in scenario.layouts() {
            let run = run(&scenario, layout).unwrap_or_else(|error| panic!("{name}:{error}"));
            runs += 1;
            if let Some((at, seen)) = run.first_divergence() {
                failures.push(format!("{name}, {layout:?}:\n{}", explain(&scenario, at, seen)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(runs > 130, "only {runs} runs");
}

#[test]
fn every_scenario_prints_as_what_it_parses_from() {
    for (name, scenario) in scenarios() {
        let file =
            &mut |file: &str| fs::read_to_string(directory().join(file)).map_err(|error| error.to_string());
        let printed = scenario.to_string();
        let again = parse_with(&printed, file).unwrap_or_else(|error| panic!("{name}:{error}\n{printed}"));
        assert_eq!(again, scenario, "{name}");
        assert_eq!(format!("{again:?}"), printed, "{name}");
    }
}

#[test]
fn every_divergence_that_is_written_down_is_known_by_that_name() {
    let mut failures = Vec::new();
    let mut count = 0;
    for (name, scenario) in scenarios() {
        let mut bare = scenario.clone();
        bare.steps.iter_mut().for_each(|step| step.divergences.clear());
        for layout in scenario.layouts() {
            let run = run(&bare, layout).unwrap();
            for (at, seen) in run.observations() {
                let Some(written) = scenario.steps[at].written(layout) else { continue };
                let known = layout.and_then(|layout| classify(layout, seen)).map(|known| known.name);
                count += 1;
                if known != Some(&*written.name) {
                    failures.push(format!(
                        "{name}, {layout:?}, step {}: {known:?}, not {}",
                        at + 1,
                        written.name
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 40, "only {count} divergences");
}

/// Behavioural scenarios of Neutron's own tests that are about another driver, another layer, or the same packets as
/// one of ours: why there is no file of that number.
const LEFT_OUT: &[(u32, &str)] = &[
    (3, "iptables only"),
    (6, "with 5"),
    (8, "iptables only"),
    (12, "source ports cannot be set through the API"),
    (14, "source ports cannot be set through the API"),
    (19, "no packet enters our switch already tracked"),
    (20, "iptables only"),
    (22, "with 21"),
    (24, "with 23"),
    (25, "with 23"),
    (26, "with 23"),
    (28, "not about packets"),
    (31, "with 30"),
    (38, "a migration of iptables"),
];

#[test]
fn every_behavioural_test_of_neutron_has_its_scenario() {
    let numbers: BTreeSet<u32> =
        scenarios().iter().filter_map(|(name, _)| name.strip_prefix('s')?.get(..2)?.parse().ok()).collect();
    let left_out: BTreeSet<u32> = LEFT_OUT.iter().map(|(number, _)| *number).collect();
    assert!(numbers.is_disjoint(&left_out), "{numbers:?}");
    let all: BTreeSet<u32> = numbers.union(&left_out).copied().collect();
    assert_eq!(all, (1..=38).collect());
}

#[test]
fn every_row_about_statefulness_has_its_scenario_in_every_layout() {
    let rows = [
        "reply-only-for",
        "revocation",
        "readmission",
        "invalid-dropped",
        "commit-implies-delivery",
        "no-reverse-pinhole",
    ];
    let all = scenarios();
    for row in rows {
        let of_row = all.iter().filter(|(name, _)| name.starts_with(&format!("c-{row}")));
        let layouts: BTreeSet<_> = of_row
            .flat_map(|(_, scenario)| scenario.layouts())
            .flatten()
            .map(|layout| layout.name())
            .collect();
        assert_eq!(layouts.into_iter().collect::<Vec<_>>(), ["mitaka", "neutron", "strict"], "{row}");
    }
}

#[test]
fn an_idle_divergence_and_a_broken_expectation_are_noticed() {
    let (_, mut scenario) = scenarios().into_iter().find(|(name, _)| name == "even-port").unwrap();
    for step in &mut scenario.steps {
        step.divergences.iter_mut().for_each(|written| written.layouts.clear());
    }
    let strict = run(&scenario, scenario.layouts()[2]).unwrap();
    assert_eq!(strict.first_divergence().unwrap().1.differences.len(), 1);
    assert!(run(&scenario, scenario.layouts()[0]).unwrap().first_divergence().is_none());
    scenario.steps.iter_mut().for_each(|step| step.divergences.clear());
    assert!(run(&scenario, scenario.layouts()[0]).unwrap().first_divergence().is_some());
    scenario.steps[0].expectations.clear();
    scenario.steps[0].expectations.push(flowproof_lockstep::scenario::Expectation::Delivered(Vec::new()));
    assert!(run(&scenario, scenario.layouts()[2]).unwrap().first_divergence().is_some());
}
