//! Divergences that are known, by name: where a layout does otherwise than the model under its policy switches.
//!
//! Invariant: a row explains one defect of one layout and names what shows it: the packet, the kind of difference.
//! Deliberately absent: excuses for differences that nobody has understood.
//!
//! Source: the defects of Neutron's drivers by their numbers in Launchpad, and experiments.

use crate::allowed::target;
use crate::compare::{Class, Difference};
use crate::frames::way_in;
use crate::rules_alone::Answer;
use crate::run::Observation;
use crate::scenario::Target;
use flowproof_compiler::Layout;
use flowproof_model::frame::{Frame, Icmp, Payload, Upper};
use flowproof_model::history::Tracking;
use flowproof_model::policy::{
    Direction, Filtering, GroupId, IcmpMatch, IpNet, Policy, Port, PortRange, Protocol, Rule, RulePeer,
    Transport,
};
use flowproof_model::rules::admits;
use flowproof_model::service::{Service, service};
use flowproof_model::switches::Switches;
use flowproof_model::verdict::{Outcome, Reason, Refusal, Verdict};
use flowproof_model::world::{Origin, World};
use flowproof_switch::conntrack::state;
use flowproof_switch::pipeline::Effect;

/// A known divergence.
#[derive(Clone, Copy)]
pub struct Known {
    /// Its name, as scenarios write it down.
    pub name: &'static str,
    /// The layouts that show it.
    pub layouts: &'static [&'static str],
    /// Why it is there.
    pub why: &'static str,
    /// Whether it explains what is seen.
    explains: fn(&Case<'_>) -> bool,
}

const MITAKA: &[&str] = &["mitaka"];
const NEUTRON: &[&str] = &["neutron"];
const STRICT: &[&str] = &["strict"];
const DRIVERS: &[&str] = &["mitaka", "neutron"];
const TODAY: &[&str] = &["neutron", "strict"];
const ALL: &[&str] = &["mitaka", "neutron", "strict"];

const fn known(
    name: &'static str,
    layouts: &'static [&'static str],
    explains: fn(&Case<'_>) -> bool,
    why: &'static str,
) -> Known {
    Known { name, layouts, why, explains }
}

