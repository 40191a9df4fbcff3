//! A policy as the JSON it would be loaded from.
//!
//! Invariant: loading what is written gives the same policy.

use super::{
    AddressGroup, Host, IcmpMatch, Network, Policy, Port, Protocol, Rule, RulePeer, SecurityGroup, Segment,
    Statefulness, TunnelKind, Uplink,
};
use serde_json::{Value, json};

impl Policy {
    /// The policy as one JSON document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut document = json!({
            "networks": self.networks.values().map(network).collect::<Vec<_>>(),
            "security_groups": self.groups.values().map(security_group).collect::<Vec<_>>(),
            "address_groups": self.address_groups.values().map(address_group).collect::<Vec<_>>(),
            "ports": self.ports.values().map(port).collect::<Vec<_>>(),
        });
        if let (Some(host), Some(map)) = (&self.host, document.as_object_mut()) {
            map.insert("host".to_owned(), host_section(host));
        }
        document
    }
}

fn network(network: &Network) -> Value {
    let (kind, key, physical) = match &network.segment {
        Segment::Unspecified => (None, None, &None),
        Segment::Local => (Some("local"), None, &None),
        Segment::Flat { physical_network } => (Some("flat"), None, physical_network),
        Segment::Vlan { vid, physical_network } => (Some("vlan"), Some(u32::from(*vid)), physical_network),
        Segment::Tunnel { kind: TunnelKind::Vxlan, key } => (Some("vxlan"), *key, &None),
        Segment::Tunnel { kind: TunnelKind::Gre, key } => (Some("gre"), *key, &None),
        Segment::Tunnel { kind: TunnelKind::Geneve, key } => (Some("geneve"), *key, &None),
    };
    json!({
        "id": network.id.as_str(),
        "provider:network_type": kind,
        "provider:segmentation_id": key,
        "provider:physical_network": physical,
    })
}

fn security_group(group: &SecurityGroup) -> Value {
    json!({
        "id": group.id.as_str(),
        "stateful": group.statefulness == Statefulness::Stateful,
        "security_group_rules": group.rules.iter().map(|one| rule(one, group)).collect::<Vec<_>>(),
    })
}

fn rule(rule: &Rule, group: &SecurityGroup) -> Value {
    let (min, max) = match rule.protocol {
        Protocol::Any | Protocol::Other(_) | Protocol::Icmp(IcmpMatch::Any) => (None, None),
        Protocol::Transport(_, ports) => (ports.map(|range| range.min()), ports.map(|range| range.max())),
        Protocol::Icmp(IcmpMatch::Type(kind)) => (Some(kind.into()), None),
        Protocol::Icmp(IcmpMatch::TypeCode(kind, code)) => (Some(kind.into()), Some(code.into())),
    };
    let (prefix, remote_group, address_group) = match &rule.peer {
        RulePeer::Any => (None, None, None),
        RulePeer::Prefix(prefix) => (Some(prefix.to_string()), None, None),
        RulePeer::Group(id) => (None, Some(id.as_str()), None),
        RulePeer::AddressGroup(id) => (None, None, Some(id.as_str())),
    };
    json!({
        "id": rule.id.as_str(),
        "security_group_id": group.id.as_str(),
        "direction": rule.direction.name(),
        "ethertype": rule.ethertype.name(),
        "protocol": rule.protocol_spelling,
        "port_range_min": min,
        "port_range_max": max,
        "remote_ip_prefix": prefix,
        "remote_group_id": remote_group,
        "remote_address_group_id": address_group,
    })
}

fn address_group(group: &AddressGroup) -> Value {
    let addresses: Vec<_> = group.addresses.iter().map(ToString::to_string).collect();
    json!({ "id": group.id.as_str(), "addresses": addresses })
}

fn port(port: &Port) -> Value {
    let ips = port.fixed_ips.iter().map(|ip| json!({ "ip_address": ip.to_string() }));
    let pairs = port
        .address_pairs
        .iter()
        .map(|pair| json!({ "mac_address": pair.mac.to_string(), "ip_address": pair.prefix.to_string() }));
    json!({
        "id": port.id.as_str(),
        "network_id": port.network.as_str(),
        "mac_address": port.mac.to_string(),
        "fixed_ips": ips.collect::<Vec<_>>(),
        "allowed_address_pairs": pairs.collect::<Vec<_>>(),
        "security_groups": port.groups.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "port_security_enabled": port.port_security_enabled,
        "device_owner": port.device_owner,
    })
}

fn uplink(uplink: &Uplink) -> Value {
    json!({
        "ofport": uplink.ofport,
        "kind": uplink.kind.name(),
        "physical_network": uplink.physical_network,
    })
}

fn host_section(host: &Host) -> Value {
    let bindings = host
        .bindings
        .iter()
        .map(|(id, place)| json!({ "port_id": id.as_str(), "ofport": place.ofport, "vlan": place.vlan }));
    let ethertypes = host.options.permitted_ethertypes.iter().map(|number| format!("{number:#06x}"));
    json!({
        "bindings": bindings.collect::<Vec<_>>(),
        "uplinks": host.uplinks.iter().map(uplink).collect::<Vec<_>>(),
        "options": {
            "permitted_ethertypes": ethertypes.collect::<Vec<_>>(),
            "explicitly_egress_direct": host.options.explicitly_egress_direct,
        },
    })
}
