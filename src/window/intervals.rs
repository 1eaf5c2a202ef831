//! The open export intervals of one version: what metric points add waits here until its slot closes, as spans
//! do in [`super::OpenSlots`]. A slot is as long as the service's export interval and is named by its first
//! second, a multiple of its length.
//!
//! Which metric counts and in which buckets latencies are compared is decided when the slot closes, because
//! only then all versions have been heard: a slot keeps every family and every division of buckets apart.
//! There is no right-censoring here: the requests of a point cannot be told apart by their start.

mod latencies;
mod measured;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::latencies::Latencies;
pub use self::measured::MeasuredInterval;
use self::table::Table;

use super::cell::{Cell, Counts};
use super::measures::Wanted;
use super::open::{ClosedSlot, InstanceSlot, OperationSlot, Placed, Placement};
use crate::histogram::Form;
use crate::model::{
    Class, Family, InstanceId, NANOS_PER_SECOND, Outcome, SeriesId, Shape, Slot, StatusSource, StreamMeta,
    UnixNanos,
};

/// An end this far ahead of the arrival is a wrong clock.
const FUTURE_NANOS: u64 = 5 * NANOS_PER_SECOND;
/// Most that one cell of an interval counts: far more than the requests or bytes of a fleet.
const COUNT_MAX: u64 = 1 << 44;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum CellName {
    Young,
    Warm0,
    Warm1,
}

#[derive(Debug, Default)]
struct OpenCell {
    counts: Counts,
    latencies: Latencies,
}

/// An instance in an open interval. What its latencies are on the grid is made of them when the interval closes.
#[derive(Debug, Default)]
struct OpenInstance {
    n: u64,
    bad: u64,
    young: u64,
    /// Of its warm requests.
    latencies: Latencies,
}

#[derive(Debug, Default)]
struct OpenInterval {
    cells: Table<(Family, SeriesId, CellName), OpenCell>,
    instances: Table<(Family, InstanceId), OpenInstance>,
    /// Points by family, in the order of [`FAMILIES`].
    points: [u64; FAMILIES.len()],
    first_start: Option<UnixNanos>,
    measured: MeasuredInterval,
}

/// All families, in their order.
const FAMILIES: [Family; Family::ALL.len() + 1] = {
    let mut all = [Family::Measure; Family::ALL.len() + 1];
    let mut i = 0;
    while i < Family::ALL.len() {
        all[i] = Family::ALL[i];
        i += 1;
    }
    all
};

/// The open intervals of one version.
#[derive(Debug)]
pub struct OpenIntervals {
    wanted: Wanted,
    slot_s: i64,
    slots: BTreeMap<Slot, OpenInterval>,
    open_from: Slot,
    /// The end of the last point, and its slot.
    last: (UnixNanos, Slot),
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
        let last = (UnixNanos::default(), UnixNanos::default().slot());
        Self { wanted: Wanted::default(), slot_s: slot_s.max(1), slots: BTreeMap::new(), open_from, last }
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
        let slot = self.slot_of(addition.end);
        if slot < self.open_from {
            return Placed::Late;
        }
        let open = self.slots.entry(slot).or_default();
        open.measured.record(addition, placement, self.wanted);
        open.record(addition, placement);
        Placed::Counted
    }

    /// The slot of an end; points of one export have the same.
    fn slot_of(&mut self, end: UnixNanos) -> Slot {
        if self.last.0 != end {
            let second = end.slot();
            self.last = (end, second - second.rem_euclid(self.slot_s));
        }
        self.last.1
    }

    /// Closes the slot and hands it over. Slots close in order: what is still open before it counts as late.
    pub fn close(&mut self, slot: Slot) -> ClosedInterval {
        let mut passed_over = 0;
        while let Some(older) = self.slots.first_entry().filter(|e| *e.key() < slot) {
            passed_over += older.remove().points();
        }
        self.open_from = self.open_from.max(slot + self.slot_s);
        let mut open = self.slots.remove(&slot).unwrap_or_default();
        open.sort();
        ClosedInterval { slot, open, passed_over }
    }

    /// All that is open, oldest first.
    pub fn into_closed(self) -> Vec<ClosedInterval> {
        let closed = |(slot, mut open): (Slot, OpenInterval)| {
            open.sort();
            ClosedInterval { slot, open, passed_over: 0 }
        };
        self.slots.into_iter().map(closed).collect()
    }

    /// Bytes on the heap, nearly.
    pub fn heap_bytes(&self) -> usize {
        let cell = |cell: &OpenCell| size_of::<OpenCell>() + cell.latencies.heap_bytes();
        let instance = |one: &OpenInstance| size_of::<OpenInstance>() + one.latencies.heap_bytes();
        let of = |slot: &OpenInterval| {
            slot.cells.values().map(cell).sum::<usize>()
                + slot.instances.values().map(instance).sum::<usize>()
        };
        self.slots.values().map(of).sum()
    }
}

