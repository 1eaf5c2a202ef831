//! One closed slot as the judge sees it: per arm and operation how many requests, how many bad, and their
//! latencies. An operation's cell is split by instance group, because the spread between the groups measures
//! how bursty the service is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::buckets::{Bounds, onto, shared};
use super::cohort::CohortArm;
use crate::histogram::SparseHistogram;
use crate::model::MeasureKey;

/// Requests of one cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// All.
    pub requests: u64,
    /// Failed by the service's fault.
    pub bad: u64,
    /// Refused as the client's fault.
    pub client_errors: u64,
    /// Latency.
    pub latency: SparseHistogram,
}

impl Counts {
    /// Adds another cell.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.bad += other.bad;
        self.client_errors += other.client_errors;
        self.latency.merge(&other.latency);
    }
}

/// One operation of one version in one slot, by instance group; all in the first where instances are unknown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    /// The two groups.
    pub groups: [Counts; 2],
    /// What the buckets of the latencies mean. `None`: the log grid of [`crate::histogram::layout`]. Else the
    /// bounds of explicit buckets in seconds, ascending: key `i` holds latencies in `(b[i-1], b[i]]`, and key
    /// `b.len()` those above the last bound.
    pub bounds: Option<Arc<[f64]>>,
}

impl Cell {
    /// Requests of both groups.
    pub fn requests(&self) -> u64 {
        self.groups[0].requests + self.groups[1].requests
    }

    /// Both groups as one.
    pub fn merged(&self) -> Counts {
        let mut all = self.groups[0].clone();
        all.merge(&self.groups[1]);
        all
    }

    /// Adds another cell, group by group. Where their buckets differ, those that both have remain.
    pub fn merge(&mut self, other: &Self) {
        if self.bounds != other.bounds && other.has_latency() {
            let bounds =
                if self.has_latency() { shared(&self.bounds, &other.bounds) } else { other.bounds.clone() };
            self.rebucket(&bounds);
            if other.bounds != bounds {
                let mut other = other.clone();
                other.rebucket(&bounds);
                return self.merge(&other);
            }
        }
        self.groups.iter_mut().zip(&other.groups).for_each(|(a, b)| a.merge(b));
    }

    /// Whether it has any latency; some metrics count requests only.
    pub(crate) fn has_latency(&self) -> bool {
        self.groups.iter().any(|counts| !counts.latency.is_empty())
    }

    /// Joins its buckets to those of `bounds`, a part of its own.
    fn rebucket(&mut self, bounds: &Bounds) {
        for counts in &mut self.groups {
            counts.latency = onto(&counts.latency, &self.bounds, bounds);
        }
        self.bounds.clone_from(bounds);
    }

    /// Both groups as one, in the buckets of `bounds`, a part of its own.
    pub(crate) fn merged_in(&self, bounds: &Bounds) -> Counts {
        let mut all = self.merged();
        if self.bounds != *bounds {
            all.latency = onto(&all.latency, &self.bounds, bounds);
        }
        all
    }
}

/// Cells by operation, in name order: sums are made in one fixed order, so the same input gives the same bits.
pub type Cells = BTreeMap<Arc<str>, Cell>;

/// One instance in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstanceCounts {
    /// Its number in order of appearance.
    pub ordinal: u32,
    /// Requests.
    pub requests: u64,
    /// Failed ones.
    pub bad: u64,
    /// Sum of latency buckets, and of their squares.
    pub bucket_sum: i64,
    /// See `bucket_sum`.
    pub bucket_squares: i64,
}

/// One version in one slot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arm {
    /// Requests of instances past their warm-up.
    pub warm: Cells,
    /// Requests of instances in their warm-up, over all operations; their latencies always on the log grid
    /// ([`super::on_grid`]), because they only say when the candidate has settled.
    pub young: Counts,
    /// Whether any span carried an HTTP or RPC status code.
    pub status_seen: bool,
    /// Warm requests by instance; empty where instances are unknown.
    pub instances: Vec<InstanceCounts>,
    /// Warm requests by the zone of the instance, of those that name one; told while a deployment is looked at.
    pub zones: Vec<(Arc<str>, u64)>,
    /// What SLIs of the policy's own count.
    pub measures: Measured,
    /// The same requests told apart by the values of dimensions, by label; empty where there are none.
    pub cohorts: BTreeMap<Arc<str>, CohortArm>,
}

/// Measures in one slot, by what they count.
pub type Measured = BTreeMap<MeasureKey, MeasuredCells>;

/// The key of cells of measures that do not tell operations apart.
pub const ALL_OPERATIONS: &str = "";

/// One measure of one version in one slot. In its cells `requests` are all, `bad` are the bad ones, the events or
/// the quantity.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeasuredCells {
    /// What is compared.
    pub warm: Cells,
    /// What began before the candidate's first request: remembered only.
    pub old: Cells,
    /// Whether the events are a quantity, which counts in units of its mean.
    pub is_quantity: bool,
    /// Of a metric that the version never sent: that nothing is counted is no sign of health.
    pub is_unseen: bool,
    /// Nor did any version before it: what it would have counted is not known.
    pub is_new: bool,
}

impl Arm {
    /// Requests and failed ones, warm-up included.
    pub fn totals(&self) -> [u64; 2] {
        self.warm
            .values()
            .flat_map(|cell| &cell.groups)
            .chain([&self.young])
            .fold([0, 0], |sum, counts| [sum[0] + counts.requests, sum[1] + counts.bad])
    }

    /// Whether the version had no request at all.
    pub fn is_silent(&self) -> bool {
        self.totals()[0] == 0
    }
}

/// A slot of both arms.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SlotInput {
    /// The version held against.
    pub baseline: Arm,
    /// Baseline requests that started before the candidate's first one: remembered, not compared, because
    /// the candidate cannot have finished such a long request yet (right-censoring).
    pub started_before: Cells,
    /// The version being judged.
    pub candidate: Arm,
}

/// Requests and failed ones of some cells.
pub(crate) fn totals(cells: &Cells) -> [u64; 2] {
    cells.values().flat_map(|cell| &cell.groups).fold([0, 0], |sum, c| [sum[0] + c.requests, sum[1] + c.bad])
}

/// Cells with those of requests that are only remembered, which are mostly none.
pub(crate) fn with_old<'a>(warm: &'a Cells, old: &Cells) -> Cow<'a, Cells> {
    if old.is_empty() {
        return Cow::Borrowed(warm);
    }
    let mut all = warm.clone();
    for (operation, cell) in old {
        all.entry(Arc::clone(operation)).or_default().merge(cell);
    }
    Cow::Owned(all)
}

/// All operations as one; `None` without requests.
pub(crate) fn pooled(cells: &Cells) -> Option<Cell> {
    let mut all = Cell::default();
    cells.values().for_each(|cell| all.merge(cell));
    (all.requests() > 0).then_some(all)
}
