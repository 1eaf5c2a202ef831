//! Metric points on their way from the shards to the versions they are of. What a stream is, is looked up once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::engine::{Engine, Place, ordinal};
use super::ledger::Disposition;
use super::metered::{PointPlace, StreamPlace};
use super::passage::Signal;
use super::registry::Registry;
use super::service::Service;
use super::shards::Drained;
use crate::model::{BoundsId, NANOS_PER_SECOND, Shape, StreamId, StreamMeta, UnixNanos, VersionId};

/// Seconds between two searches for streams that are silent.
const SWEEP_S: u64 = 60;

/// Bounds in seconds, and when a point with them last came.
type BoundsById = HashMap<BoundsId, (Arc<[f64]>, UnixNanos), foldhash::fast::RandomState>;

/// What is known of streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Places,
    bounds: BoundsById,
    next_sweep: u64,
    /// Since when we have heard everything that was sent: silence before it is no silence.
    listening_since: UnixNanos,
}

/// Streams of one page.
const PAGE: usize = 16;

/// Where streams belong, in pages of neighbouring ids. The streams of a sender are met together and get ids one
/// after the other, so its points find them side by side; a table by hash would be a cache miss for each.
#[derive(Debug, Default)]
struct Places {
    pages: HashMap<u32, Box<[Asked; PAGE]>, foldhash::fast::RandomState>,
}

#[derive(Debug, Clone, Default)]
enum Asked {
    #[default]
    Not,
    /// The registry knew nothing of it.
    Unknown,
    Known(Known),
}

impl Places {
    const fn at(id: StreamId) -> (u32, usize) {
        (id.0 / PAGE as u32, id.0 as usize % PAGE)
    }

    fn get(&self, id: StreamId) -> &Asked {
        let (page, at) = Self::at(id);
        self.pages.get(&page).and_then(|page| page.get(at)).unwrap_or(&Asked::Not)
    }

    fn known(&self, id: StreamId) -> Option<&Known> {
        if let Asked::Known(known) = self.get(id) { Some(known) } else { None }
    }

    fn page(&mut self, number: u32) -> Option<&mut [Asked; PAGE]> {
        self.pages.get_mut(&number).map(|page| &mut **page)
    }

    fn insert(&mut self, id: StreamId, known: Option<Known>) {
        let (page, at) = Self::at(id);
        if let Some(place) = self.pages.entry(page).or_default().get_mut(at) {
            *place = known.map_or(Asked::Unknown, Asked::Known);
        }
    }

    /// Forgets all but the known ones that `lives` names.
    fn retain(&mut self, lives: impl Fn(StreamId, &Known) -> bool) {
        self.pages.retain(|number, page| {
            for (at, place) in page.iter_mut().enumerate() {
                let id = StreamId(*number * PAGE as u32 + at as u32);
                let stays = matches!(place, Asked::Known(known) if lives(id, known));
                if !stays {
                    *place = Asked::Not;
                }
            }
            page.iter().any(|place| matches!(place, Asked::Known(_)))
        });
    }
}

#[derive(Debug, Clone)]
struct Known {
    place: Place,
    meta: StreamMeta,
    /// Where its version keeps what it said last.
    stream: StreamPlace,
}

impl Streams {
    /// What was sent until `now` may not have been heard: we were away, or refused it.
    pub(super) fn was_away(&mut self, now: UnixNanos) {
        self.listening_since = now;
    }

    /// What is known of a stream of a version.
    pub(super) fn meta_of(&self, id: StreamId, version: VersionId) -> Option<&StreamMeta> {
        self.places.known(id).filter(|known| known.place.id == version).map(|known| &known.meta)
    }

    /// Forgets the streams of places that are over.
    pub(super) fn retain(&mut self, lives: impl Fn(&Place) -> bool) {
        self.places.retain(|_, known| lives(&known.place));
    }
}

impl Engine {
    /// Takes points in by runs: those of one request are of one version, which is looked up once.
    pub(super) fn absorb_points(&mut self, drained: &Drained, now: UnixNanos) {
        let mut points = drained.points().peekable();
        while let Some((first, _)) = points.peek() {
            let Some(place) = self.place_of_stream(first.stream, now) else {
                self.parts.ledger.settle(Signal::Metrics, Disposition::Orphaned, 1);
                points.next();
                continue;
            };
            if matches!(first.shape, Shape::Level(_)) {
                self.absorb_levels(&mut points, &place);
                continue;
            }
            let Self { services, streams: Streams { places, bounds, .. }, instances, parts, .. } = self;
            let run = services.get_mut(&place.service).and_then(|service| service.point_run(&place.version));
            let Some(mut run) = run else {
                parts.ledger.settle(Signal::Metrics, Disposition::Orphaned, 1);
                points.next();
                continue;
            };
            let mut sender = None;
            let mut page: Option<(u32, &mut [Asked; PAGE])> = None;
            let mut last_bounds: Option<(BoundsId, Arc<[f64]>)> = None;
            while let Some((point, counts)) = points.peek() {
                if matches!(point.shape, Shape::Level(_)) {
                    break;
                }
                let (number, at) = Places::at(point.stream);
                if page.as_ref().is_none_or(|(last, _)| *last != number) {
                    page = places.page(number).map(|page| (number, page));
                }
                let asked = page.as_mut().and_then(|(_, page)| page.get_mut(at));
                let Some(Asked::Known(Known { place: own, meta, stream })) = asked else { break };
                if own.id != place.id {
                    break;
                }
                let ordinal = match sender {
                    Some((instance, ordinal)) if instance == meta.instance => ordinal,
                    _ => ordinal(instances, &parts.registry, meta.instance),
                };
                sender = Some((meta.instance, ordinal));
                let bounds = match point.shape {
                    Shape::Explicit(id) => {
                        if last_bounds.as_ref().is_none_or(|(last, _)| *last != id) {
                            let known = bounds_of(bounds, &parts.registry, id, now);
                            last_bounds = known.map(|bounds| (id, Arc::clone(bounds)));
                        }
                        last_bounds.as_ref().map(|(_, bounds)| bounds)
                    }
                    Shape::Count | Shape::Exponential { .. } | Shape::Level(_) => None,
                };
                let point_place = PointPlace { version: place.id, meta, ordinal, bounds };
                run.observe((&point_place, stream), (point, counts), now);
                points.next();
            }
        }
    }

