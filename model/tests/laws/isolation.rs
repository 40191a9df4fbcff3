//! Who receives a frame at all, and which ports nobody filters.

use crate::support::{
    BROADCAST, arp, check, check_invalid, frame, intent, load, port_of, send, switched, tcp, udp, world,
};
use flowproof_model::crossing::{End, Standing};
use flowproof_model::frame::Frame;
use flowproof_model::policy::NetworkId;
use flowproof_model::switches::Switches;
use flowproof_model::world::World;
use serde_json::json;

const OPEN: [&str; 2] = ["ingress IPv4 any", "egress IPv4 any"];

#[test]
fn networks_are_apart_even_with_equal_macs_and_addresses() {
    let to_a = frame("r", "a", tcp(("10.0.0.10", 1), ("10.0.0.5", 2)));
    let mut world = world(&OPEN, &[]);
    check(&mut world, "net1", &to_a, "a", "admit: rule sga-0");
    check(&mut world, "net1", &to_a, "x", "not sent there");
    check(&mut world, "net2", &to_a, "x", "admit: rule sgx-0");
    check(&mut world, "net2", &to_a, "a", "not sent there");
    let from_x = frame("x", "b", tcp(("10.0.0.5", 1), ("10.0.0.6", 2)));
    check(&mut world, "x", &from_x, "b", "not sent there");
    check(&mut world, "x", &from_x, "elsewhere", "admit: rule sgx-1");
}

#[test]
fn a_vlan_that_is_no_network_reaches_nobody() {
    let deliveries = send(&mut world(&OPEN, &OPEN), "nowhere", &frame("r", "a", arp("r", "10.0.0.10")));
    assert!(deliveries.iter().all(|delivery| !delivery.outcome.is_delivered()));
}

#[test]
fn a_connection_of_one_network_admits_nothing_in_another() {
    let mut world = world(&["egress IPv4 any"], &[]);
    check(
        &mut world,
        "a",
        &frame("a", "r", tcp(("10.0.0.5", 1), ("10.0.0.10", 2))),
        "elsewhere",
        "admit: rule sga-0",
    );
    let answer = frame("r", "a", tcp(("10.0.0.10", 2), ("10.0.0.5", 1)));
    check(&mut world, "net1", &answer, "a", "admit: Reply");
    check(&mut world, "net2", &answer, "x", "admit: rule sgx-0");
}

#[test]
fn trusted_ports_and_ports_without_security_are_not_filtered() {
    for free in ["u", "d"] {
        let mut world = world(&OPEN, &[]);
        let payload = tcp(("172.16.9.9", 1), ("10.0.0.10", 2));
        check(&mut world, free, &frame("b", "r", payload.clone()), "elsewhere", "admit: Unfiltered");
        check(&mut world, "net1", &frame("r", free, payload.clone()), free, "admit: Unfiltered");
        check_invalid(&world, "net1", &frame("r", free, payload), free, "admit: Unfiltered");
        let offer = udp(("10.0.0.2", 67), ("10.0.0.7", 68));
        check(&mut world, free, &frame(free, "r", offer), "elsewhere", "admit: Unfiltered");
    }
}

#[test]
fn from_an_unfiltered_port_only_the_receiver_s_ingress_counts() {
    let mut world = world(&["ingress IPv4 tcp 22-22"], &[]);
    check(
        &mut world,
        "u",
        &frame("u", "a", tcp(("10.0.0.7", 1), ("10.0.0.5", 22))),
        "a",
        "admit: rule sga-0",
    );
    check(&mut world, "u", &frame("u", "a", tcp(("10.0.0.7", 1), ("10.0.0.5", 23))), "a", "drop: NoRule");
}

#[test]
fn between_two_local_ports_both_must_agree() {
    let syn = frame("a", "b", tcp(("10.0.0.5", 1000), ("10.0.0.6", 22)));
    let rows: [(&[&str], &[&str], &str); 4] = [
        (&["egress IPv4 tcp 22-22"], &["ingress IPv4 tcp 22-22"], "admit: rule sgb-0"),
        (&["egress IPv4 tcp 22-22"], &["ingress IPv4 udp"], "drop: NoRule"),
        (&["ingress IPv4 any"], &["ingress IPv4 any"], "drop: NoRule"),
        (&[], &[], "drop: NoRule"),
    ];
    for (sga, sgb, expected) in rows {
        check(&mut world(sga, sgb), "a", &syn, "b", expected);
    }
}

