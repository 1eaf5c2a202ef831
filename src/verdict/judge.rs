//! The judge of one deployment: takes closed slots in order, turns them into evidence, and says when it is
//! enough. What may be read of the slot in hand before it is judged is request totals only; everything else
//! that enters a formula comes from earlier slots. The written exception is the null of the absolute check,
//! which may be lifted by the baseline's counts of the same slot (`docs/statistics.md`, equation (5)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::evidence::{Sli, Verdict};
use super::heterogeneity::{Heterogeneity, Spread};
use super::input::{Cell, Cells, SlotInput, pooled, totals};
use super::memory::Memory;
use super::pairing::{Fixed, Group, Pairing};
use super::passing::Passing;
use super::policy::Policy;
use super::processes::{Key, Logged, Processes, Shape, Watches};
use super::settling::Settling;
use super::slot_log::SlotLog;
use super::stratum::{Dispersions, Thresholds};
use super::terms;
use super::weights::Weights;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;
use crate::stats::{Term, block_cap, upper_bound, watch_threshold};

/// Below this share of common operations, of at least so many requests, the service is judged pooled.
const COVER: f64 = 0.8;
const COVER_MIN: u64 = 20;
/// Seconds after the take-over in which evidence against a remembered baseline counts towards FAIL.
const REMEMBERED_FAIL_S: i64 = 300;
/// The guard: ten times the errors and five points.
const GUARD: (f64, f64) = (10.0, 0.05);
/// The candidate's rate may be off by this factor from a level that is only remembered or just seen.
const ERROR_FACTOR: f64 = 2.0;
/// Predicted share above the median: decay per group, its start, and its bounds.
const SHARE_DECAY: f64 = 0.99;
const SHARE_START: [f64; 2] = [25.0, 50.0];
const SHARE_BOUNDS: [f64; 2] = [1e-4, 0.999];

/// What the judge keeps of one operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OperationState {
    pairing: Pairing,
    /// Decayed events and requests of the baseline above its median threshold.
    share: [f64; 2],
    /// Requests compared: candidate, baseline.
    pub(crate) compared: [u64; 2],
}

snapshot_fields!(OperationState { pairing, share, compared });

impl Default for OperationState {
    fn default() -> Self {
        Self { pairing: Pairing::default(), share: SHARE_START, compared: [0; 2] }
    }
}

impl OperationState {
    /// Predicted share of baseline requests above the median threshold.
    pub(crate) fn predicted(&self) -> f64 {
        (self.share[0] / self.share[1]).clamp(SHARE_BOUNDS[0], SHARE_BOUNDS[1])
    }
}

/// What the surroundings know and the slots do not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// Before this slot the baseline's silence proves nothing (we were restarted).
    pub gone_not_before: Slot,
    /// Sampling differs between the versions or depends on the outcome.
    pub biased_input: bool,
    /// Spans arrive late beyond what is waited for.
    pub late_data: bool,
}

/// One candidate against one baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    pub(crate) policy: Policy,
    pub(crate) operations: BTreeMap<Arc<str>, OperationState>,
    pub(crate) all: OperationState,
    guard: Pairing,
    /// Candidate requests in operations that the baseline has shown, and in all.
    cover: [u64; 2],
    pub(crate) weights: Weights,
    pub(crate) processes: Processes,
    /// Evidence that no FAIL reads: against a remembered baseline after its time.
    pub(crate) after: Processes,
    pub(crate) watches: Option<Watches>,
    pub(crate) passing: Passing,
    pub(crate) settling: Settling,
    pub(crate) first: Option<Slot>,
    pub(crate) last_slot: Slot,
    last_traffic: Slot,
    pub(crate) gone: bool,
    taken: Option<Slot>,
    renamed: bool,
    /// Thresholds of what is remembered, frozen when the baseline went away; `None` as key: pooled.
    frozen: BTreeMap<Option<Arc<str>>, Thresholds>,
    client_errors_from: Option<Slot>,
    pub(crate) instances: Heterogeneity,
    pub(crate) spread: Option<Spread>,
    /// Candidate instances for which the margins were computed, and the margins.
    margins: (usize, f64, i32),
    pub(crate) baseline_young: bool,
    pub(crate) requests: [u64; 2],
    pub(crate) errors: [u64; 2],
    pub(crate) context: Context,
}

snapshot_fields!(Context { gone_not_before, biased_input, late_data });
snapshot_fields!(Judge {
    policy,
    operations,
    all,
    guard,
    cover,
    weights,
    processes,
    after,
    watches,
    passing,
    settling,
    first,
    last_slot,
    last_traffic,
    gone,
    taken,
    renamed,
    frozen,
    client_errors_from,
    instances,
    spread,
    margins,
    baseline_young,
    requests,
    errors,
    context,
});

