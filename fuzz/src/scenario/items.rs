//! Packets that no rule is about: services, forgeries, and the words of a packet.

use crate::Choices;
use flowproof_lockstep::scenario::{Contents, Extras, Packet, Sender};
use flowproof_model::policy::{Policy, PortId};

/// Flow syntax, item by item.
pub(super) type Items = Vec<(String, Option<String>)>;

pub(super) fn item(key: &str, value: impl ToString) -> (String, Option<String>) {
    (key.to_owned(), Some(value.to_string()))
}

pub(super) fn word(key: &str) -> (String, Option<String>) {
    (key.to_owned(), None)
}

/// What needs no rule, or never passes: by family.
const SERVICES: &[&str] = &[
    "arp",
    "arp,arp_op=2",
    "arp,arp_spa=0.0.0.0",
    "arp,arp_spa=0.0.0.0,arp_tpa=10.0.0.1",
    "arp,arp_spa=0.0.0.0,arp_tpa=10.0.0.2",
    "arp,arp_spa=0.0.0.0,arp_tpa=10.0.0.1,arp_sha=fa:16:3e:00:00:99",
    "arp,arp_spa=0.0.0.0,arp_tpa=10.0.0.2,arp_sha=fa:16:3e:00:00:01",
    "rarp",
    "udp,udp_src=68,udp_dst=67",
    "udp,udp_src=67,udp_dst=68",
    "udp,nw_src=0.0.0.0,udp_src=68,udp_dst=67",
    "udp6,udp_src=546,udp_dst=547",
    "udp6,udp_src=547,udp_dst=546",
    "udp,udp_src=67,udp_dst=67",
    "udp,udp_src=4000,udp_dst=68",
    "icmp6,icmpv6_type=130",
    "icmp6,icmpv6_type=131",
    "icmp6,icmpv6_type=132",
    "icmp6,icmpv6_type=133",
    "icmp6,icmpv6_type=134",
    "icmp6,icmpv6_type=135,nd_target=fd00::2",
    "icmp6,icmpv6_type=136,nd_target=fd00::1",
    "icmp6,icmpv6_type=136,nd_target=fd00::2",
    "icmp6,icmpv6_type=137",
    "icmp6,icmpv6_type=143",
    "icmp6,ipv6_src=::,icmpv6_type=135,nd_target=fd00::1",
    "icmp6,ipv6_src=::,icmpv6_type=143",
    "icmp6,ipv6_src=::,icmpv6_type=131",
    "dl_type=0x8863",
    "dl_type=0x8863,dl_dst=ff:ff:ff:ff:ff:ff",
    "dl_type=0x88cc",
    "icmp6,icmpv6_type=135,nd_target=fd00::2,nd_sll=fa:16:3e:00:00:01",
    "icmp6,icmpv6_type=136,nd_target=fd00::1,nd_tll=fa:16:3e:00:00:01",
    "icmp6,icmpv6_type=135,icmpv6_code=1",
];

/// What somebody writes over a field of a packet.
const FORGERIES: &[(&str, &[&str])] = &[
    ("dl_src", &["fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "fa:16:3e:00:00:11", "fa:16:3e:00:00:99"]),
    ("nw_src", &["10.0.0.1", "10.0.0.2", "10.0.0.17", "10.0.9.9", "8.8.8.8"]),
    ("ipv6_src", &["fd00::1", "fd00::2", "fd00::11", "fe80::1"]),
    ("arp_spa", &["10.0.0.1", "10.0.0.2", "10.0.0.17"]),
    ("arp_sha", &["fa:16:3e:00:00:01", "fa:16:3e:00:00:99"]),
    (
        "dl_dst",
        &[
            "fa:16:3e:00:00:01",
            "fa:16:3e:00:00:12",
            "fa:16:3e:00:00:99",
            "ff:ff:ff:ff:ff:ff",
            "33:33:00:00:00:01",
        ],
    ),
    ("nw_dst", &["10.0.0.1", "8.8.8.8", "255.255.255.255"]),
    ("ipv6_dst", &["fd00::1", "ff02::1"]),
    ("dl_vlan", &["1", "2", "5", "1053", "1054"]),
];

fn items_of(text: &str) -> Items {
    let split = |item: &str| match item.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (item.to_owned(), None),
    };
    text.split(',').map(split).collect()
}

/// Writes something false over a field that the packet has.
pub(super) fn forge(choices: &mut Choices<'_>, packet: &mut Packet) {
    let Contents::Flow(items) = &mut packet.contents else { return };
    let (field, values) = choices.pick(FORGERIES);
    let has = |words: &[&str]| items.iter().any(|(key, _)| words.contains(&key.as_str()));
    let fits = match *field {
        "nw_src" | "nw_dst" => has(&["ip", "tcp", "udp", "sctp", "icmp"]),
        "ipv6_src" | "ipv6_dst" => items.iter().any(|(key, _)| key.ends_with('6')),
        "arp_spa" | "arp_sha" => has(&["arp"]),
        _ => true,
    };
    if fits {
        items.retain(|(key, _)| key != field);
        items.push(item(field, *choices.pick(values)));
    }
}

/// A packet that needs no rule, or never passes.
pub(super) fn service(choices: &mut Choices<'_>, policy: &Policy) -> Option<Packet> {
    let ids: Vec<&PortId> = policy.ports.keys().collect();
    let (from, to) = (*choices.pick(&ids), *choices.pick(&ids));
    let service: &str = choices.pick::<&str>(SERVICES);
    let contents = Contents::Flow(items_of(service));
    (from != to).then(|| Packet {
        from: Sender::Port(from.clone()),
        to: Some(to.clone()),
        contents,
        extras: Extras::default(),
    })
}
