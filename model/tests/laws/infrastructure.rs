//! What passes without a rule, and what never passes: the MUST and MAY of a port, each row with its forbidden twins.

use crate::support::{
    BROADCAST, arp, check, check_invalid, datagram, frame, icmp, intent, link_local, load, nd, port_of,
    switched, tcp, udp, world,
};
use flowproof_model::frame::{Payload, Upper};
use flowproof_model::switches::Switches;
use flowproof_model::world::World;
use serde_json::json;

const ALL_NODES: &str = "33:33:00:00:00:01";
const EVERYTHING: [&str; 4] = ["ingress IPv4 any", "ingress IPv6 any", "egress IPv4 any", "egress IPv6 any"];

/// Verdicts for a port without rules, and for one that may do everything its rules can allow.
#[track_caller]
fn sends(src: &str, dst: &str, payload: &Payload, without_rules: &str, with_all_rules: &str) {
    let frame = frame(src, dst, payload.clone());
    check(&mut world(&[], &[]), "a", &frame, "elsewhere", without_rules);
    check(&mut world(&EVERYTHING, &[]), "a", &frame, "elsewhere", with_all_rules);
}

/// The same verdict with and without rules.
#[track_caller]
fn always_sends(src: &str, dst: &str, payload: &Payload, expected: &str) {
    sends(src, dst, payload, expected, expected);
}

#[track_caller]
fn always_receives(payload: &Payload, expected: &str) {
    let frame = frame("r", "a", payload.clone());
    check(&mut world(&[], &[]), "net1", &frame, "a", expected);
    check_invalid(&world(&[], &[]), "net1", &frame, "a", expected);
}

#[test]
fn arp_is_sent_under_own_addresses_only() {
    always_sends("a", BROADCAST, &arp("a", "10.0.0.5"), "admit: Infrastructure(Arp)");
    always_sends("a", "r", &arp("a", "10.0.0.5"), "admit: Infrastructure(Arp)");
    always_sends("a", BROADCAST, &arp("a", "10.0.0.6"), "drop: SpoofedSource");
    always_sends("b", BROADCAST, &arp("b", "10.0.0.5"), "drop: SpoofedSource");
    always_sends("a", BROADCAST, &arp("b", "10.0.0.5"), "drop: SpoofedSource");
}

#[test]
fn arp_probes_and_reverse_arp_may_be_sent_under_the_own_mac() {
    always_sends("a", BROADCAST, &arp("a", "0.0.0.0"), "admit: Infrastructure(ArpProbe)");
    always_sends("b", BROADCAST, &arp("b", "0.0.0.0"), "drop: SpoofedSource");
    always_sends("a", BROADCAST, &arp("r", "0.0.0.0"), "drop: SpoofedSource");
    always_sends("a", BROADCAST, &Payload::Rarp, "admit: Infrastructure(Rarp)");
    always_sends("b", BROADCAST, &Payload::Rarp, "drop: SpoofedSource");
}

#[test]
fn dhcp_requests_are_sent_from_own_addresses_or_from_none() {
    let discover = udp(("0.0.0.0", 68), ("255.255.255.255", 67));
    always_sends("a", BROADCAST, &discover, "admit: Infrastructure(DhcpClient)");
    always_sends("b", BROADCAST, &discover, "drop: SpoofedSource");
    let renewal = udp(("10.0.0.5", 68), ("203.0.113.9", 67));
    always_sends("a", "r", &renewal, "admit: Infrastructure(DhcpClient)");
    always_sends("a", "r", &udp(("10.0.0.7", 68), ("8.8.8.8", 67)), "drop: SpoofedSource");
    always_sends("a", "r", &udp(("0.0.0.0", 68), ("8.8.8.8", 53)), "drop: SpoofedSource");

    let lla = link_local("a");
    always_sends("a", "r", &udp((&lla, 546), ("ff02::1:2", 547)), "admit: Infrastructure(DhcpClient)");
    always_sends("a", "r", &udp(("::", 546), ("ff02::1:2", 547)), "drop: SpoofedSource");
    always_sends("b", "r", &udp((&lla, 546), ("ff02::1:2", 547)), "drop: SpoofedSource");
    sends("a", "r", &udp((&lla, 68), ("ff02::1:2", 67)), "drop: NoRule", "admit: rule sga-3");
    sends("a", "r", &tcp(("10.0.0.5", 68), ("10.0.0.9", 67)), "drop: NoRule", "admit: rule sga-2");
}

