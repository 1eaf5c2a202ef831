//! Metric points on their way to the evaluator, their bucket counts in one arena beside them: a point has a
//! dozen counts or none, and nothing is allocated for one.

use crate::model::PointObservation;

/// Points for which a cleared log keeps room.
const KEPT_POINTS: usize = 4_096;
/// Counts for which a cleared log keeps room.
const KEPT_COUNTS: usize = 16 * KEPT_POINTS;

/// One in so many parts of what a list usually holds is forgotten each time that it is emptied.
const FORGOTTEN: usize = 64;

/// Points in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct PointLog {
    points: Vec<PointObservation>,
    counts: Vec<u64>,
    /// How many of both it has held lately.
    usual: [usize; 2],
}

impl PointLog {
    /// Appends a point; its place in the arena is set here.
    pub(super) fn push(&mut self, mut point: PointObservation, counts: &[u64]) {
        (point.counts_at, point.counts_len) = (self.counts.len() as u32, counts.len() as u32);
        self.points.push(point);
        self.counts.extend_from_slice(counts);
    }

    /// Appends all points of another log.
    pub(super) fn extend(&mut self, other: &Self) {
        let shift = self.counts.len() as u32;
        self.counts.extend_from_slice(&other.counts);
        let moved = other
            .points
            .iter()
            .map(|point| PointObservation { counts_at: point.counts_at + shift, ..*point });
        self.points.extend(moved);
    }

    pub(super) fn len(&self) -> usize {
        self.points.len()
    }

    /// Numbers in the arena: a point is 80 bytes, each of these 8.
    pub(super) fn counts_len(&self) -> usize {
        self.counts.len()
    }

    /// Empties it. Room for what it has held lately stays, for as much comes again; room beyond four times that goes.
    /// Less for a moment says nothing: room that is given back and asked for again costs more than what comes into it.
    pub(super) fn clear(&mut self) {
        let [points, counts] = &mut self.usual;
        empty(&mut self.points, points, KEPT_POINTS);
        empty(&mut self.counts, counts, KEPT_COUNTS);
    }

    /// Points with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PointObservation, &[u64])> {
        self.points.iter().map(|point| {
            let from = point.counts_at as usize;
            let counts = self.counts.get(from..from + point.counts_len as usize).unwrap_or_default();
            (point, counts)
        })
    }
}

fn empty<T>(list: &mut Vec<T>, usual: &mut usize, kept: usize) {
    *usual = list.len().max(*usual - usual.div_ceil(FORGOTTEN));
    list.clear();
    if list.capacity() > usual.saturating_mul(4).max(kept) {
        list.shrink_to(usual.saturating_mul(2).max(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Shape, StreamId, UnixNanos};

    #[test]
    fn room_follows_what_has_come_lately() {
        let (mut list, mut usual) = (vec![0; 1_000], 0);
        empty(&mut list, &mut usual, 10);
        assert!(list.is_empty() && list.capacity() >= 1_000);
        for _ in 0..FORGOTTEN {
            list.resize(10, 0);
            empty(&mut list, &mut usual, 10);
        }
        assert!(list.capacity() >= 1_000, "less for a while changes nothing");
        for _ in 0..FORGOTTEN {
            list.resize(100, 0);
            empty(&mut list, &mut usual, 10);
        }
        assert!((200..1_000).contains(&list.capacity()), "{}", list.capacity());
        (0..4 * FORGOTTEN).for_each(|_| empty(&mut list, &mut usual, 10));
        assert!((10..100).contains(&list.capacity()), "{}", list.capacity());
        (0..4 * FORGOTTEN).for_each(|_| empty(&mut list, &mut usual, 10));
        assert_eq!(usual, 0);
    }

    #[test]
    fn counts_stay_with_their_points() {
        let point = |stream| PointObservation {
            stream: StreamId(stream),
            start: UnixNanos(0),
            time: UnixNanos(1),
            arrival: UnixNanos(2),
            count: 3,
            shape: Shape::Count,
            counts_at: 0,
            counts_len: 0,
        };
        let (mut one, mut two) = (PointLog::default(), PointLog::default());
        one.push(point(1), &[1, 2]);
        two.push(point(2), &[]);
        two.push(point(3), &[3]);
        one.extend(&two);
        let all: Vec<(u32, &[u64])> = one.iter().map(|(p, counts)| (p.stream.0, counts)).collect();
        assert_eq!(all, [(1, &[1, 2][..]), (2, &[][..]), (3, &[3][..])]);
        assert_eq!((one.len(), one.counts_len()), (3, 3));
    }
}
