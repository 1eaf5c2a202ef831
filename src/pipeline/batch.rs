//! One request's spans on their way in. A batch collects observations without touching anything shared and
//! hands them over whole at its commit; dropped without a commit, it never happened.
//!
//! Per span there is no lock and no allocation once the series is known: the buffers are recycled, and each
//! carries a cache of series ids that is checked against the registry's generation once per batch.

mod points;
mod recall;
mod series;

use self::points::KnownBounds;
pub(super) use self::points::bounds_id;
use self::recall::PointMemory;
use self::series::series_of;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;

use super::findings::{Finding, NamedStacks};
use super::intake::Intake;
use super::ledger::DiscardTally;
use super::passage::Signal;
use super::point_log::PointLog;
use super::registry::encode_identity;
use super::senders::{Heard, Sender};
use super::shards::{Load, Refused, Room};
use crate::histogram::layout;
use crate::model::{
    DimensionTexts, Discard, Exemplar, Extra, MarkedSpan, Observation, Program, ResourceAttribute,
    ResourceView, SamplingWeight, SeriesId, SpanException, SpanSink, SpanView, UnixNanos, part_bit,
};

/// Failed spans of one batch whose trace ids are kept.
const FAILED_EXEMPLARS: usize = 4;
/// Senders of one batch that are counted at its commit; further ones are counted at once.
const HEARD: usize = 4_096;
/// Observations for which a recycled buffer keeps room.
const KEPT_OBSERVATIONS: usize = 16_384;
/// Error logs and exceptions for which a recycled buffer keeps room.
const KEPT_FINDINGS: usize = 1_024;

/// Recycled between batches of one shard.
#[derive(Debug, Default)]
pub(super) struct BatchBuffers {
    observations: Vec<Observation>,
    /// What spans count for beside being requests.
    extras: Vec<Extra>,
    /// Spans among them that are records of their own.
    marked: u64,
    points: PointLog,
    /// Bucket counts of the point in hand.
    counts: Vec<u64>,
    pub(super) findings: Vec<Finding>,
    /// Names of the exceptions among them.
    pub(super) stacks: NamedStacks,
    exemplars: Vec<Exemplar>,
    discarded: DiscardTally,
    sampling_inconsistent: u64,
    heard: Vec<Heard>,
    attributes_repeated: u64,
    attributes_indexed: u64,
    /// Version id and operation bytes to series.
    series: HashMap<Box<[u8]>, SeriesId, RandomState>,
    known_points: PointMemory,
    /// The last that was used first.
    bounds: Vec<KnownBounds>,
    generation: u64,
    /// Identity and instance of the resource before, to see a repetition.
    resource: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuffers {
    fn clear(&mut self) {
        self.observations.clear();
        self.observations.shrink_to(KEPT_OBSERVATIONS);
        self.extras.clear();
        self.extras.shrink_to(KEPT_OBSERVATIONS);
        self.marked = 0;
        self.points.clear();
        self.findings.clear();
        self.findings.shrink_to(KEPT_FINDINGS);
        self.exemplars.clear();
        self.discarded = DiscardTally::default();
        self.sampling_inconsistent = 0;
        self.heard.clear();
        self.attributes_repeated = 0;
        self.attributes_indexed = 0;
    }
}

/// The spans of one request. Made by [`Intake::begin`].
#[derive(Debug)]
pub struct Batch {
    intake: Intake,
    pub(super) arrival: UnixNanos,
    /// Taken only when the batch ends.
    pub(super) buffers: Option<Box<BatchBuffers>>,
    pub(super) current: Option<Sender>,
    slowest: Option<(i16, Exemplar)>,
}

impl Batch {
    pub(super) fn new(intake: Intake, arrival: UnixNanos) -> Self {
        let mut buffers = intake.shards.take_buffers();
        let generation = intake.registry.generation();
        if buffers.generation != generation {
            buffers.series.clear();
            buffers.bounds.clear();
            buffers.generation = generation;
        }
        Self { intake, arrival, buffers: Some(buffers), current: None, slowest: None }
    }

    /// Number of entry spans so far.
    pub fn len(&self) -> usize {
        self.buffers.as_ref().map_or(0, |buffers| buffers.observations.len())
    }

