//! Points that came before the service's export interval was known. A slot is as long as that interval, which
//! only a second export tells; what the first one adds waits here for it, so that no request of a service that
//! is new to us goes uncounted.

use std::sync::Arc;

use crate::model::{NANOS_PER_SECOND, PointObservation, StreamMeta, UnixNanos, VersionId};
use crate::verdict::LONGEST_SLOT_S;
use crate::window::Delta;

use super::PointPlace;

/// Bytes that the points of one version take while they wait: about 3,400 of explicit buckets as the conventions
/// advise them, 64 of the largest. More are no more than a base.
const BYTES: usize = 1 << 20;

/// What one point adds, kept.
#[derive(Debug)]
pub(super) struct EarlyPoint {
    version: VersionId,
    meta: StreamMeta,
    ordinal: Option<u32>,
    bounds: Option<Arc<[f64]>>,
    pub(super) delta: Delta,
    pub(super) counts: Box<[u64]>,
    pub(super) arrival: UnixNanos,
}

impl EarlyPoint {
    pub(super) fn place(&self) -> PointPlace<'_> {
        PointPlace {
            version: self.version,
            meta: &self.meta,
            ordinal: self.ordinal,
            bounds: self.bounds.as_ref(),
        }
    }
}

/// The early points of one version, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Early {
    points: Vec<EarlyPoint>,
    bytes: usize,
}

impl Early {
    /// Keeps a point; `false` where there is no room.
    pub(super) fn keep(
        &mut self,
        place: &PointPlace<'_>,
        point: &PointObservation,
        delta: &Delta,
        counts: &[u64],
    ) -> bool {
        let bytes = bytes(counts);
        if self.bytes + bytes > BYTES {
            return false;
        }
        self.bytes += bytes;
        self.points.push(EarlyPoint {
            version: place.version,
            meta: *place.meta,
            ordinal: place.ordinal,
            bounds: place.bounds.cloned(),
            delta: *delta,
            counts: counts.into(),
            arrival: point.arrival,
        });
        true
    }

    /// All of them; none is left.
    pub(super) fn take(&mut self) -> Vec<EarlyPoint> {
        std::mem::take(self).points
    }

    /// Forgets those whose interval is longer than any that is learned; their number.
    pub(super) fn give_up(&mut self, now: UnixNanos) -> u64 {
        let before = self.points.len();
        let longest = LONGEST_SLOT_S.unsigned_abs() * NANOS_PER_SECOND;
        self.points.retain(|point| now.since(point.arrival) <= longest);
        self.bytes = self.points.iter().map(|point| bytes(&point.counts)).sum();
        (before - self.points.len()) as u64
    }

    pub(super) fn len(&self) -> u64 {
        self.points.len() as u64
    }
}

/// What a point takes.
const fn bytes(counts: &[u64]) -> usize {
    size_of::<EarlyPoint>() + size_of_val(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        DurationUnit, Family, InstanceId, Outcome, SeriesId, Shape, StatusSource, StreamId, Temporality,
    };

    #[test]
    fn points_wait_within_bounds_of_memory_whatever_their_size() {
        let meta = StreamMeta {
            key: 1,
            series: SeriesId(1),
            instance: InstanceId(1),
            family: Family::Http,
            temporality: Temporality::Cumulative,
            unit: DurationUnit::Seconds,
            outcome: Outcome::Good,
            status: StatusSource::Code,
            marks: 0,
        };
        let second = UnixNanos::from_secs;
        let place = PointPlace { version: VersionId(1), meta: &meta, ordinal: None, bounds: None };
        for (buckets, expected) in [(15, 3_000..5_000), (2_048, 60..64)] {
            let mut early = Early::default();
            let keep = |early: &mut Early, arrival| {
                let (start, end) = (second(1), second(2));
                let point = PointObservation {
                    stream: StreamId(1),
                    start,
                    time: end,
                    arrival,
                    count: 1,
                    shape: Shape::Count,
                    counts_at: 0,
                    counts_len: 0,
                };
                let delta =
                    Delta { start, end, count: 1, shape: Shape::Count, overlaps: false, since_last: None };
                early.keep(&place, &point, &delta, &vec![0; buckets])
            };
            let kept = (0..10_000).take_while(|n| keep(&mut early, second(100 + n % 2))).count();
            assert!(expected.contains(&kept), "{kept} of {buckets} buckets");
            let longest = LONGEST_SLOT_S.unsigned_abs();
            assert_eq!(early.give_up(second(101 + longest)), kept.div_ceil(2) as u64);
            assert!(keep(&mut early, second(102)), "there is room again");
            assert_eq!((early.len(), early.take().len()), (kept as u64 / 2 + 1, kept / 2 + 1));
            assert_eq!((early.len(), early.bytes), (0, 0));
        }
    }
}
