//! Section B: isolation and default deny, on one pass through the tables.
//!
//! Who can send a frame is divided into classes ([`world`]): each filtered port, each other port that is known, and any port
//! number that nothing names. One symbolic execution of everything a class sends serves all rows and all receivers
//! ([`judge`]); a receiver is decided by network and destination MAC, and `NORMAL` counts as delivery to every port of
//! the frame's VLAN but the input port. [`replay`] judges what the engine chose once more, on frames, in the interpreter.
//!
//! Invariants: a refutation is shown only with its replay; a proof only with a frame that is rightly delivered; what is not
//! modelled may deliver to anybody. Deliberately absent: sequences of packets; a second engine (only decision
//! diagrams judge here, and the report says so).

mod admit;
pub mod check;
mod choice;
mod guess;
pub mod judge;
pub mod replay;
pub mod rows;
pub mod scene;
pub mod world;

pub use check::{Ask, IsolationFinding, check, check_since, check_slowly};

use crate::{
    predicate::Predicate,
    properties::{Judge, Property},
    symkey::Form,
};

/// What a row asks about the frames that reach a port, or that a port sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Whether they are of its network, and all that is remembered of them too.
    Networks,
    /// Whether anything but what needs no rule comes without a rule, by a table miss or from an unknown port.
    Denied,
    /// Whether IP frames for groups pass its rules.
    Groups,
    /// Whether they are addressed to it.
    Strangers,
    /// Whether they went through connection tracking, or need not.
    Untracked,
    /// Whether the rules of anybody else decided.
    Thirds,
}

/// One theorem.
#[derive(Debug)]
pub struct Row {
    /// Its name and words, as reports know them.
    pub property: Property,
    /// What it asks.
    pub question: Question,
}

/// Premise and permission depend on sender and receiver: [`judge`] has them.
const THEOREM: Judge =
    Judge::Implication { premise: |_| Predicate::always(), allowed: |_| Predicate::always() };

const fn row(name: &'static str, theorem: &'static str, question: Question) -> Row {
    Row { property: Property { name, theorem, subject: &[], forms: &Form::ALL, judge: THEOREM }, question }
}

/// Every theorem, in the order of reports.
pub static ROWS: [Row; 6] = [
    row(
        "network-isolation",
        "what reaches the port is of its network; zones and registers name a frame's own network only",
        Question::Networks,
    ),
    row(
        "default-deny",
        "without a rule only what needs none reaches the port, by a table miss nothing, from an unknown port nothing",
        Question::Denied,
    ),
    row(
        "ingress-group-addressed",
        "broadcast and multicast IP reaches the port only if its ingress admits it",
        Question::Groups,
    ),
    row(
        "ingress-unknown-unicast",
        "no frame for somebody else's MAC is copied to the port",
        Question::Strangers,
    ),
    row(
        "untracked-exceptions",
        "what passes without connection tracking is what needs no rule",
        Question::Untracked,
    ),
    row(
        "port-independence",
        "no rule of a third port, and no order of equal flows, decides what reaches the port or leaves it",
        Question::Thirds,
    ),
];

/// The row with this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.property.name == name)
}

/// The names, in the order of reports.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.property.name)
}
