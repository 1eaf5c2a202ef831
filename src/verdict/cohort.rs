//! Cohorts: the requests of one value of a dimension, such as a region or a kind of client. Each that the baseline has
//! shown is judged on its own, by the same judge, against what the baseline showed of the same cohort; the verdict of
//! the whole compares within them, so that a version that merely serves more of a far region is not taken for a slower
//! one. Where the policy lets regions decide, alpha is halved: one half is for the whole, the other for all regions
//! together.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::Change;
use super::evidence::SliEvidence;
use super::input::{Arm, Cells, SlotInput};
use super::judge::{Context, Judge};
use super::memory::Memory;
use super::policy::Policy;
use super::summary::{LIST_RATE, place};
use crate::model::snapshot::{snapshot_fields, snapshot_index};
use crate::model::{DIMENSION_VALUES_MAX, DIMENSIONS_MAX, Slot, Source};
use crate::stats::{degraded_list, watch_threshold};

/// Combinations of values of one service; beyond it only the value of the first dimension is told apart.
pub const COHORTS_MAX: usize = 32;
/// Values of all dimensions, `(other)` and `(none)` of each included: as many are judged.
pub(crate) const VALUES_MAX: usize = DIMENSIONS_MAX * (DIMENSION_VALUES_MAX + 2);
/// Labels that one version is remembered by: values, combinations, and those beyond their cap, which keep the value of
/// the first dimension.
pub(crate) const LABELS_MAX: usize = VALUES_MAX + COHORTS_MAX + DIMENSION_VALUES_MAX + 2 + 1;
/// The value under which those beyond the cap are counted.
pub const OTHER_VALUE: &str = "(other)";
/// The value of requests that have none.
pub const NO_VALUE: &str = "(none)";
/// The label of requests that are not told apart, for want of room.
pub const NO_COHORT: &str = "(all)";
/// Between the values of several dimensions; no value has it.
const BETWEEN: &str = "\u{1f}";

/// A region is well while the odds that it is worse, which began at 1 to 1, are below 2 to 1,
const WELL: f64 = std::f64::consts::LN_2;
/// and once the candidate has served so many requests in it: of 50 one fails, with 95 %, where 6 % do.
const WELL_REQUESTS: u64 = 50;

/// The label of a value of a dimension.
pub fn cohort_label(attribute: &str, value: &str) -> String {
    format!("{attribute}={}", value.replace(BETWEEN, " "))
}

/// The label of a value of each of several dimensions.
pub fn joint_label(each: &[Arc<str>]) -> String {
    each.join(BETWEEN)
}

/// The labels that one of several dimensions is made of.
pub(super) fn labels_of_joint(label: &str) -> impl Iterator<Item = &str> {
    label.split(BETWEEN)
}

/// Attribute and value of a label. Names of attributes have no `=`, which the configuration sees to.
pub fn cohort_parts(label: &str) -> (&str, &str) {
    label.split_once('=').unwrap_or((label, ""))
}

/// An attribute by which the requests of a service are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// Its name, on the span or on its resource.
    pub attribute: String,
    /// Values that are told apart; the first to come, the rest is one.
    pub values: u8,
}

snapshot_fields!(Dimension { attribute, values });

/// What a region that is worse leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RegionAction {
    /// It is told, and holds a PASS back.
    #[default]
    Report,
    /// It is a FAIL, of that region if the others are well.
    Fail,
}

impl RegionAction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Report, Self::Fail];

    /// The word used in the configuration and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Fail => "fail",
        }
    }
}

snapshot_index!(RegionAction);

/// The dimension whose values are regions, and what one that is worse leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions {
    /// The attribute that names them.
    pub attribute: String,
    /// What one that is worse leads to.
    pub action: RegionAction,
}

snapshot_fields!(Regions { attribute, action });

/// One cohort of one version in one slot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CohortArm {
    /// What is compared.
    pub arm: Arm,
    /// What started before the candidate's first request: remembered, not compared.
    pub started_before: Cells,
    /// Whether it names a value of every dimension: by these operations are split.
    pub is_joint: bool,
}

impl CohortArm {
    /// Whether it has any request.
    pub(crate) fn is_present(&self) -> bool {
        !self.arm.is_silent() || !self.started_before.is_empty()
    }
}

