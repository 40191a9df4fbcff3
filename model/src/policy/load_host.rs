//! Networks and the `host` section from JSON.

use super::error::Problem;
use super::object::{Faults, Object, shown};
use super::{Binding, Host, Network, NetworkId, PortId, Segment, TunnelKind, Uplink, UplinkKind};
use flowproof_packet::PortNo;
use serde_json::Value;

/// A network, from the provider attributes if the object has them.
pub(super) fn network(object: &Object<'_>, faults: &mut Faults) -> Option<Network> {
    const TYPE: &str = "provider:network_type";
    let key = object.optional("provider:segmentation_id");
    let physical_network = object.optional_text("provider:physical_network", faults).map(str::to_owned);
    let tunnel = |kind| {
        let number = key.and_then(Value::as_u64).and_then(|key| u32::try_from(key).ok());
        Some(Segment::Tunnel { kind, key: number })
    };
    let segment = match object.optional_text(TYPE, faults) {
        None => Some(Segment::Unspecified),
        Some("local") => Some(Segment::Local),
        Some("flat") => Some(Segment::Flat { physical_network }),
        Some("vlan") => object
            .required("provider:segmentation_id", faults)
            .and_then(|key| object.convert("provider:segmentation_id", key, A_VLAN, vlan_id, faults))
            .map(|vid| Segment::Vlan { vid, physical_network }),
        Some("vxlan") => tunnel(TunnelKind::Vxlan),
        Some("gre") => tunnel(TunnelKind::Gre),
        Some("geneve") => tunnel(TunnelKind::Geneve),
        Some(other) => {
            let problem = Problem::Not { value: other.to_owned(), expected: "a type of network" };
            object.fault(TYPE, problem, faults);
            None
        }
    };
    Some(Network { id: NetworkId::from(&*object.id), segment: segment? })
}

const A_VLAN: &str = "a VLAN id from 1 to 4094";
const AN_OFPORT: &str = "an OpenFlow port number from 1 to 65279";

fn vlan_id(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok().filter(|vid| (1..=4094).contains(vid))
}

/// Numbers from 0xff00 are reserved (ovs-fields(7)).
fn ofport(value: &Value) -> Option<PortNo> {
    PortNo::try_from(value.as_u64()?).ok().filter(|number| (1..0xff00).contains(number))
}

/// Adds a `host` section to what other documents said.
pub(super) fn host(object: &Object<'_>, into: &mut Host, faults: &mut Faults) {
    for (place, value) in object.list("bindings", faults).iter().enumerate() {
        let Some(entry) = Object::open("binding", place, "port_id", value, faults) else { continue };
        let number = number(&entry, "ofport", AN_OFPORT, ofport, faults);
        let vlan = number_of_vlan(&entry, faults);
        let (Some(ofport), Some(vlan)) = (number, vlan) else { continue };
        if into.bindings.insert(PortId::from(&*entry.id), Binding { ofport, vlan }).is_some() {
            entry.fault("port_id", Problem::Duplicate(entry.id.clone()), faults);
        }
    }
    for (place, value) in object.optional_list("uplinks", faults).iter().enumerate() {
        into.uplinks.extend(uplink(place, value, faults));
    }
    if let Some(value) = object.optional("options") {
        match value.as_object() {
            Some(map) => options(&Object::part("host options", &object.id, map), into, faults),
            None => object.not("options", value, "an object", faults),
        }
    }
}

fn number(
    object: &Object<'_>,
    field: &'static str,
    expected: &'static str,
    read: fn(&Value) -> Option<u16>,
    faults: &mut Faults,
) -> Option<u16> {
    let value = object.required(field, faults)?;
    object.convert(field, value, expected, read, faults)
}

fn number_of_vlan(object: &Object<'_>, faults: &mut Faults) -> Option<u16> {
    number(object, "vlan", A_VLAN, vlan_id, faults)
}

fn uplink(place: usize, value: &Value, faults: &mut Faults) -> Option<Uplink> {
    const KINDS: [UplinkKind; 3] = [UplinkKind::Provider, UplinkKind::Tunnel, UplinkKind::Flat];
    let id = format!("#{}", place + 1);
    let Some(map) = value.as_object() else {
        Object::part("host", &id, &serde_json::Map::new()).not("uplinks", value, "an object", faults);
        return None;
    };
    let object = Object::part("uplink", &id, map);
    let ofport = number(&object, "ofport", AN_OFPORT, ofport, faults);
    let kind = object.required("kind", faults).and_then(|value| {
        let known = |value: &Value| KINDS.into_iter().find(|kind| value.as_str() == Some(kind.name()));
        object.convert("kind", value, "`provider`, `tunnel` or `flat`", known, faults)
    });
    let physical_network = object.optional_text("physical_network", faults).map(str::to_owned);
    Some(Uplink { ofport: ofport?, kind: kind?, physical_network })
}

/// What the firewall judges itself cannot be waved through by ethertype, nor is anything below 0x600 one.
const JUDGED: [u16; 4] = [0x0800, 0x0806, 0x8035, 0x86dd];

fn ethertype(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
        Value::String(text) => match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u16::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.filter(|number| *number >= 0x600 && !JUDGED.contains(number))
}

fn options(object: &Object<'_>, into: &mut Host, faults: &mut Faults) {
    const FIELD: &str = "permitted_ethertypes";
    for value in object.optional_list(FIELD, faults) {
        let Some(found) = ethertype(value) else {
            let expected = "an ethertype from 0x600 other than those of IP, ARP and RARP";
            object.fault(FIELD, Problem::Not { value: shown(value), expected }, faults);
            continue;
        };
        if !into.options.permitted_ethertypes.contains(&found) {
            into.options.permitted_ethertypes.push(found);
        }
    }
    into.options.explicitly_egress_direct |= object.flag("explicitly_egress_direct", false, faults);
}
