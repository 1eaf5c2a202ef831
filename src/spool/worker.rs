//! The thread that owns a queue. It takes what waits on its channel, up to a batch, does it, and with `fsync` syncs
//! once for the whole batch before it answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::queue::{Appended, Delivery, Reservation, Shared};
use super::{AppendError, Entry, Log, Position};
use crate::pipeline::clock::{Clock, SystemClock};

/// Commands done before what was appended is synced and answered.
const BATCH: usize = 256;
/// How often the file system is looked at while it is short of space or does not let us read.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Log lines about damage and failed writes: one for so many occasions, after the first.
const COMPLAIN_EVERY: u64 = 1_000;
/// Between two log lines that the file system is short of space.
const SAY_SHORT_EVERY: Duration = Duration::from_secs(30);

/// What the thread is asked. As many wait as there are requests and consumers at work, for each waits for its
/// answer.
#[derive(Debug)]
pub(super) enum Command {
    Append(Append),
    Commit(Position),
    Discard(Position),
    Take(Taker),
    Done(Vec<Position>, oneshot::Sender<()>),
    GiveBack(Position),
    Close,
}

/// A message to be written.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) reservation: Reservation,
    pub(super) metadata: Bytes,
    pub(super) body: Bytes,
    pub(super) records: u32,
    /// For the answer to give the message back by.
    pub(super) commands: Sender<Command>,
    pub(super) reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// Somebody who waits for a message.
#[derive(Debug)]
pub(super) struct Taker {
    /// Messages that go together have at most so many bytes.
    pub(super) most_bytes: usize,
    pub(super) reply: oneshot::Sender<Vec<Delivery>>,
    /// For the message to be given back by.
    pub(super) commands: Sender<Command>,
}

/// A message that is written and not yet answered.
struct Written {
    position: Position,
    commands: Sender<Command>,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

pub(super) struct Worker {
    log: Log,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    takers: VecDeque<Taker>,
    /// Read to see whether it goes with the ones before, and it does not.
    ahead: Option<Entry>,
    is_short_of_space: bool,
    /// Whether the log says so, and when it last did.
    is_short_said: bool,
    short_said_at: Option<Duration>,
    /// Whether the system did not let us read the next message when it was last asked for.
    is_held_up: bool,
    complaints: u64,
    /// Times that the system did not let us read.
    hold_ups: u64,
    is_closed: bool,
}

/// However the thread ends, nobody is given room any more: what would be reserved could not be written.
impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.set_closed();
        if std::thread::panicking() {
            tracing::error!(queue = %self.log.folder().display(),
                "the thread of a queue ended by a fault: the queue takes and sends nothing until Rollguard is started \
                 again; what is in it is sent then");
            self.shared.set_faulty();
        }
    }
}

impl Worker {
    pub(super) fn new(log: Log, commands: Receiver<Command>, shared: Arc<Shared>) -> Self {
        Self {
            log,
            commands,
            shared,
            takers: VecDeque::new(),
            ahead: None,
            is_short_of_space: false,
            is_short_said: false,
            short_said_at: None,
            is_held_up: false,
            complaints: 0,
            hold_ups: 0,
            is_closed: false,
        }
    }

    pub(super) fn run(mut self) {
        while !self.is_closed {
            if let Some(first) = self.wait() {
                let mut written = Vec::new();
                self.execute(first, &mut written);
                for _ in 1..BATCH {
                    let Ok(next) = self.commands.try_recv() else { break };
                    self.execute(next, &mut written);
                }
                self.answer(written);
            }
            self.serve_takers();
            self.report_faults();
            self.shared.show(&self.log);
        }
    }

