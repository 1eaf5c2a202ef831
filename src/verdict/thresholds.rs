//! Above which latency a request is slow. On the log grid a threshold is a quantile of the baseline, and the
//! candidate's lies a margin higher; in explicit buckets it is the bound that stands for the quantile, the same
//! for both versions.

use super::buckets::{Bounds, exceedances, lowered, nearest, onto, place_of, shared};
use super::memory::Memory;
use super::stratum::{QUANTILES, Stratum};
use crate::histogram::{SparseHistogram, quantile};
use crate::model::snapshot::snapshot_fields;

/// Buckets at the [`QUANTILES`]: a request above is slow. `None` where no explicit bound stands for one.
pub(crate) type Thresholds = [Option<i16>; 4];

/// Remembered requests without any latency after which an operation counts as one that has none.
const MIN_BARE: f64 = 10.0;

/// Thresholds as a group is judged by them, in the buckets that both versions have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cuts {
    pub(crate) at: Thresholds,
    /// The baseline's bound, lower where its instances are unlike; equal to `at` on the log grid.
    pub(crate) base: Thresholds,
    pub(crate) explicit: bool,
}

snapshot_fields!(Cuts { at, base, explicit });

impl Cuts {
    /// From thresholds in the buckets of `bounds`; `extra` buckets of the log grid are what unlike instances
    /// add to the margin.
    fn new(at: Thresholds, bounds: &Bounds, extra: i32) -> Self {
        match bounds {
            None => Self { at, base: at, explicit: false },
            Some(bounds) => {
                let base = at.map(|at| at.and_then(|at| lowered(at, extra, bounds)));
                Self { at, base, explicit: true }
            }
        }
    }
}

/// Thresholds of latencies; `None` where there are none.
pub(crate) fn thresholds_of(
    weights: impl Iterator<Item = (i16, f64)> + Clone,
    total: f64,
    bounds: &Bounds,
) -> Option<Thresholds> {
    match bounds {
        None => {
            let at = QUANTILES.map(|q| quantile(weights.clone(), total, q));
            at[0].is_some().then_some(at)
        }
        Some(bounds) => (total > 0.0).then(|| nearest(&exceedances(weights, bounds))),
    }
}

/// Counts as weights.
pub(crate) fn weights(latencies: &SparseHistogram) -> impl Iterator<Item = (i16, f64)> + Clone + '_ {
    latencies.iter().map(|(bucket, n)| (bucket, f64::from(n)))
}

/// Thresholds in the buckets of `wanted`, which both versions have: those of the memory where its buckets are
/// the same, else the nearest of the bounds that are in both.
fn in_buckets(
    own: Thresholds,
    bounds: &Bounds,
    recent: impl FnOnce() -> SparseHistogram,
    wanted: &Bounds,
) -> Thresholds {
    if bounds == wanted {
        return own;
    }
    let common = shared(bounds, wanted);
    let (Some(list), Some(places)) = (&common, wanted) else { return [None; 4] };
    let recent = onto(&recent(), bounds, &common);
    let found = nearest(&exceedances(weights(&recent), list));
    let place = |at: i16| {
        let bound = list.get(usize::try_from(at).ok()?)?;
        i16::try_from(place_of(*bound, places)?).ok()
    };
    found.map(|at| at.and_then(place))
}

impl Stratum {
    /// What the operation is judged by in the buckets of `wanted`; `None` until it has thresholds.
    pub(crate) fn cuts(&self, wanted: &Bounds, extra: i32) -> Option<Cuts> {
        let at = in_buckets(self.thresholds?, &self.bounds, || self.recent(), wanted);
        Some(Cuts::new(at, wanted, extra))
    }
}

/// What is known of one latency SLI of one operation, or of all as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Testing {
    /// Too little was seen to say.
    Unknown,
    /// At a threshold in these buckets, which may be explicit.
    At(i16),
    /// Explicit buckets without a bound that is near, or no latencies at all.
    Not,
}

impl Testing {
    fn of(thresholds: Option<Thresholds>, q: usize) -> Self {
        thresholds.map_or(Self::Unknown, |at| at[q].map_or(Self::Not, Self::At))
    }
}

impl Stratum {
    /// What is known of the SLI of quantile `q` in the buckets of `wanted`.
    pub(crate) fn testing(&self, q: usize, wanted: &Bounds, now: u64) -> Testing {
        // A count without latencies, as of a summary: there is nothing to compare.
        if self.thresholds.is_none() && self.bare_requests(now) >= MIN_BARE && self.kept.total(now) <= 0.0 {
            return Testing::Not;
        }
        Testing::of(self.cuts(wanted, 0).map(|cuts| cuts.at), q)
    }

    /// Share of the requests of the last 300 s above a bound.
    pub(crate) fn exceedance(&self, bound: f64) -> Option<f64> {
        let own = self.bounds.as_deref()?;
        exceedances(weights(&self.recent()), own).get(place_of(bound, own)?).copied()
    }
}

/// How a quantile of the latency is tested in explicit buckets: at the bound that stands for it, if one does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundTest {
    /// The quantile, 0 to 1.
    pub quantile: f64,
    /// Whether a bound is near enough.
    pub is_testable: bool,
    /// That bound, or else the nearest, in seconds, and the share of the requests of the last 300 s above it. `None`
    /// where operations have no bound in common.
    pub nearest: Option<(f64, f64)>,
    /// The bounds between which the quantile lies, in seconds; `None` below the first and above the last.
    pub between: [Option<f64>; 2],
}

impl Memory {
    /// How p50, p95 and p99 of all operations as one are tested; `None` on the log grid, where every quantile can be, and
    /// before there are latencies.
    pub fn bound_tests(&self) -> Option<[BoundTest; 3]> {
        let thresholds = self.pooled_thresholds?;
        let (Some(bounds), recent) = self.pooled_recent() else { return None };
        let above = exceedances(weights(&recent), &bounds);
        let one = |i: usize| {
            let (quantile, slow) = (QUANTILES[i], 1.0 - QUANTILES[i]);
            let tested =
                thresholds[i].and_then(|at| usize::try_from(at).ok()).filter(|at| *at < bounds.len());
            // A bound that nobody exceeds is as far as can be.
            let off = |e: f64| (e.max(1e-9) / slow).ln().abs();
            let nearest = (0..bounds.len()).min_by(|a, b| off(above[*a]).total_cmp(&off(above[*b])));
            let first_above = above.partition_point(|e| *e > slow);
            BoundTest {
                quantile,
                is_testable: tested.is_some(),
                nearest: tested.or(nearest).map(|at| (bounds[at], above[at])),
                between: [first_above.checked_sub(1).map(|at| bounds[at]), bounds.get(first_above).copied()],
            }
        };
        (!recent.is_empty()).then(|| [one(0), one(2), one(3)])
    }

    /// What is known of the SLI of quantile `q` of all operations as one.
    pub(crate) fn pooled_testing(&self, q: usize, wanted: &Bounds) -> Testing {
        Testing::of(self.pooled_cuts(wanted, 0).map(|cuts| cuts.at), q)
    }

    /// The same for all operations as one.
    pub(crate) fn pooled_cuts(&self, wanted: &Bounds, extra: i32) -> Option<Cuts> {
        let own = self.pooled_thresholds?;
        let at = in_buckets(own, &self.pooled_bounds, || self.pooled_recent().1, wanted);
        Some(Cuts::new(at, wanted, extra))
    }
}
