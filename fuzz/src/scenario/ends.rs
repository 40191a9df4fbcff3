//! Who packets say they are from, and whom for: what a policy lets its ports call themselves, and what is next to that.

use super::items::{Items, item};
use crate::Choices;
use flowproof_lockstep::scenario::{Contents, Packet, Sender};
use flowproof_model::policy::{Ethertype, Policy, Port, Segment, Uplink, UplinkKind};
use flowproof_packet::MacAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// MACs that are nobody's: groups, and a stranger.
const MACS: &[u64] = &[0xffff_ffff_ffff, 0x0100_5e00_0001, 0x3333_0000_0001, 0xfa16_3eff_fffe];
const V4: &[Ipv4Addr] =
    &[Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::new(8, 8, 8, 8)];
const V6: &[Ipv6Addr] = &[
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
];
/// A tag that is no VLAN, and two that are reserved.
const VLANS: &[u16] = &[5, 0, 4095];
/// Ports and types that tables look at, whatever the rules.
const NUMBERS: &[u16] = &[0, 67, 68, 546, 547, 133, 134, 135, 136, 4000];

/// What the addresses of a packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Arp,
    Rarp,
    Other,
}

fn family(items: &Items) -> Family {
    match items.first().map(|(key, _)| key.as_str()) {
        Some("ip" | "tcp" | "udp" | "sctp" | "icmp") => Family::V4,
        Some("arp") => Family::Arp,
        Some("rarp") => Family::Rarp,
        Some(key) if key.ends_with('6') => Family::V6,
        Some(_) | None => Family::Other,
    }
}

/// A MAC with an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    mac: MacAddr,
    ip: IpAddr,
}

/// What a port may call itself.
pub(super) fn ends_of(port: &Port, v6: bool) -> Vec<End> {
    let family = if v6 { Ethertype::Ipv6 } else { Ethertype::Ipv4 };
    port.pairs(family).map(|pair| End { mac: pair.mac, ip: pair.prefix.addr() }).collect()
}

fn put(items: &mut Items, key: &str, value: impl ToString) {
    items.retain(|(known, _)| known != key);
    items.push(item(key, value));
}

fn has(items: &Items, key: &str) -> bool {
    items.iter().any(|(known, _)| known == key)
}

/// Lets a packet be from this end.
pub(super) fn from(items: &mut Items, end: End) {
    put(items, "dl_src", end.mac);
    match family(items) {
        Family::V4 => put(items, "nw_src", end.ip),
        Family::V6 => put(items, "ipv6_src", end.ip),
        Family::Arp => {
            put(items, "arp_spa", end.ip);
            put(items, "arp_sha", end.mac);
        }
        Family::Rarp => put(items, "arp_sha", end.mac),
        Family::Other => {}
    }
    for key in ["nd_sll", "nd_tll"] {
        if has(items, key) {
            put(items, key, end.mac);
        }
    }
}

/// Lets a packet be for this end.
pub(super) fn to(items: &mut Items, end: End) {
    put(items, "dl_dst", end.mac);
    match family(items) {
        Family::V4 => put(items, "nw_dst", end.ip),
        Family::V6 => put(items, "ipv6_dst", end.ip),
        Family::Arp => put(items, "arp_tpa", end.ip),
        Family::Rarp | Family::Other => {}
    }
}

fn sender<'p>(policy: &'p Policy, packet: &Packet) -> Option<&'p Port> {
    match &packet.from {
        Sender::Port(id) => policy.ports.get(id),
        Sender::Uplink(_) => None,
    }
}

/// Lets a packet be from an end of its sender or, less often, of anybody, and perhaps for one of its receiver.
pub(super) fn disguise(choices: &mut Choices<'_>, policy: &Policy, packet: &mut Packet) -> Option<()> {
    let own = sender(policy, packet)?;
    let receiver = packet.to.as_ref().and_then(|id| policy.ports.get(id));
    let Contents::Flow(items) = &mut packet.contents else { return None };
    let everybody: Vec<&Port> = policy.ports.values().collect();
    let port = if choices.chance(25) { *choices.pick(&everybody) } else { own };
    let v6 = family(items) == Family::V6;
    let ends = ends_of(port, v6);
    if !ends.is_empty() {
        from(items, *choices.pick(&ends));
    }
    let ends = receiver.map(|port| ends_of(port, v6)).unwrap_or_default();
    if !ends.is_empty() && choices.chance(30) {
        to(items, *choices.pick(&ends));
    }
    Some(())
}

