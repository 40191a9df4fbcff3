//! The reference semantics: what security groups mean for one frame between two ends.
//!
//! Read it top to bottom: isolation; what a port sends (what passes without a rule, what is somebody else's, then
//! rules and connections); what a port receives (the same, without anti-spoofing); connections.
//! Invariant: total functions of the policy, the switches, the frame and the history of its connection; no verdict
//! depends on the order of rules. Deliberately absent: flows, tables, connection tracking; who receives a frame and
//! how history is made (`world`, `history`).
//! Source: Neutron documentation, "Security groups", "Open vSwitch firewall driver"; RFC 826, 2131, 4861, 8415.

use crate::crossing::{Crossing, End, Law, Standing};
use crate::frame::{Arp, Datagram, Frame, Icmp, Neighbour, Payload, Upper};
use crate::history::{Connection, Place};
use crate::policy::{Direction, Ethertype, Filtering, Port, Statefulness};
use crate::rules::admitting_rule;
use crate::service::{SERVER_AND_CLIENT_PORT, Service, service};
use crate::switches::{DhcpServer, GroupAddressed, Readmission, Revocation, StatelessGroups, TaggedFrames};
use crate::verdict::{Infrastructure, Level, Outcome, Reason, Refusal, Verdict};
use std::net::IpAddr;

/// What becomes of a frame between two ends.
#[must_use]
pub fn judge(law: Law<'_>, crossing: &Crossing<'_>) -> Outcome {
    if let Some(refusal) = isolation(law, crossing) {
        return Outcome::refused(refusal);
    }
    Outcome { egress: egress(law, crossing), ingress: ingress(law, crossing) }
}

/// Networks are apart, nobody sends to himself, and a local port cannot choose its VLAN.
fn isolation(law: Law<'_>, crossing: &Crossing<'_>) -> Option<Refusal> {
    let apart = |end| matches!(end, End::Port(port) if Some(&port.network) != crossing.network);
    let tagged = crossing.frame.vlan.is_some() && crossing.sender != End::Elsewhere;
    let tagged_dropped = law.switches.tagged_frames == TaggedFrames::Dropped && tagged;
    first([
        (crossing.network.is_none(), Refusal::OtherNetwork),
        (apart(crossing.sender) || apart(crossing.receiver), Refusal::OtherNetwork),
        (crossing.sender == crossing.receiver, Refusal::Hairpin),
        (tagged_dropped, Refusal::Tagged),
    ])
}

/// The refusal of the first row that holds.
fn first<const N: usize>(rows: [(bool, Refusal); N]) -> Option<Refusal> {
    rows.into_iter().find(|(holds, _)| *holds).map(|(_, refusal)| refusal)
}

/// The sender's side: it is filtered if it is a port of this host with port security that is nobody's but a tenant's.
fn egress(law: Law<'_>, crossing: &Crossing<'_>) -> Verdict {
    match filtered(crossing.sender) {
        None => Verdict::Admit(Reason::Unfiltered),
        Some(port) => sends(law, port, crossing),
    }
}

/// The receiver's side.
fn ingress(law: Law<'_>, crossing: &Crossing<'_>) -> Verdict {
    match (filtered(crossing.receiver), law.switches.group_addressed) {
        (None, _) => Verdict::Admit(Reason::Unfiltered),
        (Some(_), GroupAddressed::Flooded) if crossing.frame.dst.is_group() => {
            Verdict::Admit(Reason::Flooded)
        }
        (Some(port), GroupAddressed::Filtered | GroupAddressed::Flooded) => receives(law, port, crossing),
    }
}

fn filtered(end: End<'_>) -> Option<&Port> {
    match end {
        End::Elsewhere => None,
        End::Port(port) => match port.filtering() {
            Filtering::Filtered => Some(port),
            Filtering::PortSecurityDisabled | Filtering::Trusted => None,
        },
    }
}

fn sends(law: Law<'_>, port: &Port, crossing: &Crossing<'_>) -> Verdict {
    if let Some(kind) = may_send_without_rule(law, port, crossing.frame) {
        return Verdict::Admit(Reason::Infrastructure(kind));
    }
    match (may_never_send(law, port, crossing.frame), crossing.frame.datagram()) {
        (Some(refusal), _) => Verdict::Drop(refusal),
        (None, None) => Verdict::Drop(Refusal::UnknownEthertype),
        (None, Some(datagram)) => by_rule_or_connection(law, (port, Direction::Egress), crossing, datagram),
    }
}

