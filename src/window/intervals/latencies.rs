//! Latencies of an open interval as they came, each division of buckets by itself: in which of them they are compared
//! is known when the interval closes.

use std::sync::Arc;

use super::{Addition, COUNT_MAX, capped, small};
use crate::histogram::exponential::{grid_bucket, unit_shift};
use crate::histogram::{Form, Ruler, SparseHistogram};
use crate::model::{BoundsId, Shape};

/// Latencies as they came, by division. Nearly always there is one.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// By scale, ascending: indices in seconds, ascending, and their counts.
    exponential: Vec<(i8, Vec<(i32, u64)>)>,
    /// By bounds, ascending.
    explicit: Vec<Explicit>,
    /// About 0, or not known.
    lowest: u64,
}

/// Counts of explicit buckets.
#[derive(Debug)]
struct Explicit {
    id: BoundsId,
    bounds: Arc<[f64]>,
    counts: Vec<u64>,
}

impl Latencies {
    pub(super) fn add(&mut self, a: &Addition<'_>) {
        match (a.shape, a.bounds) {
            (Shape::Exponential { scale, zero, .. }, _) => {
                capped(&mut self.lowest, zero);
                let first = first_in_seconds(a);
                let index = |at| (first + at as i64).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
                let counts = a.counts.iter().enumerate().filter(|(_, n)| **n > 0);
                add_ascending(self.of_scale(scale), counts.map(|(at, n)| (index(at), *n)));
            }
            (Shape::Explicit(id), Some(bounds)) => {
                let sums = self.of_bounds(id, bounds, a.counts.len());
                sums.iter_mut().zip(a.counts).for_each(|(sum, n)| capped(sum, *n));
            }
            _ => capped(&mut self.lowest, a.count),
        }
    }

    fn of_scale(&mut self, scale: i8) -> &mut Vec<(i32, u64)> {
        let at = self.exponential.iter().take_while(|(known, _)| *known < scale).count();
        if self.exponential.get(at).is_none_or(|(known, _)| *known != scale) {
            self.exponential.insert(at, (scale, Vec::new()));
        }
        &mut self.exponential[at].1
    }

    fn of_bounds(&mut self, id: BoundsId, bounds: &Arc<[f64]>, buckets: usize) -> &mut [u64] {
        let at = self.explicit.iter().take_while(|known| known.id < id).count();
        if self.explicit.get(at).is_none_or(|known| known.id != id) {
            let fresh = Explicit { id, bounds: Arc::clone(bounds), counts: vec![0; buckets] };
            self.explicit.insert(at, fresh);
        }
        &mut self.explicit[at].counts
    }

    /// Takes the divisions that occur into account.
    pub(super) fn admit(&self, form: &mut Form, margin: i32) -> bool {
        let mut changed = false;
        for (scale, _) in &self.exponential {
            changed |= form.admit(Ruler::Exponential(*scale), margin);
        }
        for Explicit { bounds, .. } in &self.explicit {
            changed |= form.admit(Ruler::Explicit(bounds), margin);
        }
        changed
    }

    pub(super) fn in_form(&self, form: &Form) -> SparseHistogram {
        let exponential = self.exponential.iter().flat_map(|(scale, sums)| {
            sums.iter().map(|(index, n)| (form.of_exponential(*scale, i64::from(*index)), small(*n)))
        });
        let explicit = self.explicit.iter().flat_map(|Explicit { bounds, counts, .. }| {
            counts.iter().enumerate().map(move |(at, n)| (form.of_explicit(bounds, at), small(*n)))
        });
        exponential.chain(explicit).chain([(form.lowest(), small(self.lowest))]).collect()
    }

    /// Sum of the buckets of the grid, and of their squares: mean and spread of log latency. The middle of an explicit
    /// bucket stands for what is in it: instances are told apart by large factors.
    pub(super) fn grid_sums(&self) -> (i64, i64) {
        let exponential = self.exponential.iter().flat_map(|(scale, sums)| {
            sums.iter().map(|(index, n)| (grid_bucket(*scale, i64::from(*index)), *n))
        });
        let explicit = self.explicit.iter().flat_map(|Explicit { bounds, counts, .. }| {
            let form = Form::Bounds(Arc::clone(bounds));
            let occupied = counts.iter().enumerate().filter(|(_, n)| **n > 0);
            occupied.map(move |(at, n)| (form.grid_of(at as i16), *n))
        });
        exponential.chain(explicit).fold((0, 0), |(sum, squares), (bucket, n)| {
            let (bucket, n) = (i64::from(bucket), n.cast_signed());
            let sum = bucket.saturating_mul(n).saturating_add(sum);
            (sum, (bucket * bucket).saturating_mul(n).saturating_add(squares))
        })
    }