impl Judge {
    /// A judge that has seen nothing.
    pub fn new(policy: Policy) -> Self {
        let shape = Shape { cap: block_cap(policy.alpha), horizon_s: policy.horizon_s };
        Self {
            policy,
            operations: BTreeMap::new(),
            all: OperationState::default(),
            guard: Pairing::default(),
            cover: [0; 2],
            weights: Weights::default(),
            processes: Processes::new(shape),
            after: Processes::new(shape),
            watches: None,
            passing: Passing::default(),
            settling: Settling::default(),
            first: None,
            last_slot: 0,
            last_traffic: 0,
            gone: false,
            taken: None,
            renamed: false,
            frozen: BTreeMap::new(),
            client_errors_from: None,
            instances: Heterogeneity::default(),
            spread: None,
            margins: (0, 1.0, 0),
            baseline_young: false,
            requests: [0; 2],
            errors: [0; 2],
            context: Context::default(),
        }
    }

    /// What the surroundings know; takes effect from the next slot on.
    pub fn set_context(&mut self, context: Context) {
        self.context = context;
    }

    /// Judges slot `t`. The caller has called [`Memory::begin`] for it and calls [`Memory::end`] afterwards.
    pub fn slot(&mut self, t: Slot, memory: &Memory, input: &SlotInput) {
        let mut seen = input.baseline.warm.clone();
        for (operation, cell) in &input.started_before {
            seen.entry(Arc::clone(operation)).or_default().merge(cell);
        }
        self.meet(t, memory, &seen, input);
        self.notice_absence(t, memory);
        if let (Some(first), Some(baseline_first)) = (self.first, memory.first) {
            let operations: BTreeSet<Arc<str>> = self.operations.keys().cloned().collect();
            self.weights.fix(t, (first, baseline_first), memory, &operations);
            if self.gone && self.taken.is_none() {
                self.taken = Some(t.max(first + self.policy.warmup_s));
            }
            self.judge(t, first, memory, input, totals(&seen));
        }
        self.look_back(t, memory, &seen, input);
    }

    /// Takes note of what is new in the slot: first traffic, operations, latencies for settling.
    fn meet(&mut self, t: Slot, memory: &Memory, seen: &Cells, input: &SlotInput) {
        self.last_slot = t;
        if !input.candidate.is_silent() {
            self.first.get_or_insert(t);
            self.last_traffic = t;
        }
        let names: BTreeSet<&Arc<str>> =
            memory.strata.keys().chain(seen.keys()).chain(input.candidate.warm.keys()).collect();
        for operation in names {
            if !self.operations.contains_key(operation) {
                self.operations.insert(Arc::clone(operation), OperationState::default());
                self.weights.newcomer(operation, t);
            }
        }
        self.baseline_young = input.baseline.young.requests > 0;
        if self.spread.is_none() && self.first.is_some() {
            self.spread = Some(memory.heterogeneity.spread(memory.dispersions.errors.phi()));
        }
        let present = self.instances.present(t);
        if present != self.margins.0 {
            let (factor, extra) =
                self.spread.unwrap_or_default().margins(present, memory.heterogeneity.present(t));
            self.margins = (present, factor, extra);
        }
    }

    /// Switches to what is remembered when the baseline has gone, and back.
    fn notice_absence(&mut self, t: Slot, memory: &Memory) {
        let gone = memory.gone(t) && t >= self.context.gone_not_before;
        if gone == self.gone || memory.last.is_none() {
            return;
        }
        self.gone = gone;
        self.guard.clear();
        self.clear_groups();
        self.frozen = memory.frozen_thresholds();
    }

    fn clear_groups(&mut self) {
        self.operations.values_mut().chain([&mut self.all]).for_each(|o| o.pairing.clear());
    }

    /// Whether evidence against a remembered baseline still counts towards FAIL.
    fn in_time(&self, t: Slot) -> bool {
        !self.gone || self.taken.is_none_or(|taken| t <= taken + REMEMBERED_FAIL_S)
    }

    fn judge(&mut self, t: Slot, first: Slot, memory: &Memory, input: &SlotInput, seen: [u64; 2]) {
        let begin = first + self.policy.warmup_s;
        self.settling.look(t, first, self.policy.warmup_s);
        self.judge_guard(t, first, memory, input);
        let warm = totals(&input.candidate.warm);
        if warm[0] > 0 && t >= begin {
            self.judge_absolute(t, begin, memory, warm, seen);
        }
        if t < begin {
            return;
        }
        if self.gone {
            self.judge_remembered(t, begin, memory, &input.candidate.warm);
        } else {
            self.judge_concurrent(t, begin, memory, input);
        }
    }

