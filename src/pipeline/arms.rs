//! From a closed slot of the window to what the judge and the memory take: operations by name, instances by
//! number.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ledger::{Disposition, Ledger};
use super::passage::Signal;
use crate::model::{InstanceId, SeriesId};
use crate::verdict::{Arm, Cell, Cells, Counts, InstanceCounts};
use crate::window::{self, ClosedSlot};

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
}

impl Closed {
    /// Whether the version had any request in the slot.
    pub(super) fn is_present(&self) -> bool {
        self.total.n > 0
    }

    /// Counts what the slot held, and what was passed over, in the account of records.
    pub(super) fn settle(&self, ledger: &Ledger) {
        ledger.settle(Signal::Traces, Disposition::Aggregated, self.total.n);
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
            let warm = Cell {
                groups: [counts(&operation.warm[0]), counts(&operation.warm[1])],
                bounds: bounds.map(Arc::clone),
            };
            put(&mut closed.arm.warm, name, &warm);
            let old =
                Cell { groups: [counts(&operation.old), Counts::default()], bounds: bounds.map(Arc::clone) };
            put(&mut closed.started_before, name, &old);
        }
        for seen in slot.instances.iter().filter(|seen| seen.n > 0) {
            if let Some(&ordinal) = ordinals.get(&seen.instance) {
                closed.arm.instances.push(InstanceCounts {
                    ordinal,
                    requests: u64::from(seen.n),
                    bad: u64::from(seen.bad),
                    bucket_sum: seen.bucket_sum,
                    bucket_squares: seen.bucket_squares,
                });
            }
        }
        closed
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
