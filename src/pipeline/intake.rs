//! Minimal stand-in for the door for spans: accepts and forgets.

use crate::model::{Discard, ResourceView, SpanSink, SpanView, UnixNanos};

/// Handle for receivers; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Intake;

impl Intake {
    /// Begins the batch of a request that arrived at this time.
    pub fn begin(&self, _arrival: UnixNanos) -> Batch {
        Batch
    }
}

/// The spans of one request.
#[derive(Debug)]
pub struct Batch;

impl Batch {
    /// Hands everything over, or nothing.
    pub fn commit(self) -> Result<(), Refused> {
        Ok(())
    }
}

impl SpanSink for Batch {
    fn resource(&mut self, _: &ResourceView<'_>) {}
    fn span(&mut self, _: &SpanView<'_>) {}
    fn discard(&mut self, _: Discard) {}
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No room.
    QueueFull,
    /// The program is ending.
    ShuttingDown,
}
