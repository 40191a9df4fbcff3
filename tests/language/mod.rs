//! The language of flows as its own generator: a slice of what `make soak` runs, with fixed seeds.
//!
//! A comparison is one frame through one table. `FLOWPROOF_SEED` chooses another seed, `FLOWPROOF_LANGUAGE` so many
//! comparisons for each judge.

use flowproof_fuzz::language::matrix::Matrix;
use flowproof_fuzz::language::tables::{self, Wish};
use flowproof_fuzz::language::{actions, fields, planted};
use flowproof_fuzz::oracles::Objection;
use flowproof_fuzz::oracles::language::{self, Tally};
use flowproof_ovs::{Judge, refused_by_the_tool};
use flowproof_packet::Field;
use std::collections::BTreeSet;
use std::env;
use std::io::{Write, stderr};
use std::time::Instant;

fn number(variable: &str) -> Option<u64> {
    env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}: `{text}` is no number")))
}

/// Cases in turn until so many frames were compared; what they came to is printed.
#[track_caller]
fn check(judge: &str, usual: u64, mut case: impl FnMut(u64, u64) -> Result<Tally, Objection>) -> Tally {
    let (seed, wanted) =
        (number("FLOWPROOF_SEED").unwrap_or(1), number("FLOWPROOF_LANGUAGE").unwrap_or(usual));
    let (began, mut sum, mut cases) = (Instant::now(), Tally::default(), 0);
    while sum.compared < wanted {
        match case(seed, cases) {
            Ok(tally) => sum.merge(&tally),
            Err(Objection(why)) => panic!("{judge}: seed {seed}, case {cases}: {why}"),
        }
        cases += 1;
        assert!(cases < 100 * (1 + wanted / 60), "{judge}: most cases compare nothing");
    }
    let (taken, refused) = sum.flows;
    let _nobody_listens = writeln!(
        stderr(),
        "language, {judge}: {} compared in {cases} tables, seed {seed}, {:.1} s; {taken} flows taken, {refused} refused; {} tables passed over",
        sum.compared,
        began.elapsed().as_secs_f64(),
        sum.passed_over
    );
    sum
}

/// Whether there is no real switch and need not be.
fn is_missing() -> bool {
    match refused_by_the_tool("actions=drop") {
        Err(error) if error.is_missing() && env::var_os("CI").is_none() => {
            let _nobody_listens = writeln!(stderr(), "NOT COMPARED with a real switch: {error}");
            true
        }
        _ => false,
    }
}

/// What is said of every pair of field and action is of what is drawn only: drawing is quick, and what a table has a packet
/// reaches if it is looked for long enough.
#[test]
fn every_cell_that_the_language_has_is_generated() {
    let mut matrix = Matrix::default();
    let mut taken = (0, 0);
    for number in 0..40 * tables::goals() {
        if number > tables::goals() && number % 1000 == 0 && matrix.empty().is_empty() {
            break;
        }
        let mut choices = language::choices(1, number as u64);
        let drawn = tables::draw(&mut choices, Wish { goal: Some(number), ..Wish::default() });
        matrix.generated(&drawn.flows);
        taken = (taken.0 + drawn.lines.len(), taken.1 + drawn.refused.len());
    }
    let empty: Vec<String> = matrix
        .empty()
        .iter()
        .map(|(field, kind, role)| format!("{} {kind} {role:?}", field.spec().name))
        .collect();
    let (filled, _, all) = matrix.counts();
    let _nobody_listens =
        writeln!(stderr(), "language: {filled} of {all} cells, flows taken {}, refused {}", taken.0, taken.1);
    assert!(empty.is_empty(), "{} of {all} cells are empty: {empty:#?}", empty.len());
    assert!(taken.1 * 4 < taken.0, "too many flows are refused");
}

#[test]
fn every_field_and_every_kind_of_action_has_its_place() {
    let named: BTreeSet<Field> = fields::matchable().collect();
    let left: Vec<&str> = Field::all()
        .filter(|field| field.spec().is_matchable() && !named.contains(field))
        .map(|field| field.spec().name)
        .collect();
    // The real tool has no way to say these: they are in no version of OpenFlow, or only the datapath's.
    assert_eq!(left, ["recirc_id", "tun_ttl", "tun_tos", "skb_priority"]);
    let kinds: BTreeSet<&str> = actions::ACTIONS.iter().map(|row| row.name).collect();
    assert_eq!(kinds.len(), actions::ACTIONS.len(), "a kind has two rows");
}

#[test]
fn all_packets_at_once_go_where_one_packet_goes() {
    check("symbolic", 6000, |seed, number| {
        Ok(language::against_symbolic(seed, number).map_err(|found| *found)?)
    });
}

#[test]
fn no_frame_violates_what_is_proved() {
    check("proofs", 6000, language::against_proofs);
}

#[test]
fn frames_lie_in_the_classes_of_a_difference() {
    check("diff", 1500, language::against_difference);
}

#[test]
fn no_frame_hits_what_no_frame_hits() {
    check("lint", 4000, language::against_lint);
}

#[test]
fn the_real_tool_takes_the_flows_that_we_take() {
    if !is_missing() {
        check("tool", 250, language::against_tool);
    }
}

#[test]
fn a_real_switch_does_to_frames_what_the_interpreter_does() {
    if is_missing() {
        return;
    }
    let mut judge = Judge::summon().unwrap();
    check("real", 2000, |seed, number| language::against_real(&mut judge, seed, number));
}

#[test]
fn every_planted_defect_can_be_planted_still() {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{root}/fuzz/planted.txt")).unwrap();
    let entries = planted::entries(&text);
    assert!(entries.len() >= 15, "only {}", entries.len());
    for entry in entries {
        let source = std::fs::read_to_string(format!("{root}/{}", entry.file)).unwrap();
        assert_ne!(entry.edited(&source).unwrap_or_else(|why| panic!("{}: {why}", entry.name)), source);
    }
}
