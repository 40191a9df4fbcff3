//! Where the real switch does something else on purpose of ours: that it does, and how far it goes.

use super::{
    scenario::{self, Pair, Step, Verdict},
    world,
};
use flowproof_ovs::{DatapathAction, RealSwitch, TraceRequest};
use flowproof_packet::{
    Field, FlowKey, PortNo,
    build::{ComposeOptions, FragmentOptions, compose, fragment_with},
    wire::{ethertype, proto},
};
use flowproof_switch::pipeline::{Switch, SwitchConfig};
use std::sync::Arc;

fn datagram(protocol: u8, id: u32) -> Vec<u8> {
    let mut key = FlowKey::default();
    let fields = [
        (Field::DlSrc, 0x0200_0000_0001),
        (Field::DlDst, 0x0200_0000_0002),
        (Field::DlType, u128::from(ethertype::IPV4)),
        (Field::NwSrc, 0x0a00_0001),
        (Field::NwDst, 0x0a00_0002),
        (Field::NwProto, u128::from(protocol)),
        (Field::NwTtl, 64),
    ];
    fields.into_iter().for_each(|(field, value)| key.set(field, value));
    compose(&key, &ComposeOptions { payload_len: 1800, id, ..ComposeOptions::default() })
}

fn fragments(protocol: u8) -> Vec<Vec<u8>> {
    fragment_with(&datagram(protocol, 1), &FragmentOptions { id: 1, ..FragmentOptions::two(1280) }).unwrap()
}

/// A real switch and ours with these flows.
fn both(flows: &str) -> Option<(RealSwitch, Switch)> {
    let world = world::given(flows);
    let mut real = super::start(&world)?;
    real.load(world.flows()).unwrap();
    let ours = Switch::new(Arc::clone(&world.variants[0]), SwitchConfig::new(world.ports.clone()));
    Some((real, ours))
}

/// What comes out differs in these bytes of the payload, and in no others.
#[track_caller]
fn check_difference(protocol: u8, differing: &[usize]) {
    const PAYLOAD: usize = 34;
    let Some((mut real, mut ours)) = both("ip actions=mod_nw_dst:10.0.0.9,output:2") else { return };
    let later = &fragments(protocol)[1];
    let (theirs, ours) = (real.send(1, later).unwrap(), ours.receive(1, later).delivered());
    let ([(2, theirs)], [(2, ours)]) = (theirs.as_slice(), ours.as_slice()) else {
        panic!("{theirs:02x?} {ours:02x?}")
    };
    assert_eq!(theirs.len(), ours.len());
    let found: Vec<usize> = (0..ours.len()).filter(|at| ours[*at] != theirs[*at]).collect();
    let inside = |at: &usize| differing.iter().any(|byte| PAYLOAD + byte == *at);
    assert!(found.iter().all(inside) && found.is_empty() == differing.is_empty(), "{protocol}: {found:?}");
}

#[test]
fn a_checksum_is_corrected_in_the_payload_of_later_fragments_if_an_address_is_written() {
    check_difference(proto::TCP, &[16, 17]);
    check_difference(proto::UDP, &[6, 7]);
    check_difference(proto::ICMP, &[]);
}

/// The suite must not be blinder than that: one more byte is noticed.
#[test]
fn nothing_else_of_later_fragments_is_passed_over() {
    let Some((mut real, mut ours)) = both("ip actions=mod_nw_dst:10.0.0.9,output:2") else { return };
    let crossing = scenario::cross(&mut real, &mut ours, 1, &fragments(proto::TCP)[1]).unwrap();
    assert_eq!(crossing.ours, crossing.theirs);
    let mut other = fragments(proto::TCP).remove(1);
    other[60] ^= 1;
    let different = ours.receive(1, &other).delivered();
    let real = scenario::cross(&mut real, &mut ours, 1, &fragments(proto::TCP)[1]).unwrap().theirs;
    assert_ne!(different, real);
}

/// An address that is cut off cannot be written, and is not there when `ct()` has sent the packet round; only
/// `ofproto/trace` finds it in the key.
#[test]
fn a_header_that_is_cut_off_is_written_by_the_tracer_only() {
    let flows = "table=0,ip actions=mod_nw_src:10.0.0.9,ct(table=1)\n\
                 table=1,priority=2,ip,nw_src=10.0.0.9 actions=output:2\n\
                 table=1,priority=1 actions=output:3\n";
    let Some((mut real, mut ours)) = both(flows) else { return };
    let frame = &datagram(proto::UDP, 1)[..24];
    let traced = real.trace(&TraceRequest { in_port: 1, frame, ct_next: &[] }).unwrap();
    assert_eq!(traced.passes.last().unwrap().actions, [DatapathAction::Output(2)]);
    let sent = real.send(1, frame).unwrap();
    assert_eq!(sent.iter().map(|(port, _)| *port).collect::<Vec<PortNo>>(), [3]);
    assert_eq!(ours.receive(1, frame).delivered(), sent);
}

/// Fragments of one train that came in by two ports leave in an order of the switch's own; it is the same set.
#[test]
fn a_train_from_two_ports_leaves_whole_in_any_order() {
    let world = world::given(
        "ip,in_port=1 actions=ct(table=1,zone=1)\nip,in_port=2 actions=ct(table=2,zone=1)\n\
         table=1 actions=output:2\ntable=2 actions=output:1\n",
    );
    let Some(real) = super::start(&world) else { return };
    let whole = datagram(proto::UDP, 1);
    let options = FragmentOptions { id: 1, next_payload: Some(1280), ..FragmentOptions::two(1232) };
    let big = fragment_with(&whole, &options).unwrap();
    let mut pair = Pair::new(&world, real);
    for (at, frame) in big.iter().enumerate() {
        let verdict = pair.step(&Step::Frame(1 + (at % 2) as PortNo, frame.clone()), true).unwrap();
        assert_eq!(verdict, Verdict::Same, "piece {at}");
    }
}
