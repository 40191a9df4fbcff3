//! Our own layout: what the policy means and no more.
//!
//! Invariant: a port sends only what is its own: MAC, addresses, sender of ARP, source, target and link-layer option
//! of neighbour discovery, no VLAN tag; never router advertisements, redirects or what a DHCP server sends, in
//! fragments neither. Every packet of a connection, replies and errors too, is judged by a rule that admits the
//! connection's *original* direction now, so that a rule that goes takes its connections with it; nothing is marked.
//! Frames for groups are judged for each receiver. What is not known to belong to a network of the host is dropped.
//! Deliberately absent: distributed routers, which hand frames over with the provider's VLAN; logging.
//!
//! The tables keep the numbers that Neutron gave them (60, 71, 72, 73, 81, 82), so that what reads those reads these.
//! It wants Open vSwitch 2.8 or later over OpenFlow 1.3 or later: `ct_nw_src` and its kin.
//!
//! Source: ovs-fields(7), ovs-actions(7); RFC 826, 4861, 4862, 5227.

mod rules;
mod tables;

use crate::host::{Local, Subject, locals};
use crate::template::{Bound, Do, infrastructure, instantiate, set};
use crate::{AnnotatedFlow, Compiled, Consequence, Unsupported};
use flowproof_model::policy::{Host, Network, Policy, Segment, UplinkKind};
use flowproof_packet::{Field, PortNo, port};
use flowproof_switch::flow::{Action, Flow, Match};
use rules::Rules;
use std::collections::{BTreeMap, BTreeSet};

/// Receivers of a group-addressed frame that one translation reaches: three `resubmit`s each, of the 4096 that a
/// switch allows, some of which are spent before.
const MAX_RECEIVERS: usize = 1300;

/// A network that has ports on the host.
struct Here<'p> {
    vlan: u16,
    network: Option<&'p Network>,
    /// How it leaves the host.
    uplink: Option<PortNo>,
}

impl Here<'_> {
    /// Whether nobody said how its frames travel, so that any port may bring them.
    fn comes_from_anywhere(&self) -> bool {
        self.uplink.is_none() && !is_local(self)
    }

    /// Whether the intent does not tell what kind of network it is: any uplink may carry it.
    fn is_unspecified(&self) -> bool {
        self.network.is_none_or(|network| network.segment == Segment::Unspecified)
    }
}

/// The flows of the layout.
pub(crate) fn compile(policy: &Policy, host: &Host) -> Compiled {
    let locals = locals(policy, host);
    let networks = networks(policy, host, &locals);
    let mut unsupported = BTreeSet::new();
    let mut flows: Vec<AnnotatedFlow> = tables::DROPPING
        .iter()
        .map(|table| infrastructure(*table, 0, Match::default(), &[], "every packet: nothing else"))
        .collect();
    for row in tables::NEVER {
        instantiate(&mut flows, row, &Subject::default(), Bound::default(), &Match::default(), "every port");
    }
    for here in &networks {
        network_flows(&mut flows, here, &locals, &mut unsupported);
    }
    if networks.iter().any(Here::comes_from_anywhere) && !networks.iter().any(Here::is_unspecified) {
        flows.extend(host.uplinks.iter().map(|uplink| nothing_else(uplink.ofport)));
    }
    let mut rules = Rules::new(policy, &mut unsupported);
    for local in &locals {
        let why = format!("port `{}`", local.port.id);
        let rows = if local.is_filtered() { tables::FILTERED } else { tables::UNFILTERED };
        for row in tables::ANY.iter().chain(rows) {
            instantiate(&mut flows, row, &local.subject, Bound::default(), &Match::default(), &why);
        }
        if local.is_filtered() {
            rules.port(&mut flows, local);
        }
    }
    rules.members(&mut flows);
    let flows = share(flows);
    Compiled { flows, unsupported: unsupported.into_iter().collect() }
}

/// Ports that share a MAC, as those with a virtual router do, share what is for it: one flow for all of them.
fn share(flows: Vec<AnnotatedFlow>) -> Vec<AnnotatedFlow> {
    let mut places: BTreeMap<(u8, Match), usize> = BTreeMap::new();
    let mut shared: Vec<AnnotatedFlow> = Vec::with_capacity(flows.len());
    for new in flows {
        if !tables::BY_MAC.contains(&(new.flow.table, new.flow.priority)) {
            shared.push(new);
            continue;
        }
        let place = *places.entry((new.flow.table, new.flow.matching.clone())).or_insert(shared.len());
        match shared.get_mut(place) {
            Some(first) => {
                let again = new.flow.actions.into_iter().filter(|action| *action != Action::StripVlan);
                first.flow.actions.extend(again);
                first.why = format!("{}; {}", first.why, new.why);
            }
            None => shared.push(new),
        }
    }
    shared
}

/// How frames of a network leave the host.
fn uplink_of(host: &Host, network: &Network) -> Option<PortNo> {
    let behind = |named: &Option<String>, wanted: &Option<String>| match (named, wanted) {
        (Some(here), Some(there)) => here == there,
        (None, _) | (_, None) => true,
    };
    let fits = |kind: UplinkKind, named: &Option<String>| match &network.segment {
        Segment::Vlan { physical_network, .. } => {
            kind == UplinkKind::Provider && behind(named, physical_network)
        }
        Segment::Flat { physical_network } => kind != UplinkKind::Tunnel && behind(named, physical_network),
        Segment::Tunnel { .. } => kind == UplinkKind::Tunnel,
        Segment::Unspecified | Segment::Local => false,
    };
    host.uplinks.iter().find(|uplink| fits(uplink.kind, &uplink.physical_network)).map(|uplink| uplink.ofport)
}

