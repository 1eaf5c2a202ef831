//! The share of traffic, by seeded simulation: versions that get what they are meant to, however requests come, and
//! versions that do not.

use super::*;
use crate::model::{Counted, Measure, MeasureKey};
use crate::verdict::OwnKind;

/// Requests a second of both versions.
const RPS: f64 = 40.0;
const BEGIN: Slot = 1_000_020;

fn policy(share: Option<f64>, weight: f64) -> Policy {
    let sli = OwnSli {
        name: "traffic_share".into(),
        kind: OwnKind::TrafficShare,
        source: OwnSource::Spans,
        measure: Measure { key: MeasureKey::of("requests"), counted: Counted::Requests },
        test: OwnTest::Share { ratio: 1.25, share },
        weight,
        required: false,
    };
    Policy { slis: vec![sli].into(), ..Policy::default() }
}

/// How requests come, and where they go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Law {
    /// Each on its own.
    Alone,
    /// The same, at a rate that wanders and trebles for ten seconds every two minutes.
    Bursts,
    /// In turn, as a router with weights does it.
    InTurn,
    /// In sessions of so many on average, one a second, that stay with their version: 40 at a time, four of them the
    /// candidate's.
    Sessions(u32),
}

const LAWS: [Law; 4] = [Law::Alone, Law::Bursts, Law::InTurn, Law::Sessions(20)];

struct Crowd {
    random: fastrand::Rng,
    law: Law,
    /// Sessions of candidate and baseline.
    sessions: [u64; 2],
    level: f64,
    owed: f64,
}

impl Crowd {
    fn new(law: Law, seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), law, sessions: [0; 2], level: 0.0, owed: 0.0 }
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        let (mut n, mut left) = (0, mean + self.random.f64().ln());
        while left > 0.0 {
            n += 1;
            left += self.random.f64().ln();
        }
        n
    }

    /// Requests of both versions in one second in which the candidate gets this share.
    fn second(&mut self, t: i64, share: f64) -> [u64; 2] {
        if let Law::Sessions(mean) = self.law {
            let mean = f64::from(mean);
            let parts = [share, 1.0 - share];
            for (side, part) in parts.into_iter().enumerate() {
                let stay = |random: &mut fastrand::Rng| u64::from(random.f64() >= 1.0 / mean);
                let stayed: u64 = (0..self.sessions[side]).map(|_| stay(&mut self.random)).sum();
                self.sessions[side] = stayed + self.poisson(RPS / mean * part);
            }
            return self.sessions;
        }
        if self.law == Law::Bursts {
            self.level += 0.1 * (self.random.f64() - 0.5) - 0.01 * self.level;
        }
        let burst = if self.law == Law::Bursts && t % 120 < 10 { 3.0 } else { 1.0 };
        let mut served = [0; 2];
        for _ in 0..self.poisson(RPS * self.level.exp2() * burst) {
            self.owed += share;
            let is_candidates = match self.law {
                Law::InTurn => self.owed >= 1.0,
                _ => self.random.f64() < share,
            };
            self.owed -= f64::from(u8::from(is_candidates));
            served[usize::from(!is_candidates)] += 1;
        }
        served
    }
}

/// A comparison as it goes on.
struct Bench {
    crowd: Crowd,
    policy: Policy,
    judges: ShareJudges,
    t: Slot,
}

impl Bench {
    fn new(law: Law, seed: u64, policy: Policy) -> Self {
        let mut judges = ShareJudges::new(&policy).expect("it has one");
        assert!(judges.are_of(&policy, Source::Spans, Timing::default(), true));
        let mut crowd = Crowd::new(law, seed);
        // Sessions go on from before.
        (0..120).for_each(|t| _ = crowd.second(t, 0.1));
        Self { crowd, policy, judges, t: BEGIN }
    }

    /// A second in which the candidate gets this share.
    fn second(&mut self, share: f64) {
        let requests = self.crowd.second(self.t, share);
        self.judge(requests, false);
    }

