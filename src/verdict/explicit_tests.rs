//! Metrics with explicit buckets, judged by themselves: what is found at a bound, what cannot be tested, and what
//! becomes of versions whose bounds differ or change.

use std::sync::Arc;

use fastrand::Rng;

use super::*;
use crate::model::Slot;

const SLOT_S: i64 = 15;
const T0: Slot = 1_500_000;
const GET: &str = "GET /";

/// What one version sends: its bounds (`None`: no latencies at all) and how slow it is.
#[derive(Debug, Clone, Copy)]
struct Sent {
    bounds: Option<&'static [f64]>,
    times: f64,
}

/// Shares above them of an exponential law with a mean of 100 ms: 37, 8.2, 0.67 %.
const USUAL: &[f64] = &[0.1, 0.25, 0.5, 1.0];
/// The same without the two that stand for p99 and p95.
const COARSE: &[f64] = &[0.1, 0.9, 1.8];
const WELL: Sent = Sent { bounds: Some(USUAL), times: 1.0 };

fn arm(rng: &mut Rng, sent: Sent) -> Arm {
    let mut cell = Cell { bounds: sent.bounds.map(Arc::from), ..Cell::default() };
    let mut arm = Arm { status_seen: true, ..Arm::default() };
    for (ordinal, group) in cell.groups.iter_mut().enumerate() {
        group.requests = 300;
        group.bad = u64::from(rng.f64() < 0.15);
        if let Some(bounds) = sent.bounds {
            let key = |seconds: f64| bounds.partition_point(|&b| b < seconds) as i16;
            group.latency = (0..300).map(|_| (key(-0.1 * sent.times * (1.0 - rng.f64()).ln()), 1)).collect();
        }
        let counts = InstanceCounts { ordinal: ordinal as u32, requests: 300, ..InstanceCounts::default() };
        arm.instances.push(counts);
    }
    arm.warm.insert(GET.into(), cell);
    arm
}

struct World {
    rng: Rng,
    t: Slot,
    memory: Memory,
    judge: Judge,
}

impl World {
    fn new() -> Self {
        let timing = Timing::of_slot(SLOT_S);
        let policy = Policy { warmup_s: 0, ..Policy::default() };
        Self { rng: Rng::with_seed(4), t: T0, memory: Memory::new(timing), judge: Judge::new(policy, timing) }
    }

    fn run(&mut self, slots: usize, candidate: Option<Sent>, baseline: Sent) {
        for _ in 0..slots {
            let candidate = candidate.map(|sent| arm(&mut self.rng, sent)).unwrap_or_default();
            let baseline = arm(&mut self.rng, baseline);
            let input = SlotInput { candidate, baseline, ..SlotInput::default() };
            self.memory.begin(self.t, true);
            self.judge.slot(self.t, &self.memory, &input);
            self.memory.end(self.t, &input.baseline.warm, &input.baseline);
            self.t += SLOT_S;
        }
    }

    fn verdict(&self) -> Verdict {
        self.judge.verdict(&self.memory)
    }

    fn line(&self, sli: Sli, operation: Option<&str>) -> SliEvidence {
        let evidence = self.judge.evidence(&self.memory);
        evidence.slis.into_iter().find(|e| e.sli == sli && e.operation.as_deref() == operation).unwrap()
    }

    fn grains(&self) -> [Grain; 3] {
        [Sli::LatencyP50, Sli::LatencyP95, Sli::LatencyP99].map(|sli| self.line(sli, None).grain)
    }
}

/// X4. Scenario: twice as slow. Guarantees: a fail, and each line says at which bound and with which exceedance.
#[test]
fn x2_a_slower_version_is_found_at_the_bounds() {
    let mut world = World::new();
    world.run(20, None, WELL);
    world.run(8, Some(Sent { times: 2.0, ..WELL }), WELL);
    assert_eq!(world.verdict(), Verdict::Fail);
    for (sli, seconds, exceedance) in
        [(Sli::LatencyP50, 0.1, 0.37), (Sli::LatencyP95, 0.25, 0.082), (Sli::LatencyP99, 0.5, 0.0067)]
    {
        let line = world.line(sli, Some(GET));
        assert_eq!((line.grain, line.threshold_seconds), (Grain::Bound, Some(seconds)), "{sli:?}");
        let off = line.exceedance.unwrap() / exceedance;
        assert!((0.8..1.25).contains(&off), "{sli:?}: {:?}", line.exceedance);
        assert!(line.bad[0] > line.bad[1], "{line:?}");
    }
    assert_eq!(world.grains(), [Grain::Bound; 3]);
}

/// Scenario: as fast as before. Guarantees: a pass on all three.
#[test]
fn a_version_as_fast_as_before_passes() {
    let mut world = World::new();
    world.run(20, None, WELL);
    world.run(60, Some(WELL), WELL);
    assert_eq!(world.verdict(), Verdict::Pass);
    let each = [Sli::LatencyP50, Sli::LatencyP95, Sli::LatencyP99].map(|sli| world.line(sli, None).ln_e_pass);
    assert!(each.iter().all(|e| e.unwrap() > 3.0), "{each:?}");
}

/// X4. Scenario: no bound is within a factor of four of p95 and p99. Guarantees: not tested, named as such, and the
/// pass does not wait for them; a version that is slower where nobody can see it passes on what can be seen.
#[test]
fn x2_what_cannot_be_tested_is_not_required() {
    let mut world = World::new();
    let coarse = Sent { bounds: Some(COARSE), times: 1.0 };
    world.run(20, None, coarse);
    world.run(60, Some(coarse), coarse);
    assert_eq!(world.grains(), [Grain::Bound, Grain::NotTestable, Grain::NotTestable]);
    let line = world.line(Sli::LatencyP99, Some(GET));
    assert_eq!((line.grain, line.threshold_seconds, line.requests), (Grain::NotTestable, None, [0, 0]));
    assert_eq!(world.verdict(), Verdict::Pass);
}

