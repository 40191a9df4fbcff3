//! What security groups mean, as predicates: the second fold of the reference semantics.
//!
//! The model judges one frame; this says for which frames it would say what. Invariant: [`Predicate::holds`] on a
//! frame is the model's verdict on it, for every frame and policy (an agreement property test). Deliberately
//! absent: history. A packet's standing is given as [`Standing`]; whether its connection was revoked is the mark that
//! connection tracking reports, which is what the switches `revocation: grace` and `readmission: after-expiry` mean.
//!
//! Source: the model's `semantics`; Neutron API reference, "Security group rules".

use crate::predicate::Predicate;
use flowproof_model::{
    policy::{
        AddressPair, Direction, Ethertype, IcmpMatch, IpNet, Policy, Port, PortRange, Protocol, Rule,
        RulePeer, Statefulness, Transport,
    },
    switches::{
        AnyAddressMembers, DhcpServer, FullRange, GroupAddressed, OwnAddresses, StatelessGroups, Switches,
        UnsupportedPorts,
    },
};
use flowproof_packet::{Field, MacAddr};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// MLD query and router solicitation.
const QUERIES: [u8; 2] = [130, 133];
/// MLD report and done, MLDv2 report.
const REPORTS: [u8; 3] = [131, 132, 143];
/// Router advertisement and redirect.
const ROUTERS: [u8; 2] = [134, 137];
/// What every port receives: MLD query, RA, NS, NA.
const RECEIVED: [u8; 4] = [130, 134, SOLICITATION, ADVERTISEMENT];
/// What every port may receive: MLD report and done.
const MAY_RECEIVE: [u8; 2] = [131, 132];
/// No datagram has an IPv6 extension header as its protocol.
const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];
/// DHCP: family, server's port, client's port.
const DHCP: [(u16, u16, u16); 2] = [(IPV4, 67, 68), (IPV6, 547, 546)];

/// What connection tracking makes of a packet, in the model's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It opens a connection, goes the way of its first packet, or was not tracked: rules decide.
    ByRule,
    /// It answers, or reports an error about, a connection that was not revoked.
    Follows,
    /// The same, of a connection that was revoked.
    Revoked,
    /// Connection tracking calls it invalid.
    Invalid,
}

/// For which packets an end says what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// They have to pass.
    pub must: Predicate,
    /// They may pass; `must` is among them.
    pub may: Predicate,
}

impl Admission {
    /// An end that nobody filters.
    #[must_use]
    pub const fn unfiltered() -> Self {
        Self { must: Predicate::always(), may: Predicate::always() }
    }

    /// What both ends say.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { must: self.must.and(other.must), may: self.may.and(other.may) }
    }
}

/// A policy and how its words are meant.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// What was asked for.
    pub policy: &'a Policy,
    /// How it is meant.
    pub switches: &'a Switches,
}

