//! Which packets may be told apart at all: those that hit a flow that only one of two tables has.
//!
//! A packet that hits the same flows in both goes the same way. Where a conjunction's clause is changed, the flows that its
//! conjunction may lead to count as changed, and so does what is not modelled where something may be changed behind it. Before the packets are followed, flows that lead to no change are cut off: a
//! walk backwards from the changed flows that minds what registers are loaded with, and no more.
//!
//! Invariant: cutting loses no packet that hits a changed flow. Its slow twin follows all packets everywhere.

use crate::{
    arrival::Arrival,
    bdd::{Bdd, Bdds},
    beyond::Beyond,
    frames,
    predicate::literals,
    set::{Literal, PacketSets},
    symbolic::{self, Emit, Event, Memory, SECOND_TAG, Start},
    symkey::{Form, SymKey},
    tables::{Tables, clauses},
};
use flowproof_packet::{
    Field, Prerequisite,
    key::{WORDS, masked_words},
};
use flowproof_switch::{
    conntrack::Profile,
    flow::{Action, Conjunction, Flow, Match, in_plain_words},
    table::FlowId,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

const MARK: &str = "flowproof marks ";
/// Flows of one table that lead to a change, after which every way into it is taken to.
const MANY: usize = 64;

/// The flows that only one of two tables has.
pub(super) struct Changes<'f> {
    flows: Vec<&'f Flow>,
    tables: BTreeSet<u8>,
}

impl<'f> Changes<'f> {
    pub(super) fn new(a: &'f [Flow], b: &'f [Flow]) -> Self {
        let of = |flows: &'f [Flow]| -> FxHashSet<Key<'f>> { flows.iter().map(key).collect() };
        let (of_a, of_b) = (of(a), of(b));
        let only_a = a.iter().filter(|flow| !of_b.contains(&key(flow)));
        let only_b = b.iter().filter(|flow| !of_a.contains(&key(flow)));
        let flows: Vec<&Flow> = only_a.chain(only_b).collect();
        Self { tables: flows.iter().map(|flow| flow.table).collect(), flows }
    }

    /// Flows with something that is not modelled, and behind which packets may come to a change: what they come to there in the
    /// one table says nothing about the other.
    pub(super) fn ahead_of(&self, tables: &Tables) -> FxHashSet<FlowId> {
        let beyond = Beyond::new(tables);
        let mut known: FxHashMap<FlowId, bool> = FxHashMap::default();
        let causes = (0..).map(FlowId).zip(tables.flows()).filter(|(_, flow)| Beyond::is_cause(flow, tables));
        let leads = |id: &FlowId| {
            let like = tables.like(*id);
            *known.entry(like).or_insert_with(|| !beyond.behind([like]).is_disjoint(&self.tables))
        };
        causes.map(|(id, _)| id).filter(leads).collect()
    }
}

/// Two tables in which packets go no further than to the first flow that is changed.
#[derive(Debug)]
pub(crate) struct Marked {
    tables: [Tables; 2],
    /// Flows with a match that is not modelled, and behind which something may be changed.
    hidden: [FxHashSet<FlowId>; 2],
    /// Changed flows that are clauses of conjunctions.
    soft: Vec<Match>,
    /// What packets must be as they come in to match any changed flow; nothing where that says nothing.
    entering: Option<Vec<Vec<Literal>>>,
}

type Key<'f> = (u8, u16, &'f Match, &'f [String], Cow<'f, [Action]>);

fn key(flow: &Flow) -> Key<'_> {
    (flow.table, flow.priority, &flow.matching, &flow.opaque_match, in_plain_words(&flow.actions))
}

