//! The open seconds of one version: spans are added until their slot closes, then the slot is handed over and
//! never changes. What comes afterwards is counted as late, what claims to end in the future as future;
//! neither is ever added.
//!
//! Right-censoring: a baseline's spans that started before the candidate's first one go to a cell of their
//! own (`old`), because the candidate cannot have finished such a long request yet. Live, the candidate's
//! first start is known only when its first span arrives; spans that were added before stay where they are,
//! which concerns the first L seconds of a deployment only.

use std::collections::{BTreeMap, VecDeque};

use super::cell::{Cell, Counts, OpenCell};
use crate::model::snapshot::snapshot_fields;
use crate::model::{InstanceId, NANOS_PER_SECOND, Observation, Outcome, SeriesId, Slot, UnixNanos};

/// An end this far ahead of the arrival is a wrong clock.
pub(super) const FUTURE_NANOS: u64 = 5 * NANOS_PER_SECOND;
/// Open slots by which the room for them grows: at the usual lateness 8 to 12 are open.
const SLOTS_GROWTH: usize = 4;

/// Where in its slot a span belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placement {
    /// Whether its instance is within its warm-up.
    pub young: bool,
    /// Its instance's group, 0 or 1.
    pub group: u8,
}

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is in its slot.
    Counted,
    /// Its slot was closed.
    Late,
    /// It ends more than 5 s after it arrived.
    Future,
}

/// What became of all spans of a version. Monotone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fates {
    /// Added to a slot.
    pub counted: u64,
    /// See [`Placed::Late`].
    pub late: u64,
    /// See [`Placed::Future`].
    pub future: u64,
    /// Spans whose end was before their start, whatever became of them.
    pub skewed: u64,
}

snapshot_fields!(Fates { counted, late, future, skewed });

/// One operation in a closed slot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OperationSlot {
    /// Spans of instances within their warm-up.
    pub young: Cell,
    /// The others, by instance group: what is compared is their sum.
    pub warm: [Cell; 2],
    /// Spans that started before the candidate's first one: remembered, not compared.
    pub old: Cell,
}

impl OperationSlot {
    /// Counts of both groups.
    pub fn warm_counts(&self) -> Counts {
        let mut sum = self.warm[0].counts;
        sum.add(&self.warm[1].counts);
        sum
    }

    /// Both groups as one cell.
    pub fn warm_cell(&self) -> Cell {
        let mut sum = self.warm[0].clone();
        sum.add(&self.warm[1]);
        sum
    }

    /// Counts of all cells: what traffic and displays are made of.
    pub fn all_counts(&self) -> Counts {
        let mut sum = self.warm_counts();
        sum.add(&self.young.counts);
        sum.add(&self.old.counts);
        sum
    }
}

/// An instance in a closed slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceSlot {
    /// Which; [`InstanceId::UNKNOWN`] for all that are not told apart.
    pub instance: InstanceId,
    /// Warm spans.
    pub n: u32,
    /// Failed ones among `n`.
    pub bad: u32,
    /// Young spans.
    pub young: u32,
    /// Sum of the latency buckets of the warm spans, and of their squares: mean and spread of log latency.
    pub bucket_sum: i64,
    /// See `bucket_sum`.
    pub bucket_squares: i64,
}

impl InstanceSlot {
    /// Adds what another metric counted of the same instance.
    pub(super) fn add(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.bad = self.bad.saturating_add(other.bad);
        self.young = self.young.saturating_add(other.young);
        self.bucket_sum = self.bucket_sum.saturating_add(other.bucket_sum);
        self.bucket_squares = self.bucket_squares.saturating_add(other.bucket_squares);
    }

    pub(super) fn new(instance: InstanceId) -> Self {
        Self { instance, n: 0, bad: 0, young: 0, bucket_sum: 0, bucket_squares: 0 }
    }
}

