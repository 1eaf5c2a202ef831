//! Latency histograms on one fixed grid, so that any two of them add up exactly.

pub mod layout;
mod sparse;

pub use sparse::{SparseHistogram, quantile};
