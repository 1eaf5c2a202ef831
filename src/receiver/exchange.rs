//! One request, whatever the protocol: decode it into a batch, reserve room everywhere, write it to the queues
//! on disk, then count it, pass it on and remember it in one step that cannot fail, and answer. In this order a
//! request is either counted and passed on, or neither, and what a client is told is true of both.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore};
use tower_http::cors::CorsLayer;

use super::door::Doors;
use super::ids::{BadIds, without_bad_ids};
use super::memory::{Expected, MemoryLimiter};
use super::metrics::{ReceiverMetrics, RequestOutcome, Transport};
use super::resend::{Asked, Claim, First, Resends};
use super::status::Refusal;
use super::{WalkSettings, walk_logs, walk_metrics, walk_traces};
use crate::model::UnixNanos;
use crate::pipeline::clock::Clock;
use crate::pipeline::{
    Admission, AdmissionBatch, DataType, Downstream, Full, Metadata, Passage, Permit, Refused, Signal,
};
use crate::telemetry::{Limiter, Memory};

/// How long a request waits for room before it is pushed back. Some clients never send again, so a short wait
/// saves their data; a long one would run into the timeouts of the others.
const ADMISSION_WAIT: Duration = Duration::from_secs(1);
/// Waits before a full queue is tried again, 1 s in all.
const ADMISSION_WAITS_MS: [u64; 4] = [50, 150, 300, 500];

/// For whom verdicts wait while memory is short.
const MEMORY_LIMITER: &str = "memory_limiter";
/// Seconds between two log lines about rejected records of one signal.
const COMPLAIN_EVERY_S: u64 = 60;
/// Most bytes of headers that go along with a message, names and lengths counted. They are kept with every message
/// that waits, and what tells tenants apart is short.
const METADATA_BYTES: usize = 16 << 10;

/// What the receivers work with.
#[derive(Clone)]
pub struct ReceiverDeps<A> {
    /// Takes the spans.
    pub admission: A,
    /// Takes the bytes.
    pub downstream: Arc<dyn Downstream>,
    /// Tells when a request arrived.
    pub clock: Arc<dyn Clock>,
    /// Who gets in.
    pub doors: Doors,
    /// How much memory is used, and how much there is.
    pub memory: Arc<dyn Memory>,
}

/// Handles requests of both protocols.
pub(super) struct Exchange<A> {
    deps: ReceiverDeps<A>,
    settings: WalkSettings,
    slots: Arc<Semaphore>,
    pub(super) memory: Arc<MemoryLimiter>,
    pub(super) max_request_bytes: usize,
    pub(super) request_timeout: Duration,
    include_metadata: bool,
    pub(super) metrics: ReceiverMetrics,
    complaints: Mutex<Limiter>,
    /// What answers browsers, where their pages may send.
    pub(super) cors: Option<CorsLayer>,
    /// `None` where every message counts.
    resends: Option<Arc<Resends>>,
    /// Shared by requests whose client may go away while they are written to disk.
    writing: Arc<RwLock<()>>,
}

/// A place among the requests in progress, and in memory.
pub(super) struct Entered {
    _place: OwnedSemaphorePermit,
    _expected: Expected,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) data: DataType,
    /// In protobuf, inflated.
    pub(super) message: Bytes,
    /// Headers that somebody passes on.
    pub(super) metadata: Metadata,
}

/// A request that was read, with room for it everywhere. All that is left is to take it in.
struct Admitted<B: AdmissionBatch> {
    batch: Option<(B, B::Room)>,
    permit: Option<Box<dyn Permit>>,
    claim: Option<Claim>,
    passage: Passage,
    data: DataType,
    read: Read,
    arrival: UnixNanos,
    transport: Transport,
}

/// No room somewhere.
struct NoRoom {
    /// The exporter that had none.
    by: Option<Arc<str>>,
    why: Cow<'static, str>,
    is_final: bool,
}

impl<A: Admission> Exchange<A> {
    pub(super) fn new(deps: ReceiverDeps<A>, config: &super::ReceiverConfig) -> Self {
        let memory = Arc::new(MemoryLimiter::new(&config.memory_limiter, Arc::clone(&deps.memory)));
        Self {
            deps,
            memory,
            settings: config.walk_settings(),
            slots: Arc::new(Semaphore::new(config.max_concurrent_requests)),
            max_request_bytes: config.max_request_bytes,
            request_timeout: config.request_timeout,
            include_metadata: config.include_metadata,
            metrics: ReceiverMetrics::new(),
            complaints: Mutex::new(Limiter::new(COMPLAIN_EVERY_S)),
            cors: config.http.cors.as_ref().map(super::CorsConfig::layer),
            resends: Resends::new(config.deduplicate),
            writing: Arc::default(),
        }
    }

