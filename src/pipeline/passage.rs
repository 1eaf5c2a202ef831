//! What a receiver needs of the rest of the program, as traits: someone who takes spans, and someone who
//! passes received bytes on. The receiver knows neither the shards nor the forwarder behind them.

use bytes::Bytes;

use super::{Batch, Disposition, Intake, Refused};
use crate::model::{LogSink, PointSink, SpanSink, UnixNanos};

/// A kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// All signals.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    /// The word used in paths and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// Takes the spans of requests.
pub trait Admission: Clone + Send + Sync + 'static {
    /// What the spans of one request are put into.
    type Batch: AdmissionBatch;
    /// Begins the batch of a request that arrived at `arrival`.
    fn begin(&self, arrival: UnixNanos) -> Self::Batch;
    /// Records of a message that came before, byte by byte, and is not read again.
    fn duplicate(&self, signal: Signal, records: u64);
}

/// The records of one request. Nothing is counted until it is committed; dropped, it is forgotten.
pub trait AdmissionBatch: SpanSink + PointSink + LogSink {
    /// Hands everything over, or nothing.
    fn commit(self) -> Result<(), Refused>;
}

impl Admission for Intake {
    type Batch = Batch;

    fn begin(&self, arrival: UnixNanos) -> Batch {
        Self::begin(self, arrival)
    }

    fn duplicate(&self, signal: Signal, records: u64) {
        let ledger = self.shards.ledger();
        ledger.receive(signal, records);
        ledger.settle(signal, Disposition::Duplicate, records);
    }
}

impl AdmissionBatch for Batch {
    fn commit(self) -> Result<(), Refused> {
        Self::commit(self)
    }
}

/// No room downstream now; later there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Passes received messages on unchanged.
pub trait Downstream: Send + Sync {
    /// Reserves room for a message, so that a request is either both counted and passed on or neither.
    /// `None` where this signal goes nowhere.
    fn reserve(&self, signal: Signal, message_bytes: usize) -> Result<Option<Box<dyn Permit>>, Full>;
}

/// Reserved room. Dropped unused, it is given back.
pub trait Permit: Send {
    /// Passes the message on; `records` is how many spans, points or log records it holds.
    fn send(self: Box<Self>, message: Bytes, records: u64);
}

/// Nothing is passed on.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDownstream;

impl Downstream for NoDownstream {
    fn reserve(&self, _: Signal, _: usize) -> Result<Option<Box<dyn Permit>>, Full> {
        Ok(None)
    }
}
