//! Faults that show only when all objects are there: references, and things used twice.

use super::error::{Fault, Problem};
use super::object::Faults;
use super::{GroupId, Host, NetworkId, Policy, Port, PortId, RulePeer, Statefulness};
use flowproof_packet::MacAddr;
use std::collections::{HashMap, HashSet};

/// All faults between objects. That an object is missed which is there but faulty is no fault of its own.
pub(super) fn check(policy: &Policy, faults: &mut Faults) {
    let faulty: HashSet<_> = faults.iter().map(|fault| (fault.object, fault.id.clone())).collect();
    let mut found = Faults::new();
    between(policy, &mut found);
    let follows = |problem: &Problem| matches!(problem, Problem::Unknown { kind, id } if faulty.contains(&(*kind, id.clone())));
    faults.extend(found.into_iter().filter(|fault| !follows(&fault.problem)));
}

fn between(policy: &Policy, faults: &mut Faults) {
    rules(policy, faults);
    for port in policy.ports.values() {
        references(policy, port, faults);
        statefulness(policy, port, faults);
    }
    let mut macs: HashMap<(&NetworkId, MacAddr), &PortId> = HashMap::new();
    for (port, _) in policy.local_ports() {
        if let Some(other) = macs.insert((&port.network, port.mac), &port.id) {
            let problem = Problem::Taken { value: port.mac.to_string(), owner: format!("port `{other}`") };
            faults.push(of_port(port, "mac_address", problem));
        }
    }
    if let Some(host) = &policy.host {
        bindings(policy, host, faults);
    }
}

fn of_port(port: &Port, field: &'static str, problem: Problem) -> Fault {
    Fault { object: "port", id: port.id.to_string(), field, problem }
}

fn unknown(kind: &'static str, id: &str) -> Problem {
    Problem::Unknown { kind, id: id.to_owned() }
}

fn rules(policy: &Policy, faults: &mut Faults) {
    let mut ids = HashSet::new();
    for rule in policy.groups.values().flat_map(|group| &group.rules) {
        let mut push = |field, problem| {
            let id = rule.id.to_string();
            faults.push(Fault { object: "security group rule", id, field, problem });
        };
        if !ids.insert(&rule.id) {
            push("id", Problem::Duplicate(rule.id.to_string()));
        }
        match &rule.peer {
            RulePeer::Any | RulePeer::Prefix(_) => {}
            RulePeer::Group(id) => {
                if !policy.groups.contains_key(id) {
                    push("remote_group_id", unknown("security group", id.as_str()));
                }
            }
            RulePeer::AddressGroup(id) => {
                if !policy.address_groups.contains_key(id) {
                    push("remote_address_group_id", unknown("address group", id.as_str()));
                }
            }
        }
    }
}

fn references(policy: &Policy, port: &Port, faults: &mut Faults) {
    if !policy.networks.contains_key(&port.network) {
        faults.push(of_port(port, "network_id", unknown("network", port.network.as_str())));
    }
    for id in port.groups.iter().filter(|id| !policy.groups.contains_key(*id)) {
        faults.push(of_port(port, "security_groups", unknown("security group", id.as_str())));
    }
}

fn statefulness(policy: &Policy, port: &Port, faults: &mut Faults) {
    let of_kind = |wanted: Statefulness| {
        let is = |id: &&GroupId| policy.groups.get(*id).is_some_and(|group| group.statefulness == wanted);
        port.groups.iter().find(is)
    };
    if let (Some(stateful), Some(stateless)) =
        (of_kind(Statefulness::Stateful), of_kind(Statefulness::Stateless))
    {
        let problem =
            Problem::MixedStatefulness { stateful: stateful.to_string(), stateless: stateless.to_string() };
        faults.push(of_port(port, "security_groups", problem));
    }
}

/// Each port is known, each OpenFlow port number is one thing, and local VLANs and networks go one to one.
fn bindings(policy: &Policy, host: &Host, faults: &mut Faults) {
    let mut numbers = HashMap::new();
    let mut vlan_of = HashMap::new();
    let mut network_of = HashMap::new();
    for (id, binding) in &host.bindings {
        let mut push = |field, problem| {
            faults.push(Fault { object: "binding", id: id.to_string(), field, problem });
        };
        if let Some(owner) = numbers.insert(binding.ofport, format!("port `{id}`")) {
            push("ofport", Problem::Taken { value: binding.ofport.to_string(), owner });
        }
        let Some(port) = policy.ports.get(id) else {
            push("port_id", unknown("port", id.as_str()));
            continue;
        };
        if !policy.networks.contains_key(&port.network) {
            continue;
        }
        let vlan = *vlan_of.entry(&port.network).or_insert(binding.vlan);
        let network = *network_of.entry(binding.vlan).or_insert(&port.network);
        if vlan != binding.vlan {
            let expected = "the local VLAN of the other ports of its network";
            push("vlan", Problem::Not { value: binding.vlan.to_string(), expected });
        } else if *network != port.network {
            let owner = format!("network `{network}`");
            push("vlan", Problem::Taken { value: binding.vlan.to_string(), owner });
        }
    }
    for uplink in &host.uplinks {
        if let Some(owner) = numbers.insert(uplink.ofport, format!("uplink `{}`", uplink.ofport)) {
            let problem = Problem::Taken { value: uplink.ofport.to_string(), owner };
            let id = uplink.ofport.to_string();
            faults.push(Fault { object: "uplink", id, field: "ofport", problem });
        }
    }
}
