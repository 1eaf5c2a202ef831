//! The one number that the picture cannot give: rollbacks ever ordered. The picture forgets old deployments,
//! and a counter must never fall, so each deployment is counted once, when it is first seen with its order.

use std::collections::{BTreeMap, HashSet};

use crate::deployment::Deployment;
use crate::model::{DeploymentId, ServiceKey};
use crate::pipeline::Board;

/// More services than this with a rollback are not told apart; the caps of the pipeline lie below.
const MAX_SERVICES: usize = 10_000;

/// Counts rollbacks per service.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counted: HashSet<DeploymentId>,
    rollbacks: BTreeMap<ServiceKey, u64>,
}

impl Tally {
    /// Takes a new picture into account and returns the counts.
    pub(super) fn update(&mut self, board: &Board) -> &BTreeMap<ServiceKey, u64> {
        let ordered: Vec<&Deployment> =
            board.deployments.iter().map(AsRef::as_ref).filter(|d| d.rollback_ordered).collect();
        for deployment in &ordered {
            if self.counted.contains(&deployment.id) {
                continue;
            }
            if self.rollbacks.len() < MAX_SERVICES || self.rollbacks.contains_key(&deployment.service) {
                *self.rollbacks.entry(deployment.service.clone()).or_default() += 1;
            }
        }
        // What has left the picture does not come back, so only what is in it must be remembered.
        self.counted = ordered.iter().map(|d| d.id.clone()).collect();
        &self.rollbacks
    }
}