/// All of them.
pub const KNOWN: &[Known] = &[
    known(
        "tagged-frame",
        DRIVERS,
        |case| case.sender.is_some() && case.frame.vlan.is_some(),
        "nothing looks at the tag of what a VM sends (bugs F-14, C vlan-escape)",
    ),
    known(
        "pair-prefix-unfiltered",
        MITAKA,
        |case| case.involves(|port| port.address_pairs.iter().any(|pair| is_wide(&pair.prefix))),
        "the driver fails on a pair that is a network, and its port has no flows (LP 1652729)",
    ),
    known(
        "port-security-ignored",
        MITAKA,
        |case| case.involves(|port| port.filtering() == Filtering::PortSecurityDisabled),
        "a port without port security is taken for one without groups",
    ),
    known(
        "network-by-mac",
        MITAKA,
        |case| case.is_for_another_network(),
        "flows for receivers match `dl_dst` only (LP 1626010)",
    ),
    known(
        "pair-mac-unknown",
        MITAKA,
        |case| {
            let own = case.sender.is_some_and(|port| port.mac == case.frame.src);
            let foreign = |port: &Port| port.mac != case.frame.dst && port.macs().contains(&case.frame.dst);
            case.sender.is_some() && !own && case.blocked() || case.any_port(foreign)
        },
        "what has the MAC of an address pair is not classified, and meets no rule (LP 1697593)",
    ),
    known(
        "permitted-ethertype-unknown",
        MITAKA,
        |case| matches!(case.frame.payload, Payload::Other(_)) && case.blocked(),
        "the driver of 2016 has no such option",
    ),
    known(
        "rarp-blocked",
        MITAKA,
        |case| case.frame.payload == Payload::Rarp && case.blocked(),
        "no flow for RARP (LP 1831404)",
    ),
    known(
        "ethertype-mac-unchecked",
        NEUTRON,
        |case| matches!(case.frame.payload, Payload::Other(_)) && case.sends_as_another() && case.permitted(),
        "the flow for permitted ethertypes has no `dl_src`",
    ),
    known(
        "arp-sha-unchecked",
        DRIVERS,
        |case| {
            let Payload::Arp(arp) = case.frame.payload else { return false };
            arp.sender_mac != case.frame.src && case.sender.is_some() && case.permitted()
        },
        "`arp_sha` is matched by no flow",
    ),
    known(
        "nd-unchecked",
        MITAKA,
        |case| case.sends(NEIGHBOUR_SERVICES) && case.permitted(),
        "neighbour discovery passes before anything is looked at (CVE-2015-8914, CVE-2021-20267)",
    ),
    known(
        "nd-unchecked",
        NEUTRON,
        |case| {
            case.sends(&[Service::NeighbourSolicitation, Service::NeighbourAdvertisement]) && case.permitted()
        },
        "an advertisement is bound to its target only, link-layer options to nothing",
    ),
    known(
        "dhcp-request-spoofed",
        MITAKA,
        |case| case.sends(&[Service::Dhcpv4Client, Service::Dhcpv6Client]) && case.permitted(),
        "requests pass before the source is looked at (CVE-2016-5362, LP 1902917)",
    ),
    known(
        "router-solicitation-blocked",
        MITAKA,
        |case| case.sends(&[Service::RouterSolicitation]) && case.blocked(),
        "133 is not among the types that pass",
    ),
    known(
        "router-advertisement-blocked",
        MITAKA,
        |case| case.service == Some(Service::RouterAdvertisement) && case.sender_is_open() && case.blocked(),
        "134 is not among the types that pass (bugs B15)",
    ),
    known(
        "committed-to-itself",
        DRIVERS,
        |case| {
            let committed =
                |one: &Difference| matches!(one, Difference::Committed { .. } | Difference::Mark { .. });
            case.sender.is_some_and(|port| port.macs().contains(&case.frame.dst))
                && case.seen.differences.iter().all(committed)
        },
        "a connection of a port with itself is tracked or marked, although the output to its own port is suppressed",
    ),
    known(
        "router-advertisement-by-rule",
        MITAKA,
        |case| case.sends(&[Service::RouterAdvertisement]) && case.permitted() && case.has_state(state::NEW),
        "nothing stops it before connection tracking, which called it new in kernels before 4.12 (LP 1685237)",
    ),
    known(
        "local-vlan-from-outside",
        DRIVERS,
        |case| case.seen.arrival.origin == Origin::Unprovisioned && case.permitted() && case.has_local_vlan(),
        "a frame from outside that carries a local VLAN is in its network, whichever bridge it comes from",
    ),
    known(
        "receiver-skipped",
        DRIVERS,
        |case| {
            let permitted = |one: &Difference| matches!(one, Difference::OverPermitted { .. });
            let untracked = case.seen.answers.is_empty() && case.sender.is_some();
            untracked && case.seen.differences.iter().all(permitted) && case.egress_without_rule()
        },
        "what passes the sender without a rule goes where its MAC says, and no receiver on this host is asked",
    ),
    known(
        "dhcp-fragments",
        DRIVERS,
        |case| case.in_fragments() && case.refused(Refusal::DhcpServer) && case.permitted(),
        "fragments show no ports where DHCP answers are dropped (bugs F-3)",
    ),
    known(
        "router-advertisement-in-fragments",
        NEUTRON,
        |case| {
            let by_rule = case.in_fragments() && case.has_state(state::NEW);
            case.sends(&[Service::RouterAdvertisement]) && by_rule && case.permitted()
        },
        "fragments show no type where router advertisements are dropped, and kernels before 4.12 called them new",
    ),
    known(
        "port-zero-merged",
        NEUTRON,
        |case| case.is_lost_by_merging(),
        "a rule for all ports loses port 0 when it is merged with another one of its protocol",
    ),
    known(
        "address-groups-unknown",
        MITAKA,
        |case| case.rule_involved(|rule| matches!(rule.peer, RulePeer::AddressGroup(_))) && case.blocked(),
        "there were none in 2016, and such a rule has no flows",
    ),
    known(
        "rule-misread",
        MITAKA,
        |case| {
            let tracked = |one: &Difference| matches!(one, Difference::Committed { marked: false, .. });
            let only_tracked = || case.seen.differences.iter().all(tracked);
            (case.permitted() || only_tracked()) && case.admitted_by(&misread(&case.seen.policy))
        },
        "even ports, protocols by number or other name, ICMP types, members with any address (LP 1611991, 1625516, 1708358, 1867119)",
    ),
    known(
        "untracked-ports",
        ALL,
        |case| case.is_taken_for_another() && case.seen.differences.iter().all(|one| case.is_anothers(one)),
        "connection tracking keeps no ports for the protocol: all connections of two addresses are one",
    ),
    known(
        "simultaneous-open",
        ALL,
        |case| {
            let untracked = |one: &Difference| matches!(one, Difference::NotCommitted { .. });
            let opens = case.is_tcp() && case.has_state(state::NEW);
            opens && case.seen.differences.iter().all(untracked)
                || case.has_state(state::REL) && case.quotes_tcp() && case.permitted()
        },
        "a SYN against an unanswered connection is new to the userspace datapath, which does not track it anew",
    ),
    known(
        "unanswered-not-marked",
        DRIVERS,
        |case| {
            let mark = |one: &Difference| {
                matches!(one, Difference::Mark { revoked: true, .. } | Difference::OverPermitted { .. })
            };
            let refused = case.has_state(state::NEW) && !case.permitted();
            let answered = case.has_state(state::RPL) && case.is_revoked();
            case.seen.differences.iter().all(mark) && (refused || answered)
        },
        "only `+est` packets mark a connection: one that was never answered stays open for its answer",
    ),
    known(
        "service-in-fragments",
        MITAKA,
        |case| case.is_dhcp_by_rule(&misread(&case.seen.policy)),
        "DHCP in fragments passes by rule, as a connection that is tracked",
    ),
    known(
        "service-in-fragments",
        TODAY,
        |case| case.is_dhcp_by_rule(&case.seen.policy),
        "DHCP in fragments passes by rule, as a connection that is tracked",
    ),
    known(
        "fragment-marks",
        DRIVERS,
        |case| {
            let mark = |one: &Difference| {
                matches!(
                    one,
                    Difference::Mark { revoked: false, .. } | Difference::Committed { marked: true, .. }
                )
            };
            case.in_fragments() && case.seen.differences.iter().all(mark) && case.has_state(state::EST)
        },
        "a fragment shows no ports, meets no rule with ports, and so marks its connection: replies end; or that of an earlier datagram under the same fragment id",
    ),
    known(
        "any-address-ids-shared",
        NEUTRON,
        |case| {
            let is_any = |port: &&Port| port.address_pairs.iter().any(|pair| pair.prefix.prefix_len() == 0);
            let uses = |port: &Port| port.macs().contains(&case.frame.src);
            let many = case.seen.policy.ports.values().filter(is_any).count() > 1;
            many && case.seen.policy.ports.values().filter(is_any).any(uses) && case.permitted()
        },
        "members with the same address pair 0.0.0.0/0 or ::/0 share their groups' conjunctions, each under its own MAC",
    ),
    known(
        "switched-by-normal",
        STRICT,
        |case| {
            let by_normal = |one: &Difference| {
                let untracked = matches!(one, Difference::Class { tables: Class::Untracked, .. });
                untracked || matches!(one, Difference::OverPermitted { normal: true, .. })
            };
            case.has_no_way_out() && case.met_normal() && case.seen.differences.iter().all(by_normal)
        },
        "where nobody said how a network leaves the host NORMAL switches it, and floods past rules",
    ),
    known(
        "reply-of-another",
        STRICT,
        |case| case.is_by_rules_alone(Class::Reply),
        "a reply is judged by what its sender's rules say of the connection: they do not say to whom it was delivered",
    ),
    known(
        "error-from-afar",
        STRICT,
        |case| {
            let from_afar = case.is_revoked() && case.permitted() && case.reports_on_neighbours();
            from_afar && case.is_by_rules_alone(Class::Related)
        },
        "what other hosts report of a connection between two ports here is judged by its receiver's rules only",
    ),
    known(
        "error-of-a-stranger",
        STRICT,
        |case| case.is_by_rules_alone(Class::Related),
        "an error is judged by what the rules of its sender and receiver say of the connection, not by the way it takes",
    ),
    known(
        "error-without-ports",
        STRICT,
        |case| case.is_error_without_ports(),
        "connection tracking keeps no ports for the protocol: what reports about it passes by rules for all its ports only",
    ),
    known(
        "error-about-a-request",
        STRICT,
        |case| case.is_about_a_request(),
        "an error is judged by rules, also about a DHCP request, which passed without one",
    ),
    known(
        "told-by-mac",
        STRICT,
        |case| case.is_told_by_mac(),
        "a member that may use every address is told by its MAC: what comes under another one is not from it",
    ),
    known(
        "fdb-poisoned",
        DRIVERS,
        |case| case.blocked() && case.met_normal(),
        "NORMAL has learned the receiver's MAC somewhere else",
    ),
];

