//! One packet out of a model of Z3: the most familiar one.

use crate::{
    familiar::{self, Choice},
    frames,
    predicate::Predicate,
    symkey::SymKey,
    z3_engine::Encoder,
    z3_query::{RESOURCE_LIMIT, solver},
    z3_term::Term,
};
use flowproof_packet::{Field, FlowKey};
use flowproof_switch::conntrack::{CtInfo, state};
use z3::{SatResult, ast::Bool};

impl Encoder<'_> {
    /// The most familiar packet that satisfies `formulas`: each wish is kept if it can be.
    #[must_use]
    pub fn choose(&mut self, formulas: &[Bool], wishes: &[Predicate]) -> Option<Choice> {
        let solver = solver(RESOURCE_LIMIT);
        for formula in formulas {
            solver.assert(formula);
        }
        let mut wanted: Vec<Bool> =
            familiar::calm_answer(0).iter().map(|literals| self.literals(literals)).collect();
        wanted.extend(wishes.iter().map(|wish| self.predicate(wish)));
        wanted.push(self.term(Term::FragmentProto).eq(self.term(Term::Sent(Field::NwProto))));
        for wish in wanted {
            if solver.check_assumptions(std::slice::from_ref(&wish)) == SatResult::Sat {
                solver.assert(&wish);
            }
        }
        if solver.check() != SatResult::Sat {
            return None;
        }
        let model = solver.get_model()?;
        let form = self.form;
        let mut value = |term: Term| {
            let mut half = |high: u32, low: u32| {
                let bits = self.term(term).extract(high, low);
                model.eval(&bits, true).and_then(|bits| bits.as_u64()).map_or(0, u128::from)
            };
            let width = u32::from(term.width());
            if width > 64 { half(width - 1, 64) << 64 | half(63, 0) } else { half(width - 1, 0) }
        };
        let mut sent = FlowKey::default();
        for field in Field::all().filter(|field| field.spec().is_slot_owner() && SymKey::is_sent(*field)) {
            sent.set(field, value(Term::Sent(field)));
        }
        frames::complete_tag(&mut sent);
        let answer = CtInfo {
            state: value(Term::Tracked(0, Field::CtState)) as u32 | state::TRK,
            mark: value(Term::Tracked(0, Field::CtMark)) as u32,
            label: value(Term::Tracked(0, Field::CtLabel)),
            orig: None,
            unknown: None,
        };
        Some(Choice { form, sent, shown_proto: value(Term::FragmentProto) as u8, answers: vec![answer] })
    }
}
