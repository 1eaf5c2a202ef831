//! Streams by rule, and as a property: whatever a sender's history of exports, resets and repetitions, the
//! differences add up to the truth.

use proptest::prelude::*;

use super::*;

const BEGAN: UnixNanos = UnixNanos(1_000);

fn point(start: u64, time: u64, counts: &[u64]) -> Point<'_> {
    Point {
        start: UnixNanos(start),
        time: UnixNanos(time),
        count: counts.iter().sum(),
        shape: Shape::Explicit(BoundsId(7)),
        counts,
    }
}

/// What a stream says to a point: `start..end counts`, or a word.
fn told(stream: &mut Stream, point: &Point<'_>, temporality: Temporality) -> String {
    let mut out = Vec::new();
    match stream.take(point, temporality, BEGAN, &mut out) {
        Taken::Delta(d) => {
            let mark = if d.overlaps { " overlaps" } else { "" };
            format!("{}..{} {out:?}{mark}", d.start.0, d.end.0)
        }
        other => format!("{other:?}").to_lowercase(),
    }
}

/// A table of points for one stream: start, time, counts, and what it says.
fn check(temporality: Temporality, rows: &[(u64, u64, &[u64], &str)]) {
    let mut stream = Stream::default();
    for (i, (start, time, counts, expected)) in rows.iter().enumerate() {
        assert_eq!(told(&mut stream, &point(*start, *time, counts), temporality), *expected, "row {i}");
    }
}

#[test]
fn m3_deltas_pass_and_repetitions_do_not() {
    check(
        Temporality::Delta,
        &[
            (10, 20, &[1, 2], "10..20 [1, 2]"),
            (20, 30, &[3, 0], "20..30 [3, 0]"),
            (20, 30, &[3, 0], "duplicate"),
            (10, 20, &[1, 2], "duplicate"),
            // A gap is no statement about the time between.
            (50, 60, &[4, 4], "50..60 [4, 4]"),
            // Two writers.
            (55, 65, &[1, 0], "55..65 [1, 0] overlaps"),
            // No start: since the point before.
            (0, 70, &[2, 2], "65..70 [2, 2]"),
            (0, 70, &[2, 2], "duplicate"),
        ],
    );
}

#[test]
fn m4_cumulative_points_become_differences() {
    check(
        Temporality::Cumulative,
        &[
            // Began before we did: a base.
            (500, 1_010, &[5, 5], "base"),
            (500, 1_020, &[6, 8], "1010..1020 [1, 3]"),
            (500, 1_020, &[6, 8], "duplicate"),
            // Sent late, and in the newer one already.
            (500, 1_015, &[5, 7], "duplicate"),
            // A new process: its start is later than when we began, so all of it is new.
            (1_030, 1_040, &[2, 0], "1030..1040 [2, 0]"),
            (1_030, 1_050, &[2, 1], "1040..1050 [0, 1]"),
            // The old one goes on beside it under the same identity: no reset.
            (500, 1_050, &[7, 8], "1020..1050 [1, 0]"),
            // A bucket fell: a reset at a time it does not tell.
            (1_030, 1_060, &[3, 0], "1050..1060 [3, 0]"),
        ],
    );
}

#[test]
fn m4_a_counter_that_does_not_know_its_start_begins_with_a_base() {
    check(Temporality::Cumulative, &[(0, 1_010, &[5], "base"), (0, 1_020, &[7], "1010..1020 [2]")]);
    check(Temporality::Cumulative, &[(1_010, 1_010, &[5], "base"), (1_010, 1_020, &[7], "1010..1020 [2]")]);
}

#[test]
fn m4_changed_bounds_count_nothing_twice() {
    let mut stream = Stream::default();
    told(&mut stream, &point(1_001, 1_010, &[5, 5]), Temporality::Cumulative);
    let other = Point { shape: Shape::Explicit(BoundsId(8)), ..point(1_001, 1_020, &[6, 3, 3]) };
    assert_eq!(told(&mut stream, &other, Temporality::Cumulative), "base");
    let next = Point { shape: Shape::Explicit(BoundsId(8)), ..point(1_001, 1_030, &[6, 4, 3]) };
    assert_eq!(told(&mut stream, &next, Temporality::Cumulative), "1020..1030 [0, 1, 0]");
}

#[test]
fn two_processes_under_one_identity_and_start_are_not_believed() {
    let mut stream = Stream::default();
    let mut last = String::new();
    for i in 0..8 {
        let n = if i % 2 == 0 { 100 + i } else { i };
        last = told(&mut stream, &point(0, 1_010 + i, &[n]), Temporality::Cumulative);
    }
    assert_eq!(last, "contradiction");
}

/// Processes that share an identity, exporting in turn, one request more each time: what was counted of each.
fn crowd(processes: u64, rounds: u64) -> Vec<u64> {
    let (mut stream, mut out, mut time) = (Stream::default(), Vec::new(), 2_000);
    let mut seen = vec![0; processes as usize];
    for round in 1..=rounds {
        for process in 0..processes {
            time += 1;
            let point = point(1_001 + process, time, std::slice::from_ref(&round));
            if let Taken::Delta(d) = stream.take(&point, Temporality::Cumulative, BEGAN, &mut out) {
                seen[process as usize] += d.count;
            }
        }
    }
    seen
}

