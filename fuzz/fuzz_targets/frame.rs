//! Any frame can be read, shown, cut in pieces and sent.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::frame(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
