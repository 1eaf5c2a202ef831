//! A metric data point as a borrowed view, and what a shard keeps of it. Only points of metrics that count
//! requests are handed on (their names are known, see [`Family`], or configured), and of those that a measure reads.

use super::{DimensionTexts, Discard, InstanceId, Marks, Outcome, SeriesId, StatusSource, UnixNanos};

/// A stream of points, interned: one time series of one sender. Never reused while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Bounds of explicit buckets, by a hash over them and their unit: the same in every run of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundsId(pub u64);

/// Which metric a point is of, by what it counts. Several families may count the same requests, so one
/// [`Class`] per service is judged, and within a class the new name before the legacy one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `http.server.request.duration`.
    Http,
    /// `http.server.duration`.
    HttpLegacy,
    /// `rpc.server.call.duration`.
    Rpc,
    /// `rpc.server.duration`.
    RpcLegacy,
    /// `messaging.process.duration`.
    Messaging,
    /// Durations that a Collector made of spans (`span_metrics`).
    SpanDuration,
    /// Counts that a Collector made of spans.
    SpanCalls,
    /// Durations of a configured name: a mesh, an ingress.
    OtherDuration,
    /// Counts of a configured name.
    OtherCalls,
    /// A metric that counts no requests, read because a measure asks for it.
    Measure,
}

/// Families whose metrics count different requests, or the same under an old and a new name: they can be
/// judged together. Best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Written by the service's own SDK.
    Sdk,
    /// Durations made of its spans.
    SpanDuration,
    /// Counts made of its spans.
    SpanCalls,
    /// Durations written by others.
    OtherDuration,
    /// Counts written by others.
    OtherCalls,
    /// No requests at all: never chosen.
    Measure,
}

impl Class {
    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::SpanDuration => "span_metrics_duration",
            Self::SpanCalls => "span_metrics_calls",
            Self::OtherDuration => "other_duration",
            Self::OtherCalls => "other_calls",
            Self::Measure => "measure",
        }
    }
}

impl Family {
    /// All families that count requests.
    pub const ALL: [Self; 9] = [
        Self::Http,
        Self::HttpLegacy,
        Self::Rpc,
        Self::RpcLegacy,
        Self::Messaging,
        Self::SpanDuration,
        Self::SpanCalls,
        Self::OtherDuration,
        Self::OtherCalls,
    ];

    /// The class it belongs to.
    pub const fn class(self) -> Class {
        match self {
            Self::Http | Self::HttpLegacy | Self::Rpc | Self::RpcLegacy | Self::Messaging => Class::Sdk,
            Self::SpanDuration => Class::SpanDuration,
            Self::SpanCalls => Class::SpanCalls,
            Self::OtherDuration => Class::OtherDuration,
            Self::OtherCalls => Class::OtherCalls,
            Self::Measure => Class::Measure,
        }
    }

    /// The family that counts the same requests under the present name, if this one has a legacy name.
    pub const fn present_name(self) -> Option<Self> {
        match self {
            Self::HttpLegacy => Some(Self::Http),
            Self::RpcLegacy => Some(Self::Rpc),
            _ => None,
        }
    }

    /// Whether its points are histograms of durations.
    pub const fn is_duration(self) -> bool {
        !matches!(self, Self::SpanCalls | Self::OtherCalls | Self::Measure)
    }
}

/// Whether a point counts since the point before or since a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// Since the point before.
    Delta,
    /// Since the start of its stream.
    Cumulative,
}

/// The unit of a duration metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DurationUnit {
    /// `s`
    Seconds,
    /// `ms`
    Millis,
    /// `us`
    Micros,
    /// `ns`
    Nanos,
    /// `min`
    Minutes,
}

impl DurationUnit {
    /// How many of it make a second.
    pub const fn per_second(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Millis => 1e3,
            Self::Micros => 1e6,
            Self::Nanos => 1e9,
            Self::Minutes => 1.0 / 60.0,
        }
    }

    /// A number of this unit in seconds, correctly rounded: 5 ms is the same number as 0.005 s.
    pub fn seconds(self, value: f64) -> f64 {
        match self {
            Self::Seconds => value,
            Self::Millis => value / 1e3,
            Self::Micros => value / 1e6,
            Self::Nanos => value / 1e9,
            Self::Minutes => value * 60.0,
        }
    }
}

/// How long the requests of a point took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Durations<'a> {
    /// Not known: a count, a summary, or a histogram without buckets.
    Unknown,
    /// Explicit buckets: `counts[i]` values in `(bounds[i-1], bounds[i]]`; one more count than bounds.
    Explicit {
        /// Strictly ascending, in `unit`.
        bounds: &'a [f64],
        /// Never empty.
        counts: &'a [u64],
    },
    /// Base-2 exponential buckets: `counts[i]` values in `(b^(offset+i), b^(offset+i+1)]`, `b = 2^(2^-scale)`.
    Exponential {
        /// Within -10 and 20.
        scale: i32,
        /// Values of about 0 (and any below 0).
        zero: u64,
        /// Index of the first count.
        offset: i32,
        /// Positive values.
        counts: &'a [u64],
    },
}

