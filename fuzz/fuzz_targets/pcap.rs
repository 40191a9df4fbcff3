//! Any capture can be read or is refused, and reads back as it is written.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
use flowproof_fuzz::oracles;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracles::pcap(bytes).unwrap());

#[cfg(not(fuzzing))]
fn main() {}
