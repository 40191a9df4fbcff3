//! Who can send frames to this host's bridge, and to which network a frame belongs as it comes in.
//!
//! A filtered port's frames are of its network, and so are those of an unfiltered one. On a trunk the VLAN tag says:
//! where flows of table 0 translate tags for it (or the intent says which networks it carries), those and no others;
//! on any other trunk the VLANs of this host, and then what uplinks' tags stand for. A frame whose tag stands for
//! nothing belongs to no network.
//!
//! Invariant: all port numbers that neither flows nor what is known of the ports name are treated alike by the tables,
//! so one of them stands for all; where a flow takes the input port for a value they need not be, and each stands for
//! itself: the number is a variable then. `LOCAL` is a port like any other.

use super::{admit::ruled, scene::registers};
use crate::{
    arrival::Arrival, diagram::Host, intent::site::Site, ports::Port, predicate::Predicate, probe::probed,
    tables::Tables,
};
use flowproof_model::policy::{Direction, Segment};
use flowproof_packet::{Field, PortNo, port};
use flowproof_switch::flow::{Action, Flow};
use std::collections::{BTreeMap, BTreeSet};

/// Tables that classify what comes in.
const CLASSIFY: [u8; 2] = [0, 60];
const TAG: u128 = 0x1fff;
const PRESENT: u128 = 0x1000;
const VID: u128 = 0x0fff;

/// Which networks the frames of a sender belong to, by their tag (`None`: untagged, or VLAN 0).
type Tags = BTreeMap<Option<u16>, u16>;

/// What a sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A filtered port: its place among the host's ports.
    Filtered(usize),
    /// A known port that is not filtered: an uplink, or a port without security.
    Other,
    /// A port number that nothing names.
    Unknown,
}

/// A class of senders.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The port number; for unknown ports one that stands for all, or is the most familiar of them.
    pub ofport: PortNo,
    /// Which numbers it may have, if these are for a flow to tell apart.
    pub numbers: Option<Predicate>,
    /// What it is.
    pub kind: Kind,
    /// Whether `NORMAL` knows it as an access port, and of which VLAN.
    pub access: Option<u16>,
    /// Whether it is known for a port by which the host hands over nothing of its own: flows tell what comes in there by its tag,
    /// or an intent binds it or calls it an uplink.
    described: bool,
    /// All its frames are of this network, if it has one.
    one: Option<Option<u16>>,
    tags: Tags,
}

/// Everybody who can send, and the tables with probes.
#[derive(Debug)]
pub struct World {
    /// In the order in which they are asked: known ports, unknown ones, filtered ones.
    pub senders: Vec<Sender>,
    /// The tables of the host, with a probe before each `ct()` and each write into the registers of port and network.
    pub tables: Tables,
    /// Which ports have rules of which direction, by the tables.
    pub(super) ruled: BTreeSet<(PortNo, Direction)>,
}

impl Sender {
    /// The network a frame with these VLAN bits belongs to as it comes in.
    #[must_use]
    pub fn network(&self, tci: u128) -> Option<u16> {
        let vid = u16::try_from(tci & VID).ok().filter(|vid| *vid != 0);
        self.one.unwrap_or_else(|| self.tags.get(&vid).copied())
    }

    /// The frames that are of `network` as they come in.
    #[must_use]
    pub fn frames_of(&self, network: u16) -> Predicate {
        if let Some(one) = self.one {
            return if one == Some(network) { Predicate::always() } else { Predicate::never() };
        }
        let tags = self.tags.iter().filter(|(_, of)| **of == network);
        let frames = tags.map(|(tag, _)| match tag {
            Some(vid) => Predicate::Is(Field::VlanTci, PRESENT | u128::from(*vid), TAG),
            None => Predicate::Is(Field::VlanTci, 0, VID),
        });
        Predicate::Any(frames.collect())
    }

    /// What may come in with its frames.
    #[must_use]
    pub fn arrivals(&self, flows: &[Flow]) -> Vec<Arrival> {
        let told_apart = || Arrival::told_apart(flows).into_iter();
        match self.kind {
            Kind::Filtered(_) => vec![Arrival::Ordinary],
            Kind::Other if self.described => told_apart().filter(|one| *one != Arrival::Tracked).collect(),
            Kind::Other | Kind::Unknown => told_apart().collect(),
        }
    }

