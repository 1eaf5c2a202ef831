//! Instances that die on a request, beside fleets that only scale, are rolled out or lose a node now and then. A process
//! that dies takes along the spans that it has not exported yet, so that nothing but its silence tells of it.

use std::sync::Arc;

use fastrand::Rng;
use rollguard::model::{Counted, InstanceId, Measure, MeasureKey, Slot, Source};
use rollguard::verdict::{
    ALL_OPERATIONS, Arm, Cell, Counts, InstanceCounts, MeasuredCells, Memories, Memory, OwnKind, OwnSli,
    OwnSource, OwnTest, Panel, Policy, SlotInput, Verdict,
};
use rollguard::window::{Churn, Toll};

use crate::run::upper_bound;
use crate::samplers::{exponential, poisson};

const T0: Slot = 1_800_000_000;
/// Seconds between two exports of an instance.
const EXPORT_S: i64 = 5;
/// Seconds of the old version alone.
const HISTORY_S: i64 = 1_200;
/// Seconds from the new version's first request on: the warm-up and half an hour.
const SECONDS: i64 = 1_860;
const WARMUP_S: i64 = 60;
/// A flag is wanted within so many seconds.
pub(crate) const FLAGGED_S: i64 = 300;

/// How a fleet lives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Law {
    /// Instances at the beginning, and half an hour later; in between in equal steps.
    size: [usize; 2],
    /// Requests a second of an instance.
    rps: f64,
    /// Share of requests that kill the process.
    crash: f64,
    /// Seconds until a dead process is up again: at once, or as Kubernetes waits, 10 s and twice as long each time.
    backs_off: bool,
    /// Mean seconds between steps of an autoscaler, one up or one down.
    scaled_s: f64,
    /// Mean seconds after which an instance is moved: another one takes its place at once.
    moved_s: f64,
    /// All of its instances are replaced one after the other, ten seconds apart, from this second on.
    rolled_at: i64,
}

const CALM: Law = Law {
    size: [2, 2],
    rps: 10.0,
    crash: 0.0,
    backs_off: false,
    scaled_s: f64::INFINITY,
    moved_s: f64::INFINITY,
    rolled_at: i64::MAX,
};

const fn of(size: usize) -> Law {
    Law { size: [size, size], ..CALM }
}

const fn dying(size: usize) -> Law {
    Law { crash: 0.005, ..of(size) }
}

/// One situation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    old: Law,
    new: Law,
    /// Whether the old version ends when the new one begins.
    is_gone: bool,
    pub(crate) is_dying: bool,
}

const fn both(name: &'static str, old: Law, new: Law) -> Situation {
    Situation { name, old, new, is_gone: false, is_dying: new.crash > 0.0 }
}

const fn after(name: &'static str, old: Law, new: Law) -> Situation {
    Situation { is_gone: true, ..both(name, old, new) }
}

const SCALED: Law = Law { size: [4, 4], scaled_s: 90.0, ..CALM };
const MOVED: Law = Law { size: [4, 4], moved_s: 3_600.0, ..CALM };

pub(crate) const SITUATIONS: [Situation; 15] = [
    both("nothing happens; 4 beside 4", of(4), of(4)),
    both("both follow the traffic up and down; 4 beside 4", SCALED, SCALED),
    both(
        "the new fleet grows, the old one shrinks; 10 in all",
        Law { size: [9, 1], ..CALM },
        Law { size: [1, 9], ..CALM },
    ),
    both("the old one is rolled out again; 4 beside 4", Law { rolled_at: 120, ..of(4) }, of(4)),
    both("the new one is rolled out again; 4 beside 4", of(4), Law { rolled_at: 120, ..of(4) }),
    both("the new one is rolled out again; 40 beside 40", of(40), Law { rolled_at: 120, ..of(40) }),
    after(
        "the old one is gone, the new one is rolled out again; 20 after 20",
        of(20),
        Law { rolled_at: 120, ..of(20) },
    ),
    both("instances of both are moved, once an hour each; 4 beside 4", MOVED, MOVED),
    both(
        "a request in 20 s each, both scale; 4 beside 4",
        Law { rps: 0.05, ..SCALED },
        Law { rps: 0.05, ..SCALED },
    ),
    after("the old one is gone, the new one scales; 4 after 4", SCALED, SCALED),
    after("the old one is gone, instances are moved, once an hour each; 4 after 4", MOVED, MOVED),
    both("0.5 % of requests kill; 1 beside 9", of(9), dying(1)),
    both("0.5 % of requests kill; 2 beside 2", of(2), dying(2)),
    both("the same, up again as Kubernetes waits; 2 beside 2", of(2), Law { backs_off: true, ..dying(2) }),
    both(
        "0.5 % of requests kill while the old one is rolled out again; 4 beside 4",
        Law { rolled_at: 90, ..of(4) },
        dying(4),
    ),
];

