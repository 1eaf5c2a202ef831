//! How alpha is shared out: fixed shares for the service, the rest over the operations by traffic, and a
//! reserve for operations that come later. Shares are set before any of the data they weigh is read, and
//! their sum never exceeds 1 (`docs/statistics.md`, "Combination").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::evidence::Sli;
use super::memory::Memory;
use super::processes::Key;
use super::timing::Timing;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Shares at service level.
const SERVICE: [(Sli, f64); 8] = [
    (Sli::ErrorRate, 0.20),
    (Sli::LatencyP50, 0.07),
    (Sli::LatencyP95, 0.09),
    (Sli::LatencyP99, 0.05),
    (Sli::Guard, 0.05),
    (Sli::Absolute, 0.05),
    (Sli::LatencyP75, 0.04),
    (Sli::ClientErrors, 0.04),
];
/// Share of all operations known when the weights are fixed, and of those that come later.
const OPERATIONS: f64 = 0.36;
const RESERVE: f64 = 0.05;
/// How an operation's share is split.
const WITHIN: [(Sli, f64); 4] =
    [(Sli::ErrorRate, 0.4), (Sli::LatencyP50, 0.2), (Sli::LatencyP95, 0.25), (Sli::LatencyP99, 0.15)];
/// Operations with processes of their own; the rest count at service level only.
const OWN_OPERATIONS: usize = 50;

/// The shares of one deployment.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Weights {
    pub(crate) each: BTreeMap<Key, f64>,
    /// Slot in which they were fixed.
    pub(crate) fixed: Option<Slot>,
    /// Operations on the reserve, and the slot in which their processes begin.
    late: BTreeMap<Arc<str>, Slot>,
    reserved: u32,
}

snapshot_fields!(Weights { each, fixed, late, reserved });

impl Weights {
    /// Fixes the shares; to be called once, in slot `t`. `operations` are all known of either version.
    pub(crate) fn fix(&mut self, t: Slot, timing: Timing, memory: &Memory, operations: &BTreeSet<Arc<str>>) {
        self.fixed = Some(t);
        self.each.extend(SERVICE.map(|(sli, share)| (Key::service(sli), share)));
        let (mut known, unknown): (Vec<_>, Vec<_>) =
            operations.iter().map(|o| (o, memory.kept(o))).partition(|(_, kept)| *kept > 0.0);
        known.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        known.truncate(OWN_OPERATIONS);
        let sum: f64 = known.iter().map(|(_, kept)| kept.sqrt()).sum();
        for (operation, kept) in known {
            self.share(operation, OPERATIONS * kept.sqrt() / sum);
        }
        unknown.into_iter().for_each(|(operation, _)| self.reserve(operation, t + timing.slot_s()));
    }

    /// An operation that was first seen in the slot before `next`: after the weights are fixed it gets a part
    /// of the reserve.
    pub(crate) fn newcomer(&mut self, operation: &Arc<str>, next: Slot) {
        if self.fixed.is_some() {
            self.reserve(operation, next);
        }
    }

    fn reserve(&mut self, operation: &Arc<str>, start: Slot) {
        self.reserved += 1;
        let k = f64::from(self.reserved);
        self.late.insert(Arc::clone(operation), start);
        self.share(operation, RESERVE / (k * (k + 1.0)));
    }

    fn share(&mut self, operation: &Arc<str>, share: f64) {
        self.each.extend(WITHIN.map(|(sli, part)| (Key::operation(operation, sli), share * part)));
    }

    /// First slot of an operation's own processes, not before `earliest`; `None` where it has none.
    pub(crate) fn start(&self, operation: &Arc<str>, earliest: Slot) -> Option<Slot> {
        self.each.contains_key(&Key::operation(operation, Sli::ErrorRate)).then_some(())?;
        let own = self.late.get(operation).copied().or(self.fixed)?;
        Some(own.max(earliest))
    }
}
