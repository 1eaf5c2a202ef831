//! Intervals by example, and that deltas and cumulative points of the same traffic give equal slots.

use super::*;
use crate::model::{BoundsId, DurationUnit, SeriesId, Temporality};
use crate::window::{Point, Stream, Taken};
use proptest::prelude::*;

const MARGIN: i32 = 4;

fn stream(family: Family, outcome: Outcome) -> StreamMeta {
    StreamMeta {
        key: 1,
        series: SeriesId(3),
        instance: InstanceId(5),
        family,
        temporality: Temporality::Delta,
        unit: DurationUnit::Seconds,
        outcome,
        status: StatusSource::Code,
        marks: 0,
    }
}

fn bounds() -> Arc<[f64]> {
    Arc::from([0.1, 0.5, 1.0])
}

fn explicit<'a>(
    stream: &'a StreamMeta,
    end_s: u64,
    counts: &'a [u64],
    bounds: &'a Arc<[f64]>,
) -> Addition<'a> {
    Addition {
        stream,
        start: UnixNanos::from_secs(end_s - 15),
        end: UnixNanos::from_secs(end_s),
        arrival: UnixNanos::from_secs(end_s + 1),
        count: counts.iter().sum(),
        shape: Shape::Explicit(BoundsId(9)),
        counts,
        bounds: Some(bounds),
    }
}

#[test]
fn families_stand_where_their_numbers_are() {
    assert!(FAMILIES.into_iter().enumerate().all(|(at, family)| family as usize == at));
}

/// Guarantee: points that claim any count at all, again and again, neither wrap nor stop what is counted.
#[test]
fn absurd_counts_do_not_wrap() {
    let (bad, bounds) = (stream(Family::Http, Outcome::Bad), bounds());
    let mut open = OpenIntervals::new(15, 60);
    let huge = [u64::MAX / 4, 0, u64::MAX / 4, 0];
    for _ in 0..9 {
        open.record(&explicit(&bad, 74, &huge, &bounds), Placement::default());
        let lowest = Addition { shape: Shape::Count, counts: &[], ..explicit(&bad, 74, &huge, &bounds) };
        open.record(&lowest, Placement::default());
    }
    let (closed, mut form) = (open.close(60), Form::default());
    closed.admit(&mut form, MARGIN, |_| true);
    let slot = closed.reduce(&form, |_| true).slot;
    let counts = slot.operations[&SeriesId(3)].warm_cell().counts;
    assert_eq!([counts.n, counts.bad, counts.with_status], [COUNT_MAX; 3]);
    assert_eq!((slot.instances[0].n, slot.instances[0].bad), (u32::MAX, u32::MAX));
}

#[test]
fn a_delta_lies_in_the_slot_of_its_end() {
    let (good, bounds) = (stream(Family::Http, Outcome::Good), bounds());
    let mut open = OpenIntervals::new(15, 60);
    for (end, expected) in
        [(74, Placed::Counted), (75, Placed::Counted), (59, Placed::Late), (89, Placed::Counted)]
    {
        assert_eq!(
            open.record(&explicit(&good, end, &[1, 0, 0, 0], &bounds), Placement::default()),
            expected,
            "{end}"
        );
    }
    let early = Addition { arrival: UnixNanos::from_secs(60), ..explicit(&good, 80, &[1, 0, 0, 0], &bounds) };
    assert_eq!(open.record(&early, Placement::default()), Placed::Future);
    assert_eq!(open.waiting(), 3);
    let first = open.close(60).reduce(&Form::Unknown, |_| true);
    assert_eq!((first.points, first.slot.slot, first.slot.total().n), (1, 60, 1));
    assert_eq!(open.record(&explicit(&good, 70, &[1, 0, 0, 0], &bounds), Placement::default()), Placed::Late);
    let skipping = open.close(90);
    assert_eq!((skipping.passed_over, open.waiting()), (2, 0));
}

