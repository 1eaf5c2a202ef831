//! What is remembered of the points that came before: by their key (see [`PointKey`]) the stream that they are of, or
//! why they are discarded. A point of a known stream is one look at what lies next; the registry is not touched.
//!
//! One memory for all workers. What a resource sends of one metric is a group, and whoever reads a message takes the
//! group that he needs out, and puts it back when he has read the resource: two locks for all its points, and none is
//! held in between. Two requests of one sender at the same time are rare; the second one's points are then resolved as
//! if they were new, which costs time and changes nothing.
//!
//! A sender writes its points in the same order each time, so entries lie in the order in which they came, and
//! the one after that of the last point is looked at first: of a large fleet each look into a table by hash would be
//! a cache miss, and this is none. Places by key are kept only for a group whose points have come in another order.
//!
//! A stream that its registry has forgotten, or replaced by another since a reload, is never recalled. Ids are not used
//! twice, so after a change of its streams each entry is checked against it once, when it is next asked for: forgetting
//! one stream of a large fleet costs the others 50 ns each instead of their entries. Streams under the overflow label
//! are asked for anew after a change, for there may be room by now. What may change without any is not remembered at all (see
//! `resolve`).
//!
//! Bounded: 32 bytes an entry and 120 a group, and 30 more an entry where the order changes. A full memory takes
//! nothing new until it is swept, at most once a minute; of more streams than fit those that came first are recalled,
//! while the least recently used would be none at all of a fleet that exports in turn.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use crate::model::{Discard, NANOS_PER_SECOND, PointKey, Recalled, RecalledStream, UnixNanos};
use crate::pipeline::Registry;

/// Entries of all groups together, and for how many a group counts beside its own; beyond it the registry is asked.
const ENTRIES: usize = 1 << 20;
const OF_GROUP: usize = 4;
/// Parts with a lock of their own.
const PARTS: usize = 16;
/// Nanoseconds between two sweeps of a full memory.
const SWEEP_NANOS: u64 = 60 * NANOS_PER_SECOND;

/// Groups by the key that their points begin with.
type Groups = HashMap<PointKey, Box<Group>, RandomState>;

/// Points that were met before.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct PointMemory {
    parts: [Mutex<Groups>; PARTS],
    /// Entries that there are, those of groups that are out included.
    held: AtomicUsize,
    swept: AtomicU64,
}

/// The points of one metric of one resource.
#[derive(Debug, Default)]
struct Group {
    /// In the order in which they came.
    entries: Vec<(PointKey, Known)>,
    /// Places in it, by one half of the key; the entry has all of it. Empty until points come in another order.
    places: HashMap<u64, u32, RandomState>,
    /// The place after that of the last point.
    next: usize,
    /// Entries with which it was taken out.
    before: usize,
}

/// A group that was taken out, to be put back.
#[derive(Debug, Default)]
pub(super) struct Taken(Option<(PointKey, Box<Group>)>);

/// What points are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// Of a stream.
    Stream {
        stream: RecalledStream,
        /// Whether it stays where it is whatever else comes and goes.
        is_lasting: bool,
        /// Changes of the registry's streams when it was last known to be right; the low half, as no entry sleeps for 2^32.
        changes: u32,
    },
    /// Not judged, for this reason.
    Discarded(Discard),
    /// Not known any more.
    Forgotten,
}

impl Known {
    /// A stream that was resolved since the registry's streams had changed so often.
    pub(super) const fn stream(stream: RecalledStream, is_lasting: bool, changes: u64) -> Self {
        Self::Stream { stream, is_lasting, changes: changes as u32 }
    }

    /// What is right of it now.
    fn checked(self, registry: &Registry) -> Self {
        let current = registry.stream_changes() as u32;
        match self {
            Self::Stream { changes, .. } if changes == current => self,
            Self::Stream { stream, is_lasting: true, .. } if registry.is_current(stream.stream) => {
                Self::Stream { stream, is_lasting: true, changes: current }
            }
            Self::Stream { .. } => Self::Forgotten,
            Self::Discarded(_) | Self::Forgotten => self,
        }
    }
}

impl Group {
    /// Where an entry is, or may be.
    fn find(&mut self, key: PointKey) -> Option<usize> {
        let is = |(found, _): &&(PointKey, Known)| *found == key;
        match self.entries.get(self.next) {
            Some((next, _)) if *next == key => return Some(self.next),
            // What comes after all that is known is new.
            None if self.places.is_empty() => return None,
            _ => {}
        }
        if self.places.is_empty() {
            self.places = self.entries.iter().zip(0..).map(|((key, _), at)| (half(*key), at)).collect();
        }
        let at = *self.places.get(&half(key))? as usize;
        self.entries.get(at).filter(is).map(|_| at)
    }