    /// Whether there is no entry span so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names what became of records that no sink was shown.
    pub fn discard_all(&mut self, signal: Signal, reason: Discard, records: u64) {
        if let Some(buffers) = &mut self.buffers {
            buffers.discarded.add(signal, reason, records);
        }
    }

    /// Hands everything over, or nothing.
    ///
    /// # Errors
    /// As [`Batch::reserve`].
    pub fn commit(self) -> Result<(), Refused> {
        let room = self.reserve()?;
        self.commit_into(room);
        Ok(())
    }

    /// Room for everything that is in the batch now.
    ///
    /// # Errors
    /// [`Refused`] when this worker's log is full or the program is ending; nothing was counted then but
    /// the refusal.
    pub fn reserve(&self) -> Result<Room, Refused> {
        let load = self.buffers.as_ref().map_or_else(Load::default, |buffers| Load {
            records: buffers.observations.len() + buffers.extras.len() + buffers.points.len(),
            counts: buffers.points.counts_len(),
            findings: buffers.findings.len(),
        });
        let outcome = self.intake.shards.reserve(load);
        let (counters, spans) = (self.intake.shards.counters(), self.len() as u64);
        match outcome {
            Err(Refused::QueueFull) => _ = counters.refused_full.fetch_add(spans, Ordering::Relaxed),
            Err(Refused::ShuttingDown) => _ = counters.refused_shutdown.fetch_add(spans, Ordering::Relaxed),
            Ok(_) => {}
        }
        outcome
    }

    /// Hands everything over. The room must have been reserved by this batch, with all that is in it.
    pub fn commit_into(mut self, room: Room) {
        let Some(mut buffers) = self.buffers.take() else { return };
        if let Some((_, slowest)) = self.slowest {
            buffers.exemplars.push(slowest);
        }
        let shards = &self.intake.shards;
        let records = buffers.findings.iter().filter(|finding| finding.is_record).count() as u64;
        let (spans, points) = (buffers.observations.len() as u64, buffers.points.len() as u64);
        shards.append(
            room,
            (&buffers.observations, &buffers.extras),
            &buffers.points,
            &buffers.exemplars,
            &mut buffers.findings,
        );
        let counters = shards.counters();
        counters.spans.fetch_add(spans, Ordering::Relaxed);
        shards.ledger().receive(Signal::Traces, spans + buffers.marked);
        shards.ledger().receive(Signal::Metrics, points);
        shards.ledger().receive(Signal::Logs, records);
        shards.ledger().discard(&buffers.discarded);
        buffers.heard.iter().for_each(Heard::settle);
        counters.note_attributes(buffers.attributes_repeated, buffers.attributes_indexed);
        if buffers.sampling_inconsistent > 0 {
            counters.sampling_inconsistent.fetch_add(buffers.sampling_inconsistent, Ordering::Relaxed);
        }
        self.buffers = Some(buffers);
    }

    /// Whose the records of `resource` are; makes the version and the instance when they are new.
    pub(super) fn resolve(&mut self, signal: Signal, resource: &ResourceView<'_>) {
        if self.is_current(signal, resource) {
            return;
        }
        let Some(buffers) = &mut self.buffers else { return };
        let registry = &self.intake.registry;
        let sender = registry.join(signal, resource, self.arrival).unwrap_or_else(|| {
            let version = registry.resolve_version(resource, &mut buffers.scratch);
            let scratch = &mut buffers.scratch;
            let instance = registry.instance_of(signal, &version, resource, self.arrival, scratch);
            Sender { version, instance, is_joined: false }
        });
        self.current = Some(sender);
    }

    /// Whether the current sender is that of `resource`; else there is none until one is set.
    fn is_current(&mut self, signal: Signal, resource: &ResourceView<'_>) -> bool {
        let Some(buffers) = &mut self.buffers else { return true };
        let out = &mut buffers.scratch;
        encode_identity(resource, self.intake.registry.limits().label_bytes, out);
        out.extend_from_slice(resource.instance);
        out.extend_from_slice(&resource.process_id.to_le_bytes());
        out.push(signal as u8);
        for id in [ResourceAttribute::PodUid, ResourceAttribute::PodName, ResourceAttribute::ContainerId] {
            out.extend_from_slice(resource.texts.get(id));
            out.push(0);
        }
        if self.current.is_some() && buffers.scratch == buffers.resource {
            return true;
        }
        std::mem::swap(&mut buffers.scratch, &mut buffers.resource);
        self.current = None;
        false
    }

