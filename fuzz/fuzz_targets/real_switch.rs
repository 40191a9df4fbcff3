//! A real switch does what the interpreter does.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::real_switch(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
