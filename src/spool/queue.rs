//! The handle to a queue on disk, for many tasks at once. What it is asked is put on a channel to the queue's own
//! thread; the answers are awaited, so no thread of the runtime ever waits for the disk.
//!
//! A message goes through in three steps, so that it can be taken by several queues or by none. [`Spool::reserve`]
//! finds room, [`Spool::append`] writes, [`Appended::commit`] lets it go and cannot fail. Dropped before the last
//! step it is taken back, whatever made the caller go away.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::metrics::SpoolMetrics;
use super::worker::{Append, Command, Taker, Worker};
use super::{AppendError, Entry, Log, LogConfig, Position, Recovered, SpoolError, record_bytes};

/// Share of the queue that one segment takes: what is done is given back in steps of this.
const SEGMENT_SHARE: u64 = 16;
/// Smallest and largest segment, in bytes.
const SEGMENT_BYTES: (u64, u64) = (64 << 10, 64 << 20);

/// One queue.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes that it may take on disk. A message larger than that is taken when nothing else waits.
    pub max_bytes: u64,
    /// Messages that may wait.
    pub max_entries: u64,
    /// Bytes of the file system that are left free.
    pub reserve_bytes: u64,
    /// Whether an appended message is safe against a loss of power.
    pub fsync: bool,
    /// Random; see [`LogConfig::seed`].
    pub seed: u64,
    /// Labels of its metrics.
    pub labels: Vec<metrics::Label>,
    /// Shows the bytes that it takes.
    pub bytes: metrics::Gauge,
    /// Shows the messages that are not done.
    pub messages: metrics::Gauge,
    /// Cancelled when the queue's thread ends by a fault.
    pub fault: CancellationToken,
}

/// What a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of its files.
    pub bytes: u64,
    /// Messages that are not done.
    pub entries: u64,
}

/// The queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// It is full.
    Full,
    /// What is free of the file system is kept for other things.
    Reserve,
    /// It was closed.
    Closed,
}

/// What the handles and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    max_bytes: u64,
    max_entries: u64,
    state: Mutex<State>,
    pub(super) metrics: SpoolMetrics,
    bytes: metrics::Gauge,
    messages: metrics::Gauge,
    fault: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    usage: Usage,
    /// Room given to requests that have not appended yet.
    reserved: Usage,
    is_short_of_space: bool,
    is_closed: bool,
}

/// A queue on disk and the thread that serves it. The thread ends with [`Spool::close`] or when this is dropped.
#[derive(Debug)]
pub struct Spool {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Room for one message.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    room: Usage,
}

/// A message that is on the disk and not yet let go: commit it, or drop it to take it back.
#[derive(Debug)]
#[must_use = "a message that is dropped is taken back"]
pub struct Appended {
    position: Position,
    commands: Sender<Command>,
    is_committed: bool,
}

/// A message to be sent. Dropped without [`Delivery::done`] it is handed out again.
#[derive(Debug)]
pub struct Delivery {
    entry: Entry,
    commands: Sender<Command>,
    is_done: bool,
}

impl Spool {
    /// Opens a queue and starts its thread. Blocks while the segments are looked through.
    ///
    /// # Errors
    /// See [`Log::open`]; or the thread cannot be started.
    pub fn open(config: SpoolConfig) -> Result<(Self, Recovered), SpoolError> {
        let (least, most) = SEGMENT_BYTES;
        let log = LogConfig {
            segment_bytes: (config.max_bytes / SEGMENT_SHARE).clamp(least, most),
            reserve_bytes: config.reserve_bytes,
            fsync: config.fsync,
            seed: config.seed,
        };
        let (log, recovered) = Log::open(&config.folder, log)?;
        let shared = Arc::new(Shared {
            max_bytes: config.max_bytes,
            max_entries: config.max_entries,
            state: Mutex::default(),
            metrics: SpoolMetrics::new(&config.labels, &recovered),
            bytes: config.bytes,
            messages: config.messages,
            fault: config.fault,
        });
        shared.show(&log);
        let (commands, waiting) = channel();
        let worker = Worker::new(log, waiting, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("queue".to_owned())
            .spawn(move || worker.run())
            .map_err(|cause| SpoolError::Thread { path: config.folder, cause })?;
        Ok((Self { commands, shared, thread: Mutex::new(Some(thread)) }, recovered))
    }

    /// Finds room for a message with this much metadata and body.
    ///
    /// # Errors
    /// When there is none.
    pub fn reserve(&self, metadata_bytes: usize, body_bytes: usize) -> Result<Reservation, NoRoom> {
        let room = Usage { bytes: record_bytes(metadata_bytes, body_bytes), entries: 1 };
        self.shared.reserve(room)?;
        Ok(Reservation { shared: Arc::clone(&self.shared), room })
    }

    /// Writes a message; the answer comes when a kill of the process cannot lose it any more, and with `fsync` a loss
    /// of power neither.
    ///
    /// # Errors
    /// When it cannot be written; the queue is as it was before.
    pub async fn append(
        &self,
        reservation: Reservation,
        metadata: Bytes,
        body: Bytes,
        records: u32,
    ) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let commands = self.commands.clone();
        let append = Append { reservation, metadata, body, records, commands, reply };
        self.commands.send(Command::Append(append)).map_err(|_| AppendError::Closed)?;
        answer.await.unwrap_or(Err(AppendError::Closed))
    }

