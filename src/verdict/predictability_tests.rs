//! The guarantee rests on one rule: what enters a formula is fixed before the counts of the slot are read, and of
//! the slot itself only request totals may decide. Here random streams are judged twice, with outcomes and
//! latencies of one slot, or of one open group, changed in between; the parameters must not move. Two exceptions
//! are written: request totals, and the baseline's counts in the null of the absolute check, equation (5).
//! The same streams hold the log to the evidence, and a snapshot to the state that it was taken of.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use proptest::prelude::*;

use super::processes::Processes;
use super::*;
use crate::model::Slot;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::stats::Term;

#[path = "split_predictability_tests.rs"]
mod splits;

/// Traffic of a random stream: requests per slot and operation of each version, and when things happen.
#[derive(Debug, Clone)]
struct Stream {
    seed: u64,
    candidate: f64,
    baseline: f64,
    operations: usize,
    warmup_s: i64,
    candidate_from: i64,
    /// Slots in which the baseline is silent.
    silent: std::ops::Range<i64>,
    /// The candidate's operations have other names from here on.
    renamed_from: i64,
    /// A verdict was taken here: the judge watches from then on.
    watch_from: i64,
    /// Seconds of a slot.
    slot_s: i64,
    buckets: Buckets,
}

/// Where latencies are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Buckets {
    Grid,
    /// Explicit, the same in both versions.
    Explicit,
    /// The candidate has others.
    Differ,
    /// Those of the baseline change in slot 90.
    Change,
    /// Explicit in one operation, on the grid in the others.
    Mixed,
}

impl Buckets {
    /// Bounds of an operation in slot `i`.
    fn of(self, candidate: bool, operation: usize, i: i64) -> Option<Arc<[f64]>> {
        const DEFAULT: [f64; 6] = [0.04, 0.06, 0.1, 0.25, 0.5, 1.0];
        const OTHER: [f64; 5] = [0.05, 0.06, 0.25, 0.4, 1.0];
        let other = match self {
            Self::Grid => return None,
            Self::Mixed if operation > 0 => return None,
            Self::Differ => candidate,
            Self::Change => !candidate && i >= 90,
            Self::Explicit | Self::Mixed => false,
        };
        Some(if other { Arc::new(OTHER) } else { Arc::new(DEFAULT) })
    }
}

fn streams() -> impl Strategy<Value = Stream> {
    let rate = || prop_oneof![Just(0.15), Just(0.6), Just(4.0)];
    let place = || prop_oneof![2 => Just(1_000i64), 1 => 40i64..160];
    (
        (any::<u64>(), rate(), rate(), 1usize..4, prop_oneof![Just(0i64), Just(20)]),
        (0i64..40, place(), 5i64..60, place(), place()),
        prop_oneof![Just(1i64), Just(15), Just(60)],
        prop_oneof![
            4 => Just(Buckets::Grid),
            1 => Just(Buckets::Explicit),
            1 => Just(Buckets::Differ),
            1 => Just(Buckets::Change),
            1 => Just(Buckets::Mixed),
        ],
    )
        .prop_map(
            |(
                (seed, candidate, baseline, operations, warmup_s),
                (from, quiet, long, renamed, watch),
                slot_s,
                buckets,
            )| {
                Stream {
                    slot_s,
                    buckets,
                    seed,
                    candidate,
                    baseline,
                    operations,
                    warmup_s,
                    candidate_from: from,
                    silent: quiet..quiet + long,
                    renamed_from: renamed,
                    watch_from: watch,
                }
            },
        )
}

/// Fills a cell with requests; outcomes and latencies are redrawn by [`redraw`].
fn counts(rng: &mut Rng, rate: f64) -> Counts {
    let most = (2.0 * rate).ceil() as u64;
    let requests = (0..most).filter(|_| rng.f64() < rate / most as f64).count() as u64;
    let mut counts = Counts { requests, ..Counts::default() };
    redraw(rng, &mut counts, None, true, true);
    counts
}

