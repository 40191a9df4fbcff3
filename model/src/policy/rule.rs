//! Security groups and their rules, and address groups.
//!
//! Source: Neutron API reference, "Security group rules"; protocol numbers: IANA, under the names neutron-lib gives.

use super::{AddressGroupId, GroupId, RuleId};
use ipnet::IpNet;
use std::net::IpAddr;

/// Which way traffic goes, seen from the port that is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards the port.
    Ingress,
    /// From the port.
    Egress,
}

impl Direction {
    /// The word the API uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// The address family of a rule; no rule speaks of anything but IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ethertype {
    /// IP version 4.
    Ipv4,
    /// IP version 6.
    Ipv6,
}

impl Ethertype {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The word the API uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    /// The family of an address.
    #[must_use]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// The family of a prefix.
    #[must_use]
    pub const fn of_prefix(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }
}

/// Protocols whose rules may name ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
    /// RFC 4340.
    Dccp,
    /// RFC 3828.
    UdpLite,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Dccp, Self::UdpLite];

    /// The protocol number (IANA).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
            Self::Dccp => 33,
            Self::UdpLite => 136,
        }
    }
}

/// Destination ports, both ends included; `min` ≤ `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    min: u16,
    max: u16,
}

impl PortRange {
    /// The ports from `min` to `max`; nothing if they are out of order.
    #[must_use]
    pub const fn new(min: u16, max: u16) -> Option<Self> {
        if min <= max { Some(Self { min, max }) } else { None }
    }

    /// The lowest port.
    #[must_use]
    pub const fn min(self) -> u16 {
        self.min
    }

    /// The highest port.
    #[must_use]
    pub const fn max(self) -> u16 {
        self.max
    }

    /// Whether the range is 1 to 65535, which today's API stores as no range at all (a rule made before, or by hand,
    /// still says so).
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.min <= 1 && self.max == u16::MAX
    }
}

/// What an ICMP rule asks of type and code. A code needs a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IcmpMatch {
    /// Any type, any code.
    Any,
    /// This type (0 is a type: echo reply), any code.
    Type(u8),
    /// This type and this code (0 is a code).
    TypeCode(u8, u8),
}

/// What a rule asks of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Every protocol.
    Any,
    /// A protocol with ports, and which destination ports (`None`: all).
    Transport(Transport, Option<PortRange>),
    /// ICMP of the rule's family: protocol 1 over IPv4, 58 over IPv6.
    Icmp(IcmpMatch),
    /// Another protocol, by number.
    Other(u8),
}

impl Protocol {
    /// The protocol number in a rule of family `ethertype`; nothing if every protocol is meant.
    #[must_use]
    pub const fn number(self, ethertype: Ethertype) -> Option<u8> {
        match (self, ethertype) {
            (Self::Any, _) => None,
            (Self::Transport(transport, _), _) => Some(transport.number()),
            (Self::Icmp(_), Ethertype::Ipv4) => Some(1),
            (Self::Icmp(_), Ethertype::Ipv6) => Some(58),
            (Self::Other(number), _) => Some(number),
        }
    }
}

/// Whom a rule allows to be the other end: the source of ingress, the destination of egress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RulePeer {
    /// Anybody.
    Any,
    /// Addresses of a prefix, host bits cleared.
    Prefix(IpNet),
    /// Members of a security group.
    Group(GroupId),
    /// Addresses of an address group.
    AddressGroup(AddressGroupId),
}

/// A security group rule. Rules only allow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// Which way.
    pub direction: Direction,
    /// Which family.
    pub ethertype: Ethertype,
    /// Which protocol, ports, ICMP types.
    pub protocol: Protocol,
    /// How the object spelled the protocol (`None` for null), which the Mitaka driver depends on: it understood
    /// `tcp`, `udp` and `icmp` only.
    pub protocol_spelling: Option<String>,
    /// Who may be at the other end.
    pub peer: RulePeer,
}

/// Whether a group's author wanted connections to be tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statefulness {
    /// Replies to what is admitted are admitted.
    #[default]
    Stateful,
    /// Every packet needs a rule.
    Stateless,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecurityGroup {
    /// Its id.
    pub id: GroupId,
    /// Whether it tracks connections.
    pub statefulness: Statefulness,
    /// Its rules, in the order given; the order means nothing.
    pub rules: Vec<Rule>,
}

/// A named list of prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressGroup {
    /// Its id.
    pub id: AddressGroupId,
    /// Its prefixes, of both families, host bits cleared.
    pub addresses: Vec<IpNet>,
}

/// Protocol names the API knows, with their numbers (neutron-lib). `icmp` and its aliases are not here: they follow
/// the rule's family.
pub(super) const PROTOCOL_NAMES: &[(&str, u8)] = &[
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("hopopt", 0),
    ("igmp", 2),
    ("ip", 0),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

/// ICMP under its three names.
pub(super) const ICMP_NAMES: &[&str] = &["icmp", "icmpv6", "ipv6-icmp"];

/// Protocols that exist over IPv6 only: the API refuses them in an IPv4 rule.
pub(super) const IPV6_ONLY: &[u8] = &[41, 43, 44, 58, 59, 60];
