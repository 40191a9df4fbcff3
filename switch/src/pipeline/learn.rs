//! The flow that `learn(…)` makes of a packet.
//!
//! Deliberately absent: its timeouts, which nothing here waits for, and `delete_learned`: flows go only with all others.
//!
//! Source: ovs-actions(7), "The learn action"; experiments with Open vSwitch 3.1.

use super::write;
use crate::flow::{Action, Flow, FlowFlags, Learn, LearnSource, LearnSpec, Match, Subfield, ast::SetForm};
use flowproof_packet::{FlowKey, PortNo, key::low_bits};

fn value(src: LearnSource, key: &FlowKey) -> u128 {
    match src {
        LearnSource::Value(value) => value,
        LearnSource::Field(part) => write::read(key, part),
    }
}

fn bits(dst: Subfield, value: u128) -> (u128, u128) {
    let mask = low_bits(dst.width);
    ((value & mask) << dst.start, mask << dst.start)
}

/// What a packet with this key has learned.
pub(super) fn flow(learn: &Learn, key: &FlowKey) -> Flow {
    let (mut matching, mut actions) = (Match::default(), Vec::new());
    for spec in &learn.specs {
        match *spec {
            LearnSpec::Match { dst, src } => {
                let (value, mask) = bits(dst, value(src, key));
                matching.set(dst.field, value, mask);
            }
            LearnSpec::Load { dst, src } => {
                let (value, mask) = bits(dst, value(src, key));
                actions.push(Action::Set { field: dst.field, value, mask, form: SetForm::Load });
            }
            LearnSpec::Output(src) => {
                actions.extend(PortNo::try_from(write::read(key, src)).ok().map(Action::Output));
            }
        }
    }
    let [idle_timeout, hard_timeout, ..] = learn.timeouts;
    Flow {
        table: learn.table,
        priority: learn.priority,
        cookie: learn.cookie,
        idle_timeout,
        hard_timeout,
        flags: FlowFlags { send_flow_rem: learn.send_flow_rem, ..FlowFlags::default() },
        matching,
        actions,
        ..Flow::default()
    }
}