/// Scenario: counts without latencies, as of summaries. Guarantees: errors are judged, latency is not testable.
#[test]
fn metrics_without_latencies_are_judged_by_errors() {
    let mut world = World::new();
    let bare = Sent { bounds: None, times: 1.0 };
    world.run(20, None, bare);
    world.run(60, Some(bare), bare);
    assert_eq!(world.grains(), [Grain::NotTestable; 3]);
    assert_eq!(world.verdict(), Verdict::Pass);
    assert!(world.line(Sli::ErrorRate, Some(GET)).weight > 0.1, "it has weight by its requests");
}

/// X5. Scenario: the candidate has other bounds. Guarantees: only those that both have are used, and it is as fast.
#[test]
fn x5_versions_with_other_bounds_are_compared_on_the_shared_ones() {
    let other = Sent { bounds: Some(&[0.05, 0.25, 0.6, 1.0]), times: 1.0 };
    let mut world = World::new();
    world.run(20, None, WELL);
    world.run(60, Some(other), WELL);
    // Shared are 250 ms and 1 s: the first for p95, and nothing for p50 and p99.
    assert_eq!(world.line(Sli::LatencyP95, Some(GET)).threshold_seconds, Some(0.25));
    assert_eq!(world.grains(), [Grain::NotTestable, Grain::Bound, Grain::NotTestable]);
    assert_eq!(world.verdict(), Verdict::Pass);
    let mut world = World::new();
    world.run(20, None, WELL);
    world.run(8, Some(Sent { times: 2.0, ..other }), WELL);
    assert!(world.line(Sli::LatencyP95, None).ln_e > 3.0);
}

/// X5. Scenario: the baseline's bounds change while it is compared. Guarantees: its latency memory begins anew, then
/// goes on, and nobody fails for it; what it is remembered to serve stays.
#[test]
fn x5_other_bounds_begin_the_memory_anew() {
    let other = Sent { bounds: Some(&[0.08, 0.3, 0.45, 0.8]), times: 1.0 };
    let mut world = World::new();
    world.run(20, None, WELL);
    world.run(10, Some(WELL), WELL);
    let before = world.memory.kept(GET);
    world.run(1, Some(WELL), other);
    let stratum = &world.memory.strata[GET];
    assert_eq!(stratum.bounds.as_deref(), other.bounds);
    assert!(stratum.thresholds.is_none() && stratum.recent().total() == 600);
    assert!(world.memory.kept(GET) > before);
    world.run(2, Some(WELL), other);
    assert_eq!(world.grains(), [Grain::NotTestable; 3], "nothing is shared now");
    world.run(40, Some(other), other);
    assert_eq!(world.line(Sli::LatencyP95, Some(GET)).threshold_seconds, Some(0.3));
    assert!(world.judge.ln_e_bar() < 1.0, "{}", world.judge.ln_e_bar());
}

/// Scenario: the baseline's traffic ends. Guarantees: a slower candidate is found against the remembered exceedance,
/// one that is not may pass.
#[test]
fn explicit_buckets_are_remembered() {
    for (times, worse) in [(1.0, false), (3.0, true)] {
        let mut world = World::new();
        world.run(80, None, WELL);
        for _ in 0..40 {
            let candidate = arm(&mut world.rng, Sent { times, ..WELL });
            let input = SlotInput { candidate, ..SlotInput::default() };
            world.memory.begin(world.t, false);
            world.judge.slot(world.t, &world.memory, &input);
            world.memory.end(world.t, &Cells::new(), &Arm::default());
            world.t += SLOT_S;
        }
        assert!(world.judge.baseline_gone());
        assert_eq!(world.judge.ln_e_bar() > 4.6, worse, "x{times}: {}", world.judge.ln_e_bar());
        let passed = world.line(Sli::LatencyP95, None).ln_e_pass.unwrap();
        assert_eq!(passed > 3.0, !worse, "x{times}: {passed}");
    }
}

/// Guarantees: what is said of thresholds before any verdict is what the judge tests by.
#[test]
fn x2_which_thresholds_can_be_tested_is_known_from_one_version() {
    let tests = |sent: Sent| {
        let mut world = World::new();
        world.run(40, None, sent);
        world.memory.bound_tests()
    };
    let usual = tests(WELL).unwrap();
    let bounds: Vec<f64> = usual.iter().filter(|t| t.is_testable).map(|t| t.nearest.unwrap().0).collect();
    assert_eq!(bounds, [0.1, 0.25, 0.5]);
    assert!((usual[1].nearest.unwrap().1 - 0.082).abs() < 0.01, "{usual:?}");
    assert_eq!(usual.map(|t| t.quantile), [0.5, 0.95, 0.99]);
    assert_eq!(usual[2].between, [Some(0.25), Some(0.5)]);
    let coarse = tests(Sent { bounds: Some(COARSE), times: 1.0 }).unwrap();
    assert_eq!(coarse.map(|t| t.is_testable), [true, false, false]);
    assert_eq!((coarse[1].nearest.unwrap().0, coarse[2].between), (0.1, [Some(0.1), Some(0.9)]));
    let slow = tests(Sent { bounds: Some(USUAL), times: 1e3 }).unwrap();
    assert!(slow.iter().all(|t| !t.is_testable && t.between == [Some(1.0), None]), "{slow:?}");
    assert_eq!(tests(Sent { bounds: None, times: 1.0 }), None);
}