    /// Notes a sender: a resource of the message with all its records, whether they are judged or not. Called
    /// once per resource, after its records.
    pub fn sender(&mut self, signal: Signal, resource: &ResourceView<'_>, records: u64) {
        self.known_sender(signal, resource);
        let registry = &self.intake.registry;
        let (Some(buffers), Some(sender)) = (&mut self.buffers, &self.current) else { return };
        buffers.attributes_repeated += u64::from(resource.repeated);
        buffers.attributes_indexed += u64::from(resource.indexed);
        let heard = registry.hear(sender, signal, resource, records, self.arrival);
        if buffers.heard.last_mut().is_some_and(|last| last.absorb(&heard)) {
            return;
        }
        if buffers.heard.len() < HEARD {
            buffers.heard.push(heard);
        } else {
            heard.settle();
        }
    }

    fn push(&mut self, span: &SpanView<'_>, dimensions: Option<&DimensionTexts>) {
        let (Some(buffers), Some(sender)) = (&mut self.buffers, &self.current) else { return };
        let series = series_of(buffers, sender, &self.intake, span, dimensions);
        let (weight, weight_known) = match span.weight {
            SamplingWeight::Known(weight) => (weight as f32, true),
            SamplingWeight::Unknown => (1.0, false),
            SamplingWeight::Inconsistent => {
                buffers.sampling_inconsistent += 1;
                (1.0, false)
            }
        };
        let observation = Observation {
            series,
            instance: sender.instance,
            start: span.start.min(span.end),
            end: span.end,
            arrival: self.arrival,
            bucket: layout::bucket_of_nanos(span.end.since(span.start)),
            outcome: span.outcome,
            status: span.status,
            skewed: span.end < span.start,
            weight,
            weight_known,
            marks: span.marks,
        };
        buffers.observations.push(observation);
        for (measure, amount) in span.quantities {
            buffers.extras.push(Extra {
                version: sender.version.meta.id,
                instance: sender.instance,
                start: observation.start,
                end: span.end,
                arrival: self.arrival,
                bucket: observation.bucket,
                is_record: false,
                marks: part_bit(usize::from(*measure)),
                amount: *amount,
            });
        }
        note_exemplar(buffers, &mut self.slowest, &observation, span.trace_id);
    }
}

/// Keeps the trace ids of the first failed spans and of the slowest one.
fn note_exemplar(
    buffers: &mut BatchBuffers,
    slowest: &mut Option<(i16, Exemplar)>,
    observation: &Observation,
    trace_id: &[u8],
) {
    let failed = observation.outcome == crate::model::Outcome::Bad;
    let slower = slowest.is_none_or(|(bucket, _)| observation.bucket > bucket);
    if !(failed && buffers.exemplars.len() < FAILED_EXEMPLARS || !failed && slower) {
        return;
    }
    let Ok(trace_id) = trace_id.try_into() else { return };
    let exemplar = Exemplar { series: observation.series, end: observation.end, trace_id, failed };
    if failed {
        buffers.exemplars.push(exemplar);
    } else {
        *slowest = Some((observation.bucket, exemplar));
    }
}

impl SpanSink for Batch {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        self.resolve(Signal::Traces, resource);
    }

    fn span(&mut self, span: &SpanView<'_>) {
        if self.current.is_none() {
            // A span before any resource belongs to the resource without attributes.
            self.resolve(Signal::Traces, &ResourceView::default());
        }
        self.push(span, None);
    }

    fn span_of(&mut self, span: &SpanView<'_>, dimensions: &DimensionTexts) {
        self.push(span, Some(dimensions));
    }

    fn program(&self) -> Option<Arc<Program>> {
        self.current.as_ref().and_then(|sender| sender.version.measures.program())
    }