/// New outcomes and latencies for the same requests.
fn redraw(rng: &mut Rng, counts: &mut Counts, bounds: Option<&[f64]>, outcomes: bool, latencies: bool) {
    if outcomes {
        let of = |rng: &mut Rng, n: u64, p: f64| (0..n).filter(|_| rng.f64() < p).count() as u64;
        let bad_share = if rng.u8(..) < 40 { 0.9 } else { 0.1 };
        counts.bad = of(rng, counts.requests, bad_share);
        counts.client_errors = of(rng, counts.requests - counts.bad, 0.2);
    }
    if latencies {
        let middle = rng.i16(-160..0);
        let on_grid: Vec<i16> = (0..counts.requests).map(|_| middle + rng.i16(-30..90)).collect();
        let key = |bucket: i16| match bounds {
            None => bucket,
            Some(bounds) => {
                let seconds = crate::histogram::layout::upper_edge_seconds(bucket);
                bounds.partition_point(|&b| b < seconds) as i16
            }
        };
        counts.latency = on_grid.into_iter().map(|bucket| (key(bucket), 1)).collect();
    }
}

fn cells(arm: &mut Arm, before: &mut Cells, mut each: impl FnMut(&mut Counts, Option<&[f64]>)) {
    for cell in arm.warm.values_mut().chain(before.values_mut()) {
        let bounds = cell.bounds.clone();
        cell.groups.iter_mut().for_each(|counts| each(counts, bounds.as_deref()));
    }
    each(&mut arm.young, None);
}

/// Instances 0 and 1 are the two groups; what they sum to follows from the cells.
fn count_instances(arm: &mut Arm) {
    arm.instances = (0..2u32)
        .map(|ordinal| {
            let mut instance = InstanceCounts { ordinal, ..InstanceCounts::default() };
            for counts in arm.warm.values().map(|cell| &cell.groups[ordinal as usize]) {
                instance.requests += counts.requests;
                instance.bad += counts.bad;
                for (bucket, n) in counts.latency.iter() {
                    instance.bucket_sum += i64::from(bucket) * i64::from(n);
                    instance.bucket_squares += i64::from(bucket).pow(2) * i64::from(n);
                }
            }
            instance
        })
        .filter(|i| i.requests > 0)
        .collect();
}

impl Stream {
    fn arm(&self, rng: &mut Rng, t: i64, rate: f64, prefix: Option<&str>, young: bool) -> Arm {
        let mut arm = Arm { status_seen: rng.bool(), ..Arm::default() };
        if young {
            arm.young = counts(rng, rate);
            return arm;
        }
        for o in 0..self.operations {
            let mut cell = Cell { groups: [counts(rng, rate / 2.0), counts(rng, rate / 2.0)], bounds: None };
            if let Some(bounds) = self.buckets.of(prefix.is_some(), o, t) {
                cell.groups.iter_mut().for_each(|c| redraw(rng, c, Some(&bounds), false, true));
                cell.bounds = Some(bounds);
            }
            let prefix = prefix.unwrap_or("GET /");
            if cell.requests() > 0 {
                arm.warm.insert(Arc::from(format!("{prefix}{o}")), cell);
            }
        }
        count_instances(&mut arm);
        arm
    }

    fn slots(&self, n: i64) -> Vec<SlotInput> {
        let rng = &mut Rng::with_seed(self.seed);
        (0..n)
            .map(|t| {
                let mut input = SlotInput::default();
                if !self.silent.contains(&t) {
                    input.baseline = self.arm(rng, t, self.baseline, None, false);
                }
                if t >= self.candidate_from {
                    let prefix = if t >= self.renamed_from { "v2 /" } else { "GET /" };
                    let young = t < self.candidate_from + self.timing().whole(self.warmup_s) / self.slot_s;
                    input.candidate = self.arm(rng, t, self.candidate, Some(prefix), young);
                    if t < self.candidate_from + 10 && !input.baseline.warm.is_empty() {
                        input.started_before = self.arm(rng, t, 0.5, None, false).warm;
                    }
                }
                input
            })
            .collect()
    }
}

/// What is changed of a slot: outcomes, latencies, of which versions.
#[derive(Debug, Clone, Copy)]
struct Change {
    outcomes: bool,
    latencies: bool,
    candidate: bool,
    baseline: bool,
}

impl Change {
    fn apply(self, rng: &mut Rng, input: &SlotInput) -> SlotInput {
        let mut changed = input.clone();
        let mut each = |counts: &mut Counts, bounds: Option<&[f64]>| {
            redraw(rng, counts, bounds, self.outcomes, self.latencies);
        };
        if self.candidate {
            cells(&mut changed.candidate, &mut Cells::new(), &mut each);
            count_instances(&mut changed.candidate);
        }
        if self.baseline {
            cells(&mut changed.baseline, &mut changed.started_before, &mut each);
            count_instances(&mut changed.baseline);
        }
        changed
    }
}

