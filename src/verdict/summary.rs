//! From the judge's state to [`Evidence`]: the numbers that people and gates read.

use std::sync::Arc;

use super::evidence::{Evidence, Flag, Grain, Sli, SliEvidence};
use super::judge::Judge;
use super::memory::Memory;
use super::passing::Passing;
use super::processes::{Key, Processes};
use super::slot_log::SlotLog;
use super::stratum::Dispersions;
use super::thresholds::Testing;
use super::witness::quantile;
use crate::histogram::layout;
use crate::stats::{degraded_list, ratio_interval, score, watch_threshold};

/// False discovery rate of the list of degraded SLIs.
pub(super) const LIST_RATE: f64 = 0.1;
/// Incident size above which a service counts as bursty.
const BURSTY: f64 = 20.0;
/// Total variation distance of the operation mixes above which they count as different.
const MIX_SHIFT: f64 = 0.1;
/// Seconds of silence after which the candidate counts as silent.
const SILENT_S: i64 = 15;
/// Burn of both versions that is called shared.
const SHARED_BURN: f64 = 5.0;

impl Judge {
    /// Everything known now.
    pub fn evidence(&self, memory: &Memory) -> Evidence {
        let (ln_e_bar, fail_threshold) = self.stand();
        Evidence {
            ln_e_bar,
            fail_threshold,
            score: score(ln_e_bar / fail_threshold, self.pass_fraction(memory)),
            slis: self.sli_evidence(memory),
            flags: self.flags(memory),
            ..self.counted(memory)
        }
    }

    /// The part of it that is this judge's own even where others sit beside it: no sums, lines or flags.
    pub(super) fn counted(&self, memory: &Memory) -> Evidence {
        let pass_threshold = self.policy.pass_threshold();
        Evidence {
            slot: self.last_slot,
            pass_threshold,
            requests: self.requests,
            errors: self.errors,
            requests_needed: self.passing.requests_needed(pass_threshold, self.required(memory)),
            incident_size: memory.incident_size(),
            coarse_scale: self.context.coarse_scale,
            mix: self.mix_shift(),
            ..Evidence::default()
        }
    }

    /// The evidence of a decision: everything known now, and what the sum is made of.
    pub fn decisive_evidence(&self, memory: &Memory) -> Evidence {
        Evidence { slot_log: Some(Arc::new(self.slot_log())), ..self.evidence(memory) }
    }

    /// The evidence that counts now: the decision's; after it the watch's; against a baseline that is gone,
    /// what no fail reads.
    fn counting(&self) -> &Processes {
        match &self.watches {
            None => &self.processes,
            Some(watches) if !self.gone => watches,
            Some(_) => &self.after,
        }
    }

    /// Where the evidence that counts now stands, and where it is a fail.
    fn stand(&self) -> (f64, f64) {
        let counting = self.counting();
        (counting.ln_combined(&self.weights.each), self.threshold(counting))
    }

    /// What the weighted sum of a set must reach: 1/alpha once, or in a watch 43,200, for ever.
    pub(super) fn threshold(&self, set: &Processes) -> f64 {
        if set.is_watch() { watch_threshold() } else { self.policy.fail_threshold() }
    }

    /// The bounded log of the evidence that counts now, and what stood before it.
    pub fn slot_log(&self) -> SlotLog {
        self.counting().slot_log(self.last_slot)
    }

    /// What to bear in mind, in the order of [`Flag::ALL`].
    pub fn flags(&self, memory: &Memory) -> Vec<Flag> {
        Flag::ALL.into_iter().filter(|flag| self.is_set(*flag, memory)).collect()
    }

    fn is_set(&self, flag: Flag, memory: &Memory) -> bool {
        let now = self.last_slot + self.timing.slot_s();
        let instances = self.instances.present(now, self.timing);
        let burn = |i: usize| {
            self.errors[i] as f64 > SHARED_BURN * self.policy.error_budget() * self.requests[i] as f64
        };
        match flag {
            // One that served before the change, too, is compared with itself.
            Flag::SinglePod => instances == 1 && self.change.is_none_or(|change| change.has_restarted()),
            Flag::MixShift => self.mix_shift().is_some_and(|shift| shift.distance > MIX_SHIFT),
            Flag::OperationsDiffer => self.renamed(),
            Flag::TooHeterogeneous => {
                let (factor, _) = self
                    .spread
                    .unwrap_or_default()
                    .margins(instances, memory.instances_present(now) as usize);
                self.policy.error_ratio * factor > self.policy.pass_error_ratio
            }
            Flag::RememberedBaseline => self.gone,
            Flag::BiasedInput => self.context.biased_input,
            Flag::InstancesRestart => self.context.instances_restart,
            Flag::BaselineCold => self.baseline_young,
            Flag::Bursty => memory.incident_size() > BURSTY,
            Flag::InstancesUnknown => self.requests[0] > 0 && instances == 0,
            Flag::CandidateSilent => self.is_silent() && (!self.gone || self.change.is_some()),
            Flag::LateData => self.context.late_data,
            Flag::SharedBurn => burn(0) && burn(1),
            Flag::Degraded => self.degraded(),
            // Whoever sees both sources can tell.
            Flag::Sampled => false,
            // Set by who knows the senders.
            Flag::SdkDiffers => false,
            // Set by who sees the cohorts.
            Flag::CohortWorse => false,
            // Set by who knows other days.
            Flag::AsOtherDays => false,
            // Set by who knows where instances run.
            Flag::ZoneSkew => false,
            // Set by who knows the intended share.
            Flag::ShareMismatch => false,
        }
    }

