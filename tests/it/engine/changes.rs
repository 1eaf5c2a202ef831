//! Deployments that name a time: a service after a change without a version, held against what it showed before.

use rollguard::deployment::{Mode, Phase, Request};
use rollguard::pipeline::{CommandError, Commit};
use rollguard::verdict::{Flag, Policy, Verdict};

use super::world::{World, quick, traffic};

/// As `quick`, with a horizon in which what is after five minutes can be seen.
fn longer() -> Policy {
    Policy { horizon_s: 900, ..quick() }
}

/// Scenario: a change now, and errors x50 at once or a minute later, in both modes. Guarantees: fail within five minutes of
/// the time, in words that name the service and the time; one rollback in mode `act` only; recovered once it is undone.
#[test]
fn a_change_that_breaks_fails() {
    for (mode, after_s) in [(Mode::Act, 0), (Mode::Observe, 60)] {
        let mut world = World::with_known_v1(longer(), mode, 60.0, 0.002);
        let id = world.announce(0, &[]).unwrap();
        assert!(id.phase == Phase::Warming && id.is_waiting(), "{id:?}");
        world.run(after_s);
        world.sends("v1", traffic(4, 60.0, 0.1));
        world.run(90);
        let d = world.again(&id);
        assert_eq!((d.verdict, d.phase, d.kind().as_str()), (Verdict::Fail, Phase::Failed, "before/after"));
        assert!(
            d.decided_after_seconds.is_some_and(|s| s < after_s as f64 + 60.0),
            "{:?}",
            d.decided_after_seconds
        );
        let since = "% of requests since ";
        assert!(
            d.explanation.starts_with("shop fails ") && d.explanation.contains(since),
            "{}",
            d.explanation
        );
        assert!(d.explanation.contains(" before") && !d.explanation.contains("v1"), "{}", d.explanation);
        assert_eq!(world.kept.rollbacks.len(), usize::from(mode == Mode::Act));
        let change = d.evidence.change.unwrap();
        assert_eq!((change.late_s(), change.unjudged_s()), (0, 0));
        assert!(change.error_rate().is_some_and(|rate| rate < 0.01), "{change:?}");
        let account = d.account().text();
        assert!(account.contains("% before") && !account.contains("v1"), "{account}");
        // Undone: it is as before.
        world.sends("v1", traffic(4, 60.0, 0.002));
        world.run(40);
        assert_eq!(world.again(&id).phase, Phase::Recovered, "{:?}", world.again(&id).history);
    }
}

/// Scenario: a change that does nothing; one after which nothing is undone. Guarantees: a healthy one passes or stays
/// undecided and is closed with its horizon, its last words on file; a fault that stays is not recovered.
#[test]
fn a_change_that_does_nothing_never_fails() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 80.0, 0.002);
    world.run(300);
    let id = world.announce(0, &[]).unwrap();
    world.run(330);
    let d = world.again(&id);
    assert!(matches!(d.verdict, Verdict::Pass | Verdict::Inconclusive), "{}", d.explanation);
    assert!(d.explanation.contains(" before") && !d.explanation.contains("v1"), "{}", d.explanation);
    world.run(90);
    assert_eq!(world.again(&id).phase, Phase::Closed);
    assert!(world.kept.rollbacks.is_empty());
    assert!(world.kept.deployments[&id.id.0].phase == Phase::Closed);
    let id = world.announce(0, &[]).unwrap();
    world.sends("v1", traffic(4, 80.0, 0.3));
    world.run(400);
    assert_eq!(world.again(&id).phase, Phase::NotRecovered);
}

/// Scenario: the fault begins six minutes after the time. Guarantees: it is told as `degraded` and is no fail.
#[test]
fn a_fault_after_five_minutes_is_told_and_no_fail() {
    let mut world = World::with_known_v1(longer(), Mode::Act, 60.0, 0.002);
    let id = world.announce(0, &[]).unwrap();
    world.run(360);
    world.sends("v1", traffic(4, 60.0, 0.2));
    world.run(200);
    let d = world.again(&id);
    assert_ne!(d.verdict, Verdict::Fail);
    assert!(d.evidence.has(Flag::Degraded), "{:?} {}", d.evidence.flags, d.explanation);
    assert!(d.explanation.contains("too late to be laid at the door of the change"), "{}", d.explanation);
    assert!(world.kept.rollbacks.is_empty());
}

/// Scenario: times out of range, of unknown services, and one that is named twice. Guarantees: clear refusals; one
/// deployment.
#[test]
fn a_time_must_be_near_and_its_service_known() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    for (from_now_s, said) in [(-61, "60 s is the most"), (86_401, "24 h")] {
        let error = world.announce(from_now_s, &[]).unwrap_err();
        assert!(matches!(&error, CommandError::Invalid(text) if text.contains(said)), "{error}");
    }
    let request = Request { service: "nobody".into(), time: Some(world.now()), ..Request::default() };
    let error = world.engine.start(&request, world.now(), &mut Commit::default()).unwrap_err();
    assert!(error.to_string().contains("nothing to hold a time against"), "{error}");
    let first = world.announce(600, &[]).unwrap();
    assert_eq!(world.announce(600, &[]).unwrap().id, first.id);
    assert_eq!(world.kept.deployments.len(), 1);
}

