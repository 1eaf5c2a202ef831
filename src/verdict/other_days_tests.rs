//! The second opinion: which levels are like another day's, what is set aside, and what a fail must still stand on.

use super::*;
use crate::verdict::{Arm, Cell, CohortEvidence, Counts, RegionEvidence};

/// Half past ten, a while ago.
const T: Slot = 472_240 * HOUR_S + 1_800;
const MARKS: Marks = [0, 40, 80];

/// Requests of a second: all, failed, and how many lie above each mark but not the next.
fn cells(requests: u64, bad: u64, slow: [u64; 3]) -> Cells {
    let fast = requests - slow.iter().sum::<u64>();
    let latency = [(-20, fast), (20, slow[0]), (60, slow[1]), (100, slow[2])];
    let latency = latency.into_iter().filter(|(_, n)| *n > 0).map(|(b, n)| (b, n as u32)).collect();
    let counts = Counts { requests, bad, client_errors: 0, latency };
    [("GET /".into(), Cell { groups: [counts, Counts::default()], bounds: None })].into()
}

/// Failed of 1,000 requests, and slow ones.
type Law = (u64, [u64; 3]);
const WELL: Law = (1, [200, 40, 10]);

/// What is remembered of half an hour.
fn memory() -> Memory {
    let mut memory = Memory::default();
    for t in T - 1_800..T {
        let warm = cells(1_000, WELL.0, WELL.1);
        memory.begin(t, true);
        memory.end(t, &warm, &Arm { warm: warm.clone(), ..Arm::default() });
    }
    memory
}

/// Hours in which a law holds from `rise` on and half an hour longer, and the usual one before and after.
fn hours(days_ago: i64, rise: i64, law: Law, marks: Marks) -> Vec<Hour> {
    let mut all = Hours::default();
    all.adopt(Vec::new(), 0);
    let mut read = Vec::new();
    let from = (T - days_ago * DAY_S).div_euclid(HOUR_S) * HOUR_S;
    for begin in [from - HOUR_S, from, from + HOUR_S] {
        all.begin(begin, Some(marks));
        for t in begin..begin + HOUR_S {
            let at = t + days_ago * DAY_S - T - rise;
            let (bad, slow) = if (0..1_800).contains(&at) { law } else { WELL };
            all.add(t, &cells(1_000, bad, slow));
        }
        read.extend(all.due(begin + HOUR_S + 600));
    }
    read
}

/// Three minutes since the change under a law.
fn since(law: Law) -> Since {
    let mut before = Hours::default();
    before.adopt(Vec::new(), 0);
    before.begin(T - 1_800, Some(MARKS));
    (T - 1_800..T).for_each(|t| before.add(t, &cells(1_000, WELL.0, WELL.1)));
    let mut since = Since::new(T, T, Some(&before));
    (T..T + 180).for_each(|t| since.add(t, 1, &cells(1_000, law.0, law.1)));
    since
}

#[test]
fn a_level_is_like_another_day_or_not() {
    let memory = memory();
    let (failing, slow) = ((20, WELL.1), (WELL.0, [400, 120, 40]));
    for (name, now, then, rise, marks, expected) in [
        ("the same rise of errors", failing, failing, 0, MARKS, [true, false]),
        ("a few minutes earlier", failing, failing, -420, MARKS, [true, false]),
        ("a few minutes later", failing, failing, 420, MARKS, [true, false]),
        ("half an hour later", failing, failing, 1_500, MARKS, [false, false]),
        ("a day without", failing, WELL, 0, MARKS, [false, false]),
        ("a smaller rise", failing, (12, WELL.1), 0, MARKS, [false, false]),
        ("a larger rise", failing, (60, WELL.1), 0, MARKS, [true, false]),
        ("the same rise of latency", slow, slow, 0, MARKS, [false, true]),
        ("by other marks", slow, slow, 0, [1, 41, 81], [false, false]),
        ("slower than then", slow, (WELL.0, [400, 120, 20]), 0, MARKS, [false, false]),
        // What did not rise in the whole cannot be what recurs, however bad another day was.
        ("nothing rose", WELL, (20, [400, 120, 40]), 0, MARKS, [false, false]),
        ("a service that is down", (600, WELL.1), (600, WELL.1), 0, MARKS, [false, false]),
        ("all beyond the highest mark", (1, [0, 0, 1_000]), (1, [0, 0, 1_000]), 0, MARKS, [false, false]),
        ("both", (20, [400, 120, 40]), (20, [400, 120, 40]), 0, MARKS, [true, true]),
    ] {
        let found = since(now).look(&memory, &hours(1, rise, then, marks)).expect(name);
        let [day] = found.days[..] else { panic!("{name}: {found:?}") };
        assert_eq!([day.errors_alike, day.latency_alike], expected, "{name}: {found:?}");
        assert_eq!(day.days_ago, 1);
    }
    // Either day will do; a day of which nothing is known is none.
    let both = [hours(7, 0, failing, MARKS), hours(1, 0, WELL, MARKS)].concat();
    let found = since(failing).look(&memory, &both).unwrap();
    assert_eq!(
        found.days.iter().map(|d| (d.days_ago, d.errors_alike)).collect::<Vec<_>>(),
        [(1, false), (7, true)]
    );
    assert_eq!(since(failing).look(&memory, &[]), None);
    assert_eq!(since(failing).look(&memory, &hours(3, 0, failing, MARKS)), None);
    let wanted = since(failing).wanted();
    assert!(hours(7, 0, WELL, MARKS)[1..].iter().all(|hour| wanted.contains(&hour.number())), "{wanted:?}");
    assert!(wanted.len() <= 6, "{wanted:?}");
}

