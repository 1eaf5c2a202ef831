//! The judge of one deployment: takes closed slots in order, turns them into evidence, and says when it is
//! enough. What may be read of the slot in hand before it is judged is request totals only; everything else
//! that enters a formula comes from earlier slots. The written exception is the null of the absolute check,
//! which may be lifted by the baseline's counts of the same slot (`docs/statistics.md`, equation (5)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::beside::Beside;
use super::buckets::{Bounds, on_grid, shared};
use super::change::{Change, REMEMBERED_FAIL_S};
use super::heterogeneity::{Heterogeneity, Spread};
use super::input::{Cell, Cells, SlotInput, totals, with_old};
use super::memory::Memory;
use super::own::Stage;
use super::pairing::Pairing;
use super::passing::Passing;
use super::policy::Policy;
use super::process::{Purpose, Shape};
use super::processes::Processes;
use super::remembered::Frozen;
use super::settling::Settling;
use super::split::{Part, PartKey};
use super::timing::Timing;
use super::warming::Warming;
use super::weights::Weights;
use crate::model::Slot;
use crate::model::snapshot::snapshot_fields;
use crate::stats::block_cap;

/// Below this share of common operations, of at least so many requests, the service is judged pooled.
const COVER: f64 = 0.8;
const COVER_MIN: u64 = 20;
/// Predicted share above the median: its start, and its bounds.
const SHARE_START: [f64; 2] = [25.0, 50.0];
const SHARE_BOUNDS: [f64; 2] = [1e-4, 0.999];

/// What the judge keeps of one operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OperationState {
    pub(super) pairing: Pairing,
    /// Decayed events and requests of the baseline above its median threshold.
    pub(super) share: [f64; 2],
    /// Requests compared: candidate, baseline.
    pub(crate) compared: [u64; 2],
    /// Buckets of the latencies last seen: candidate, baseline.
    bounds: (Option<Bounds>, Option<Bounds>),
}

snapshot_fields!(OperationState { pairing, share, compared, bounds });

impl Default for OperationState {
    fn default() -> Self {
        Self { pairing: Pairing::default(), share: SHARE_START, compared: [0; 2], bounds: (None, None) }
    }
}

impl OperationState {
    /// Takes note of the buckets of candidate and baseline. When those that both have change, the open group
    /// is dropped: its latencies cannot be added to what comes.
    pub(super) fn note_bounds(&mut self, cells: [Option<&Cell>; 2]) {
        let before = self.shared_bounds();
        for (bounds, cell) in [&mut self.bounds.0, &mut self.bounds.1].into_iter().zip(cells) {
            if let Some(cell) = cell.filter(|cell| cell.has_latency()) {
                *bounds = Some(cell.bounds.clone());
            }
        }
        if self.shared_bounds() != before {
            self.pairing.clear();
        }
    }

    /// Whether the buckets of either version are known.
    pub(super) fn has_bounds(&self) -> bool {
        self.bounds.0.is_some() || self.bounds.1.is_some()
    }

    /// The buckets that both versions have.
    pub(crate) fn shared_bounds(&self) -> Bounds {
        match &self.bounds {
            (Some(a), Some(b)) => shared(a, b),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => None,
        }
    }

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
    /// Instances of the candidate die and are replaced clearly more often than the baseline's.
    pub instances_restart: bool,
    /// Spans arrive late beyond what is waited for.
    pub late_data: bool,
    /// Scale of exponential buckets that are coarser than the grid; `None`: as fine as the grid, or explicit.
    pub coarse_scale: Option<i8>,
}

/// One candidate against one baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    pub(crate) policy: Policy,
    pub(crate) timing: Timing,
    pub(crate) operations: BTreeMap<Arc<str>, OperationState>,
    pub(crate) all: OperationState,
    pub(super) guard: Pairing,
    /// Candidate requests in operations that the baseline has shown, and in all.
    cover: [u64; 2],
    pub(crate) weights: Weights,
    pub(crate) processes: Processes,
    /// Evidence that no FAIL reads: against a remembered baseline after its time. As the evidence that
    /// counts, it begins anew with the watch.
    pub(crate) after: Processes,
    /// The life after the decision; it began when that was taken.
    pub(crate) watches: Option<Processes>,
    pub(crate) passing: Passing,
    pub(crate) settling: Settling,
    /// How long it took to get fast, for the releases after it.
    pub(crate) warming: Warming,
    pub(crate) first: Option<Slot>,
    pub(crate) last_slot: Slot,
    last_traffic: Slot,
    pub(crate) gone: bool,
    /// Before and after: the candidate is held against what it showed before this itself.
    pub(super) change: Option<Change>,
    taken: Option<Slot>,
    pub(super) renamed: bool,
    /// Thresholds of what is remembered, frozen when the baseline went away; `None` as key: pooled.
    pub(super) frozen: BTreeMap<Option<Arc<str>>, Frozen>,
    pub(super) client_errors_from: Option<Slot>,
    pub(crate) instances: Heterogeneity,
    pub(crate) spread: Option<Spread>,
    /// Candidate instances for which the margins were computed, and the margins.
    pub(super) margins: (usize, f64, i32),
    pub(crate) baseline_young: bool,
    pub(crate) requests: [u64; 2],
    pub(crate) errors: [u64; 2],
    pub(crate) context: Context,
    /// Where the policy has dimensions: operations by combination of values, and requests of each value.
    pub(super) parts: BTreeMap<PartKey, Part>,
    pub(super) values: BTreeMap<Arc<str>, [u64; 2]>,
}

