//! The remembered histogram: every second with traffic makes what was there before count a little less. The
//! factor is applied when the histogram is touched, not each second, so thousands of quiet operations cost
//! nothing. Weights lie in runs of sixteen buckets, half an octave, all of one size: ten thousand versions learn
//! in step, and lists that grew with them would leave the allocator a trail of sizes that nothing else fits.

use crate::histogram::SparseHistogram;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer};

/// Factor per second of slots in which the baseline had traffic: half-life 20 minutes.
pub(crate) const DECAY: f64 = 0.99944;

/// Buckets in a run.
const RUN: usize = 16;

/// Decayed weights per bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct DecayedHistogram {
    /// Ascending.
    runs: Vec<Run>,
    /// Seconds of traffic up to which the weights are decayed.
    at: u64,
}

/// The weights of [`RUN`] buckets beside each other; zero where nothing was seen.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    first: i16,
    weights: Box<[f64; RUN]>,
}

impl Run {
    fn iter(&self) -> impl Iterator<Item = (i16, f64)> + Clone + '_ {
        let weights = self.weights.iter().enumerate().map(|(i, weight)| (self.first + i as i16, *weight));
        weights.filter(|&(_, weight)| weight > 0.0)
    }
}

impl DecayedHistogram {
    /// Adds a slot; `now` counts the seconds of the baseline's slots with traffic, this one included.
    pub(crate) fn add(&mut self, now: u64, latencies: &SparseHistogram) {
        let factor = self.factor(now);
        self.at = now;
        self.runs.iter_mut().flat_map(|run| run.weights.iter_mut()).for_each(|weight| *weight *= factor);
        for (bucket, n) in latencies.iter() {
            *self.weight(bucket) += f64::from(n);
        }
    }

    /// Weight in all, as of second of traffic `now`.
    pub(crate) fn total(&self, now: u64) -> f64 {
        self.weights().map(|(_, weight)| weight).sum::<f64>() * self.factor(now)
    }

    /// Weight above `bucket`.
    pub(crate) fn above(&self, now: u64, bucket: i16) -> f64 {
        let first = self.runs.partition_point(|run| run.first < start_of_run(bucket));
        let weights = self.runs[first..].iter().flat_map(Run::iter);
        weights.skip_while(|&(b, _)| b <= bucket).map(|(_, weight)| weight).sum::<f64>() * self.factor(now)
    }

    /// Buckets and weights, ascending.
    pub(crate) fn iter(&self, now: u64) -> impl Iterator<Item = (i16, f64)> + Clone + '_ {
        let factor = self.factor(now);
        self.weights().map(move |(bucket, weight)| (bucket, weight * factor))
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>() + self.runs.len() * size_of::<[f64; RUN]>()
    }

    /// As of the last slot that was added.
    fn weights(&self) -> impl Iterator<Item = (i16, f64)> + Clone + '_ {
        self.runs.iter().flat_map(Run::iter)
    }

    fn weight(&mut self, bucket: i16) -> &mut f64 {
        let first = start_of_run(bucket);
        let i = self.runs.binary_search_by_key(&first, |run| run.first).unwrap_or_else(|i| {
            self.runs.reserve_exact(1);
            self.runs.insert(i, Run { first, weights: Box::new([0.0; RUN]) });
            i
        });
        &mut self.runs[i].weights[usize::from(bucket.abs_diff(first))]
    }

    fn factor(&self, now: u64) -> f64 {
        let seconds = now.saturating_sub(self.at);
        if seconds == 0 { 1.0 } else { DECAY.powf(seconds as f64) }
    }
}

const fn start_of_run(bucket: i16) -> i16 {
    bucket - bucket.rem_euclid(RUN as i16)
}

/// Written as buckets, then weights: an empty bucket takes no place.
impl Snapshot for DecayedHistogram {
    fn save(&self, out: &mut Writer) {
        let (buckets, weights): (Vec<i16>, Vec<f64>) = self.weights().unzip();
        buckets.save(out);
        weights.save(out);
        self.at.save(out);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let (buckets, weights) = (Vec::<i16>::load(from)?, Vec::<f64>::load(from)?);
        let mut loaded = Self { runs: Vec::new(), at: u64::load(from)? };
        if buckets.len() != weights.len() {
            return Err(Corrupt::Body);
        }
        for (bucket, weight) in buckets.into_iter().zip(weights) {
            *loaded.weight(bucket) = weight;
        }
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lazy_decay_equals_decay_each_slot() {
        let (mut lazy, mut eager) = (DecayedHistogram::default(), [0.0f64; 8]);
        for now in 1..=500u64 {
            eager.iter_mut().for_each(|w| *w *= DECAY);
            if now % 7 == 0 {
                let bucket = (now % 8) as i16;
                lazy.add(now, &[(bucket, 3)].into_iter().collect());
                eager[bucket as usize] += 3.0;
            }
        }
        let total: f64 = eager.iter().sum();
        assert!((lazy.total(500) - total).abs() < 1e-10 * total);
        assert!((lazy.above(500, 3) - eager[4..].iter().sum::<f64>()).abs() < 1e-10 * total);
        assert_eq!(lazy.iter(500).map(|(b, _)| b).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn runs_keep_their_order_on_both_sides_of_a_second() {
        let mut seen = DecayedHistogram::default();
        for (now, bucket) in [(1, 40), (2, -1), (3, -16), (4, 15), (5, 16), (6, -17)] {
            seen.add(now, &[(bucket, 1)].into_iter().collect());
        }
        let buckets: Vec<_> = seen.iter(6).map(|(bucket, _)| bucket).collect();
        assert_eq!(buckets, [-17, -16, -1, 15, 16, 40]);
        for (i, bucket) in buckets.iter().enumerate() {
            let above: f64 = seen.iter(6).skip(i + 1).map(|(_, weight)| weight).sum();
            assert!((seen.above(6, *bucket) - above).abs() < 1e-12, "above {bucket}");
        }
    }

    #[test]
    fn a_snapshot_comes_back_and_one_of_two_lengths_is_refused() {
        let mut seen = DecayedHistogram::default();
        seen.add(1, &[(-3, 2), (90, 1)].into_iter().collect());
        let mut out = Writer::default();
        seen.save(&mut out);
        assert_eq!(DecayedHistogram::load(&mut Reader::new(&out.into_bytes())), Ok(seen));
        let mut out = Writer::default();
        (vec![1i16, 2], vec![1.0f64]).save(&mut out);
        7u64.save(&mut out);
        assert_eq!(DecayedHistogram::load(&mut Reader::new(&out.into_bytes())), Err(Corrupt::Body));
    }
}
