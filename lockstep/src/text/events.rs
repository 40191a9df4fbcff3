//! Lines about what happens and what is expected.

use super::error::ParseError;
use super::objects::{port_for, rule_for};
use super::packets;
use super::words::Words;
use crate::scenario::{Event, Expectation, Step, Target};
use flowproof_model::policy::{AddressGroupId, GroupId, IpNet, Policy, PortId, RuleId};
use std::net::IpAddr;

/// Reads the rest of a line under the policy of the moment, after what has happened before.
pub(super) type Reader = fn(&Policy, &[Step], &mut Words<'_>) -> Result<Event, ParseError>;

/// Words that begin a line about an event.
const READERS: &[(&str, Reader)] = &[
    ("packet", packets::packet),
    ("hex", packets::hex),
    ("error", packets::error),
    ("add-rule", add_rule),
    ("remove-rule", |policy, _, words| {
        let known = |text: &str| {
            let mut rules = policy.groups.values().flat_map(|group| &group.rules);
            rules.find(|rule| rule.id.as_str() == text).map(|rule| rule.id.clone())
        };
        words.read::<RuleId>("a rule that is there", known).map(Event::RemoveRule)
    }),
    ("add-group", |_, _, words| Ok(Event::AddGroup(GroupId::from(&*words.need("an id")?.text)))),
    ("remove-group", |policy, _, words| group(policy, words).map(Event::RemoveGroup)),
    ("add-member", |policy, _, words| Ok(Event::AddMember(group(policy, words)?, port(policy, words)?))),
    ("remove-member", |policy, _, words| {
        Ok(Event::RemoveMember(group(policy, words)?, port(policy, words)?))
    }),
    ("set-addresses", set_addresses),
    ("put-port", |policy, _, words| port_for(policy, words).map(|(port, at)| Event::PutPort(port, at))),
    ("remove-port", |policy, _, words| port(policy, words).map(Event::RemovePort)),
    ("update-port", |policy, _, words| port(policy, words).map(Event::UpdatePort)),
    ("advance", |_, _, words| words.read("a time such as 30s", milliseconds).map(Event::Advance)),
    ("flush", |_, _, _| Ok(Event::Flush)),
];

/// Who reads a line that begins with this word.
pub(super) fn reader(name: &str) -> Option<Reader> {
    READERS.iter().find(|(word, _)| *word == name).map(|(_, reader)| *reader)
}

fn group(policy: &Policy, words: &mut Words<'_>) -> Result<GroupId, ParseError> {
    words.read("a group that is there", |text| policy.groups.get_key_value(text).map(|(id, _)| id.clone()))
}

fn port(policy: &Policy, words: &mut Words<'_>) -> Result<PortId, ParseError> {
    words.read("a port that is there", |text| policy.ports.get_key_value(text).map(|(id, _)| id.clone()))
}

fn add_rule(policy: &Policy, _: &[Step], words: &mut Words<'_>) -> Result<Event, ParseError> {
    let group = group(policy, words)?;
    Ok(Event::AddRule(group.clone(), rule_for(policy, group.as_str(), words)?))
}

fn set_addresses(policy: &Policy, _: &[Step], words: &mut Words<'_>) -> Result<Event, ParseError> {
    let known = |text: &str| policy.address_groups.get_key_value(text).map(|(id, _)| id.clone());
    let id: AddressGroupId = words.read("an address group that is there", known)?;
    let prefix = |text: &str| {
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        net.map(|net| net.trunc())
    };
    let mut addresses = Vec::new();
    while !words.is_empty() {
        addresses.push(words.read("an address or a prefix", prefix)?);
    }
    Ok(Event::SetAddresses(id, addresses))
}

/// Units of time, in milliseconds; a longer name before one that it ends with.
pub(super) const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

fn milliseconds(text: &str) -> Option<u64> {
    let (unit, length) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*length)
}

/// `delivered TARGET…`, `dropped`, `reason NAME`
pub(super) fn expectation(words: &mut Words<'_>) -> Result<Expectation, ParseError> {
    let kind = words.need("`delivered`, `dropped` or `reason`")?;
    match kind.text.as_str() {
        "dropped" => Ok(Expectation::Delivered(Vec::new())),
        "reason" => {
            let known = |text: &str| crate::reason::is_name(text).then(|| text.to_owned());
            words.read("the name of a reason", known).map(Expectation::Reason)
        }
        "delivered" => {
            let mut targets = Vec::new();
            while let Some(word) = words.next() {
                targets.push(match word.text.as_str() {
                    "elsewhere" => Target::Elsewhere,
                    port => Target::Port(PortId::from(port)),
                });
            }
            Ok(Expectation::Delivered(targets))
        }
        _ => Err(words.complaint(&kind, "what is expected is `delivered`, `dropped` or `reason`")),
    }
}