/// A process.
#[derive(Debug, Clone, Copy)]
struct Process {
    id: u32,
    born: Slot,
    /// When its exports leave, modulo their interval.
    phase: i64,
    /// How often the one in its place has died.
    crashes: u32,
    moves_at: f64,
}

/// One version's processes.
#[derive(Debug)]
struct Fleet {
    law: Law,
    began: Slot,
    extra: i64,
    processes: Vec<Process>,
    /// Seconds of the last export interval that have not left yet: a death takes them along.
    pending: Vec<(Slot, u32)>,
    next: u32,
    scales_at: f64,
}

impl Fleet {
    fn new(law: Law, began: Slot, rng: &mut Rng) -> Self {
        let scales_at = began as f64 + gap(rng, law.scaled_s);
        Self { law, began, extra: 0, processes: Vec::new(), pending: Vec::new(), next: 0, scales_at }
    }

    fn start(&mut self, t: Slot, crashes: u32, rng: &mut Rng) -> Process {
        self.next += 1;
        let moves_at = t as f64 + gap(rng, self.law.moved_s);
        Process { id: self.next, born: t, phase: rng.i64(0..EXPORT_S), crashes, moves_at }
    }

    /// Seconds with a span that have been exported by now, and what is lost is not among them.
    fn second(&mut self, t: Slot, rng: &mut Rng) -> Vec<(Slot, u32)> {
        let age = t - self.began;
        let share = (age as f64 / 1_800.0).clamp(0.0, 1.0);
        let steady = self.law.size[0] as f64 + share * (self.law.size[1] as f64 - self.law.size[0] as f64);
        if t as f64 >= self.scales_at {
            self.scales_at = t as f64 + gap(rng, self.law.scaled_s);
            self.extra = (self.extra + if rng.bool() { 1 } else { -1 }).clamp(-2, 4);
        }
        let size = (steady.round() as i64 + self.extra).max(1) as usize;
        // The newest go first, and export what they hold.
        while self.processes.len() > size {
            self.processes.pop();
        }
        while self.processes.len() < size {
            let fresh = self.start(t, 0, rng);
            self.processes.push(fresh);
        }
        let rolled = age.saturating_sub(self.law.rolled_at);
        for place in 0..self.processes.len() {
            let process = self.processes[place];
            let is_rolled = rolled >= 0 && rolled % 10 == 0 && rolled / 10 == place as i64;
            if t as f64 >= process.moves_at || is_rolled {
                self.processes[place] = self.start(t, 0, rng);
            }
        }
        for place in 0..self.processes.len() {
            let process = self.processes[place];
            if t < process.born {
                continue;
            }
            let requests = poisson(rng, self.law.rps);
            if requests > 0 {
                self.pending.push((t, process.id));
            }
            let survives = (1.0 - self.law.crash).powi(requests as i32);
            if rng.f64() >= survives {
                self.pending.retain(|(_, id)| *id != process.id);
                let waits = match (self.law.backs_off, process.crashes) {
                    (false, _) | (true, 0) => 2,
                    (true, crashes) => (10 << (crashes - 1).min(5)).min(300),
                };
                self.processes[place] = self.start(t + waits, process.crashes + 1, rng);
            }
        }
        let living: Vec<(u32, i64)> = self.processes.iter().map(|p| (p.id, p.phase)).collect();
        let leaves = |id: u32| {
            living.iter().find(|(own, _)| *own == id).is_none_or(|(_, phase)| t % EXPORT_S == *phase)
        };
        let (gone, kept) = self.pending.drain(..).partition(|(_, id)| leaves(*id));
        self.pending = kept;
        gone
    }
}

