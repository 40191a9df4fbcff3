//! Lines about the policy, as the objects that the Networking API would return: one way to be right about them.

use super::error::ParseError;
use super::words::{Word, Words};
use flowproof_model::policy::{Binding, Policy, Port, Rule};
use serde_json::{Map, Value, json};

/// Objects of an intent, with the lines they stand in.
#[derive(Debug, Default)]
pub(super) struct Objects {
    networks: Vec<Value>,
    groups: Vec<Value>,
    address_groups: Vec<Value>,
    ports: Vec<Value>,
    bindings: Vec<Value>,
    uplinks: Vec<Value>,
    ethertypes: Vec<String>,
    direct: bool,
    places: Vec<Place>,
}

/// Where an object stands.
#[derive(Clone, Debug)]
struct Place {
    kind: &'static str,
    id: String,
    line: u32,
    column: u32,
}

/// A port as an object, and its binding.
pub(super) struct PortLine {
    pub(super) id: Word,
    port: Value,
    pub(super) binding: Option<Value>,
}

/// Words of a network's type that are followed by a number.
const NUMBERED: [&str; 4] = ["vlan", "vxlan", "gre", "geneve"];
/// Words of a network's type that stand alone.
const PLAIN: [&str; 2] = ["flat", "local"];

impl Objects {
    fn place(&mut self, kind: &'static str, line: u32, id: &Word) {
        self.places.push(Place { kind, id: id.text.clone(), line, column: id.column });
    }

    /// Whether no line has said anything.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.ethertypes.is_empty() && !self.direct
    }

    /// `network ID [TYPE [NUMBER]] [PHYSICAL-NETWORK]`
    pub(super) fn network(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let id = words.need("an id")?;
        let mut object = Map::from_iter([("id".to_owned(), json!(id.text))]);
        if let Some(kind) = words.next() {
            if NUMBERED.contains(&kind.text.as_str()) {
                // A tunnel's key may be unknown.
                let number = words.next_if(|text| text.parse::<u32>().is_ok());
                let number = number.and_then(|word| word.text.parse::<u32>().ok());
                object.insert("provider:segmentation_id".to_owned(), json!(number));
            } else if !PLAIN.contains(&kind.text.as_str()) {
                return Err(words.complaint(&kind, "the types are vlan, vxlan, gre, geneve, flat and local"));
            }
            object.insert("provider:network_type".to_owned(), json!(kind.text));
        }
        object.insert("provider:physical_network".to_owned(), json!(words.next().map(|word| word.text)));
        self.place("network", words.line, &id);
        self.networks.push(Value::Object(object));
        Ok(())
    }

    /// `uplink OFPORT KIND [PHYSICAL-NETWORK]`
    pub(super) fn uplink(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let number = words.need("an OpenFlow port number")?;
        let kind = words.need("`provider`, `tunnel` or `flat`")?;
        let physical = words.next().map(|word| word.text);
        let ofport = number.text.parse::<u64>().map_or_else(|_| json!(number.text), |number| json!(number));
        self.uplinks.push(json!({"ofport": ofport, "kind": kind.text, "physical_network": physical}));
        let id = Word { text: format!("#{}", self.uplinks.len()), column: number.column };
        self.place("uplink", words.line, &id);
        Ok(())
    }

    /// `option explicitly-egress-direct` or `option permitted-ethertype NUMBER`
    pub(super) fn option(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let name = words.need("an option")?;
        match name.text.as_str() {
            "explicitly-egress-direct" => self.direct = true,
            "permitted-ethertype" => self.ethertypes.push(words.need("an ethertype")?.text),
            _ => {
                let known = "the options are permitted-ethertype and explicitly-egress-direct";
                return Err(words.complaint(&name, known));
            }
        }
        Ok(())
    }

    /// `group ID [stateless]`
    pub(super) fn group(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let id = words.need("an id")?;
        let stateful = !words.skip("stateless");
        self.place("security group", words.line, &id);
        self.groups.push(json!({"id": id.text, "stateful": stateful, "security_group_rules": []}));
        Ok(())
    }

    /// `rule …`, in the group before it
    pub(super) fn rule(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let (id, rule) = rule_object(words)?;
        self.place("security group rule", words.line, &id);
        let group = self.groups.last_mut().and_then(|group| group.get_mut("security_group_rules"));
        match group.and_then(Value::as_array_mut) {
            Some(rules) => {
                rules.push(rule);
                Ok(())
            }
            None => Err(words.whole("a rule needs a group before it")),
        }
    }

    /// `addresses ID PREFIX…`
    pub(super) fn addresses(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let id = words.need("an id")?;
        let mut addresses = Vec::new();
        while let Some(word) = words.next() {
            addresses.push(word.text);
        }
        self.place("address group", words.line, &id);
        self.address_groups.push(json!({"id": id.text, "addresses": addresses}));
        Ok(())
    }

    /// `port …`
    pub(super) fn port(&mut self, words: &mut Words<'_>) -> Result<(), ParseError> {
        let line = port_object(words)?;
        self.place("port", words.line, &line.id);
        if let Some(binding) = line.binding {
            self.place("binding", words.line, &line.id);
            self.bindings.push(binding);
        }
        self.ports.push(line.port);
        Ok(())
    }

    /// The policy that the lines describe.
    pub(super) fn policy(self) -> Result<Policy, ParseError> {
        let mut document = json!({
            "networks": self.networks,
            "security_groups": self.groups,
            "address_groups": self.address_groups,
            "ports": self.ports,
        });
        let host = json!({
            "bindings": self.bindings,
            "uplinks": self.uplinks,
            "options": {
                "permitted_ethertypes": self.ethertypes,
                "explicitly_egress_direct": self.direct,
            },
        });
        if let Some(map) = document.as_object_mut() {
            map.insert("host".to_owned(), host);
        }
        read(&document).map_err(|(object, id, message)| {
            let named = |place: &&Place| place.id == id && (place.kind == object || object.is_empty());
            let place = self.places.iter().rev().find(named);
            let (line, column) = place.map_or((1, 1), |place| (place.line, place.column));
            ParseError::new(line, column, &id, message)
        })
    }
}

