//! The open export intervals of one version: what metric points add waits here until its slot closes, as spans
//! do in [`super::OpenSlots`]. A slot is as long as the service's export interval and is named by its first
//! second, a multiple of its length.
//!
//! Which metric counts and in which buckets latencies are compared is decided when the slot closes, because
//! only then all versions have been heard: a slot keeps every family and every division of buckets apart.
//! There is no right-censoring here: the requests of a point cannot be told apart by their start.

mod measured;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::measured::MeasuredInterval;

use super::cell::{Cell, Counts};
use super::measures::Wanted;
use super::open::{ClosedSlot, InstanceSlot, OperationSlot, Placed, Placement};
use crate::histogram::exponential::{grid_bucket, unit_shift};
use crate::histogram::{Form, Ruler, SparseHistogram};
use crate::model::{
    BoundsId, Class, Family, InstanceId, NANOS_PER_SECOND, Outcome, Shape, Slot, StatusSource, StreamMeta,
    UnixNanos,
};

/// An end this far ahead of the arrival is a wrong clock.
const FUTURE_NANOS: u64 = 5 * NANOS_PER_SECOND;

/// What a point adds, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Addition<'a> {
    /// Whose it is.
    pub stream: &'a StreamMeta,
    /// Begin of the interval.
    pub start: UnixNanos,
    /// Its end: decides the slot.
    pub end: UnixNanos,
    /// When the point arrived.
    pub arrival: UnixNanos,
    /// Requests.
    pub count: u64,
    /// How to read `counts`.
    pub shape: Shape,
    /// Bucket counts.
    pub counts: &'a [u64],
    /// Bounds in seconds where the buckets are explicit.
    pub bounds: Option<&'a Arc<[f64]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CellName {
    Young,
    Warm0,
    Warm1,
}

/// Latencies as they came, by division.
#[derive(Debug, Default)]
struct Latencies {
    /// By scale: indices in seconds, ascending, and their counts.
    exponential: BTreeMap<i8, Vec<(i32, u64)>>,
    explicit: BTreeMap<BoundsId, (Arc<[f64]>, Vec<u64>)>,
    /// About 0, or not known.
    lowest: u64,
}

#[derive(Debug, Default)]
struct OpenCell {
    counts: Counts,
    latencies: Latencies,
}

#[derive(Debug, Default)]
struct OpenInterval {
    cells: BTreeMap<(Family, crate::model::SeriesId, CellName), OpenCell>,
    instances: BTreeMap<(Family, InstanceId), InstanceSlot>,
    /// Points by family.
    points: BTreeMap<Family, u64>,
    first_start: Option<UnixNanos>,
    measured: MeasuredInterval,
}

/// The open intervals of one version.
#[derive(Debug)]
pub struct OpenIntervals {
    wanted: Wanted,
    slot_s: i64,
    slots: BTreeMap<Slot, OpenInterval>,
    open_from: Slot,
}

/// An interval that will not change any more, not yet reduced to one metric.
#[derive(Debug, Default)]
pub struct ClosedInterval {
    slot: Slot,
    open: OpenInterval,
    /// Points of older slots that were passed over and never closed.
    pub passed_over: u64,
}

/// An interval reduced to the metric that counts.
#[derive(Debug, Default)]
pub struct Reduced {
    /// As a slot of spans; latencies are keyed as the form says.
    pub slot: ClosedSlot,
    /// Points in it.
    pub points: u64,
    /// Points of other metrics that count the same requests.
    pub unused: u64,
}

impl OpenIntervals {
    /// Slots of so many seconds; those before `open_from` count as closed.
    pub fn new(slot_s: i64, open_from: Slot) -> Self {
        Self { wanted: Wanted::default(), slot_s: slot_s.max(1), slots: BTreeMap::new(), open_from }
    }