const DHCP_SERVICES: &[Service] =
    &[Service::Dhcpv4Client, Service::Dhcpv4Server, Service::Dhcpv6Client, Service::Dhcpv6Server];

const NEIGHBOUR_SERVICES: &[Service] = &[
    Service::MldQuery,
    Service::MldReport,
    Service::MldDone,
    Service::NeighbourSolicitation,
    Service::NeighbourAdvertisement,
];

/// The first row that explains the differences of an observation.
#[must_use]
pub fn classify(layout: Layout, seen: &Observation) -> Option<&'static Known> {
    let case = Case::of(seen);
    let applies = |known: &&Known| known.layouts.contains(&layout.name()) && (known.explains)(&case);
    KNOWN.iter().find(applies)
}

/// An observation, with what rows ask about it.
pub(crate) struct Case<'s> {
    pub(crate) seen: &'s Observation,
    pub(crate) frame: Frame,
    /// The port of this host that sends it.
    pub(crate) sender: Option<&'s Port>,
    service: Option<Service>,
}

fn is_wide(prefix: &IpNet) -> bool {
    prefix.prefix_len() < prefix.max_prefix_len()
}

impl<'s> Case<'s> {
    fn of(seen: &'s Observation) -> Self {
        let frame = Frame::from_wire(&seen.arrival.whole);
        let sender = match &seen.arrival.origin {
            Origin::Port(id) => seen.policy.ports.get(id),
            Origin::Network(_) | Origin::Unprovisioned => None,
        };
        let service = frame.datagram().and_then(service);
        Self { seen, frame, sender, service }
    }

