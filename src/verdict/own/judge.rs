//! The judge of a policy's own SLIs of one clock: slots in, evidence out. When the candidate is compared, and
//! whether the baseline is there, is said by the judge of the requests of the same source, so that all SLIs of a
//! deployment agree on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::evidence::{Sli, SliEvidence};
use super::super::input::{Cell, MeasuredCells, SlotInput};
use super::super::memory::Memory;
use super::super::policy::Policy;
use super::super::process::{Purpose, Shape};
use super::super::processes::{Key, Processes};
use super::super::slot_log::SlotLog;
use super::super::timing::Timing;
use super::memory::{MeasureMemory, above, units};
use super::sli::{OwnEvidence, OwnSli, OwnTest};
use crate::model::snapshot::snapshot_fields;
use crate::model::{Slot, Source};
use crate::stats::{
    LADDER_PASS, Steps, Term, block_cap, ln_sum_exp, lower_bound, ratio_interval, upper_bound,
};

/// What a remembered rate may be off by.
const REMEMBERED_FACTOR: f64 = 2.0;
/// Where both versions are held to one bound of explicit buckets: how much larger the share above it may be, and what a
/// PASS must have ruled out.
const BOUND_RATIOS: [f64; 2] = [1.25, 2.0];

/// What the judge of the requests says of a slot.
#[derive(Debug, Clone, Copy)]
pub(in crate::verdict) struct Stage {
    /// First slot that is compared.
    pub(in crate::verdict) begin: Slot,
    /// First slot in which latency is compared, once known.
    pub(in crate::verdict) latency_from: Option<Slot>,
    /// Whether the baseline has gone.
    pub(in crate::verdict) gone: bool,
    /// Whether evidence of this slot counts towards FAIL.
    pub(in crate::verdict) in_time: bool,
    /// The same of latency.
    pub(in crate::verdict) latency_in_time: bool,
    /// Buckets that unlike instances add to a latency margin.
    pub(in crate::verdict) latency_extra: i32,
}

/// One slot that waits for a slot in which both versions have something to compare.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Slice {
    t: Slot,
    /// Candidate, baseline.
    n: [f64; 2],
    worse: [f64; 2],
    pass: [f64; 2],
    /// Incident size as of the slot.
    c: f64,
}

snapshot_fields!(Slice { t, n, worse, pass, c });

/// What is kept of one SLI.
#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    /// Open groups by operation.
    open: BTreeMap<Arc<str>, VecDeque<Slice>>,
    /// Evidence for "not unacceptably worse".
    pass: Steps,
    /// Candidate's and baseline's numbers compared, and their events.
    compared: [f64; 4],
}

snapshot_fields!(State { open, pass, compared });

/// The judge of the SLIs of one clock.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::verdict) struct OwnJudge {
    /// Places of its SLIs in the policy.
    places: Vec<u8>,
    states: Vec<State>,
    timing: Timing,
    processes: Processes,
    after: Processes,
    watches: Option<Processes>,
    last_slot: Slot,
    was_gone: bool,
}

snapshot_fields!(OwnJudge { places, states, timing, processes, after, watches, last_slot, was_gone });

impl OwnJudge {
    /// The judge of those SLIs of a policy that are counted by `clock`; `None` where there are none.
    pub(in crate::verdict) fn new(policy: &Policy, clock: Source, timing: Timing) -> Option<Self> {
        let own = policy
            .slis
            .iter()
            .enumerate()
            .filter(|(_, sli)| sli.is_measured() && sli.source.clock() == clock);
        let places: Vec<u8> = own.map(|(place, _)| place as u8).collect();
        (!places.is_empty()).then(|| Self {
            states: vec![State::default(); places.len()],
            places,
            timing,
            processes: processes(policy, timing, Purpose::Decision, None),
            after: processes(policy, timing, Purpose::Degraded, None),
            watches: None,
            last_slot: 0,
            was_gone: false,
        })
    }

