//! Takes requests from a queue and sends each until it is taken or given up. With one consumer they go out in
//! the order in which they came; with several, one slow answer does not hold up the rest.
//!
//! Requests that wait are joined into one, and one that is too large is split. When a joined request is refused
//! for good, its halves are sent instead, and theirs, until only what is at fault is refused: that alone is
//! dropped.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RetryConfig;
use super::client::{Client, Failure, Next, Taken};
use super::fan::Lane;
use super::metrics::Dropped;
use super::pieces::{records, services, split};
use super::queue::Queued;
use super::rejected::Rejections;
use super::retry::wait;
use crate::pipeline::RejectedRequest;
use crate::pipeline::clock::Clock;
use crate::telemetry::Limiter;

/// Seconds between two log lines about the same trouble of one exporter with one kind of data.
const COMPLAIN_EVERY_S: u64 = 30;
/// Services named with a rejected request.
const SERVICES: usize = 8;
/// Longest wait for another attempt once the program is ending.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// What a worker works with.
pub(super) struct Sending {
    pub(super) lane: Arc<Lane>,
    pub(super) client: Client,
    pub(super) consumers: usize,
    pub(super) retry: RetryConfig,
    /// How long a request is tried; `None` is for ever.
    pub(super) most_elapsed: Option<Duration>,
    /// Up to how many bytes requests are joined and split; `None` where they stay as they came.
    pub(super) max_request_bytes: Option<usize>,
    pub(super) rejections: Arc<Rejections>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Sends what one queue holds.
pub(super) struct Worker {
    sending: Sending,
    complaints: Mutex<Limiter>,
}

/// A part of a request, or all of it, that is sent whole.
#[derive(Debug, Clone)]
struct Piece {
    /// Of which of the requests in hand.
    of: usize,
    message: Bytes,
    records: u64,
}

/// How it ended with a request.
enum Outcome {
    Taken(Taken),
    Refused(Failure),
    Expired,
    /// The program ends, and the request is on disk.
    Kept,
}

impl Worker {
    pub(super) fn new(sending: Sending) -> Self {
        Self { sending, complaints: Mutex::new(Limiter::new(COMPLAIN_EVERY_S)) }
    }

    /// Starts the consumers. After `shutdown` each ends as soon as the queue is empty.
    pub(super) fn spawn(self, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
        let worker = Arc::new(self);
        for _ in 0..worker.sending.consumers {
            tasks.spawn(Arc::clone(&worker).consume(shutdown.clone()));
        }
    }

    async fn consume(self: Arc<Self>, shutdown: CancellationToken) {
        let lane = &self.sending.lane;
        let most = self.sending.max_request_bytes.unwrap_or(0);
        while let Some(requests) = lane.queue.take(most, &shutdown).await {
            let in_flight = InFlight::new(lane, requests.len());
            if let Some(delivered) = self.deliver(requests, &shutdown).await {
                Queued::finish(delivered).await;
            }
            drop(in_flight);
        }
    }

    /// Sends requests that may be joined, until each is taken or given up. `None` when they stay on disk for the next
    /// process.
    async fn deliver(&self, mut requests: Vec<Queued>, shutdown: &CancellationToken) -> Option<Vec<Queued>> {
        let pieces = self.pieces(&requests);
        // A single request is cut into pieces that go one by one; several go together.
        let whole = 0..pieces.len();
        let mut open: Vec<Range<usize>> = match requests.len() {
            1 => whole.rev().map(|n| n..n + 1).collect(),
            _ => vec![whole],
        };
        while let Some(range) = open.pop() {
            let unit = &pieces[range.clone()];
            match self.send(unit, &requests[0], shutdown).await {
                Outcome::Taken(taken) => self.taken(unit, &taken, &mut requests),
                Outcome::Refused(_) if unit.len() > 1 => {
                    let middle = range.start + unit.len() / 2;
                    open.extend([middle..range.end, range.start..middle]);
                }
                Outcome::Refused(failure) => {
                    for piece in unit {
                        self.remember(piece, &failure);
                        requests[piece.of].dropped(piece.records, Dropped::Permanent);
                    }
                }
                Outcome::Expired => {
                    unit.iter().for_each(|piece| requests[piece.of].dropped(piece.records, Dropped::Expired));
                }
                Outcome::Kept => return None,
            }
        }
        Some(requests)
    }

