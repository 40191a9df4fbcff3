//! Where on a host which values stand: so that an exchange is held against those flows and ports alone that it changes.

use super::exchange::{Exchange, SORTS, Sort, is_orderly, sort};
use super::turns::{Order, turns};
use crate::{
    diagram::Host,
    intent::site::Site,
    ports::{Pair, Port},
    tables::clauses,
};
use flowproof_model::policy::{AddressPair, Ethertype, GroupId, IpNet, NetworkId, Port as Wanted, RulePeer};
use flowproof_packet::{MacAddr, PortNo, key::low_bits};
use flowproof_switch::{
    flow::{Action, Flow, Match},
    table::FlowId,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};

/// Values of a sort that agree in some of their bits.
type Prefix = (Sort, u128, u128);
/// What no two flows of a host share.
type Name<'a> = (u8, u16, &'a Match, &'a [String]);

/// A host, and an intent, by the values they mention.
pub(super) struct Census<'a> {
    host: &'a Host,
    site: Option<&'a Site>,
    flows: FxHashMap<Name<'a>, &'a Flow>,
    /// Those whose actions may change places.
    open: FxHashSet<Name<'a>>,
    /// The only flows that matter, if that is known.
    hit: Option<FxHashSet<FlowId>>,
    /// The flows that name a value.
    naming: FxHashMap<(Sort, u128), Vec<FlowId>>,
    /// How many ports have a value: of the host, and of the intent.
    owners: [FxHashMap<(Sort, u128), u32>; 2],
    /// What only part of a value is asked for, anywhere.
    prefixes: FxHashSet<Prefix>,
    /// The intent's port with this number.
    wanted: BTreeMap<PortNo, (&'a Wanted, u16)>,
}

/// What ports have in common that may be exchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind<'a> {
    network: Option<u16>,
    counts: [usize; 3],
    permitted: &'a BTreeSet<u16>,
    conflicts: &'a [String],
    tag: Option<Option<u16>>,
    wanted: Option<(&'a NetworkId, &'a [GroupId], u16)>,
}

impl<'a> Census<'a> {
    /// None if the tables read or write in parts what would have to be exchanged, or have two flows of one name.
    pub(super) fn new(host: &'a Host, site: Option<&'a Site>) -> Option<Self> {
        let all = host.tables.flows();
        if !all.iter().flat_map(|flow| &flow.actions).all(is_orderly) {
            return None;
        }
        let name = |flow: &'a Flow| (name(flow, &flow.matching), flow);
        let flows: FxHashMap<_, _> = all.iter().map(name).collect();
        if flows.len() != all.len() {
            return None;
        }
        let order = Order::new(all);
        let open = all.iter().filter(|flow| order.is_open(flow)).map(|flow| name(flow).0).collect();
        let bound = site.map(Site::local).unwrap_or_default();
        let wanted = bound.into_iter().map(|(port, at)| (at.ofport, (port, at.vlan))).collect();
        let (naming, owners, prefixes) = (FxHashMap::default(), Default::default(), FxHashSet::default());
        let mut census = Self { host, site, flows, open, hit: None, naming, owners, prefixes, wanted };
        all.iter().enumerate().for_each(|(at, flow)| census.flow(FlowId(at as u32), flow));
        host.ports.iter().for_each(|port| census.port(port));
        site.into_iter().for_each(|site| census.intent(site));
        Some(census)
    }

    /// From now on only these flows matter, and those that are never hit themselves.
    pub(super) fn look_at(&mut self, hit: FxHashSet<FlowId>) {
        self.hit = Some(hit);
    }

    fn matters(&self, id: FlowId, flow: &Flow) -> bool {
        self.hit.as_ref().is_none_or(|hit| hit.contains(&id)) || clauses(flow).next().is_some()
    }

