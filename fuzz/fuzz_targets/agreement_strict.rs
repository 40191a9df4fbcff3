//! Our own layout does what the model says, but for its known limits.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|case: oracles::Strict| case.check().unwrap());

#[cfg(not(fuzzing))]
fn main() {}