    fn judge(&mut self, requests: [u64; 2], gone: bool) {
        let stage = Stage {
            begin: BEGIN,
            latency_from: None,
            gone,
            in_time: true,
            latency_in_time: true,
            latency_extra: 0,
        };
        self.judges.slot(self.t, &self.policy, stage, requests);
        self.t += 1;
    }

    /// Seconds until the flag is as wanted; `None`: not within `most`.
    fn until(&mut self, is_raised: bool, share: f64, most: i64) -> Option<i64> {
        (1..=most).find(|_| {
            self.second(share);
            self.judges.is_raised() == is_raised
        })
    }

    fn line(&self) -> SliEvidence {
        self.judges.lines(&self.policy, 1.0).remove(0).1
    }
}

/// Seconds from the begin of the comparison until anything is said: six blocks.
const LEARNED_S: i64 = 180;
const RUNS: u64 = 300;
const SECONDS: i64 = 1_800;

/// Property: of versions that get exactly what they are meant to, hardly any is ever flagged, however requests come. With
/// a handful of long sessions, of which blocks do not see the whole, a few are.
#[test]
fn a_version_that_gets_its_share_is_not_flagged() {
    for (law, most) in LAWS.map(|law| (law, 2)).into_iter().chain([(Law::Sessions(60), 15)]) {
        let flagged =
            |seed: &u64| Bench::new(law, *seed, policy(Some(0.1), 0.0)).until(true, 0.1, SECONDS).is_some();
        let flagged = (0..RUNS).filter(flagged).count();
        assert!(flagged <= most, "{law:?}: {flagged} of {RUNS}");
    }
}

/// Half of what is meant is told: at 40 requests a second within minutes where each comes on its own.
#[test]
fn a_version_that_gets_half_its_share_is_flagged() {
    for law in LAWS {
        let delay = |seed| {
            let found = Bench::new(law, seed, policy(Some(0.1), 0.0)).until(true, 0.05, SECONDS);
            found.unwrap_or(i64::MAX) - LEARNED_S
        };
        let mut delays: Vec<i64> = (0..40).map(|seed| delay(1_000 + seed)).collect();
        delays.sort_unstable();
        let most = if law == Law::Sessions(20) { 1_500 } else { 120 };
        assert!(delays[20] <= most / 2 && delays[32] <= most, "{law:?}: {delays:?}");
        assert!(delays[0] > 10, "no sooner than in the third block");
    }
}

/// Scenario: a share that is missed for a while, after it was right for long, and right again. Guarantees: it is told, and
/// the flag falls.
#[test]
fn the_flag_falls_when_the_share_is_right_again() {
    for law in [Law::Alone, Law::Bursts, Law::InTurn] {
        let mut bench = Bench::new(law, 7, policy(Some(0.25), 0.0));
        assert_eq!(bench.until(true, 0.25, 600), None, "{law:?}");
        let found = bench.until(true, 0.1, 400);
        assert!(found.is_some_and(|s| s <= 120), "{law:?}: {found:?}");
        assert_eq!(bench.until(false, 0.1, 300), None, "{law:?}: it is as it was");
        let lifted = bench.until(false, 0.25, 1_200);
        assert!(lifted.is_some_and(|s| s <= 600), "{law:?}: {lifted:?}");
        assert_eq!(bench.until(true, 0.25, 600), None, "{law:?}: for good");
    }
}

/// Scenario: a rollout in steps of which each is named when it is made, or a little after the router; and one that stays
/// behind. Guarantees: only that one is flagged.
#[test]
fn a_share_that_changes_in_steps_is_held_to_each() {
    for (late_s, stays_behind) in [(0, false), (-15, false), (10, false), (0, true)] {
        let mut bench = Bench::new(Law::Alone, 9, policy(Some(0.1), 0.0));
        let mut raised = false;
        for (step, share) in [0.1, 0.2, 0.5, 0.8].into_iter().enumerate() {
            let from = BEGIN + 240 * step as i64;
            if step > 0 {
                bench.judges.name(from, share);
            }
            while bench.t < from + 240 {
                let before = [0.1, 0.1, 0.2, 0.5][step];
                let gets = if stays_behind || bench.t < from + late_s { before } else { share };
                bench.second(gets);
                raised |= bench.judges.is_raised();
            }
        }
        assert_eq!(raised, stays_behind, "{late_s} s");
        let own = bench.line().own.expect("its own");
        assert_eq!(own.intended, Some(0.8));
        // With 100 % nothing is left to compare with.
        bench.judges.name(bench.t, 1.0);
        let compared = bench.line().requests;
        (0..60).for_each(|_| bench.judge([40, 0], false));
        assert_eq!(bench.line().requests, compared);
    }
}

