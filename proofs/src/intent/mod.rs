//! Section D: tables and intent agree, on one pass through the tables.
//!
//! [`encode`] says what the intent means, as predicates; [`question`] which frames are asked about, from where to where;
//! [`judge`] asks the decision diagrams
//! (with `follow`, where connections last only as long as the rules admit them; `entries` has what is left behind in
//! connection tracking), and [`replay`] holds what they answer against interpreter and reference model.
//! What is asked about a port: all it sends, and what it receives from senders that are not filtered ports here
//! themselves, in every connection state a datapath may report.
//!
//! Invariants: a refutation is shown only if switch and model differ on it; a proof only with a frame that both let
//! through; what reaches a construct that is not modelled is `unknown`. Deliberately absent: sequences of packets;
//! group addresses; what a sender does wrong by itself (both are other sections').

mod by_z3;
pub mod check;
pub mod encode;
pub mod engines;
mod entries;
mod errors;
mod follow;
mod formulas;
pub mod judge;
pub mod layout;
pub mod question;
pub mod replay;
pub mod rows;
pub mod site;
pub mod stale;

pub use check::{Ask, IntentFinding, check, check_since, check_slowly};
pub use engines::{Checked, check_by};
pub(crate) use follow::plausible;

use crate::{
    predicate::Predicate,
    properties::{Judge, Property},
    symkey::Form,
};

const THEOREM: Judge =
    Judge::Implication { premise: |_| Predicate::always(), allowed: |_| Predicate::always() };

/// `intent-sound`. Its premise and what it allows depend on both ends of a way: [`question`] has them.
pub static SOUND: Property = Property {
    name: "intent-sound",
    theorem: "what is delivered or forwarded passes without a rule or is admitted by the rules of both ends",
    subject: &[],
    forms: &Form::ALL,
    judge: THEOREM,
};

/// `intent-complete`, likewise.
pub static COMPLETE: Property = Property {
    name: "intent-complete",
    theorem: "what must pass without a rule or is admitted by the rules of both ends is delivered or forwarded",
    subject: &[],
    forms: &Form::ALL,
    judge: THEOREM,
};

/// `commit-implies-delivery`, likewise; and the two after it.
pub static COMMIT: Property = Property {
    name: "commit-implies-delivery",
    theorem: "what creates an entry in connection tracking is delivered; it is created once, in the zone of its \
              network, without a mark",
    subject: &[],
    forms: &Form::ALL,
    judge: THEOREM,
};

/// `delivery-implies-commit`
pub static DELIVERY: Property = Property {
    name: "delivery-implies-commit",
    theorem: "a new connection that rules admit and that is delivered is committed in the zone of its network, \
              without a mark",
    subject: &[],
    forms: &Form::ALL,
    judge: THEOREM,
};

/// `mark-means-revoked`
pub static MARK: Property = Property {
    name: "mark-means-revoked",
    theorem: "an established connection is marked if no rule admits its original direction any more, and only then; \
              where rules that go take connections with them at once, never",
    subject: &[],
    forms: &Form::ALL,
    judge: THEOREM,
};

/// The theorems of section D that are judged port by port.
pub static PROPERTIES: [&Property; 5] = [&SOUND, &COMPLETE, &COMMIT, &DELIVERY, &MARK];

/// The list of rules that the tables' layout cannot express.
pub const UNSUPPORTED_RULE: &str = "unsupported-rule";

/// Every name of section D.
pub const NAMES: [&str; 6] =
    [SOUND.name, COMPLETE.name, COMMIT.name, DELIVERY.name, MARK.name, UNSUPPORTED_RULE];
