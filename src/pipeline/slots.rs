//! The open slots of one version: from the arrival of a span to the closing of the second in which it ended.
//! A closed slot is handed on as the judge's [`Arm`] and never reopened.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{InstanceId, NANOS_PER_SECOND, Observation, Outcome, SeriesId, Slot, StatusSource, UnixNanos};
use crate::verdict::{Arm, Cell, Cells, Counts, InstanceCounts};

/// A span that ends later than this after its arrival has a wrong clock; up to this it waits in its slot.
const FUTURE_NANOS: u64 = 5 * NANOS_PER_SECOND;

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// In its slot.
    Kept,
    /// Its slot had closed: counted, not judged.
    Late,
    /// From the future: counted, not judged.
    Future,
}

/// What is known of the sender of a span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender {
    /// Number of the instance in order of appearance; `None` where no instance is named.
    pub(super) ordinal: Option<u32>,
    /// Whether it is still in its warm-up at the span's end.
    pub(super) young: bool,
}

#[derive(Debug, Default)]
struct Series {
    warm: Cell,
    started_before: Cell,
}

#[derive(Debug, Default)]
struct OpenSlot {
    /// Ascending by id; a version has few operations in one second.
    series: Vec<(SeriesId, Series)>,
    young: Counts,
    status_seen: bool,
    instances: Vec<InstanceCounts>,
    sampling: Sampling,
    skewed: u64,
}

/// Sampling weights of some spans: what W4 of the OTLP rules asks to keep.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sampling {
    /// Sum of weights and of their squares, unknown ones as 1.
    pub(super) sum: f64,
    pub(super) squares: f64,
    /// Spans with a known weight: good ones and bad ones, with the sum of their weights.
    pub(super) known: [u64; 2],
    pub(super) known_sum: [f64; 2],
    /// Spans without: good ones and bad ones.
    pub(super) unknown: [u64; 2],
}

impl Sampling {
    fn add(&mut self, o: &Observation) {
        let (weight, bad) = (f64::from(o.weight), usize::from(o.outcome == Outcome::Bad));
        self.sum += weight;
        self.squares += weight * weight;
        if o.weight_known {
            self.known[bad] += 1;
            self.known_sum[bad] += weight;
        } else {
            self.unknown[bad] += 1;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.squares += other.squares;
        for i in 0..2 {
            self.known[i] += other.known[i];
            self.known_sum[i] += other.known_sum[i];
            self.unknown[i] += other.unknown[i];
        }
    }
}

/// A closed slot of one version.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// What is compared and remembered.
    pub(super) arm: Arm,
    /// Requests that started before the censoring instant: remembered only.
    pub(super) started_before: Cells,
    pub(super) sampling: Sampling,
    /// Spans whose end was before their start; they count with a latency of zero.
    pub(super) skewed: u64,
}

/// The open slots of one version.
#[derive(Debug, Default)]
pub(super) struct OpenSlots {
    slots: BTreeMap<Slot, OpenSlot>,
    /// Spans that started before this are not compared, only remembered.
    pub(super) censor: Option<UnixNanos>,
}

impl OpenSlots {
    /// Puts a span into its slot; `next` is the oldest slot that is still open.
    pub(super) fn place(&mut self, o: &Observation, sender: Sender, next: Slot) -> Placed {
        let slot = o.end.slot();
        if slot < next {
            return Placed::Late;
        }
        if o.end.since(o.arrival) > FUTURE_NANOS {
            return Placed::Future;
        }
        let open = self.slots.entry(slot).or_default();
        open.status_seen |= o.status == StatusSource::Code;
        open.skewed += u64::from(o.skewed);
        open.sampling.add(o);
        if sender.young {
            count(&mut open.young, o);
            return Placed::Kept;
        }
        let series = open.series(o.series);
        let before = self.censor.is_some_and(|first| o.start < first);
        let cell = if before { &mut series.started_before } else { &mut series.warm };
        count(&mut cell.groups[sender.ordinal.unwrap_or(0) as usize % 2], o);
        if let Some(ordinal) = sender.ordinal {
            open.count_instance(ordinal, o);
        }
        Placed::Kept
    }

    /// Closes a slot; `operation` names a series.
    pub(super) fn close(&mut self, slot: Slot, operation: impl Fn(SeriesId) -> Option<Arc<str>>) -> Closed {
        let Some(open) = self.slots.remove(&slot) else { return Closed::default() };
        let mut closed = Closed { sampling: open.sampling, skewed: open.skewed, ..Closed::default() };
        closed.arm.young = open.young;
        closed.arm.status_seen = open.status_seen;
        closed.arm.instances = open.instances;
        for (id, series) in open.series {
            let Some(name) = operation(id) else { continue };
            for (cells, cell) in
                [(&mut closed.arm.warm, series.warm), (&mut closed.started_before, series.started_before)]
            {
                if cell.requests() > 0 {
                    cells.entry(Arc::clone(&name)).or_default().merge(&cell);
                }
            }
        }
        closed
    }

    /// Whether no span waits.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl OpenSlot {
    fn series(&mut self, id: SeriesId) -> &mut Series {
        let at = match self.series.binary_search_by_key(&id, |s| s.0) {
            Ok(at) => at,
            Err(at) => {
                self.series.insert(at, (id, Series::default()));
                at
            }
        };
        &mut self.series[at].1
    }

    fn count_instance(&mut self, ordinal: u32, o: &Observation) {
        let at = match self.instances.binary_search_by_key(&ordinal, |i| i.ordinal) {
            Ok(at) => at,
            Err(at) => {
                self.instances.insert(at, InstanceCounts { ordinal, ..InstanceCounts::default() });
                at
            }
        };
        let instance = &mut self.instances[at];
        instance.requests += 1;
        instance.bad += u64::from(o.outcome == Outcome::Bad);
        instance.bucket_sum += i64::from(o.bucket);
        instance.bucket_squares += i64::from(o.bucket).pow(2);
    }
}

fn count(counts: &mut Counts, o: &Observation) {
    counts.requests += 1;
    counts.bad += u64::from(o.outcome == Outcome::Bad);
    counts.client_errors += u64::from(o.outcome == Outcome::ClientError);
    counts.latency.record(o.bucket);
}

/// First spans of the instances of one version, for their warm-up; bounded by the registry's cap.
#[derive(Debug, Default)]
pub(super) struct Instances {
    first: BTreeMap<u32, UnixNanos>,
}

impl Instances {
    /// Whether a span of this instance lies within its warm-up. Without an instance the version's first
    /// span counts.
    pub(super) fn is_young(&mut self, ordinal: Option<u32>, o: &Observation, version: UnixNanos, warmup_s: i64) -> bool {
        let first = match ordinal {
            Some(ordinal) => {
                let first = self.first.entry(ordinal).or_insert(o.end);
                *first = o.end.min(*first);
                *first
            }
            None => version,
        };
        o.end.since(first) < warmup_s.max(0) as u64 * NANOS_PER_SECOND
    }

    /// The ordinals seen and when first: what survives a restart, so that warm-ups do not begin anew.
    pub(super) fn first_seen(&self) -> &BTreeMap<u32, UnixNanos> {
        &self.first
    }
}

/// Whether an observation names its instance.
pub(super) fn named(instance: InstanceId) -> Option<InstanceId> {
    (instance != InstanceId::UNKNOWN).then_some(instance)
}