/// Of a share that nobody names, and without a baseline beside it, nothing is said.
#[test]
fn without_a_share_or_a_baseline_nothing_is_compared() {
    let mut unnamed = Bench::new(Law::Alone, 3, policy(None, 0.2));
    assert_eq!(unnamed.until(true, 0.001, 600), None);
    let line = unnamed.line();
    assert_eq!((line.requests, line.grain, line.ln_e), ([0, 0], Grain::NotTestable, 0.0));
    let mut alone = Bench::new(Law::Alone, 3, policy(Some(0.5), 0.2));
    for _ in 0..600 {
        alone.judge([2, 0], true);
    }
    assert!(!alone.judges.is_raised());
    assert_eq!(alone.line().requests, [0, 0]);
}

/// The sum is that of equation (1) with the arms swapped, and the odds of the alternatives are those of the ladder.
#[test]
fn the_evidence_is_the_one_of_the_formula() {
    let mut bench = Bench::new(Law::InTurn, 3, policy(Some(0.1), 0.2));
    (0..LEARNED_S).for_each(|_| bench.judge([4, 36], false));
    assert_eq!(bench.line().requests, [0, 0], "nothing is compared before the split is known");
    bench.judge([1, 39], false);
    // Always alike: fewer than by chance, which counts as one by one.
    assert_eq!(bench.judges.each[0].split.size, Some(1.0));
    let line = bench.line();
    assert_eq!((line.requests, line.bad), ([40, 40], [1, 39]));
    let nats = |g: f64| {
        let b: f64 = (0.9 * 1.25 + 0.1) / (0.9 * 1.25 * g + 0.1);
        39.0 * (g * b).ln() + b.ln()
    };
    let mean = LADDER.iter().map(|g| 0.5 * nats(*g).exp()).sum::<f64>() / 10.0;
    assert!((line.ln_e - (mean + 0.5).ln()).abs() < 1e-9, "{} {}", line.ln_e, (mean + 0.5).ln());
    assert!((bench.judges.ln_sum(&bench.policy) - (0.2f64.ln() + line.ln_e)).abs() < 1e-9);
    let own = line.own.unwrap();
    assert!((own.expected.unwrap() - 0.1).abs() < 1e-12 && own.is_decrease);
}

/// Property: what a slot adds is fixed before its requests are counted, but for the counts themselves: whatever comes, it is
/// asked with the same share and the same incident size.
#[test]
fn the_question_is_fixed_before_the_counts() {
    let last = |seed: u64, requests: [u64; 2]| {
        let mut bench = Bench::new(Law::Sessions(20), seed, policy(Some(0.3), 0.1));
        bench.judges.name(BEGIN + 400, 0.1);
        // Also in a slot in which a block has just closed, and in the first one after a step.
        let slots = [LEARNED_S, 333, 430, 450][seed as usize % 4];
        (0..slots).for_each(|_| bench.second(0.3));
        bench.judge(requests, false);
        let log = bench.judges.slot_log();
        let line = log.lines.last().expect("it was compared").clone();
        assert_eq!(line.slot, bench.t - 1);
        match line.term {
            Term::RateRatio { n_c, x_c, n_b, x_b, r0, delta, c } => {
                assert_eq!([x_b, x_c], requests.map(|n| n as f64));
                [n_c, n_b, r0, delta, c]
            }
            other => panic!("{other:?}"),
        }
    };
    for seed in 0..12 {
        let usual = last(seed, [4, 36]);
        for other in [[0, 0], [0, 4_000], [4_000, 0], [1, 1]] {
            assert_eq!(last(seed, other), usual, "{seed} {other:?}");
        }
    }
}
