//! What a panel shows: flags, evidence and the lines of all its judges.

use std::sync::Arc;

use super::{Memories, Panel};
use crate::model::Source;
use crate::stats::{degraded_list, score, watch_threshold};
use crate::verdict::evidence::{Evidence, Flag, SliEvidence, Verdict};
use crate::verdict::judge::Judge;
use crate::verdict::summary::{LIST_RATE, place};

impl Panel {
    /// What to bear in mind, in the order of [`Flag::ALL`]. What only the other source shows does not hold a
    /// PASS back, but for what concerns the version and not its telemetry. A version is silent when both are.
    pub fn flags(&self, memories: &Memories<'_>) -> Vec<Flag> {
        let mut flags = self.flags_of_whole(memories);
        flags.extend(self.cohorts.is_any_worse(&self.policy).then_some(Flag::CohortWorse));
        flags.extend(
            self.share.as_ref().is_some_and(|share| share.is_raised()).then_some(Flag::ShareMismatch),
        );
        flags.extend(self.zones.is_skewed(&self.policy).then_some(Flag::ZoneSkew));
        flags
    }

    fn flags_of_whole(&self, memories: &Memories<'_>) -> Vec<Flag> {
        let of = |source: Source| {
            let judged = self.judge(source).zip(memories.of(source));
            judged.map(|(judge, memory)| judge.flags(memory)).unwrap_or_default()
        };
        if let Some((source, judge)) = self.single() {
            let mut flags = of(source);
            // By its requests alone a judge cannot say.
            if self.policy.own_weight() > 0.0 && self.degraded() != judge.degraded() {
                flags.retain(|flag| *flag != Flag::Degraded);
                flags.extend(self.degraded().then_some(Flag::Degraded));
                flags.sort_by_key(|flag| Flag::ALL.iter().position(|known| known == flag));
            }
            return flags;
        }
        let (own, other) = (of(self.required()), of(self.required().other()));
        let is_set = |flag: Flag| match flag {
            Flag::CandidateSilent => own.contains(&flag) && self.is_silent(),
            Flag::BiasedInput | Flag::RememberedBaseline => own.contains(&flag),
            Flag::Sampled => self.coverage.is_sampled(),
            Flag::Degraded => self.degraded(),
            // One of the two may name instances where the other does not.
            Flag::InstancesUnknown => own.contains(&flag) && other.contains(&flag),
            _ => own.contains(&flag) || other.contains(&flag),
        };
        Flag::ALL.into_iter().filter(|flag| is_set(*flag)).collect()
    }

    /// Whether no source has shown a request of the candidate of late.
    fn is_silent(&self) -> bool {
        self.judges().all(|(_, judge)| judge.first_slot().is_none() || judge.is_silent())
    }

    /// Everything known now.
    pub fn evidence(&self, memories: &Memories<'_>) -> Evidence {
        let required = self.required();
        let Some((judge, memory)) = self.judge(required).zip(memories.of(required)) else {
            return Evidence::default();
        };
        let own = judge.counted(memory);
        let slot_seconds = self.metrics.as_ref().map(|judge| judge.timing.slot_s());
        let (ln_e_bar, fail_threshold) = self.stand(judge);
        let fraction = judge.pass_fraction(memory).min(self.own_passed());
        let is_fail = !self.policy.dimensions.is_empty() && self.verdict(memories) == Verdict::Fail;
        Evidence {
            ln_e_bar,
            fail_threshold,
            score: score(ln_e_bar / fail_threshold, fraction),
            slis: self.slis(memories),
            flags: self.flags(memories),
            required,
            slot_seconds,
            span_share: self.coverage.share(),
            cohorts: memories
                .of(self.cohorts.source())
                .map_or_else(Vec::new, |m| self.cohorts.evidence(&self.policy, m, is_fail)),
            regions: self.cohorts.regions(&self.policy, is_fail),
            mix: self.spans.as_ref().and_then(Judge::mix_shift).or_else(|| own.mix.clone()),
            zones: self.zones.shift(),
            settle_s: Some(self.settle_s).filter(|seconds| *seconds > 0),
            ..own
        }
    }

    /// The evidence of a decision: everything known now, and what the sum is made of.
    pub fn decisive_evidence(&self, memories: &Memories<'_>) -> Evidence {
        let log = |source| self.judge(source).map(|judge| Arc::new(judge.slot_log()));
        let (slot_log, metric_slot_log) = match log(Source::Spans) {
            None => (log(Source::Metrics), None),
            spans => (spans, log(Source::Metrics)),
        };
        let own_slot_logs = self.own().map(|(_, own)| own.slot_log());
        let share = self.share.iter().map(|share| share.slot_log());
        let own_slot_logs = own_slot_logs.chain(share).map(Arc::new).collect();
        Evidence { slot_log, metric_slot_log, own_slot_logs, ..self.evidence(memories) }
    }

    /// Where the evidence that counts now stands, and where it is a fail.
    fn stand(&self, chair: &Judge) -> (f64, f64) {
        let ln = match self.watching {
            false => self.ln_e_bar(),
            true if !chair.baseline_gone() => self.ln_watch(),
            true => self.ln_later(),
        };
        (ln, self.threshold())
    }

    /// What a weighted sum must reach: 1/alpha once, or in a watch 43,200, for ever.
    pub(super) fn threshold(&self) -> f64 {
        let base = if self.watching { watch_threshold() } else { self.policy.fail_threshold() };
        base + self.cohorts.surcharge(&self.policy)
    }

    /// The lines of all judges, each with its share; the list of degraded ones is made over all of them.
    fn slis(&self, memories: &Memories<'_>) -> Vec<SliEvidence> {
        let mut lines: Vec<(f64, SliEvidence)> = Vec::new();
        for (source, judge) in self.judges() {
            let Some(memory) = memories.of(source) else { continue };
            let share = if self.policy.own_weight() > 0.0 {
                self.share(source) * self.rest()
            } else {
                self.share(source)
            };
            lines.extend(judge.lines(memory).into_iter().map(|(e_value, line)| {
                let weight = if share == 1.0 { line.weight } else { line.weight * share };
                (e_value, SliEvidence { source, weight, ..line })
            }));
        }
        for (source, own) in self.own() {
            if let Some(memory) = memories.of(source) {
                lines.extend(own.lines(&self.policy, memory, self.rest()));
            }
        }
        let share = if self.change.is_none() { self.rest() } else { 0.0 };
        lines.extend(self.gauges.lines(&self.policy, share));
        let of_share = self.share.iter().flat_map(|share| share.lines(&self.policy, self.rest()));
        lines.extend(of_share);
        let e_values: Vec<f64> = lines.iter().map(|line| line.0).collect();
        for i in degraded_list(&e_values, LIST_RATE) {
            lines[i].1.degraded = true;
        }
        let required = self.required();
        let mut slis: Vec<SliEvidence> = lines.into_iter().map(|line| line.1).collect();
        let foreign = |e: &SliEvidence| e.operation.is_none() && e.source != required;
        slis.sort_by(|a, b| {
            let level = a.operation.is_some().cmp(&b.operation.is_some());
            level.then_with(|| foreign(a).cmp(&foreign(b))).then_with(|| place(a, b))
        });
        slis
    }
}