snapshot_fields!(Context { gone_not_before, biased_input, instances_restart, late_data, coarse_scale });
snapshot_fields!(Judge {
    policy,
    timing,
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
    warming,
    first,
    last_slot,
    last_traffic,
    gone,
    change,
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
    parts,
    values,
});

impl Judge {
    /// A judge that has seen nothing; its slots have the length of those of the memory that it will read.
    pub fn new(policy: Policy, timing: Timing) -> Self {
        Self {
            processes: processes(&policy, timing, Purpose::Decision, None),
            after: processes(&policy, timing, Purpose::Degraded, None),
            policy,
            timing,
            operations: BTreeMap::new(),
            all: OperationState::default(),
            guard: Pairing::default(),
            cover: [0; 2],
            weights: Weights::default(),
            watches: None,
            passing: Passing::default(),
            settling: Settling::default(),
            warming: Warming::default(),
            first: None,
            last_slot: 0,
            last_traffic: 0,
            gone: false,
            change: None,
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
            parts: BTreeMap::new(),
            values: BTreeMap::new(),
        }
    }

    /// A judge of what is after a change. Its slots have no baseline: the memory, frozen at the change, is all there is.
    pub fn after(change: Change, policy: Policy, timing: Timing) -> Self {
        Self {
            first: Some(change.at),
            last_traffic: change.at,
            taken: Some(change.at),
            change: Some(change),
            ..Self::new(policy, timing)
        }
    }

    /// The same, of a release of a service whose earlier ones took so many seconds to get fast.
    pub(super) fn settling_after(self, seconds: i64) -> Self {
        Self { settling: Settling::after(seconds), ..self }
    }

    /// Seconds from the candidate's first slot to the first that is compared, whole slots; none where single
    /// instances are new and not the version.
    pub(crate) fn warmup_s(&self) -> i64 {
        if self.change.is_some() {
            return 0;
        }
        self.timing.whole(self.policy.warmup_s)
    }

    /// What the surroundings know; takes effect from the next slot on.
    pub fn set_context(&mut self, context: Context) {
        self.context = context;
    }

    /// Judges slot `t`. The caller has called [`Memory::begin`] for it and calls [`Memory::end`] afterwards.
    pub fn slot(&mut self, t: Slot, memory: &Memory, input: &SlotInput) {
        self.slot_within(t, memory, memory, input);
    }