    fn marked(&mut self, span: &MarkedSpan<'_>) {
        let (Some(buffers), Some(sender)) = (&mut self.buffers, &self.current) else { return };
        let extra = Extra {
            version: sender.version.meta.id,
            instance: sender.instance,
            start: span.start,
            end: span.end,
            arrival: self.arrival,
            bucket: layout::bucket_of_nanos(span.end.since(span.start)),
            is_record: true,
            marks: span.marks,
            amount: 1,
        };
        buffers.marked += 1;
        buffers.extras.push(extra);
        for (measure, amount) in span.quantities {
            let marks = part_bit(usize::from(*measure));
            buffers.extras.push(Extra { is_record: false, marks, amount: *amount, ..extra });
        }
    }

    fn sender_of_spans(&mut self, resource: &ResourceView<'_>, spans: u64) {
        self.sender(Signal::Traces, resource, spans);
    }

    fn discard(&mut self, reason: Discard) {
        if let Some(buffers) = &mut self.buffers {
            buffers.discarded.add(Signal::Traces, reason, 1);
        }
    }

    fn exception(&mut self, exception: &SpanException<'_>) {
        self.thrown(exception);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(mut buffers) = self.buffers.take() {
            buffers.clear();
            self.intake.shards.return_buffers(buffers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Outcome, StatusSource};
    use crate::pipeline::{Disposition, Drained, Registry, RegistryLimits, Shards};

    fn door(capacity: usize) -> Intake {
        Intake::new(Arc::new(Registry::new(RegistryLimits::default())), Arc::new(Shards::new(2, capacity)))
    }

    fn resource(version: &str) -> ResourceView<'_> {
        ResourceView { service: b"shop", version: version.as_bytes(), ..ResourceView::default() }
    }

    fn span(operation: &str, start: u64, end: u64, outcome: Outcome) -> SpanView<'_> {
        SpanView {
            operation_head: b"GET",
            operation_joint: b" ",
            operation_tail: operation.as_bytes(),
            start: UnixNanos(start),
            end: UnixNanos(end),
            outcome,
            status: StatusSource::Code,
            weight: SamplingWeight::Unknown,
            trace_id: &[7; 16],
            marks: 0,
            quantities: &[],
        }
    }

    fn fill(batch: &mut Batch, version: &str, spans: usize) {
        batch.resource(&resource(version));
        for _ in 0..spans {
            batch.span(&span("/", 10, 20, Outcome::Good));
        }
    }

    fn drain(door: &Intake) -> Drained {
        let mut drained = Drained::default();
        door.shards.drain(&mut drained);
        drained
    }

    #[test]
    fn s2_a_span_becomes_an_observation() {
        let door = door(100);
        let mut batch = door.begin(UnixNanos(99));
        batch.resource(&resource("v1"));
        batch.span(&span("/a", 1_000, 2_000_001_000, Outcome::Bad));
        batch.span(&SpanView { weight: SamplingWeight::Known(4.0), ..span("/b", 50, 20, Outcome::Good) });
        batch.discard(Discard::Kind);
        batch.commit().unwrap();
        let drained = drain(&door);
        let all: Vec<_> = drained.observations().copied().collect();
        assert_eq!((all[0].bucket, all[0].arrival, all[0].skewed), (31, UnixNanos(99), false));
        assert_eq!((all[1].start, all[1].end, all[1].skewed), (UnixNanos(20), UnixNanos(20), true));
        assert_eq!((all[1].bucket, all[1].weight, all[1].weight_known), (layout::LOWEST, 4.0, true));
        assert_eq!(&*door.registry.series(all[0].series).unwrap().operation, "GET /a");
        let kind = Disposition::Discarded(Discard::Kind);
        assert_eq!(door.shards.ledger().settled(Signal::Traces, kind), 1);
        assert_eq!(door.shards.ledger().open(Signal::Traces), 2);
        assert_eq!(drained.exemplars.len(), 2);
        assert!(drained.exemplars[0].failed && !drained.exemplars[1].failed);
    }

