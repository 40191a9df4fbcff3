//! From a packet of a scenario to frames at a port: addresses filled in, tagged as its way in has it, cut in pieces.
//!
//! Deliberately absent: what becomes of them.

use crate::scenario::{Contents, Extras, Packet, Sender};
use flowproof_model::policy::{NetworkId, Policy, Port, Segment, Uplink, UplinkKind};
use flowproof_model::world::Origin;
use flowproof_packet::build::{BadChecksum, ComposeOptions, IcmpError, compose, fragment, icmp_error};
use flowproof_packet::wire::{self, VLAN_PRESENT, ethertype, proto};
use flowproof_packet::{Field, FlowKey, MacAddr, PortNo, port};
use flowproof_switch::flow::{Match, parse_match};
use std::net::IpAddr;

/// A packet at the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The port it comes in by.
    pub in_port: PortNo,
    /// The same, as the model speaks of it.
    pub origin: Origin,
    /// The whole frame.
    pub whole: Vec<u8>,
    /// What comes in, one after the other: the whole, or its fragments.
    pub frames: Vec<Vec<u8>>,
}

/// A packet that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadPacket {
    /// Where in the flow syntax, in characters from 0.
    pub column: u32,
    /// Why not.
    pub message: String,
}

fn bad(message: impl Into<String>) -> BadPacket {
    BadPacket { column: 0, message: message.into() }
}

/// Where a sender's frames come in, and the tag they have there.
struct Entrance<'p> {
    in_port: PortNo,
    /// The port that sends, if it is one.
    port: Option<&'p Port>,
    tag: Option<u16>,
}

/// The frames of a packet under a policy. `about` is what an error message is about.
///
/// # Errors
/// The packet names a port that is not there, or no frame can be as it says.
pub fn arrival(policy: &Policy, packet: &Packet, about: Option<&Packet>) -> Result<Arrival, BadPacket> {
    let entrance = entrance(policy, &packet.from)?;
    let whole = match &packet.contents {
        Contents::Raw(bytes) => bytes.clone(),
        Contents::Flow(items) => flow_frame(policy, packet, items, &entrance)?,
        Contents::Error(kind, code) => {
            let about = about.ok_or_else(|| bad("an error message needs a packet before it"))?;
            let original = arrival(policy, about, None)?.whole;
            error_frame((*kind, *code), &original, &entrance)?
        }
    };
    let vid = wire::extract(&whole, 0).get(Field::VlanVid) as u16;
    let origin = match &packet.from {
        Sender::Port(id) if entrance.port.is_some() && entrance.tag.is_none() && is_bound(policy, packet) => {
            Origin::Port(id.clone())
        }
        Sender::Port(_) | Sender::Uplink(_) => network_at(policy, entrance.in_port, vid)
            .map_or(Origin::Unprovisioned, |network| Origin::Network(network.clone())),
    };
    let frames = match packet.extras.fragment {
        None => vec![whole.clone()],
        Some(first) => fragment(&whole, usize::from(first))
            .ok_or_else(|| bad(format!("it has no fragments with {first} bytes in the first")))?,
    };
    Ok(Arrival { in_port: entrance.in_port, origin, whole, frames })
}

fn is_bound(policy: &Policy, packet: &Packet) -> bool {
    let Sender::Port(id) = &packet.from else { return false };
    policy.host.as_ref().is_some_and(|host| host.bindings.contains_key(id))
}

fn entrance<'p>(policy: &'p Policy, sender: &Sender) -> Result<Entrance<'p>, BadPacket> {
    let id = match sender {
        Sender::Uplink(number) => return Ok(Entrance { in_port: *number, port: None, tag: None }),
        Sender::Port(id) => id,
    };
    let sender = policy.ports.get(id).ok_or_else(|| bad(format!("there is no port `{id}`")))?;
    if let Some(binding) = policy.host.as_ref().and_then(|host| host.bindings.get(id)) {
        return Ok(Entrance { in_port: binding.ofport, port: Some(sender), tag: None });
    }
    let (in_port, tag) = way_in(policy, &sender.network)
        .ok_or_else(|| bad(format!("`{id}` is not here, and there is no uplink to its network")))?;
    Ok(Entrance { in_port, port: Some(sender), tag })
}

