//! Where the ports of an intent are on this host: who enters where, who receives what.
//!
//! Receivers are decided by network and destination MAC, never by address: the port with that MAC, else the port
//! that may use it, else whoever is beyond the uplinks. Without a `host` section ports are found in the flows by
//! their MAC.

use crate::{
    arrival::Arrival,
    ports::{self, Pair},
    predicate::Predicate,
};
use flowproof_model::{
    policy::{Binding, Ethertype, Host, IpNet, NetworkId, Policy, Port, Segment, Uplink, UplinkKind},
    switches::Switches,
};
use flowproof_packet::{Field, MacAddr, PortNo};
use flowproof_switch::{
    flow::{Action, Flow},
    pipeline::RESERVED,
};
use std::collections::{BTreeMap, BTreeSet};

/// VLAN tag present, with its id.
const TAG: u128 = 0x1fff;
const PRESENT: u128 = 0x1000;

/// Where frames of other hosts come in if the intent names no uplink: a trunk that brings them under local VLANs.
pub const UPLINK: PortNo = 0xfefe;

/// A policy, bound to a host.
#[derive(Clone, Debug)]
pub struct Site {
    /// What was asked for; it has a `host`.
    pub policy: Policy,
    /// How its words are meant.
    pub switches: Switches,
}

/// A place where frames come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// Its OpenFlow port.
    pub ofport: PortNo,
    /// Its access VLAN; `None` for a trunk.
    pub access: Option<u16>,
    /// The frames meant: those of one network.
    pub frames: Predicate,
    /// The VLAN tag they carry, if any.
    pub tag: Option<u16>,
}

impl Entrance {
    /// What may come in beside the frame: a trunk may be a tunnel, or lead to a bridge that has tunnels.
    #[must_use]
    pub const fn arrival(&self) -> Arrival {
        if self.access.is_some() { Arrival::Ordinary } else { Arrival::Untracked }
    }
}

/// Where a frame is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// At a port of this host, on its access VLAN.
    Local(PortNo, u16),
    /// Beyond: at any port that is not bound here.
    Remote,
}

impl Site {
    /// Binds `policy` to the host it names, or else to the ports that `flows` speak of; the second value says what was
    /// inferred, in words.
    #[must_use]
    pub fn new(mut policy: Policy, switches: Switches, flows: &[Flow]) -> (Self, Vec<String>) {
        let mut inferred = Vec::new();
        if policy.host.is_none() {
            policy.host = Some(infer(&policy, flows, &mut inferred));
        }
        (Self { policy, switches }, inferred)
    }

    /// The ports bound here, in the order of their numbers.
    #[must_use]
    pub fn local(&self) -> Vec<(&Port, Binding)> {
        let mut all: Vec<_> = self.policy.local_ports().map(|(port, binding)| (port, *binding)).collect();
        all.sort_by_key(|(_, binding)| binding.ofport);
        all
    }

    /// The bound port with this number.
    #[must_use]
    pub fn at(&self, ofport: PortNo) -> Option<(&Port, Binding)> {
        let bindings = self.policy.host.iter().flat_map(|host| &host.bindings);
        let here = bindings.filter(|(_, binding)| binding.ofport == ofport);
        here.filter_map(|(id, binding)| Some((self.policy.ports.get(id)?, *binding))).next()
    }

    /// The other ports bound here in the network of `port`.
    #[must_use]
    pub fn neighbours(&self, port: &Port) -> Vec<(&Port, Binding)> {
        let beside = |(other, _): &(&Port, Binding)| other.network == port.network && other.id != port.id;
        self.local().into_iter().filter(beside).collect()
    }

    /// The uplinks of the host.
    #[must_use]
    pub fn uplinks(&self) -> &[Uplink] {
        self.policy.host.as_ref().map_or(&[], |host| &host.uplinks)
    }

    /// The MACs under which frames are for `port`: its own, and those it may use that no neighbour has for its own.
    /// `alone` leaves out those that a neighbour may use too.
    #[must_use]
    pub fn macs(&self, port: &Port, alone: bool) -> Vec<MacAddr> {
        let others = self.neighbours(port);
        let taken = |mac: &MacAddr| {
            others.iter().any(|(other, _)| other.mac == *mac || alone && other.macs().contains(mac))
        };
        port.macs().into_iter().filter(|mac| *mac == port.mac || !taken(mac)).collect()
    }

    /// Frames for `port`.
    #[must_use]
    pub fn addressed(&self, port: &Port, alone: bool) -> Predicate {
        Predicate::one_of(Field::DlDst, self.macs(port, alone).into_iter().map(MacAddr::to_bits))
    }

