//! What long runs have found, as small as it gets: both switches agree on it since.

use super::{
    scenario::{Pair, Step, Verdict},
    world,
};
use flowproof_packet::{
    Field, FlowKey,
    build::{ComposeOptions, FragmentOptions, compose, fragment_with},
    wire::{VLAN_PRESENT, ethertype, proto},
};

fn frame(fields: &[(Field, u128)], payload_len: usize) -> Vec<u8> {
    let mut key = FlowKey::default();
    let common = [(Field::DlSrc, 0x0200_0000_0001), (Field::DlDst, 0x0200_0000_0002), (Field::NwTtl, 64)];
    common.iter().chain(fields).for_each(|(field, value)| key.set(*field, *value));
    compose(&key, &ComposeOptions { payload_len, id: 7, ..ComposeOptions::default() })
}

fn ipv4(protocol: u8, more: &[(Field, u128)], payload_len: usize) -> Vec<u8> {
    let own = [
        (Field::DlType, u128::from(ethertype::IPV4)),
        (Field::NwSrc, 0x0a00_0001),
        (Field::NwDst, 0x0a00_0002),
        (Field::NwProto, u128::from(protocol)),
    ];
    frame(&own.iter().chain(more).copied().collect::<Vec<_>>(), payload_len)
}

#[track_caller]
fn check(flows: &str, steps: &[Step]) {
    let world = world::given(flows);
    let Some(real) = super::start(&world) else { return };
    let mut pair = Pair::new(&world, real);
    for (at, step) in steps.iter().enumerate() {
        assert_eq!(pair.step(step, true).unwrap(), Verdict::Same, "step {at}");
    }
}

/// A fragment of an untagged datagram that has waited too long leaves with a tagged packet, whose tag is taken off.
#[test]
fn a_frame_without_a_tag_loses_nothing_when_a_tag_is_taken_off() {
    let whole = ipv4(proto::UDP, &[], 1800);
    let first = fragment_with(&whole, &FragmentOptions { id: 7, ..FragmentOptions::two(1280) }).unwrap();
    let tagged = frame(
        &[
            (Field::DlType, u128::from(ethertype::IPV6)),
            (Field::Ipv6Src, 0xfd00 << 112 | 1),
            (Field::Ipv6Dst, 0xfd00 << 112 | 2),
            (Field::NwProto, u128::from(proto::UDP)),
            (Field::VlanTci, u128::from(VLAN_PRESENT | 5)),
            (Field::VlanTpid, u128::from(ethertype::VLAN)),
        ],
        100,
    );
    let flows =
        "ip actions=ct(table=1)\nipv6 actions=ct(commit,zone=3),strip_vlan,output:2\ntable=1 actions=drop";
    check(flows, &[Step::Frame(1, first[0].clone()), Step::Wait(16_700), Step::Frame(1, tagged)]);
}

/// Between two `ct()` of one zone the packet gets another port: the second looks up what it has become.
#[test]
fn a_packet_with_another_port_is_looked_up_again() {
    let reset = ipv4(proto::TCP, &[(Field::TcpSrc, 80), (Field::TcpDst, 99), (Field::TcpFlags, 0x14)], 0);
    let flows = "tcp actions=ct(table=1)\n\
                 table=1,tcp,ct_state=+new actions=mod_tp_dst:81,ct(commit),output:2\n\
                 table=1,priority=1 actions=output:3";
    check(flows, &[Step::Frame(1, reset.clone()), Step::Frame(1, reset.clone()), Step::Frame(1, reset)]);
}

/// The same with another address, and with none: there the second `ct()` says what the first one said.
#[test]
fn a_packet_with_another_address_is_looked_up_again() {
    let open = ipv4(proto::TCP, &[(Field::TcpSrc, 80), (Field::TcpDst, 99), (Field::TcpFlags, 2)], 0);
    for written in
        ["mod_nw_dst:10.0.0.9,", "mod_nw_src:10.0.0.9,", "mod_nw_dst:10.0.0.2,", "mod_nw_tos:4,", ""]
    {
        let flows = format!(
            "tcp actions=ct(table=1)\n\
             table=1,tcp actions={written}ct(commit,table=2)\n\
             table=2,tcp,ct_state=+new actions=output:2\ntable=2,tcp,ct_state=+est actions=output:3\n\
             table=2,priority=1 actions=output:1"
        );
        check(&flows, &[Step::Frame(1, open.clone()), Step::Frame(1, open.clone())]);
    }
}