    /// Whether somebody gets it who must not, and that is where all begins.
    fn permitted(&self) -> bool {
        self.seen.differences.iter().any(|one| matches!(one, Difference::OverPermitted { .. }))
            && !self.blocked()
    }

    /// Whether somebody does not get it who must.
    fn blocked(&self) -> bool {
        self.seen.differences.iter().any(|one| matches!(one, Difference::OverBlocked { .. }))
    }

    pub(crate) fn any_port(&self, is: impl Fn(&Port) -> bool) -> bool {
        self.seen.policy.local_ports().any(|(port, _)| is(port))
    }

    /// Whether the sender, or somebody whom the model or the tables let have it, is such a port.
    fn involves(&self, is: impl Fn(&Port) -> bool) -> bool {
        let named = |to: &Target| match to {
            Target::Port(id) => self.seen.policy.ports.get(id).is_some_and(&is),
            Target::Elsewhere => false,
        };
        let addressed = self.any_port(|port| port.macs().contains(&self.frame.dst) && is(port));
        self.sender.is_some_and(&is) || addressed || self.seen.model.iter().any(|one| named(&target(&one.to)))
    }

    fn rule_involved(&self, is: impl Fn(&Rule) -> bool) -> bool {
        self.involves(|port| self.seen.policy.rules_of(port).any(&is))
    }

    fn sends(&self, services: &[Service]) -> bool {
        self.sender.is_some() && self.service.is_some_and(|service| services.contains(&service))
    }

