//! Request metrics through the real pipeline: points in at the door, verdicts out, time as a number.

use std::collections::BTreeMap;

use rollguard::deployment::Mode;
use rollguard::model::{
    DurationUnit, Durations, Family, Outcome, PointNumbers, PointSink, PointView, ResourceView, StatusSource,
    Temporality, UnixNanos,
};
use rollguard::pipeline::{Disposition, Signal};
use rollguard::verdict::{Policy, Verdict};

use super::world::{Kept, World, at, quick};

/// Seconds between two exports.
pub(super) const INTERVAL_S: u64 = 15;
/// The bounds that the conventions advise, in seconds.
pub(super) const BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Exponential buckets of scale 3 from this index on.
pub(super) const OFFSET: i32 = -50;

/// How a version reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    CumulativeExplicit,
    DeltaExponential,
}

/// An instance with its counters: good and failed requests, by bucket.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) started_s: u64,
    phase_s: u64,
    pub(super) counts: [Vec<u64>; 2],
    pub(super) last_export_s: u64,
}

/// A service that sends nothing but metrics.
pub(super) struct Fleet {
    kind: Kind,
    random: fastrand::Rng,
    versions: BTreeMap<&'static str, Vec<Instance>>,
}

impl Fleet {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, random: fastrand::Rng::with_seed(11), versions: BTreeMap::new() }
    }

    pub(super) fn start(&mut self, version: &'static str, instances: usize, now_s: u64) {
        let random = &mut self.random;
        let all = (0..instances).map(|i| Instance {
            name: format!("{version}-{i}"),
            started_s: now_s,
            phase_s: random.u64(..INTERVAL_S),
            counts: [vec![0; 60], vec![0; 60]],
            last_export_s: now_s,
        });
        self.versions.insert(version, all.collect());
    }

    /// Requests of a version so far, by its cumulative counters.
    pub(super) fn served(&self, version: &str) -> u64 {
        self.versions[version].iter().flat_map(|instance| &instance.counts).flatten().sum()
    }

    /// One second of traffic of every instance: requests, share of failed ones, latency factor. Those whose time
    /// has come export.
    pub(super) fn second(
        &mut self,
        now_s: u64,
        traffic: &[(&'static str, u64, f64, f64)],
        mut export: impl FnMut(&'static str, &mut Instance),
    ) {
        for (version, requests, errors, slower) in traffic {
            let Some(instances) = self.versions.get_mut(version) else { continue };
            for instance in instances {
                for _ in 0..*requests {
                    let seconds = 0.02 * 4f64.powf(self.random.f64() * self.random.f64()) * slower;
                    let bucket = match self.kind {
                        Kind::CumulativeExplicit => BOUNDS.partition_point(|b| *b < seconds),
                        Kind::DeltaExponential => {
                            ((seconds.log2() * 8.0).ceil() as i32 - 1 - OFFSET) as usize
                        }
                    };
                    let failed = usize::from(self.random.f64() < *errors);
                    instance.counts[failed][bucket] += 1;
                }
                if now_s % INTERVAL_S == instance.phase_s {
                    export(version, instance);
                    instance.last_export_s = now_s;
                    if self.kind == Kind::DeltaExponential {
                        instance.counts.iter_mut().for_each(|counts| counts.fill(0));
                    }
                }
            }
        }
    }
}

/// Hands over the points of an instance as the walker would.
pub(super) fn export(world: &World, kind: Kind, version: &str, instance: &Instance) {
    export_as(world, kind, (Family::Http, 1), version, instance);
}

/// The same under the name of another metric, and with every nth of the bounds.
pub(super) fn export_as(
    world: &World,
    kind: Kind,
    what: (Family, usize),
    version: &str,
    instance: &Instance,
) {
    export_at(world, kind, what, version, (instance, world.now_s));
}

/// The same of points that were made earlier.
fn export_at(
    world: &World,
    kind: Kind,
    (family, nth): (Family, usize),
    version: &str,
    (instance, made_s): (&Instance, u64),
) {
    let bounds: Vec<f64> = BOUNDS.iter().copied().skip(nth - 1).step_by(nth).collect();
    let resource = ResourceView {
        service: b"shop",
        version: version.as_bytes(),
        instance: instance.name.as_bytes(),
        ..ResourceView::default()
    };
    let mut batch = world.intake.begin(UnixNanos(at(world.now_s) + 200_000_000));
    for (failed, counts) in instance.counts.iter().enumerate() {
        let count: u64 = counts.iter().sum();
        if failed == 1 && count == 0 {
            continue;
        }
        let wide: Vec<u64> = counts.chunks(nth).map(|some| some.iter().sum()).collect();
        let (temporality, start_s, durations) = match kind {
            Kind::CumulativeExplicit => (
                Temporality::Cumulative,
                instance.started_s,
                Durations::Explicit { bounds: &bounds, counts: &wide[..bounds.len() + 1] },
            ),
            Kind::DeltaExponential => (
                Temporality::Delta,
                instance.last_export_s,
                Durations::Exponential { scale: 3, zero: 0, offset: OFFSET, counts },
            ),
        };
        batch.point(
            &resource,
            &PointView {
                key: None,
                stream: u128::from_le_bytes(hash(&format!("{}{failed}{family:?}", instance.name))),
                family,
                temporality,
                service: b"",
                namespace: b"",
                environment: b"",
                version: b"",
                operation_head: b"GET",
                operation_joint: b" ",
                operation_tail: b"/cart",
                outcome: if failed == 1 { Outcome::Bad } else { Outcome::Good },
                status: StatusSource::Code,
                overflow: false,
                marks: 0,
                dimensions: None,
                numbers: PointNumbers {
                    start: UnixNanos(at(start_s)),
                    time: UnixNanos(at(made_s)),
                    count,
                    level: None,
                    unit: DurationUnit::Seconds,
                    durations,
                    trace_id: if failed == 1 { &[7; 16] } else { b"" },
                },
            },
        );
    }
    batch.commit().expect("the log has room");
}

fn hash(text: &str) -> [u8; 16] {
    let mut out = [0; 16];
    text.bytes().enumerate().for_each(|(i, b)| out[i % 16] ^= b.rotate_left((i / 16) as u32));
    out
}

/// Runs `v1` alone for some minutes and then beside `v2`, whose share of failed requests and latency differ.
fn rollout(kind: Kind, policy: Policy, errors: f64, slower: f64) -> (World, Fleet) {
    let mut world = World::new(policy, Mode::Observe);
    let mut fleet = Fleet::new(kind);
    world.run(1);
    fleet.start("v1", 4, world.now_s);
    for _ in 0..600 {
        world.run(1);
        fleet.second(world.now_s, &[("v1", 10, 0.001, 1.0)], |v, i| export(&world, kind, v, i));
    }
    fleet.start("v2", 2, world.now_s);
    for _ in 0..900 {
        world.run(1);
        let traffic = [("v1", 10, 0.001, 1.0), ("v2", 10, errors, slower)];
        fleet.second(world.now_s, &traffic, |v, i| export(&world, kind, v, i));
        if world.deployment("v2").is_some_and(|d| d.verdict != Verdict::Pending) {
            break;
        }
    }
    world.run(30);
    (world, fleet)
}

pub(super) fn policy() -> Policy {
    Policy { horizon_s: 900, ..quick() }
}

/// Scenario: metrics only, five of a hundred requests of the new version fail. Guarantees: the deployment is
/// found and fails, by cumulative explicit buckets and by delta exponential ones alike, and the exemplars of its failed
/// requests are the evidence to look at.
#[test]
fn m8_a_worse_version_fails_by_metrics_alone_with_the_traces_of_its_failures() {
    for kind in [Kind::CumulativeExplicit, Kind::DeltaExponential] {
        let (world, _) = rollout(kind, policy(), 0.05, 1.0);
        let deployment = world.deployment("v2").expect("detected from metrics");
        assert_eq!(deployment.baseline.as_deref(), Some("v1"), "{kind:?}");
        assert_eq!(deployment.verdict, Verdict::Fail, "{kind:?}: {}", deployment.explanation);
        assert_eq!(deployment.evidence.slot_seconds, Some(15));
        let shares: f64 = deployment.evidence.slis.iter().map(|s| s.weight).sum();
        assert!(shares > 0.9, "{shares} {:?}", deployment.evidence.required);
        assert_eq!(deployment.evidence.exemplars, ["07".repeat(16)], "{kind:?}");
    }
}

/// Scenario: metrics only, the new version is as good as the old one. Guarantees: it passes.
#[test]
fn an_equal_version_passes_by_metrics_alone() {
    for kind in [Kind::CumulativeExplicit, Kind::DeltaExponential] {
        let (world, _) = rollout(kind, policy(), 0.001, 1.0);
        let deployment = world.deployment("v2").expect("detected from metrics");
        assert_eq!(deployment.verdict, Verdict::Pass, "{kind:?}: {}", deployment.explanation);
    }
}

/// Scenario: the new version takes twice as long. Guarantees: it fails.
#[test]
fn a_slower_version_fails_by_metrics_alone() {
    for kind in [Kind::CumulativeExplicit, Kind::DeltaExponential] {
        let (world, _) = rollout(kind, policy(), 0.001, 2.0);
        let deployment = world.deployment("v2").expect("detected from metrics");
        assert_eq!(deployment.verdict, Verdict::Fail, "{kind:?}: {}", deployment.explanation);
    }
}

/// Scenario: ten minutes of metrics from one version. Guarantees: every point is in exactly one disposition,
/// and the totals are the truth but for what was counted before we looked and what waits.
#[test]
fn every_point_is_accounted_for() {
    let (world, _) = rollout(Kind::CumulativeExplicit, policy(), 0.001, 1.0);
    let ledger = world.shards.ledger();
    assert!(ledger.settled(Signal::Metrics, Disposition::Aggregated) > 300);
    assert_eq!(ledger.open(Signal::Metrics), 0, "all slots are closed after the fleet fell silent");
    let requests = world.version("v1").expect("on the board").requests_total;
    assert!(requests > 4 * 10 * 600, "{requests}");
}

/// Scenario: cumulative counters, one process of ours after the other: an orderly stop (all state kept) and a
/// loss of all state. Guarantees: nothing is counted twice, nothing that was served before we looked is counted
/// at all, and no deployment begins by it.
#[test]
fn a_restart_counts_no_counter_twice() {
    let kind = Kind::CumulativeExplicit;
    for keeps_state in [true, false] {
        let mut world = World::new(policy(), Mode::Observe);
        let mut fleet = Fleet::new(kind);
        world.run(1);
        fleet.start("v1", 3, world.now_s);
        let serve = |world: &mut World, fleet: &mut Fleet, seconds: u64| {
            for _ in 0..seconds {
                world.run(1);
                fleet.second(world.now_s, &[("v1", 10, 0.01, 1.0)], |v, i| export(world, kind, v, i));
            }
        };
        serve(&mut world, &mut fleet, 300);
        let before = world.version("v1").expect("on the board").requests_total;
        if keeps_state {
            let all = world.engine.snapshot_all(world.now());
            world.kept.take(all);
        } else {
            world.kept = Kept::default();
        }
        let truth_before = fleet.served("v1");
        world.restart(5);
        serve(&mut world, &mut fleet, 300);
        world.run(30);
        let after = world.version("v1").expect("on the board").requests_total;
        let new = fleet.served("v1") - truth_before;
        if keeps_state {
            // The slot that was open is lost, and with it less than two exports of each instance.
            assert!(after > before && after <= fleet.served("v1"), "{before} {after}");
            assert!(after - before >= new - 3 * 10 * 2 * INTERVAL_S, "{before} {after} {new}");
        } else {
            assert!(after <= new && after >= new - 3 * 10 * 3 * INTERVAL_S, "{after} of {new}");
        }
        assert!(world.deployment("v1").is_none() && world.kept.rollbacks.is_empty());
    }
}

/// Scenario: a service that is new to us; how often it exports is known only by its second export. Guarantees:
/// what its first exports held is counted as well, once, and a service that never exports again is accounted
/// for after the longest interval there is.
#[test]
fn first_exports_wait_for_the_interval() {
    for kind in [Kind::CumulativeExplicit, Kind::DeltaExponential] {
        let mut world = World::new(policy(), Mode::Observe);
        let mut fleet = Fleet::new(kind);
        world.run(1);
        fleet.start("v1", 4, world.now_s);
        let mut exported = 0;
        for _ in 0..120 {
            world.run(1);
            fleet.second(world.now_s, &[("v1", 10, 0.01, 1.0)], |v, i| {
                let count: u64 = i.counts.iter().flatten().sum();
                exported += if kind == Kind::DeltaExponential { count } else { 0 };
                export(&world, kind, v, i);
            });
        }
        if kind == Kind::CumulativeExplicit {
            world.run(1);
            fleet.versions["v1"].iter().for_each(|i| export(&world, kind, "v1", i));
            exported = fleet.served("v1");
        }
        world.run(60);
        assert_eq!(world.version("v1").expect("on the board").requests_total, exported, "{kind:?}");
    }

    let mut world = World::new(policy(), Mode::Observe);
    let mut fleet = Fleet::new(Kind::CumulativeExplicit);
    world.run(1);
    fleet.start("v1", 1, world.now_s);
    for _ in 0..INTERVAL_S {
        world.run(1);
        let kind = Kind::CumulativeExplicit;
        fleet.second(world.now_s, &[("v1", 10, 0.0, 1.0)], |v, i| export(&world, kind, v, i));
    }
    assert_eq!(world.shards.ledger().open(Signal::Metrics), 1);
    world.run(310);
    assert_eq!(world.shards.ledger().open(Signal::Metrics), 0);
}

/// Scenario: what a new process served comes minutes late; then the service exports half as often, so that its slots
/// become longer. Guarantees: the judge does not see what came too late, the error budget counts it all, once.
#[test]
fn late_points_count_in_the_error_budget() {
    let kind = Kind::DeltaExponential;
    let mut world = World::new(policy(), Mode::Observe);
    let mut fleet = Fleet::new(kind);
    world.run(1);
    fleet.start("v1", 2, world.now_s);
    for _ in 0..300 {
        world.run(1);
        fleet.second(world.now_s, &[("v1", 10, 0.01, 1.0)], |v, i| export(&world, kind, v, i));
    }
    world.run(60);
    let late = |world: &World| world.shards.ledger().settled(Signal::Metrics, Disposition::Late);
    let counted = |world: &World| {
        let shown = world.version("v1").expect("on the board");
        let totals = |journey| world.objective(journey).map_or([0, 0], |o| o.totals);
        ([shown.requests_total, shown.errors_total], totals(None), totals(Some("pay")), late(world))
    };
    let before = counted(&world);
    assert_eq!((before.0, before.3), (before.1, 0));
    let mut slow = Instance { name: "v1-slow".into(), ..fleet.versions["v1"][0].clone() };
    slow.counts = [vec![0; 60], vec![0; 60]];
    (slow.counts[0][20], slow.counts[1][30], slow.last_export_s) = (5, 7, world.now_s - 200);
    export_at(&world, kind, (Family::Http, 1), "v1", (&slow, world.now_s - 185));
    world.run(20);
    let [requests, failed] = before.1;
    assert_eq!(counted(&world), (before.0, [requests + 12, failed + 7], before.2, 2));

    let kind = Kind::CumulativeExplicit;
    let mut world = World::new(policy(), Mode::Observe);
    let mut fleet = Fleet::new(kind);
    world.run(1);
    fleet.start("v1", 4, world.now_s);
    let mut exported = BTreeMap::new();
    for second in 0..2_400 {
        world.run(1);
        fleet.second(world.now_s, &[("v1", 10, 0.01, 1.0)], |v, i| {
            if second < 300 || (second / INTERVAL_S).is_multiple_of(2) {
                export(&world, kind, v, i);
                exported.insert(i.name.clone(), i.counts.iter().flatten().sum::<u64>());
            }
        });
    }
    world.run(90);
    let side = world.engine.board(world.now()).services[0].metrics.expect("a metric side");
    assert_eq!(side.slot_seconds, 30);
    assert!(late(&world) > 0, "slots were open when they became longer");
    assert_eq!(world.objective(None).unwrap().totals[0], exported.values().sum::<u64>());
}
