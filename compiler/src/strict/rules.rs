//! Rules, each for the four kinds of packet of a connection that it admits.
//!
//! Invariant: a packet of the original direction is matched by its own header, a reply by its header turned round, an
//! error by the original tuple that connection tracking has of its connection (so is the ICMP type that a reply
//! answers). Open vSwitch 3.1's userspace shows that tuple on the first fragment only and without the ports of SCTP:
//! hence not for replies at large. Rules with a remote are conjunctions; an id belongs to one remote, direction and
//! family, and what completes it always does the same.

use super::tables::{DELIVER, EGRESS, FORWARD, INGRESS};
use crate::host::Local;
use crate::masks::exact;
use crate::template::{bits, ct_state, destination, ip, protocol, source};
use crate::{AnnotatedFlow, Consequence, Unsupported};
use flowproof_model::policy::{
    AddressGroupId, Direction, Ethertype, GroupId, IcmpMatch, IpNet, Policy, Protocol, Rule, RulePeer,
    Statefulness, Transport,
};
use flowproof_packet::{Field, MacAddr};
use flowproof_switch::flow::normalise::normalise;
use flowproof_switch::flow::{Action, Conjunction, Flow, Match};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Priority of rules without a remote.
const DIRECT: u16 = 80;
/// Priority of conjunctions.
const CONJUNCTIVE: u16 = 70;

/// Which packets of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// Those of the original direction, the first one included.
    Original,
    /// Errors about those that went back, which go in the original direction.
    Related,
    /// Those that go back.
    Reply,
    /// Errors about those of the original direction, which go back.
    RelatedBack,
}

const VIEWS: [View; 4] = [View::Original, View::Related, View::Reply, View::RelatedBack];

impl View {
    const fn states(self) -> ct_state::Bits {
        match self {
            Self::Original => ct_state::FORTH,
            Self::Related => ct_state::RELATED_FORTH,
            Self::Reply => ct_state::BACK,
            Self::RelatedBack => ct_state::RELATED_BACK,
        }
    }

    /// The table in which a rule of `direction` meets these packets.
    const fn table(self, direction: Direction) -> u8 {
        let goes_back = matches!(self, Self::Reply | Self::RelatedBack);
        match (goes_back, direction) {
            (false, Direction::Egress) | (true, Direction::Ingress) => EGRESS,
            (false, Direction::Ingress) | (true, Direction::Egress) => INGRESS,
        }
    }

    /// The field with the address of the other end of a rule.
    const fn peer(self, direction: Direction, family: Ethertype) -> Field {
        let is_source = match (self, direction) {
            (Self::Original | Self::Related | Self::RelatedBack, Direction::Ingress) => true,
            (Self::Reply, Direction::Egress) => true,
            (Self::Original | Self::Related | Self::RelatedBack, Direction::Egress) => false,
            (Self::Reply, Direction::Ingress) => false,
        };
        let has_header = matches!(self, Self::Original | Self::Reply);
        match (has_header, family, is_source) {
            (true, _, true) => source(family),
            (true, _, false) => destination(family),
            (false, Ethertype::Ipv4, true) => Field::CtNwSrc,
            (false, Ethertype::Ipv4, false) => Field::CtNwDst,
            (false, Ethertype::Ipv6, true) => Field::CtIpv6Src,
            (false, Ethertype::Ipv6, false) => Field::CtIpv6Dst,
        }
    }

    /// The fields with the protocol and the rule's destination port.
    const fn transport(self) -> [Field; 2] {
        match self {
            Self::Original => [Field::NwProto, Field::TcpDst],
            Self::Reply => [Field::NwProto, Field::TcpSrc],
            Self::Related | Self::RelatedBack => [Field::CtNwProto, Field::CtTpDst],
        }
    }

    /// The fields with protocol, type and code of the ICMP message of the original direction.
    const fn icmp(self) -> [Field; 3] {
        match self {
            Self::Original => [Field::NwProto, Field::Icmpv4Type, Field::Icmpv4Code],
            Self::Related | Self::Reply | Self::RelatedBack => {
                [Field::CtNwProto, Field::CtTpSrc, Field::CtTpDst]
            }
        }
    }
}

