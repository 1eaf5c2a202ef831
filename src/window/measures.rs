//! The open seconds of a version's own measures: what a policy's SLIs count beside the requests themselves. They
//! close with the seconds of the requests and follow the same rules: nothing late and nothing from the future is
//! added, young instances are apart, and what began before the candidate's first request is remembered only.
//!
//! An entry takes 80 bytes at most, and one of a latency measure its histogram as well; there is one for each measure,
//! operation and kind of cell that occurs in a second.

use std::collections::BTreeMap;

use super::open::{FUTURE_NANOS, Placed, Placement};
use crate::histogram::SparseHistogram;
use crate::model::{MEASURES_MAX, Marks, SeriesId, Slot, UnixNanos, part_bit, total_bit};

/// Something that counts for measures.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// The operation, where its measures tell operations apart.
    pub series: SeriesId,
    /// Start.
    pub start: UnixNanos,
    /// End: decides the slot.
    pub end: UnixNanos,
    /// When it arrived.
    pub arrival: UnixNanos,
    /// Latency bucket.
    pub bucket: i16,
    /// What it counts for.
    pub marks: Marks,
    /// How much of each event.
    pub amount: u64,
    /// Whether it is a record of its own.
    pub is_record: bool,
}

/// Which measures want more than counts, by the bits of their totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// A histogram of latencies.
    pub latencies: Marks,
    /// Counts by operation.
    pub operations: Marks,
    /// Counts by instance: of measures of metrics that are per second of one.
    pub instances: Marks,
}

/// Counts of a measure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeasureCounts {
    /// All: requests, or spans.
    pub n: u64,
    /// Bad ones, events, or a quantity.
    pub x: u64,
    /// Latencies of all, where they are wanted.
    pub latency: SparseHistogram,
}

impl MeasureCounts {
    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.x = self.x.saturating_add(other.x);
        self.latency.merge(&other.latency);
    }
}

/// A measure of one operation in a closed slot; young instances are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeasureSlot {
    /// By instance group.
    pub warm: [MeasureCounts; 2],
    /// Began before the candidate's first request.
    pub old: MeasureCounts,
}

/// A second that will not change any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClosedMeasures {
    /// By number of the measure and operation; `None` for those that are not told apart.
    pub cells: BTreeMap<(u8, Option<SeriesId>), MeasureSlot>,
    /// Records of their own in it.
    pub records: u64,
    /// Those of older slots that were passed over and never closed.
    pub passed_over: u64,
}

/// Where in its slot it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Warm(u8),
    Old,
}

#[derive(Debug, Default)]
struct OpenSlot {
    cells: BTreeMap<(u8, Option<SeriesId>, Part), MeasureCounts>,
    records: u64,
}

/// The open seconds of the measures of one version.
#[derive(Debug)]
pub struct OpenMeasures {
    slots: BTreeMap<Slot, OpenSlot>,
    open_from: Slot,
    censor: Option<UnixNanos>,
}

impl OpenMeasures {
    /// Slots before `open_from` count as closed.
    pub fn new(open_from: Slot) -> Self {
        Self { slots: BTreeMap::new(), open_from, censor: None }
    }

    /// From now on, what started before this is remembered only.
    pub fn set_censor(&mut self, censor: Option<UnixNanos>) {
        self.censor = censor;
    }

    /// Records of their own in open slots.
    pub fn waiting(&self) -> u64 {
        self.slots.values().map(|slot| slot.records).sum()
    }

    /// Adds to a slot, or says why not.
    pub fn record(&mut self, mark: &Mark, placement: Placement, wanted: Wanted) -> Placed {
        let slot = mark.end.slot();
        if mark.end.since(mark.arrival) > FUTURE_NANOS {
            return Placed::Future;
        }
        if slot < self.open_from {
            return Placed::Late;
        }
        let open = self.slots.entry(slot).or_default();
        open.records += u64::from(mark.is_record);
        let part = match placement {
            _ if self.censor.is_some_and(|censor| mark.start < censor) => Part::Old,
            Placement { young: true, .. } => return Placed::Counted,
            Placement { group, .. } => Part::Warm(group.min(1)),
        };
        let mut rest = mark.marks;
        while rest != 0 {
            let measure = (rest.trailing_zeros() / 2) as usize;
            open.add(mark, measure, part, wanted);
            rest &= !(total_bit(measure) | part_bit(measure));
        }
        Placed::Counted
    }

