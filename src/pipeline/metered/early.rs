//! Points that came before the service's export interval was known. A slot is as long as that interval, which
//! only a second export tells; what the first one adds waits here for it, so that no request of a service that
//! is new to us goes uncounted.

use std::sync::Arc;

use crate::model::{NANOS_PER_SECOND, PointObservation, StreamMeta, UnixNanos, VersionId};
use crate::verdict::LONGEST_SLOT_S;
use crate::window::Delta;

use super::PointPlace;

/// Points of one version that wait; about 300 bytes each. More are no more than a base.
const POINTS: usize = 2_000;

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
pub(super) struct Early(Vec<EarlyPoint>);

impl Early {
    /// Keeps a point; `false` where there is no room.
    pub(super) fn keep(
        &mut self,
        place: &PointPlace<'_>,
        point: &PointObservation,
        delta: &Delta,
        counts: &[u64],
    ) -> bool {
        if self.0.len() >= POINTS {
            return false;
        }
        self.0.push(EarlyPoint {
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
        std::mem::take(&mut self.0)
    }

    /// Forgets those whose interval is longer than any that is learned; their number.
    pub(super) fn give_up(&mut self, now: UnixNanos) -> u64 {
        let before = self.0.len();
        self.0.retain(|point| now.since(point.arrival) <= LONGEST_SLOT_S.unsigned_abs() * NANOS_PER_SECOND);
        (before - self.0.len()) as u64
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }
}
