//! What must hold of any input: each oracle takes bytes and objects, or does not.
//!
//! Invariant: an oracle never panics of its own; a panic is one of the code under it, and that is a finding, too.
//! Deliberately absent: tolerance; what is known stands in [`flowproof_lockstep::known`].

mod agreement;
mod brute;
mod claims;
mod classifier;
mod difference;
mod engines;
mod frame;
pub mod language;
mod real;
mod symbolic;
mod text;

pub use agreement::{Agreement, Mitaka, Neutron, Stateful, Strict};
pub use brute::{Scale, Tally, brute_force, enumerate as enumerate_packets};
pub use classifier::fast_classifier;
pub use difference::{Pair as DifferencePair, diff};
pub use engines::{Held, engines, hold as hold_packets};
pub use frame::{frame, pcap};
pub use real::real_switch;
pub use symbolic::{compare as compare_packets, symbolic};
pub use text::{flow_text, intent_json, scenario_text};

use std::fmt;
use std::sync::LazyLock;

/// Why an input must not be as it is, for people; where it can be replayed, with the scenario.
#[derive(Clone, PartialEq, Eq)]
pub struct Objection(pub String);

/// Nothing, or an objection.
pub type Verdict = Result<(), Objection>;

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An objection with this text.
fn object<T>(text: impl Into<String>) -> Result<T, Objection> {
    Err(Objection(text.into()))
}

static PLANTED: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("FLOWPROOF_PLANTED").is_some_and(|value| !value.is_empty()));

/// Whether oracles look at something that is wrong on purpose: `FLOWPROOF_PLANTED` is set. A campaign that finds
/// nothing then is worth nothing.
#[must_use]
pub fn planted() -> bool {
    *PLANTED
}

/// What is right, or, if defects are planted, what `wrong` makes of it.
fn subject<T>(right: T, wrong: impl FnOnce(T) -> T) -> T {
    if planted() { wrong(right) } else { right }
}
