//! What the properties of senders come to when a host's flows have changed a little: only those ports are asked
//! again whose frames may come to a flow that changed.
//!
//! A port's verdicts depend on the flows that its own frames can come to ([`crate::reach`]), in the tables of before and of
//! now; on its own addresses; and on what is known of all ports: their numbers, networks and VLANs. Where that is
//! as it was they are kept, and the flows that they show are looked up in the new tables. Verdicts that other ports'
//! frames had a part in (a connection that somebody else opens; `unknown` and `vacuous`, which say that nothing was found)
//! are never kept when anything changed.
//!
//! Invariant: the verdicts are those of [`crate::check::check`], which the tests hold them to. Deliberately absent: sections
//! B and D, where all senders have a part in each verdict.

use crate::{
    check::{self, Finding, Findings, Judgement, Task, Witness},
    diagram::Host,
    ports::Port,
    reach::{self, Reach},
    replay::Replay,
};
use flowproof_packet::PortNo;
use flowproof_switch::{
    flow::Flow,
    table::{self, FlowId},
};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHasher};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

/// What was found out about a host, for the next time.
#[derive(Debug)]
pub struct Kept {
    circumstances: Circumstances,
    tables: Arc<table::Tables>,
    reach: Arc<Reach>,
    /// By port.
    findings: BTreeMap<PortNo, Vec<Finding>>,
}

/// Everything but flows that verdicts depend on.
#[derive(Debug, PartialEq)]
struct Circumstances {
    ports: Vec<Port>,
    tags: BTreeMap<PortNo, Option<u16>>,
    named: Vec<PortNo>,
    vlans: BTreeSet<u16>,
    translates: bool,
    asked: (Vec<&'static str>, Vec<&'static str>, check::Engines),
}

impl Circumstances {
    fn of(task: &Task<'_>) -> Self {
        let Host { tables, ports, tags } = task.host;
        let properties = task.properties.iter().map(|property| property.name).collect();
        let profiles = task.profiles.iter().map(|profile| profile.name()).collect();
        Self {
            ports: ports.clone(),
            tags: tags.clone(),
            named: tables.named_ports().to_vec(),
            vlans: tables.vlans().clone(),
            translates: tables.translates(),
            asked: (properties, profiles, task.engines),
        }
    }
}

/// What was found, and for which ports anew.
#[derive(Debug)]
pub struct Again {
    /// As [`check::check`] has them.
    pub findings: Findings,
    /// The ports that were asked again.
    pub proved: Vec<PortNo>,
    /// Flows that are new, gone, or other than before.
    pub changed: usize,
    /// For the next time.
    pub kept: Kept,
}

/// Checks a host, with what was found out about it before.
#[must_use]
pub fn check_again(task: &Task<'_>, before: Option<Kept>) -> Again {
    let circumstances = Circumstances::of(task);
    let flows = task.host.tables.flows();
    let numbers: Vec<PortNo> = task.host.ports.iter().map(|port| port.ofport).collect();
    let reach = || Arc::new(Reach::new(&task.host.tables, &numbers));
    let mut reached = None;
    let mut known: BTreeMap<PortNo, Vec<Finding>> = BTreeMap::new();
    let mut changed = flows.len();
    if let Some(before) = before.filter(|before| before.circumstances == circumstances) {
        let difference = Difference::new(before.tables.flows(), flows);
        changed = difference.gone.len() + difference.new.len();
        let same = reach::is_same(&difference.gone, &difference.new);
        let reach = &*reached.insert(if same { Arc::clone(&before.reach) } else { reach() });
        let touched: BTreeSet<PortNo> = (difference.gone.iter().flat_map(|flow| before.reach.ports(flow)))
            .chain(difference.new.iter().flat_map(|flow| reach.ports(flow)))
            .collect();
        let kept = before.findings.into_iter().filter(|(port, _)| !touched.contains(port));
        known.extend(kept.filter_map(|(port, findings)| Some((port, still(findings, &difference)?))));
    }
    let asked: Vec<&Port> =
        task.ports.iter().copied().filter(|port| !known.contains_key(&port.ofport)).collect();
    let proved: Vec<PortNo> = asked.iter().map(|port| port.ofport).collect();
    let mut queries = Vec::new();
    if !asked.is_empty() {
        let found = check::check(&Task { ports: asked, ..task.clone() });
        queries = found.queries;
        for finding in found.findings {
            let Some(port) = proved.get(finding.port) else { continue };
            known.entry(*port).or_default().push(finding);
        }
    }
    let findings = Findings { findings: arranged(task, &known), queries };
    let tables = Arc::clone(task.host.tables.switch());
    let reach = reached.unwrap_or_else(reach);
    let kept = Kept { circumstances, tables, reach, findings: known };
    Again { findings, proved, changed, kept }
}

