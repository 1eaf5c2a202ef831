//! OTLP's base-2 exponential histograms on the way to the grid of [`super::layout`]. Downscaling by `d` shifts
//! an index right by `d` and is exact (OTLP data model, "Exponential Scale"). A histogram in another unit than
//! seconds has its edges between those of the grid; its indices are shifted by the nearest whole number, which
//! moves every edge by at most half a bucket of its own scale ([`unit_error`] says by how much).

use super::layout::{HIGHEST, LOWEST, SCALE};

/// The finest scale that is kept: the grid's.
pub const FINEST: i8 = SCALE as i8;

/// Brings counts to a scale of [`FINEST`] at most: `counts[i]` belongs to index `offset + i`. Fills `out` and
/// answers its scale and the index of its first count. Leading and trailing zeros are left out.
pub fn downscale(scale: i32, offset: i32, counts: &[u64], out: &mut Vec<u64>) -> (i8, i32) {
    out.clear();
    let kept = scale.clamp(i32::from(i8::MIN), i32::from(FINEST));
    let shift = (scale - kept).clamp(0, 31);
    let first = counts.iter().position(|n| *n > 0).unwrap_or(counts.len());
    let last = counts.iter().rposition(|n| *n > 0).map_or(first, |last| last + 1);
    let index = |i: usize| (i64::from(offset) + i as i64) >> shift;
    let begin = index(first);
    for (i, n) in counts.iter().enumerate().take(last).skip(first) {
        let at = (index(i) - begin) as usize;
        if out.len() <= at {
            out.resize(at + 1, 0);
        }
        out[at] = out[at].saturating_add(*n);
    }
    (kept as i8, begin.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
}

/// By how many indices of a scale values grow when they are taken for seconds and are `per_second` to one.
pub fn unit_shift(scale: i8, per_second: f64) -> i64 {
    exact_shift(scale, per_second).round() as i64
}

/// The relative error that [`unit_shift`] adds to every edge.
pub fn unit_error(scale: i8, per_second: f64) -> f64 {
    let exact = exact_shift(scale, per_second);
    ((exact - exact.round()).abs() / f64::from(scale).exp2()).exp2() - 1.0
}

fn exact_shift(scale: i8, per_second: f64) -> f64 {
    per_second.log2() * f64::from(scale).exp2()
}

/// The bucket of the grid that ends where bucket `index` of a scale of at most [`FINEST`] ends.
pub fn grid_bucket(scale: i8, index: i64) -> i16 {
    let finer = (FINEST - scale).clamp(0, 31);
    let bucket = ((index.clamp(-1 << 30, 1 << 30) + 1) << finer) - 1;
    bucket.clamp(i64::from(LOWEST), i64::from(HIGHEST)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::layout;
    use proptest::prelude::*;

    fn bucket_index(value: f64, scale: i32) -> i64 {
        (value.log2() * f64::from(scale).exp2()).ceil() as i64 - 1
    }

    proptest! {
        /// E1, E2: a value lands in the same bucket whether it was counted fine and downscaled or counted coarse.
        #[test]
        fn e1_e2_downscaling_is_exact(values in prop::collection::vec(1e-5f64..1e4, 1..60), scale in 0..12i32) {
            let indices: Vec<i64> = values.iter().map(|v| bucket_index(*v, scale)).collect();
            let low = *indices.iter().min().unwrap();
            let mut counts = vec![0; (indices.iter().max().unwrap() - low + 1) as usize];
            indices.iter().for_each(|i| counts[(i - low) as usize] += 1);
            let mut out = Vec::new();
            let (kept, offset) = downscale(scale, low as i32, &counts, &mut out);
            prop_assert_eq!(i32::from(kept), scale.min(5));
            prop_assert_eq!(out.iter().sum::<u64>(), values.len() as u64);
            for v in &values {
                let exact = v.log2() * f64::from(kept).exp2();
                prop_assume!((exact - exact.round()).abs() > 1e-9);
                let at = bucket_index(*v, i32::from(kept)) - i64::from(offset);
                prop_assert!(out[at as usize] > 0);
            }
        }

        /// At the grid's own scale and in seconds an index is a bucket.
        #[test]
        fn e1_e4_seconds_at_scale_5_are_the_grid(nanos in 2_000u64..30_000_000_000_000) {
            let exact = (nanos as f64 / 1e9).log2() * 32.0;
            prop_assume!((exact - exact.round()).abs() > 1e-9);
            prop_assert_eq!(grid_bucket(5, exact.ceil() as i64 - 1), layout::bucket_of_nanos(nanos));
        }

        /// M9: milliseconds land within the stated error of the bucket that holds them in seconds.
        #[test]
        fn m9_other_units_are_within_the_stated_error(ms in 0.01f64..1e6, scale in 3i8..=5) {
            let index = bucket_index(ms, i32::from(scale)) - unit_shift(scale, 1e3);
            let upper = layout::upper_edge_seconds(grid_bucket(scale, index));
            let factor = 1.0 + unit_error(scale, 1e3) + 1e-9;
            let width = (1.0 / f64::from(scale).exp2()).exp2();
            prop_assert!(ms / 1e3 <= upper * factor && ms / 1e3 > upper / width / factor);
        }
    }

    #[test]
    fn the_errors_of_units_are_small() {
        for (per_second, percent) in [(1.0, 0.0), (1e3, 0.21), (1e6, 0.42), (1e9, 0.62), (1.0 / 60.0, 0.05)] {
            assert!(
                unit_error(5, per_second) * 100.0 <= percent,
                "{per_second}: {}",
                unit_error(5, per_second)
            );
        }
    }

    #[test]
    fn extremes_stay_on_the_grid() {
        assert_eq!(grid_bucket(5, i64::MAX), HIGHEST);
        assert_eq!(grid_bucket(-10, i64::MIN), LOWEST);
        assert_eq!(grid_bucket(3, 0), 3);
        let mut out = Vec::new();
        assert_eq!(downscale(20, i32::MAX, &[1, 1], &mut out), (5, i32::MAX >> 15));
        assert_eq!(downscale(0, 4, &[0, 0], &mut out).0, 0);
        assert!(out.is_empty());
    }
}
