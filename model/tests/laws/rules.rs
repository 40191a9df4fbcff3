//! Which datagrams a rule admits: protocols, ports, ICMP types, peers. Historical defects are named where a row has one.

use crate::support::{
    check, check_invalid, datagram, frame, group, icmp, intent, load, port_of, send, switched, tcp, udp,
    world,
};
use flowproof_model::frame::{Payload, Upper};
use flowproof_model::history::Tracking;
use flowproof_model::policy::{Policy, Statefulness};
use flowproof_model::rules::{Unsupported, unsupported};
use flowproof_model::switches::Switches;
use flowproof_model::world::{Origin, World};
use serde_json::json;

/// Whether `a`, with one rule, receives the payload from elsewhere.
#[track_caller]
fn receives(rule: &str, payload: Payload, admitted: bool) {
    let expected = if admitted { "admit: rule sga-0" } else { "drop: NoRule" };
    check(&mut world(&[rule], &[]), "net1", &frame("r", "a", payload), "a", expected);
}

fn to_port(port: u16) -> Payload {
    tcp(("10.0.0.10", 40000), ("10.0.0.5", port))
}

fn protocol(number: u8) -> Payload {
    datagram("10.0.0.10", "10.0.0.5", number, Upper::Unseen)
}

fn protocol6(number: u8) -> Payload {
    datagram("2001:db8::10", "2001:db8::5", number, Upper::Unseen)
}

#[test]
fn a_range_admits_its_ports_and_no_other() {
    // 22 to 22 does not open 23 (launchpad 1611991); ranges with even ends, the ends of the number space.
    let ranges = [
        (22, 22),
        (80, 80),
        (3306, 3306),
        (4, 6),
        (16, 22),
        (1024, 1026),
        (1, 1),
        (65535, 65535),
        (2, 65535),
    ];
    for (min, max) in ranges {
        let (min, max): (u16, u16) = (min, max);
        let rule = format!("ingress IPv4 tcp {min}-{max}");
        for port in [0, 1, min - 1, min, max, max.wrapping_add(1), 65535] {
            receives(&rule, to_port(port), (min..=max).contains(&port));
        }
    }
}

#[test]
fn a_rule_is_about_the_destination_port() {
    receives("ingress IPv4 tcp 22-22", tcp(("10.0.0.10", 22), ("10.0.0.5", 40000)), false);
    let egress = frame("a", "r", tcp(("10.0.0.5", 22), ("10.0.0.10", 40000)));
    check(&mut world(&["egress IPv4 tcp 22-22"], &[]), "a", &egress, "elsewhere", "drop: NoRule");
}

#[test]
fn the_full_range_is_the_whole_protocol_or_all_ports_but_zero() {
    receives("ingress IPv4 tcp 1-65535", to_port(0), true);
    receives("ingress IPv4 tcp", to_port(0), true);
    receives("ingress IPv4 tcp 1-65534", to_port(65535), false);
    let mut literal = switched(world(&["ingress IPv4 tcp 1-65535"], &[]), "full_range", "literal");
    check(&mut literal, "net1", &frame("r", "a", to_port(0)), "a", "drop: NoRule");
    check(&mut literal, "net1", &frame("r", "a", to_port(1)), "a", "admit: rule sga-0");
}

#[test]
fn a_protocol_is_meant_under_each_of_its_names() {
    // Every name is its number, and no name opens every protocol (launchpad 1625516).
    let names: &[(&str, u8)] = &[
        ("ah", 51),
        ("dccp", 33),
        ("egp", 8),
        ("esp", 50),
        ("gre", 47),
        ("hopopt", 0),
        ("icmp", 1),
        ("igmp", 2),
        ("ip", 0),
        ("ipip", 4),
        ("ospf", 89),
        ("pgm", 113),
        ("rsvp", 46),
        ("sctp", 132),
        ("tcp", 6),
        ("udp", 17),
        ("udplite", 136),
        ("vrrp", 112),
        ("6", 6),
        ("17", 17),
        ("132", 132),
        ("112", 112),
        ("255", 255),
        ("0", 0),
        ("1", 1),
        ("TCP", 6),
    ];
    for (name, number) in names {
        for other in [0, 1, 2, 4, 6, 17, 33, 47, 50, 51, 58, 89, 112, 132, 136, 255] {
            receives(&format!("ingress IPv4 {name}"), protocol(other), other == *number);
        }
    }
    let names6: &[(&str, u8)] = &[
        ("icmp", 58),
        ("icmpv6", 58),
        ("ipv6-icmp", 58),
        ("58", 58),
        ("1", 58),
        ("tcp", 6),
        ("ipv6-encap", 41),
        ("ipv6-nonxt", 59),
        ("47", 47),
        ("vrrp", 112),
    ];
    for (name, number) in names6 {
        for other in [1, 6, 17, 41, 47, 58, 59, 112] {
            receives(&format!("ingress IPv6 {name}"), protocol6(other), other == *number);
        }
    }
}

