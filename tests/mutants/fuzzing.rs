//! Random scenarios under a base's policy, with a defect in its tables: how long until one shows it.
//!
//! The scenarios are those that `flowproof explore` and the fuzz targets draw, with a datapath and an order of flows of one
//! priority that their number decides. Invariant: what counts is a divergence
//! that nobody knows, and that the same scenario has not without the defect.

use super::bases::Base;
use flowproof_fuzz::campaign::bytes_of;
use flowproof_fuzz::scenario::{Wishes, continued};
use flowproof_fuzz::{Choices, Drawn};
use flowproof_lockstep::scenario::Tables;
use flowproof_lockstep::{Patch, Scenario, parse, play};
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::Flow;
use flowproof_switch::table::TieBreak;
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

/// Every datapath with either order of flows of one priority, one after the other.
fn setting(number: u64) -> (Profile, TieBreak) {
    let all = TieBreak::ALL.into_iter().flat_map(|tie| Profile::ALL.map(|profile| (profile, tie)));
    all.cycle().nth((number % 6) as usize).unwrap()
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
        let (datapath, tie) = setting(number);
        let scenario = Scenario { datapath, tie, ..scenario };
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

/// A flow behind those of a base, which fuzzing must find.
#[track_caller]
fn check_found(base: &str, flow: &'static str) {
    let base = super::bases::named(base).unwrap();
    let found = finds(base, Duration::from_secs(20), move |text| Some(format!("{text}{flow}\n")));
    assert!(found.is_some(), "nobody notices `{flow}`");
}

/// Which of two flows of one priority applies is open: it is wrong if one of them is.
#[test]
fn a_flow_that_may_win_over_another_of_its_priority_is_found() {
    check_found(
        "neutron small",
        "table=82,priority=77,ct_state=+new-est,tcp,reg5=0xd,tcp_dst=22,nw_src=10.0.1.0/24 actions=drop",
    );
    check_found("strict small", "table=71,priority=95,arp,in_port=13 actions=drop");
}

/// Connection tracking in userspace calls port 0 invalid.
#[test]
fn what_only_another_datapath_shows_is_found() {
    check_found("neutron small", "table=72,priority=200,ct_state=+new+trk,tcp,tp_dst=0 actions=drop");
}
