//! Policies: networks, ports, security groups and address groups, and where they are on this host.
//!
//! A [`Policy`] is what the Networking API returns, normalised as the API and its drivers do (protocol names become
//! numbers, prefixes lose their host bits, an address pair without a MAC gets the port's). Invariant: a policy that
//! was loaded is well-formed: every id it mentions exists, every range has its ends in order, no port, MAC or
//! OpenFlow port number is used twice where only one can be. Deliberately absent: what a policy means.
//!
//! Source: Neutron API reference, "Ports", "Security groups", "Security group rules", "Address groups".

mod change;
mod check;
mod error;
mod host;
mod ids;
mod load;
mod load_host;
mod load_rule;
mod object;
mod port;
mod rule;
mod write;

pub use change::Change;
pub use error::{Fault, LoadError, Problem};
pub use host::{Binding, Host, Network, Options, Segment, TunnelKind, Uplink, UplinkKind};
pub use ids::{AddressGroupId, GroupId, NetworkId, PortId, RuleId};
pub use indexmap::IndexMap;
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use port::{AddressPair, Filtering, Port};
pub use rule::{
    AddressGroup, Direction, Ethertype, IcmpMatch, PortRange, Protocol, Rule, RulePeer, SecurityGroup,
    Statefulness, Transport,
};

/// Everything that was asked for, in the order in which it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Networks by id.
    pub networks: IndexMap<NetworkId, Network>,
    /// Security groups by id, with their rules.
    pub groups: IndexMap<GroupId, SecurityGroup>,
    /// Address groups by id.
    pub address_groups: IndexMap<AddressGroupId, AddressGroup>,
    /// Ports by id: those of this host and, as members of groups, those of others.
    pub ports: IndexMap<PortId, Port>,
    /// Where ports are on this host; `None` if nobody said (bindings are then inferred from flows).
    pub host: Option<Host>,
}

impl Policy {
    /// What is wrong between the objects of a policy that was put together by hand; nothing if it is well-formed.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        check::check(self, &mut faults);
        faults
    }

    /// The rules of all groups of `port`, in the order of its groups. Ids of groups that do not exist have no rules.
    pub fn rules_of<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = &'a Rule> {
        port.groups.iter().filter_map(|id| self.groups.get(id)).flat_map(|group| &group.rules)
    }

    /// The ports, here or elsewhere, that are members of a group.
    pub fn members_of<'a>(&'a self, group: &'a GroupId) -> impl Iterator<Item = &'a Port> {
        self.ports.values().filter(move |port| port.groups.contains(group))
    }

    /// The ports bound on this host, each with its place.
    pub fn local_ports(&self) -> impl Iterator<Item = (&Port, &Binding)> {
        let bindings = self.host.iter().flat_map(|host| &host.bindings);
        bindings.filter_map(|(id, binding)| Some((self.ports.get(id)?, binding)))
    }

    /// The local VLAN of a network on this host, if a port of it is bound here.
    #[must_use]
    pub fn vlan_of(&self, network: &NetworkId) -> Option<u16> {
        self.local_ports().find(|(port, _)| port.network == *network).map(|(_, binding)| binding.vlan)
    }
}