    fn sends_as_another(&self) -> bool {
        self.sender.is_some_and(|port| !port.macs().contains(&self.frame.src))
    }

    /// Whether nobody stands in the way at the sender's end.
    fn sender_is_open(&self) -> bool {
        self.sender.is_none_or(|port| !port.is_filtered())
    }

    fn is_for_another_network(&self) -> bool {
        let network = match &self.seen.arrival.origin {
            Origin::Port(id) => self.seen.policy.ports.get(id).map(|port| &port.network),
            Origin::Network(network) => Some(network),
            Origin::Unprovisioned => None,
        };
        self.any_port(|port| port.mac == self.frame.dst && Some(&port.network) != network)
    }

    /// Whether there is no uplink to the network that it comes from.
    fn has_no_way_out(&self) -> bool {
        let network = self.sender.map(|port| &port.network);
        network.is_some_and(|network| way_in(&self.seen.policy, network).is_none())
    }

    fn has_local_vlan(&self) -> bool {
        self.seen.policy.local_ports().any(|(_, binding)| Some(binding.vlan) == self.frame.vlan)
    }

    fn egress_without_rule(&self) -> bool {
        let is = |verdict: &Verdict| matches!(verdict, Verdict::Admit(Reason::Infrastructure(_)));
        self.seen.model.iter().any(|one| is(&one.outcome.egress))
    }

    /// Whether it is DHCP in fragments that one end lets pass without a rule, whose rules in this policy let it pass, too;
    /// and nothing but that it is tracked.
    fn is_dhcp_by_rule(&self, policy: &Policy) -> bool {
        let dhcp = self.service.is_some_and(|service| DHCP_SERVICES.contains(&service));
        let committed = |one: &Difference| matches!(one, Difference::Committed { marked: false, .. });
        let is_without = |verdict: &Verdict| matches!(verdict, Verdict::Admit(Reason::Infrastructure(_)));
        let port = |to: &Target| match to {
            Target::Port(id) => policy.ports.get(id),
            Target::Elsewhere => None,
        };
        let by_rule = || {
            self.seen.model.iter().any(|one| {
                let ends = [
                    (&one.outcome.egress, self.sender, Direction::Egress),
                    (&one.outcome.ingress, port(&target(&one.to)), Direction::Ingress),
                ];
                let without = ends.into_iter().filter(|(verdict, ..)| is_without(verdict));
                let admitted: Vec<bool> =
                    without.map(|(_, port, direction)| self.rules_admit(policy, port, direction)).collect();
                !admitted.is_empty() && admitted.into_iter().all(|admits| admits)
            })
        };
        dhcp && self.in_fragments() && self.seen.differences.iter().all(committed) && by_rule()
    }

    /// Whether some rule of a port admits it, or nobody is there to filter.
    fn rules_admit(&self, policy: &Policy, port: Option<&Port>, direction: Direction) -> bool {
        let (Some(port), Some(datagram)) = (port, self.frame.datagram()) else { return true };
        admits((policy, &Switches::neutron()), (port, direction), &self.frame, datagram)
    }

    fn in_fragments(&self) -> bool {
        self.seen.arrival.frames.len() > 1
    }

    fn refused(&self, refusal: Refusal) -> bool {
        self.seen.model.iter().any(|one| one.outcome.egress == Verdict::Drop(refusal))
    }

    /// Whether somebody refuses it because its connection is no longer admitted.
    pub(crate) fn is_revoked(&self) -> bool {
        let is = |verdict: &Verdict| *verdict == Verdict::Drop(Refusal::Revoked);
        self.seen.model.iter().any(|one| is(&one.outcome.egress) || is(&one.outcome.ingress))
    }

    pub(crate) fn has_state(&self, bits: u32) -> bool {
        self.seen.answers.iter().flat_map(|answer| &answer.infos).any(|info| info.state & bits != 0)
    }