/// What accepted packets of a table do.
const fn accept(table: u8) -> Action {
    let to = if table == EGRESS { FORWARD } else { DELIVER };
    Action::Resubmit { port: None, table: Some(to), ct: false }
}

/// Who may be at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Remote<'p> {
    Group(&'p GroupId),
    AddressGroup(&'p AddressGroupId),
}

/// A member of a remote, with its MAC if that has to be matched too.
type Member = (IpNet, Option<MacAddr>);

type Key<'p> = (Remote<'p>, Direction, Ethertype);

/// The rules of a policy, and what cannot be expressed of them.
pub(super) struct Rules<'p, 'u> {
    policy: &'p Policy,
    ids: HashMap<Key<'p>, u32>,
    in_use: BTreeMap<u16, BTreeSet<Key<'p>>>,
    unsupported: &'u mut BTreeSet<Unsupported>,
}

/// IPv6 extension headers: the switch looks behind them, so that no packet has them as its protocol (ovs-fields(7)).
const EXTENSION_HEADERS: [u8; 5] = [0, 43, 44, 51, 60];

/// A protocol as today's API stores it: the range of all ports is none, so that port 0 is in it (LP 1848213).
const fn stored(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Transport(transport, Some(range)) if range.is_full() => {
            Protocol::Transport(transport, None)
        }
        other => other,
    }
}

/// What `protocol` matches of the packets of a view, ports as blocks; nothing if it cannot be expressed.
fn what(family: Ethertype, protocol: Protocol, view: View) -> Vec<Match> {
    let [number_field, port] = view.transport();
    let [_, kind_field, code_field] = view.icmp();
    let protocol = stored(protocol);
    let mut base = Match::default();
    base.set(Field::DlType, ip(family).into(), u128::MAX);
    let (value, mask) = view.states();
    base.set(Field::CtState, value, mask);
    if let Some(number) = protocol.number(family) {
        base.set(number_field, number.into(), u128::MAX);
    }
    match protocol {
        Protocol::Transport(transport, Some(range)) if has_ports(transport) => {
            let blocks = exact(range.min(), range.max()).into_iter();
            return blocks.map(|block| with(&base, port, block.value, block.mask)).collect();
        }
        Protocol::Transport(_, Some(_)) => return Vec::new(),
        Protocol::Other(number) if family == Ethertype::Ipv6 && EXTENSION_HEADERS.contains(&number) => {
            return Vec::new();
        }
        Protocol::Icmp(kind) => {
            let [number_field, ..] = view.icmp();
            let number = protocol.number(family).unwrap_or_default();
            if kind != IcmpMatch::Any {
                base.set(number_field, number.into(), u128::MAX);
            }
            if let IcmpMatch::Type(kind) | IcmpMatch::TypeCode(kind, _) = kind {
                base = with(&base, kind_field, kind.into(), u16::MAX);
            }
            if let IcmpMatch::TypeCode(_, code) = kind {
                base = with(&base, code_field, code.into(), u16::MAX);
            }
        }
        Protocol::Any | Protocol::Transport(_, None) | Protocol::Other(_) => {}
    }
    vec![base]
}

/// `base` with a port or ICMP type; in the packet's own header only of whole packets, since a fragment shows zeros
/// there.
fn with(base: &Match, field: Field, value: u16, mask: u16) -> Match {
    let mut matching = base.clone();
    matching.set(field, value.into(), mask.into());
    if !matches!(field, Field::CtTpSrc | Field::CtTpDst) {
        matching.set(Field::NwFrag, 0, u128::MAX);
    }
    matching
}

const fn has_ports(transport: Transport) -> bool {
    matches!(transport.number(), protocol::TCP | protocol::UDP | protocol::SCTP)
}

fn flow(table: u8, priority: u16, mut matching: Match, actions: Vec<Action>, why: &str) -> AnnotatedFlow {
    normalise(&mut matching);
    AnnotatedFlow {
        flow: Flow { table, priority, matching, actions, ..Flow::default() },
        why: why.to_owned(),
    }
}

/// One clause of a conjunction of two.
fn clause(id: u32, clause: u8) -> Action {
    Action::Conjunction(Conjunction { id, clause, clauses: 2 })
}

