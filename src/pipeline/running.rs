//! A deployment that is not over: its record, its judges while slots are judged, and what moves it on.

mod change;
mod other_days;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::arms::Closed;
use super::journal::Commit;
use super::version::Versions;
use crate::deployment::{
    Deployment, Event, Phase, Sighting, choose_baseline, is_version, recovery_deadline, transition,
};
use crate::model::{Exemplar, NANOS_PER_SECOND, Slot, Source, UnixNanos};
use crate::objective::Budget;
use crate::verdict::{
    AgeMemory, Context, EarlierReleases, Evidence, ExplainInput, Flag, LogEvidence, Memories, Panel,
    SlotInput, Verdict, Waiting, explain,
};
use crate::window::{Counts, Observed};

pub(super) use change::Before;
use change::Recovering;
pub(super) use other_days::SecondOpinion;

/// Trace ids kept with the evidence.
const EXEMPLARS: usize = 5;
/// Seconds an announced version may stay without any request.
const ANNOUNCED_S: u64 = 3600;
/// Below this share of spans in time the verdict says so.
pub(super) const COMPLETE: f64 = 0.99;

/// What the service knows and the slots do not show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings {
    pub(super) gone_not_before: Slot,
    pub(super) late_data: bool,
    /// Of the histograms, where it is coarser than the grid's.
    pub(super) coarse_scale: Option<i8>,
}

/// A deployment that is not over.
#[derive(Debug)]
pub(super) struct Running {
    deployment: Arc<Deployment>,
    panel: Option<Panel>,
    /// First slot that is judged: the first that was not yet open when the candidate was first seen, so
    /// that every request of the baseline in it could be held against the candidate's first start.
    judge_from: Slot,
    exemplars: Vec<String>,
    /// Whether the versions are instrumented differently.
    sdk_differs: bool,
    /// What the logs say, as of the last second.
    logs: Option<Arc<LogEvidence>>,
    /// What was remembered at the time of a change.
    before: Option<Arc<Before>>,
    /// What it does after a change that failed.
    recovering: Recovering,
    /// Requests and failed ones of its scope that were judged, where it has one.
    in_scope: [u64; 2],
    /// What other days say.
    second: SecondOpinion,
    /// Whether its service has been told how long its candidate took to get fast.
    is_learned: bool,
}

impl Running {
    pub(super) fn new(deployment: Deployment) -> Self {
        Self {
            deployment: Arc::new(deployment),
            panel: None,
            judge_from: Slot::MAX,
            exemplars: Vec::new(),
            sdk_differs: false,
            logs: None,
            before: None,
            recovering: Recovering::default(),
            in_scope: [0; 2],
            second: SecondOpinion::default(),
            is_learned: false,
        }
    }

    /// As it was before a restart. The judges go on; without any they begin anew.
    pub(super) fn restored(
        deployment: Arc<Deployment>,
        (panel, before, second): (Option<Panel>, Option<Before>, SecondOpinion),
        judge_from: Slot,
    ) -> Self {
        let panel = panel.filter(|_| deployment.phase.is_judging());
        let exemplars = deployment.evidence.exemplars.clone();
        let logs = deployment.evidence.logs.clone();
        let in_scope = [deployment.spent.requests, deployment.spent.failed];
        Self {
            deployment,
            panel,
            judge_from,
            exemplars,
            sdk_differs: false,
            logs,
            before: before.map(Arc::new),
            recovering: Recovering::default(),
            in_scope,
            second,
            is_learned: false,
        }
    }

    pub(super) fn deployment(&self) -> &Arc<Deployment> {
        &self.deployment
    }

    pub(super) fn into_deployment(self) -> Arc<Deployment> {
        self.deployment
    }

    pub(super) fn panel(&self) -> Option<&Panel> {
        self.panel.as_ref()
    }

    pub(super) fn judge_from(&self) -> Slot {
        self.judge_from
    }

