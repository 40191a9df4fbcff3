//! The services that hosts need before any rule can be about them: DHCP, neighbour discovery, multicast listeners.
//!
//! Source: RFC 2131 (ports 67, 68), RFC 8415 (546, 547), RFC 4861, RFC 2710, RFC 3810.

use crate::frame::{Datagram, Icmp, Upper};
use crate::policy::Ethertype;

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// DHCPv4, client to server.
    Dhcpv4Client,
    /// DHCPv4, server to client.
    Dhcpv4Server,
    /// DHCPv6, client to server.
    Dhcpv6Client,
    /// DHCPv6, server to client.
    Dhcpv6Server,
    /// ICMPv6 130.
    MldQuery,
    /// ICMPv6 131.
    MldReport,
    /// ICMPv6 132.
    MldDone,
    /// ICMPv6 133.
    RouterSolicitation,
    /// ICMPv6 134.
    RouterAdvertisement,
    /// ICMPv6 135.
    NeighbourSolicitation,
    /// ICMPv6 136.
    NeighbourAdvertisement,
    /// ICMPv6 137.
    Redirect,
    /// ICMPv6 143.
    Mldv2Report,
}

/// UDP port pairs, source first.
const PORTS: &[(Ethertype, u16, u16, Service)] = &[
    (Ethertype::Ipv4, 68, 67, Service::Dhcpv4Client),
    (Ethertype::Ipv4, 67, 68, Service::Dhcpv4Server),
    (Ethertype::Ipv6, 546, 547, Service::Dhcpv6Client),
    (Ethertype::Ipv6, 547, 546, Service::Dhcpv6Server),
];

/// ICMPv6 types, with any code.
const TYPES: &[(u8, Service)] = &[
    (130, Service::MldQuery),
    (131, Service::MldReport),
    (132, Service::MldDone),
    (133, Service::RouterSolicitation),
    (134, Service::RouterAdvertisement),
    (135, Service::NeighbourSolicitation),
    (136, Service::NeighbourAdvertisement),
    (137, Service::Redirect),
    (143, Service::Mldv2Report),
];

/// Ports that only a DHCP server sends from, and only a client listens on.
pub(crate) const SERVER_AND_CLIENT_PORT: [(Ethertype, u16, u16); 2] =
    [(Ethertype::Ipv4, 67, 68), (Ethertype::Ipv6, 547, 546)];

/// The service a datagram belongs to, if to any of these.
#[must_use]
pub fn service(datagram: &Datagram) -> Option<Service> {
    let family = Ethertype::of(&datagram.src);
    match &datagram.upper {
        Upper::Ports { src, dst } => PORTS
            .iter()
            .find(|(of, from, to, _)| (datagram.protocol, *of, from, to) == (17, family, src, dst))
            .map(|(.., service)| *service),
        Upper::Icmp(Icmp { kind, .. }) => match family {
            Ethertype::Ipv4 => None,
            Ethertype::Ipv6 => TYPES.iter().find(|(of, _)| of == kind).map(|(_, service)| *service),
        },
        Upper::Unseen => None,
    }
}