impl Marked {
    /// Marks what is changed.
    pub(super) fn new(of_a: &Tables, of_b: &Tables) -> Self {
        let (a, b) = (of_a.flows(), of_b.flows());
        let changes = Changes::new(a, b);
        let ahead = [of_a, of_b].map(|tables| changes.ahead_of(tables));
        let soft: Vec<(&Flow, Conjunction)> =
            changes.flows.iter().flat_map(|flow| clauses(flow).map(move |clause| (*flow, clause))).collect();
        let peers = peers(&soft, a, b);
        let mark = |flows: &[Flow], others: &FxHashSet<Key<'_>>, ahead: &FxHashSet<FlowId>| {
            let why = |(id, flow): (FlowId, &Flow)| {
                if clauses(flow).next().is_some() {
                    return None;
                }
                if !others.contains(&key(flow)) || ahead.contains(&id) {
                    return Some(MARK.to_owned());
                }
                let through =
                    soft.iter().enumerate().filter(|(_, (clause, of))| leads(clause, *of, flow, &peers));
                let through: Vec<String> = through.map(|(at, _)| at.to_string()).collect();
                (!through.is_empty()).then(|| format!("{MARK}{}", through.join(" ")))
            };
            (0..).map(FlowId).zip(flows).map(why).collect::<Vec<Option<String>>>()
        };
        let [in_a, in_b] = [a, b].map(|flows| flows.iter().map(key).collect::<FxHashSet<Key<'_>>>());
        let [ahead_a, ahead_b] = &ahead;
        let marks = [mark(a, &in_b, ahead_a), mark(b, &in_a, ahead_b)];
        let [marks_a, marks_b] = &marks;
        let tables = [cut(a, marks_a), cut(b, marks_b)];
        let hidden = [(a, marks_a), (b, marks_b)].map(|(flows, marks)| {
            let all = (0..).map(FlowId).zip(flows).zip(marks);
            let hidden = all.filter(|((_, flow), mark)| mark.is_some() && !flow.opaque_match.is_empty());
            hidden.map(|((id, _), _)| id).collect()
        });
        let soft = soft.iter().map(|(flow, _)| flow.matching.clone()).collect();
        let ahead = [(of_a, ahead_a), (of_b, ahead_b)]
            .into_iter()
            .flat_map(|(tables, ahead)| ahead.iter().filter_map(|id| tables.flow(*id)));
        let concerned: Vec<&Flow> = changes.flows.iter().copied().chain(ahead).collect();
        Self { tables, hidden, soft, entering: entering(&concerned, a, b) }
    }

    /// The packets that hit a changed flow of either; all where that cannot be said.
    pub(crate) fn packets(
        &self,
        sets: &mut Bdds,
        (profile, form, arrival): (Profile, Form, Arrival),
        packets: Bdd,
    ) -> Bdd {
        let all = packets;
        let mut packets = packets;
        if let Some(cubes) = &self.entering {
            let wanted = cubes.iter().fold(sets.none(), |sum, literals| {
                let cube = sets.cube(literals);
                sets.or(sum, cube)
            });
            packets = sets.and(packets, wanted);
        }
        let mut relevant = sets.none();
        for (tables, hidden) in self.tables.iter().zip(&self.hidden) {
            let key = SymKey::entering_anywhere(form, arrival);
            let start = Start { tables, profile, form, key, packets, enough: usize::MAX, each_flow: false };
            let run = symbolic::execute_with(sets, &mut Memory::default(), start, None);
            if !run.complete {
                return all;
            }
            for event in &run.events {
                let here = self.marked(sets, event, hidden);
                relevant = sets.or(relevant, here);
            }
        }
        relevant
    }

    fn marked(&self, sets: &mut Bdds, event: &Event<Bdd>, hidden: &FxHashSet<FlowId>) -> Bdd {
        let is_hidden = event.path.as_ref().is_some_and(|step| hidden.contains(&step.flow));
        let text = match &event.emit {
            Emit::Limit => return event.packets,
            Emit::Opaque(text) if is_hidden || text == SECOND_TAG => return event.packets,
            Emit::Opaque(text) => text.strip_prefix(MARK),
            Emit::Port(_)
            | Emit::UnknownPort
            | Emit::InPort
            | Emit::Normal
            | Emit::Flood
            | Emit::Controller => None,
        };
        match text {
            None => sets.none(),
            Some("") => event.packets,
            Some(through) => {
                let clauses = through.split(' ').filter_map(|at| self.soft.get(at.parse::<usize>().ok()?));
                let seen = Event { key: event.key.seen(), ..event.clone() };
                let mut sum = sets.none();
                for clause in clauses {
                    let here = frames::select(sets, &seen, clause);
                    sum = sets.or(sum, here);
                }
                sum
            }
        }
    }
}

/// Cubes after which it is not worth the while.
const MOST_CUBES: usize = 2048;

