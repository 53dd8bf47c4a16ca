#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| florin_fuzz::watched(florin_fuzz::group, input));
