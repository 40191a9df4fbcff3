//! Networks, and where they and their ports are on this host.
//!
//! Source: Neutron API reference, "Networks", provider extended attributes; the `host` section is our own.

use super::{NetworkId, PortId};
use flowproof_packet::PortNo;
use indexmap::IndexMap;

/// How tunnelled networks are tunnelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelKind {
    /// RFC 7348.
    Vxlan,
    /// RFC 2784.
    Gre,
    /// RFC 8926.
    Geneve,
}

/// How a network is realised between hosts (`provider:network_type` and its companions).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Segment {
    /// The object does not say: the attributes are for administrators.
    #[default]
    Unspecified,
    /// On one host only.
    Local,
    /// Untagged on a physical network.
    Flat {
        /// The physical network.
        physical_network: Option<String>,
    },
    /// A VLAN of a physical network.
    Vlan {
        /// Its provider VLAN id, 1 to 4094.
        vid: u16,
        /// The physical network.
        physical_network: Option<String>,
    },
    /// A tunnel.
    Tunnel {
        /// Of which kind.
        kind: TunnelKind,
        /// Its key (VNI), if the object says.
        key: Option<u32>,
    },
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// How it leaves the host.
    pub segment: Segment,
}

/// Where a port is on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// Its OpenFlow port number on the integration bridge.
    pub ofport: PortNo,
    /// The local VLAN of its network, 1 to 4094.
    pub vlan: u16,
}

/// Where an uplink leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UplinkKind {
    /// To a bridge with provider VLANs.
    Provider,
    /// To the tunnel bridge.
    Tunnel,
    /// To a bridge with an untagged network.
    Flat,
}

impl UplinkKind {
    /// The word in the `host` section.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Tunnel => "tunnel",
            Self::Flat => "flat",
        }
    }
}

/// A port of the integration bridge that leads to other hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Uplink {
    /// Its OpenFlow port number.
    pub ofport: PortNo,
    /// Where it leads.
    pub kind: UplinkKind,
    /// The physical network behind it.
    pub physical_network: Option<String>,
}

/// Options of the agent that change what is allowed or how it is forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// Ethertypes besides IPv4, IPv6, ARP and RARP that pass without rules.
    pub permitted_ethertypes: Vec<u16>,
    /// Whether accepted egress is sent out directly instead of by MAC learning.
    pub explicitly_egress_direct: bool,
}

/// This host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The ports that are here; all other ports are on other hosts.
    pub bindings: IndexMap<PortId, Binding>,
    /// The ways out.
    pub uplinks: Vec<Uplink>,
    /// The agent's options.
    pub options: Options,
}
