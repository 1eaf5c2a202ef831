//! The memory limiter: requests are pushed back before their bodies are read while memory is short, and bodies
//! that are arriving are given up when it runs out. The keys are the Collector's; below the soft limit (the limit
//! less the spike) everything is taken, above it nothing new, and at the limit not even what has begun. Clients are
//! told to come again, and are taken in as soon as the memory is there.
//!
//! What counts as used is what is resident, for that is what a container is killed for, but at most twice of what
//! is allocated: pages that the allocator keeps for later must not shut the door for good. A request that was let in
//! takes memory only as its body arrives, so until it is answered a share stands for it; and of those that find no
//! room only a few wait for it, for what has arrived of a body waits with them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};
use serde::{Deserialize, Serialize};

use super::status::Refusal;
use crate::model::UnixNanos;
use crate::pipeline::human;
use crate::telemetry::Memory;

const MIB: u64 = 1 << 20;
/// How often at most the system is asked what is resident.
const SAMPLE_NANOS: u64 = 10_000_000;
/// What is resident counts up to this many times what is allocated.
const KEPT_PAGES: u64 = 2;
/// The spike, where none is set: a fifth of the limit, as the Collector.
const SPIKE_SHARE: u64 = 5;
/// What a request is expected to take: what may arrive of it unasked over HTTP/2, and more than clients send at once.
const SHARE_BYTES: u64 = MIB;
/// Share of the spike that those who wait for room may take.
const WAITING_SHARE: u64 = 4;
const REFUSED: &str = "rollguard_memory_refused_requests_total";
const LIMIT: &str = "rollguard_memory_limit_bytes";

/// How much memory may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryLimiterConfig {
    /// How often the limits of machine and container are asked for; what is used is with every request.
    #[serde(with = "human")]
    pub check_interval: Duration,
    /// The limit in MiB; 0 is that in percent.
    pub limit_mib: u64,
    /// How far below the limit new requests are pushed back, in MiB; 0 is a fifth of the limit.
    pub spike_limit_mib: u64,
    /// The limit in percent of what the machine or the container has; 0 is none.
    pub limit_percentage: u64,
    /// The spike in percent of the same; 0 is a fifth of the limit.
    pub spike_limit_percentage: u64,
}

impl Default for MemoryLimiterConfig {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(1),
            limit_mib: 0,
            spike_limit_mib: 0,
            limit_percentage: 80,
            spike_limit_percentage: 0,
        }
    }
}

impl MemoryLimiterConfig {
    /// Soft and hard limit in bytes, of a machine or container that has `most`; `None` where none is set.
    fn limits(&self, most: u64) -> Option<(u64, u64)> {
        let percent = |share: u64| most / 100 * share;
        let (hard, spike) = match (self.limit_mib, self.limit_percentage) {
            (0, 0) => return None,
            (0, share) => (percent(share), percent(self.spike_limit_percentage)),
            (mib, _) => (mib.saturating_mul(MIB), self.spike_limit_mib.saturating_mul(MIB)),
        };
        let spike = if spike == 0 { hard / SPIKE_SHARE } else { spike };
        Some((hard.saturating_sub(spike), hard))
    }

    /// What cannot work, each with a way out.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |ok: bool, key: &str, what: &str| {
            if !ok {
                problems.push(format!("receiver.memory_limiter.{key}: {what}"));
            }
        };
        require(!self.check_interval.is_zero(), "check_interval", "must be longer than 0s, for example 1s");
        require(self.limit_percentage <= 100, "limit_percentage", "must be at most 100");
        let has_mib = self.limit_mib > 0;
        let spike = "must be smaller than the limit, or nothing could be received";
        require(!has_mib || self.spike_limit_mib < self.limit_mib, "spike_limit_mib", spike);
        require(
            has_mib
                || self.spike_limit_percentage == 0
                || self.spike_limit_percentage < self.limit_percentage,
            "spike_limit_percentage",
            spike,
        );
        require(has_mib || self.spike_limit_mib == 0, "spike_limit_mib", "needs limit_mib beside it");
        problems
    }
}

/// Says whether there is memory for requests.
pub(super) struct MemoryLimiter {
    config: MemoryLimiterConfig,
    memory: Arc<dyn Memory>,
    soft: AtomicU64,
    hard: AtomicU64,
    /// Resident bytes: anonymous ones, and of files.
    resident: [AtomicU64; 2],
    /// When the limits are asked for next, and what is resident.
    next: [AtomicU64; 2],
    is_short: AtomicBool,
    /// Expected of requests that were let in, and of those that wait.
    expected: [AtomicU64; 2],
    refused: [Counter; 2],
}

/// What a request is expected to take, from when it is let in or waits until this is dropped.
pub(super) struct Expected {
    limiter: Arc<MemoryLimiter>,
    of: Of,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
enum Of {
    LetIn,
    Waiting,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.limiter.expected[self.of as usize].fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where a request was pushed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Admission,
    Body,
}

impl MemoryLimiter {
    pub(super) fn new(config: &MemoryLimiterConfig, memory: Arc<dyn Memory>) -> Self {
        describe_counter!(REFUSED, "Requests pushed back for want of memory, by how far they had come");
        describe_gauge!(LIMIT, "Memory from which on requests are pushed back (soft), or given up (hard)");
        let limiter = Self {
            config: config.clone(),
            memory,
            soft: AtomicU64::new(u64::MAX),
            hard: AtomicU64::new(u64::MAX),
            resident: Default::default(),
            next: Default::default(),
            is_short: AtomicBool::new(false),
            expected: Default::default(),
            refused: ["admission", "body"].map(|stage| counter!(REFUSED, "stage" => stage)),
        };
        limiter.ask_limits();
        limiter
    }

