//! How we try to refute it: scenarios, tables and packets from bytes, and what must hold of them.
//!
//! Generators draw from small shared pools in the order of dependency: networks, ports, groups, rules, changes,
//! packets. Invariant: any bytes give an input, and the same bytes the same. Deliberately absent: printing, threads,
//! and who supplies the bytes: libFuzzer, `flowproof explore`, or a test.

pub mod bare;
pub mod campaign;
pub mod choices;
pub mod coverage;
pub mod language;
pub mod oracles;
pub mod packets;
pub mod real;
pub mod scenario;
pub mod tables;

pub use choices::Choices;
pub use scenario::{Drawn, Wishes};
