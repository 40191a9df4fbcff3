//! From JSON documents to a policy: several documents, all faults at once.

use super::error::{LoadError, Problem};
use super::load_host::{host, network};
use super::load_rule::security_group;
use super::object::{Faults, Object};
use super::{
    AddressGroup, AddressGroupId, AddressPair, GroupId, Host, NetworkId, Policy, Port, PortId, check,
};
use flowproof_packet::MacAddr;
use indexmap::{IndexMap, map::Entry};
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::hash::Hash;
use std::net::IpAddr;

const SECTIONS: &[&str] = &["networks", "security_groups", "address_groups", "ports", "host"];

impl Policy {
    /// The policy in one JSON document.
    ///
    /// # Errors
    /// If the text is not JSON, has no section of an intent, or its objects are faulty.
    pub fn from_json(text: &str) -> Result<Self, LoadError> {
        Self::merge([("intent", text)])
    }

    /// The policy in several JSON documents, each under a name for messages; they may refer to each other.
    ///
    /// # Errors
    /// If a text is not JSON or has no section of an intent, or the objects together are faulty.
    pub fn merge<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, LoadError> {
        let mut policy = Self::default();
        let mut faults = Faults::new();
        for (name, text) in documents {
            let document = || name.to_owned();
            let value: Value = serde_json::from_str(text)
                .map_err(|source| LoadError::Json { document: document(), source })?;
            let sections = value
                .as_object()
                .filter(|map| SECTIONS.iter().any(|section| map.contains_key(*section)))
                .ok_or_else(|| LoadError::NoIntent { document: document() })?;
            policy.add(name, sections, &mut faults);
        }
        check::check(&policy, &mut faults);
        if faults.is_empty() { Ok(policy) } else { Err(LoadError::Faults(faults)) }
    }

    fn add(&mut self, name: &str, sections: &Map<String, Value>, faults: &mut Faults) {
        let root = Object::part("document", name, sections);
        let each = |section, kind, faults: &mut Faults| -> Vec<Object<'_>> {
            let list = root.optional_list(section, faults).iter().enumerate();
            list.filter_map(|(place, value)| Object::open(kind, place, "id", value, faults)).collect()
        };
        for object in each("networks", "network", faults) {
            let found = network(&object, faults);
            insert(&mut self.networks, NetworkId::from(&*object.id), found, &object, faults);
        }
        for object in each("security_groups", "security group", faults) {
            let found = security_group(&object, faults);
            insert(&mut self.groups, GroupId::from(&*object.id), Some(found), &object, faults);
        }
        for object in each("address_groups", "address group", faults) {
            let found = address_group(&object, faults);
            insert(&mut self.address_groups, AddressGroupId::from(&*object.id), Some(found), &object, faults);
        }
        for object in each("ports", "port", faults) {
            let found = port(&object, faults);
            insert(&mut self.ports, PortId::from(&*object.id), found, &object, faults);
        }
        if let Some(value) = root.optional("host") {
            let into = self.host.get_or_insert_with(Host::default);
            match value.as_object() {
                Some(map) => host(&Object::part("host", name, map), into, faults),
                None => root.not("host", value, "an object", faults),
            }
        }
    }
}

fn insert<K: Hash + Eq, V>(
    into: &mut IndexMap<K, V>,
    key: K,
    value: Option<V>,
    object: &Object<'_>,
    faults: &mut Faults,
) {
    let Some(value) = value else { return };
    match into.entry(key) {
        Entry::Occupied(_) => object.fault("id", Problem::Duplicate(object.id.clone()), faults),
        Entry::Vacant(slot) => {
            slot.insert(value);
        }
    }
}

/// A prefix, or a bare address as a prefix of full length; host bits are cleared.
pub(super) fn prefix(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(net.trunc())
}

/// What `prefix` reads, for messages.
pub(super) const A_PREFIX: &str = "an address or a prefix in CIDR notation";

