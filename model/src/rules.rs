//! Whether a rule admits a datagram. Rules only allow, their order means nothing, and no rule speaks of anything but IP.
//!
//! Source: Neutron API reference, "Security group rules".

use crate::frame::{Datagram, Frame, Icmp, Upper};
use crate::members::{OtherEnd, is_member};
use crate::policy::{
    Direction, Ethertype, IcmpMatch, Policy, Port, PortRange, Protocol, Rule, RulePeer, Statefulness,
    Transport,
};
use crate::switches::{FullRange, Switches, UnsupportedPorts};

/// Extension headers of IPv6 that are skipped on the way to the protocol (RFC 8200, RFC 4302): no datagram *has* one of
/// them as its protocol.
const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];

/// Why a switch cannot do what a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unsupported {
    /// Ports of a protocol whose ports a switch cannot see (DCCP, UDP-Lite).
    Ports,
    /// A protocol that is an extension header of IPv6.
    ExtensionHeader,
    /// A rule of a group that is not stateful.
    Stateless,
}

/// What of a rule no switch of today can express.
#[must_use]
pub fn unsupported(rule: &Rule, statefulness: Statefulness) -> Option<Unsupported> {
    match (rule.protocol, rule.ethertype, statefulness) {
        (Protocol::Transport(Transport::Dccp | Transport::UdpLite, Some(_)), _, _) => {
            Some(Unsupported::Ports)
        }
        (Protocol::Other(number), Ethertype::Ipv6, _) if EXTENSION_HEADERS.contains(&number) => {
            Some(Unsupported::ExtensionHeader)
        }
        (
            Protocol::Any | Protocol::Transport(..) | Protocol::Icmp(_) | Protocol::Other(_),
            Ethertype::Ipv4 | Ethertype::Ipv6,
            Statefulness::Stateless,
        ) => Some(Unsupported::Stateless),
        (
            Protocol::Any | Protocol::Transport(..) | Protocol::Icmp(_) | Protocol::Other(_),
            Ethertype::Ipv4 | Ethertype::Ipv6,
            Statefulness::Stateful,
        ) => None,
    }
}

/// Whether some rule of `port` admits the frame in this direction, whatever else is to be said about it.
#[must_use]
pub fn admits(
    law: (&Policy, &Switches),
    end: (&Port, Direction),
    frame: &Frame,
    datagram: &Datagram,
) -> bool {
    admitting_rule(law, end, frame, datagram).is_some()
}

/// The first rule of `port` that admits the frame in this direction.
pub(crate) fn admitting_rule<'a>(
    (policy, switches): (&'a Policy, &Switches),
    (port, direction): (&'a Port, Direction),
    frame: &Frame,
    datagram: &Datagram,
) -> Option<&'a Rule> {
    policy.rules_of(port).find(|rule| {
        rule.direction == direction
            && rule.ethertype == Ethertype::of(&datagram.src)
            && protocol_is_meant(switches, rule, datagram)
            && peer_is_meant((policy, switches), (port, rule), frame, datagram)
    })
}

fn peer_is_meant(
    (policy, switches): (&Policy, &Switches),
    (port, rule): (&Port, &Rule),
    frame: &Frame,
    datagram: &Datagram,
) -> bool {
    let other = OtherEnd::of(rule.direction, frame, datagram);
    match &rule.peer {
        RulePeer::Any => true,
        RulePeer::Prefix(prefix) => prefix.contains(&other.ip),
        RulePeer::Group(group) => is_member((policy, switches), (port, rule.direction), group, frame, other),
        RulePeer::AddressGroup(group) => policy
            .address_groups
            .get(group)
            .is_some_and(|group| group.addresses.iter().any(|prefix| prefix.contains(&other.ip))),
    }
}

fn protocol_is_meant(switches: &Switches, rule: &Rule, datagram: &Datagram) -> bool {
    let same = rule.protocol.number(rule.ethertype) == Some(datagram.protocol);
    match rule.protocol {
        Protocol::Any => true,
        Protocol::Transport(_, None) => same,
        Protocol::Transport(transport, Some(range)) => {
            same && ports_are_meant(switches, transport, range, &datagram.upper)
        }
        Protocol::Icmp(wanted) => same && type_is_meant(wanted, &datagram.upper),
        Protocol::Other(number) => {
            let header = rule.ethertype == Ethertype::Ipv6 && EXTENSION_HEADERS.contains(&number);
            same && !header
        }
    }
}

fn ports_are_meant(switches: &Switches, transport: Transport, range: PortRange, upper: &Upper) -> bool {
    let whole_protocol = match transport {
        Transport::Tcp | Transport::Udp | Transport::Sctp => false,
        Transport::Dccp | Transport::UdpLite => match switches.unsupported_ports {
            UnsupportedPorts::Exact => false,
            UnsupportedPorts::WholeProtocol => true,
        },
    };
    let full = match switches.full_range {
        FullRange::WholeProtocol => range.is_full(),
        FullRange::Literal => false,
    };
    let named = match upper {
        Upper::Ports { dst, .. } => (range.min()..=range.max()).contains(dst),
        Upper::Icmp(_) | Upper::Unseen => false,
    };
    whole_protocol || full || named
}

fn type_is_meant(wanted: IcmpMatch, upper: &Upper) -> bool {
    match (wanted, upper) {
        (IcmpMatch::Any, _) => true,
        (IcmpMatch::Type(kind), Upper::Icmp(icmp)) => icmp.kind == kind,
        (IcmpMatch::TypeCode(kind, code), Upper::Icmp(Icmp { kind: k, code: c, .. })) => {
            (*k, *c) == (kind, code)
        }
        (IcmpMatch::Type(_) | IcmpMatch::TypeCode(..), Upper::Ports { .. } | Upper::Unseen) => false,
    }
}