/// Time about which slots begin: off the epoch's blocks of 30 s.
const T0: Slot = 1_000_007;

impl Stream {
    fn timing(&self) -> Timing {
        Timing::of_slot(self.slot_s)
    }

    /// Slot number `i`.
    fn t(&self, i: usize) -> Slot {
        self.timing().slot_of(T0) + i as i64 * self.slot_s
    }
}

#[derive(Debug, Clone)]
struct World {
    memory: Memory,
    judge: Judge,
}

impl World {
    fn new(stream: &Stream) -> Self {
        let policy = Policy { warmup_s: stream.warmup_s, ..Policy::default() };
        Self { memory: Memory::new(stream.timing()), judge: Judge::new(policy, stream.timing()) }
    }

    fn step(&mut self, t: Slot, input: &SlotInput) {
        self.memory.begin(t, !input.baseline.is_silent() || !input.started_before.is_empty());
        self.judge.slot(t, &self.memory, input);
        let mut seen = input.baseline.warm.clone();
        for (operation, cell) in &input.started_before {
            seen.entry(Arc::clone(operation)).or_default().merge(cell);
        }
        self.memory.end(t, &seen, &input.baseline);
    }

    /// What slot `t` added to the logs: of the processes that decide, of those that people read, of the watch.
    fn logged(&self, t: Slot) -> Vec<Logged> {
        let of = |log: &std::collections::VecDeque<Logged>| {
            log.iter().rev().take_while(|l| l.slot == t).cloned().collect::<Vec<_>>()
        };
        sets(&self.judge).flat_map(|set| of(set.log())).collect()
    }

    /// What was decided for the slot beside the terms: who is there, under which names, since when, by what
    /// weights.
    fn decisions(&self) -> impl PartialEq + std::fmt::Debug {
        (
            (self.judge.gone, self.judge.renamed(), self.judge.first, self.judge.settling.from),
            self.judge.weights.clone(),
            self.judge.spread,
            self.judge.requests,
        )
    }
}

/// Requests of candidate and baseline, bad ones, and everything else of a term.
fn parts(term: &Term) -> ([f64; 2], [f64; 2], [f64; 3]) {
    match *term {
        Term::RateRatio { n_c, x_c, n_b, x_b, r0, delta, c } => ([n_c, n_b], [x_c, x_b], [r0, delta, c]),
        Term::Bernoulli { n_c, x_c, n_b, x_b, p, phi } => ([n_c, n_b], [x_c, x_b], [p, phi, 0.0]),
        Term::OneSample { n, x, p0, c } | Term::OneSampleBelow { n, x, p0, c } => {
            ([n, 0.0], [x, 0.0], [p0, c, 0.0])
        }
    }
}

fn is_latency(sli: Sli) -> bool {
    matches!(sli, Sli::LatencyP50 | Sli::LatencyP75 | Sli::LatencyP95 | Sli::LatencyP99)
}

/// Holds what a slot logged against what it logs with other outcomes and latencies.
fn check(change: Change, a: &[Logged], b: &[Logged], place: &str) -> Result<(), TestCaseError> {
    // The written exception: the baseline's counts of the slot may raise this null, up to no evidence at all.
    let counted = |l: &&Logged| !(change.baseline && l.key.sli == Sli::Absolute);
    let (a, b): (Vec<_>, Vec<_>) = (a.iter().filter(counted).collect(), b.iter().filter(counted).collect());
    prop_assert_eq!(a.len(), b.len(), "{}: processes", place);
    for (a, b) in a.into_iter().zip(b) {
        let place = format!("{place} {} {change:?}", a.key.name());
        prop_assert_eq!((a.slot, a.start, &a.key), (b.slot, b.start, &b.key), "{}", &place);
        let (n, x, fixed) = parts(&a.term);
        let (n2, x2, fixed2) = parts(&b.term);
        prop_assert_eq!(n, n2, "{}: requests", &place);
        prop_assert_eq!(fixed, fixed2, "{}: parameters", &place);
        // Where the counted property of an arm did not change, its count says that the threshold is the same.
        let touched = if is_latency(a.key.sli) { change.latencies } else { change.outcomes };
        for (arm, changed) in [change.candidate, change.baseline].into_iter().enumerate() {
            if !(touched && changed) {
                prop_assert_eq!(x[arm], x2[arm], "{}: bad of arm {}", &place, arm);
            }
        }
    }
    Ok(())
}

