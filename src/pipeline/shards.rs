//! The hand-over from the workers to the evaluator. Each worker thread appends whole batches to a shard of
//! its own, a bounded log under a mutex that is locked once per batch; the evaluator takes everything by
//! swapping buffers. What was appended is taken exactly once.
//!
//! A log rather than counters: lateness, warm-up and the choice of the cell need what only the evaluator
//! knows, and 48 bytes a span for one tick are cheap.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::BatchBuffers;
use super::blindness::Blindness;
use super::findings::Finding;
use super::ledger::Ledger;
use super::passage::DataType;
use super::point_log::PointLog;
use crate::model::{Exemplar, Extra, Observation, PointObservation, UnixNanos};

/// Spans and metric points that one shard holds between two ticks of the evaluator, unless told otherwise.
pub const DEFAULT_SHARD_CAPACITY: usize = 262_144;
/// Bucket counts that one shard holds between two ticks, per point of its capacity.
const COUNTS_PER_POINT: usize = 16;
/// Exemplars that one shard holds between two ticks.
const EXEMPLARS_PER_SHARD: usize = 1_024;
/// Error logs and exceptions that one shard holds between two ticks, of 100 bytes each.
const FINDINGS_PER_SHARD: usize = 65_536;
/// What spans count for beside being requests, for which an emptied log keeps room.
const KEPT_EXTRAS: usize = 16_384;
/// Idle batch buffers kept per shard; more are freed.
const POOL_PER_SHARD: usize = 8;

/// Why a batch was not taken. Nothing of it is counted; the sender should try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The evaluator is behind: the log of this worker is full.
    #[error("ingest queue full")]
    QueueFull,
    /// The program is ending.
    #[error("shutting down")]
    ShuttingDown,
}

impl Refused {
    /// The word used as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

/// Totals of the intake. Monotone; only committed batches count, but for the refusals.
#[derive(Debug, Default)]
pub struct IntakeCounters {
    /// Entry spans handed to the evaluator.
    pub spans: AtomicU64,
    /// Entry spans of batches that were refused because the log was full.
    pub refused_full: AtomicU64,
    /// Entry spans of batches that were refused at the end of the program.
    pub refused_shutdown: AtomicU64,
    /// Spans whose sampling threshold was malformed or contradicted their randomness.
    pub sampling_inconsistent: AtomicU64,
    /// Exemplars that found no room.
    pub exemplars_dropped: AtomicU64,
    /// Resource attributes that occurred more than once in their resource; the last one counts.
    pub attributes_repeated: AtomicU64,
    /// Resource attributes given by index into a string table, which only profiles have: absent.
    pub attributes_indexed: AtomicU64,
}

impl IntakeCounters {
    /// Counts what resources said in unusable ways; an index is said aloud, once.
    pub(super) fn note_attributes(&self, repeated: u64, indexed: u64) {
        if repeated > 0 {
            self.attributes_repeated.fetch_add(repeated, Ordering::Relaxed);
        }
        if indexed > 0 && self.attributes_indexed.fetch_add(indexed, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "a sender names resource attributes by index into a string table, which only profiles have; \
                 they count as absent, see rollguard_resource_attributes_total"
            );
        }
    }
}

/// The shards. One per worker thread; threads beyond that share.
#[derive(Debug)]
pub struct Shards {
    shards: Box<[Shard]>,
    capacity: usize,
    counters: IntakeCounters,
    ledger: Arc<Ledger>,
    /// Requests refused by exporters since the last drain.
    blindness: Mutex<Blindness>,
}

#[derive(Debug, Default)]
struct Shard {
    log: Mutex<Log>,
    #[expect(clippy::vec_box, reason = "batches hold them boxed, so taking and returning moves a pointer")]
    pool: Mutex<Vec<Box<BatchBuffers>>>,
}

#[derive(Debug, Default)]
struct Log {
    observations: Vec<Observation>,
    extras: Vec<Extra>,
    points: PointLog,
    exemplars: Vec<Exemplar>,
    findings: Vec<Finding>,
    /// What has a [`Room`] and is not appended yet.
    promised: Load,
    closed: bool,
}

/// What a batch puts into a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Spans and points.
    pub(super) records: usize,
    /// Bucket counts of the points.
    pub(super) counts: usize,
    pub(super) findings: usize,
}

/// Room in the log of one shard, held until the batch is appended or given up.
#[derive(Debug)]
pub struct Room {
    shards: Arc<Shards>,
    shard: usize,
    load: Load,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut log = lock(&self.shards.shards[self.shard].log);
        log.promised.records -= self.load.records;
        log.promised.counts -= self.load.counts;
        log.promised.findings -= self.load.findings;
    }
}

/// What the evaluator took. Keep it between ticks: its buffers are swapped with those of the shards.
#[derive(Debug, Default)]
pub struct Drained {
    logs: Vec<Vec<Observation>>,
    /// What spans count for beside being requests.
    pub(super) extras: Vec<Extra>,
    points: Vec<PointLog>,
    /// Trace ids of failed and slow spans.
    pub exemplars: Vec<Exemplar>,
    /// Error logs and exceptions.
    pub(super) findings: Vec<Finding>,
    /// Requests that exporters refused.
    pub(super) blindness: Blindness,
}

