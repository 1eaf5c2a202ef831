//! `cargo fuzz run -s none queue`; what it does is in `bodies.rs`.

#![no_main]

#[allow(dead_code, reason = "the other targets use the rest")]
#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::queue(bytes));