    fn flow(&mut self, id: FlowId, flow: &Flow) {
        let mut named: Vec<(Sort, u128)> = Vec::new();
        for (field, sort) in SORTS.iter().filter(|(field, _)| flow.matching.looks_at(*field)) {
            match flow.matching.exact(*field) {
                Some(value) => named.push((*sort, value)),
                None => {
                    let (value, mask) = flow.matching.get(*field);
                    self.prefixes.insert((*sort, value, mask));
                }
            }
        }
        named.extend(flow.actions.iter().filter_map(|action| {
            if let Action::Output(port)
            | Action::Enqueue { port, .. }
            | Action::Resubmit { port: Some(port), .. } = action
            {
                Some((Sort::Port, u128::from(*port)))
            } else if let Action::Set { field, value, .. } = action {
                Some((sort(*field)?, *value))
            } else {
                None
            }
        }));
        named.sort_unstable();
        named.dedup();
        for value in named {
            self.naming.entry(value).or_default().push(id);
        }
    }

    fn port(&mut self, port: &Port) {
        let macs = port.macs.iter().map(|mac| (Sort::Mac, u128::from(mac.to_bits()), u128::MAX));
        let pairs = [(Sort::Ipv4, &port.pairs4), (Sort::Ipv6, &port.pairs6)].into_iter();
        let pairs =
            pairs.flat_map(|(sort, pairs)| pairs.iter().map(move |pair| (sort, pair.address, pair.mask)));
        self.owned(0, macs.chain(pairs).collect());
    }

    fn intent(&mut self, site: &Site) {
        let policy = &site.policy;
        for port in policy.ports.values() {
            let macs = port.macs().into_iter().map(|mac| (Sort::Mac, u128::from(mac.to_bits()), u128::MAX));
            let pairs = [Ethertype::Ipv4, Ethertype::Ipv6].into_iter().flat_map(|family| port.pairs(family));
            let pairs = pairs.map(|pair| prefix(&pair.prefix));
            self.owned(1, macs.chain(pairs).collect());
        }
        let rules = policy.groups.values().flat_map(|group| &group.rules);
        let of_rules = rules.filter_map(|rule| match &rule.peer {
            RulePeer::Prefix(net) => Some(net),
            RulePeer::Any | RulePeer::Group(_) | RulePeer::AddressGroup(_) => None,
        });
        let of_groups = policy.address_groups.values().flat_map(|group| &group.addresses);
        self.prefixes.extend(of_rules.chain(of_groups).map(prefix));
    }

    fn owned(&mut self, by: usize, values: BTreeSet<Prefix>) {
        for (sort, value, mask) in values {
            if is_full(sort, mask) {
                let owners = self.owners.get_mut(by).map(|owners| owners.entry((sort, value)).or_default());
                owners.into_iter().for_each(|count| *count += 1);
            } else {
                self.prefixes.insert((sort, value, mask));
            }
        }
    }

    /// What `port` has in common with those it may be exchanged with.
    pub(super) fn kind<'b>(&'b self, port: &'b Port) -> Kind<'b> {
        Kind {
            network: port.network,
            counts: [port.macs.len(), port.pairs4.len(), port.pairs6.len()],
            permitted: &port.permitted,
            conflicts: &port.conflicts,
            tag: self.host.tags.get(&port.ofport).copied(),
            wanted: self
                .wanted
                .get(&port.ofport)
                .map(|(port, vlan)| (&port.network, port.groups.as_slice(), *vlan)),
        }
    }

    /// Whether an exchange of two ports of one kind changes nothing.
    pub(super) fn allows(&self, of: &Exchange, a: &Port, b: &Port) -> bool {
        self.is_theirs(of)
            && self.prefixes.iter().all(|(sort, value, mask)| of.keeps(*sort, *value, *mask))
            && addresses(of, a) == (b.macs.clone(), b.pairs4.clone(), b.pairs6.clone())
            && self.is_wanted(of, a.ofport, b.ofport)
            && self.keeps_flows(of)
    }

    /// Whether nobody else has what is exchanged.
    fn is_theirs(&self, of: &Exchange) -> bool {
        let by = self.owners.iter().take(1 + usize::from(self.site.is_some()));
        let addresses = of.swaps().iter().filter(|(sort, ..)| *sort != Sort::Port);
        let values: Vec<_> = addresses.flat_map(|(sort, a, b)| [(*sort, *a), (*sort, *b)]).collect();
        by.into_iter().all(|owners| values.iter().all(|value| owners.get(value) == Some(&1)))
    }

