//! How long did a release take to get fast? Settling ([`super::settling`]) has to say so while it happens, and at little
//! traffic it is wrong at times. Afterwards it can be seen better: from how the latency of each operation went over the
//! first ten minutes, held against what it came to, less what the old version did in the same time. What earlier
//! releases of a service took is when the next one is first held to its latency.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::buckets::on_grid;
use super::input::{Cell, Cells};
use super::policy::Policy;
use super::settling::{LATEST_S, position, window_s};
use super::timing::Timing;
use crate::histogram::SparseHistogram;
use crate::model::snapshot::snapshot_fields;

/// Operations that are looked at one by one, the first to come.
const OPERATIONS: usize = 32;
/// Requests that a window needs to count.
const MIN_REQUESTS: u64 = 20;
/// Buckets above what it came to at which a version still counts as slow: 4.4 %, half of the margin.
const TOLERANCE: f64 = 2.0;
/// Standard errors above it: of all operations together, and of each of many.
const SURE: [f64; 2] = [1.5, 3.0];
/// Releases of a service that are remembered.
const RELEASES: usize = 8;
/// From so many on, the one that took longest does not count: it may have had a reason of its own.
const ENOUGH: usize = 4;

/// One window of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Window {
    number: i64,
    requests: u64,
    /// Median latency, in buckets.
    median: f64,
}

snapshot_fields!(Window { number, requests, median });

/// How the latency of one operation of one version went.
#[derive(Debug, Clone, PartialEq, Default)]
struct Course {
    open: SparseHistogram,
    closed: Vec<Window>,
    /// All of the last third: what it came to.
    last: SparseHistogram,
}

snapshot_fields!(Course { open, closed, last });

/// Median and the variances of one that comes of a single request, in buckets.
struct Level {
    median: f64,
    variance: f64,
    requests: f64,
}

impl Course {
    fn close(&mut self, number: i64, is_last: bool) {
        let open = std::mem::take(&mut self.open);
        let requests = open.total();
        if requests >= MIN_REQUESTS {
            self.closed.push(Window { number, requests, median: position(&open, 0.5) });
        }
        if is_last {
            self.last.merge(&open);
        }
    }

    /// What it came to.
    fn level(&self) -> Option<Level> {
        let requests = self.last.total();
        let spread = (position(&self.last, 0.84) - position(&self.last, 0.16)) / 2.0;
        (requests >= MIN_REQUESTS).then(|| Level {
            median: position(&self.last, 0.5),
            // Of a median; buckets are as wide as one.
            variance: (1.25 * spread.max(1.0)).powi(2),
            requests: requests as f64,
        })
    }
}

/// How far above what it came to, in buckets, and the variance of that.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Excess {
    window: i64,
    buckets: f64,
    variance: f64,
}

/// Watches how latency goes after a release.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Warming {
    /// Candidate and baseline, by operation.
    operations: BTreeMap<Arc<str>, (Course, Course)>,
    /// Number of the window that is open.
    window: i64,
    is_over: bool,
    /// Seconds after the first request in which it got fast, once they are known.
    pub(crate) settled_s: Option<i64>,
}

snapshot_fields!(Warming { operations, window, is_over, settled_s });

impl Warming {
    /// Whether nothing more is learned of it.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Nothing is asked.
    pub(crate) fn stop(&mut self) {
        (self.operations, self.is_over) = (BTreeMap::new(), true);
    }

    /// Takes in slot `t`, `age` seconds after the candidate's first; `warmup_s` of it are compared with nothing.
    pub(crate) fn add(&mut self, age: i64, warmup_s: i64, [new, old]: [&Cells; 2], timing: Timing) {
        if self.is_over {
            return;
        }
        if warmup_s == 0 {
            return self.stop();
        }
        let width = window_s(timing);
        if age / width != self.window {
            self.close(width);
            self.window = age / width;
        }
        if age >= LATEST_S {
            // Wide windows may be open yet.
            self.close(width);
            self.settled_s = self.slow_until(width).map(|seconds| seconds.max(warmup_s));
            return self.stop();
        }
        for (operation, cell) in new {
            if self.operations.contains_key(operation) || self.operations.len() < OPERATIONS {
                let (new, old_course) = self.operations.entry(Arc::clone(operation)).or_default();
                new.open.merge(&latencies(cell));
                if let Some(cell) = old.get(operation) {
                    old_course.open.merge(&latencies(cell));
                }
            }
        }
    }

    /// Closes the open window. What an operation came to is all of the windows that end in the last third.
    fn close(&mut self, width: i64) {
        let is_last = (self.window + 1) * width > LATEST_S - LATEST_S / 3;
        for (new, old) in self.operations.values_mut() {
            new.close(self.window, is_last);
            old.close(self.window, is_last);
        }
    }