    #[test]
    fn operations_are_joined_only_where_both_parts_are_there() {
        let door = door(100);
        let mut batch = door.begin(UnixNanos(0));
        for (head, joint, tail, expected) in [
            ("GET", " ", "/a", "GET /a"),
            ("", " ", "/a", "/a"),
            ("GET", " ", "", "GET"),
            ("shop.Cart", "/", "Add", "shop.Cart/Add"),
            ("", "", "", ""),
        ] {
            batch.span(&SpanView {
                operation_head: head.as_bytes(),
                operation_joint: joint.as_bytes(),
                operation_tail: tail.as_bytes(),
                ..span("", 1, 2, Outcome::Good)
            });
            let series = batch.buffers.as_ref().unwrap().observations.last().unwrap().series;
            assert_eq!(&*door.registry.series(series).unwrap().operation, expected);
        }
        let meta = door.registry.version(batch.current.as_ref().unwrap().version.meta.id).unwrap();
        assert_eq!(meta.key.service.name, crate::pipeline::UNKNOWN_SERVICE);
    }

    #[test]
    fn a_dropped_or_refused_batch_leaves_no_trace() {
        let door = door(10);
        let mut batch = door.begin(UnixNanos(0));
        fill(&mut batch, "v1", 3);
        batch.discard(Discard::Health);
        drop(batch);
        assert!(drain(&door).is_empty());
        let mut batch = door.begin(UnixNanos(0));
        fill(&mut batch, "v1", 8);
        batch.commit().unwrap();
        let mut batch = door.begin(UnixNanos(0));
        fill(&mut batch, "v1", 3);
        batch.discard(Discard::Health);
        assert_eq!(batch.commit(), Err(Refused::QueueFull));
        let mut batch = door.begin(UnixNanos(0));
        fill(&mut batch, "v1", 2);
        batch.commit().unwrap();
        assert_eq!(drain(&door).len(), 10);
        let counters = door.shards.counters();
        assert_eq!(door.shards.ledger().received(Signal::Traces), 10);
        assert_eq!(counters.refused_full.load(Ordering::Relaxed), 3);
        door.close();
        let mut batch = door.begin(UnixNanos(0));
        fill(&mut batch, "v1", 1);
        assert_eq!(batch.commit(), Err(Refused::ShuttingDown));
        assert_eq!(counters.spans.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn an_empty_log_takes_a_batch_larger_than_itself() {
        let door = door(10);
        let mut batch = door.begin(UnixNanos(0));
        fill(&mut batch, "v1", 25);
        batch.commit().unwrap();
        assert_eq!(drain(&door).len(), 25);
    }

    #[test]
    fn ids_cached_before_a_retirement_are_not_used_after_it() {
        let door = door(100);
        let series = || {
            let mut batch = door.begin(UnixNanos(0));
            fill(&mut batch, "v1", 1);
            batch.commit().unwrap();
            drain(&door).observations().next().unwrap().series
        };
        let before = series();
        assert_eq!(series(), before);
        door.registry.retire_version(door.registry.series(before).unwrap().version);
        let after = series();
        assert_ne!(after, before);
        assert!(door.registry.series(after).is_some());
    }

    /// Scenario: four threads commit while one drains. Guarantees: what was committed is drained exactly
    /// once, what was refused never.
    #[test]
    fn nothing_is_lost_or_doubled_under_concurrency() {
        let door = door(500);
        let done = std::sync::atomic::AtomicUsize::new(0);
        let mut taken = HashMap::<u64, u64>::new();
        let committed = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4_u64)
                .map(|worker| {
                    let (door, done) = (&door, &done);
                    scope.spawn(move || {
                        let mut committed = Vec::new();
                        for n in 0..400 {
                            let id = worker * 1_000 + n;
                            let mut batch = door.begin(UnixNanos(id));
                            fill(&mut batch, ["v1", "v2", "v3"][(id % 3) as usize], 1 + (id % 40) as usize);
                            if batch.commit().is_ok() {
                                committed.push((id, 1 + id % 40));
                            }
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                        committed
                    })
                })
                .collect();
            let mut drained = Drained::default();
            loop {
                let last = done.load(Ordering::SeqCst) == 4;
                door.shards.drain(&mut drained);
                for observation in drained.observations() {
                    *taken.entry(observation.arrival.0).or_default() += 1;
                }
                if last {
                    break;
                }
            }
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<HashMap<_, _>>()
        });
        assert_eq!(taken, committed);
        let spans: u64 = committed.values().sum();
        assert_eq!(door.shards.counters().spans.load(Ordering::Relaxed), spans);
    }
}
