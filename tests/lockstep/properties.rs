//! Random policies and packets: the compiled tables do what the model says, but for known divergences.

use flowproof_compiler::Layout;
use flowproof_fuzz::choices::bytes as seeded;
use flowproof_fuzz::scenario::{BYTES, scenario as generate};
use flowproof_fuzz::{Choices, Wishes};
use flowproof_lockstep::{
    Ending, Observation, Patch, Scenario, play as playing, reason, report::explain, shrink, written_down,
};
use flowproof_packet::Field;
use flowproof_switch::flow::{Action, Flow};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Cases of one property; `FLOWPROOF_SOAK` is for thorough runs.
fn cases() -> u32 {
    if std::env::var_os("FLOWPROOF_SOAK").is_some() { 10_000 } else { 150 }
}

/// A scenario of one layout.
fn scenario(bytes: &[u8], layout: Layout) -> Scenario {
    generate(&mut Choices::of(bytes), &Wishes::new(&[layout])).scenario
}

/// Plays a scenario to its end; the first divergence that nobody knows.
fn play(
    scenario: &Scenario,
    layout: Layout,
    visit: impl FnMut(&Observation, Option<&'static str>),
) -> Option<(usize, Box<Observation>)> {
    match playing(scenario, Some(layout), &Patch::default(), visit).ok()? {
        Ending::Holds => None,
        Ending::Unknown(at, seen) => Some((at, seen)),
    }
}

/// Fails with the smallest scenario that can be found.
fn check(bytes: &[u8], layout: Layout) {
    let scenario = scenario(bytes, layout);
    if play(&scenario, layout, |_, _| {}).is_some() {
        let small = shrink(&scenario, |small| play(small, layout, |_, _| {}).is_some());
        let (at, seen) = play(&small, layout, |_, _| {}).unwrap();
        panic!("nobody knows this divergence:\n{small:?}\n{}", explain(&small, at, &seen));
    }
}

fn config() -> ProptestConfig {
    // Failures are made small as scenarios, not as bytes.
    ProptestConfig {
        cases: cases(),
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn mitaka_does_what_the_model_says_but_for_known_defects(bytes in prop::collection::vec(any::<u8>(), BYTES)) {
        check(&bytes, Layout::Mitaka);
    }

    #[test]
    fn neutron_does_what_the_model_says_but_for_known_defects(bytes in prop::collection::vec(any::<u8>(), BYTES)) {
        check(&bytes, Layout::Neutron);
    }

    #[test]
    fn strict_does_what_the_model_says_but_for_known_limits(bytes in prop::collection::vec(any::<u8>(), BYTES)) {
        check(&bytes, Layout::Strict);
    }

    #[test]
    fn any_bytes_give_a_scenario_that_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..BYTES)) {
        let scenario = scenario(&bytes, Layout::Neutron);
        let printed = scenario.to_string();
        let again = flowproof_lockstep::parse(&printed).map_err(|error| TestCaseError::fail(format!("{error}\n{printed}")))?;
        prop_assert_eq!(again, scenario);
    }
}

#[test]
fn what_is_written_down_replays_as_it_was_played() {
    let mut known = 0;
    for (seed, layout) in (0..40).flat_map(|seed| Layout::ALL.map(|layout| (seed, layout))) {
        let scenario = scenario(&seeded(seed, BYTES), layout);
        play(&scenario, layout, |_, name| known += usize::from(name.is_some()));
        let written = written_down(&scenario, layout);
        let run = flowproof_lockstep::run(&written, Some(layout)).unwrap();
        assert!(run.first_divergence().is_none(), "{written:?}");
    }
    assert!(known > 40, "only {known}");
}

/// What makes two flows come from one template: table, priority and ethertype.
fn template(flow: &Flow) -> String {
    let ethertype =
        flow.matching.exact(Field::DlType).map_or_else(String::new, |dl_type| format!(" {dl_type:#06x}"));
    format!("table {}, priority {}:{ethertype}", flow.table, flow.priority)
}

/// Flows that no packet ends in: clauses of conjunctions, and tables that nothing leads to.
fn leads_nowhere(flow: &Flow) -> bool {
    flow.actions.iter().any(|action| matches!(action, Action::Conjunction(_)))
        || matches!(flow.table, 23 | 24)
}

