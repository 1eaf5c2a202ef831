//! What is remembered of one operation of a version: the latencies of the last 300 s that set its
//! thresholds, the decayed histogram that outlives its traffic, and how bursty its bad events are.

use std::collections::VecDeque;

use super::buckets::Bounds;
use super::decayed::{DECAY, DecayedHistogram};
use super::dispersion::Dispersion;
use super::input::Cell;
use super::thresholds::{Thresholds, thresholds_of, weights};
use super::timing::Timing;
use crate::histogram::{SparseHistogram, growth};
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Quantiles that have thresholds: p50, p75, p95, p99.
pub(crate) const QUANTILES: [f64; 4] = [0.5, 0.75, 0.95, 0.99];
/// Seconds of the window behind the thresholds.
const WINDOW_S: i64 = 300;
/// Seconds between refreshes of the thresholds.
pub(crate) const REFRESH_S: i64 = 10;
/// Seconds of slots with traffic, and requests in the window, before there is a threshold.
const MIN_TRAFFIC_S: u64 = 5;
const MIN_REQUESTS: u64 = 10;

/// Dispersion of the bad events of the four SLIs that an operation has of its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Dispersions {
    pub(crate) errors: Dispersion,
    pub(crate) p50: Dispersion,
    pub(crate) p95: Dispersion,
    pub(crate) p99: Dispersion,
}

snapshot_fields!(Dispersions { errors, p50, p95, p99 });

impl Dispersions {
    pub(crate) fn close(&mut self, t: Slot, block_s: i64) {
        let all = [&mut self.errors, &mut self.p50, &mut self.p95, &mut self.p99];
        all.into_iter().for_each(|d| d.close(t, block_s));
    }

    /// phi of errors, p50, p95, p99.
    pub(crate) fn phis(&self) -> [f64; 4] {
        [&self.errors, &self.p50, &self.p95, &self.p99].map(Dispersion::phi)
    }

    /// Counts one slot's cell, and its slow requests once there are thresholds.
    pub(crate) fn add(&mut self, t: Slot, block_s: i64, cell: &Cell, thresholds: Option<&Thresholds>) {
        let n = cell.groups.each_ref().map(|g| g.requests);
        self.errors.add(t, block_s, n, cell.groups.each_ref().map(|g| g.bad));
        if let Some(&[p50, _, p95, p99]) = thresholds {
            for (dispersion, above) in [(&mut self.p50, p50), (&mut self.p95, p95), (&mut self.p99, p99)] {
                if let Some(above) = above {
                    dispersion.add(t, block_s, n, slow(cell, above));
                }
            }
        }
    }
}

/// Requests above a bucket, per instance group.
pub(crate) fn slow(cell: &Cell, bucket: i16) -> [u64; 2] {
    cell.groups.each_ref().map(|g| g.latency.count_above(i32::from(bucket)))
}

/// Latencies of one slot in the window: six bytes each, because most operations of a large fleet see a
/// request every few seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    /// The low bits of the slot: what is in the window is at most its length older than the newest entry.
    slot: u16,
    bucket: i16,
    count: u16,
}

snapshot_fields!(Entry { slot, bucket, count });

/// One operation of one version.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Stratum {
    /// The first slot with a request.
    first: Option<Slot>,
    /// Slot of the newest entry of the window.
    newest: Slot,
    window: VecDeque<Entry>,
    traffic_s: u64,
    /// What the buckets of its latencies are.
    pub(crate) bounds: Bounds,
    pub(crate) thresholds: Option<Thresholds>,
    pub(crate) kept: DecayedHistogram,
    /// Decayed requests without a latency in `kept`, and the second of traffic up to which they are.
    bare: f64,
    bare_at: u64,
    /// Decayed failed requests, up to the same second.
    bad: f64,
    pub(crate) dispersions: Dispersions,
}

snapshot_fields!(Stratum {
    first,
    newest,
    window,
    traffic_s,
    bounds,
    thresholds,
    kept,
    bare,
    bare_at,
    bad,
    dispersions
});

impl Stratum {
    /// Latencies of the last 300 s. Summed when asked for, each 10 s: kept beside the window it would take
    /// nearly as much memory again.
    pub(crate) fn recent(&self) -> SparseHistogram {
        sum(&self.window)
    }

    /// Whether there was no request in the last 300 s.
    pub(crate) fn is_idle(&self) -> bool {
        self.window.is_empty()
    }

    /// Forgets what left the window before slot `t` and renews the thresholds when due.
    pub(crate) fn begin(&mut self, t: Slot, timing: Timing) {
        let oldest = t - timing.whole(WINDOW_S);
        if self.newest < oldest {
            self.window.clear();
        }
        while let Some(first) = self.window.front()
            && self.newest - i64::from((self.newest as u16).wrapping_sub(first.slot)) < oldest
        {
            self.window.pop_front();
        }
        let window = &self.window;
        let recent = || Some(sum(window));
        renew(&mut self.thresholds, t, timing, self.traffic_s, &self.bounds, recent);
    }

