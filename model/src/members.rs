//! Who is meant by a rule's peer: members of a security group, addresses of an address group.
//!
//! Invariant: membership is by address, across networks and hosts; a MAC matters only where a member may use every
//! address there is. Source: Neutron API reference, `remote_group_id`, `remote_address_group_id`.

use crate::frame::{Datagram, Frame};
use crate::policy::{Direction, GroupId, IpNet, Policy, Port};
use crate::switches::{AnyAddressMembers, OwnAddresses, Switches};
use flowproof_packet::MacAddr;
use std::net::IpAddr;

/// The other end of a frame, seen from the port that a rule protects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OtherEnd {
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Its MAC.
    pub(crate) mac: MacAddr,
}

impl OtherEnd {
    /// Ingress comes from it, egress goes to it.
    pub(crate) fn of(direction: Direction, frame: &Frame, datagram: &Datagram) -> Self {
        match direction {
            Direction::Ingress => Self { ip: datagram.src, mac: frame.src },
            Direction::Egress => Self { ip: datagram.dst, mac: frame.dst },
        }
    }
}

/// What a member contributes to its group: each fixed address with its MAC, and each allowed address pair. The
/// link-local address is not among them.
fn contributions(member: &Port) -> impl Iterator<Item = (MacAddr, IpNet)> {
    let fixed = member.fixed_ips.iter().map(|ip| (member.mac, IpNet::from(*ip)));
    fixed.chain(member.address_pairs.iter().map(|pair| (pair.mac, pair.prefix)))
}

/// Whether the other end of a frame is a member of `group`, for a rule of `port`.
pub(crate) fn is_member(
    (policy, switches): (&Policy, &Switches),
    (port, direction): (&Port, Direction),
    group: &GroupId,
    frame: &Frame,
    other: OtherEnd,
) -> bool {
    let any_address_mac = match (switches.any_address_members, direction) {
        (AnyAddressMembers::ByMember, Direction::Ingress | Direction::Egress)
        | (AnyAddressMembers::BySender, Direction::Ingress) => other.mac,
        (AnyAddressMembers::BySender, Direction::Egress) => frame.src,
    };
    let is_meant = |(mac, prefix): (MacAddr, IpNet)| {
        prefix.contains(&other.ip) && (prefix.prefix_len() > 0 || mac == any_address_mac)
    };
    policy.members_of(group).any(|member| match switches.own_addresses {
        OwnAddresses::Excluded if member.id == port.id => {
            member.address_pairs.iter().any(|pair| is_meant((pair.mac, pair.prefix)))
        }
        OwnAddresses::Included | OwnAddresses::Excluded => contributions(member).any(is_meant),
    })
}
