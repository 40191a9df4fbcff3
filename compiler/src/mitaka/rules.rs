//! Rules as Neutron 8.1.0 understood them.

use super::tables;
use crate::host::Local;
use crate::masks::{PortBlock, PortMasks, exact, legacy};
use crate::template::{Bound, bits, destination, instantiate, ip, protocol, source};
use crate::{AnnotatedFlow, Consequence, Options, Unsupported};
use flowproof_model::policy::{
    Direction, Ethertype, GroupId, IcmpMatch, IpNet, Policy, Protocol, Rule, RulePeer, Statefulness,
};
use flowproof_packet::Field;
use flowproof_switch::flow::Match;
use std::collections::{BTreeSet, HashMap};

/// The rules of a policy, and what the release cannot express of them.
pub(super) struct Rules<'p, 'u> {
    policy: &'p Policy,
    legacy_masks: bool,
    members: HashMap<(&'p GroupId, Ethertype), Vec<IpNet>>,
    pub(super) unsupported: &'u mut BTreeSet<Unsupported>,
}

/// The protocol number the release matched, if it understood the name.
fn understood(rule: &Rule) -> Option<u8> {
    match (rule.protocol_spelling.as_deref()?, rule.ethertype) {
        ("tcp", _) => Some(protocol::TCP),
        ("udp", _) => Some(protocol::UDP),
        ("icmp", Ethertype::Ipv4) => Some(protocol::ICMP),
        ("icmp", Ethertype::Ipv6) => Some(protocol::ICMPV6),
        _ => None,
    }
}

impl<'p, 'u> Rules<'p, 'u> {
    pub(super) fn new(
        policy: &'p Policy,
        options: Options,
        unsupported: &'u mut BTreeSet<Unsupported>,
    ) -> Self {
        let legacy_masks = options.port_masks != PortMasks::Corrected;
        Self { policy, legacy_masks, members: HashMap::new(), unsupported }
    }

    /// The flows of all rules of a port.
    pub(super) fn flows(&mut self, flows: &mut Vec<AnnotatedFlow>, local: &Local<'p>) {
        for group in local.port.groups.iter().filter_map(|id| self.policy.groups.get(id)) {
            if group.statefulness == Statefulness::Stateless {
                self.unsupported.insert(Unsupported {
                    object: "security group",
                    id: group.id.to_string(),
                    consequence: Consequence::Widened,
                    reason: "it is stateless, and replies are admitted nevertheless".to_owned(),
                });
            }
            for rule in &group.rules {
                self.limits(rule);
                let why = format!("port `{}`: {} rule `{}`", local.port.id, rule.direction.name(), rule.id);
                for matching in self.matches(rule, local) {
                    for row in tables::ACCEPT.of(rule.direction) {
                        instantiate(flows, row, &local.subject, Bound::default(), &matching, &why);
                    }
                }
            }
        }
    }

    fn limits(&mut self, rule: &Rule) {
        let mut list = |consequence, reason: &str| {
            let (object, id, reason) = ("rule", rule.id.to_string(), reason.to_owned());
            self.unsupported.insert(Unsupported { object, id, consequence, reason });
        };
        if matches!(rule.peer, RulePeer::AddressGroup(_)) {
            list(Consequence::Narrowed, "address groups are unknown: it has no flows");
            return;
        }
        match (understood(rule), rule.protocol) {
            (_, Protocol::Any) => {}
            (None, _) => list(
                Consequence::Widened,
                "its protocol is not spelled `tcp`, `udp` or `icmp`: all protocols are admitted",
            ),
            (Some(_), Protocol::Icmp(IcmpMatch::Type(_) | IcmpMatch::TypeCode(..))) => {
                list(Consequence::Widened, "ICMP types and codes are overlooked");
            }
            (Some(_), Protocol::Transport(_, Some(range))) if self.legacy_masks => {
                let beyond = |block: &PortBlock| block.value | !block.mask > range.max();
                if legacy(range.min(), range.max()).iter().any(beyond) {
                    list(Consequence::Widened, "the port after its last one is admitted too");
                }
            }
            (Some(_), _) => {}
        }
    }

    /// The addresses at the other end; `None` is anybody.
    fn peers(&mut self, rule: &Rule, local: &Local<'p>) -> Option<Vec<IpNet>> {
        match &rule.peer {
            RulePeer::Any => None,
            RulePeer::Prefix(prefix) => Some(vec![*prefix]),
            RulePeer::AddressGroup(_) => Some(Vec::new()),
            RulePeer::Group(id) => {
                let own = |member: &IpNet| local.port.fixed_ips.iter().any(|ip| IpNet::from(*ip) == *member);
                let members = self.members(id, rule.ethertype);
                Some(members.iter().filter(|member| !own(member)).copied().collect())
            }
        }
    }

    fn members(&mut self, id: &GroupId, family: Ethertype) -> &[IpNet] {
        let policy = self.policy;
        let Some((id, _)) = policy.groups.get_key_value(id) else { return &[] };
        self.members.entry((id, family)).or_insert_with(|| {
            let mut seen = BTreeSet::new();
            let ports = policy.members_of(id);
            let fixed_and_pairs = ports.flat_map(|port| {
                let fixed = port.fixed_ips.iter().copied().map(IpNet::from);
                fixed.chain(port.address_pairs.iter().map(|pair| pair.prefix)).collect::<Vec<_>>()
            });
            let fitting = fixed_and_pairs.filter(|prefix| Ethertype::of_prefix(prefix) == family);
            fitting.filter(|prefix| seen.insert(*prefix)).collect()
        })
    }

    /// What a rule matches: one match for each address at the other end and each block of ports.
    fn matches(&mut self, rule: &Rule, local: &Local<'p>) -> Vec<Match> {
        let mut base = Match::default();
        base.set(Field::DlType, ip(rule.ethertype).into(), u128::MAX);
        if let Some(number) = understood(rule) {
            base.set(Field::NwProto, number.into(), u128::MAX);
        }
        let field = match rule.direction {
            Direction::Ingress => source(rule.ethertype),
            Direction::Egress => destination(rule.ethertype),
        };
        let from_peers = match self.peers(rule, local) {
            None => vec![base],
            Some(peers) => peers.iter().map(|peer| with_prefix(&base, field, peer)).collect(),
        };
        let blocks = match (understood(rule), rule.protocol) {
            (Some(_), Protocol::Transport(_, Some(range))) => {
                let blocks = if self.legacy_masks { legacy } else { exact };
                blocks(range.min(), range.max())
            }
            _ => return from_peers,
        };
        from_peers.iter().flat_map(|base| blocks.iter().map(|block| with_block(base, *block))).collect()
    }
}

fn with_prefix(base: &Match, field: Field, prefix: &IpNet) -> Match {
    let mut matching = base.clone();
    let (value, mask) = bits(prefix);
    matching.set(field, value, mask);
    matching
}

fn with_block(base: &Match, block: PortBlock) -> Match {
    let mut matching = base.clone();
    matching.set(Field::TcpDst, block.value.into(), block.mask.into());
    matching
}