#[test]
fn a_numbered_protocol_keeps_its_ports() {
    // Launchpad 1708580: {"6", 22 to 22} let port 80 pass.
    for (protocol, payload) in [("6", tcp as fn(_, _) -> _), ("17", udp)] {
        let rule = format!("ingress IPv4 {protocol} 22-22");
        receives(&rule, payload(("10.0.0.10", 1), ("10.0.0.5", 22)), true);
        receives(&rule, payload(("10.0.0.10", 1), ("10.0.0.5", 80)), false);
    }
    let sctp = |dst| datagram("10.0.0.10", "10.0.0.5", 132, Upper::Ports { src: 1, dst });
    receives("ingress IPv4 sctp 3366-3366", sctp(3366), true);
    receives("ingress IPv4 132 3366-3366", sctp(3367), false);
}

#[test]
fn any_protocol_means_every_protocol_of_its_family_only() {
    for number in [0, 1, 6, 17, 58, 132, 255] {
        receives("ingress IPv4 any", protocol(number), true);
        receives("ingress IPv6 any", protocol(number), false);
        receives("ingress IPv4 any", protocol6(number), false);
    }
    // Protocol 0 is a protocol, not any.
    receives("ingress IPv4 0", protocol(6), false);
}

#[test]
fn icmp_type_and_code_zero_are_a_type_and_a_code() {
    let to_a = |kind, code| icmp("10.0.0.10", "10.0.0.5", kind, code);
    let rows = [
        ("ingress IPv4 icmp 0", (0, 0), true),
        ("ingress IPv4 icmp 0", (0, 5), true),
        ("ingress IPv4 icmp 0", (8, 0), false),
        ("ingress IPv4 icmp 8/0", (8, 0), true),
        ("ingress IPv4 icmp 8/0", (8, 1), false),
        // Launchpad 1708358: a rule for echo let timestamp requests pass.
        ("ingress IPv4 icmp 8/0", (13, 0), false),
        ("ingress IPv4 icmp 8", (8, 7), true),
        ("ingress IPv4 icmp 255/255", (255, 255), true),
        ("ingress IPv4 icmp 3/4", (3, 1), false),
        ("ingress IPv4 icmp", (13, 0), true),
        ("ingress IPv4 1 8/0", (8, 0), true),
        ("ingress IPv4 1 8/0", (0, 0), false),
    ];
    for (rule, (kind, code), admitted) in rows {
        receives(rule, to_a(kind, code), admitted);
    }
    let to_a6 = |kind| icmp("2001:db8::10", "2001:db8::5", kind, 0);
    receives("ingress IPv6 icmpv6 129", to_a6(129), true);
    receives("ingress IPv6 icmp 128/0", to_a6(128), true);
    receives("ingress IPv6 58 128", to_a6(129), false);
    receives("ingress IPv6 icmp 128", to_a(128, 0), false);
}

#[test]
fn extension_headers_are_no_protocol_over_ipv6() {
    for name in ["hopopt", "ipv6-route", "ipv6-frag", "ah", "ipv6-opts", "0", "43", "44", "51", "60"] {
        let line = format!("ingress IPv6 {name}");
        for number in [0, 6, 43, 44, 51, 60] {
            receives(&line, protocol6(number), false);
        }
        let policy = load(&intent(&[&line], &[]));
        let rule = &policy.groups["sga"].rules[0];
        assert_eq!(unsupported(rule, Statefulness::Stateful), Some(Unsupported::ExtensionHeader), "{name}");
    }
    receives("ingress IPv4 51", protocol(51), true);
}