    /// Judges slot `t`, after the judge of the requests.
    pub(in crate::verdict) fn slot(
        &mut self,
        t: Slot,
        policy: &Policy,
        stage: Option<Stage>,
        memory: &Memory,
        input: &SlotInput,
    ) {
        self.last_slot = t;
        if let Some(stage) = stage.filter(|stage| t >= stage.begin) {
            if stage.gone != self.was_gone {
                self.was_gone = stage.gone;
                self.states.iter_mut().for_each(|state| state.open.clear());
            }
            for i in 0..self.places.len() {
                if let Some(sli) = policy.slis.get(usize::from(self.places[i])) {
                    self.judge(t, i, sli, stage, memory, input);
                }
            }
        }
        self.processes.advance(t);
        self.after.advance(t);
        self.watches.iter_mut().for_each(|watches| watches.advance(t));
    }

    fn judge(&mut self, t: Slot, i: usize, sli: &OwnSli, stage: Stage, memory: &Memory, input: &SlotInput) {
        let Some(known) = memory.measures.get(&sli.measure.key) else { return };
        let nothing = MeasuredCells::default();
        let arms = [&input.candidate, &input.baseline]
            .map(|arm| arm.measures.get(&sli.measure.key).unwrap_or(&nothing));
        // Fewer of what a version never showed may be a metric that is called otherwise; more of it, that the
        // baseline did not count yet.
        let fewer = matches!(sli.test, OwnTest::Rate { is_decrease: true, .. });
        if arms[1].is_new || fewer && arms[0].is_unseen {
            return;
        }
        let Some(question) = Question::of(sli, known, stage, arms) else { return };
        let start = if question.latency.is_some() { stage.latency_from.unwrap_or(t) } else { stage.begin };
        if stage.gone {
            return self.judge_remembered(t, i, sli, stage, known, &question, arms[0], start);
        }
        let mut names: Vec<&Arc<str>> = arms[0].warm.keys().chain(arms[1].warm.keys()).collect();
        names.sort();
        names.dedup();
        let names: Vec<Arc<str>> = names.into_iter().cloned().collect();
        let [c, _] = known.sizes(question.latency.map(|latency| latency.quantile));
        let mut terms = Vec::new();
        for name in names {
            let slice = question.slice(t, c, arms.map(|arm| arm.warm.get(&name)));
            let state = &mut self.states[i];
            let open = state.open.entry(Arc::clone(&name)).or_default();
            let Some(group) = add_to_group(open, slice, self.timing.pairing_s()) else { continue };
            if open.is_empty() {
                state.open.remove(&name);
            }
            let counts = |x: [f64; 2]| [group.n[0], x[0], group.n[1], x[1]];
            state.compared.iter_mut().zip(counts(group.worse)).for_each(|(sum, v)| *sum += v);
            terms.push(question.concurrent(counts(group.worse), question.worse, group.c));
            if sli.required && !arms[0].is_unseen {
                let term = question.concurrent(counts(group.pass), question.pass, group.c);
                term.add_to(&mut state.pass, &LADDER_PASS);
            }
        }
        self.put(i, &terms, t, start, true);
    }

