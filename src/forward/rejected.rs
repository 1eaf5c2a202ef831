//! The last requests that a downstream refused for good, so that somebody can find out what was lost and why
//! without having to catch it in the act.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::pipeline::RejectedRequest;

/// Requests remembered per exporter.
const KEPT: usize = 16;

/// The ring of one exporter.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<VecDeque<RejectedRequest>>);

impl Rejections {
    pub(super) fn push(&self, request: RejectedRequest) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(KEPT - 1);
        kept.push_front(request);
    }

    /// The newest first.
    pub(super) fn list(&self) -> Vec<RejectedRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