impl Words<'_> {
    /// What `port` may send.
    #[must_use]
    pub fn sends(&self, port: &Port, standing: Standing) -> Admission {
        if !port.is_filtered() {
            return Admission::unfiltered();
        }
        let (must, may) = (self.sent_without_rule(port), may_be_sent_without_rule(port));
        let ruled = self.sent_by_rule(port, standing);
        let only_may = may.clone().and(must.clone().negate());
        Admission {
            must: must.clone().or(ruled.clone().and(only_may.negate())),
            may: Predicate::Any(vec![must, may, ruled]),
        }
    }

    /// What `port` may receive.
    #[must_use]
    pub fn receives(&self, port: &Port, standing: Standing) -> Admission {
        if !port.is_filtered() {
            return Admission::unfiltered();
        }
        let must = self.received_without_rule().or(self.received_by_rule(port, standing));
        Admission { may: must.clone().or(icmpv6(MAY_RECEIVE)), must }
    }

    /// The MUST of ingress.
    fn received_without_rule(&self) -> Predicate {
        let flooded = match self.switches.group_addressed {
            GroupAddressed::Filtered => Predicate::never(),
            GroupAddressed::Flooded => group_addressed(),
        };
        let servers = DHCP.map(|(family, server, client)| udp(family, server, client));
        let mut must = vec![flooded, ethertype(ARP), self.permitted(), icmpv6(RECEIVED)];
        must.extend(servers);
        Predicate::Any(must)
    }

    /// What passes a filtered port for no other reason than a rule.
    #[must_use]
    pub fn only_by_rule(&self, port: &Port, direction: Direction) -> Predicate {
        let (by_rule, anyway) = match direction {
            Direction::Egress => {
                let anyway = self.sent_without_rule(port).or(may_be_sent_without_rule(port));
                (self.sent_by_rule(port, Standing::ByRule), anyway)
            }
            Direction::Ingress => {
                (self.received_by_rule(port, Standing::ByRule), self.received_without_rule())
            }
        };
        by_rule.and(anyway.negate())
    }

    /// What a filtered port refuses for want of a rule, and for nothing else.
    #[must_use]
    pub fn wants_a_rule(&self, port: &Port, direction: Direction) -> Predicate {
        let refused = match direction {
            Direction::Egress => self.never_sent(port).or(self.sends(port, Standing::ByRule).may),
            Direction::Ingress => self.receives(port, Standing::ByRule).may,
        };
        ip().and(refused.negate())
    }

    /// What `port` may send by its rules, or as part of a connection.
    #[must_use]
    pub fn sent_by_rule(&self, port: &Port, standing: Standing) -> Predicate {
        self.never_sent(port).negate().and(self.by(port, Direction::Egress, standing))
    }

    /// What `port` receives by its rules, or as part of a connection.
    #[must_use]
    pub fn received_by_rule(&self, port: &Port, standing: Standing) -> Predicate {
        self.by(port, Direction::Ingress, standing)
    }

    /// What passes a port by its rules or as part of a connection.
    fn by(&self, port: &Port, direction: Direction, standing: Standing) -> Predicate {
        let stateless = self.switches.stateless == StatelessGroups::Stateless
            && port.groups.iter().any(|id| {
                self.policy.groups.get(id).is_some_and(|g| g.statefulness == Statefulness::Stateless)
            });
        match standing {
            Standing::ByRule => self.rules(port, direction),
            Standing::Follows | Standing::Revoked if stateless => self.rules(port, direction),
            Standing::Follows => ip(),
            Standing::Revoked | Standing::Invalid => Predicate::never(),
        }
    }

    /// What the rules of one direction admit.
    #[must_use]
    pub fn rules(&self, port: &Port, direction: Direction) -> Predicate {
        let rules = self.policy.rules_of(port).filter(|rule| rule.direction == direction);
        Predicate::Any(rules.map(|rule| self.rule(port, rule)).collect())
    }

    /// What one rule of `port` admits.
    #[must_use]
    pub fn rule(&self, port: &Port, rule: &Rule) -> Predicate {
        Predicate::All(vec![ethertype(family(rule.ethertype)), self.protocol(rule), self.peer(port, rule)])
    }

    /// What the rules of one direction that name neither ports nor ICMP types admit.
    #[must_use]
    pub fn rules_without_ports(&self, port: &Port, direction: Direction) -> Predicate {
        let rules = self.policy.rules_of(port).filter(|rule| {
            rule.direction == direction
                && matches!(
                    rule.protocol,
                    Protocol::Any
                        | Protocol::Transport(_, None)
                        | Protocol::Icmp(IcmpMatch::Any)
                        | Protocol::Other(_)
                )
        });
        Predicate::Any(rules.map(|rule| self.rule(port, rule)).collect())
    }

    fn protocol(&self, rule: &Rule) -> Predicate {
        let Some(number) = rule.protocol.number(rule.ethertype) else { return Predicate::always() };
        let same = Predicate::is(Field::NwProto, number);
        match rule.protocol {
            Protocol::Any | Protocol::Transport(_, None) | Protocol::Icmp(IcmpMatch::Any) => same,
            Protocol::Transport(transport, Some(range)) => same.and(self.ports(transport, range)),
            Protocol::Icmp(IcmpMatch::Type(kind)) => same.and(Predicate::is(Field::TcpSrc, kind)),
            Protocol::Icmp(IcmpMatch::TypeCode(kind, code)) => Predicate::All(vec![
                same,
                Predicate::is(Field::TcpSrc, kind),
                Predicate::is(Field::TcpDst, code),
            ]),
            Protocol::Other(number) => {
                let header = rule.ethertype == Ethertype::Ipv6 && EXTENSION_HEADERS.contains(&number);
                if header { Predicate::never() } else { same }
            }
        }
    }

    /// A switch shows no ports of DCCP and UDP-Lite.
    fn ports(&self, transport: Transport, range: PortRange) -> Predicate {
        let whole = self.switches.full_range == FullRange::WholeProtocol && range.is_full();
        match (transport, self.switches.unsupported_ports) {
            _ if whole => Predicate::always(),
            (Transport::Dccp | Transport::UdpLite, UnsupportedPorts::WholeProtocol) => Predicate::always(),
            (Transport::Dccp | Transport::UdpLite, UnsupportedPorts::Exact) => Predicate::never(),
            (Transport::Tcp | Transport::Udp | Transport::Sctp, _) => between(range.min(), range.max()),
        }
    }

    fn peer(&self, port: &Port, rule: &Rule) -> Predicate {
        let address = peer_address(rule.direction, rule.ethertype);
        let of_family = |prefix: &IpNet| Ethertype::of_prefix(prefix) == rule.ethertype;
        match &rule.peer {
            RulePeer::Any => Predicate::always(),
            RulePeer::Prefix(prefix) if of_family(prefix) => inside(address, prefix),
            RulePeer::Prefix(_) => Predicate::never(),
            RulePeer::AddressGroup(id) => {
                let prefixes = self.policy.address_groups.get(id).into_iter().flat_map(|g| &g.addresses);
                Predicate::Any(prefixes.filter(|p| of_family(p)).map(|p| inside(address, p)).collect())
            }
            RulePeer::Group(id) => {
                let by_mac = self.any_address_mac(rule.direction);
                let pairs = self.policy.members_of(id).flat_map(|member| self.contributions(port, member));
                let pairs = pairs.filter(|pair| of_family(&pair.prefix));
                Predicate::Any(pairs.map(|pair| member(address, by_mac, &pair)).collect())
            }
        }
    }

    /// The addresses with which `member` stands in its groups, for a rule of `port`.
    fn contributions(&self, port: &Port, member: &Port) -> Vec<AddressPair> {
        let excluded = self.switches.own_addresses == OwnAddresses::Excluded && member.id == port.id;
        let fixed = member.fixed_ips.iter().filter(|_| !excluded);
        let own = fixed.map(|ip| AddressPair { mac: member.mac, prefix: IpNet::from(*ip) });
        own.chain(member.address_pairs.iter().copied()).collect()
    }

    /// Where the MAC stands that a member with every address is known by.
    const fn any_address_mac(&self, direction: Direction) -> Field {
        match (self.switches.any_address_members, direction) {
            (AnyAddressMembers::ByMember, Direction::Egress) => Field::DlDst,
            (AnyAddressMembers::BySender, Direction::Egress) | (_, Direction::Ingress) => Field::DlSrc,
        }
    }

    fn permitted(&self) -> Predicate {
        let options =
            self.policy.host.iter().flat_map(|host| host.options.permitted_ethertypes.iter().copied());
        Predicate::one_of(Field::DlType, options)
    }

    /// The MUST of egress.
    fn sent_without_rule(&self, port: &Port) -> Predicate {
        let pairs6 = || own_source(port, Ethertype::Ipv6);
        let arp =
            Predicate::All(vec![ethertype(ARP), announced(), paired(port, Ethertype::Ipv4, Field::ArpSpa)]);
        let unaddressed = own_mac(port).and(Predicate::is(Field::NwSrc, 0u8));
        let dhcp = udp(IPV4, 68, 67).and(own_source(port, Ethertype::Ipv4).or(unaddressed));
        Predicate::Any(vec![
            arp,
            dhcp,
            udp(IPV6, 546, 547).and(pairs6()),
            icmpv6(QUERIES).and(pairs6()),
            own_neighbour(port).and(pairs6()),
            self.permitted().and(one_of_its_macs(port, Field::DlSrc)),
        ])
    }

    /// What no rule can let it send. Frames that are not IP are no rule's business at all.
    fn never_sent(&self, port: &Port) -> Predicate {
        let discovery = icmpv6([SOLICITATION, ADVERTISEMENT]);
        let mut parts = vec![
            ip().negate(),
            icmpv6(ROUTERS),
            own_sources(port).negate(),
            discovery.and(own_neighbour(port).negate()),
        ];
        parts.extend(DHCP.map(|(family, server, client)| match self.switches.dhcp_server {
            DhcpServer::Exact => udp(family, server, client),
            DhcpServer::Strict => {
                let either = Predicate::is(Field::TcpSrc, server).or(Predicate::is(Field::TcpDst, client));
                Predicate::All(vec![ethertype(family), Predicate::is(Field::NwProto, UDP), either])
            }
        }));
        Predicate::Any(parts)
    }
}