    fn recall(&mut self, key: PointKey, registry: &Registry) -> Option<Recalled> {
        let at = self.find(key)?;
        self.next = at;
        let (_, known) = self.entries.get_mut(at)?;
        *known = known.checked(registry);
        let recalled = match known {
            Known::Stream { stream, .. } => Recalled::Stream(*stream),
            Known::Discarded(reason) => Recalled::Discarded(*reason),
            // What it is now comes into its place.
            Known::Forgotten => return None,
        };
        self.next = at + 1;
        Some(recalled)
    }

    /// Forgets what is not worth its room; how many entries.
    fn sweep(&mut self, registry: &Registry) -> usize {
        let before = self.entries.len();
        // Discards are cheap to find again, and some are of names without end.
        self.entries.retain(|(_, known)| matches!(known.checked(registry), Known::Stream { .. }));
        if self.entries.len() < before {
            self.entries.shrink_to_fit();
            self.places = HashMap::default();
        }
        before - self.entries.len()
    }
}

impl PointMemory {
    /// Takes out what is remembered of the points whose keys begin with this one, in place of what is out already.
    pub(super) fn take(&self, key: PointKey, taken: &mut Taken) {
        if matches!(&taken.0, Some((known, _)) if *known == key) {
            return;
        }
        self.put_back(taken);
        let mut group = self.part(key).remove(&key).unwrap_or_else(|| {
            self.held.fetch_add(OF_GROUP, Ordering::Relaxed);
            Box::default()
        });
        (group.next, group.before) = (0, group.entries.len());
        taken.0 = Some((key, group));
    }

    /// Puts back what was taken out.
    pub(super) fn put_back(&self, taken: &mut Taken) {
        let Some((key, mut group)) = taken.0.take() else { return };
        if group.entries.len() > group.before {
            // It rarely grows again.
            group.entries.shrink_to_fit();
        }
        let rest = match self.part(key).entry(key) {
            Entry::Vacant(place) if !group.entries.is_empty() => {
                place.insert(group);
                return;
            }
            Entry::Vacant(_) => group,
            // Another request of the sender began to remember as well: the one that knows more stays.
            Entry::Occupied(mut place) if place.get().entries.len() < group.entries.len() => {
                place.insert(group)
            }
            Entry::Occupied(_) => group,
        };
        self.held.fetch_sub(rest.entries.len() + OF_GROUP, Ordering::Relaxed);
    }

    /// What points with this key are, if it is remembered in the group that was taken out.
    #[inline]
    pub(super) fn recall(&self, key: PointKey, taken: &mut Taken, registry: &Registry) -> Option<Recalled> {
        taken.0.as_mut()?.1.recall(key, registry)
    }

    /// Keeps what points with this key are.
    pub(super) fn keep(
        &self,
        (key, known): (PointKey, Known),
        taken: &mut Taken,
        registry: &Registry,
        now: UnixNanos,
    ) {
        let Some((_, group)) = &mut taken.0 else { return };
        if let Some(at) = group.find(key) {
            group.entries[at].1 = known;
            group.next = at + 1;
            return;
        }
        if self.held.load(Ordering::Relaxed) >= ENTRIES && !self.sweep(registry, now) {
            return;
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        let at = group.entries.len();
        if !group.places.is_empty() {
            group.places.insert(half(key), at as u32);
        }
        group.entries.push((key, known));
        group.next = at + 1;
    }

    /// Makes room in a full memory, unless that was tried a short while ago; whether there is any now. What is taken out
    /// stays as it is.
    #[cold]
    fn sweep(&self, registry: &Registry, now: UnixNanos) -> bool {
        let swept = self.swept.load(Ordering::Relaxed);
        let is_due = now.0.abs_diff(swept) >= SWEEP_NANOS;
        if !is_due || self.swept.compare_exchange(swept, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return false;
        }
        for part in &self.parts {
            let mut freed = 0;
            lock(part).retain(|_, group| {
                freed += group.sweep(registry);
                let stays = !group.entries.is_empty();
                freed += if stays { 0 } else { OF_GROUP };
                stays
            });
            self.held.fetch_sub(freed, Ordering::Relaxed);
        }
        self.held.load(Ordering::Relaxed) < ENTRIES
    }

    fn part(&self, key: PointKey) -> MutexGuard<'_, Groups> {
        lock(&self.parts[(key.0 >> 64) as usize % PARTS])
    }
}

