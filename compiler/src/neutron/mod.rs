//! The layout that Neutron writes today (the same flows from release 25.0.0 to 29.0.0), as it is.
//!
//! Invariant: the flows are those of the driver, up to the numbering of conjunctions, also where they are not what
//! the policy means (`DIVERGENCES.md`). A rule without a remote group is a flow of its own, at priorities 74 to 77;
//! one with a remote group or address group is a conjunction of peer and rule, at priorities 70 to 73, so that
//! members cost flows once a network and not once a port. Deliberately absent: the logging service's flows.
//!
//! Source: Neutron 29.0.0, `neutron/agent/linux/openvswitch_firewall`, by its output.

mod merge;
mod remote;
mod rules;
mod tables;

use crate::host::{Local, locals, provided};
use crate::masks::{PortBlock, PortMasks, exact, legacy};
use crate::template::{Bound, Do, from_port, infrastructure, instantiate};
use crate::{AnnotatedFlow, Compiled, Options};
use flowproof_model::policy::{Host, Policy, RulePeer};
use flowproof_packet::Field;
use flowproof_switch::flow::{Action, Match};
use remote::Remotes;
use std::collections::BTreeSet;

/// How a port range becomes masks.
type Masks = fn(u16, u16) -> Vec<PortBlock>;

/// The flows of the layout.
pub(crate) fn compile(policy: &Policy, host: &Host, options: &Options) -> Compiled {
    let masks: Masks = if options.port_masks == PortMasks::Legacy8_1 { legacy } else { exact };
    let mut flows = agent(policy, host);
    if host.options.explicitly_egress_direct {
        flows.push(infrastructure(60, 2, Match::default(), &[Do::To(94)], "firewall: what is from no port"));
    }
    flows.extend(tables::global());
    let locals = locals(policy, host);
    let mut unsupported = BTreeSet::new();
    let mut remotes = Remotes::new(policy, masks);
    for local in &locals {
        let why = format!("port `{}`", local.port.id);
        let rows = if local.is_filtered() { tables::FILTERED } else { tables::UNFILTERED };
        for row in rows.iter().chain(tables::EXPLICIT) {
            instantiate(&mut flows, row, &local.subject, Bound::default(), &Match::default(), &why);
        }
        if local.is_filtered() {
            direct_rules(&mut flows, policy, local, masks);
            remotes.port(&mut flows, local);
            rules::limits(policy, local.port, &mut unsupported);
        }
    }
    remotes.members(&mut flows);
    Compiled { flows, unsupported: unsupported.into_iter().collect() }
}

/// The flows of the rules that name no group.
fn direct_rules(flows: &mut Vec<AnnotatedFlow>, policy: &Policy, local: &Local<'_>, masks: Masks) {
    for rule in policy.rules_of(local.port) {
        if !matches!(rule.peer, RulePeer::Any | RulePeer::Prefix(_)) {
            continue;
        }
        let why = format!("port `{}`: {} rule `{}`", local.port.id, rule.direction.name(), rule.id);
        let bound = Bound { offset: rules::detail(rule), ..Bound::default() };
        for matching in rules::matches(rule, masks) {
            for row in tables::ACCEPT.of(rule.direction) {
                instantiate(flows, row, &local.subject, bound, &matching, &why);
            }
        }
    }
}

/// What the agent installs on its own: VLANs translated at the uplinks, and the way to the firewall.
fn agent(policy: &Policy, host: &Host) -> Vec<AnnotatedFlow> {
    let mut flows: Vec<_> = tables::AGENT
        .iter()
        .map(|(table, priority, does, why)| infrastructure(*table, *priority, Match::default(), does, why))
        .collect();
    let mut dead = Match::default();
    dead.set(Field::VlanVidOxm, 0x1fff, u128::MAX);
    flows.push(infrastructure(0, 65535, dead, &[], "agent: ports without a network"));
    let provided = provided(policy, host);
    let mut uplinks: Vec<_> = provided.iter().map(|one| one.uplink).collect();
    uplinks.dedup();
    for uplink in uplinks {
        flows.push(infrastructure(0, 2, from_port(uplink), &[], "agent: VLANs not provisioned"));
    }
    for one in &provided {
        let mut matching = from_port(one.uplink);
        let tag = one.segment.map_or(0, |vid| 0x1000 | vid);
        matching.set(Field::VlanVidOxm, tag.into(), u128::MAX);
        let why = format!("agent: network `{}` from outside", one.network);
        let mut flow = infrastructure(0, 3, matching, &[Do::Goto(58)], &why);
        let vlan = crate::template::set(Field::VlanVidOxm, (0x1000 | one.vlan).into());
        flow.flow.actions.insert(0, vlan);
        if one.segment.is_none() {
            flow.flow.actions.insert(0, Action::PushVlan(0x8100));
        }
        flows.push(flow);
    }
    flows
}
