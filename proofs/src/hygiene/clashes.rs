//! Flows of one priority that do different things, and that some packet matches both of, wherever it comes from.
//!
//! Two flows that look at the same bits are apart, or they would be one. Of those that do not, each says what it wants of the
//! bits that both look at, and a hash of that finds those that agree. A conjunction is taken for a flow that wants what all flows
//! of each clause want. Invariant: of two flows that any execution finds to be rivals, both are among the [`suspects`].

use super::includes;
use crate::{
    effects::{ANSWERS, UNTRACKED},
    tables::{Level, Tables},
};
use flowproof_packet::{
    Field,
    key::{MaskedWord, WORDS, masked_words},
};
use flowproof_switch::{
    flow::{Action, Flow, Match, in_plain_words},
    table::FlowId,
};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::{SmallVec, smallvec};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Kinds of matches in one priority with which it is not tried.
const MOST_SHAPES: usize = 400;

/// What a flow does, numbered.
type Deed = u32;
type Words = SmallVec<[u64; 8]>;
type Shape = SmallVec<[(u8, u64); 8]>;

/// A flow, or what satisfies a conjunction: what packets are that hit it, what is done to them, and which flow it is or may be.
struct Entry<W> {
    wants: W,
    deed: Deed,
    flows: SmallVec<[FlowId; 1]>,
}

impl Entry<Vec<MaskedWord>> {
    fn borrow(&self) -> Entry<&[MaskedWord]> {
        Entry { wants: &self.wants, deed: self.deed, flows: self.flows.clone() }
    }
}

/// Flows that may clash with others; nothing where it is not known which.
pub(super) fn suspects(tables: &Tables) -> Option<BTreeSet<FlowId>> {
    let (deeds, mut suspects) = (deeds(tables), BTreeSet::new());
    for table in tables.switch().numbers() {
        for level in tables.levels(table) {
            of_level(tables, &deeds, table, level, &mut suspects)?;
        }
    }
    Some(suspects)
}