    pub(super) fn is_over(&self) -> bool {
        self.deployment.phase.is_over()
    }

    /// Whether slots are judged; not while it waits for its time.
    pub(super) fn is_judging(&self) -> bool {
        self.deployment.phase.is_judging() && !self.is_waiting()
    }

    /// Whether it waits for its verdict; what is watched after it does not.
    pub(super) fn is_deciding(&self) -> bool {
        self.is_judging() && self.deployment.verdict == Verdict::Pending
    }

    /// What a source counted cannot be compared with what it counts now: it is judged, or watched, anew.
    pub(super) fn forget(&mut self, source: Source) {
        self.panel.iter_mut().for_each(|panel| panel.forget(source));
        self.forget_before(source);
    }

    /// Whether a version must be kept for it.
    pub(super) fn needs(&self, label: &str) -> bool {
        !self.is_over()
            && !self.is_waiting()
            && (self.deployment.candidate == label || self.deployment.baseline.as_deref() == Some(label))
    }

    pub(super) fn exemplar(&mut self, exemplar: &Exemplar) {
        if exemplar.failed && self.exemplars.len() < EXEMPLARS && self.is_judging() {
            let trace_id: String = exemplar.trace_id.iter().map(|b| format!("{b:02x}")).collect();
            // A metric shows its last exemplar again with each export.
            if !self.exemplars.contains(&trace_id) {
                self.exemplars.push(trace_id);
            }
        }
    }

    /// Takes what the logs say now. It is no ground of the verdict, so that after the decision, too, the
    /// evidence shows what they say since then; every 10 s, for the evidence is copied.
    pub(super) fn set_logs(&mut self, logs: Option<LogEvidence>, now: Slot) {
        if self.logs.as_deref() != logs.as_ref() {
            self.logs = logs.map(Arc::new);
        }
        let is_due = self.deployment.verdict != Verdict::Pending && now % 10 == 0;
        if is_due && self.deployment.evidence.logs != self.logs {
            let evidence = Evidence { logs: self.logs.clone(), ..(*self.deployment.evidence).clone() };
            Arc::make_mut(&mut self.deployment).evidence = Arc::new(evidence);
        }
    }

    /// Applies an event; what must be durable or done outside goes into the commit.
    pub(super) fn apply(&mut self, event: Event, now: UnixNanos, commit: &mut Commit) {
        let step = transition(&self.deployment, event, now);
        self.deployment = Arc::new(step.deployment);
        commit.actions.extend(step.actions);
        if step.changed {
            commit.deployments.retain(|d| d.id != self.deployment.id);
            commit.deployments.push(Arc::clone(&self.deployment));
        }
    }

    /// Takes a changed record over: an explicit request merged with this deployment.
    pub(super) fn replace(
        &mut self,
        deployment: Deployment,
        restart: bool,
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        let before = std::mem::replace(&mut self.deployment, Arc::new(deployment));
        if restart {
            self.panel = None;
        }
        if let (Some(panel), Some(share)) = (&mut self.panel, self.deployment.share)
            && before.share != Some(share)
        {
            panel.name_share(now.slot() + 1, share);
        }
        commit.deployments.push(Arc::clone(&self.deployment));
    }

    /// An instance of a version has shown what a gauge stands at while it was young; `memory` is what starts of the
    /// service showed. Before and after a change the candidate's are those that started after it.
    pub(super) fn observe(&mut self, label: &str, observed: &Observed, memory: &AgeMemory) {
        let candidate = self.deployment.candidate.as_str();
        let is_candidates = |version: &str, first: Slot| match self.deployment.time {
            Some(time) => first >= time.slot(),
            None => version == candidate,
        };
        if label == candidate
            && is_candidates(label, observed.first)
            && let Some(panel) = &mut self.panel
        {
            panel.observe(observed, memory, is_candidates);
        }
    }

