//! What a campaign has reached: reasons of the model, templates of flows, known divergences.
//!
//! A template is what the flows of one line of a compiler have in common. Invariant: merging is the union, in any
//! order. Deliberately absent: code coverage, which is for those who instrument.

use flowproof_compiler::Layout;
use flowproof_lockstep::scenario::switches_of;
use flowproof_lockstep::{Observation, reason};
use flowproof_model::switches::GroupAddressed;
use flowproof_packet::Field;
use flowproof_switch::flow::{Action, Flow};
use flowproof_switch::table::{FlowId, Tables};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What flows that come from one line of a compiler have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    /// The table.
    pub table: u8,
    /// The priority.
    pub priority: u16,
    /// The ethertype, if one is matched.
    pub ethertype: Option<u16>,
}

impl Template {
    /// The template of a flow; none for flows that no packet can end in: clauses of conjunctions.
    #[must_use]
    pub fn of(flow: &Flow) -> Option<Self> {
        let clause = flow.actions.iter().any(|action| matches!(action, Action::Conjunction(_)));
        let ethertype = flow.matching.exact(Field::DlType).map(|value| value as u16);
        (!clause).then_some(Self { table: flow.table, priority: flow.priority, ethertype })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}, priority {}", self.table, self.priority)?;
        self.ethertype.map_or(Ok(()), |ethertype| write!(f, ", {ethertype:#06x}"))
    }
}

/// Templates that no scenario has a packet for: layout, table, priority (all of them without one), and why.
const UNREACHABLE: &[(&str, u8, Option<u16>, &str)] = &[
    ("mitaka", 71, Some(0), "each port has a lower flow of its own"),
    ("mitaka", 72, Some(0), "each port has a lower flow of its own"),
    ("mitaka", 73, Some(0), "each port has a lower flow of its own"),
    ("mitaka", 82, Some(0), "each port has a lower flow of its own"),
    ("mitaka", 23, None, "nothing leads there"),
    ("mitaka", 24, None, "nothing leads there"),
    ("neutron", 23, None, "nothing leads there"),
    ("neutron", 24, None, "nothing leads there"),
    ("neutron", 30, Some(0), "local addresses of the agent"),
    ("neutron", 31, Some(0), "local addresses of the agent"),
    ("neutron", 62, Some(3), "the agent's, for hardware offload"),
    ("neutron", 71, Some(0), "each port has a lower flow of its own"),
    ("neutron", 71, Some(110), "no packet enters already tracked"),
    ("neutron", 72, Some(0), "each port has a lower flow of its own"),
    ("neutron", 73, Some(0), "each port has a lower flow of its own"),
    ("neutron", 82, Some(0), "each port has a lower flow of its own"),
    ("strict", 23, None, "nothing leads there"),
    ("strict", 24, None, "nothing leads there"),
    ("strict", 71, Some(120), "no packet enters already tracked"),
    ("strict", 73, Some(0), "each network has a lower flow of its own"),
    ("strict", 74, Some(0), "each network has its own flow"),
    ("strict", 83, Some(0), "each port has a lower flow of its own"),
];

/// Why no packet of a scenario reaches a template, if none can.
#[must_use]
pub fn unreachable(layout: Option<Layout>, template: Template) -> Option<&'static str> {
    let name = layout?.name();
    let row = UNREACHABLE.iter().find(|(of, table, priority, _)| {
        *of == name && *table == template.table && priority.is_none_or(|it| it == template.priority)
    });
    row.map(|(.., why)| *why)
}

/// What was reached under one layout, or in tables that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Reasons of the model's verdicts.
    pub reasons: BTreeSet<&'static str>,
    /// Templates that were in the tables, each with whether a packet reached it.
    pub templates: BTreeMap<Template, bool>,
    /// Packets that showed a known divergence, by its name.
    pub known: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Adds what another has reached.
    pub fn merge(&mut self, other: &Self) {
        self.reasons.extend(&other.reasons);
        for (template, hit) in &other.templates {
            *self.templates.entry(*template).or_default() |= hit;
        }
        for (name, count) in &other.known {
            *self.known.entry(name).or_default() += count;
        }
    }

    /// Templates that are reached, and all that packets could reach.
    #[must_use]
    pub fn reached(&self, layout: Option<Layout>) -> (usize, usize) {
        let reachable = || self.templates.iter().filter(|(one, _)| unreachable(layout, **one).is_none());
        (reachable().filter(|(_, hit)| **hit).count(), reachable().count())
    }

    /// Templates that a packet could reach and none did.
    #[must_use]
    pub fn missed(&self, layout: Option<Layout>) -> Vec<Template> {
        let missed =
            |(one, hit): (&Template, &bool)| (!hit && unreachable(layout, *one).is_none()).then_some(*one);
        self.templates.iter().filter_map(missed).collect()
    }

    /// Reasons that a verdict could have and none had.
    #[must_use]
    pub fn unnamed(&self, layout: Option<Layout>) -> Vec<&'static str> {
        let switches = switches_of(layout);
        let possible = |name: &str| match switches.group_addressed {
            GroupAddressed::Flooded => true,
            GroupAddressed::Filtered => name != "flooded",
        };
        let met = |name: &&'static str| self.reasons.contains(name);
        reason::NAMES.iter().copied().filter(|name| !met(name) && possible(name)).collect()
    }
}

/// Gathers coverage packet by packet.
#[derive(Debug, Default)]
pub struct Gatherer {
    coverage: Coverage,
    tables: Option<Arc<Tables>>,
    hit: BTreeSet<FlowId>,
}

impl Gatherer {
    /// Takes note of a packet, and of the name of what is known about it.
    pub fn see(&mut self, seen: &Observation, known: Option<&'static str>) {
        if !self.tables.as_ref().is_some_and(|tables| Arc::ptr_eq(tables, &seen.tables)) {
            self.settle();
            self.tables = Some(Arc::clone(&seen.tables));
        }
        let traces = seen.outcomes.iter().filter_map(|outcome| outcome.trace.as_ref());
        self.hit.extend(traces.flat_map(|trace| trace.path()).map(|(_, id)| id));
        let verdicts = seen.model.iter().flat_map(|one| [&one.outcome.egress, &one.outcome.ingress]);
        self.coverage.reasons.extend(verdicts.map(reason::name));
        if let Some(name) = known {
            *self.coverage.known.entry(name).or_default() += 1;
        }
    }

    /// Tables that were in force, as templates.
    fn settle(&mut self) {
        let Some(tables) = self.tables.take() else { return };
        for template in tables.flows().iter().filter_map(Template::of) {
            self.coverage.templates.entry(template).or_default();
        }
        let hit = std::mem::take(&mut self.hit);
        for template in hit.into_iter().filter_map(|id| tables.flow(id)).filter_map(Template::of) {
            self.coverage.templates.insert(template, true);
        }
    }

    /// All that was gathered.
    #[must_use]
    pub fn finish(mut self) -> Coverage {
        self.settle();
        self.coverage
    }
}