/// The findings by property, then port, then datapath, as places in the task; those of a port are in that order.
fn arranged(task: &Task<'_>, known: &BTreeMap<PortNo, Vec<Finding>>) -> Vec<Finding> {
    let of_port = |(port, of): (usize, &&Port)| {
        let findings = known.get(&of.ofport).map_or(&[][..], Vec::as_slice);
        findings
            .chunk_by(|a, b| a.property.name == b.property.name)
            .map(move |of| (of, port))
            .collect::<Vec<_>>()
    };
    let mut by_property: BTreeMap<&str, Vec<Finding>> = BTreeMap::new();
    for (findings, port) in task.ports.iter().enumerate().flat_map(of_port) {
        let Some(first) = findings.first() else { continue };
        let all = by_property.entry(first.property.name).or_default();
        all.extend(findings.iter().map(|finding| Finding { port, ..finding.clone() }));
    }
    let names = task.properties.iter().map(|property| property.name);
    names.filter_map(|name| by_property.remove(name)).flatten().collect()
}

/// How two lists of flows differ.
struct Difference<'a> {
    gone: Vec<&'a Flow>,
    new: Vec<&'a Flow>,
    /// Where the flows that are still there now are.
    place: Vec<Option<FlowId>>,
    /// Whether all of those are where they were.
    stays: bool,
}

/// What of a flow decides over packets.
fn same(a: &Flow, b: &Flow) -> bool {
    (a.table, a.priority) == (b.table, b.priority)
        && a.matching == b.matching
        && a.actions == b.actions
        && a.opaque_match == b.opaque_match
}

fn hash(flow: &Flow) -> u64 {
    let mut hasher = FxHasher::default();
    (flow.table, flow.priority, &flow.matching, &flow.actions).hash(&mut hasher);
    hasher.finish()
}

impl<'a> Difference<'a> {
    /// Flows that are where they were are found by their places, all others by a hash.
    fn new(before: &'a [Flow], now: &'a [Flow]) -> Self {
        let stay: Vec<bool> =
            before.par_iter().zip(now).with_min_len(4096).map(|(flow, other)| same(flow, other)).collect();
        let has_stayed = |at: usize| stay.get(at) == Some(&true);
        let mut by_hash: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        for (at, flow) in now.iter().enumerate().filter(|(at, _)| !has_stayed(*at)) {
            by_hash.entry(hash(flow)).or_default().push(at);
        }
        let mut difference = Self { gone: Vec::new(), new: Vec::new(), place: Vec::new(), stays: true };
        let mut seen: Vec<bool> = (0..now.len()).map(has_stayed).collect();
        for (at, flow) in before.iter().enumerate() {
            if has_stayed(at) {
                difference.place.push(Some(FlowId(at as u32)));
                continue;
            }
            let places = by_hash.get(&hash(flow)).into_iter().flatten();
            let found = places.copied().find(|place| now.get(*place).is_some_and(|other| same(flow, other)));
            difference.place.push(found.map(|place| FlowId(place as u32)));
            match found {
                Some(place) => {
                    seen.get_mut(place).into_iter().for_each(|seen| *seen = true);
                    difference.stays = false;
                }
                None => difference.gone.push(flow),
            }
        }
        difference.new = now.iter().zip(seen).filter(|(_, seen)| !seen).map(|(flow, _)| flow).collect();
        difference
    }

    /// Where a flow now is, if it is still there.
    fn place(&self, flow: FlowId) -> Option<FlowId> {
        self.place.get(flow.0 as usize).copied().flatten()
    }

    fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }
}

/// Findings of a port whose frames come to no flow that changed, as they are told now; nothing if they must be found again.
fn still(mut findings: Vec<Finding>, difference: &Difference<'_>) -> Option<Vec<Finding>> {
    for finding in &mut findings {
        let shown: [Option<&mut Arc<Replay>>; 2] = match &mut finding.judgement {
            Judgement::Refuted(replay) | Judgement::Proved(Witness::Escapes(replay)) => [Some(replay), None],
            Judgement::Proved(Witness::Twins { stopped, twin }) => [Some(stopped), Some(twin)],
            Judgement::Listed(_)
            | Judgement::Unknown(_)
            | Judgement::Vacuous(_)
            | Judgement::NoWorse(_)
            | Judgement::Contradiction(_) => {
                difference.is_empty().then_some(())?;
                [None, None]
            }
        };
        for replay in shown.into_iter().flatten() {
            (replay.prelude == 0 || difference.is_empty()).then_some(())?;
            let there = replay.path.iter().all(|(_, flow)| difference.place(*flow).is_some());
            there.then_some(())?;
            if !difference.stays {
                let now = |(table, flow): &(u8, FlowId)| Some((*table, difference.place(*flow)?));
                Arc::make_mut(replay).path = replay.path.iter().filter_map(now).collect();
            }
        }
    }
    Some(findings)
}
