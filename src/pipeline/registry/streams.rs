//! Streams of metric points, interned. A stream's attributes say once and for all whose it is, which operation
//! it counts and how its requests ended, so a point of a known stream is one look-up in its batch's own cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;

use super::{Registry, VersionEntry, lock, read, write};
use crate::model::{BoundsId, StreamId, StreamMeta, UnixNanos, VersionId};

/// Different lists of bounds that are told apart: a service has one or two. Beyond it points count as without
/// buckets.
const BOUNDS_MAX: usize = 4_096;
/// Streams that were replaced whose points may still be under way, in each of two generations.
const REPLACED_MAX: usize = 65_536;
/// Streams of a version for which room is made at once.
const STREAM_BATCH: usize = 64;

/// A list of bounds.
#[derive(Debug)]
pub(super) struct Bounds {
    seconds: Arc<[f64]>,
    /// When it was last made known: workers ask once and remember.
    asked: UnixNanos,
}

/// Streams whose identity has another id by now. Points that were read before are under way, so they are known for some
/// time still, but nobody takes them for what they are any more.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    young: HashMap<StreamId, StreamMeta, RandomState>,
    old: HashMap<StreamId, StreamMeta, RandomState>,
}

impl Replaced {
    fn add(&mut self, id: StreamId, meta: StreamMeta) {
        if self.young.len() >= REPLACED_MAX {
            self.age();
        }
        self.young.insert(id, meta);
    }

    fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }

    fn get(&self, id: StreamId) -> Option<StreamMeta> {
        self.young.get(&id).or_else(|| self.old.get(&id)).copied()
    }
}

impl Registry {
    /// The stream with this metadata, which carries its identity; `None` beyond the cap of its version, or when
    /// the version was retired. One that counts for something else since the policy changed, or is of another instance
    /// since its pod's container restarted, gets a new id; what it said last is known by its identity, so nothing of it
    /// counts twice.
    pub(crate) fn resolve_stream(&self, entry: &VersionEntry, meta: &StreamMeta) -> Option<StreamId> {
        let whose = |meta: &StreamMeta| (meta.marks, meta.series, meta.instance);
        let is_same = |id: &StreamId| self.streams.get(id).is_some_and(|known| whose(&known) == whose(meta));
        let known = read(&entry.below).streams.get(&meta.key).copied();
        if known.filter(is_same).is_some() {
            return known;
        }
        let mut below = write(&entry.below);
        let known = below.streams.get(&meta.key).copied();
        if known.filter(is_same).is_some() {
            return known;
        }
        if below.retired {
            return None;
        }
        if let Some(old) = known {
            if let Some((id, meta)) = self.streams.remove(&old) {
                lock(&self.replaced).add(id, meta);
            }
            self.stream_changes.fetch_add(1, Ordering::AcqRel);
        } else if below.streams.len() >= self.limits.streams_per_version {
            self.counters.streams.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if below.streams.len() == below.streams.capacity() {
            below.streams.reserve(STREAM_BATCH);
        }
        let id = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        self.streams.insert(id, *meta);
        below.streams.insert(meta.key, id);
        Some(id)
    }

    /// Metadata of a stream; `None` once it or its version was retired, and some time after it was replaced.
    pub fn stream(&self, id: StreamId) -> Option<StreamMeta> {
        self.streams.get(&id).map(|meta| *meta).or_else(|| lock(&self.replaced).get(id))
    }

    /// Whether points of a stream are still of it: neither was it retired nor replaced.
    pub(crate) fn is_current(&self, id: StreamId) -> bool {
        self.streams.contains_key(&id)
    }

    /// Grows whenever a stream may have stopped being current.
    pub(crate) fn stream_changes(&self) -> u64 {
        self.stream_changes.load(Ordering::Acquire)
    }

    /// To be called now and then, at least as far apart as points are under way: forgets streams that were replaced
    /// before the call before.
    pub(crate) fn forget_replaced(&self) {
        lock(&self.replaced).age();
    }

    /// Number of living streams.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Forgets streams that were not heard of for long. A later point of one gets a new id.
    pub fn retire_streams(&self, version: VersionId, keys: &[u128]) {
        let Some(entry) = self.by_id.get(&version).map(|entry| Arc::clone(&entry)) else { return };
        let mut below = write(&entry.below);
        for key in keys {
            if let Some(id) = below.streams.remove(key) {
                self.streams.remove(&id);
            }
        }
        drop(below);
        self.has_changed();
    }

    /// Whether the bounds are known; makes them known while there is room. `seconds` is asked only then.
    pub(crate) fn resolve_bounds(
        &self,
        id: BoundsId,
        now: UnixNanos,
        seconds: impl FnOnce() -> Vec<f64>,
    ) -> bool {
        if let Some(mut known) = self.bounds.get_mut(&id) {
            known.asked = known.asked.max(now);
            return true;
        }
        if self.bounds.len() >= BOUNDS_MAX {
            self.counters.bounds.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.bounds.insert(id, Bounds { seconds: seconds().into(), asked: now });
        true
    }

    /// Bounds in seconds.
    pub fn bounds(&self, id: BoundsId) -> Option<Arc<[f64]>> {
        self.bounds.get(&id).map(|bounds| Arc::clone(&bounds.seconds))
    }

    /// Forgets bounds that were not asked for since `before` and that nobody uses. They are named by what they are, so
    /// the same ones get the same id again.
    pub fn retire_bounds(&self, before: UnixNanos, is_used: impl Fn(BoundsId) -> bool) {
        let known = self.bounds.len();
        self.bounds.retain(|id, bounds| bounds.asked >= before || is_used(*id));
        if self.bounds.len() < known {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}
