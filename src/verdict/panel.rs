//! The judges of one deployment: at most one for each source of counts. Spans and metrics of the same requests
//! are two witnesses of one thing. They share alpha between them, and their evidence is averaged; their counts
//! are never added. A PASS rests on one of them: the spans, unless they are only a sample of the requests.
//!
//! With spans only a panel is its judge: the same verdicts and the same numbers, to the bit.

mod shown;

use super::change::Change;
use super::cohort::CohortJudges;
use super::conclusion::Standing;
use super::coverage::Coverage;
use super::evidence::Verdict;
use super::input::{SlotInput, totals};
use super::judge::{Context, Judge};
use super::memory::Memory;
use super::own::{AgeMemory, GaugeJudges, OwnJudge, OwnSli, ShareJudges, Stage};
use super::policy::Policy;
use super::timing::Timing;
use super::warming::EarlierReleases;
use super::zones::ZoneMix;
use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};
use crate::model::{Slot, Source};
use crate::stats::ln_sum_exp;
use crate::window::Observed;

/// What is remembered of a version, by source; `None` where it never sent that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memories<'a> {
    /// From spans.
    pub spans: Option<&'a Memory>,
    /// From metrics.
    pub metrics: Option<&'a Memory>,
}

impl<'a> Memories<'a> {
    /// The memory of one source.
    pub fn of(&self, source: Source) -> Option<&'a Memory> {
        match source {
            Source::Spans => self.spans,
            Source::Metrics => self.metrics,
        }
    }
}

/// What a source showed of the baseline, for the other one: a version whose metrics stop while its spans go on
/// has not gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Presence {
    /// Last slot with a request.
    last: Option<Slot>,
    /// Whether it is gone by this source alone.
    gone: bool,
}

snapshot_fields!(Presence { last, gone });

/// The judges of one candidate against one baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    policy: Policy,
    /// Before and after: what its judges are about.
    change: Option<Change>,
    spans: Option<Judge>,
    metrics: Option<Judge>,
    /// Judges of the policy's own SLIs, by the source whose slots they are judged in.
    own: [Option<Box<OwnJudge>>; 2],
    /// Its gauges, which are not judged by slots.
    gauges: GaugeJudges,
    /// Shares of alpha, by source; fixed before the first slot with a request of the candidate is judged.
    shares: Option<[f64; 2]>,
    watching: bool,
    coverage: Coverage,
    presence: [Presence; 2],
    contexts: [Context; 2],
    /// Judges of the cohorts of its requests, by its spans where the baseline has shown any.
    cohorts: Box<CohortJudges>,
    /// Seconds that earlier releases of the service took to get fast; 0 where none is known.
    settle_s: i64,
    /// From where the versions serve.
    zones: Box<ZoneMix>,
    /// Whether the candidate gets its share; `None` where the policy does not ask.
    share: Option<Box<ShareJudges>>,
}

impl Snapshot for Panel {
    fn save(&self, out: &mut Writer) {
        self.policy.save(out);
        self.change.save(out);
        self.spans.save(out);
        self.metrics.save(out);
        self.own.iter().for_each(|own| own.save(out));
        self.gauges.save(out);
        self.shares.save(out);
        self.watching.save(out);
        self.coverage.save(out);
        self.presence.save(out);
        self.contexts.save(out);
        self.cohorts.save(out);
        self.settle_s.save(out);
        self.zones.save(out);
        self.share.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self {
            policy: Policy::load(from)?,
            change: Option::load(from)?,
            spans: Option::load(from)?,
            metrics: Option::load(from)?,
            own: [Option::load(from)?, Option::load(from)?],
            gauges: Snapshot::load(from)?,
            shares: Option::load(from)?,
            watching: bool::load(from)?,
            coverage: Coverage::load(from)?,
            presence: Snapshot::load(from)?,
            contexts: Snapshot::load(from)?,
            cohorts: Snapshot::load(from)?,
            settle_s: i64::load(from)?,
            zones: Snapshot::load(from)?,
            share: Option::load(from)?,
        })
    }
}

impl Panel {
    /// A panel that has seen nothing. It expects what the baseline has sent so far; spans, if nothing.
    pub fn new(policy: Policy, baseline: &Memories<'_>) -> Self {
        Self::of(None, policy, baseline, 0)
    }

