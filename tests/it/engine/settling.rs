//! What earlier releases of a service took to get fast is what the next one is given, also after a restart.

use rollguard::deployment::Mode;
use rollguard::verdict::{Flag, Policy, Verdict};

use super::world::{World, traffic};

fn policy() -> Policy {
    Policy { slo: 0.99, min_pass_s: 120, ..Policy::default() }
}

/// Begins a release that starts slowly and takes half of the traffic.
fn release(world: &mut World, version: &str, errors: f64) {
    world.slow_since.insert(version.into(), world.now_s);
    world.sends(version, traffic(4, 40.0, errors));
}

/// Scenario: a release that starts slowly passes; the process is killed; the next release starts as slowly. Guarantees:
/// the first is judged as ever, the second is held to its latency only after as long as the first took, and says so; a
/// third that fails its requests is found before that, and teaches nothing.
#[test]
fn a_release_waits_as_long_as_the_one_before_it_took() {
    let mut world = World::with_known_v1(policy(), Mode::Act, 40.0, 0.002);
    release(&mut world, "v2", 0.002);
    world.run(400);
    let first = world.deployment("v2").unwrap();
    assert_eq!(first.evidence.settle_s, None);
    assert!(!first.explanation.contains("earlier releases"), "{}", first.explanation);
    world.run(500);
    assert_eq!(world.deployment("v2").unwrap().verdict, Verdict::Pass);
    world.stops("v1");
    world.run(60);
    world.restart(3);
    world.run(60);
    release(&mut world, "v3", 0.002);
    world.run(150);
    let second = world.deployment("v3").unwrap();
    assert_eq!(second.verdict, Verdict::Pending);
    let settle_s = second.evidence.settle_s.unwrap();
    assert!((180..=420).contains(&settle_s), "{settle_s}");
    let said = "after the first request on: earlier releases took that long to get fast.";
    assert!(second.explanation.contains(said), "{}", second.explanation);
    let latency = second.evidence.slis.iter().filter(|e| e.sli.as_str().starts_with("latency"));
    assert!(latency.clone().all(|e| e.ln_e == 0.0), "no evidence from latency yet");
    world.run(750);
    let second = world.deployment("v3").unwrap();
    assert_eq!(second.verdict, Verdict::Pass, "{}", second.explanation);
    assert!(!second.evidence.has(Flag::Degraded));
    world.stops("v2");
    world.run(60);
    release(&mut world, "v4", 0.2);
    world.run(settle_s as u64 - 60);
    let third = world.deployment("v4").unwrap();
    assert_eq!(third.verdict, Verdict::Fail, "{}", third.explanation);
    assert!(third.evidence.settle_s.is_some());
}

/// Scenario: releases of a service that starts slowly take the old version's place within half a minute; the third one is
/// twice as slow for good. Guarantees: the first two pass or end without a fail; the third fails by its latency, held to it
/// only when it was to be fast, though the old version went long before.
#[test]
fn a_slow_release_that_takes_the_place_of_the_old_one_is_found_late_and_not_missed() {
    let mut world = World::with_known_v1(policy(), Mode::Act, 40.0, 0.002);
    let mut old = "v1";
    for version in ["v2", "v3"] {
        release(&mut world, version, 0.002);
        world.run(30);
        world.stops(old);
        world.run(1_900);
        let d = world.deployment(version).unwrap();
        assert!(!matches!(d.verdict, Verdict::Fail | Verdict::Pending), "{}", d.explanation);
        old = version;
    }
    world.slower.insert("v4".into(), 2.0);
    release(&mut world, "v4", 0.002);
    world.run(30);
    world.stops(old);
    world.run(120);
    let d = world.deployment("v4").unwrap();
    let settle_s = d.evidence.settle_s.unwrap();
    assert!(d.verdict == Verdict::Pending && settle_s > 150, "{settle_s} {}", d.explanation);
    world.run(settle_s as u64 + 180);
    let d = world.deployment("v4").unwrap();
    assert_eq!(d.verdict, Verdict::Fail, "{}\n{:#?}", d.explanation, d.evidence.slis);
    assert!(d.explanation.contains("v4 is slower"), "{}", d.explanation);
}
