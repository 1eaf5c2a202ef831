//! What one slot says: every question that can be asked of it, as terms that go to the processes, to the way
//! to PASS, or to what only people read. Which of them depends on whether the baseline still serves.

use std::mem::take;
use std::sync::Arc;

use super::beside::Beside;
use super::buckets::Bounds;
use super::evidence::Sli;
use super::input::{Cell, Cells, Counts, SlotInput, pooled, totals};
use super::judge::{Judge, OperationState};
use super::memory::Memory;
use super::pairing::{Fixed, Group};
use super::passing::Passing;
use super::processes::Key;
use super::split;
use super::stratum::Dispersions;
use super::terms;
use super::thresholds::Cuts;
use crate::model::Slot;
use crate::stats::{Term, upper_bound};

/// The guard: ten times the errors and five points.
const GUARD: (f64, f64) = (10.0, 0.05);
/// The candidate's rate may be off by this factor from a level that is only remembered or just seen.
const ERROR_FACTOR: f64 = 2.0;

impl Judge {
    /// Judges slot `t`; `whole` is the memory in which parts are looked up.
    pub(super) fn judge(
        &mut self,
        (t, first): (Slot, Slot),
        (memory, whole): (&Memory, &Memory),
        input: &SlotInput,
        seen: [u64; 2],
    ) {
        let begin = first + self.warmup_s();
        let (since, warmup_s) = match &self.change {
            Some(change) => change.settles_from(self.timing),
            None => (first, self.warmup_s()),
        };
        self.settling.look(t, since, warmup_s, self.timing);
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
            self.judge_concurrent((t, begin), (memory, whole), input);
        }
    }

    /// Catastrophe guard: totals, warm-up included, from the first request.
    fn judge_guard(&mut self, t: Slot, first: Slot, memory: &Memory, input: &SlotInput) {
        if self.gone {
            return;
        }
        let count = |[requests, bad]: [u64; 2]| Counts { requests, bad, ..Default::default() };
        let service = memory.dispersions.phis();
        let fixed = self.fixed(service, service, memory.client_errors.phi());
        let (candidate, baseline) = (count(input.candidate.totals()), count(input.baseline.totals()));
        if let Some(group) = self.guard.add(t, self.timing.pairing_s(), candidate, baseline, fixed) {
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

    /// Without cuts.
    fn fixed(&self, service: [f64; 4], own: [f64; 4], client_errors: f64) -> Fixed {
        Fixed {
            cuts: None,
            service,
            own,
            client_errors,
            error_factor: self.margins.1,
            latency_extra: self.margins.2,
        }
    }

    /// Both versions serve: every operation's groups, summed at service level.
    fn judge_concurrent(
        &mut self,
        (t, begin): (Slot, Slot),
        (memory, whole): (&Memory, &Memory),
        input: &SlotInput,
    ) {
        let renamed = self.renamed();
        if renamed != self.renamed {
            self.renamed = renamed;
            self.clear_groups();
        }
        let mut sums = ServiceTerms::default();
        let unknown = Dispersions::default().phis();
        let (service, client_errors) = (memory.dispersions.phis(), memory.client_errors.phi());
        let extra = self.margins.2;
        // They are put back below; nothing that is called here looks for them.
        let (mut operations, mut all) = (take(&mut self.operations), take(&mut self.all));
        let mut parts = take(&mut self.parts);
        let arms = [&input.candidate, &input.baseline];
        let (candidate, baseline) = (&input.candidate.warm, &input.baseline.warm);
        let mut cells = [Beside::of(candidate), Beside::of(baseline)];
        let mut strata = Beside::of(&memory.strata);
        for (operation, state) in &mut operations {
            let mut cells = cells.each_mut().map(|arm| arm.find(operation));
            let stratum = strata.find(operation);
            let own = stratum.map_or(unknown, |stratum| stratum.dispersions.phis());
            let fixed = self.fixed(service, own, client_errors);
            let split = if renamed { Vec::new() } else { split::of_operation(&parts, operation) };
            for key in &split {
                let Some(part) = parts.get_mut(key) else { continue };
                let cells = arms.map(|arm| split::part(arm, key));
                let cuts = |bounds: &Bounds| whole.cohort(&key.1)?.strata.get(operation)?.cuts(bounds, extra);
                if let Some(group) = self.add_to_group(t, &mut part.state, cells, fixed, cuts) {
                    state.compared[0] += group.candidate.requests;
                    state.compared[1] += group.baseline.requests;
                    self.judge_group(t, begin, (Some(operation), &mut part.state), &group, Some(&mut sums));
                }
            }
            let rest;
            if !split.is_empty() {
                rest = arms.map(|arm| split::rest(arm, operation, &split));
                cells = rest.each_ref().map(Option::as_ref);
            }
            let cuts = |bounds: &Bounds| stratum?.cuts(bounds, extra);
            if let Some(group) = self.add_to_group(t, state, cells, fixed, cuts) {
                self.judge_group(t, begin, (Some(operation), state), &group, (!renamed).then_some(&mut sums));
            }
        }
        let pooled = [pooled(candidate), pooled(baseline)];
        let fixed = self.fixed(unknown, unknown, client_errors);
        let cuts = |bounds: &Bounds| memory.pooled_cuts(bounds, extra);
        if let Some(group) =
            self.add_to_group(t, &mut all, pooled.each_ref().map(Option::as_ref), fixed, cuts)
        {
            self.judge_group(t, begin, (None, &mut all), &group, renamed.then_some(&mut sums));
        }
        (self.operations, self.all, self.parts) = (operations, all, parts);
        self.put_service(t, begin, sums);
    }

    /// Adds the cells of a slot to an operation's open group, or to that of all as one. `cuts` answers what it is
    /// judged by now, in the buckets that both versions have.
    fn add_to_group(
        &self,
        t: Slot,
        state: &mut OperationState,
        [candidate, baseline]: [Option<&Cell>; 2],
        fixed: Fixed,
        cuts: impl FnOnce(&Bounds) -> Option<Cuts>,
    ) -> Option<Group> {
        state.note_bounds([candidate, baseline]);
        let bounds = state.shared_bounds();
        let fixed = Fixed { cuts: cuts(&bounds), ..fixed };
        let merged = |cell: Option<&Cell>| cell.map(|cell| cell.merged_in(&bounds)).unwrap_or_default();
        state.pairing.add(t, self.timing.pairing_s(), merged(candidate), merged(baseline), fixed)
    }

    /// Turns a closed group into terms: for the operation's own processes, and for the service's sums.
    fn judge_group(
        &mut self,
        t: Slot,
        begin: Slot,
        (name, state): (Option<&Arc<str>>, &mut OperationState),
        group: &Group,
        sums: Option<&mut ServiceTerms>,
    ) {
        let latency_from = self.settling.from.filter(|from| group.since >= *from);
        state.compared[0] += group.candidate.requests;
        state.compared[1] += group.baseline.requests;
        let found = terms::of_group(&self.policy, group, state.predicted(), latency_from.is_some());
        let keep = self.timing.share_decay();
        if let Some(above) = found.above_median {
            state.share[0] = keep * state.share[0] + above as f64;
            state.share[1] = keep * state.share[1] + group.baseline.requests as f64;
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
        let (in_time, latency_in_time) = (self.in_time(t), self.latency_in_time(t));
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
            self.put(Key::service(sli), &[term], t, latency_from, latency_in_time);
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
            Some(watches) if !self.gone => watches.add(key, terms, t, start),
            _ => self.after.add(key, terms, t, t),
        }
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