/// The MAY of egress.
fn may_be_sent_without_rule(port: &Port) -> Predicate {
    let probe =
        Predicate::All(vec![ethertype(ARP), announced(), own_mac(port), Predicate::is(Field::ArpSpa, 0u8)]);
    let rarp = ethertype(RARP).and(one_of_its_macs(port, Field::DlSrc));
    let nobody_yet = own_mac(port).and(Predicate::is(Field::Ipv6Src, 0u8));
    let solicitation = own_neighbour(port).and(icmpv6([SOLICITATION]));
    Predicate::Any(vec![probe, rarp, nobody_yet.and(solicitation.or(icmpv6(REPORTS)))])
}

const fn family(ethertype: Ethertype) -> u16 {
    match ethertype {
        Ethertype::Ipv4 => IPV4,
        Ethertype::Ipv6 => IPV6,
    }
}

const fn peer_address(direction: Direction, ethertype: Ethertype) -> Field {
    match (direction, ethertype) {
        (Direction::Ingress, Ethertype::Ipv4) => Field::NwSrc,
        (Direction::Ingress, Ethertype::Ipv6) => Field::Ipv6Src,
        (Direction::Egress, Ethertype::Ipv4) => Field::NwDst,
        (Direction::Egress, Ethertype::Ipv6) => Field::Ipv6Dst,
    }
}