#[test]
fn m4_of_too_many_processes_none_is_counted_twice() {
    for processes in [1, 8, 9, 31, 32] {
        assert!(crowd(processes, 10).iter().all(|seen| *seen == 10), "{processes}");
    }
    for processes in [33, 40, 100] {
        let seen = crowd(processes, 10);
        assert!(seen.iter().all(|seen| *seen <= 10), "{processes}: {seen:?}");
        assert_eq!(
            seen.iter().filter(|seen| **seen == 10).count(),
            32,
            "{processes}: those that are known go on"
        );
    }
}

#[test]
fn m4_a_counter_that_was_forgotten_is_a_base_when_it_returns() {
    let mut stream = Stream::met_again(UnixNanos(1_010));
    let rows: [(u64, u64, &[u64], &str); 5] = [
        (1_010, 1_030, &[5], "base"),
        (1_010, 1_040, &[6], "1030..1040 [1]"),
        // So may its neighbour have been.
        (1_005, 1_041, &[9], "base"),
        (1_005, 1_051, &[11], "1041..1051 [2]"),
        // What began later is new.
        (1_011, 1_052, &[3], "1011..1052 [3]"),
    ];
    for (start, time, counts, expected) in rows {
        assert_eq!(told(&mut stream, &point(start, time, counts), Temporality::Cumulative), expected);
    }
    assert_eq!(stream.newest_start(), UnixNanos(1_011));
}

#[test]
fn e2_a_falling_scale_is_followed_exactly() {
    let exponential = |scale, offset, counts| Point {
        shape: Shape::Exponential { scale, offset, zero: 1 },
        count: 1 + counts_sum(counts),
        ..point(1_001, 0, counts)
    };
    let mut stream = Stream::default();
    let mut out = Vec::new();
    let first = Point { time: UnixNanos(1_010), ..exponential(5, 8, &[1, 2, 3]) };
    stream.take(&first, Temporality::Cumulative, BEGAN, &mut out);
    let second = Point { time: UnixNanos(1_020), ..exponential(4, 3, &[9, 4, 5]) };
    let taken = stream.take(&second, Temporality::Cumulative, BEGAN, &mut out);
    // 8, 9 -> 4; 10 -> 5 at scale 4.
    assert!(matches!(
        taken,
        Taken::Delta(Delta { count: 12, shape: Shape::Exponential { zero: 0, .. }, .. })
    ));
    assert_eq!(out, [9, 1, 2]);
    let third = Point { time: UnixNanos(1_030), ..exponential(5, 8, &[20]) };
    assert_eq!(stream.take(&third, Temporality::Cumulative, BEGAN, &mut out), Taken::Base);
}

fn counts_sum(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

#[derive(Debug, Clone)]
enum Step {
    Requests(Vec<u64>),
    Restart,
    Resend,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            6 => prop::collection::vec(0..50u64, 3).prop_map(Step::Requests),
            1 => Just(Step::Restart),
            2 => Just(Step::Resend),
        ],
        1..60,
    )
}

proptest! {
    /// A cumulative stream of a service that begins while we watch, with restarts and resends: the
    /// differences are the truth, and so are those that the same traffic gives as deltas.
    #[test]
    fn m4_differences_add_up_to_the_truth(steps in steps()) {
        let (mut cumulative, mut delta) = (Stream::default(), Stream::default());
        let (mut truth, mut seen, mut seen_delta) = ([0; 3], [0; 3], [0; 3]);
        let mut held = vec![0; 3];
        let (mut start, mut time, mut exported) = (2_000, 2_000, 2_000);
        let mut sent: Option<(u64, u64, Vec<u64>)> = None;
        let mut out = Vec::new();
        for step in steps {
            time += 10;
            match step {
                Step::Requests(n) => {
                    for i in 0..3 {
                        truth[i] += n[i];
                        held[i] += n[i];
                    }
                    sent = Some((start, time, held.clone()));
                    let taken = delta.take(&point(exported, time, &n), Temporality::Delta, BEGAN, &mut out);
                    prop_assert!(matches!(taken, Taken::Delta(_)));
                    (0..3).for_each(|i| seen_delta[i] += out[i]);
                    prop_assert!(delta.take(&point(exported, time, &n), Temporality::Delta, BEGAN, &mut out) == Taken::Duplicate);
                    exported = time;
                }
                Step::Restart => {
                    (start, exported) = (time, time);
                    held = vec![0; 3];
                    continue;
                }
                Step::Resend => {}
            }
            if let Some((start, time, counts)) = &sent
                && let Taken::Delta(d) =
                    cumulative.take(&point(*start, *time, counts), Temporality::Cumulative, BEGAN, &mut out)
            {
                prop_assert_eq!(d.count, out.iter().sum::<u64>());
                (0..3).for_each(|i| seen[i] += out[i]);
            }
        }
        prop_assert_eq!(seen, truth);
        prop_assert_eq!(seen_delta, truth);
    }

    #[test]
    fn snapshots_come_back(points in prop::collection::vec((0..3u64, 1..9u64, prop::collection::vec(0..9u64, 2)), 0..20)) {
        let mut stream = Stream::default();
        let mut out = Vec::new();
        for (start, time, counts) in points {
            stream.take(&point(start * 1_000, 3_000 + time, &counts), Temporality::Cumulative, BEGAN, &mut out);
            stream.take(&point(start * 1_000, 3_000 + time, &counts), Temporality::Delta, BEGAN, &mut out);
        }
        let mut bytes = crate::model::snapshot::Writer::default();
        stream.save(&mut bytes);
        let bytes = bytes.into_bytes();
        prop_assert_eq!(Stream::load(&mut Reader::new(&bytes)).unwrap(), stream);
    }
}
