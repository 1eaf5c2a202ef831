//! From a closed slot of the window to what the judge and the memory take: operations by name, instances by
//! number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cohorts::Cohort;
use super::ledger::{Disposition, Ledger};
use super::passage::Signal;
use crate::model::{InstanceId, Program, SeriesId};
use crate::verdict::{
    ALL_OPERATIONS, Arm, Cell, Cells, CohortArm, Counts, InstanceCounts, Measured, MeasuredCells, NO_COHORT,
};
use crate::window::{self, ClosedMeasures, ClosedSlot, MeasureCounts, OperationSlot, Toll};

/// One version in one closed slot.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// What is compared and remembered.
    pub(super) arm: Arm,
    /// Requests that started before the candidate's first one: remembered only.
    pub(super) started_before: Cells,
    /// Everything, for displays and sampling.
    pub(super) total: window::Counts,
    /// Requests and failed ones of each operation, those of young instances included.
    pub(super) by_operation: Vec<(Arc<str>, u64, u64)>,
    /// Spans of older slots that were passed over and never closed.
    pub(super) passed_over: u64,
    /// Spans that are no requests and count for a measure.
    pub(super) marked: u64,
    /// Instances that live, and those that died and were replaced.
    pub(super) toll: Toll,
}

impl Closed {
    /// Whether the version had any request in the slot.
    pub(super) fn is_present(&self) -> bool {
        self.total.n > 0
    }

    /// Counts what the slot held, and what was passed over, in the account of records.
    pub(super) fn settle(&self, ledger: &Ledger) {
        ledger.settle(Signal::Traces, Disposition::Aggregated, self.total.n + self.marked);
        ledger.settle(Signal::Traces, Disposition::Late, self.passed_over);
    }

    /// Names what the window knows by number. `bounds` are those of its latencies where they are not on the grid.
    pub(super) fn new(
        slot: &ClosedSlot,
        operations: &BTreeMap<SeriesId, Arc<str>>,
        ordinals: &BTreeMap<InstanceId, u32>,
        bounds: Option<&Arc<[f64]>>,
    ) -> Self {
        let mut closed = Self { total: slot.total(), ..Self::default() };
        closed.arm.status_seen = closed.total.with_status > 0;
        for (series, operation) in &slot.operations {
            let Some(name) = operations.get(series) else { continue };
            let all = operation.all_counts();
            closed.by_operation.push((Arc::clone(name), all.n, all.bad));
            closed.arm.young.merge(&counts(&operation.young));
            let (warm, old) = cells(operation, bounds);
            put(&mut closed.arm.warm, name, &warm);
            put(&mut closed.started_before, name, &old);
        }
        closed.arm.instances = instances(slot, ordinals, |_| true);
        closed
    }
}

/// What is compared of an operation, and what is only remembered.
fn cells(operation: &OperationSlot, bounds: Option<&Arc<[f64]>>) -> (Cell, Cell) {
    let cell = |groups| Cell { groups, bounds: bounds.map(Arc::clone) };
    let warm = cell(operation.warm.each_ref().map(counts));
    (warm, cell([counts(&operation.old), Counts::default()]))
}

/// Counts of the instances that are named.
fn instances(
    slot: &ClosedSlot,
    ordinals: &BTreeMap<InstanceId, u32>,
    is_wanted: impl Fn(InstanceId) -> bool,
) -> Vec<InstanceCounts> {
    let named = slot.instances.iter().filter(|seen| seen.n > 0 && is_wanted(seen.instance));
    named
        .filter_map(|seen| {
            Some(InstanceCounts {
                ordinal: *ordinals.get(&seen.instance)?,
                requests: u64::from(seen.n),
                bad: u64::from(seen.bad),
                bucket_sum: seen.bucket_sum,
                bucket_squares: seen.bucket_squares,
            })
        })
        .collect()
}

/// The cohorts of the series of one version; empty where its service has no dimensions.
#[derive(Debug, Default)]
pub(super) struct SeriesCohorts {
    series: BTreeMap<SeriesId, Arc<Cohort>>,
    /// Which instances served which combination of values.
    served: BTreeSet<(u16, InstanceId)>,
}

impl SeriesCohorts {
    pub(super) fn add(&mut self, id: SeriesId, cohort: &Arc<Cohort>) {
        self.series.insert(id, Arc::clone(cohort));
    }

    /// Labels of the values of a series; none where it is not told apart.
    pub(super) fn labels(&self, series: SeriesId) -> &[Arc<str>] {
        self.series.get(&series).map_or(&[], |cohort| &cohort.each)
    }

    /// Takes note of who serves.
    pub(super) fn note(&mut self, series: SeriesId, instance: InstanceId) {
        if let Some(cohort) = self.series.get(&series)
            && !self.served.contains(&(cohort.number, instance))
        {
            self.served.insert((cohort.number, instance));
        }
    }