fn gap(rng: &mut Rng, mean: f64) -> f64 {
    if mean.is_finite() { exponential(rng, mean) } else { f64::INFINITY }
}

/// The policy of the simulation: what every service has, and churn with the weight of an SLI that names none.
fn policy() -> Policy {
    let counted = Counted::Deaths;
    let sli = OwnSli {
        name: "instance_churn".into(),
        kind: OwnKind::Churn,
        source: OwnSource::Spans,
        measure: Measure { key: key(), counted },
        test: OwnTest::Rate {
            ratio: 1.25,
            delta: 0.0,
            is_decrease: false,
            is_share: false,
            pass_ratio: 2.0,
            pass_delta: 0.0,
        },
        weight: 0.05,
        required: false,
    };
    Policy { warmup_s: WARMUP_S, slis: Arc::new(vec![sli]), ..Policy::default() }
}

fn key() -> MeasureKey {
    MeasureKey::of("churn")
}

/// What a closed second of a version is for the judge. Its requests say only that it serves.
fn arm(toll: &Toll, instances: &[u32]) -> Arm {
    let counts = |requests, bad| Counts { requests, bad, ..Counts::default() };
    let one = |counts| Cell { groups: [counts, Counts::default()], bounds: None };
    let mut arm = Arm::default();
    if !instances.is_empty() {
        arm.warm.insert("GET /".into(), one(counts(10 * instances.len() as u64, 0)));
    }
    let seen = |id: &u32| InstanceCounts { ordinal: *id, requests: 10, ..InstanceCounts::default() };
    arm.instances = instances.iter().map(seen).collect();
    let mut cells = MeasuredCells::default();
    cells.warm.insert(ALL_OPERATIONS.into(), one(counts(toll.living, toll.dead.len() as u64)));
    arm.measures.insert(key(), cells);
    arm
}

/// When the flag was set and when the version failed, in seconds from its first request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) flagged_s: Option<i64>,
    pub(crate) failed_s: Option<i64>,
}

/// One deployment. Seconds are closed twelve late, when all that will come has come.
pub(crate) fn deploy(situation: &Situation, seed: u64) -> Outcome {
    const LATE_S: i64 = 12;
    let mut rng = Rng::with_seed(seed);
    let begin = T0 + HISTORY_S;
    let mut fleets = [Fleet::new(situation.old, T0, &mut rng), Fleet::new(situation.new, begin, &mut rng)];
    // An old fleet that scales does so over the deployment, not before it.
    fleets[0].began = begin;
    let mut seconds: [std::collections::BTreeMap<Slot, Vec<u32>>; 2] = Default::default();
    let mut churn: [Churn; 2] = Default::default();
    let (policy, mut memory) = (policy(), Memory::default());
    let mut panel: Option<Panel> = None;
    let mut outcome = Outcome::default();
    for t in T0..begin + SECONDS {
        for (i, fleet) in fleets.iter_mut().enumerate() {
            let is_there = if i == 0 { !situation.is_gone || t < begin + 5 } else { t >= begin };
            if is_there {
                for (second, id) in fleet.second(t, &mut rng) {
                    seconds[i].entry(second).or_default().push(id);
                }
            }
        }
        let slot = t - LATE_S;
        let [old, new] = [0, 1].map(|i| {
            let instances = seconds[i].remove(&slot).unwrap_or_default();
            let toll = churn[i].close(slot, instances.iter().map(|id| InstanceId(*id)), true);
            arm(&toll, &instances)
        });
        if slot < T0 {
            continue;
        }
        let input = SlotInput { baseline: old, candidate: new, ..SlotInput::default() };
        memory.begin(slot, !input.baseline.is_silent());
        if slot >= begin {
            let memories = Memories { spans: Some(&memory), metrics: None };
            let panel = panel.get_or_insert_with(|| Panel::new(policy.clone(), &memories));
            panel.slot(Source::Spans, slot, &memory, &input);
            let memories = Memories { spans: Some(&memory), metrics: None };
            let after = t + 1 - begin;
            if churn[1].exceeds(&churn[0]) {
                outcome.flagged_s.get_or_insert(after);
            }
            if panel.verdict(&memories) == Verdict::Fail {
                outcome.failed_s = Some(after);
                break;
            }
        }
        memory.end(slot, &input.baseline.warm, &input.baseline);
    }
    outcome
}

