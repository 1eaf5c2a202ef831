//! When does the comparison of latency begin? Not at a fixed age but when the candidate has stopped getting
//! faster: compilers warm up, caches fill. Looked at every 30 s (two slots, where they are long) from the end
//! of the warm-up on, from slots before the one in hand only; where earlier releases of the service took longer
//! ([`super::warming`]), from then on.

use std::collections::BTreeMap;

use super::timing::Timing;
use crate::histogram::SparseHistogram;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

const WINDOW_S: i64 = 30;
/// Latest begin, seconds after the candidate's first request.
pub(super) const LATEST_S: i64 = 600;
/// Requests each window needs.
const MIN_REQUESTS: u64 = 20;

/// Seconds of what is held against each other.
pub(super) fn window_s(timing: Timing) -> i64 {
    timing.at_least(WINDOW_S, 2)
}

/// Watches the candidate's latency until it has settled.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Settling {
    slots: BTreeMap<Slot, SparseHistogram>,
    /// First slot of the latency processes, once known.
    pub(crate) from: Option<Slot>,
    /// Age before which it does not count as settled: what earlier releases took.
    no_sooner_s: i64,
}

snapshot_fields!(Settling { slots, from, no_sooner_s });

impl Settling {
    /// One that waits for `no_sooner_s` after the first request; not where there is no warm-up.
    pub(crate) fn after(no_sooner_s: i64) -> Self {
        Self { no_sooner_s, ..Self::default() }
    }

    /// Seconds after the first request before which it does not count as settled.
    pub(crate) const fn no_sooner_s(&self) -> i64 {
        self.no_sooner_s
    }

    /// The candidate's latencies of slot `t`.
    pub(crate) fn add(&mut self, t: Slot, latencies: &SparseHistogram, timing: Timing) {
        if self.from.is_none() && !latencies.is_empty() {
            self.slots.insert(t, latencies.clone());
            self.slots = self.slots.split_off(&(t - 4 * window_s(timing)));
        }
    }

    /// Decides in slot `t` whether latency is compared from now on. `first` is the candidate's first slot.
    pub(crate) fn look(&mut self, t: Slot, first: Slot, warmup_s: i64, timing: Timing) {
        let (age, window_s) = (t - first, window_s(timing));
        let least_s = if warmup_s == 0 { 0 } else { warmup_s.max(self.no_sooner_s) };
        if self.from.is_some() || age < least_s {
            return;
        }
        let settled = warmup_s == 0
            || age >= LATEST_S
            || (age % window_s == 0 && !self.still_falling(t, age, window_s));
        if settled {
            self.from = Some(t);
            self.slots.clear();
        }
    }

    fn still_falling(&self, t: Slot, age: i64, window_s: i64) -> bool {
        let last = self.over(t - window_s, t);
        [window_s, 2 * window_s]
            .into_iter()
            .filter(|lag| age >= lag + window_s)
            .any(|lag| falling(&last, &self.over(t - window_s - lag, t - lag)))
    }

    fn over(&self, from: Slot, to: Slot) -> SparseHistogram {
        let mut sum = SparseHistogram::default();
        self.slots.range(from..to).for_each(|(_, h)| sum.merge(h));
        sum
    }
}

/// Whether the median fell by more than one bucket (2.2 %) and by more than half a standard error.
fn falling(last: &SparseHistogram, before: &SparseHistogram) -> bool {
    let (n, m) = (last.total(), before.total());
    if n.min(m) < MIN_REQUESTS {
        return false;
    }
    let drop = position(before, 0.5) - position(last, 0.5);
    let spread = (position(last, 0.84) - position(last, 0.16)) / 2.0;
    let error = 1.25 * spread * (1.0 / n as f64 + 1.0 / m as f64).sqrt();
    drop > 1.0 && drop > 0.5 * error
}

/// A quantile in buckets, interpolated inside its bucket.
pub(super) fn position(histogram: &SparseHistogram, q: f64) -> f64 {
    let target = q * histogram.total() as f64;
    let (mut below, mut at) = (0.0, 0.0);
    for (bucket, count) in histogram.iter() {
        let count = f64::from(count);
        at = f64::from(bucket) + (target - below) / count;
        if below + count >= target - 1e-9 {
            break;
        }
        below += count;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bucket_at: impl Fn(i64) -> i16, warmup_s: i64, no_sooner_s: i64) -> Option<Slot> {
        let mut settling = Settling::after(no_sooner_s);
        (0..900).find_map(|t| {
            settling.look(t, 0, warmup_s, Timing::default());
            let b = bucket_at(t);
            settling.add(t, &[(b, 5), (b + 8, 5), (b - 8, 5)].into_iter().collect(), Timing::default());
            settling.from
        })
    }

    #[test]
    fn begins_when_latency_stops_falling() {
        type Law = fn(i64) -> i16;
        let cases: [(&str, Law, [i64; 2], Slot); 8] = [
            ("steady", |_| 0, [60, 0], 60),
            ("no warm-up, no waiting", |t| (1000 - t) as i16, [0, 0], 0),
            // At 240 s the window that ended 60 s before still lies in the fall.
            ("falling for 3 minutes", |t| (100 - t.min(180) / 2) as i16, [60, 0], 270),
            ("falling for ever", |t| (400 - t / 2) as i16, [60, 0], 600),
            ("steady, earlier releases took longer", |_| 0, [60, 330], 330),
            ("falling for longer than they", |t| (100 - t.min(180) / 2) as i16, [60, 120], 270),
            ("they took ten minutes", |_| 0, [60, 600], 600),
            ("no warm-up, whatever they took", |_| 0, [0, 330], 0),
        ];
        for (name, law, [warmup, no_sooner], want) in cases {
            assert_eq!(run(law, warmup, no_sooner), Some(want), "{name}");
        }
    }
}
