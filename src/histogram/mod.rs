//! Latency histograms on one fixed grid, so that any two of them add up exactly; and how histograms that
//! arrive in buckets of other kinds are brought to it, or compared without it.

pub mod exponential;
mod form;
pub mod layout;
mod sparse;

pub use form::{Form, Ruler, error_of_scale};
pub use sparse::{SparseHistogram, growth, quantile};