fn receives(law: Law<'_>, port: &Port, crossing: &Crossing<'_>) -> Verdict {
    let infrastructure = may_receive_without_rule(law, crossing.frame);
    let by_rule = match crossing.frame.datagram() {
        None => Verdict::Drop(Refusal::UnknownEthertype),
        Some(datagram) => by_rule_or_connection(law, (port, Direction::Ingress), crossing, datagram),
    };
    match (infrastructure, &by_rule) {
        (None, _) => by_rule,
        (Some(kind), Verdict::Admit(_)) if kind.level() == Level::May => by_rule,
        (Some(kind), Verdict::Admit(_) | Verdict::Drop(_)) => Verdict::Admit(Reason::Infrastructure(kind)),
    }
}

/// What a port may send whatever its rules say: the MUST and MAY of egress.
fn may_send_without_rule(law: Law<'_>, port: &Port, frame: &Frame) -> Option<Infrastructure> {
    let own_mac = frame.src == port.mac;
    match &frame.payload {
        Payload::Arp(Arp { sender_mac, .. }) if *sender_mac != frame.src => None,
        Payload::Arp(arp) if may_use(port, frame, arp.sender_ip.into()) => Some(Infrastructure::Arp),
        Payload::Arp(arp) => (own_mac && arp.sender_ip.is_unspecified()).then_some(Infrastructure::ArpProbe),
        Payload::Rarp => port.macs().contains(&frame.src).then_some(Infrastructure::Rarp),
        Payload::Other(ethertype) => (is_permitted(law, *ethertype) && port.macs().contains(&frame.src))
            .then_some(Infrastructure::PermittedEthertype),
        Payload::Ip(datagram) => {
            let paired = may_use(port, frame, datagram.src);
            let nobody_yet = own_mac && datagram.src.is_unspecified();
            let own_neighbour = announces_itself(port, datagram);
            match service(datagram)? {
                Service::Dhcpv4Client => (paired || nobody_yet).then_some(Infrastructure::DhcpClient),
                Service::Dhcpv6Client => paired.then_some(Infrastructure::DhcpClient),
                Service::MldQuery | Service::RouterSolicitation => {
                    paired.then_some(Infrastructure::NeighbourDiscovery)
                }
                Service::NeighbourSolicitation | Service::NeighbourAdvertisement if !own_neighbour => None,
                Service::NeighbourSolicitation | Service::NeighbourAdvertisement if paired => {
                    Some(Infrastructure::NeighbourDiscovery)
                }
                Service::NeighbourSolicitation => {
                    nobody_yet.then_some(Infrastructure::DuplicateAddressDetection)
                }
                Service::MldReport | Service::MldDone | Service::Mldv2Report => {
                    nobody_yet.then_some(Infrastructure::ListenerReport)
                }
                Service::NeighbourAdvertisement
                | Service::Dhcpv4Server
                | Service::Dhcpv6Server
                | Service::RouterAdvertisement
                | Service::Redirect => None,
            }
        }
    }
}

/// What a port may not send whatever its rules say.
fn may_never_send(law: Law<'_>, port: &Port, frame: &Frame) -> Option<Refusal> {
    let datagram = match &frame.payload {
        Payload::Other(ethertype) if !is_permitted(law, *ethertype) => {
            return Some(Refusal::UnknownEthertype);
        }
        Payload::Other(_) | Payload::Arp(_) | Payload::Rarp => return Some(Refusal::SpoofedSource),
        Payload::Ip(datagram) => datagram,
    };
    let is = |services: &[Service]| service(datagram).is_some_and(|service| services.contains(&service));
    let strictly = law.switches.dhcp_server == DhcpServer::Strict && is_from_server_or_to_client(datagram);
    let neighbour = is(&[Service::NeighbourSolicitation, Service::NeighbourAdvertisement]);
    first([
        (is(&[Service::Dhcpv4Server, Service::Dhcpv6Server]) || strictly, Refusal::DhcpServer),
        (is(&[Service::RouterAdvertisement, Service::Redirect]), Refusal::RouterAdvertisement),
        (!may_use(port, frame, datagram.src), Refusal::SpoofedSource),
        (neighbour && !announces_itself(port, datagram), Refusal::SpoofedNeighbour),
    ])
}

/// What a port receives whatever its rules say: the MUST and MAY of ingress.
fn may_receive_without_rule(law: Law<'_>, frame: &Frame) -> Option<Infrastructure> {
    match &frame.payload {
        Payload::Arp(_) => Some(Infrastructure::Arp),
        Payload::Rarp => None,
        Payload::Other(ethertype) => {
            is_permitted(law, *ethertype).then_some(Infrastructure::PermittedEthertype)
        }
        Payload::Ip(datagram) => match service(datagram)? {
            Service::Dhcpv4Server | Service::Dhcpv6Server => Some(Infrastructure::DhcpServer),
            Service::MldQuery
            | Service::RouterAdvertisement
            | Service::NeighbourSolicitation
            | Service::NeighbourAdvertisement => Some(Infrastructure::NeighbourDiscovery),
            Service::MldReport | Service::MldDone => Some(Infrastructure::ListenerReport),
            Service::Dhcpv4Client
            | Service::Dhcpv6Client
            | Service::RouterSolicitation
            | Service::Redirect
            | Service::Mldv2Report => None,
        },
    }
}