#[test]
fn nobody_receives_his_own_frames() {
    let own = frame("a", "a", tcp(("10.0.0.5", 1), ("10.0.0.5", 2)));
    let mut world = world(&OPEN, &OPEN);
    check(&mut world, "a", &own, "a", "drop: Hairpin");
    check(&mut world, "a", &own, "b", "not sent there");
    check(&mut world, "a", &own, "elsewhere", "not sent there");
}

#[test]
fn a_port_cannot_choose_its_vlan() {
    let tagged = Frame { vlan: Some(2), ..frame("a", "b", tcp(("10.0.0.5", 1), ("10.0.0.6", 2))) };
    check(&mut world(&OPEN, &OPEN), "a", &tagged, "b", "drop: Tagged");
    let arp = Frame { vlan: Some(2), ..frame("a", "b", arp("a", "10.0.0.5")) };
    check(&mut world(&OPEN, &OPEN), "a", &arp, "b", "drop: Tagged");
    let mut transparent = switched(world(&OPEN, &OPEN), "tagged_frames", "transparent");
    check(&mut transparent, "a", &tagged, "b", "admit: rule sgb-0");
    // On an uplink the tag is what said which network it is.
    let from_uplink = Frame { vlan: Some(1053), ..frame("r", "a", tcp(("10.0.0.10", 1), ("10.0.0.5", 2))) };
    check(&mut world(&OPEN, &OPEN), "net1", &from_uplink, "a", "admit: rule sga-0");
}

#[test]
fn a_group_addressed_frame_is_judged_by_each_receiver() {
    let shout = frame("r", BROADCAST, udp(("10.0.0.10", 1), ("255.255.255.255", 9999)));
    let mut filtered = world(&["ingress IPv4 udp 9999-9999"], &[]);
    check(&mut filtered, "net1", &shout, "a", "admit: rule sga-0");
    check(&mut filtered, "net1", &shout, "b", "drop: NoRule");
    check(&mut filtered, "net1", &shout, "u", "admit: Unfiltered");
    check(&mut filtered, "net1", &shout, "x", "not sent there");
    check(&mut filtered, "net1", &shout, "elsewhere", "not sent there");
    let mut flooded = switched(world(&[], &[]), "group_addressed", "flooded");
    check(&mut flooded, "net1", &shout, "a", "admit: Unfiltered");
    let from_a = frame("a", BROADCAST, udp(("10.0.0.5", 1), ("255.255.255.255", 9999)));
    check(&mut flooded, "a", &from_a, "b", "drop: NoRule");
    check(&mut flooded, "a", &from_a, "a", "not sent there");
}

#[test]
fn a_local_port_receives_what_is_for_the_mac_of_its_pair() {
    let mut intent = intent(&["ingress IPv4 tcp 22-22"], &[]);
    port_of(&mut intent, "a")["allowed_address_pairs"] =
        json!([{ "ip_address": "10.0.0.9", "mac_address": "00:00:5e:00:01:33" }]);
    let mut world = World::new(load(&intent), Switches::default());
    let to_pair = |port| frame("r", "00:00:5e:00:01:33", tcp(("10.0.0.10", 1), ("10.0.0.9", port)));
    check(&mut world, "net1", &to_pair(22), "a", "admit: rule sga-0");
    check(&mut world, "net1", &to_pair(23), "a", "drop: NoRule");
    check(&mut world, "net1", &to_pair(22), "elsewhere", "not sent there");
}

#[test]
fn whoever_is_asked_about_networks_apart_and_hairpins_are_refused() {
    let world = world(&OPEN, &OPEN);
    let [a, b, x] = ["a", "b", "x"].map(|id| End::Port(&world.policy.ports[id]));
    let (net1, net2) = (NetworkId::from("net1"), NetworkId::from("net2"));
    let frame = frame("a", "b", tcp(("10.0.0.5", 1), ("10.0.0.6", 2)));
    let rows = [
        (Some(&net1), a, x, "drop: OtherNetwork"),
        (Some(&net2), a, x, "drop: OtherNetwork"),
        (Some(&net2), a, b, "drop: OtherNetwork"),
        (Some(&net2), End::Elsewhere, b, "drop: OtherNetwork"),
        (None, End::Elsewhere, b, "drop: OtherNetwork"),
        (Some(&net1), a, a, "drop: Hairpin"),
        (Some(&net1), a, b, "admit: rule sgb-0"),
    ];
    for (network, sender, receiver, expected) in rows {
        let outcome = world.judge_between(network, &frame, (sender, receiver), Standing::New);
        assert_eq!(outcome.decisive().to_string(), expected, "{network:?}");
    }
}
