//! Gauges without a wire: what counts as a start, what is tolerated, what one start may add, and that what cannot be
//! tested says so. How often they fail a healthy version is held by `tests/sim/gauges.rs`.

use super::*;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::model::{Counted, Measure, MeasureKey, Selection};
use crate::verdict::{Change, Memories, OwnKind, OwnSource, Panel};

const HEAP: MeasureKey = MeasureKey(7);

fn sli(weight: f64, is_decrease: bool, slack: f64) -> OwnSli {
    OwnSli {
        name: "heap".into(),
        kind: OwnKind::Gauge,
        source: OwnSource::Metrics,
        measure: Measure { key: HEAP, counted: Counted::Level { value: Selection::default() } },
        test: OwnTest::Gauge { ratio: 1.5, slack, is_decrease },
        weight,
        required: false,
    }
}

fn policy(weight: f64, is_decrease: bool, slack: f64) -> Policy {
    Policy { slis: Arc::new(vec![sli(weight, is_decrease, slack)]), ..Policy::default() }
}

fn observed(age: u8, first: Slot, value: f64) -> Observed {
    Observed { measure: HEAP, age, first, value }
}

/// Ten starts at about 100, a minute apart.
fn memory(age: u8) -> AgeMemory {
    let mut memory = AgeMemory::default();
    (0..10).for_each(|i| memory.add(&"v1".into(), &observed(age, 60 * i, 95.0 + i as f64)));
    memory
}

/// The line of the gauge after the candidate's instances have shown this.
fn line(policy: &Policy, memory: &AgeMemory, shown: &[Observed]) -> SliEvidence {
    let mut judges = GaugeJudges::new(policy);
    for one in shown {
        judges.observe(policy, one, memory, |version, _| version == "v2");
    }
    judges.lines(policy, 1.0).remove(0).1
}

fn starts(age: u8, values: &[f64]) -> Vec<Observed> {
    values.iter().enumerate().map(|(i, value)| observed(age, 10_000 + 60 * i as i64, *value)).collect()
}

#[test]
fn only_what_is_beyond_the_tolerated_is_worse() {
    let more = policy(0.05, false, 0.0);
    let worse = line(&more, &memory(1), &starts(1, &[200.0; 6]));
    assert!(worse.ln_e > 5.0, "{worse:?}");
    assert_eq!((worse.requests, worse.bad), ([6, 10], [6, 5]));
    // Half as much again is tolerated, and slack beyond it; less is never worse.
    for (policy, value) in [(&more, 140.0), (&policy(0.05, false, 60.0), 200.0), (&more, 1.0)] {
        assert!(line(policy, &memory(1), &starts(1, &[value; 6])).ln_e < 0.5, "{value}");
    }
    let fewer = policy(0.05, true, 0.0);
    assert!(line(&fewer, &memory(1), &starts(1, &[50.0; 6])).ln_e > 5.0);
    for (policy, value) in [(&fewer, 72.0), (&fewer, 500.0), (&policy(0.05, true, 40.0), 50.0)] {
        assert!(line(policy, &memory(1), &starts(1, &[value; 6])).ln_e < 0.5, "{value}");
    }
    // Below zero what is tolerated is still on the better side.
    let question = Question::of(&more.slis[0], &more).unwrap();
    assert!(
        [-3.0, -1.0, 0.0, 1.0, 3.0].windows(2).all(|v| question.tolerated(v[0]) < question.tolerated(v[1]))
    );
    assert!([-3.0, 0.0, 3.0].iter().all(|v| question.tolerated(*v) <= *v));
}

/// Guarantee: instances that start together are one start, on either side, so a cause that they share is no proof.
#[test]
fn instances_that_start_together_are_one() {
    let policy = policy(0.05, false, 0.0);
    let together: Vec<Observed> = (0..50).map(|i| observed(1, 10_000 + i % 30, 900.0)).collect();
    let found = line(&policy, &memory(1), &together);
    let age = &found.own.as_ref().unwrap().ages[1];
    assert_eq!((age.instances, age.starts), ([50, 10], [1, 10]));
    assert!(found.ln_e <= CAP * policy.fail_threshold(), "{found:?}");
    // Earlier ones too: fifty instances of one rollout are one value, though enough to test.
    let mut memory = AgeMemory::default();
    (0..50).for_each(|i| memory.add(&"v1".into(), &observed(1, 500 + i % 30, 100.0)));
    let found = line(&policy, &memory, &starts(1, &[900.0; 3]));
    let age = &found.own.as_ref().unwrap().ages[1];
    assert_eq!((age.instances, age.starts, age.is_testable), ([3, 50], [3, 1], true));
    assert!(found.ln_e < 1.4, "one of four orders has three on top: {found:?}");
}

