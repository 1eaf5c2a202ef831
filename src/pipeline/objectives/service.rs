//! Objectives and deployments of one service together: what a deployment spends, and whether it is under review.

use std::sync::Arc;

use crate::deployment::{Deployment, Event};
use crate::model::{Slot, UnixNanos};
use crate::pipeline::journal::Commit;
use crate::pipeline::running::Running;
use crate::pipeline::service::Service;

impl Service {
    /// Looks at the objectives; what must be told and kept goes into the commit.
    pub(in crate::pipeline) fn look_at_objectives(
        &mut self,
        since: Option<Slot>,
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        let budget = self.objectives.budget();
        self.running.iter_mut().for_each(|running| running.spend(&self.versions, budget));
        let newest = self.running.iter().filter(|r| r.is_judging()).max_by_key(|r| r.deployment().started_at);
        let deployment: Option<Arc<Deployment>> = newest.map(Running::deployment).map(Arc::clone);
        let told = commit.alerts.len();
        self.objectives.look(&self.key, deployment.as_ref(), since, now, &mut commit.alerts);
        self.review(deployment.as_deref(), now, commit);
        if commit.alerts.len() > told {
            self.objectives.save(&self.key, now, commit);
        }
    }

    /// Puts the newest deployment under review, or ends that.
    fn review(&mut self, newest: Option<&Deployment>, now: UnixNanos, commit: &mut Commit) {
        let burn = self.objectives.review_burn();
        for running in &mut self.running {
            let marked = running.deployment().under_review_since.is_some();
            match burn {
                Some(burn) if newest.is_some_and(|d| d.id == running.deployment().id) && !marked => {
                    running.apply(Event::UnderReview { burn }, now, commit);
                }
                None if marked => running.apply(Event::ReviewOver, now, commit),
                _ => {}
            }
        }
    }
}
