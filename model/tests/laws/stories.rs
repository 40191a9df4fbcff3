//! Stories that Neutron tells in its own tests, and the host of the seed.

use crate::support::{check, frame, group, icmp, load, mac, port, tcp, udp};
use flowproof_model::frame::{Frame, Payload};
use flowproof_model::history::Tracking;
use flowproof_model::policy::{Change, Policy};
use flowproof_model::switches::Switches;
use flowproof_model::world::{Event, Origin, World};
use serde_json::{Value, json};

/// VMs `a`, `b`, `d`, `u` (10.0.0.1 to 10.0.0.4), all of this host, each in one group.
fn vms(groups: &[(&str, &[&str])], members: [&str; 4]) -> World {
    let names = ["a", "b", "d", "u"];
    let ports: Vec<Value> = names
        .iter()
        .zip(members)
        .enumerate()
        .map(|(at, (name, group))| port(name, "net", &[&format!("10.0.0.{}", at + 1)], &[group]))
        .collect();
    let bindings: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(at, name)| json!({ "port_id": name, "ofport": at + 1, "vlan": 1 }))
        .collect();
    let intent = json!({
        "networks": [{ "id": "net" }],
        "security_groups": groups.iter().map(|(id, rules)| group(id, rules)).collect::<Vec<_>>(),
        "ports": ports,
        "host": { "bindings": bindings },
    });
    World::new(load(&intent), Switches::default())
}

fn address(name: &str) -> String {
    format!("10.0.0.{}", ["a", "b", "d", "u"].iter().position(|known| *known == name).unwrap() + 1)
}

fn connect(from: &str, to: &str, port: u16) -> Frame {
    frame(from, to, tcp((&address(from), 40000), (&address(to), port)))
}

fn ping(from: &str, to: &str) -> Frame {
    frame(from, to, icmp(&address(from), &address(to), 8, 0))
}

#[track_caller]
fn passes(world: &World, from: &str, to: &str, frame: &Frame, passes: bool) {
    let deliveries = world.judge(&Origin::Port(from.into()), frame, Tracking::Plausible);
    assert_eq!(deliveries[0].outcome.is_delivered(), passes, "{from} → {to}: {:?}", deliveries[0].outcome);
}

const OUT: &str = "egress IPv4 any";

#[test]
fn overlapping_remote_groups_each_admit_their_own() {
    let rules: &[&str] = &[OUT, "ingress IPv4 tcp 3333-3333 group=sg1", "ingress IPv4 any group=sg2"];
    let world = vms(&[("sg0", rules), ("sg1", &[OUT]), ("sg2", &[OUT])], ["sg0", "sg0", "sg1", "sg2"]);
    passes(&world, "d", "a", &connect("d", "a", 3333), true);
    passes(&world, "d", "a", &connect("d", "a", 8080), false);
    passes(&world, "u", "a", &connect("u", "a", 8080), true);
    passes(&world, "b", "a", &connect("b", "a", 3333), false);
}

#[test]
fn a_port_in_two_groups_is_a_member_of_both_and_has_the_rules_of_both() {
    let sg0: &[&str] = &[OUT, "ingress IPv4 tcp 22-22 group=sg0", "ingress IPv4 icmp group=sg0"];
    let sg1: &[&str] = &[OUT, "ingress IPv4 icmp group=sg1"];
    let mut world = vms(&[("sg0", sg0), ("sg1", sg1)], ["sg0", "sg0", "sg1", "sg1"]);
    passes(&world, "b", "a", &connect("b", "a", 22), true);
    passes(&world, "d", "a", &ping("d", "a"), false);
    passes(&world, "a", "d", &ping("a", "d"), false);
    let groups = vec!["sg0".into(), "sg1".into()];
    world.apply(Event::Change(Change::SetGroups("a".into(), groups))).unwrap();
    passes(&world, "a", "d", &ping("a", "d"), true);
    passes(&world, "d", "a", &ping("d", "a"), true);
    passes(&world, "d", "b", &ping("d", "b"), false);
    world.apply(Event::Change(Change::SetGroups("a".into(), vec!["sg1".into()]))).unwrap();
    passes(&world, "b", "a", &connect("b", "a", 22), false);
}

