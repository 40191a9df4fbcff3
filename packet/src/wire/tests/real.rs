//! Keys of hand-written frames as a real Open vSwitch 3.1 extracted them, and frames as it rewrote them.

use super::bytes;
use crate::{Field, FlowKey, MacAddr, wire};
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const FLOWS: &str = include_str!("../../../tests/fixtures/real-flows.tsv");
const COMMITS: &str = include_str!("../../../tests/fixtures/real-commits.tsv");

/// The four columns of every line of a fixture.
pub(super) fn rows(fixture: &'static str) -> impl Iterator<Item = [&'static str; 4]> {
    let lines = fixture.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').collect::<Vec<_>>().try_into().unwrap())
}

/// Protocol keywords of ovs-ofctl: ethertype, IP protocol.
const KEYWORDS: &[(&str, u16, u8)] = &[
    ("ip", 0x0800, 0),
    ("tcp", 0x0800, 6),
    ("udp", 0x0800, 17),
    ("sctp", 0x0800, 132),
    ("icmp", 0x0800, 1),
    ("ipv6", 0x86dd, 0),
    ("tcp6", 0x86dd, 6),
    ("udp6", 0x86dd, 17),
    ("sctp6", 0x86dd, 132),
    ("icmp6", 0x86dd, 58),
    ("arp", 0x0806, 0),
    ("rarp", 0x8035, 0),
    ("mpls", 0x8847, 0),
    ("mplsm", 0x8848, 0),
];

const FLAGS: &[&str] =
    &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];

fn number(text: &str) -> u128 {
    let hex = text.strip_prefix("0x").map(|digits| u128::from_str_radix(digits, 16));
    let value = hex.unwrap_or_else(|| text.parse());
    value
        .or_else(|_| text.parse::<MacAddr>().map(|mac| u128::from(mac.to_bits())))
        .or_else(|_| text.parse::<Ipv4Addr>().map(|ip| u128::from(u32::from(ip))))
        .or_else(|_| text.parse::<Ipv6Addr>().map(u128::from))
        .unwrap_or_else(|_| panic!("{text}"))
}

/// The key that the text after `Flow:` describes.
fn parse(text: &str) -> FlowKey {
    let mut key = FlowKey::default();
    for item in text.split(',') {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        match name {
            "vlan_tci1" | "mpls_lse1" | "mpls_lse2" => {}
            "dl_vlan" => key.set_masked(Field::VlanTci, 0x1000 | number(value), 0x1fff),
            "nw_ecn" => key.set(Field::NwEcn, number(value)),
            "nw_tos" => key.set_masked(Field::NwTos, number(value), 0xfc),
            "nw_frag" => {
                let kinds = ["no", "first", "", "later"];
                key.set(Field::NwFrag, kinds.iter().position(|kind| *kind == value).unwrap() as u128);
            }
            "tcp_flags" if value == "0" => {}
            "tcp_flags" => {
                let bit = |flag| 1 << FLAGS.iter().position(|known| *known == flag).unwrap();
                key.set(Field::TcpFlags, value.split('|').map(bit).sum());
            }
            _ if value.is_empty() => {
                let (_, kind, proto) = KEYWORDS.iter().find(|(word, ..)| *word == name).unwrap();
                key.set(Field::DlType, u128::from(*kind));
                key.set(Field::NwProto, u128::from(*proto));
            }
            _ => key.set(Field::by_name(name).unwrap_or_else(|| panic!("{name}")), number(value)),
        }
    }
    key
}

/// What the switch's text does not tell: the tag's TPID, and neighbour discovery outside of ICMPv6 or in fragments.
fn untold(text: &str) -> &'static [Field] {
    match (text.contains("nd_target"), text.contains("nd_reserved")) {
        (true, true) => &[Field::VlanTpid],
        (true, false) => &[Field::VlanTpid, Field::NdReserved, Field::NdOptionsType],
        (false, _) if text.contains("arp") => &[Field::VlanTpid],
        (false, _) => &[
            Field::VlanTpid,
            Field::NdReserved,
            Field::NdOptionsType,
            Field::NdTarget,
            Field::NdSll,
            Field::NdTll,
        ],
    }
}

#[test]
fn extraction_is_that_of_the_real_switch_field_by_field() {
    let mut seen = 0;
    for [name, port, hex, text] in rows(FLOWS) {
        let mut found = wire::extract(&bytes(hex), port.parse().unwrap());
        untold(text).iter().for_each(|field| found.set(*field, 0));
        let expected = parse(text);
        for field in Field::all() {
            assert_eq!(found.get(field), expected.get(field), "{name}: {field:?}\n{text}\n{found:?}");
        }
        seen += 1;
    }
    assert!(seen > 150, "{seen} frames");
}

#[test]
fn rewriting_is_that_of_the_real_switch_byte_by_byte() {
    let mut seen = 0;
    for [name, frame, changes, expected] in rows(COMMITS) {
        let frame = bytes(frame);
        let base = wire::extract(&frame, 1);
        let mut now = base.clone();
        for change in changes.split(' ') {
            let (field, value) = change.split_once('=').unwrap();
            let field = match field {
                "tpid" => Field::VlanTpid,
                "inner_tci" => Field::InnerVlanTci,
                "inner_tpid" => Field::InnerVlanTpid,
                _ => Field::by_name(field).unwrap(),
            };
            now.set(field, number(value));
        }
        assert_eq!(hex(&wire::commit(&frame, &base, &now)), expected, "{name}");
        seen += 1;
    }
    assert!(seen > 50, "{seen} frames");
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}
