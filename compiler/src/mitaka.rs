//! The layout of Neutron 8.1.0 (Mitaka, April 2016), as it was.
//!
//! Invariant: with the release's own port masks the flows are those that its driver wrote, defects included. It
//! understood `tcp`, `udp` and `icmp` by these names only and took any other protocol for all protocols; it
//! overlooked ICMP types and codes; it expanded a remote group into one rule for each address of its members.
//! Deliberately absent: everything that came later, address groups and stateless groups among it.
//!
//! Source: Neutron 8.1.0, `neutron/agent/linux/openvswitch_firewall`, by its output.

mod rules;
mod tables;

use crate::host::{Local, locals, provided};
use crate::template::{Bound, Do, from_port, infrastructure, instantiate};
use crate::{AnnotatedFlow, Compiled, Consequence, Options, Unsupported};
use flowproof_model::policy::{Host, Policy};
use flowproof_packet::Field;
use flowproof_switch::flow::{Action, Match};
use rules::Rules;
use std::collections::BTreeSet;

/// Tables that end in a drop: two of the agent's, five of the firewall's.
const DROPPING: [(u8, &str); 7] = [
    (23, "agent: canary table"),
    (24, "agent: ARP protection, unused with this firewall"),
    (71, "firewall: default"),
    (72, "firewall: default"),
    (73, "firewall: default"),
    (81, "firewall: default"),
    (82, "firewall: default"),
];

/// The flows of the layout.
pub(crate) fn compile(policy: &Policy, host: &Host, options: &Options) -> Compiled {
    let mut flows = agent(policy, host);
    let mut unsupported = BTreeSet::new();
    let mut rules = Rules::new(policy, *options, &mut unsupported);
    // Trusted ports are not the firewall's; ports without port security it took for ports without groups.
    for local in locals(policy, host).iter().filter(|local| !local.is_trusted()) {
        if let Some(prefix) = wide_pair(local) {
            rules.unsupported.insert(Unsupported {
                object: "port",
                id: local.port.id.to_string(),
                consequence: Consequence::Unfiltered,
                reason: format!(
                    "the driver fails on the allowed address pair `{prefix}`, which is no address"
                ),
            });
            continue;
        }
        let why = format!("port `{}`", local.port.id);
        for row in tables::PORT {
            instantiate(&mut flows, row, &local.subject, Bound::default(), &Match::default(), &why);
        }
        rules.flows(&mut flows, local);
    }
    Compiled { flows, unsupported: unsupported.into_iter().collect() }
}

/// An allowed address pair that is a network rather than an address.
fn wide_pair(local: &Local<'_>) -> Option<String> {
    let wide =
        local.port.address_pairs.iter().find(|pair| pair.prefix.prefix_len() < pair.prefix.max_prefix_len());
    wide.map(|pair| pair.prefix.to_string())
}

/// What the agent installs on its own: forwarding as a learning switch, and VLANs translated at the uplinks.
fn agent(policy: &Policy, host: &Host) -> Vec<AnnotatedFlow> {
    let mut flows = vec![infrastructure(0, 0, Match::default(), &[Do::Normal], "agent: a learning switch")];
    let provided = provided(policy, host);
    let mut uplinks: Vec<_> = provided.iter().map(|one| one.uplink).collect();
    uplinks.dedup();
    for uplink in uplinks {
        flows.push(infrastructure(0, 2, from_port(uplink), &[], "agent: VLANs not provisioned"));
    }
    for one in &provided {
        let mut matching = from_port(one.uplink);
        match one.segment {
            Some(vid) => matching.set(Field::VlanVidOxm, (0x1000 | vid).into(), u128::MAX),
            // OpenFlow 1.0 calls it `dl_vlan=65535`.
            None => matching.set(Field::VlanTci, 0, u128::MAX),
        }
        let why = format!("agent: network `{}` from outside", one.network);
        let mut flow = infrastructure(0, 3, matching, &[Do::Normal], &why);
        flow.flow.actions.insert(0, Action::ModVlanVid(one.vlan));
        flows.push(flow);
    }
    flows.extend(DROPPING.map(|(table, why)| infrastructure(table, 0, Match::default(), &[], why)));
    flows
}