    /// Catastrophe guard: totals, warm-up included, from the first request.
    fn judge_guard(&mut self, t: Slot, first: Slot, memory: &Memory, input: &SlotInput) {
        if self.gone {
            return;
        }
        let count = |[requests, bad]: [u64; 2]| super::Counts { requests, bad, ..Default::default() };
        let fixed = self.fixed(&memory.dispersions, &memory.dispersions, None, memory);
        let (candidate, baseline) = (count(input.candidate.totals()), count(input.baseline.totals()));
        if let Some(group) = self.guard.add(t, candidate, baseline, fixed) {
            let term = terms::ratio(
                &group,
                [group.candidate.bad, group.baseline.bad],
                GUARD,
                group.fixed.service_sizes()[0],
            );
            self.put(Key::service(Sli::Guard), &[term], t, first, true);
        }
    }

    /// The candidate alone against its objective, what the baseline showed, and its last 10 s.
    fn judge_absolute(&mut self, t: Slot, begin: Slot, memory: &Memory, warm: [u64; 2], seen: [u64; 2]) {
        if memory.requests <= 0.0 {
            return;
        }
        let mut p0 = self.remembered_error_rate(memory);
        let [requests, errors] = memory.last_seconds(t, seen);
        if requests > 0 {
            p0 = p0.max(upper_bound(errors as f64, requests as f64, ERROR_FACTOR));
        }
        if p0 < 1.0 {
            let c = memory.dispersions.errors.incident_size_in_time();
            let term = Term::OneSample { n: warm[0] as f64, x: warm[1] as f64, p0, c };
            self.put(Key::service(Sli::Absolute), &[term], t, begin, self.in_time(t));
        }
    }

    /// Highest error rate that what is remembered, or the objective, allows.
    pub(crate) fn remembered_error_rate(&self, memory: &Memory) -> f64 {
        let floor = 2.0 * self.policy.error_budget();
        floor.max(upper_bound(memory.errors, memory.requests, ERROR_FACTOR))
    }

    fn fixed(
        &self,
        service: &Dispersions,
        own: &Dispersions,
        thresholds: Option<Thresholds>,
        memory: &Memory,
    ) -> Fixed {
        Fixed {
            thresholds,
            service: service.phis(),
            own: own.phis(),
            client_errors: memory.client_errors.phi(),
            error_factor: self.margins.1,
            latency_extra: self.margins.2,
        }
    }

    /// Both versions serve: every operation's groups, summed at service level.
    fn judge_concurrent(&mut self, t: Slot, begin: Slot, memory: &Memory, input: &SlotInput) {
        let renamed = self.renamed();
        if renamed != self.renamed {
            self.renamed = renamed;
            self.clear_groups();
        }
        let mut sums = ServiceTerms::default();
        let names: Vec<Option<Arc<str>>> = self.operations.keys().cloned().map(Some).chain([None]).collect();
        let all = (pooled(&input.candidate.warm), pooled(&input.baseline.warm));
        for name in names {
            let (candidate, baseline) = match &name {
                Some(operation) => (input.candidate.warm.get(operation), input.baseline.warm.get(operation)),
                None => (all.0.as_ref(), all.1.as_ref()),
            };
            let group = self.add_to_group(t, name.as_ref(), memory, candidate, baseline);
            if let Some(group) = group {
                let counts = name.is_none() == renamed;
                self.judge_group(t, begin, name.as_ref(), &group, counts.then_some(&mut sums));
            }
        }
        self.put_service(t, begin, sums);
    }

    fn add_to_group(
        &mut self,
        t: Slot,
        name: Option<&Arc<str>>,
        memory: &Memory,
        candidate: Option<&Cell>,
        baseline: Option<&Cell>,
    ) -> Option<Group> {
        let unknown = Dispersions::default();
        let fixed = match name {
            Some(operation) => {
                let stratum = memory.strata.get(operation);
                let own = stratum.map_or(&unknown, |s| &s.dispersions);
                self.fixed(&memory.dispersions, own, stratum.and_then(|s| s.thresholds), memory)
            }
            None => self.fixed(&unknown, &unknown, memory.pooled_thresholds, memory),
        };
        let merged = |cell: Option<&Cell>| cell.map(Cell::merged).unwrap_or_default();
        self.state(name)?.pairing.add(t, merged(candidate), merged(baseline), fixed)
    }

    fn state(&mut self, name: Option<&Arc<str>>) -> Option<&mut OperationState> {
        match name {
            Some(operation) => self.operations.get_mut(operation),
            None => Some(&mut self.all),
        }
    }

