//! Looks after credentials that come from files: each at its own interval, and all at once when a reload is
//! asked for. What cannot be used is said once, not at every look, and what was in force stays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, counter, describe_counter};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::error::chain;
use super::files::Refresh;

const RELOADS: &str = "rollguard_credentials_reloads_total";

/// Everything that is made of files, by the key of the configuration that names them.
#[derive(Default)]
pub(super) struct Reloader {
    sources: Mutex<HashMap<String, Arc<Source>>>,
}

struct Source {
    key: String,
    every: Duration,
    value: Arc<dyn Refresh>,
    applied: Counter,
    refused: Counter,
    /// What was said last.
    complaint: Mutex<Option<String>>,
}

impl Reloader {
    /// Looks after a value from now on. A key is used once: a second value would take the place of the first, which
    /// would follow its files no more.
    pub(super) fn watch(&self, key: &str, every: Duration, value: Arc<dyn Refresh>) {
        describe_counter!(RELOADS, "Changes of certificates, tokens and users; a refused one kept the old");
        let of = |outcome: &'static str| counter!(RELOADS, "key" => key.to_owned(), "outcome" => outcome);
        let source = Source {
            key: key.to_owned(),
            every,
            value,
            applied: of("applied"),
            refused: of("refused"),
            complaint: Mutex::default(),
        };
        let before = self.sources().insert(key.to_owned(), Arc::new(source));
        debug_assert!(before.is_none(), "{key} is watched already");
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all files now. Blocks on them.
    pub(super) fn refresh(&self) {
        let sources: Vec<Arc<Source>> = self.sources().values().cloned().collect();
        sources.iter().for_each(|source| source.refresh());
    }

    /// Looks at each at its interval, until the token is cancelled.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let sources: Vec<Arc<Source>> = self.sources().values().cloned().collect();
        let mut tasks = JoinSet::new();
        for source in sources.into_iter().filter(|source| !source.every.is_zero()) {
            tasks.spawn(stop.clone().run_until_cancelled_owned(source.watch()));
        }
        stop.cancelled().await;
        tasks.shutdown().await;
    }
}

impl Source {
    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.every).await;
            let source = Arc::clone(&self);
            // A network file system may keep it waiting.
            let _ = tokio::task::spawn_blocking(move || source.refresh()).await;
        }
    }

    fn refresh(&self) {
        let outcome = self.value.refresh();
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(changed) => {
                if changed {
                    self.applied.increment(1);
                    tracing::info!(key = self.key, "the files changed; the new credentials are in force");
                } else if complaint.is_some() {
                    tracing::info!(key = self.key, "the files are again what is in force");
                }
                *complaint = None;
            }
            Err(error) => {
                let why = chain(&error);
                if complaint.as_deref() != Some(&why) {
                    self.refused.increment(1);
                    tracing::error!(
                        key = self.key,
                        "the new credentials are not used, the old ones stay: failed to {why}"
                    );
                    *complaint = Some(why);
                }
            }
        }
    }
}
