//! Rules with a remote group or an address group, as conjunctions of two clauses: who (1/2) and what (2/2).
//!
//! Invariant: a conjunction's id belongs to one group, remote, direction, family and level of detail; the id after it
//! is its twin for new connections. Clause 1/2 is shared by all ports of a network.
//!
//! Source: ovs-actions(7), "conjunction"; Neutron 29.0.0.

use super::rules::{detail, peer_field, protocol_matches};
use super::{Masks, merge, tables};
use crate::AnnotatedFlow;
use crate::host::{Local, Subject};
use crate::template::{Bound, bits, instantiate, ip};
use flowproof_model::policy::{
    AddressGroupId, Direction, Ethertype, GroupId, IpNet, Policy, Protocol, RuleId, RulePeer,
};
use flowproof_packet::{Field, MacAddr};
use flowproof_switch::flow::Match;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Ids a remote takes: two for each of four levels of detail.
const IDS: u32 = 8;
/// The first ids an agent gives out on an empty bridge.
const FIRST_ID: u32 = 16;

/// Who may be at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Remote<'p> {
    Group(&'p GroupId),
    AddressGroup(&'p AddressGroupId),
}

/// What ids are given out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key<'p> {
    group: &'p GroupId,
    remote: Remote<'p>,
    direction: Direction,
    family: Ethertype,
}

/// A member of a remote: a prefix, with its MAC if the MAC has to be matched too.
type Member = (IpNet, Option<MacAddr>);

/// Ids by what they are for on one network.
type InUse<'p> = BTreeMap<(Direction, Ethertype), BTreeMap<Remote<'p>, BTreeSet<u32>>>;

/// The conjunctions of a host.
pub(super) struct Remotes<'p> {
    policy: &'p Policy,
    masks: Masks,
    ids: HashMap<Key<'p>, u32>,
    in_use: BTreeMap<u16, InUse<'p>>,
}

/// One rule of a port, in what distinguishes it from others of its direction, family and protocol.
struct Clause<'p> {
    protocol: Protocol,
    id: u32,
    rule: &'p RuleId,
}

/// What rules are merged by: direction, family, protocol number.
type Kind = (Direction, Ethertype, Option<u8>);

/// The level of detail that an id is for.
const fn offset(id: u32) -> u16 {
    (id % IDS / 2) as u16
}

impl<'p> Remotes<'p> {
    pub(super) fn new(policy: &'p Policy, masks: Masks) -> Self {
        Self { policy, masks, ids: HashMap::new(), in_use: BTreeMap::new() }
    }

    fn id(&mut self, key: Key<'p>, detail: u16, vlan: u16) -> u32 {
        let next = FIRST_ID + IDS * u32::try_from(self.ids.len()).unwrap_or(u32::MAX / IDS / 2);
        let id = *self.ids.entry(key).or_insert(next) + 2 * u32::from(detail);
        let network = self.in_use.entry(vlan).or_default();
        let remotes = network.entry((key.direction, key.family)).or_default();
        remotes.entry(key.remote).or_default().insert(id);
        id
    }

