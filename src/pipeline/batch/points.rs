//! The metric points of a request: whose stream each is, and its buckets in a form that can be subtracted.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use super::super::passage::Signal;
use super::super::registry::OVERFLOW_OPERATION;
use super::super::senders::is_joinable;
use super::{Batch, BatchBuffers, FAILED_EXEMPLARS};
use crate::histogram::exponential::downscale;
use crate::model::{
    BoundsId, Discard, DurationUnit, Durations, Exemplar, InstanceId, PointObservation, PointSink, PointView,
    ResourceView, SeriesId, Shape, StreamId, StreamMeta, UnixNanos,
};
use crate::pipeline::intake::Intake;

/// Streams that the cache of one buffer holds; beyond it the registry is asked.
const CACHED_STREAMS: usize = 65_536;
/// Lists of bounds that the cache of one buffer holds; nearly all senders use the same two.
const CACHED_BOUNDS: usize = 16;

impl PointSink for Batch {
    fn point(&mut self, resource: &ResourceView<'_>, point: &PointView<'_>) {
        let Some(buffers) = &mut self.buffers else { return };
        let (stream, series) = match buffers.streams.get(&point.stream) {
            Some(known) => *known,
            None => match resolve(buffers, &self.intake, self.arrival, resource, point) {
                Some(resolved) => resolved,
                None => return buffers.discarded.add(Signal::Metrics, Discard::Streams, 1),
            },
        };
        push(buffers, &self.intake, stream, self.arrival, point);
        if let Ok(trace_id) = point.trace_id.try_into()
            && buffers.exemplars.len() < FAILED_EXEMPLARS
        {
            buffers.exemplars.push(Exemplar { series, end: point.time, trace_id, failed: true });
        }
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        self.discard_all(Signal::Metrics, reason, points);
    }

    fn sender_of_points(&mut self, resource: &ResourceView<'_>, points: u64) {
        self.sender(Signal::Metrics, resource, points);
    }
}

/// Makes a stream known, or finds it; `None` beyond a cap.
#[cold]
fn resolve(
    buffers: &mut BatchBuffers,
    intake: &Intake,
    arrival: UnixNanos,
    resource: &ResourceView<'_>,
    point: &PointView<'_>,
) -> Option<(StreamId, SeriesId)> {
    let registry = &intake.registry;
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
    let meta = StreamMeta {
        key: point.stream,
        series: registry.resolve_series(&version, &operation),
        instance,
        family: point.family,
        temporality: point.temporality,
        unit: point.unit,
        outcome: point.outcome,
        status: point.status,
    };
    let stream = registry.resolve_stream(&version, &meta)?;
    if is_settled && buffers.streams.len() < CACHED_STREAMS {
        buffers.streams.insert(point.stream, (stream, meta.series));
    }
    Some((stream, meta.series))
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
    stream: StreamId,
    arrival: UnixNanos,
    point: &PointView<'_>,
) {
    let observation = PointObservation {
        stream,
        start: point.start,
        time: point.time,
        arrival,
        count: point.count,
        shape: Shape::Count,
        counts_at: 0,
        counts_len: 0,
    };
    match point.durations {
        Durations::Explicit { bounds, counts } => {
            let id = bounds_id(bounds, point.unit);
            // Without a place for its bounds a point still counts.
            if is_known(buffers, intake, id, bounds, point.unit) {
                buffers.points.push(PointObservation { shape: Shape::Explicit(id), ..observation }, counts);
            } else {
                buffers.points.push(observation, &[]);
            }
        }
        Durations::Exponential { scale, zero, offset, counts } => {
            let (scale, offset) = downscale(scale, offset, counts, &mut buffers.counts);
            let shape = Shape::Exponential { scale, offset, zero };
            buffers.points.push(PointObservation { shape, ..observation }, &buffers.counts);
        }
        Durations::Unknown => buffers.points.push(observation, &[]),
    }
}

/// Whether bounds are known to the registry, which is asked once per buffer and bounds.
fn is_known(
    buffers: &mut BatchBuffers,
    intake: &Intake,
    id: BoundsId,
    bounds: &[f64],
    unit: DurationUnit,
) -> bool {
    if buffers.bounds.contains(&id) {
        return true;
    }
    let seconds = || bounds.iter().map(|bound| unit.seconds(*bound)).collect();
    let is_known = intake.registry.resolve_bounds(id, seconds);
    if is_known && buffers.bounds.len() < CACHED_BOUNDS {
        buffers.bounds.push(id);
    }
    is_known
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
