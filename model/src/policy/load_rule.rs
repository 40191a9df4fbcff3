//! Security groups and rules from JSON, normalised and refused as the API does.

use super::error::Problem;
use super::load::{A_PREFIX, prefix};
use super::object::{Faults, Object, shown};
use super::rule::{ICMP_NAMES, IPV6_ONLY, PROTOCOL_NAMES};
use super::{
    AddressGroupId, Direction, Ethertype, GroupId, IcmpMatch, PortRange, Protocol, Rule, RuleId, RulePeer,
    SecurityGroup, Statefulness, Transport,
};
use serde_json::Value;

/// A group; rules that are faulty are left out of it.
pub(super) fn security_group(object: &Object<'_>, faults: &mut Faults) -> SecurityGroup {
    let stateful = object.flag("stateful", true, faults);
    let rules = object.list("security_group_rules", faults).iter().enumerate();
    let rules = rules
        .filter_map(|(place, value)| Object::open("security group rule", place, "id", value, faults))
        .collect::<Vec<_>>();
    SecurityGroup {
        id: GroupId::from(&*object.id),
        statefulness: if stateful { Statefulness::Stateful } else { Statefulness::Stateless },
        rules: rules.iter().filter_map(|object_| rule(object_, &object.id, faults)).collect(),
    }
}

fn rule(object: &Object<'_>, group: &str, faults: &mut Faults) -> Option<Rule> {
    let direction = word(object, "direction", &[Direction::Ingress, Direction::Egress], faults);
    let ethertype = word(object, "ethertype", &Ethertype::ALL, faults);
    let spelling = object.nullable("protocol", faults);
    let peer = peer(object, faults);
    if let Some(other) = object.optional_text("security_group_id", faults).filter(|other| *other != group) {
        let problem = Problem::Unknown { kind: "such rule in security group", id: other.to_owned() };
        object.fault("security_group_id", problem, faults);
    }
    for field in ["source_port_range_min", "source_port_range_max"] {
        if let Some(value) = object.optional(field) {
            object.fault(field, Problem::Unsettable(shown(value)), faults);
        }
    }
    let ends = [range_end(object, "port_range_min", faults), range_end(object, "port_range_max", faults)];
    let ethertype = ethertype?;
    let protocol = match spelling {
        None => no_ports(object, Protocol::Any, "null", ends, faults),
        Some(value) => protocol(object, value, ethertype, ends, faults),
    };
    if let Some(RulePeer::Prefix(prefix)) = &peer
        && Ethertype::of_prefix(prefix) != ethertype
    {
        let problem = Problem::Family { value: prefix.to_string(), family: ethertype.name() };
        object.fault("remote_ip_prefix", problem, faults);
        return None;
    }
    Some(Rule {
        id: RuleId::from(&*object.id),
        direction: direction?,
        ethertype,
        protocol: protocol?,
        protocol_spelling: spelling.map(shown),
        peer: peer?,
    })
}

trait Word: Copy {
    const EXPECTED: &'static str;
    fn word(self) -> &'static str;
}

impl Word for Direction {
    const EXPECTED: &'static str = "`ingress` or `egress`";
    fn word(self) -> &'static str {
        self.name()
    }
}

impl Word for Ethertype {
    const EXPECTED: &'static str = "`IPv4` or `IPv6`";
    fn word(self) -> &'static str {
        self.name()
    }
}

fn word<W: Word>(object: &Object<'_>, field: &'static str, words: &[W], faults: &mut Faults) -> Option<W> {
    let value = object.required(field, faults)?;
    let known = |value: &Value| words.iter().find(|word| value.as_str() == Some(word.word())).copied();
    object.convert(field, value, W::EXPECTED, known, faults)
}

/// One end of a range as it stands: ports, or ICMP type and code. `Some(None)` is none, `None` a fault.
type End = Option<Option<u16>>;

fn range_end(object: &Object<'_>, field: &'static str, faults: &mut Faults) -> End {
    // The CLI of old sent numbers as text.
    let number = |value: &Value| match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match object.nullable(field, faults) {
        None => Some(None),
        Some(value) => object.convert(field, value, "a number from 0 to 65535", number, faults).map(Some),
    }
}