/// Broadcast and multicast frames: the lowest bit of the first byte (IEEE 802).
#[must_use]
pub fn group_addressed() -> Predicate {
    Predicate::Is(Field::DlDst, 1 << 40, 1 << 40)
}

/// IPv4 and IPv6.
#[must_use]
pub fn ip() -> Predicate {
    Predicate::one_of(Field::DlType, [IPV4, IPV6])
}

/// Neighbour solicitations and advertisements whose code is not 0: a switch does not read their fields.
#[must_use]
pub fn unread_discovery() -> Predicate {
    icmpv6([SOLICITATION, ADVERTISEMENT]).and(Predicate::is(Field::TcpDst, 0u8).negate())
}

/// What no well-formed datagram is: IPv6 with an extension header for its protocol.
#[must_use]
pub fn headless() -> Predicate {
    ethertype(IPV6).and(Predicate::one_of(Field::NwProto, EXTENSION_HEADERS))
}

fn ethertype(value: u16) -> Predicate {
    Predicate::is(Field::DlType, value)
}

fn udp(family: u16, source: u16, destination: u16) -> Predicate {
    Predicate::All(vec![
        ethertype(family),
        Predicate::is(Field::NwProto, UDP),
        Predicate::is(Field::TcpSrc, source),
        Predicate::is(Field::TcpDst, destination),
    ])
}

