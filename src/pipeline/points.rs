//! Metric points on their way from the shards to the versions they are of. What a stream is, is looked up once.

use std::collections::HashMap;
use std::sync::Arc;

use super::engine::{Engine, Place, ordinal};
use super::ledger::Disposition;
use super::metered::PointPlace;
use super::passage::Signal;
use super::shards::Drained;
use crate::model::{BoundsId, NANOS_PER_SECOND, Shape, StreamId, StreamMeta, UnixNanos};

/// Seconds between two searches for streams that are silent.
const SWEEP_S: u64 = 60;

/// What is known of streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: HashMap<StreamId, Option<Known>, foldhash::fast::RandomState>,
    /// Bounds in seconds.
    bounds: HashMap<BoundsId, Arc<[f64]>, foldhash::fast::RandomState>,
    next_sweep: u64,
}

#[derive(Debug, Clone)]
struct Known {
    place: Place,
    meta: StreamMeta,
}

impl Streams {
    /// Forgets the streams of places that are over.
    pub(super) fn retain(&mut self, lives: impl Fn(&Place) -> bool) {
        self.places.retain(|_, known| known.as_ref().is_some_and(|known| lives(&known.place)));
    }
}

impl Engine {
    pub(super) fn absorb_points(&mut self, drained: &Drained, now: UnixNanos) {
        for (point, counts) in drained.points() {
            let Some(Known { place, meta }) = self.stream(point.stream, now) else {
                self.parts.ledger.settle(Signal::Metrics, Disposition::Orphaned, 1);
                continue;
            };
            let bounds = match point.shape {
                Shape::Explicit(id) => self.bounds(id),
                Shape::Count | Shape::Exponential { .. } => None,
            };
            let ordinal = ordinal(&mut self.instances, &self.parts.registry, meta.instance);
            let Some(service) = self.services.get_mut(&place.service) else {
                self.parts.ledger.settle(Signal::Metrics, Disposition::Orphaned, 1);
                continue;
            };
            let at = PointPlace { version: place.id, meta: &meta, ordinal, bounds: bounds.as_ref() };
            service.point(&place.version, &at, point, counts, now);
        }
    }

    /// Whose a stream is; looked up once.
    fn stream(&mut self, id: StreamId, now: UnixNanos) -> Option<Known> {
        if let Some(known) = self.streams.places.get(&id) {
            return known.clone();
        }
        let meta = self.parts.registry.stream(id);
        let known = meta.and_then(|meta| Some(Known { place: self.place(meta.series, now)?, meta }));
        self.streams.places.insert(id, known.clone());
        known
    }

    fn bounds(&mut self, id: BoundsId) -> Option<Arc<[f64]>> {
        if let Some(bounds) = self.streams.bounds.get(&id) {
            return Some(Arc::clone(bounds));
        }
        let bounds = self.parts.registry.bounds(id)?;
        self.streams.bounds.insert(id, Arc::clone(&bounds));
        Some(bounds)
    }

    /// Forgets streams that were silent for as long as ends a version: processes that are gone, label values
    /// that do not occur any more.
    pub(super) fn sweep_streams(&mut self, now: UnixNanos) {
        let second = now.0 / NANOS_PER_SECOND;
        if second < self.streams.next_sweep && self.streams.next_sweep - second <= SWEEP_S {
            return;
        }
        self.streams.next_sweep = second + SWEEP_S;
        let before = UnixNanos(now.0.saturating_sub(self.parts.series_ttl_s * NANOS_PER_SECOND));
        let forgotten: Vec<_> = self.services.values_mut().flat_map(|s| s.forget_streams(before)).collect();
        for (version, keys) in forgotten {
            self.parts.registry.retire_streams(version, &keys);
        }
        let registry = &self.parts.registry;
        self.streams.places.retain(|id, _| registry.stream(*id).is_some());
    }
}
