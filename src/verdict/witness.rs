//! What is asked of a single judge, by itself or by the panel that it sits on.

use std::sync::Arc;

use super::buckets::Bounds;
use super::conclusion::Standing;
use super::evidence::{Grain, Sli, Verdict};
use super::judge::{Judge, OperationState};
use super::memory::Memory;
use super::stratum::Stratum;
use super::thresholds::Testing;
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

    /// The same for a PASS, of which there is none while a change may still fail: a pass would end that.
    pub(super) fn pass_age_s(&self) -> Option<i64> {
        let may_fail = self.change.is_some_and(|change| change.in_time(self.last_slot, self.timing));
        self.age_s().filter(|_| !may_fail)
    }

    /// How far the slowest required SLI is on the way to PASS, 0 to 1.
    pub(super) fn pass_fraction(&self, memory: &Memory) -> f64 {
        self.passing.fraction(self.policy.pass_threshold(), self.required(memory))
    }

    /// Which of errors, p50, p95 and p99 a PASS rests on: those that can be tested. On the log grid all can.
    pub(super) fn required(&self, memory: &Memory) -> [bool; 4] {
        [Sli::ErrorRate, Sli::LatencyP50, Sli::LatencyP95, Sli::LatencyP99]
            .map(|sli| quantile(sli).is_none_or(|q| self.service_grain(q, memory) != Grain::NotTestable))
    }

    /// What is known of a latency SLI of one operation; `None` for all as one.
    pub(super) fn testing(&self, operation: Option<&Arc<str>>, q: usize, memory: &Memory) -> Testing {
        match operation {
            Some(name) => {
                let Some(stratum) = memory.strata.get(name) else { return Testing::Unknown };
                let bounds = self.buckets_of(name, stratum);
                stratum.testing(q, &bounds, memory.traffic_s)
            }
            None => memory.pooled_testing(q, &self.all.shared_bounds()),
        }
    }

    /// The buckets that both versions have of an operation; those of the baseline until both have shown any.
    pub(super) fn buckets_of(&self, name: &Arc<str>, stratum: &Stratum) -> Bounds {
        let state = self.operations.get(name).filter(|state| state.has_bounds());
        state.map_or_else(|| stratum.bounds.clone(), OperationState::shared_bounds)
    }

    /// How finely a latency SLI of the service is told apart: not at all where no operation can be tested.
    pub(super) fn service_grain(&self, q: usize, memory: &Memory) -> Grain {
        if self.renamed() {
            return match (self.testing(None, q, memory), self.all.shared_bounds()) {
                (_, None) => Grain::Fine,
                (Testing::Not, _) => Grain::NotTestable,
                _ => Grain::Bound,
            };
        }
        let mut grain = Grain::NotTestable;
        let mut seen = false;
        for (name, stratum) in &memory.strata {
            match self.testing(Some(name), q, memory) {
                Testing::Not => seen = true,
                // Nobody knows yet, so it is asked for.
                Testing::Unknown => {}
                Testing::At(_) if self.buckets_of(name, stratum).is_some() => grain = Grain::Bound,
                Testing::At(_) => return Grain::Fine,
            }
        }
        if grain == Grain::NotTestable && !seen { Grain::Fine } else { grain }
    }

    fn standing(&self, memory: &Memory) -> Standing {
        Standing {
            ln_watch: self.watches.is_some().then(|| self.ln_watch()),
            ln_e_bar: self.is_weighed().then(|| self.ln_e_bar()),
            age_s: self.age_s(),
            pass_age_s: self.pass_age_s(),
            passed: self.pass_fraction(memory),
            blocked: self.flags(memory).iter().any(|flag| flag.blocks_pass()),
            surcharge: 0.0,
            region_fails: false,
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

/// Which of [`super::stratum::QUANTILES`] an SLI is about; `None` where it is not about latency.
pub(super) const fn quantile(sli: Sli) -> Option<usize> {
    match sli {
        Sli::LatencyP50 => Some(0),
        Sli::LatencyP75 => Some(1),
        Sli::LatencyP95 => Some(2),
        Sli::LatencyP99 => Some(3),
        _ => None,
    }
}
