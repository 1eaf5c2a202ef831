//! Request metrics in the evaluator: the metric side of a service ([`Metered`]) and of each of its versions
//! ([`MeteredVersion`]). It has a clock of its own, because its slots are as long as the service's export
//! interval and its points arrive soon after their end.
//!
//! Of the metrics that count the same requests one counts: a class per service ([`choice`]), within it the
//! present name before the legacy one, per version. The choice stands while a deployment is judged. What
//! latencies are compared in is what the buckets of all versions share ([`crate::histogram::Form`]).
//!
//! Memory, per stream about 200 bytes, and 8 per bucket of its last point where it is cumulative; the streams of a version are bounded
//! by `pipeline.limits.streams_per_version`, and one that is silent for as long as a version may be is
//! forgotten, but for when its counters began ([`forgotten`]).

mod choice;
mod early;
mod forgotten;
mod interval;
mod measures;
mod run;
mod service;
mod streams;
mod version;

pub(super) use choice::Choice;
pub(super) use interval::Interval;
pub(super) use measures::{by_group, measured_cells, requests_behind, requests_by_group};
pub(super) use service::{Metered, PointPlace};
pub(super) use streams::StreamPlace;
pub(super) use version::MeteredVersion;
