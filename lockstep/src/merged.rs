//! What merging rules does in Neutron's driver: where a protocol has several rules, one for all ports becomes one for 1 to
//! 65535.
//!
//! Source: Neutron's `merge_port_ranges`; compiler/DIVERGENCES.md.

use crate::case::Case;
use crate::compare::Difference;
use flowproof_model::frame::Upper;
use flowproof_model::policy::{Direction, Ethertype, Port, Protocol, Rule};

impl Case<'_> {
    /// Whether it is for port 0, nothing is wrong but that it is dropped, and an end has a rule for all ports of the
    /// protocol beside another one.
    pub(crate) fn is_lost_by_merging(&self) -> bool {
        let Some(datagram) = self.frame.datagram() else { return false };
        let Upper::Ports { dst: 0, .. } = datagram.upper else { return false };
        let dropped = |one: &Difference| {
            matches!(one, Difference::OverBlocked { .. } | Difference::NotCommitted { .. })
        };
        let family = Ethertype::of(&datagram.src);
        let merged = |port: &Port, direction: Direction| {
            let same = |rule: &&Rule| {
                let number = rule.protocol.number(rule.ethertype);
                (rule.direction, rule.ethertype, number) == (direction, family, Some(datagram.protocol))
            };
            let rules: Vec<&Rule> = self.seen.policy.rules_of(port).filter(same).collect();
            let all_ports = |rule: &&Rule| matches!(rule.protocol, Protocol::Transport(_, None));
            rules.len() > 1 && rules.iter().any(all_ports)
        };
        let sent = self.sender.is_some_and(|port| merged(port, Direction::Egress));
        let received = || {
            self.any_port(|port| port.macs().contains(&self.frame.dst) && merged(port, Direction::Ingress))
        };
        self.seen.differences.iter().all(dropped) && (sent || received())
    }
}
