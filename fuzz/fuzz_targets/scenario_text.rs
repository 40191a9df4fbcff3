//! Scenarios read back as they are printed.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::scenario_text(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