/// What is known of one cohort.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CohortEvidence {
    /// The attribute.
    pub attribute: String,
    /// Its value.
    pub value: String,
    /// ln of the weighted average of its own evidence.
    pub ln_e: f64,
    /// At which it counts as worse: ln(2R/alpha) of R regions, ln(R/alpha) of R values of another dimension.
    pub threshold: f64,
    /// Requests compared: candidate, baseline.
    pub requests: [u64; 2],
    /// Failed ones among them.
    pub errors: [u64; 2],
    /// Whether it is shown to be worse: at its threshold, or on the list of what is worse of a version that failed.
    pub is_worse: bool,
    /// The SLI with most of its evidence.
    pub sli: Option<SliEvidence>,
}

snapshot_fields!(CohortEvidence { attribute, value, ln_e, threshold, requests, errors, is_worse, sli });

/// What the regions say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegionEvidence {
    /// The attribute that names them.
    pub attribute: String,
    /// Number of regions that are judged: those that the baseline had shown before the candidate's first request.
    pub judged: usize,
    /// What one that is worse leads to.
    pub action: RegionAction,
    /// The single region that is worse while the others are well.
    pub odd: Option<String>,
    /// Regions that an action is for; empty: all.
    pub scope: Vec<String>,
}

impl RegionEvidence {
    /// What an action is for: `all`, or `region=NAME` for each.
    pub fn scope(&self) -> Vec<String> {
        if self.scope.is_empty() {
            return vec!["all".into()];
        }
        self.scope.iter().map(|region| format!("region={region}")).collect()
    }
}

snapshot_fields!(RegionEvidence { attribute, judged, action, odd, scope });

/// A difference between what the versions serve.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MixShift {
    /// What differs: `operation`, or the attribute of a dimension.
    pub by: String,
    /// The value whose share differs most.
    pub value: String,
    /// Its share of the requests of candidate and baseline.
    pub shares: [f64; 2],
    /// Total variation distance between the mixes, 0 to 1.
    pub distance: f64,
}

snapshot_fields!(MixShift { by, value, shares, distance });

impl MixShift {
    /// The distance between the mixes of `counts`, requests of candidate and baseline by value; `None` before both
    /// have shown any.
    pub(crate) fn of<'a>(by: &str, counts: impl Iterator<Item = (&'a str, [u64; 2])>) -> Option<Self> {
        let counts: Vec<(&str, [u64; 2])> = counts.collect();
        let all = counts.iter().fold([0, 0], |s, (_, c)| [s[0] + c[0], s[1] + c[1]]);
        if all.contains(&0) {
            return None;
        }
        let shares = |c: [u64; 2]| [c[0] as f64 / all[0] as f64, c[1] as f64 / all[1] as f64];
        let gap = |c: [u64; 2]| (shares(c)[0] - shares(c)[1]).abs();
        let distance = 0.5 * counts.iter().map(|(_, c)| gap(*c)).sum::<f64>();
        let (value, most) = counts.into_iter().max_by(|a, b| gap(a.1).total_cmp(&gap(b.1)))?;
        Some(Self { by: by.into(), value: value.into(), shares: shares(most), distance })
    }
}

/// The judges of the cohorts of one deployment, and the regions that were fixed before its data.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct CohortJudges {
    each: BTreeMap<Arc<str>, Judge>,
    /// Labels of the regions that are judged; `None` until the candidate's first request.
    regions: Option<Vec<Arc<str>>>,
    watching: bool,
    /// By whose requests they are judged: spans, where the baseline has shown any. Fixed with the first judge.
    source: Option<Source>,
}

snapshot_fields!(CohortJudges { each, regions, watching, source });

impl CohortJudges {
    /// No judges yet; `watching` as after [`CohortJudges::watch`].
    pub(crate) fn begun(watching: bool) -> Self {
        Self { watching, ..Self::default() }
    }

    /// Whether they are judged by the requests of this source.
    pub(crate) fn are_of(&self, source: Source) -> bool {
        self.source == Some(source)
    }

    /// By whose requests cohorts are judged; spans until there is any.
    pub(crate) fn source(&self) -> Source {
        self.source.unwrap_or_default()
    }

