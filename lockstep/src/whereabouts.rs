//! Frames that the tables take for somebody else's: by a MAC that they do not know, by a VLAN from the wrong side.
//!
//! Invariant: what is explained begins in the table that does not know better, and everybody else does what he should.

use crate::allowed::target;
use crate::case::Case;
use crate::compare::Difference;
use crate::known::misread;
use crate::scenario::Target;
use flowproof_model::history::Tracking;
use flowproof_model::policy::{Direction, NetworkId, Policy, Port, PortId, Segment};
use flowproof_model::switches::Switches;
use flowproof_model::verdict::Verdict;
use flowproof_model::world::{Origin, World};
use flowproof_switch::conntrack::state;
use flowproof_switch::pipeline::Effect;
use std::collections::BTreeSet;

/// The VLAN by which a network is known on this host.
pub(crate) fn local_vlan(policy: &Policy, network: &NetworkId) -> Option<u16> {
    policy.vlan_of(network)
}

/// The VLAN of a network that a provider knows it by.
pub(crate) fn provider_vlan(policy: &Policy, network: &NetworkId) -> Option<u16> {
    match &policy.networks.get(network)?.segment {
        Segment::Vlan { vid, .. } => Some(*vid),
        _ => None,
    }
}

impl Case<'_> {
    /// The tables that had a flow for it.
    fn tables(&self) -> BTreeSet<u8> {
        let traces = self.seen.outcomes.iter().filter_map(|outcome| outcome.trace.as_ref());
        traces.flat_map(|trace| trace.path()).map(|(table, _)| table).collect()
    }

    /// Whether a port is of its sender's network, if it has a sender here.
    fn is_near(&self, port: &Port) -> bool {
        self.sender.is_none_or(|sender| sender.network == port.network)
    }

    /// Whether it is for this port of its sender's network, under the MAC of an address pair.
    fn is_by_pair(&self, port: &Port) -> bool {
        self.is_near(port) && port.mac != self.frame.dst && port.macs().contains(&self.frame.dst)
    }

    /// Whether it is accepted, for the MAC of somebody's address pair, and handed to the uplink because table 94 does not know
    /// that; and that is all that is wrong.
    pub(crate) fn leaves_by_pair(&self) -> bool {
        let policy = &self.seen.policy;
        let direct = policy.host.as_ref().is_some_and(|host| host.options.explicitly_egress_direct);
        let own = || self.any_port(|port| port.mac == self.frame.dst && self.is_near(port));
        let pair = |id: &PortId| policy.ports.get(id).is_some_and(|port| self.is_by_pair(port));
        let astray = |one: &Difference| match one {
            Difference::OverPermitted { to: Target::Elsewhere, normal: false } => true,
            Difference::OverBlocked { to: Target::Port(id) } => pair(id),
            _ => false,
        };
        let tables = self.tables();
        direct
            && self.sender.is_some()
            && !own()
            && self.any_port(|port| self.is_by_pair(port))
            && tables.contains(&94)
            && !tables.contains(&81)
            && self.seen.differences.iter().all(astray)
    }

    /// Whether it is from the MAC of an address pair of its sender, whose rules say nothing of that, and is dropped there.
    pub(crate) fn is_dropped_by_pair(&self) -> bool {
        let by_pair = |port: &Port| port.mac != self.frame.src && port.macs().contains(&self.frame.src);
        let lost = |one: &Difference| {
            matches!(one, Difference::OverBlocked { .. } | Difference::NotCommitted { .. })
        };
        let tables = self.tables();
        self.sender.is_some_and(by_pair)
            && tables.contains(&72)
            && !tables.contains(&73)
            && !self.met_normal()
            && self.seen.differences.iter().all(lost)
    }

    /// Whether it is for the MAC of somebody's address pair, its sender may send it, and nobody asks the receiver.
    pub(crate) fn is_switched_by_pair(&self) -> bool {
        let refused = |verdict: &Verdict| matches!(verdict, Verdict::Drop(_));
        let may_send = || {
            let by_rule = || self.rules_admit(&misread(&self.seen.policy), self.sender, Direction::Egress);
            !self.seen.model.iter().any(|one| refused(&one.outcome.egress)) || by_rule()
        };
        let untold = |one: &Difference| {
            !matches!(
                one,
                Difference::OverPermitted { normal: false, .. }
                    | Difference::Altered { .. }
                    | Difference::Unknown { .. }
            )
        };
        self.any_port(|port| self.is_by_pair(port))
            && self.met_normal()
            && !self.tables().contains(&81)
            && may_send()
            && self.seen.differences.iter().all(untold)
    }

    /// Whether `NORMAL` had it in the VLAN of everybody here who must get it, for a MAC that can be learned: had it not learned
    /// that somewhere, it would have gone to all of them.
    pub(crate) fn is_looked_for_elsewhere(&self) -> bool {
        let effects = self.seen.outcomes.iter().flat_map(|outcome| &outcome.effects);
        let vlans: BTreeSet<u16> = effects
            .filter_map(|effect| if let Effect::Normal { vlan, .. } = effect { Some(*vlan) } else { None })
            .collect();
        let host = self.seen.policy.host.as_ref();
        let vlan_of = |id: &PortId| host.and_then(|host| host.bindings.get(id)).map(|binding| binding.vlan);
        let looked_for = |one: &Difference| match one {
            Difference::OverBlocked { to: Target::Port(id) } => {
                vlan_of(id).is_some_and(|vlan| vlans.contains(&vlan))
            }
            _ => true,
        };
        !self.frame.dst.is_group() && !vlans.is_empty() && self.seen.differences.iter().all(looked_for)
    }

    /// Whether it comes from outside under a VLAN that a network of this host has, in this sense, and is treated as one of
    /// that network.
    pub(crate) fn is_let_in(
        &self,
        vlan_of: fn(&Policy, &NetworkId) -> Option<u16>,
        read: (&Policy, Switches),
    ) -> bool {
        let vlan = self.frame.vlan.filter(|_| self.seen.arrival.origin == Origin::Unprovisioned);
        let Some(vlan) = vlan.filter(|_| self.permitted()) else { return false };
        let mut named = read.0.networks.keys().filter(|network| vlan_of(read.0, network) == Some(vlan));
        named.any(|network| self.is_as_from(network, read))
    }

    /// Whether it has the MAC of a port of another network; and is treated as one of that, if it comes from outside.
    pub(crate) fn is_told_by_receiver(&self, read: (&Policy, Switches)) -> bool {
        let named = || read.0.local_ports().filter(|(port, _)| port.mac == self.frame.dst);
        let as_theirs = || named().any(|(port, _)| self.is_as_from(&port.network, read));
        self.is_for_another_network() && (self.sender.is_some() || as_theirs())
    }

    /// Whether those ports that get it and must not would get it if it came from this network, under a policy as a layout with
    /// these switches reads it.
    fn is_as_from(&self, network: &NetworkId, (policy, switches): (&Policy, Switches)) -> bool {
        // Whether there is a connection that it is part of is for connection tracking to say.
        let follows = self.has_state(state::EST | state::REL | state::RPL);
        let world = World::new(policy.clone(), switches);
        let mut frame = self.frame.clone();
        frame.vlan = None;
        let all = world.judge(&Origin::Network(network.clone()), &frame, Tracking::Plausible);
        let delivered = |to: &Target| {
            all.iter().any(|one| target(&one.to) == *to && (follows || one.outcome.is_delivered()))
        };
        let of_network = |id| policy.ports.get(id).is_some_and(|port| port.network == *network);
        self.seen.differences.iter().all(|one| match one {
            // Whoever nobody knows is looked for everywhere in the network.
            Difference::OverPermitted { to: Target::Port(id), normal: true } => of_network(id),
            Difference::OverPermitted { to, normal: false } => delivered(to),
            _ => true,
        })
    }
}
