//! The properties, as a table: one row, one theorem.
//!
//! All rows of what a VM sends: a packet enters at a filtered port with registers, metadata and connection state
//! zero, and *escapes* if anything but a drop happens to it. A row says which frames it speaks of and what must not
//! escape; engines, witnesses and replay are the same for all.

use crate::{
    ports::{Pair, Port},
    predicate::Predicate,
    symkey::Form,
};
use flowproof_packet::Field;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// ICMPv6 types a host may send from `::` before it has an address (RFC 4862, 2710, 3810): DAD and MLD.
const UNADDRESSED: [u8; 4] = [NEIGHBOUR_SOLICITATION, 131, 132, 143];

const WHOLE: &[Form] = &[Form::Whole];
const FRAGMENTS: &[Form] = &[Form::First, Form::Later];

/// How a property judges an escape.
#[derive(Clone, Copy)]
pub enum Judge {
    /// What is `premise` and escapes must be `allowed`.
    Implication {
        /// The packets the theorem speaks of.
        premise: fn(&Port) -> Predicate,
        /// Those of them that may escape.
        allowed: fn(&Port) -> Predicate,
    },
    /// No such packet escapes. The twin that shows that it is this trait that is stopped differs in these fields only.
    Prohibition {
        /// The forbidden packets.
        forbidden: fn(&Port) -> Predicate,
        /// The fields that make them forbidden.
        traits: &'static [Field],
    },
    /// What entered with a VLAN tag does not leave without one, nor into another network.
    KeepsVlan,
    /// Where a fragment goes its whole datagram would go too.
    FragmentsLikeWholes,
}

/// A theorem about what a VM sends.
#[derive(Clone, Copy)]
pub struct Property {
    /// Its name on the command line, in reports and in tests.
    pub name: &'static str,
    /// What it says.
    pub theorem: &'static str,
    /// What a flow would have to look at to keep it.
    pub subject: &'static [Field],
    /// The frames it speaks of.
    pub forms: &'static [Form],
    /// What must not be.
    pub judge: Judge,
}

impl std::fmt::Debug for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The packets the property speaks of, whatever becomes of them.
#[must_use]
pub fn premise(property: &Property, port: &Port) -> Predicate {
    match property.judge {
        Judge::Implication { premise, .. } => premise(port),
        Judge::Prohibition { forbidden, .. } => forbidden(port),
        Judge::KeepsVlan => tagged(),
        Judge::FragmentsLikeWholes => Predicate::always(),
    }
}

/// The packets whose escape violates the property, as far as the packet alone decides.
#[must_use]
pub fn violation(property: &Property, port: &Port) -> Predicate {
    match property.judge {
        Judge::Implication { premise, allowed } => premise(port).and(allowed(port).negate()),
        Judge::Prohibition { forbidden, .. } => forbidden(port),
        Judge::KeepsVlan => tagged(),
        Judge::FragmentsLikeWholes => Predicate::always(),
    }
}

/// The property with this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Property> {
    SENDER.iter().find(|property| property.name == name)
}