/// Scenario: the call comes 40 s after the change broke the service, to a service with and without copies of what was
/// remembered. Guarantees: with copies nothing of the fault is remembered; without, the evidence says how many seconds
/// are; what happened before the call is not judged; both fail in the end, for it goes on.
#[test]
fn a_late_call_judges_nothing_that_was_before_it() {
    for kept in [false, true] {
        let mut world = World::with_known_v1(longer(), Mode::Act, 60.0, 0.002);
        if kept {
            // A service with a recent deployment.
            let id = world.announce(0, &[]).unwrap();
            world.run(130);
            world.engine.cancel(&id.id, world.now(), &mut Commit::default()).unwrap();
            world.run(130);
        }
        world.sends("v1", traffic(4, 60.0, 0.1));
        world.run(40);
        let id = world.announce(-40, &[]).unwrap();
        world.run(1);
        let change = world.again(&id).evidence.change.unwrap();
        assert!((25..=41).contains(&change.unjudged_s()), "{change:?}");
        match kept {
            true => assert!(change.late_s() == 0 && change.at - change.remembered_until <= 120, "{change:?}"),
            false => assert_eq!(change.late_s(), change.unjudged_s()),
        }
        let said = world.again(&id).explanation.clone();
        assert!(said.contains("The call came late"), "{said}");
        assert_eq!(said.contains("so a sudden change looks smaller"), !kept, "{said}");
        assert_eq!(world.again(&id).verdict, Verdict::Pending);
        world.run(if kept { 60 } else { 250 });
        assert_eq!(world.again(&id).verdict, Verdict::Fail, "{}", world.again(&id).explanation);
    }
}

/// Scenario: a change in ten minutes; killed before it and again across it. Guarantees: it waits through both; what was
/// remembered at the time is what the fault after it is held against; nothing is judged of the time before.
#[test]
fn a_scheduled_change_survives_restarts() {
    for down_s in [3, 60] {
        let mut world = World::with_known_v1(longer(), Mode::Act, 60.0, 0.002);
        world.run(300);
        let id = world.announce(100, &[]).unwrap();
        world.run(20);
        world.restart(5);
        // Errors before the time are not its own; it only shows what is remembered then.
        world.run(50);
        assert!(world.again(&id).is_waiting());
        let waits = world.again(&id).explanation.clone();
        assert!(waits.starts_with("Waits for ") && waits.contains("shop"), "{waits}");
        world.run(20);
        world.restart(down_s);
        world.sends("v1", traffic(4, 60.0, 0.2));
        world.run(100);
        let d = world.again(&id);
        assert_eq!((d.verdict, world.kept.rollbacks.len()), (Verdict::Fail, 1), "{}", d.explanation);
        assert!(d.evidence.change.unwrap().late_s() <= down_s as i64, "{:?}", d.evidence.change);
    }
    // Killed while it is judged: it goes on against the same memory.
    let mut world = World::with_known_v1(longer(), Mode::Act, 60.0, 0.002);
    let id = world.announce(0, &[]).unwrap();
    world.run(8);
    world.restart(2);
    world.sends("v1", traffic(4, 60.0, 0.1));
    world.run(90);
    assert_eq!(world.again(&id).verdict, Verdict::Fail, "{}", world.again(&id).explanation);
}

/// Scenario: a new version, or another change, comes while a change is judged; the version stops. Guarantees: what is
/// judged is superseded or closed without a verdict; what waits goes on waiting.
#[test]
fn what_comes_after_takes_its_place() {
    let mut world = World::with_known_v1(longer(), Mode::Act, 60.0, 0.002);
    let judged = world.announce(0, &[]).unwrap();
    let waiting = world.announce(3_000, &[]).unwrap();
    world.run(30);
    world.sends("v2", traffic(2, 20.0, 0.002));
    world.run(80);
    assert_eq!(
        (world.again(&judged).phase, world.again(&judged).verdict),
        (Phase::Superseded, Verdict::Pending)
    );
    assert!(world.again(&waiting).is_waiting());
    assert!(world.deployment("v2").is_some_and(|d| d.kind().as_str() == "version" && d.phase.is_judging()));
    // A second change supersedes the first, once its time has come; the version's own deployment goes on.
    let first = world.announce(0, &[]).unwrap();
    let second = world.announce(60, &[]).unwrap();
    world.run(30);
    assert_eq!(world.again(&first).phase, Phase::Evaluating);
    world.run(60);
    assert_eq!(
        (world.again(&first).phase, world.again(&second).phase),
        (Phase::Superseded, Phase::Evaluating)
    );
    assert!(world.deployment("v2").is_some_and(|d| !d.phase.is_over() || d.time.is_some()));
    // Silence is no evidence; the end of the version's series is the end of the change.
    world.stops("v1");
    world.stops("v2");
    world.run(960);
    let d = world.again(&second);
    assert_eq!(d.phase, Phase::Closed, "{:?}", d.history);
    assert!(!matches!(d.verdict, Verdict::Pass | Verdict::Fail), "{:?}", d.history);
}

/// Scenario: a service whose spans carry no version. Guarantees: a time needs none; the fault is found.
#[test]
fn a_service_without_versions_can_be_held_against_itself() {
    let mut world = World::new(longer(), Mode::Observe);
    world.sends("", traffic(4, 60.0, 0.002));
    world.run(200);
    let id = world.announce(10, &[]).unwrap();
    world.run(20);
    world.sends("", traffic(4, 60.0, 0.1));
    world.run(90);
    let d = world.again(&id);
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    assert!(d.explanation.starts_with("shop fails "), "{}", d.explanation);
}
