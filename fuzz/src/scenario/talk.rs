//! Talks: two ends with a protocol between them that a rule of one of them speaks of, more or less.

use super::ends::{self, End, ends_of};
use super::items::{Items, item, word};
use crate::Choices;
use flowproof_lockstep::scenario::{Contents, Extras, Packet, Sender};
use flowproof_model::policy::{
    Direction, Ethertype, IcmpMatch, IpNet, Policy, Port, PortId, Protocol, Rule, RuleId, RulePeer, Transport,
};
use flowproof_packet::wire::proto;
use std::net::IpAddr;

/// Ports that packets have besides those of rules.
const PORTS: &[u16] = &[22, 23, 24, 26, 53, 54, 80, 81, 89, 7, 67, 68, 546, 547, 0, 4000];

const TRANSPORTS: &[u8] = &[proto::TCP, proto::UDP, proto::SCTP];

/// The type of an ICMPv4 timestamp request; its answer is one more.
const TIMESTAMP: u16 = 13;
const ECHO: u16 = 8;

/// Two ends that talk.
#[derive(Clone, Debug)]
pub(super) struct Talk {
    pub(super) from: PortId,
    pub(super) to: PortId,
    v6: bool,
    protocol: u8,
    /// Ports, or ICMP type and identifier.
    ends: (u16, u16),
    /// What either end calls itself, where that is not what it is called first.
    names: (Option<End>, Option<End>),
    /// How many packets there were.
    packets: u8,
    /// The rule that it is about.
    pub(super) rule: Option<RuleId>,
}

impl Talk {
    /// The next packet, in either direction.
    pub(super) fn packet(&mut self, back: bool) -> Packet {
        let (mut items, mut extras) = (Items::new(), Extras::default());
        match self.protocol {
            proto::TCP => {
                self.transport(&mut items, "tcp", back);
                let (flags, seq, ack) = match (back, self.packets) {
                    (false, 0) => ("+syn", 100, 0),
                    (true, 0 | 1) => ("+syn+ack", 900, 101),
                    (false, _) => ("+ack", 101, 901),
                    (true, _) => ("+ack", 901, 101),
                };
                items.push(item("tcp_flags", flags));
                (extras.seq, extras.ack) = (Some(seq), Some(ack));
            }
            proto::UDP => self.transport(&mut items, "udp", back),
            proto::SCTP => self.transport(&mut items, "sctp", back),
            proto::ICMP | proto::ICMPV6 => {
                items.push(word(if self.v6 { "icmp6" } else { "icmp" }));
                let key = if self.v6 { "icmpv6_type" } else { "icmp_type" };
                items.push(item(key, self.query(back)));
                extras.icmp_id = Some(self.ends.1);
            }
            other => {
                items.push(word(if self.v6 { "ipv6" } else { "ip" }));
                items.push(item("nw_proto", other));
                extras.payload = Some(16);
            }
        }
        self.packets = self.packets.saturating_add(1);
        let (speaker, hearer) = if back { (self.names.1, self.names.0) } else { self.names };
        if let Some(end) = speaker {
            ends::from(&mut items, end);
        }
        if let Some(end) = hearer {
            ends::to(&mut items, end);
        }
        let (from, to) = if back { (&self.to, &self.from) } else { (&self.from, &self.to) };
        Packet {
            from: Sender::Port(from.clone()),
            to: Some(to.clone()),
            contents: Contents::Flow(items),
            extras,
        }
    }

    fn transport(&self, items: &mut Items, name: &str, back: bool) {
        let (src, dst) = if back { (self.ends.1, self.ends.0) } else { self.ends };
        let suffix = if self.v6 { "6" } else { "" };
        items.extend([
            word(&format!("{name}{suffix}")),
            item(&format!("{name}_src"), src),
            item(&format!("{name}_dst"), dst),
        ]);
    }

    /// The type of a query or of its answer.
    const fn query(&self, back: bool) -> u16 {
        match (self.v6, back) {
            (false, false) => self.ends.0,
            (false, true) => {
                if self.ends.0 == TIMESTAMP {
                    TIMESTAMP + 1
                } else {
                    0
                }
            }
            (true, false) => 128,
            (true, true) => 129,
        }
    }
}