/// The number behind a name or number, `None` for `any`; `icmp` is given as 1 and follows the family later.
fn number(value: &Value) -> Option<Option<u8>> {
    let text = match value {
        Value::String(text) => text.to_ascii_lowercase(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    if text == "any" {
        return Some(None);
    }
    if let Some(icmp) = ICMP_NAMES.iter().find(|name| **name == text) {
        return Some(Some(if *icmp == "icmp" { 1 } else { 58 }));
    }
    let named = PROTOCOL_NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let digits = || text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    named.or_else(digits).map(Some)
}

fn protocol(
    object: &Object<'_>,
    value: &Value,
    ethertype: Ethertype,
    ends: [End; 2],
    faults: &mut Faults,
) -> Option<Protocol> {
    const EXPECTED: &str = "a protocol name that the API knows, or a number from 0 to 255";
    let spelled = shown(value);
    let Some(number) = object.convert("protocol", value, EXPECTED, number, faults)? else {
        return no_ports(object, Protocol::Any, &spelled, ends, faults);
    };
    if ethertype == Ethertype::Ipv4 && IPV6_ONLY.contains(&number) {
        object.fault("protocol", Problem::Ipv6Protocol(spelled), faults);
        return None;
    }
    if let Some(transport) = Transport::ALL.into_iter().find(|t| t.number() == number) {
        return ports(object, &spelled, ends, faults).map(|ports| Protocol::Transport(transport, ports));
    }
    match (number, ethertype) {
        (1, Ethertype::Ipv4 | Ethertype::Ipv6) | (58, Ethertype::Ipv6) => {
            icmp(object, ends, faults).map(Protocol::Icmp)
        }
        (other, _) => no_ports(object, Protocol::Other(other), &spelled, ends, faults),
    }
}

fn no_ports(
    object: &Object<'_>,
    protocol: Protocol,
    spelled: &str,
    [min, max]: [End; 2],
    faults: &mut Faults,
) -> Option<Protocol> {
    let fields = [("port_range_min", min?), ("port_range_max", max?)];
    let mut given = fields.into_iter().filter_map(|(field, end)| Some((field, end?)));
    let Some((field, value)) = given.next() else { return Some(protocol) };
    let (value, protocol) = (value.to_string(), spelled.to_owned());
    object.fault(field, Problem::PortsWithoutProtocol { value, protocol }, faults);
    None
}

fn ports(
    object: &Object<'_>,
    spelled: &str,
    [min, max]: [End; 2],
    faults: &mut Faults,
) -> Option<Option<PortRange>> {
    const A_PORT: &str = "a port from 1 to 65535";
    let (field, problem) = match (min?, max?) {
        (None, None) => return Some(None),
        (Some(0), Some(_)) => ("port_range_min", Problem::Not { value: "0".to_owned(), expected: A_PORT }),
        (Some(min), Some(max)) => match PortRange::new(min, max) {
            Some(range) => return Some(Some(range)),
            None => ("port_range_max", Problem::Order { min: min.into(), max: max.into() }),
        },
        (Some(_), None) => ("port_range_max", Problem::HalfRange { protocol: spelled.to_owned() }),
        (None, Some(_)) => ("port_range_min", Problem::HalfRange { protocol: spelled.to_owned() }),
    };
    object.fault(field, problem, faults);
    None
}

fn icmp(object: &Object<'_>, [kind, code]: [End; 2], faults: &mut Faults) -> Option<IcmpMatch> {
    let octet = |field, end: Option<u16>, faults: &mut Faults| match end.map(u8::try_from) {
        None => Some(None),
        Some(Ok(octet)) => Some(Some(octet)),
        Some(Err(_)) => {
            let value = end.map_or_else(String::new, |end| end.to_string());
            object.fault(field, Problem::Not { value, expected: "a number from 0 to 255" }, faults);
            None
        }
    };
    let kind = octet("port_range_min", kind?, faults);
    let code = octet("port_range_max", code?, faults);
    match (kind?, code?) {
        (None, None) => Some(IcmpMatch::Any),
        (Some(kind), None) => Some(IcmpMatch::Type(kind)),
        (Some(kind), Some(code)) => Some(IcmpMatch::TypeCode(kind, code)),
        (None, Some(code)) => {
            object.fault("port_range_max", Problem::CodeWithoutType(code.into()), faults);
            None
        }
    }
}

/// The one peer of a rule. Leaving out a peer widens a rule, so its key has to be there; address groups are younger
/// than the rest of the API.
fn peer(object: &Object<'_>, faults: &mut Faults) -> Option<RulePeer> {
    const FIELDS: [&str; 3] = ["remote_ip_prefix", "remote_group_id", "remote_address_group_id"];
    let [prefix_key, group_key, address_group_key] = FIELDS;
    object.nullable(prefix_key, faults);
    object.nullable(group_key, faults);
    let mut given = FIELDS.into_iter().filter_map(|field| Some((field, object.optional(field)?)));
    let Some((field, value)) = given.next() else { return Some(RulePeer::Any) };
    if let Some((second, value)) = given.next() {
        object.fault(second, Problem::SecondPeer { value: shown(value), other: field }, faults);
        return None;
    }
    if field == prefix_key {
        let net = |value: &Value| value.as_str().and_then(prefix);
        return object.convert(field, value, A_PREFIX, net, faults).map(RulePeer::Prefix);
    }
    let id = object.convert(field, value, "an id", Value::as_str, faults)?;
    Some(if field == address_group_key {
        RulePeer::AddressGroup(AddressGroupId::from(id))
    } else {
        RulePeer::Group(GroupId::from(id))
    })
}