    /// Whether the candidate has shown no request of late.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_s() >= self.timing.at_least(SILENT_S, 2)
    }

    fn sli_evidence(&self, memory: &Memory) -> Vec<SliEvidence> {
        let lines = self.lines(memory);
        let e_values: Vec<f64> = lines.iter().map(|line| line.0).collect();
        let mut slis: Vec<SliEvidence> = lines.into_iter().map(|line| line.1).collect();
        degraded_list(&e_values, LIST_RATE).into_iter().for_each(|i| slis[i].degraded = true);
        slis.sort_by(place);
        slis
    }

    /// All processes in the order of their keys, each with the ln of its e-value; none is marked as degraded.
    pub(super) fn lines(&self, memory: &Memory) -> Vec<(f64, SliEvidence)> {
        let counting = self.counting();
        let mass = counting.ln_mass(self.last_slot);
        let mut begun = counting.in_order();
        let line = |(key, weight): (&Key, &f64)| {
            let (ln_e, counts) = begun.find(key).map_or((0.0, [0.0; 4]), |kept| (kept.ln(), kept.totals()));
            let line = self.one(key, *weight, (ln_e, counts), memory);
            (ln_e - mass, line)
        };
        self.weights.each.iter().map(line).collect()
    }

    fn one(&self, key: &Key, weight: f64, (ln_e, counts): (f64, [f64; 4]), memory: &Memory) -> SliEvidence {
        let pass = Passing::SLIS.iter().position(|sli| *sli == key.sli && key.operation.is_none());
        let mut line = SliEvidence {
            sli: key.sli,
            operation: key.operation.clone(),
            weight,
            ln_e,
            ln_e_pass: pass.map(|i| self.passing.ln_e()[i]),
            requests: [counts[0] as u64, counts[2] as u64],
            bad: [counts[1] as u64, counts[3] as u64],
            ratio: ratio_interval(counts, self.phi(key, memory)),
            ..SliEvidence::default()
        };
        if let Some(q) = quantile(key.sli) {
            self.tell_threshold(key, q, memory, &mut line);
        }
        line
    }

    /// Dispersion of an SLI, at least 1.
    fn phi(&self, key: &Key, memory: &Memory) -> f64 {
        let stratum = key.operation.as_ref().and_then(|o| memory.strata.get(o));
        let own: &Dispersions = stratum.map_or(&memory.dispersions, |s| &s.dispersions);
        let dispersion = match key.sli {
            Sli::LatencyP50 => &own.p50,
            Sli::LatencyP75 => &memory.p75,
            Sli::LatencyP95 => &own.p95,
            Sli::LatencyP99 => &own.p99,
            Sli::ClientErrors => &memory.client_errors,
            Sli::ErrorRate | Sli::Guard | Sli::Absolute | Sli::Own(_) => &own.errors,
        };
        dispersion.phi().max(1.0)
    }

    /// Says at which latency an SLI is tested, and how finely.
    fn tell_threshold(&self, key: &Key, q: usize, memory: &Memory, line: &mut SliEvidence) {
        let Some(name) = &key.operation else {
            line.grain = self.service_grain(q, memory);
            return;
        };
        let Some(stratum) = memory.strata.get(name) else { return };
        let bounds = self.buckets_of(name, stratum);
        match (self.testing(Some(name), q, memory), &bounds) {
            (Testing::At(bucket), None) => line.threshold_seconds = Some(layout::upper_edge_seconds(bucket)),
            (Testing::At(at), Some(bounds)) => {
                line.grain = Grain::Bound;
                line.threshold_seconds = usize::try_from(at).ok().and_then(|at| bounds.get(at)).copied();
                line.exceedance = line.threshold_seconds.and_then(|bound| stratum.exceedance(bound));
            }
            (Testing::Not, _) => line.grain = Grain::NotTestable,
            (Testing::Unknown, _) => {}
        }
    }

    /// Shares, evidence and starts of all processes, by name: what a trace shows.
    pub fn trace(&self) -> Vec<(String, f64, f64, Option<i64>)> {
        let line = |(key, weight): (&Key, &f64)| {
            (key.name(), *weight, self.processes.ln(key), self.processes.start(key))
        };
        self.weights.each.iter().map(line).collect()
    }

    /// ln E of the required SLIs on the way to PASS: errors, p50, p95, p99.
    pub fn ln_e_pass(&self) -> [f64; 4] {
        self.passing.ln_e()
    }

    /// First slot of the latency comparison, once known.
    pub fn latency_from(&self) -> Option<i64> {
        self.settling.from
    }

    /// Predicted share above the baseline's median, per operation.
    pub fn predicted_shares(&self) -> impl Iterator<Item = (&Arc<str>, f64)> {
        self.operations.iter().map(|(o, state)| (o, state.predicted()))
    }
}

/// Reading order: the service before its operations, SLIs by name, operations by evidence.
pub(super) fn place(a: &SliEvidence, b: &SliEvidence) -> std::cmp::Ordering {
    let of_operation = |e: &SliEvidence| e.operation.is_some();
    of_operation(a)
        .cmp(&of_operation(b))
        .then_with(|| if of_operation(a) { b.ln_e.total_cmp(&a.ln_e) } else { a.sli.cmp(&b.sli) })
}

impl Memory {
    /// Remembered errors and requests, decayed.
    pub fn remembered(&self) -> [f64; 2] {
        [self.errors, self.requests]
    }

    /// Incident sizes without instance groups at service level: errors, p50, p75, p95, p99.
    pub fn incident_sizes_in_time(&self) -> [f64; 5] {
        let d = &self.dispersions;
        [&d.errors, &d.p50, &self.p75, &d.p95, &d.p99].map(|d| d.incident_size_in_time())
    }
}