    /// The baseline is gone: the candidate alone against what the baseline showed.
    #[expect(clippy::too_many_arguments, reason = "what was looked up is handed on once")]
    fn judge_remembered(
        &mut self,
        t: Slot,
        i: usize,
        sli: &OwnSli,
        stage: Stage,
        known: &MeasureMemory,
        question: &Question,
        arm: &MeasuredCells,
        start: Slot,
    ) {
        let mut slice = Slice::default();
        for cell in arm.warm.values() {
            let one = question.slice(t, 1.0, [Some(cell), None]);
            slice.n[0] += one.n[0];
            slice.worse[0] += one.worse[0];
            slice.pass[0] += one.pass[0];
        }
        if slice.n[0] <= 0.0 {
            return;
        }
        let [_, c] = known.sizes(question.latency.map(|latency| latency.quantile));
        let (all, events) = question.remembered(known);
        if all <= 0.0 {
            return;
        }
        let (n, x) = (slice.n[0], slice.worse[0]);
        let (ratio, delta) = question.pass;
        let term = if question.is_decrease {
            Some(lower_bound(events, all) / REMEMBERED_FACTOR)
                .filter(|p0| *p0 > 0.0)
                .map(|p0| Term::OneSampleBelow { n, x, p0, c })
        } else {
            Some(upper_bound(events, all, REMEMBERED_FACTOR).max(2.0 * delta))
                .filter(|p0| !question.is_share || *p0 < 1.0)
                .map(|p0| Term::OneSample { n, x, p0, c })
        };
        let state = &mut self.states[i];
        state.compared[0] += n;
        state.compared[1] += x;
        if sli.required && !arm.is_unseen {
            let x = slice.pass[0];
            if question.is_decrease {
                // Reversed: shown to be more than what would be unacceptably few.
                let p0 = upper_bound(events, all, 1.0) / ratio;
                let term = Term::OneSample { n, x, p0, c };
                state.pass.iter_mut().zip(LADDER_PASS).for_each(|(sum, g)| *sum += term.nats(1.0 / g));
            } else {
                let p0 = ratio * lower_bound(events, all) + delta;
                if p0 > 0.0 {
                    Term::OneSample { n, x, p0, c }.add_to(&mut state.pass, &LADDER_PASS);
                }
            }
        }
        if let Some(term) = term {
            let is_latency = question.latency.is_some();
            self.put(i, &[term], t, start, if is_latency { stage.latency_in_time } else { stage.in_time });
        }
    }

    /// Sends terms to where they count, as [`super::super::Judge`] does.
    fn put(&mut self, i: usize, terms: &[Term], t: Slot, start: Slot, counts: bool) {
        let key = self.key(i);
        match &mut self.watches {
            None if counts => self.processes.add(key, terms, t, start),
            Some(watches) if !self.was_gone => watches.add(key, terms, t, start),
            _ => self.after.add(key, terms, t, t),
        }
    }

    fn key(&self, i: usize) -> Key {
        Key::service(Sli::Own(self.places[i]))
    }

    /// From the next slot on the candidate is watched.
    pub(in crate::verdict) fn watch(&mut self, policy: &Policy) {
        if self.watches.is_some() {
            return;
        }
        self.processes.close_log();
        self.states.iter_mut().for_each(|state| state.compared = [0.0; 4]);
        let from = Some(self.last_slot + self.timing.slot_s());
        self.watches = Some(processes(policy, self.timing, Purpose::Watch, from));
        self.after = processes(policy, self.timing, Purpose::Degraded, from);
    }

    /// ln of the weighted sum of what decides, of its watches, and of what no FAIL reads. What has not begun
    /// counts as 1; a watch that has not, nothing.
    pub(in crate::verdict) fn ln_sums(&self, policy: &Policy) -> [f64; 3] {
        let weights = self.weights(policy);
        let of =
            |set: &Processes| if weights.is_empty() { f64::NEG_INFINITY } else { set.ln_combined(&weights) };
        [of(&self.processes), self.watches.as_ref().map_or(f64::NEG_INFINITY, of), of(&self.after)]
    }

    fn weights(&self, policy: &Policy) -> BTreeMap<Key, f64> {
        let each = self.places.iter().enumerate().filter_map(|(i, place)| {
            let weight = policy.slis.get(usize::from(*place))?.weight;
            (weight > 0.0).then(|| (self.key(i), weight))
        });
        each.collect()
    }

    /// Whether there is evidence that no FAIL reads.
    pub(in crate::verdict) fn has_later_evidence(&self) -> bool {
        !self.after.is_empty()
    }

    /// How far the slowest required SLI is on the way to PASS, 0 to 1.
    pub(in crate::verdict) fn pass_fraction(&self, policy: &Policy) -> f64 {
        let required = self.of_policy(policy).filter(|(_, sli)| sli.required);
        let fraction =
            |(i, _): (usize, &OwnSli)| (self.ln_e_pass(i) / policy.pass_threshold()).clamp(0.0, 1.0);
        required.map(fraction).fold(1.0, f64::min)
    }