#[test]
fn ports_that_no_switch_sees_are_exact_or_the_whole_protocol() {
    for (name, number) in [("dccp", 33), ("udplite", 136), ("33", 33)] {
        let rule = format!("ingress IPv4 {name} 80-80");
        let seen = |dst| datagram("10.0.0.10", "10.0.0.5", number, Upper::Ports { src: 1, dst });
        receives(&rule, seen(80), true);
        receives(&rule, seen(81), false);
        receives(&rule, protocol(number), false);
        receives(&format!("ingress IPv4 {name}"), protocol(number), true);
        let mut whole = switched(world(&[&rule], &[]), "unsupported_ports", "whole-protocol");
        check(&mut whole, "net1", &frame("r", "a", seen(81)), "a", "admit: rule sga-0");
        let policy = load(&intent(&[&rule], &[]));
        let found = unsupported(&policy.groups["sga"].rules[0], Statefulness::Stateful);
        assert_eq!(found, Some(Unsupported::Ports), "{name}");
    }
}

#[test]
fn a_prefix_is_masked_and_one_of_length_zero_is_everybody_of_its_family() {
    let rows = [
        ("10.0.0.5/24", "10.0.0.10", true),
        ("10.0.0.5/24", "10.0.1.10", false),
        ("0.0.0.0/0", "203.0.113.1", true),
        ("10.0.0.0/0", "203.0.113.1", true),
        ("10.0.0.10/32", "10.0.0.10", true),
        ("10.0.0.10", "10.0.0.10", true),
        ("10.0.0.10", "10.0.0.11", false),
        ("128.0.0.0/1", "127.255.255.255", false),
    ];
    for (prefix, from, admitted) in rows {
        let rule = format!("ingress IPv4 any prefix={prefix}");
        receives(&rule, tcp((from, 1), ("10.0.0.5", 2)), admitted);
    }
    for prefix in ["::/0", "::0/0", "0:0::0/0", "ffff::/0"] {
        let rule = format!("ingress IPv6 any prefix={prefix}");
        receives(&rule, tcp(("2001:db8::1", 1), ("2001:db8::5", 2)), true);
        receives(&rule, tcp(("10.0.0.10", 1), ("10.0.0.5", 2)), false);
    }
}

#[test]
fn the_peer_of_egress_is_the_destination() {
    let mut world = world(&["egress IPv4 tcp prefix=192.0.2.0/24"], &[]);
    check(
        &mut world,
        "a",
        &frame("a", "r", tcp(("10.0.0.5", 1), ("192.0.2.9", 2))),
        "elsewhere",
        "admit: rule sga-0",
    );
    check(
        &mut world,
        "a",
        &frame("a", "r", tcp(("10.0.0.5", 1), ("192.0.3.9", 2))),
        "elsewhere",
        "drop: NoRule",
    );
}

#[test]
fn a_remote_group_means_the_addresses_of_its_members_wherever_they_are() {
    let rule = "ingress IPv4 tcp group=peers";
    receives(rule, tcp(("10.0.0.10", 1), ("10.0.0.5", 2)), true);
    // A member of another network counts by its address; so does one under another MAC.
    receives(rule, tcp(("10.0.0.11", 1), ("10.0.0.5", 2)), true);
    receives(rule, tcp(("10.0.0.12", 1), ("10.0.0.5", 2)), false);
    receives(rule, udp(("10.0.0.10", 1), ("10.0.0.5", 2)), false);
    receives("ingress IPv6 any group=peers", tcp(("2001:db8::10", 1), ("2001:db8::5", 2)), true);
    receives("ingress IPv6 any group=peers", tcp(("2001:db8::11", 1), ("2001:db8::5", 2)), false);
    // Link-local addresses are no members.
    receives(
        "ingress IPv6 any group=peers",
        tcp((&crate::support::link_local("r"), 1), ("fe80::5", 2)),
        false,
    );
    let mut egress = world(&["egress IPv4 tcp group=peers"], &[]);
    check(
        &mut egress,
        "a",
        &frame("a", "r", tcp(("10.0.0.5", 1), ("10.0.0.10", 2))),
        "elsewhere",
        "admit: rule sga-0",
    );
    check(
        &mut egress,
        "a",
        &frame("a", "r", tcp(("10.0.0.5", 1), ("10.0.0.12", 2))),
        "elsewhere",
        "drop: NoRule",
    );
}

