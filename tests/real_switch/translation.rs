//! Address translation in pipelines: what a packet is behind a `ct(nat)`, for lookup, for later actions, and on the wire.

use super::{
    scenario::{Pair, Step, Verdict},
    world,
};
use flowproof_packet::{
    Field, FlowKey,
    build::{ComposeOptions, compose},
};

/// A UDP datagram between hosts of 10.0.0.0/24.
fn datagram(src: u128, dst: u128, ports: (u128, u128)) -> Vec<u8> {
    let mut key = FlowKey::default();
    let fields = [
        (Field::DlSrc, 0x0200_0000_0001),
        (Field::DlDst, 0x0200_0000_0002),
        (Field::DlType, 0x0800),
        (Field::NwTtl, 64),
        (Field::NwProto, 17),
        (Field::NwSrc, 0x0a00_0000 | src),
        (Field::NwDst, 0x0a00_0000 | dst),
        (Field::UdpSrc, ports.0),
        (Field::UdpDst, ports.1),
    ];
    fields.into_iter().for_each(|(field, value)| key.set(field, value));
    compose(&key, &ComposeOptions { payload_len: 9, id: 7, ..ComposeOptions::default() })
}

#[track_caller]
fn check(flows: &str, frames: &[(u16, Vec<u8>)]) {
    let world = world::named(flows);
    let Some(real) = super::start(&world) else { return };
    let mut pair = Pair::new(&world, real);
    for (at, (port, frame)) in frames.iter().enumerate() {
        let step = Step::Frame(*port, frame.clone());
        assert_eq!(pair.step(&step, true).unwrap(), Verdict::Same, "{flows}: step {at}");
    }
}

/// The flow key keeps the addresses that the packet had, and only what is written after is written.
#[test]
fn the_rest_of_a_list_goes_on_with_the_translated_packet_and_the_old_key() {
    let there = (1, datagram(1, 2, (1000, 53)));
    for list in [
        "ct(commit,nat(src=10.0.0.9)),output:2",
        "ct(commit,nat(src=10.0.0.9)),mod_nw_src:10.0.0.50,output:2",
        "ct(commit,nat(src=10.0.0.9)),mod_nw_dst:10.0.0.50,output:2",
        "ct(commit,nat(src=10.0.0.9)),mod_nw_src:10.0.0.1,output:2",
        "mod_nw_dst:10.0.0.44,ct(commit,nat(src=10.0.0.9)),mod_nw_dst:10.0.0.2,output:2",
        "output:3,ct(commit,nat(src=10.0.0.9)),mod_tp_src:77,output:2",
        "ct(commit,nat(src=10.0.0.9)),ct(commit,zone=3,nat(dst=10.0.0.8)),output:2",
        "ct(commit,nat(src=10.0.0.9)),ct(nat,table=9),output:2",
        "ct(commit,nat(src=10.0.0.9)),resubmit(,9)",
        "ct(commit,nat(src=10.0.0.9)),ct_clear,ct(table=9),output:2",
        "ct(commit,nat(src=10.0.0.9),table=9),output:2",
    ] {
        let flows = format!(
            "udp actions={list}\ntable=9,ip,nw_src=10.0.0.9 actions=output:3\ntable=9,priority=1,ip actions=output:1"
        );
        check(&flows, &[there.clone(), there.clone()]);
    }
}

#[test]
fn a_translated_copy_is_looked_up_as_it_is_and_answers_come_back() {
    let flows = "in_port=1,ip actions=ct(commit,zone=1,nat(dst=10.0.0.9:80),table=1)\n\
                 in_port=2,ip actions=ct(zone=1,nat,table=2)\n\
                 table=1,ip,ct_state=+dnat-snat,nw_dst=10.0.0.9 actions=output:2\n\
                 table=1,priority=1,ip actions=output:3\n\
                 table=2,ip,ct_state=+snat+rpl,nw_src=10.0.0.2 actions=output:1\n\
                 table=2,priority=1,ip actions=output:3";
    let (there, back) = (datagram(1, 2, (1000, 53)), datagram(9, 1, (80, 1000)));
    check(flows, &[(1, there.clone()), (2, back.clone()), (1, there), (2, back)]);
}

/// In a host with a Local IP, which Neutron's extension translates.
#[test]
fn a_local_ip_is_translated_on_the_way_out() {
    let flows = include_str!("../fixtures/field/local-ip/local-ip.flows");
    let mut frame = datagram(0, 0, (1000, 53));
    frame[0..6].copy_from_slice(&[0xfa, 0x16, 0x3e, 0x5c, 0x25, 0x9d]);
    frame[6..12].copy_from_slice(&[0xfa, 0x16, 0x3e, 0xe9, 0xf9, 0xc8]);
    let ends =
        |src, dst| flowproof_packet::wire::Ends { src: Some(src), dst: Some(dst), ..Default::default() };
    let frame = |src, dst| flowproof_packet::wire::translate(&frame, &ends(src, dst));
    let (own, local, other) = (0x0a00_0108, 0x0a00_010a, 0x0a00_0107);
    check(flows, &[(13, frame(own, local)), (13, frame(own, other)), (13, frame(other, local))]);
}
