//! `no-stale-flow`: flows that speak of what the intent does not have, or no longer has.
//!
//! What it means. Every flow of the tables that the layout writes is *justified*, or else stale:
//! * each **port** in it (`in_port`, the port register, an output) is bound here or is an uplink;
//! * each **MAC**, of a group too, but for broadcast, is one that a port of the intent has or may use;
//! * each **address** (with its mask) is of a bound port, or of somebody or something that a rule of a bound port names: a
//!   prefix, a member of a remote group, a prefix of an address group;
//! * each **zone** and network is the VLAN of a bound port, or a tag that its network travels under;
//! * the peers of each **conjunction** are members of one remote group or address group that a rule of its port and
//!   direction names (of several, of the one with most of them), but for `strict`, where they stand for prefixes, too;
//! * of what a **rule**'s flow, one of tables 72 and 82 for a bound port, admits of new connections, the intent lets pass
//!   something that is for it alone: by a rule, or without one.
//!
//! What the layout itself writes for the intent is justified. Invariant: a table compiled from the intent has no stale flow.
//! Deliberately absent: flows of tables that the layout does not write, which are other agents' business; and whether a
//! flow admits *too much*, which is section D's.

use super::{
    encode::{Standing, Words, group_addressed},
    layout::Recognised,
    site::Site,
};
use crate::{bdd::Bdds, set::PacketSets, symkey::SymKey, tables::clauses};
use flowproof_compiler::{Layout, Options, compile};
use flowproof_model::policy::{Direction, Ethertype, IpNet, Port, Rule, RulePeer, Segment};
use flowproof_packet::{Field, MacAddr, PortNo, key::low_bits, port};
use flowproof_switch::{
    conntrack::state,
    flow::{Action, Flow, Match, Zone},
};
use rustc_hash::FxHashSet;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

const NODE_LIMIT: usize = 4_000_000;
const RULES: [(u8, Direction); 2] = [(72, Direction::Egress), (82, Direction::Ingress)];
const MACS: [Field; 6] =
    [Field::DlSrc, Field::DlDst, Field::ArpSha, Field::ArpTha, Field::NdSll, Field::NdTll];
const IPV4: [Field; 4] = [Field::NwSrc, Field::NwDst, Field::ArpSpa, Field::ArpTpa];
const IPV6: [Field; 3] = [Field::Ipv6Src, Field::Ipv6Dst, Field::NdTarget];
const BROADCAST: u64 = 0xffff_ffff_ffff;

/// An address and the bits of it that count.
type Block = (u128, u128);

/// What makes a flow stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stale {
    /// A port that is neither bound here nor an uplink.
    Port(PortNo),
    /// A MAC that no port has or may use.
    Mac(MacAddr),
    /// An IPv4 address, and its mask, that nobody has and no rule names.
    Ipv4(u32, u32),
    /// The same for IPv6.
    Ipv6(u128, u128),
    /// A zone, network register or VLAN of no network here.
    Zone(u16),
    /// A conjunction whose peers are no group's of a rule of its port.
    Conjunction(u32),
    /// What it admits no rule of the port does.
    Rule(PortNo, Direction),
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = |address: String, mask: String, plain: bool| match plain {
            true => address,
            false => format!("{address}/{mask}"),
        };
        match self {
            Self::Port(number) => write!(f, "port {number} is neither bound on this host nor an uplink"),
            Self::Mac(mac) => write!(f, "no port has or may use {mac}"),
            Self::Ipv4(address, mask) => {
                let text = masked(
                    Ipv4Addr::from(*address).to_string(),
                    Ipv4Addr::from(*mask).to_string(),
                    *mask == u32::MAX,
                );
                write!(f, "no port here has {text}, and no rule of one names it")
            }
            Self::Ipv6(address, mask) => {
                let text = masked(
                    Ipv6Addr::from(*address).to_string(),
                    Ipv6Addr::from(*mask).to_string(),
                    *mask == u128::MAX,
                );
                write!(f, "no port here has {text}, and no rule of one names it")
            }
            Self::Zone(zone) => write!(f, "{zone} is the VLAN of no network on this host"),
            Self::Conjunction(id) => {
                write!(f, "no rule of its port names a group that the peers of conjunction {id} are of")
            }
            Self::Rule(number, direction) => {
                write!(f, "no {} rule of port {number} admits anything that it does", direction.name())
            }
        }
    }
}