#[test]
fn a_group_without_members_admits_nobody() {
    let mut intent = intent(&["ingress IPv4 any group=empty"], &[]);
    intent["security_groups"].as_array_mut().unwrap().push(group("empty", &[]));
    let mut world = World::new(load(&intent), Switches::default());
    check(&mut world, "net1", &frame("r", "a", to_port(22)), "a", "drop: NoRule");
}

#[test]
fn a_member_s_address_pairs_belong_to_the_group() {
    let mut intent = intent(&["ingress IPv4 any group=peers"], &[]);
    port_of(&mut intent, "r")["allowed_address_pairs"] =
        json!([{ "ip_address": "172.16.0.0/16" }, { "ip_address": "2001:db8:9::/48" }]);
    let mut world = World::new(load(&intent), Switches::default());
    check(
        &mut world,
        "net1",
        &frame("s", "a", tcp(("172.16.3.4", 1), ("10.0.0.5", 2))),
        "a",
        "admit: rule sga-0",
    );
    check(&mut world, "net1", &frame("s", "a", tcp(("172.17.3.4", 1), ("10.0.0.5", 2))), "a", "drop: NoRule");
}

#[test]
fn a_member_with_all_addresses_is_known_by_its_mac() {
    // Launchpad 1867119: such a member opened the group to everybody.
    let mut intent = intent(&["ingress IPv4 any group=peers", "egress IPv4 any group=peers"], &[]);
    port_of(&mut intent, "r")["allowed_address_pairs"] = json!([{ "ip_address": "0.0.0.0/0" }]);
    let from = |mac| frame(mac, "a", tcp(("203.0.113.7", 1), ("10.0.0.5", 2)));
    let to = |mac| frame("a", mac, tcp(("10.0.0.5", 1), ("203.0.113.7", 2)));
    let mut world = World::new(load(&intent), Switches::default());
    check(&mut world, "net1", &from("s"), "a", "drop: NoRule");
    check(&mut world, "net1", &from("r"), "a", "admit: rule sga-0");
    world.history.clear();
    check(&mut world, "a", &to("s"), "elsewhere", "drop: NoRule");
    check(&mut world, "a", &to("r"), "elsewhere", "admit: rule sga-1");
    let mut by_sender = World::new(load(&intent), Switches::neutron());
    check(&mut by_sender, "net1", &from("r"), "a", "admit: rule sga-0");
    by_sender.history.clear();
    check(&mut by_sender, "a", &to("r"), "elsewhere", "drop: NoRule");
}

#[test]
fn an_address_group_is_its_prefixes_and_all_addresses_are_everybody() {
    receives("ingress IPv4 tcp 22-22 addresses=offices", tcp(("192.0.2.9", 1), ("10.0.0.5", 22)), true);
    receives("ingress IPv4 tcp 22-22 addresses=offices", tcp(("192.0.3.9", 1), ("10.0.0.5", 22)), false);
    receives("ingress IPv6 any addresses=offices", tcp(("2001:db8:aa::1", 1), ("2001:db8::5", 2)), true);
    let mut intent = intent(&["ingress IPv4 any addresses=offices"], &[]);
    intent["address_groups"][0]["addresses"] = json!(["0.0.0.0/0"]);
    let mut world = World::new(load(&intent), Switches::default());
    check(
        &mut world,
        "net1",
        &frame("s", "a", tcp(("8.8.8.8", 1), ("10.0.0.5", 2))),
        "a",
        "admit: rule sga-0",
    );
}

