//! Request metrics whose senders come back after a long silence, or change what they send: nothing is counted twice,
//! and what can still be compared is.

use rollguard::deployment::{Mode, Phase};
use rollguard::model::Family;
use rollguard::verdict::{Policy, Verdict};

use super::metrics::{Fleet, INTERVAL_S, Instance, Kind, export, export_as, policy};
use super::world::{Kept, World};

const KIND: Kind = Kind::CumulativeExplicit;
/// Longer than series live, seconds.
const LONG_S: u64 = 1_000;

/// A world with ten minutes of the traffic of `v1`, three instances, and of one of `v0`, which is as old.
fn served() -> (World, Fleet) {
    let mut world = World::new(policy(), Mode::Observe);
    let mut fleet = Fleet::new(KIND);
    world.run(1);
    fleet.start("v1", 3, world.now_s);
    fleet.start("v0", 1, world.now_s);
    serve(&mut world, &mut fleet, 600, &["v0", "v1"], |_| true);
    (world, fleet)
}

/// Seconds of traffic of versions; those of whose instances `speaks` does not hold keep what they count to themselves.
fn serve(
    world: &mut World,
    fleet: &mut Fleet,
    seconds: u64,
    versions: &[&'static str],
    speaks: impl Fn(&Instance) -> bool,
) {
    let traffic: Vec<_> = versions.iter().map(|version| (*version, 10, 0.01, 1.0)).collect();
    for _ in 0..seconds {
        world.run(1);
        fleet.second(world.now_s, &traffic, |version, instance| {
            if speaks(instance) {
                export(world, KIND, version, instance);
            }
        });
    }
}

fn requests(world: &World) -> u64 {
    world.version("v1").map_or(0, |version| version.requests_total)
}

/// Scenario: one process of three is not heard of for longer than streams are remembered, then comes back with all that
/// it ever counted. Guarantees: none of it is counted twice, and what it serves from then on is counted.
#[test]
fn m4_a_process_that_comes_back_is_not_counted_twice() {
    let (mut world, mut fleet) = served();
    serve(&mut world, &mut fleet, LONG_S, &["v1"], |instance| instance.name != "v1-0");
    serve(&mut world, &mut fleet, 60, &["v1"], |_| true);
    let (before, truth) = (requests(&world), fleet.served("v1"));
    assert!(before <= truth, "{before} of {truth}");
    serve(&mut world, &mut fleet, 300, &["v1"], |_| true);
    let (new, served) = (requests(&world) - before, fleet.served("v1") - truth);
    assert!(new + 3 * 10 * 2 * INTERVAL_S >= served, "{new} of {served}");
}

/// Scenario: we are away for longer than streams live: restarted with all state, or suspended; the processes serve on.
/// Guarantees: nothing is counted twice.
#[test]
fn m4_a_long_absence_of_ours_counts_nothing_twice() {
    for restarts in [true, false] {
        let (mut world, mut fleet) = served();
        let all = world.engine.snapshot_all(world.now());
        world.kept.take(all);
        if restarts {
            world.restart(LONG_S);
        } else {
            world.now_s += LONG_S;
        }
        serve(&mut world, &mut fleet, 300, &["v1"], |_| true);
        world.run(60);
        let (total, truth) = (requests(&world), fleet.served("v1"));
        assert!(total <= truth, "restarts: {restarts}: {total} of {truth}");
        assert!(total + 3 * 10 * 3 * INTERVAL_S >= truth, "restarts: {restarts}: {total} of {truth}");
    }
}

/// Scenario: a version, or the whole service, is silent until its series end, and comes back with all that it ever
/// counted. Guarantees: only what it serves from then on is counted.
#[test]
fn m4_a_version_that_comes_back_counts_from_its_return() {
    for others in [&["v0"][..], &[]] {
        let (mut world, mut fleet) = served();
        serve(&mut world, &mut fleet, LONG_S + 60, others, |_| true);
        assert!(world.version("v1").is_none(), "its series have ended");
        let truth = fleet.served("v1");
        serve(&mut world, &mut fleet, 300, &["v1"], |_| true);
        world.run(60);
        let (total, new) = (requests(&world), fleet.served("v1") - truth);
        assert!(total <= new && total + 3 * 10 * 3 * INTERVAL_S >= new, "{others:?}: {total} of {new}");
    }
}

fn slot_seconds(world: &World) -> Option<i64> {
    let board = world.engine.board(world.now());
    board.services.first()?.metrics.map(|side| side.slot_seconds)
}

/// Exports once a minute: whoever has its phase in the first quarter of it.
fn each_minute(world: &World) -> bool {
    world.now_s % 60 < INTERVAL_S
}

/// Seconds of `v1` and of `v2`, if it was started, exporting each minute or each quarter of one.
fn serve_at(world: &mut World, fleet: &mut Fleet, seconds: u64, fast: bool, errors: f64) {
    for _ in 0..seconds {
        world.run(1);
        let speaks = fast || each_minute(world);
        fleet.second(world.now_s, &[("v1", 10, 0.001, 1.0), ("v2", 10, errors, 1.0)], |version, instance| {
            if speaks {
                export(world, KIND, version, instance);
            }
        });
    }
}

/// Scenario: a service exports each minute, has its deployment, and is set to 15 s. Guarantees: slots stay as long as
/// they are while a verdict is waited for; then they follow, also under the watch, which finds what goes wrong later.
#[test]
fn slots_follow_the_export_interval_once_nothing_waits_for_a_verdict() {
    let slow = Policy { horizon_s: 1_200, ..policy() };
    let mut world = World::new(slow, Mode::Observe);
    let mut fleet = Fleet::new(KIND);
    world.run(1);
    fleet.start("v1", 4, world.now_s);
    serve_at(&mut world, &mut fleet, 900, false, 0.0);
    assert_eq!(slot_seconds(&world), Some(60));
    fleet.start("v2", 4, world.now_s);
    serve_at(&mut world, &mut fleet, 180, false, 0.001);
    assert_eq!(world.deployment("v2").expect("detected").verdict, Verdict::Pending);
    for _ in 0..1_500 {
        serve_at(&mut world, &mut fleet, 1, true, 0.001);
        if world.deployment("v2").expect("detected").verdict != Verdict::Pending {
            break;
        }
        assert_eq!(slot_seconds(&world), Some(60), "it stands while the verdict is open");
    }
    assert_ne!(world.deployment("v2").expect("detected").verdict, Verdict::Fail);
    serve_at(&mut world, &mut fleet, 300, true, 0.001);
    assert_eq!(slot_seconds(&world), Some(15), "under the watch as well");
    let deployment = world.deployment("v2").expect("watched");
    assert!(matches!(deployment.phase, Phase::Watching | Phase::Inconclusive), "{:?}", deployment.phase);
    serve_at(&mut world, &mut fleet, 600, true, 0.3);
    let deployment = world.deployment("v2").expect("watched");
    assert_eq!(deployment.verdict, Verdict::Fail, "{}", deployment.explanation);
}

/// Scenario: the same the other way, without a deployment. Guarantees: slots become longer.
#[test]
fn slots_follow_a_longer_export_interval() {
    let mut world = World::new(policy(), Mode::Observe);
    let mut fleet = Fleet::new(KIND);
    world.run(1);
    fleet.start("v1", 4, world.now_s);
    serve_at(&mut world, &mut fleet, 120, true, 0.0);
    assert_eq!(slot_seconds(&world), Some(15));
    serve_at(&mut world, &mut fleet, 1_200, false, 0.0);
    assert_eq!(slot_seconds(&world), Some(60));
    world.run(200);
    assert!(requests(&world) <= fleet.served("v1"));
}

/// Scenario: the new version has other bucket bounds, fails more, and comes when the old one has gone. Guarantees: it is
/// held against what the old one showed; its bounds are no reason to forget that.
#[test]
fn x5_other_bounds_do_not_wipe_what_is_remembered() {
    let (mut world, mut fleet) = served();
    world.run(120);
    fleet.start("v2", 3, world.now_s);
    for _ in 0..600 {
        world.run(1);
        fleet.second(world.now_s, &[("v2", 10, 0.10, 1.0)], |v, i| {
            export_as(&world, KIND, (Family::Http, 2), v, i)
        });
    }
    let deployment = world.deployment("v2").expect("detected");
    assert_eq!(deployment.verdict, Verdict::Fail, "{}", deployment.explanation);
    assert!(
        deployment.evidence.has(rollguard::verdict::Flag::RememberedBaseline),
        "{} {:?}",
        deployment.explanation,
        deployment.evidence.flags
    );
}

/// Scenario: the old version sends the SDK's metric and that of the Collector, the new one only the latter, and fails
/// more. Guarantees: the one that both send is what they are compared by.
#[test]
fn m7_versions_are_compared_by_the_metric_that_both_send() {
    let mut world = World::new(policy(), Mode::Observe);
    let mut fleet = Fleet::new(KIND);
    world.run(1);
    fleet.start("v1", 4, world.now_s);
    let seconds = |world: &mut World, fleet: &mut Fleet, seconds: u64| {
        for _ in 0..seconds {
            world.run(1);
            let traffic = [("v1", 10, 0.001, 1.0), ("v2", 10, 0.10, 1.0)];
            fleet.second(world.now_s, &traffic, |version, instance| {
                export_as(world, KIND, (Family::SpanDuration, 1), version, instance);
                if version == "v1" {
                    export(world, KIND, version, instance);
                }
            });
        }
    };
    seconds(&mut world, &mut fleet, 600);
    fleet.start("v2", 4, world.now_s);
    seconds(&mut world, &mut fleet, 600);
    let deployment = world.deployment("v2").expect("detected");
    assert_eq!(deployment.verdict, Verdict::Fail, "{}", deployment.explanation);
    let (total, truth) = (requests(&world), fleet.served("v1"));
    assert!(
        total <= truth + 4 * 10 * 2 * INTERVAL_S,
        "the requests of the other metric are the same: {total} of {truth}"
    );
}

/// Scenario: a sender without bounds that anybody shares, in a version that ends. Guarantees: latencies are compared
/// again afterwards.
#[test]
fn x5_bounds_of_a_version_that_is_gone_do_not_count() {
    let mut world = World::with(policy(), Mode::Observe, Kept::default(), Default::default());
    let mut fleet = Fleet::new(KIND);
    world.run(1);
    fleet.start("v1", 3, world.now_s);
    fleet.start("v0", 1, world.now_s);
    for second in 0..LONG_S + 600 {
        world.run(1);
        fleet.second(world.now_s, &[("v1", 10, 0.0, 1.0), ("v0", 10, 0.0, 1.0)], |version, instance| {
            if version == "v1" {
                export(&world, KIND, version, instance);
            } else if second < 300 {
                export_as(&world, KIND, (Family::Http, 2), version, instance);
            }
        });
    }
    assert!(world.version("v0").is_none());
    fleet.start("v2", 3, world.now_s);
    for _ in 0..600 {
        world.run(1);
        let traffic = [("v1", 10, 0.0, 1.0), ("v2", 10, 0.0, 2.0)];
        fleet.second(world.now_s, &traffic, |version, instance| export(&world, KIND, version, instance));
    }
    let deployment = world.deployment("v2").expect("detected");
    assert_eq!(deployment.verdict, Verdict::Fail, "{}", deployment.explanation);
}