    /// The same of one cohort; `whole` remembers the combinations of values that it is split by.
    pub(super) fn slot_within(&mut self, t: Slot, memory: &Memory, whole: &Memory, input: &SlotInput) {
        let seen = with_old(&input.baseline.warm, &input.started_before);
        self.meet(t, memory, &seen, input);
        self.notice_absence(t, memory);
        if let (Some(first), Some(baseline_first)) = (self.first, memory.first) {
            let due = t >= self.timing.weights_from(first, baseline_first);
            if due && self.weights.fixed.is_none() {
                let operations: BTreeSet<Arc<str>> = self.operations.keys().cloned().collect();
                self.weights.fix(t, self.timing, memory, &operations);
            }
            if self.gone && self.taken.is_none() {
                self.taken = Some(t.max(first + self.warmup_s()));
            }
            self.look_at_parts(t, whole);
            self.judge((t, first), (memory, whole), input, totals(&seen));
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
        let is_new =
            |(name, known): (&Arc<str>, Option<&OperationState>)| known.is_none().then(|| Arc::clone(name));
        let of_memory = Beside::all(&memory.strata, &self.operations).filter_map(is_new);
        let of_slot = [seen, &input.candidate.warm].into_iter();
        let of_slot = of_slot.flat_map(|cells| Beside::all(cells, &self.operations)).filter_map(is_new);
        // In the order of their names: the first takes the larger part of the reserve.
        let newcomers: BTreeSet<Arc<str>> = of_memory.chain(of_slot).collect();
        for operation in newcomers {
            self.weights.newcomer(&operation, t + self.timing.slot_s());
            self.operations.insert(operation, OperationState::default());
        }
        self.baseline_young = input.baseline.young.requests > 0;
        if self.spread.is_none() && self.first.is_some() {
            self.spread = Some(memory.heterogeneity.spread(memory.dispersions.errors.phi()));
        }
        let present = self.instances.present(t, self.timing);
        if present != self.margins.0 {
            let (factor, extra) =
                self.spread.unwrap_or_default().margins(present, memory.instances_present(t) as usize);
            self.margins = (present, factor, extra);
        }
    }

    /// Switches to what is remembered when the baseline has gone, and back.
    fn notice_absence(&mut self, t: Slot, memory: &Memory) {
        let gone = self.change.is_some() || (memory.gone(t) && t >= self.context.gone_not_before);
        if gone == self.gone || memory.last.is_none() {
            return;
        }
        self.gone = gone;
        self.guard.clear();
        self.clear_groups();
        self.frozen = memory.frozen_thresholds();
    }

    pub(super) fn clear_groups(&mut self) {
        let parts = self.parts.values_mut().map(|part| &mut part.state);
        self.operations.values_mut().chain([&mut self.all]).chain(parts).for_each(|o| o.pairing.clear());
    }

    /// Whether evidence against a remembered baseline still counts towards FAIL.
    pub(super) fn in_time(&self, t: Slot) -> bool {
        if let Some(change) = &self.change {
            return change.in_time(t, self.timing);
        }
        !self.gone || self.taken.is_none_or(|taken| t <= taken + self.timing.whole(REMEMBERED_FAIL_S))
    }

    /// The same of latency, which is compared for as long, but not before what earlier releases took to get fast.
    pub(super) fn latency_in_time(&self, t: Slot) -> bool {
        let Some((taken, first)) = self.taken.zip(self.first).filter(|_| self.gone && self.change.is_none())
        else {
            return self.in_time(t);
        };
        t <= taken.max(first + self.settling.no_sooner_s()) + self.timing.whole(REMEMBERED_FAIL_S)
    }

    /// Whether it compares, and has so far, with what is remembered only.
    pub(super) fn is_remembered_only(&self) -> bool {
        let compares = self.first.is_some_and(|first| self.last_slot >= first + self.warmup_s());
        self.gone && compares && self.requests[1] == 0
    }

    /// What other judges of the same slots go by; `None` before the candidate's first request.
    pub(super) fn stage(&self, t: Slot) -> Option<Stage> {
        Some(Stage {
            begin: self.first? + self.warmup_s(),
            latency_from: self.settling.from,
            gone: self.gone,
            in_time: self.in_time(t),
            latency_in_time: self.latency_in_time(t),
            latency_extra: self.margins.2,
        })
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
            for cell in candidate.warm.values() {
                cell.groups.iter().for_each(|counts| match &cell.bounds {
                    None => latency.merge(&counts.latency),
                    Some(bounds) => latency.merge(&on_grid(&counts.latency, bounds)),
                });
            }
            self.settling.add(t, &latency, self.timing);
        }
        if let Some(first) = self.first.filter(|_| self.change.is_none()) {
            let warm = [&candidate.warm, &input.baseline.warm];
            self.warming.add(t - first, self.warmup_s(), warm, self.timing);
        }
        if (candidate.status_seen || input.baseline.status_seen) && self.client_errors_from.is_none() {
            self.client_errors_from = Some(t + self.timing.slot_s());
        }
        if let Some(change) = &mut self.change {
            change.note_young(t, candidate.young.requests, self.timing, &mut self.settling);
        }
        self.count_parts(t, input);
        self.instances.add(t, &candidate.instances);
        self.processes.advance(t);
        self.after.advance(t);
        self.watches.iter_mut().for_each(|w| w.advance(t));
    }

    /// From the next slot on the candidate is watched: a verdict other than `Fail` was taken.
    pub fn watch(&mut self) {
        if self.watches.is_some() {
            return;
        }
        // The watch has evidence of its own; what was decided keeps the evidence that decided it.
        (self.requests, self.errors) = ([0; 2], [0; 2]);
        self.processes.close_log();
        let from = Some(self.last_slot + self.timing.slot_s());
        self.watches = Some(processes(&self.policy, self.timing, Purpose::Watch, from));
        self.after = processes(&self.policy, self.timing, Purpose::Degraded, from);
    }

    /// Forgets the log of what its sums are made of.
    pub(super) fn forget_log(&mut self) {
        let sets = [&mut self.processes, &mut self.after].into_iter().chain(&mut self.watches);
        sets.for_each(Processes::forget_log);
    }

    /// Seconds since the candidate's last request, as of the last slot.
    pub fn silent_s(&self) -> i64 {
        if self.first.is_some() { self.last_slot - self.last_traffic } else { 0 }
    }
}

/// An empty set of processes under a policy; watches from `watch_from` on, else e-processes.
fn processes(policy: &Policy, timing: Timing, purpose: Purpose, watch_from: Option<Slot>) -> Processes {
    Processes::new(Shape {
        purpose,
        cap: block_cap(policy.alpha),
        horizon_s: policy.horizon_s,
        watch_from,
        rhythm: if watch_from.is_some() { timing.watch_rhythm() } else { timing.rhythm() },
    })
}