    /// Closes the slot and hands it over. Slots close in order: what is still open before it counts as late.
    pub fn close(&mut self, slot: Slot) -> ClosedMeasures {
        let mut closed = ClosedMeasures::default();
        while let Some(older) = self.slots.first_entry().filter(|older| *older.key() < slot) {
            closed.passed_over += older.remove().records;
        }
        self.open_from = self.open_from.max(slot.saturating_add(1));
        let Some(open) = self.slots.remove(&slot) else { return closed };
        closed.records = open.records;
        for ((measure, series, part), counts) in open.cells {
            let cell = closed.cells.entry((measure, series)).or_default();
            match part {
                Part::Warm(group) => cell.warm[usize::from(group)].add(&counts),
                Part::Old => cell.old.add(&counts),
            }
        }
        closed
    }
}

impl OpenSlot {
    fn add(&mut self, mark: &Mark, measure: usize, part: Part, wanted: Wanted) {
        debug_assert!(measure < MEASURES_MAX);
        let (total, event) = (total_bit(measure), part_bit(measure));
        let series = (wanted.operations & total != 0).then_some(mark.series);
        let counts = self.cells.entry((measure as u8, series, part)).or_default();
        if mark.marks & total != 0 {
            counts.n += 1;
            if wanted.latencies & total != 0 {
                counts.latency.record(mark.bucket);
            }
        }
        if mark.marks & event != 0 {
            counts.x = counts.x.saturating_add(mark.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(end_s: u64, marks: Marks) -> Mark {
        Mark {
            series: SeriesId(7),
            start: UnixNanos::from_secs(end_s - 1),
            end: UnixNanos::from_secs(end_s),
            arrival: UnixNanos::from_secs(end_s + 1),
            bucket: 3,
            marks,
            amount: 1,
            is_record: true,
        }
    }

    #[test]
    fn what_counts_goes_to_its_cell() {
        let mut open = OpenMeasures::new(0);
        let wanted = Wanted { latencies: total_bit(1), operations: total_bit(0), ..Wanted::default() };
        let both = total_bit(0) | part_bit(0) | total_bit(1);
        let warm = |group| Placement { young: false, group };
        open.record(&mark(100, both), warm(0), wanted);
        open.record(&mark(100, total_bit(0)), warm(1), wanted);
        open.record(&Mark { amount: 500, ..mark(100, part_bit(2)) }, warm(0), wanted);
        open.record(&mark(100, both), Placement { young: true, group: 0 }, wanted);
        open.set_censor(Some(UnixNanos::from_secs(100)));
        open.record(&mark(100, both), warm(0), wanted);
        assert_eq!(open.waiting(), 5);
        let closed = open.close(100);
        let first = &closed.cells[&(0, Some(SeriesId(7)))];
        let counts = |c: &MeasureCounts| (c.n, c.x, c.latency.total());
        assert_eq!(first.warm.each_ref().map(counts), [(1, 1, 0), (1, 0, 0)]);
        assert_eq!(counts(&first.old), (1, 1, 0));
        assert_eq!(closed.cells[&(1, None)].warm.each_ref().map(counts), [(1, 0, 1), (0, 0, 0)]);
        assert_eq!(counts(&closed.cells[&(2, None)].warm[0]), (0, 500, 0));
        assert_eq!((closed.records, closed.passed_over, open.waiting()), (5, 0, 0));
    }

    #[test]
    fn late_future_and_skipped_records_are_told() {
        let mut open = OpenMeasures::new(50);
        let (place, wanted) = (Placement::default(), Wanted::default());
        assert_eq!(open.record(&mark(49, 1), place, wanted), Placed::Late);
        let future = Mark { arrival: UnixNanos::from_secs(90), ..mark(100, 1) };
        assert_eq!(open.record(&future, place, wanted), Placed::Future);
        assert_eq!(open.record(&mark(60, 1), place, wanted), Placed::Counted);
        let closed = open.close(61);
        assert_eq!((closed.records, closed.passed_over), (0, 1));
        assert_eq!(open.record(&mark(61, 1), place, wanted), Placed::Late);
    }
}