    /// Judges one closed slot of one source.
    pub(super) fn judge_slot(
        &mut self,
        (source, slot): (Source, Slot),
        closed: &BTreeMap<Arc<str>, Closed>,
        versions: &Versions,
        surroundings: Surroundings,
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        if self.deployment.time.is_some() {
            return self.judge_change_slot((source, slot), closed, versions, surroundings, now, commit);
        }
        let Some(baseline) = self.deployment.baseline.as_deref().and_then(|b| versions.get(b)) else {
            return;
        };
        let Some(panel) = self.panel.as_mut().filter(|_| slot >= self.judge_from) else { return };
        let memories = baseline.memories();
        let Some(memory) = memories.of(source) else { return };
        let candidate = versions.get(self.deployment.candidate.as_str());
        let context = Context {
            gone_not_before: surroundings.gone_not_before,
            late_data: surroundings.late_data,
            instances_restart: source == Source::Spans
                && candidate.is_some_and(|c| c.churn.exceeds(&baseline.churn)),
            coarse_scale: surroundings.coarse_scale,
            biased_input: source == Source::Spans
                && candidate.is_some_and(|c| is_biased(&c.sampling, &baseline.sampling)),
        };
        panel.set_context(source, context);
        let arm = |label: &str| closed.get(label).map(|c| c.arm.clone()).unwrap_or_default();
        let baseline_label = self.deployment.baseline.as_deref().unwrap_or_default();
        let input = SlotInput {
            baseline: arm(baseline_label),
            started_before: closed.get(baseline_label).map(|c| c.started_before.clone()).unwrap_or_default(),
            candidate: arm(&self.deployment.candidate),
        };
        panel.slot(source, slot, memory, &input);
        if self.deployment.verdict != Verdict::Pending {
            // Decided already: judges made anew, or from a snapshot before the decision, watch from here on.
            panel.watch();
        }
        let (verdict, slot_s) = (panel.verdict(&memories), memory.timing().slot_s());
        self.count_second((source, slot), slot_s, &input.candidate.warm);
        let verdict = self.withhold(verdict, slot, &memories, (now, commit));
        if verdict != Verdict::Pending {
            self.decide(verdict, slot + slot_s, &memories, now, commit);
        }
    }

    /// `end` is the first second after the slot that decided.
    fn decide(
        &mut self,
        verdict: Verdict,
        end: Slot,
        memories: &Memories<'_>,
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        let first = self.deployment.candidate_first;
        let decided_after_seconds = first.map(|first| end as f64 - first.as_secs_f64());
        let event = self.judged(verdict, decided_after_seconds, memories);
        self.apply(event, now, commit);
        match verdict {
            Verdict::Fail => self.panel = None,
            _ => self.panel.iter_mut().for_each(Panel::watch),
        }
    }

    /// The event that carries the present evidence.
    fn judged(&self, verdict: Verdict, decided_after_seconds: Option<f64>, memories: &Memories<'_>) -> Event {
        let panel = self.panel.as_ref();
        let mut evidence = panel.map(|p| p.decisive_evidence(memories)).unwrap_or_default();
        self.furnish(&mut evidence);
        let explanation = self.explain(verdict, &evidence, Waiting::Evidence);
        Event::Judged { verdict, evidence: Arc::new(evidence), explanation, decided_after_seconds }
    }

    /// Adds what the judge does not see.
    fn furnish(&self, evidence: &mut Evidence) {
        evidence.exemplars.clone_from(&self.exemplars);
        evidence.logs.clone_from(&self.logs);
        evidence.change = self.change_evidence();
        self.second.furnish(evidence);
        if self.sdk_differs {
            evidence.flags.push(Flag::SdkDiffers);
        }
    }

    fn explain(&self, verdict: Verdict, evidence: &Evidence, waiting: Waiting) -> String {
        explain(&ExplainInput {
            candidate: &self.deployment.subject(),
            baseline: self.deployment.baseline.as_deref(),
            verdict,
            evidence,
            policy: &self.deployment.policy,
            waiting,
        })
    }