/// The VLANs that mean something: those of this host, and those of the networks behind an uplink.
fn vlans(policy: &Policy, uplink: Option<&Uplink>) -> Vec<u16> {
    let local = policy.local_ports().map(|(_, binding)| binding.vlan);
    let leads = |to: &Option<String>| {
        uplink.is_none_or(|uplink| uplink.kind == UplinkKind::Provider && uplink.physical_network == *to)
    };
    let provided = policy.networks.values().filter_map(|network| match &network.segment {
        Segment::Vlan { vid, physical_network } => leads(physical_network).then_some(*vid),
        _ => None,
    });
    local.chain(provided).chain(VLANS.iter().copied()).collect()
}

/// Lets a packet come in by an uplink, with a tag that may be that of another network or none.
pub(super) fn by_uplink(choices: &mut Choices<'_>, policy: &Policy, packet: &mut Packet) -> Option<()> {
    let uplinks = policy.host.as_ref().map(|host| host.uplinks.as_slice()).unwrap_or_default();
    let port = sender(policy, packet)?;
    let Contents::Flow(items) = &mut packet.contents else { return None };
    let ends = ends_of(port, family(items) == Family::V6);
    if uplinks.is_empty() || ends.is_empty() {
        return None;
    }
    from(items, *choices.pick(&ends));
    let uplink = choices.pick(uplinks);
    if !choices.chance(15) {
        put(items, "dl_vlan", choices.pick(&vlans(policy, Some(uplink))));
    }
    packet.from = Sender::Uplink(uplink.ofport);
    Some(())
}

/// What stands in a field.
#[derive(Clone, Copy)]
enum Kind {
    Mac,
    V4,
    V6,
    Number(u16),
    Vlan,
}

/// The fields of a packet that somebody may write something false over.
fn fields(items: &Items) -> Vec<(String, Kind)> {
    let mut all: Vec<(&str, Kind)> =
        vec![("dl_src", Kind::Mac), ("dl_dst", Kind::Mac), ("dl_vlan", Kind::Vlan)];
    all.extend(match family(items) {
        Family::V4 => vec![("nw_src", Kind::V4), ("nw_dst", Kind::V4)],
        Family::V6 => vec![("ipv6_src", Kind::V6), ("ipv6_dst", Kind::V6)],
        Family::Arp => {
            vec![
                ("arp_spa", Kind::V4),
                ("arp_sha", Kind::Mac),
                ("arp_tpa", Kind::V4),
                ("arp_op", Kind::Number(4)),
            ]
        }
        Family::Rarp => vec![("arp_sha", Kind::Mac)],
        Family::Other => Vec::new(),
    });
    let own = items.iter().filter_map(|(key, value)| {
        value.as_ref()?;
        let kind = match key.as_str() {
            "nd_target" => Kind::V6,
            "nd_sll" | "nd_tll" => Kind::Mac,
            "icmp_type" | "icmpv6_type" | "nw_proto" => Kind::Number(255),
            _ if ["tcp_", "udp_", "sctp_"].iter().any(|name| key.starts_with(name)) && key != "tcp_flags" => {
                Kind::Number(u16::MAX)
            }
            _ => return None,
        };
        Some((key.as_str(), kind))
    });
    all.extend(own);
    let code = [("icmp_type", "icmp_code"), ("icmpv6_type", "icmpv6_code")];
    all.extend(code.iter().filter(|(of, _)| has(items, of)).map(|(_, code)| (*code, Kind::Number(255))));
    all.into_iter().map(|(key, kind)| (key.to_owned(), kind)).collect()
}

