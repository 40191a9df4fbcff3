//! Who satisfies a conjunction, as a formula.
//!
//! The rules are those of the switch's classifier: no fewer flows than clauses; the number of clauses that the first flow says
//! where they disagree; any of several that are satisfied, and one that leads nowhere may keep another from being seen.
//!
//! Invariant: the order in which flows are visited is left open, so there are packets that are led on and may be passed over too.

use super::{At, Encoder};
use crate::{
    symkey::SymKey,
    tables::Level,
    z3_leads::{Leads, all, any},
};
use flowproof_packet::Field;
use flowproof_switch::{flow::Conjunction, table::FlowId};
use std::collections::{BTreeMap, BTreeSet};
use z3::ast::Bool;

/// The clauses of one id that stand at one priority, each with who matches its flow.
type Clauses = Vec<(Conjunction, Bool)>;

/// An id, and who is taken by it.
struct Choice {
    id: u32,
    /// Who is led on where it is taken.
    leads: Leads,
    /// Who satisfies it in some order, and finds a flow.
    perhaps: Bool,
    /// Who satisfies it in every order, and finds a flow.
    surely: Bool,
    /// Who may satisfy it and finds nothing.
    nowhere: Bool,
}

impl<'a> Encoder<'a> {
    pub(super) fn soft(&mut self, level: &Level, key: &SymKey, at: &At<'a>, below: Leads) -> Leads {
        let mut clauses: BTreeMap<u32, Clauses> = BTreeMap::new();
        let mut flows: BTreeMap<FlowId, (Bool, BTreeSet<u32>)> = BTreeMap::new();
        for (flow, clause) in &level.soft {
            let wanted = self.tables.flow(*flow).and_then(|flow| key.wanted(&flow.matching));
            let Some(literals) = wanted else { continue };
            let hit = self.literals(&literals);
            flows.entry(*flow).or_insert_with(|| (hit.clone(), BTreeSet::new())).1.insert(clause.id);
            clauses.entry(clause.id).or_default().push((*clause, hit));
        }
        let all_hits: Vec<Bool> = flows.values().map(|(hit, _)| hit.clone()).collect();
        let counted = is_crowded(level).then_some(all_hits.as_slice());
        let choices: Vec<Choice> =
            clauses.iter().filter_map(|(id, clauses)| self.choice(*id, clauses, counted, key, at)).collect();
        if choices.is_empty() {
            return below;
        }
        let shares = |a: u32, b: u32| flows.values().any(|(_, ids)| ids.contains(&a) && ids.contains(&b));
        let taken: Vec<Bool> = choices
            .iter()
            .map(|choice| {
                let others =
                    choices.iter().filter(|other| other.id != choice.id && shares(choice.id, other.id));
                let blocked: Vec<Bool> = others.map(|other| other.nowhere.clone()).collect();
                all(&[choice.surely.clone(), any(&blocked).not()])
            })
            .collect();
        let leads: Vec<Leads> = choices.iter().map(|choice| choice.leads.when(&choice.perhaps)).collect();
        self.either(&[self.either(&leads), below.when(&any(&taken).not())])
    }

    /// What one id does; nothing where nobody satisfies it.
    fn choice(
        &mut self,
        id: u32,
        clauses: &Clauses,
        flows: Option<&[Bool]>,
        key: &SymKey,
        at: &At<'a>,
    ) -> Option<Choice> {
        let numbers: BTreeSet<u8> = clauses.iter().map(|(clause, _)| clause.clauses).collect();
        let (mut complete, mut incomplete) = (Vec::new(), Vec::new());
        for number in numbers {
            let decided = any(&self.hits(clauses, flows, |clause| clause.clauses == number));
            let mut filled = vec![decided.clone()];
            filled.extend((1..=number).map(|which| any(&self.hits(clauses, flows, |c| c.clause == which))));
            let filled = all(&filled);
            incomplete.push(all(&[decided, filled.not()]));
            complete.push(filled);
        }
        if clauses.iter().all(|(clause, _)| !is_possible(*clause, clauses)) {
            return None;
        }
        let perhaps = any(&complete);
        let mut again = key.clone();
        again.set(Field::ConjId, id.into(), u128::MAX);
        let (mut hit, mut leads) = (Bool::from_bool(false), Leads::nobody(self.pairs));
        let tables = self.tables;
        for level in tables.levels(at.table).iter().rev() {
            let seen = level.hard.iter().copied().filter(|flow| !tables.is_hidden(*flow));
            let (here, out) = self.hard(seen, &again, at);
            leads = self.either(&[out, leads.when(&here.not())]);
            hit = any(&[hit, here]);
        }
        let surely = all(&[perhaps.clone(), any(&incomplete).not(), hit.clone()]);
        let nowhere = all(&[perhaps.clone(), hit.not()]);
        Some(Choice { id, leads, perhaps: all(&[perhaps, hit]), surely, nowhere })
    }

    /// Who matches a flow of such a clause, and no fewer flows than the clause's conjunction has clauses.
    fn hits(
        &self,
        clauses: &Clauses,
        flows: Option<&[Bool]>,
        wanted: impl Fn(&Conjunction) -> bool,
    ) -> Vec<Bool> {
        let enough = |clause: &Conjunction| {
            flows.map_or_else(|| Bool::from_bool(true), |flows| at_least(clause.clauses, flows))
        };
        let of = clauses.iter().filter(|(clause, _)| wanted(clause));
        of.map(|(clause, hit)| all(&[hit.clone(), enough(clause)])).collect()
    }
}

/// Whether fewer flows than clauses may fill all of an id, or its clauses disagree about their number.
fn is_crowded(level: &Level) -> bool {
    let mut numbers: BTreeMap<u32, u8> = BTreeMap::new();
    let mut seen: BTreeSet<(FlowId, u32)> = BTreeSet::new();
    level.soft.iter().any(|(flow, clause)| {
        let number = *numbers.entry(clause.id).or_insert(clause.clauses);
        !seen.insert((*flow, clause.id)) || number != clause.clauses
    })
}

/// Whether every clause up to the number that this one says has a flow.
fn is_possible(of: Conjunction, clauses: &Clauses) -> bool {
    (1..=of.clauses).all(|which| clauses.iter().any(|(clause, _)| clause.clause == which))
}

/// Whether no fewer of these are true, in the core theory: cardinality constraints are a word of Z3's own.
fn at_least(number: u8, flows: &[Bool]) -> Bool {
    let mut counted = vec![Bool::from_bool(true)];
    counted.resize(usize::from(number) + 1, Bool::from_bool(false));
    for flow in flows {
        for at in (1..counted.len()).rev() {
            let Some([fewer, so_many]) = counted.get(at - 1..=at) else { continue };
            let more = any(&[so_many.clone(), all(&[fewer.clone(), flow.clone()])]);
            counted.get_mut(at).into_iter().for_each(|slot| *slot = more.clone());
        }
    }
    counted.pop().unwrap_or_else(|| Bool::from_bool(true))
}