    /// Judges slot `t` of every cohort that the baseline has shown. `seen` says whether the candidate has any request
    /// in it: with its first one the regions are fixed, by what the baseline showed before.
    pub(crate) fn slot(
        &mut self,
        (source, t): (Source, Slot),
        (policy, (change, settle_s)): (&Policy, (Option<Change>, i64)),
        context: Context,
        memory: &Memory,
        input: &SlotInput,
    ) {
        if policy.dimensions.is_empty() || self.source.is_some_and(|other| other != source) {
            return;
        }
        if self.regions.is_none() && !input.candidate.is_silent() {
            self.regions = Some(regions(policy, memory));
        }
        let nothing = CohortArm::default();
        for (label, of_cohort) in &memory.cohorts {
            if of_cohort.first.is_none() || !policy.has_dimension(cohort_parts(label).0) || is_joint(label) {
                continue;
            }
            if !self.each.contains_key(label) {
                if self.each.len() >= VALUES_MAX {
                    continue;
                }
                let (policy, timing) = (policy.of_cohort(), of_cohort.timing());
                let mut judge = match change {
                    Some(change) => Judge::after(change, policy, timing),
                    None => Judge::new(policy, timing).settling_after(settle_s),
                };
                // The whole says how long the release took.
                judge.warming.stop();
                self.each.insert(Arc::clone(label), judge);
                self.source = Some(source);
            }
            let Some(judge) = self.each.get_mut(label) else { continue };
            let arm = |arm: &Arm| {
                let own = arm.cohorts.get(label).unwrap_or(&nothing).arm.clone();
                Arm { cohorts: combinations(policy, arm, label), ..own }
            };
            let input = SlotInput {
                baseline: arm(&input.baseline),
                started_before: input.baseline.cohorts.get(label).unwrap_or(&nothing).started_before.clone(),
                candidate: arm(&input.candidate),
            };
            judge.set_context(context);
            // A decision is shown with what the whole is made of: of a value only the last slot's lines are there.
            judge.forget_log();
            judge.slot_within(t, of_cohort, memory, &input);
            if self.watching {
                judge.watch();
            }
        }
    }

    /// From the next slot on the candidate is watched.
    pub(crate) fn watch(&mut self) {
        self.watching = true;
        self.each.values_mut().filter(|judge| judge.last_slot() > 0).for_each(Judge::watch);
    }

    /// The judge of each value.
    #[cfg(test)]
    pub(crate) fn judges(&self) -> impl Iterator<Item = (&str, &Judge)> {
        self.each.iter().map(|(label, judge)| (&**label, judge))
    }

    /// Labels of the regions that were fixed.
    #[cfg(test)]
    pub(crate) fn region_labels(&self) -> &[Arc<str>] {
        self.regions.as_deref().unwrap_or_default()
    }

    /// Number of regions by which a verdict may be decided.
    pub(crate) fn deciding(&self, policy: &Policy) -> usize {
        let acts = policy.regions.as_ref().is_some_and(|regions| regions.action == RegionAction::Fail);
        let judged = self.regions.as_ref().map_or(0, Vec::len);
        if acts && judged > 1 { judged } else { 0 }
    }

    /// ln of what the evidence of the whole must reach more, where regions decide too: half of alpha is theirs.
    pub(crate) fn surcharge(&self, policy: &Policy) -> f64 {
        // From the start, also of what decides before the regions are fixed: metrics may come before spans.
        let acts = policy.regions.as_ref().is_some_and(|regions| regions.action == RegionAction::Fail);
        let may_decide = acts && self.regions.as_ref().is_none_or(|regions| regions.len() > 1);
        if may_decide { std::f64::consts::LN_2 } else { 0.0 }
    }

    fn base(&self, policy: &Policy) -> f64 {
        if self.watching { watch_threshold() } else { policy.fail_threshold() }
    }

    /// At which a value of a dimension counts as worse. Of regions that decide it is ln(2R/alpha).
    fn threshold(&self, policy: &Policy, attribute: &str) -> f64 {
        let is_region = policy.regions.as_ref().is_some_and(|regions| regions.attribute == attribute);
        if is_region && let Some(regions) = self.regions.as_ref().filter(|regions| !regions.is_empty()) {
            return self.base(policy) + (2.0 * regions.len() as f64).ln();
        }
        let values = self.each.keys().filter(|label| cohort_parts(label).0 == attribute).count();
        self.base(policy) + (values.max(1) as f64).ln()
    }

    fn region_judges(&self) -> impl Iterator<Item = (&Arc<str>, Option<&Judge>)> {
        self.regions.iter().flatten().map(|label| (label, self.each.get(label)))
    }