    /// How many took longer than so many seconds; `None` where it cannot be told: they are no bound of explicit
    /// buckets, or exponential ones are coarser than `scale`.
    pub(super) fn longer_than(&self, seconds: f64, scale: i8) -> Option<u64> {
        let mut longer = 0;
        for Explicit { bounds, counts, .. } in &self.explicit {
            let at = bounds.iter().position(|bound| (bound - seconds).abs() <= 1e-9 * seconds)?;
            longer += counts.iter().skip(at + 1).sum::<u64>();
        }
        // The first bound of the scale that is not below the threshold, the same at any finer scale.
        let octave = f64::from(scale).exp2();
        let from = (seconds.log2() * octave - 1e-9).ceil() as i32;
        for (own, sums) in &self.exponential {
            let shift = u32::try_from(own - scale).ok()?;
            longer += sums.iter().filter(|(index, _)| index >> shift >= from).map(|(_, n)| *n).sum::<u64>();
        }
        Some(longer)
    }

    /// Bytes on the heap, nearly.
    pub(super) fn heap_bytes(&self) -> usize {
        let exponential = self.exponential.iter().map(|(_, sums)| sums.capacity() * 16 + 32);
        let explicit = self.explicit.iter().map(|known| known.counts.capacity() * 8 + size_of::<Explicit>());
        exponential.sum::<usize>() + explicit.sum::<usize>()
    }
}

/// The index of the first exponential bucket as if its unit were seconds.
fn first_in_seconds(a: &Addition<'_>) -> i64 {
    let Shape::Exponential { scale, offset, .. } = a.shape else { return 0 };
    i64::from(offset) - unit_shift(scale, a.stream.unit.per_second())
}

/// Adds counts of ascending indices to others.
fn add_ascending(sums: &mut Vec<(i32, u64)>, counts: impl Iterator<Item = (i32, u64)>) {
    let mut at = 0;
    for (index, n) in counts {
        at += sums[at..].iter().take_while(|(own, _)| *own < index).count();
        match sums.get_mut(at) {
            Some((own, sum)) if *own == index => capped(sum, n),
            _ => sums.insert(at, (index, n.min(COUNT_MAX))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(bounds: &[f64], counts: &[u64]) -> Latencies {
        let explicit = Explicit { id: BoundsId(1), bounds: Arc::from(bounds), counts: counts.to_vec() };
        Latencies { explicit: vec![explicit], ..Latencies::default() }
    }

    fn exponential(scale: i8, sums: &[(i32, u64)]) -> Latencies {
        Latencies { exponential: vec![(scale, sums.to_vec())], ..Latencies::default() }
    }

    #[test]
    fn a_threshold_is_a_bound_or_nothing_is_told() {
        let buckets = explicit(&[0.1, 0.25, 0.5], &[5, 4, 3, 2]);
        assert_eq!(buckets.longer_than(0.25, 3), Some(5));
        assert_eq!(buckets.longer_than(0.5, 3), Some(2));
        assert_eq!(buckets.longer_than(0.3, 3), None);
        // 0.25 s is 2^-2: index -16 of scale 3 holds what is above it, -17 what is not.
        assert_eq!(exponential(3, &[(-17, 7), (-16, 2), (-8, 1)]).longer_than(0.25, 3), Some(3));
        assert_eq!(exponential(5, &[(-65, 7), (-64, 2), (-32, 1)]).longer_than(0.25, 3), Some(3));
        assert_eq!(exponential(2, &[(0, 1)]).longer_than(0.25, 3), None);
        // 0.26 s is held at the next bound, 2^(-15/8) = 0.273 s, at whatever scale.
        assert_eq!(exponential(3, &[(-16, 2), (-15, 1)]).longer_than(0.26, 3), Some(1));
        assert_eq!(exponential(4, &[(-32, 1), (-31, 1), (-30, 1)]).longer_than(0.26, 3), Some(1));
        assert_eq!(Latencies::default().longer_than(0.26, 3), Some(0));
    }
}
