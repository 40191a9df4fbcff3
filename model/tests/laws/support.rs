//! A small host to try things on, rules and frames in a line each.
//!
//! On the host: `a` and `b` (filtered, groups `sga` and `sgb`), `u` (port security off), `d` (a DHCP server's port),
//! all in `net1`; `x` (filtered, group `sgx`) in `net2`, with the MAC and address of `a`. Elsewhere: `r` and `s`,
//! members of `peers`.

use flowproof_model::frame::{Arp, Datagram, Frame, Icmp, Neighbour, Payload, Upper};
use flowproof_model::history::{Delivery, Place, Tracking};
use flowproof_model::policy::{Policy, Port, PortId};
use flowproof_model::switches::Switches;
use flowproof_model::world::{Event, Origin, World};
use flowproof_packet::MacAddr;
use serde_json::{Value, json};
use std::net::IpAddr;

pub(crate) const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";

/// The MAC of a port by its letter, or a MAC as it stands.
pub(crate) fn mac(name: &str) -> MacAddr {
    let number = match name {
        "a" | "x" => 5,
        "b" => 6,
        "u" => 7,
        "d" => 2,
        "r" => 0x10,
        "s" => 0x11,
        other => return other.parse().unwrap(),
    };
    MacAddr([0xfa, 0x16, 0x3e, 0, 0, number])
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A rule from a line: `ingress IPv4 tcp 22-23 prefix=10.0.0.0/8`; also `8/0` (ICMP type and code), `group=`,
/// `addresses=`.
pub(crate) fn rule(id: &str, line: &str) -> Value {
    let mut words = line.split(' ');
    let mut rule = json!({
        "id": id, "direction": words.next(), "ethertype": words.next(), "protocol": words.next(),
        "port_range_min": null, "port_range_max": null, "remote_ip_prefix": null, "remote_group_id": null,
        "remote_address_group_id": null,
    });
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or(("", word));
        match key {
            "prefix" => rule["remote_ip_prefix"] = value.into(),
            "group" => rule["remote_group_id"] = value.into(),
            "addresses" => rule["remote_address_group_id"] = value.into(),
            _ => {
                let (min, max) = value.split_once(['-', '/']).unwrap_or((value, ""));
                rule["port_range_min"] = min.parse::<u32>().unwrap().into();
                rule["port_range_max"] = max.parse::<u32>().map_or(Value::Null, Value::from);
            }
        }
    }
    rule
}

pub(crate) fn group(id: &str, lines: &[&str]) -> Value {
    let rules: Vec<_> =
        lines.iter().enumerate().map(|(at, line)| rule(&format!("{id}-{at}"), line)).collect();
    json!({ "id": id, "security_group_rules": rules })
}

pub(crate) fn port(id: &str, network: &str, ips: &[&str], groups: &[&str]) -> Value {
    let ips: Vec<_> = ips.iter().map(|ip| json!({ "ip_address": ip })).collect();
    json!({
        "id": id, "mac_address": mac(id).to_string(), "network_id": network, "fixed_ips": ips,
        "allowed_address_pairs": [], "security_groups": groups, "port_security_enabled": true,
        "device_owner": "compute:nova",
    })
}

/// The host, with these rules in the groups of `a` and `b`.
pub(crate) fn intent(sga: &[&str], sgb: &[&str]) -> Value {
    let mut u = port("u", "net1", &["10.0.0.7"], &[]);
    u["port_security_enabled"] = false.into();
    let mut d = port("d", "net1", &["10.0.0.2"], &[]);
    d["device_owner"] = "network:dhcp".into();
    json!({
        "networks": [{ "id": "net1" }, { "id": "net2" }],
        "security_groups": [
            group("sga", sga), group("sgb", sgb), group("sgx", &["ingress IPv4 any", "egress IPv4 any"]),
            group("peers", &[]),
        ],
        "address_groups": [{ "id": "offices", "addresses": ["192.0.2.0/24", "2001:db8:aa::/48"] }],
        "ports": [
            port("a", "net1", &["10.0.0.5", "2001:db8::5"], &["sga"]),
            port("b", "net1", &["10.0.0.6", "2001:db8::6"], &["sgb"]),
            u, d,
            port("x", "net2", &["10.0.0.5"], &["sgx"]),
            port("r", "net1", &["10.0.0.10", "2001:db8::10"], &["peers"]),
            port("s", "net2", &["10.0.0.11"], &["peers"]),
        ],
        "host": { "bindings": [
            { "port_id": "a", "ofport": 5, "vlan": 1 }, { "port_id": "b", "ofport": 6, "vlan": 1 },
            { "port_id": "u", "ofport": 7, "vlan": 1 }, { "port_id": "d", "ofport": 2, "vlan": 1 },
            { "port_id": "x", "ofport": 8, "vlan": 2 },
        ] },
    })
}

