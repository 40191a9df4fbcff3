//! Intents that Neutron's own driver was given: each loads, and is what it says.

use flowproof_model::policy::{
    Ethertype, Filtering, IcmpMatch, Policy, PortRange, Protocol, Segment, Statefulness, Transport,
};
use std::{fs, path::Path};

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/intents"))
}

fn read(name: &str) -> String {
    fs::read_to_string(directory().join(name)).unwrap()
}

#[track_caller]
fn policy(name: &str) -> Policy {
    Policy::from_json(&read(name)).unwrap()
}

#[test]
fn every_genuine_intent_loads_and_is_written_back_the_same() {
    let mut seen = 0;
    for entry in fs::read_dir(directory()).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let policy = Policy::from_json(&text).unwrap();
        assert_eq!(Policy::from_json(&policy.to_json().to_string()).unwrap(), policy);
        seen += 1;
    }
    assert!(seen >= 12, "{seen}");
}

#[test]
fn the_seed_s_host_is_two_ports_and_six_rules() {
    let policy = policy("01_seed_scenario.json");
    let places: Vec<_> =
        policy.local_ports().map(|(port, at)| (port.id.as_str(), at.ofport, at.vlan)).collect();
    assert_eq!(places, [("p13-seed-port", 13, 1), ("p10-seed-port", 10, 1)]);
    assert_eq!(policy.groups["default"].rules.len(), 6);
    let ssh = &policy.groups["default"].rules[2];
    assert_eq!(ssh.protocol, Protocol::Transport(Transport::Tcp, PortRange::new(22, 23)));
    let segment = Segment::Vlan { vid: 1053, physical_network: Some("physnet1".to_owned()) };
    assert_eq!(policy.networks["net1"].segment, segment);
    let port = &policy.ports["p13-seed-port"];
    let pairs: Vec<_> = port.pairs(Ethertype::Ipv6).map(|pair| pair.prefix.to_string()).collect();
    assert_eq!(pairs, ["fe80::f816:3eff:fee9:f9c8/128"]);
}

#[test]
fn icmp_types_are_kept_with_their_zeros() {
    let policy = policy("07_icmp_type_code.json");
    let icmp: Vec<_> = policy.groups["sg1"].rules.iter().map(|rule| rule.protocol).skip(2).take(4).collect();
    let expected =
        [IcmpMatch::Type(0), IcmpMatch::TypeCode(0, 0), IcmpMatch::TypeCode(8, 0), IcmpMatch::Type(8)];
    assert_eq!(icmp, expected.map(Protocol::Icmp));
}

#[test]
fn pairs_take_the_port_s_mac_where_they_name_none() {
    let policy = policy("15_allowed_pairs_cidr_mac.json");
    let port = &policy.ports["00000005-port"];
    let pairs: Vec<_> =
        port.address_pairs.iter().map(|pair| format!("{} {}", pair.mac, pair.prefix)).collect();
    assert_eq!(
        pairs,
        [
            "fa:16:3e:00:00:05 10.9.0.0/16",
            "00:00:5e:00:01:33 10.0.1.201/32",
            "00:00:5e:00:02:33 2001:db8:9::/48",
        ]
    );
    assert_eq!(port.macs().len(), 3);
}

#[test]
fn options_uplinks_and_kinds_of_ports_are_read() {
    let direct = policy("35_explicitly_egress_direct.json");
    let host = direct.host.as_ref().unwrap();
    assert!(host.options.explicitly_egress_direct);
    assert_eq!(host.uplinks.len(), 2);
    let permitted = policy("36_permitted_ethertypes.json").host.unwrap().options.permitted_ethertypes;
    assert_eq!(permitted, [0x4008, 0x88b5]);
    let trusted = policy("17_trusted_ports.json");
    assert_eq!(trusted.ports["00000002-port"].filtering(), Filtering::Trusted);
    let off = policy("16_port_security_off.json");
    assert!(off.ports.values().any(|port| port.filtering() == Filtering::PortSecurityDisabled));
    assert_eq!(policy("25_stateless.json").groups["sg1"].statefulness, Statefulness::Stateless);
    assert_eq!(policy("29_three_networks_overlap.json").networks.len(), 3);
}

#[test]
fn an_intent_may_come_in_several_documents_that_refer_to_each_other() {
    let whole: serde_json::Value = serde_json::from_str(&read("18_remote_group_3.json")).unwrap();
    let parts: Vec<_> = whole
        .as_object()
        .unwrap()
        .iter()
        .map(|(section, value)| (section.clone(), serde_json::json!({ section: value }).to_string()))
        .collect();
    assert_eq!(parts.len(), 5);
    for parts in [parts.iter().collect::<Vec<_>>(), parts.iter().rev().collect()] {
        let named = parts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        assert_eq!(Policy::merge(named).unwrap(), policy("18_remote_group_3.json"));
    }
}
