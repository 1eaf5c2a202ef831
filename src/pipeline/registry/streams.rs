//! Streams of metric points, interned. A stream's attributes say once and for all whose it is, which operation
//! it counts and how its requests ended, so a point of a known stream is one look-up in its batch's own cache.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Registry, VersionEntry, read, write};
use crate::model::{BoundsId, StreamId, StreamMeta, VersionId};

/// Different lists of bounds that are told apart. A service has one or two.
const BOUNDS_MAX: usize = 4_096;
/// Bounds whose points are not read as there is no room: they count as without buckets.
const STREAM_BATCH: usize = 64;

impl Registry {
    /// The stream with this metadata, which carries its identity; `None` beyond the cap of its version, or when
    /// the version was retired.
    pub(crate) fn resolve_stream(&self, entry: &VersionEntry, meta: &StreamMeta) -> Option<StreamId> {
        if let Some(id) = read(&entry.below).streams.get(&meta.key) {
            return Some(*id);
        }
        let mut below = write(&entry.below);
        if let Some(id) = below.streams.get(&meta.key) {
            return Some(*id);
        }
        if below.retired {
            return None;
        }
        if below.streams.len() >= self.limits.streams_per_version {
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

    /// Metadata of a stream; `None` once it or its version was retired.
    pub fn stream(&self, id: StreamId) -> Option<StreamMeta> {
        self.streams.get(&id).map(|meta| *meta)
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
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the bounds are known; makes them known while there is room. `seconds` is asked only then.
    pub(crate) fn resolve_bounds(&self, id: BoundsId, seconds: impl FnOnce() -> Vec<f64>) -> bool {
        if self.bounds.contains_key(&id) {
            return true;
        }
        if self.bounds.len() >= BOUNDS_MAX {
            self.counters.bounds.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.bounds.insert(id, seconds().into());
        true
    }

    /// Bounds in seconds.
    pub fn bounds(&self, id: BoundsId) -> Option<Arc<[f64]>> {
        self.bounds.get(&id).map(|bounds| Arc::clone(&bounds))
    }
}
