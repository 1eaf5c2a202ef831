//! The door for spans. A receiver begins a batch per request, lets the walker fill it, and commits it; see
//! [`Batch`] for what a span costs and [`Shards`] for who takes it from there.

use std::sync::Arc;

use super::batch::{Batch, PointMemory};
use super::registry::Registry;
use super::shards::Shards;
use crate::model::UnixNanos;

/// Handle for receivers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    pub(super) registry: Arc<Registry>,
    pub(super) shards: Arc<Shards>,
    /// What metric points were found to be.
    pub(super) known_points: Arc<PointMemory>,
}

impl Intake {
    /// A door to these shards, with names from this registry.
    pub fn new(registry: Arc<Registry>, shards: Arc<Shards>) -> Self {
        Self { registry, shards, known_points: Arc::default() }
    }

    /// Begins the batch of a request that arrived at this time.
    pub fn begin(&self, arrival: UnixNanos) -> Batch {
        Batch::new(self.clone(), arrival)
    }

    /// Refuses every commit from now on.
    pub fn close(&self) {
        self.shards.close();
    }
}
