//! What a real Open vSwitch 3.1 did with small tables and single frames, replayed byte for byte.
//!
//! The fixtures and their format: `tests/fixtures/ovs/fixture.py`. A failure lists all cases that differ.

#[cfg(test)]
#[path = "pipeline_support/replay.rs"]
mod replay;

#[test]
fn small_tables_do_what_the_real_switch_does() {
    replay::check(include_str!("../../tests/fixtures/ovs/semantics.tsv"), 304);
}

#[test]
fn constructs_do_what_the_real_switch_does() {
    replay::check(include_str!("../../tests/fixtures/ovs/constructs.tsv"), 140);
}

#[test]
fn the_host_of_2016_does_what_the_real_switch_does() {
    replay::check(include_str!("../../tests/fixtures/ovs/scenarios.tsv"), 136);
}

#[test]
fn stateless_traces_say_what_ofproto_trace_says() {
    replay::check(include_str!("../../tests/fixtures/ovs/trace.tsv"), 2 * (126 * 8 + 24));
}

#[test]
fn random_tables_do_what_the_real_switch_does() {
    replay::check(include_str!("../../tests/fixtures/ovs/random.tsv"), 480);
}