/// A talk that a rule of one of its ends speaks of, more or less; none where nobody could talk.
pub(super) fn new_talk(choices: &mut Choices<'_>, policy: &Policy) -> Option<Talk> {
    let local: Vec<&Port> = policy.local_ports().map(|(port, _)| port).collect();
    if local.is_empty() {
        return None;
    }
    let judged = *choices.pick(&local);
    let others: Vec<&Port> =
        policy.ports.values().filter(|port| port.id != judged.id && port.network == judged.network).collect();
    if others.is_empty() {
        return None;
    }
    let rules: Vec<&Rule> = policy.rules_of(judged).collect();
    let rule = if rules.is_empty() || choices.chance(8) { None } else { Some(*choices.pick(&rules)) };
    let meant: Vec<&Port> =
        others.iter().filter(|port| rule.is_some_and(|rule| may_mean(policy, rule, port))).copied().collect();
    let other =
        if meant.is_empty() || choices.chance(10) { *choices.pick(&others) } else { *choices.pick(&meant) };
    let egress = rule.map_or_else(|| choices.chance(50), |rule| rule.direction == Direction::Egress);
    let v6 = rule.map_or_else(|| choices.chance(35), |rule| rule.ethertype == Ethertype::Ipv6);
    let (protocol, ends) = protocol_of(choices, rule, v6);
    let (from, to) = if egress { (judged, other) } else { (other, judged) };
    let rule = rule.map(|rule| rule.id.clone());
    let names = (name(choices, from, v6), name(choices, to, v6));
    Some(Talk { from: from.id.clone(), to: to.id.clone(), v6, protocol, ends, names, packets: 0, rule })
}

/// Some other of the names that a port may have.
fn name(choices: &mut Choices<'_>, port: &Port, v6: bool) -> Option<End> {
    let ends = ends_of(port, v6);
    (!ends.is_empty() && choices.chance(25)).then(|| *choices.pick(&ends))
}

/// A protocol with its ends, on the edge of what a rule says.
fn protocol_of(choices: &mut Choices<'_>, rule: Option<&Rule>, v6: bool) -> (u8, (u16, u16)) {
    let icmp = if v6 { proto::ICMPV6 } else { proto::ICMP };
    let (protocol, port) = match rule.map_or(Protocol::Any, |rule| rule.protocol) {
        Protocol::Transport(transport, range) => {
            let port = range.map(|range| {
                let (min, max) = (range.min(), range.max());
                *choices.pick(&[min, max, min.saturating_sub(1), max.saturating_add(1)])
            });
            let protocol = match transport {
                Transport::Tcp | Transport::Udp | Transport::Sctp => transport.number(),
                Transport::Dccp | Transport::UdpLite if choices.chance(50) => transport.number(),
                Transport::Dccp | Transport::UdpLite => proto::UDP,
            };
            (protocol, port)
        }
        Protocol::Icmp(IcmpMatch::Any) => (icmp, Some(ECHO)),
        Protocol::Icmp(IcmpMatch::Type(kind) | IcmpMatch::TypeCode(kind, _)) => (icmp, Some(kind.into())),
        Protocol::Other(number) => (number, None),
        Protocol::Any => (*choices.pick(&[6, 17, 6, 17, 1, 132, 112, 47]), None),
    };
    let protocol = match protocol {
        proto::ICMP | proto::ICMPV6 => icmp,
        // Extension headers, of which a packet cannot consist.
        proto::HOP_BY_HOP | proto::ROUTING | proto::FRAGMENT | proto::AH | proto::DEST_OPTIONS => 47,
        other => other,
    };
    let port = port.unwrap_or_else(|| *choices.pick(PORTS));
    // The same numbers in another protocol.
    let ported = matches!(protocol, proto::TCP | proto::UDP | proto::SCTP);
    let protocol = if ported && choices.chance(8) { *choices.pick(TRANSPORTS) } else { protocol };
    let third = u16::from(choices.byte() % 3);
    let query = if port == TIMESTAMP { TIMESTAMP } else { ECHO };
    let source = if choices.chance(12) { *choices.pick(PORTS) } else { 4000 + third };
    (protocol, if protocol == icmp { (query, 1 + third) } else { (source, port) })
}

fn may_mean(policy: &Policy, rule: &Rule, port: &Port) -> bool {
    let has = |prefix: &IpNet| port.fixed_ips.iter().any(|ip: &IpAddr| prefix.contains(ip));
    match &rule.peer {
        RulePeer::Any => true,
        RulePeer::Prefix(prefix) => has(prefix),
        RulePeer::Group(group) => port.groups.contains(group),
        RulePeer::AddressGroup(id) => {
            policy.address_groups.get(id).is_some_and(|group| group.addresses.iter().any(has))
        }
    }
}
