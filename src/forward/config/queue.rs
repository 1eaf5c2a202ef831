//! `sending_queue` and `retry_on_failure`: the Collector's keys and defaults.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::pipeline::human;

/// What waits to be sent, for each kind of data apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Always `true`: requests are answered once they count, so what is downstream never holds up an answer.
    pub enabled: bool,
    /// Where it waits: in memory, and gone with the process, or on disk.
    pub storage: Option<Storage>,
    /// Most requests that may wait; by default 1,000 in memory and 1,000,000 on disk.
    pub queue_size: Option<usize>,
    /// Most bytes that they may keep: of memory, 64 MiB by default, or of disk, 1 GiB. A request larger than this may
    /// have it all.
    pub queue_bytes: Option<usize>,
    /// Requests that are sent at a time. With 1 they are sent in the order in which they came; with more no
    /// order is promised.
    pub num_consumers: usize,
    /// What happens to a request that finds it full.
    pub on_full: OnFull,
}

/// Where a queue is that outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// In the directory of the section `file_storage`.
    FileStorage,
}

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    /// The request is refused, for all exporters and for the verdict; its sender sends it again.
    #[default]
    Refuse,
    /// This exporter goes without it; it is counted as dropped.
    Drop,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            storage: None,
            queue_size: None,
            queue_bytes: None,
            num_consumers: 10,
            on_full: OnFull::Refuse,
        }
    }
}

impl QueueConfig {
    /// The queue of an exporter for people who look: it never stands in the way.
    pub(super) fn aside() -> Self {
        Self { num_consumers: 1, on_full: OnFull::Drop, ..Self::default() }
    }

    /// The same from a configuration: what is left out is as in [`QueueConfig::aside`].
    pub(super) fn deserialize_aside<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// The keys once more, for other defaults.
        #[derive(Deserialize)]
        #[serde(remote = "QueueConfig", deny_unknown_fields, default = "QueueConfig::aside")]
        struct Aside {
            enabled: bool,
            storage: Option<Storage>,
            queue_size: Option<usize>,
            queue_bytes: Option<usize>,
            num_consumers: usize,
            on_full: OnFull,
        }
        Aside::deserialize(from)
    }

    /// One of so many parts of it.
    pub(in crate::forward) fn part(&self, parts: usize) -> Self {
        let share = |all: usize| Some(all.div_ceil(parts.max(1)));
        Self {
            queue_size: share(self.most_requests()),
            queue_bytes: share(self.most_bytes()),
            ..self.clone()
        }
    }

    /// Most requests.
    pub(in crate::forward) fn most_requests(&self) -> usize {
        self.queue_size.unwrap_or(if self.storage.is_some() { 1_000_000 } else { 1_000 })
    }

    /// Most bytes.
    pub(in crate::forward) fn most_bytes(&self) -> usize {
        self.queue_bytes.unwrap_or(if self.storage.is_some() { 1 << 30 } else { 64 << 20 })
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |ok: bool, problem: &str| {
            if !ok {
                problems.push(format!("sending_queue.{problem}"));
            }
        };
        require(
            self.enabled,
            "enabled: must be true; a request is answered once it counts, and what counts is queued. For a short \
             queue set queue_size: 1",
        );
        require(
            (1..=1_000_000_000).contains(&self.most_requests()),
            "queue_size: must be between 1 and 1000000000 requests",
        );
        require(self.most_bytes() >= 1 << 20, "queue_bytes: must be at least 1048576 (1 MiB)");
        require((1..=256).contains(&self.num_consumers), "num_consumers: must be between 1 and 256");
        problems
    }
}

/// When a request that was not taken is sent again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Whether it is sent again at all.
    pub enabled: bool,
    /// Wait before the second attempt.
    #[serde(with = "human")]
    pub initial_interval: Duration,
    /// By how much a wait is drawn shorter or longer, as a share of it.
    pub randomization_factor: f64,
    /// Growth of the wait from one attempt to the next.
    pub multiplier: f64,
    /// Longest wait.
    #[serde(with = "human")]
    pub max_interval: Duration,
    /// How long it is tried; 0 is for ever. By default 5 minutes, and for ever where the queue is on disk.
    #[serde(with = "human::optional")]
    pub max_elapsed_time: Option<Duration>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: None,
        }
    }
}

impl RetryConfig {
    /// How long a request is tried; `None` is for ever.
    pub fn most_elapsed(&self, storage: Option<Storage>) -> Option<Duration> {
        let in_memory = storage.is_none().then_some(Duration::from_secs(300));
        self.max_elapsed_time.or(in_memory).filter(|time| !time.is_zero())
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |ok: bool, problem: &str| {
            if !ok {
                problems.push(format!("retry_on_failure.{problem}"));
            }
        };
        require(!self.initial_interval.is_zero(), "initial_interval: must be longer than 0s");
        require(
            self.max_interval >= self.initial_interval,
            "max_interval: must not be shorter than initial_interval",
        );
        require(
            (0.0..=1.0).contains(&self.randomization_factor),
            "randomization_factor: must be between 0 and 1",
        );
        require((1.0..=100.0).contains(&self.multiplier), "multiplier: must be between 1 and 100");
        problems
    }
}
