//! The second opinion of other days: a service that gets worse at the same time every day, held against what is
//! remembered of the half hour before. Hours go through the door to the store and back, over a night in which the process
//! is down.

use std::collections::BTreeMap;

use rollguard::deployment::{Mode, Phase};
use rollguard::model::{Source, UnixNanos};
use rollguard::pipeline::Commit;
use rollguard::verdict::{Flag, Policy, Verdict};

use super::dimensions::{Shop, WELL as FINE};
use super::scopes::ILL;
use super::world::{World, quick, traffic};

const DAY_S: u64 = 86_400;
const WELL: f64 = 0.002;

/// As `quick`, and undecided for long enough to see a fail withheld.
fn policy() -> Policy {
    Policy { horizon_s: 900, min_pass_s: 600, ..quick() }
}

/// A service that failed `yesterday` of its requests for seven minutes, which began `ago` days before `lead_s` seconds from
/// now, and is well since.
fn days_after(yesterday: f64, ago: u64, lead_s: u64) -> World {
    let mut world = World::with_known_v1(policy(), Mode::Act, 60.0, WELL);
    // With a recent deployment its hours are kept.
    let id = world.announce(0, &[]).unwrap();
    world.engine.cancel(&id.id, world.now(), &mut Commit::default()).unwrap();
    world.run(600);
    let rise = world.now_s;
    world.sends("v1", traffic(4, 60.0, yesterday));
    world.run(420);
    world.sends("v1", traffic(4, 60.0, WELL));
    world.run(120);
    world.restart(rise + ago * DAY_S - 600 - lead_s - world.now_s);
    world.run(600);
    assert_eq!(world.now_s + lead_s, rise + ago * DAY_S);
    assert!(!world.kept.hours.is_empty(), "yesterday's hours were written");
    world
}

/// Scenario: the same rise of errors as yesterday or a week ago, half a minute after a change; the process is killed in
/// the middle. Guarantees: the fail is withheld, told in history, flag and words, and inconclusive in the end; nothing is
/// rolled back.
#[test]
fn what_was_so_at_this_time_of_day_is_no_fail() {
    for (ago, name, restart) in [(1, "yesterday", false), (7, "a week ago", false), (1, "yesterday", true)] {
        let mut world = days_after(0.08, ago, 30);
        let id = world.announce(0, &[]).unwrap();
        world.run(30);
        world.sends("v1", traffic(4, 60.0, 0.08));
        world.run(90);
        let d = world.again(&id);
        assert_eq!((d.verdict, d.phase), (Verdict::Pending, Phase::Evaluating), "{}", d.explanation);
        assert!(d.evidence.has(Flag::AsOtherDays), "{:?} {:?}", d.evidence.flags, d.evidence.other_days);
        assert!(d.evidence.ln_e_bar >= d.evidence.fail_threshold);
        assert!(d.explanation.contains("That would be a fail"), "{}", d.explanation);
        assert!(
            d.explanation.contains(name) && d.explanation.contains("looked at again"),
            "{}",
            d.explanation
        );
        assert!(
            d.history.iter().any(|line| line.reason.starts_with("A fail is withheld")),
            "{:?}",
            d.history
        );
        if restart {
            world.restart(3);
        }
        world.run(240);
        let d = world.again(&id);
        assert_eq!((d.verdict, d.phase), (Verdict::Inconclusive, Phase::Inconclusive), "{}", d.explanation);
        assert!(d.evidence.has(Flag::AsOtherDays) && world.kept.rollbacks.is_empty());
        assert!(d.explanation.contains("nothing is rolled back"), "{}", d.explanation);
        let other = d.evidence.other_days.clone().unwrap();
        let day = other.days.iter().find(|day| u64::from(day.days_ago) == ago).unwrap();
        assert!(day.errors_alike && day.tally.error_rate().is_some_and(|rate| rate > 0.03), "{other:?}");
    }
}

/// Scenario: a rise of errors after a change where yesterday was well at this time, or worse by far less; and one that
/// begins as yesterday and gets worse. Guarantees: it fails, and no later than without other days; once it is unlike
/// yesterday while it could be the change's doing, it fails too.
#[test]
fn what_was_not_so_fails() {
    let seconds = |yesterday: f64| {
        let mut world = days_after(yesterday, 1, 30);
        let id = world.announce(0, &[]).unwrap();
        world.run(30);
        world.sends("v1", traffic(4, 60.0, 0.2));
        world.run(90);
        let d = world.again(&id);
        assert_eq!(d.verdict, Verdict::Fail, "{yesterday}: {}", d.explanation);
        assert_eq!(world.kept.rollbacks.len(), 1);
        assert!(d.explanation.contains("it did not look like this yesterday"), "{}", d.explanation);
        d.decided_after_seconds.unwrap()
    };
    let (well, less) = (seconds(WELL), seconds(0.06));
    assert!(well < 60.0 && less < 60.0, "{well} {less}");
    let mut world = days_after(0.08, 1, 30);
    let id = world.announce(0, &[]).unwrap();
    world.run(30);
    world.sends("v1", traffic(4, 60.0, 0.08));
    world.run(60);
    assert!(world.again(&id).evidence.has(Flag::AsOtherDays));
    world.sends("v1", traffic(4, 60.0, 0.5));
    world.run(60);
    let d = world.again(&id);
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    assert!(!d.evidence.has(Flag::AsOtherDays), "{:?}", d.evidence.flags);
}

