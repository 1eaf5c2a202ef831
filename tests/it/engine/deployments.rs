//! How deployments begin, are judged and end.

use rollguard::deployment::{Deployment, Mode, Origin, Phase, Request};
use rollguard::model::{ServiceKey, VersionKey};
use rollguard::pipeline::{CommandError, Commit, DeploymentLimits, RegistryLimits};
use rollguard::verdict::{Flag, Verdict};

use super::world::{Kept, World, quick, traffic};

fn request(service: &str, version: &str) -> Request {
    Request { service: service.into(), version: version.into(), ..Request::default() }
}

/// Scenario: v2 comes beside v1 and fails 10 % of its requests, in both modes. Guarantees: the deployment begins
/// by itself, goes through its phases in order and fails; mode `act` orders one rollback, `observe` none.
#[test]
fn a_bad_version_is_found_and_rolled_back_once() {
    for (mode, rollbacks) in [(Mode::Act, 1), (Mode::Observe, 0)] {
        let mut world = World::with_known_v1(quick(), mode, 60.0, 0.001);
        world.sends("v2", traffic(2, 20.0, 0.1));
        world.run(90);
        let d = world.deployment("v2").unwrap();
        assert_eq!(
            (d.verdict, d.origin, d.baseline.as_deref()),
            (Verdict::Fail, Origin::Detected, Some("v1"))
        );
        assert!(d.decided_after_seconds.is_some_and(|s| (11.0..60.0).contains(&s)), "{d:?}");
        assert!(d.explanation.contains("v2"), "{}", d.explanation);
        world.run(400);
        assert_eq!(world.kept.rollbacks.len(), rollbacks);
        assert_eq!(world.phases[..3], ["v2 warming", "v2 evaluating", "v2 failed"], "{:?}", world.phases);
        assert_eq!(world.deployment("v2").unwrap().phase, Phase::NotRecovered);
        assert_eq!(world.deployment("v2").unwrap().evidence.exemplars.first().map(String::len), Some(32));
    }
}

/// Scenario: a fresh start; versions appear within the first 120 s. Guarantees: neither is new, also later. With
/// a version known from the store the same candidate starts a deployment at once, whichever is seen first.
#[test]
fn nothing_is_new_after_a_fresh_start_unless_the_store_knows_better() {
    let mut world = World::new(quick(), Mode::Act);
    world.sends("v1", traffic(2, 40.0, 0.0));
    world.run(100);
    world.sends("v2", traffic(2, 40.0, 0.5));
    world.run(120);
    assert!(world.deployment("v2").is_none());
    for first in ["v1", "v2"] {
        let service = ServiceKey { name: "shop".into(), ..ServiceKey::default() };
        let known = vec![VersionKey { service, version: "v1".into() }];
        let kept = Kept { known, ..Kept::default() };
        let mut world = World::with(quick(), Mode::Act, kept, RegistryLimits::default());
        world.sends(first, traffic(2, 40.0, 0.0));
        world.run(8);
        ["v1", "v2"].into_iter().for_each(|version| world.sends(version, traffic(2, 40.0, 0.0)));
        world.run(60);
        let d = world.deployment("v2").unwrap();
        assert_eq!((d.baseline.as_deref(), d.phase), (Some("v1"), Phase::Evaluating), "{first} first");
        assert!(world.deployment("v1").is_none());
    }
}

/// Scenario: a service's very first version; an announced version that never comes; a candidate that falls
/// silent. Guarantees: none of them fails or passes.
#[test]
fn silence_is_no_evidence() {
    let mut world = World::new(quick(), Mode::Act);
    world.run(200);
    world.sends("v1", traffic(2, 40.0, 0.3));
    world.run(300);
    assert!(world.engine.board(world.now()).deployments.is_empty());
    let mut commit = Commit::default();
    world.engine.start(&request("shop", "v9"), world.now(), &mut commit).unwrap();
    world.run(600);
    let d = world.deployment("v9").unwrap();
    assert_eq!((d.phase, d.verdict), (Phase::Warming, Verdict::Pending));
    world.run(3_100);
    assert_eq!(world.deployment("v9").unwrap().phase, Phase::Closed);

    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.0));
    world.run(30);
    world.stops("v2");
    world.run(60);
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Pending);
    assert!(d.evidence.has(Flag::CandidateSilent), "{:?}", d.evidence.flags);
    world.run(900);
    let d = world.deployment("v2").unwrap();
    assert!(!matches!(d.verdict, Verdict::Fail | Verdict::Pass), "{:?}", d.verdict);
    assert_eq!(d.phase, Phase::Closed);
    assert!(world.kept.rollbacks.is_empty());
}

