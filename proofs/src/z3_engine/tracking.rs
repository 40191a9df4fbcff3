//! What connection tracking may answer, and who is led where by it, as formulas.
//!
//! Invariant: the answers are the ones that [`legal_answers`](crate::symbolic::legal_answers) has as sets; tests hold the two
//! together. Deliberately absent: what lies behind a second tag, and translations that a flow begins.

use super::{At, Encoder};
use crate::{
    frames,
    rewrite::reread,
    symbolic::{Emit, SECOND_TAG, icmpv6, is_unmodelled, may_be_overdue},
    symkey::{Bit, Form},
    z3_leads::{Leads, all, any, exactly_one},
    z3_term::Term,
};
use flowproof_packet::Field;
use flowproof_switch::{
    conntrack::state,
    flow::{Ct, Zone},
};
use z3::ast::{BV, Bool};

impl<'a> Encoder<'a> {
    /// What connection tracking may answer to frames of `form` at a nesting depth.
    pub(crate) fn legal(&mut self, form: Form, depth: u16) -> Bool {
        let answer = self.term(Term::Tracked(depth, Field::CtState));
        let has = |flag: u32| {
            let bit = flag.trailing_zeros();
            answer.extract(bit, bit).eq(BV::from_u64(1, 1))
        };
        let [new, est, rel, inv, rpl, trk] =
            [state::NEW, state::EST, state::REL, state::INV, state::RPL, state::TRK].map(has);
        let one_kind = exactly_one(&[&new, &est, &rel, &inv]);
        let reply = rpl.implies(any(&[est, rel]));
        let zero = |bits: BV| bits.eq(BV::from_u64(0, bits.get_size()));
        let unmarked = all(&[
            zero(self.term(Term::Tracked(depth, Field::CtMark))),
            zero(self.term(Term::Tracked(depth, Field::CtLabel))),
        ]);
        let discovery = self.predicate(&icmpv6(&frames::DISCOVERY));
        let redirect = self.predicate(&icmpv6(&[frames::REDIRECT]));
        let untrackable = if self.profile.nd_is_new() { new } else { inv.clone() };
        let mut rules = vec![
            trk.clone(),
            one_kind.clone(),
            reply.clone(),
            discovery.implies(all(&[untrackable, unmarked.clone()])),
            redirect.implies(all(&[inv.clone(), unmarked.clone()])),
        ];
        if self.profile.reassembles() {
            rules.push(inv.implies(&unmarked));
        }
        let legal = all(&rules);
        if !may_be_overdue(self.profile, form) {
            return legal;
        }
        any(&[legal, all(&[trk.not(), inv, one_kind, reply])])
    }

    /// What a `ct()` leads to: the copy that goes on where it says.
    pub(super) fn ct(&mut self, ct: &Ct, at: &At<'a>) -> Leads {
        let mut leads = Vec::new();
        if is_unmodelled(ct, self.tables) {
            let emit = Emit::Opaque("ct() with nat or alg".to_owned());
            return self.leaves(emit, &at.key, at.recirculations);
        }
        if let Some(table) = ct.table.filter(|_| at.recirculations < u16::from(self.profile.recirculations()))
        {
            let zone = match ct.zone {
                Zone::Const(zone) => Some(u128::from(zone)),
                Zone::Field(part) => at.key.constant(part),
            };
            let mut key = at.key.clone();
            key.track(at.recirculations, may_be_overdue(self.profile, self.form));
            match zone {
                Some(zone) => key.set(Field::CtZone, zone, u128::MAX),
                None => {
                    let emit = Emit::Opaque("ct() in a zone taken from the packet".to_owned());
                    leads.push(self.leaves(emit, &key, at.recirculations));
                }
            }
            if self.form != Form::Whole && self.profile.reassembles() {
                key.reassemble();
            }
            let legal = self.legal(self.form, at.recirculations);
            let double = match key.second_tag() {
                Bit::Known(on) => Bool::from_bool(on),
                Bit::Free(var) => self.literals(&[(var, true)]),
            };
            let unread = self.leaves(Emit::Opaque(SECOND_TAG.to_owned()), &key, at.recirculations + 1);
            let recirculations = at.recirculations + 1;
            self.deepest = self.deepest.max(recirculations);
            let to = reread(&key);
            let written = self.requirement(&to);
            let mut goes_on = |key| {
                let at = At { table, key, recirculations, depth: 0, then: None };
                self.reach(None, &at)
            };
            let (then, otherwise) = (goes_on(to.then), goes_on(to.otherwise));
            let goes_on = self.either(&[then.when(&written), otherwise.when(&written.not())]);
            let copy = self.either(&[unread.when(&double), goes_on.when(&double.not())]);
            leads.push(copy.when(&legal));
        }
        self.sequence(&leads)
    }
}