/// Scenario: a new version takes over at once, and errors rise as they did yesterday. Guarantee: it is held against what is
/// remembered, and its fail is withheld; beside a version that serves, the same rise fails.
#[test]
fn a_version_that_took_over_is_looked_at_too() {
    for beside in [false, true] {
        let mut world = days_after(0.08, 1, 180);
        world.sends("v2", traffic(4, 60.0, WELL));
        if !beside {
            world.stops("v1");
        }
        // The old version counts as gone after two minutes at the latest.
        world.run(180);
        world.sends("v2", traffic(4, 60.0, 0.08));
        world.run(240);
        let d = world.deployment("v2").unwrap();
        let flags = &d.evidence.flags;
        if beside {
            assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
            assert_eq!(d.evidence.other_days, None);
        } else {
            assert_ne!(d.verdict, Verdict::Fail, "{} {flags:?} {:?}", d.explanation, d.evidence.other_days);
            assert!(d.evidence.has(Flag::AsOtherDays), "{flags:?} {}", d.explanation);
        }
    }
}

/// Scenario: the process is down for the very minutes yesterday. Guarantee: a gap is no zero and no day: there is no second
/// opinion, and the fail stands without a word of other days.
#[test]
fn a_gap_says_nothing() {
    let mut world = World::with_known_v1(policy(), Mode::Act, 60.0, WELL);
    let id = world.announce(0, &[]).unwrap();
    world.engine.cancel(&id.id, world.now(), &mut Commit::default()).unwrap();
    world.run(120);
    let rise = world.now_s + 3_000;
    world.restart(rise + DAY_S - 200 - world.now_s);
    world.run(170);
    let id = world.announce(0, &[]).unwrap();
    world.run(30);
    assert_eq!(world.now(), UnixNanos::from_secs(rise + DAY_S));
    world.sends("v1", traffic(4, 60.0, 0.2));
    world.run(90);
    let d = world.again(&id);
    assert_eq!((d.verdict, &d.evidence.other_days), (Verdict::Fail, &None), "{}", d.explanation);
    assert!(!d.explanation.contains("yesterday"), "{}", d.explanation);
}

/// Scenario: the same rise as yesterday, of a service that sends request metrics and no spans. Guarantee: its hours are
/// those of the metrics, and the fail is withheld; where yesterday was well it fails.
#[test]
fn hours_are_kept_of_request_metrics_too() {
    for (yesterday, fails) in [([ILL; 3], false), ([FINE; 3], true)] {
        let mut shop = Shop::open(super::dimensions::policy(""));
        shop.meters = Some(BTreeMap::new());
        shop.run(200, [FINE; 3]);
        let id = shop.world.announce(0, &[]).unwrap();
        shop.world.engine.cancel(&id.id, shop.world.now(), &mut Commit::default()).unwrap();
        shop.run(600, [FINE; 3]);
        let rise = shop.world.now_s;
        shop.run(420, yesterday);
        shop.run(120, [FINE; 3]);
        shop.world.restart(rise + DAY_S - 620 - shop.world.now_s);
        shop.run(600, [FINE; 3]);
        let id = shop.world.announce(0, &[]).unwrap();
        shop.run(20, [FINE; 3]);
        shop.run(100, [ILL; 3]);
        let d = shop.world.again(&id);
        assert_eq!(d.evidence.required, Source::Metrics);
        assert_eq!(d.verdict == Verdict::Fail, fails, "{} {:?}", d.explanation, d.evidence.other_days);
        assert_eq!(d.evidence.has(Flag::AsOtherDays), !fails, "{:?}", d.evidence.other_days);
        let day = d.evidence.other_days.as_ref().and_then(|other| other.days.first()).unwrap();
        assert!(day.tally.requests > 1_000, "{day:?}");
    }
}

/// Requests of each minute of the one hour that was written.
fn minutes(world: &World) -> Vec<u32> {
    assert_eq!(world.kept.hours.len(), 1);
    let row = world.kept.hours.values().next().unwrap();
    // A head of eight bytes, then five numbers a minute, requests first.
    let (numbers, _) = row.bytes[8..].as_chunks::<4>();
    numbers.iter().step_by(5).map(|n| u32::from_le_bytes(*n)).collect()
}

/// Scenario: in the middle of an hour the process is upgraded; the new one reads the snapshots, or it does not, or cannot
/// read the hours at first either. Guarantees: what was written of the hour before stays, minute by minute, nothing is
/// counted twice, and the hour goes on.
#[test]
fn an_hour_goes_on_over_an_upgrade() {
    for (reads_snapshots, is_unreadable) in [(true, false), (false, false), (false, true)] {
        let mut world = World::with_known_v1(policy(), Mode::Act, 60.0, WELL);
        let id = world.announce(0, &[]).unwrap();
        world.engine.cancel(&id.id, world.now(), &mut Commit::default()).unwrap();
        world.run(600);
        let minute = (world.now_s % 3_600 / 60) as usize;
        world.upgrade(3, reads_snapshots);
        let before = minutes(&world);
        assert!(before[minute - 5] > 3_000 && before[minute] < 1_800, "{before:?}");
        if is_unreadable {
            world.is_unreadable = true;
            world.run(60);
            world.upgrade(3, false);
            assert_eq!(minutes(&world), before, "what cannot be read is not written over");
            world.is_unreadable = false;
        }
        world.run(600);
        world.kept.take(world.engine.snapshot_all(world.now()));
        let after = minutes(&world);
        let case = format!("snapshots {reads_snapshots}, unreadable {is_unreadable}:\n{before:?}\n{after:?}");
        // What exporters held, and slots that were open.
        assert_eq!(after[..minute - 1], before[..minute - 1], "{case}");
        for i in minute - 1..=minute {
            assert!(after[i] >= before[i] && after[i] <= 3_700, "{case}");
        }
        let later = &after[minute + 2..minute + 9];
        assert!(later.iter().all(|n| (3_400..=3_700).contains(n)), "{case}");
    }
}