fn prefix_value(value: &Value) -> Option<IpNet> {
    value.as_str().and_then(prefix)
}

/// The MAC of an interface: no group address, and not all zeros.
fn unicast_mac(value: &Value) -> Option<MacAddr> {
    let mac: MacAddr = value.as_str()?.parse().ok()?;
    (!mac.is_group() && mac != MacAddr::default()).then_some(mac)
}

const A_MAC: &str = "the MAC address of an interface";

/// A MAC that a port may use besides its own: the API takes any, that of a group too.
fn pair_mac(value: &Value) -> Option<MacAddr> {
    let mac: MacAddr = value.as_str()?.parse().ok()?;
    (mac != MacAddr::default()).then_some(mac)
}

fn address_group(object: &Object<'_>, faults: &mut Faults) -> AddressGroup {
    let list = object.list("addresses", faults);
    let addresses = list
        .iter()
        .filter_map(|value| object.convert("addresses", value, A_PREFIX, prefix_value, faults))
        .collect();
    AddressGroup { id: AddressGroupId::from(&*object.id), addresses }
}

/// A port. `allowed_address_pairs` and `port_security_enabled` are extensions of the API: a cloud without them has no
/// pairs and filters every port.
fn port(object: &Object<'_>, faults: &mut Faults) -> Option<Port> {
    let mac = object
        .required("mac_address", faults)
        .and_then(|value| object.convert("mac_address", value, A_MAC, unicast_mac, faults));
    let network = object.text("network_id", faults);
    let fixed_ips = fixed_ips(object, faults);
    let groups = groups(object, faults);
    let port_security_enabled = object.flag("port_security_enabled", true, faults);
    let device_owner = object.text("device_owner", faults);
    let address_pairs = address_pairs(object, mac.unwrap_or_default(), faults);
    Some(Port {
        id: PortId::from(&*object.id),
        network: NetworkId::from(network?),
        mac: mac?,
        fixed_ips,
        address_pairs,
        groups,
        port_security_enabled,
        device_owner: device_owner?.to_owned(),
    })
}

fn fixed_ips(object: &Object<'_>, faults: &mut Faults) -> Vec<IpAddr> {
    let address = |value: &Value| value.get("ip_address")?.as_str()?.parse().ok();
    let list = object.list("fixed_ips", faults).iter();
    list.filter_map(|value| {
        object.convert("fixed_ips", value, "an object with an `ip_address`", address, faults)
    })
    .collect()
}

fn groups(object: &Object<'_>, faults: &mut Faults) -> Vec<GroupId> {
    const FIELD: &str = "security_groups";
    let mut groups = Vec::new();
    for value in object.list(FIELD, faults) {
        let Some(id) = object.convert(FIELD, value, "an id", Value::as_str, faults) else { continue };
        let group = GroupId::from(id);
        if groups.contains(&group) {
            object.fault(FIELD, Problem::Duplicate(id.to_owned()), faults);
        } else {
            groups.push(group);
        }
    }
    groups
}

fn address_pairs(object: &Object<'_>, own: MacAddr, faults: &mut Faults) -> Vec<AddressPair> {
    const FIELD: &str = "allowed_address_pairs";
    let mut pairs = Vec::new();
    for value in object.optional_list(FIELD, faults) {
        let prefix = value.get("ip_address").and_then(|ip| {
            object.convert(FIELD, ip, A_PREFIX, prefix_value, faults).map(Some).or(Some(None))
        });
        let mac = match value.get("mac_address").filter(|mac| !mac.is_null()) {
            None => Some(own),
            Some(mac) => object.convert(FIELD, mac, "a MAC address", pair_mac, faults),
        };
        match (prefix, mac) {
            (Some(Some(prefix)), Some(mac)) => pairs.push(AddressPair { mac, prefix }),
            (None, _) => object.not(FIELD, value, "an object with an `ip_address`", faults),
            (Some(_), _) => {}
        }
    }
    pairs
}
