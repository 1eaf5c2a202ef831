//! What is asked of a single judge, by itself or by the panel that it sits on.

use super::conclusion::Standing;
use super::evidence::Verdict;
use super::judge::Judge;
use super::memory::Memory;
use crate::model::Slot;

impl Judge {
    /// Whether the weights are fixed: before, nothing can fail.
    pub(super) fn is_weighed(&self) -> bool {
        self.weights.fixed.is_some()
    }

    /// ln of the weighted average of the evidence so far.
    pub fn ln_e_bar(&self) -> f64 {
        self.processes.ln_combined(&self.weights.each)
    }

    /// ln of the weighted sum of the watches; nothing before the first decision.
    pub(super) fn ln_watch(&self) -> f64 {
        self.watches.as_ref().map_or(f64::NEG_INFINITY, |watches| watches.ln_combined(&self.weights.each))
    }

    /// Whether there is evidence that no FAIL reads.
    pub(super) fn has_later_evidence(&self) -> bool {
        !self.after.is_empty()
    }

    /// ln of the weighted sum of the evidence that no FAIL reads.
    pub(super) fn ln_later(&self) -> f64 {
        self.after.ln_combined(&self.weights.each)
    }

    /// Whether that evidence has reached the threshold.
    pub fn degraded(&self) -> bool {
        self.has_later_evidence() && self.ln_later() >= self.threshold(&self.after)
    }

    /// Seconds of comparison so far; negative in the warm-up, `None` before the candidate's first request.
    pub(super) fn age_s(&self) -> Option<i64> {
        Some(self.last_slot - self.first? - self.warmup_s())
    }

    /// How far the slowest required SLI is on the way to PASS, 0 to 1.
    pub(super) fn pass_fraction(&self, _memory: &Memory) -> f64 {
        self.passing.fraction(self.policy.pass_threshold())
    }

    fn standing(&self, memory: &Memory) -> Standing {
        Standing {
            ln_watch: self.watches.is_some().then(|| self.ln_watch()),
            ln_e_bar: self.is_weighed().then(|| self.ln_e_bar()),
            age_s: self.age_s(),
            pass_age_s: self.age_s(),
            passed: self.pass_fraction(memory),
            blocked: self.flags(memory).iter().any(|flag| flag.blocks_pass()),
        }
    }

    /// The verdict as of the last slot. `Fail` and `Pass` are decisions; `Inconclusive` is answered once the
    /// horizon has ended; otherwise `Pending`.
    pub fn verdict(&self, memory: &Memory) -> Verdict {
        self.standing(memory).verdict(&self.policy)
    }

    /// The last slot that was judged.
    pub fn last_slot(&self) -> Slot {
        self.last_slot
    }

    /// First slot with a candidate request.
    pub fn first_slot(&self) -> Option<Slot> {
        self.first
    }

    /// Whether the baseline counts as gone.
    pub fn baseline_gone(&self) -> bool {
        self.gone
    }
}