    /// Whether requests of this kind are taken: profiles only where somebody takes them.
    pub(super) fn takes(&self, data: DataType) -> bool {
        data.signal().is_some() || self.deps.downstream.takes(data)
    }

    /// Those headers that somebody passes on.
    pub(super) fn metadata(&self, headers: &HeaderMap) -> Result<Metadata, Refusal> {
        if !self.include_metadata {
            return Ok(Metadata::default());
        }
        let keys = self.deps.downstream.metadata_keys();
        let named = keys.iter().flat_map(|key| headers.get_all(&**key).iter().map(move |value| (key, value)));
        let metadata = Metadata::new(named.map(|(key, value)| (key.clone(), value.as_bytes().into())));
        match metadata.bytes_of(keys) > METADATA_BYTES {
            true => Err(Refusal::Malformed(format!(
                "the headers that are passed on are longer than {} KiB",
                METADATA_BYTES >> 10
            ))),
            false => Ok(metadata),
        }
    }

    /// Waits until what is being written to disk is taken in.
    pub(super) async fn settled(&self) {
        drop(self.writing.write().await);
    }

    /// The time of now.
    pub(super) fn now(&self) -> UnixNanos {
        self.deps.clock.now()
    }

    /// A request was pushed back for want of memory, so verdicts wait.
    pub(super) fn blinded_by_memory(&self, data: DataType) {
        self.deps.admission.blinded(data, &MEMORY_LIMITER.into(), self.now());
    }

    /// A place among the requests in progress, taken before the body is read: bodies are what needs memory, and
    /// there must be some.
    pub(super) async fn enter(&self, data: DataType) -> Result<Entered, Refusal> {
        let (mut waits, mut waiting) = (ADMISSION_WAITS_MS.into_iter(), None);
        let expected = loop {
            if let Some(expected) = self.memory.admit(self.now()) {
                break expected;
            }
            waiting = waiting.or_else(|| self.memory.queue());
            let Some(wait) = waits.next().filter(|_| waiting.is_some()) else {
                self.blinded_by_memory(data);
                return Err(self.memory.refuse());
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
        };
        let place = tokio::time::timeout(ADMISSION_WAIT, Arc::clone(&self.slots).acquire_owned());
        match place.await {
            Ok(Ok(place)) => Ok(Entered { _place: place, _expected: expected }),
            _ => Err(Refusal::Busy("too many requests in progress".into())),
        }
    }

    /// Accepts a message; returns how many of its records were rejected.
    pub(super) async fn accept(
        self: &Arc<Self>,
        transport: Transport,
        received: Received,
    ) -> Result<u64, Refusal> {
        let Received { data, message, metadata } = received;
        let arrival = self.deps.clock.now();
        let mut waits = ADMISSION_WAITS_MS.into_iter().map(Duration::from_millis);
        let claim = match self.claim(data, &metadata, &message, arrival, &mut waits).await? {
            Ok(claim) => claim,
            Err(first) => {
                if let Some(signal) = data.signal() {
                    self.deps.admission.duplicate(signal, first.records);
                }
                return Ok(first.rejected);
            }
        };
        let mut batch = self.deps.admission.begin(arrival);
        let read = match data.signal() {
            Some(signal) => self.read(signal, &message, &mut batch).map_err(malformed)?,
            None => Read { records: 1, ..Read::default() },
        };
        let batch = data.signal().map(|_| batch);
        let (permit, room) = loop {
            let NoRoom { by, why, is_final } = match self.reserve(data, &message, &metadata, batch.as_ref()) {
                Ok(places) => break places,
                Err(none) => none,
            };
            match waits.next().filter(|_| !is_final) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => {
                    self.metrics.refused(transport, data, read.records);
                    by.iter().for_each(|by| self.deps.admission.blinded(data, by, arrival));
                    return Err(Refusal::Busy(why));
                }
            }
        };
        let message = match data.signal() {
            Some(signal) if permit.is_some() && !read.bad_ids.is_empty() => {
                without_bad_ids(signal, &message).into()
            }
            _ => message,
        };
        let passage = Passage { message, records: read.records - read.bad_ids.records, metadata };
        let batch = batch.zip(room);
        self.take_in(Admitted { batch, permit, claim, passage, data, read, arrival, transport }).await
    }