    /// The same of a release of a service whose `earlier` ones took their time to get fast: it is held to its latency
    /// no sooner.
    pub fn release(policy: Policy, baseline: &Memories<'_>, earlier: &EarlierReleases) -> Self {
        let settle_s = earlier.settle_s(&policy).unwrap_or(0);
        Self::of(None, policy, baseline, settle_s)
    }

    /// A panel of what is after a change; `before` is what was remembered at it.
    pub fn after(change: Change, policy: Policy, before: &Memories<'_>) -> Self {
        Self::of(Some(change), policy, before, 0)
    }

    fn of(change: Option<Change>, policy: Policy, baseline: &Memories<'_>, settle_s: i64) -> Self {
        let mut panel = Self {
            gauges: GaugeJudges::new(&policy),
            share: ShareJudges::new(&policy).filter(|_| change.is_none()).map(Box::new),
            policy,
            change,
            spans: None,
            metrics: None,
            own: [None, None],
            shares: None,
            watching: false,
            coverage: Coverage::default(),
            presence: [Presence::default(); 2],
            contexts: [Context::default(); 2],
            cohorts: Box::default(),
            settle_s,
            zones: Box::default(),
        };
        let known = |source| baseline.of(source).is_some_and(|m| m.first.is_some());
        let none = Source::ALL.into_iter().all(|source| !known(source));
        for source in Source::ALL {
            if known(source) || (none && source == Source::Spans) {
                panel.admit(source, baseline.of(source));
            }
        }
        panel
    }

    fn admit(&mut self, source: Source, memory: Option<&Memory>) {
        if self.judge(source).is_some() {
            return;
        }
        let timing = memory.map(Memory::timing).unwrap_or_default();
        self.presence[source.index()].last = memory.and_then(|memory| memory.last);
        self.admit_own(source, timing);
        let (policy, change, settle_s) = (self.policy.clone(), self.change, self.settle_s);
        self.place(source).get_or_insert_with(|| match change {
            Some(change) => Judge::after(change, policy, timing),
            None => Judge::new(policy, timing).settling_after(settle_s),
        });
    }

    fn admit_own(&mut self, source: Source, timing: Timing) {
        if self.own[source.index()].is_none() && !self.policy.slis.is_empty() {
            self.own[source.index()] = OwnJudge::new(&self.policy, source, timing).map(Box::new);
        }
    }

    /// Begins anew with what one source shows: its slots have another length now, or count another metric. Shares of
    /// alpha stay as they were fixed.
    pub fn forget(&mut self, source: Source) {
        *self.place(source) = None;
        self.own[source.index()] = None;
        self.presence[source.index()] = Presence::default();
        self.coverage = Coverage::default();
        self.share.iter_mut().for_each(|share| share.forget(&self.policy, source));
        if source == self.cohorts.source() {
            *self.cohorts = CohortJudges::begun(self.watching);
        }
    }

    fn place(&mut self, source: Source) -> &mut Option<Judge> {
        match source {
            Source::Spans => &mut self.spans,
            Source::Metrics => &mut self.metrics,
        }
    }

    /// The judge of one source.
    pub fn judge(&self, source: Source) -> Option<&Judge> {
        match source {
            Source::Spans => self.spans.as_ref(),
            Source::Metrics => self.metrics.as_ref(),
        }
    }

    fn judges(&self) -> impl Iterator<Item = (Source, &Judge)> {
        Source::ALL.into_iter().filter_map(|source| Some((source, self.judge(source)?)))
    }

    /// The only judge there is.
    fn single(&self) -> Option<(Source, &Judge)> {
        let mut judges = self.judges();
        let first = judges.next()?;
        judges.next().is_none().then_some(first)
    }

    /// What the surroundings know of one source; takes effect from its next slot on.
    pub fn set_context(&mut self, source: Source, context: Context) {
        self.contexts[source.index()] = context;
    }