#[test]
fn only_the_families_that_count_are_in_the_slot() {
    let bounds = bounds();
    let mut open = OpenIntervals::new(15, 0);
    let streams = [
        stream(Family::Http, Outcome::Good),
        stream(Family::HttpLegacy, Outcome::Good),
        stream(Family::Http, Outcome::Bad),
    ];
    for stream in &streams {
        open.record(&explicit(stream, 20, &[1, 2, 3, 4], &bounds), Placement { young: false, group: 1 });
    }
    open.record(&explicit(&streams[0], 20, &[0, 0, 0, 0], &bounds), Placement::default());
    let closed = open.close(15);
    let mut form = Form::default();
    assert!(closed.admit(&mut form, MARGIN, |f| f == Family::Http));
    assert_eq!(closed.requests(Class::Sdk), 30);
    let reduced = closed.reduce(&form, |f| f == Family::Http);
    assert_eq!((reduced.points, reduced.unused), (3, 1));
    let cell = reduced.slot.operations[&SeriesId(3)].warm_cell();
    assert_eq!((cell.counts.n, cell.counts.bad, cell.counts.with_status), (20, 10, 20));
    assert_eq!(cell.latency.iter().collect::<Vec<_>>(), [(0, 2), (1, 4), (2, 6), (3, 8)]);
    let seen = reduced.slot.instances[0];
    assert_eq!((seen.instance, seen.n, seen.bad, seen.young), (InstanceId(5), 20, 10, 0));
}

#[test]
fn e2_e4_exponential_counts_of_any_unit_meet_on_the_grid() {
    let seconds = stream(Family::Http, Outcome::Good);
    let millis = StreamMeta { unit: DurationUnit::Millis, ..seconds };
    let mut open = OpenIntervals::new(15, 0);
    let bounds = bounds();
    // Around 1 s: index -1 at scale 5 in seconds ends at 1 s; in milliseconds 2^(319/32) = 1002 ms does.
    for (stream, offset) in [(&seconds, -1), (&millis, 318)] {
        let addition = Addition {
            shape: Shape::Exponential { scale: 5, offset, zero: 1 },
            count: 4,
            counts: &[3],
            bounds: None,
            ..explicit(stream, 20, &[], &bounds)
        };
        open.record(&addition, Placement::default());
    }
    let closed = open.close(15);
    let mut form = Form::default();
    closed.admit(&mut form, MARGIN, |_| true);
    assert_eq!(form, Form::Grid(5));
    let cell = closed.reduce(&form, |_| true).slot.operations[&SeriesId(3)].warm_cell();
    assert_eq!(cell.latency.iter().collect::<Vec<_>>(), [(-640, 2), (-1, 6)]);
}

/// The slots that a history of exports makes: time and bucket counts, as deltas or as cumulative points.
fn slots_of(history: &[(u64, Vec<u64>)], temporality: Temporality) -> Vec<ClosedSlot> {
    let meta = StreamMeta { temporality, ..stream(Family::Http, Outcome::Good) };
    let (mut one, mut open, bounds) = (Stream::default(), OpenIntervals::new(15, 0), bounds());
    let (mut total, mut last, mut out) = (vec![0; 4], 1_000, Vec::new());
    let mut newest = 0;
    for (gap, added) in history {
        let time = last + gap;
        total.iter_mut().zip(added).for_each(|(sum, n)| *sum += n);
        let (start, counts) = match temporality {
            Temporality::Delta => (last, added),
            Temporality::Cumulative => (1_000, &total),
        };
        let point = Point {
            start: UnixNanos::from_secs(start),
            time: UnixNanos::from_secs(time),
            count: counts.iter().sum(),
            shape: Shape::Explicit(BoundsId(9)),
            counts,
        };
        if let Taken::Delta(delta) = one.take(&point, temporality, UnixNanos(0), &mut out) {
            let addition = Addition {
                start: delta.start,
                end: delta.end,
                arrival: delta.end,
                count: delta.count,
                ..explicit(&meta, time, &out, &bounds)
            };
            open.record(&addition, Placement::default());
        }
        last = time;
        newest = time as Slot - time as Slot % 15;
    }
    let form = Form::Bounds(bounds);
    (66..=newest / 15).map(|i| open.close(i * 15).reduce(&form, |_| true).slot).collect()
}

proptest! {
    /// Delta and cumulative encodings of the same traffic give equal slots.
    #[test]
    fn m3_m4_both_temporalities_give_equal_slots(
        history in prop::collection::vec((1..40u64, prop::collection::vec(0..9u64, 4)), 1..30),
    ) {
        prop_assert_eq!(slots_of(&history, Temporality::Delta), slots_of(&history, Temporality::Cumulative));
    }
}