/// What a VM sends: every theorem, in the order of reports.
pub const SENDER: &[Property] = &[
    Property {
        name: "spoofed-mac",
        theorem: "what escapes has a source MAC of the port",
        subject: &[Field::DlSrc],
        forms: &Form::ALL,
        judge: Judge::Implication { premise: |_| Predicate::always(), allowed: own_mac },
    },
    Property {
        name: "spoofed-ipv4",
        theorem: "IPv4 that escapes has a source pair of the port, or is a DHCP request from 0.0.0.0",
        subject: &[Field::DlSrc, Field::NwSrc],
        forms: &Form::ALL,
        judge: Judge::Implication {
            premise: |_| ethertype(IPV4),
            allowed: |port| pairs(Field::NwSrc, &port.pairs4).or(unaddressed_dhcp(port)),
        },
    },
    Property {
        name: "spoofed-ipv6",
        theorem: "IPv6 that escapes has a source pair of the port, or is DAD or MLD from ::",
        subject: &[Field::DlSrc, Field::Ipv6Src],
        forms: &Form::ALL,
        judge: Judge::Implication { premise: |_| ethertype(IPV6), allowed: own_ipv6_source },
    },
    Property {
        name: "spoofed-arp",
        theorem: "ARP that escapes has a sender pair of the port, or is a probe; RARP has its MAC",
        subject: &[Field::DlSrc, Field::ArpSpa],
        forms: WHOLE,
        judge: Judge::Implication {
            premise: |_| Predicate::one_of(Field::DlType, [ARP, RARP]),
            allowed: |port| {
                let probe = own_mac(port).and(Predicate::is(Field::ArpSpa, 0u8));
                let arp = ethertype(ARP).and(pairs(Field::ArpSpa, &port.pairs4).or(probe));
                arp.or(ethertype(RARP).and(own_mac(port)))
            },
        },
    },
    Property {
        name: "spoofed-arp-sha",
        theorem: "ARP that escapes has its Ethernet source as sender hardware address",
        subject: &[Field::ArpSha],
        forms: WHOLE,
        judge: Judge::Implication {
            premise: |_| ethertype(ARP),
            allowed: |_| Predicate::Same(Field::DlSrc, Field::ArpSha),
        },
    },
    Property {
        name: "spoofed-nd",
        theorem: "NS and NA that escape have a source pair, a target and a link-layer option of the port",
        subject: &[Field::DlSrc, Field::Ipv6Src, Field::NdTarget, Field::NdSll, Field::NdTll],
        forms: &Form::ALL,
        judge: Judge::Implication { premise: |_| neighbour_discovery(), allowed: own_neighbour_discovery },
    },
    Property {
        name: "router-advertisement",
        theorem: "no ICMPv6 router advertisement or redirect escapes",
        subject: &[Field::Icmpv6Type],
        forms: WHOLE,
        judge: Judge::Prohibition { forbidden: |_| router_message(), traits: &[Field::Icmpv6Type] },
    },
    Property {
        name: "router-advertisement-fragments",
        theorem: "no fragment of a router advertisement or redirect escapes",
        subject: &[Field::Icmpv6Type, Field::NwFrag],
        forms: FRAGMENTS,
        judge: Judge::Prohibition { forbidden: |_| router_message(), traits: &[Field::Icmpv6Type] },
    },
    Property {
        name: "dhcp-server",
        theorem: "no unfragmented UDP 67 to 68 over IPv4 escapes",
        subject: PORTS,
        forms: WHOLE,
        judge: Judge::Prohibition { forbidden: |_| udp(IPV4, 67, 68), traits: PORTS },
    },
    Property {
        name: "dhcpv6-server",
        theorem: "no unfragmented UDP 547 to 546 over IPv6 escapes",
        subject: PORTS,
        forms: WHOLE,
        judge: Judge::Prohibition { forbidden: |_| udp(IPV6, 547, 546), traits: PORTS },
    },
    Property {
        name: "dhcp-server-fragments",
        theorem: "no fragment of a UDP 67 to 68 datagram over IPv4 escapes",
        subject: FRAGMENT_PORTS,
        forms: FRAGMENTS,
        judge: Judge::Prohibition { forbidden: |_| udp(IPV4, 67, 68), traits: PORTS },
    },
    Property {
        name: "dhcpv6-server-fragments",
        theorem: "no fragment of a UDP 547 to 546 datagram over IPv6 escapes",
        subject: FRAGMENT_PORTS,
        forms: FRAGMENTS,
        judge: Judge::Prohibition { forbidden: |_| udp(IPV6, 547, 546), traits: PORTS },
    },
    Property {
        name: "dhcp-server-strict",
        theorem: "nothing from UDP 67 and nothing to UDP 68 escapes over IPv4",
        subject: PORTS,
        forms: &Form::ALL,
        judge: Judge::Prohibition { forbidden: |_| udp_either(IPV4, 67, 68), traits: PORTS },
    },
    Property {
        name: "dhcpv6-server-strict",
        theorem: "nothing from UDP 547 and nothing to UDP 546 escapes over IPv6",
        subject: PORTS,
        forms: &Form::ALL,
        judge: Judge::Prohibition { forbidden: |_| udp_either(IPV6, 547, 546), traits: PORTS },
    },
    Property {
        name: "vlan-escape",
        theorem: "what entered with a VLAN tag is not delivered untagged nor into another network",
        subject: &[Field::VlanTci],
        forms: &Form::ALL,
        judge: Judge::KeepsVlan,
    },
    Property {
        name: "unknown-ethertype",
        theorem: "only IPv4, IPv6, ARP, RARP and permitted ethertypes escape",
        subject: &[Field::DlType],
        forms: WHOLE,
        judge: Judge::Prohibition {
            forbidden: |port| {
                let known = [IPV4, IPV6, ARP, RARP].into_iter().chain(port.permitted.iter().copied());
                Predicate::one_of(Field::DlType, known).negate()
            },
            traits: ETHERTYPE,
        },
    },
    Property {
        name: "fragment-escape",
        theorem: "a fragment goes nowhere its whole datagram would not go",
        subject: &[Field::NwFrag],
        forms: FRAGMENTS,
        judge: Judge::FragmentsLikeWholes,
    },
];

