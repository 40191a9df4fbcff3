//! What one rule matches, whoever is at the other end.

use super::Masks;
use crate::template::{bits, destination, ip, protocol, source};
use crate::{Consequence, Unsupported};
use flowproof_model::policy::{
    Direction, Ethertype, IcmpMatch, Policy, Port, Protocol, Rule, RulePeer, Statefulness, Transport,
};
use flowproof_packet::Field;
use flowproof_switch::flow::Match;
use std::collections::BTreeSet;

/// IPv6 extension headers: the switch looks behind them, so that no packet has them as its protocol (ovs-fields(7)).
const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];

/// How detailed a rule is, 0 to 3, which is what the driver adds to its priority.
pub(super) const fn detail(rule: &Rule) -> u16 {
    match rule.protocol {
        Protocol::Any => 0,
        Protocol::Icmp(IcmpMatch::Any) => 1,
        Protocol::Icmp(IcmpMatch::Type(_)) => 2,
        Protocol::Icmp(IcmpMatch::TypeCode(..)) | Protocol::Transport(..) | Protocol::Other(_) => 3,
    }
}

/// Whether the driver matches ports of a protocol.
pub(super) const fn has_ports(transport: Transport) -> bool {
    matches!(transport.number(), protocol::TCP | protocol::UDP | protocol::SCTP)
}

/// What `protocol` in a rule of `family` matches: one match for each block of ports.
pub(super) fn protocol_matches(family: Ethertype, protocol: Protocol, masks: Masks) -> Vec<Match> {
    let mut base = Match::default();
    base.set(Field::DlType, ip(family).into(), u128::MAX);
    if let Some(number) = protocol.number(family) {
        base.set(Field::NwProto, number.into(), u128::MAX);
    }
    match protocol {
        Protocol::Icmp(IcmpMatch::Type(kind)) => base.set(Field::Icmpv4Type, kind.into(), u128::MAX),
        Protocol::Icmp(IcmpMatch::TypeCode(kind, code)) => {
            base.set(Field::Icmpv4Type, kind.into(), u128::MAX);
            base.set(Field::Icmpv4Code, code.into(), u128::MAX);
        }
        Protocol::Transport(transport, Some(range)) if has_ports(transport) => {
            let with = |block: crate::masks::PortBlock| {
                let mut matching = base.clone();
                matching.set(Field::TcpDst, block.value.into(), block.mask.into());
                matching
            };
            return masks(range.min(), range.max()).into_iter().map(with).collect();
        }
        Protocol::Any | Protocol::Icmp(IcmpMatch::Any) | Protocol::Transport(..) | Protocol::Other(_) => {}
    }
    vec![base]
}

/// The field with the address of the other end.
pub(super) const fn peer_field(direction: Direction, family: Ethertype) -> Field {
    match direction {
        Direction::Ingress => source(family),
        Direction::Egress => destination(family),
    }
}

/// What a rule matches, its prefix included.
pub(super) fn matches(rule: &Rule, masks: Masks) -> Vec<Match> {
    let mut matches = protocol_matches(rule.ethertype, rule.protocol, masks);
    if let RulePeer::Prefix(prefix) = &rule.peer {
        let (value, mask) = bits(prefix);
        let field = peer_field(rule.direction, rule.ethertype);
        matches.iter_mut().for_each(|matching| matching.set(field, value, mask));
    }
    matches
}

/// Lists what the driver cannot express of a port's rules.
pub(super) fn limits(policy: &Policy, port: &Port, unsupported: &mut BTreeSet<Unsupported>) {
    let mut list = |object, id: &str, consequence, reason: String| {
        unsupported.insert(Unsupported { object, id: id.to_owned(), consequence, reason });
    };
    for group in port.groups.iter().filter_map(|id| policy.groups.get(id)) {
        if group.statefulness == Statefulness::Stateless {
            let reason = "it is stateless, and replies are admitted nevertheless".to_owned();
            list("security group", group.id.as_str(), Consequence::Widened, reason);
        }
        for rule in &group.rules {
            let mut of_rule = |consequence, reason| list("rule", rule.id.as_str(), consequence, reason);
            match rule.protocol {
                Protocol::Transport(transport, Some(_)) if !has_ports(transport) => {
                    let number = transport.number();
                    of_rule(Consequence::Widened, format!("ports of protocol {number} are overlooked"));
                }
                Protocol::Other(number)
                    if rule.ethertype == Ethertype::Ipv6 && EXTENSION_HEADERS.contains(&number) =>
                {
                    let reason =
                        format!("{number} is an extension header, which no packet has as its protocol");
                    of_rule(Consequence::Narrowed, reason);
                }
                _ => {}
            }
            if let (Direction::Egress, RulePeer::Group(id)) = (rule.direction, &rule.peer) {
                let everything =
                    |port: &Port| port.address_pairs.iter().any(|pair| pair.prefix.prefix_len() == 0);
                if policy.members_of(id).any(everything) {
                    let reason =
                        format!("the member of `{id}` that may use any address is no destination for it");
                    of_rule(Consequence::Narrowed, reason);
                }
            }
        }
    }
}
