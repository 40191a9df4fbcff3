//! The ports that flows speak of, for those who must know who may send or receive before any packet comes.
//!
//! What it means: a port is *named* where a flow matches on it as input port, puts packets out to it, looks them up as if they
//! came from it, writes it into `in_port`, or loads its number where an output reads one (`output:NXM_NX_REG5[]`), be it by way
//! of other fields. A flow *reads* `in_port` where an action takes it for a value, so that ports which no flow names may still be told apart.
//! Invariant: reserved numbers are not named, but for `LOCAL`, which is a port. Deliberately absent: numbers that packets bring along.
//!
//! Source: ovs-fields(7), `in_port`; ovs-actions(7), "output", "resubmit", "enqueue".

use super::{
    Action, Flow, Subfield, Zone,
    ast::{LearnSource, LearnSpec},
};
use flowproof_packet::{Field, FlowKey, PortNo, key::low_bits, port};
use std::collections::BTreeSet;

/// The first number that no port has, but for `LOCAL` (ovs-vswitchd.conf.db(5), `ofport_request`).
const RESERVED: u128 = 0xff00;

/// The ports that `flows` name.
#[must_use]
pub fn named(flows: &[Flow]) -> BTreeSet<PortNo> {
    let mut all: BTreeSet<PortNo> = flows.iter().flat_map(plainly).collect();
    let carriers = carriers(flows);
    let written = flows.iter().flat_map(Flow::all_actions).filter_map(|action| {
        let Action::Set { field, value, mask, .. } = action else { return None };
        Some((*field, *value, *mask))
    });
    for (field, value, mask) in written {
        let reading: Vec<&Subfield> =
            carriers.iter().filter(|part| overlap(Subfield::whole(field), **part)).collect();
        if !reading.is_empty() {
            let mut key = FlowKey::default();
            key.set_masked(field, value, mask);
            all.extend(reading.into_iter().filter_map(|part| number(read(&key, *part))));
        }
    }
    all
}

/// Whether an action of a flow takes the input port for a value.
#[must_use]
pub fn reads_in_port(flow: &Flow) -> bool {
    flow.all_actions().any(reads)
}

fn reads(action: &Action) -> bool {
    let is = |part: &Subfield| overlap(*part, Subfield::whole(Field::InPort));
    match action {
        Action::Move { src, .. } => is(src),
        Action::OutputField(part) | Action::Push(part) => is(part),
        Action::Learn(learn) => learn.specs.iter().any(|spec| match spec {
            LearnSpec::Match { src: LearnSource::Field(part), .. }
            | LearnSpec::Load { src: LearnSource::Field(part), .. }
            | LearnSpec::Output(part) => is(part),
            LearnSpec::Match { .. } | LearnSpec::Load { .. } => false,
        }),
        Action::Ct(ct) => matches!(&ct.zone, Zone::Field(part) if is(part)) || ct.exec.iter().any(reads),
        // Hashes, tunnels: what is not modelled may look at everything.
        Action::Opaque(text) => text.to_ascii_lowercase().contains("in_port"),
        Action::Output(_)
        | Action::Controller(_)
        | Action::Resubmit { .. }
        | Action::GotoTable(_)
        | Action::Set { .. }
        | Action::ModVlanVid(_)
        | Action::RetagUnclear { .. }
        | Action::ModVlanPcp(_)
        | Action::StripVlan
        | Action::PushVlan(_)
        | Action::DecTtl(_)
        | Action::CtClear
        | Action::Conjunction(_)
        | Action::Note(_)
        | Action::OutputTruncated { .. }
        | Action::Enqueue { .. }
        | Action::Pop(_)
        | Action::Clone(_)
        | Action::Exit
        | Action::SetQueue(_)
        | Action::PopQueue
        | Action::Group(_)
        | Action::Meter(_)
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::CheckPktLarger { .. }
        | Action::WriteActions(_)
        | Action::Begin(_)
        | Action::End
        | Action::ClearActions => false,
    }
}

/// The ports that a flow names outright.
fn plainly(flow: &Flow) -> impl Iterator<Item = PortNo> {
    let matched = flow.matching.exact(Field::InPort);
    let by_action = flow.all_actions().filter_map(|action| {
        let (Action::Output(number)
        | Action::Resubmit { port: Some(number), .. }
        | Action::OutputTruncated { port: number, .. }
        | Action::Enqueue { port: number, .. }) = action
        else {
            return None;
        };
        Some(u128::from(*number))
    });
    matched.into_iter().chain(by_action).filter_map(number)
}

