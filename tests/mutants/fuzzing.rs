//! Random scenarios under a base's policy, with a defect in its tables: how long until one shows it.
//!
//! The scenarios are those that `flowproof explore` and the fuzz targets draw. Invariant: what counts is a divergence
//! that nobody knows, and that the same scenario has not without the defect.

use super::bases::Base;
use flowproof_fuzz::campaign::bytes_of;
use flowproof_fuzz::scenario::{Wishes, continued};
use flowproof_fuzz::{Choices, Drawn};
use flowproof_lockstep::scenario::Tables;
use flowproof_lockstep::{Patch, Scenario, parse, play};
use flowproof_switch::flow::Flow;
use std::collections::HashMap;
use std::time::Duration;

/// Where the scenarios come from.
const SEED: u64 = 1;

/// The processor's time that this thread was given: other work on the machine does not count.
pub(super) fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The flows after a change of their text; what it leaves as it was is not read again.
fn changed(flows: Vec<Flow>, change: impl Fn(&str) -> Option<String>) -> Vec<Flow> {
    let text: String = flows.iter().map(|flow| format!("{flow}\n")).collect();
    let Some(after) = change(&text) else { return flows };
    let known: HashMap<&str, &Flow> = text.lines().zip(&flows).collect();
    let read = |line| known.get(line).map_or_else(|| super::bases::flows(line), |flow| vec![(*flow).clone()]);
    // A flow that is deleted leaves an empty line.
    after.lines().filter(|line| !line.trim().is_empty()).flat_map(read).collect()
}

/// How long fuzzing takes to notice this change of the tables, whenever they are compiled; none within `limit`.
pub(super) fn finds(
    base: Base,
    limit: Duration,
    change: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> Option<Duration> {
    let patch = Patch::new(move |flows| changed(flows, &change)).remembering();
    let sound = Patch::default().remembering();
    let layouts = [base.layout()];
    let mut scenario = parse(&base.story()).unwrap();
    scenario.tables = Tables::Compiled(layouts.to_vec());
    let diverges = |scenario: &Scenario, patch: &Patch| {
        play(scenario, Some(base.layout()), patch, |_, _| {}).is_ok_and(|ending| ending.is_unknown())
    };
    let began = spent();
    for number in 0.. {
        let bytes = bytes_of(SEED, number);
        let choices = &mut Choices::of(&bytes);
        let Drawn { scenario, .. } = continued(choices, &Wishes::new(&layouts), scenario.clone());
        if diverges(&scenario, &patch) && !diverges(&scenario, &sound) {
            return Some(spent() - began);
        }
        if spent() - began > limit {
            break;
        }
    }
    None
}

#[test]
fn fuzzing_finds_a_defect_and_nothing_in_tables_without_one() {
    let base = super::bases::named("neutron small").unwrap();
    let limit = Duration::from_secs(2);
    assert_eq!(finds(base, limit, |_| None), None);
    let deaf = |text: &str| Some(text.replace("ct(commit,zone=NXM_NX_REG6[0..15]),", ""));
    assert!(finds(base, 10 * limit, deaf).is_some());
}