/// What a rule matches of a port's packets, with the tables in which it meets them.
fn of_port(local: &Local<'_>, rule: &Rule) -> Vec<(u8, Match)> {
    let mut all = Vec::new();
    for (view, mut matching) in matches(rule) {
        matching.set(Field::Reg5, local.subject.ofport.into(), u128::MAX);
        normalise(&mut matching);
        all.push((view.table(rule.direction), matching));
    }
    all
}

/// The flows of a rule without a remote.
fn direct(flows: &mut Vec<AnnotatedFlow>, local: &Local<'_>, rule: &Rule, name: &str) {
    let why = format!("port `{}`: {name}", local.port.id);
    for (table, matching) in of_port(local, rule) {
        flows.push(flow(table, DIRECT, matching, vec![accept(table)], &why));
    }
}

/// The rules with a remote of one port: what completes which conjunctions, so that one match is one flow.
#[derive(Default)]
struct Clauses {
    what: BTreeMap<(u8, Match), BTreeMap<u32, BTreeSet<String>>>,
    accepted: BTreeMap<(Ethertype, u32), BTreeSet<String>>,
}

impl Clauses {
    fn add(&mut self, local: &Local<'_>, rule: &Rule, id: u32, name: &str) {
        for place in of_port(local, rule) {
            self.what.entry(place).or_default().entry(id).or_default().insert(name.to_owned());
        }
        self.accepted.entry((rule.ethertype, id)).or_default().insert(name.to_owned());
    }

    fn flows(self, flows: &mut Vec<AnnotatedFlow>, local: &Local<'_>) {
        let port = &local.port.id;
        let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
        for ((table, matching), ids) in self.what {
            let actions = ids.keys().map(|id| clause(*id, 2)).collect();
            let why = format!("port `{port}`: {}", list(ids.into_values().flatten().collect()));
            flows.push(flow(table, CONJUNCTIVE, matching, actions, &why));
        }
        for ((family, id), names) in self.accepted {
            let why = format!("port `{port}`: {}, completed", list(names));
            for table in [EGRESS, INGRESS] {
                let mut matching = Match::default();
                matching.set(Field::DlType, ip(family).into(), u128::MAX);
                matching.set(Field::ConjId, id.into(), u128::MAX);
                matching.set(Field::Reg5, local.subject.ofport.into(), u128::MAX);
                flows.push(flow(table, CONJUNCTIVE, matching, vec![accept(table)], &why));
            }
        }
    }
}

impl<'p, 'u> Rules<'p, 'u> {
    pub(super) fn new(policy: &'p Policy, unsupported: &'u mut BTreeSet<Unsupported>) -> Self {
        Self { policy, ids: HashMap::new(), in_use: BTreeMap::new(), unsupported }
    }

    /// The flows of a port's rules.
    pub(super) fn port(&mut self, flows: &mut Vec<AnnotatedFlow>, local: &Local<'p>) {
        let mut clauses = Clauses::default();
        for group in local.port.groups.iter().filter_map(|id| self.policy.groups.get(id)) {
            if group.statefulness == Statefulness::Stateless {
                let reason = "it is stateless, and replies are admitted nevertheless";
                self.list("security group", group.id.as_str(), Consequence::Widened, reason.to_owned());
            }
            for rule in &group.rules {
                self.limits(rule);
                let name = format!("{} rule `{}`", rule.direction.name(), rule.id);
                match self.id(rule, local.subject.vlan) {
                    Some(id) => clauses.add(local, rule, id, &name),
                    None => direct(flows, local, rule, &name),
                }
            }
        }
        clauses.flows(flows, local);
    }

    /// The conjunction of a rule with a remote.
    fn id(&mut self, rule: &'p Rule, vlan: u16) -> Option<u32> {
        let remote = match &rule.peer {
            RulePeer::Group(id) => Remote::Group(id),
            RulePeer::AddressGroup(id) => Remote::AddressGroup(id),
            RulePeer::Any | RulePeer::Prefix(_) => return None,
        };
        let key = (remote, rule.direction, rule.ethertype);
        self.in_use.entry(vlan).or_default().insert(key);
        let next = u32::try_from(self.ids.len()).unwrap_or(u32::MAX - 1) + 1;
        Some(*self.ids.entry(key).or_insert(next))
    }

