//! Section D: what the intent means as predicates agrees with the model; what the engine says of genuine tables is what
//! is known of them.

mod agreement;
mod command;
mod corpus;
mod engines;
mod entries;
mod seed;
mod since;
mod stale;
mod strict;
mod support;
mod tracking;