/// Guarantee: two starts never fail a version, however bad they are and at however many ages, whatever the weight.
#[test]
fn two_starts_never_fail_a_version() {
    let policy = policy(1.0, false, 0.0);
    let mut memory = AgeMemory::default();
    for age in 0..AGES as u8 {
        (0..64).for_each(|i| memory.add(&"v1".into(), &observed(age, 60 * i, 100.0)));
    }
    let mut panel = Panel::new(policy.clone(), &Memories::default());
    for (start, fails) in [false, false, true].into_iter().enumerate() {
        for age in 0..AGES as u8 {
            let one = observed(age, 10_000 + 60 * start as i64, 1e6);
            panel.observe(&one, &memory, |version, _| version == "v2");
        }
        assert_eq!(panel.ln_e_bar() >= policy.fail_threshold(), fails, "{start}: {}", panel.ln_e_bar());
    }
}

#[test]
fn fewer_than_three_instances_are_not_enough() {
    let policy = policy(0.05, false, 0.0);
    let mut memory = AgeMemory::default();
    for first in [0, 60] {
        memory.add(&"v1".into(), &observed(1, first, 100.0));
    }
    // What the candidate itself showed is no earlier start.
    (0..9).for_each(|i| memory.add(&"v2".into(), &observed(1, 9_000 + 60 * i, 100.0)));
    let shown = starts(1, &[900.0; 5]);
    let found = line(&policy, &memory, &shown);
    assert_eq!((found.ln_e, found.grain, found.requests), (0.0, Grain::NotTestable, [0, 0]));
    // One more, and what came before it counts as well.
    let mut judges = GaugeJudges::new(&policy);
    for (i, one) in shown.iter().enumerate() {
        if i == 4 {
            memory.add(&"v1".into(), &observed(1, 120, 100.0));
        }
        judges.observe(&policy, one, &memory, |version, _| version == "v2");
    }
    let age = judges.lines(&policy, 1.0).remove(0).1.own.unwrap().ages[1].clone();
    assert_eq!((age.instances, age.starts), ([5, 3], [5, 3]));
    assert!(age.ln_e > 2.0, "{age:?}");
}

/// Guarantees: ages are averaged, so that what shows at one of them counts a fifth; what is bad is forgotten.
#[test]
fn ages_are_averaged_and_memory_is_bounded() {
    let policy = policy(0.05, false, 0.0);
    let one = line(&policy, &memory(1), &starts(1, &[900.0; 6]));
    let at_age = one.own.as_ref().unwrap().ages[1].ln_e;
    assert!((one.ln_e - ((at_age.exp() + 4.0) / 5.0).ln()).abs() < 1e-9);
    let mut memory = AgeMemory::default();
    (0..1_000).for_each(|i| memory.add(&"v1".into(), &observed(0, 60 * i, i as f64)));
    let (values, instances) = memory.others(0, |_, _| false);
    assert_eq!((values.len(), instances, values[0]), (KEPT, KEPT as u32, (1_000 - KEPT) as f64));
    memory.add(&"v2".into(), &observed(0, 70_000, 5.0));
    memory.forget("v2", 70_001);
    assert_eq!(memory.others(0, |_, _| false).0.len(), KEPT, "it started before");
    memory.forget("v2", 70_000);
    assert_eq!(memory.others(0, |_, _| false).0.len(), KEPT - 1);
}

/// Guarantees: before and after a change a gauge is shown and decides nothing; after a verdict nothing is added.
#[test]
fn a_change_and_a_watch_are_not_decided_by_gauges() {
    let policy = policy(1.0, false, 0.0);
    let mut change = Panel::after(Change::new(9_000, 60), policy.clone(), &Memories::default());
    let mut watched = Panel::new(policy, &Memories::default());
    watched.watch();
    let before = watched.clone();
    for one in starts(1, &[900.0; 9]) {
        change.observe(&one, &memory(1), |_, first| first >= 9_000);
        watched.observe(&one, &memory(1), |version, _| version == "v2");
    }
    assert!(change.ln_e_bar().abs() < 1e-12);
    assert_eq!(watched, before);
}

#[test]
fn it_survives_a_restart() {
    let policy = policy(0.05, false, 0.0);
    let mut panel = Panel::new(policy, &Memories::default());
    let memory = memory(1);
    for one in starts(1, &[900.0; 4]) {
        panel.observe(&one, &memory, |version, _| version == "v2");
    }
    let mut out = Writer::default();
    panel.save(&mut out);
    memory.save(&mut out);
    let bytes = out.into_bytes();
    let mut from = Reader::new(&bytes);
    assert_eq!(Panel::load(&mut from).unwrap(), panel);
    assert_eq!(AgeMemory::load(&mut from).unwrap(), memory);
    assert!(from.is_empty());
}
