//! Recorded metric points and the slots they make. As with spans, the whole recording is put into slots first:
//! the export interval is the mode over all of it, the metric that counts is the best that both versions have,
//! and latencies are compared in the form that all of it shares.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::super::arms::{Closed, SeriesCohorts};
use super::super::cohorts::ServiceCohorts;
use super::super::metered::{Choice, Interval};
use super::cohorts::RecordedValues;
use super::metric_measures::{Beside, Heard, Intervals};
use super::{FAR_NANOS, NO_INSTANCE, Recording};
use crate::histogram::Form;
use crate::histogram::exponential::downscale;
use crate::model::{
    BoundsId, Class, DimensionTexts, Discard, Durations, Family, InstanceId, PointSink, PointView, Program,
    ResourceView, SeriesId, Shape, Slot, StreamMeta, Temporality, UnixNanos,
};
use crate::pipeline::batch::bounds_id;
use crate::pipeline::measures::wanted;
use crate::verdict::{Dimension, SlotInput, Timing};
use crate::window::{
    Addition, ClosedInterval, Delta, MeasuredInterval, OpenIntervals, Placement, Point, Stream, Taken,
};

/// Seconds between exports where no stream has two points.
const INTERVAL_S: i64 = 60;

/// The metric points of a recording.
#[derive(Debug, Default)]
pub(super) struct RecordedPoints {
    points: Vec<RecordedPoint>,
    counts: Vec<u64>,
    bounds: BTreeMap<BoundsId, Arc<[f64]>>,
    /// Operation and values of dimensions of each series, and their numbers.
    series: Vec<(u32, Option<u32>)>,
    numbers: BTreeMap<(u32, Option<u32>), u32>,
}

/// What points are told apart by beside their operation.
pub(super) struct PointValues<'a> {
    pub(super) texts: &'a RecordedValues,
    pub(super) dimensions: &'a [Dimension],
}

#[derive(Debug, Clone)]
struct RecordedPoint {
    service: u32,
    version: u32,
    meta: StreamMeta,
    start: UnixNanos,
    time: UnixNanos,
    count: u64,
    shape: Shape,
    counts: Range<usize>,
}

/// What a point adds, and to whom.
struct Added {
    is_candidate: bool,
    meta: StreamMeta,
    delta: Delta,
    counts: Vec<u64>,
}

/// Slots of the metrics of two versions.
#[derive(Debug, Default)]
pub(super) struct MetricSlots {
    pub(super) timing: Timing,
    pub(super) slots: BTreeMap<Slot, SlotInput>,
    /// Whether any metric counts requests, not only what SLIs of the policy's own read.
    pub(super) counts_requests: bool,
    /// Begin of the candidate's first interval with requests.
    pub(super) first: Option<UnixNanos>,
    /// Points that were read, and those left out because their clock is far off.
    pub(super) points: [u64; 2],
}

/// Whether the points of a stream count requests.
fn is_of_requests(meta: &StreamMeta) -> bool {
    meta.family != Family::Measure
}

impl PointSink for Recording {
    fn point(&mut self, resource: &ResourceView<'_>, point: &PointView<'_>) {
        let or = |named: &[u8], own: &[u8]| {
            String::from_utf8_lossy(if named.is_empty() { own } else { named }).into_owned()
        };
        let service = self.services.number(&or(point.service, resource.service));
        let version = self.versions.number(&or(point.version, resource.version));
        let reports_for_others = !point.service.is_empty() && point.service != resource.service
            || !point.version.is_empty() && point.version != resource.version;
        let instance = match resource.instance.is_empty() || reports_for_others {
            true => NO_INSTANCE,
            false => self.instances.number(&String::from_utf8_lossy(resource.instance)),
        };
        let parts = [point.operation_head, point.operation_joint, point.operation_tail];
        let operation = match point.overflow {
            true => self.operations.number(crate::pipeline::OVERFLOW_OPERATION),
            false => self.operations.number(&String::from_utf8_lossy(&parts.concat())),
        };
        let is_of_service = point.service.is_empty() || point.service == resource.service;
        let values = point.dimensions.filter(|_| is_of_service).map(|texts| self.values.number(texts));
        let meta = StreamMeta {
            key: point.stream,
            series: self.points.series(operation, values),
            instance: InstanceId(instance),
            family: point.family,
            temporality: point.temporality,
            unit: point.numbers.unit,
            outcome: point.outcome,
            status: point.status,
            // What is told of others is no metric of the service whose policy asks for it.
            marks: if reports_for_others { 0 } else { point.marks },
        };
        self.points.push(service, version, meta, point);
    }

