//! Divergences that are known, by name: where a layout does otherwise than the model under its policy switches.
//!
//! Invariant: a row explains one defect of one layout and names what shows it: the packet, the kind of difference.
//! Deliberately absent: excuses for differences that nobody has understood.
//!
//! Source: the defects of Neutron's drivers by their numbers in Launchpad, and experiments.

use crate::case::{Case, is_wide};
use crate::compare::{Class, Difference};
use crate::run::Observation;
use crate::whereabouts::{local_vlan, provider_vlan};
use flowproof_compiler::Layout;
use flowproof_model::frame::Payload;
use flowproof_model::policy::{
    Filtering, GroupId, IcmpMatch, IpNet, Policy, Port, PortRange, Protocol, Rule, RulePeer, Transport,
};
use flowproof_model::service::Service;
use flowproof_model::switches::Switches;
use flowproof_model::verdict::Refusal;
use flowproof_switch::conntrack::state;

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
        |case| case.is_told_by_receiver((&misread(&case.seen.policy), Switches::mitaka())),
        "flows for receivers match `dl_dst` only (LP 1626010)",
    ),
    known(
        "pair-mac-unknown",
        MITAKA,
        |case| case.is_dropped_by_pair() || case.is_switched_by_pair(),
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
        MITAKA,
        |case| case.is_let_in(local_vlan, (&misread(&case.seen.policy), Switches::mitaka())),
        "a frame from outside that carries a local VLAN is in its network, whichever bridge it comes from",
    ),
    known(
        "local-vlan-from-outside",
        NEUTRON,
        |case| case.is_let_in(local_vlan, (&case.seen.policy, Switches::neutron())),
        "a frame from outside that carries a local VLAN is in its network, whichever bridge it comes from",
    ),
    known(
        "provider-vlan-from-outside",
        NEUTRON,
        |case| case.is_let_in(provider_vlan, (&case.seen.policy, Switches::neutron())),
        "a frame from outside that carries a provider's VLAN is in its network, whichever bridge it comes from",
    ),
    known(
        "pair-mac-leaves",
        NEUTRON,
        |case| case.leaves_by_pair(),
        "with `explicitly_egress_direct` what is accepted for the MAC of an address pair leaves the host: table 94 knows the port's own",
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
        |case| case.blocked() && case.is_looked_for_elsewhere(),
        "NORMAL has learned the receiver's MAC somewhere else",
    ),
];

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

/// A policy as the driver of 2016 read it.
pub(crate) fn misread(policy: &Policy) -> Policy {
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
