//! All packets at once go where each goes alone.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::symbolic(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