    fn of_policy<'a>(&self, policy: &'a Policy) -> impl Iterator<Item = (usize, &'a OwnSli)> {
        let places = self.places.clone().into_iter().enumerate();
        places.filter_map(|(i, place)| Some((i, policy.slis.get(usize::from(place))?)))
    }

    fn ln_e_pass(&self, i: usize) -> f64 {
        let steps = LADDER_PASS.len();
        ln_sum_exp(self.states[i].pass.iter().take(steps).copied()) - (steps as f64).ln()
    }

    /// The lines of its SLIs, each with the ln of its e-value. `share` is what remains of a weight.
    pub(in crate::verdict) fn lines(
        &self,
        policy: &Policy,
        memory: &Memory,
        share: f64,
    ) -> Vec<(f64, SliEvidence)> {
        let counting = self.counting();
        let mass = counting.ln_mass(self.last_slot);
        self.of_policy(policy)
            .map(|(i, sli)| {
                let ln_e = counting.ln(&self.key(i));
                let (is_decrease, quantile) = match sli.test {
                    OwnTest::Rate { is_decrease, .. } => (is_decrease, None),
                    OwnTest::Latency { quantile, .. } => (false, Some(usize::from(quantile))),
                    OwnTest::Gauge { is_decrease, .. } => (is_decrease, None),
                    OwnTest::Share { .. } => (true, None),
                };
                let counts = self.states[i].compared;
                let known = memory.measures.get(&sli.measure.key);
                let phi = known.map_or(1.0, |known| known.phi(quantile));
                let whole = |v: f64| v.round() as u64;
                let line = SliEvidence {
                    source: sli.source.clock(),
                    sli: Sli::Own(self.places[i]),
                    weight: sli.weight * share,
                    ln_e,
                    ln_e_pass: sli.required.then(|| self.ln_e_pass(i)),
                    requests: [whole(counts[0]), whole(counts[2])],
                    bad: [whole(counts[1]), whole(counts[3])],
                    ratio: ratio_interval(counts, phi),
                    own: Some(Box::new(OwnEvidence {
                        name: sli.name.clone(),
                        kind: sli.kind,
                        source: sli.source,
                        is_decrease,
                        required: sli.required,
                        ..OwnEvidence::default()
                    })),
                    ..SliEvidence::default()
                };
                (ln_e - mass, line)
            })
            .collect()
    }

    fn counting(&self) -> &Processes {
        match &self.watches {
            None => &self.processes,
            Some(watches) if !self.was_gone => watches,
            Some(_) => &self.after,
        }
    }

    /// The log of the evidence that counts now.
    pub(in crate::verdict) fn slot_log(&self) -> SlotLog {
        self.counting().slot_log(self.last_slot)
    }
}

/// Closes a group when both versions have something in it; slots that are too old leave it.
fn add_to_group(open: &mut VecDeque<Slice>, slice: Slice, longest_s: i64) -> Option<Slice> {
    while open.front().is_some_and(|oldest| oldest.t <= slice.t - longest_s) {
        open.pop_front();
    }
    open.push_back(slice);
    let sum = |side: usize| open.iter().map(|s| s.n[side]).sum::<f64>();
    if sum(0) <= 0.0 || sum(1) <= 0.0 {
        return None;
    }
    let mut group = open.pop_front()?;
    for slice in open.drain(..) {
        for side in 0..2 {
            group.n[side] += slice.n[side];
            group.worse[side] += slice.worse[side];
            group.pass[side] += slice.pass[side];
        }
    }
    Some(group)
}

/// One SLI's question, with everything that must be fixed before a slot's counts are read.
#[derive(Debug, Clone, Copy)]
struct Question {
    worse: (f64, f64),
    pass: (f64, f64),
    is_decrease: bool,
    is_share: bool,
    /// How much counts as one event.
    unit: f64,
    latency: Option<Threshold>,
}

/// How a latency is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Threshold {
    /// Place of its quantile.
    quantile: usize,
    /// Above this bucket the baseline is slow; the candidate a margin higher.
    at: i32,
    /// The same where unlike instances lower it: a bound of explicit buckets.
    base: i32,
    margin: i32,
    pass_margin: i32,
}