    /// What it is called in explanations.
    #[must_use]
    pub fn name(&self) -> String {
        match self.kind {
            Kind::Filtered(_) => format!("port {}", self.ofport),
            Kind::Other if self.one.is_some() => format!("port {}, which is not filtered,", self.ofport),
            Kind::Other if self.ofport == crate::intent::site::UPLINK => "an uplink".to_owned(),
            Kind::Other if self.ofport == port::LOCAL => "the bridge's own port, LOCAL,".to_owned(),
            Kind::Other => format!("port {}, a trunk,", self.ofport),
            Kind::Unknown => "a port that no flow names".to_owned(),
        }
    }
}

impl World {
    /// Who can send to `host`; with an intent, as that knows its unfiltered ports and uplinks.
    #[must_use]
    pub fn new(host: &Host, site: Option<&Site>) -> Self {
        let names = |action: &Action| matches!(action, Action::Ct(_)) || registers(host, action).is_some();
        let (tables, senders) = rayon::join(|| probed(&host.tables, names), || senders(host, site));
        Self { senders, tables, ruled: ruled(host.tables.flows()) }
    }
}

/// Who can send to `host`: known ports, unknown ones, filtered ones.
pub(super) fn senders(host: &Host, site: Option<&Site>) -> Vec<Sender> {
    let flows = host.tables.flows();
    let unfiltered = unfiltered(host, site);
    let networks: BTreeSet<u16> = host
        .ports
        .iter()
        .filter_map(|port| port.network)
        .chain(unfiltered.values().copied())
        .chain(host.tags.values().copied().flatten())
        .collect();
    let translated = translations(flows);
    let by_tag = by_tag(flows);
    let everywhere = everywhere(&networks, &translated, site);
    let named = host.tables.named_ports().iter().chain(host.tags.keys()).copied();
    let known: BTreeSet<PortNo> =
        named.chain(host.tables.names_local().then_some(port::LOCAL)).filter(|ofport| *ofport != 0).collect();
    let filtered = |ofport: &PortNo| host.ports.iter().any(|port| port.ofport == *ofport);
    let mut senders = Vec::new();
    for ofport in known.iter().copied().filter(|ofport| !filtered(ofport)) {
        let here = unfiltered.get(&ofport).copied();
        let access = host.tags.get(&ofport).copied().flatten();
        let carried = site.and_then(|site| carried(site, ofport, flows));
        let tags = carried.or_else(|| translated.get(&ofport).cloned());
        let bound = site.is_some_and(|site| site.local().iter().any(|(_, at)| at.ofport == ofport));
        let described = tags.is_some() || bound || by_tag.contains(&ofport);
        let tags = tags.unwrap_or_else(|| everywhere.clone());
        let (kind, numbers, one) = (Kind::Other, None, here.or(access).map(Some));
        senders.push(Sender { ofport, numbers, kind, access, described, one, tags });
    }
    let free = |ofport: &PortNo| !known.contains(ofport) && !filtered(ofport);
    if let Some(ofport) = (1..crate::intent::site::UPLINK).rev().find(free) {
        let numbers = host.tables.reads_in_port().then(|| nameless(&known, &host.ports));
        senders.push(Sender {
            ofport,
            numbers,
            kind: Kind::Unknown,
            access: None,
            described: false,
            one: None,
            tags: everywhere,
        });
    }
    for (place, port) in host.ports.iter().enumerate() {
        let (ofport, kind) = (port.ofport, Kind::Filtered(place));
        let access = host.tags.get(&ofport).map_or(port.network, |tag| *tag);
        let (numbers, one) = (None, Some(port.network));
        senders.push(Sender { ofport, numbers, kind, access, described: false, one, tags: Tags::new() });
    }
    senders
}

/// All numbers of ports but these.
fn nameless(known: &BTreeSet<PortNo>, ports: &[Port]) -> Predicate {
    let named = known.iter().copied().chain(ports.iter().map(|port| port.ofport));
    let reserved =
        Predicate::Is(Field::InPort, 0xff00, 0xff00).and(Predicate::is(Field::InPort, port::LOCAL).negate());
    Predicate::one_of(Field::InPort, named.chain([0])).or(reserved).negate()
}

fn in_port(flow: &Flow) -> Option<PortNo> {
    flow.matching.exact(Field::InPort).and_then(|port| PortNo::try_from(port).ok())
}