    /// What counts now; a watch fails only against a baseline that serves.
    fn ln_e(&self, judge: &Judge) -> f64 {
        if self.watching { judge.ln_watch() } else { judge.ln_e_bar() }
    }

    /// Whether nothing is wrong with a cohort, and something would have shown; where the candidate serves nothing,
    /// nothing is.
    fn is_well(&self, judge: &Judge) -> bool {
        let has_shown = judge.first_slot().is_none() || judge.requests[0] >= WELL_REQUESTS;
        has_shown && self.ln_e(judge) < WELL
    }

    /// Whether a region is worse by its own evidence, where regions decide.
    pub(crate) fn fails(&self, policy: &Policy) -> bool {
        let Some(regions) = policy.regions.as_ref().filter(|_| self.deciding(policy) > 0) else {
            return false;
        };
        let threshold = self.threshold(policy, &regions.attribute);
        self.region_judges().any(|(_, judge)| judge.is_some_and(|judge| self.ln_e(judge) >= threshold))
    }

    /// Whether any value is shown to be worse.
    pub(crate) fn is_any_worse(&self, policy: &Policy) -> bool {
        self.each.iter().any(|(label, judge)| {
            self.is_judged(policy, label) && self.ln_e(judge) >= self.threshold(policy, cohort_parts(label).0)
        })
    }

    /// Of regions those that were fixed; of other dimensions all.
    fn is_judged(&self, policy: &Policy, label: &Arc<str>) -> bool {
        let is_region =
            policy.regions.as_ref().is_some_and(|regions| regions.attribute == cohort_parts(label).0);
        !is_region || self.regions.as_ref().is_some_and(|regions| regions.contains(label))
    }

    /// The evidence of all cohorts, the worst first.
    pub(crate) fn evidence(&self, policy: &Policy, memory: &Memory, is_fail: bool) -> Vec<CohortEvidence> {
        let one = |(label, judge): (&Arc<str>, &Judge)| {
            let (attribute, value) = cohort_parts(label);
            let of_cohort = memory.cohorts.get(label)?;
            let mut lines: Vec<SliEvidence> = judge
                .lines(of_cohort)
                .into_iter()
                .map(|(_, line)| line)
                .filter(|line| line.operation.is_none() && line.ln_e > 0.0)
                .collect();
            lines.sort_by(place);
            let heaviest = lines
                .into_iter()
                .max_by(|a, b| (a.ln_e + a.weight.ln()).total_cmp(&(b.ln_e + b.weight.ln())));
            let (ln_e, threshold) = (self.ln_e(judge), self.threshold(policy, attribute));
            Some(CohortEvidence {
                attribute: attribute.into(),
                value: value.into(),
                ln_e,
                threshold,
                requests: judge.requests,
                errors: judge.errors,
                is_worse: ln_e >= threshold && self.is_judged(policy, label),
                sli: heaviest,
            })
        };
        let mut all: Vec<CohortEvidence> = self.each.iter().filter_map(one).collect();
        all.sort_by(|a, b| b.ln_e.total_cmp(&a.ln_e));
        for dimension in policy.dimensions.iter().filter(|_| is_fail && !self.watching) {
            // Once the version has failed, the list of what is worse is made as for SLIs.
            let own: Vec<usize> =
                (0..all.len()).filter(|i| all[*i].attribute == dimension.attribute).collect();
            let e_values: Vec<f64> = own.iter().map(|i| all[*i].ln_e).collect();
            degraded_list(&e_values, LIST_RATE).into_iter().for_each(|i| all[own[i]].is_worse = true);
        }
        all
    }

