//! The flows of a host, arranged as both engines walk them: by table, by falling priority, in file order.
//!
//! Invariants: the flows of one [`Level`] have one priority; ordinary and conjunctive flows are kept apart; flows that are
//! [alike](Tables::like) do the same to every packet that hits them.

use crate::{flat, index::Index, symbolic::Emit};
use flowproof_packet::{Field, PortNo, port};
use flowproof_switch::{
    conntrack::state,
    flow::{Action, Conjunction, Flow, Match, Nat, in_plain_words, ports},
    table::{self, FlowId},
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The flows of one table that share a priority.
#[derive(Debug, Default, Clone)]
pub struct Level {
    /// Flows with ordinary actions.
    pub hard: Vec<FlowId>,
    /// Flows with `conjunction()` actions, one entry for each such action.
    pub soft: Vec<(FlowId, Conjunction)>,
    /// Finds those of either that a key may match.
    pub index: Indices,
}

/// Where to look for flows of one priority.
#[derive(Debug, Default, Clone)]
pub struct Indices {
    /// Flows with ordinary actions.
    pub hard: Index,
    /// Flows with `conjunction()` actions.
    pub soft: Index,
}

/// All flows of a host.
#[derive(Debug, Default)]
pub struct Tables {
    switch: Arc<table::Tables>,
    /// The flows without lists inside their lists of actions, where they differ from those of the switch.
    flat: Option<Vec<Flow>>,
    levels: BTreeMap<u8, Vec<Level>>,
    ports: Vec<PortNo>,
    local: bool,
    reads_in_port: bool,
    vlans: BTreeSet<u16>,
    like: Vec<FlowId>,
    hidden: FxHashSet<FlowId>,
    translates: bool,
    learned: BTreeSet<u8>,
}

impl Tables {
    /// Arranges `flows`, as a switch would hold them.
    #[must_use]
    pub fn new(flows: Vec<Flow>) -> Self {
        let switch = table::Tables::new(flows);
        let levels = switch.numbers().map(|table| (table, levels(&switch, table))).collect();
        let flat = flat::flows(switch.flows());
        let flows = flat.as_deref().unwrap_or(switch.flows());
        let mut named = ports::named(flows);
        let local = named.remove(&port::LOCAL);
        let reads_in_port = flows.iter().any(ports::reads_in_port);
        let vlans = flows.iter().filter_map(vlan).collect();
        let hidden = hidden(flows);
        let like = like(flows, &hidden);
        let ports = named.into_iter().collect();
        let translates = flows.iter().chain(switch.flows()).any(translates);
        let learned = flows.iter().chain(switch.flows()).flat_map(learned).collect();
        let switch = Arc::new(switch);
        Self { levels, ports, local, reads_in_port, vlans, like, hidden, flat, switch, translates, learned }
    }

    /// The first flow that is like this one: of its table, with its actions, for the same port register, for untracked packets only
    /// if this is, a table's miss entry if this is one, and hidden if this is. Who knows that one of them was hit knows what becomes of the packet, and whose rule it was.
    #[must_use]
    pub fn like(&self, id: FlowId) -> FlowId {
        self.like.get(id.0 as usize).copied().unwrap_or(id)
    }

    /// Whether the lookup that follows a satisfied conjunction does not see this flow: a clause with the same match and a higher
    /// priority hides it.
    #[must_use]
    pub fn is_hidden(&self, id: FlowId) -> bool {
        self.hidden.contains(&id)
    }

    /// Whether some connection may be translated: as long as none is, a bare `nat` changes nothing.
    #[must_use]
    pub const fn translates(&self) -> bool {
        self.translates
    }

    /// What is not known of lookups in a table: the flows that `learn` has added by then.
    #[must_use]
    pub fn added(&self, table: u8) -> Option<Emit> {
        self.learned.contains(&table).then(|| Emit::Opaque(format!("flows that learn adds to table {table}")))
    }

    /// Takes connections for translated if either tables may do so, for those who compare both.
    pub fn translate_like(&mut self, other: &mut Self) {
        self.translates |= other.translates;
        other.translates = self.translates;
    }

    /// The ports that flows name ([`ports::named`]), ascending; reserved numbers are none.
    #[must_use]
    pub fn named_ports(&self) -> &[PortNo] {
        &self.ports
    }

    /// Whether flows name the bridge's own port, `LOCAL`, too.
    #[must_use]
    pub const fn names_local(&self) -> bool {
        self.local
    }

    /// Whether flows may tell ports apart that none of them names ([`ports::reads_in_port`]).
    #[must_use]
    pub const fn reads_in_port(&self) -> bool {
        self.reads_in_port
    }

    /// The VLAN ids that flows match on, but for 0.
    #[must_use]
    pub const fn vlans(&self) -> &BTreeSet<u16> {
        &self.vlans
    }

    /// The same flows as the interpreter holds them.
    #[must_use]
    pub const fn switch(&self) -> &Arc<table::Tables> {
        &self.switch
    }

    /// The flows, in file order, without lists inside their lists of actions.
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        self.flat.as_deref().unwrap_or_else(|| self.switch.flows())
    }

    /// One flow.
    #[must_use]
    pub fn flow(&self, id: FlowId) -> Option<&Flow> {
        self.flows().get(id.0 as usize)
    }

    /// The priorities of a table, highest first.
    #[must_use]
    pub fn levels(&self, table: u8) -> &[Level] {
        self.levels.get(&table).map_or(&[], Vec::as_slice)
    }
}