/// What a field says: what is written, or what it is otherwise.
fn value(items: &Items, key: &str, ends: (Option<&Port>, Option<&Port>)) -> Option<String> {
    if let Some((_, value)) = items.iter().find(|(known, _)| known == key) {
        return value.clone();
    }
    let (from, to) = ends;
    let port = if key.ends_with("_src") || matches!(key, "arp_spa" | "arp_sha") { from? } else { to? };
    let ip = |v6| ends_of(port, v6).first().map(|end| end.ip.to_string());
    match key {
        "dl_src" | "dl_dst" | "arp_sha" => Some(port.mac.to_string()),
        "nw_src" | "nw_dst" | "arp_spa" | "arp_tpa" => ip(false),
        "ipv6_src" | "ipv6_dst" => ip(true),
        _ => None,
    }
}

/// A bit of so many, most often the last.
fn bit(choices: &mut Choices<'_>, width: usize) -> u128 {
    1 << if choices.chance(60) { 0 } else { choices.below(width) }
}

/// What is next to a value: but for one bit, or one more or less.
fn next_to(choices: &mut Choices<'_>, kind: Kind, text: &str) -> Option<String> {
    Some(match kind {
        Kind::Mac => {
            let mac: MacAddr = text.parse().ok()?;
            MacAddr::from_bits(mac.to_bits() ^ bit(choices, 48) as u64).to_string()
        }
        Kind::V4 => {
            let ip: Ipv4Addr = text.parse().ok()?;
            Ipv4Addr::from_bits(ip.to_bits() ^ bit(choices, 32) as u32).to_string()
        }
        Kind::V6 => {
            let ip: Ipv6Addr = text.parse().ok()?;
            Ipv6Addr::from_bits(ip.to_bits() ^ bit(choices, 128)).to_string()
        }
        Kind::Number(most) => {
            let number: u16 = text.parse().ok()?;
            let changed = match choices.below(3) {
                0 => number.wrapping_add(1),
                1 => number.wrapping_sub(1),
                _ => number ^ 1,
            };
            changed.min(most).to_string()
        }
        Kind::Vlan => (text.parse::<u16>().ok()? ^ 1).to_string(),
    })
}

/// What somebody else has there, or nobody.
fn foreign(choices: &mut Choices<'_>, policy: &Policy, kind: Kind) -> Option<String> {
    let ports: Vec<&Port> = policy.ports.values().collect();
    let port = if ports.is_empty() { return None } else { *choices.pick(&ports) };
    let stranger = choices.chance(40);
    let address = |choices: &mut Choices<'_>, v6: bool| {
        let ends = ends_of(port, v6);
        (!ends.is_empty()).then(|| choices.pick(&ends).ip.to_string())
    };
    match kind {
        Kind::Mac if stranger => Some(MacAddr::from_bits(*choices.pick(MACS)).to_string()),
        Kind::Mac => Some(choices.pick(&port.macs()).to_string()),
        Kind::V4 if stranger => Some(choices.pick(V4).to_string()),
        Kind::V4 => address(choices, false),
        Kind::V6 if stranger => Some(choices.pick(V6).to_string()),
        Kind::V6 => address(choices, true),
        Kind::Number(most) => Some((*choices.pick(NUMBERS)).min(most).to_string()),
        Kind::Vlan => Some(choices.pick(&vlans(policy, None)).to_string()),
    }
}

/// Writes something false over a field of a packet: what is next to what is true, or another's.
pub(super) fn forge(choices: &mut Choices<'_>, policy: &Policy, packet: &mut Packet) -> Option<()> {
    let ends = (sender(policy, packet), packet.to.as_ref().and_then(|id| policy.ports.get(id)));
    let Contents::Flow(items) = &mut packet.contents else { return None };
    let (key, kind) = choices.pick(&fields(items)).clone();
    let before = value(items, &key, ends);
    let before = before.or_else(|| key.ends_with("_code").then(|| "0".to_owned()));
    let changed = match before.filter(|_| choices.chance(65)) {
        Some(before) => next_to(choices, kind, &before),
        None => foreign(choices, policy, kind),
    }?;
    // Options and targets are there only in what they belong to.
    if key.starts_with("icmpv6_") {
        items.retain(|(known, _)| !known.starts_with("nd_"));
    }
    put(items, &key, changed);
    Some(())
}