impl OpenInterval {
    /// What is closed is read in the order of its names.
    fn sort(&mut self) {
        self.cells.sort();
        self.instances.sort();
    }

    fn points(&self) -> u64 {
        self.points.iter().sum()
    }

    /// Points of families that have any.
    fn points_by_family(&self) -> impl Iterator<Item = (Family, u64)> {
        FAMILIES.into_iter().zip(self.points).filter(|(_, points)| *points > 0)
    }

    fn record(&mut self, a: &Addition<'_>, placement: Placement) {
        let family = a.stream.family;
        if let Some(points) = self.points.get_mut(family as usize) {
            *points += 1;
        }
        if a.count == 0 || family == Family::Measure {
            return;
        }
        self.first_start = Some(self.first_start.map_or(a.start, |first| first.min(a.start)));
        let name = match placement {
            Placement { young: true, .. } => CellName::Young,
            Placement { group: 0, .. } => CellName::Warm0,
            _ => CellName::Warm1,
        };
        let cell = self.cells.get_or_default((family, a.stream.series, name));
        add_counts(&mut cell.counts, a);
        cell.latencies.add(a);
        let instance = self.instances.get_or_default((family, a.stream.instance));
        if name == CellName::Young {
            capped(&mut instance.young, a.count);
            return;
        }
        capped(&mut instance.n, a.count);
        if a.stream.outcome == Outcome::Bad {
            capped(&mut instance.bad, a.count);
        }
        instance.latencies.add(a);
    }
}

impl OpenInstance {
    fn closed(&self, instance: InstanceId) -> InstanceSlot {
        let (bucket_sum, bucket_squares) = self.latencies.grid_sums();
        let [n, bad, young] = [self.n, self.bad, self.young].map(small);
        InstanceSlot { instance, n, bad, young, bucket_sum, bucket_squares }
    }
}

/// Adds what a point says, which may be anything: sums over intervals and operations stay far below 2^64 then.
fn capped(sum: &mut u64, n: u64) {
    *sum = sum.saturating_add(n).min(COUNT_MAX);
}

fn add_counts(counts: &mut Counts, a: &Addition<'_>) {
    capped(&mut counts.n, a.count);
    match a.stream.outcome {
        Outcome::Bad => capped(&mut counts.bad, a.count),
        Outcome::ClientError => capped(&mut counts.client, a.count),
        Outcome::Good => {}
    }
    if a.stream.status == StatusSource::Code {
        capped(&mut counts.with_status, a.count);
    }
    counts.weight += a.count as f64;
    counts.weight_squared += a.count as f64;
}

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl ClosedInterval {
    /// Requests of a class, whatever their family.
    pub fn requests(&self, class: Class) -> u64 {
        let of_class = self.open.cells.iter().filter(|((family, ..), _)| family.class() == class);
        of_class.map(|(_, cell)| cell.counts.n).sum()
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
    ) -> impl Iterator<Item = (SeriesId, u64, u64)> {
        let counted = self.open.cells.iter().filter(move |((family, ..), _)| counts(*family));
        counted.map(|((_, series, _), cell)| (*series, cell.counts.n, cell.counts.bad))
    }

    /// Families with points in it that count requests.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        let families = self.open.points_by_family().map(|(family, _)| family);
        families.filter(|family| *family != Family::Measure)
    }

    /// What counts for measures, taken out.
    pub fn take_measured(&mut self) -> MeasuredInterval {
        std::mem::take(&mut self.open.measured)
    }

    /// Lets `form` know the divisions of the families that count; whether it changed.
    pub fn admit(&self, form: &mut Form, margin: i32, counts: impl Fn(Family) -> bool) -> bool {
        let mut changed = false;
        for ((family, ..), cell) in self.open.cells.iter() {
            if counts(*family) {
                changed |= cell.latencies.admit(form, margin);
            }
        }
        changed
    }

    /// The interval with the families that count, latencies in `form`.
    pub fn reduce(self, form: &Form, counts: impl Fn(Family) -> bool) -> Reduced {
        let mut reduced = Reduced::default();
        for (family, points) in self.open.points_by_family() {
            let is_read = counts(family) || family == Family::Measure;
            *if is_read { &mut reduced.points } else { &mut reduced.unused } += points;
        }
        let mut operations = BTreeMap::<_, OperationSlot>::new();
        for ((family, series, name), cell) in self.open.cells.iter() {
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
        for ((family, id), seen) in self.open.instances.iter() {
            if counts(*family) {
                let seen = seen.closed(*id);
                instances.entry(*id).and_modify(|sum| sum.add(&seen)).or_insert(seen);
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