#[test]
fn a_port_is_a_member_of_its_own_group_unless_the_driver_leaves_it_out() {
    let own = frame("r", "a", tcp(("10.0.0.5", 1), ("10.0.0.5", 2)));
    let rules = ["ingress IPv4 any group=sga"];
    check(&mut world(&rules, &[]), "net1", &own, "a", "admit: rule sga-0");
    check(&mut switched(world(&rules, &[]), "own_addresses", "excluded"), "net1", &own, "a", "drop: NoRule");
    let other = frame("r", "a", tcp(("10.0.0.10", 1), ("10.0.0.5", 2)));
    let mut mitaka = switched(world(&["ingress IPv4 any group=peers"], &[]), "own_addresses", "excluded");
    check(&mut mitaka, "net1", &other, "a", "admit: rule sga-0");
}

#[test]
fn all_groups_of_a_port_count_together() {
    let mut intent = intent(&["ingress IPv4 tcp 22-22"], &["ingress IPv4 icmp group=peers"]);
    port_of(&mut intent, "a")["security_groups"] = json!(["sga", "sgb"]);
    let mut world = World::new(load(&intent), Switches::default());
    check(&mut world, "net1", &frame("r", "a", to_port(22)), "a", "admit: rule sga-0");
    check(
        &mut world,
        "net1",
        &frame("r", "a", icmp("10.0.0.10", "10.0.0.5", 8, 0)),
        "a",
        "admit: rule sgb-0",
    );
    check(&mut world, "net1", &frame("r", "a", to_port(23)), "a", "drop: NoRule");
}

#[test]
fn a_rule_does_not_admit_what_tracking_calls_invalid() {
    check_invalid(
        &world(&["ingress IPv4 any"], &[]),
        "net1",
        &frame("r", "a", to_port(22)),
        "a",
        "drop: Invalid",
    );
}

/// Rules and datagrams that can hit each other.
const POOL: &[&str] = &[
    "ingress IPv4 any",
    "ingress IPv4 tcp",
    "ingress IPv4 tcp 22-22",
    "ingress IPv4 tcp 22-24 group=peers",
    "ingress IPv4 icmp 8/0",
    "ingress IPv4 any prefix=10.0.0.10/32",
    "ingress IPv6 any",
    "egress IPv4 any",
    "ingress IPv4 udp addresses=offices",
];

fn admitted_payloads(policy: &Policy) -> Vec<bool> {
    let world = World::new(policy.clone(), Switches::default());
    let mut verdicts = Vec::new();
    for from in ["10.0.0.10", "10.0.0.12", "192.0.2.1"] {
        for port in [21, 22, 23, 24, 25] {
            verdicts.push(tcp((from, 1), ("10.0.0.5", port)));
            verdicts.push(udp((from, 1), ("10.0.0.5", port)));
        }
        verdicts.push(icmp(from, "10.0.0.5", 8, 0));
        verdicts.push(icmp(from, "10.0.0.5", 0, 0));
    }
    let origin = Origin::Network("net1".into());
    let is_in = |payload| {
        world.judge(&origin, &frame("r", "a", payload), Tracking::Plausible)[0].outcome.is_delivered()
    };
    verdicts.into_iter().map(is_in).collect()
}

#[test]
fn rules_are_a_union_whatever_their_order() {
    let alone: Vec<_> = POOL.iter().map(|rule| admitted_payloads(&load(&intent(&[rule], &[])))).collect();
    assert!(
        alone.iter().flatten().any(|admitted| *admitted) && alone.iter().flatten().any(|admitted| !*admitted)
    );
    for (i, first) in POOL.iter().enumerate() {
        for (j, second) in POOL.iter().enumerate() {
            let union: Vec<_> = alone[i].iter().zip(&alone[j]).map(|(a, b)| *a || *b).collect();
            assert_eq!(admitted_payloads(&load(&intent(&[first, second], &[]))), union, "{first} + {second}");
        }
    }
}

#[test]
fn the_rules_of_others_change_nothing() {
    let payloads = |world: &mut World| {
        let frame = frame("r", "a", to_port(22));
        send(world, "net1", &frame)
    };
    let quiet = payloads(&mut world(&["ingress IPv4 tcp 22-23"], &[]));
    for rule in POOL {
        assert_eq!(payloads(&mut world(&["ingress IPv4 tcp 22-23"], &[rule])), quiet, "{rule}");
    }
}
