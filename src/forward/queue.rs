//! The queue of one exporter for one kind of data: bounded in requests and in the bytes of memory that they
//! keep, first in first out. What is being sent still counts, for it still takes memory.
//!
//! Room is reserved before a request counts anywhere, on disk it is written then, and filled afterwards, which
//! cannot fail. A consumer takes the oldest request, and with it those behind that may be sent in the same one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::QueueConfig;
use super::disk::DiskQueue;
use super::metrics::{Dropped, LaneMetrics};
use super::pieces::divisible;
use crate::pipeline::{DataType, Passage, QueueReport};
use crate::spool::{Appended, Delivery, Reservation};

/// A message keeps the read buffer it arrived in, which is never smaller than this.
const LEAST_BYTES: usize = 8 * 1024;

/// Where requests wait.
#[derive(Debug, Clone)]
pub(super) enum Queue {
    /// In memory: gone with the process.
    Memory(Arc<MemoryQueue>),
    /// On disk: what is not sent is there after a restart.
    Disk(Arc<DiskQueue>),
}

/// Room for one request. Given back when it is dropped.
#[derive(Debug)]
pub(super) enum Room {
    Memory(MemoryRoom),
    /// On disk, where it must be written before it is pushed.
    Disk(Reservation),
    Written(Appended),
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

#[derive(Debug)]
pub(super) struct MemoryRoom {
    queue: Arc<MemoryQueue>,
    bytes: usize,
}

/// A request on its way. What was not settled of it when it is dropped counts as lost at shutdown, or is on disk and
/// sent again.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) passage: Passage,
    unsettled: u64,
    /// `None` once it is finished.
    place: Option<Place>,
}

#[derive(Debug)]
enum Place {
    Memory(MemoryRoom),
    Disk(Delivery, Arc<LaneMetrics>),
}

impl Place {
    fn metrics(&self) -> &LaneMetrics {
        match self {
            Self::Memory(room) => &room.queue.metrics,
            Self::Disk(_, metrics) => metrics,
        }
    }
}

impl Queue {
    pub(super) fn in_memory(data: DataType, config: &QueueConfig, metrics: &Arc<LaneMetrics>) -> Self {
        Self::Memory(Arc::new(MemoryQueue {
            data,
            most_requests: config.most_requests(),
            most_bytes: config.most_bytes(),
            held: Mutex::default(),
            filled: Notify::new(),
            metrics: Arc::clone(metrics),
        }))
    }

    /// Room for a request of this length and what goes along with it. An empty queue has room for any.
    pub(super) fn reserve(&self, metadata_bytes: usize, message_bytes: usize) -> Result<Room, NoRoom> {
        match self {
            Self::Memory(queue) => queue.reserve(metadata_bytes, message_bytes).map(Room::Memory),
            Self::Disk(queue) => {
                queue.reserve(metadata_bytes, message_bytes).map(Room::Disk).map_err(|_| NoRoom)
            }
        }
    }

    /// Writes a request where its room is on disk; where it is in memory there is nothing to do.
    pub(super) async fn append(&self, room: Room, passage: &Passage) -> Result<Room, NoRoom> {
        match (self, room) {
            // What went wrong was counted and logged by the queue's thread.
            (Self::Disk(queue), Room::Disk(room)) => {
                queue.append(room, passage).await.map(Room::Written).map_err(|_| NoRoom)
            }
            (_, room) => Ok(room),
        }
    }

    /// Puts a request where it has room.
    pub(super) fn push(&self, room: Room, passage: Passage) {
        match (self, room) {
            (Self::Memory(queue), Room::Memory(room)) => queue.push(room, passage),
            (_, Room::Written(appended)) => appended.commit(),
            // It was not written: its permit was sent without having been appended.
            (Self::Disk(queue), _) => queue.metrics.dropped(Dropped::NotWritten, passage.records),
            (Self::Memory(queue), Room::Disk(_)) => {
                queue.metrics.dropped(Dropped::NotWritten, passage.records);
            }
        }
    }

    /// Whether what is not sent is there after a restart.
    pub(super) const fn is_durable(&self) -> bool {
        matches!(self, Self::Disk(_))
    }