    /// What is wanted of measures from now on.
    pub fn set_wanted(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// Points that wait in open slots.
    pub fn waiting(&self) -> u64 {
        self.slots.values().map(OpenInterval::points).sum()
    }

    /// Adds to a slot, or says why not.
    pub fn record(&mut self, addition: &Addition<'_>, placement: Placement) -> Placed {
        if addition.end.since(addition.arrival) > FUTURE_NANOS {
            return Placed::Future;
        }
        let second = addition.end.slot();
        let slot = second - second.rem_euclid(self.slot_s);
        if slot < self.open_from {
            return Placed::Late;
        }
        let open = self.slots.entry(slot).or_default();
        open.measured.record(addition, placement, self.wanted);
        open.record(addition, placement);
        Placed::Counted
    }

    /// Closes the slot and hands it over. Slots close in order: what is still open before it counts as late.
    pub fn close(&mut self, slot: Slot) -> ClosedInterval {
        let mut passed_over = 0;
        while let Some(older) = self.slots.first_entry().filter(|e| *e.key() < slot) {
            passed_over += older.remove().points();
        }
        self.open_from = self.open_from.max(slot + self.slot_s);
        ClosedInterval { slot, open: self.slots.remove(&slot).unwrap_or_default(), passed_over }
    }

    /// All that is open, oldest first.
    pub fn into_closed(self) -> Vec<ClosedInterval> {
        let closed = |(slot, open)| ClosedInterval { slot, open, passed_over: 0 };
        self.slots.into_iter().map(closed).collect()
    }

    /// Bytes on the heap, nearly.
    pub fn heap_bytes(&self) -> usize {
        let cell = |cell: &OpenCell| {
            let exponential = cell.latencies.exponential.values().map(|sums| sums.capacity() * 16 + 32);
            let explicit = cell.latencies.explicit.values().map(|(_, counts)| counts.capacity() * 8 + 64);
            size_of::<OpenCell>() + exponential.sum::<usize>() + explicit.sum::<usize>()
        };
        self.slots
            .values()
            .map(|slot| {
                slot.cells.values().map(cell).sum::<usize>()
                    + slot.instances.len() * size_of::<InstanceSlot>()
            })
            .sum()
    }
}

impl OpenInterval {
    fn points(&self) -> u64 {
        self.points.values().sum()
    }

    fn record(&mut self, a: &Addition<'_>, placement: Placement) {
        let family = a.stream.family;
        *self.points.entry(family).or_default() += 1;
        if a.count == 0 || family == Family::Measure {
            return;
        }
        self.first_start = Some(self.first_start.map_or(a.start, |first| first.min(a.start)));
        let name = match placement {
            Placement { young: true, .. } => CellName::Young,
            Placement { group: 0, .. } => CellName::Warm0,
            _ => CellName::Warm1,
        };
        let cell = self.cells.entry((family, a.stream.series, name)).or_default();
        add_counts(&mut cell.counts, a);
        cell.latencies.add(a);
        let seen = self
            .instances
            .entry((family, a.stream.instance))
            .or_insert_with(|| InstanceSlot::new(a.stream.instance));
        add_instance(seen, a, name == CellName::Young);
    }
}

fn add_counts(counts: &mut Counts, a: &Addition<'_>) {
    counts.n += a.count;
    match a.stream.outcome {
        Outcome::Bad => counts.bad += a.count,
        Outcome::ClientError => counts.client += a.count,
        Outcome::Good => {}
    }
    if a.stream.status == StatusSource::Code {
        counts.with_status += a.count;
    }
    counts.weight += a.count as f64;
    counts.weight_squared += a.count as f64;
}

fn add_instance(seen: &mut InstanceSlot, a: &Addition<'_>, young: bool) {
    let requests = small(a.count);
    if young {
        seen.young = seen.young.saturating_add(requests);
        return;
    }
    seen.n = seen.n.saturating_add(requests);
    if a.stream.outcome == Outcome::Bad {
        seen.bad = seen.bad.saturating_add(requests);
    }
    // The middle of an explicit bucket stands for what is in it: instances are told apart by large factors.
    let middle = a.bounds.map(|bounds| Form::Bounds(Arc::clone(bounds)));
    let first = first_in_seconds(a);
    for (at, n) in a.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let bucket = match (a.shape, &middle) {
            (Shape::Explicit(_), Some(form)) => form.grid_of(at as i16),
            (Shape::Exponential { scale, .. }, _) => grid_bucket(scale, first + at as i64),
            _ => continue,
        };
        let (bucket, n) = (i64::from(bucket), n.cast_signed());
        seen.bucket_sum = seen.bucket_sum.saturating_add(bucket.saturating_mul(n));
        seen.bucket_squares = seen.bucket_squares.saturating_add((bucket * bucket).saturating_mul(n));
    }
}

/// The index of the first exponential bucket as if its unit were seconds.
fn first_in_seconds(a: &Addition<'_>) -> i64 {
    let Shape::Exponential { scale, offset, .. } = a.shape else { return 0 };
    i64::from(offset) - unit_shift(scale, a.stream.unit.per_second())
}