/// The unfiltered ports of this host, and their networks: by the intent, or by classification.
pub(crate) fn unfiltered(host: &Host, site: Option<&Site>) -> BTreeMap<PortNo, u16> {
    let mut all = BTreeMap::new();
    for flow in host.tables.flows().iter().filter(|flow| CLASSIFY.contains(&flow.table)) {
        let network = flow.actions.iter().rev().find_map(|action| {
            let Action::Set { field: Field::Reg6, value, .. } = action else { return None };
            u16::try_from(*value).ok()
        });
        all.extend(in_port(flow).zip(network));
    }
    if let Some(site) = site {
        all.extend(site.local().into_iter().map(|(_, binding)| (binding.ofport, binding.vlan)));
        all.retain(|ofport, _| site.uplinks().iter().all(|uplink| uplink.ofport != *ofport));
    }
    all.retain(|ofport, _| host.ports.iter().all(|port| port.ofport != *ofport));
    all
}

/// The ports of which classification tells by the tag what comes in.
fn by_tag(flows: &[Flow]) -> BTreeSet<PortNo> {
    let tagged =
        flows.iter().filter(|flow| CLASSIFY.contains(&flow.table) && matches!(tag(flow), Some(Some(_))));
    tagged.filter_map(in_port).collect()
}

/// What table 0 makes of the tags on each port that it translates for.
fn translations(flows: &[Flow]) -> BTreeMap<PortNo, Tags> {
    let mut all: BTreeMap<PortNo, Tags> = BTreeMap::new();
    for flow in flows.iter().filter(|flow| flow.table == 0) {
        if let (Some(port), Some(tag), Some(local)) = (in_port(flow), tag(flow), retagged(flow)) {
            all.entry(port).or_default().insert(tag, local);
        }
    }
    all
}

/// The VLAN tag a flow asks for; the inner `None` is for untagged frames.
fn tag(flow: &Flow) -> Option<Option<u16>> {
    let (value, mask) = flow.matching.get(Field::VlanTci);
    if mask & PRESENT == 0 {
        return None;
    }
    match (value & PRESENT != 0, mask & VID == VID) {
        (true, true) => u16::try_from(value & VID).ok().map(Some),
        (true, false) => None,
        (false, _) => Some(None),
    }
}

/// The VLAN that a flow puts frames into.
fn retagged(flow: &Flow) -> Option<u16> {
    let vid = flow.actions.iter().rev().find_map(|action| {
        if let Action::ModVlanVid(vid) | Action::RetagUnclear { bits: vid, mask: 0x0fff } = action {
            return Some(u128::from(*vid));
        }
        let Action::Set { field: Field::VlanVid | Field::VlanVidOxm | Field::VlanTci, value, .. } = action
        else {
            return None;
        };
        Some(value & VID)
    })?;
    u16::try_from(vid).ok()
}

/// What tags stand for on a trunk of which nothing is known.
fn everywhere(networks: &BTreeSet<u16>, translated: &BTreeMap<PortNo, Tags>, site: Option<&Site>) -> Tags {
    let mut tags: Tags = translated.values().flatten().map(|(tag, local)| (*tag, *local)).collect();
    for (port, binding) in site.map(Site::local).unwrap_or_default() {
        let segment = site.and_then(|site| site.policy.networks.get(&port.network)).map(|n| &n.segment);
        match segment {
            Some(Segment::Vlan { vid, .. }) => drop(tags.insert(Some(*vid), binding.vlan)),
            Some(Segment::Flat { .. }) => drop(tags.insert(None, binding.vlan)),
            Some(Segment::Unspecified | Segment::Local | Segment::Tunnel { .. }) | None => {}
        }
    }
    tags.extend(networks.iter().map(|vlan| (Some(*vlan), *vlan)));
    tags
}

/// The networks that an uplink of the intent carries, by tag; nothing if it is none, or if the intent does not say how its
/// networks travel.
fn carried(site: &Site, ofport: PortNo, flows: &[Flow]) -> Option<Tags> {
    site.uplinks().iter().find(|uplink| uplink.ofport == ofport)?;
    let local = site.local().into_iter().map(|(port, binding)| (&port.network, binding.vlan));
    let arrivals = local.flat_map(|(network, vlan)| {
        let here = site.arrivals(network, vlan, flows).into_iter();
        here.filter(|entrance| entrance.ofport == ofport).map(move |entrance| (entrance.tag, vlan))
    });
    let tags: Tags = arrivals.collect();
    let unspecified = site.policy.networks.values().any(|network| network.segment == Segment::Unspecified);
    (!tags.is_empty() || !unspecified).then_some(tags)
}