/// Names what a data point is by all bytes that decide it: those of its resource, its scope, its metric and its
/// attributes. A keyed digest: it means nothing outside the process that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PointKey(pub u128);

/// What points with a [`PointKey`] were found to be, by who was shown one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recalled {
    /// Points of a stream.
    Stream(RecalledStream),
    /// Points that make no SLI, whatever their numbers are.
    Discarded(Discard),
}

/// A stream that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecalledStream {
    /// Its id.
    pub stream: StreamId,
    /// Version and operation.
    pub series: SeriesId,
    /// Whether its requests failed, so that the trace of one of them is wanted.
    pub is_bad: bool,
}

/// The numbers of a data point: all that changes between two points of a stream.
#[derive(Debug, Clone, Copy)]
pub struct PointNumbers<'a> {
    /// Start of what is counted; 0 where the sender does not say.
    pub start: UnixNanos,
    /// When it was counted; never 0.
    pub time: UnixNanos,
    /// Requests.
    pub count: u64,
    /// What a gauge stands at, of points that count nothing.
    pub level: Option<f64>,
    /// Unit of the durations.
    pub unit: DurationUnit,
    /// How long they took.
    pub durations: Durations<'a>,
    /// Raw trace id of one of its requests, of failed ones only: empty or 16 bytes where the sender is right.
    pub trace_id: &'a [u8],
}

/// One data point of a metric that counts requests.
#[derive(Debug, Clone, Copy)]
pub struct PointView<'a> {
    /// Identity of its stream: a hash over everything that OpenTelemetry says identifies one.
    pub stream: u128,
    /// Under which to remember what it is; `None` where nobody asked for it.
    pub key: Option<PointKey>,
    /// What it counts.
    pub family: Family,
    /// Since when.
    pub temporality: Temporality,
    /// Service that the point names itself; empty where the resource's holds.
    pub service: &'a [u8],
    /// Its namespace, likewise.
    pub namespace: &'a [u8],
    /// Its environment, likewise.
    pub environment: &'a [u8],
    /// Version that the point names itself; empty where the resource's holds.
    pub version: &'a [u8],
    /// Operation, as in [`super::SpanView`].
    pub operation_head: &'a [u8],
    /// See [`super::SpanView`].
    pub operation_joint: &'a [u8],
    /// See [`super::SpanView`].
    pub operation_tail: &'a [u8],
    /// How its requests ended.
    pub outcome: Outcome,
    /// Whether a status code says so.
    pub status: StatusSource,
    /// Whether it holds what went beyond its sender's own cap (`otel.metric.overflow`).
    pub overflow: bool,
    /// What it counts for beside requests, by the measures of the service that its resource names.
    pub marks: Marks,
    /// Values of the dimensions by which the requests of that service are told apart; `None` where it has none.
    pub dimensions: Option<&'a DimensionTexts>,
    /// How many, when, how long.
    pub numbers: PointNumbers<'a>,
}

/// How the counts of a [`PointObservation`] are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// There are none.
    Count,
    /// Explicit buckets with these bounds.
    Explicit(BoundsId),
    /// Exponential buckets in the unit of the stream at this scale, 5 or lower; the first count has this index.
    Exponential {
        /// See [`crate::histogram::layout`].
        scale: i8,
        /// Index of the first count; the counts of the zero bucket stand in `zero`.
        offset: i32,
        /// Values of about 0.
        zero: u64,
    },
    /// Nothing is counted: it says what a gauge stands at.
    Level(Level),
}

/// What a gauge stands at, a finite number; equal where it is the same to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(u64);

impl Level {
    /// Of a number.
    pub const fn new(value: f64) -> Self {
        Self(value.to_bits())
    }

    /// The number.
    pub const fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// One data point on its way to the evaluator; its bucket counts lie in the arena of the log that holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PointObservation {
    /// Which stream.
    pub stream: StreamId,
    /// Start; 0 where the sender does not say.
    pub start: UnixNanos,
    /// Time of the point: decides the slot.
    pub time: UnixNanos,
    /// When the request that carried it arrived.
    pub arrival: UnixNanos,
    /// Requests.
    pub count: u64,
    /// How to read the counts.
    pub shape: Shape,
    /// First of its counts in the arena.
    pub counts_at: u32,
    /// Number of its counts.
    pub counts_len: u32,
}

/// What is known of a stream from its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamMeta {
    /// Its identity, the same in every run of the program.
    pub key: u128,
    /// Version and operation.
    pub series: SeriesId,
    /// Who sent it.
    pub instance: InstanceId,
    /// What it counts.
    pub family: Family,
    /// Since when its points count.
    pub temporality: Temporality,
    /// Unit of its durations.
    pub unit: DurationUnit,
    /// How its requests ended.
    pub outcome: Outcome,
    /// Whether a status code says so.
    pub status: StatusSource,
    /// What its points count for beside requests.
    pub marks: Marks,
}
