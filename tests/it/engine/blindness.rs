//! While an exporter without room refuses telemetry for all, nothing is concluded from what does not come.

use rollguard::deployment::{Mode, Phase};
use rollguard::verdict::Verdict;

use super::world::{World, quick, traffic};

fn blinded_by(world: &World) -> Option<String> {
    world.engine.board(world.now()).blinded_by.as_deref().map(str::to_owned)
}

/// Scenario: all requests are refused for longer than the horizon and the life of a series, or only those of the
/// old version, while a new one is judged. Guarantees: the verdict waits and says for whom, and nothing ends by
/// the silence; afterwards the version, which is as good or as bad as before, gets the verdict it deserves.
#[test]
fn verdicts_wait_while_telemetry_is_refused() {
    for refused in [&["v1", "v2"][..], &["v1"]] {
        for (errors, verdict) in [(0.001, Verdict::Pass), (0.1, Verdict::Fail)] {
            let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
            world.sends("v2", traffic(2, 60.0, errors));
            world.run(12);
            assert_eq!(world.deployment("v2").unwrap().verdict, Verdict::Pending);
            assert_eq!(blinded_by(&world), None);
            world.refused = refused.iter().map(|version| (*version).to_owned()).collect();
            world.run(150);
            let waiting = world.deployment("v2").unwrap();
            assert_eq!(waiting.verdict, Verdict::Pending, "{refused:?} {errors}: {}", waiting.explanation);
            assert_eq!(blinded_by(&world).as_deref(), Some("otlp_grpc/full"));
            world.refused.clear();
            world.run(140);
            let decided = world.deployment("v2").unwrap();
            assert_eq!(decided.verdict, verdict, "{refused:?} {errors}: {}", decided.explanation);
            assert_eq!(decided.id, waiting.id);
            assert_eq!(blinded_by(&world), None);
        }
    }
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 60.0, 0.001));
    world.run(12);
    world.refused = vec!["v1".into(), "v2".into()];
    world.run(1_200);
    let waiting = world.deployment("v2").unwrap();
    assert_eq!((waiting.verdict, waiting.phase.is_judging()), (Verdict::Pending, true));
    assert!(world.version("v1").is_some(), "its series ended by silence");
}

/// Scenario: a rollback was ordered; then all requests are refused. Guarantees: that the bad version is not heard
/// is not taken for its end, nor the silence for a rollback that did not help; its real end is seen afterwards.
#[test]
fn silence_while_telemetry_is_refused_is_no_recovery() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.3));
    world.run(60);
    assert_eq!(world.deployment("v2").unwrap().phase, Phase::Failed);
    world.refused = vec!["v1".into(), "v2".into()];
    world.run(900);
    assert_eq!(world.deployment("v2").unwrap().phase, Phase::Failed);
    world.refused.clear();
    world.stops("v2");
    world.run(120);
    assert_eq!(world.deployment("v2").unwrap().phase, Phase::Recovered);
}