    /// Frames that `port` sends to somebody who is not here.
    #[must_use]
    pub fn addressed_beyond(&self, port: &Port) -> Predicate {
        let here = self.local().into_iter().filter(|(other, _)| other.network == port.network);
        let macs: BTreeSet<u64> = here.flat_map(|(p, _)| p.macs()).map(MacAddr::to_bits).collect();
        // No bridge forwards frames to what is reserved.
        let reserved = RESERVED
            .iter()
            .map(|(mac, mask)| Predicate::Is(Field::DlDst, u128::from(*mac), u128::from(*mask)));
        let here = Predicate::one_of(Field::DlDst, macs).or(Predicate::Any(reserved.collect()));
        super::encode::group_addressed().or(here).negate()
    }

    /// Where a bound port's frames come in.
    #[must_use]
    pub fn entrance(&self, binding: Binding) -> Entrance {
        let frames = Predicate::Is(Field::VlanTci, 0, 0x0fff);
        Entrance { ofport: binding.ofport, access: Some(binding.vlan), frames, tag: None }
    }

    /// Where frames of `network` come in from other hosts.
    #[must_use]
    pub fn arrivals(&self, network: &NetworkId, vlan: u16, flows: &[Flow]) -> Vec<Entrance> {
        if self.uplinks().is_empty() {
            return vec![trunk(UPLINK, Some(vlan))];
        }
        let segment = self.policy.networks.get(network).map(|network| &network.segment);
        let of = |uplink: &Uplink| {
            let tags = segment.map_or_else(Vec::new, |segment| tags(segment, uplink, vlan, flows));
            let ofport = uplink.ofport;
            tags.into_iter().map(move |tag| trunk(ofport, tag))
        };
        self.uplinks().iter().flat_map(of).collect()
    }

    /// What is known of the VLANs of ports that the flows need not name: unfiltered ones are access ports, uplinks trunks.
    #[must_use]
    pub fn tags(&self) -> BTreeMap<PortNo, Option<u16>> {
        let unfiltered = self.local().into_iter().filter(|(port, _)| !port.is_filtered());
        let mut tags: BTreeMap<PortNo, Option<u16>> =
            unfiltered.map(|(_, binding)| (binding.ofport, Some(binding.vlan))).collect();
        tags.extend(self.uplinks().iter().map(|uplink| (uplink.ofport, None)));
        if self.uplinks().is_empty() {
            tags.insert(UPLINK, None);
        }
        tags
    }

    /// The filtered ports, as the other properties know them. Where the flows put a port into another network than the
    /// intent, that is a conflict.
    #[must_use]
    pub fn ports(&self, flows: &[Flow]) -> Vec<ports::Port> {
        let derived = ports::derive(flows);
        let options = self.policy.host.as_ref().map(|host| &host.options);
        let permitted: BTreeSet<u16> =
            options.iter().flat_map(|options| options.permitted_ethertypes.iter().copied()).collect();
        let filtered = self.local().into_iter().filter(|(port, _)| port.is_filtered());
        filtered
            .map(|(port, binding)| {
                let known = derived.iter().find(|derived| derived.ofport == binding.ofport);
                let conflicts = conflicts(known, binding);
                ports::Port {
                    ofport: binding.ofport,
                    macs: port.macs().into_iter().collect(),
                    pairs4: pairs(port, Ethertype::Ipv4),
                    pairs6: pairs(port, Ethertype::Ipv6),
                    network: Some(binding.vlan),
                    permitted: permitted.clone(),
                    conflicts,
                }
            })
            .collect()
    }
}

/// What is wrong with what the flows say of a port that is bound and to be filtered here.
fn conflicts(known: Option<&ports::Port>, binding: Binding) -> Vec<String> {
    let unclassified = |known: &ports::Port| known.conflicts.iter().any(|text| text == ports::UNCLASSIFIED);
    match known {
        None => {
            vec![format!("no flow speaks of port {}, which is bound here and to be filtered", binding.ofport)]
        }
        Some(known) if unclassified(known) => vec![ports::UNCLASSIFIED.to_owned()],
        Some(known) if known.network.is_some_and(|vlan| vlan != binding.vlan) => {
            vec![format!("the flows put it into another network than {}", binding.vlan)]
        }
        Some(_) => Vec::new(),
    }
}

