//! Gauges of young instances: heaps that rise, caches that are cold, values that hang together over minutes, in rollouts
//! that are each a little different. Held against earlier rollouts of the service with weight 0.05; `docs/simulation.md`
//! has a run of it.

use std::sync::Arc;

use fastrand::Rng;
use rollguard::model::{Counted, Measure, MeasureKey, Selection, Slot, UnixNanos};
use rollguard::verdict::{AgeMemory, Memories, OwnKind, OwnSli, OwnSource, OwnTest, Panel, Policy};
use rollguard::window::{AgePoint, Ages, Observed};

use crate::run::upper_bound;

/// Seconds between two points of an instance.
const EXPORT_S: u64 = 15;
/// Seconds between two rollouts.
const APART_S: u64 = 86_400;
/// Seconds from the candidate's first start within which it may fail: warm-up and horizon.
const WITHIN_S: u64 = 1_860;
const GAUGE: MeasureKey = MeasureKey(1);

/// What the gauge of a healthy instance does as it grows older.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    /// From 400 MB towards 900.
    Heap,
    /// From 0.3 towards 0.9; less is worse.
    Cache,
}

impl Shape {
    fn at(self, age_s: u64) -> f64 {
        let age = age_s as f64;
        match self {
            Self::Heap => 400e6 + 500e6 * (1.0 - (-age / 900.0).exp()),
            Self::Cache => 0.3 + 0.6 * (1.0 - (-age / 240.0).exp()),
        }
    }
}

/// What is wrong with the candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// So much more each minute.
    Leak(f64),
    /// So many times as much from the start.
    Times(f64),
    /// The cache stays as it begins.
    Cold,
}

/// A situation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    shape: Shape,
    fault: Fault,
    /// Earlier rollouts.
    rollouts: u64,
    /// Instances of each rollout, and seconds between their starts.
    instances: u64,
    spacing_s: u64,
    /// Spread (sigma of the logarithm) that a rollout shares: traffic, data, time of day.
    rollout_spread: f64,
    /// The largest share of healthy candidates that may fail; `None`: printed, held to nothing.
    pub(crate) false_fails: Option<f64>,
    /// The least share of worse ones that must be found.
    pub(crate) found: f64,
}

impl Situation {
    /// Whether nothing is wrong.
    pub(crate) fn is_healthy(&self) -> bool {
        self.fault == Fault::None
    }
}

const HEALTHY: Situation = Situation {
    name: "",
    shape: Shape::Heap,
    fault: Fault::None,
    rollouts: 6,
    instances: 8,
    spacing_s: 45,
    rollout_spread: 0.1,
    false_fails: Some(0.01),
    found: 0.0,
};

/// All situations.
pub(crate) const SITUATIONS: [Situation; 12] = [
    Situation { name: "healthy: the heap rises", ..HEALTHY },
    Situation { name: "healthy: the cache is cold at first", shape: Shape::Cache, ..HEALTHY },
    Situation { name: "healthy: one earlier rollout", rollouts: 1, ..HEALTHY },
    Situation { name: "healthy: twenty instances", instances: 20, ..HEALTHY },
    Situation { name: "healthy: a start at a time", instances: 12, spacing_s: 90, ..HEALTHY },
    Situation { name: "healthy: rollouts differ by 25 %", rollout_spread: 0.25, ..HEALTHY },
    Situation {
        name: "a rollout of twice as much traffic, all at once",
        fault: Fault::Times(2.0),
        spacing_s: 0,
        ..HEALTHY
    },
    Situation {
        name: "a rollout of twice as much traffic (no fault of the version)",
        fault: Fault::Times(2.0),
        false_fails: None,
        ..HEALTHY
    },
    Situation { name: "no earlier start was seen", fault: Fault::Times(3.0), rollouts: 0, ..HEALTHY },
    Situation { name: "leak: +20 % of the heap each minute", fault: Fault::Leak(0.2), found: 0.6, ..HEALTHY },
    Situation { name: "three times the heap", fault: Fault::Times(3.0), found: 0.95, ..HEALTHY },
    Situation {
        name: "the cache stays cold",
        shape: Shape::Cache,
        fault: Fault::Cold,
        found: 0.75,
        ..HEALTHY
    },
];

/// What became of the deployments of a situation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) runs: u64,
    /// Seconds from the candidate's first start to the fail.
    delays_s: Vec<u64>,
}

impl Outcome {
    /// Share that failed.
    pub(crate) fn failed(&self) -> f64 {
        self.delays_s.len() as f64 / self.runs as f64
    }

    fn delay_s(&self, share: f64) -> String {
        let mut delays = self.delays_s.clone();
        delays.sort_unstable();
        let at = (delays.len() as f64 * share) as usize;
        delays.get(at).map_or_else(|| "-".to_owned(), u64::to_string)
    }
}

impl Situation {
    /// Heads of the columns.
    pub(crate) const HEAD: &'static str =
        "| situation | runs | failed | median s | p90 s | held to |\n|---|---|---|---|---|---|";