/// A window of few requests, or of few failed ones, hides nothing.
#[test]
fn what_a_few_requests_showed_is_no_other_day() {
    let memory = memory();
    for (of_second, bad, expected) in [(1, 0, false), (20, 1, false), (600, 12, true)] {
        let mut all = Hours::default();
        all.adopt(Vec::new(), 0);
        let from = (T - DAY_S).div_euclid(HOUR_S) * HOUR_S;
        all.begin(from, Some(MARKS));
        (from..from + HOUR_S).for_each(|t| all.add(t, &cells(of_second, bad.min(of_second), [0; 3])));
        let read = all.due(from + HOUR_S + 600);
        let found = since((20, WELL.1)).look(&memory, &read);
        let alike = found.is_some_and(|found| found.days.iter().any(|day| day.errors_alike));
        assert_eq!(alike, expected, "{bad} of {of_second} a second");
    }
}

/// What a version did that failed is left out, from its first request on.
#[test]
fn what_failed_is_left_out() {
    let mut all = Hours::default();
    all.adopt(Vec::new(), 0);
    all.begin(T, Some(MARKS));
    (T..T + 600).for_each(|t| all.add(t, &cells(10, 1, [0; 3])));
    all.leave_out(T + 290);
    let (left, _) = all.sum(T, T + 600);
    assert_eq!(left.requests, 10 * 240, "whole blocks");
}

fn line(sli: Sli, weight: f64, ln_e: f64) -> SliEvidence {
    SliEvidence { sli, weight, ln_e, ..SliEvidence::default() }
}

#[test]
fn a_fail_has_to_stand_on_the_rest() {
    let day = OtherDay { days_ago: 1, errors_alike: true, ..OtherDay::default() };
    let errors = OtherDays { days: vec![day], ..OtherDays::default() };
    let latency = OtherDays {
        days: vec![OtherDay { errors_alike: false, latency_alike: true, ..day }],
        ..OtherDays::default()
    };
    let regions =
        |action| Some(RegionEvidence { attribute: "region".into(), action, ..RegionEvidence::default() });
    let cohort = |sli| CohortEvidence {
        attribute: "region".into(),
        ln_e: 9.0,
        threshold: 8.0,
        sli: Some(line(sli, 1.0, 9.0)),
        ..CohortEvidence::default()
    };
    let of =
        |slis: &[SliEvidence]| Evidence { slis: slis.to_vec(), fail_threshold: 4.6, ..Evidence::default() };
    let by_errors = of(&[line(Sli::ErrorRate, 0.4, 9.0), line(Sli::LatencyP95, 0.4, 1.0)]);
    let by_both = of(&[line(Sli::Guard, 0.4, 9.0), line(Sli::LatencyP95, 0.4, 9.0)]);
    let by_own = of(&[line(Sli::Own(0), 0.1, 9.0), line(Sli::Absolute, 0.4, 9.0)]);
    let by_little = of(&[line(Sli::ErrorRate, 0.5, 9.0), line(Sli::LatencyP50, 0.5, 5.0)]);
    let by_region =
        |action, sli| Evidence { regions: regions(action), cohorts: vec![cohort(sli)], ..by_errors.clone() };
    for (name, other, evidence, withheld) in [
        ("errors alone", &errors, &by_errors, true),
        ("latency is alike, errors decide", &latency, &by_errors, false),
        ("the rest decides too", &errors, &by_both, false),
        ("an SLI of its own", &errors, &by_own, false),
        ("the rest is near", &errors, &by_little, true),
        ("a region, of the same", &errors, &by_region(RegionAction::Fail, Sli::ErrorRate), true),
        ("a region, of another", &errors, &by_region(RegionAction::Fail, Sli::LatencyP95), false),
        ("a region that decides nothing", &errors, &by_region(RegionAction::Report, Sli::LatencyP95), true),
        ("no day is alike", &OtherDays::default(), &by_errors, false),
    ] {
        assert_eq!(other.withholds(evidence), withheld, "{name}");
    }
}
