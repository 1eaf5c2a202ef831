//! What a shard keeps of a span until the evaluator takes it: a few numbers, no strings.

use super::{Marks, Outcome, StatusSource, UnixNanos};

/// A version of a service, interned. Never reused while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub u32);

/// An operation of a version, interned. Never reused while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// An instance of a version, interned; [`InstanceId::UNKNOWN`] where the resource names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

impl InstanceId {
    /// No instance named, or beyond the cap of the version's instance table.
    pub const UNKNOWN: Self = Self(u32::MAX);
}

/// One classified entry span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// Version and operation.
    pub series: SeriesId,
    /// Who sent it.
    pub instance: InstanceId,
    /// Start; equal to the end where the span ended before it started.
    pub start: UnixNanos,
    /// End: decides the slot.
    pub end: UnixNanos,
    /// When the request that carried it arrived.
    pub arrival: UnixNanos,
    /// Latency bucket, [`crate::histogram::layout`].
    pub bucket: i16,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it carried a status code.
    pub status: StatusSource,
    /// Whether its end was before its start.
    pub skewed: bool,
    /// Adjusted count from sampling; 1 where unknown, see `weight_known`.
    pub weight: f32,
    /// Whether `weight` came with the span.
    pub weight_known: bool,
    /// What it counts for, by the program of its service.
    pub marks: Marks,
}

/// What a span counts for beside being a request, or without being one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extra {
    /// The version.
    pub version: VersionId,
    /// Who sent it.
    pub instance: InstanceId,
    /// Start: decides whether it is compared.
    pub start: UnixNanos,
    /// End: decides the slot.
    pub end: UnixNanos,
    /// When the request that carried it arrived.
    pub arrival: UnixNanos,
    /// Latency bucket.
    pub bucket: i16,
    /// Whether it is a record of its own, or else a quantity of a span that has an account already.
    pub is_record: bool,
    /// What it counts for.
    pub marks: Marks,
    /// How much of each event: 1, or the quantity.
    pub amount: u64,
}

/// The trace id of a span worth showing: failed or slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// Version and operation.
    pub series: SeriesId,
    /// Its end.
    pub end: UnixNanos,
    /// Raw trace id.
    pub trace_id: [u8; 16],
    /// Whether it failed (else it is kept for its latency).
    pub failed: bool,
}