    /// Tells the service once how long its candidate took to get fast: of a new version that did not fail, now or before
    /// (`has_failed`), when its verdict is there or it is over. One that fails later is forgotten.
    pub(super) fn teach(&mut self, releases: &mut EarlierReleases, has_failed: bool) {
        let Deployment { verdict, phase, candidate, spent_before, .. } = &*self.deployment;
        if *verdict == Verdict::Fail {
            return releases.forget(candidate);
        }
        let is_decided = *verdict != Verdict::Pending || phase.is_over();
        let is_new = *spent_before == [0; 2];
        if self.is_learned || !is_decided || has_failed || !is_new {
            return;
        }
        let Some(seconds) = self.panel.as_ref().and_then(Panel::settled_s) else { return };
        self.is_learned = true;
        // After a restart it may be told again.
        if !releases.contains(candidate) {
            releases.note(candidate, seconds);
        }
    }

    /// Everything but the judgement of slots, once a tick. While telemetry is refused, `is_blind`, silence and
    /// time end nothing; `seeing` says whether we have looked long enough since to say what serves.
    pub(super) fn move_on(
        &mut self,
        versions: &mut Versions,
        (sightings, releases): (&[Sighting], &EarlierReleases),
        (next, seeing): ([Slot; 2], bool),
        is_blind: bool,
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        if self.deployment.time.is_some() {
            return self.move_change_on(versions, is_blind, now, commit);
        }
        match self.deployment.phase {
            Phase::Failed if is_blind => {}
            Phase::Failed => self.look_for_recovery(versions, sightings, (next, seeing), now, commit),
            phase if phase.is_judging() => {
                self.meet(versions, (sightings, releases), now, commit);
                self.hear_senders(versions, now, commit);
                self.show_progress(versions, now, commit);
                if !is_blind {
                    self.end_without_traffic(versions, now, commit);
                }
            }
            _ => {}
        }
    }

    /// Counts what its candidate spends of the error budget.
    pub(super) fn spend(&mut self, versions: &Versions, budget: Option<Budget>) {
        let Some(candidate) = versions.get(self.deployment.candidate.as_str()) else { return };
        if self.deployment.candidate_first.is_none() || self.is_over() {
            return;
        }
        let is_whole = self.deployment.scope.is_whole();
        let totals = if is_whole { candidate.shown_totals() } else { self.in_scope };
        let spent = self.deployment.spend(totals, budget.as_ref());
        if spent != self.deployment.spent {
            Arc::make_mut(&mut self.deployment).spent = spent;
        }
    }

    /// The candidate's first request, and a baseline to hold it against.
    fn meet(
        &mut self,
        versions: &mut Versions,
        (sightings, releases): (&[Sighting], &EarlierReleases),
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        if self.deployment.baseline.is_none()
            && let Some(baseline) = choose_baseline(&self.deployment.candidate, sightings)
        {
            self.apply(Event::BaselineChosen(baseline.to_owned()), now, commit);
        }
        let Some(candidate) = versions.get(self.deployment.candidate.as_str()).filter(|v| v.has_traffic())
        else {
            return;
        };
        let is_new = candidate.first_start.plus_nanos(60 * NANOS_PER_SECOND) >= self.deployment.started_at;
        let first = if is_new { candidate.first_start } else { now };
        if self.deployment.candidate_first.is_none() {
            // What an old version failed before it was announced is not this deployment's.
            let before = if is_new { [0; 2] } else { candidate.shown_totals() };
            self.apply(Event::CandidateSeen { first, before }, now, commit);
        }
        let known = self.deployment.baseline.as_deref().is_some_and(|b| versions.contains_key(b));
        if self.panel.is_none() && known {
            let baseline = self.deployment.baseline.as_deref().and_then(|b| versions.get(b));
            let memories = baseline.map(|b| b.memories()).unwrap_or_default();
            let mut panel = Panel::release(self.deployment.policy.clone(), &memories, releases);
            if let Some(share) = self.deployment.share {
                panel.name_share(Slot::MIN, share);
            }
            self.panel = Some(panel);
            self.judge_from = now.slot() + 1;
        }
        let censor = self.deployment.candidate_first.filter(|_| is_new);
        if let Some(baseline) = self.deployment.baseline.as_deref().and_then(|b| versions.get_mut(b)) {
            baseline.set_censor(censor);
        }
    }

