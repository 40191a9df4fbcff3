//! Random policies and packets: the compiled tables do what the model says, but for known divergences.

use flowproof_compiler::Layout;
use flowproof_fuzz::campaign::{Counts, Subject, case};
use flowproof_fuzz::choices::bytes as seeded;
use flowproof_fuzz::coverage::{Coverage, unreachable};
use flowproof_fuzz::scenario::{BYTES, scenario as generate};
use flowproof_fuzz::{Choices, Wishes};
use flowproof_lockstep::{
    Ending, Observation, Patch, Scenario, play as playing, report::explain, shrink, written_down,
};
use flowproof_switch::conntrack::Profile;
use proptest::prelude::*;

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

/// Other datapaths reassemble fragments, and track ports of SCTP and its kin.
#[test]
fn every_layout_does_what_the_model_says_on_other_datapaths() {
    for (layout, profile) in
        Layout::ALL.into_iter().flat_map(|layout| OTHERS.map(|profile| (layout, profile)))
    {
        for number in 0..u64::from(cases()) {
            let case = case(&Subject::Compiled(layout, profile), 2, number);
            assert!(case.failing.is_none(), "case {number} of {layout:?} on {profile:?}: {:?}", case.failing);
        }
    }
}

const OTHERS: [Profile; 2] = [Profile::Kernel, Profile::Kernel2016];

/// What 800 cases reach, and how many of their packets some rule lets through.
fn reached(layout: Layout) -> (Coverage, Counts) {
    let (mut coverage, mut counts) = (Coverage::default(), Counts::default());
    for number in 0..800 {
        let case = case(&Subject::Compiled(layout, Profile::Userspace31), 1, number);
        assert!(case.failing.is_none(), "case {number}: {:?}", case.failing);
        coverage.merge(&case.coverage);
        counts.merge(case.counts);
    }
    (coverage, counts)
}

#[track_caller]
fn check_reached(layout: Layout) {
    let (coverage, counts) = reached(layout);
    assert!(counts.by_rule * 100 >= counts.packets * 30, "packets by rule: {counts:?}");
    assert!(counts.steps * 100 >= counts.drawn * 80, "drawn and accepted: {counts:?}");
    assert_eq!(coverage.unnamed(Some(layout)), Vec::<&str>::new(), "reasons that nothing reaches");
    assert_eq!(coverage.missed(Some(layout)), [], "templates that nothing reaches");
    for (template, hit) in &coverage.templates {
        assert!(!hit || unreachable(Some(layout), *template).is_none(), "{template} is reached after all");
    }
}

#[test]
fn the_generator_reaches_every_reason_and_template_of_mitaka() {
    check_reached(Layout::Mitaka);
}

#[test]
fn the_generator_reaches_every_reason_and_template_of_neutron() {
    check_reached(Layout::Neutron);
}

#[test]
fn the_generator_reaches_every_reason_and_template_of_strict() {
    check_reached(Layout::Strict);
}
