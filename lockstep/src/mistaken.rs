//! Packets that connection tracking takes for part of another connection, because it keeps no ports for their protocol.
//!
//! Invariant: excused is a packet only if there is such a connection, and only what follows from that.
//! Source: experiments with Open vSwitch 3.1; ovs-fields(7), `ct_tp_src`.

use crate::case::Case;
use crate::compare::Difference;
use flowproof_model::frame::{Datagram, Icmp, Upper};
use flowproof_model::history::{Ends, Tuple};
use flowproof_model::verdict::{Outcome, Reason, Verdict};
use flowproof_switch::conntrack::{CtInfo, state};

/// DCCP, SCTP, UDP-Lite: what userspace keeps no ports for.
pub(crate) const PORTLESS: [u8; 3] = [33, 132, 136];

impl Case<'_> {
    /// What it is part of: itself, or the datagram that it reports about.
    fn about(&self) -> Option<&Datagram> {
        let datagram = self.frame.datagram()?;
        match &datagram.upper {
            Upper::Icmp(Icmp { quoted: Some(quoted), .. }) => Some(quoted),
            Upper::Icmp(Icmp { quoted: None, .. }) | Upper::Ports { .. } | Upper::Unseen => Some(datagram),
        }
    }

    /// Whether there is a connection between the same addresses by other ports, and connection tracking, which keeps none for
    /// the protocol, has one entry for both.
    pub(crate) fn is_taken_for_another(&self) -> bool {
        let Some(about) = self.about().filter(|about| PORTLESS.contains(&about.protocol)) else {
            return false;
        };
        let portless = |info: &CtInfo| {
            info.orig.is_some_and(|orig| (orig.proto, orig.tp_src, orig.tp_dst) == (about.protocol, 0, 0))
        };
        let is_its_own = |tuple: &Tuple| match (&about.upper, tuple.ends) {
            (Upper::Ports { src, dst }, Ends::Ports(from, to)) if tuple.src == about.src => {
                (from, to) == (*src, *dst)
            }
            (Upper::Ports { src, dst }, Ends::Ports(from, to)) => (from, to) == (*dst, *src),
            (_, _) => false,
        };
        self.seen.answers.iter().flat_map(|answer| &answer.infos).any(portless)
            && self.seen.connections.iter().any(|(tuple, _)| !is_its_own(tuple))
    }

    /// Whether a difference is one that comes of being taken for part of another connection: that it passes as an answer, or as
    /// one of a connection that is not revoked; that it does not, because the other is, or as what begins one; that one entry
    /// stands for two.
    pub(crate) fn is_anothers(&self, one: &Difference) -> bool {
        let infos = || self.seen.answers.iter().flat_map(|answer| &answer.infos);
        let answers = self.has_state(state::RPL | state::REL);
        match one {
            Difference::OverPermitted { .. } => answers || self.is_revoked(),
            Difference::OverBlocked { .. } => {
                let as_answer =
                    |verdict: &Verdict| matches!(verdict, Verdict::Admit(Reason::Reply | Reason::Related));
                let passes = |of: &Outcome| as_answer(&of.egress) || as_answer(&of.ingress);
                let begins = !answers && self.seen.model.iter().any(|one| passes(&one.outcome));
                answers || begins || infos().any(|info| info.mark != 0)
            }
            Difference::Class { .. }
            | Difference::Committed { .. }
            | Difference::NotCommitted { .. }
            | Difference::Mark { .. } => true,
            Difference::Altered { .. }
            | Difference::Unknown { .. }
            | Difference::Expectation { .. }
            | Difference::Idle { .. } => false,
        }
    }
}