#[test]
fn nobody_is_a_dhcp_server_whatever_the_rules_say() {
    always_sends("a", "r", &udp(("10.0.0.5", 67), ("10.0.0.9", 68)), "drop: DhcpServer");
    always_sends("a", "r", &udp(("10.0.0.77", 67), ("10.0.0.9", 68)), "drop: DhcpServer");
    always_sends("a", "r", &udp((&link_local("a"), 547), ("fe80::9", 546)), "drop: DhcpServer");
    // The other family's ports, and other protocols, are nobody's business but the rules'.
    sends("a", "r", &udp(("10.0.0.5", 547), ("10.0.0.9", 546)), "drop: NoRule", "admit: rule sga-2");
    sends("a", "r", &tcp(("10.0.0.5", 67), ("10.0.0.9", 68)), "drop: NoRule", "admit: rule sga-2");
}

#[test]
fn strictly_nothing_from_a_server_port_or_to_a_client_port_is_sent() {
    let rows: &[(Payload, &str, &str)] = &[
        (udp(("10.0.0.5", 67), ("10.0.0.9", 67)), "admit: rule sga-2", "drop: DhcpServer"),
        (udp(("10.0.0.5", 1000), ("10.0.0.9", 68)), "admit: rule sga-2", "drop: DhcpServer"),
        (udp(("10.0.0.5", 1000), ("10.0.0.9", 67)), "admit: rule sga-2", "admit: rule sga-2"),
        (udp((&link_local("a"), 547), ("fe80::9", 547)), "admit: rule sga-3", "drop: DhcpServer"),
        (udp((&link_local("a"), 67), ("fe80::9", 68)), "admit: rule sga-3", "admit: rule sga-3"),
        (
            udp(("10.0.0.5", 68), ("10.0.0.9", 67)),
            "admit: Infrastructure(DhcpClient)",
            "admit: Infrastructure(DhcpClient)",
        ),
    ];
    for (payload, exact, strict) in rows {
        let frame = frame("a", "r", payload.clone());
        check(&mut world(&EVERYTHING, &[]), "a", &frame, "elsewhere", exact);
        let mut world = switched(world(&EVERYTHING, &[]), "dhcp_server", "strict");
        check(&mut world, "a", &frame, "elsewhere", strict);
    }
}

#[test]
fn router_advertisements_and_redirects_are_never_sent() {
    for kind in [134, 137] {
        let payload = icmp(&link_local("a"), "ff02::1", kind, 0);
        always_sends("a", ALL_NODES, &payload, "drop: RouterAdvertisement");
        always_sends("a", "b", &icmp("fe80::1", "ff02::1", kind, 3), "not sent there");
    }
    // 134 is nothing special over IPv4.
    sends("a", "r", &icmp("10.0.0.5", "10.0.0.9", 134, 0), "drop: NoRule", "admit: rule sga-2");
}

#[test]
fn discovery_is_sent_from_own_addresses_only() {
    for kind in [130, 133] {
        let own = icmp(&link_local("a"), "ff02::2", kind, 0);
        always_sends("a", ALL_NODES, &own, "admit: Infrastructure(NeighbourDiscovery)");
        always_sends("b", ALL_NODES, &own, "drop: SpoofedSource");
        always_sends("a", ALL_NODES, &icmp("fe80::1", "ff02::2", kind, 0), "drop: SpoofedSource");
        always_sends("a", ALL_NODES, &icmp("::", "ff02::2", kind, 0), "drop: SpoofedSource");
    }
}

#[test]
fn solicitations_name_only_own_macs() {
    let lla = link_local("a");
    let admitted = "admit: Infrastructure(NeighbourDiscovery)";
    always_sends("a", ALL_NODES, &nd(&lla, "ff02::1", 135, "2001:db8::9", Some("a")), admitted);
    always_sends("a", ALL_NODES, &nd("2001:db8::5", "ff02::1", 135, "2001:db8::9", None), admitted);
    let foreign = nd(&lla, "ff02::1", 135, "2001:db8::9", Some("b"));
    always_sends("a", ALL_NODES, &foreign, "drop: SpoofedNeighbour");
    let spoofed = nd("2001:db8::6", "ff02::1", 135, "2001:db8::9", Some("a"));
    always_sends("a", ALL_NODES, &spoofed, "drop: SpoofedSource");
}

#[test]
fn advertisements_are_of_own_addresses_from_own_addresses() {
    let lla = link_local("a");
    let admitted = "admit: Infrastructure(NeighbourDiscovery)";
    always_sends("a", "r", &nd(&lla, "fe80::1", 136, "2001:db8::5", Some("a")), admitted);
    always_sends("a", "r", &nd("2001:db8::5", "fe80::1", 136, &lla, None), admitted);
    always_sends("a", "r", &nd(&lla, "fe80::1", 136, "2001:db8::6", Some("a")), "drop: SpoofedNeighbour");
    always_sends("a", "r", &nd(&lla, "fe80::1", 136, "2001:db8::5", Some("b")), "drop: SpoofedNeighbour");
    always_sends("a", "r", &nd("fe80::1", "fe80::9", 136, "2001:db8::5", Some("a")), "drop: SpoofedSource");
    always_sends("b", "r", &nd(&lla, "fe80::1", 136, "2001:db8::5", None), "drop: SpoofedSource");
    always_sends("a", "r", &nd("::", "ff02::1", 136, "2001:db8::5", Some("a")), "drop: SpoofedSource");
}

