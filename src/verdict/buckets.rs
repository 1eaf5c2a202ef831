//! Explicit buckets: a histogram that says how many requests took up to 100 ms and how many up to 250 ms, and
//! nothing in between. Only at a bound that both versions have can they be compared, and no value between two
//! bounds is ever made up (`docs/statistics.md`, "Explicit buckets").

use std::sync::Arc;

use super::stratum::QUANTILES;
use crate::histogram::{SparseHistogram, layout};
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};

/// What the keys of a histogram mean; see [`super::Cell::bounds`].
pub(crate) type Bounds = Option<Arc<[f64]>>;

/// Tolerated ratio of the shares above a bound: 1.25 times as many slow requests are "not worse".
pub(crate) const RATIO: f64 = 1.25;
/// Ratio that a PASS must exclude.
pub(crate) const PASS_RATIO: f64 = 2.0;
/// A bound stands for a quantile if the share above it is off by no more than this factor.
const NEAR: f64 = 4.0;

impl Snapshot for Arc<[f64]> {
    fn save(&self, out: &mut Writer) {
        self.to_vec().save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Vec::<f64>::load(from)?.into())
    }
}

/// Whether two bounds are one: the same number, maybe converted from another unit.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// The place of a bound among others.
pub(crate) fn place_of(bound: f64, bounds: &[f64]) -> Option<usize> {
    let at = bounds.partition_point(|&b| b < bound && !same(b, bound));
    bounds.get(at).is_some_and(|&b| same(b, bound)).then_some(at)
}

/// The bounds that both have. A log grid and explicit buckets share none.
pub(crate) fn shared(a: &Bounds, b: &Bounds) -> Bounds {
    match (a, b) {
        (None, None) => None,
        (Some(a), Some(b)) if Arc::ptr_eq(a, b) || a == b => Some(Arc::clone(a)),
        (Some(a), Some(b)) => Some(a.iter().copied().filter(|&x| place_of(x, b).is_some()).collect()),
        _ => Some(Arc::new([])),
    }
}

/// The key on `to`, a part of `from`, of what has `key` on `from`. Exact: buckets are only joined.
fn key_onto(key: i16, from: &Bounds, to: &[f64]) -> i16 {
    let upper = from.as_deref().and_then(|from| from.get(usize::try_from(key).ok()?));
    let at = upper.map_or(to.len(), |&upper| to.partition_point(|&b| b < upper && !same(b, upper)));
    i16::try_from(at).unwrap_or(i16::MAX)
}

/// Latencies of `from` in the buckets of `to`, a part of it.
pub(crate) fn onto(latencies: &SparseHistogram, from: &Bounds, to: &Bounds) -> SparseHistogram {
    match to {
        Some(bounds) if from != to => {
            latencies.iter().map(|(key, n)| (key_onto(key, from, bounds), n)).collect()
        }
        _ => latencies.clone(),
    }
}

/// The same for remembered weights.
pub(crate) fn weights_onto<'a>(
    weights: impl Iterator<Item = (i16, f64)> + 'a,
    from: &'a Bounds,
    to: &'a Bounds,
) -> impl Iterator<Item = (i16, f64)> + 'a {
    let part = to.as_deref().filter(|_| from != to);
    weights.map(move |(key, w)| (part.map_or(key, |to| key_onto(key, from, to)), w))
}

/// Latencies on the log grid, for what only needs to know roughly where they lie (settling, displays, the
/// spread of instances): those of a bucket are spread evenly over its logarithm, those of the last one over
/// the octave above the last bound. Never for a test.
pub fn on_grid(latencies: &SparseHistogram, bounds: &[f64]) -> SparseHistogram {
    let bucket = |seconds: f64| i64::from(layout::bucket_of_nanos((seconds.max(0.0) * 1e9) as u64));
    let mut grid = SparseHistogram::default();
    for (key, n) in latencies.iter() {
        let i = usize::from(key.unsigned_abs()).min(bounds.len());
        let Some(upper) = bounds.get(i).copied().or_else(|| bounds.last().map(|last| 2.0 * last)) else {
            continue;
        };
        let lower = if i == 0 { upper / 2.0 } else { bounds[i - 1].max(upper / 1024.0) };
        let (first, last) = (bucket(lower) + 1, bucket(upper));
        let width = (last - first + 1).max(1);
        let below = |j: i64| i64::from(n) * j / width;
        for j in 0..width {
            grid.add((first + j).min(last) as i16, (below(j + 1) - below(j)) as u32);
        }
    }
    grid
}

/// Share of the weight above each bound.
pub(crate) fn exceedances(weights: impl Iterator<Item = (i16, f64)>, bounds: &[f64]) -> Vec<f64> {
    let mut above = vec![0.0; bounds.len()];
    let mut total = 0.0;
    for (key, w) in weights {
        total += w;
        let below = usize::try_from(key).unwrap_or(0).min(bounds.len());
        above[..below].iter_mut().for_each(|a| *a += w);
    }
    if total > 0.0 {
        above.iter_mut().for_each(|a| *a /= total);
    }
    above
}

/// For each of [`QUANTILES`] the bound whose exceedance is nearest to 1 - q in ratio; none where it is off by
/// more than [`NEAR`]. Bounds that half of the requests or more exceed are left out: twice as many, which a
/// PASS must exclude, cannot be.
pub(crate) fn nearest(exceedances: &[f64]) -> [Option<i16>; 4] {
    QUANTILES.map(|q| {
        let off = |e: f64| (e / (1.0 - q)).ln().abs();
        let possible = |e: f64| e > 0.0 && PASS_RATIO * e < 1.0 && off(e) <= NEAR.ln() + 1e-9;
        exceedances
            .iter()
            .enumerate()
            .filter(|(_, e)| possible(**e))
            .min_by(|a, b| off(*a.1).total_cmp(&off(*b.1)))
            .and_then(|(i, _)| i16::try_from(i).ok())
    })
}

