//! The theorems about what a port sends, held to the model itself: whatever the rules, over all combinations of a few
//! values per field. They are stated here without using anything of the semantics.

use crate::support::{BROADCAST, ip, link_local, load, mac, port_of};
use flowproof_model::frame::{Arp, Datagram, Frame, Icmp, Neighbour, Payload, Upper};
use flowproof_model::history::Tracking;
use flowproof_model::switches::Switches;
use flowproof_model::world::{Origin, World};
use serde_json::json;
use std::net::IpAddr;

const VRRP: &str = "00:00:5e:00:01:33";
const MACS: [&str; 3] = ["a", "b", VRRP];
const V4: [&str; 4] = ["0.0.0.0", "10.0.0.5", "10.0.0.6", "10.0.0.9"];
const UDP_PORTS: [u16; 6] = [67, 68, 546, 547, 0, 5000];

fn v6() -> [String; 5] {
    ["::".to_owned(), "2001:db8::5".to_owned(), "2001:db8::6".to_owned(), link_local("a"), link_local("b")]
}

/// `a` may send from its own addresses with its own MAC, and from 10.0.0.9 with the MAC of its pair.
fn pairs(frame: &Frame, from: IpAddr) -> bool {
    let own = ["10.0.0.5", "2001:db8::5", &link_local("a")].iter().any(|own| ip(own) == from);
    frame.src == mac("a") && own || frame.src == mac(VRRP) && from == ip("10.0.0.9")
}

fn own_macs(address: flowproof_packet::MacAddr) -> bool {
    address == mac("a") || address == mac(VRRP)
}

fn messages(kind: u8) -> Vec<Upper> {
    let icmp = |neighbour| Upper::Icmp(Icmp { kind, code: 0, ident: 0, neighbour, quoted: None });
    let mut found = vec![icmp(None)];
    for target in v6() {
        for link_layer in [None, Some(mac("a")), Some(mac("b"))] {
            found.push(icmp(Some(Neighbour { target: target.parse().unwrap(), link_layer })));
        }
    }
    if matches!(kind, 135 | 136) { found } else { found[..1].to_vec() }
}

fn payloads() -> Vec<Payload> {
    let mut found = vec![Payload::Rarp, Payload::Other(0x88cc), Payload::Other(0x88cd)];
    for sender_mac in MACS.map(mac) {
        found.extend(V4.map(|spa| Payload::Arp(Arp { sender_mac, sender_ip: spa.parse().unwrap() })));
    }
    let mut uppers: Vec<(u8, Upper)> = vec![(47, Upper::Unseen), (17, Upper::Unseen)];
    for src in UDP_PORTS {
        for dst in UDP_PORTS {
            uppers.extend([6, 17].map(|protocol| (protocol, Upper::Ports { src, dst })));
        }
    }
    for kind in [8, 128, 130, 131, 132, 133, 134, 135, 136, 137, 143] {
        uppers.extend(messages(kind).into_iter().map(|message| (58, message)));
    }
    for (protocol, upper) in uppers {
        for src in V4 {
            let protocol = if protocol == 58 { 1 } else { protocol };
            found.push(Payload::Ip(Datagram {
                src: ip(src),
                dst: ip("10.0.0.10"),
                protocol,
                upper: upper.clone(),
            }));
        }
        for src in v6() {
            found.push(Payload::Ip(Datagram {
                src: ip(&src),
                dst: ip("fe80::9"),
                protocol,
                upper: upper.clone(),
            }));
        }
    }
    found
}