/// The uplink by which frames of a network come in, and their tag there.
pub(crate) fn way_in(policy: &Policy, network: &NetworkId) -> Option<(PortNo, Option<u16>)> {
    let segment = &policy.networks.get(network)?.segment;
    let uplinks = policy.host.as_ref()?.uplinks.iter();
    let tag = |uplink: &Uplink| match (uplink.kind, segment) {
        (UplinkKind::Provider, Segment::Vlan { vid, physical_network }) => {
            leads_to(uplink, physical_network.as_ref()).then_some(Some(*vid))
        }
        (UplinkKind::Flat | UplinkKind::Provider, Segment::Flat { physical_network }) => {
            leads_to(uplink, physical_network.as_ref()).then_some(None)
        }
        (UplinkKind::Tunnel, Segment::Tunnel { .. }) => policy.vlan_of(network).map(Some),
        (UplinkKind::Provider | UplinkKind::Flat | UplinkKind::Tunnel, _) => None,
    };
    uplinks.into_iter().find_map(|uplink| Some((uplink.ofport, tag(uplink)?)))
}

fn leads_to(uplink: &Uplink, physical: Option<&String>) -> bool {
    uplink.physical_network.is_none() || physical.is_none() || uplink.physical_network.as_ref() == physical
}

/// The network of this host whose frames come in by an uplink under a VLAN id; 0 is none.
fn network_at(policy: &Policy, in_port: PortNo, vid: u16) -> Option<&NetworkId> {
    let uplink = policy.host.as_ref()?.uplinks.iter().find(|uplink| uplink.ofport == in_port)?;
    policy.networks.keys().find(|id| {
        let Some(local) = policy.vlan_of(id) else { return false };
        let segment = policy.networks.get(*id).map(|network| &network.segment);
        match (uplink.kind, segment) {
            (UplinkKind::Tunnel, Some(Segment::Tunnel { .. })) => local == vid,
            (UplinkKind::Provider, Some(Segment::Vlan { vid: provider, physical_network })) => {
                leads_to(uplink, physical_network.as_ref()) && *provider == vid
            }
            (UplinkKind::Flat | UplinkKind::Provider, Some(Segment::Flat { physical_network })) => {
                leads_to(uplink, physical_network.as_ref()) && vid == 0
            }
            (UplinkKind::Tunnel | UplinkKind::Provider | UplinkKind::Flat, _) => false,
        }
    })
}

/// What a packet has where flow syntax leaves it open: the field, its value, and the ethertype and protocol it is for.
const DEFAULTS: &[(Field, u128, u16, Option<u8>)] = &[
    (Field::NwTtl, 64, ethertype::IPV4, None),
    (Field::NwTtl, 64, ethertype::IPV6, None),
    // SYN.
    (Field::TcpFlags, 2, ethertype::IPV4, Some(proto::TCP)),
    (Field::TcpFlags, 2, ethertype::IPV6, Some(proto::TCP)),
    // Echo request.
    (Field::Icmpv4Type, 8, ethertype::IPV4, Some(proto::ICMP)),
    (Field::Icmpv6Type, 128, ethertype::IPV6, Some(proto::ICMPV6)),
    // Request.
    (Field::ArpOp, 1, ethertype::ARP, None),
    (Field::ArpOp, 3, ethertype::RARP, None),
];

/// A port's address of the family of an ethertype.
fn address(port: &Port, dl_type: u16) -> Option<u128> {
    let bits = |ip: &IpAddr| match (ip, dl_type) {
        (IpAddr::V4(ip), ethertype::IPV4 | ethertype::ARP | ethertype::RARP) => {
            Some(u128::from(ip.to_bits()))
        }
        (IpAddr::V6(ip), ethertype::IPV6) => Some(ip.to_bits()),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
    };
    let link_local = (dl_type == ethertype::IPV6).then(|| port.mac.link_local().to_bits());
    port.fixed_ips.iter().find_map(bits).or(link_local)
}

/// The fields that an end of a packet's way fills in: MAC, IPv4 and IPv6 address.
const SOURCE: [Field; 3] = [Field::DlSrc, Field::NwSrc, Field::Ipv6Src];
const DESTINATION: [Field; 3] = [Field::DlDst, Field::NwDst, Field::Ipv6Dst];

