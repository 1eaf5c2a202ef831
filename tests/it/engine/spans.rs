//! What becomes of single spans: counted once, late, from the future, without a version.

use std::sync::atomic::Ordering;

use rollguard::deployment::Mode;
use rollguard::model::{ResourceView, UnixNanos, VersionKey};
use rollguard::pipeline::RegistryLimits;

use super::world::{Kept, World, at, post, quick, traffic};

/// Scenario: ten instances flush each 5 s in random phases. Guarantee: less than 0.2 % of the spans are late.
#[test]
fn ten_instances_lose_next_to_nothing() {
    let mut world = World::new(quick(), Mode::Observe);
    world.sends("v1", traffic(10, 100.0, 0.0));
    world.run(900);
    let v1 = world.version("v1").unwrap();
    let all = v1.requests_total + v1.late_total;
    assert!(all > 80_000 && (v1.late_total as f64) < 0.002 * all as f64, "{} of {all}", v1.late_total);
    let service = &world.engine.board(world.now()).services[0];
    assert!((5.0..7.0).contains(&service.lateness_seconds), "{}", service.lateness_seconds);
    assert_eq!(v1.instances, 10);
}

/// Scenario: good spans, late ones, ones from the future, ones that end before they start. Guarantees: each is
/// counted for what it is; nothing is lost and nothing is counted twice.
#[test]
fn every_span_is_accounted_for() {
    let mut world = World::new(quick(), Mode::Observe);
    world.sends("v1", traffic(3, 50.0, 0.01));
    world.run(100);
    let resource = ResourceView { service: b"shop", version: b"v1", ..ResourceView::default() };
    let now = world.now_s;
    let odd = [(at(now - 60), 1, true), (at(now - 61), 1, false), (at(now + 30), 1, true)];
    post(&world.intake, &resource, UnixNanos::from_secs(now), &odd);
    world.evaluate();
    let before = world.version("v1").unwrap();
    assert_eq!((before.late_total, before.future_total), (2, 1));
    world.stops("v1");
    world.run(60);
    let v1 = world.version("v1").unwrap();
    let committed = world.shards.counters().spans.load(Ordering::Relaxed);
    assert_eq!(committed, v1.requests_total + v1.late_total + v1.future_total);
    assert_eq!(world.engine.counters().spans, committed);
    assert_eq!((v1.late_total, v1.future_total), (2, 1));
    assert!(v1.errors_total < v1.requests_total / 20);
}

/// Scenario: spans without a version, and of more versions than the cap allows. Guarantees: both are counted
/// and on the board; neither is judged or judged against.
#[test]
fn what_has_no_version_is_visible_and_never_judged() {
    let limits = RegistryLimits { versions_per_service: 2, ..RegistryLimits::default() };
    let mut world = World::with(quick(), Mode::Act, Kept::default(), limits);
    world.sends("", traffic(2, 30.0, 0.0));
    world.run(200);
    world.sends("v1", traffic(2, 30.0, 0.5));
    world.run(100);
    assert!(world.kept.deployments.is_empty());
    assert!(world.version(VersionKey::UNVERSIONED).unwrap().requests_total > 5_000);
    ["v2", "v3", "v4"].into_iter().for_each(|version| world.sends(version, traffic(1, 10.0, 0.9)));
    world.run(100);
    assert!(world.version(VersionKey::OVERFLOW).unwrap().requests_total > 1_000);
    // One of the three found room under the cap and is judged against v1; the overflow is not.
    let judged: Vec<_> = world.kept.deployments.values().collect();
    assert_eq!(judged.len(), 1, "{:?}", world.phases);
    assert!(judged[0].candidate.starts_with('v') && judged[0].baseline.as_deref() == Some("v1"));
    assert!(world.kept.known.iter().all(|key| key.version.starts_with('v')));
}

/// Scenario: a version ends for longer than the TTL, then comes back. Guarantees: it is off the board and its
/// ids are free; back, it is known and starts no deployment.
#[test]
fn a_dead_version_is_gone_and_may_come_back() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 40.0, 0.0);
    world.sends("v2", traffic(2, 40.0, 0.0));
    world.run(120);
    let (series, versions) = (world.registry.series_count(), world.registry.version_count());
    assert_eq!((series, versions), (4, 2));
    world.stops("v1");
    world.run(920);
    assert!(world.version("v1").is_none());
    assert_eq!((world.registry.series_count(), world.registry.version_count()), (2, 1));
    let before = world.kept.deployments.len();
    world.sends("v1", traffic(2, 40.0, 0.0));
    world.run(60);
    assert!(world.version("v1").is_some_and(|v| v.requests_total > 1_000));
    assert_eq!(world.kept.deployments.len(), before, "{:?}", world.phases);
    world.stops("v1");
    world.stops("v2");
    world.run(1_000);
    assert_eq!(world.registry.series_count(), 0);
    assert!(world.engine.board(world.now()).services.is_empty());
}