/// The flows, by their places, that the intent does not justify, each with everything that it should not speak of.
#[must_use]
pub fn stale(site: &Site, recognised: &Recognised, flows: &[Flow]) -> Vec<(usize, Stale)> {
    let known = Known::new(site, recognised);
    let mut found: Vec<(usize, Stale)> = Vec::new();
    let of_layout = |flow: &Flow| known.tables.contains(&flow.table);
    for (place, flow) in flows.iter().enumerate().filter(|(_, flow)| of_layout(flow)) {
        let wrong = mentions(flow).into_iter().filter(|mention| !known.vocabulary.contains(mention));
        found.extend(wrong.map(|mention| (place, mention)));
    }
    // Those of `strict` stand for prefixes and for replies, too.
    if recognised.layout != Layout::Strict {
        found.extend(conjunctions(site, flows));
    }
    found.extend(rules(site, flows));
    let ours = |place: &usize| flows.get(*place).is_some_and(|flow| known.written.contains(&identity(flow)));
    found.retain(|(place, _)| !ours(place));
    found.sort_unstable();
    found.dedup();
    found
}

/// What may be spoken of, and where it matters.
struct Known {
    tables: BTreeSet<u8>,
    vocabulary: BTreeSet<Stale>,
    /// The flows that the layout writes for the intent.
    written: FxHashSet<Identity>,
}

type Identity = (u8, u16, Match, Vec<Action>);

fn identity(flow: &Flow) -> Identity {
    (flow.table, flow.priority, flow.matching.clone(), flow.actions.clone())
}

impl Known {
    fn new(site: &Site, recognised: &Recognised) -> Self {
        let empty = flowproof_model::policy::Host::default();
        let host = site.policy.host.as_ref().unwrap_or(&empty);
        let compiled = compile(&site.policy, host, recognised.layout, &Options::default());
        let ours = || compiled.flows.iter().map(|annotated| &annotated.flow);
        let mut vocabulary: BTreeSet<Stale> = ours().flat_map(mentions).collect();
        vocabulary.extend(site.uplinks().iter().map(|uplink| Stale::Port(uplink.ofport)));
        vocabulary.insert(Stale::Zone(0));
        for port in site.policy.ports.values() {
            vocabulary.extend(port.macs().into_iter().map(Stale::Mac));
        }
        for (port, binding) in site.local() {
            vocabulary.extend([Stale::Port(binding.ofport), Stale::Zone(binding.vlan)]);
            if let Some(Segment::Vlan { vid, .. }) =
                site.policy.networks.get(&port.network).map(|network| &network.segment)
            {
                vocabulary.insert(Stale::Zone(*vid));
            }
            for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
                vocabulary.extend(port.pairs(ethertype).map(|pair| address(&pair.prefix)));
            }
            vocabulary
                .extend(site.policy.rules_of(port).flat_map(|rule| peers(site, rule)).map(|p| address(&p)));
        }
        let written = ours().map(identity).collect();
        Self { tables: ours().map(|flow| flow.table).collect(), vocabulary, written }
    }
}

/// Everybody that a rule names.
fn peers(site: &Site, rule: &Rule) -> Vec<IpNet> {
    let of_family = |prefix: &IpNet| Ethertype::of_prefix(prefix) == rule.ethertype;
    let all: Vec<IpNet> = match &rule.peer {
        RulePeer::Any => Vec::new(),
        RulePeer::Prefix(prefix) => vec![*prefix],
        RulePeer::AddressGroup(id) => {
            let group = site.policy.address_groups.get(id);
            group.map_or_else(Vec::new, |group| group.addresses.clone())
        }
        RulePeer::Group(id) => {
            let addresses = |member: &Port| {
                let own: Vec<IpNet> = member.fixed_ips.iter().map(|ip| IpNet::from(*ip)).collect();
                own.into_iter().chain(member.address_pairs.iter().map(|pair| pair.prefix)).collect::<Vec<_>>()
            };
            site.policy.members_of(id).flat_map(addresses).collect()
        }
    };
    all.into_iter().filter(of_family).collect()
}

