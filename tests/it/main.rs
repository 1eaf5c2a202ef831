//! The one integration binary: everything through the front door, and the rules that the source itself keeps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may end by a panic and may say what it found"
)]

mod demo;
mod engine;
mod examples;
mod fuzz;
mod golden;
mod identity;
mod layering;
mod receive;
mod rules;
mod source;
mod spool;
mod threeways;
mod tidy;