    /// What the telemetry of the versions says of their change and their instrumentation.
    fn hear_senders(&mut self, versions: &Versions, now: UnixNanos, commit: &mut Commit) {
        let senders = |label: &str| versions.get(label).and_then(|v| v.senders.as_deref());
        let Some(candidate) = senders(&self.deployment.candidate) else { return };
        if let Some(baseline) = self.deployment.baseline.as_deref().and_then(senders) {
            let (new, old) = (candidate.sdks(), baseline.sdks());
            self.sdk_differs = !new.is_empty() && !old.is_empty() && new != old;
        }
        self.apply(Event::ChangeKnown(candidate.change()), now, commit);
    }

    /// Live evidence while nothing is decided, and what only people should know afterwards.
    fn show_progress(&mut self, versions: &Versions, now: UnixNanos, commit: &mut Commit) {
        let baseline = self.deployment.baseline.as_deref().and_then(|b| versions.get(b));
        if let (Some(_), Some(baseline)) = (&self.panel, baseline) {
            self.show(&baseline.memories(), now, commit);
        } else {
            let waiting =
                if self.deployment.candidate_first.is_none() { Waiting::Traffic } else { Waiting::Baseline };
            let explanation = self.explain(Verdict::Pending, &self.deployment.evidence, waiting);
            self.pending(explanation, Arc::clone(&self.deployment.evidence), now, commit);
        }
    }

    fn show(&mut self, memories: &Memories<'_>, now: UnixNanos, commit: &mut Commit) {
        let Some(panel) = &self.panel else { return };
        let warm = panel.warmup_left_s();
        if self.deployment.verdict != Verdict::Pending {
            if panel.degraded() {
                let Event::Judged { evidence, explanation, .. } =
                    self.judged(self.deployment.verdict, None, memories)
                else {
                    return;
                };
                self.apply(Event::Degraded { evidence, explanation }, now, commit);
            }
            return;
        }
        let mut evidence = panel.evidence(memories);
        self.furnish(&mut evidence);
        let waiting = match warm {
            None => Waiting::Traffic,
            Some(left) if left > 0 => Waiting::Warmup(left as f64),
            Some(_) => Waiting::Evidence,
        };
        let explanation = self.explain(Verdict::Pending, &evidence, waiting);
        self.pending(explanation, Arc::new(evidence), now, commit);
        if warm.is_some_and(|left| left <= 0) {
            self.apply(Event::WarmupOver, now, commit);
        }
    }

    fn pending(&mut self, explanation: String, evidence: Arc<Evidence>, now: UnixNanos, commit: &mut Commit) {
        let event =
            Event::Judged { verdict: Verdict::Pending, evidence, explanation, decided_after_seconds: None };
        self.apply(event, now, commit);
    }

    fn end_without_traffic(&mut self, versions: &Versions, now: UnixNanos, commit: &mut Commit) {
        let candidate = versions.get(self.deployment.candidate.as_str());
        let ended = candidate.is_some_and(|v| v.ended);
        let never = self.deployment.candidate_first.is_none()
            && now.since(self.deployment.started_at) > ANNOUNCED_S * NANOS_PER_SECOND;
        if ended || never {
            self.apply(Event::TrafficEnded, now, commit);
            return;
        }
        // Without a baseline there is no judge that could end it.
        let policy = &self.deployment.policy;
        let horizon_s = policy.warmup_s + policy.horizon_s;
        let over = |first: UnixNanos| now.slot() - first.slot() > horizon_s;
        if self.panel.is_none() && self.deployment.candidate_first.is_some_and(over) {
            self.apply(Event::HorizonOver, now, commit);
        }
    }

