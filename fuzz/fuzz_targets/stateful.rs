//! Long histories, in which much changes, under our own layout.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|case: oracles::Stateful| case.check().unwrap());

#[cfg(not(fuzzing))]
fn main() {}
