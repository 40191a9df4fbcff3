//! The layout of 2016 does what the model says, but for its known defects.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|case: oracles::Mitaka| case.check().unwrap());

#[cfg(not(fuzzing))]
fn main() {}
