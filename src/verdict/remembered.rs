//! When the baseline's traffic has ended, the candidate alone is held against what the baseline showed: one
//! test per SLI whose null is a remembered rate with generous bounds (`docs/statistics.md`, "Remembered
//! baseline").

use std::collections::BTreeMap;
use std::sync::Arc;

use super::buckets::{self, Bounds, place_of};
use super::evidence::Sli;
use super::input::{Cell, Cells, pooled};
use super::memory::Memory;
use super::policy::Policy;
use super::stratum::Dispersions;
use super::thresholds::{Thresholds, thresholds_of};
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;
use crate::stats::{Term, lower_bound, upper_bound};

/// Remembered requests an operation needs to be held against.
const MIN_KEPT: f64 = 20.0;
/// What a remembered share of slow requests may be off by: p75, p95, p99.
const FACTORS: [(Sli, usize, Option<f64>); 4] = [
    (Sli::LatencyP75, 1, Some(1.6)),
    (Sli::LatencyP95, 2, Some(2.0)),
    (Sli::LatencyP99, 3, Some(2.0)),
    (Sli::LatencyP50, 0, None),
];

/// Thresholds as they stood when the baseline went away, and the buckets that they are in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frozen {
    at: Thresholds,
    bounds: Bounds,
}

snapshot_fields!(Frozen { at, bounds });

impl Frozen {
    /// Where the threshold of a quantile lies in the buckets of a cell; `None` where they do not have it.
    fn place(&self, q: usize, cell: &Cell) -> Option<i32> {
        let at = self.at[q]?;
        match (&self.bounds, &cell.bounds) {
            (None, None) => Some(i32::from(at)),
            (Some(own), Some(theirs)) => {
                let bound = own.get(usize::try_from(at).ok()?)?;
                i32::try_from(place_of(*bound, theirs)?).ok()
            }
            _ => None,
        }
    }

    /// What a margin adds: in explicit buckets both versions are held to the same bound.
    fn margin(&self, buckets: i32) -> i32 {
        if self.bounds.is_some() { 0 } else { buckets }
    }

    /// Requests of a cell above the threshold and a margin.
    fn slow(&self, q: usize, cell: &Cell, margin: i32) -> Option<u64> {
        let at = self.place(q, cell)? + self.margin(margin);
        Some(cell.groups.iter().map(|g| g.latency.count_above(at)).sum())
    }
}

/// Terms of one slot for latency.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// Worse? By SLI.
    pub(crate) worse: Vec<(Sli, Term)>,
    /// Not unacceptably slower? By index of the required SLI.
    pub(crate) pass: Vec<(usize, Term)>,
}

impl Memory {
    /// Whether at most twice as many of these requests as are remembered lie above the p95 of each operation, but for
    /// what chance does. Without thresholds nothing speaks against it.
    pub fn is_usual_latency(&self, cells: &Cells) -> bool {
        const P95: usize = 2;
        let frozen = self.frozen_thresholds();
        let (mut slow, mut expected) = (0.0, 0.0);
        for (operation, cell) in cells {
            let Some(own) = frozen.get(&Some(Arc::clone(operation))) else { continue };
            let (Some(at), Some(stratum)) = (own.at[P95], self.strata.get(operation)) else { continue };
            let Some(above) = own.slow(P95, cell, 0) else { continue };
            let total = stratum.kept.total(self.traffic_s).max(f64::MIN_POSITIVE);
            slow += above as f64;
            expected += 2.0 * cell.requests() as f64 * stratum.kept.above(self.traffic_s, at) / total;
        }
        slow <= expected + 3.0 * expected.max(1.0).sqrt()
    }

    /// Thresholds of every operation that is remembered well enough, and of all as one (`None`).
    pub(crate) fn frozen_thresholds(&self) -> BTreeMap<Option<Arc<str>>, Frozen> {
        let mut frozen = BTreeMap::new();
        for (operation, stratum) in &self.strata {
            let (total, bounds) = (stratum.kept.total(self.traffic_s), &stratum.bounds);
            if total >= MIN_KEPT
                && let Some(at) = thresholds_of(stratum.kept.iter(self.traffic_s), total, bounds)
            {
                frozen.insert(Some(Arc::clone(operation)), Frozen { at, bounds: bounds.clone() });
            }
        }
        let (bounds, all) = self.pooled_kept();
        let total = all.values().sum::<f64>();
        if total >= MIN_KEPT
            && let Some(at) = thresholds_of(all.iter().map(|(b, w)| (*b, *w)), total, &bounds)
        {
            frozen.insert(None, Frozen { at, bounds });
        }
        frozen
    }
}

