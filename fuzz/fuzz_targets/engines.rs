//! Decision diagrams and Z3 say the same of every property.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::engines(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