    /// Remembers slot `t`; `now` counts the seconds of the version's slots with traffic, this one included.
    pub(crate) fn end(&mut self, t: Slot, timing: Timing, now: u64, cell: &Cell) {
        if cell.has_latency() && cell.bounds != self.bounds {
            self.begin_anew(now, &cell.bounds);
        }
        self.dispersions.add(t, timing.dispersion_s(), cell, self.thresholds.as_ref());
        let latency = cell.merged().latency;
        self.kept.add(now, &latency);
        let bare = cell.requests().saturating_sub(latency.total());
        let bad = cell.groups[0].bad + cell.groups[1].bad;
        if bare + bad > 0 {
            self.put_bare(now, bare as f64, bad as f64);
        }
        self.first.get_or_insert(t);
        self.newest = t;
        let slot = t as u16;
        for (bucket, mut n) in latency.iter() {
            while n > 0 {
                let count = n.min(u32::from(u16::MAX)) as u16;
                if self.window.len() == self.window.capacity() {
                    self.window.reserve_exact(growth(self.window.len()));
                }
                self.window.push_back(Entry { slot, bucket, count });
                n -= u32::from(count);
            }
        }
        self.traffic_s += timing.slot_s() as u64;
    }
}

impl Stratum {
    /// Other buckets: nothing that was remembered of its latencies can be compared with what comes.
    fn begin_anew(&mut self, now: u64, bounds: &Bounds) {
        self.put_bare(now, self.kept.total(now), 0.0);
        self.bounds.clone_from(bounds);
        self.window.clear();
        (self.kept, self.thresholds, self.traffic_s) = (DecayedHistogram::default(), None, 0);
    }

    fn put_bare(&mut self, now: u64, requests: f64, bad: f64) {
        self.bare = self.bare_requests(now) + requests;
        self.bad = self.bad_requests(now) + bad;
        self.bare_at = now;
    }

    /// Remembered failed requests, as of second of traffic `now`.
    pub(crate) fn bad_requests(&self, now: u64) -> f64 {
        if self.bad == 0.0 { 0.0 } else { self.bad * DECAY.powf(now.saturating_sub(self.bare_at) as f64) }
    }

    /// Requests with a latency in slot `since` and later.
    pub(crate) fn requests_since(&self, since: Slot) -> u64 {
        let slot = |entry: &Entry| self.newest - i64::from((self.newest as u16).wrapping_sub(entry.slot));
        let late = self.window.iter().rev().take_while(|entry| slot(entry) >= since);
        late.map(|entry| u64::from(entry.count)).sum()
    }

    /// The first slot with a request.
    pub(crate) fn first(&self) -> Option<Slot> {
        self.first
    }

    /// The newest slot with a request; `None` before the first.
    pub(crate) fn last(&self) -> Option<Slot> {
        (self.traffic_s > 0).then_some(self.newest)
    }

    /// Remembered requests without a latency, as of second of traffic `now`.
    pub(crate) fn bare_requests(&self, now: u64) -> f64 {
        if self.bare == 0.0 { 0.0 } else { self.bare * DECAY.powf(now.saturating_sub(self.bare_at) as f64) }
    }

    /// Remembered requests in all.
    pub(crate) fn kept_requests(&self, now: u64) -> f64 {
        self.kept.total(now) + self.bare_requests(now)
    }
}

fn sum(window: &VecDeque<Entry>) -> SparseHistogram {
    SparseHistogram::sum_of(window.iter().map(|entry| (entry.bucket, u32::from(entry.count))))
}

/// Sets thresholds from `latencies` when there are enough requests and either none yet or a refresh is due.
pub(crate) fn renew(
    thresholds: &mut Option<Thresholds>,
    t: Slot,
    timing: Timing,
    traffic_s: u64,
    bounds: &Bounds,
    latencies: impl FnOnce() -> Option<SparseHistogram>,
) {
    let due = thresholds.is_none() || t % timing.whole(REFRESH_S) == 0;
    if traffic_s < MIN_TRAFFIC_S || !due {
        return;
    }
    let Some(histogram) = latencies() else { return };
    let total = histogram.total();
    if total < MIN_REQUESTS {
        return;
    }
    *thresholds = thresholds_of(weights(&histogram), total as f64, bounds);
}

#[cfg(test)]
mod tests {
    use super::super::input::Counts;
    use super::*;

    /// One request every three seconds, latencies over five octaves.
    fn quiet(seconds: i64) -> Stratum {
        let (timing, mut stratum, mut random) =
            (Timing::default(), Stratum::default(), fastrand::Rng::with_seed(1));
        for t in 0..seconds {
            stratum.begin(t, timing);
            if t % 3 == 0 {
                let latency: SparseHistogram = [(random.i16(-160..0), 1)].into_iter().collect();
                let group = Counts { requests: 1, latency, ..Counts::default() };
                let cell = Cell { groups: [group, Counts::default()], ..Cell::default() };
                stratum.end(t, timing, t as u64 / 3 + 1, &cell);
            }
        }
        stratum
    }

    /// The numbers of `docs/limits.md`: what ten thousand versions of three operations take rests on them.
    #[test]
    fn memory_of_a_quiet_operation() {
        let stratum = quiet(3_600);
        let window = stratum.window.capacity() * size_of::<Entry>();
        let kept = stratum.kept.heap_bytes();
        assert!(stratum.window.len() == 100 && window <= 768, "{} entries, {window}", stratum.window.len());
        assert!(kept <= 1_600, "{kept}");
        assert!(size_of::<Stratum>() <= 512, "{}", size_of::<Stratum>());
    }

    #[test]
    fn the_window_ends_after_300_s_also_after_a_long_gap() {
        let mut stratum = quiet(900);
        assert_eq!(stratum.recent().total(), 100);
        stratum.begin(1_100, Timing::default());
        assert_eq!(stratum.recent().total(), 33);
        // 65,536 s later the low bits of the slot are the same again.
        stratum.begin(900 + 65_536, Timing::default());
        assert!(stratum.is_idle());
    }
}