/// The bits that a match names, the addresses of both ends, [`DEFAULTS`], and zero for the others.
fn completed(matching: &Match, from: Option<&Port>, to: Option<&Port>) -> FlowKey {
    let mut key = FlowKey::default();
    for part in matching.words() {
        key.set_word(usize::from(part.word), part.value, part.mask);
    }
    let (dl_type, nw_proto) = (key.get(Field::DlType) as u16, key.get(Field::NwProto) as u8);
    for (end, [mac, v4, v6]) in [(from, SOURCE), (to, DESTINATION)] {
        let Some(end) = end else { continue };
        if !matching.looks_at(mac) {
            key.set(mac, u128::from(end.mac.to_bits()));
        }
        let field = if dl_type == ethertype::IPV6 { v6 } else { v4 };
        if let Some(bits) = address(end, dl_type).filter(|_| !matching.looks_at(field)) {
            key.set(field, bits);
        }
    }
    for (field, value, for_type, for_proto) in DEFAULTS {
        let applies = *for_type == dl_type && for_proto.is_none_or(|proto| proto == nw_proto);
        if applies && !matching.looks_at(*field) {
            key.set(*field, *value);
        }
    }
    if matches!(dl_type, ethertype::ARP | ethertype::RARP) && !matching.looks_at(Field::ArpSha) {
        key.set(Field::ArpSha, key.get(Field::DlSrc));
    }
    key
}

/// The items of flow syntax as text.
pub(crate) fn flow_text(items: &[(String, Option<String>)]) -> String {
    let item = |(key, value): &(String, Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    };
    items.iter().map(item).collect::<Vec<_>>().join(",")
}

fn options(extras: &Extras) -> ComposeOptions {
    let default = ComposeOptions::default();
    ComposeOptions {
        payload_len: extras.payload.map_or(default.payload_len, usize::from),
        seq: extras.seq.unwrap_or(default.seq),
        ack: extras.ack.unwrap_or(default.ack),
        icmp_id: extras.icmp_id.unwrap_or(default.icmp_id),
        id: extras.ip_id.map_or(default.id, u32::from),
        bad_checksum: if extras.bad_checksum { BadChecksum::Upper } else { BadChecksum::None },
        ..default
    }
}

fn flow_frame(
    policy: &Policy,
    packet: &Packet,
    items: &[(String, Option<String>)],
    entrance: &Entrance<'_>,
) -> Result<Vec<u8>, BadPacket> {
    let matching = parse_match(&flow_text(items)).map_err(|error| BadPacket {
        column: error.column.saturating_sub(1),
        message: format!("{} (`{}`)", error.message, error.text),
    })?;
    let to = match &packet.to {
        None => None,
        Some(id) => Some(policy.ports.get(id).ok_or_else(|| bad(format!("there is no port `{id}`")))?),
    };
    let mut key = completed(&matching, entrance.port, to);
    if let Some(vid) = entrance.tag.filter(|_| !matching.looks_at(Field::VlanTci)) {
        key.set(Field::VlanTci, u128::from(VLAN_PRESENT | vid));
    }
    let frame = compose(&key, &options(&packet.extras));
    let real = wire::extract(&frame, 0);
    let missing = Field::all().find(|field| {
        let (value, mask) = matching.get(*field);
        real.get(*field) & mask != value
    });
    match missing {
        None => Ok(frame),
        Some(field) => Err(bad(format!("no such frame can come in, because of {}", field.spec().name))),
    }
}

fn error_frame(
    (kind, code): (u8, u8),
    original: &[u8],
    entrance: &Entrance<'_>,
) -> Result<Vec<u8>, BadPacket> {
    let sender = entrance.port.ok_or_else(|| bad("an error message is sent by a port"))?;
    let original = untagged(original);
    let dl_type = wire::extract(&original, 0).get(Field::DlType) as u16;
    let src = address(sender, dl_type)
        .ok_or_else(|| bad("the sender has no address of the family of what the error is about"))?;
    let mut frame = icmp_error(&original, &IcmpError::new(kind, code, src))
        .ok_or_else(|| bad("an error message can only be about an IP packet"))?;
    if let Some(place) = frame.get_mut(6..12) {
        place.copy_from_slice(&sender.mac.0);
    }
    Ok(entrance.tag.map_or(frame.clone(), |vid| tagged(&frame, vid)))
}

/// A frame without its VLAN tag, if it has one.
#[must_use]
pub fn untagged(frame: &[u8]) -> Vec<u8> {
    match (frame.get(12..14), frame.get(..12), frame.get(16..)) {
        (Some([0x81, 0x00]), Some(addresses), Some(rest)) => [addresses, rest].concat(),
        (_, _, _) => frame.to_vec(),
    }
}

fn tagged(frame: &[u8], vid: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    [addresses, &[0x81, 0x00], &vid.to_be_bytes(), rest].concat()
}

/// The destination MAC of a frame.
#[must_use]
pub fn destination(frame: &[u8]) -> MacAddr {
    MacAddr::from_bits(wire::extract(frame, 0).get(Field::DlDst) as u64)
}

/// Whether a number can be that of a port.
pub(crate) const fn is_port_number(number: PortNo) -> bool {
    number > 0 && number < port::IN_PORT
}