    /// Whether the intent wants the same of both, and the addresses of one for those of the other.
    fn is_wanted(&self, of: &Exchange, a: PortNo, b: PortNo) -> bool {
        if self.site.is_none() {
            return true;
        }
        let (Some((a, _)), Some((b, _))) = (self.wanted.get(&a), self.wanted.get(&b)) else { return false };
        let mac = |mac: MacAddr| of.value(Sort::Mac, mac.to_bits().into());
        let pairs = |port: &Wanted, exchange: bool| -> BTreeSet<(u128, Prefix)> {
            let families = [Ethertype::Ipv4, Ethertype::Ipv6].into_iter();
            let pairs = families.flat_map(|family| port.pairs(family).collect::<Vec<_>>());
            let place = |mac, (sort, value, mask)| (mac, (sort, value, mask));
            let one = |pair: AddressPair| {
                let (sort, value, mask) = prefix(&pair.prefix);
                match exchange {
                    true if is_full(sort, mask) => place(mac(pair.mac), (sort, of.value(sort, value), mask)),
                    true => place(mac(pair.mac), (sort, value, mask)),
                    false => place(pair.mac.to_bits().into(), (sort, value, mask)),
                }
            };
            pairs.map(one).collect()
        };
        mac(a.mac) == u128::from(b.mac.to_bits())
            && a.filtering() == b.filtering()
            && a.fixed_ips.len() == b.fixed_ips.len()
            && pairs(a, true) == pairs(b, false)
    }

    /// Whether each flow that names what is exchanged has a counterpart that does the same.
    fn keeps_flows(&self, of: &Exchange) -> bool {
        let values = of.swaps().iter().flat_map(|(sort, a, b)| [(*sort, *a), (*sort, *b)]);
        let mut named = values.filter_map(|value| self.naming.get(&value)).flatten();
        named.all(|id| {
            let Some(flow) = self.host.tables.flow(*id) else { return false };
            if !self.matters(*id, flow) {
                return true;
            }
            let matching = of.matching(flow);
            let counterpart = self.flows.get(&name(flow, &matching));
            counterpart.is_some_and(|other| {
                let exchanged: Vec<Action> = flow.actions.iter().map(|action| of.action(action)).collect();
                let open = [flow, *other].iter().all(|flow| self.open.contains(&name(flow, &flow.matching)));
                exchanged == other.actions || open && turns(&exchanged) == turns(&other.actions)
            })
        })
    }
}

fn name<'a>(flow: &'a Flow, matching: &'a Match) -> Name<'a> {
    (flow.table, flow.priority, matching, &flow.opaque_match)
}

fn prefix(net: &IpNet) -> Prefix {
    match net {
        IpNet::V4(net) => (Sort::Ipv4, net.network().to_bits().into(), net.netmask().to_bits().into()),
        IpNet::V6(net) => (Sort::Ipv6, net.network().to_bits(), net.netmask().to_bits()),
    }
}

const fn width(sort: Sort) -> u16 {
    match sort {
        Sort::Port => 32,
        Sort::Mac => 48,
        Sort::Ipv4 => 32,
        Sort::Ipv6 => 128,
    }
}

fn is_full(sort: Sort, mask: u128) -> bool {
    mask & low_bits(width(sort)) == low_bits(width(sort))
}

/// The addresses of a port after an exchange.
fn addresses(of: &Exchange, port: &Port) -> (BTreeSet<MacAddr>, BTreeSet<Pair>, BTreeSet<Pair>) {
    let mac = |mac: &MacAddr| MacAddr::from_bits(of.value(Sort::Mac, mac.to_bits().into()) as u64);
    let pairs = |pairs: &BTreeSet<Pair>, sort| pairs.iter().map(|pair| of.pair(pair, sort)).collect();
    (port.macs.iter().map(mac).collect(), pairs(&port.pairs4, Sort::Ipv4), pairs(&port.pairs6, Sort::Ipv6))
}