    /// A port's rules with a remote, by kind in the order in which kinds occur.
    fn clauses(&mut self, local: &Local<'p>) -> Vec<(Kind, Vec<Clause<'p>>)> {
        let mut kinds: Vec<(Kind, Vec<Clause<'p>>)> = Vec::new();
        for group in local.port.groups.iter().filter_map(|id| self.policy.groups.get(id)) {
            for rule in &group.rules {
                let remote = match &rule.peer {
                    RulePeer::Group(id) => Remote::Group(id),
                    RulePeer::AddressGroup(id) => Remote::AddressGroup(id),
                    RulePeer::Any | RulePeer::Prefix(_) => continue,
                };
                let key = Key { group: &group.id, remote, direction: rule.direction, family: rule.ethertype };
                let id = self.id(key, detail(rule), local.subject.vlan);
                let kind = (rule.direction, rule.ethertype, rule.protocol.number(rule.ethertype));
                let clause = Clause { protocol: rule.protocol, id, rule: &rule.id };
                match kinds.iter_mut().find(|(known, _)| *known == kind) {
                    Some((_, clauses)) => clauses.push(clause),
                    None => kinds.push((kind, vec![clause])),
                }
            }
        }
        kinds
    }

    /// The clauses 2/2 of a port, and the flows that its complete conjunctions lead to.
    pub(super) fn port(&mut self, flows: &mut Vec<AnnotatedFlow>, local: &Local<'p>) {
        let mut accepted = BTreeMap::new();
        for (kind, clauses) in self.clauses(local) {
            let (direction, family, _) = kind;
            let rules: Vec<_> = clauses.iter().map(|clause| (clause.protocol, clause.id)).collect();
            for (protocol, ids) in merge::merge(&rules) {
                let behind = clauses.iter().filter(|clause| ids.contains(&clause.id));
                let why = format!("port `{}`: {}", local.port.id, rule_names(direction, behind));
                self.what(flows, local, direction, family, protocol, &ids, &why);
            }
            for clause in &clauses {
                let rules: &mut Vec<_> = accepted.entry((direction, family, clause.id)).or_default();
                rules.push(clause.rule);
            }
        }
        for ((direction, family, id), rules) in accepted {
            let mut base = Match::default();
            base.set(Field::DlType, ip(family).into(), u128::MAX);
            let names = rules.iter().map(|rule| format!("`{rule}`")).collect::<Vec<_>>().join(", ");
            let why = format!("port `{}`: {} rules {names}, completed", local.port.id, direction.name());
            for (twin, row) in (0..).zip(tables::COMPLETE.of(direction)) {
                let bound = Bound { conj: id + twin, offset: offset(id), ..Bound::default() };
                instantiate(flows, row, &local.subject, bound, &base, &why);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one clause is what it takes")]
    fn what(
        &self,
        flows: &mut Vec<AnnotatedFlow>,
        local: &Local<'_>,
        direction: Direction,
        family: Ethertype,
        protocol: Protocol,
        ids: &BTreeSet<u32>,
        why: &str,
    ) {
        let Some(first) = ids.first() else { return };
        for matching in protocol_matches(family, protocol, self.masks) {
            for (twin, row) in (0..).zip(tables::WHAT.of(direction)) {
                let twins: Vec<u32> = ids.iter().map(|id| id + twin).collect();
                let bound = Bound { ids: &twins, offset: offset(*first), ..Bound::default() };
                instantiate(flows, row, &local.subject, bound, &matching, why);
            }
        }
    }

    /// The members of a remote in one family.
    fn members_of(&self, remote: Remote<'_>, family: Ethertype) -> Vec<Member> {
        let mut members = Vec::new();
        match remote {
            Remote::AddressGroup(id) => {
                let group = self.policy.address_groups.get(id);
                members.extend(group.iter().flat_map(|group| &group.addresses).map(|prefix| (*prefix, None)));
            }
            Remote::Group(id) => {
                for port in self.policy.members_of(id) {
                    members.extend(port.fixed_ips.iter().map(|ip| (IpNet::from(*ip), None)));
                    // A member that may use every address is told by its MAC.
                    let mac = |prefix: &IpNet, mac| (prefix.prefix_len() == 0).then_some(mac);
                    let pairs = port.address_pairs.iter();
                    members.extend(pairs.map(|pair| (pair.prefix, mac(&pair.prefix, pair.mac))));
                }
            }
        }
        members.retain(|(prefix, _)| Ethertype::of_prefix(prefix) == family);
        members
    }

    /// The clauses 1/2, one a network, member and level of detail.
    ///
    /// As in the driver a prefix counts for the remotes of every member that has it, so that members that may use
    /// every address count for each other's remotes.
    pub(super) fn members(&self, flows: &mut Vec<AnnotatedFlow>) {
        for (vlan, in_use) in &self.in_use {
            for ((direction, family), remotes) in in_use {
                let mut ids_of: BTreeMap<IpNet, BTreeSet<u32>> = BTreeMap::new();
                let mut all: BTreeSet<Member> = BTreeSet::new();
                for (remote, ids) in remotes {
                    for (prefix, mac) in self.members_of(*remote, *family) {
                        ids_of.entry(prefix).or_default().extend(ids);
                        all.insert((prefix, mac));
                    }
                }
                for (prefix, mac) in all {
                    let ids = ids_of.get(&prefix).into_iter().flatten().copied().collect::<Vec<_>>();
                    who(flows, *vlan, *direction, (prefix, mac), &ids);
                }
            }
        }
    }
}

/// The clauses 1/2 of one member.
fn who(flows: &mut Vec<AnnotatedFlow>, vlan: u16, direction: Direction, (prefix, mac): Member, ids: &[u32]) {
    let family = Ethertype::of_prefix(&prefix);
    let mut base = Match::default();
    base.set(Field::DlType, ip(family).into(), u128::MAX);
    let (value, mask) = bits(&prefix);
    base.set(peer_field(direction, family), value, mask);
    if let Some(mac) = mac {
        base.set(Field::DlSrc, mac.to_bits().into(), u128::MAX);
    }
    let subject = Subject { vlan, ..Subject::default() };
    let why = format!("network {vlan}: `{prefix}` as a member, {}", direction.name());
    for level in 0..4 {
        for (twin, row) in (0..).zip(tables::WHO.of(direction)) {
            let of_level = ids.iter().filter(|id| offset(**id) == level);
            let twins: Vec<u32> = of_level.map(|id| id + twin).collect();
            if !twins.is_empty() {
                let bound = Bound { ids: &twins, offset: level, ..Bound::default() };
                instantiate(flows, row, &subject, bound, &base, &why);
            }
        }
    }
}

fn rule_names<'c>(direction: Direction, clauses: impl Iterator<Item = &'c Clause<'c>>) -> String {
    let names: Vec<_> = clauses.map(|clause| format!("`{}`", clause.rule)).collect();
    format!("{} rules {}", direction.name(), names.join(", "))
}
