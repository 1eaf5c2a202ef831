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
pub(super) use self::recall::PointMemory;
use self::recall::Taken;
use self::series::series_of;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;

use super::findings::{Finding, NamedStacks};
use super::flags::FlagTold;
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
    ResourceView, SamplingWeight, SeriesId, SpanException, SpanSink, SpanView, ToldBy, UnixNanos, part_bit,
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
    pub(super) flags: Vec<FlagTold>,
    attributes_repeated: u64,
    attributes_indexed: u64,
    /// Version id and operation bytes to series.
    series: HashMap<Box<[u8]>, SeriesId, RandomState>,
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
        self.flags.clear();
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
    /// What is remembered of the points of the metric in hand.
    known: Taken,
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
        Self {
            intake,
            arrival,
            buffers: Some(buffers),
            current: None,
            slowest: None,
            known: Taken::default(),
        }
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
        buffers.flags.drain(..).for_each(FlagTold::settle);
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

    fn flag_told(&mut self, flag: &str, by: ToldBy, spans: u64) {
        self.note_flag(flag, by, spans);
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
        self.intake.known_points.put_back(&mut self.known);
        if let Some(mut buffers) = self.buffers.take() {
            buffers.clear();
            self.intake.shards.return_buffers(buffers);
        }
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