    /// The oldest message that is not handed out, as soon as there is one, and with it those behind it that have the
    /// same metadata, up to `most_bytes` of bodies in all; a larger one comes alone. `None` once the queue is
    /// closed.
    pub async fn take(&self, most_bytes: usize) -> Option<Vec<Delivery>> {
        let (reply, answer) = oneshot::channel();
        let take = Command::Take(Taker { most_bytes, reply, commands: self.commands.clone() });
        self.commands.send(take).ok()?;
        answer.await.ok()
    }

    /// What it holds.
    pub fn usage(&self) -> Usage {
        self.shared.lock().usage
    }

    /// Ends the thread, after what it was asked before. What is not done stays on the disk. Blocks.
    pub fn close(&self) {
        self.end();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(
                "the thread of a queue ended by a fault; what is in the queue is sent after a restart"
            );
        }
    }

    fn end(&self) {
        self.shared.lock().is_closed = true;
        // Where nobody listens it is closed already.
        let _ = self.commands.send(Command::Close);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, room: Usage) -> Result<(), NoRoom> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(NoRoom::Closed);
        }
        if state.is_short_of_space {
            return Err(NoRoom::Reserve);
        }
        let entries = state.usage.entries + state.reserved.entries;
        let bytes = state.usage.bytes + state.reserved.bytes;
        let fits = entries < self.max_entries && bytes.saturating_add(room.bytes) <= self.max_bytes;
        if !fits && entries > 0 {
            return Err(NoRoom::Full);
        }
        state.reserved.entries += room.entries;
        state.reserved.bytes += room.bytes;
        Ok(())
    }

    fn release(&self, room: Usage) {
        let mut state = self.lock();
        state.reserved.entries = state.reserved.entries.saturating_sub(room.entries);
        state.reserved.bytes = state.reserved.bytes.saturating_sub(room.bytes);
    }

    /// Takes over what the queue holds now.
    pub(super) fn show(&self, log: &Log) {
        let usage = Usage { bytes: log.bytes(), entries: log.entries() };
        self.lock().usage = usage;
        self.bytes.set(usage.bytes as f64);
        self.messages.set(usage.entries as f64);
    }

    /// The thread has ended.
    pub(super) fn set_closed(&self) {
        self.lock().is_closed = true;
    }

    /// The thread has ended by a fault.
    pub(super) fn set_faulty(&self) {
        self.fault.cancel();
    }

    /// Whether the file system has no more room than what is kept free.
    pub(super) fn set_short_of_space(&self, is_short: bool) {
        self.lock().is_short_of_space = is_short;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.release(self.room);
    }
}

impl Appended {
    pub(super) const fn new(position: Position, commands: Sender<Command>) -> Self {
        Self { position, commands, is_committed: false }
    }

    /// Lets the message go. It cannot fail: should the queue have ended meanwhile, the message is sent after a
    /// restart.
    pub fn commit(mut self) {
        self.is_committed = true;
        let _ = self.commands.send(Command::Commit(self.position));
    }
}

impl Drop for Appended {
    fn drop(&mut self) {
        if !self.is_committed {
            let _ = self.commands.send(Command::Discard(self.position));
        }
    }
}

impl Delivery {
    pub(super) const fn new(entry: Entry, commands: Sender<Command>) -> Self {
        Self { entry, commands, is_done: false }
    }

    /// As it was appended.
    pub const fn metadata(&self) -> &Bytes {
        &self.entry.metadata
    }

    /// As it was appended.
    pub const fn body(&self) -> &Bytes {
        &self.entry.body
    }

    /// As it was appended.
    pub const fn records(&self) -> u32 {
        self.entry.records
    }

    /// Delivered, or given up. Wait for it before the next message is sent: only then is it sure that no more
    /// are sent twice after a kill than were being sent.
    pub async fn done(self) {
        Self::all_done(vec![self]).await;
    }

    /// All of one queue at once.
    pub async fn all_done(mut deliveries: Vec<Self>) {
        let Some(commands) = deliveries.first().map(|first| first.commands.clone()) else { return };
        let positions = deliveries.iter_mut().map(|delivery| {
            delivery.is_done = true;
            delivery.entry.position
        });
        let (reply, answer) = oneshot::channel();
        if commands.send(Command::Done(positions.collect(), reply)).is_ok() {
            // No answer: the queue ended before it could write the marks.
            let _ = answer.await;
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = self.commands.send(Command::GiveBack(self.entry.position));
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
