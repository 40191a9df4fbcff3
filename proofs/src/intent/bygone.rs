//! Connections that rules admitted which are gone: what connection tracking still knows of them is a state that no packet
//! brings about under the rules of now.
//!
//! They are opened and answered under the same intent with rules for everything, in tables that commit whatever comes in
//! the network's zone and do nothing else; then intent and tables are those in question, and what the switch tracks and the
//! model remembers stays. Invariant: the model delivers every packet of that time. Deliberately absent: what tables other than
//! these would have made of the connection, marks above all.
//!
//! Source: a rule is removed while its connections go on (Neutron's fullstack `test_securitygroup`, LP 1549370).

use crate::tables::Tables;
use flowproof_model::policy::{
    Direction, Ethertype, GroupId, Policy, Port, Protocol, Rule, RulePeer, SecurityGroup, Statefulness,
};
use flowproof_packet::Field;
use flowproof_switch::flow::{Action, Ct, Flow, Match, Zone};

const GROUP: &str = "flowproof-bygone";
const IP: [u16; 2] = [0x0800, 0x86dd];

/// The intent with rules that let these ports send and receive everything.
pub(super) fn policy(now: &Policy, ports: &[&Port]) -> Policy {
    let mut policy = now.clone();
    let id = GroupId::from(GROUP);
    let families = [Ethertype::Ipv4, Ethertype::Ipv6];
    let both =
        families.map(|ethertype| [Direction::Egress, Direction::Ingress].map(|way| rule(way, ethertype)));
    let rules = both.into_iter().flatten().collect();
    let group = SecurityGroup { id: id.clone(), statefulness: Statefulness::default(), rules };
    policy.groups.insert(id.clone(), group);
    for port in ports {
        policy.ports.get_mut(&port.id).into_iter().for_each(|port| port.groups.push(id.clone()));
    }
    policy
}

fn rule(direction: Direction, ethertype: Ethertype) -> Rule {
    Rule {
        id: format!("{GROUP}-{}-{ethertype:?}", direction.name()).as_str().into(),
        direction,
        ethertype,
        protocol: Protocol::Any,
        protocol_spelling: None,
        peer: RulePeer::Any,
    }
}

/// Tables that commit everything in a zone.
pub(super) fn tables(zone: u16) -> Tables {
    let flow = |ethertype: u16| {
        let mut matching = Match::default();
        matching.set(Field::DlType, ethertype.into(), u128::MAX);
        let (force, table, zone) = (false, None, Zone::Const(zone));
        let ct = Ct { commit: true, force, table, zone, exec: Vec::new(), nat: None, other: Vec::new() };
        let actions = vec![Action::Ct(Box::new(ct))];
        Flow { priority: 1, matching, actions, ..Flow::default() }
    };
    Tables::new(IP.map(flow).to_vec())
}