/// A panic while groups were held leaves them whole.
fn lock(part: &Mutex<Groups>) -> MutexGuard<'_, Groups> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A memory with the group in hand.
    #[derive(Default)]
    struct Reader {
        memory: PointMemory,
        taken: Taken,
    }

    impl Reader {
        fn take(&mut self, group: u128) {
            self.memory.take(PointKey(group), &mut self.taken);
        }

        fn recall(&mut self, key: u128, registry: &Registry) -> Option<Recalled> {
            self.memory.recall(PointKey(key), &mut self.taken, registry)
        }

        /// Keeps one more, and begins with the next message.
        fn keep(&mut self, registry: &Registry, key: u128, known: Known, second: u64) {
            self.keep_on(registry, key, known, second);
            let group = self.taken.0.as_ref().map(|(group, _)| *group).unwrap();
            self.put_back();
            self.memory.take(group, &mut self.taken);
        }

        fn keep_on(&mut self, registry: &Registry, key: u128, known: Known, second: u64) {
            let now = UnixNanos::from_secs(second);
            self.memory.keep((PointKey(key), known), &mut self.taken, registry, now);
        }

        fn put_back(&mut self) {
            self.memory.put_back(&mut self.taken);
        }

        fn held(&self) -> usize {
            self.memory.held.load(Ordering::Relaxed)
        }
    }

    fn setting() -> (Registry, Reader) {
        let mut reader = Reader::default();
        reader.take(7);
        (registry(), reader)
    }

    #[test]
    fn a_stream_is_recalled_until_it_is_forgotten() {
        let (registry, mut memory) = setting();
        let (one, first) = stream(&registry, "v1", 1);
        let (two, second) = stream(&registry, "v2", 2);
        for (key, stream) in [(1, first), (2, second)] {
            memory.keep(&registry, key, Known::stream(stream, true, registry.stream_changes()), 0);
        }
        assert_eq!(memory.recall(1, &registry), Some(Recalled::Stream(first)));
        assert_eq!(memory.recall(3, &registry), None);
        registry.retire_streams(two, &[2]);
        assert_eq!(memory.recall(1, &registry), Some(Recalled::Stream(first)), "another one's end");
        assert_eq!(memory.recall(2, &registry), None);
        registry.retire_version(one);
        assert_eq!(memory.recall(1, &registry), None);
    }

    /// Scenario: two requests of a sender at the same time, while a reload gives its points another stream: the first has
    /// what was remembered, the second resolves anew, and the first's is kept. Guarantee: what it kept is not recalled.
    #[test]
    fn a_stream_that_was_replaced_is_not_recalled() {
        let (registry, mut memory) = setting();
        let (_, before) = stream(&registry, "v1", 1);
        memory.keep(&registry, 1, Known::stream(before, true, registry.stream_changes()), 0);
        let (version, generation) = (registry.by_id.iter().next().unwrap().clone(), registry.generation());
        let meta = StreamMeta { marks: 2, ..registry.stream(before.stream).unwrap() };
        let after = registry.resolve_stream(&version, &meta).unwrap();
        assert_ne!(after, before.stream);
        assert_eq!(memory.recall(1, &registry), None);
        assert_eq!(registry.generation(), generation, "all else that is remembered stays");
        assert!(registry.stream(before.stream).is_some(), "its points may be under way");
    }

    #[test]
    fn what_may_be_decided_otherwise_is_asked_for_anew() {
        let (registry, mut memory) = setting();
        let (other, _) = stream(&registry, "v1", 1);
        let (_, beyond) = stream(&registry, "v2", 2);
        memory.keep(&registry, 2, Known::stream(beyond, false, registry.stream_changes()), 0);
        assert_eq!(memory.recall(2, &registry), Some(Recalled::Stream(beyond)));
        registry.retire_version(other);
        assert_eq!(memory.recall(2, &registry), None, "there may be room for it now");
        // It was being resolved when something was forgotten.
        let before = registry.stream_changes();
        registry.retire_version(stream(&registry, "v3", 3).0);
        memory.keep(&registry, 2, Known::stream(beyond, false, before), 0);
        assert_eq!(memory.recall(2, &registry), None);
    }

    #[test]
    fn a_stream_that_comes_back_takes_its_place_again() {
        let (registry, mut memory) = setting();
        for round in 0..3 {
            let (version, stream) = stream(&registry, "v1", 1);
            memory.take(7);
            assert_eq!(memory.recall(1, &registry), None, "round {round}");
            memory.keep(&registry, 1, Known::stream(stream, true, registry.stream_changes()), 0);
            memory.put_back();
            memory.take(7);
            assert_eq!(memory.recall(1, &registry), Some(Recalled::Stream(stream)));
            memory.put_back();
            registry.retire_version(version);
        }
        assert_eq!(memory.held(), 1 + OF_GROUP);
    }

    #[test]
    fn half_a_key_is_not_enough() {
        let (registry, mut memory) = setting();
        let (one, other) = (1, 1 | 1 << 64);
        memory.keep(&registry, one, Known::Discarded(Discard::Kind), 0);
        assert_eq!(memory.recall(one, &registry), Some(Recalled::Discarded(Discard::Kind)));
        assert_eq!(memory.recall(other, &registry), None);
        memory.put_back();
        memory.take(7);
        assert_eq!(memory.recall(other, &registry), None, "by its place as well");
        memory.keep(&registry, other, Known::Discarded(Discard::Health), 0);
        for (key, reason) in [(one, Discard::Kind), (other, Discard::Health), (other, Discard::Health)] {
            assert_eq!(memory.recall(key, &registry), Some(Recalled::Discarded(reason)));
        }
    }

    /// Guarantees: whatever the order, and by whom it is read, what was kept is recalled, and nothing is kept twice that
    /// comes in an order of its own.
    #[test]
    fn any_order_is_recalled() {
        let (registry, mut memory) = setting();
        let reasons = [Discard::Kind, Discard::Health, Discard::Synthetic, Discard::Excluded];
        for (key, reason) in (0..).zip(reasons) {
            assert_eq!(memory.recall(key, &registry), None);
            memory.keep(&registry, key, Known::Discarded(reason), 0);
        }
        for key in [0_usize, 1, 2, 3, 3, 1, 0, 2, 3, 0] {
            if key == 3 {
                memory.put_back();
                memory.take(7);
            }
            let recalled = memory.recall(key as u128, &registry);
            assert_eq!(recalled, Some(Recalled::Discarded(reasons[key])));
        }
        memory.put_back();
        assert_eq!(memory.held(), reasons.len() + OF_GROUP);
    }

    /// Guarantees: points are recalled by their own group only, and by nobody while another request has it; of two that
    /// remember at the same time the one that knows more stays.
    #[test]
    fn a_group_is_with_one_request_at_a_time() {
        let (registry, mut memory) = setting();
        memory.keep(&registry, 1, Known::Discarded(Discard::Kind), 0);
        let mut other = Taken::default();
        memory.memory.take(PointKey(7), &mut other);
        assert_eq!(memory.memory.recall(PointKey(1), &mut other, &registry), None, "it is out");
        for key in [1, 2] {
            let known = (PointKey(key), Known::Discarded(Discard::Kind));
            memory.memory.keep(known, &mut other, &registry, UnixNanos(0));
        }
        memory.memory.put_back(&mut other);
        memory.take(8);
        assert_eq!(memory.recall(1, &registry), None, "of another group");
        memory.take(7);
        let kind = Some(Recalled::Discarded(Discard::Kind));
        assert_eq!((memory.recall(1, &registry), memory.recall(2, &registry)), (kind, kind));
        memory.put_back();
        assert_eq!(memory.held(), 2 + OF_GROUP, "an empty group takes no room");
    }

    #[test]
    fn discards_are_recalled_as_well() {
        let (registry, mut memory) = setting();
        memory.keep(&registry, 1, Known::Discarded(Discard::Health), 0);
        registry.retire_version(stream(&registry, "v1", 1).0);
        memory.take(8);
        memory.take(7);
        assert_eq!(memory.recall(1, &registry), Some(Recalled::Discarded(Discard::Health)));
    }

    /// Guarantees: a full memory stays as large as it is, and has room again for living streams after a minute.
    #[test]
    fn it_is_bounded_and_swept() {
        let (registry, mut memory) = setting();
        let (_, living) = stream(&registry, "v1", 1);
        let gone = RecalledStream { stream: StreamId(u32::MAX), ..living };
        let old = registry.stream_changes();
        registry.retire_version(stream(&registry, "v2", 2).0);
        let known = |key: u128| match key % 3 {
            0 => Known::Discarded(Discard::Kind),
            1 => Known::stream(living, true, old),
            _ => Known::stream(gone, true, old),
        };
        // One group more than is ever looked at again.
        memory.keep(&registry, 0, known(2), 0);
        memory.take(9);
        (0..ENTRIES as u128).for_each(|key| memory.keep_on(&registry, key, known(key), 0));
        memory.take(8);
        let (full, new) = (memory.held(), u128::MAX);
        assert_eq!(full, ENTRIES + OF_GROUP, "the last group may be one too many");
        memory.keep_on(&registry, new, known(1), 59);
        assert_eq!((memory.held(), memory.recall(new, &registry)), (full, None));
        memory.keep_on(&registry, new, known(1), 60);
        memory.taken.0.as_mut().unwrap().1.next = 0;
        assert_eq!(memory.recall(new, &registry), Some(Recalled::Stream(living)));
        memory.put_back();
        let kept = ENTRIES - 2 * OF_GROUP - 1;
        assert_eq!(memory.held(), (kept + 1) / 3 + 1 + 2 * OF_GROUP);
        memory.take(9);
        assert_eq!(memory.recall(1, &registry), Some(Recalled::Stream(living)));
        assert_eq!(memory.recall(2, &registry), None);
    }
}
