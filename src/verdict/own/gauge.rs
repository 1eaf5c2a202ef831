//! Gauges: memory, queue length, cache hit ratio, pool use. What a young instance shows is held against what instances of
//! the service showed at the same age when they started before (section 9.1 of `docs/statistics.md`).
//!
//! Nothing is compared at the same time here, so nothing shared cancels, and four things keep the bet fair or worse than
//! that. Only ranks count, whatever the distribution is. Instances that start within half a minute of each other share their
//! causes, so one of them stands for all, on either side. Bins of age of the same instances are no witnesses for each
//! other: their evidence is averaged, never multiplied. And each start of the candidate's may add no more than a block of
//! any SLI, so that two of them never fail a version.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::evidence::{Grain, Sli, SliEvidence};
use super::super::policy::Policy;
use super::sli::{AgeEvidence, OwnEvidence, OwnSli, OwnTest};
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;
use crate::stats::{ln_rank_evidence, ln_sum_exp};
use crate::window::{AGES, Observed};

/// Starts that are remembered of each bin, the newest; and those of a candidate that count.
const KEPT: usize = 64;
/// Instances of earlier starts without which a bin says nothing.
const FEWEST: u32 = 3;
/// Instances of a version that start within so many seconds of each other are one start.
const APART_S: i64 = 30;
/// Share of the way to a fail that one start of the candidate's may go.
const CAP: f64 = 0.45;

/// Instances of a version that started together; the first of them that was observed stands for all.
#[derive(Debug, Clone, PartialEq)]
struct Start {
    version: Arc<str>,
    first: Slot,
    value: f64,
    instances: u32,
}

snapshot_fields!(Start { version, first, value, instances });

/// What instances of a service showed at each age when they started: 20 kB at most.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgeMemory {
    bins: BTreeMap<u8, VecDeque<Start>>,
}

snapshot_fields!(AgeMemory { bins });

impl AgeMemory {
    /// An instance of a version has shown this.
    pub fn add(&mut self, version: &Arc<str>, observed: &Observed) {
        let bin = self.bins.entry(observed.age).or_default();
        let same =
            |start: &&mut Start| start.version == *version && (start.first - observed.first).abs() < APART_S;
        if let Some(known) = bin.iter_mut().find(same) {
            known.instances = known.instances.saturating_add(1);
            return;
        }
        if bin.len() >= KEPT {
            bin.pop_front();
        }
        let (version, first, value) = (Arc::clone(version), observed.first, observed.value);
        bin.push_back(Start { version, first, value, instances: 1 });
    }

    /// Forgets what starts of a version from slot `since` on showed: it was found to be bad since then.
    pub fn forget(&mut self, version: &str, since: Slot) {
        let stays = |start: &Start| *start.version != *version || start.first < since;
        self.bins.values_mut().for_each(|bin| bin.retain(stays));
    }

    /// What other starts than the candidate's showed at an age, and the number of their instances.
    fn others(&self, age: u8, is_candidates: impl Fn(&str, Slot) -> bool) -> (Vec<f64>, u32) {
        let bin = self.bins.get(&age).into_iter().flatten();
        let others: Vec<&Start> = bin.filter(|start| !is_candidates(&start.version, start.first)).collect();
        let instances = others.iter().fold(0, |sum: u32, start| sum.saturating_add(start.instances));
        (others.iter().map(|start| start.value).collect(), instances)
    }
}

/// One bin of age.
#[derive(Debug, Clone, PartialEq, Default)]
struct Bin {
    /// Instances of the candidate, and of earlier starts.
    instances: [u32; 2],
    /// What earlier starts showed, as it was when the candidate's first was held against it; empty: not testable.
    earlier: Vec<f64>,
    /// The candidate's starts.
    new: Vec<(Slot, f64)>,
    /// ln of its e-value.
    ln_e: f64,
}

snapshot_fields!(Bin { instances, earlier, new, ln_e });

/// One gauge of a deployment.
#[derive(Debug, Clone, PartialEq)]
struct GaugeJudge {
    /// Its place in the policy.
    place: u8,
    bins: Vec<Bin>,
}

snapshot_fields!(GaugeJudge { place, bins });

impl Bin {
    fn add(&mut self, observed: &Observed, question: Question, earlier: impl FnOnce() -> (Vec<f64>, u32)) {
        self.instances[0] = self.instances[0].saturating_add(1);
        let stands = |(first, _): &(Slot, f64)| (first - observed.first).abs() < APART_S;
        // Which ones count depends on when they started and on nothing that they showed.
        if self.new.len() < KEPT && !self.new.iter().any(stands) {
            self.new.push((observed.first, observed.value));
        }
        if self.earlier.is_empty() {
            let (values, instances) = earlier();
            if instances >= FEWEST {
                (self.earlier, self.instances[1]) = (values, instances);
            }
        }
        if !self.earlier.is_empty() {
            let earlier: Vec<f64> = self.earlier.iter().map(|value| question.badness(*value)).collect();
            let new: Vec<f64> = self.new.iter().map(|(_, value)| question.tolerated(*value)).collect();
            self.ln_e = ln_rank_evidence(&earlier, &new).min(question.cap * new.len() as f64);
        }
    }

    fn is_testable(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// The middle of what either side showed.
    fn middles(&self) -> [Option<f64>; 2] {
        let new: Vec<f64> = self.new.iter().map(|(_, value)| *value).collect();
        [middle(new), middle(self.earlier.clone())]
    }

    /// Starts of either side that are worse than the middle of the earlier ones by more than is tolerated.
    fn beyond(&self, question: Question) -> [u64; 2] {
        let Some(middle) = middle(self.earlier.clone()) else { return [0; 2] };
        let limit = question.badness(middle);
        let new = self.new.iter().filter(|(_, value)| question.tolerated(*value) > limit).count();
        let earlier = self.earlier.iter().filter(|value| question.badness(**value) > limit).count();
        [new as u64, earlier as u64]
    }
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let at = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(at).copied(),
        _ => Some(f64::midpoint(*values.get(at.checked_sub(1)?)?, *values.get(at)?)),
    }
}

