//! Model and switch side by side over one scenario.
//!
//! A [`Scenario`] is a policy, packets, changes and expectations as text; [`run`](run::run) plays it in the model and in
//! the interpreter and says where they first differ. Invariant: model and
//! tables are compared only through what they deliver, commit and mark, and what is legal nondeterminism is in
//! [`Allowed`]. Deliberately absent: proofs, generators, real switches.
//!
//! Source: the policy switches and properties that the model names; ovs-fields(7) for packets.

pub mod allowed;
pub mod compare;
pub mod frames;
pub mod known;
pub mod patch;
pub mod play;
pub mod reason;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod text;
pub mod watch;

mod case;
mod change;
mod merged;
mod mistaken;
mod rules_alone;
mod sort;
mod whereabouts;

pub use allowed::{Allowed, Leeway};
pub use compare::Difference;
pub use patch::Patch;
pub use play::{Ending, play, written_down};
pub use run::{Lockstep, Observation, Run, StepRun, run};
pub use scenario::Scenario;
pub use shrink::shrink;
pub use text::{ParseError, RunError, parse, parse_with};
