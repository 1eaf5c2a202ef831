//! `/metrics`: the published picture in Prometheus's formats. A scrape shows one evaluation as a whole, and a
//! version that has ended is gone from the next scrape on, because nothing is kept here but one counter.
//!
//! [`definitions`] names every metric once; `families` reads the picture; `text` knows the formats;
//! `negotiate` chooses between them.

pub mod definitions;
mod families;
mod negotiate;
mod objectives;
mod rules;
mod serve;
mod tally;
mod text;

pub use serve::Exporter;
pub use text::Format;