fn block(prefix: &IpNet) -> Block {
    match prefix {
        IpNet::V4(net) => (net.network().to_bits().into(), net.netmask().to_bits().into()),
        IpNet::V6(net) => (net.network().to_bits(), net.netmask().to_bits()),
    }
}

fn address(prefix: &IpNet) -> Stale {
    let (address, mask) = block(prefix);
    match prefix {
        IpNet::V4(_) => Stale::Ipv4(address as u32, mask as u32),
        IpNet::V6(_) => Stale::Ipv6(address, mask),
    }
}

/// What a flow speaks of, in its match and in its actions. Nothing in particular is spoken of by what any address fits.
fn mentions(flow: &Flow) -> Vec<Stale> {
    let matching = &flow.matching;
    let exact = |field: Field| matching.exact(field);
    let mut all: Vec<Stale> = MACS.into_iter().filter_map(exact).filter_map(mac).collect();
    all.extend([Field::InPort, Field::Reg5].into_iter().filter_map(exact).filter_map(number));
    all.extend([Field::Reg6, Field::VlanVid].into_iter().filter_map(exact).filter_map(zone));
    all.extend(addresses(flow));
    all.extend(flow.actions.iter().filter_map(named));
    all
}

fn named(action: &Action) -> Option<Stale> {
    if let Action::Output(port) = action {
        number(u128::from(*port))
    } else if let Action::ModVlanVid(vid) | Action::RetagUnclear { bits: vid, mask: 0x0fff } = action {
        zone(u128::from(*vid))
    } else if let Action::Ct(ct) = action {
        let Zone::Const(id) = ct.zone else { return None };
        zone(u128::from(id))
    } else if let Action::Set { field, value, .. } = action {
        written(*field, *value)
    } else {
        None
    }
}

fn written(field: Field, value: u128) -> Option<Stale> {
    if field == Field::Reg5 {
        number(value)
    } else if [Field::Reg6, Field::VlanVid, Field::VlanVidOxm].contains(&field) {
        zone(value)
    } else if MACS.contains(&field) {
        mac(value)
    } else {
        None
    }
}

fn addresses(flow: &Flow) -> impl Iterator<Item = Stale> {
    let looked_at = |field: &Field| flow.matching.get(*field).1 != 0;
    // One slot serves `nw_src` and `arp_spa`: the same mention twice, which does not matter.
    let four = IPV4.into_iter().filter(looked_at).map(|field| {
        let (value, mask) = flow.matching.get(field);
        Stale::Ipv4(value as u32, mask as u32)
    });
    let six = IPV6.into_iter().filter(looked_at).map(|field| {
        let (value, mask) = flow.matching.get(field);
        Stale::Ipv6(value, mask)
    });
    four.chain(six)
}

fn mac(bits: u128) -> Option<Stale> {
    let bits = u64::try_from(bits).ok().filter(|bits| *bits != 0 && *bits != BROADCAST)?;
    Some(Stale::Mac(MacAddr::from_bits(bits)))
}

fn number(value: u128) -> Option<Stale> {
    PortNo::try_from(value).ok().filter(|number| *number != 0 && *number < port::IN_PORT).map(Stale::Port)
}

fn zone(value: u128) -> Option<Stale> {
    u16::try_from(value & low_bits(12)).ok().map(Stale::Zone)
}

/// One conjunction: whose it is, and the peers in its clauses. The clause of the peers is shared by all ports of a group and
/// names none of them.
#[derive(Default)]
struct Conjunct {
    owners: BTreeSet<PortNo>,
    peers: BTreeSet<Stale>,
}

fn direction(flow: &Flow) -> Option<Direction> {
    RULES.iter().find(|(table, _)| *table == flow.table).map(|(_, direction)| *direction)
}

fn owner(flow: &Flow) -> Option<PortNo> {
    flow.matching.exact(Field::Reg5).and_then(|owner| PortNo::try_from(owner).ok())
}

/// The conjunctions that a flow is a clause of, or the end.
fn conjunctions_of(flow: &Flow) -> impl Iterator<Item = u32> {
    let end = flow.matching.exact(Field::ConjId).and_then(|id| u32::try_from(id).ok());
    clauses(flow).map(|clause| clause.id).chain(end)
}