/// The highest bound that is lower than bound `at` by `buckets` of the log grid or more.
pub(crate) fn lowered(at: i16, buckets: i32, bounds: &[f64]) -> Option<i16> {
    if buckets <= 0 {
        return Some(at);
    }
    let limit = bounds.get(usize::try_from(at).ok()?)? / (f64::from(buckets) / 32.0).exp2();
    let below = bounds.partition_point(|&b| b <= limit);
    i16::try_from(below.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bounds(list: &[f64]) -> Bounds {
        Some(list.into())
    }

    #[test]
    fn only_shared_bounds_are_compared() {
        let ms = bounds(&[0.0, 5.0, 10.0, 25.0].map(|ms| ms / 1e3));
        let s = bounds(&[0.005, 0.01, 0.02, 0.025, 0.05]);
        assert_eq!(shared(&ms, &s), bounds(&[0.005, 0.01, 0.025]));
        assert_eq!(shared(&ms, &ms), ms);
        assert_eq!(shared(&ms, &None), bounds(&[]));
        assert_eq!(shared(&None, &None), None);
        // Up to 5, 10, 20, 25, 50 ms, and above.
        let latencies: SparseHistogram = (0..6).map(|key| (key, 1 << key)).collect();
        let joined = onto(&latencies, &s, &shared(&ms, &s));
        assert_eq!(joined.iter().collect::<Vec<_>>(), [(0, 1), (1, 2), (2, 4 + 8), (3, 16 + 32)]);
        assert_eq!(onto(&latencies, &s, &bounds(&[])).iter().collect::<Vec<_>>(), [(0, 63)]);
        assert_eq!(onto(&latencies, &s, &s), latencies);
    }

    /// X4: a bound stands for a quantile if the share above it is within a factor of four.
    #[test]
    fn the_nearest_bound_stands_for_a_quantile() {
        for (above, want) in [
            // p50, p75, p95, p99
            (vec![0.9, 0.6, 0.3, 0.06, 0.012], [Some(2), Some(2), Some(3), Some(4)]),
            // Above 60 % nothing can double; 12 % is more than a factor of four from 50 %.
            (vec![0.6, 0.12, 0.001], [None, Some(1), Some(1), None]),
            (vec![0.125, 0.0025], [Some(0), Some(0), Some(0), Some(1)]),
            (vec![0.4], [Some(0), Some(0), None, None]),
            (vec![0.0, 0.0], [None; 4]),
            (vec![], [None; 4]),
        ] {
            assert_eq!(nearest(&above), want, "{above:?}");
        }
    }

    #[test]
    fn unlike_instances_lower_the_baselines_bound() {
        let b = [0.1, 0.25, 0.5, 1.0];
        for (at, buckets, want) in
            [(2, 0, Some(2)), (2, 1, Some(1)), (2, 32, Some(1)), (2, 33, Some(0)), (0, 1, None)]
        {
            assert_eq!(lowered(at, buckets, &b), want, "{at} {buckets}");
        }
    }

    #[test]
    fn x4_the_grid_shows_roughly_where_latencies_lie() {
        let bounds = [0.1, 0.2, 0.4];
        let grid = on_grid(&[(0, 320), (1, 640), (3, 32)].into_iter().collect(), &bounds);
        assert_eq!(grid.total(), 992);
        let seconds = |q: f64| layout::upper_edge_seconds(grid.quantile(q).unwrap());
        assert!((0.07..0.076).contains(&seconds(0.16)), "{}", seconds(0.16));
        assert!((0.14..0.15).contains(&seconds(0.645)), "{}", seconds(0.645));
        assert!((0.4..0.82).contains(&seconds(1.0)), "{}", seconds(1.0));
        assert!(on_grid(&[(0, 5)].into_iter().collect(), &[]).is_empty());
        assert_eq!(on_grid(&[(0, 5)].into_iter().collect(), &[0.0]).total(), 5);
    }

    proptest! {
        /// Joining buckets loses no request, and nothing moves across a bound that is kept.
        #[test]
        fn joining_is_exact(counts in prop::collection::vec(0u32..9, 8), keep in prop::collection::vec(any::<bool>(), 7)) {
            let all: Vec<f64> = (1..8).map(|i| f64::from(i) * 0.1).collect();
            let part: Vec<f64> = all.iter().zip(&keep).filter(|(_, k)| **k).map(|(b, _)| *b).collect();
            let fine: SparseHistogram = counts.iter().enumerate().map(|(i, &n)| (i as i16, n)).collect();
            let (from, to) = (bounds(&all), bounds(&part));
            prop_assert_eq!(shared(&from, &to), to.clone());
            let coarse = onto(&fine, &from, &to);
            prop_assert_eq!(coarse.total(), fine.total());
            for (i, bound) in part.iter().enumerate() {
                let at = place_of(*bound, &all).unwrap();
                prop_assert_eq!(coarse.count_above(i as i32), fine.count_above(at as i32));
            }
            let weights = fine.iter().map(|(key, n)| (key, f64::from(n)));
            let again: Vec<_> = weights_onto(weights, &from, &to).collect();
            prop_assert_eq!(again.iter().map(|w| w.1).sum::<f64>(), fine.total() as f64);
        }
    }
}
