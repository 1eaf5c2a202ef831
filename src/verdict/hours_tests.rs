//! Hours: what is counted where, when it is written, that records are read back, and when marks are chosen anew.

use super::*;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::verdict::{Cell, Counts};

const H: i64 = 500_000;

/// Requests of one slot, each of the given bucket.
fn cells(bad: u64, buckets: &[(i16, u32)]) -> Cells {
    let requests = buckets.iter().map(|(_, n)| u64::from(*n)).sum();
    let counts = Counts { requests, bad, client_errors: 0, latency: buckets.iter().copied().collect() };
    [("GET /".into(), Cell { groups: [counts, Counts::default()], bounds: None })].into()
}

fn settled(marks: Option<Marks>) -> Hours {
    let mut hours = Hours::default();
    hours.adopt(Vec::new(), H * HOUR_S);
    hours.begin(H * HOUR_S, marks);
    hours
}

#[test]
fn requests_are_counted_in_their_minute() {
    let mut hours = settled(Some([10, 20, 30]));
    let begin = H * HOUR_S;
    for (t, bad, buckets) in
        [(begin, 1, &[(5, 3), (25, 2)][..]), (begin + 59, 0, &[(31, 1)]), (begin + 60, 2, &[(10, 4)])]
    {
        hours.add(t, &cells(bad, buckets));
    }
    // Of an hour that is not open: left out.
    hours.add(begin - 1, &cells(1, &[(5, 1)]));
    let minute = |i: i64| hours.sum(begin + i * 60, begin + i * 60 + 1).0;
    assert_eq!(minute(0), Tally { requests: 6, bad: 1, slow: [3, 3, 1] });
    assert_eq!(minute(1), Tally { requests: 4, bad: 2, slow: [0, 0, 0] }, "at a mark is not beyond it");
    assert_eq!(minute(2), Tally::default());
    let (all, is_marked) = hours.sum(Slot::MIN, Slot::MAX);
    assert!(all.requests == 10 && is_marked);
}

#[test]
fn an_hour_is_written_once_after_it_settled() {
    let mut hours = settled(None);
    hours.add(H * HOUR_S + 10, &cells(1, &[(5, 3)]));
    assert_eq!(hours.unwritten().count(), 1);
    hours.begin((H + 1) * HOUR_S, None);
    let end = (H + 1) * HOUR_S;
    assert!(hours.due(end + SETTLED_S - 1).is_empty());
    let due = hours.due(end + SETTLED_S);
    assert_eq!((due.len(), due[0].number()), (1, H));
    assert!(hours.due(end + 2 * SETTLED_S).is_empty(), "once");
    // An hour without a request is a gap, and two are open at most.
    hours.begin((H + 5) * HOUR_S, None);
    hours.begin((H + 6) * HOUR_S, None);
    assert!(hours.due((H + 9) * HOUR_S).is_empty());
    assert_eq!(hours.open.len(), OPEN);
}

/// Hours that begin anew in the middle of one of which a part was written, and seconds after one.
#[test]
fn hours_go_on_from_what_was_written() {
    let written = |number: i64| {
        let mut hour = Hour::new(number, Some([10, 20, 30]));
        hour.add(number * HOUR_S + 5, &Tally { requests: 7, bad: 1, slow: [3, 2, 1] });
        hour
    };
    let earlier = [H - 1, H - 9, H].map(written);
    for (second, open) in [(0, vec![H - 1, H]), (SETTLED_S, vec![H])] {
        let (mut hours, now) = (Hours::default(), H * HOUR_S + second);
        hours.adopt(earlier.to_vec(), now);
        let numbers: Vec<i64> = hours.unwritten().map(Hour::number).collect();
        assert_eq!(numbers, open, "{second} s into the hour");
        assert!(!hours.is_new(now), "an hour that was written in part is no new one");
        for t in [H * HOUR_S - 1, H * HOUR_S + 10] {
            hours.add(t, &cells(1, &[(5, 3), (25, 2)]));
        }
        let due = hours.due((H + 1) * HOUR_S + SETTLED_S);
        let tally = |number| {
            let hour = due.iter().find(|hour| hour.number() == number);
            hour.map(|hour| (hour.marks(), hour.sum(Slot::MIN, Slot::MAX)))
        };
        let both = Some((Some([10, 20, 30]), Tally { requests: 12, bad: 2, slow: [5, 4, 1] }));
        assert_eq!(tally(H), both);
        assert_eq!(tally(H - 1), both.filter(|_| second == 0), "it was settled {second} s after its end");
    }
}