/// Scenario: a good v2 passes, is watched, and turns bad later. Guarantees: pass, watching, then a fail.
#[test]
fn a_late_fault_after_a_pass_is_a_fail() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 100.0, 0.002);
    world.sends("v2", traffic(3, 100.0, 0.002));
    world.run(250);
    let d = world.deployment("v2").unwrap();
    assert_eq!((d.verdict, d.phase), (Verdict::Pass, Phase::Watching), "{}", d.explanation);
    world.run(120);
    assert_eq!(world.deployment("v2").unwrap().verdict, Verdict::Pass);
    world.sends("v2", traffic(3, 100.0, 0.3));
    world.run(120);
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Fail);
    assert_eq!(world.kept.rollbacks.len(), 1);
    // The fail stands on what the watch saw, not on what the pass was made of.
    assert!(d.evidence.ln_e_bar >= d.evidence.fail_threshold, "{:?}", d.evidence);
    let errors = d.evidence.service(rollguard::verdict::Sli::ErrorRate).unwrap();
    assert!(errors.degraded && errors.ratio.unwrap()[1] > 2.0, "{errors:?}\n{}", d.explanation);
}

/// Scenario: a rolling update; v1's traffic ends as v2's begins. Guarantees: a bad v2 fails against what v1
/// showed; a good one never fails, and what it says names the remembered baseline.
#[test]
fn a_rolling_update_is_judged_by_what_is_remembered() {
    for (errors, fails) in [(0.2, true), (0.002, false)] {
        let mut world = World::with_known_v1(quick(), Mode::Act, 80.0, 0.002);
        world.run(200);
        world.sends("v2", traffic(4, 80.0, errors));
        world.run(6);
        world.stops("v1");
        world.run(120);
        let d = world.deployment("v2").unwrap();
        assert_eq!(d.verdict == Verdict::Fail, fails, "{errors}: {}", d.explanation);
        assert!(d.evidence.has(Flag::RememberedBaseline), "{:?}", d.evidence.flags);
        world.run(1_500);
        let d = world.deployment("v2").unwrap();
        assert_eq!(d.verdict == Verdict::Fail, fails, "{errors}: {}", d.explanation);
        // v1's series have ended; v2's are there and it is no deployment of its own.
        assert!(world.version("v1").is_none() && world.version("v2").is_some());
        assert_eq!(world.kept.deployments.len(), 1);
    }
}

/// Scenario: after the fail the traffic moves back, or does not. Guarantees: recovered, or not after 5 minutes.
#[test]
fn a_rollback_that_helped_is_seen() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.3));
    world.run(60);
    assert_eq!(world.deployment("v2").unwrap().phase, Phase::Failed);
    world.stops("v2");
    world.run(40);
    assert_eq!(world.deployment("v2").unwrap().phase, Phase::Recovered);
}

/// Scenario: starts by request: one merges with what began by itself, one is ambiguous, one supersedes, one is
/// cancelled. Guarantees: as the names say; what is over is left alone.
#[test]
fn requests_merge_supersede_and_cancel() {
    let mut world = World::with_known_v1(quick(), Mode::Observe, 60.0, 0.001);
    world.sends_as(("shop", "staging", "v1"), traffic(1, 5.0, 0.0));
    world.sends("v2", traffic(2, 20.0, 0.0));
    world.run(30);
    let begun = world.deployment("v2").unwrap();
    let mut commit = Commit::default();
    let ambiguous = world.engine.start(&request("shop", "v2"), world.now(), &mut commit);
    assert!(matches!(ambiguous, Err(CommandError::Ambiguous(_))), "{ambiguous:?}");
    let named = Request { environment: Some(String::new()), url: Some("u".into()), ..request("shop", "v2") };
    let merged = world.engine.start(&named, world.now(), &mut commit).unwrap();
    assert_eq!((&merged.id, merged.url.as_deref()), (&begun.id, Some("u")));
    let third = Request { version: "v3".into(), ..named };
    let third = world.engine.start(&third, world.now(), &mut commit).unwrap();
    world.run(1);
    assert_eq!(world.deployment("v2").unwrap().phase, Phase::Superseded);
    let cancelled = world.engine.cancel(&third.id, world.now(), &mut commit).unwrap();
    assert_eq!(cancelled.phase, Phase::Cancelled);
    world.run(1);
    let again = world.engine.cancel(&third.id, world.now(), &mut commit);
    assert!(matches!(again, Err(CommandError::Conflict(_))), "{again:?}");
}