const CHANGES: [Change; 5] = [
    Change { outcomes: true, latencies: true, candidate: true, baseline: true },
    Change { outcomes: true, latencies: true, candidate: true, baseline: false },
    Change { outcomes: true, latencies: true, candidate: false, baseline: true },
    Change { outcomes: true, latencies: false, candidate: true, baseline: true },
    Change { outcomes: false, latencies: true, candidate: true, baseline: true },
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Scenario: the outcomes and latencies of a slot are others. Guarantees: every parameter, threshold and
    /// decision for that slot is the same.
    #[test]
    fn nothing_reads_the_slot_that_it_judges(stream in streams()) {
        let slots = stream.slots(200);
        let rng = &mut Rng::with_seed(stream.seed ^ 1);
        let mut world = World::new(&stream);
        for (i, input) in slots.iter().enumerate() {
            let t = stream.t(i);
            if i as i64 == stream.watch_from {
                world.judge.watch();
            }
            let before = world.clone();
            world.step(t, input);
            let change = CHANGES[i % CHANGES.len()];
            let mut other = before;
            other.step(t, &change.apply(rng, input));
            prop_assert_eq!(world.decisions(), other.decisions(), "slot {}", i);
            check(change, &world.logged(t), &other.logged(t), &format!("slot {i}"))?;
        }
    }

    /// Scenario: sparse traffic, so that groups of several slots are open; outcomes and latencies of the whole
    /// group are others. Guarantees: it closes in the same slot with the same parameters.
    #[test]
    fn nothing_reads_the_open_group_that_it_judges(seed in any::<u64>(), long in any::<bool>()) {
        let stream = Stream {
            slot_s: if long { 15 } else { 1 },
            buckets: if long { Buckets::Explicit } else { Buckets::Grid },
            seed,
            candidate: 0.3,
            baseline: 0.3,
            operations: 1,
            warmup_s: 0,
            candidate_from: 0,
            silent: 1_000..1_000,
            renamed_from: 1_000,
            watch_from: 1_000,
        };
        let slots = stream.slots(160);
        let mut worlds = vec![World::new(&stream)];
        for (i, input) in slots.iter().enumerate() {
            let mut next = worlds[i].clone();
            next.step(stream.t(i), input);
            worlds.push(next);
        }
        let paired = |i: usize| -> Vec<Logged> {
            let all = worlds[i + 1].logged(stream.t(i));
            all.into_iter().filter(|l| l.key.sli != Sli::Absolute).collect()
        };
        let rng = &mut Rng::with_seed(seed ^ 2);
        // Of the group that slot `i` closes. What closed before may be read, also where nothing was judged yet.
        let opened = |i: usize| {
            let longest_s = stream.timing().pairing_s();
            let groups = worlds[i].judge.operations.values().map(|state| &state.pairing);
            let first = groups.filter_map(|group| group.since(stream.t(i), longest_s)).min();
            first.map_or(i, |first| i - ((stream.t(i) - first) / stream.slot_s) as usize)
        };
        for i in 0..slots.len() {
            let closed = paired(i);
            if closed.is_empty() {
                continue;
            }
            let first = opened(i);
            let change = CHANGES[i % CHANGES.len()];
            let mut other = worlds[first].clone();
            for (j, input) in slots.iter().enumerate().take(i + 1).skip(first) {
                other.step(stream.t(j), &change.apply(rng, input));
            }
            let mut got = other.logged(stream.t(i));
            got.retain(|l| l.key.sli != Sli::Absolute);
            check(change, &closed, &got, &format!("group {first}..={i}"))?;
        }
    }

    /// Scenario: someone doubts the evidence. Guarantees: summed again from the log it is the same.
    #[test]
    fn the_sum_can_be_redone_from_the_log(stream in streams()) {
        let mut world = World::new(&stream);
        for (i, input) in stream.slots(260).iter().enumerate() {
            if i as i64 == stream.watch_from {
                world.judge.watch();
            }
            world.step(stream.t(i), input);
            if i % 13 == 0 {
                check_redo(&world.judge)?;
            }
        }
        check_redo(&world.judge)?;
    }

    /// Scenario: a restart in mid stream. Guarantees: what was loaded is what was saved, and all that follows is
    /// the same to the bit.
    #[test]
    fn a_snapshot_continues_as_if_nothing_had_happened(stream in streams(), at in 1usize..180) {
        let slots = stream.slots(200);
        let mut world = World::new(&stream);
        let mut restored: Option<World> = None;
        for (i, input) in slots.iter().enumerate() {
            let t = stream.t(i);
            if i as i64 == stream.watch_from {
                world.judge.watch();
                restored.iter_mut().for_each(|w| w.judge.watch());
            }
            if i == at {
                restored = Some(reload(&world));
            }
            world.step(t, input);
            let Some(restored) = &mut restored else { continue };
            restored.step(t, input);
            prop_assert_eq!(&world.memory, &restored.memory, "slot {}", i);
            prop_assert_eq!(world.judge.evidence(&world.memory), restored.judge.evidence(&restored.memory));
            prop_assert_eq!(world.judge.ln_e_bar().to_bits(), restored.judge.ln_e_bar().to_bits());
            prop_assert_eq!(world.judge.verdict(&world.memory), restored.judge.verdict(&restored.memory));
            prop_assert_eq!(world.logged(t), restored.logged(t), "slot {}", i);
            prop_assert_eq!(save(&world.judge), save(&restored.judge), "slot {}", i);
            check_redo(&restored.judge)?;
        }
    }
}

