//! The metric points of a request: whose stream each is, and its buckets in a form that can be subtracted.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::super::passage::Signal;
use super::super::registry::OVERFLOW_OPERATION;
use super::super::senders::{Sender, is_joinable};
use super::recall::{Known, Taken};
use super::{Batch, BatchBuffers, FAILED_EXEMPLARS};
use crate::histogram::exponential::downscale;
use crate::model::{
    BoundsId, Discard, DurationUnit, Durations, Exemplar, InstanceId, Level, Outcome, PointKey, PointNumbers,
    PointObservation, PointSink, PointView, Program, Recalled, RecalledStream, ResourceView, Shape,
    StreamMeta, UnixNanos, VersionKey,
};
use crate::pipeline::intake::Intake;

/// Lists of bounds that the cache of one buffer holds; nearly all senders use the same two.
const CACHED_BOUNDS: usize = 16;

/// Bounds that the registry knows.
#[derive(Debug)]
pub(super) struct KnownBounds {
    id: BoundsId,
    bounds: Box<[f64]>,
    unit: DurationUnit,
}

impl KnownBounds {
    fn is(&self, bounds: &[f64], unit: DurationUnit) -> bool {
        self.unit == unit
            && self.bounds.len() == bounds.len()
            && self.bounds.iter().zip(bounds).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl Batch {
    /// The sender of a resource, if it is known; it is the current one then.
    pub(super) fn known_sender(&mut self, signal: Signal, resource: &ResourceView<'_>) -> Option<&Sender> {
        let is_current = self.is_current(signal, resource);
        let (registry, buffers) = (&self.intake.registry, self.buffers.as_mut()?);
        if !is_current {
            self.current = registry
                .join(signal, resource, self.arrival)
                .or_else(|| registry.known_sender(resource, &mut buffers.scratch));
        }
        self.current.as_ref()
    }
}

impl PointSink for Batch {
    fn remembers(&self) -> bool {
        true
    }

    fn metric(&mut self, key: PointKey) {
        self.intake.known_points.take(key, &mut self.known);
    }

    fn recall(&mut self, key: PointKey) -> Option<Recalled> {
        self.intake.known_points.recall(key, &mut self.known, &self.intake.registry)
    }

    fn known_point(&mut self, stream: RecalledStream, numbers: &PointNumbers<'_>) {
        let Some(buffers) = &mut self.buffers else { return };
        push(buffers, &self.intake, stream, self.arrival, numbers);
    }

    fn remember_discard(&mut self, key: PointKey, reason: Discard) {
        let Intake { registry, known_points, .. } = &self.intake;
        known_points.keep((key, Known::Discarded(reason)), &mut self.known, registry, self.arrival);
    }

    fn point(&mut self, resource: &ResourceView<'_>, point: &PointView<'_>) {
        let Some(buffers) = &mut self.buffers else { return };
        match resolve((buffers, &mut self.known), &self.intake, self.arrival, resource, point) {
            Some(stream) => push(buffers, &self.intake, stream, self.arrival, &point.numbers),
            None => buffers.discarded.add(Signal::Metrics, Discard::Streams, 1),
        }
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        self.discard_all(Signal::Metrics, reason, points);
    }

    fn metric_program(&mut self, resource: &ResourceView<'_>) -> Option<Arc<Program>> {
        if !self.intake.registry.reads_metrics() {
            return None;
        }
        let sender = self.known_sender(Signal::Metrics, resource)?;
        let program = sender.version.measures.program()?;
        (!program.metric_measures().is_empty() || program.has_dimensions()).then_some(program)
    }

    fn sender_of_points(&mut self, resource: &ResourceView<'_>, points: u64) {
        self.intake.known_points.put_back(&mut self.known);
        // Its points may have made the instance.
        let is_unnamed = |sender: &Sender| !sender.is_joined && sender.instance == InstanceId::UNKNOWN;
        if !resource.instance.is_empty() && self.current.as_ref().is_some_and(is_unnamed) {
            self.current = None;
        }
        self.sender(Signal::Metrics, resource, points);
        if let Some(sender) = self.current.as_ref().filter(|_| self.intake.registry.reads_metrics()) {
            sender.version.measures.hear(sender.version.meta.id, self.arrival);
        }
    }
}

/// Makes a stream known, or finds it; `None` beyond a cap.
#[cold]
fn resolve(
    (buffers, remembered): (&mut BatchBuffers, &mut Taken),
    intake: &Intake,
    arrival: UnixNanos,
    resource: &ResourceView<'_>,
    point: &PointView<'_>,
) -> Option<RecalledStream> {
    let registry = &intake.registry;
    // Before anything is looked up: what is forgotten meanwhile is not recalled.
    let changes = registry.stream_changes();
    let mut subject = resource.clone();
    for (own, named) in [
        (&mut subject.service, point.service),
        (&mut subject.namespace, point.namespace),
        (&mut subject.environment, point.environment),
        (&mut subject.version, point.version),
    ] {
        if !named.is_empty() {
            *own = named;
        }
    }
    // Whoever reports for others is not an instance of theirs.
    let is_own = subject.service == resource.service && subject.version == resource.version;
    let joined = if is_own { registry.join(Signal::Metrics, resource, arrival) } else { None };
    // Whose a joined one is may change: when its pod becomes known, or its name is given again.
    let is_settled = !(is_own && is_joinable(Signal::Metrics, resource));
    let (version, instance) = match joined {
        Some(sender) => (sender.version, sender.instance),
        None => {
            let version = registry.resolve_version(&subject, &mut buffers.scratch);
            let instance = match is_own {
                true => {
                    let scratch = &mut buffers.scratch;
                    registry.instance_of(Signal::Metrics, &version, &subject, arrival, scratch)
                }
                false => InstanceId::UNKNOWN,
            };
            (version, instance)
        }
    };
    let operation = operation(point);
    // The dimensions are those of the service that the resource names.
    let is_of_service = (subject.service, subject.namespace, subject.environment)
        == (resource.service, resource.namespace, resource.environment);
    let dimensions = point.dimensions.filter(|_| is_of_service);
    let cohort = dimensions.and_then(|texts| version.measures.cohorts.of(texts));
    let meta = StreamMeta {
        key: point.stream,
        series: match &cohort {
            None => registry.resolve_series(&version, &operation),
            Some(cohort) => registry.resolve_cohort(&version, &operation, cohort),
        },
        instance,
        family: point.family,
        temporality: point.temporality,
        unit: point.numbers.unit,
        outcome: point.outcome,
        status: point.status,
        // What is told of others is no metric of the service whose policy asks for it.
        marks: if is_own { point.marks } else { 0 },
    };
    let stream = registry.resolve_stream(&version, &meta)?;
    let resolved = RecalledStream { stream, series: meta.series, is_bad: point.outcome == Outcome::Bad };
    if let Some(key) = point.key.filter(|_| is_settled) {
        let is_lasting = version.meta.key.version != VersionKey::OVERFLOW;
        let known = Known::stream(resolved, is_lasting, changes);
        intake.known_points.keep((key, known), remembered, registry, arrival);
    }
    Some(resolved)
}

fn operation(point: &PointView<'_>) -> Vec<u8> {
    if point.overflow {
        return OVERFLOW_OPERATION.as_bytes().to_vec();
    }
    let both = !point.operation_head.is_empty() && !point.operation_tail.is_empty();
    let joint: &[u8] = if both { point.operation_joint } else { b"" };
    [point.operation_head, joint, point.operation_tail].concat()
}

fn push(
    buffers: &mut BatchBuffers,
    intake: &Intake,
    known: RecalledStream,
    arrival: UnixNanos,
    numbers: &PointNumbers<'_>,
) {
    let observation = PointObservation {
        stream: known.stream,
        start: numbers.start,
        time: numbers.time,
        arrival,
        count: numbers.count,
        shape: numbers.level.map_or(Shape::Count, |level| Shape::Level(Level::new(level))),
        counts_at: 0,
        counts_len: 0,
    };
    match numbers.durations {
        Durations::Explicit { bounds, counts } => {
            // Without a place for its bounds a point still counts.
            match known_bounds(buffers, intake, arrival, (bounds, numbers.unit)) {
                Some(id) => {
                    buffers
                        .points
                        .push(PointObservation { shape: Shape::Explicit(id), ..observation }, counts);
                }
                None => buffers.points.push(observation, &[]),
            }
        }
        Durations::Exponential { scale, zero, offset, counts } => {
            let (scale, offset) = downscale(scale, offset, counts, &mut buffers.counts);
            let shape = Shape::Exponential { scale, offset, zero };
            buffers.points.push(PointObservation { shape, ..observation }, &buffers.counts);
        }
        Durations::Unknown => buffers.points.push(observation, &[]),
    }
    if let Ok(trace_id) = numbers.trace_id.try_into()
        && buffers.exemplars.len() < FAILED_EXEMPLARS
    {
        let exemplar = Exemplar { series: known.series, end: numbers.time, trace_id, failed: true };
        buffers.exemplars.push(exemplar);
    }
}

/// The id of bounds that the registry knows; it is asked once per buffer and bounds, until it forgets some.
fn known_bounds(
    buffers: &mut BatchBuffers,
    intake: &Intake,
    arrival: UnixNanos,
    (bounds, unit): (&[f64], DurationUnit),
) -> Option<BoundsId> {
    // Most points have those of the point before.
    if let Some(last) = buffers.bounds.first().filter(|known| known.is(bounds, unit)) {
        return Some(last.id);
    }
    if let Some(at) = buffers.bounds.iter().position(|known| known.is(bounds, unit)) {
        buffers.bounds.swap(0, at);
        return buffers.bounds.first().map(|known| known.id);
    }
    let id = bounds_id(bounds, unit);
    let seconds = || bounds.iter().map(|bound| unit.seconds(*bound)).collect();
    if !intake.registry.resolve_bounds(id, arrival, seconds) {
        return None;
    }
    buffers.bounds.truncate(CACHED_BOUNDS - 1);
    buffers.bounds.insert(0, KnownBounds { id, bounds: bounds.into(), unit });
    Some(id)
}

/// Names bounds by what they are.
pub(in crate::pipeline) fn bounds_id(bounds: &[f64], unit: DurationUnit) -> BoundsId {
    let mut hash = unit as u64;
    let state = FixedState::with_seed(0x51_7cc1);
    for bound in bounds {
        hash = state.hash_one((hash, bound.to_bits()));
    }
    BoundsId(hash)
}