#[test]
fn records_and_snapshots_are_read_back() {
    for marks in [None, Some([-40, 20, 300])] {
        let mut hours = settled(marks);
        for t in 0..HOUR_S {
            hours.add(H * HOUR_S + t, &cells(t as u64 % 2, &[(10, 7), (40, t as u32 % 5)]));
        }
        let hour = hours.unwritten().next().unwrap().clone();
        let bytes = hour.to_bytes();
        assert_eq!(bytes.len(), 1_208, "the number of docs/limits.md");
        assert_eq!(Hour::from_bytes(H, &bytes), Some(hour));
        let mut out = Writer::default();
        hours.save(&mut out);
        assert_eq!(Hours::load(&mut Reader::new(&out.into_bytes())), Ok(hours));
        for wrong in [&bytes[..7], &bytes[..1_204], &[bytes.clone(), vec![0]].concat()[..], &[]] {
            assert_eq!(Hour::from_bytes(H, wrong), None, "{} bytes", wrong.len());
        }
        for (place, byte) in [(0, 2), (1, 7)] {
            let mut other = bytes.clone();
            other[place] = byte;
            assert_eq!(Hour::from_bytes(H, &other), None, "byte {place}");
        }
    }
}

#[test]
fn marks_stay_while_they_tell() {
    let (old, new) = ([10, 20, 30], [40, 50, 60]);
    // Share of requests beyond the lowest mark; hours; the marks then.
    for (beyond, number, expected) in
        [(25, 30, old), (1, 30, new), (90, 30, new), (90, 20, old), (3, 60, old)]
    {
        let mut hours = settled(Some(old));
        for i in 0..number {
            hours.add((H + i) * HOUR_S, &cells(0, &[(5, 100 - beyond), (15, beyond)]));
            hours.begin((H + i + 1) * HOUR_S, Some(new));
        }
        assert_eq!(hours.marks(), Some(expected), "{beyond} % for {number} hours");
    }
    // None are chosen before those of earlier hours were asked for, which come first.
    let mut hours = Hours::default();
    assert!(hours.wants_earlier() && !hours.is_new(H * HOUR_S) && hours.marks().is_none());
    hours.adopt(vec![Hour::new(H - 20, Some(old)), Hour::new(H - 26, Some(new))], H * HOUR_S);
    assert!(!hours.wants_earlier() && hours.is_new(H * HOUR_S));
    hours.begin(H * HOUR_S, Some(new));
    assert_eq!(hours.marks(), Some(old));
    // An hour with other marks tells nothing of latency, its errors do.
    let mut hours = settled(Some(old));
    hours.add(H * HOUR_S, &cells(1, &[(25, 4)]));
    let (tally, is_marked) = sum(hours.unwritten(), (Slot::MIN, Slot::MAX), Some(&new));
    assert!(tally.bad == 1 && !is_marked);
}

#[test]
fn marks_are_quantiles_on_the_grid() {
    let bounds: Arc<[f64]> = [0.01, 0.1, 1.0].into();
    let on_grid = [0.01, 0.1, 1.0].map(|s| layout::bucket_of_nanos((s * 1e9) as u64));
    let [a, b, c] = on_grid;
    for (thresholds, explicit, expected) in [
        (None, false, None),
        (Some([Some(1), Some(2), Some(3), Some(4)]), false, Some([2, 3, 4])),
        (Some([Some(0), Some(0), Some(1), Some(2)]), true, Some([a, b, c])),
        (Some([None, None, Some(1), None]), true, Some([b, b, b])),
        (Some([Some(0), None, None, None]), true, None),
    ] {
        let mut memory = Memory::default();
        memory.pooled_thresholds = thresholds;
        memory.pooled_bounds = explicit.then(|| Arc::clone(&bounds));
        assert_eq!(memory.marks(), expected, "{thresholds:?}");
    }
}
