//! Flows as data and as text.

pub mod ast;
pub mod group;
pub mod lint;
pub mod matching;
mod names;
mod nat;
pub mod normalise;
pub mod parse;
pub mod ports;
pub mod print;
pub mod text;
pub mod unmodelled;

pub use ast::{
    Action, Conjunction, Controller, Counted, Counters, Ct, Flow, FlowFlags, Learn, LearnSource, LearnSpec,
    Span, Subfield, Zone,
};
pub use group::{Bucket, Group, GroupError, GroupKind, GroupRef, Groups};
pub use lint::{Lint, LintKind};
pub use matching::Match;
pub use nat::{Helper, Nat, NatEnd, NatRange};
pub use parse::{
    Era, FlowFile, Numbering, ParseError, ParseErrors, ParseOptions, number_names, parse_bytes, parse_flows,
    parse_reader, read_text,
};
pub use print::{Dialect, Style};
pub use text::{key_to_text, parse_match};
pub use unmodelled::{Extent, does_the_same, extent, in_plain_words, same_actions};
