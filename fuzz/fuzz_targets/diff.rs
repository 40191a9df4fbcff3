//! What two tables tell apart, and nothing else, is in one class of their difference.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::diff(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