/// What packets must be as they come in to match one of these flows, as far as no action rewrites it.
fn entering(changed: &[&Flow], a: &[Flow], b: &[Flow]) -> Option<Vec<Vec<Literal>>> {
    const STABLE: &[Field] = &[
        Field::DlSrc,
        Field::DlDst,
        Field::DlType,
        Field::NwSrc,
        Field::NwDst,
        Field::Ipv6Src,
        Field::Ipv6Dst,
    ];
    let all = || a.iter().chain(b).flat_map(|flow| &flow.actions);
    let rewrites = |field: &Field| {
        all().any(|action| {
            if let Action::Set { field: of, .. } = action {
                of.spec().offset == field.spec().offset
            } else if let Action::Move { dst, .. } | Action::Pop(dst) = action {
                dst.field.spec().offset == field.spec().offset
            } else {
                // Behind a second tag there is another frame.
                matches!(action, Action::PushVlan(_)) && *field == Field::DlType
            }
        })
    };
    let stable: Vec<Field> = STABLE.iter().copied().filter(|field| !rewrites(field)).collect();
    let cube = |flow: &&Flow| -> Vec<Literal> {
        let parts = stable.iter().map(|field| (*field, flow.matching.get(*field)));
        parts.flat_map(|(field, (value, mask))| literals(field, value, mask)).collect()
    };
    let mut cubes: Vec<Vec<Literal>> = changed.iter().map(cube).collect();
    cubes.sort_unstable();
    cubes.dedup();
    (cubes.len() <= MOST_CUBES && cubes.iter().all(|cube| !cube.is_empty())).then_some(cubes)
}

/// The clauses of the conjunctions in question, by table, priority, number and clause.
type Peers<'f> = BTreeMap<(u8, u16, u32, u8), Vec<&'f Match>>;

fn peers<'f>(soft: &[(&Flow, Conjunction)], a: &'f [Flow], b: &'f [Flow]) -> Peers<'f> {
    let wanted: FxHashSet<(u8, u32)> = soft.iter().map(|(flow, of)| (flow.table, of.id)).collect();
    let mut peers = Peers::new();
    for flow in a.iter().chain(b) {
        for of in clauses(flow).filter(|of| wanted.contains(&(flow.table, of.id))) {
            peers.entry((flow.table, flow.priority, of.id, of.clause)).or_default().push(&flow.matching);
        }
    }
    peers
}

/// Whether satisfying this conjunction may make a packet hit `flow`.
fn leads(clause: &Flow, of: Conjunction, flow: &Flow, peers: &Peers<'_>) -> bool {
    if flow.table != clause.table || !flow.matching.overlaps(&clause.matching) {
        return false;
    }
    if let Some(id) = flow.matching.exact(Field::ConjId) {
        return id == u128::from(of.id);
    }
    let mut others = (1..=of.clauses).filter(|number| *number != of.clause);
    flow.priority < clause.priority
        && others.all(|number| {
            let peers = peers.get(&(clause.table, clause.priority, of.id, number));
            peers.into_iter().flatten().any(|peer| peer.overlaps(&flow.matching))
        })
}

/// What is known of a packet's key behind a flow's match.
#[derive(Clone)]
struct Known {
    mask: [u64; WORDS],
    value: [u64; WORDS],
}

impl Known {
    fn of(matching: &Match) -> Self {
        let mut known = Self { mask: [0; WORDS], value: [0; WORDS] };
        for part in matching.words() {
            known.put(part.word, part.mask, part.value, true);
        }
        known.forget(Field::ConjId);
        known
    }

    fn put(&mut self, word: u8, mask: u64, value: u64, is_known: bool) {
        let at = usize::from(word);
        if let (Some(known), Some(old)) = (self.mask.get_mut(at), self.value.get_mut(at)) {
            *known = if is_known { *known | mask } else { *known & !mask };
            *old = *old & !mask | value & mask;
        }
    }

    fn forget(&mut self, field: Field) {
        for part in masked_words(field, 0, u128::MAX) {
            self.put(part.word, part.mask, 0, false);
        }
    }