    fn metric_program(&mut self, _resource: &ResourceView<'_>) -> Option<Arc<Program>> {
        self.point_program.clone()
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        *self.discarded.entry(reason).or_default() += points;
    }
}

impl RecordedPoints {
    fn series(&mut self, operation: u32, values: Option<u32>) -> SeriesId {
        let next = self.series.len() as u32;
        let number = *self.numbers.entry((operation, values)).or_insert(next);
        if number == next {
            self.series.push((operation, values));
        }
        SeriesId(number)
    }

    fn push(&mut self, service: u32, version: u32, meta: StreamMeta, point: &PointView<'_>) {
        let numbers = &point.numbers;
        let from = self.counts.len();
        let shape = match numbers.durations {
            Durations::Unknown => Shape::Count,
            Durations::Explicit { bounds, counts } => {
                let id = bounds_id(bounds, numbers.unit);
                let seconds = || bounds.iter().map(|b| numbers.unit.seconds(*b)).collect();
                self.bounds.entry(id).or_insert_with(seconds);
                self.counts.extend_from_slice(counts);
                Shape::Explicit(id)
            }
            Durations::Exponential { scale, zero, offset, counts } => {
                let mut kept = Vec::new();
                let (scale, offset) = downscale(scale, offset, counts, &mut kept);
                self.counts.append(&mut kept);
                Shape::Exponential { scale, offset, zero }
            }
        };
        let counts = from..self.counts.len();
        let (start, time, count) = (numbers.start, numbers.time, numbers.count);
        self.points.push(RecordedPoint { service, version, meta, start, time, count, shape, counts });
    }

    /// Whether there is no point that counts requests.
    pub(super) fn is_empty(&self) -> bool {
        self.of_requests().next().is_none()
    }

    fn of_requests(&self) -> impl Iterator<Item = &RecordedPoint> {
        self.points.iter().filter(|point| is_of_requests(&point.meta))
    }

    /// Services with points that count requests.
    pub(super) fn services(&self) -> impl Iterator<Item = u32> {
        self.of_requests().map(|point| point.service)
    }

    /// Versions of a service with the time of each of their points that count requests.
    pub(super) fn versions(&self, service: u32) -> impl Iterator<Item = (u32, UnixNanos)> {
        self.of_requests().filter(move |p| p.service == service).map(|p| (p.version, p.time))
    }

