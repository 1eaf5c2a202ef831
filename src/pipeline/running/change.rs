//! Before and after: a deployment that names a time waits for it; from then on the version that serves is held
//! against a copy of what was remembered of it at that time. It ends when that copy is too old to compare with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Running, Surroundings, is_biased};
use crate::deployment::{Event, Phase, recovery_deadline};
use crate::model::snapshot::snapshot_fields;
use crate::model::{Counted, Slot, Source, UnixNanos};
use crate::pipeline::arms::{Closed, deaths};
use crate::pipeline::journal::Commit;
use crate::pipeline::version::{Version, Versions};
use crate::verdict::{
    Arm, Cells, Change, ChangeEvidence, Context, Memories, Memory, Panel, Scope, SlotInput, Verdict, Waiting,
};
use crate::window::Toll;

/// Seconds that must look as they did before, before a failed change counts as undone.
const WELL_S: i64 = 10;

/// What was remembered of a version at a time.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::pipeline) struct Before {
    spans: Memory,
    metrics: Option<Memory>,
    /// First slot that is not in it.
    until: Slot,
}

snapshot_fields!(Before { spans, metrics, until });

impl Before {
    /// A copy of what is remembered of a version now, before slot `until` is.
    pub(in crate::pipeline) fn of(version: &Version, until: Slot) -> Self {
        let metrics = version.metered.as_ref().map(|side| side.memory.clone());
        Self { spans: version.memory.clone(), metrics, until }
    }

    fn memories(&self) -> Memories<'_> {
        Memories { spans: Some(&self.spans), metrics: self.metrics.as_ref() }
    }

    pub(in crate::pipeline) fn until(&self) -> Slot {
        self.until
    }

    /// What was remembered of a part of the requests at slot `at`: by the copy that was kept, else by what is remembered
    /// of the version now, before slot `until`.
    pub(in crate::pipeline) fn at(
        kept: Option<&Arc<Self>>,
        (version, until): (&Version, Slot),
        scope: &Scope,
        at: Slot,
    ) -> Option<Arc<Self>> {
        if scope.is_whole() {
            return Some(kept.map_or_else(|| Arc::new(Self::of(version, until)), Arc::clone));
        }
        let kept = kept.and_then(|kept| kept.within(scope, at));
        kept.or_else(|| Self::of(version, until).within(scope, at)).map(Arc::new)
    }

    /// The same of what this holds; `None` where nothing of it was before slot `at`.
    fn within(&self, scope: &Scope, at: Slot) -> Option<Self> {
        let is_older = |memory: &Memory| memory.first_slot().is_some_and(|first| first < at);
        let own = |memory: &Memory| memory.within(scope).filter(is_older);
        let (spans, metrics) = (own(&self.spans), self.metrics.as_ref().and_then(own));
        if spans.is_none() && metrics.is_none() {
            return None;
        }
        let spans = spans.unwrap_or_else(|| Memory::new(self.spans.timing()));
        Some(Self { spans, metrics, until: self.until })
    }
}

/// The last requests of a service that failed, to see whether it is as before.
#[derive(Debug, Default)]
pub(super) struct Recovering {
    slots: VecDeque<(Slot, Cells)>,
}

impl Recovering {
    fn add(&mut self, slot: Slot, cells: Cells, slot_s: i64) {
        self.slots.retain(|(t, _)| *t > slot - WELL_S.max(2 * slot_s));
        self.slots.push_back((slot, cells));
    }

    /// Whether requests over the whole time look like what is remembered.
    fn is_well(&self, memory: &Memory, error_budget: f64) -> bool {
        let slot_s = memory.timing().slot_s();
        let covered = self.slots.len() as i64 * slot_s >= WELL_S.max(2 * slot_s);
        let mut all = Cells::new();
        for (operation, cell) in self.slots.iter().flat_map(|(_, cells)| cells) {
            all.entry(Arc::clone(operation)).or_default().merge(cell);
        }
        let arm = Arm { warm: all, ..Arm::default() };
        covered && memory.is_usual(arm.totals(), error_budget) && memory.is_usual_latency(&arm.warm)
    }
}

/// First slot after a time: the one that begins with it, or the next.
fn first_after(time: UnixNanos) -> Slot {
    let slot = time.slot();
    if time > UnixNanos::from_secs(slot as u64) { slot + 1 } else { slot }
}

