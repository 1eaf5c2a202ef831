//! What one cell of a slot holds: counts, sampling weights and a latency histogram. A cell is one operation
//! of one version in one second, split by what it may be compared with.

use crate::histogram::SparseHistogram;
use crate::model::snapshot::snapshot_fields;
use crate::model::{Observation, Outcome, StatusSource};

/// Observations of a cell beyond which its histogram becomes an array until the slot closes.
const DENSE_FROM: u64 = 256;
/// Room left on both sides of the used range when an array grows, in buckets.
const DENSE_MARGIN: i16 = 16;

/// Counts of a cell. All are raw spans, but for the weights.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Spans.
    pub n: u64,
    /// Failed ones.
    pub bad: u64,
    /// Refused as the client's fault; good for availability.
    pub client: u64,
    /// Spans that carried an HTTP or RPC status code.
    pub with_status: u64,
    /// Spans whose sampling weight came with them; the others count as weight 1.
    pub weighted: u64,
    /// Sum of weights.
    pub weight: f64,
    /// Sum of squared weights.
    pub weight_squared: f64,
    /// Failed spans among `weighted`, and the sum of their weights: whether sampling depends on the outcome.
    pub weighted_bad: u64,
    /// See `weighted_bad`.
    pub weight_bad: f64,
}

snapshot_fields!(Counts {
    n,
    bad,
    client,
    with_status,
    weighted,
    weight,
    weight_squared,
    weighted_bad,
    weight_bad
});

impl Counts {
    fn record(&mut self, o: &Observation) {
        self.n += 1;
        self.bad += u64::from(o.outcome == Outcome::Bad);
        self.client += u64::from(o.outcome == Outcome::ClientError);
        self.with_status += u64::from(o.status == StatusSource::Code);
        self.weighted += u64::from(o.weight_known);
        self.weight += f64::from(o.weight);
        self.weight_squared += f64::from(o.weight) * f64::from(o.weight);
        if o.weight_known && o.outcome == Outcome::Bad {
            self.weighted_bad += 1;
            self.weight_bad += f64::from(o.weight);
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.n += other.n;
        self.bad += other.bad;
        self.client += other.client;
        self.with_status += other.with_status;
        self.weighted += other.weighted;
        self.weight += other.weight;
        self.weight_squared += other.weight_squared;
        self.weighted_bad += other.weighted_bad;
        self.weight_bad += other.weight_bad;
    }
}

/// A closed cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    /// How many, and how they ended.
    pub counts: Counts,
    /// How long they took.
    pub latency: SparseHistogram,
}

snapshot_fields!(Cell { counts, latency });

impl Cell {
    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.latency.merge(&other.latency);
    }
}

/// A cell that still grows.
#[derive(Debug, Default)]
pub(super) struct OpenCell {
    counts: Counts,
    latency: OpenHistogram,
}

impl OpenCell {
    pub(super) fn record(&mut self, o: &Observation) {
        self.counts.record(o);
        if self.counts.n == DENSE_FROM {
            self.latency.make_dense();
        }
        self.latency.record(o.bucket);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match &self.latency {
            OpenHistogram::Sparse(sparse) => sparse.heap_bytes(),
            OpenHistogram::Dense { counts, .. } => counts.capacity() * size_of::<u32>(),
        }
    }

    pub(super) fn close(self) -> Cell {
        Cell { counts: self.counts, latency: self.latency.close() }
    }
}

/// Sparse while small; an array over the used range once busy, where counting is one addition.
#[derive(Debug)]
enum OpenHistogram {
    Sparse(SparseHistogram),
    Dense { lowest: i16, counts: Vec<u32> },
}

impl Default for OpenHistogram {
    fn default() -> Self {
        Self::Sparse(SparseHistogram::default())
    }
}

impl OpenHistogram {
    fn record(&mut self, bucket: i16) {
        match self {
            Self::Sparse(sparse) => sparse.record(bucket),
            Self::Dense { lowest, counts } => {
                let at = usize::try_from(i32::from(bucket) - i32::from(*lowest));
                if let Some(count) = at.ok().and_then(|at| counts.get_mut(at)) {
                    *count = count.saturating_add(1);
                } else {
                    widen(lowest, counts, bucket);
                    counts[(bucket - *lowest) as usize] += 1;
                }
            }
        }
    }

    fn make_dense(&mut self) {
        let Self::Sparse(sparse) = self else { return };
        let (Some((first, _)), Some((last, _))) = (sparse.iter().next(), sparse.iter().next_back()) else {
            return;
        };
        let lowest = first - DENSE_MARGIN;
        let mut counts = vec![0; (last + DENSE_MARGIN - lowest + 1) as usize];
        sparse.iter().for_each(|(bucket, n)| counts[(bucket - lowest) as usize] = n);
        *self = Self::Dense { lowest, counts };
    }

    fn close(self) -> SparseHistogram {
        match self {
            Self::Sparse(sparse) => sparse,
            Self::Dense { lowest, counts } => {
                let used = counts.iter().enumerate().filter(|(_, n)| **n > 0);
                used.map(|(at, n)| (lowest + at as i16, *n)).collect()
            }
        }
    }
}

/// Makes an array reach `bucket`, on either side.
fn widen(lowest: &mut i16, counts: &mut Vec<u32>, bucket: i16) {
    if bucket < *lowest {
        let new_lowest = bucket - DENSE_MARGIN;
        let more = (*lowest - new_lowest) as usize;
        counts.splice(0..0, std::iter::repeat_n(0, more));
        *lowest = new_lowest;
    } else {
        counts.resize((bucket - *lowest + DENSE_MARGIN) as usize, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dense_equals_sparse(first in prop::collection::vec(-640i16..=480, 1..60),
                               then in prop::collection::vec(-640i16..=480, 0..60)) {
            let mut open = OpenHistogram::default();
            first.iter().for_each(|b| open.record(*b));
            open.make_dense();
            then.iter().for_each(|b| open.record(*b));
            let sparse: SparseHistogram = first.iter().chain(&then).map(|b| (*b, 1)).collect();
            prop_assert_eq!(open.close(), sparse);
        }
    }
}