    /// What the regions say; `None` where the policy has none or fewer than two are judged.
    pub(crate) fn regions(&self, policy: &Policy, is_fail: bool) -> Option<RegionEvidence> {
        let regions = policy.regions.as_ref()?;
        let judged: Vec<(&str, f64)> = self
            .region_judges()
            .map(|(label, judge)| (cohort_parts(label).1, judge.map_or(0.0, |judge| self.ln_e(judge))))
            .collect();
        if judged.len() < 2 {
            return None;
        }
        let threshold = self.threshold(policy, &regions.attribute);
        // Whatever requests say of where they came from, and those that say nothing, have to be well.
        let is_named_worse =
            |label: &str, worse: &[usize]| worse.iter().any(|i| judged[*i].0 == cohort_parts(label).1);
        let of_region = self.each.iter().filter(|(label, _)| cohort_parts(label).0 == regions.attribute);
        let others_are_well = |worse: &[usize]| {
            let mut others = of_region.clone().filter(|(label, _)| !is_named_worse(label, worse));
            others.all(|(_, judge)| self.is_well(judge))
        };
        // Once the version has failed, the list of what is worse is made as for SLIs.
        let worse: Vec<usize> = if is_fail && !self.watching {
            let e_values: Vec<f64> = judged.iter().map(|(_, ln_e)| *ln_e).collect();
            degraded_list(&e_values, LIST_RATE)
        } else {
            (0..judged.len()).filter(|i| judged[*i].1 >= threshold).collect()
        };
        let apart = !worse.is_empty() && worse.len() < judged.len() && others_are_well(&worse);
        let names: Vec<String> =
            if apart { worse.iter().map(|i| judged[*i].0.to_owned()).collect() } else { Vec::new() };
        Some(RegionEvidence {
            attribute: regions.attribute.clone(),
            judged: judged.len(),
            action: regions.action,
            odd: names.first().filter(|_| names.len() == 1).cloned(),
            scope: if self.deciding(policy) > 0 { names } else { Vec::new() },
        })
    }
}

/// The combinations of values that one value is part of: by the others the mix within it may shift.
fn combinations(policy: &Policy, arm: &Arm, label: &str) -> BTreeMap<Arc<str>, CohortArm> {
    if policy.dimensions.len() < 2 {
        return BTreeMap::new();
    }
    let is_within = |joint: &str| joint.contains(BETWEEN) && joint.split(BETWEEN).any(|own| own == label);
    let within = arm.cohorts.iter().filter(|(joint, _)| is_within(joint));
    within.map(|(joint, one)| (Arc::clone(joint), one.clone())).collect()
}

/// Whether a label names values of several dimensions, or none.
pub(super) fn is_joint(label: &str) -> bool {
    label == NO_COHORT || label.contains(BETWEEN)
}

/// The regions that the baseline has shown, capped; values beyond the cap of the dimension and requests without one are
/// no region.
fn regions(policy: &Policy, memory: &Memory) -> Vec<Arc<str>> {
    let Some(regions) = &policy.regions else { return Vec::new() };
    let of_region = |label: &str| {
        let (attribute, value) = cohort_parts(label);
        attribute == regions.attribute && value != OTHER_VALUE && value != NO_VALUE && !is_joint(label)
    };
    let shown = memory.cohorts.iter().filter(|(label, one)| of_region(label) && one.requests > 0.0);
    shown.map(|(label, _)| Arc::clone(label)).take(COHORTS_MAX).collect()
}

/// Requests of the last five minutes of both versions in one part of an operation: whether it is thick enough.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Rolling {
    buckets: std::collections::VecDeque<(Slot, [u64; 2])>,
}

snapshot_fields!(Rolling { buckets });

impl Rolling {
    /// Seconds that count, and of one bucket.
    const WINDOW_S: i64 = 300;
    const BUCKET_S: i64 = 10;
    /// Requests that both versions need.
    const LEAST: u64 = 20;

    pub(crate) fn add(&mut self, t: Slot, requests: [u64; 2]) {
        let begin = t - t.rem_euclid(Self::BUCKET_S);
        match self.buckets.back_mut() {
            Some((last, counts)) if *last == begin => {
                counts[0] += requests[0];
                counts[1] += requests[1];
            }
            _ => self.buckets.push_back((begin, requests)),
        }
        self.forget(t);
    }

    /// Forgets what is too old at slot `t`.
    pub(crate) fn forget(&mut self, t: Slot) {
        while self.buckets.front().is_some_and(|(begin, _)| *begin <= t - Self::WINDOW_S - Self::BUCKET_S) {
            self.buckets.pop_front();
        }
    }

    /// Whether both versions had enough before slot `t`.
    pub(crate) fn is_thick(&mut self, t: Slot) -> bool {
        self.forget(t);
        self.sums().into_iter().all(|sum| sum >= Self::LEAST)
    }

    /// Requests of both versions that count.
    pub(crate) fn sums(&self) -> [u64; 2] {
        self.buckets.iter().fold([0, 0], |sums, (_, counts)| [sums[0] + counts[0], sums[1] + counts[1]])
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

#[cfg(test)]
#[path = "cohort_tests.rs"]
mod tests;
