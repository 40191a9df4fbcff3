//! Ports: which addresses they may use, which groups they are in.
//!
//! Source: Neutron API reference, "Ports"; "Allowed address pairs"; "Port security".

use super::{Ethertype, GroupId, NetworkId, PortId};
use flowproof_packet::MacAddr;
use ipnet::{IpNet, Ipv6Net};
use std::net::IpAddr;

/// A pair of MAC and addresses that a port may use besides its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressPair {
    /// The MAC; the port's own if the object named none.
    pub mac: MacAddr,
    /// The address or prefix, host bits cleared.
    pub prefix: IpNet,
}

/// Whether the firewall filters a port, and if not why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// Its groups apply.
    Filtered,
    /// Port security is switched off.
    PortSecurityDisabled,
    /// It belongs to the network itself: a router, a DHCP server (`device_owner` begins with `network:`).
    Trusted,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// Its network.
    pub network: NetworkId,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its addresses; empty for an unaddressed port.
    pub fixed_ips: Vec<IpAddr>,
    /// What else it may use.
    pub address_pairs: Vec<AddressPair>,
    /// Its security groups, in the order given.
    pub groups: Vec<GroupId>,
    /// Whether port security is on.
    pub port_security_enabled: bool,
    /// Whose port it is, such as `compute:nova` or `network:dhcp`; empty if nobody's.
    pub device_owner: String,
}

impl Port {
    /// Whether the firewall filters the port.
    #[must_use]
    pub fn filtering(&self) -> Filtering {
        if self.device_owner.starts_with("network:") {
            Filtering::Trusted
        } else if self.port_security_enabled {
            Filtering::Filtered
        } else {
            Filtering::PortSecurityDisabled
        }
    }

    /// Whether the firewall filters the port.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.filtering() == Filtering::Filtered
    }

    /// The pairs of MAC and addresses the port may send from: its own MAC with each fixed address and, over IPv6,
    /// with its link-local address (even of a port without IPv6); each allowed address pair. Duplicates are possible.
    pub fn pairs(&self, ethertype: Ethertype) -> impl Iterator<Item = AddressPair> {
        let link_local = IpNet::V6(Ipv6Net::from(self.mac.link_local()));
        let own = self.fixed_ips.iter().map(|ip| IpNet::from(*ip)).chain([link_local]);
        own.map(|prefix| AddressPair { mac: self.mac, prefix })
            .chain(self.address_pairs.iter().copied())
            .filter(move |pair| Ethertype::of_prefix(&pair.prefix) == ethertype)
    }

    /// The MACs the port may use, its own first, each once.
    #[must_use]
    pub fn macs(&self) -> Vec<MacAddr> {
        let mut macs = vec![self.mac];
        for pair in &self.address_pairs {
            if !macs.contains(&pair.mac) {
                macs.push(pair.mac);
            }
        }
        macs
    }
}