    /// The slots of a service's baseline and candidate; `names` are the operations.
    pub(super) fn slots(
        &self,
        (service, baseline, candidate): (u32, u32, u32),
        names: &[Arc<str>],
        values: &PointValues<'_>,
        (margin, beside): (i32, Option<&Beside<'_>>),
    ) -> MetricSlots {
        let is_arm =
            |p: &&RecordedPoint| p.service == service && (p.version == baseline || p.version == candidate);
        let mut points: Vec<&RecordedPoint> = self.points.iter().filter(is_arm).collect();
        points.sort_by_key(|point| point.time);
        let middle = points.get(points.len() / 2).map(|point| point.time).unwrap_or_default();
        let all = points.len();
        points.retain(|point| point.time.0.abs_diff(middle.0) <= FAR_NANOS);
        let far = (all - points.len()) as u64;
        let (added, interval) = self.differences(&points, candidate);
        let timing = Timing::of_slot(interval.mode().unwrap_or(INTERVAL_S));
        let named = Named::new(&added, &self.series, names, values);
        let exported = points.iter().map(|p| (p.version == candidate, p.time.slot()));
        let served = added.iter().map(|a| (a.is_candidate, a.meta.instance, a.delta.start.slot()));
        let heard = Heard::new(exported, served, timing);
        let mut slots = in_slots(&added, &self.bounds, timing, named, (margin, beside, heard));
        slots.points = [points.len() as u64, far];
        slots
    }

    /// What each point adds, in the order of time, and how often the senders export.
    fn differences(&self, points: &[&RecordedPoint], candidate: u32) -> (Vec<Added>, Interval) {
        let mut streams: BTreeMap<(u32, u128), Stream> = BTreeMap::new();
        let watched_since = points.first().map(|point| point.time).unwrap_or_default();
        let (mut added, mut interval) = (Vec::new(), Interval::default());
        let mut out = Vec::new();
        for p in points {
            let stream = streams.entry((p.version, p.meta.key)).or_default();
            let counts = self.counts.get(p.counts.clone()).unwrap_or_default();
            let point = Point { start: p.start, time: p.time, count: p.count, shape: p.shape, counts };
            if let Taken::Delta(delta) = stream.take(&point, p.meta.temporality, watched_since, &mut out) {
                let gap = match p.meta.temporality {
                    Temporality::Delta => Some(delta.end.since(delta.start)),
                    Temporality::Cumulative => delta.since_last,
                };
                gap.filter(|gap| *gap > 0).into_iter().for_each(|gap| interval.note(gap));
                let is_candidate = p.version == candidate;
                added.push(Added { is_candidate, meta: p.meta, delta, counts: out.clone() });
            }
        }
        (added, interval)
    }
}

fn in_slots(
    added: &[Added],
    bounds: &BTreeMap<BoundsId, Arc<[f64]>>,
    timing: Timing,
    mut named: Named,
    (margin, beside, heard): (i32, Option<&Beside<'_>>, Heard),
) -> MetricSlots {
    let mut open = [(); 2].map(|()| OpenIntervals::new(timing.slot_s(), Slot::MIN));
    if let Some(beside) = beside {
        open.iter_mut().for_each(|arm| arm.set_wanted(wanted(beside.program)));
    }
    let mut ordinals = beside.map(|beside| beside.ordinals.clone()).unwrap_or_default();
    let mut slots: BTreeSet<Slot> = BTreeSet::new();
    let mut first = None;
    for a in added {
        let arm = usize::from(a.is_candidate);
        let next = ordinals[arm].len() as u32;
        let is_named = a.meta.instance.0 != NO_INSTANCE;
        let ordinal = if is_named { *ordinals[arm].entry(a.meta.instance).or_insert(next) } else { 0 };
        let addition = Addition {
            stream: &a.meta,
            start: a.delta.start,
            end: a.delta.end,
            arrival: a.delta.end,
            count: a.delta.count,
            shape: a.delta.shape,
            counts: &a.counts,
            bounds: match a.delta.shape {
                Shape::Explicit(id) => bounds.get(&id),
                Shape::Count | Shape::Exponential { .. } | Shape::Level(_) => None,
            },
        };
        open[arm].record(&addition, Placement { young: false, group: (ordinal % 2) as u8 });
        let slot = timing.slot_of(a.delta.end.slot());
        slots.insert(slot);
        if !is_of_requests(&a.meta) {
            continue;
        }
        named.serving.entry(slot).or_default()[arm].insert((a.meta.series, a.meta.instance));
        if a.is_candidate && a.delta.count > 0 {
            first = Some(first.map_or(a.delta.start, |seen: UnixNanos| seen.min(a.delta.start)));
        }
    }
    let mut closed: Vec<(Slot, [ClosedInterval; 2])> =
        slots.into_iter().map(|slot| (slot, open.each_mut().map(|arm| arm.close(slot)))).collect();
    let counted: Vec<(Slot, [MeasuredInterval; 2])> = closed
        .iter_mut()
        .map(|(slot, arms)| (*slot, arms.each_mut().map(ClosedInterval::take_measured)))
        .collect();
    let mut slots = reduced(closed, named, &ordinals, margin);
    let counts_requests = added.iter().any(|a| is_of_requests(&a.meta));
    if let Some(beside) = beside {
        let interval = Intervals { timing, counts_requests, margin, ordinals: &ordinals, heard: &heard };
        beside.put(&counted, &interval, &mut slots);
    }
    MetricSlots { timing, slots, counts_requests, first, points: [0; 2] }
}

/// What the series of a recording are, and who served them when.
struct Named {
    operations: BTreeMap<SeriesId, Arc<str>>,
    cohorts: [SeriesCohorts; 2],
    serving: BTreeMap<Slot, [BTreeSet<(SeriesId, InstanceId)>; 2]>,
}

impl Named {
    /// Values are interned in the order of time, so that the order in the files does not matter.
    fn new(
        added: &[Added],
        series: &[(u32, Option<u32>)],
        names: &[Arc<str>],
        values: &PointValues<'_>,
    ) -> Self {
        let all = || series.iter().enumerate().map(|(i, of)| (SeriesId(i as u32), of));
        let operations = all()
            .filter_map(|(id, (operation, _))| Some((id, Arc::clone(names.get(*operation as usize)?))))
            .collect();
        let known = ServiceCohorts::default();
        known.admit(values.dimensions);
        let texts: BTreeMap<SeriesId, &DimensionTexts> =
            all().filter_map(|(id, (_, number))| Some((id, values.texts.get((*number)?)?))).collect();
        let mut by_time: Vec<(UnixNanos, &DimensionTexts)> =
            added.iter().filter_map(|a| Some((a.delta.end, *texts.get(&a.meta.series)?))).collect();
        by_time.sort_by(|(a, x), (b, y)| (a, x.all()).cmp(&(b, y.all())));
        by_time.iter().for_each(|(_, texts)| drop(known.of(texts)));
        let cohorts = [(); 2].map(|()| {
            let mut cohorts = SeriesCohorts::default();
            for (id, texts) in &texts {
                if let Some(cohort) = known.of(texts) {
                    cohorts.add(*id, &cohort);
                }
            }
            cohorts
        });
        Self { operations, cohorts, serving: BTreeMap::new() }
    }
}

fn reduced(
    closed: Vec<(Slot, [ClosedInterval; 2])>,
    mut named: Named,
    ordinals: &[BTreeMap<InstanceId, u32>; 2],
    margin: i32,
) -> BTreeMap<Slot, SlotInput> {
    let mut sent: [BTreeSet<Family>; 2] = Default::default();
    for (_, arms) in &closed {
        sent.iter_mut().zip(arms).for_each(|(sent, arm)| sent.extend(arm.families()));
    }
    let [baseline, candidate] =
        sent.each_ref().map(|sent| sent.iter().map(|f| f.class()).collect::<BTreeSet<Class>>());
    let class = baseline.intersection(&candidate).next().or_else(|| baseline.union(&candidate).next());
    let choice = Choice::of(class.copied());
    let mut form = Form::default();
    for (_, arms) in &closed {
        for (arm, sent) in arms.iter().zip(&sent) {
            arm.admit(&mut form, margin, |family| choice.counts(family, sent));
        }
    }
    let bounds = form.bounds();
    let mut in_words = |slot: Slot, arm: ClosedInterval, i: usize| {
        let reduced = arm.reduce(&form, |family| choice.counts(family, &sent[i]));
        let Named { operations, cohorts, serving } = &mut named;
        for (series, instance) in serving.get(&slot).iter().flat_map(|arms| &arms[i]) {
            cohorts[i].note(*series, *instance);
        }
        let mut arm = Closed::new(&reduced.slot, operations, &ordinals[i], bounds.as_ref()).arm;
        cohorts[i].split(&reduced.slot, operations, &ordinals[i], bounds.as_ref(), &mut arm);
        arm
    };
    let mut input = |slot: Slot, [baseline, candidate]: [ClosedInterval; 2]| SlotInput {
        baseline: in_words(slot, baseline, 0),
        candidate: in_words(slot, candidate, 1),
        ..SlotInput::default()
    };
    closed.into_iter().map(|(slot, arms)| (slot, input(slot, arms))).collect()
}