    /// Turns a closed group into terms: for the operation's own processes, and for the service's sums.
    fn judge_group(
        &mut self,
        t: Slot,
        begin: Slot,
        name: Option<&Arc<str>>,
        group: &Group,
        sums: Option<&mut ServiceTerms>,
    ) {
        let latency_from = self.settling.from.filter(|from| group.since >= *from);
        let share = self.state(name).map_or(0.5, |state| {
            state.compared[0] += group.candidate.requests;
            state.compared[1] += group.baseline.requests;
            state.predicted()
        });
        let found = terms::of_group(&self.policy, group, share, latency_from.is_some());
        if let (Some(above), Some(state)) = (found.above_median, self.state(name)) {
            state.share[0] = SHARE_DECAY * state.share[0] + above as f64;
            state.share[1] = SHARE_DECAY * state.share[1] + group.baseline.requests as f64;
        }
        if let Some(operation) = name
            && let Some(start) = self.weights.start(operation, begin).filter(|start| t >= *start)
        {
            let latency_start = start.max(latency_from.unwrap_or(start));
            for (i, (sli, term)) in Passing::SLIS.into_iter().zip(&found.own).enumerate() {
                let start = if i == 0 { start } else { latency_start };
                self.put(Key::operation(operation, sli), term.as_slice(), t, start, true);
            }
        }
        if let Some(sums) = sums {
            self.requests[0] += group.candidate.requests;
            self.requests[1] += group.baseline.requests;
            self.errors[0] += group.candidate.bad;
            self.errors[1] += group.baseline.bad;
            sums.add(found, group.candidate.requests);
        }
    }

    fn put_service(&mut self, t: Slot, begin: Slot, sums: ServiceTerms) {
        let latency_from = self.settling.from.unwrap_or(begin);
        for ((sli, terms), start) in
            Passing::SLIS.into_iter().zip(&sums.each).zip([begin, latency_from, latency_from, latency_from])
        {
            self.put(Key::service(sli), terms, t, start, true);
        }
        if let Some(from) = self.client_errors_from.filter(|from| t >= *from) {
            self.put(Key::service(Sli::ClientErrors), &sums.client_errors, t, begin.max(from), true);
        }
        for (i, terms) in sums.pass.iter().enumerate() {
            self.passing.add(i, terms);
        }
        self.passing.requests += sums.candidate_requests;
    }

    /// The baseline is gone: the candidate alone against what the baseline showed.
    fn judge_remembered(&mut self, t: Slot, begin: Slot, memory: &Memory, warm: &Cells) {
        let renamed = self.renamed();
        let found =
            super::remembered::terms(&self.policy, memory, &self.frozen, renamed, warm, self.settling.from);
        let in_time = self.in_time(t);
        let latency_from = self.settling.from.unwrap_or(begin);
        let p0 = (memory.requests > 0.0).then(|| self.remembered_error_rate(memory));
        if let (Some(p0), [n, x]) = (p0, totals(warm))
            && n > 0
        {
            self.requests[0] += n;
            self.errors[0] += x;
            let c = memory.dispersions.errors.incident_size_in_time();
            if p0 < 1.0 {
                let term = Term::OneSample { n: n as f64, x: x as f64, p0, c };
                self.put(Key::service(Sli::ErrorRate), &[term], t, begin, in_time);
            }
            self.passing.add(0, &[super::remembered::pass_errors(&self.policy, memory, [n, x], c)]);
            self.passing.requests += n;
        }
        for (sli, term) in found.worse {
            self.put(Key::service(sli), &[term], t, latency_from, in_time);
        }
        for (i, term) in found.pass {
            self.passing.add(i, &[term]);
        }
    }

    /// Sends terms to where they count: the processes that decide, the watch after a decision, or, against
    /// a remembered baseline after its time, the processes that only people read.
    fn put(&mut self, key: Key, terms: &[Term], t: Slot, start: Slot, counts: bool) {
        match &mut self.watches {
            None if counts => self.processes.add(key, terms, t, start),
            Some(watches) if !self.gone => watches.add(key, terms, t),
            _ => self.after.add(key, terms, t, t),
        }
    }

    /// Whether the candidate's operations are mostly unknown to the baseline.
    pub fn renamed(&self) -> bool {
        self.cover[1] >= COVER_MIN && (self.cover[0] as f64) < COVER * self.cover[1] as f64
    }

