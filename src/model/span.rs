//! A span as a borrowed view. Decoding hands these on and nothing else; they are never stored. Strings are the raw bytes of the message: OTLP senders do send invalid UTF-8, and one bad byte
//! must not cost a batch, so conversion (lossy) happens where a label is made, once per series.

use super::{Marks, UnixNanos};

/// `Span.kind`; numbers beyond the known ones read as `Unspecified`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpanKind {
    /// 0, or unknown.
    #[default]
    Unspecified,
    /// 1
    Internal,
    /// 2: an entry span.
    Server,
    /// 3
    Client,
    /// 4
    Producer,
    /// 5: an entry span.
    Consumer,
}

impl SpanKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Unspecified, Self::Internal, Self::Server, Self::Client, Self::Producer, Self::Consumer];
}

/// How a request ended, for the SLIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Served.
    #[default]
    Good,
    /// Failed by the service's own fault.
    Bad,
    /// Good for availability, but refused as the client's fault (401, INVALID_ARGUMENT, ..).
    ClientError,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Good, Self::Bad, Self::ClientError];
}

/// Whether the span carried an HTTP or RPC status code; client errors are testable only where one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatusSource {
    /// Neither.
    #[default]
    None,
    /// `http.response.status_code`, `rpc.status_code` or one of their older names.
    Code,
}

/// What `tracestate` says of the probability with which this span was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum SamplingWeight {
    /// No usable `ot` member.
    #[default]
    Unknown,
    /// Adjusted count 2^56 / (2^56 - T), at least 1.
    Known(f64),
    /// `th` and the randomness contradict each other, or the member is malformed.
    Inconsistent,
}

/// One entry span, classified. Built only for spans that make SLIs (kind SERVER or CONSUMER, valid times).
#[derive(Debug, Clone, Copy, Default)]
pub struct SpanView<'a> {
    /// Operation, first part: the HTTP method, RPC service (old convention) or empty.
    pub operation_head: &'a [u8],
    /// What stands between head and tail when both are present: `b" "` or `b"/"`.
    pub operation_joint: &'a [u8],
    /// Operation, second part: route, RPC method, destination, or the span name.
    pub operation_tail: &'a [u8],
    /// Start.
    pub start: UnixNanos,
    /// End; never 0.
    pub end: UnixNanos,
    /// Good, bad, or the client's fault.
    pub outcome: Outcome,
    /// Whether a status code was there.
    pub status: StatusSource,
    /// Sampling weight from `tracestate`.
    pub weight: SamplingWeight,
    /// Raw trace id, empty or 16 bytes: exemplars.
    pub trace_id: &'a [u8],
    /// What it counts for, by the program of its service.
    pub marks: Marks,
    /// Quantities that it carries, each with the number of its measure.
    pub quantities: &'a [(u8, u64)],
}

/// A span that is no request but counts for something: a call to a database, a retry, a message sent.
#[derive(Debug, Clone, Copy)]
pub struct MarkedSpan<'a> {
    /// Start.
    pub start: UnixNanos,
    /// End; never 0.
    pub end: UnixNanos,
    /// What it counts for; may be nothing but its quantities.
    pub marks: Marks,
    /// Quantities that it carries, each with the number of its measure.
    pub quantities: &'a [(u8, u64)],
}