    /// Lets a request in, where there is room for what is used and expected.
    pub(super) fn admit(self: &Arc<Self>, now: UnixNanos) -> Option<Expected> {
        self.ask(now);
        let (used, [soft, hard]) = (self.used(), self.limits());
        let fits = |expected| used < soft && used.saturating_add(expected) <= hard;
        let expected = self.expect(Of::LetIn, fits);
        let is_short = expected.is_none();
        if self.is_short.swap(is_short, Ordering::Relaxed) != is_short {
            self.say(is_short, used, soft);
        }
        expected
    }

    /// Lets a request wait for room, where not too many do.
    pub(super) fn queue(self: &Arc<Self>) -> Option<Expected> {
        let [soft, hard] = self.limits();
        self.expect(Of::Waiting, |expected| expected <= (hard - soft) / WAITING_SHARE)
    }

    /// Stands for a request if all that is expected then fits.
    fn expect(self: &Arc<Self>, of: Of, fits: impl Fn(u64) -> bool) -> Option<Expected> {
        let [soft, hard] = self.limits();
        // Where the spike is less than that, requests come one by one.
        let bytes =
            if hard == u64::MAX { SHARE_BYTES } else { SHARE_BYTES.min((hard - soft) / WAITING_SHARE) };
        let all = self.expected[of as usize].fetch_add(bytes, Ordering::Relaxed) + bytes;
        let expected = Expected { limiter: Arc::clone(self), of, bytes };
        fits(all).then_some(expected)
    }

    /// A request that found no room until its wait was over.
    pub(super) fn refuse(&self) -> Refusal {
        self.refused[Stage::Admission as usize].increment(1);
        Refusal::Busy("memory is short".into())
    }

    /// A body that is given up when memory runs out while it arrives; `given_up` is called then.
    pub(super) fn watch<B, F: FnMut()>(self: &Arc<Self>, body: B, given_up: F) -> WatchedBody<B, F> {
        WatchedBody { body, limiter: Arc::clone(self), given_up }
    }

    fn used(&self) -> u64 {
        let [anonymous, of_files] = self.resident.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        let allocated = self.memory.allocated();
        allocated.max(anonymous.min(allocated.saturating_mul(KEPT_PAGES))).saturating_add(of_files)
    }

    /// Soft and hard.
    fn limits(&self) -> [u64; 2] {
        let hard = self.hard.load(Ordering::Relaxed);
        [self.soft.load(Ordering::Relaxed).min(hard), hard]
    }

    fn is_out(&self) -> bool {
        self.used() >= self.hard.load(Ordering::Relaxed)
    }

    /// Asks the system what is due: limits of containers may change while they run.
    fn ask(&self, now: UnixNanos) {
        let interval = u64::try_from(self.config.check_interval.as_nanos()).unwrap_or(u64::MAX);
        if is_due(&self.next[1], now, SAMPLE_NANOS.min(interval)) {
            let resident = self.memory.resident();
            self.resident[0].store(resident.anonymous, Ordering::Relaxed);
            self.resident[1].store(resident.of_files, Ordering::Relaxed);
        }
        if is_due(&self.next[0], now, interval) {
            self.ask_limits();
        }
    }

    fn ask_limits(&self) {
        let Some((soft, hard)) = self.config.limits(self.memory.most()) else { return };
        self.soft.store(soft, Ordering::Relaxed);
        self.hard.store(hard, Ordering::Relaxed);
        gauge!(LIMIT, "kind" => "soft").set(soft as f64);
        gauge!(LIMIT, "kind" => "hard").set(hard as f64);
    }

    fn say(&self, is_short: bool, used: u64, soft: u64) {
        let (used_mib, soft_limit_mib) = (used / MIB, soft / MIB);
        if is_short {
            tracing::warn!(
                used_mib,
                soft_limit_mib,
                "memory is short: requests are pushed back, and their senders told to come again"
            );
        } else {
            tracing::info!(used_mib, soft_limit_mib, "there is memory again: requests are taken");
        }
    }
}

/// Whether it is time, for one of those who ask. A clock that was set back must not end the asking.
fn is_due(next: &AtomicU64, now: UnixNanos, interval: u64) -> bool {
    let due = next.load(Ordering::Relaxed);
    if now.0 < due && due - now.0 <= interval {
        return false;
    }
    next.compare_exchange(due, now.0.saturating_add(interval), Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// See [`MemoryLimiter::watch`].
pub(super) struct WatchedBody<B, F> {
    body: B,
    limiter: Arc<MemoryLimiter>,
    given_up: F,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<B: Body + Unpin, F: FnMut() + Unpin> Body for WatchedBody<B, F>
where
    B::Error: Into<BoxError>,
    B::Data: Buf,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        if self.limiter.is_out() {
            self.limiter.refused[Stage::Body as usize].increment(1);
            (self.given_up)();
            // tonic passes a status on as it is; it says that the client should come again.
            return Poll::Ready(Some(Err(out_of_memory().to_grpc().into())));
        }
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a body is given up with.
pub(super) fn out_of_memory() -> Refusal {
    Refusal::Busy("memory ran out while the request arrived".into())
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
