//! One request, whatever the protocol: decode it into a batch, reserve room downstream, commit, pass the
//! bytes on. In this order a request is either counted and passed on, or neither, and what a client is told
//! is true of both.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::cors::CorsLayer;

use super::ids::{BadIds, bad_ids, without_bad_ids};
use super::metrics::{ReceiverMetrics, RequestOutcome, Transport};
use super::resend::{Claim, Digest, First, Resends};
use super::status::Refusal;
use super::{WalkSettings, walk_logs, walk_metrics, walk_traces};
use crate::model::UnixNanos;
use crate::pipeline::clock::Clock;
use crate::pipeline::{Admission, AdmissionBatch, Downstream, Refused, Signal};
use crate::telemetry::Limiter;

/// How long a request waits for room before it is pushed back. Some clients never send again, so a short wait
/// saves their data; a long one would run into the timeouts of the others.
const ADMISSION_WAIT: Duration = Duration::from_secs(1);
/// Waits before a full queue is tried again, 1 s in all.
const ADMISSION_WAITS_MS: [u64; 4] = [50, 150, 300, 500];

/// Seconds between two log lines about rejected records of one signal.
const COMPLAIN_EVERY_S: u64 = 60;

/// What the receivers work with.
#[derive(Clone)]
pub struct ReceiverDeps<A> {
    /// Takes the spans.
    pub admission: A,
    /// Takes the bytes.
    pub downstream: Arc<dyn Downstream>,
    /// Tells when a request arrived.
    pub clock: Arc<dyn Clock>,
}

/// Handles requests of both protocols.
pub(super) struct Exchange<A> {
    deps: ReceiverDeps<A>,
    settings: WalkSettings,
    slots: Arc<Semaphore>,
    pub(super) max_request_bytes: usize,
    pub(super) request_timeout: Duration,
    pub(super) metrics: ReceiverMetrics,
    complaints: Mutex<Limiter>,
    /// What answers browsers, where their pages may send.
    pub(super) cors: Option<CorsLayer>,
    /// `None` where every message counts.
    resends: Option<Resends>,
}

impl<A: Admission> Exchange<A> {
    pub(super) fn new(deps: ReceiverDeps<A>, config: &super::ReceiverConfig) -> Self {
        Self {
            deps,
            settings: config.walk_settings(),
            slots: Arc::new(Semaphore::new(config.max_concurrent_requests)),
            max_request_bytes: config.max_request_bytes,
            request_timeout: config.request_timeout,
            metrics: ReceiverMetrics::new(),
            complaints: Mutex::new(Limiter::new(COMPLAIN_EVERY_S)),
            cors: config.http.cors.as_ref().map(super::CorsConfig::layer),
            resends: Resends::new(config.deduplicate),
        }
    }

