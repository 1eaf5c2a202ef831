//! How different are instances of the same code? A candidate on one or two instances may be worse only
//! because of where it runs. The spread between the baseline's instances widens the margins accordingly
//! (`docs/statistics.md`, "Pod heterogeneity").

use super::input::InstanceCounts;
use super::timing::Timing;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Instances remembered per version; those silent for longest make room.
const CAPACITY: usize = 64;
/// Half-life of what an instance showed, seconds.
const HALF_LIFE_S: f64 = 6.0 * 3600.0;
/// An instance without traffic for this long does not count as present.
const PRESENT_S: i64 = 60;
/// 99 % one-sided normal quantile.
const Z: f64 = 2.33;
/// Requests an instance needs before its latency counts.
const MIN_REQUESTS: f64 = 20.0;

#[derive(Debug, Clone, PartialEq, Default)]
struct Instance {
    last: Slot,
    requests: f64,
    bad: f64,
    bucket_sum: f64,
    bucket_squares: f64,
}

snapshot_fields!(Instance { last, requests, bad, bucket_sum, bucket_squares });

/// The instances of one version.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Heterogeneity {
    /// By ordinal, ascending. Flat: most versions have a few, and a tree's node has room for eleven.
    instances: Vec<(u32, Instance)>,
}

snapshot_fields!(Heterogeneity { instances });

/// Spread between instances: of the log error rate, and of the log latency in buckets.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Spread {
    pub(crate) errors: f64,
    pub(crate) latency_buckets: f64,
}

snapshot_fields!(Spread { errors, latency_buckets });

impl Heterogeneity {
    pub(crate) fn add(&mut self, t: Slot, counts: &[InstanceCounts]) {
        for c in counts {
            let instance = self.instance(c.ordinal, t);
            let keep = 0.5f64.powf((t - instance.last) as f64 / HALF_LIFE_S);
            instance.last = t;
            instance.requests = instance.requests * keep + c.requests as f64;
            instance.bad = instance.bad * keep + c.bad as f64;
            instance.bucket_sum = instance.bucket_sum * keep + c.bucket_sum as f64;
            instance.bucket_squares = instance.bucket_squares * keep + c.bucket_squares as f64;
        }
    }

    /// The entry of an instance; a new one takes the place of the one that is silent for longest when full.
    fn instance(&mut self, ordinal: u32, t: Slot) -> &mut Instance {
        let at = self.instances.binary_search_by_key(&ordinal, |i| i.0).unwrap_or_else(|_| {
            if self.instances.len() >= CAPACITY {
                let oldest = self.instances.iter().enumerate().min_by_key(|(_, (_, i))| i.last);
                oldest.map(|(at, _)| at).map(|at| self.instances.remove(at));
            } else if self.instances.len() == self.instances.capacity() {
                self.instances.reserve_exact(self.instances.len() / 2 + 1);
            }
            let place = self.instances.partition_point(|i| i.0 < ordinal);
            self.instances.insert(place, (ordinal, Instance { last: t, ..Instance::default() }));
            place
        });
        &mut self.instances[at].1
    }

    fn all(&self) -> impl Iterator<Item = &Instance> + Clone {
        self.instances.iter().map(|(_, instance)| instance)
    }

    /// Instances with traffic in the minute before slot `t`, in two slots at least.
    pub(crate) fn present(&self, t: Slot, timing: Timing) -> usize {
        let since = t - timing.at_least(PRESENT_S, 2);
        self.all().filter(|i| i.last >= since && i.last < t).count()
    }

    /// Spread between instances, sampling noise taken off (method of moments); `phi` is the dispersion of
    /// the errors.
    pub(crate) fn spread(&self, phi: f64) -> Spread {
        Spread { errors: self.error_spread(phi), latency_buckets: self.latency_spread() }
    }

    fn error_spread(&self, phi: f64) -> f64 {
        let all = self.all();
        let (requests, bad) = all.clone().fold((0.0, 0.0), |s, i| (s.0 + i.requests, s.1 + i.bad));
        if bad <= 0.0 || self.instances.len() < 2 {
            return 0.0;
        }
        let (excess, expected) = all.fold((0.0, 0.0), |s, i| {
            let e = i.requests * bad / requests;
            (s.0 + (i.bad - e).powi(2) - phi * i.bad, s.1 + e * e)
        });
        (excess / expected).max(0.0).sqrt()
    }

    /// The mean of log latency stands for the median: its sampling noise is known without a histogram.
    fn latency_spread(&self) -> f64 {
        let means: Vec<(f64, f64)> = self
            .all()
            .filter(|i| i.requests >= MIN_REQUESTS)
            .map(|i| {
                let mean = i.bucket_sum / i.requests;
                (mean, (i.bucket_squares / i.requests - mean * mean).max(0.0) / i.requests)
            })
            .collect();
        if means.len() < 2 {
            return 0.0;
        }
        let n = means.len() as f64;
        let centre = means.iter().map(|m| m.0).sum::<f64>() / n;
        let between = means.iter().map(|m| (m.0 - centre).powi(2)).sum::<f64>() / (n - 1.0);
        let noise = means.iter().map(|m| m.1).sum::<f64>() / n;
        (between - noise).max(0.0).sqrt()
    }
}

impl Spread {
    /// Factor on the tolerated error ratio, and buckets added to the latency margin, for so many instances.
    pub(crate) fn margins(&self, candidate: usize, baseline: usize) -> (f64, i32) {
        if candidate == 0 || baseline == 0 {
            return (1.0, 0);
        }
        let width = Z * (1.0 / candidate as f64 + 1.0 / baseline as f64).sqrt();
        ((width * self.errors).exp(), (width * self.latency_buckets).ceil() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(ordinal: u32, requests: u64, bad: u64, mean: i64) -> InstanceCounts {
        let n = requests as i64;
        InstanceCounts {
            ordinal,
            requests,
            bad,
            bucket_sum: mean * n,
            bucket_squares: (mean * mean + 100) * n,
        }
    }

    #[test]
    fn alike_instances_have_no_spread_and_unlike_ones_do() {
        let mut alike = Heterogeneity::default();
        alike.add(0, &[one(0, 10_000, 100, -100), one(1, 10_000, 100, -100)]);
        assert_eq!(alike.spread(1.0), Spread::default());
        assert_eq!(alike.spread(1.0).margins(1, 2), (1.0, 0));
        let mut unlike = Heterogeneity::default();
        unlike.add(0, &[one(0, 10_000, 50, -104), one(1, 10_000, 150, -96)]);
        let spread = unlike.spread(1.0);
        assert!((0.45..0.55).contains(&spread.errors), "{spread:?}");
        assert!((5.0..6.0).contains(&spread.latency_buckets), "{spread:?}");
        assert!(spread.margins(1, 2).0 > spread.margins(4, 4).0);
        assert_eq!(spread.margins(0, 2), (1.0, 0));
    }

    #[test]
    fn the_table_is_capped_and_presence_ends() {
        let mut h = Heterogeneity::default();
        for i in 0..200 {
            h.add(i64::from(i), &[one(i, 10, 0, 0)]);
        }
        assert_eq!(h.instances.len(), CAPACITY);
        let present = |t| h.present(t, Timing::default());
        assert_eq!((present(200), present(229), present(400)), (60, 31, 0));
    }
}