impl Drained {
    /// What was committed since the drain before, in the order of its commits per worker.
    pub fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.logs.iter().flatten()
    }

    /// Metric points that were committed since the drain before, with their bucket counts.
    pub fn points(&self) -> impl Iterator<Item = (&PointObservation, &[u64])> {
        self.points.iter().flat_map(PointLog::iter)
    }

    /// Number of observations.
    pub fn len(&self) -> usize {
        self.logs.iter().map(Vec::len).sum()
    }

    /// Whether nothing was committed since the drain before.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shards {
    /// As many shards as there are worker threads, each for `capacity` spans between two drains.
    pub fn new(workers: usize, capacity: usize) -> Self {
        let shards = (0..workers.max(1)).map(|_| Shard::default()).collect();
        Self {
            shards,
            capacity,
            counters: IntakeCounters::default(),
            ledger: Arc::default(),
            blindness: Mutex::default(),
        }
    }

    /// Totals of the intake.
    pub fn counters(&self) -> &IntakeCounters {
        &self.counters
    }

    /// What became of every record; the engine goes on with it.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Spans and points waiting for the evaluator, over all shards.
    pub fn waiting(&self) -> usize {
        let waiting = |log: &Log| log.observations.len() + log.extras.len() + log.points.len();
        self.shards.iter().map(|shard| waiting(&lock(&shard.log))).sum()
    }

    /// Notes that a request was refused because an exporter had no room.
    pub(super) fn note_refusal(&self, data: DataType, by: &Arc<str>, at: UnixNanos) {
        lock(&self.blindness).note(data, by, at);
    }

    /// Takes everything that was committed. What `out` held before is gone.
    pub fn drain(&self, out: &mut Drained) {
        out.exemplars.clear();
        out.blindness = std::mem::take(&mut lock(&self.blindness));
        out.extras.clear();
        out.extras.shrink_to(self.capacity);
        out.findings.clear();
        out.findings.shrink_to(FINDINGS_PER_SHARD);
        out.logs.resize_with(self.shards.len(), Vec::new);
        out.points.resize_with(self.shards.len(), PointLog::default);
        for ((shard, buffer), points) in self.shards.iter().zip(&mut out.logs).zip(&mut out.points) {
            points.clear();
            buffer.clear();
            // A batch larger than the log is taken when the log is empty; do not keep its memory for ever.
            buffer.shrink_to(self.capacity);
            let mut log = lock(&shard.log);
            std::mem::swap(&mut log.observations, buffer);
            std::mem::swap(&mut log.points, points);
            out.exemplars.append(&mut log.exemplars);
            out.extras.append(&mut log.extras);
            log.extras.shrink_to(KEPT_EXTRAS);
            out.findings.append(&mut log.findings);
        }
    }

    /// Refuses every batch from now on. When this returns, a drain takes the last that was committed, but for
    /// those that had room and are not committed yet.
    pub fn close(&self) {
        for shard in &self.shards {
            lock(&shard.log).closed = true;
        }
    }

    /// Buffers for a batch of this thread.
    pub(super) fn take_buffers(&self) -> Box<BatchBuffers> {
        lock(&self.mine().pool).pop().unwrap_or_default()
    }

    /// Gives buffers back; they have to be clear.
    pub(super) fn return_buffers(&self, buffers: Box<BatchBuffers>) {
        let mut pool = lock(&self.mine().pool);
        if pool.len() < POOL_PER_SHARD {
            pool.push(buffers);
        }
    }

    /// Room for a batch in the log of this thread's shard. An empty log takes a batch of any size: a batch is
    /// bounded by the largest message, and one that never fitted would be sent again for ever.
    pub(super) fn reserve(self: &Arc<Self>, load: Load) -> Result<Room, Refused> {
        let shard = thread_ordinal() % self.shards.len();
        let mut log = lock(&self.shards[shard].log);
        if log.closed {
            return Err(Refused::ShuttingDown);
        }
        let waiting = log.observations.len() + log.extras.len() + log.points.len() + log.promised.records;
        let counts = log.points.counts_len() + log.promised.counts + load.counts;
        let findings = log.findings.len() + log.promised.findings;
        let too_many = waiting + load.records > self.capacity || counts > self.capacity * COUNTS_PER_POINT;
        if waiting > 0 && load.records > 0 && too_many {
            return Err(Refused::QueueFull);
        }
        if findings > 0 && findings + load.findings > FINDINGS_PER_SHARD {
            return Err(Refused::QueueFull);
        }
        log.promised.records += load.records;
        log.promised.counts += load.counts;
        log.promised.findings += load.findings;
        Ok(Room { shards: Arc::clone(self), shard, load })
    }

    /// Appends a batch where it has room. After [`Shards::close`] it is still taken, for its sender may have
    /// been told so; it counts if the last drain is yet to come.
    pub(super) fn append(
        &self,
        room: Room,
        (observations, extras): (&[Observation], &[Extra]),
        points: &PointLog,
        exemplars: &[Exemplar],
        findings: &mut Vec<Finding>,
    ) {
        let mut log = lock(&self.shards[room.shard].log);
        log.findings.append(findings);
        log.observations.extend_from_slice(observations);
        log.extras.extend_from_slice(extras);
        log.points.extend(points);
        let spare = EXEMPLARS_PER_SHARD.saturating_sub(log.exemplars.len()).min(exemplars.len());
        log.exemplars.extend_from_slice(&exemplars[..spare]);
        drop(log);
        drop(room);
        if spare < exemplars.len() {
            self.counters.exemplars_dropped.fetch_add((exemplars.len() - spare) as u64, Ordering::Relaxed);
        }
    }

    fn mine(&self) -> &Shard {
        &self.shards[thread_ordinal() % self.shards.len()]
    }
}

/// 0 for the first thread that asks, 1 for the second, and so on.
fn thread_ordinal() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static ORDINAL: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    ORDINAL.with(|ordinal| *ordinal)
}

/// A panic while a log was held leaves a log that is still whole: appends and swaps do not stop half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