    /// The claim to a new message, or what the same bytes were answered before.
    async fn claim(
        &self,
        data: DataType,
        metadata: &Metadata,
        message: &[u8],
        now: UnixNanos,
        waits: &mut impl Iterator<Item = Duration>,
    ) -> Result<Result<Option<Claim>, First>, Refusal> {
        let Some(resends) = &self.resends else { return Ok(Ok(None)) };
        let digest = resends.digest(data, &metadata.to_bytes(), message);
        loop {
            match resends.ask(digest, now) {
                Asked::Known(first) => return Ok(Err(first)),
                Asked::New(claim) => return Ok(Ok(Some(claim))),
                Asked::InProgress => match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(Refusal::Busy("the same message is being taken in".into())),
                },
            }
        }
    }

    /// Room everywhere, or nowhere.
    fn reserve(
        &self,
        data: DataType,
        message: &Bytes,
        metadata: &Metadata,
        batch: Option<&A::Batch>,
    ) -> Result<Places<A>, NoRoom> {
        let permit = match self.deps.downstream.reserve(data, message, metadata) {
            Ok(permit) => permit,
            Err(Full { exporter }) => {
                let why = format!("queue of exporter {exporter} full").into();
                return Err(NoRoom { by: Some(exporter), why, is_final: false });
            }
        };
        match batch.map(AdmissionBatch::reserve).transpose() {
            Ok(room) => Ok((permit, room)),
            Err(Refused::QueueFull) => {
                Err(NoRoom { by: None, why: "ingest queue full".into(), is_final: false })
            }
            Err(Refused::ShuttingDown) => {
                Err(NoRoom { by: None, why: "shutting down".into(), is_final: true })
            }
        }
    }

    /// Writes to disk what is queued there, then takes the request in. A client that goes away meanwhile does
    /// not stop that half-way: its message would be passed on and not counted.
    async fn take_in(self: &Arc<Self>, mut admitted: Admitted<A::Batch>) -> Result<u64, Refusal> {
        if !admitted.permit.as_ref().is_some_and(|permit| permit.appends()) {
            return Ok(self.commit(admitted));
        }
        let (exchange, writing) = (Arc::clone(self), Arc::clone(&self.writing).read_owned().await);
        let written = tokio::spawn(async move {
            let Admitted { permit, passage, data, read, transport, arrival, .. } = &mut admitted;
            if let Some(permit) = permit
                && let Err(Full { exporter }) = permit.append(passage).await
            {
                exchange.metrics.refused(*transport, *data, read.records);
                exchange.deps.admission.blinded(*data, &exporter, *arrival);
                return Err(Refusal::Busy(format!("queue of exporter {exporter} cannot be written").into()));
            }
            let rejected = exchange.commit(admitted);
            drop(writing);
            Ok(rejected)
        });
        written.await.unwrap_or_else(|_| Err(Refusal::Busy("the message could not be written".into())))
    }

    /// Counts, passes on and remembers. It cannot fail.
    fn commit(&self, admitted: Admitted<A::Batch>) -> u64 {
        let Admitted { batch, permit, claim, passage, data, read, arrival, transport } = admitted;
        if let Some((batch, room)) = batch {
            batch.commit(room);
        }
        self.metrics.accepted(transport, data, passage.records);
        if let Some(permit) = permit {
            permit.send(passage);
        }
        let first = First { records: read.records, rejected: read.bad_ids.records };
        let forgotten = claim.map_or(0, |claim| claim.committed(first));
        self.metrics.resends_forgotten.increment(forgotten as u64);
        if let Some(signal) = data.signal() {
            self.complain(signal, read.bad_ids.records, arrival);
            self.metrics.parts_cut[signal as usize].increment(read.bad_ids.parts);
        }
        self.metrics.attributes_dropped.increment(read.attributes_dropped);
        read.bad_ids.records
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
        let bad_ids = BadIds { records: 0, parts: counts.bad_exemplars };
        Ok(Read { records: counts.points, bad_ids, ..Read::default() })
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

/// Reserved room: downstream, and for the batch.
type Places<A> = (Option<Box<dyn Permit>>, Option<<<A as Admission>::Batch as AdmissionBatch>::Room>);

fn malformed(error: super::WalkError) -> Refusal {
    Refusal::Malformed(format!("cannot decode the request: {error}"))
}