    /// Tells the requests of a slot apart by cohort. An instance counts whole in each cohort that it serves: how far
    /// instances differ from each other is asked of them, not of what they serve. `bounds` as for [`Closed::new`].
    pub(super) fn split(
        &self,
        slot: &ClosedSlot,
        operations: &BTreeMap<SeriesId, Arc<str>>,
        ordinals: &BTreeMap<InstanceId, u32>,
        bounds: Option<&Arc<[f64]>>,
        arm: &mut Arm,
    ) {
        if self.series.is_empty() {
            return;
        }
        let mut served: BTreeMap<Arc<str>, BTreeSet<InstanceId>> = BTreeMap::new();
        for (series, operation) in &slot.operations {
            let Some(name) = operations.get(series) else { continue };
            let (warm, old) = cells(operation, bounds);
            let Some(cohort) = self.series.get(series) else {
                let one = arm.cohorts.entry(NO_COHORT.into()).or_default();
                one.is_joint = true;
                put(&mut one.arm.warm, name, &warm);
                put(&mut one.started_before, name, &old);
                continue;
            };
            let single = cohort.each.len() == 1;
            for label in cohort.each.iter().chain((!single).then_some(&cohort.joint)) {
                let one: &mut CohortArm = arm.cohorts.entry(Arc::clone(label)).or_default();
                one.is_joint = single || *label == cohort.joint;
                one.arm.young.merge(&counts(&operation.young));
                one.arm.status_seen |= operation.all_counts().with_status > 0;
                put(&mut one.arm.warm, name, &warm);
                put(&mut one.started_before, name, &old);
                let of_cohort = self
                    .served
                    .range((cohort.number, InstanceId(0))..)
                    .map_while(|(n, id)| (*n == cohort.number).then_some(*id));
                served.entry(Arc::clone(label)).or_default().extend(of_cohort);
            }
        }
        for (label, one) in &mut arm.cohorts {
            if let Some(served) = served.get(label) {
                one.arm.instances = instances(slot, ordinals, |id| served.contains(&id));
            }
        }
    }
}

/// What a second shows of instances that died and were replaced, per second of one. How often instances of one kind
/// die together is measured in time: a node takes all that it holds along.
pub(super) fn deaths(living: u64, dead: u64) -> Option<MeasuredCells> {
    // Where the only one that lived is found to have died, nobody may live: its death counts all the same.
    let counts = Counts { requests: living.max(dead.min(1)), bad: dead, ..Counts::default() };
    let mut cells = MeasuredCells::default();
    put_counted(
        &mut cells.warm,
        &ALL_OPERATIONS.into(),
        Cell { groups: [counts, Counts::default()], bounds: None },
    );
    (!cells.warm.is_empty()).then_some(cells)
}

/// Names what the open measures know by number.
pub(super) fn measured(
    closed: &ClosedMeasures,
    program: &Program,
    operations: &BTreeMap<SeriesId, Arc<str>>,
) -> Measured {
    let all: Arc<str> = ALL_OPERATIONS.into();
    let mut measured = Measured::new();
    for ((number, series), slot) in &closed.cells {
        let name = series.map_or(Some(&all), |series| operations.get(&series));
        let (Some(key), Some(name)) = (program.key(usize::from(*number)), name) else { continue };
        let cells = measured.entry(key).or_default();
        cells.is_quantity = program.is_quantity(usize::from(*number));
        let warm = Cell { groups: slot.warm.each_ref().map(counted), bounds: None };
        put_counted(&mut cells.warm, name, warm);
        put_counted(
            &mut cells.old,
            name,
            Cell { groups: [counted(&slot.old), Counts::default()], bounds: None },
        );
    }
    measured
}

fn counted(counts: &MeasureCounts) -> Counts {
    let MeasureCounts { n, x, latency } = counts;
    Counts { requests: *n, bad: *x, client_errors: 0, latency: latency.clone() }
}

/// Events may come in a second without requests.
fn put_counted(cells: &mut Cells, name: &Arc<str>, cell: Cell) {
    if cell.groups.iter().any(|counts| counts.requests + counts.bad > 0) {
        cells.entry(Arc::clone(name)).or_default().merge(&cell);
    }
}

fn counts(cell: &window::Cell) -> Counts {
    Counts {
        requests: cell.counts.n,
        bad: cell.counts.bad,
        client_errors: cell.counts.client,
        latency: cell.latency.clone(),
    }
}

fn put(cells: &mut Cells, name: &Arc<str>, cell: &Cell) {
    if cell.requests() > 0 {
        cells.entry(Arc::clone(name)).or_default().merge(cell);
    }
}
