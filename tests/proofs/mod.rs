//! The proofs: engines against engines and against the interpreter, verdicts against what is known, mutants that must
//! be caught.

mod hosts;
mod mutants;
mod rng;
mod seed;