    /// End of the last window in which it was still slow; 0 for none, `None` where too little is known to say.
    fn slow_until(&self, width: i64) -> Option<i64> {
        let mut all: BTreeMap<i64, [f64; 2]> = BTreeMap::new();
        let (mut weight, mut until) = (0.0, 0);
        for (new, old) in self.operations.values() {
            let Some((excesses, level)) = excesses(new, old) else { continue };
            for excess in &excesses {
                let [sum, weights] = all.entry(excess.window).or_default();
                *sum += excess.buckets / excess.variance;
                *weights += 1.0 / excess.variance;
            }
            weight += 1.0 / level;
            until = until.max(slow_until(&excesses, level, SURE[1], width));
        }
        let pooled = |(window, [sum, weights]): (i64, [f64; 2])| Excess {
            window,
            buckets: sum / weights,
            variance: 1.0 / weights,
        };
        let pooled: Vec<Excess> = all.into_iter().map(pooled).collect();
        // Without a window of before there is nothing to hold against what it came to.
        let is_known = pooled.first().is_some_and(|first| first.window * width < LATEST_S / 2);
        is_known.then(|| until.max(slow_until(&pooled, 1.0 / weight, SURE[0], width)))
    }
}

fn latencies(cell: &Cell) -> SparseHistogram {
    let all = cell.merged().latency;
    cell.bounds.as_ref().map_or_else(|| all.clone(), |bounds| on_grid(&all, bounds))
}

/// How far one operation was above what it came to, beyond what the old version did, by window; and the variance of what
/// it came to. `None` where too little is known.
fn excesses(new: &Course, old: &Course) -> Option<(Vec<Excess>, f64)> {
    let level = new.level()?;
    let beside = old.level();
    let one = |window: &Window| {
        let mut excess = Excess {
            window: window.number,
            buckets: window.median - level.median,
            variance: level.variance / window.requests as f64,
        };
        if let Some(beside) = &beside {
            let same = old.closed.iter().find(|same| same.number == window.number)?;
            excess.buckets -= same.median - beside.median;
            excess.variance += beside.variance / same.requests as f64;
        }
        Some(excess)
    };
    let of_level = |level: &Level| level.variance / level.requests;
    let variance = of_level(&level) + beside.as_ref().map_or(0.0, of_level);
    Some((new.closed.iter().filter_map(one).collect(), variance))
}

/// The best fit that never rises (pool adjacent violators): until when it lies above the tolerance, surely.
fn slow_until(excesses: &[Excess], level: f64, sure: f64, width: i64) -> i64 {
    // Sum of weights, mean, last window.
    let mut blocks: Vec<(f64, f64, i64)> = Vec::new();
    for excess in excesses {
        let mut block = (1.0 / excess.variance, excess.buckets, excess.window);
        while let Some(before) = blocks.pop_if(|before| before.1 <= block.1) {
            let weight = before.0 + block.0;
            block = (weight, (before.0 * before.1 + block.0 * block.1) / weight, block.2);
        }
        blocks.push(block);
    }
    let is_slow = |(weight, mean, _): &&(f64, f64, i64)| {
        *mean > TOLERANCE && *mean > sure * (1.0 / weight + level).sqrt()
    };
    blocks.iter().take_while(is_slow).last().map_or(0, |(_, _, window)| (window + 1) * width)
}

/// How long releases of one service took to get fast, the newest last. Those that failed are not among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EarlierReleases {
    each: VecDeque<(String, i64)>,
}

snapshot_fields!(EarlierReleases { each });

impl EarlierReleases {
    /// Takes note of the seconds that `version` took.
    pub fn note(&mut self, version: &str, seconds: i64) {
        self.forget(version);
        if self.each.len() >= RELEASES {
            self.each.pop_front();
        }
        self.each.push_back((version.to_owned(), seconds));
    }

    /// It failed: what it took is no measure for others.
    pub fn forget(&mut self, version: &str) {
        self.each.retain(|(known, _)| known != version);
    }

    /// Whether `version` is among them.
    pub fn contains(&self, version: &str) -> bool {
        self.each.iter().any(|(known, _)| known == version)
    }

    /// Seconds after the first request before which the next release is not held to its latency; `None` where that is
    /// no more than the warm-up. At most ten minutes, and half of the time that the policy has for a verdict.
    pub fn settle_s(&self, policy: &Policy) -> Option<i64> {
        let mut seconds: Vec<i64> = self.each.iter().map(|(_, seconds)| *seconds).collect();
        seconds.sort_unstable_by(|a, b| b.cmp(a));
        let longest = *seconds.get(usize::from(seconds.len() >= ENOUGH))?;
        let most = LATEST_S.min(policy.warmup_s + policy.horizon_s / 2);
        Some(longest.min(most)).filter(|seconds| *seconds > policy.warmup_s && policy.warmup_s > 0)
    }
}

#[cfg(test)]
#[path = "warming_tests.rs"]
mod tests;