/// A document's policy, or its first fault: the kind of object, its id, what is wrong.
fn read(document: &Value) -> Result<Policy, (&'static str, String, String)> {
    use flowproof_model::policy::LoadError;
    Policy::from_json(&document.to_string()).map_err(|error| match error {
        LoadError::Faults(faults) => match faults.into_iter().next() {
            Some(fault) => (fault.object, fault.id.clone(), format!("{}: {}", fault.field, fault.problem)),
            None => ("", String::new(), "faulty".to_owned()),
        },
        other => ("", String::new(), other.to_string()),
    })
}

/// `ID ingress|egress IPv4|IPv6 PROTOCOL [RANGE] [with PREFIX | with group ID | with addresses ID]`
fn rule_object(words: &mut Words<'_>) -> Result<(Word, Value), ParseError> {
    let id = words.need("an id")?;
    let direction = words.need("`ingress` or `egress`")?.text;
    let ethertype = words.need("`IPv4` or `IPv6`")?.text;
    let protocol = words.need("a protocol or `any`")?.text;
    let mut ends = (None, None);
    let mut peer = [None, None, None];
    if let Some(word) = words.next() {
        let range = if word.text == "with" { None } else { Some(word) };
        if let Some(range) = &range {
            ends = range_ends(&protocol, &range.text)
                .ok_or_else(|| words.complaint(range, "this is no range of ports and no ICMP type"))?;
        }
        if range.is_none() || words.skip("with") {
            let whom = words.need("a prefix, `group` or `addresses`")?;
            match whom.text.as_str() {
                "group" => peer[1] = Some(words.need("a group")?.text),
                "addresses" => peer[2] = Some(words.need("an address group")?.text),
                _ => peer[0] = Some(whom.text),
            }
        }
    }
    let [prefix, group, addresses] = peer;
    let object = json!({
        "id": id.text,
        "direction": direction,
        "ethertype": ethertype,
        "protocol": (protocol != "any").then_some(protocol),
        "port_range_min": ends.0,
        "port_range_max": ends.1,
        "remote_ip_prefix": prefix,
        "remote_group_id": group,
        "remote_address_group_id": addresses,
    });
    Ok((id, object))
}

/// `22`, `22-25`; for ICMP `8` and `8/0`.
fn range_ends(protocol: &str, text: &str) -> Option<(Option<u32>, Option<u32>)> {
    if let Some((min, max)) = text.split_once(['-', '/']) {
        return Some((Some(min.parse().ok()?), Some(max.parse().ok()?)));
    }
    let one = text.parse().ok()?;
    let icmp = matches!(protocol, "icmp" | "icmpv6" | "ipv6-icmp" | "1" | "58");
    Some((Some(one), if icmp { None } else { Some(one) }))
}