/// Scenario: a deployment that began by itself is announced as another kind of release; later ones too, and one
/// more after the verdict. Guarantees: the policy of the kind holds and the comparison begins anew; a deployment
/// keeps the policy it began with; what is decided is not judged again.
#[test]
fn the_kind_of_a_release_chooses_the_policy() {
    let mut world = World::with_known_v1(quick(), Mode::Observe, 60.0, 0.001);
    world.sends("v2", traffic(3, 60.0, 0.001));
    world.run(20);
    let begun = world.deployment("v2").unwrap();
    assert_eq!((begun.release.as_str(), begun.policy.alpha), (Deployment::VERSION, 0.01));
    let kind = |release: &str| Request { release: Some(release.into()), ..request("shop", "v2") };
    let mut commit = Commit::default();
    let merged = world.engine.start(&kind("strict"), world.now(), &mut commit).unwrap();
    assert_eq!((&merged.id, merged.release.as_str(), merged.policy.alpha), (&begun.id, "strict", 0.005));
    world.run(120);
    let passed = world.deployment("v2").unwrap();
    assert_eq!((passed.verdict, passed.policy.alpha), (Verdict::Pass, 0.005), "{}", passed.explanation);
    assert!((passed.evidence.fail_threshold - 200f64.ln()).abs() < 1e-9);
    let late = world.engine.start(&kind("canary"), world.now(), &mut commit);
    assert!(matches!(late, Err(CommandError::Conflict(_))), "{late:?}");
    let same = world.engine.start(&kind("strict"), world.now(), &mut commit).unwrap();
    assert_eq!(same.verdict, Verdict::Pass);
}

/// Scenario: requests name services that nobody knows. Guarantees: their number is bounded, and nothing is left
/// of them once their deployments are over.
#[test]
fn unknown_services_are_bounded_and_forgotten() {
    let mut world = World::new(quick(), Mode::Observe);
    let mut commit = Commit::default();
    let started: Vec<_> = (0..300)
        .map(|n| world.engine.start(&request(&format!("s{n}"), "v1"), world.now(), &mut commit))
        .collect();
    assert_eq!(started.iter().filter(|s| s.is_ok()).count(), 200);
    world.run(1);
    assert_eq!(world.engine.board(world.now()).services.len(), 200);
    world.run(3_602);
    assert_eq!(world.engine.board(world.now()).services.len(), 0);
}

/// Scenario: v3 is found while v2 is being judged. Guarantees: v2 is superseded, v3 is held against v1.
#[test]
fn a_newer_version_takes_the_place_of_the_one_before() {
    let mut world = World::with_known_v1(quick(), Mode::Observe, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.001));
    world.run(40);
    world.stops("v2");
    world.sends("v3", traffic(2, 20.0, 0.001));
    world.run(80);
    assert_eq!(world.deployment("v2").unwrap().phase, Phase::Superseded);
    assert_eq!(world.deployment("v3").unwrap().baseline.as_deref(), Some("v1"));
}

/// Scenario: so little traffic that nothing can be said within the horizon. Guarantees: inconclusive, never a
/// pass; where the evidence grows, it says how many requests more it would take.
#[test]
fn the_horizon_ends_without_a_decision() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 40.0, 0.002);
    world.sends("v2", traffic(2, 1.0, 0.0));
    world.run(340);
    let d = world.deployment("v2").unwrap();
    assert_eq!((d.verdict, d.phase), (Verdict::Inconclusive, Phase::Inconclusive), "{}", d.explanation);
    assert!(d.evidence.requests_needed.is_some_and(|n| (1..1_000_000).contains(&n)), "{:?}", d.evidence);
    assert!(world.kept.rollbacks.is_empty());
}

/// Scenario: one deployment may wait for its verdict and one be watched; three services deploy. Guarantees: what is
/// watched keeps no other from being judged, one that has to wait is refused aloud, and the oldest watch makes room.
#[test]
fn watches_do_not_stand_in_the_way_of_new_deployments() {
    let mut world = World::new(quick(), Mode::Observe);
    world.deployments = DeploymentLimits { deciding: 1, watched: 1 };
    world.restart(0);
    let services = ["cart", "pay", "shop"];
    for service in services {
        world.sends_as((service, "", "v1"), traffic(4, 100.0, 0.001));
    }
    world.run(180);
    for service in &services[1..] {
        world.sends_as((service, "", "v2"), traffic(4, 100.0, 0.001));
        world.run(30);
        let refused = world.engine.start(&request("cart", "v9"), world.now(), &mut Commit::default());
        assert!(matches!(refused, Err(CommandError::Unavailable(_))), "{refused:?}");
        world.run(400);
    }
    let board = world.engine.board(world.now());
    let of = |service: &str| board.deployments.iter().find(|d| d.service.name == service).expect("judged");
    let (first, second) = (of("pay"), of("shop"));
    assert_ne!(second.verdict, Verdict::Pending);
    assert_eq!((first.phase, second.phase.is_judging()), (Phase::Closed, true));
    assert!(
        first.history.iter().any(|line| line.reason.contains("The watch has ended")),
        "{:?}",
        first.history
    );
}
