//! The door to durable memory. The evaluator commits decisions through it before anyone sees them; what is
//! behind it (SQLite, by default) is the wiring's business.

use std::sync::Arc;

use super::hours::{HourRow, WantedHours};
use super::objectives::Alert;
use crate::deployment::{Action, Deployment};
use crate::model::{ServiceKey, UnixNanos, VersionKey};

/// What one evaluation changed. Committed as a whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// When.
    pub at: UnixNanos,
    /// Deployments that began or changed phase or verdict.
    pub deployments: Vec<Arc<Deployment>>,
    /// What must happen outside because of them.
    pub actions: Vec<Action>,
    /// Versions seen long enough to count as known from now on.
    pub known_versions: Vec<VersionKey>,
    /// State snapshots of the services for which one was due.
    pub snapshots: Vec<ServiceSnapshot>,
    /// What somebody must be told of an objective.
    pub alerts: Vec<Alert>,
    /// States of objectives for which one was due, and of those that an alert is about.
    pub objectives: Vec<ObjectiveState>,
    /// Hours of services that are over.
    pub hours: Vec<HourRow>,
}

/// The state of one service as bytes ([`crate::model::snapshot`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSnapshot {
    /// Which service.
    pub service: ServiceKey,
    /// When it was made.
    pub at: UnixNanos,
    /// The state.
    pub bytes: Vec<u8>,
}

/// The state of one objective as bytes, in a layout that outlives upgrades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectiveState {
    /// Of which service.
    pub service: ServiceKey,
    /// Of which journey; empty for the whole service.
    pub journey: String,
    /// When it was made.
    pub at: UnixNanos,
    /// The state.
    pub bytes: Vec<u8>,
}

impl Commit {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.deployments.is_empty()
            && self.actions.is_empty()
            && self.known_versions.is_empty()
            && self.snapshots.is_empty()
            && self.alerts.is_empty()
            && self.objectives.is_empty()
            && self.hours.is_empty()
    }
}

/// What was kept, read back at start.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The newest state snapshot of every service.
    pub snapshots: Vec<ServiceSnapshot>,
    /// Deployments that are not over, and the latest ended ones.
    pub deployments: Vec<Arc<Deployment>>,
    /// Versions that count as known.
    pub known_versions: Vec<VersionKey>,
    /// The newest state of every objective.
    pub objectives: Vec<ObjectiveState>,
}

/// Durable memory as the evaluator needs it. Called from the evaluator's own thread; may block.
pub trait Journal: Send {
    /// Writes everything or nothing.
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError>;

    /// Reads those of some hours that were written.
    fn hours(&mut self, wanted: &WantedHours) -> Result<Vec<HourRow>, JournalError>;
}

/// Failed to write or to read; after a write that failed the evaluator keeps the commit and tries again at its next tick.
#[derive(Debug, thiserror::Error)]
#[error("use the journal: {0}")]
pub struct JournalError(pub String);

/// Forgets everything: replay and tests.
#[derive(Debug, Default)]
pub struct NoJournal;

impl Journal for NoJournal {
    fn commit(&mut self, _: &Commit) -> Result<(), JournalError> {
        Ok(())
    }

    fn hours(&mut self, _: &WantedHours) -> Result<Vec<HourRow>, JournalError> {
        Ok(Vec::new())
    }
}
