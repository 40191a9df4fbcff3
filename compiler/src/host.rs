//! A host's ports as the templates see them.
//!
//! Invariant: one [`Subject`] a port that is bound on the host, in the order of the bindings; what the layouts repeat
//! rows over is spelled out in it. Deliberately absent: rules.
//!
//! Source: Neutron API reference, "Ports"; the `host` section of an intent.

use flowproof_model::policy::{
    AddressPair, Ethertype, Filtering, Host, Network, Policy, Port, Segment, Uplink, UplinkKind,
};
use flowproof_packet::{MacAddr, PortNo};

/// A port of the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// Its OpenFlow port number.
    pub(crate) ofport: PortNo,
    /// The local VLAN of its network, which is also the network's number and its zone of connection tracking.
    pub(crate) vlan: u16,
    pub(crate) mac: MacAddr,
    /// All MACs it may use, its own first.
    pub(crate) macs: Vec<MacAddr>,
    /// What it may send from, both families, each once.
    pub(crate) pairs: Vec<AddressPair>,
    /// Ethertypes that pass without rules.
    pub(crate) ethertypes: Vec<u16>,
    /// The provider's VLAN id of its network.
    pub(crate) segment: Option<u16>,
    /// Whether its network is untagged outside.
    pub(crate) flat: bool,
    /// Whether accepted egress is sent out explicitly.
    pub(crate) direct: bool,
    /// Where explicit egress leaves the host.
    pub(crate) uplink: Option<PortNo>,
}

/// A subject with the port behind it.
pub(crate) struct Local<'p> {
    pub(crate) port: &'p Port,
    pub(crate) subject: Subject,
}

/// A VLAN or untagged network behind an uplink.
pub(crate) struct Provided {
    pub(crate) uplink: PortNo,
    /// The provider's VLAN id; `None` for untagged.
    pub(crate) segment: Option<u16>,
    /// The local VLAN.
    pub(crate) vlan: u16,
    /// The network's id.
    pub(crate) network: String,
}

impl Subject {
    /// The pairs of one family.
    pub(crate) fn pairs(&self, family: Ethertype) -> impl Iterator<Item = &AddressPair> {
        self.pairs.iter().filter(move |pair| Ethertype::of_prefix(&pair.prefix) == family)
    }

    fn new(policy: &Policy, host: &Host, port: &Port, ofport: PortNo, vlan: u16) -> Self {
        let mut pairs: Vec<AddressPair> = Vec::new();
        for pair in Ethertype::ALL.into_iter().flat_map(|family| port.pairs(family)) {
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        let network = policy.networks.get(&port.network);
        let direct = host.options.explicitly_egress_direct;
        Self {
            ofport,
            vlan,
            mac: port.mac,
            macs: port.macs(),
            pairs,
            ethertypes: host.options.permitted_ethertypes.clone(),
            segment: network.and_then(provider_vlan),
            flat: network.is_some_and(|network| matches!(network.segment, Segment::Flat { .. })),
            direct,
            uplink: network.filter(|_| direct).and_then(|network| explicit_uplink(host, network)),
        }
    }
}

impl Local<'_> {
    pub(crate) fn is_filtered(&self) -> bool {
        self.port.filtering() == Filtering::Filtered
    }

    pub(crate) fn is_trusted(&self) -> bool {
        self.port.filtering() == Filtering::Trusted
    }
}

const fn provider_vlan(network: &Network) -> Option<u16> {
    if let Segment::Vlan { vid, .. } = &network.segment { Some(*vid) } else { None }
}

/// Whether an uplink leads to the physical network; one that does not say leads to any.
fn leads_to(uplink: &Uplink, physical_network: Option<&String>) -> bool {
    match (&uplink.physical_network, physical_network) {
        (Some(here), Some(there)) => here == there,
        (None, _) | (_, None) => true,
    }
}

/// Where frames of a network leave the host when egress is explicit: not at all where they would be untagged.
fn explicit_uplink(host: &Host, network: &Network) -> Option<PortNo> {
    let fits = |uplink: &&Uplink| match &network.segment {
        Segment::Vlan { physical_network, .. } => {
            uplink.kind == UplinkKind::Provider && leads_to(uplink, physical_network.as_ref())
        }
        Segment::Tunnel { .. } => uplink.kind == UplinkKind::Tunnel,
        Segment::Unspecified | Segment::Local | Segment::Flat { .. } => false,
    };
    host.uplinks.iter().find(fits).map(|uplink| uplink.ofport)
}

/// The ports bound on the host.
pub(crate) fn locals<'p>(policy: &'p Policy, host: &Host) -> Vec<Local<'p>> {
    let bound = host.bindings.iter().filter_map(|(id, binding)| Some((policy.ports.get(id)?, binding)));
    bound
        .map(|(port, binding)| Local {
            port,
            subject: Subject::new(policy, host, port, binding.ofport, binding.vlan),
        })
        .collect()
}

/// What comes in through the uplinks, in the order of the uplinks and of the networks.
pub(crate) fn provided(policy: &Policy, host: &Host) -> Vec<Provided> {
    let mut all = Vec::new();
    for uplink in host.uplinks.iter().filter(|uplink| uplink.kind != UplinkKind::Tunnel) {
        for network in policy.networks.values() {
            let segment = match &network.segment {
                Segment::Vlan { vid, physical_network } if leads_to(uplink, physical_network.as_ref()) => {
                    Some(*vid)
                }
                Segment::Flat { physical_network } if leads_to(uplink, physical_network.as_ref()) => None,
                _ => continue,
            };
            let here =
                |(id, _): &(&_, &_)| policy.ports.get(*id).is_some_and(|port| port.network == network.id);
            let Some((_, binding)) = host.bindings.iter().find(here) else { continue };
            let (uplink, vlan) = (uplink.ofport, binding.vlan);
            all.push(Provided { uplink, segment, vlan, network: network.id.to_string() });
        }
    }
    all
}