impl Running {
    /// First slot after the time that it names; `None` where it names a version.
    pub(in crate::pipeline) fn change_at(&self) -> Option<Slot> {
        self.deployment.time.map(first_after)
    }

    /// Whether it waits for its time.
    pub(in crate::pipeline) fn is_waiting(&self) -> bool {
        self.deployment.is_waiting()
    }

    /// Whether it has failed, and the slots tell whether the change was undone.
    pub(in crate::pipeline) fn is_recovering(&self) -> bool {
        self.deployment.time.is_some() && self.deployment.phase == Phase::Failed
    }

    /// What was remembered at its time.
    pub(in crate::pipeline) fn before(&self) -> Option<&Before> {
        self.before.as_deref()
    }

    /// What a source showed before cannot be compared with what it counts now.
    pub(super) fn forget_before(&mut self, source: Source) {
        if let Some(before) = self.before.as_mut().filter(|_| source == Source::Metrics) {
            Arc::make_mut(before).metrics = None;
        }
    }

    /// Its time has come: slots from `judge_from` on are held against `before`. `counted` are the requests and failed
    /// ones of the version until now.
    pub(in crate::pipeline) fn begin_change(
        &mut self,
        version: &str,
        before: Arc<Before>,
        judge_from: Slot,
        counted: [u64; 2],
        (now, commit): (UnixNanos, &mut Commit),
    ) {
        let Some(at) = self.change_at() else { return };
        let policy = self.deployment.policy.clone();
        let change = Change::new(at, policy.warmup_s);
        self.panel = Some(Panel::after(change, policy, &before.memories()));
        (self.before, self.judge_from) = (Some(before), judge_from.max(at));
        self.apply(Event::TimeCame { version: version.to_owned(), before: counted }, now, commit);
    }

    /// Judges one closed slot of one source.
    pub(super) fn judge_change_slot(
        &mut self,
        (source, slot): (Source, Slot),
        closed: &BTreeMap<Arc<str>, Closed>,
        versions: &Versions,
        surroundings: Surroundings,
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        let Some(before) = self.before.clone().filter(|_| slot >= self.judge_from) else { return };
        let memories = before.memories();
        let Some(memory) = memories.of(source) else { return };
        let one = closed.get(self.deployment.candidate.as_str());
        let scope = &self.deployment.scope;
        let mut candidate = one.map(|c| scope.arm(&c.arm, &c.started_before)).unwrap_or_default();
        let version = versions.get(self.deployment.candidate.as_str());
        if !scope.is_whole() && version.is_some_and(|version| version.shows(source)) {
            let [requests, failed] = scope.totals(&candidate);
            self.in_scope = [self.in_scope[0] + requests, self.in_scope[1] + failed];
        }
        if let Some(one) = one.filter(|_| source == Source::Spans && scope.is_whole()) {
            self.leave_out_roll_out(&one.toll, &mut candidate);
        }
        if self.is_recovering() && source == self.deployment.evidence.required {
            self.recovering.add(slot, candidate.warm, memory.timing().slot_s());
            return;
        }
        let Some(panel) = self.panel.as_mut() else { return };
        let context = Context {
            gone_not_before: surroundings.gone_not_before,
            late_data: surroundings.late_data,
            instances_restart: false,
            coarse_scale: surroundings.coarse_scale,
            biased_input: source == Source::Spans
                && version.is_some_and(|v| is_biased(&v.sampling, &v.sampling)),
        };
        panel.set_context(source, context);
        let input = SlotInput { candidate, ..SlotInput::default() };
        panel.slot(source, slot, memory, &input);
        if self.deployment.verdict != Verdict::Pending {
            panel.watch();
        }
        let (verdict, slot_s) = (panel.verdict(&memories), memory.timing().slot_s());
        self.count_second((source, slot), slot_s, &input.candidate.warm);
        let verdict = self.withhold(verdict, slot, &memories, (now, commit));
        if verdict != Verdict::Pending {
            self.decide(verdict, slot + slot_s, &memories, now, commit);
        }
    }

