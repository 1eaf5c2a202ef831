//! While an exporter without room refuses telemetry for all, nothing is concluded from what does not come.

use rollguard::deployment::{Mode, Phase};
use rollguard::pipeline::{Admission, DataType};
use rollguard::verdict::Verdict;

use super::front::policy;
use super::logs::{error, log};
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

/// Scenario: the logs of a new version are refused while those of the old one come; it logs four times as many errors
/// per request, or as many. Guarantees: that few are heard is no sign of few, in the SLI as in the report beside it;
/// once its logs come, the version gets the verdict it deserves.
#[test]
fn error_logs_that_were_refused_are_not_few() {
    for (errors, verdict) in [(8, Verdict::Fail), (2, Verdict::Pass)] {
        let slis = "      error_logs: {kind: log_errors, required: true, weight: 0.3}\n";
        let mut world = World::with_known_v1(policy(slis), Mode::Act, 60.0, 0.001);
        let second = |world: &mut World, refused: bool| {
            world.run(1);
            log(world, "v1", vec![error(world, Vec::new()); 2]);
            if refused {
                world.intake.blinded(DataType::Logs, &"otlp_grpc/full".into(), world.now());
            } else {
                log(world, "v2", vec![error(world, Vec::new()); errors]);
            }
        };
        (0..60).for_each(|_| second(&mut world, true));
        world.sends("v2", traffic(4, 60.0, 0.001));
        (0..200).for_each(|_| second(&mut world, true));
        let waiting = world.deployment("v2").unwrap();
        assert_eq!(waiting.verdict, Verdict::Pending, "{errors}: {}", waiting.explanation);
        let own = waiting.evidence.slis.iter().find(|sli| sli.name() == "error_logs").unwrap();
        assert_eq!((own.requests, own.bad, own.ln_e, own.ln_e_pass), ([0, 0], [0, 0], 0.0, Some(0.0)));
        assert_eq!(waiting.evidence.logs, None, "nothing is said of them");
        assert_eq!(blinded_by(&world), None, "requests are seen");
        for _ in 0..300 {
            second(&mut world, false);
            if world.deployment("v2").unwrap().verdict != Verdict::Pending {
                break;
            }
        }
        let decided = world.deployment("v2").unwrap();
        assert_eq!(decided.verdict, verdict, "{errors}: {}", decided.explanation);
        let logs = decided.evidence.logs.as_deref().unwrap();
        let ratio = logs.ratio.unwrap()[0];
        assert!((ratio / (errors as f64 / 2.0) - 1.0).abs() < 0.1, "{errors}: {logs:?}");
    }
}