/// Flows of conjunctions that no group of a rule accounts for: all of them where no rule names a group with any of the
/// peers, else those whose own peers are not of it.
fn conjunctions(site: &Site, flows: &[Flow]) -> Vec<(usize, Stale)> {
    let mut all: BTreeMap<(Direction, u32), Conjunct> = BTreeMap::new();
    let parts = || {
        let held = flows.iter().enumerate().filter_map(|(place, flow)| Some((place, flow, direction(flow)?)));
        held.flat_map(|(place, flow, of)| conjunctions_of(flow).map(move |id| (place, flow, (of, id))))
    };
    for (_, flow, at) in parts() {
        let conjunct = all.entry(at).or_default();
        conjunct.owners.extend(owner(flow));
        if clauses(flow).next().is_some() {
            conjunct.peers.extend(addresses(flow));
        }
    }
    let members: BTreeMap<(Direction, u32), Option<BTreeSet<Stale>>> =
        all.iter().map(|(at, conjunct)| (*at, conjunct.group(site, at.0))).collect();
    let stale = parts().filter(|(_, flow, at)| match members.get(at) {
        Some(Some(members)) => !addresses(flow).all(|peer| members.contains(&peer)),
        Some(None) | None => true,
    });
    stale.map(|(place, _, (_, id))| (place, Stale::Conjunction(id))).collect()
}

impl Conjunct {
    /// The members of the group that it stands for: of those that rules of its ports name, the one with most of its peers.
    fn group(&self, site: &Site, direction: Direction) -> Option<BTreeSet<Stale>> {
        let ports = self.owners.iter().filter_map(|owner| site.at(*owner));
        let rules = ports.flat_map(|(port, _)| site.policy.rules_of(port));
        let named = rules.filter(|rule| {
            rule.direction == direction && matches!(rule.peer, RulePeer::Group(_) | RulePeer::AddressGroup(_))
        });
        let groups = named.map(|rule| peers(site, rule).iter().map(address).collect::<BTreeSet<Stale>>());
        let common = |group: &BTreeSet<Stale>| group.intersection(&self.peers).count();
        groups.filter(|group| self.peers.is_empty() || common(group) > 0).max_by_key(common)
    }
}

/// Flows of rules that nothing in the intent admits anything of.
fn rules(site: &Site, flows: &[Flow]) -> Vec<(usize, Stale)> {
    let mut sets = Bdds::with_limit(NODE_LIMIT);
    let words = Words { policy: &site.policy, switches: &site.switches };
    let mut known = BTreeMap::new();
    let mut all = Vec::new();
    for (place, flow) in flows.iter().enumerate().filter(|(_, flow)| admits(flow)) {
        let Some((direction, owner)) = direction(flow).zip(owner(flow)) else { continue };
        let Some((port, _)) = site.at(owner) else { continue };
        let may = *known.entry((direction, owner)).or_insert_with(|| {
            let admission = match direction {
                Direction::Egress => words.sends(port, Standing::ByRule),
                Direction::Ingress => words.receives(port, Standing::ByRule),
            };
            // Frames for groups are flooded, whatever the rules say.
            admission.may.and(group_addressed().negate()).to_set(&mut sets)
        });
        let cube = sets.cube(&SymKey::as_sent(&flow.matching));
        let both = sets.and(cube, may);
        if sets.is_empty(both) && !sets.overflown() {
            all.push((place, Stale::Rule(owner, direction)));
        }
    }
    all
}

/// Whether a flow lets new connections of some IP version on, or is a clause of one that does.
fn admits(flow: &Flow) -> bool {
    let family = flow.matching.exact(Field::DlType);
    let is_ip = family.is_some_and(|family| matches!(family, 0x0800 | 0x86dd));
    let (value, mask) = flow.matching.get(Field::CtState);
    let follows = u128::from(state::RPL | state::REL | state::INV);
    let lets_on = flow.actions.iter().any(|action| {
        matches!(action, Action::Resubmit { table, .. } if *table != Some(DROPS))
            || matches!(action, Action::Output(_) | Action::Conjunction(_) | Action::GotoTable(_))
    });
    is_ip && value & mask & follows == 0 && lets_on
}

/// The table of the current driver that drops.
const DROPS: u8 = 93;