/// Adds counts of ascending indices to others.
fn add_ascending(sums: &mut Vec<(i32, u64)>, counts: impl Iterator<Item = (i32, u64)>) {
    let mut at = 0;
    for (index, n) in counts {
        at += sums[at..].iter().take_while(|(own, _)| *own < index).count();
        match sums.get_mut(at) {
            Some((own, sum)) if *own == index => *sum += n,
            _ => sums.insert(at, (index, n)),
        }
    }
}

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Latencies {
    fn add(&mut self, a: &Addition<'_>) {
        match (a.shape, a.bounds) {
            (Shape::Exponential { scale, zero, .. }, _) => {
                self.lowest += zero;
                let first = first_in_seconds(a);
                let index = |at| (first + at as i64).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
                let counts = a.counts.iter().enumerate().filter(|(_, n)| **n > 0);
                let sums = self.exponential.entry(scale).or_default();
                add_ascending(sums, counts.map(|(at, n)| (index(at), *n)));
            }
            (Shape::Explicit(id), Some(bounds)) => {
                let fresh = || (Arc::clone(bounds), vec![0; a.counts.len()]);
                let (_, sums) = self.explicit.entry(id).or_insert_with(fresh);
                sums.iter_mut().zip(a.counts).for_each(|(sum, n)| *sum += n);
            }
            _ => self.lowest += a.count,
        }
    }

    /// Takes the divisions that occur into account.
    fn admit(&self, form: &mut Form, margin: i32) -> bool {
        let mut changed = false;
        for scale in self.exponential.keys() {
            changed |= form.admit(Ruler::Exponential(*scale), margin);
        }
        for (bounds, _) in self.explicit.values() {
            changed |= form.admit(Ruler::Explicit(bounds), margin);
        }
        changed
    }

    fn in_form(&self, form: &Form) -> SparseHistogram {
        let exponential = self.exponential.iter().flat_map(|(scale, sums)| {
            sums.iter().map(|(index, n)| (form.of_exponential(*scale, i64::from(*index)), small(*n)))
        });
        let explicit = self.explicit.values().flat_map(|(bounds, counts)| {
            counts.iter().enumerate().map(move |(at, n)| (form.of_explicit(bounds, at), small(*n)))
        });
        exponential.chain(explicit).chain([(form.lowest(), small(self.lowest))]).collect()
    }
}

impl ClosedInterval {
    /// Requests of a class, whatever their family.
    pub fn requests(&self, class: Class) -> u64 {
        self.open
            .cells
            .iter()
            .filter(|((family, ..), _)| family.class() == class)
            .map(|(_, cell)| cell.counts.n)
            .sum()
    }

    /// Its first second.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Points in it, of whatever family.
    pub fn points(&self) -> u64 {
        self.open.points()
    }

    /// Requests and failed ones of the families that count, by series; one may occur several times.
    pub fn by_operation(
        &self,
        counts: impl Fn(Family) -> bool,
    ) -> impl Iterator<Item = (crate::model::SeriesId, u64, u64)> {
        let counted = self.open.cells.iter().filter(move |((family, ..), _)| counts(*family));
        counted.map(|((_, series, _), cell)| (*series, cell.counts.n, cell.counts.bad))
    }

    /// Families with points in it that count requests.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        self.open.points.keys().copied().filter(|family| *family != Family::Measure)
    }

    /// What counts for measures, taken out.
    pub fn take_measured(&mut self) -> MeasuredInterval {
        std::mem::take(&mut self.open.measured)
    }

    /// Lets `form` know the divisions of the families that count; whether it changed.
    pub fn admit(&self, form: &mut Form, margin: i32, counts: impl Fn(Family) -> bool) -> bool {
        let mut changed = false;
        for ((family, ..), cell) in &self.open.cells {
            if counts(*family) {
                changed |= cell.latencies.admit(form, margin);
            }
        }
        changed
    }

    /// The interval with the families that count, latencies in `form`.
    pub fn reduce(self, form: &Form, counts: impl Fn(Family) -> bool) -> Reduced {
        let mut reduced = Reduced::default();
        for (family, points) in &self.open.points {
            let is_read = counts(*family) || *family == Family::Measure;
            *if is_read { &mut reduced.points } else { &mut reduced.unused } += points;
        }
        let mut operations = BTreeMap::<_, OperationSlot>::new();
        for ((family, series, name), cell) in &self.open.cells {
            if counts(*family) {
                let operation = operations.entry(*series).or_default();
                let into = match name {
                    CellName::Young => &mut operation.young,
                    CellName::Warm0 => &mut operation.warm[0],
                    CellName::Warm1 => &mut operation.warm[1],
                };
                into.add(&Cell { counts: cell.counts, latency: cell.latencies.in_form(form) });
            }
        }
        let mut instances = BTreeMap::<InstanceId, InstanceSlot>::new();
        for ((family, id), seen) in self.open.instances {
            if counts(family) {
                instances.entry(id).and_modify(|sum| sum.add(&seen)).or_insert(seen);
            }
        }
        reduced.slot = ClosedSlot {
            slot: self.slot,
            operations,
            instances: instances.into_values().collect(),
            first_start: self.open.first_start,
        };
        reduced
    }
}

#[cfg(test)]
#[path = "intervals_tests.rs"]
mod tests;
