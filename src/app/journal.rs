//! Decisions, made durable together with what must be sent because of them: the glue between the
//! evaluator's journal, the store and the webhook's body.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::config::Config;
use crate::deployment::{Action, Deployment};
use crate::pipeline::{Alert, Commit, HourRow, Journal, JournalError, WantedHours};
use crate::remedy::{KIND_ROLLBACK, Links, alert_body, alert_kind, fail_body};
use crate::store::{NewOutboxRow, Store, outbox_id};

/// Writes to the store; a rollback becomes an outbox row in the same transaction.
pub(super) struct DurableJournal {
    pub(super) store: Arc<Store>,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) wake: Arc<Notify>,
}

impl Journal for DurableJournal {
    fn commit(&mut self, commit: &Commit) -> Result<(), JournalError> {
        let rollbacks = commit.actions.iter().filter_map(|action| self.row(action));
        let alerts = commit.alerts.iter().filter_map(|alert| self.alert(alert));
        let rows: Vec<NewOutboxRow> = rollbacks.chain(alerts).collect();
        self.store.commit(commit, &rows).map_err(|e| JournalError(chain(&e)))?;
        if !rows.is_empty() {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn hours(&mut self, wanted: &WantedHours) -> Result<Vec<HourRow>, JournalError> {
        self.store.hours(&wanted.service, &wanted.numbers).map_err(|e| JournalError(chain(&e)))
    }
}

impl DurableJournal {
    fn row(&self, action: &Action) -> Option<NewOutboxRow> {
        let Action::Rollback(deployment) = action;
        let resolved = self.config.load().policies.resolve(&deployment.service, &deployment.release);
        let Some(endpoint) = resolved.webhook else {
            warn_without_webhook(deployment);
            return None;
        };
        let links =
            Links { runbook_url: resolved.links.runbook_url, dashboard_url: resolved.links.dashboard_url };
        Some(NewOutboxRow {
            // One message per fail, whatever it proposes.
            id: outbox_id(&deployment.id.0, KIND_ROLLBACK, &endpoint),
            deployment_id: Some(deployment.id.clone()),
            kind: resolved.proposal.as_str().to_owned(),
            endpoint,
            body: fail_body(deployment, resolved.proposal, &links),
        })
    }

    /// An alert goes out only where a webhook is named for it; it is in the log, the API and the metrics anyway.
    fn alert(&self, alert: &Alert) -> Option<NewOutboxRow> {
        let config = self.config.load();
        let endpoint = config.objectives.webhook.clone()?;
        let resolved = config.policies.resolve(&alert.objective.service, Deployment::VERSION);
        let links =
            Links { runbook_url: resolved.links.runbook_url, dashboard_url: resolved.links.dashboard_url };
        let (cause, kind) = (alert.cause(), alert_kind(alert));
        // Of the beginning and the end, whatever the endpoint.
        let alert_id = outbox_id(&cause, "alert", "").replacen("msg", "alert", 1);
        Some(NewOutboxRow {
            id: outbox_id(&cause, kind, &endpoint),
            deployment_id: alert.deployment.as_ref().map(|d| d.id.clone()),
            kind: kind.to_owned(),
            endpoint,
            body: alert_body(alert, &alert_id, &links),
        })
    }
}

const UNSENDABLE: &str = "rollguard_rollback_without_webhook_total";

fn warn_without_webhook(deployment: &Deployment) {
    metrics::describe_counter!(UNSENDABLE, "Rollbacks ordered while the policy named no webhook");
    metrics::counter!(UNSENDABLE).increment(1);
    tracing::error!(deployment = %deployment.id, service = %deployment.service,
        "a rollback was ordered but the policy names no webhook; set policies.defaults.webhook");
}

/// An error and its causes as one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
