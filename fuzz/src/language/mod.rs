//! The language of flows as its own generator: tables out of the tables of fields and of actions, frames out of bytes.
//!
//! Nothing here knows a pipeline. Invariants: the same seed and number give the same case; a field or an action that the
//! switch learns is generated without anybody's doing, or does not compile. Deliberately absent: oracles, which are in
//! [`crate::oracles`].

pub mod actions;
pub mod fields;
pub mod frames;
pub mod matrix;
pub mod planted;
pub mod tables;
pub mod trial;