    /// Whether all differences are what rules alone say of an answer that does not go between those who have its
    /// connection.
    fn is_by_rules_alone(&self, class: Class) -> bool {
        let answer = Answer::of(self.seen, &self.frame).filter(|answer| answer.class() == class);
        let Some(answer) = answer else { return false };
        let strange = |to: &Target| !answer.is_between_participants(to);
        self.seen.differences.iter().all(|one| match one {
            Difference::OverPermitted { to, normal: false } => strange(to) && answer.passes(to) == Some(true),
            Difference::OverBlocked { to } => strange(to) && answer.passes(to) == Some(false),
            // Some of those who get it may be whom it answers.
            Difference::Class { tables, .. } => {
                *tables == class && self.seen.allowed.must.iter().any(strange)
            }
            Difference::NotCommitted { .. } => self.seen.allowed.must.iter().any(strange),
            _ => false,
        })
    }

    fn is_tcp(&self) -> bool {
        self.frame.datagram().is_some_and(|datagram| datagram.protocol == 6)
    }

    fn quotes_tcp(&self) -> bool {
        self.frame.datagram().is_some_and(|datagram| match &datagram.upper {
            Upper::Icmp(Icmp { quoted: Some(quoted), .. }) => quoted.protocol == 6,
            Upper::Icmp(Icmp { quoted: None, .. }) | Upper::Ports { .. } | Upper::Unseen => false,
        })
    }

    fn met_normal(&self) -> bool {
        let mut effects = self.seen.outcomes.iter().flat_map(|outcome| &outcome.effects);
        effects.any(|effect| matches!(effect, Effect::Normal { .. }))
    }

    /// Whether another policy would let everybody have it who has it, as the first packet of a connection.
    fn admitted_by(&self, policy: &Policy) -> bool {
        let world = World::new(policy.clone(), Switches::mitaka());
        let deliveries = world.judge(&self.seen.arrival.origin, &self.frame, Tracking::Plausible);
        self.seen.differences.iter().all(|one| match one {
            Difference::OverPermitted { normal: true, .. } => {
                deliveries.iter().any(|one| one.outcome.is_delivered())
            }
            Difference::OverPermitted { to, normal: false } => {
                deliveries.iter().any(|one| target(&one.to) == *to && one.outcome.is_delivered())
            }
            // Where there is no way out, that it is tracked is all there is to see.
            Difference::Committed { .. } => deliveries.iter().any(|one| {
                let without =
                    |verdict: &Verdict| matches!(verdict, Verdict::Admit(Reason::Infrastructure(_)));
                let Outcome { egress, ingress } = &one.outcome;
                one.outcome.is_delivered() && !without(egress) && !without(ingress)
            }),
            _ => true,
        })
    }
}

/// A policy as the driver of 2016 read it.
fn misread(policy: &Policy) -> Policy {
    let mut new = policy.clone();
    for group in new.groups.values_mut() {
        for rule in &mut group.rules {
            misread_protocol(rule);
            let any = matches!(&rule.peer, RulePeer::Group(id) if has_any_address(policy, id, rule));
            if any {
                rule.peer = RulePeer::Any;
            }
        }
    }
    new
}

/// Whether a member of the group may use every address of the rule's family.
fn has_any_address(policy: &Policy, group: &GroupId, rule: &Rule) -> bool {
    let is_any = |prefix: &IpNet| {
        prefix.prefix_len() == 0 && flowproof_model::policy::Ethertype::of_prefix(prefix) == rule.ethertype
    };
    policy.members_of(group).any(|port| port.address_pairs.iter().any(|pair| is_any(&pair.prefix)))
}

fn misread_protocol(rule: &mut Rule) {
    let understood = matches!(rule.protocol_spelling.as_deref(), None | Some("tcp" | "udp" | "icmp"));
    rule.protocol = match rule.protocol {
        _ if !understood => Protocol::Any,
        Protocol::Icmp(_) => Protocol::Icmp(IcmpMatch::Any),
        Protocol::Transport(transport @ (Transport::Tcp | Transport::Udp), Some(range)) => {
            // The masks of an even lower end may include the port after the upper one.
            let max = if range.min() % 2 == 0 { range.max().saturating_add(1) } else { range.max() };
            Protocol::Transport(transport, PortRange::new(range.min(), max))
        }
        other => other,
    };
}
