//! A histogram that stores only the buckets that were hit, sorted by bucket: what a closed slot, a window and
//! a message keep. Merging and subtracting are exact.

use crate::model::snapshot::snapshot_fields;

/// Counts per bucket of [`super::layout`], sparse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SparseHistogram {
    counts: Vec<(i16, u32)>,
}

snapshot_fields!(SparseHistogram { counts });

impl SparseHistogram {
    /// Counts one value.
    pub fn record(&mut self, bucket: i16) {
        self.add(bucket, 1);
    }

    /// Counts `n` values of one bucket.
    pub fn add(&mut self, bucket: i16, n: u32) {
        // What comes in order goes to the end.
        if n > 0 && self.counts.last().is_none_or(|last| last.0 < bucket) {
            self.grow(1);
            self.counts.push((bucket, n));
            return;
        }
        match self.counts.binary_search_by_key(&bucket, |c| c.0) {
            Ok(i) => self.counts[i].1 = self.counts[i].1.saturating_add(n),
            Err(i) if n > 0 => {
                self.grow(1);
                self.counts.insert(i, (bucket, n));
            }
            Err(_) => {}
        }
    }

    /// Takes back `n` values of one bucket that were counted before.
    pub fn subtract(&mut self, bucket: i16, n: u32) {
        if let Ok(i) = self.counts.binary_search_by_key(&bucket, |c| c.0) {
            self.counts[i].1 = self.counts[i].1.saturating_sub(n);
            if self.counts[i].1 == 0 {
                self.counts.remove(i);
            }
        }
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
            return;
        }
        let (mut at, mut missing) = (0, 0);
        for &(bucket, n) in &other.counts {
            at += self.counts.iter().skip(at).take_while(|mine| mine.0 < bucket).count();
            match self.counts.get_mut(at) {
                Some(mine) if mine.0 == bucket => mine.1 = mine.1.saturating_add(n),
                _ => missing += 1,
            }
        }
        if missing > 0 {
            self.insert_missing(other, missing);
        }
    }

    /// Puts in the buckets of `other` that are not here, `missing` in number: from the end, so that each entry is
    /// moved once.
    fn insert_missing(&mut self, other: &Self, missing: usize) {
        let mut from = self.counts.len();
        self.grow(missing);
        self.counts.resize(from + missing, (0, 0));
        let mut to = self.counts.len();
        for &theirs in other.counts.iter().rev() {
            while from > 0 && self.counts[from - 1].0 > theirs.0 {
                (from, to) = (from - 1, to - 1);
                self.counts[to] = self.counts[from];
            }
            if from > 0 && self.counts[from - 1].0 == theirs.0 {
                continue;
            }
            to -= 1;
            self.counts[to] = theirs;
            if to == from {
                break;
            }
        }
    }

    /// Makes room for `more` entries: by a quarter, not doubled, for a fleet has a hundred thousand of these.
    fn grow(&mut self, more: usize) {
        if self.counts.capacity() - self.counts.len() < more {
            self.counts.reserve_exact(more.max(self.counts.len() / 4 + 4));
        }
    }

    /// The sum of many counts in any order.
    pub fn sum_of(counts: impl Iterator<Item = (i16, u32)> + Clone) -> Self {
        // One loop: the iterator's own `min` and `max` call a function for each of them.
        let (low, high) =
            counts.clone().fold((i16::MAX, i16::MIN), |(low, high), c| (low.min(c.0), high.max(c.0)));
        if low > high {
            return Self::default();
        }
        let mut dense = vec![0u32; usize::from(high.abs_diff(low)) + 1];
        for (bucket, n) in counts {
            let sum = &mut dense[usize::from(bucket.abs_diff(low))];
            *sum = sum.saturating_add(n);
        }
        (low..=high).zip(dense).filter(|c| c.1 > 0).collect()
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|c| u64::from(c.1)).sum()
    }

    /// Values in buckets above `bucket`.
    pub fn count_above(&self, bucket: i32) -> u64 {
        self.counts.iter().rev().take_while(|c| i32::from(c.0) > bucket).map(|c| u64::from(c.1)).sum()
    }

    /// The first bucket at which the cumulative count reaches `q` of the total; `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<i16> {
        quantile(self.counts.iter().map(|&(bucket, n)| (bucket, f64::from(n))), self.total() as f64, q)
    }

    /// Buckets and counts in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (i16, u32)> + Clone + '_ {
        self.counts.iter().copied()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<(i16, u32)>()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

impl FromIterator<(i16, u32)> for SparseHistogram {
    fn from_iter<I: IntoIterator<Item = (i16, u32)>>(counts: I) -> Self {
        let mut histogram = Self::default();
        counts.into_iter().for_each(|(bucket, n)| histogram.add(bucket, n));
        histogram
    }
}

/// The first bucket at which the cumulative weight reaches `q * total`, from ascending `(bucket, weight)`
/// pairs. The slack absorbs rounding of `q * total`, so that for example p95 of 20 values is the 19th.
pub fn quantile(ascending: impl Iterator<Item = (i16, f64)>, total: f64, q: f64) -> Option<i16> {
    const SLACK: f64 = 1e-9;
    let (mut below, mut last) = (0.0, None);
    for (bucket, weight) in ascending {
        below += weight;
        last = Some(bucket);
        if below >= q * total - SLACK {
            break;
        }
    }
    last
}

/// Room to be made by a list of `len` entries that is full: in few and large steps. Ten thousands of lists
/// grow at the same pace, and each size that they pass through leaves memory behind that is hard to reuse.
pub fn growth(len: usize) -> usize {
    match len {
        0..12 => 12 - len,
        12..48 => 48 - len,
        48..128 => 128 - len,
        _ => len / 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantile_is_the_first_bucket_that_reaches_the_share() {
        let h: SparseHistogram = (0..20).map(|b| (b, 1)).collect();
        assert_eq!([0.0, 0.5, 0.95, 0.99, 1.0].map(|q| h.quantile(q).unwrap()), [0, 9, 18, 19, 19]);
        assert_eq!(SparseHistogram::default().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn merging_is_adding_one_by_one(a in prop::collection::vec((-30i16..30, 1u32..9), 0..40),
                                        b in prop::collection::vec((-30i16..30, 1u32..9), 0..40)) {
            let (mut a, b): (SparseHistogram, SparseHistogram) = (a.into_iter().collect(), b.into_iter().collect());
            let mut one_by_one = a.clone();
            b.iter().for_each(|(bucket, n)| one_by_one.add(bucket, n));
            a.merge(&b);
            prop_assert!(a.iter().is_sorted_by(|x, y| x.0 < y.0), "{:?}", a);
            prop_assert_eq!(&a, &one_by_one);
            prop_assert_eq!(SparseHistogram::sum_of(b.iter().chain(a.iter())), {
                b.iter().for_each(|(bucket, n)| one_by_one.add(bucket, n));
                one_by_one
            });
        }

        #[test]
        fn merge_then_subtract_is_identity(a in prop::collection::vec((-640i16..480, 1u32..9), 0..40),
                                           b in prop::collection::vec((-640i16..480, 1u32..9), 0..40)) {
            let (a, b): (SparseHistogram, SparseHistogram) = (a.into_iter().collect(), b.into_iter().collect());
            let mut sum = a.clone();
            sum.merge(&b);
            prop_assert_eq!(sum.total(), a.total() + b.total());
            b.iter().for_each(|(bucket, n)| sum.subtract(bucket, n));
            prop_assert_eq!(sum, a);
        }
    }
}
