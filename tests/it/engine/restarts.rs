//! What survives when the process dies, is suspended, or the clock is set.

use rollguard::deployment::{Mode, Phase};
use rollguard::verdict::{Flag, Verdict};

use super::world::{World, quick, traffic};

/// Scenario: killed in mid evaluation of a bad version, back 3 s later. Guarantees: the same deployment goes on
/// and fails at most a few slots later than uninterrupted; one rollback; no warm-up anew; nothing is concluded
/// from our own absence.
#[test]
fn a_restart_changes_nothing_but_the_skipped_slots() {
    let mut decided = Vec::new();
    for restart in [false, true] {
        let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
        world.sends("v2", traffic(2, 20.0, 0.03));
        world.run(32);
        let before = world.deployment("v2").unwrap();
        assert_eq!(before.verdict, Verdict::Pending, "decided too early to test anything");
        if restart {
            world.restart(3);
            world.run(5);
            let after = world.deployment("v2").unwrap();
            assert_eq!((&after.id, after.candidate_first), (&before.id, before.candidate_first));
            assert!(!after.evidence.has(Flag::RememberedBaseline), "{:?}", after.evidence.flags);
        }
        world.run(200);
        let after = world.deployment("v2").unwrap();
        assert_eq!((after.verdict, &after.id), (Verdict::Fail, &before.id), "{}", after.explanation);
        assert_eq!((world.kept.rollbacks.len(), world.kept.deployments.len()), (1, 1));
        decided.push(after.decided_after_seconds.unwrap());
    }
    // The slots lost: 3 s down, 10 s of snapshot age, the lateness of about 6 s, and one block.
    assert!((decided[1] - decided[0]).abs() <= 25.0, "{decided:?}");
}

/// Scenario: killed right after the fail, again and again. Guarantees: never a second rollback.
#[test]
fn a_rollback_is_never_ordered_twice() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.3));
    world.run(60);
    assert_eq!(world.kept.rollbacks.len(), 1);
    for _ in 0..3 {
        world.restart(2);
        world.run(20);
    }
    assert_eq!(world.kept.rollbacks.len(), 1);
    assert_eq!(world.deployment("v2").unwrap().verdict, Verdict::Fail);
    // v2 still serves: a restart does not read as its silence.
    assert_eq!(world.deployment("v2").unwrap().phase, Phase::Failed);
}

/// Scenario: killed while a version that passed is watched. Guarantees: it goes on being watched, passes only
/// once, and a late fault is still found.
#[test]
fn a_watch_goes_on_after_a_restart() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 100.0, 0.002);
    world.sends("v2", traffic(3, 100.0, 0.002));
    while world.deployment("v2").is_none_or(|d| d.verdict == Verdict::Pending) {
        world.run(1);
    }
    world.restart(1);
    world.run(120);
    let d = world.deployment("v2").unwrap();
    assert_eq!((d.verdict, d.phase), (Verdict::Pass, Phase::Watching));
    world.sends("v2", traffic(3, 100.0, 0.3));
    world.run(120);
    assert_eq!(world.deployment("v2").unwrap().verdict, Verdict::Fail);
}

/// Scenario: a restart with known versions; both versions serve on. Guarantees: no version is new only because
/// we are.
#[test]
fn old_versions_are_not_new_after_a_restart() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.restart(40);
    world.run(120);
    assert!(world.kept.deployments.is_empty());
    assert_eq!(world.kept.known.len(), 1, "known once, said once");
}

/// Scenario: the machine sleeps for 20 minutes in mid evaluation, then the clock is set back by an hour.
/// Guarantees: no verdict, no version ends, no panic; afterwards the judgement goes on.
#[test]
fn a_jump_of_the_clock_is_no_evidence() {
    let mut world = World::with_known_v1(quick(), Mode::Act, 60.0, 0.001);
    world.sends("v2", traffic(2, 20.0, 0.001));
    world.run(30);
    world.now_s += 1_200;
    world.run(5);
    let d = world.deployment("v2").unwrap();
    assert!(!matches!(d.verdict, Verdict::Fail | Verdict::Pass), "{:?}", d.verdict);
    assert!(world.version("v1").is_some() && world.version("v2").is_some());
    assert!(!d.evidence.has(Flag::RememberedBaseline), "{:?}", d.evidence.flags);
    world.now_s -= 3_600;
    world.run(30);
    assert!(world.version("v1").is_some());
    assert!(world.kept.rollbacks.is_empty());
}