/// Latency of the candidate's slot against the frozen thresholds.
pub(crate) fn terms(
    policy: &Policy,
    memory: &Memory,
    frozen: &BTreeMap<Option<Arc<str>>, Frozen>,
    renamed: bool,
    candidate: &Cells,
    latency_from: Option<Slot>,
) -> Terms {
    let mut out = Terms::default();
    if latency_from.is_none() {
        return out;
    }
    let all = pooled(candidate);
    let pairs: Vec<(&Frozen, &Cell)> = if renamed {
        frozen.get(&None).zip(all.as_ref()).into_iter().collect()
    } else {
        candidate.iter().filter_map(|(o, cell)| Some((frozen.get(&Some(Arc::clone(o)))?, cell))).collect()
    };
    for (sli, q, factor) in FACTORS {
        let seen = Seen::of(policy, &pairs, q);
        let (weight, above) = remembered(memory, frozen, renamed, &pairs, q);
        if seen.n == 0 || weight <= 0.0 {
            continue;
        }
        let (n, c) = (seen.n as f64, incident_size(memory, sli, renamed));
        if let Some(factor) = factor {
            let p0 = upper_bound(above, weight, factor);
            if p0 < 1.0 {
                out.worse.push((sli, Term::OneSample { n, x: seen.slow as f64, p0, c }));
            }
        }
        if let Some(index) = super::passing::Passing::SLIS.iter().position(|s| *s == sli) {
            let p0 = seen.pass_ratio * lower_bound(above, weight);
            out.pass.push((index, Term::OneSample { n, x: seen.slow_for_pass as f64, p0, c }));
        }
    }
    out
}

/// What a slot of the candidate shows of one quantile.
struct Seen {
    /// Requests of operations whose buckets have the threshold.
    n: u64,
    /// Above the threshold, with the margin.
    slow: u64,
    /// The same with the margin that a PASS must exclude.
    slow_for_pass: u64,
    /// Where a bound has no margin, the ratio that a PASS must exclude instead: the mean over requests.
    pass_ratio: f64,
}

impl Seen {
    fn of(policy: &Policy, pairs: &[(&Frozen, &Cell)], q: usize) -> Self {
        let mut seen = Self { n: 0, slow: 0, slow_for_pass: 0, pass_ratio: 1.0 };
        let mut at_bounds = 0;
        for (frozen, cell) in pairs {
            let slow = |margin| frozen.slow(q, cell, margin);
            if let (Some(a), Some(b)) = (slow(policy.latency_margin), slow(policy.pass_latency_margin)) {
                seen.n += cell.requests();
                seen.slow += a;
                seen.slow_for_pass += b;
                at_bounds += if frozen.bounds.is_some() { cell.requests() } else { 0 };
            }
        }
        if at_bounds > 0 {
            seen.pass_ratio += (buckets::PASS_RATIO - 1.0) * at_bounds as f64 / seen.n as f64;
        }
        seen
    }
}

/// Remembered weight of one quantile, and how much of it lies above the threshold. On the log grid the share
/// above is 1 - q in every operation. Explicit bounds are only near it, so there each operation's share counts
/// as often as the candidate has requests of it: totals only.
fn remembered(
    memory: &Memory,
    frozen: &BTreeMap<Option<Arc<str>>, Frozen>,
    renamed: bool,
    pairs: &[(&Frozen, &Cell)],
    q: usize,
) -> (f64, f64) {
    let now = memory.traffic_s;
    if renamed {
        let at = frozen.get(&None).and_then(|f| f.at[q]);
        let Some(at) = at else { return (0.0, 0.0) };
        let (_, all) = memory.pooled_kept();
        return (all.values().sum(), all.range(at + 1..).map(|(_, w)| w).sum());
    }
    let (mut sum, mut served, mut expected) = ((0.0, 0.0), 0.0, 0.0);
    for (operation, stratum) in &memory.strata {
        let Some(own) = frozen.get(&Some(Arc::clone(operation))) else { continue };
        let Some(at) = own.at[q] else { continue };
        let (total, above) = (stratum.kept.total(now), stratum.kept.above(now, at));
        sum = (sum.0 + total, sum.1 + above);
        let cell = pairs.iter().find(|(f, _)| std::ptr::eq(*f, own)).map(|(_, cell)| *cell);
        if let Some(cell) = cell.filter(|cell| total > 0.0 && own.place(q, cell).is_some()) {
            served += cell.requests() as f64;
            expected += cell.requests() as f64 * above / total;
        }
    }
    let explicit = pairs.iter().any(|(f, _)| f.bounds.is_some());
    if explicit && served > 0.0 { (sum.0, sum.0 * expected / served) } else { sum }
}

fn incident_size(memory: &Memory, sli: Sli, renamed: bool) -> f64 {
    let prior = Dispersions::default();
    let service = if renamed { &prior } else { &memory.dispersions };
    match sli {
        Sli::LatencyP75 => memory.p75.incident_size_in_time(),
        Sli::LatencyP95 => service.p95.incident_size_in_time(),
        Sli::LatencyP99 => service.p99.incident_size_in_time(),
        _ => service.p50.incident_size_in_time(),
    }
}

/// PASS for errors against what is remembered.
pub(crate) fn pass_errors(policy: &Policy, memory: &Memory, [n, x]: [u64; 2], c: f64) -> Term {
    let p0 = policy.pass_error_ratio * lower_bound(memory.errors, memory.requests) + policy.error_budget();
    Term::OneSample { n: n as f64, x: x as f64, p0, c }
}
