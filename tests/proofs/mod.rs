//! The proofs: engines against engines and against the interpreter, verdicts against what is known, mutants that must
//! be caught.

mod agreement;
mod battery;
mod brute;
mod catalogue;
mod difference;
mod engines;
mod hosts;
mod hygiene;
mod incremental;
mod isolation;
mod laws;
mod limits;
mod mutants;
mod rng;
mod seed;
mod shortcuts;
mod since;
mod symmetry;
