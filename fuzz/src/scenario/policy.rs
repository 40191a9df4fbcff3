//! Policies: a host's networks, groups with rules, and ports, as the first half of a scenario's text.

use crate::Choices;
use std::fmt::Write;

const PROTOCOLS_V4: &[&str] = &[
    "any",
    "any",
    "tcp",
    "tcp 22",
    "tcp 23",
    "tcp 80",
    "tcp 22-25",
    "tcp 80-88",
    "tcp 1-65535",
    "udp",
    "udp 53",
    "udp 53-60",
    "udp 67-69",
    "icmp",
    "icmp 8",
    "icmp 8/0",
    "icmp 13",
    "sctp 80",
    "sctp",
    "vrrp",
    "6 22",
    "17",
    "dccp 5-6",
    "udplite 7",
    "1",
];
const PROTOCOLS_V6: &[&str] = &[
    "any",
    "any",
    "tcp",
    "tcp 22",
    "tcp 80-88",
    "udp",
    "udp 53",
    "udp 546-547",
    "icmp",
    "icmpv6 128",
    "ipv6-icmp 128/0",
    "58",
    "sctp 80",
    "ipv6-route",
    "112",
    "ipv6-icmp 134",
];
const PREFIXES_V4: &[&str] =
    &["10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.16/28", "0.0.0.0/0", "8.8.8.8/32"];
const PREFIXES_V6: &[&str] = &["fd00::/64", "fd00::1/128", "::/0", "fe80::/10"];
pub(super) const GROUPS: [&str; 3] = ["g0", "g1", "g2"];

fn rule_line(choices: &mut Choices<'_>) -> String {
    let direction = choices.pick(&["ingress", "egress"]);
    let v6 = choices.chance(35);
    let (family, protocols, prefixes) =
        if v6 { ("IPv6", PROTOCOLS_V6, PREFIXES_V6) } else { ("IPv4", PROTOCOLS_V4, PREFIXES_V4) };
    let protocol = choices.pick(protocols);
    let peer = match choices.below(10) {
        0..=4 => String::new(),
        5 | 6 => format!(" with {}", choices.pick(prefixes)),
        7 | 8 => format!(" with group {}", choices.pick(&GROUPS)),
        _ => " with addresses ag".to_owned(),
    };
    format!("{direction} {family} {protocol}{peer}")
}

fn port_line(choices: &mut Choices<'_>, number: usize, local: bool, two: bool) -> String {
    let second = two && choices.chance(30);
    let network = if second { "b" } else { "a" };
    let mut line = format!("port p{number} {network} mac fa:16:3e:00:00:{number:02x}");
    if local {
        let _infallible = write!(line, " ofport {} vlan {}", 10 + number, if second { 2 } else { 1 });
    }
    if !choices.chance(8) {
        let _infallible = write!(line, " ip 10.0.0.{number}");
    }
    if choices.chance(70) {
        let _infallible = write!(line, " ip fd00::{number:x}");
    }
    // The API takes address pairs only with port security.
    let kind = choices.below(100);
    if kind >= 14 && choices.chance(20) {
        let mac = if choices.chance(50) { number } else { 16 + number };
        let prefixes = [
            format!("10.0.0.{}", 16 + number),
            format!("fd00::{:x}", 16 + number),
            "10.0.9.0/24".into(),
            "0.0.0.0/0".into(),
        ];
        let _infallible = write!(line, " pair fa:16:3e:00:00:{mac:02x} {}", choices.pick(&prefixes));
    }
    for group in GROUPS {
        if choices.chance(60) {
            let _infallible = write!(line, " group {group}");
        }
    }
    match kind {
        0..=7 => line.push_str(" unfiltered"),
        8..=13 => line.push_str(" owner network:dhcp"),
        _ => {}
    }
    line
}

/// Networks, uplinks and options.
fn surroundings(choices: &mut Choices<'_>, two: bool) -> String {
    let mut text = "layout mitaka\nnetwork a vlan 1053 physnet1\nuplink 1 provider physnet1\n".to_owned();
    if two {
        let tunnel = choices.chance(50);
        text.push_str(if tunnel {
            "network b vxlan 7\nuplink 2 tunnel\n"
        } else {
            "network b vlan 1054 physnet1\n"
        });
    }
    if choices.chance(20) {
        text.push_str("option permitted-ethertype 0x8863\n");
    }
    if choices.chance(15) {
        text.push_str("option explicitly-egress-direct\n");
    }
    text.push_str("addresses ag 10.0.0.3 10.0.0.16/28 fd00::2\n");
    text
}

/// Rules that groups often have: each chance in percent, with its lines.
const USUAL: &[(usize, &str)] = &[
    (65, "  rule @-out4 egress IPv4 any\n  rule @-out6 egress IPv6 any\n"),
    (50, "  rule @-in4 ingress IPv4 any with group @\n  rule @-in6 ingress IPv6 any with group @\n"),
    (15, "  rule @-peer4 egress IPv4 any with group @\n  rule @-peer6 egress IPv6 any with group @\n"),
    (15, "  rule @-web4 egress IPv4 tcp 80 with group @\n  rule @-web6 egress IPv6 tcp 80 with group @\n"),
    (
        15,
        "  rule @-echo4 egress IPv4 icmp 8 with group @\n  rule @-echo6 egress IPv6 ipv6-icmp 128 with group @\n  \
         rule @-echo-in4 ingress IPv4 icmp 8 with group @\n  rule @-echo-in6 ingress IPv6 icmp 128 with group @\n",
    ),
    (30, "  rule @-ping4 egress IPv4 icmp with group @\n  rule @-ping6 egress IPv6 icmp with group @\n"),
];

fn group_lines(choices: &mut Choices<'_>, group: &str) -> String {
    let mut text = format!("group {group}\n");
    for (percent, lines) in USUAL {
        if choices.chance(*percent) {
            text.push_str(&lines.replace('@', group));
        }
    }
    for rule in 0..choices.below(6) {
        let _infallible = writeln!(text, "  rule {group}-r{rule} {}", rule_line(choices));
    }
    text
}

/// A policy as the first half of a scenario's text.
pub(super) fn policy_text(choices: &mut Choices<'_>) -> String {
    let two = choices.chance(40);
    let mut text = surroundings(choices, two);
    for group in GROUPS {
        text.push_str(&group_lines(choices, group));
    }
    let (local, remote) = (2 + choices.below(3), 1 + choices.below(2));
    for number in 1..=local + remote {
        text.push_str(&port_line(choices, number, number <= local, two));
        text.push('\n');
    }
    text
}
