//! What rows of known divergences ask about an observation.
//!
//! Invariant: each question is about this packet, the policy in force and what the tables did with it. Deliberately
//! absent: which answers explain anything; that is for the rows.

use crate::allowed::target;
use crate::compare::{Class, Difference};
use crate::frames::way_in;
use crate::rules_alone::Answer;
use crate::run::Observation;
use crate::scenario::Target;
use flowproof_model::frame::{Frame, Icmp, Upper};
use flowproof_model::history::Tracking;
use flowproof_model::policy::{Direction, IpNet, Policy, Port, Rule};
use flowproof_model::rules::admits;
use flowproof_model::service::{Service, service};
use flowproof_model::switches::Switches;
use flowproof_model::verdict::{Outcome, Reason, Refusal, Verdict};
use flowproof_model::world::{Origin, World};
use flowproof_switch::pipeline::Effect;

const DHCP_SERVICES: &[Service] =
    &[Service::Dhcpv4Client, Service::Dhcpv4Server, Service::Dhcpv6Client, Service::Dhcpv6Server];

/// An observation, with what rows ask about it.
pub(crate) struct Case<'s> {
    pub(crate) seen: &'s Observation,
    pub(crate) frame: Frame,
    /// The port of this host that sends it.
    pub(crate) sender: Option<&'s Port>,
    pub(crate) service: Option<Service>,
}

pub(crate) fn is_wide(prefix: &IpNet) -> bool {
    prefix.prefix_len() < prefix.max_prefix_len()
}

impl<'s> Case<'s> {
    pub(crate) fn of(seen: &'s Observation) -> Self {
        let frame = Frame::from_wire(&seen.arrival.whole);
        let sender = match &seen.arrival.origin {
            Origin::Port(id) => seen.policy.ports.get(id),
            Origin::Network(_) | Origin::Unprovisioned => None,
        };
        let service = frame.datagram().and_then(service);
        Self { seen, frame, sender, service }
    }

    /// Whether somebody gets it who must not, and that is where all begins.
    pub(crate) fn permitted(&self) -> bool {
        self.seen.differences.iter().any(|one| matches!(one, Difference::OverPermitted { .. }))
            && !self.blocked()
    }

    /// Whether somebody does not get it who must.
    pub(crate) fn blocked(&self) -> bool {
        self.seen.differences.iter().any(|one| matches!(one, Difference::OverBlocked { .. }))
    }

    pub(crate) fn any_port(&self, is: impl Fn(&Port) -> bool) -> bool {
        self.seen.policy.local_ports().any(|(port, _)| is(port))
    }

    /// Whether the sender, or somebody whom the model or the tables let have it, is such a port.
    pub(crate) fn involves(&self, is: impl Fn(&Port) -> bool) -> bool {
        let named = |to: &Target| match to {
            Target::Port(id) => self.seen.policy.ports.get(id).is_some_and(&is),
            Target::Elsewhere => false,
        };
        let addressed = self.any_port(|port| port.macs().contains(&self.frame.dst) && is(port));
        self.sender.is_some_and(&is) || addressed || self.seen.model.iter().any(|one| named(&target(&one.to)))
    }

    pub(crate) fn rule_involved(&self, is: impl Fn(&Rule) -> bool) -> bool {
        self.involves(|port| self.seen.policy.rules_of(port).any(&is))
    }

    pub(crate) fn sends(&self, services: &[Service]) -> bool {
        self.sender.is_some() && self.service.is_some_and(|service| services.contains(&service))
    }

    pub(crate) fn sends_as_another(&self) -> bool {
        self.sender.is_some_and(|port| !port.macs().contains(&self.frame.src))
    }

    /// Whether nobody stands in the way at the sender's end.
    pub(crate) fn sender_is_open(&self) -> bool {
        self.sender.is_none_or(|port| !port.is_filtered())
    }

    pub(crate) fn is_for_another_network(&self) -> bool {
        let network = match &self.seen.arrival.origin {
            Origin::Port(id) => self.seen.policy.ports.get(id).map(|port| &port.network),
            Origin::Network(network) => Some(network),
            Origin::Unprovisioned => None,
        };
        self.any_port(|port| port.mac == self.frame.dst && Some(&port.network) != network)
    }

    /// Whether there is no uplink to the network that it comes from.
    pub(crate) fn has_no_way_out(&self) -> bool {
        let network = self.sender.map(|port| &port.network);
        network.is_some_and(|network| way_in(&self.seen.policy, network).is_none())
    }

    pub(crate) fn egress_without_rule(&self) -> bool {
        let is = |verdict: &Verdict| matches!(verdict, Verdict::Admit(Reason::Infrastructure(_)));
        self.seen.model.iter().any(|one| is(&one.outcome.egress))
    }

    /// Whether it is DHCP in fragments that one end lets pass without a rule, whose rules in this policy let it pass, too;
    /// and nothing but that it is tracked.
    pub(crate) fn is_dhcp_by_rule(&self, policy: &Policy) -> bool {
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
    pub(crate) fn rules_admit(&self, policy: &Policy, port: Option<&Port>, direction: Direction) -> bool {
        let (Some(port), Some(datagram)) = (port, self.frame.datagram()) else { return true };
        admits((policy, &Switches::neutron()), (port, direction), &self.frame, datagram)
    }

    pub(crate) fn in_fragments(&self) -> bool {
        self.seen.arrival.frames.len() > 1
    }

    pub(crate) fn refused(&self, refusal: Refusal) -> bool {
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
    pub(crate) fn is_by_rules_alone(&self, class: Class) -> bool {
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

    pub(crate) fn is_tcp(&self) -> bool {
        self.frame.datagram().is_some_and(|datagram| datagram.protocol == 6)
    }

    pub(crate) fn quotes_tcp(&self) -> bool {
        self.frame.datagram().is_some_and(|datagram| match &datagram.upper {
            Upper::Icmp(Icmp { quoted: Some(quoted), .. }) => quoted.protocol == 6,
            Upper::Icmp(Icmp { quoted: None, .. }) | Upper::Ports { .. } | Upper::Unseen => false,
        })
    }

    pub(crate) fn met_normal(&self) -> bool {
        let mut effects = self.seen.outcomes.iter().flat_map(|outcome| &outcome.effects);
        effects.any(|effect| matches!(effect, Effect::Normal { .. }))
    }

    /// Whether another policy would let everybody have it who has it, as the first packet of a connection.
    pub(crate) fn admitted_by(&self, policy: &Policy) -> bool {
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
