//! What is remembered of one version, deployment or not: its error level, thresholds and histograms per
//! operation, burstiness, and how regularly it has traffic. It is what a candidate is held against, also
//! after the version's traffic has ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::buckets::{Bounds, on_grid, onto, shared, weights_onto};
use super::cohort::{CohortArm, LABELS_MAX};
use super::dispersion::Dispersion;
use super::heterogeneity::Heterogeneity;
use super::input::{Arm, Cells, pooled, totals};
use super::own::MeasureMemory;
use super::stratum::{Dispersions, Stratum, renew, slow};
use super::thresholds::Thresholds;
use super::timing::Timing;
use crate::histogram::{SparseHistogram, layout};
use crate::model::snapshot::snapshot_fields;
use crate::model::{MeasureKey, Slot};
use crate::stats::upper_bound;

/// Seconds whose baseline counts may lift the null of the absolute check; two slots at least, because a shared
/// incident may show in an earlier slot of one version than of the other.
const RECENT_S: i64 = 10;

/// What is remembered of one version.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    timing: Timing,
    /// Boxed: a node of the tree has room for eleven, and most services have a few operations.
    pub(crate) strata: BTreeMap<Arc<str>, Box<Stratum>>,
    /// All operations as one: their histograms are sums over `strata`, their dispersion is the prior.
    pub(crate) pooled_thresholds: Option<Thresholds>,
    /// The buckets that they are in: those that all operations have.
    pub(crate) pooled_bounds: Bounds,
    /// Service totals: errors and p50, p95, p99 of the operations' own thresholds.
    pub(crate) dispersions: Dispersions,
    pub(crate) p75: Dispersion,
    pub(crate) client_errors: Dispersion,
    /// Decayed errors and requests (X and N of equation (5)).
    pub(crate) errors: f64,
    pub(crate) requests: f64,
    /// Seconds of the slots with warm traffic so far: the clock of the decay.
    pub(crate) traffic_s: u64,
    recent: VecDeque<(Slot, u64, u64)>,
    pub(crate) first: Option<Slot>,
    pub(crate) last: Option<Slot>,
    /// Slots with any traffic, for the mean gap.
    present_slots: u64,
    pub(crate) heterogeneity: Heterogeneity,
    /// What SLIs of a policy's own count.
    pub(crate) measures: BTreeMap<MeasureKey, MeasureMemory>,
    /// The same of the cohorts of its requests, by label.
    pub(crate) cohorts: BTreeMap<Arc<str>, Box<Memory>>,
}

snapshot_fields!(Memory {
    timing,
    strata,
    pooled_thresholds,
    pooled_bounds,
    dispersions,
    p75,
    client_errors,
    errors,
    requests,
    traffic_s,
    recent,
    first,
    last,
    present_slots,
    heterogeneity,
    measures,
    cohorts,
});

impl Memory {
    /// A memory of nothing, for slots of the given length.
    pub fn new(timing: Timing) -> Self {
        Self { timing, ..Self::default() }
    }

    /// The first slot with any request.
    pub fn first_slot(&self) -> Option<Slot> {
        self.first
    }

    /// Its slots.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// To be called for every slot before it is judged; `present` says whether the version has any request
    /// in it (totals only: nothing else of the slot may be looked at before it is judged).
    pub fn begin(&mut self, t: Slot, present: bool) {
        if present {
            self.first.get_or_insert(t);
            self.last = Some(t);
        }
        let (timing, block_s) = (self.timing, self.timing.dispersion_s());
        self.dispersions.close(t, block_s);
        self.p75.close(t, block_s);
        self.client_errors.close(t, block_s);
        for stratum in self.strata.values_mut() {
            stratum.dispersions.close(t, block_s);
            stratum.begin(t, timing);
        }
        self.measures.values_mut().for_each(|measure| measure.begin(t, timing));
        let mut thresholds = self.pooled_thresholds;
        let bounds = self.common_bounds();
        if bounds != self.pooled_bounds {
            thresholds = None;
        }
        renew(&mut thresholds, t, timing, self.traffic_s, &bounds, || Some(self.pooled_recent().1));
        (self.pooled_thresholds, self.pooled_bounds) = (thresholds, bounds);
    }

    /// The same, and for the cohorts of its requests: of `arm` nothing is looked at but whether they have any.
    pub fn begin_of(&mut self, t: Slot, present: bool, arm: &Arm) {
        self.begin(t, present);
        let timing = self.timing;
        for label in arm.cohorts.keys() {
            if self.cohorts.contains_key(label) {
                continue;
            }
            if self.cohorts.len() >= LABELS_MAX {
                // Other combinations come first after a restart: what has been silent for longest makes room.
                let silent = self.cohorts.iter().filter(|(known, _)| !arm.cohorts.contains_key(*known));
                let Some(oldest) = silent.min_by_key(|(_, one)| one.last).map(|(known, _)| Arc::clone(known))
                else {
                    continue;
                };
                self.cohorts.remove(&oldest);
            }
            self.cohorts.insert(Arc::clone(label), Box::new(Self::new(timing)));
        }
        for (label, cohort) in &mut self.cohorts {
            cohort.begin(t, arm.cohorts.get(label).is_some_and(CohortArm::is_present));
        }
    }