/// `ID NETWORK KEY VALUE…`
pub(super) fn port_object(words: &mut Words<'_>) -> Result<PortLine, ParseError> {
    let id = words.need("an id")?;
    let network = words.need("a network")?.text;
    let (mut mac, mut owner, mut secure) = (None, String::new(), true);
    let (mut ips, mut pairs, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ofport, mut vlan) = (None, None);
    let number = |text: &str| text.parse::<u32>().ok();
    while let Some(key) = words.next() {
        match key.text.as_str() {
            "mac" => mac = Some(words.need("a MAC address")?.text),
            "ofport" => ofport = Some(words.read("an OpenFlow port number", number)?),
            "vlan" => vlan = Some(words.read("a local VLAN", number)?),
            "ip" => ips.push(json!({"ip_address": words.need("an address")?.text})),
            "pair" => {
                let mac = words.need("a MAC address")?.text;
                pairs.push(
                    json!({"mac_address": mac, "ip_address": words.need("an address or a prefix")?.text}),
                );
            }
            "group" => groups.push(words.need("a group")?.text),
            "owner" => owner = words.need("an owner")?.text,
            "unfiltered" => secure = false,
            _ => {
                let known = "a port has mac, ofport, vlan, ip, pair, group, owner and unfiltered";
                return Err(words.complaint(&key, known));
            }
        }
    }
    let binding = match (ofport, vlan) {
        (None, None) => None,
        (Some(ofport), Some(vlan)) => Some(json!({"port_id": id.text, "ofport": ofport, "vlan": vlan})),
        (Some(_), None) | (None, Some(_)) => {
            return Err(words.complaint(&id, "a port that is here needs both `ofport` and `vlan`"));
        }
    };
    let port = json!({
        "id": id.text,
        "network_id": network,
        "mac_address": mac,
        "fixed_ips": ips,
        "allowed_address_pairs": pairs,
        "security_groups": groups,
        "port_security_enabled": secure,
        "device_owner": owner,
    });
    Ok(PortLine { id, port, binding })
}

/// The names that exist, without what they contain: enough for a new object to refer to.
fn skeleton(policy: &Policy) -> Value {
    let mut document = policy.to_json();
    let empty = |list: Option<&mut Value>, key: &str| {
        for object in list.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(map) = object.as_object_mut() {
                map.insert(key.to_owned(), json!([]));
            }
        }
    };
    empty(document.get_mut("security_groups"), "security_group_rules");
    empty(document.get_mut("address_groups"), "addresses");
    if let Some(map) = document.as_object_mut() {
        map.insert("ports".to_owned(), json!([]));
        map.remove("host");
    }
    document
}

/// A rule for a group of a policy.
pub(super) fn rule_for(policy: &Policy, group: &str, words: &mut Words<'_>) -> Result<Rule, ParseError> {
    let (id, object) = rule_object(words)?;
    let mut document = skeleton(policy);
    let groups = document.get_mut("security_groups").and_then(Value::as_array_mut);
    let group = groups.into_iter().flatten().find(|one| one.get("id").and_then(Value::as_str) == Some(group));
    if let Some(map) = group.and_then(Value::as_object_mut) {
        map.insert("security_group_rules".to_owned(), json!([object]));
    }
    let read = read(&document).map_err(|(_, _, message)| words.complaint(&id, message))?;
    let rule = read.groups.into_values().flat_map(|group| group.rules).next();
    rule.ok_or_else(|| words.whole("there is no such group"))
}

/// A port for a policy.
pub(super) fn port_for(
    policy: &Policy,
    words: &mut Words<'_>,
) -> Result<(Port, Option<Binding>), ParseError> {
    let line = port_object(words)?;
    let mut document = skeleton(policy);
    if let Some(map) = document.as_object_mut() {
        map.insert("ports".to_owned(), json!([line.port]));
        if let Some(binding) = &line.binding {
            map.insert("host".to_owned(), json!({"bindings": [binding]}));
        }
    }
    let read = read(&document).map_err(|(_, _, message)| words.complaint(&line.id, message))?;
    let binding = read.host.and_then(|host| host.bindings.into_values().next());
    let port = read.ports.into_values().next();
    port.map(|port| (port, binding)).ok_or_else(|| words.whole("there is no such port"))
}
