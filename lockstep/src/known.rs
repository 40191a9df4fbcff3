//! Divergences that are known, by name: where a layout does otherwise than the model under its policy switches.
//!
//! Invariant: a row explains one defect of one layout and names what shows it: the packet, the kind of difference.
//! Deliberately absent: excuses for differences that nobody has understood.
//!
//! Source: the defects of Neutron's drivers by their numbers in Launchpad, and experiments.

use crate::run::Observation;
use flowproof_compiler::Layout;

/// A known divergence.
#[derive(Clone, Copy)]
pub struct Known {
    /// Its name, as scenarios write it down.
    pub name: &'static str,
    /// The layouts that show it.
    pub layouts: &'static [&'static str],
    /// Why it is there.
    pub why: &'static str,
    /// Whether it explains what is seen.
    explains: fn(&Observation) -> bool,
}

/// All of them.
pub const KNOWN: &[Known] = &[];

/// The first row that explains the differences of an observation.
#[must_use]
pub fn classify(layout: Layout, seen: &Observation) -> Option<&'static Known> {
    let applies = |known: &&Known| known.layouts.contains(&layout.name()) && (known.explains)(seen);
    KNOWN.iter().find(applies)
}