const PORTS: &[Field] = &[Field::UdpSrc, Field::UdpDst];
const FRAGMENT_PORTS: &[Field] = &[Field::UdpSrc, Field::UdpDst, Field::NwFrag];

/// What changes when a frame of unknown type becomes one of a known type: everything behind the Ethernet header.
const ETHERTYPE: &[Field] = &[
    Field::DlType,
    Field::NwSrc,
    Field::NwDst,
    Field::Ipv6Src,
    Field::Ipv6Dst,
    Field::NwProto,
    Field::TcpSrc,
    Field::TcpDst,
    Field::ArpSha,
    Field::ArpTha,
    Field::NdTarget,
];

fn ethertype(value: u16) -> Predicate {
    Predicate::is(Field::DlType, value)
}

fn udp(ip: u16, source: u16, destination: u16) -> Predicate {
    let ports = Predicate::is(Field::UdpSrc, source).and(Predicate::is(Field::UdpDst, destination));
    Predicate::All(vec![ethertype(ip), Predicate::is(Field::NwProto, UDP), ports])
}

fn udp_either(ip: u16, source: u16, destination: u16) -> Predicate {
    let ports = Predicate::is(Field::UdpSrc, source).or(Predicate::is(Field::UdpDst, destination));
    Predicate::All(vec![ethertype(ip), Predicate::is(Field::NwProto, UDP), ports])
}

fn own_mac(port: &Port) -> Predicate {
    Predicate::one_of(Field::DlSrc, port.macs.iter().map(|mac| mac.to_bits()))
}

fn pairs<'a>(address: Field, pairs: impl IntoIterator<Item = &'a Pair>) -> Predicate {
    let pair = |pair: &Pair| {
        Predicate::is(Field::DlSrc, pair.mac.to_bits()).and(Predicate::Is(address, pair.address, pair.mask))
    };
    Predicate::Any(pairs.into_iter().map(pair).collect())
}

fn unaddressed_dhcp(port: &Port) -> Predicate {
    own_mac(port).and(Predicate::is(Field::NwSrc, 0u8)).and(udp(IPV4, 68, 67))
}

fn icmpv6(types: impl IntoIterator<Item = u8>) -> Predicate {
    let kind = Predicate::one_of(Field::Icmpv6Type, types);
    Predicate::All(vec![ethertype(IPV6), Predicate::is(Field::NwProto, ICMPV6), kind])
}

fn own_ipv6_source(port: &Port) -> Predicate {
    let unaddressed = own_mac(port).and(Predicate::is(Field::Ipv6Src, 0u8)).and(icmpv6(UNADDRESSED));
    pairs(Field::Ipv6Src, &port.pairs6).or(unaddressed)
}

fn router_message() -> Predicate {
    icmpv6([134, 137])
}

/// RFC 4861 has receivers ignore NS and NA whose code is not 0, and the switch does not parse them.
fn neighbour_discovery() -> Predicate {
    icmpv6([NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT]).and(Predicate::is(Field::Icmpv6Code, 0u8))
}

fn own_neighbour_discovery(port: &Port) -> Predicate {
    let link_layer = |field| Predicate::one_of(field, port.macs.iter().map(|mac| mac.to_bits()).chain([0]));
    let targets =
        port.pairs6.iter().map(|pair| Predicate::Is(Field::NdTarget, pair.address, pair.mask)).collect();
    let kind = |value: u8| Predicate::is(Field::Icmpv6Type, value);
    let solicitation = kind(NEIGHBOUR_SOLICITATION).and(link_layer(Field::NdSll));
    let advertisement = Predicate::All(vec![
        kind(NEIGHBOUR_ADVERTISEMENT),
        link_layer(Field::NdTll),
        Predicate::Any(targets),
    ]);
    own_ipv6_source(port).and(solicitation.or(advertisement))
}

fn tagged() -> Predicate {
    Predicate::Is(Field::VlanTci, 0x1000, 0x1000).and(Predicate::Is(Field::VlanTci, 0, 0x0fff).negate())
}
