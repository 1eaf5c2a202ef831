//! The remembered histogram: every second with traffic makes what was there before count a little less. The
//! factor is applied when the histogram is touched, not each second, so thousands of quiet operations cost
//! nothing.

use crate::histogram::{SparseHistogram, growth};
use crate::model::snapshot::snapshot_fields;

/// Factor per second of slots in which the baseline had traffic: half-life 20 minutes.
pub(crate) const DECAY: f64 = 0.99944;

/// Decayed weights per bucket, ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct DecayedHistogram {
    buckets: Vec<i16>,
    weights: Vec<f64>,
    /// Seconds of traffic up to which the weights are decayed.
    at: u64,
}

snapshot_fields!(DecayedHistogram { buckets, weights, at });

impl DecayedHistogram {
    /// Adds a slot; `now` counts the seconds of the baseline's slots with traffic, this one included.
    pub(crate) fn add(&mut self, now: u64, latencies: &SparseHistogram) {
        let factor = self.factor(now);
        self.at = now;
        self.weights.iter_mut().for_each(|w| *w *= factor);
        for (bucket, n) in latencies.iter() {
            match self.buckets.binary_search(&bucket) {
                Ok(i) => self.weights[i] += f64::from(n),
                Err(i) => {
                    if self.buckets.len() == self.buckets.capacity() {
                        let more = growth(self.buckets.len());
                        self.buckets.reserve_exact(more);
                        self.weights.reserve_exact(more);
                    }
                    self.buckets.insert(i, bucket);
                    self.weights.insert(i, f64::from(n));
                }
            }
        }
    }

    /// Weight in all, as of second of traffic `now`.
    pub(crate) fn total(&self, now: u64) -> f64 {
        self.weights.iter().sum::<f64>() * self.factor(now)
    }

    /// Weight above `bucket`.
    pub(crate) fn above(&self, now: u64, bucket: i16) -> f64 {
        let first = self.buckets.partition_point(|&b| b <= bucket);
        self.weights[first..].iter().sum::<f64>() * self.factor(now)
    }

    /// Buckets and weights, ascending.
    pub(crate) fn iter(&self, now: u64) -> impl Iterator<Item = (i16, f64)> + Clone + '_ {
        let factor = self.factor(now);
        self.buckets.iter().zip(&self.weights).map(move |(&b, &w)| (b, w * factor))
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<i16>() + self.weights.capacity() * size_of::<f64>()
    }

    fn factor(&self, now: u64) -> f64 {
        let seconds = now.saturating_sub(self.at);
        if seconds == 0 { 1.0 } else { DECAY.powf(seconds as f64) }
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
}