/// What is worse, and what is tolerated.
#[derive(Debug, Clone, Copy)]
struct Question {
    ratio: f64,
    slack: f64,
    is_decrease: bool,
    /// Nats that one start may add.
    cap: f64,
}

impl Question {
    fn of(sli: &OwnSli, policy: &Policy) -> Option<Self> {
        let OwnTest::Gauge { ratio, slack, is_decrease } = sli.test else { return None };
        Some(Self { ratio, slack, is_decrease, cap: CAP * policy.fail_threshold() })
    }

    /// A value with the worse ones above it.
    fn badness(self, value: f64) -> f64 {
        if self.is_decrease { -value } else { value }
    }

    /// The same of a candidate's, better by what is tolerated; of two the worse one stays the worse.
    fn tolerated(self, value: f64) -> f64 {
        if self.is_decrease {
            -(value + value.abs() * (self.ratio - 1.0) + self.slack)
        } else {
            let value = value - self.slack;
            value - value.abs() * (1.0 - 1.0 / self.ratio)
        }
    }
}

impl GaugeJudge {
    /// ln of the mean over the ages. What cannot be tested is a bet that stands.
    fn ln_e(&self) -> f64 {
        ln_sum_exp(self.bins.iter().map(|bin| bin.ln_e)) - (self.bins.len() as f64).ln()
    }

    fn line(&self, sli: &OwnSli, question: Question, weight: f64) -> SliEvidence {
        // The age that says most; the oldest of several.
        let known = self.bins.iter().filter(|bin| bin.is_testable());
        let clearest = known.max_by(|a, b| a.ln_e.total_cmp(&b.ln_e));
        let age = |(age, bin): (usize, &Bin)| AgeEvidence {
            age: age as u8,
            instances: bin.instances,
            starts: [bin.new.len() as u32, bin.earlier.len() as u32],
            middles: bin.middles(),
            ln_e: bin.ln_e,
            is_testable: bin.is_testable(),
        };
        SliEvidence {
            source: sli.source.clock(),
            sli: Sli::Own(self.place),
            weight,
            ln_e: self.ln_e(),
            requests: clearest.map_or([0; 2], |bin| [bin.new.len() as u64, bin.earlier.len() as u64]),
            bad: clearest.map_or([0; 2], |bin| bin.beyond(question)),
            grain: if clearest.is_some() { Grain::Fine } else { Grain::NotTestable },
            own: Some(Box::new(OwnEvidence {
                name: sli.name.clone(),
                kind: sli.kind,
                source: sli.source,
                is_decrease: question.is_decrease,
                required: sli.required,
                ages: self.bins.iter().enumerate().map(age).collect(),
                ..OwnEvidence::default()
            })),
            ..SliEvidence::default()
        }
    }
}

/// The gauges of a deployment.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::verdict) struct GaugeJudges {
    judges: Vec<GaugeJudge>,
}

snapshot_fields!(GaugeJudges { judges });

impl GaugeJudges {
    /// Those of a policy.
    pub(in crate::verdict) fn new(policy: &Policy) -> Self {
        let gauges = policy.slis.iter().enumerate().filter(|(_, sli)| sli.is_gauge());
        let judge = |(place, _)| GaugeJudge { place: place as u8, bins: vec![Bin::default(); AGES] };
        Self { judges: gauges.map(judge).collect() }
    }

    fn of_policy<'a>(
        &'a self,
        policy: &'a Policy,
    ) -> impl Iterator<Item = (&'a GaugeJudge, &'a OwnSli, Question)> {
        self.judges.iter().filter_map(|judge| {
            let sli = policy.slis.get(usize::from(judge.place))?;
            Some((judge, sli, Question::of(sli, policy)?))
        })
    }

    /// An instance of the candidate has shown this; `is_candidates` tells its starts in `memory` from the others.
    pub(in crate::verdict) fn observe(
        &mut self,
        policy: &Policy,
        observed: &Observed,
        memory: &AgeMemory,
        is_candidates: impl Fn(&str, Slot) -> bool,
    ) {
        for judge in &mut self.judges {
            let Some(sli) = policy.slis.get(usize::from(judge.place)) else { continue };
            let Some(question) = Question::of(sli, policy) else { continue };
            if sli.measure.key == observed.measure
                && let Some(bin) = judge.bins.get_mut(usize::from(observed.age))
            {
                bin.add(observed, question, || memory.others(observed.age, &is_candidates));
            }
        }
    }

    /// ln of the weighted sum of what they found; minus infinity without any of weight.
    pub(in crate::verdict) fn ln_sum(&self, policy: &Policy) -> f64 {
        let each = self.of_policy(policy).filter(|(_, sli, _)| sli.weight > 0.0);
        let parts: Vec<f64> = each.map(|(judge, sli, _)| sli.weight.ln() + judge.ln_e()).collect();
        ln_sum_exp(parts.into_iter())
    }

    /// The lines of its SLIs, each with the ln of its e-value. `share` is what remains of a weight.
    pub(in crate::verdict) fn lines(&self, policy: &Policy, share: f64) -> Vec<(f64, SliEvidence)> {
        let line = |(judge, sli, question): (&GaugeJudge, &OwnSli, Question)| {
            (judge.ln_e(), judge.line(sli, question, sli.weight * share))
        };
        self.of_policy(policy).map(line).collect()
    }
}

#[cfg(test)]
#[path = "gauge_tests.rs"]
mod tests;