    fn members_of(&self, (remote, _, family): Key<'_>) -> BTreeSet<Member> {
        let mut members = BTreeSet::new();
        match remote {
            Remote::AddressGroup(id) => {
                let group = self.policy.address_groups.get(id);
                members.extend(group.iter().flat_map(|group| &group.addresses).map(|prefix| (*prefix, None)));
            }
            Remote::Group(id) => {
                for port in self.policy.members_of(id) {
                    members.extend(port.fixed_ips.iter().map(|ip| (IpNet::from(*ip), None)));
                    let mac = |prefix: &IpNet, mac| (prefix.prefix_len() == 0).then_some(mac);
                    members.extend(port.address_pairs.iter().map(|p| (p.prefix, mac(&p.prefix, p.mac))));
                }
            }
        }
        members.retain(|(prefix, _)| Ethertype::of_prefix(prefix) == family);
        members
    }

    /// Who may be at the other end, once a network.
    pub(super) fn members(&self, flows: &mut Vec<AnnotatedFlow>) {
        for (vlan, keys) in &self.in_use {
            let mut who: BTreeMap<(u8, Match), (BTreeSet<u32>, String)> = BTreeMap::new();
            for key in keys {
                let Some(id) = self.ids.get(key) else { continue };
                for member in self.members_of(*key) {
                    let why = format!("network {vlan}: `{}` as a member", member.0);
                    for view in VIEWS {
                        let place = as_peer(member, key.1, view, *vlan);
                        who.entry(place).or_insert_with(|| (BTreeSet::new(), why.clone())).0.insert(*id);
                    }
                }
            }
            for ((table, matching), (ids, why)) in who {
                let actions = ids.iter().map(|id| clause(*id, 1)).collect();
                flows.push(flow(table, CONJUNCTIVE, matching, actions, &why));
            }
        }
    }

    fn list(&mut self, object: &'static str, id: &str, consequence: Consequence, reason: String) {
        self.unsupported.insert(Unsupported { object, id: id.to_owned(), consequence, reason });
    }

    fn limits(&mut self, rule: &Rule) {
        let narrowed = match stored(rule.protocol) {
            Protocol::Transport(transport, Some(_)) if !has_ports(transport) => {
                format!("ports of protocol {} cannot be matched: it has no flows", transport.number())
            }
            Protocol::Other(number)
                if rule.ethertype == Ethertype::Ipv6 && EXTENSION_HEADERS.contains(&number) =>
            {
                format!(
                    "{number} is an extension header, which no packet has as its protocol: it has no flows"
                )
            }
            Protocol::Transport(Transport::Udp, Some(range)) if rule.direction == Direction::Egress => {
                let client = if rule.ethertype == Ethertype::Ipv4 { 68 } else { 546 };
                if !(range.min()..=range.max()).contains(&client) {
                    return;
                }
                format!("port {client} is a DHCP client's, to which no port may send")
            }
            _ => return,
        };
        self.list("rule", rule.id.as_str(), Consequence::Narrowed, narrowed);
    }
}

/// A member at the other end of rules of `direction`, as a view shows it.
fn as_peer((prefix, mac): Member, direction: Direction, view: View, vlan: u16) -> (u8, Match) {
    let family = Ethertype::of_prefix(&prefix);
    let table = view.table(direction);
    let mut matching = Match::default();
    matching.set(Field::DlType, ip(family).into(), u128::MAX);
    let (value, mask) = bits(&prefix);
    matching.set(view.peer(direction, family), value, mask);
    let (value, mask) = view.states();
    matching.set(Field::CtState, value, mask);
    matching.set(Field::Reg6, vlan.into(), u128::MAX);
    // A member that may use every address is told by its MAC.
    if let Some(mac) = mac {
        let field = if table == EGRESS { Field::DlDst } else { Field::DlSrc };
        matching.set(field, mac.to_bits().into(), u128::MAX);
    }
    normalise(&mut matching);
    (table, matching)
}

/// What a rule matches of each kind of packet, its prefix included.
fn matches(rule: &Rule) -> Vec<(View, Match)> {
    let mut all = Vec::new();
    for view in VIEWS {
        for mut matching in what(rule.ethertype, rule.protocol, view) {
            if let RulePeer::Prefix(prefix) = &rule.peer {
                let (value, mask) = bits(prefix);
                matching.set(view.peer(rule.direction, rule.ethertype), value, mask);
            }
            all.push((view, matching));
        }
    }
    all
}