#[test]
fn duplicates_may_be_looked_for_and_groups_joined_before_there_is_an_address() {
    let solicit = nd("::", "ff02::1", 135, "2001:db8::9", None);
    always_sends("a", ALL_NODES, &solicit, "admit: Infrastructure(DuplicateAddressDetection)");
    always_sends("b", ALL_NODES, &solicit, "drop: SpoofedSource");
    for kind in [131, 132, 143] {
        let report = icmp("::", "ff02::16", kind, 0);
        always_sends("a", ALL_NODES, &report, "admit: Infrastructure(ListenerReport)");
        always_sends("b", ALL_NODES, &report, "drop: SpoofedSource");
        sends(
            "a",
            ALL_NODES,
            &icmp(&link_local("a"), "ff02::16", kind, 0),
            "drop: NoRule",
            "admit: rule sga-3",
        );
    }
    always_sends("a", ALL_NODES, &icmp("::", "ff02::1", 128, 0), "drop: SpoofedSource");
}

#[test]
fn what_every_host_needs_is_received_from_anybody() {
    always_receives(&arp("r", "10.0.0.10"), "admit: Infrastructure(Arp)");
    always_receives(&arp("b", "10.9.9.9"), "admit: Infrastructure(Arp)");
    for kind in [130, 134, 135, 136] {
        always_receives(&icmp("fe80::1", "ff02::1", kind, 0), "admit: Infrastructure(NeighbourDiscovery)");
    }
    for kind in [131, 132] {
        always_receives(&icmp("fe80::1", "ff02::1", kind, 0), "admit: Infrastructure(ListenerReport)");
    }
    always_receives(&udp(("203.0.113.1", 67), ("203.0.113.2", 68)), "admit: Infrastructure(DhcpServer)");
    always_receives(&udp(("2001:db8::1", 547), ("fe80::2", 546)), "admit: Infrastructure(DhcpServer)");
}

#[test]
fn nothing_else_is_received_without_a_rule() {
    let rows = [
        Payload::Rarp,
        Payload::Other(0x88cc),
        icmp("fe80::1", "fe80::2", 133, 0),
        icmp("fe80::1", "fe80::2", 137, 0),
        icmp("fe80::1", "fe80::2", 143, 0),
        icmp("fe80::1", "fe80::2", 128, 0),
        icmp("10.0.0.10", "10.0.0.5", 134, 0),
        udp(("10.0.0.2", 68), ("10.0.0.5", 67)),
        udp(("10.0.0.2", 67), ("10.0.0.5", 67)),
        udp(("10.0.0.2", 547), ("10.0.0.5", 546)),
        tcp(("10.0.0.2", 67), ("10.0.0.5", 68)),
        datagram("10.0.0.2", "10.0.0.5", 17, Upper::Unseen),
    ];
    for payload in rows {
        let expected = match payload {
            Payload::Rarp | Payload::Other(_) => "drop: UnknownEthertype",
            Payload::Ip(_) | Payload::Arp(_) => "drop: NoRule",
        };
        check(&mut world(&[], &[]), "net1", &frame("r", "a", payload), "a", expected);
    }
}

#[test]
fn a_listener_report_that_a_rule_admits_is_more_than_tolerated() {
    let report = frame("r", "a", icmp("fe80::1", "ff02::1", 131, 0));
    check(&mut world(&EVERYTHING, &[]), "net1", &report, "a", "admit: rule sga-1");
}

#[test]
fn other_ethertypes_pass_only_if_permitted_and_under_an_own_mac() {
    let mut intent = intent(&EVERYTHING, &[]);
    let lldp = |src, dst| frame(src, dst, Payload::Other(0x88cc));
    let mut refusing = World::new(load(&intent), Switches::default());
    check(&mut refusing, "a", &lldp("a", "b"), "b", "drop: UnknownEthertype");
    intent["host"]["options"] = json!({ "permitted_ethertypes": ["0x88cc"] });
    let mut permitting = World::new(load(&intent), Switches::default());
    check(&mut permitting, "a", &lldp("a", "b"), "b", "admit: Infrastructure(PermittedEthertype)");
    check(&mut permitting, "net1", &lldp("r", "a"), "a", "admit: Infrastructure(PermittedEthertype)");
    check(&mut permitting, "a", &lldp("r", "b"), "b", "drop: SpoofedSource");
    check(&mut permitting, "a", &frame("a", "b", Payload::Other(0x88cd)), "b", "drop: UnknownEthertype");
}

