//! Flows as data and as text.

pub mod ast;
pub mod matching;

pub use ast::{Action, Conjunction, Ct, Flow, FlowFlags, Span, Subfield, Zone};
pub use matching::Match;