/// A second that will not change any more.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClosedSlot {
    /// Which second.
    pub slot: Slot,
    /// Operations with traffic.
    pub operations: BTreeMap<SeriesId, OperationSlot>,
    /// Instances with traffic, in id order; spans in `old` cells are left out.
    pub instances: Vec<InstanceSlot>,
    /// Earliest start among its spans: the candidate's first slot tells where censoring begins.
    pub first_start: Option<UnixNanos>,
}

impl ClosedSlot {
    /// Counts over all operations and cells.
    pub fn total(&self) -> Counts {
        let mut sum = Counts::default();
        self.operations.values().for_each(|operation| sum.add(&operation.all_counts()));
        sum
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CellName {
    Young,
    Warm0,
    Warm1,
    Old,
}

#[derive(Debug, Default)]
struct OpenSlot {
    /// Sorted; flat, because most slots of most versions hold one or two cells.
    cells: Vec<(SeriesId, CellName, OpenCell)>,
    instances: Vec<InstanceSlot>,
    first_start: Option<UnixNanos>,
}

/// The open slots of one version.
#[derive(Debug)]
pub struct OpenSlots {
    /// In order of time. Few and short-lived: a tree's nodes would take more than what is in them.
    slots: VecDeque<(Slot, OpenSlot)>,
    open_from: Slot,
    censor: Option<UnixNanos>,
    fates: Fates,
}

impl OpenSlots {
    /// Slots before `open_from` count as closed.
    pub fn new(open_from: Slot) -> Self {
        Self { slots: VecDeque::new(), open_from, censor: None, fates: Fates::default() }
    }

    /// From now on, spans that started before this go to the `old` cells.
    pub fn set_censor(&mut self, censor: Option<UnixNanos>) {
        self.censor = censor;
    }

    /// What started before this goes to the `old` cells.
    pub fn censor(&self) -> Option<UnixNanos> {
        self.censor
    }

    /// What became of all spans so far.
    pub fn fates(&self) -> Fates {
        self.fates
    }

    /// Goes on counting from before a restart.
    pub fn restore_fates(&mut self, fates: Fates) {
        self.fates = fates;
    }

    /// The first slot that is not closed.
    pub fn open_from(&self) -> Slot {
        self.open_from
    }

    /// Slots that hold spans and are not closed.
    pub fn open_slots(&self) -> usize {
        self.slots.len()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<(Slot, OpenSlot)>();
        slots + self.slots.iter().map(|(_, slot)| slot.heap_bytes()).sum::<usize>()
    }

    /// Adds a span to its slot, or says why not.
    pub fn record(&mut self, o: &Observation, placement: Placement) -> Placed {
        self.fates.skewed += u64::from(o.skewed);
        let slot = o.end.slot();
        if o.end.since(o.arrival) > FUTURE_NANOS {
            self.fates.future += 1;
            return Placed::Future;
        }
        if slot < self.open_from {
            self.fates.late += 1;
            return Placed::Late;
        }
        self.fates.counted += 1;
        let censored = self.censor.is_some_and(|censor| o.start < censor);
        let name = match (censored, placement) {
            (true, _) => CellName::Old,
            (false, Placement { young: true, .. }) => CellName::Young,
            (false, Placement { group: 0, .. }) => CellName::Warm0,
            (false, _) => CellName::Warm1,
        };
        self.open(slot).record(o, name);
        Placed::Counted
    }

    /// The open slot; spans come nearly in order, so it is looked for from the end.
    fn open(&mut self, slot: Slot) -> &mut OpenSlot {
        let at = self.slots.iter().rposition(|(other, _)| *other <= slot);
        let at = match at {
            Some(at) if self.slots[at].0 == slot => at,
            before => {
                let at = before.map_or(0, |before| before + 1);
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(SLOTS_GROWTH);
                }
                self.slots.insert(at, (slot, OpenSlot::default()));
                at
            }
        };
        &mut self.slots[at].1
    }

    /// Closes the slot and hands it over, empty where it has no spans. Slots close in order: what is still
    /// open before it counts as late.
    pub fn close(&mut self, slot: Slot) -> ClosedSlot {
        while let Some((_, skipped)) = self.pop_before(slot) {
            let spans = skipped.close(slot).total().n;
            self.fates.counted -= spans;
            self.fates.late += spans;
        }
        self.open_from = self.open_from.max(slot.saturating_add(1));
        let open = self.pop_before(slot.saturating_add(1)).map(|(_, open)| open);
        open.unwrap_or_default().close(slot)
    }

    fn pop_before(&mut self, slot: Slot) -> Option<(Slot, OpenSlot)> {
        self.slots.front().filter(|(first, _)| *first < slot)?;
        self.slots.pop_front()
    }

    /// Closes all slots before `open_from`, in order; those without spans are left out.
    pub fn close_before(&mut self, open_from: Slot) -> Vec<ClosedSlot> {
        self.open_from = self.open_from.max(open_from);
        let closing = std::iter::from_fn(|| self.pop_before(open_from));
        closing.map(|(slot, open)| open.close(slot)).collect()
    }
}

impl OpenSlot {
    fn heap_bytes(&self) -> usize {
        size_of::<(SeriesId, CellName, OpenCell)>() * self.cells.capacity()
            + size_of::<InstanceSlot>() * self.instances.capacity()
            + self.cells.iter().map(|(_, _, cell)| cell.heap_bytes()).sum::<usize>()
    }

