//! What the points of one export interval count for the SLIs of a policy's own, by measure and instance group. An entry
//! takes about 150 bytes, and one of a latency measure its buckets as well; there are two for each measure that
//! occurs: of young instances only that there were points is kept. What is counted per second of an instance is kept by
//! instance, 40 bytes each, because which of them were warm is told when the slot closes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::measures::Wanted;
use super::super::open::Placement;
use super::{Addition, CellName, Form, Latencies, capped};
use crate::histogram::SparseHistogram;
use crate::model::{InstanceId, MEASURES_MAX, Marks, part_bit, total_bit};

/// The scale at which exponential buckets are held against a fixed threshold: eight buckets an octave, which the SDKs'
/// histograms reach over any range that requests have.
const THRESHOLD_SCALE: i8 = 3;

/// Numbers of one measure and instance group.
#[derive(Debug, Default)]
struct Numbers {
    all: u64,
    part: u64,
    latencies: Latencies,
}

/// What the points of an interval count for measures.
#[derive(Debug, Default)]
pub struct MeasuredInterval {
    cells: BTreeMap<(u8, CellName), Numbers>,
    /// Events by measure and instance, where they are per second of one.
    by_instance: BTreeMap<(u8, InstanceId), u64>,
    /// Measures of which any point came, and those of which one counts, by their bits.
    seen: Marks,
    counted: Marks,
}

impl MeasuredInterval {
    /// Counts a point.
    pub(super) fn record(&mut self, a: &Addition<'_>, placement: Placement, wanted: Wanted) {
        let mut rest = a.stream.marks;
        self.seen |= rest;
        if a.stream.instance == InstanceId::UNKNOWN {
            // Nobody can tell it from others, so it has no seconds that its events could be per.
            rest &= !wanted.instances;
        }
        self.counted |= rest;
        self.record_instance(a, rest & wanted.instances);
        rest &= !wanted.instances;
        if placement.young {
            return;
        }
        let latencies = wanted.latencies;
        let name = if placement.group == 0 { CellName::Warm0 } else { CellName::Warm1 };
        while rest != 0 {
            let measure = (rest.trailing_zeros() / 2) as usize;
            debug_assert!(measure < MEASURES_MAX);
            let (total, part) = (total_bit(measure), part_bit(measure));
            let numbers = self.cells.entry((measure as u8, name)).or_default();
            if rest & total != 0 {
                capped(&mut numbers.all, a.count);
                if latencies & total != 0 {
                    numbers.latencies.add(a);
                }
            }
            if rest & part != 0 {
                capped(&mut numbers.part, a.count);
            }
            rest &= !(total | part);
        }
    }

    /// Counts a point for measures per second of an instance.
    fn record_instance(&mut self, a: &Addition<'_>, marks: Marks) {
        for measure in (0..MEASURES_MAX).filter(|measure| marks & part_bit(*measure) != 0) {
            let events = self.by_instance.entry((measure as u8, a.stream.instance)).or_default();
            capped(events, a.count);
        }
    }

    /// Events of a measure that is per second of an instance, by instance.
    pub fn of_instances(&self, measure: u8) -> impl Iterator<Item = (InstanceId, u64)> {
        let all = self.by_instance.range((measure, InstanceId(0))..=(measure, InstanceId::UNKNOWN));
        all.map(|((_, instance), events)| (*instance, *events))
    }

    /// Instances with a point of any measure that is per second of one.
    pub fn instances(&self) -> BTreeSet<InstanceId> {
        self.by_instance.keys().map(|(_, instance)| *instance).collect()
    }

    /// Measures of which any point came, by their bits.
    pub fn seen(&self) -> Marks {
        self.seen
    }

    /// Those of which any point counts: not where all were of nobody that can be told from others.
    pub fn counted(&self) -> Marks {
        self.counted
    }

    fn group(&self, measure: u8, group: usize) -> Option<&Numbers> {
        let name = if group == 0 { CellName::Warm0 } else { CellName::Warm1 };
        self.cells.get(&(measure, name))
    }

    /// All of a measure and the part of them, by instance group.
    pub fn counts(&self, measure: u8) -> [[u64; 2]; 2] {
        [0, 1].map(|group| self.group(measure, group).map_or([0, 0], |numbers| [numbers.all, numbers.part]))
    }

    /// How many of a measure took longer than a threshold in seconds, by instance group; `None` where buckets do not
    /// tell: the threshold is none of their bounds, or they are too coarse.
    pub fn longer_than(&self, measure: u8, seconds: f64) -> Option<[u64; 2]> {
        let mut longer = [0; 2];
        for (group, longer) in longer.iter_mut().enumerate() {
            if let Some(numbers) = self.group(measure, group) {
                *longer = numbers.latencies.longer_than(seconds, THRESHOLD_SCALE)?;
            }
        }
        Some(longer)
    }

    /// Lets `form` know the divisions of a measure's latencies.
    pub fn admit(&self, measure: u8, form: &mut Form, margin: i32) {
        for numbers in [0, 1].into_iter().filter_map(|group| self.group(measure, group)) {
            numbers.latencies.admit(form, margin);
        }
    }

    /// The latencies of a measure in `form`, by instance group.
    pub fn latencies(&self, measure: u8, form: &Form) -> [SparseHistogram; 2] {
        let of = |group| self.group(measure, group).map(|numbers| numbers.latencies.in_form(form));
        [0, 1].map(|group| of(group).unwrap_or_default())
    }
}