    /// What is remembered of one cohort.
    pub fn cohort(&self, label: &str) -> Option<&Self> {
        self.cohorts.get(label).map(Box::as_ref)
    }

    /// The buckets that the recent latencies of all operations have.
    fn common_bounds(&self) -> Bounds {
        let mut each = self.strata.values().filter(|s| !s.is_idle()).map(|s| &s.bounds);
        let Some(first) = each.next() else { return self.pooled_bounds.clone() };
        each.fold(first.clone(), |all, bounds| if all == *bounds { all } else { shared(&all, bounds) })
    }

    /// Latencies of the last 300 s of all operations, in the buckets that all of them have.
    pub(crate) fn pooled_recent(&self) -> (Bounds, SparseHistogram) {
        let (bounds, mut all) = (self.common_bounds(), SparseHistogram::default());
        for stratum in self.strata.values() {
            let recent = stratum.recent();
            all.merge(&if stratum.bounds == bounds {
                recent
            } else {
                onto(&recent, &stratum.bounds, &bounds)
            });
        }
        (bounds, all)
    }

    /// To be called after the slot was judged: `seen` are the version's warm requests, those that are only
    /// remembered included.
    pub fn end(&mut self, t: Slot, seen: &Cells, arm: &Arm) {
        self.end_cohorts(t, arm);
        let [requests, errors] = totals(seen);
        let recent_s = self.recent_s();
        self.recent.retain(|r| r.0 > t - recent_s);
        if self.recent.len() == self.recent.capacity() {
            self.recent.reserve_exact(if self.recent.is_empty() { RECENT_S as usize } else { 1 });
        }
        self.recent.push_back((t, requests, errors));
        if requests + arm.young.requests > 0 {
            self.present_slots += 1;
        }
        for (key, cells) in &arm.measures {
            self.measures.entry(*key).or_default().end(t, self.timing, cells);
        }
        if requests == 0 {
            return;
        }
        self.traffic_s += self.timing.slot_s() as u64;
        let decay = self.timing.decay();
        self.errors = self.errors * decay + errors as f64;
        self.requests = self.requests * decay + requests as f64;
        self.heterogeneity.add(t, &arm.instances);
        self.end_service(t, seen);
        for (operation, cell) in seen {
            if !self.strata.contains_key(operation) {
                self.strata.insert(Arc::clone(operation), Box::default());
            }
            if let Some(stratum) = self.strata.get_mut(operation) {
                stratum.end(t, self.timing, self.traffic_s, cell);
            }
        }
    }

    fn end_cohorts(&mut self, t: Slot, arm: &Arm) {
        let nothing = CohortArm::default();
        for (label, cohort) in &mut self.cohorts {
            let one = arm.cohorts.get(label).unwrap_or(&nothing);
            let mut seen = one.arm.warm.clone();
            for (operation, cell) in &one.started_before {
                seen.entry(Arc::clone(operation)).or_default().merge(cell);
            }
            cohort.end(t, &seen, &one.arm);
        }
    }

    /// Dispersion at service level: errors by totals, slow requests by each operation's own thresholds.
    fn end_service(&mut self, t: Slot, seen: &Cells) {
        let Some(all) = pooled(seen) else { return };
        let block_s = self.timing.dispersion_s();
        let n = all.groups.each_ref().map(|g| g.requests);
        self.dispersions.errors.add(t, block_s, n, all.groups.each_ref().map(|g| g.bad));
        self.client_errors.add(t, block_s, n, all.groups.each_ref().map(|g| g.client_errors));
        let (mut tested, mut above) = ([[0; 2]; 4], [[0; 2]; 4]);
        for (operation, cell) in seen {
            let Some(stratum) = self.strata.get(operation).filter(|s| s.bounds == cell.bounds) else {
                continue;
            };
            for (q, bucket) in stratum.thresholds.into_iter().flatten().enumerate() {
                let Some(bucket) = bucket else { continue };
                let slow = slow(cell, bucket);
                for group in 0..2 {
                    tested[q][group] += cell.groups[group].requests;
                    above[q][group] += slow[group];
                }
            }
        }
        let service = &mut self.dispersions;
        let each = [&mut service.p50, &mut self.p75, &mut service.p95, &mut service.p99];
        for (dispersion, (n, x)) in each.into_iter().zip(tested.into_iter().zip(above)) {
            if n != [0, 0] {
                dispersion.add(t, block_s, n, x);
            }
        }
    }