    /// Nobody takes any more: what waits is given up, or stays on disk. Blocks while that is closed.
    pub(super) fn close(&self) {
        match self {
            Self::Memory(queue) => queue.abandon(),
            Self::Disk(queue) => queue.close(),
        }
    }

    /// The next requests, which are sent as one of at most `most_bytes`; a larger one comes alone. `None` after
    /// `shutdown`, when nothing waits any more or what waits stays on disk.
    pub(super) async fn take(&self, most_bytes: usize, shutdown: &CancellationToken) -> Option<Vec<Queued>> {
        match self {
            Self::Memory(queue) => queue.take(most_bytes, shutdown).await,
            Self::Disk(queue) => {
                let taken = queue.take(most_bytes, shutdown).await?;
                let queued = |(passage, delivery): (Passage, Delivery)| Queued {
                    unsettled: passage.records,
                    passage,
                    place: Some(Place::Disk(delivery, Arc::clone(&queue.metrics))),
                };
                Some(taken.into_iter().map(queued).collect())
            }
        }
    }

    pub(super) fn report(&self) -> QueueReport {
        match self {
            Self::Memory(queue) => queue.report(),
            Self::Disk(queue) => queue.report(),
        }
    }
}

impl MemoryQueue {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing in here stops half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(self: &Arc<Self>, metadata_bytes: usize, message_bytes: usize) -> Result<MemoryRoom, NoRoom> {
        let bytes = kept_bytes(message_bytes).saturating_add(metadata_bytes);
        let mut held = self.held();
        let is_full =
            held.requests >= self.most_requests || held.bytes.saturating_add(bytes) > self.most_bytes;
        if held.requests > 0 && is_full {
            return Err(NoRoom);
        }
        held.requests += 1;
        held.bytes += bytes;
        self.show(&held);
        Ok(MemoryRoom { queue: Arc::clone(self), bytes })
    }

    fn push(&self, room: MemoryRoom, passage: Passage) {
        let queued = Queued { unsettled: passage.records, passage, place: Some(Place::Memory(room)) };
        let mut held = self.held();
        if held.is_over {
            // Dropped after the lock: giving room back takes it again.
            drop(held);
            return drop(queued);
        }
        held.waiting.push_back(queued);
        self.filled.notify_one();
    }

    fn abandon(&self) {
        let mut held = self.held();
        held.is_over = true;
        let waiting = std::mem::take(&mut held.waiting);
        drop(held);
        drop(waiting);
    }

    async fn take(&self, most_bytes: usize, shutdown: &CancellationToken) -> Option<Vec<Queued>> {
        loop {
            let taken = self.take_now(most_bytes);
            if !taken.is_empty() {
                return Some(taken);
            }
            if shutdown.is_cancelled() {
                return None;
            }
            shutdown.run_until_cancelled(self.filled.notified()).await;
        }
    }

    fn report(&self) -> QueueReport {
        let held = self.held();
        QueueReport {
            data: self.data,
            endpoint: None,
            requests: [held.requests, self.most_requests],
            bytes: [held.bytes, self.most_bytes],
        }
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

impl Drop for MemoryRoom {
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
        if let Some(place) = &self.place {
            place.metrics().sent(records, rejected);
        }
    }

    /// So many of its records were given up.
    pub(super) fn dropped(&mut self, records: u64, why: Dropped) {
        let records = self.settle(records);
        if let Some(place) = &self.place {
            place.metrics().dropped(why, records);
        }
    }

    /// All of these were delivered or given up. On disk that is written down, and awaited: so no more are sent twice after
    /// a kill than were being sent.
    pub(super) async fn finish(requests: Vec<Self>) {
        let delivery = |mut request: Self| match request.place.take() {
            Some(Place::Disk(delivery, _)) => Some(delivery),
            _ => None,
        };
        Delivery::all_done(requests.into_iter().filter_map(delivery).collect()).await;
    }

    fn settle(&mut self, records: u64) -> u64 {
        let records = records.min(self.unsettled);
        self.unsettled -= records;
        records
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(Place::Memory(room)) = &self.place
            && self.unsettled > 0
        {
            room.queue.metrics.dropped(Dropped::Shutdown, self.unsettled);
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