fn icmpv6(types: impl IntoIterator<Item = u8>) -> Predicate {
    Predicate::All(vec![
        ethertype(IPV6),
        Predicate::is(Field::NwProto, ICMPV6),
        Predicate::one_of(Field::TcpSrc, types),
    ])
}

fn announced() -> Predicate {
    Predicate::Same(Field::DlSrc, Field::ArpSha)
}

fn own_mac(port: &Port) -> Predicate {
    Predicate::is(Field::DlSrc, port.mac.to_bits())
}

fn one_of_its_macs(port: &Port, field: Field) -> Predicate {
    Predicate::one_of(field, port.macs().into_iter().map(MacAddr::to_bits))
}

/// An address of the port in `field`, under the MAC that goes with it.
fn paired(port: &Port, ethertype: Ethertype, field: Field) -> Predicate {
    let pair =
        |pair: AddressPair| Predicate::is(Field::DlSrc, pair.mac.to_bits()).and(inside(field, &pair.prefix));
    Predicate::Any(port.pairs(ethertype).map(pair).collect())
}

/// A datagram from an address of the port, whatever its family.
#[must_use]
pub fn own_sources(port: &Port) -> Predicate {
    own_source(port, Ethertype::Ipv4).or(own_source(port, Ethertype::Ipv6))
}

/// A datagram from an address of the port.
fn own_source(port: &Port, of: Ethertype) -> Predicate {
    let field = peer_address(Direction::Ingress, of);
    ethertype(family(of)).and(paired(port, of, field))
}

/// Neighbour discovery that names no MAC but the port's, and announces no address but the port's. With a code other than
/// 0 it is none (RFC 4861).
fn own_neighbour(port: &Port) -> Predicate {
    let link_layer = |field| one_of_its_macs(port, field).or(Predicate::is(field, 0u8));
    let targets = port.pairs(Ethertype::Ipv6).map(|pair| inside(Field::NdTarget, &pair.prefix)).collect();
    let solicitation = icmpv6([SOLICITATION]).and(link_layer(Field::NdSll));
    let advertisement =
        Predicate::All(vec![icmpv6([ADVERTISEMENT]), link_layer(Field::NdTll), Predicate::Any(targets)]);
    solicitation.or(advertisement).and(Predicate::is(Field::TcpDst, 0u8))
}

fn member(address: Field, by_mac: Field, pair: &AddressPair) -> Predicate {
    match pair.prefix.prefix_len() {
        0 => Predicate::is(by_mac, pair.mac.to_bits()),
        _ => inside(address, &pair.prefix),
    }
}

fn inside(field: Field, prefix: &IpNet) -> Predicate {
    let (address, mask) = match prefix {
        IpNet::V4(net) => (u128::from(net.network().to_bits()), u128::from(net.netmask().to_bits())),
        IpNet::V6(net) => (net.network().to_bits(), net.netmask().to_bits()),
    };
    Predicate::Is(field, address, mask)
}

/// Destination ports from `min` to `max`: the aligned blocks that make up the range.
fn between(min: u16, max: u16) -> Predicate {
    let (mut at, end) = (u32::from(min), u32::from(max) + 1);
    let mut blocks = Vec::new();
    while at < end {
        let aligned = if at == 0 { 1 << 16 } else { 1 << at.trailing_zeros() };
        let room = 1 << (end - at).ilog2();
        let size: u32 = if aligned < room { aligned } else { room };
        blocks.push(Predicate::Is(Field::TcpDst, at.into(), u128::from(0xffff & !(size - 1))));
        at += size;
    }
    Predicate::Any(blocks)
}