/// For each flow, what it does.
fn deeds(tables: &Tables) -> Vec<Deed> {
    let mut known: FxHashMap<(Cow<'_, [Action]>, &[String]), Deed> = FxHashMap::default();
    let mut deeds: Vec<Deed> = Vec::with_capacity(tables.flows().len());
    for (at, flow) in tables.flows().iter().enumerate() {
        let like = tables.like(FlowId(at as u32)).0 as usize;
        let next = known.len() as Deed;
        let of = || (in_plain_words(&flow.actions), flow.opaque_match.as_slice());
        let deed = deeds.get(like).copied().unwrap_or_else(|| *known.entry(of()).or_insert(next));
        deeds.push(deed);
    }
    deeds
}

fn of_level(
    tables: &Tables,
    deeds: &[Deed],
    table: u8,
    level: &Level,
    suspects: &mut BTreeSet<FlowId>,
) -> Option<()> {
    let entry = |id: &FlowId| {
        let wants = tables.flow(*id)?.matching.words();
        Some(Entry { wants, deed: deed(deeds, *id), flows: smallvec![*id] })
    };
    apart(&level.hard.iter().filter_map(entry).collect::<Vec<_>>(), suspects)?;
    let soft = conjunctions(tables, deeds, table, level)?;
    apart(&soft.iter().map(Entry::borrow).collect::<Vec<_>>(), suspects)
}

fn deed(deeds: &[Deed], id: FlowId) -> Deed {
    deeds.get(id.0 as usize).copied().unwrap_or_default()
}

/// What packets are at least that satisfy a conjunction of a priority, and what is done to them; nothing where that is not known.
fn conjunctions(
    tables: &Tables,
    deeds: &[Deed],
    table: u8,
    level: &Level,
) -> Option<Vec<Entry<Vec<MaskedWord>>>> {
    let mut clauses: BTreeMap<(u32, u8), BTreeMap<u8, Vec<&Match>>> = BTreeMap::new();
    let mut counts: BTreeMap<u32, u8> = BTreeMap::new();
    for (id, clause) in &level.soft {
        // Where clauses disagree about their number, which of them are needed depends on who is asked first.
        if *counts.entry(clause.id).or_insert(clause.clauses) != clause.clauses {
            return None;
        }
        let of = clauses.entry((clause.id, clause.clauses)).or_default().entry(clause.clause).or_default();
        of.push(&tables.flow(*id)?.matching);
    }
    let first = level.soft.first().and_then(|(id, _)| tables.flow(*id));
    let leads = first.map(|flow| leads(tables, table, flow.priority)).unwrap_or_default();
    let mut all = Vec::new();
    for ((id, count), clauses) in clauses {
        let wants =
            (clauses.len() == usize::from(count)).then(|| joint(clauses.values().map(|of| common(of))));
        let Some(wants) = wants.flatten() else { continue };
        let of = |clause: &Vec<&Match>| satisfied(tables, deeds, &leads, id, &wants, clause);
        all.extend(clauses.values().find_map(of)?);
    }
    Some(all)
}

/// The flows that a `conj_id` may lead to, by that and by the port register; those of lower priority than the clauses are not
/// among them.
type Leads = FxHashMap<u128, FxHashMap<Option<u128>, Vec<FlowId>>>;

fn leads(tables: &Tables, table: u8, priority: u16) -> Leads {
    let mut leads = Leads::default();
    for id in tables.switch().in_table(table) {
        let Some(flow) = tables.flow(*id).filter(|flow| flow.priority >= priority) else { continue };
        let Some(conjunction) = flow.matching.exact(Field::ConjId) else { continue };
        let of = leads.entry(conjunction).or_default();
        of.entry(flow.matching.exact(Field::Reg5)).or_default().push(*id);
    }
    leads
}

/// What packets are that satisfy a conjunction, of which all want `wants`, by the flow of one clause that they match, and what is
/// done to them: each must hit a flow of that `conj_id`, whatever else it is, and all such flows do the same.
fn satisfied(
    tables: &Tables,
    deeds: &[Deed],
    leads: &Leads,
    id: u32,
    wants: &[MaskedWord],
    clause: &[&Match],
) -> Option<Vec<Entry<Vec<MaskedWord>>>> {
    let mut all = Vec::new();
    for matching in clause {
        let both = [by_word(wants), by_word(matching.words())];
        let Some(wants) = joint(both.into_iter()) else { continue };
        let led = leads.get(&id.into())?;
        let led: Vec<FlowId> = match matching.exact(Field::Reg5) {
            None => led.values().flatten().copied().collect(),
            port => [port, None].iter().filter_map(|port| led.get(port)).flatten().copied().collect(),
        };
        let does = deed(deeds, *led.first()?);
        let takes = |id: &FlowId| tables.flow(*id).is_some_and(|of| takes_all(of, &wants));
        if !led.iter().any(takes) || led.iter().any(|id| deed(deeds, *id) != does) {
            return None;
        }
        all.push(Entry { wants, deed: does, flows: led.into() });
    }
    Some(all)
}

/// Values and masks, by word.
type ByWord = [(u64, u64); WORDS];

fn by_word(wants: &[MaskedWord]) -> ByWord {
    let mut all = [(0, 0); WORDS];
    for part in wants {
        all.get_mut(usize::from(part.word)).into_iter().for_each(|of| *of = (part.value, part.mask));
    }
    all
}

/// All that is wanted; nothing if that contradicts itself.
fn joint(each: impl Iterator<Item = ByWord>) -> Option<Vec<MaskedWord>> {
    let (mut mask, mut value) = ([0; WORDS], [0; WORDS]);
    for (word, (wanted, bits)) in each.flat_map(|of| of.into_iter().enumerate()) {
        let (mask, value) = (mask.get_mut(word)?, value.get_mut(word)?);
        if (*value ^ wanted) & *mask & bits != 0 {
            return None;
        }
        (*mask, *value) = (*mask | bits, *value | wanted);
    }
    let words = (0..).zip(value).zip(mask).map(|((word, value), mask)| MaskedWord { word, value, mask });
    Some(words.filter(|part| part.mask != 0).collect())
}

/// What all these matches want.
fn common(matches: &[&Match]) -> ByWord {
    let mut common = by_word(matches.first().map_or(&[], |first| first.words()));
    for matching in matches {
        for ((value, mask), (other, bits)) in common.iter_mut().zip(by_word(matching.words())) {
            *mask &= bits & !(*value ^ other);
            *value &= *mask;
        }
    }
    common
}

/// Whether the flow of a `conj_id` takes everything of which this is wanted, its conjunction satisfied.
fn takes_all(of: &Flow, wants: &[MaskedWord]) -> bool {
    let mut matching = of.matching.clone();
    matching.set(Field::ConjId, 0, 0);
    includes(matching.words(), wants)
}

/// Adds those of one priority that overlap and do different things.
fn apart(entries: &[Entry<&[MaskedWord]>], suspects: &mut BTreeSet<FlowId>) -> Option<()> {
    if entries.windows(2).all(|two| matches!(two, [a, b] if a.deed == b.deed)) {
        return Some(());
    }
    let mut shapes: FxHashMap<Shape, Vec<&Entry<&[MaskedWord]>>> = FxHashMap::default();
    for entry in entries {
        let shape = entry.wants.iter().map(|part| (part.word, part.mask)).collect();
        shapes.entry(shape).or_default().push(entry);
    }
    let shapes: Vec<(Shape, Alike<'_>)> = shapes.into_iter().collect();
    if shapes.len() > MOST_SHAPES {
        return None;
    }
    for (at, (shape, alike)) in shapes.iter().enumerate() {
        // Flows that look at the same bits never overlap, conjunctions may.
        two_apart(shape, alike, shape, alike, suspects);
        for (other, of) in shapes.iter().skip(at + 1) {
            two_apart(shape, alike, other, of, suspects);
        }
    }
    Some(())
}

/// Those that look at the same bits.
type Alike<'m> = Vec<&'m Entry<&'m [MaskedWord]>>;

fn two_apart(
    shape: &Shape,
    one: &Alike<'_>,
    of_other: &Shape,
    other: &Alike<'_>,
    suspects: &mut BTreeSet<FlowId>,
) {
    let both = |(word, mask): &(u8, u64)| {
        let (_, of) = of_other.iter().find(|(other, _)| other == word)?;
        Some((*word, mask & of))
    };
    let common: Shape = shape.iter().filter_map(both).collect();
    let (few, many) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let mut does: FxHashMap<Words, Deeds> = FxHashMap::default();
    for entry in few {
        does.entry(shown(entry.wants, &common)).or_default().add(states(entry.wants), entry.deed);
    }
    let mut clashing: FxHashSet<Words> = FxHashSet::default();
    for entry in many {
        let shown = shown(entry.wants, &common);
        if does.get(&shown).is_some_and(|known| !known.are_all(states(entry.wants), entry.deed)) {
            suspects.extend(&entry.flows);
            clashing.insert(shown);
        }
    }
    if !clashing.is_empty() {
        let clash = few.iter().filter(|entry| clashing.contains(&shown(entry.wants, &common)));
        suspects.extend(clash.flat_map(|entry| &entry.flows));
    }
}

/// What flows do, by the connection states that they are for; nothing where that is several things.
#[derive(Default)]
struct Deeds {
    of: SmallVec<[(u8, Option<Deed>); 2]>,
}

impl Deeds {
    fn add(&mut self, states: u8, deed: Deed) {
        match self.of.iter_mut().find(|(of, _)| *of == states) {
            Some((_, known)) => *known = known.filter(|known| *known == deed),
            None => self.of.push((states, Some(deed))),
        }
    }

    /// Whether all that is done in any of these states is this.
    fn are_all(&self, states: u8, deed: Deed) -> bool {
        self.of.iter().all(|(of, known)| of & states == 0 || *known == Some(deed))
    }
}

/// The connection states that a packet may show and that are wanted, as bits: untracked, those that connection tracking answers,
/// and what it lets go of untracked.
fn states(wants: &[MaskedWord]) -> u8 {
    let shown = UNTRACKED.into_iter().chain(ANSWERS).enumerate();
    let is_wanted = |flags: u32| {
        masked_words(Field::CtState, flags.into(), u128::MAX).all(|part| {
            let wanted = wants.iter().find(|wanted| wanted.word == part.word);
            wanted.is_none_or(|wanted| (wanted.value ^ part.value) & wanted.mask & part.mask == 0)
        })
    };
    shown.fold(0, |states, (at, flags)| states | u8::from(is_wanted(flags)) << at)
}

/// What is wanted of some bits.
fn shown(wants: &[MaskedWord], bits: &Shape) -> Words {
    let wanted = |(word, mask): &(u8, u64)| {
        wants.iter().find(|part| part.word == *word).map_or(0, |part| part.value & mask)
    };
    bits.iter().map(wanted).collect()
}
