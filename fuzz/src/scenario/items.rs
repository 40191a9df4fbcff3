//! Packets that no rule is about, and the words of a packet.

use crate::Choices;
use flowproof_lockstep::scenario::{Contents, Extras, Packet, Sender};
use flowproof_model::policy::{Ethertype, Policy, Port};

/// Flow syntax, item by item.
pub(super) type Items = Vec<(String, Option<String>)>;

pub(super) fn item(key: &str, value: impl ToString) -> (String, Option<String>) {
    (key.to_owned(), Some(value.to_string()))
}

pub(super) fn word(key: &str) -> (String, Option<String>) {
    (key.to_owned(), None)
}

/// What needs no rule, or never passes: by family. `FROM4`, `TO6` and the like are addresses of its ends.
const SERVICES: &[&str] = &[
    "arp",
    "arp,arp_op=2",
    "arp,arp_spa=0.0.0.0",
    "arp,arp_spa=0.0.0.0,arp_tpa=FROM4",
    "arp,arp_spa=0.0.0.0,arp_tpa=TO4",
    "arp,arp_spa=0.0.0.0,arp_tpa=FROM4,arp_sha=fa:16:3e:00:00:99",
    "arp,arp_spa=0.0.0.0,arp_tpa=TO4,arp_sha=TOMAC",
    "arp,dl_dst=ff:ff:ff:ff:ff:ff,arp_tpa=TO4",
    "rarp",
    "udp,udp_src=68,udp_dst=67",
    "udp,udp_src=67,udp_dst=68",
    "udp,nw_src=0.0.0.0,udp_src=68,udp_dst=67",
    "udp,dl_dst=ff:ff:ff:ff:ff:ff,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67",
    "udp6,udp_src=546,udp_dst=547",
    "udp6,udp_src=547,udp_dst=546",
    "udp,udp_src=67,udp_dst=67",
    "udp,udp_src=4000,udp_dst=68",
    "udp6,udp_src=547,udp_dst=4000",
    "icmp6,icmpv6_type=130",
    "icmp6,icmpv6_type=131",
    "icmp6,icmpv6_type=132",
    "icmp6,icmpv6_type=133",
    "icmp6,icmpv6_type=134",
    "icmp6,icmpv6_type=135,nd_target=TO6",
    "icmp6,icmpv6_type=136,nd_target=FROM6",
    "icmp6,icmpv6_type=136,nd_target=TO6",
    "icmp6,icmpv6_type=137",
    "icmp6,icmpv6_type=143",
    "icmp6,ipv6_src=::,icmpv6_type=135,nd_target=FROM6",
    "icmp6,ipv6_src=::,icmpv6_type=143",
    "icmp6,ipv6_src=::,icmpv6_type=131",
    "icmp6,ipv6_src=::,icmpv6_type=132",
    "dl_type=0x8863",
    "dl_type=0x8863,dl_dst=TOMAC",
    "dl_type=0x8863,dl_src=FROMMAC",
    "dl_type=0x8863,dl_dst=ff:ff:ff:ff:ff:ff",
    "dl_type=0x88cc",
    "icmp6,icmpv6_type=135,nd_target=TO6,nd_sll=FROMMAC",
    "icmp6,icmpv6_type=136,nd_target=FROM6,nd_tll=FROMMAC",
    "icmp6,icmpv6_type=135,icmpv6_code=1",
];

fn items_of(text: &str) -> Items {
    let split = |item: &str| match item.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (item.to_owned(), None),
    };
    text.split(',').map(split).collect()
}

/// A port's address, of which family whoever asks says; the first of those it may use.
fn address(port: &Port, v6: bool) -> Option<String> {
    let family = if v6 { Ethertype::Ipv6 } else { Ethertype::Ipv4 };
    port.pairs(family).next().map(|pair| pair.prefix.addr().to_string())
}

/// The template with the addresses of these ends; none where one has no such address.
fn filled(template: &str, from: &Port, to: &Port) -> Option<String> {
    let mut text = template.replace("FROMMAC", &from.mac.to_string()).replace("TOMAC", &to.mac.to_string());
    for (word, port, v6) in
        [("FROM4", from, false), ("TO4", to, false), ("FROM6", from, true), ("TO6", to, true)]
    {
        if text.contains(word) {
            text = text.replace(word, &address(port, v6)?);
        }
    }
    Some(text)
}

/// A packet that needs no rule, or never passes.
pub(super) fn service(choices: &mut Choices<'_>, policy: &Policy) -> Option<Packet> {
    let ports: Vec<&Port> = policy.ports.values().collect();
    let (from, to) = (*choices.pick(&ports), *choices.pick(&ports));
    let permitted = policy.host.as_ref().map_or(&[][..], |host| &host.options.permitted_ethertypes);
    let service = if !permitted.is_empty() && choices.chance(20) {
        format!("dl_type={:#x}", choices.pick(permitted))
    } else {
        filled(choices.pick::<&str>(SERVICES), from, to)?
    };
    let contents = Contents::Flow(items_of(&service));
    (from.id != to.id).then(|| Packet {
        from: Sender::Port(from.id.clone()),
        to: Some(to.id.clone()),
        contents,
        extras: Extras::default(),
    })
}
