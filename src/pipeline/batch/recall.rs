//! What a batch's buffers remember of the points that came before: by their key (see [`PointKey`]) the stream that
//! they are of, or why they are discarded. A point of a known stream is one look-up here; nothing shared is
//! touched.
//!
//! A stream that its registry has forgotten is never recalled. Ids are not used twice, so after a change of the
//! registry each entry is checked against it once, when it is next asked for: forgetting one stream of a large
//! fleet costs the others 50 ns each instead of their entries. Streams under the overflow label are asked for
//! anew after a change, for there may be room by now. What may change without any is not remembered at all (see
//! `resolve`).
//!
//! A sender writes its points in the same order each time, so entries lie in the order in which they came, and
//! the one after that of the last point is looked at first: of a large fleet each look into a table by hash would be
//! a cache miss, and this is none.
//!
//! Bounded: about 70 bytes an entry. A full memory takes nothing new until it is swept, at most once a minute; of more
//! streams than fit those that came first are recalled, while the least recently used would be none at all of
//! a fleet that exports in turn.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::model::{Discard, NANOS_PER_SECOND, PointKey, Recalled, RecalledStream, UnixNanos};
use crate::pipeline::Registry;

/// Entries that one memory holds; beyond it the registry is asked.
const ENTRIES: usize = 65_536;
/// Nanoseconds between two sweeps of a full memory.
const SWEEP_NANOS: u64 = 60 * NANOS_PER_SECOND;

/// Points that were met before.
#[derive(Debug, Default)]
pub(super) struct PointMemory {
    /// In the order in which they came.
    entries: Vec<(PointKey, Known)>,
    /// Places in it, by one half of the key; the entry has all of it.
    places: HashMap<u64, u32, RandomState>,
    /// The place after that of the last point.
    next: usize,
    swept: UnixNanos,
}

/// What points are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// Of a stream.
    Stream {
        stream: RecalledStream,
        /// Whether it stays where it is whatever else comes and goes.
        is_lasting: bool,
        /// The registry's, when it was last known to be right; the low half, as no entry sleeps for 2^32.
        generation: u32,
    },
    /// Not judged, for this reason.
    Discarded(Discard),
    /// Not known any more.
    Forgotten,
}

impl Known {
    /// A stream that was resolved since the registry had this generation.
    pub(super) const fn stream(stream: RecalledStream, is_lasting: bool, generation: u64) -> Self {
        Self::Stream { stream, is_lasting, generation: generation as u32 }
    }

    /// What is right of it now.
    fn checked(self, registry: &Registry) -> Self {
        let current = registry.generation() as u32;
        match self {
            Self::Stream { generation, .. } if generation == current => self,
            Self::Stream { stream, is_lasting: true, .. } if registry.stream(stream.stream).is_some() => {
                Self::Stream { stream, is_lasting: true, generation: current }
            }
            Self::Stream { .. } => Self::Forgotten,
            Self::Discarded(_) | Self::Forgotten => self,
        }
    }
}

impl PointMemory {
    /// What points with this key are.
    #[inline]
    pub(super) fn recall(&mut self, key: PointKey, registry: &Registry) -> Option<Recalled> {
        let place = match self.entries.get(self.next) {
            Some((next, _)) if *next == key => self.next,
            _ => *self.places.get(&half(key))? as usize,
        };
        let (_, known) = self.entries.get_mut(place).filter(|(found, _)| *found == key)?;
        self.next = place + 1;
        *known = known.checked(registry);
        match known {
            Known::Stream { stream, .. } => Some(Recalled::Stream(*stream)),
            Known::Discarded(reason) => Some(Recalled::Discarded(*reason)),
            Known::Forgotten => None,
        }
    }