    /// Judges slot `t` of one source. `memory` is the baseline's of that source; the caller has called
    /// [`Memory::begin`] for the slot and calls [`Memory::end`] afterwards. A source that comes after the
    /// shares are fixed is judged with a share of 0: shown, but it decides nothing. One that neither version ever showed
    /// has no judge: slots pass for it, too.
    pub fn slot(&mut self, source: Source, t: Slot, memory: &Memory, input: &SlotInput) {
        let arms = [&input.candidate, &input.baseline];
        let has_requests = memory.first.is_some() || arms.iter().any(|arm| !arm.is_silent());
        let is_measured = !memory.measures.is_empty() || arms.iter().any(|arm| !arm.measures.is_empty());
        if has_requests || is_measured && source == Source::Spans {
            self.admit(source, Some(memory));
        } else if is_measured {
            // Metrics that count no requests are no witness of them.
            self.admit_own(source, memory.timing());
        }
        if !input.candidate.is_silent() {
            self.fix_shares(source);
        }
        self.compare_counts(source, t, memory, input);
        let stays = self.is_seen_elsewhere(source, memory);
        self.presence[source.index()] = Presence { last: memory.last, gone: memory.is_gone(t) };
        let (watching, context) = (self.watching, self.contexts[source.index()]);
        let tells_cohorts = match source {
            Source::Spans => memory.first.is_some() || self.metrics.is_none(),
            Source::Metrics => self.cohorts.are_of(source) || self.presence[0].last.is_none(),
        };
        if tells_cohorts {
            let beginning = (self.change, self.settle_s);
            self.cohorts.slot((source, t), (&self.policy, beginning), context, memory, input);
        }
        if let Some(judge) = self.place(source) {
            let gone_not_before = if stays { Slot::MAX } else { context.gone_not_before };
            judge.set_context(Context { gone_not_before, ..context });
            judge.slot(t, memory, input);
            if watching {
                judge.watch();
            }
        }
        if source == self.required() {
            self.zones.add(source, t, input);
        }
        self.judge_share(source, t, memory, input);
        let stage = self.stage(source, t);
        if let Some(own) = &mut self.own[source.index()] {
            own.slot(t, &self.policy, stage, memory, input);
            if watching {
                own.watch(&self.policy);
            }
        }
    }

    /// The share of requests that is meant to go to the candidate is this from slot `from` on, whatever the policy says.
    pub fn name_share(&mut self, from: Slot, share: f64) {
        self.share.iter_mut().for_each(|judges| judges.name(from, share));
    }

    /// Holds the requests of a slot against the share that is meant. Before a verdict only: what changes afterwards is the
    /// rollout going on. A candidate that is silent has a flag of its own, and one whose telemetry of this source stopped
    /// while the other one goes on gets its requests.
    fn judge_share(&mut self, source: Source, t: Slot, memory: &Memory, input: &SlotInput) {
        if self.watching || self.share.is_none() {
            return;
        }
        let is_chosen = source == self.required();
        let is_silent = self.judge(source).is_none_or(Judge::is_silent);
        let Some(stage) = self.stage(source, t).filter(|_| !is_silent) else { return };
        let Some(share) = &mut self.share else { return };
        if share.are_of(&self.policy, source, memory.timing(), is_chosen && t >= stage.begin) {
            let baseline = input.baseline.totals()[0] + totals(&input.started_before)[0];
            share.slot(t, &self.policy, stage, [input.candidate.totals()[0], baseline]);
        }
    }

    /// An instance of the candidate has shown what a gauge stands at while it was young; `memory` is what starts of the
    /// service showed. Before a verdict only, for nothing is concurrent here that a watch could rest on.
    pub fn observe(
        &mut self,
        observed: &Observed,
        memory: &AgeMemory,
        is_candidates: impl Fn(&str, Slot) -> bool,
    ) {
        if !self.watching {
            self.gauges.observe(&self.policy, observed, memory, is_candidates);
        }
    }

    /// Where the comparison stands by the requests of a source; by spans where metrics count none.
    fn stage(&self, source: Source, t: Slot) -> Option<Stage> {
        let of = |source| self.judge(source).and_then(|judge| judge.stage(t));
        let spans = || if source == Source::Metrics { of(Source::Spans) } else { None };
        of(source).or_else(spans)
    }

    /// Half for each source that has shown requests so far, all for a single one. `source` shows the candidate's first.
    fn fix_shares(&mut self, source: Source) {
        if self.shares.is_none() {
            let known = Source::ALL.map(|other| {
                let is_shown = other == source || self.presence[other.index()].last.is_some();
                is_shown && self.judge(other).is_some()
            });
            let share = if known == [true; 2] { 0.5 } else { 1.0 };
            self.shares = Some(known.map(|there| if there { share } else { 0.0 }));
        }
    }