impl Question {
    /// `None` where it cannot be asked yet.
    fn of(sli: &OwnSli, known: &MeasureMemory, stage: Stage, arms: [&MeasuredCells; 2]) -> Option<Self> {
        let is_quantity = arms.iter().any(|arm| arm.is_quantity);
        Some(match sli.test {
            OwnTest::Gauge { .. } | OwnTest::Share { .. } => return None,
            OwnTest::Rate { ratio, delta, is_decrease, is_share, pass_ratio, pass_delta } => Self {
                worse: (ratio, delta),
                pass: (pass_ratio, pass_delta),
                is_decrease,
                is_share,
                unit: known.unit(is_quantity)?,
                latency: None,
            },
            OwnTest::Latency { quantile, margin, pass_margin } => {
                stage.latency_from?;
                let (q, stratum) = (usize::from(quantile), known.stratum.as_ref()?);
                // Both versions are counted in the same buckets.
                let cells = arms.into_iter().flat_map(|arm| arm.warm.values());
                let bounds = cells.map(|cell| &cell.bounds).next().unwrap_or(&stratum.bounds);
                let cuts = stratum.cuts(bounds, stage.latency_extra)?;
                let [at, base] = [cuts.at, cuts.base].map(|of| of.get(q).copied().flatten().map(i32::from));
                let (at, base) = (at?, base?);
                let [margin, pass_margin] =
                    if cuts.explicit { [0, 0] } else { [margin + stage.latency_extra, pass_margin] };
                let [worse, pass] = if cuts.explicit { BOUND_RATIOS } else { [1.0, 1.0] };
                Self {
                    worse: (worse, 0.0),
                    pass: (pass, 0.0),
                    is_decrease: false,
                    is_share: true,
                    unit: 1.0,
                    latency: Some(Threshold { quantile: q, at, base, margin, pass_margin }),
                }
            }
        })
    }

    /// What a slot shows of candidate and baseline.
    fn slice(&self, t: Slot, c: f64, cells: [Option<&Cell>; 2]) -> Slice {
        let mut slice = Slice { t, c, ..Slice::default() };
        for (side, cell) in cells.into_iter().enumerate() {
            let Some(cell) = cell else { continue };
            slice.n[side] = cell.requests() as f64;
            let [worse, pass] = match self.latency {
                None => {
                    let x: u64 = cell.groups.iter().map(|group| group.bad).sum();
                    [units(x, self.unit); 2]
                }
                Some(Threshold { at, margin, pass_margin, .. }) if side == 0 => {
                    [at + margin, at + pass_margin].map(|bucket| above(cell, bucket) as f64)
                }
                Some(Threshold { at, base, .. }) => [base, at].map(|bucket| above(cell, bucket) as f64),
            };
            (slice.worse[side], slice.pass[side]) = (worse, pass);
        }
        slice
    }

    /// The term of a group: candidate's number and events, baseline's number and events.
    fn concurrent(&self, [n_c, x_c, n_b, x_b]: [f64; 4], (r0, delta): (f64, f64), c: f64) -> Term {
        if self.is_decrease {
            Term::RateRatio { n_c: n_b, x_c: x_b, n_b: n_c, x_b: x_c, r0, delta, c }
        } else {
            Term::RateRatio { n_c, x_c, n_b, x_b, r0, delta, c }
        }
    }

    /// Remembered number of all, and of the events.
    fn remembered(&self, known: &MeasureMemory) -> (f64, f64) {
        match (self.latency, &known.stratum) {
            (Some(latency), Some(stratum)) => {
                let bucket = i16::try_from(latency.at).unwrap_or(i16::MAX);
                (stratum.kept.total(known.traffic_s), stratum.kept.above(known.traffic_s, bucket))
            }
            _ => (known.all, known.events(self.unit)),
        }
    }
}

/// An empty set of processes under a policy.
fn processes(policy: &Policy, timing: Timing, purpose: Purpose, watch_from: Option<Slot>) -> Processes {
    Processes::new(Shape {
        purpose,
        cap: block_cap(policy.alpha),
        horizon_s: policy.horizon_s,
        watch_from,
        rhythm: if watch_from.is_some() { timing.watch_rhythm() } else { timing.rhythm() },
    })
}