    /// The next command; `None` now and then while the file system is short of space or does not let us read.
    fn wait(&mut self) -> Option<Command> {
        let next = match self.is_short_of_space || self.is_held_up {
            true => self.commands.recv_timeout(LOOK_EVERY),
            false => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if self.is_short_of_space {
            self.look_at_space();
        }
        self.is_closed |= matches!(next, Err(RecvTimeoutError::Disconnected));
        next.ok()
    }

    fn look_at_space(&mut self) {
        if let Err(AppendError::Reserve { free, reserve }) = self.log.check_space(0) {
            return self.say_short(free, reserve);
        }
        self.is_short_of_space = false;
        self.shared.set_short_of_space(false);
        if std::mem::take(&mut self.is_short_said) {
            tracing::info!(queue = %self.log.folder().display(), "the queue takes messages again: the file system has room");
        }
    }

    /// Said once for as long as it lasts, and at the reserve's edge, where it comes and goes, now and then.
    fn say_short(&mut self, free: u64, reserve: u64) {
        let now = SystemClock.monotonic();
        let is_due = self.short_said_at.is_none_or(|at| now.saturating_sub(at) >= SAY_SHORT_EVERY);
        if !self.is_short_said && is_due {
            (self.is_short_said, self.short_said_at) = (true, Some(now));
            tracing::warn!(queue = %self.log.folder().display(), free, reserve,
                "the queue takes no more messages: the rest of the file system is kept for decisions");
        }
    }

    fn execute(&mut self, command: Command, written: &mut Vec<Written>) {
        match command {
            Command::Append(append) => self.append(append, written),
            Command::Commit(position) => self.log.commit(position),
            Command::Discard(position) => self.log.discard(position),
            Command::Take(taker) => self.takers.push_back(taker),
            Command::Done(positions, reply) => {
                for position in positions {
                    self.log.acknowledge(position);
                }
                self.shared.show(&self.log);
                // Whoever does not wait for it does not need it.
                let _ = reply.send(());
            }
            Command::GiveBack(position) => {
                self.log.give_back(position);
                // The order is the queue's to keep.
                if let Some(ahead) = self.ahead.take() {
                    self.log.give_back(ahead.position);
                }
            }
            Command::Close => self.is_closed = true,
        }
    }

    fn append(&mut self, append: Append, written: &mut Vec<Written>) {
        let Append { reservation, metadata, body, records, commands, reply } = append;
        let appended = self.log.append(&metadata, &body, records);
        // What is on the disk is counted before its reservation goes, so that the room is never given twice.
        self.shared.show(&self.log);
        drop(reservation);
        match appended {
            Ok(position) => written.push(Written { position, commands, reply }),
            Err(error) => {
                self.complain_of(&error);
                let _ = reply.send(Err(error));
            }
        }
    }

    fn answer(&mut self, written: Vec<Written>) {
        if written.is_empty() {
            return;
        }
        let synced = self.log.sync();
        if let Err(error) = &synced {
            self.complain_of(&AppendError::Io(copy(error)));
        }
        for Written { position, commands, reply } in written {
            let answer = match &synced {
                Ok(()) => Ok(Appended::new(position, commands)),
                Err(error) => {
                    self.log.discard(position);
                    Err(AppendError::Io(copy(error)))
                }
            };
            // One that nobody waits for any more is dropped here, and so taken back.
            let _ = reply.send(answer);
        }
    }

    fn serve_takers(&mut self) {
        self.takers.retain(|taker| !taker.reply.is_closed());
        self.is_held_up &= !self.takers.is_empty();
        while !self.takers.is_empty() {
            let Some(first) = self.next_entry() else { return };
            let Some(Taker { most_bytes, reply, commands }) = self.takers.pop_front() else { return };
            let entries = self.with_those_behind(first, most_bytes);
            // What nobody waits for any more is dropped here, and so given back.
            let _ =
                reply.send(entries.into_iter().map(|entry| Delivery::new(entry, commands.clone())).collect());
        }
    }

    fn next_entry(&mut self) -> Option<Entry> {
        if let Some(ahead) = self.ahead.take() {
            return Some(ahead);
        }
        match self.log.take() {
            Ok(next) => {
                if std::mem::take(&mut self.is_held_up) {
                    tracing::info!(queue = %self.log.folder().display(), "the queue can be read again");
                }
                next
            }
            Err(error) => {
                self.hold_up(&error);
                None
            }
        }
    }

    /// What waits stays where it is and is tried again: an error of the system is no reason to give it up.
    fn hold_up(&mut self, error: &std::io::Error) {
        self.is_held_up = true;
        self.shared.metrics.read_failed();
        if self.hold_ups.is_multiple_of(COMPLAIN_EVERY) {
            tracing::error!(queue = %self.log.folder().display(), %error,
                "the queue cannot be read now; what waits in it stays and is tried again");
        }
        self.hold_ups += 1;
    }

    /// A message and those behind it that may go together with it.
    fn with_those_behind(&mut self, first: Entry, most_bytes: usize) -> Vec<Entry> {
        let mut bytes = first.body.len();
        let mut entries = vec![first];
        while bytes < most_bytes
            && let Some(next) = self.next_entry()
        {
            bytes = bytes.saturating_add(next.body.len());
            if bytes > most_bytes || next.metadata != entries[0].metadata {
                self.ahead = Some(next);
                break;
            }
            entries.push(next);
        }
        entries
    }

    fn complain_of(&mut self, error: &AppendError) {
        self.shared.metrics.append_failed(error);
        if let AppendError::Reserve { free, reserve } = error {
            self.is_short_of_space = true;
            self.shared.set_short_of_space(true);
            return self.say_short(*free, *reserve);
        }
        if self.complaints.is_multiple_of(COMPLAIN_EVERY) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            let queue = self.log.folder().display();
            tracing::error!(%queue, %error, cause, "a message cannot be kept in the queue");
        }
        self.complaints += 1;
    }

    fn report_faults(&mut self) {
        let faults = self.log.faults();
        self.shared.metrics.faults(&faults);
        self.shared.metrics.synced(self.log.synced());
        if faults.lost_entries > 0 {
            tracing::error!(queue = %self.log.folder().display(), messages = faults.lost_entries,
                records = faults.lost_records, "messages in the queue are damaged on the disk and are lost");
        }
    }
}

/// The same error once more; the original cannot be cloned.
fn copy(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), error.to_string())
}