    /// A change that restarts its instances replaces each of them once: deaths count of those that began after it.
    fn leave_out_roll_out(&self, toll: &Toll, candidate: &mut Arm) {
        let Some(at) = self.change_at() else { return };
        let began_after = toll.dead.iter().filter(|first| **first >= at).count() as u64;
        for sli in self.deployment.policy.slis.iter().filter(|sli| sli.measure.counted == Counted::Deaths) {
            candidate.measures.remove(&sli.measure.key);
            if let Some(cells) = deaths(toll.living, began_after) {
                candidate.measures.insert(sli.measure.key, cells);
            }
        }
    }

    /// What is held against what, for the evidence.
    pub(super) fn change_evidence(&self) -> Option<ChangeEvidence> {
        let (at, before) = (self.change_at()?, self.before.as_deref()?);
        let required = self.panel.as_ref().map_or(self.deployment.evidence.required, Panel::required);
        let memory = before.memories().of(required).unwrap_or(&before.spans);
        Some(ChangeEvidence {
            at,
            judged_from: self.judge_from,
            remembered_until: before.until,
            remembered: memory.remembered(),
        })
    }

    /// Everything but the judgement of slots, once a tick.
    pub(super) fn move_change_on(
        &mut self,
        versions: &Versions,
        is_blind: bool,
        now: UnixNanos,
        commit: &mut Commit,
    ) {
        let Some(at) = self.change_at() else { return };
        let horizon_s = self.deployment.policy.horizon_s;
        match self.deployment.phase {
            Phase::Failed if is_blind => {}
            Phase::Failed => self.look_for_undone(now, commit),
            Phase::Warming => {
                let waiting = Waiting::Change(at, (at - now.slot()) as f64);
                let explanation = self.explain(Verdict::Pending, &self.deployment.evidence, waiting);
                self.pending(explanation, Arc::clone(&self.deployment.evidence), now, commit);
                if now.slot() > at + horizon_s {
                    let why = match self.deployment.scope.is_whole() {
                        true => "No version served at that time, so there was nothing to hold it against.",
                        false => {
                            "Nothing of its scope was served before that time, so there was nothing to hold it against."
                        }
                    };
                    self.apply(Event::MemoryOver(why), now, commit);
                }
            }
            phase if phase.is_judging() => self.look_after(versions, at + horizon_s, now, commit),
            _ => {}
        }
    }

    /// Live evidence, and the end.
    fn look_after(&mut self, versions: &Versions, end: Slot, now: UnixNanos, commit: &mut Commit) {
        let Some(before) = self.before.clone() else {
            let why =
                "What was remembered of the time before is lost, so there is nothing to hold it against.";
            self.apply(Event::MemoryOver(why), now, commit);
            return;
        };
        self.show(&before.memories(), now, commit);
        if versions.get(self.deployment.candidate.as_str()).is_none_or(|version| version.ended) {
            self.apply(Event::TrafficEnded, now, commit);
        } else if now.slot() > end + self.lag_s() {
            if self.deployment.verdict == Verdict::Pending {
                self.apply(Event::HorizonOver, now, commit);
            }
            let why = "What was remembered is too old to be compared with.";
            self.apply(Event::MemoryOver(why), now, commit);
        }
    }

    /// Seconds by which the last slot of a horizon may close after it.
    fn lag_s(&self) -> i64 {
        const LATENESS_S: i64 = 60;
        let metrics = self.before.as_ref().and_then(|before| before.metrics.as_ref());
        LATENESS_S + metrics.map_or(0, |memory| memory.timing().slot_s())
    }

    /// Well again: errors and latency of the last seconds look as they did before the change.
    fn look_for_undone(&mut self, now: UnixNanos, commit: &mut Commit) {
        let budget = self.deployment.policy.error_budget();
        let before = self.before.clone();
        let memory = before.as_deref().and_then(|b| b.memories().of(self.deployment.evidence.required));
        if memory.is_some_and(|memory| self.recovering.is_well(memory, budget)) {
            self.apply(Event::Recovered, now, commit);
        } else if recovery_deadline(&self.deployment).is_some_and(|deadline| now >= deadline) {
            self.apply(Event::RecoveryTimedOut, now, commit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_begins_with_the_next_whole_second() {
        for (nanos, slot) in [(5_000_000_000, 5), (5_000_000_001, 6), (5_999_999_999, 6), (0, 0)] {
            assert_eq!(first_after(UnixNanos(nanos)), slot, "{nanos}");
        }
    }
}