    fn record(&mut self, o: &Observation, name: CellName) {
        self.first_start = Some(self.first_start.map_or(o.start, |first| first.min(o.start)));
        let at = self.cells.binary_search_by_key(&(o.series, name), |(series, name, _)| (*series, *name));
        let at = at.unwrap_or_else(|at| {
            grow_by_one_while_small(&mut self.cells);
            self.cells.insert(at, (o.series, name, OpenCell::default()));
            at
        });
        self.cells[at].2.record(o);
        if name == CellName::Old {
            return;
        }
        let at = self.instances.binary_search_by_key(&o.instance, |seen| seen.instance);
        let at = at.unwrap_or_else(|at| {
            grow_by_one_while_small(&mut self.instances);
            self.instances.insert(at, InstanceSlot::new(o.instance));
            at
        });
        let seen = &mut self.instances[at];
        if name == CellName::Young {
            seen.young += 1;
        } else {
            seen.n += 1;
            seen.bad += u32::from(o.outcome == Outcome::Bad);
            seen.bucket_sum += i64::from(o.bucket);
            seen.bucket_squares += i64::from(o.bucket).pow(2);
        }
    }

    fn close(self, slot: Slot) -> ClosedSlot {
        let mut operations = BTreeMap::<SeriesId, OperationSlot>::new();
        for (series, name, cell) in self.cells {
            let operation = operations.entry(series).or_default();
            *match name {
                CellName::Young => &mut operation.young,
                CellName::Warm0 => &mut operation.warm[0],
                CellName::Warm1 => &mut operation.warm[1],
                CellName::Old => &mut operation.old,
            } = cell.close();
        }
        ClosedSlot { slot, operations, instances: self.instances, first_start: self.first_start }
    }
}

/// A vector's first growth makes room for four; most slots hold one.
fn grow_by_one_while_small<T>(items: &mut Vec<T>) {
    if items.len() < 4 {
        items.reserve_exact(1);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::StatusSource;
    use proptest::prelude::*;

    pub(in crate::window) fn observation(series: u32, instance: u32, end_s: u64) -> Observation {
        Observation {
            series: SeriesId(series),
            instance: InstanceId(instance),
            start: UnixNanos::from_secs(end_s),
            end: UnixNanos::from_secs(end_s),
            arrival: UnixNanos::from_secs(end_s + 1),
            bucket: 0,
            outcome: Outcome::Good,
            status: StatusSource::None,
            skewed: false,
            weight: 1.0,
            weight_known: false,
            marks: 0,
        }
    }

    #[test]
    fn w4_spans_go_to_their_cells() {
        let mut open = OpenSlots::new(0);
        open.set_censor(Some(UnixNanos::from_secs(90)));
        let bad =
            Observation { outcome: Outcome::Bad, weight: 4.0, weight_known: true, ..observation(1, 5, 100) };
        open.record(&bad, Placement { young: false, group: 0 });
        open.record(&bad, Placement { young: false, group: 1 });
        let client = Observation {
            outcome: Outcome::ClientError,
            status: StatusSource::Code,
            ..observation(1, 6, 100)
        };
        open.record(&client, Placement { young: true, group: 1 });
        let long = Observation { start: UnixNanos::from_secs(89), ..observation(2, 6, 100) };
        open.record(&long, Placement::default());
        let slot = open.close(100);
        let first = &slot.operations[&SeriesId(1)];
        assert_eq!(first.warm[0], first.warm[1]);
        let warm = first.warm_counts();
        assert_eq!((warm.n, warm.bad, warm.weighted, warm.weight, warm.weight_squared), (2, 2, 2, 8.0, 32.0));
        let young = first.young.counts;
        assert_eq!((young.n, young.client, young.bad, young.with_status), (1, 1, 0, 1));
        assert_eq!(slot.operations[&SeriesId(2)].old.counts.n, 1);
        assert_eq!(slot.total().n, 4);
        assert_eq!(slot.first_start, Some(UnixNanos::from_secs(89)));
        assert_eq!(
            slot.instances,
            [
                InstanceSlot { n: 2, bad: 2, ..InstanceSlot::new(InstanceId(5)) },
                InstanceSlot { young: 1, ..InstanceSlot::new(InstanceId(6)) }
            ]
        );
    }

    #[test]
    fn s2_late_and_future_spans_are_counted_and_not_added() {
        let mut open = OpenSlots::new(50);
        assert_eq!(open.record(&observation(1, 1, 49), Placement::default()), Placed::Late);
        let early = Observation { arrival: UnixNanos(94_999_999_999), ..observation(1, 1, 100) };
        assert_eq!(open.record(&early, Placement::default()), Placed::Future);
        let tolerated =
            Observation { arrival: UnixNanos::from_secs(95), skewed: true, ..observation(1, 1, 100) };
        assert_eq!(open.record(&tolerated, Placement::default()), Placed::Counted);
        assert_eq!(open.close(100).total().n, 1);
        assert_eq!(open.record(&observation(1, 1, 100), Placement::default()), Placed::Late);
        assert_eq!(open.fates(), Fates { counted: 1, late: 2, future: 1, skewed: 1 });
        assert_eq!(open.close(101), ClosedSlot { slot: 101, ..ClosedSlot::default() });
    }

    proptest! {
        /// Whatever the order of spans and closings, each span is in exactly one closed slot, late, or future.
        #[test]
        fn no_span_is_lost(steps in prop::collection::vec((0u64..60, 0u64..40, any::<bool>(), 0u32..4), 1..200)) {
            let mut open = OpenSlots::new(0);
            let mut closed = 0;
            let mut recorded = 0;
            for (end, other, close, series) in steps {
                if close && other % 3 == 0 {
                    closed += open.close(other as Slot).total().n;
                } else if close {
                    closed += open.close_before(other as Slot).iter().map(|s| s.total().n).sum::<u64>();
                } else {
                    recorded += 1;
                    let o = Observation { arrival: UnixNanos::from_secs(other), ..observation(series, series, end) };
                    open.record(&o, Placement { young: series == 0, group: (series & 1) as u8 });
                }
            }
            closed += open.close_before(Slot::MAX).iter().map(|s| s.total().n).sum::<u64>();
            let fates = open.fates();
            prop_assert_eq!(closed, fates.counted);
            prop_assert_eq!(recorded, fates.counted + fates.late + fates.future);
        }
    }
}
