//! The switch's connection tracking, watched: what it said of a packet is the oracle that both semantics are given.
//!
//! Invariant: nothing here changes what the tracking says. Deliberately absent: opinions.

use flowproof_model::history::{Ends, Tuple};
use flowproof_model::policy::Policy;
use flowproof_switch::conntrack::{Conntrack, CtInfo, CtOutput, Entry, Tuple as Tracked, state};
use flowproof_switch::pipeline::{Tracker, Visit};
use std::net::IpAddr;

/// One `ct()` of one packet.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The zone.
    pub zone: u16,
    /// Whether it was to commit.
    pub commit: bool,
    /// What came out, for each frame; nothing if it was held.
    pub infos: Vec<CtInfo>,
}

/// Connection tracking that takes notes.
#[derive(Debug)]
pub struct Watch {
    /// The connection tracking.
    pub conntrack: Conntrack,
    /// What it said since the notes were last taken away.
    pub answers: Vec<Answer>,
}

impl Tracker for Watch {
    fn track(&mut self, frame: &[u8], visit: &Visit) -> CtOutput {
        let output = self.conntrack.track(frame, visit);
        let infos = output.iter().map(|(_, info)| *info).collect();
        self.answers.push(Answer { zone: visit.request.zone, commit: visit.request.commit, infos });
        output
    }

    fn advance(&mut self, ms: u64) {
        self.conntrack.advance(ms);
    }
}

impl Watch {
    /// Takes notes of this.
    #[must_use]
    pub const fn new(conntrack: Conntrack) -> Self {
        Self { conntrack, answers: Vec::new() }
    }

    /// The entries, in a fixed order.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.conntrack.entries().collect();
        entries.sort_by_cached_key(|entry| (entry.zone(), entry.to_string()));
        entries
    }
}

/// Whether it was called invalid where somebody looked; what a commit says nobody hears.
pub(crate) fn is_invalid(answers: &[Answer]) -> bool {
    let lookups = answers.iter().filter(|answer| !answer.commit);
    lookups.flat_map(|answer| &answer.infos).any(|info| info.state & state::INV != 0)
}

/// What makes an entry the one it is: its zone and what stands before the reply's direction.
pub(crate) fn identity(entry: &Entry) -> (u16, String) {
    let text = entry.to_string();
    let original = text.split(",reply=").next().unwrap_or(&text).to_owned();
    (entry.zone(), original)
}

fn bits(ip: &IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// Whether an entry is that of a connection of the model, both in their original direction. Where the tracking does
/// not look at ports they are not compared.
pub(crate) fn is_same(policy: &Policy, tuple: &Tuple, entry: &Entry) -> bool {
    let identified = match tuple.ends {
        Ends::Query { ident, .. } => identity(entry).1.contains(&format!(",id={ident},")),
        Ends::Ports(..) | Ends::Nothing => true,
    };
    is_of(tuple, &entry.orig()) && identified && policy.vlan_of(&tuple.network) == Some(entry.zone())
}

/// Whether what connection tracking shows of a connection is that of a connection of the model, as far as it goes.
pub(crate) fn is_of(tuple: &Tuple, orig: &Tracked) -> bool {
    let ends = match tuple.ends {
        Ends::Ports(src, dst) => {
            (orig.tp_src, orig.tp_dst) == (src, dst) || (orig.tp_src, orig.tp_dst) == (0, 0)
        }
        Ends::Query { kind, code, .. } => (orig.tp_src, orig.tp_dst) == (kind.into(), code.into()),
        Ends::Nothing => true,
    };
    let same = (orig.src, orig.dst, orig.proto) == (bits(&tuple.src), bits(&tuple.dst), tuple.protocol);
    ends && same && orig.ipv6 == tuple.src.is_ipv6()
}