    /// Holds the totals of the two sources against each other.
    fn compare_counts(&mut self, source: Source, t: Slot, memory: &Memory, input: &SlotInput) {
        let (Some(_), Some(metrics)) = (&self.spans, &self.metrics) else { return };
        let timing = if source == Source::Metrics { memory.timing() } else { metrics.timing };
        let baseline = input.baseline.totals()[0] + totals(&input.started_before)[0];
        self.coverage.add(source, t, [input.candidate.totals()[0], baseline], timing);
    }

    /// Whether the other source shows requests of the baseline for a whole slot of its own after this one fell
    /// silent: then the source has stopped, not the version.
    fn is_seen_elsewhere(&self, source: Source, memory: &Memory) -> bool {
        let other = source.other();
        let (Some(judge), Some(own)) = (self.judge(other), memory.last) else { return false };
        let there = self.presence[other.index()];
        !there.gone
            && there.last.is_some_and(|last| last - judge.timing.slot_s() >= own + memory.timing().slot_s())
    }

    /// The share of alpha of one source; what is not fixed yet is what it would be now.
    fn share(&self, source: Source) -> f64 {
        let single = self.judge(source.other()).is_none();
        self.shares.map_or(if single { 1.0 } else { 0.5 }, |shares| shares[source.index()])
    }

    /// ln of the weighted sum over the sources. A single one with the whole share is taken as it is.
    fn ln_sum(&self, of: impl Fn(&Judge) -> f64) -> f64 {
        let mut parts = Vec::new();
        for (source, judge) in self.judges() {
            match self.share(source) {
                1.0 => return of(judge),
                0.0 => {}
                share => parts.push(of(judge) + share.ln()),
            }
        }
        if parts.is_empty() { 0.0 } else { ln_sum_exp(parts.iter().copied()) }
    }

    /// The same with the policy's own SLIs. Alpha is one budget: their weights come beside the 1 of the others, and
    /// all of them together are brought back to 1. `set` is 0 for what decides, 1 for watches, 2 for what no FAIL
    /// reads. Without own SLIs of any weight it is the sum of the others, to the bit.
    fn with_own(&self, others: f64, set: usize) -> f64 {
        let weight = self.policy.own_weight();
        if weight <= 0.0 {
            return others;
        }
        let mut parts = vec![others];
        for (source, own) in Source::ALL.into_iter().zip(&self.own) {
            match own {
                Some(own) => parts.push(own.ln_sums(&self.policy)[set]),
                // Nothing of them came yet: a bet that stands as it was placed.
                None if set != 1 => {
                    let by_slots = |sli: &&OwnSli| sli.is_measured() && sli.source.clock() == source;
                    parts.push(self.weight_of(by_slots).ln());
                }
                None => {}
            }
        }
        match set {
            0 if self.change.is_none() => {
                parts.push(self.gauges.ln_sum(&self.policy));
                parts.extend(self.share.iter().map(|share| share.ln_sum(&self.policy)));
            }
            1 => {}
            _ => parts.push(self.weight_of(|sli| !sli.is_measured()).ln()),
        }
        ln_sum_exp(parts.iter().copied()) - (1.0 + weight).ln()
    }

    fn weight_of(&self, is_meant: impl FnMut(&&OwnSli) -> bool) -> f64 {
        self.policy.slis.iter().filter(is_meant).map(|sli| sli.weight).sum()
    }

    /// What is left of a weight beside those of the policy's own SLIs.
    fn rest(&self) -> f64 {
        1.0 / (1.0 + self.policy.own_weight())
    }

    fn own(&self) -> impl Iterator<Item = (Source, &OwnJudge)> {
        Source::ALL.into_iter().zip(&self.own).filter_map(|(source, own)| Some((source, own.as_deref()?)))
    }

    /// How far the slowest of the policy's own required SLIs has come; nowhere while nothing of one came.
    fn own_passed(&self) -> f64 {
        let is_missing = |sli: &OwnSli| sli.required && self.own[sli.source.clock().index()].is_none();
        if self.policy.slis.iter().any(is_missing) {
            return 0.0;
        }
        self.own().map(|(_, own)| own.pass_fraction(&self.policy)).fold(1.0, f64::min)
    }

    fn ln_watch(&self) -> f64 {
        self.with_own(self.ln_sum(Judge::ln_watch), 1)
    }

