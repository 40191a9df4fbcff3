//! Formulas as packet sets, for what is said of packets in words of sets: whom a connection may follow, what connection
//! tracking can answer. No packet set is carried through tables so.
//!
//! Invariant: where something is asked that a formula cannot say, [`Formulas::complete`] says so.

use crate::{
    set::{Literal, PacketSets},
    vars::Var,
    z3_engine::Encoder,
};
use z3::ast::Bool;

/// The formulas made so far; a set is the place of one.
pub(crate) struct Formulas<'e, 'a> {
    encoder: &'e mut Encoder<'a>,
    known: Vec<Bool>,
    complete: bool,
}

const NONE: usize = 0;
const ALL: usize = 1;

impl<'e, 'a> Formulas<'e, 'a> {
    /// What `say` makes, as a formula; nothing if a formula cannot say it.
    pub(crate) fn make(encoder: &'e mut Encoder<'a>, say: impl FnOnce(&mut Self) -> usize) -> Option<Bool> {
        let known = vec![Bool::from_bool(false), Bool::from_bool(true)];
        let mut formulas = Self { encoder, known, complete: true };
        let said = say(&mut formulas);
        formulas.known.get(said).filter(|_| formulas.complete).cloned()
    }

    fn keep(&mut self, formula: Bool) -> usize {
        self.known.push(formula);
        self.known.len() - 1
    }

    fn get(&self, set: usize) -> Bool {
        self.known.get(set).cloned().unwrap_or_else(|| Bool::from_bool(false))
    }
}

impl PacketSets for Formulas<'_, '_> {
    type Set = usize;

    fn none(&self) -> usize {
        NONE
    }

    fn all(&self) -> usize {
        ALL
    }

    fn cube(&mut self, literals: &[Literal]) -> usize {
        let cube = self.encoder.literals(literals);
        self.keep(cube)
    }

    fn and(&mut self, a: usize, b: usize) -> usize {
        match (a, b) {
            (NONE, _) | (_, NONE) => NONE,
            (ALL, other) | (other, ALL) => other,
            _ => self.keep(Bool::and(&[self.get(a), self.get(b)])),
        }
    }

    fn or(&mut self, a: usize, b: usize) -> usize {
        match (a, b) {
            (ALL, _) | (_, ALL) => ALL,
            (NONE, other) | (other, NONE) => other,
            _ => self.keep(Bool::or(&[self.get(a), self.get(b)])),
        }
    }

    fn minus(&mut self, a: usize, b: usize) -> usize {
        match (a, b) {
            (NONE, _) | (_, ALL) => NONE,
            (other, NONE) => other,
            _ => self.keep(Bool::and(&[self.get(a), self.get(b).not()])),
        }
    }

    fn exists(&mut self, set: usize, _drop: &dyn Fn(Var) -> bool) -> usize {
        self.complete = false;
        set
    }

    fn member(&self, _set: usize) -> Option<Vec<Literal>> {
        None
    }
}