fn number(value: u128) -> Option<PortNo> {
    let is_port = (1..RESERVED).contains(&value) || value == u128::from(port::LOCAL);
    PortNo::try_from(value).ok().filter(|_| is_port)
}

/// What may come to hold the number of a port: what outputs read, the input port, and what is moved there.
fn carriers(flows: &[Flow]) -> Vec<Subfield> {
    let actions = || flows.iter().flat_map(Flow::all_actions);
    let mut all = vec![Subfield::whole(Field::InPort)];
    for part in
        actions().filter_map(|action| if let Action::OutputField(part) = action { Some(*part) } else { None })
    {
        if !all.contains(&part) {
            all.push(part);
        }
    }
    let moves: Vec<(Subfield, Subfield)> = actions()
        .filter_map(|action| if let Action::Move { src, dst } = action { Some((*src, *dst)) } else { None })
        .collect();
    // What is taken from the stack is anything that was put there.
    if actions().any(|action| matches!(action, Action::Pop(_))) {
        all.extend(
            actions().filter_map(|action| if let Action::Push(part) = action { Some(*part) } else { None }),
        );
    }
    let mut known = 0;
    while known < all.len() {
        known = all.len();
        for (src, dst) in &moves {
            if all.iter().any(|part| overlap(*part, *dst)) && !all.contains(src) {
                all.push(*src);
            }
        }
    }
    all
}

/// The bits of the key that a subfield stands for.
const fn bits(part: Subfield) -> (u16, u16) {
    let spec = part.field.spec();
    let end = spec.offset + spec.width - part.start;
    (end - part.width, end)
}

const fn overlap(a: Subfield, b: Subfield) -> bool {
    let (a, b) = (bits(a), bits(b));
    a.0 < b.1 && b.0 < a.1
}

fn read(key: &FlowKey, part: Subfield) -> u128 {
    key.get(part.field) >> part.start & low_bits(part.width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ParseOptions, parse_flows};

    fn flows(text: &str) -> Vec<Flow> {
        parse_flows(text, &ParseOptions::default()).unwrap().flows
    }

    #[track_caller]
    fn check(text: &str, ports: &[PortNo]) {
        assert_eq!(named(&flows(text)).into_iter().collect::<Vec<_>>(), ports, "{text}");
    }

    #[test]
    fn every_place_that_holds_the_number_of_a_port_names_it() {
        check("in_port=7 actions=drop", &[7]);
        check("in_port=LOCAL actions=output:5,LOCAL", &[5, port::LOCAL]);
        check("actions=resubmit(9,3)", &[9]);
        check("actions=enqueue:4:1,output(port=6,max_len=100),clone(output:8)", &[4, 6, 8]);
        check(
            "actions=load:7->NXM_NX_REG1[],push:NXM_NX_REG1[0..15],pop:NXM_NX_REG2[0..15],output:NXM_NX_REG2[0..15]",
            &[7],
        );
        check("actions=load:10->NXM_OF_IN_PORT[],NORMAL", &[10]);
        check(
            "actions=load:0x49->NXM_NX_REG2[],goto_table:80\ntable=80 actions=output:NXM_NX_REG2[]",
            &[0x49],
        );
        check(
            "actions=load:0x49->NXM_NX_REG3[],move:NXM_NX_REG3[0..15]->NXM_NX_REG2[0..15],output:NXM_NX_REG2[0..15]",
            &[0x49],
        );
        check("actions=set_field:0x4900000000->xreg0,output:NXM_NX_REG0[]", &[0x49]);
    }

    #[test]
    fn numbers_that_are_no_ports_or_are_read_by_no_output_name_none() {
        check("actions=load:10->NXM_NX_REG5[],NORMAL,FLOOD,IN_PORT", &[]);
        check("actions=load:0->NXM_OF_IN_PORT[],load:0xff01->NXM_NX_REG0[],output:NXM_NX_REG0[]", &[]);
    }

    #[test]
    fn what_takes_the_input_port_for_a_value_reads_it() {
        let reads = |text: &str| flows(text).iter().any(reads_in_port);
        assert!(reads("actions=move:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]"));
        assert!(reads("actions=output:NXM_OF_IN_PORT[]"));
        assert!(reads("actions=learn(table=3,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"));
        assert!(!reads("in_port=3 actions=load:7->NXM_OF_IN_PORT[],IN_PORT,resubmit(2,3)"));
    }
}