#[derive(Default)]
struct Statistics {
    packets: usize,
    by_rule: usize,
    reasons: BTreeSet<&'static str>,
    hit: BTreeSet<String>,
    there: BTreeMap<String, String>,
    divergences: BTreeMap<&'static str, usize>,
}

fn statistics(layout: Layout) -> Statistics {
    let mut all = Statistics::default();
    for seed in 0..600 {
        play(&scenario(&seeded(seed, BYTES), layout), layout, |seen, known| {
            all.packets += 1;
            let by_rule = |one: &flowproof_model::history::Delivery| {
                one.outcome.is_delivered()
                    && (one.outcome.egress.is_by_rule() || one.outcome.ingress.is_by_rule())
            };
            all.by_rule += usize::from(seen.model.iter().any(by_rule));
            let verdicts = seen.model.iter().flat_map(|one| [&one.outcome.egress, &one.outcome.ingress]);
            all.reasons.extend(verdicts.map(reason::name));
            for flow in seen.tables.flows().iter().filter(|flow| !leads_nowhere(flow)) {
                all.there.entry(template(flow)).or_insert_with(|| flow.to_string());
            }
            let paths = seen
                .outcomes
                .iter()
                .filter_map(|outcome| outcome.trace.as_ref())
                .flat_map(|trace| trace.path());
            all.hit.extend(paths.filter_map(|(_, id)| seen.tables.flow(id)).map(template));
            if let Some(known) = known {
                *all.divergences.entry(known).or_default() += 1;
            }
        });
    }
    all
}

/// Templates that these scenarios have no packet for, by table and priority, and why.
const UNREACHED: &[(&str, u8, u16, &str)] = &[
    ("mitaka", 71, 0, "each port has a lower flow of its own"),
    ("mitaka", 72, 0, "each port has a lower flow of its own"),
    ("mitaka", 73, 0, "each port has a lower flow of its own"),
    ("mitaka", 82, 0, "each port has a lower flow of its own"),
    ("neutron", 0, 65535, "no frame carries the dead VLAN"),
    ("neutron", 30, 0, "local addresses of the agent"),
    ("neutron", 31, 0, "local addresses of the agent"),
    ("neutron", 62, 3, "the agent's, for hardware offload"),
    ("neutron", 71, 0, "each port has a lower flow of its own"),
    ("neutron", 71, 110, "no packet enters already tracked"),
    ("neutron", 72, 0, "each port has a lower flow of its own"),
    ("neutron", 73, 0, "each port has a lower flow of its own"),
    ("neutron", 82, 0, "each port has a lower flow of its own"),
    ("strict", 60, 79, "no other ethertype is for a group"),
    ("strict", 73, 0, "each network has a lower flow of its own"),
    ("strict", 74, 0, "each network has its own flow"),
    ("strict", 83, 0, "each port has a lower flow of its own"),
    ("strict", 71, 120, "no packet enters already tracked"),
];

#[track_caller]
fn check_statistics(layout: Layout, never: &[&str]) {
    let all = statistics(layout);
    assert!(all.by_rule * 100 >= all.packets * 30, "{} of {} packets by rule", all.by_rule, all.packets);
    let missed: Vec<_> = reason::NAMES.iter().filter(|name| !all.reasons.contains(**name)).collect();
    assert_eq!(missed, never.iter().collect::<Vec<_>>(), "reasons that nothing reaches");
    let excused = |flow: &str| {
        UNREACHED.iter().any(|(of, table, priority, _)| {
            *of == layout.name() && flow.starts_with(&format!("table {table}, priority {priority}:"))
        })
    };
    let missed: Vec<_> =
        all.there.iter().filter(|(template, _)| !all.hit.contains(*template) && !excused(template)).collect();
    assert!(missed.is_empty(), "templates that nothing reaches: {missed:#?}");
}

// Nobody is a receiver of what he sends himself, so no hairpin is judged.
#[test]
fn the_generator_reaches_every_reason_and_template_of_mitaka() {
    check_statistics(Layout::Mitaka, &["hairpin"]);
}

#[test]
fn the_generator_reaches_every_reason_and_template_of_neutron() {
    check_statistics(Layout::Neutron, &["hairpin"]);
}

#[test]
fn the_generator_reaches_every_reason_and_template_of_strict() {
    check_statistics(Layout::Strict, &["flooded", "hairpin"]);
}
