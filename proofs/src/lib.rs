//! Why the tables are right: symbolic packets, properties, engines, counterexamples, reports.
//!
//! Two engines answer each question independently: decision diagrams run forwards over packet sets
//! ([`symbolic`], [`bdd`]); Z3 gets the question as one formula, built backwards from the forbidden outcome
//! ([`z3_engine`]). What they refute is replayed in the interpreter before anyone sees it.
//!
//! Invariant: a verdict other than `proved`, `refuted` or `vacuous` is never turned into one of them.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod arrival;
pub mod battery;
pub mod bdd;
mod beyond;
mod by_diagram;
pub mod check;
pub mod diagram;
pub mod difference;
mod effects;
pub mod familiar;
mod flat;
pub mod frames;
pub mod hygiene;
pub mod incremental;
pub mod index;
pub mod intent;
pub mod isolation;
pub mod kin;
pub mod listing;
pub mod live;
pub mod opaque;
pub mod ports;
pub mod predicate;
mod probe;
pub mod properties;
pub mod reach;
pub mod replay;
pub mod report;
mod rewrite;
pub mod set;
pub mod since;
pub mod sweep;
pub mod symbolic;
pub mod symkey;
pub mod symmetry;
pub mod tables;
pub mod vars;
pub mod vlans;
mod walk;
pub mod z3_engine;
mod z3_leads;
mod z3_model;
pub mod z3_port;
pub mod z3_query;
mod z3_sets;
mod z3_term;

pub use effects::{is_modelled, is_unmodelled};

/// The version of the Z3 that this program runs with, as `major.minor.build`.
#[must_use]
pub fn z3_version() -> String {
    let full = z3::full_version().trim_start_matches("Z3 ");
    full.split('.').take(3).collect::<Vec<_>>().join(".")
}
