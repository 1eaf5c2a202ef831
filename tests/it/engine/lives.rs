//! What comes after a verdict: the watch over weeks, the fix of a version that failed, its return, stray versions, and
//! recoveries that we could not see.

use std::sync::Arc;

use rollguard::deployment::{Deployment, Mode, Phase, Request};
use rollguard::pipeline::{CommandError, Commit};
use rollguard::verdict::{Flag, Verdict};

use super::world::{World, quick, traffic};

fn of(world: &World, candidate: &str) -> Arc<Deployment> {
    world.deployment(candidate).unwrap_or_else(|| panic!("no deployment of {candidate}"))
}

fn said(deployment: &Deployment) -> String {
    format!("{:?} against {:?}: {}", deployment.phase, deployment.baseline, deployment.explanation)
}

/// Scenario: v2 passed and serves alone for five weeks; then an instance of v1 comes back for some minutes. Guarantees:
/// silence of the old version is no evidence, however long; nothing is rolled back.
#[test]
fn a_watch_without_a_baseline_never_ends_in_an_alarm() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 100.0, 0.002);
    world.sends("v2", traffic(3, 100.0, 0.002));
    world.run(250);
    assert_eq!(of(&world, "v2").verdict, Verdict::Pass, "{}", said(&of(&world, "v2")));
    world.stops("v1");
    world.sends("v2", traffic(3, 10.0, 0.0));
    for day in 1..=36 {
        world.now_s += 86_400 - 40;
        world.run(40);
        assert_eq!(of(&world, "v2").verdict, Verdict::Pass, "day {day}: {}", said(&of(&world, "v2")));
    }
    world.sends("v2", traffic(3, 100.0, 0.002));
    world.sends("v1", traffic(1, 10.0, 0.002));
    world.run(300);
    assert_eq!(of(&world, "v2").verdict, Verdict::Pass, "{}", said(&of(&world, "v2")));
    assert!(world.kept.rollbacks.is_empty());
}

/// Scenario: v2 fails after it took all traffic over; then comes a fix, good or bad. Guarantees: the fix is not held
/// against the version that failed: the good one is not rolled back, the bad one does not pass.
#[test]
fn a_version_that_failed_is_no_measure_for_its_fix() {
    for (errors, rollbacks) in [(0.001, 1), (0.25, 2)] {
        let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
        world.sends("v2", traffic(4, 300.0, 0.9));
        world.run(20);
        world.stops("v1");
        world.run(130);
        assert_eq!(of(&world, "v2").verdict, Verdict::Fail);
        world.sends("v3", traffic(4, 60.0, errors));
        world.run(250);
        let fix = of(&world, "v3");
        assert_eq!(fix.baseline.as_deref(), Some("v1"), "{}", said(&fix));
        assert_eq!(world.kept.rollbacks.len(), rollbacks, "{errors}: {}", said(&fix));
        assert!(errors < 0.1 || fix.verdict == Verdict::Fail, "{}", said(&fix));
    }
}

/// Scenario: v2 fails, is rolled back, and is deployed again under the same name, soon or late, and fails again.
/// Guarantees: it is a deployment of its own each time, with a rollback of its own.
#[test]
fn a_failed_version_that_is_deployed_again_is_judged_again() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.3));
    world.run(120);
    world.stops("v2");
    world.run(60);
    assert_eq!((of(&world, "v2").phase, world.kept.rollbacks.len()), (Phase::Recovered, 1));
    for (wait, times) in [(30, 2), (1_200, 3)] {
        world.run(wait);
        world.sends("v2", traffic(2, 20.0, 0.5));
        world.run(200);
        assert_eq!(world.kept.rollbacks.len(), times, "after {wait} s: {}", said(&of(&world, "v2")));
        world.stops("v2");
        world.run(60);
    }
}

/// Scenario: while v2 is judged somebody's laptop sends some requests under a version of its own, then v2 turns bad.
/// Guarantees: v2 is still judged and rolled back.
#[test]
fn a_stray_request_ends_no_judgement() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.0));
    world.run(12);
    world.sends("dev-laptop", traffic(1, 1.0, 0.0));
    world.run(8);
    world.stops("dev-laptop");
    world.sends("v2", traffic(2, 20.0, 0.5));
    world.run(200);
    assert_eq!(of(&world, "v2").verdict, Verdict::Fail, "{}", said(&of(&world, "v2")));
    assert_eq!(world.kept.rollbacks.len(), 1);
}

/// Scenario: v2 took over from v1 some minutes ago; v3 comes beside it. Guarantees: v3 is held against v2, which serves,
/// and not against the memory of v1.
#[test]
fn a_baseline_is_one_that_serves() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.run(900);
    world.sends("v2", traffic(4, 60.0, 0.001));
    world.run(10);
    world.stops("v1");
    world.run(500);
    world.sends("v3", traffic(2, 20.0, 0.001));
    world.run(60);
    let deployment = of(&world, "v3");
    assert_eq!(deployment.baseline.as_deref(), Some("v2"), "{}", said(&deployment));
    assert!(!deployment.evidence.has(Flag::RememberedBaseline));
}

/// Scenario: v2 failed and went; we were down until after the time that a recovery has. Guarantees: it is recovered, for
/// what we did not see is no lack of it.
#[test]
fn a_recovery_that_we_slept_through_is_one() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.3));
    world.run(60);
    assert_eq!(of(&world, "v2").phase, Phase::Failed);
    world.stops("v2");
    world.restart(320);
    world.run(60);
    assert_eq!(of(&world, "v2").phase, Phase::Recovered, "{}", said(&of(&world, "v2")));
}

/// Scenario: v2 failed, and nothing serves any more but spans without a version. Guarantees: that is no recovery.
#[test]
fn spans_without_a_version_are_no_recovery() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("", traffic(1, 1.0, 0.0));
    world.run(30);
    world.sends("v2", traffic(2, 20.0, 0.3));
    world.run(60);
    world.stops("v1");
    world.stops("v2");
    world.run(40);
    assert_eq!(of(&world, "v2").phase, Phase::Failed, "{}", said(&of(&world, "v2")));
}

/// Scenario: a pipeline announces v2 with a baseline that does not exist. Guarantees: it is told, with what does.
#[test]
fn a_mistyped_baseline_is_refused() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    let request = Request {
        service: "shop".into(),
        version: "v2".into(),
        baseline: Some("v1.0".into()),
        ..Request::default()
    };
    let Err(CommandError::Invalid(text)) = world.engine.start(&request, world.now(), &mut Commit::default())
    else {
        panic!("accepted");
    };
    assert!(text.contains("v1.0") && text.contains("known versions: v1"), "{text}");
}