    /// Whether the version counts as gone in slot `t`: silent for more than 10 of its mean gaps, within 10
    /// to 120 s and never less than two slots. Never before its first request.
    pub fn is_gone(&self, t: Slot) -> bool {
        self.gone(t)
    }

    pub(crate) fn gone(&self, t: Slot) -> bool {
        let (Some(first), Some(last)) = (self.first, self.last) else { return false };
        let [least, most] = self.timing.gone_s().map(|s| s as f64);
        let gap = if self.present_slots == 0 {
            least
        } else {
            (10.0 * (last - first) as f64 / self.present_slots as f64).clamp(least, most)
        };
        (t - last) as f64 > gap
    }

    fn recent_s(&self) -> i64 {
        self.timing.at_least(RECENT_S, 2)
    }

    /// Requests and errors of the last 10 s, slot `t` with `now` included.
    pub(crate) fn last_seconds(&self, t: Slot, now: [u64; 2]) -> [u64; 2] {
        let since = t - self.recent_s();
        self.recent.iter().filter(|r| r.0 > since).fold(now, |sum, r| [sum[0] + r.1, sum[1] + r.2])
    }

    /// Remembered weight of an operation.
    pub(crate) fn kept(&self, operation: &str) -> f64 {
        self.strata.get(operation).map_or(0.0, |s| s.kept_requests(self.traffic_s))
    }

    /// What is remembered of the latencies of all operations as one, in the buckets that all of them have.
    pub(crate) fn pooled_kept(&self) -> (Bounds, BTreeMap<i16, f64>) {
        let mut each = self.strata.values().filter(|s| s.kept.total(self.traffic_s) > 0.0).map(|s| &s.bounds);
        let first = each.next().cloned().unwrap_or_default();
        let bounds = each.fold(first, |all, b| if all == *b { all } else { shared(&all, b) });
        let mut all = BTreeMap::new();
        for stratum in self.strata.values() {
            weights_onto(stratum.kept.iter(self.traffic_s), &stratum.bounds, &bounds)
                .for_each(|(b, w)| *all.entry(b).or_default() += w);
        }
        (bounds, all)
    }

    /// p50, p95 and p99 of the last 300 s in seconds, over all operations, up to 10 s old; `None` without
    /// requests. For displays: of explicit buckets it can only say where between two bounds they may lie.
    pub fn latency_seconds(&self) -> Option<[f64; 3]> {
        if self.strata.values().all(|s| s.is_idle()) {
            return None;
        }
        if let (Some([Some(p50), _, Some(p95), Some(p99)]), None) =
            (self.pooled_thresholds, &self.pooled_bounds)
        {
            return Some([p50, p95, p99].map(layout::midpoint_seconds));
        }
        let (bounds, mut all) = self.pooled_recent();
        if let Some(bounds) = &bounds {
            all = on_grid(&all, bounds);
        }
        let at = |q| all.quantile(q).map(layout::midpoint_seconds);
        Some([at(0.5)?, at(0.95)?, at(0.99)?])
    }

    /// Instances with traffic in the last minute before slot `t`; 0 where none is named.
    pub fn instances_present(&self, t: Slot) -> u64 {
        self.heterogeneity.present(t, self.timing) as u64
    }

    /// Whether an error count looks like what is remembered: below an upper bound of the remembered rate
    /// and of twice the error budget.
    pub fn is_usual(&self, [requests, errors]: [u64; 2], error_budget: f64) -> bool {
        let level = if self.requests > 0.0 { upper_bound(self.errors, self.requests, 2.0) } else { 0.0 };
        let expected = requests as f64 * level.max(2.0 * error_budget);
        // Three standard deviations of a Poisson count, so that one stray error does not read as "still bad".
        requests > 0 && errors as f64 <= expected + 3.0 * expected.max(1.0).sqrt()
    }

    /// Estimated incident size of the version's errors.
    pub fn incident_size(&self) -> f64 {
        self.dispersions.errors.incident_size()
    }

    /// Takes over how bursty the service is from its previous version: kept per service, not per version.
    /// Blocks of another length cannot go on: then it is learned anew.
    pub fn inherit_dispersion(&mut self, from: &Self) {
        if from.timing != self.timing {
            return;
        }
        self.dispersions = from.dispersions.clone();
        self.p75 = from.p75.clone();
        self.client_errors = from.client_errors.clone();
        for (key, measure) in &from.measures {
            self.measures.entry(*key).or_default().inherit(measure);
        }
        for (operation, stratum) in &from.strata {
            self.strata.entry(Arc::clone(operation)).or_default().dispersions = stratum.dispersions.clone();
        }
        for (label, cohort) in &from.cohorts {
            let own =
                self.cohorts.entry(Arc::clone(label)).or_insert_with(|| Box::new(Self::new(from.timing)));
            own.inherit_dispersion(cohort);
        }
    }
}
