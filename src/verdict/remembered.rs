//! When the baseline's traffic has ended, the candidate alone is held against what the baseline showed: one
//! test per SLI whose null is a remembered rate with generous bounds (`docs/statistics.md`, "Remembered
//! baseline").

use std::collections::BTreeMap;
use std::sync::Arc;

use super::evidence::Sli;
use super::input::{Cell, Cells, pooled};
use super::memory::{Memory, kept_thresholds};
use super::policy::Policy;
use super::stratum::{Dispersions, Thresholds};
use crate::model::Slot;
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

/// Terms of one slot for latency.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// Worse? By SLI.
    pub(crate) worse: Vec<(Sli, Term)>,
    /// Not unacceptably slower? By index of the required SLI.
    pub(crate) pass: Vec<(usize, Term)>,
}

impl Memory {
    /// Thresholds of every operation that is remembered well enough, and of all as one (`None`).
    pub(crate) fn frozen_thresholds(&self) -> BTreeMap<Option<Arc<str>>, Thresholds> {
        let mut frozen = BTreeMap::new();
        for (operation, stratum) in &self.strata {
            if stratum.kept.total(self.traffic_s) >= MIN_KEPT
                && let Some(at) = stratum.kept.quantiles(self.traffic_s, super::stratum::QUANTILES)
            {
                frozen.insert(Some(Arc::clone(operation)), at);
            }
        }
        let all = self.pooled_kept();
        if all.values().sum::<f64>() >= MIN_KEPT
            && let Some(at) = kept_thresholds(all.iter().map(|(b, w)| (*b, *w)))
        {
            frozen.insert(None, at);
        }
        frozen
    }
}

/// Latency of the candidate's slot against the frozen thresholds.
pub(crate) fn terms(
    policy: &Policy,
    memory: &Memory,
    frozen: &BTreeMap<Option<Arc<str>>, Thresholds>,
    renamed: bool,
    candidate: &Cells,
    latency_from: Option<Slot>,
) -> Terms {
    let mut out = Terms::default();
    if latency_from.is_none() {
        return out;
    }
    let all = pooled(candidate);
    let pairs: Vec<(&Thresholds, &Cell)> = if renamed {
        frozen.get(&None).zip(all.as_ref()).into_iter().collect()
    } else {
        candidate.iter().filter_map(|(o, cell)| Some((frozen.get(&Some(Arc::clone(o)))?, cell))).collect()
    };
    let n: u64 = pairs.iter().map(|(_, cell)| cell.requests()).sum();
    let (weight, above) = remembered(memory, frozen, renamed);
    if n == 0 || weight <= 0.0 {
        return out;
    }
    for (sli, q, factor) in FACTORS {
        let slow = |shift: i32| -> f64 {
            let count = |(at, cell): &(&Thresholds, &Cell)| -> u64 {
                cell.groups.iter().map(|g| g.latency.count_above(i32::from(at[q]) + shift)).sum()
            };
            pairs.iter().map(count).sum::<u64>() as f64
        };
        let c = incident_size(memory, sli, renamed);
        if let Some(factor) = factor {
            let p0 = upper_bound(above[q], weight, factor);
            if p0 < 1.0 {
                out.worse.push((sli, Term::OneSample { n: n as f64, x: slow(policy.latency_margin), p0, c }));
            }
        }
        if let Some(index) = super::passing::Passing::SLIS.iter().position(|s| *s == sli) {
            let p0 = lower_bound(above[q], weight);
            out.pass
                .push((index, Term::OneSample { n: n as f64, x: slow(policy.pass_latency_margin), p0, c }));
        }
    }
    out
}

/// Remembered weight, and how much of it lies above each threshold.
fn remembered(
    memory: &Memory,
    frozen: &BTreeMap<Option<Arc<str>>, Thresholds>,
    renamed: bool,
) -> (f64, [f64; 4]) {
    let now = memory.traffic_s;
    if renamed {
        let Some(at) = frozen.get(&None) else { return (0.0, [0.0; 4]) };
        let all = memory.pooled_kept();
        return (all.values().sum(), at.map(|b| all.range(b + 1..).map(|(_, w)| w).sum()));
    }
    let mut sum = (0.0, [0.0; 4]);
    for (operation, stratum) in &memory.strata {
        if let Some(at) = frozen.get(&Some(Arc::clone(operation))) {
            sum.0 += stratum.kept.total(now);
            sum.1.iter_mut().zip(at).for_each(|(x, b)| *x += stratum.kept.above(now, *b));
        }
    }
    sum
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
