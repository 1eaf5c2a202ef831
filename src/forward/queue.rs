//! The queue of one exporter for one kind of data: bounded in requests and in the bytes of memory that they
//! keep, first in first out. What is being sent still counts, for it still takes memory.
//!
//! Room is reserved before a request counts anywhere and filled afterwards, which cannot fail. A consumer takes
//! the oldest request, and with it those behind that may be sent in the same one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::QueueConfig;
use super::metrics::{Dropped, LaneMetrics};
use super::pieces::divisible;
use crate::pipeline::{DataType, Passage, QueueReport};

/// A message keeps the read buffer it arrived in, which is never smaller than this.
const LEAST_BYTES: usize = 8 * 1024;

/// Where requests wait.
#[derive(Debug, Clone)]
pub(super) enum Queue {
    /// In memory: gone with the process.
    Memory(Arc<MemoryQueue>),
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

#[derive(Debug)]
pub(super) struct MemoryQueue {
    data: DataType,
    most_requests: usize,
    most_bytes: usize,
    held: Mutex<Held>,
    filled: Notify,
    metrics: Arc<LaneMetrics>,
}

#[derive(Debug, Default)]
struct Held {
    waiting: VecDeque<Queued>,
    /// Reserved, waiting or being sent.
    requests: usize,
    bytes: usize,
    /// Nobody takes any more.
    is_over: bool,
}

/// Room for one request. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    queue: Arc<MemoryQueue>,
    bytes: usize,
}

/// A request on its way. What was not settled of it when it is dropped counts as lost at shutdown.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) passage: Passage,
    unsettled: u64,
    room: Room,
}

impl Queue {
    pub(super) fn in_memory(data: DataType, config: &QueueConfig, metrics: &Arc<LaneMetrics>) -> Self {
        Self::Memory(Arc::new(MemoryQueue {
            data,
            most_requests: config.queue_size,
            most_bytes: config.queue_bytes,
            held: Mutex::default(),
            filled: Notify::new(),
            metrics: Arc::clone(metrics),
        }))
    }

    /// Room for a request of this length. An empty queue has room for any.
    pub(super) fn reserve(&self, message_bytes: usize) -> Result<Room, NoRoom> {
        let Self::Memory(queue) = self;
        queue.reserve(message_bytes)
    }

    /// Puts a request where it has room.
    pub(super) fn push(&self, room: Room, passage: Passage) {
        let Self::Memory(queue) = self;
        let queued = Queued { unsettled: passage.records, passage, room };
        let mut held = queue.held();
        if held.is_over {
            // Dropped after the lock: giving room back takes it again.
            drop(held);
            return drop(queued);
        }
        held.waiting.push_back(queued);
        queue.filled.notify_one();
    }

    /// Gives up what waits: nobody takes any more.
    pub(super) fn abandon(&self) {
        let Self::Memory(queue) = self;
        let mut held = queue.held();
        held.is_over = true;
        let waiting = std::mem::take(&mut held.waiting);
        drop(held);
        drop(waiting);
    }

    /// The next requests, which are sent as one of at most `most_bytes`; a larger one comes alone. `None` when
    /// nothing waits after `shutdown`.
    pub(super) async fn take(&self, most_bytes: usize, shutdown: &CancellationToken) -> Option<Vec<Queued>> {
        let Self::Memory(queue) = self;
        loop {
            let taken = queue.take_now(most_bytes);
            if !taken.is_empty() {
                return Some(taken);
            }
            if shutdown.is_cancelled() {
                return None;
            }
            shutdown.run_until_cancelled(queue.filled.notified()).await;
        }
    }

    pub(super) fn report(&self) -> QueueReport {
        let Self::Memory(queue) = self;
        let held = queue.held();
        QueueReport {
            data: queue.data,
            requests: [held.requests, queue.most_requests],
            bytes: [held.bytes, queue.most_bytes],
        }
    }
}

impl MemoryQueue {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing in here stops half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(self: &Arc<Self>, message_bytes: usize) -> Result<Room, NoRoom> {
        let bytes = kept_bytes(message_bytes);
        let mut held = self.held();
        let is_full =
            held.requests >= self.most_requests || held.bytes.saturating_add(bytes) > self.most_bytes;
        if held.requests > 0 && is_full {
            return Err(NoRoom);
        }
        held.requests += 1;
        held.bytes += bytes;
        self.show(&held);
        Ok(Room { queue: Arc::clone(self), bytes })
    }

    fn take_now(&self, most_bytes: usize) -> Vec<Queued> {
        let mut held = self.held();
        let Some(first) = held.waiting.pop_front() else { return Vec::new() };
        let mut bytes = first.passage.message.len();
        let mut taken = vec![first];
        while let Some(next) = held.waiting.front()
            && divisible(self.data)
            && bytes.saturating_add(next.passage.message.len()) <= most_bytes
            && next.passage.metadata == taken[0].passage.metadata
        {
            bytes += next.passage.message.len();
            taken.extend(held.waiting.pop_front());
        }
        if !held.waiting.is_empty() {
            // One wake-up may stand for several requests.
            self.filled.notify_one();
        }
        taken
    }

    fn show(&self, held: &Held) {
        self.metrics.queue_size.set(held.requests as f64);
        self.metrics.queue_bytes.set(held.bytes as f64);
    }
}

/// Memory that a message of this length keeps: its buffer grew by doubling.
fn kept_bytes(message_bytes: usize) -> usize {
    message_bytes.max(LEAST_BYTES).checked_next_power_of_two().unwrap_or(usize::MAX)
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut held = self.queue.held();
        held.requests -= 1;
        held.bytes -= self.bytes;
        self.queue.show(&held);
    }
}

impl Queued {
    /// So many of its records were delivered, but for those that were rejected.
    pub(super) fn sent(&mut self, records: u64, rejected: u64) {
        let records = self.settle(records);
        self.room.queue.metrics.sent(records, rejected);
    }

    /// So many of its records were given up.
    pub(super) fn dropped(&mut self, records: u64, why: Dropped) {
        let records = self.settle(records);
        self.room.queue.metrics.dropped(why, records);
    }

    fn settle(&mut self, records: u64) -> u64 {
        let records = records.min(self.unsettled);
        self.unsettled -= records;
        records
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.unsettled > 0 {
            self.room.queue.metrics.dropped(Dropped::Shutdown, self.unsettled);
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
