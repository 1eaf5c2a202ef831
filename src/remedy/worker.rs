//! The loop over the outbox: takes what is due, attempts it, records the outcome, sleeps until the next one.
//! A few attempts run at once, so that a receiver that hangs does not hold up another one's rollback. What
//! was in flight when the program died is attempted again at the next start, under the same id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, counter, describe_counter};
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::webhook::{AttemptResult, Webhook};
use crate::model::{NANOS_PER_SECOND, UnixNanos};
use crate::pipeline::clock::Clock;
use crate::store::{
    AttemptOutcome, GAPS_SECONDS, LONGEST_RETRY_AFTER_SECONDS, OutboxRow, Store, StoreError, next_attempt,
};

/// Endpoints by their configured name. Replaced as a whole on reload.
pub type Endpoints = HashMap<String, Arc<Webhook>>;

const ATTEMPTS: &str = "rollguard_webhook_attempts_total";
const DEAD: &str = "rollguard_webhook_dead_total";
const UNRECORDED: &str = "rollguard_webhook_record_failures_total";

/// Attempts at once.
const IN_FLIGHT: usize = 8;
/// Longest sleep, so that a clock that was set does not leave a rollback waiting.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How long attempts may still run when the program stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after the database failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Sends what the outbox holds.
#[derive(Clone)]
pub struct Worker {
    store: Arc<Store>,
    endpoints: Arc<ArcSwap<Endpoints>>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    counters: Counters,
}

#[derive(Clone)]
struct Counters {
    delivered: Counter,
    retried: Counter,
    dead_attempts: Counter,
    dead: Counter,
    unrecorded: Counter,
}

impl Counters {
    fn new() -> Self {
        describe_counter!(ATTEMPTS, "Attempts to deliver a webhook, by what came of them");
        describe_counter!(DEAD, "Webhooks given up; somebody has to act by hand");
        describe_counter!(UNRECORDED, "Failed writes of what came of a webhook attempt; each is tried again");
        Self {
            delivered: counter!(ATTEMPTS, "outcome" => "delivered"),
            retried: counter!(ATTEMPTS, "outcome" => "retry"),
            dead_attempts: counter!(ATTEMPTS, "outcome" => "dead"),
            dead: counter!(DEAD),
            unrecorded: counter!(UNRECORDED),
        }
    }

    fn count(&self, outcome: &AttemptOutcome) {
        match outcome {
            AttemptOutcome::Delivered => self.delivered.increment(1),
            AttemptOutcome::Retry { .. } => self.retried.increment(1),
            AttemptOutcome::Dead(_) => {
                self.dead_attempts.increment(1);
                self.dead.increment(1);
            }
        }
    }
}

/// The attempts that are running: task and row id.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    rows: HashMap<Id, String>,
}

impl Worker {
    /// A worker over `store`. Install the metrics recorder first: counters are made here.
    pub fn new(store: Arc<Store>, endpoints: Arc<ArcSwap<Endpoints>>, clock: Arc<dyn Clock>) -> Self {
        Self { store, endpoints, clock, wake: Arc::new(Notify::new()), counters: Counters::new() }
    }