    /// Keeps what points with this key are.
    pub(super) fn keep(&mut self, key: PointKey, known: Known, registry: &Registry, now: UnixNanos) {
        if let Some(entry) = self.places.get(&half(key)).and_then(|at| self.entries.get_mut(*at as usize)) {
            *entry = (key, known);
            return;
        }
        if self.entries.len() >= ENTRIES && now.0.abs_diff(self.swept.0) >= SWEEP_NANOS {
            self.sweep(registry, now);
        }
        if self.entries.len() < ENTRIES {
            self.places.insert(half(key), self.entries.len() as u32);
            self.entries.push((key, known));
        }
    }

    #[cold]
    fn sweep(&mut self, registry: &Registry, now: UnixNanos) {
        self.swept = now;
        // Discards are cheap to find again, and some are of names without end.
        self.entries.retain(|(_, known)| matches!(known.checked(registry), Known::Stream { .. }));
        self.places.clear();
        self.places.extend(self.entries.iter().enumerate().map(|(at, (key, _))| (half(*key), at as u32)));
        self.next = 0;
    }
}

const fn half(key: PointKey) -> u64 {
    key.0 as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        DurationUnit, Family, InstanceId, Outcome, ResourceView, StatusSource, StreamId, StreamMeta,
        Temporality, VersionId,
    };
    use crate::pipeline::RegistryLimits;

    fn registry() -> Registry {
        Registry::new(RegistryLimits { versions_per_service: 2, ..RegistryLimits::default() })
    }

    /// Makes a stream of a version.
    fn stream(registry: &Registry, version: &str, key: u128) -> (VersionId, RecalledStream) {
        let resource =
            ResourceView { service: b"shop", version: version.as_bytes(), ..ResourceView::default() };
        let entry = registry.resolve_version(&resource, &mut Vec::new());
        let series = registry.resolve_series(&entry, b"GET /");
        let meta = StreamMeta {
            key,
            series,
            instance: InstanceId::UNKNOWN,
            family: Family::Http,
            temporality: Temporality::Delta,
            unit: DurationUnit::Seconds,
            outcome: Outcome::Good,
            status: StatusSource::Code,
            marks: 0,
        };
        let stream = registry.resolve_stream(&entry, &meta).unwrap();
        (entry.meta.id, RecalledStream { stream, series, is_bad: false })
    }

    fn keep(memory: &mut PointMemory, registry: &Registry, key: u128, known: Known, second: u64) {
        memory.keep(PointKey(key), known, registry, UnixNanos::from_secs(second));
    }

    #[test]
    fn a_stream_is_recalled_until_it_is_forgotten() {
        let (registry, mut memory) = (registry(), PointMemory::default());
        let (one, first) = stream(&registry, "v1", 1);
        let (two, second) = stream(&registry, "v2", 2);
        for (key, stream) in [(1, first), (2, second)] {
            keep(&mut memory, &registry, key, Known::stream(stream, true, registry.generation()), 0);
        }
        assert_eq!(memory.recall(PointKey(1), &registry), Some(Recalled::Stream(first)));
        assert_eq!(memory.recall(PointKey(3), &registry), None);
        registry.retire_streams(two, &[2]);
        assert_eq!(memory.recall(PointKey(1), &registry), Some(Recalled::Stream(first)), "another one's end");
        assert_eq!(memory.recall(PointKey(2), &registry), None);
        registry.retire_version(one);
        assert_eq!(memory.recall(PointKey(1), &registry), None);
    }

    #[test]
    fn what_may_be_decided_otherwise_is_asked_for_anew() {
        let (registry, mut memory) = (registry(), PointMemory::default());
        let (other, _) = stream(&registry, "v1", 1);
        let (_, beyond) = stream(&registry, "v2", 2);
        keep(&mut memory, &registry, 2, Known::stream(beyond, false, registry.generation()), 0);
        assert_eq!(memory.recall(PointKey(2), &registry), Some(Recalled::Stream(beyond)));
        registry.retire_version(other);
        assert_eq!(memory.recall(PointKey(2), &registry), None, "there may be room for it now");
        // It was being resolved when something was forgotten.
        let before = registry.generation();
        registry.retire_version(stream(&registry, "v3", 3).0);
        keep(&mut memory, &registry, 2, Known::stream(beyond, false, before), 0);
        assert_eq!(memory.recall(PointKey(2), &registry), None);
    }

    #[test]
    fn a_stream_that_comes_back_takes_its_place_again() {
        let (registry, mut memory) = (registry(), PointMemory::default());
        for round in 0..3 {
            let (version, stream) = stream(&registry, "v1", 1);
            assert_eq!(memory.recall(PointKey(1), &registry), None, "round {round}");
            keep(&mut memory, &registry, 1, Known::stream(stream, true, registry.generation()), 0);
            assert_eq!(memory.recall(PointKey(1), &registry), Some(Recalled::Stream(stream)));
            registry.retire_version(version);
        }
        assert_eq!((memory.entries.len(), memory.places.len()), (1, 1));
    }

    #[test]
    fn half_a_key_is_not_enough() {
        let (registry, mut memory) = (registry(), PointMemory::default());
        let (one, other) = (1, 1 | 1 << 64);
        keep(&mut memory, &registry, one, Known::Discarded(Discard::Kind), 0);
        assert_eq!(memory.recall(PointKey(other), &registry), None);
        keep(&mut memory, &registry, other, Known::Discarded(Discard::Health), 0);
        assert_eq!(memory.recall(PointKey(other), &registry), Some(Recalled::Discarded(Discard::Health)));
        assert_eq!(memory.recall(PointKey(one), &registry), None);
    }

    #[test]
    fn any_order_is_recalled() {
        let (registry, mut memory) = (registry(), PointMemory::default());
        let reasons = [Discard::Kind, Discard::Health, Discard::Synthetic, Discard::Excluded];
        for (key, reason) in (0..).zip(reasons) {
            keep(&mut memory, &registry, key, Known::Discarded(reason), 0);
        }
        for key in [0_usize, 1, 2, 3, 3, 1, 0, 2, 3, 0] {
            let recalled = memory.recall(PointKey(key as u128), &registry);
            assert_eq!(recalled, Some(Recalled::Discarded(reasons[key])));
        }
    }

    #[test]
    fn discards_are_recalled_as_well() {
        let (registry, mut memory) = (registry(), PointMemory::default());
        keep(&mut memory, &registry, 1, Known::Discarded(Discard::Health), 0);
        registry.retire_version(stream(&registry, "v1", 1).0);
        assert_eq!(memory.recall(PointKey(1), &registry), Some(Recalled::Discarded(Discard::Health)));
    }

    /// Guarantees: a full memory stays as large as it is, and has room again for living streams after a minute.
    #[test]
    fn it_is_bounded_and_swept() {
        let (registry, mut memory) = (registry(), PointMemory::default());
        let (_, living) = stream(&registry, "v1", 1);
        let gone = RecalledStream { stream: StreamId(u32::MAX), ..living };
        let old = registry.generation();
        registry.retire_version(stream(&registry, "v2", 2).0);
        let known = |key: u128| match key % 3 {
            0 => Known::Discarded(Discard::Kind),
            1 => Known::stream(living, true, old),
            _ => Known::stream(gone, true, old),
        };
        (0..ENTRIES as u128).for_each(|key| keep(&mut memory, &registry, key, known(key), 0));
        assert_eq!(memory.entries.len(), ENTRIES);
        keep(&mut memory, &registry, u128::MAX, known(1), 59);
        assert_eq!((memory.entries.len(), memory.recall(PointKey(u128::MAX), &registry)), (ENTRIES, None));
        keep(&mut memory, &registry, u128::MAX, known(1), 60);
        assert_eq!(memory.recall(PointKey(u128::MAX), &registry), Some(Recalled::Stream(living)));
        assert_eq!(memory.entries.len(), ENTRIES / 3 + 1);
    }
}