/// What became of many.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) runs: usize,
    pub(crate) flagged: usize,
    pub(crate) failed: usize,
    delays_s: Vec<i64>,
    flagged_s: Vec<i64>,
}

/// Deploys a situation with consecutive seeds. A flag counts within five minutes where instances die, and at any time
/// where they do not.
pub(crate) fn tally(situation: &Situation, runs: usize, seed: u64) -> Tally {
    let mut tally = Tally { runs, flagged: 0, failed: 0, delays_s: Vec::new(), flagged_s: Vec::new() };
    for i in 0..runs {
        let outcome = deploy(situation, seed.wrapping_mul(1_000_003).wrapping_add(i as u64));
        let until = if situation.is_dying { FLAGGED_S } else { i64::MAX };
        tally.flagged += usize::from(outcome.flagged_s.is_some_and(|s| s <= until));
        tally.failed += usize::from(outcome.failed_s.is_some());
        tally.delays_s.extend(outcome.failed_s);
        tally.flagged_s.extend(outcome.flagged_s.filter(|s| *s <= until));
    }
    tally.delays_s.sort_unstable();
    tally.flagged_s.sort_unstable();
    tally
}

impl Tally {
    pub(crate) const HEAD: &'static str =
        "| situation | runs | flagged | failed | median s | held to |\n|---|---|---|---|---|---|";

    /// Whether it keeps its bound, as far as so many runs tell: at least 95 % flagged in five minutes, or at most 1 %
    /// failed.
    pub(crate) fn is_kept(&self, situation: &Situation) -> bool {
        match situation.is_dying {
            true => self.flagged as f64 >= 0.95 * self.runs as f64,
            // Of a hundred runs three and more say more than 1 % with a confidence of 92 %.
            false => {
                self.failed
                    <= (0.01 * self.runs as f64).round() as usize + if self.runs < 1_000 { 1 } else { 0 }
            }
        }
    }

    /// The row as Markdown, in the columns of what is held to bounds: found is the flag.
    pub(crate) fn gate_markdown(&self, situation: &Situation) -> String {
        let share = 100.0 * self.flagged as f64 / self.runs as f64;
        let at = |q: f64| self.flagged_s.get((q * (self.flagged_s.len().max(1) - 1) as f64).round() as usize);
        let seconds = |q| at(q).map_or("-".to_owned(), ToString::to_string);
        let kept = if self.is_kept(situation) { "kept" } else { "BROKEN" };
        format!(
            "| {} | {} a second of each | {} | - | {share:.1} % | {} | {} | - | flagged in 5 min ≥ 95 %: {kept} |",
            situation.name,
            situation.new.rps,
            self.runs,
            seconds(0.5),
            seconds(0.9)
        )
    }

    pub(crate) fn markdown(&self, situation: &Situation) -> String {
        let percent = |k: usize| format!("{:.1} %", 100.0 * k as f64 / self.runs as f64);
        let median = self.delays_s.get(self.delays_s.len() / 2).filter(|_| situation.is_dying);
        let median = median.map_or("-".to_owned(), ToString::to_string);
        let kept = if self.is_kept(situation) { "kept" } else { "BROKEN" };
        let (failed, bound) = match situation.is_dying {
            true => (percent(self.failed), "flagged in 5 min ≥ 95 %"),
            false => {
                let most = 100.0 * upper_bound(self.failed, self.runs);
                (format!("{} (< {most:.1} %)", percent(self.failed)), "failed ≤ 1 %")
            }
        };
        let (name, runs, flagged) = (situation.name, self.runs, percent(self.flagged));
        format!("| {name} | {runs} | {flagged} | {failed} | {median} | {bound}: {kept} |")
    }
}
