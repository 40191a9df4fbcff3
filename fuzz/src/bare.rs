//! Tables of which nobody says what they are meant to do: what is proved of them holds of random packets, and symbolic
//! execution goes where the interpreter goes.
//!
//! The ports are those that the flows speak of, as `flowproof prove` derives them. Invariant: a claim is a verdict that
//! `prove` would print. What is found here is a mistake of ours, never of the tables. Deliberately absent: model and
//! policy.

use crate::Choices;
use crate::campaign::{Case, Counts, Failing};
use crate::coverage::{Coverage, Template};
use crate::oracles::{Held, Objection, compare_packets, hold_packets};
use flowproof_packet::PortNo;
use flowproof_proofs::check::{Engines, Judgement, Task, check};
use flowproof_proofs::diagram::Host;
use flowproof_proofs::ports;
use flowproof_proofs::properties::{Property, SENDER};
use flowproof_proofs::replay;
use flowproof_proofs::tables::Tables;
use flowproof_switch::conntrack::Profile;
use flowproof_switch::flow::Flow;
use std::collections::BTreeMap;

/// Packets of each form that one case sends through interpreter and symbolic execution.
const PACKETS: usize = 8;

/// Tables with what is proved of them. Of the counts of a case, packets are those held against it, and events the ways
/// out that interpreter and symbolic execution have in common.
#[derive(Debug)]
pub struct Bare {
    host: Host,
    claims: Vec<Claim>,
}

/// What is proved of a port under a datapath.
#[derive(Debug)]
struct Claim {
    /// Its place among the host's.
    port: usize,
    profile: Profile,
    proved: Vec<&'static Property>,
}

impl Bare {
    /// Derives the ports of these flows, and asks the diagram engine what holds of them; nothing if there is no
    /// filtered port.
    #[must_use]
    pub fn new(flows: Vec<Flow>) -> Option<Self> {
        let ports = ports::derive(&flows);
        let host = Host { tables: Tables::new(flows), ports, tags: BTreeMap::new() };
        let task = Task {
            host: &host,
            ports: host.ports.iter().collect(),
            properties: SENDER.iter().collect(),
            profiles: Profile::ALL.to_vec(),
            engines: Engines::Diagram,
            keep_queries: false,
            watch: &(),
        };
        let mut claims: Vec<Claim> = Vec::new();
        for port in 0..host.ports.len() {
            claims.extend(Profile::ALL.map(|profile| Claim { port, profile, proved: Vec::new() }));
        }
        for found in check(&task).findings {
            let claim = claims.iter_mut().find(|one| (one.port, one.profile) == (found.port, found.profile));
            if let (Some(claim), Judgement::Proved(_)) = (claim, &found.judgement) {
                claim.proved.push(found.property);
            }
        }
        (!claims.is_empty()).then_some(Self { host, claims })
    }

    /// Ports that the flows speak of.
    #[must_use]
    pub const fn ports(&self) -> usize {
        self.host.ports.len()
    }

    /// Verdicts that packets are held against.
    #[must_use]
    pub fn proved(&self) -> usize {
        self.claims.iter().map(|claim| claim.proved.len()).sum()
    }

    /// A case; it fails with an objection that names the packets to send again.
    pub(crate) fn case(&self, choices: &mut Choices<'_>) -> Case {
        let mut counts = Counts { cases: 1, ..Counts::default() };
        let mut coverage = Coverage::default();
        let all = self.host.tables.flows().iter().filter_map(Template::of);
        coverage.templates = all.map(|template| (template, false)).collect();
        let objection = self.ask(choices, &mut counts, &mut coverage).err();
        Case { counts, coverage, failing: objection.map(Failing::Packets) }
    }

    fn ask(
        &self,
        choices: &mut Choices<'_>,
        counts: &mut Counts,
        coverage: &mut Coverage,
    ) -> Result<(), Objection> {
        let claim = choices.pick(&self.claims);
        let Some(sender) = self.host.ports.get(claim.port) else { return Ok(()) };
        let held = Held { host: &self.host, sender, profile: claim.profile, proved: &claim.proved };
        hold_packets(choices, &held, |outcome| {
            let path = outcome.trace.iter().flat_map(|trace| trace.path());
            let hit = path.filter_map(|(_, id)| self.host.tables.flow(id)).filter_map(Template::of);
            coverage.templates.extend(hit.map(|template| (template, true)));
            counts.packets += 1;
        })?;
        let named = replay::ports(&self.host, sender);
        let named: Vec<PortNo> = named.iter().map(|port| port.ofport).collect();
        let at = (claim.profile, sender.ofport);
        // Tables that outgrow the memory of a pass are left to `prove`, which says so.
        let exits = compare_packets(choices, &self.host.tables, &named, at.0, at.1, PACKETS)?.unwrap_or(0);
        counts.steps += exits as u64;
        counts.drawn += exits as u64;
        Ok(())
    }
}