    /// What a `ct()` leaves alone.
    fn behind_ct(&self) -> Self {
        let mut there = Self { mask: [0; WORDS], value: [0; WORDS] };
        for part in REGISTERS.iter().flat_map(|register| masked_words(*register, 0, u128::MAX)) {
            let at = usize::from(part.word);
            let (mask, value) = (self.mask.get(at), self.value.get(at));
            let mask = mask.copied().unwrap_or(0) & part.mask;
            there.put(part.word, mask, value.copied().unwrap_or(0), true);
        }
        there
    }

    fn may_match(&self, matching: &Match) -> bool {
        matching.words().iter().all(|part| {
            let at = usize::from(part.word);
            let (mask, value) = (self.mask.get(at), self.value.get(at));
            (value.copied().unwrap_or(0) ^ part.value) & part.mask & mask.copied().unwrap_or(0) == 0
        })
    }
}

/// The tables that a flow calls, with what is known of the key there.
fn calls(flow: &Flow) -> Vec<(u8, Known)> {
    let (mut known, mut calls) = (Known::of(&flow.matching), Vec::new());
    let unknown = Known { mask: [0; WORDS], value: [0; WORDS] };
    for action in &flow.actions {
        if let Action::Resubmit { table, port, .. } = action {
            let mut there = known.clone();
            if port.is_some() {
                there.forget(Field::InPort);
            }
            calls.push((table.unwrap_or(flow.table), there));
            known = unknown.clone();
        } else if let Action::GotoTable(table) = action {
            calls.push((*table, known.clone()));
        } else if let Action::Set { field, value, mask, .. } = action {
            // What a packet does not have is not written.
            if field.spec().prerequisite != Prerequisite::None {
                known.forget(*field);
            } else {
                masked_words(*field, *value, *mask)
                    .for_each(|part| known.put(part.word, part.mask, part.value, true));
            }
        } else if let Action::Move { dst, .. } = action {
            known.forget(dst.field);
        } else if let Action::Ct(ct) = action {
            let there = known.behind_ct();
            calls.extend(ct.table.map(|table| (table, there.clone())));
            known = there;
        } else if !matches!(action, Action::Output(_) | Action::Note(_)) {
            known = unknown.clone();
        }
    }
    calls
}

/// Registers: what a `ct()` leaves alone.
const REGISTERS: &[Field] = &[Field::Xxreg0, Field::Xxreg1, Field::Xxreg2, Field::Xxreg3, Field::Metadata];

/// The flows that are marked, what leads to them, and nothing else.
fn cut(flows: &[Flow], marks: &[Option<String>]) -> Tables {
    let mut leading: Vec<bool> = marks.iter().map(Option::is_some).collect();
    let mut targets: BTreeMap<u8, Vec<&Match>> = BTreeMap::new();
    for (flow, _) in flows.iter().zip(marks).filter(|(_, mark)| mark.is_some()) {
        targets.entry(flow.table).or_default().push(&flow.matching);
    }
    let calls: Vec<Vec<(u8, Known)>> = flows.iter().map(calls).collect();
    loop {
        let mut grew = false;
        for (at, flow) in flows.iter().enumerate() {
            if leading.get(at) == Some(&true) {
                continue;
            }
            let comes = |(table, known): &(u8, Known)| {
                let there = targets.get(table).map_or(&[][..], Vec::as_slice);
                there.len() > MANY || there.iter().any(|matching| known.may_match(matching))
            };
            if calls.get(at).is_some_and(|calls| calls.iter().any(comes)) {
                leading.get_mut(at).into_iter().for_each(|leads| *leads = true);
                targets.entry(flow.table).or_default().push(&flow.matching);
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    let flows = flows.iter().zip(marks).zip(&leading).map(|((flow, marked), leads)| {
        let actions = match (marked, leads) {
            (Some(mark), _) if mark == MARK => vec![Action::Opaque(mark.clone())],
            // Not all that hit it need be concerned: they go on.
            (Some(mark), _) => {
                [Action::Opaque(mark.clone())].into_iter().chain(flow.actions.iter().cloned()).collect()
            }
            (None, true) => flow.actions.clone(),
            (None, false) if clauses(flow).next().is_some() => flow.actions.clone(),
            (None, false) => Vec::new(),
        };
        Flow { actions, ..flow.clone() }
    });
    Tables::new(flows.collect())
}