/// The tables that a flow's `learn` adds to.
fn learned(flow: &Flow) -> impl Iterator<Item = u8> + '_ {
    let of = |action: &Action| if let Action::Learn(learn) = action { Some(learn.table) } else { None };
    flow.all_actions().filter_map(of)
}

/// Whether a flow begins a translation, wherever that stands in its actions; a group that is not known may.
fn translates(flow: &Flow) -> bool {
    let nests = |action: &Action| {
        matches!(action, Action::Clone(_) | Action::Group(_) | Action::WriteActions(_) | Action::Opaque(_))
    };
    flow.actions.iter().any(|action| {
        if let Action::Ct(ct) = action {
            return matches!(ct.nat, Some(Nat::New(_)));
        }
        let text = if nests(action) { format!("{action:?}") } else { String::new() };
        ["nat: Some(New", "nat(", "group: None"].iter().any(|word| text.contains(word))
    })
}

fn levels(switch: &table::Tables, table: u8) -> Vec<Level> {
    let mut levels: BTreeMap<u16, Level> = BTreeMap::new();
    for id in switch.in_table(table) {
        let Some(flow) = switch.flow(*id) else { continue };
        let level = levels.entry(flow.priority).or_default();
        let clauses: Vec<Conjunction> = clauses(flow).collect();
        if clauses.is_empty() {
            level.hard.push(*id);
        } else {
            level.soft.extend(clauses.into_iter().map(|clause| (*id, clause)));
        }
    }
    for level in levels.values_mut() {
        let mut soft: Vec<FlowId> = level.soft.iter().map(|(id, _)| *id).collect();
        soft.dedup();
        level.index = Indices { hard: Index::new(switch, &level.hard), soft: Index::new(switch, &soft) };
    }
    levels.into_values().rev().collect()
}

/// The ordinary flows that have a clause with the same match above them.
fn hidden(flows: &[Flow]) -> FxHashSet<FlowId> {
    let mut above: FxHashMap<(u8, &Match), u16> = FxHashMap::default();
    for flow in flows.iter().filter(|flow| clauses(flow).next().is_some()) {
        let priority = above.entry((flow.table, &flow.matching)).or_insert(flow.priority);
        *priority = (*priority).max(flow.priority);
    }
    let hides =
        |flow: &Flow| above.get(&(flow.table, &flow.matching)).is_some_and(|top| *top > flow.priority);
    let all = flows.iter().enumerate().filter(|(_, flow)| clauses(flow).next().is_none() && hides(flow));
    all.map(|(at, _)| FlowId(at as u32)).collect()
}

fn like(flows: &[Flow], hidden: &FxHashSet<FlowId>) -> Vec<FlowId> {
    let mut first = FxHashMap::default();
    let mut like = Vec::with_capacity(flows.len());
    for (at, flow) in flows.iter().enumerate() {
        let does = (flow.table, in_plain_words(&flow.actions), flow.opaque_match.as_slice());
        let is_hidden = hidden.contains(&FlowId(at as u32));
        let of = (flow.matching.get(Field::Reg5), is_untracked(flow), is_miss(flow), is_hidden);
        like.push(*first.entry((does, of)).or_insert(FlowId(at as u32)));
    }
    like
}

/// Whether a flow is for packets only that no connection tracking has looked at.
pub(crate) fn is_untracked(flow: &Flow) -> bool {
    let (value, mask) = flow.matching.get(Field::CtState);
    let trk = u128::from(state::TRK);
    mask & trk != 0 && value & trk == 0
}

/// Whether a flow is its table's miss entry: of priority 0, for everything (OpenFlow 1.3, 5.4).
pub(crate) fn is_miss(flow: &Flow) -> bool {
    flow.priority == 0 && flow.matching == Match::default()
}

fn vlan(flow: &Flow) -> Option<u16> {
    flow.matching.exact(Field::VlanVid).and_then(|vid| u16::try_from(vid).ok()).filter(|vid| *vid != 0)
}

/// The clauses that a flow stands for.
pub fn clauses(flow: &Flow) -> impl Iterator<Item = Conjunction> {
    flow.actions.iter().filter_map(conjunction)
}

const fn conjunction(action: &Action) -> Option<Conjunction> {
    if let Action::Conjunction(clause) = action { Some(*clause) } else { None }
}