/// Frames that come in on a trunk under a tag, or without.
fn trunk(ofport: PortNo, tag: Option<u16>) -> Entrance {
    let frames = tag.map_or(Predicate::Is(Field::VlanTci, 0, 0x0fff), |vid| {
        Predicate::Is(Field::VlanTci, PRESENT | u128::from(vid), TAG)
    });
    Entrance { ofport, access: None, frames, tag }
}

fn pairs(port: &Port, ethertype: Ethertype) -> BTreeSet<Pair> {
    let bits = |prefix: &IpNet| match prefix {
        IpNet::V4(net) => (u128::from(net.network().to_bits()), u128::from(net.netmask().to_bits())),
        IpNet::V6(net) => (net.network().to_bits(), net.netmask().to_bits()),
    };
    let pair = |mac, (address, mask)| Pair { mac, address, mask };
    port.pairs(ethertype).map(|of| pair(of.mac, bits(&of.prefix))).collect()
}

/// The VLAN tags under which frames of a network arrive on an uplink; `None` stands for no tag.
fn tags(segment: &Segment, uplink: &Uplink, vlan: u16, flows: &[Flow]) -> Vec<Option<u16>> {
    let same = |network: &Option<String>| match (network, &uplink.physical_network) {
        (Some(network), Some(uplink)) => network == uplink,
        (None, _) | (_, None) => true,
    };
    match (segment, uplink.kind) {
        (Segment::Vlan { vid, physical_network }, UplinkKind::Provider) if same(physical_network) => {
            vec![Some(*vid)]
        }
        (Segment::Flat { physical_network }, UplinkKind::Flat | UplinkKind::Provider)
            if same(physical_network) =>
        {
            vec![None]
        }
        (Segment::Tunnel { .. } | Segment::Unspecified, UplinkKind::Tunnel) => vec![Some(vlan)],
        (Segment::Unspecified, UplinkKind::Flat) => vec![None],
        (Segment::Unspecified, UplinkKind::Provider) => {
            flows.iter().filter_map(|flow| translated(flow, uplink.ofport, vlan)).map(Some).collect()
        }
        (Segment::Local | Segment::Flat { .. } | Segment::Vlan { .. } | Segment::Tunnel { .. }, _) => {
            Vec::new()
        }
    }
}

/// The VLAN id that a flow for an uplink turns into `vlan`, if it does that.
fn translated(flow: &Flow, uplink: PortNo, vlan: u16) -> Option<u16> {
    if flow.matching.exact(Field::InPort) != Some(u128::from(uplink)) {
        return None;
    }
    let local = flow.actions.iter().any(|action| {
        let tags = [Field::VlanVid, Field::VlanVidOxm, Field::VlanTci];
        let set = matches!(action, Action::Set { field, value, .. }
            if tags.contains(field) && value & 0x0fff == u128::from(vlan));
        set || *action == Action::ModVlanVid(vlan)
            || *action == Action::RetagUnclear { bits: vlan, mask: 0x0fff }
    });
    provider_vlan(flow).filter(|_| local)
}

fn provider_vlan(flow: &Flow) -> Option<u16> {
    let vid = flow.matching.exact(Field::VlanVid)?;
    u16::try_from(vid & 0x0fff).ok().filter(|vid| *vid != 0)
}

/// The host that the flows speak of: ports by their MAC, uplinks by the VLANs they bring.
fn infer(policy: &Policy, flows: &[Flow], inferred: &mut Vec<String>) -> Host {
    let mut host = Host::default();
    let derived = ports::derive(flows);
    for port in policy.ports.values() {
        let known = derived.iter().find(|derived| derived.macs.contains(&port.mac));
        let Some((known, vlan)) = known.and_then(|known| Some((known, known.network?))) else { continue };
        if host.bindings.values().any(|binding| binding.ofport == known.ofport) {
            continue;
        }
        host.bindings.insert(port.id.clone(), Binding { ofport: known.ofport, vlan });
        inferred.push(format!("port `{}` is bound to ofport {} in VLAN {vlan}", port.id, known.ofport));
    }
    let brings = |flow: &&Flow| flow.table == 0 && provider_vlan(flow).is_some();
    let numbers: BTreeSet<PortNo> = flows
        .iter()
        .filter(brings)
        .filter_map(|flow| PortNo::try_from(flow.matching.exact(Field::InPort)?).ok())
        .filter(|number| !derived.iter().any(|port| port.ofport == *number))
        .collect();
    for ofport in numbers {
        host.uplinks.push(Uplink { ofport, kind: UplinkKind::Provider, physical_network: None });
        inferred.push(format!("port {ofport} is an uplink with provider VLANs"));
    }
    host
}