/// The networks of the host's ports, by local VLAN.
fn networks<'p>(policy: &'p Policy, host: &Host, locals: &[Local<'p>]) -> Vec<Here<'p>> {
    let mut networks = BTreeMap::new();
    for local in locals {
        networks.entry(local.subject.vlan).or_insert_with(|| {
            let network = policy.networks.get(&local.port.network);
            let uplink = network.and_then(|network| uplink_of(host, network));
            Here { vlan: local.subject.vlan, network, uplink }
        });
    }
    networks.into_values().collect()
}

/// Whether a network is this host's own business, so that nothing of it leaves or comes in.
fn is_local(here: &Here<'_>) -> bool {
    here.network.is_some_and(|network| network.segment == Segment::Local)
}

fn network_flows(
    flows: &mut Vec<AnnotatedFlow>,
    here: &Here<'_>,
    locals: &[Local<'_>],
    unsupported: &mut BTreeSet<Unsupported>,
) {
    let id = here.network.map_or_else(|| format!("VLAN {}", here.vlan), |network| network.id.to_string());
    let why = format!("network `{id}`");
    let subject = Subject { vlan: here.vlan, ..Subject::default() };
    let bound = Bound { number: here.uplink.unwrap_or(port::NORMAL), ..Bound::default() };
    let leaving = match here.uplink {
        Some(uplink) => {
            flows.push(entering(here, uplink, &why));
            tables::UPLINK
        }
        None if is_local(here) => tables::LOCAL,
        None => {
            let mut matching = Match::default();
            matching.set(Field::VlanVidOxm, (0x1000 | here.vlan).into(), u128::MAX);
            let why = format!("{why}: from wherever");
            flows.push(infrastructure(0, 1, matching, &[Do::Goto(60)], &why));
            let reason = "no uplink of it is named: what is not for this host is flooded, and so are frames for \
                          groups, past the rules of their receivers";
            list(unsupported, &id, Consequence::Widened, reason);
            tables::NO_UPLINK
        }
    };
    for row in tables::NETWORK.iter().chain(leaving) {
        instantiate(flows, row, &subject, bound, &Match::default(), &why);
    }
    let receivers: Vec<_> = locals.iter().filter(|local| local.subject.vlan == here.vlan).collect();
    if receivers.len() > MAX_RECEIVERS {
        let reason = format!("it has {} ports here: frames for groups reach none of them", receivers.len());
        list(unsupported, &id, Consequence::Narrowed, &reason);
    } else {
        flows.push(everybody(here.vlan, &receivers, &why));
    }
}

fn list(unsupported: &mut BTreeSet<Unsupported>, id: &str, consequence: Consequence, reason: &str) {
    let (object, id, reason) = ("network", id.to_owned(), reason.to_owned());
    unsupported.insert(Unsupported { object, id, consequence, reason });
}

/// Frames of a network as they come in through its uplink, under the local VLAN from here on.
fn entering(here: &Here<'_>, uplink: PortNo, why: &str) -> AnnotatedFlow {
    let mut matching = Match::default();
    matching.set(Field::InPort, uplink.into(), u128::MAX);
    let outside = match here.network.map(|network| &network.segment) {
        Some(Segment::Vlan { vid, .. }) => 0x1000 | *vid,
        Some(Segment::Flat { .. }) => 0,
        _ => 0x1000 | here.vlan,
    };
    matching.set(Field::VlanVidOxm, outside.into(), u128::MAX);
    let mut flow = infrastructure(0, 3, matching, &[Do::Goto(60)], &format!("{why}: from other hosts"));
    let local = set(Field::VlanVidOxm, (0x1000 | here.vlan).into());
    if outside == 0 {
        flow.flow.actions.splice(0..0, [Action::PushVlan(0x8100), local]);
    } else if outside != 0x1000 | here.vlan {
        flow.flow.actions.insert(0, local);
    }
    flow
}

/// An uplink that is named brings the networks that it carries, not those that may come from anywhere.
fn nothing_else(uplink: PortNo) -> AnnotatedFlow {
    let mut matching = Match::default();
    matching.set(Field::InPort, uplink.into(), u128::MAX);
    infrastructure(0, 2, matching, &[], "an uplink: no other networks than its own")
}

/// Everybody of a network, one after the other: filtered ports judge for themselves. In which order makes no difference,
/// as none of what is called commits frames for groups.
fn everybody(vlan: u16, receivers: &[&Local<'_>], why: &str) -> AnnotatedFlow {
    let mut matching = Match::default();
    matching.set(Field::Reg6, vlan.into(), u128::MAX);
    matching.set(Field::DlDst, tables::GROUP_BIT, tables::GROUP_BIT);
    let mut actions = Vec::new();
    for receiver in receivers {
        let ofport = receiver.subject.ofport;
        if receiver.is_filtered() {
            actions.push(set(Field::Reg5, ofport.into()));
            actions.push(Action::Resubmit { port: None, table: Some(tables::RECEIVER), ct: false });
        } else {
            actions.push(Action::Output(ofport));
        }
    }
    let flow = Flow { table: tables::GROUP, priority: 100, matching, actions, ..Flow::default() };
    AnnotatedFlow { flow, why: format!("{why}: everybody of it here") }
}