/// Scenario: a stream longer than the log is kept, decided half-way, with a restart before and after that.
/// Guarantees: the redo is still the evidence, of the decision and of the watch.
#[test]
fn the_sum_can_be_redone_after_the_log_was_folded() {
    let stream = Stream {
        seed: 5,
        candidate: 3.0,
        baseline: 3.0,
        operations: 3,
        slot_s: 1,
        buckets: Buckets::Grid,
        warmup_s: 0,
        candidate_from: 20,
        silent: 700..800,
        renamed_from: 100_000,
        watch_from: 100_000,
    };
    let mut world = World::new(&stream);
    let oldest = |set: &Processes| set.log()[0].slot - T0;
    for (i, input) in stream.slots(2400).iter().enumerate() {
        world.step(stream.t(i), input);
        match i {
            1100 => assert!(oldest(&world.judge.processes) > 900, "the log was folded"),
            1150 | 2350 => world = reload(&world),
            1200 => {
                world.judge.watch();
                assert!(world.judge.processes.log().is_empty(), "what is decided needs no log");
            }
            2300 => assert!(oldest(world.judge.watches.as_ref().unwrap()) > 2100, "the watch's too"),
            _ => {}
        }
        if i % 50 == 49 {
            check_redo(&world.judge).unwrap();
        }
    }
}

/// The processes that decide, those that no FAIL reads, and those of the watch.
fn sets(judge: &Judge) -> impl Iterator<Item = &Processes> {
    [&judge.processes, &judge.after].into_iter().chain(&judge.watches)
}

fn check_redo(judge: &Judge) -> Result<(), TestCaseError> {
    for set in sets(judge) {
        let redone = set.slot_log(judge.last_slot()).redo();
        let live: BTreeMap<&Key, f64> = set.begun().collect();
        prop_assert_eq!(live.keys().copied().collect::<Vec<_>>(), redone.keys().collect::<Vec<_>>());
        for (key, ln) in &redone {
            let live = live[key];
            prop_assert!((live - ln).abs() <= 1e-9 * live.abs().max(1.0), "{}: {live}, {ln}", key.name());
        }
    }
    Ok(())
}

fn save<T: Snapshot>(value: &T) -> Vec<u8> {
    let mut out = Writer::with_header();
    value.save(&mut out);
    out.into_bytes()
}

fn reload(world: &World) -> World {
    fn again<T: Snapshot>(value: &T) -> T {
        let bytes = save(value);
        let mut reader = Reader::header(&bytes).unwrap();
        let loaded = T::load(&mut reader).unwrap();
        assert!(reader.is_empty(), "all that was saved is read");
        loaded
    }
    World { memory: again(&world.memory), judge: again(&world.judge) }
}