    fn pieces(&self, requests: &[Queued]) -> Vec<Piece> {
        let whole = |(of, request): (usize, &Queued)| Piece {
            of,
            message: request.passage.message.clone(),
            records: request.passage.records,
        };
        let data = self.sending.lane.data;
        match (requests, self.sending.max_request_bytes) {
            ([one], Some(most)) if one.passage.message.len() > most => {
                let messages = split(data, &one.passage.message, most);
                let (mut left, last) = (one.passage.records, messages.len() - 1);
                let piece = |(n, message): (usize, Bytes)| {
                    // The numbers of the pieces add up to that of the request, whoever counted it.
                    let records = if n == last { left } else { records(data, &message).min(left) };
                    left -= records;
                    Piece { of: 0, message, records }
                };
                messages.into_iter().enumerate().map(piece).collect()
            }
            _ => requests.iter().enumerate().map(whole).collect(),
        }
    }

    /// Sends one request until it is taken, refused for good, or too old.
    async fn send(&self, unit: &[Piece], first: &Queued, shutdown: &CancellationToken) -> Outcome {
        let Sending { lane, client, retry, clock, .. } = &self.sending;
        let records: u64 = unit.iter().map(|piece| piece.records).sum();
        let payload = client.prepare(unit.iter().map(|piece| piece.message.clone()).collect()).await;
        // The age is not the clock's to tell: one that is set would make all that waits look old at once.
        let began = clock.monotonic();
        let seed = clock.now().0 ^ unit[0].message.as_ptr().addr() as u64;
        let mut attempt = 1;
        loop {
            let failure = match client.send(&payload, records, &first.passage.metadata, &**clock).await {
                Ok(taken) => return Outcome::Taken(taken),
                Err(failure) => failure,
            };
            let Next::Retry(asked) = failure.next else {
                self.complain("the exporter's backend refused a request for good", records, &failure);
                return Outcome::Refused(failure);
            };
            let pause = wait(retry, attempt, seed, asked);
            let age = clock.monotonic().saturating_sub(began);
            if !retry.enabled || self.sending.most_elapsed.is_some_and(|most| age + pause > most) {
                self.complain("requests are given up after the longest time to retry", records, &failure);
                return Outcome::Expired;
            }
            if attempt == 1 {
                self.complain(
                    "the exporter's backend does not take requests; trying again",
                    records,
                    &failure,
                );
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                if lane.queue.is_durable() {
                    return Outcome::Kept;
                }
                tokio::time::sleep(pause.min(LAST_WAIT)).await;
            }
            attempt += 1;
            lane.metrics.retries.increment(1);
        }
    }

    /// The numbers of a request that was taken. Which of its records were rejected, the answer does not say.
    fn taken(&self, unit: &[Piece], taken: &Taken, requests: &mut [Queued]) {
        let mut rejected = taken.rejected;
        for piece in unit {
            let here = rejected.min(piece.records);
            requests[piece.of].sent(piece.records, here);
            rejected -= here;
        }
        if taken.rejected > 0 {
            let failure = Failure {
                code: "partial_success".to_owned(),
                message: taken.message.clone(),
                next: Next::GiveUp,
                never_sent: false,
            };
            self.complain("the exporter's backend rejected records", taken.rejected, &failure);
        }
    }

    fn remember(&self, piece: &Piece, failure: &Failure) {
        let data = self.sending.lane.data;
        self.sending.rejections.push(RejectedRequest {
            at: self.sending.clock.now(),
            data,
            records: piece.records,
            bytes: piece.message.len(),
            services: services(data, &piece.message, SERVICES),
            sha256: Sha256::digest(&piece.message).into(),
            code: failure.code.clone(),
            message: failure.message.clone(),
        });
    }

    /// One line now and then: an outage concerns every request.
    fn complain(&self, what: &str, records: u64, failure: &Failure) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held_back) = complaints.allow(what, self.sending.clock.now()) else { return };
        let (exporter, data_type) = (&*self.sending.lane.exporter, self.sending.lane.data.as_str());
        let Failure { code, message, .. } = failure;
        tracing::warn!(exporter, data_type, records, code, said = message, held_back, "{what}");
    }
}

/// Counts requests as being sent for as long as it lives.
struct InFlight<'a> {
    lane: &'a Lane,
    requests: f64,
}

impl<'a> InFlight<'a> {
    fn new(lane: &'a Lane, requests: usize) -> Self {
        let requests = requests as f64;
        lane.metrics.in_flight.increment(requests);
        Self { lane, requests }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.lane.metrics.in_flight.decrement(self.requests);
    }
}