    /// Tells the worker, from any thread, that the outbox has a new row.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Works until `shutdown`, then lets running attempts finish for a few seconds.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut running = Running::default();
        while !shutdown.is_cancelled() {
            let pause = match self.start_due(&mut running).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the outbox cannot be read");
                    STORE_PAUSE
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
                Some(ended) = running.tasks.join_next_with_id() => {
                    let id = ended.map_or_else(|panicked| panicked.id(), |(id, ())| id);
                    running.rows.remove(&id);
                }
            }
        }
        let all = async { while running.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            tracing::warn!(
                "webhook attempts were still running at the end; they are sent again at the next start"
            );
        }
    }

    /// Starts attempts for the rows that are due; says how long nothing else will be.
    async fn start_due(&self, running: &mut Running) -> Result<Duration, StoreError> {
        // All that is pending, by time: as many as may run, as many as do run, and the one to wait for.
        let far = UnixNanos(i64::MAX as u64);
        let pending = self.in_store(move |store| store.due(far, 2 * IN_FLIGHT + 1)).await?;
        let now = self.clock.now();
        let mut pause = LONGEST_SLEEP;
        for row in pending {
            if running.rows.values().any(|id| *id == row.new.id) {
                continue;
            }
            let wait = row.next_at.since(now);
            if row.next_at > now && wait <= longest_gap_nanos() {
                pause = pause.min(Duration::from_nanos(wait));
                continue;
            }
            if running.rows.len() >= IN_FLIGHT {
                break;
            }
            let id = row.new.id.clone();
            let task = running.tasks.spawn(self.clone().attempt(row));
            running.rows.insert(task.id(), id);
        }
        Ok(pause)
    }

    async fn attempt(self, row: OutboxRow) {
        let endpoint = self.endpoints.load().get(&row.new.endpoint).cloned();
        let result = match endpoint {
            Some(webhook) => webhook.attempt(&row.new.id, row.new.body.clone(), self.clock.now()).await,
            None => AttemptResult::Retry {
                error: format!("no webhook named {:?} is configured", row.new.endpoint),
                after_seconds: None,
            },
        };
        let now = self.clock.now();
        let attempt = row.attempts + 1;
        let outcome = conclude(attempt, result, now);
        report(&row, attempt, &outcome);
        self.counters.count(&outcome);
        self.record(row.new.id, outcome, now).await;
    }

    /// Writes down how an attempt ended, for as long as it takes. The attempt is over: only the write is made
    /// again, never the request. Until it succeeds this task lives, its row counts as running, and nothing
    /// else starts it. When the program stops meanwhile the row is sent once more at the next start.
    async fn record(&self, id: String, outcome: AttemptOutcome, now: UnixNanos) {
        let mut failures: u32 = 0;
        loop {
            let (row, came_of_it) = (id.clone(), outcome.clone());
            let written = self.in_store(move |store| store.record_attempt(&row, &came_of_it, now)).await;
            let Err(error) = written else { return };
            failures = failures.saturating_add(1);
            self.counters.unrecorded.increment(1);
            if failures.is_power_of_two() {
                tracing::error!(%id, failures, error = &error as &dyn std::error::Error,
                    "what came of a webhook cannot be recorded; it is not sent again, the write is");
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }

    /// Runs a blocking call on the store away from the runtime's workers.
    async fn in_store<T, F>(&self, call: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || call(&store)).await {
            Ok(result) => result,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

/// The longest wait that the schedule gives. A row that is further off was planned before the clock was set
/// back: it is due now, since nobody knows how much of its wait is over.
fn longest_gap_nanos() -> u64 {
    let longest = GAPS_SECONDS.into_iter().fold(LONGEST_RETRY_AFTER_SECONDS, u64::max);
    longest * NANOS_PER_SECOND
}

/// What the `attempt`-th result means for the row.
fn conclude(attempt: u32, result: AttemptResult, now: UnixNanos) -> AttemptOutcome {
    match result {
        AttemptResult::Delivered => AttemptOutcome::Delivered,
        AttemptResult::Dead(error) => AttemptOutcome::Dead(error),
        AttemptResult::Retry { error, after_seconds } => match next_attempt(attempt, now, after_seconds) {
            Some(next_at) => AttemptOutcome::Retry { next_at, error },
            None => AttemptOutcome::Dead(format!("given up after {attempt} attempts: {error}")),
        },
    }
}

fn report(row: &OutboxRow, attempt: u32, outcome: &AttemptOutcome) {
    let (id, kind, endpoint) = (&row.new.id, &row.new.kind, &row.new.endpoint);
    let deployment = row.new.deployment_id.as_ref().map_or("-", |id| &id.0);
    match outcome {
        AttemptOutcome::Delivered => {
            tracing::info!(%id, kind, deployment, %endpoint, attempt, "webhook delivered");
        }
        AttemptOutcome::Retry { error, .. } => {
            tracing::warn!(%id, kind, deployment, %endpoint, attempt, %error, "webhook failed; it is tried again");
        }
        AttemptOutcome::Dead(error) => {
            tracing::error!(%id, kind, deployment, %endpoint, attempt, %error, "webhook is dead: act by hand");
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