#[test]
fn an_established_connection_of_a_deleted_rule_stops() {
    let rules: &[&str] = &[OUT, "ingress IPv4 tcp 3355-3355 group=sg1"];
    let mut world = vms(&[("sg0", rules), ("sg1", &[OUT])], ["sg0", "sg0", "sg1", "sg1"]);
    check(&mut world, "u", &connect("u", "a", 3355), "a", "admit: rule sg0-1");
    let answer = frame("a", "u", tcp(("10.0.0.1", 3355), ("10.0.0.4", 40000)));
    check(&mut world, "a", &answer, "u", "admit: Reply");
    world.apply(Event::Change(Change::RemoveRule("sg0-1".into()))).unwrap();
    check(&mut world, "u", &connect("u", "a", 3355), "a", "drop: Revoked");
    check(&mut world, "a", &answer, "u", "drop: Revoked");
}

/// The seed's host with the rule for ssh as the command line made it: 22 to 22.
fn seed() -> World {
    let text = include_str!("../../../tests/fixtures/intents/01_seed_scenario.json");
    let mut intent: Value = serde_json::from_str(text).unwrap();
    intent["security_groups"][0]["security_group_rules"][2]["port_range_max"] = 22.into();
    World::new(Policy::from_json(&intent.to_string()).unwrap(), Switches::default())
}

#[test]
fn the_seed_s_host_admits_ssh_and_icmp_from_everywhere_and_everything_from_its_group() {
    let [first, second] = ["fa:16:3e:e9:f9:c8", "fa:16:3e:5c:25:9d"];
    let from = |src: &str, ip: &str, payload: fn(&str) -> Payload| frame(src, first, payload(ip));
    let rows: [(&str, Frame, &str); 8] = [
        ("net1", from("r", "8.8.8.8", |ip| tcp((ip, 1), ("10.0.1.8", 22))), "admit: rule default-rule-2"),
        ("net1", from("r", "8.8.8.8", |ip| tcp((ip, 1), ("10.0.1.8", 23))), "drop: NoRule"),
        ("net1", from("r", "8.8.8.8", |ip| udp((ip, 1), ("10.0.1.8", 22))), "drop: NoRule"),
        ("net1", from("r", "8.8.8.8", |ip| icmp(ip, "10.0.1.8", 13, 0)), "admit: rule default-rule-3"),
        ("net1", from("r", "10.0.1.7", |ip| udp((ip, 1), ("10.0.1.8", 22))), "admit: rule default-rule-4"),
        (
            "p10-seed-port",
            from(second, "10.0.1.7", |ip| udp((ip, 1), ("10.0.1.8", 9))),
            "admit: rule default-rule-4",
        ),
        (
            "p10-seed-port",
            from(second, "10.0.1.99", |ip| udp((ip, 1), ("10.0.1.8", 9))),
            "drop: SpoofedSource",
        ),
        ("p10-seed-port", from(first, "10.0.1.8", |ip| udp((ip, 1), ("10.0.1.8", 9))), "drop: SpoofedSource"),
    ];
    for (origin, frame, expected) in rows {
        let origin =
            if origin == "net1" { Origin::Network("net1".into()) } else { Origin::Port(origin.into()) };
        let mut world = seed();
        let event = Event::Frame { origin, frame: frame.clone(), tracking: Tracking::Plausible };
        let deliveries = world.apply(event).unwrap();
        assert_eq!(deliveries[0].outcome.decisive().to_string(), expected, "{frame:?}");
    }
    assert_eq!(mac(first), seed().policy.ports["p13-seed-port"].mac);
}