/// Why a frame from `a` must not escape; nothing if it may.
fn objection(frame: &Frame) -> Option<&'static str> {
    let objections: &[(bool, &str)] = &match &frame.payload {
        Payload::Rarp => vec![(!own_macs(frame.src), "spoofed-mac")],
        Payload::Other(ethertype) => {
            vec![(!own_macs(frame.src), "spoofed-mac"), (*ethertype != 0x88cc, "unknown-ethertype")]
        }
        Payload::Arp(arp) => {
            let probe = arp.sender_ip.is_unspecified() && frame.src == mac("a");
            vec![
                (!pairs(frame, arp.sender_ip.into()) && !probe, "spoofed-arp"),
                (arp.sender_mac != frame.src, "spoofed-arp-sha"),
            ]
        }
        Payload::Ip(datagram) => of_datagram(frame, datagram),
    };
    objections.iter().find(|(objects, _)| *objects).map(|(_, name)| *name)
}

fn of_datagram(frame: &Frame, datagram: &Datagram) -> Vec<(bool, &'static str)> {
    let v6 = datagram.src.is_ipv6();
    let ports = match (datagram.protocol, &datagram.upper) {
        (17, Upper::Ports { src, dst }) => (*src, *dst),
        _ => (1, 1),
    };
    let (kind, neighbour) = match &datagram.upper {
        Upper::Icmp(icmp) if v6 => (icmp.kind, icmp.neighbour),
        Upper::Icmp(_) | Upper::Ports { .. } | Upper::Unseen => (0, None),
    };
    let no_address_yet = datagram.src.is_unspecified() && frame.src == mac("a");
    let excused =
        no_address_yet && if v6 { matches!(kind, 131 | 132 | 135 | 143) } else { ports == (68, 67) };
    let target =
        neighbour.is_none_or(|n| [ip("2001:db8::5"), ip(&link_local("a"))].contains(&n.target.into()));
    let option = neighbour.and_then(|n| n.link_layer).is_none_or(own_macs);
    vec![
        (!pairs(frame, datagram.src) && !excused, if v6 { "spoofed-ipv6" } else { "spoofed-ipv4" }),
        (!v6 && ports == (67, 68), "dhcp-server"),
        (v6 && ports == (547, 546), "dhcpv6-server"),
        (matches!(kind, 134 | 137), "router-advertisement"),
        (matches!(kind, 135 | 136) && !option, "spoofed-nd"),
        (kind == 136 && !target, "spoofed-nd"),
    ]
}

fn open_world() -> World {
    let everything = ["egress IPv4 any", "egress IPv6 any"];
    let mut intent = crate::support::intent(&everything, &[]);
    port_of(&mut intent, "a")["allowed_address_pairs"] =
        json!([{ "ip_address": "10.0.0.9", "mac_address": VRRP }]);
    intent["host"]["options"] = json!({ "permitted_ethertypes": ["0x88cc"] });
    World::new(load(&intent), Switches::default())
}

#[test]
fn a_port_that_may_do_everything_sends_exactly_what_no_theorem_forbids() {
    let world = open_world();
    let origin = Origin::Port("a".into());
    let (mut sent, mut stopped) = (0, 0);
    for payload in payloads() {
        for src in MACS {
            for dst in ["r", BROADCAST] {
                let frame = Frame { src: mac(src), dst: mac(dst), vlan: None, payload: payload.clone() };
                let escapes = world
                    .judge(&origin, &frame, Tracking::Plausible)
                    .iter()
                    .any(|delivery| delivery.outcome.is_delivered());
                // A solicitation whose fields nobody can see is not believed, though no theorem speaks of it.
                let hidden = matches!(&frame.payload, Payload::Ip(Datagram { protocol: 58, upper: Upper::Icmp(icmp), .. })
                    if matches!(icmp.kind, 135 | 136) && icmp.neighbour.is_none());
                match objection(&frame) {
                    Some(name) => assert!(!escapes, "{name}: {frame:?}"),
                    None => assert!(escapes || hidden, "blocked: {frame:?}"),
                }
                sent += usize::from(escapes);
                stopped += usize::from(!escapes);
            }
        }
    }
    assert!(sent > 500 && stopped > 2000, "{sent} sent, {stopped} stopped");
}
