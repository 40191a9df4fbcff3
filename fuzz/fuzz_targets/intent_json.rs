//! Intents read back as they are written, and every layout compiles them.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::intent_json(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
