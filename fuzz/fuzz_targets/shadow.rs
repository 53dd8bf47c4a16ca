#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| florin_fuzz::watched_aside(florin_fuzz::shadow, input));
