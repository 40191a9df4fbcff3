//! The fast search of a table finds what flow by flow is found.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::fast_classifier(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