    /// Whose a stream is; looked up once.
    fn place_of_stream(&mut self, id: StreamId, now: UnixNanos) -> Option<Place> {
        match self.streams.places.get(id) {
            Asked::Known(known) => return Some(known.place.clone()),
            Asked::Unknown => return None,
            Asked::Not => {}
        }
        let meta = self.parts.registry.stream(id);
        let known = meta.and_then(|meta| {
            Some(Known { place: self.place(meta.series, now)?, meta, stream: StreamPlace::default() })
        });
        let place = known.as_ref().map(|known| known.place.clone());
        self.streams.places.insert(id, known);
        place
    }

    /// Forgets streams that were silent for as long as ends a version: processes that are gone, label values
    /// that do not occur any more. Lists of bounds go likewise.
    pub(super) fn sweep_streams(&mut self, now: UnixNanos) {
        let second = now.0 / NANOS_PER_SECOND;
        if second < self.streams.next_sweep && self.streams.next_sweep - second <= SWEEP_S {
            return;
        }
        self.streams.next_sweep = second + SWEEP_S;
        self.parts.registry.forget_replaced();
        let before = UnixNanos(now.0.saturating_sub(self.parts.series_ttl_s * NANOS_PER_SECOND));
        if before < self.streams.listening_since {
            return;
        }
        let of = |service: &mut Service| {
            [service.forget_streams(before), service.forget_level_streams(before)].concat()
        };
        let forgotten: Vec<_> = self.services.values_mut().flat_map(of).collect();
        for (version, keys) in forgotten {
            self.parts.registry.retire_streams(version, &keys);
        }
        let registry = &self.parts.registry;
        self.streams.places.retain(|id, _| registry.stream(id).is_some());
        // Ours stay for longer: a batch under way may still rely on what the registry forgets now.
        let bounds = &mut self.streams.bounds;
        bounds.retain(|_, (_, used)| {
            *used >= UnixNanos(before.0.saturating_sub(2 * SWEEP_S * NANOS_PER_SECOND))
        });
        registry.retire_bounds(before, |id| bounds.get(&id).is_some_and(|(_, used)| *used >= before));
    }
}

/// Bounds in seconds, asked for once.
fn bounds_of<'a>(
    known: &'a mut BoundsById,
    registry: &Registry,
    id: BoundsId,
    now: UnixNanos,
) -> Option<&'a Arc<[f64]>> {
    let (bounds, used) = match known.entry(id) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => place.insert((registry.bounds(id)?, now)),
    };
    *used = now;
    Some(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        DurationUnit, Family, InstanceId, Outcome, SeriesId, ServiceKey, StatusSource, Temporality, VersionId,
    };

    #[test]
    fn streams_are_kept_by_id_and_pages_go_with_their_last_one() {
        let known = |key: u128| Known {
            place: Place { service: Arc::new(ServiceKey::default()), version: "v1".into(), id: VersionId(1) },
            meta: StreamMeta {
                key,
                series: SeriesId(1),
                instance: InstanceId::UNKNOWN,
                family: Family::Http,
                temporality: Temporality::Delta,
                unit: DurationUnit::Seconds,
                outcome: Outcome::Good,
                status: StatusSource::Code,
                marks: 0,
            },
            stream: StreamPlace::default(),
        };
        let key = |places: &Places, id| match places.get(StreamId(id)) {
            Asked::Known(known) => Some(known.meta.key),
            Asked::Not | Asked::Unknown => None,
        };
        let mut places = Places::default();
        let ids = [0, 15, 16, 17, 1_000, u32::MAX];
        ids.into_iter().for_each(|id| places.insert(StreamId(id), Some(known(u128::from(id)))));
        places.insert(StreamId(1), None);
        assert!(ids.into_iter().all(|id| key(&places, id) == Some(u128::from(id))));
        assert!(matches!(places.get(StreamId(1)), Asked::Unknown));
        assert!(matches!(places.get(StreamId(2)), Asked::Not));
        places.retain(|id, known| id.0 == u32::MAX || id.0 == 15 && known.meta.key == 15);
        assert!(key(&places, 15).is_some() && key(&places, u32::MAX).is_some());
        assert!(matches!(places.get(StreamId(1)), Asked::Not), "it is asked for again");
        assert!(matches!(places.get(StreamId(0)), Asked::Not));
        assert_eq!(places.pages.len(), 2);
    }
}
