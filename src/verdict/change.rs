//! Before and after: a change that carries no version (a configuration, a migration, a secret) has a time instead.
//! The version that serves is held against what it showed before that time, by the form of a remembered baseline
//! (`docs/statistics.md`, section 8), from the first slot on. Instances that start after the time are warmed up first.

use super::settling::Settling;
use super::timing::Timing;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;

/// Seconds after the change, or after a take-over, in which evidence against what is remembered counts towards FAIL.
pub(super) const REMEMBERED_FAIL_S: i64 = 300;

/// What is held against what, for whoever reads the evidence of a change.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ChangeEvidence {
    /// First slot after the change.
    pub at: Slot,
    /// First slot that is judged: that, or later where the call came late.
    pub judged_from: Slot,
    /// First slot that is not remembered any more. Later than `at` where the call came late and nothing was kept for
    /// it: so many seconds after the change are remembered as if they were before it.
    pub remembered_until: Slot,
    /// Failed requests and all that are remembered, the older the lighter.
    pub remembered: [f64; 2],
}

snapshot_fields!(ChangeEvidence { at, judged_from, remembered_until, remembered });

impl ChangeEvidence {
    /// Remembered share of failed requests; `None` without requests.
    pub fn error_rate(&self) -> Option<f64> {
        (self.remembered[1] > 0.0).then(|| self.remembered[0] / self.remembered[1])
    }

    /// Seconds after the change that are remembered as if they were before it.
    pub fn late_s(&self) -> i64 {
        (self.remembered_until - self.at).max(0)
    }

    /// Seconds after the change that are not judged.
    pub fn unjudged_s(&self) -> i64 {
        (self.judged_from - self.at).max(0)
    }
}

/// A change at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// First slot after it.
    pub at: Slot,
    /// Seconds for which an instance that starts after it is not compared.
    pub warmup_s: i64,
    /// First slot after those in which such an instance served.
    restarted: Option<Slot>,
}

snapshot_fields!(Change { at, warmup_s, restarted });

impl Change {
    /// A change at slot `at`, with the warm-up of the policy.
    pub fn new(at: Slot, warmup_s: i64) -> Self {
        Self { at, warmup_s, restarted: None }
    }

    /// Last slot whose evidence counts towards FAIL: five minutes, and the warm-up where instances were restarted.
    fn last_in_time(&self, timing: Timing) -> Slot {
        let warmup_s = if self.restarted.is_some() { self.warmup_s } else { 0 };
        self.at + timing.whole(REMEMBERED_FAIL_S) + timing.whole(warmup_s)
    }

    pub(super) fn in_time(&self, t: Slot, timing: Timing) -> bool {
        t <= self.last_in_time(timing)
    }

    pub(super) fn has_restarted(&self) -> bool {
        self.restarted.is_some()
    }

    /// The slot from which latency settles, and the seconds of warm-up before that.
    pub(super) fn settles_from(&self, timing: Timing) -> (Slot, i64) {
        self.restarted.map_or((self.at, 0), |slot| (slot, timing.whole(self.warmup_s)))
    }

    /// Takes note of the requests of young instances in slot `t`. With the first of them in the first five minutes
    /// latency waits until what was restarted has settled.
    pub(super) fn note_young(&mut self, t: Slot, requests: u64, timing: Timing, settling: &mut Settling) {
        let is_new = self.restarted.is_none() && requests > 0 && self.warmup_s > 0;
        if is_new && self.in_time(t, timing) {
            self.restarted = Some(t + timing.slot_s());
            *settling = Settling::default();
        }
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