/// The port of an intent with this id, to be changed.
pub(crate) fn port_of<'a>(intent: &'a mut Value, id: &str) -> &'a mut Value {
    intent["ports"].as_array_mut().unwrap().iter_mut().find(|port| port["id"] == id).unwrap()
}

#[track_caller]
pub(crate) fn load(intent: &Value) -> Policy {
    Policy::from_json(&intent.to_string()).unwrap()
}

#[track_caller]
pub(crate) fn world(sga: &[&str], sgb: &[&str]) -> World {
    World::new(load(&intent(sga, sgb)), Switches::default())
}

pub(crate) fn the_port(world: &World, id: &str) -> Port {
    world.policy.ports[id].clone()
}

/// `port` or, for `net1`, `net2` and `nowhere`, the uplinks.
pub(crate) fn origin(name: &str) -> Origin {
    match name {
        "net1" | "net2" => Origin::Network(name.into()),
        "nowhere" => Origin::Unprovisioned,
        port => Origin::Port(port.into()),
    }
}

pub(crate) fn frame(src: &str, dst: &str, payload: Payload) -> Frame {
    Frame { src: mac(src), dst: mac(dst), vlan: None, payload }
}

pub(crate) fn datagram(src: &str, dst: &str, protocol: u8, upper: Upper) -> Payload {
    Payload::Ip(Datagram { src: ip(src), dst: ip(dst), protocol, upper })
}

fn ports(protocol: u8, src: (&str, u16), dst: (&str, u16)) -> Payload {
    datagram(src.0, dst.0, protocol, Upper::Ports { src: src.1, dst: dst.1 })
}

pub(crate) fn tcp(src: (&str, u16), dst: (&str, u16)) -> Payload {
    ports(6, src, dst)
}

pub(crate) fn udp(src: (&str, u16), dst: (&str, u16)) -> Payload {
    ports(17, src, dst)
}

pub(crate) fn icmp(src: &str, dst: &str, kind: u8, code: u8) -> Payload {
    let protocol = if src.contains(':') { 58 } else { 1 };
    let upper = Upper::Icmp(Icmp { kind, code, ident: 77, neighbour: None, quoted: None });
    datagram(src, dst, protocol, upper)
}

/// An ICMP error about another payload.
pub(crate) fn error(src: &str, dst: &str, kind: u8, about: &Payload) -> Payload {
    let Payload::Ip(quoted) = about else { panic!("errors are about datagrams") };
    let mut payload = icmp(src, dst, kind, 0);
    if let Payload::Ip(Datagram { upper: Upper::Icmp(icmp), .. }) = &mut payload {
        icmp.quoted = Some(Box::new(quoted.clone()));
    }
    payload
}

/// Neighbour discovery: type 135 or 136, target, link-layer option.
pub(crate) fn nd(src: &str, dst: &str, kind: u8, target: &str, option: Option<&str>) -> Payload {
    let neighbour = Some(Neighbour { target: target.parse().unwrap(), link_layer: option.map(mac) });
    let upper = Upper::Icmp(Icmp { kind, code: 0, ident: 0, neighbour, quoted: None });
    datagram(src, dst, 58, upper)
}

pub(crate) fn arp(sender_mac: &str, sender_ip: &str) -> Payload {
    Payload::Arp(Arp { sender_mac: mac(sender_mac), sender_ip: sender_ip.parse().unwrap() })
}

/// The link-local address of a port.
pub(crate) fn link_local(name: &str) -> String {
    mac(name).link_local().to_string()
}

/// Sends a frame from `from`; deliveries.
pub(crate) fn send(world: &mut World, from: &str, frame: &Frame) -> Vec<Delivery> {
    let event = Event::Frame { origin: origin(from), frame: frame.clone(), tracking: Tracking::Plausible };
    world.apply(event).unwrap()
}

fn deciding(deliveries: &[Delivery], to: &str) -> String {
    let place = if to == "elsewhere" { Place::Elsewhere } else { Place::Port(PortId::from(to)) };
    deliveries
        .iter()
        .find(|delivery| delivery.to == place)
        .map_or_else(|| "not sent there".to_owned(), |delivery| delivery.outcome.decisive().to_string())
}

/// Sends a frame, and wants this decisive verdict at `to`.
#[track_caller]
pub(crate) fn check(world: &mut World, from: &str, frame: &Frame, to: &str, expected: &str) {
    let deliveries = send(world, from, frame);
    assert_eq!(deciding(&deliveries, to), expected, "{from} → {to}: {frame:?}");
}

/// The same for what connection tracking calls invalid.
#[track_caller]
pub(crate) fn check_invalid(world: &World, from: &str, frame: &Frame, to: &str, expected: &str) {
    let deliveries = world.judge(&origin(from), frame, Tracking::Invalid);
    assert_eq!(deciding(&deliveries, to), expected, "{from} → {to}: {frame:?}");
}

/// A change of the switches by name.
pub(crate) fn switched(mut world: World, name: &str, setting: &str) -> World {
    world.switches.set(name, setting).unwrap();
    world
}