    /// Well again: the failed version has served nothing for ten seconds or the slots that cover them, and what
    /// serves instead looks as it did before.
    fn look_for_recovery(
        &mut self,
        versions: &Versions,
        sightings: &[Sighting],
        (next, seeing): ([Slot; 2], bool),
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        let budget = self.deployment.policy.error_budget();
        let candidate = versions.get(self.deployment.candidate.as_str());
        let silent = candidate.is_none_or(|v| v.ended || v.has_fallen_silent(next));
        // What carries no version, or failed itself, is no other version that serves again.
        let stands =
            |s: &&Sighting| is_version(&s.version) && !s.failed && s.version != self.deployment.candidate;
        let well = sightings
            .iter()
            .filter(stands)
            .any(|s| versions.get(s.version.as_str()).is_some_and(|v| v.is_well(budget)));
        if silent && well {
            self.apply(Event::Recovered, now, commit);
        } else if seeing && recovery_deadline(&self.deployment).is_some_and(|deadline| now >= deadline) {
            self.apply(Event::RecoveryTimedOut, now, commit);
        }
    }
}

/// Whether sampling depends on the outcome or differs in kind between the versions: then shares of errors
/// are not comparable (`docs/statistics.md`, "Sampling").
fn is_biased(candidate: &Counts, baseline: &Counts) -> bool {
    const MIN: u64 = 20;
    let by_outcome = |c: &Counts| {
        let unweighted = (c.n - c.weighted) as f64;
        let known = c.weight - unweighted - c.weight_bad;
        let good = c.weighted - c.weighted_bad;
        let ratio = (known / good.max(1) as f64) / (c.weight_bad / c.weighted_bad.max(1) as f64);
        good >= MIN && c.weighted_bad >= MIN && ratio.ln().abs() > 1.5f64.ln()
    };
    let known_share = |c: &Counts| (c.n >= MIN).then(|| c.weighted as f64 / c.n as f64);
    let differs = known_share(candidate).zip(known_share(baseline)).is_some_and(|(a, b)| (a - b).abs() > 0.2);
    by_outcome(candidate) || by_outcome(baseline) || differs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w5_sampling_by_outcome_or_unlike_sampling_is_biased() {
        // Good and failed spans with the weight of each; a weight of 0 is none.
        let arm = |[good, weight_good, bad, weight_bad]: [u64; 4]| {
            let known = |n: u64, weight: u64| if weight > 0 { n } else { 0 };
            Counts {
                n: good + bad,
                bad,
                weighted: known(good, weight_good) + known(bad, weight_bad),
                weighted_bad: known(bad, weight_bad),
                weight: (good * weight_good.max(1) + bad * weight_bad.max(1)) as f64,
                weight_bad: (bad * weight_bad) as f64,
                ..Counts::default()
            }
        };
        let whole = [900, 0, 30, 0];
        for (candidate, baseline, biased) in [
            (whole, whole, false),
            ([900, 4, 30, 4], [90, 10, 30, 10], false),
            // A tail sampler that keeps all errors and says so; and one that says nothing of some.
            ([900, 10, 30, 1], [900, 10, 30, 1], true),
            ([900, 4, 30, 4], [900, 10, 30, 1], true),
            ([900, 4, 30, 4], whole, true),
            (whole, [900, 4, 30, 4], true),
            // Of so few nothing is said.
            ([10, 4, 5, 4], whole, false),
            ([900, 10, 15, 1], [900, 10, 15, 1], false),
        ] {
            assert_eq!(is_biased(&arm(candidate), &arm(baseline)), biased, "{candidate:?} {baseline:?}");
        }
    }
}