    /// Plays so many deployments.
    pub(crate) fn play(&self, runs: u64, seed: u64) -> Outcome {
        let mut outcome = Outcome { runs, ..Outcome::default() };
        for run in 0..runs {
            let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(run));
            outcome.delays_s.extend(self.deployment(&mut rng));
        }
        outcome
    }

    /// Seconds to the fail of one candidate, if it fails.
    fn deployment(&self, rng: &mut Rng) -> Option<u64> {
        let mut memory = AgeMemory::default();
        for rollout in 0..self.rollouts {
            let version: Arc<str> = format!("v{rollout}").into();
            let begin = (rollout + 1) * APART_S;
            for (_, observed) in self.rollout(rng, begin, Fault::None) {
                memory.add(&version, &observed);
            }
        }
        let begin = (self.rollouts + 1) * APART_S;
        let policy = self.policy();
        let threshold = policy.fail_threshold();
        let mut panel = Panel::new(policy, &Memories::default());
        let mut shown = self.rollout(rng, begin, self.fault);
        shown.sort_by_key(|(second, _)| *second);
        for (second, observed) in shown {
            panel.observe(&observed, &memory, |version: &str, _: Slot| version == "candidate");
            if second <= begin + WITHIN_S && panel.ln_e_bar() >= threshold {
                return Some(second - begin);
            }
        }
        None
    }

    /// What the instances of a rollout show, each with the second in which it was known.
    fn rollout(&self, rng: &mut Rng, begin: u64, fault: Fault) -> Vec<(u64, Observed)> {
        let shared = (self.rollout_spread * normal(rng)).exp();
        let (mut ages, mut shown) = (Ages::default(), Vec::new());
        // Those that start together have the same node pressure, the same neighbours.
        let mut together = (u64::MAX, 1.0);
        for instance in 0..self.instances {
            let start = begin + instance * self.spacing_s + u64::from(rng.u8(..10));
            if together.0 != start / 60 {
                together = (start / 60, (0.1 * normal(rng)).exp());
            }
            let own = shared * together.1 * (0.15 * normal(rng)).exp();
            let mut wander = normal(rng);
            for step in 0..=1_830 / EXPORT_S {
                let age = step * EXPORT_S;
                // Values hang together over about five minutes.
                wander = 0.95 * wander + (1.0 - 0.95f64.powi(2)).sqrt() * normal(rng);
                let value = self.value(age, fault) * own * (0.1 * wander).exp();
                let time = UnixNanos::from_secs(start + age);
                let point = AgePoint {
                    stream: u128::from(instance),
                    instance: Some(instance),
                    heard_of: None,
                    start: UnixNanos(0),
                    time,
                    arrival: time,
                    value: if self.shape == Shape::Cache { value.min(1.0) } else { value },
                };
                let mut complete = Vec::new();
                ages.read(&point, [(GAUGE, 0)].into_iter(), &mut complete);
                shown.extend(complete.into_iter().map(|observed| (start + age, observed)));
            }
        }
        shown
    }

    fn value(&self, age_s: u64, fault: Fault) -> f64 {
        let healthy = self.shape.at(age_s);
        match fault {
            Fault::None => healthy,
            Fault::Leak(share) => healthy * (1.0 + share * age_s as f64 / 60.0),
            Fault::Times(factor) => healthy * factor,
            Fault::Cold => self.shape.at(0),
        }
    }

    fn policy(&self) -> Policy {
        let sli = OwnSli {
            name: "gauge".into(),
            kind: OwnKind::Gauge,
            source: OwnSource::Metrics,
            measure: Measure { key: GAUGE, counted: Counted::Level { value: Selection::default() } },
            test: OwnTest::Gauge { ratio: 1.5, slack: 0.0, is_decrease: self.shape == Shape::Cache },
            weight: 0.05,
            required: false,
        };
        Policy { slis: Arc::new(vec![sli]), ..Policy::default() }
    }

    /// The row as Markdown.
    pub(crate) fn markdown(&self, outcome: &Outcome) -> String {
        let held = match (self.found > 0.0, self.false_fails) {
            (true, _) => format!("found ≥ {} %", 100.0 * self.found),
            (_, Some(share)) => format!("≤ {} %", 100.0 * share),
            (_, None) => "none".to_owned(),
        };
        format!(
            "| {} | {} | {:.2} % | {} | {} | {held} |",
            self.name,
            outcome.runs,
            100.0 * outcome.failed(),
            outcome.delay_s(0.5),
            outcome.delay_s(0.9)
        )
    }

    /// The row as Markdown, in the columns of what is held to bounds.
    pub(crate) fn gate_markdown(&self, outcome: &Outcome) -> String {
        let (runs, failed) = (outcome.runs, outcome.delays_s.len());
        let most = 100.0 * upper_bound(failed, runs as usize);
        let share = 100.0 * outcome.failed();
        let kept = if self.is_kept(outcome) { "kept" } else { "BROKEN" };
        let bound = 100.0 * self.false_fails.unwrap_or(1.0);
        format!(
            "| gauge, {} | {} starts, {} s apart | {runs} | {share:.1} % (< {most:.1} %) | - | - | - | - | ≤ {bound} %: {kept} |",
            self.name, self.instances, self.spacing_s
        )
    }

    /// Whether so many runs keep its bound.
    pub(crate) fn is_kept(&self, outcome: &Outcome) -> bool {
        if self.found > 0.0 {
            return outcome.failed() >= self.found;
        }
        self.false_fails.is_none_or(|share| outcome.failed() <= share)
    }
}

/// A standard normal number.
fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}