#[test]
fn addresses_are_sent_from_only_with_the_mac_they_belong_to() {
    let mut intent = intent(&EVERYTHING, &[]);
    port_of(&mut intent, "a")["allowed_address_pairs"] = json!([
        { "ip_address": "10.0.0.8" },
        { "ip_address": "10.0.0.9", "mac_address": "00:00:5e:00:01:33" },
        { "ip_address": "10.7.0.9/16", "mac_address": "00:00:5e:00:01:33" },
        { "ip_address": "2001:db8:7::/48", "mac_address": "00:00:5e:00:01:33" },
    ]);
    let vrrp = "00:00:5e:00:01:33";
    let rows = [
        ("a", "10.0.0.5", "admit: rule sga-2"),
        ("a", "10.0.0.8", "admit: rule sga-2"),
        ("a", "10.0.0.9", "drop: SpoofedSource"),
        ("a", "10.7.1.1", "drop: SpoofedSource"),
        ("a", "0.0.0.0", "drop: SpoofedSource"),
        (vrrp, "10.0.0.9", "admit: rule sga-2"),
        (vrrp, "10.7.1.1", "admit: rule sga-2"),
        (vrrp, "10.8.1.1", "drop: SpoofedSource"),
        (vrrp, "10.0.0.5", "drop: SpoofedSource"),
        ("b", "10.0.0.9", "drop: SpoofedSource"),
    ];
    for (src, ip, expected) in rows {
        let mut world = World::new(load(&intent), Switches::default());
        check(&mut world, "a", &frame(src, "r", tcp((ip, 1), ("10.0.0.10", 2))), "elsewhere", expected);
        let expected =
            if expected.starts_with("admit") { "admit: Infrastructure(Arp)" } else { "drop: SpoofedSource" };
        let arp = arp(src, ip);
        if ip != "0.0.0.0" {
            check(&mut world, "a", &frame(src, BROADCAST, arp), "elsewhere", expected);
        }
    }
    // A pair's MAC has no link-local address of its own.
    let mut world = World::new(load(&intent), Switches::default());
    let from_pair = icmp(&link_local(vrrp), "ff02::2", 133, 0);
    check(&mut world, "a", &frame(vrrp, ALL_NODES, from_pair), "elsewhere", "drop: SpoofedSource");
    let from_prefix = icmp("2001:db8:7::1", "ff02::2", 133, 0);
    let expected = "admit: Infrastructure(NeighbourDiscovery)";
    check(&mut world, "a", &frame(vrrp, ALL_NODES, from_prefix), "elsewhere", expected);
}

#[test]
fn a_pair_of_all_addresses_frees_the_address_but_not_the_mac() {
    let mut intent = intent(&EVERYTHING, &[]);
    port_of(&mut intent, "a")["allowed_address_pairs"] = json!([{ "ip_address": "0.0.0.0/0" }]);
    let mut world = World::new(load(&intent), Switches::default());
    check(
        &mut world,
        "a",
        &frame("a", "r", tcp(("8.8.8.8", 1), ("10.0.0.10", 2))),
        "elsewhere",
        "admit: rule sga-2",
    );
    check(&mut world, "a", &frame("a", "r", arp("a", "8.8.8.8")), "elsewhere", "admit: Infrastructure(Arp)");
    check(
        &mut world,
        "a",
        &frame("b", "r", tcp(("8.8.8.8", 1), ("10.0.0.10", 2))),
        "elsewhere",
        "drop: SpoofedSource",
    );
    check(
        &mut world,
        "a",
        &frame("a", "r", tcp(("2001:db8::8", 1), ("2001:db8::10", 2))),
        "elsewhere",
        "drop: SpoofedSource",
    );
}

#[test]
fn an_unaddressed_port_has_dhcp_and_its_link_local_address_only() {
    let mut intent = intent(&EVERYTHING, &[]);
    port_of(&mut intent, "a")["fixed_ips"] = json!([]);
    let mut world = World::new(load(&intent), Switches::default());
    let lla = link_local("a");
    let rows = [
        (udp(("0.0.0.0", 68), ("255.255.255.255", 67)), "admit: Infrastructure(DhcpClient)"),
        (tcp((&lla, 1), ("fe80::1", 2)), "admit: rule sga-3"),
        (arp("a", "10.0.0.5"), "drop: SpoofedSource"),
        (tcp(("10.0.0.5", 1), ("10.0.0.10", 2)), "drop: SpoofedSource"),
        (tcp(("2001:db8::5", 1), ("2001:db8::10", 2)), "drop: SpoofedSource"),
    ];
    for (payload, expected) in rows {
        check(&mut world, "a", &frame("a", "r", payload), "elsewhere", expected);
    }
}