    fn ln_later(&self) -> f64 {
        self.with_own(self.ln_sum(Judge::ln_later), 2)
    }

    /// ln of the weighted average of all evidence so far.
    pub fn ln_e_bar(&self) -> f64 {
        self.with_own(self.ln_sum(Judge::ln_e_bar), 0)
    }

    /// The source on which a PASS rests: the spans, unless there are none that count or they are a sample.
    pub fn required(&self) -> Source {
        match (&self.spans, &self.metrics) {
            (Some(_), None) => Source::Spans,
            (None, _) => Source::Metrics,
            (Some(_), Some(_)) => {
                let late = self.share(Source::Spans) <= 0.0;
                if late || self.coverage.is_sampled() { Source::Metrics } else { Source::Spans }
            }
        }
    }

    /// The judge on whom a PASS rests.
    fn chair(&self) -> Option<&Judge> {
        self.judge(self.required())
    }

    /// The verdict as of the last slots. `Fail` and `Pass` are decisions; `Inconclusive` is answered once the
    /// horizon has ended; otherwise `Pending`.
    pub fn verdict(&self, memories: &Memories<'_>) -> Verdict {
        let weighed = |(source, judge): (Source, &Judge)| self.share(source) > 0.0 && judge.is_weighed();
        let (chair, memory) = (self.chair(), memories.of(self.required()));
        let passed = chair.zip(memory).map_or(0.0, |(judge, memory)| judge.pass_fraction(memory));
        let passed = passed.min(self.own_passed());
        Standing {
            ln_watch: self.watching.then(|| self.ln_watch()),
            ln_e_bar: self.judges().any(weighed).then(|| self.ln_e_bar()),
            age_s: self.judges().filter_map(|(_, judge)| judge.age_s()).max(),
            pass_age_s: chair.and_then(Judge::pass_age_s),
            passed,
            blocked: self.flags(memories).iter().any(|flag| flag.blocks_pass()),
            surcharge: self.cohorts.surcharge(&self.policy),
            region_fails: self.cohorts.fails(&self.policy),
        }
        .verdict(&self.policy)
    }

    /// From the next slots on the candidate is watched: a verdict other than `Fail` was taken.
    pub fn watch(&mut self) {
        self.watching = true;
        self.cohorts.watch();
        for judge in self.spans.iter_mut().chain(&mut self.metrics).filter(|judge| judge.last_slot() > 0) {
            judge.watch();
        }
        for own in self.own.iter_mut().flatten() {
            own.watch(&self.policy);
        }
    }

    /// Whether evidence that no FAIL reads has reached the threshold.
    pub fn degraded(&self) -> bool {
        let is_any = self.judges().any(|(_, judge)| judge.has_later_evidence())
            || self.own().any(|(_, own)| own.has_later_evidence());
        is_any && self.ln_later() >= self.threshold()
    }

    /// Whether the judge on whom a PASS rests has compared with nothing but what is remembered.
    pub fn is_remembered_only(&self) -> bool {
        self.chair().is_some_and(Judge::is_remembered_only)
    }

    /// Whether evidence of slot `t` counts towards FAIL.
    pub fn is_in_time(&self, t: Slot) -> bool {
        self.judges().any(|(source, judge)| self.share(source) > 0.0 && judge.in_time(t))
    }

    /// The first slot with a request of the candidate, of any source.
    pub fn first_slot(&self) -> Option<Slot> {
        self.judges().filter_map(|(_, judge)| judge.first_slot()).min()
    }

    /// Seconds until the first source is past the warm-up; `None` before the candidate's first request.
    pub fn warmup_left_s(&self) -> Option<i64> {
        self.judges().filter_map(|(_, judge)| judge.age_s()).max().map(|age| -age)
    }

    /// Seconds after its first request in which the candidate got fast, by the source that took longer; once ten minutes
    /// have been seen of each.
    pub fn settled_s(&self) -> Option<i64> {
        let judges = || self.judges().map(|(_, judge)| judge).filter(|judge| judge.first_slot().is_some());
        let longest = judges().filter_map(|judge| judge.warming.settled_s).max();
        longest.filter(|_| judges().all(|judge| judge.warming.is_over()))
    }
}

#[cfg(test)]
#[path = "panel_tests.rs"]
mod tests;