    /// A place among the requests in progress, taken before the body is read: bodies are what needs memory.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = tokio::time::timeout(ADMISSION_WAIT, Arc::clone(&self.slots).acquire_owned());
        match place.await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Refusal::Busy("too many requests in progress")),
        }
    }

    /// Accepts a message; returns how many of its records were rejected.
    pub(super) async fn accept(
        &self,
        transport: Transport,
        signal: Signal,
        message: Bytes,
    ) -> Result<u64, Refusal> {
        let mut waits = ADMISSION_WAITS_MS.into_iter();
        let arrival = self.deps.clock.now();
        // Nothing tells tenants apart yet: no metadata is passed on.
        let digest = self.resends.as_ref().map(|resends| resends.digest(signal, b"", &message));
        loop {
            let (records, why) = match self.attempt(transport, signal, arrival, digest, &message)? {
                Attempt::Accepted { rejected } => return Ok(rejected),
                Attempt::Full { records, why, is_final: false } => match waits.next() {
                    Some(wait) => {
                        tokio::time::sleep(Duration::from_millis(wait)).await;
                        continue;
                    }
                    None => (records, why),
                },
                Attempt::Full { records, why, .. } => (records, why),
            };
            self.metrics.refused(transport, signal, records);
            return Err(Refusal::Busy(why));
        }
    }

    /// Reads the message into a batch, reserves room downstream, commits, and passes the bytes on.
    fn attempt(
        &self,
        transport: Transport,
        signal: Signal,
        arrival: UnixNanos,
        digest: Option<Digest>,
        message: &Bytes,
    ) -> Result<Attempt, Refusal> {
        // Asked twice: here to save the work, and when it is committed because another may have come first.
        if let Some(Ok(first)) = self.first_or_claim(digest, arrival) {
            return Ok(self.duplicate(signal, first));
        }
        let mut batch = self.deps.admission.begin(arrival);
        let read = self.read(signal, message, &mut batch).map_err(malformed)?;
        let Ok(permit) = self.deps.downstream.reserve(signal, message.len()) else {
            return Ok(Attempt::full(read.records, "forwarding queue full"));
        };
        let claim = match self.first_or_claim(digest, arrival) {
            Some(Ok(first)) => return Ok(self.duplicate(signal, first)),
            Some(Err(claim)) => Some(claim),
            None => None,
        };
        match batch.commit() {
            Ok(()) => self.remember(claim, &read),
            Err(Refused::QueueFull) => return Ok(Attempt::full(read.records, "ingest queue full")),
            Err(Refused::ShuttingDown) => {
                return Ok(Attempt::Full { records: read.records, why: "shutting down", is_final: true });
            }
        }
        if let Some(permit) = permit {
            let passed_on = match read.bad_ids.is_empty() {
                true => message.clone(),
                false => without_bad_ids(signal, message).into(),
            };
            permit.send(passed_on, read.records - read.bad_ids.records);
        }
        self.metrics.accepted(transport, signal, read.records - read.bad_ids.records);
        self.complain(signal, read.bad_ids.records, arrival);
        self.metrics.parts_cut[signal as usize].increment(read.bad_ids.parts);
        self.metrics.attributes_dropped.increment(read.attributes_dropped);
        Ok(Attempt::Accepted { rejected: read.bad_ids.records })
    }

    fn first_or_claim(&self, digest: Option<Digest>, now: UnixNanos) -> Option<Result<First, Claim<'_>>> {
        Some(self.resends.as_ref()?.first_or_claim(digest?, now))
    }

    fn remember(&self, claim: Option<Claim<'_>>, read: &Read) {
        let first = First { records: read.records, rejected: read.bad_ids.records };
        let forgotten = claim.map_or(0, |claim| claim.committed(first));
        self.metrics.resends_forgotten.increment(forgotten as u64);
    }

    /// The message came before: it is answered as it was then, and nothing else happens.
    fn duplicate(&self, signal: Signal, first: First) -> Attempt {
        self.deps.admission.duplicate(signal, first.records);
        Attempt::Accepted { rejected: first.rejected }
    }

    /// One line now and then, for few senders show what they are told in a partial success.
    fn complain(&self, signal: Signal, rejected: u64, now: UnixNanos) {
        if rejected == 0 {
            return;
        }
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.allow(signal.as_str(), now).is_some() {
            tracing::warn!(
                signal = signal.as_str(),
                rejected,
                "records with trace or span ids of the wrong length were rejected; their sender was told"
            );
        }
    }

    /// A duration in an unknown unit is a mistake in somebody's configuration.
    fn complain_of_unit(&self, points: u64) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.allow("unit", self.deps.clock.now()).is_some() {
            tracing::warn!(
                points,
                "request durations came in a unit that is none of s, ms, us, ns, min; they are not judged"
            );
        }
    }

    /// The one place where the walker of each signal meets the sinks of the batch.
    fn read(&self, signal: Signal, message: &[u8], batch: &mut A::Batch) -> Result<Read, super::WalkError> {
        match signal {
            Signal::Traces => self.read_traces(message, batch),
            Signal::Metrics => self.read_metrics(message, batch),
            Signal::Logs => self.read_logs(message, batch),
        }
    }

    fn read_traces(&self, message: &[u8], batch: &mut A::Batch) -> Result<Read, super::WalkError> {
        let counts = walk_traces(message, &self.settings, batch)?;
        Ok(Read {
            records: counts.spans,
            bad_ids: BadIds { records: counts.bad_ids, parts: counts.bad_links },
            attributes_dropped: counts.attributes_dropped,
        })
    }

    fn read_metrics(&self, message: &[u8], batch: &mut A::Batch) -> Result<Read, super::WalkError> {
        let counts = walk_metrics(message, &self.settings, batch)?;
        if counts.unknown_unit > 0 {
            self.complain_of_unit(counts.unknown_unit);
        }
        // Exemplars are not read by the walker; their ids are.
        Ok(Read { records: counts.points, bad_ids: bad_ids(Signal::Metrics, message), ..Read::default() })
    }

    fn read_logs(&self, message: &[u8], batch: &mut A::Batch) -> Result<Read, super::WalkError> {
        let counts = walk_logs(message, &self.settings, batch)?;
        let bad_ids = BadIds { records: counts.bad_ids, parts: 0 };
        Ok(Read { records: counts.records, bad_ids, ..Read::default() })
    }

    /// Counts how a request ended.
    pub(super) fn count_request<T>(&self, transport: Transport, answer: &Result<T, Refusal>) {
        let outcome = answer.as_ref().map_or_else(Refusal::outcome, |_| RequestOutcome::Success);
        self.metrics.request(transport, outcome);
    }
}

/// What a message held, in records of its signal.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    records: u64,
    /// What has trace or span ids of the wrong length: cut out of what is passed on.
    bad_ids: BadIds,
    /// Those that may be misjudged because their sender dropped attributes.
    attributes_dropped: u64,
}

enum Attempt {
    Accepted { rejected: u64 },
    Full { records: u64, why: &'static str, is_final: bool },
}

impl Attempt {
    const fn full(records: u64, why: &'static str) -> Self {
        Self::Full { records, why, is_final: false }
    }
}

fn malformed(error: super::WalkError) -> Refusal {
    Refusal::Malformed(format!("cannot decode the request: {error}"))
}