/// Whether the port may send from this address with the frame's source MAC: the anti-spoofing pairs.
fn may_use(port: &Port, frame: &Frame, ip: IpAddr) -> bool {
    port.pairs(Ethertype::of(&ip)).any(|pair| pair.mac == frame.src && pair.prefix.contains(&ip))
}

/// Neighbour discovery names only MACs of the port, and an advertisement only its addresses. With a code other than 0
/// it is none (RFC 4861, section 7.1), and nobody looks at what it names.
fn announces_itself(port: &Port, datagram: &Datagram) -> bool {
    let Upper::Icmp(Icmp { kind, code: 0, neighbour: Some(Neighbour { target, link_layer }), .. }) =
        &datagram.upper
    else {
        return false;
    };
    let own_target = || port.pairs(Ethertype::Ipv6).any(|pair| pair.prefix.contains(&IpAddr::V6(*target)));
    link_layer.is_none_or(|mac| port.macs().contains(&mac)) && (*kind != 136 || own_target())
}

fn is_permitted(law: Law<'_>, ethertype: u16) -> bool {
    law.policy.host.as_ref().is_some_and(|host| host.options.permitted_ethertypes.contains(&ethertype))
}

/// Whether it comes from a DHCP server's port or goes to a client's.
fn is_from_server_or_to_client(datagram: &Datagram) -> bool {
    let (17, Upper::Ports { src, dst }) = (datagram.protocol, &datagram.upper) else { return false };
    SERVER_AND_CLIENT_PORT.iter().any(|(family, server, client)| {
        *family == Ethertype::of(&datagram.src) && (src == server || dst == client)
    })
}

/// Rules decide about new connections and about the original direction of old ones, always by what they say now;
/// replies and errors follow their connection.
fn by_rule_or_connection(
    law: Law<'_>,
    (port, direction): (&Port, Direction),
    crossing: &Crossing<'_>,
    datagram: &Datagram,
) -> Verdict {
    let by_rule = |otherwise| {
        let rule = admitting_rule((law.policy, law.switches), (port, direction), crossing.frame, datagram);
        rule.map_or(Verdict::Drop(otherwise), |rule| Verdict::Admit(Reason::Rule(rule.id.clone())))
    };
    let follow = |connection, reason| {
        if is_live(law, connection) { Verdict::Admit(reason) } else { Verdict::Drop(Refusal::Revoked) }
    };
    match crossing.standing {
        Standing::Invalid => Verdict::Drop(Refusal::Invalid),
        Standing::New => by_rule(Refusal::NoRule),
        Standing::Original(_) => by_rule(Refusal::Revoked),
        Standing::Reply(_) | Standing::Related(_) if is_stateless(law, port) => by_rule(Refusal::NoRule),
        Standing::Reply(connection) => follow(connection, Reason::Reply),
        Standing::Related(connection) => follow(connection, Reason::Related),
    }
}

fn is_stateless(law: Law<'_>, port: &Port) -> bool {
    let stateless = |id| law.policy.groups.get(id).map(|g| g.statefulness) == Some(Statefulness::Stateless);
    match law.switches.stateless {
        StatelessGroups::TreatedAsStateful => false,
        StatelessGroups::Stateless => port.groups.iter().any(stateless),
    }
}

/// Whether replies of a connection still pass.
fn is_live(law: Law<'_>, connection: &Connection) -> bool {
    match (law.switches.revocation, law.switches.readmission) {
        (Revocation::Grace, Readmission::AfterExpiry) => !connection.revoked,
        (Revocation::Grace, Readmission::Immediate) => {
            !connection.revoked || is_admitted_now(law, connection)
        }
        (Revocation::AtOnce, Readmission::AfterExpiry) => {
            !connection.revoked && is_admitted_now(law, connection)
        }
        (Revocation::AtOnce, Readmission::Immediate) => is_admitted_now(law, connection),
    }
}

/// Whether the rules would admit the connection if it were opened now.
fn is_admitted_now(law: Law<'_>, connection: &Connection) -> bool {
    let end = |place: &Place| match place {
        Place::Elsewhere => Some(End::Elsewhere),
        Place::Port(id) => law.policy.ports.get(id).map(End::Port),
    };
    connection.receivers.iter().any(|receiver| {
        let (Some(sender), Some(receiver)) = (end(&connection.sender), end(receiver)) else { return false };
        let network = Some(&connection.network);
        let standing = Standing::New;
        let crossing = Crossing { frame: &connection.opening, network, sender, receiver, standing };
        judge(law, &crossing).is_delivered()
    })
}