    /// After judging: what later slots may know of this one.
    fn look_back(&mut self, t: Slot, memory: &Memory, seen: &Cells, input: &SlotInput) {
        let candidate = &input.candidate;
        if self.weights.fixed.is_some() {
            for (operation, cell) in &candidate.warm {
                let known = seen.contains_key(operation) || memory.kept(operation) > 0.0;
                self.cover[0] += if known { cell.requests() } else { 0 };
                self.cover[1] += cell.requests();
            }
        }
        if self.settling.from.is_none() {
            let mut latency = candidate.young.latency.clone();
            candidate.warm.values().flat_map(|cell| &cell.groups).for_each(|c| latency.merge(&c.latency));
            self.settling.add(t, &latency);
        }
        if (candidate.status_seen || input.baseline.status_seen) && self.client_errors_from.is_none() {
            self.client_errors_from = Some(t + 1);
        }
        self.instances.add(t, &candidate.instances);
        self.processes.advance(t);
        self.after.advance(t);
        self.watches.iter_mut().for_each(|w| w.advance(t));
    }

    /// ln of the weighted average of the evidence so far.
    pub fn ln_e_bar(&self) -> f64 {
        self.processes.ln_average(&self.weights.each)
    }

    /// The verdict as of the last slot. `Fail` and `Pass` are decisions; `Inconclusive` is answered once the
    /// horizon has ended; otherwise `Pending`.
    pub fn verdict(&self, memory: &Memory) -> Verdict {
        if let Some(watches) = &self.watches {
            let fired = watches.ln_sum(&self.weights.each) >= watch_threshold();
            return if fired { Verdict::Fail } else { Verdict::Pending };
        }
        let ln_e_bar = self.ln_e_bar();
        if self.weights.fixed.is_some() && ln_e_bar >= self.policy.fail_threshold() {
            return Verdict::Fail;
        }
        let Some(age) = self.first.map(|first| self.last_slot - first - self.policy.warmup_s) else {
            return Verdict::Pending;
        };
        let doubtful = ln_e_bar >= 0.5 * self.policy.fail_threshold()
            || self.flags(memory).iter().any(|flag| flag.blocks_pass());
        if age >= self.policy.min_pass_s
            && !doubtful
            && self.passing.fraction(self.policy.pass_threshold()) >= 1.0
        {
            return Verdict::Pass;
        }
        if age >= self.policy.horizon_s { Verdict::Inconclusive } else { Verdict::Pending }
    }

    /// From the next slot on the candidate is watched: a verdict other than `Fail` was taken.
    pub fn watch(&mut self) {
        let cap = block_cap(self.policy.alpha);
        if self.watches.is_none() {
            // The watch has evidence of its own; what was decided keeps the evidence that decided it.
            (self.requests, self.errors) = ([0; 2], [0; 2]);
        }
        self.watches.get_or_insert(Watches::new(cap, self.last_slot + 1));
    }

    /// Whether evidence that no FAIL reads has reached the threshold.
    pub fn degraded(&self) -> bool {
        !self.after.is_empty() && self.after.ln_average(&self.weights.each) >= self.policy.fail_threshold()
    }

    /// The last slot that was judged.
    pub fn last_slot(&self) -> Slot {
        self.last_slot
    }

    /// Seconds since the candidate's last request, as of the last slot.
    pub fn silent_s(&self) -> i64 {
        if self.first.is_some() { self.last_slot - self.last_traffic } else { 0 }
    }

    /// The bounded log of what entered the evidence, oldest first.
    pub fn log(&self) -> impl Iterator<Item = &Logged> {
        self.processes.log().iter()
    }

    /// The log of the decision with at most `lines` lines, and what stood before it.
    pub(super) fn slot_log(&self, lines: usize) -> SlotLog {
        self.processes.slot_log(self.last_slot, lines)
    }

    /// ln E of every process, summed again from its log.
    pub fn redo(&self) -> BTreeMap<Key, f64> {
        self.slot_log(usize::MAX).redo()
    }
}

/// Terms of one slot at service level, one per operation that closed a group.
#[derive(Debug, Default)]
struct ServiceTerms {
    /// Errors, p50, p95, p99: worse?
    each: [Vec<Term>; 4],
    /// The same: not unacceptably worse?
    pass: [Vec<Term>; 4],
    client_errors: Vec<Term>,
    candidate_requests: u64,
}

impl ServiceTerms {
    fn add(&mut self, found: terms::GroupTerms, candidate_requests: u64) {
        self.each.iter_mut().zip(found.service).for_each(|(sum, term)| sum.extend(term));
        self.pass.iter_mut().zip(found.pass).for_each(|(sum, term)| sum.extend(term));
        self.client_errors.extend(found.client_errors);
        self.candidate_requests += candidate_requests;
    }
}
