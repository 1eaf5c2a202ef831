//! Interning: a resource becomes a version and an instance, an operation becomes a series, each a `u32` that
//! is never reused while the program runs. Everything that makes a label ends here, and so do the caps:
//! beyond them spans are counted under an overflow name, which is visible and never judged.
//!
//! Cost: a resource is one lookup in a concurrent map; an operation is one lookup under the read lock of its
//! version. Batches keep a cache of their own in front of it (see `intake`), so that a known series takes no
//! lock at all. A new version, operation or instance takes a lock once.

mod streams;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use foldhash::quality::FixedState;

use super::cohorts::Cohort;
use super::joins::{JoinCounters, Joins};
use super::measures::ServiceMeasures;
use super::senders::Account;
use crate::model::{
    BoundsId, InstanceId, Labels, ResourceView, SeriesId, ServiceKey, StreamId, StreamMeta, VersionId,
    VersionKey,
};

/// The operation under which operations beyond the cap of a version are counted.
pub const OVERFLOW_OPERATION: &str = "(overflow)";
/// The service name of resources that name none, as the OpenTelemetry specification has it.
pub const UNKNOWN_SERVICE: &str = ResourceView::UNKNOWN_SERVICE;

/// How much may be told apart. Keys come from outside, so each kind has a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryLimits {
    /// Services; beyond it everything is counted under one service named `(overflow)`.
    pub services: usize,
    /// Living versions of one service, `(unversioned)` and `(overflow)` apart.
    pub versions_per_service: usize,
    /// Operations of one version.
    pub operations_per_version: usize,
    /// Instances of one version; beyond it spans count as of an unknown instance.
    pub instances_per_version: usize,
    /// Streams of metric points of one version; points of further ones are not used.
    pub streams_per_version: usize,
    /// Longest label in bytes; longer ones are cut at a character boundary.
    pub label_bytes: usize,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self {
            services: 2_000,
            versions_per_service: 20,
            operations_per_version: 200,
            instances_per_version: 1_000,
            streams_per_version: 20_000,
            label_bytes: 256,
        }
    }
}

/// Look-ups that a cap turned away, by reason. Monotone.
#[derive(Debug, Default)]
pub struct RegistryCounters {
    /// Resources of services beyond the cap.
    pub services: AtomicU64,
    /// Resources of versions beyond their service's cap.
    pub versions: AtomicU64,
    /// Spans of operations beyond their version's cap.
    pub operations: AtomicU64,
    /// Resources of instances beyond their version's cap.
    pub instances: AtomicU64,
    /// Points of streams beyond their version's cap.
    pub streams: AtomicU64,
    /// Points with bounds beyond the cap on lists of bounds.
    pub bounds: AtomicU64,
}

impl RegistryCounters {
    /// All counters with the word that names the reason in metrics.
    pub fn all(&self) -> [(&'static str, u64); 6] {
        [
            ("services", self.services.load(Ordering::Relaxed)),
            ("versions", self.versions.load(Ordering::Relaxed)),
            ("operations", self.operations.load(Ordering::Relaxed)),
            ("instances", self.instances.load(Ordering::Relaxed)),
            ("streams", self.streams.load(Ordering::Relaxed)),
            ("bounds", self.bounds.load(Ordering::Relaxed)),
        ]
    }
}

/// What is known of a version from its resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionMeta {
    /// Its id.
    pub id: VersionId,
    /// Service and version label.
    pub key: VersionKey,
    /// Whether the first resource that named it had `faas.*` attributes: no warm-up.
    pub is_function: bool,
}

impl VersionMeta {
    /// Whether it may be judged: it has a version of its own.
    pub fn is_judged(&self) -> bool {
        self.key.version != VersionKey::UNVERSIONED && self.key.version != VersionKey::OVERFLOW
    }
}

/// What is known of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesMeta {
    /// The version it belongs to.
    pub version: VersionId,
    /// Its operation label.
    pub operation: Arc<str>,
    /// Its cohorts, where the service has dimensions.
    pub cohort: Option<Arc<Cohort>>,
}

/// What is known of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceMeta {
    /// The version it belongs to.
    pub version: VersionId,
    /// 0 for the first instance of its version that was seen, 1 for the second, and so on.
    pub ordinal: u32,
    /// A hash of its name, the same in every run of the program.
    pub name: u64,
}

/// A version while it lives: its metadata and the ids below it.
#[derive(Debug)]
pub(crate) struct VersionEntry {
    pub(crate) meta: VersionMeta,
    below: RwLock<Below>,
    /// What its senders say of themselves.
    pub(super) account: Mutex<Account>,
    /// What spans of its service count for.
    pub(super) measures: Arc<ServiceMeasures>,
    /// Arrival of its last resource, nanoseconds.
    pub(super) touched: AtomicU64,
    /// Whether instances of it beyond the cap are not told apart.
    pub(super) is_cut: AtomicBool,
}

impl VersionEntry {
    /// Its instances.
    pub(super) fn instances(&self) -> Vec<InstanceId> {
        read(&self.below).instances.values().copied().collect()
    }
}

#[derive(Debug, Default)]
struct Below {
    series: HashMap<Box<[u8]>, SeriesId, RandomState>,
    /// Series of cohorts, by that of their operation and the number of the cohort.
    cohorts: HashMap<(SeriesId, u16), SeriesId, RandomState>,
    instances: HashMap<Box<[u8]>, InstanceId, RandomState>,
    streams: HashMap<u128, StreamId, RandomState>,
    overflow: Option<SeriesId>,
    /// Nothing more is made below a retired version, also by those who still hold its entry.
    retired: bool,
}

/// Series of one version that are told apart by cohort.
const SERIES_OF_COHORTS: usize = 800;
/// The series of operations that are asked for after their version was retired: without metadata.
const RETIRED: SeriesId = SeriesId(u32::MAX);

/// The table of everything that is told apart. Shared by all workers and the evaluator.
#[derive(Debug, Default)]
pub struct Registry {
    pub(super) limits: RegistryLimits,
    /// Identity (see [`encode_identity`]) to version.
    pub(super) versions: DashMap<Box<[u8]>, Arc<VersionEntry>, RandomState>,
    pub(super) by_id: DashMap<VersionId, Arc<VersionEntry>, RandomState>,
    series: DashMap<SeriesId, SeriesMeta, RandomState>,
    pub(super) instances: DashMap<InstanceId, InstanceMeta, RandomState>,
    streams: DashMap<StreamId, StreamMeta, RandomState>,
    replaced: Mutex<streams::Replaced>,
    /// In seconds, by a hash over the bounds as they were sent.
    bounds: DashMap<BoundsId, streams::Bounds, RandomState>,
    /// Where instances run, of those whose telemetry says so.
    pub(super) places: DashMap<InstanceId, Arc<Labels>, RandomState>,
    /// What the policies of a service count, by service.
    measures: DashMap<ServiceKey, Arc<ServiceMeasures>, RandomState>,
    /// Whether any measure is counted by metrics.
    any_metrics: Arc<AtomicBool>,
    /// Which pod, container or process is of which version.
    pub(super) joins: Joins,
    /// Number of living versions under the cap, per service; held while a version is made or retired.
    pub(super) services: Mutex<HashMap<ServiceKey, Population>>,
    next_version: AtomicU32,
    next_series: AtomicU32,
    next_instance: AtomicU32,
    next_stream: AtomicU32,
    generation: AtomicU64,
    stream_changes: AtomicU64,
    counters: RegistryCounters,
}

/// Living versions of a service.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Population {
    /// Versions of their own.
    capped: usize,
    /// With `(unversioned)` and `(overflow)`.
    all: usize,
}

impl Registry {
    /// An empty table with these caps.
    pub fn new(limits: RegistryLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The caps in force.
    pub fn limits(&self) -> &RegistryLimits {
        &self.limits
    }

    /// Look-ups in the table of pods, containers and processes, and its number of ids.
    pub fn join_counters(&self) -> (&JoinCounters, usize) {
        (self.joins.counters(), self.joins.len())
    }

    /// Look-ups that a cap turned away.
    pub fn counters(&self) -> &RegistryCounters {
        &self.counters
    }

    /// Metadata of a version; `None` once it was retired.
    pub fn version(&self, id: VersionId) -> Option<VersionMeta> {
        self.by_id.get(&id).map(|entry| entry.meta.clone())
    }

    /// Metadata of a series; `None` once its version was retired.
    pub fn series(&self, id: SeriesId) -> Option<SeriesMeta> {
        self.series.get(&id).map(|meta| meta.clone())
    }

    /// Metadata of an instance; `None` for [`InstanceId::UNKNOWN`] and once its version was retired.
    pub fn instance(&self, id: InstanceId) -> Option<InstanceMeta> {
        self.instances.get(&id).map(|meta| *meta)
    }

    /// Number of living versions.
    pub fn version_count(&self) -> usize {
        self.by_id.len()
    }

    /// Number of living series.
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Rises whenever ids become invalid; caches of ids are cleared when it does.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be called once ids have become invalid.
    fn has_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.stream_changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The version and the instance of a resource; makes them when they are new.
    pub fn resolve(&self, resource: &ResourceView<'_>) -> (VersionId, InstanceId) {
        let mut scratch = Vec::new();
        let entry = self.resolve_version(resource, &mut scratch);
        (entry.meta.id, self.resolve_instance(&entry, resource, &mut scratch))
    }

    /// The series of an operation of a version; `None` when the version was retired.
    pub fn resolve_operation(&self, version: VersionId, operation: &[u8]) -> Option<SeriesId> {
        let entry = Arc::clone(&*self.by_id.get(&version)?);
        Some(self.resolve_series(&entry, operation))
    }

    /// The version of a resource. `scratch` is overwritten.
    pub(crate) fn resolve_version(
        &self,
        resource: &ResourceView<'_>,
        scratch: &mut Vec<u8>,
    ) -> Arc<VersionEntry> {
        encode_identity(resource, self.limits.label_bytes, scratch);
        if let Some(entry) = self.versions.get(scratch.as_slice()) {
            return Arc::clone(&entry);
        }
        let key = self.version_key(resource);
        self.find_or_make_version(key, resource.is_function)
    }

    pub(super) fn version_key(&self, resource: &ResourceView<'_>) -> VersionKey {
        let label = |bytes| label(bytes, self.limits.label_bytes);
        let or = |label: String, absent: &str| if label.is_empty() { absent.to_owned() } else { label };
        VersionKey {
            service: ServiceKey {
                namespace: label(resource.namespace),
                name: or(label(resource.service), UNKNOWN_SERVICE),
                environment: label(resource.environment),
                extra: resource.extra.iter().map(|value| label(value)).collect(),
            },
            version: or(label(resource.version), VersionKey::UNVERSIONED),
        }
    }

    pub(super) fn find_or_make_version(&self, mut key: VersionKey, is_function: bool) -> Arc<VersionEntry> {
        let mut services = lock(&self.services);
        if let Some(entry) = self.versions.get(identity_of(&key).as_slice()) {
            return Arc::clone(&entry);
        }
        if !services.contains_key(&key.service) && services.len() >= self.limits.services {
            self.counters.services.fetch_add(1, Ordering::Relaxed);
            let name = VersionKey::OVERFLOW.to_owned();
            key.service = ServiceKey { name, ..ServiceKey::default() };
            VersionKey::OVERFLOW.clone_into(&mut key.version);
        } else if is_capped(&key.version)
            && services.get(&key.service).is_some_and(|p| p.capped >= self.limits.versions_per_service)
        {
            self.counters.versions.fetch_add(1, Ordering::Relaxed);
            VersionKey::OVERFLOW.clone_into(&mut key.version);
        }
        let identity = identity_of(&key);
        if let Some(entry) = self.versions.get(identity.as_slice()) {
            return Arc::clone(&entry);
        }
        let population = services.entry(key.service.clone()).or_default();
        population.all += 1;
        population.capped += usize::from(is_capped(&key.version));
        let id = VersionId(self.next_version.fetch_add(1, Ordering::Relaxed));
        let measures = self.measures(&key.service);
        let meta = VersionMeta { id, key, is_function };
        let entry = Arc::new(VersionEntry {
            meta,
            below: RwLock::default(),
            account: Mutex::default(),
            measures,
            touched: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
        });
        self.by_id.insert(id, Arc::clone(&entry));
        self.versions.insert(identity.into_boxed_slice(), Arc::clone(&entry));
        entry
    }

    /// The measures of a service.
    pub(super) fn measures(&self, service: &ServiceKey) -> Arc<ServiceMeasures> {
        if let Some(known) = self.measures.get(service) {
            return Arc::clone(&known);
        }
        let fresh = || Arc::new(ServiceMeasures::of(&self.any_metrics));
        Arc::clone(&self.measures.entry(service.clone()).or_insert_with(fresh))
    }

    /// Whether any service has a measure that metrics count, or dimensions.
    pub(super) fn reads_metrics(&self) -> bool {
        self.any_metrics.load(Ordering::Relaxed)
    }

    /// Forgets the measures of a service that is over, unless a version of it has come meanwhile.
    pub(super) fn forget_measures(&self, service: &ServiceKey) {
        let services = lock(&self.services);
        if !services.contains_key(service) {
            self.measures.remove(service);
        }
    }

    /// The instance of a resource. `scratch` is overwritten. A process id that is not 0 is part of the name:
    /// the decoder passes one only where the name is a host's.
    pub(crate) fn resolve_instance(
        &self,
        entry: &VersionEntry,
        resource: &ResourceView<'_>,
        scratch: &mut Vec<u8>,
    ) -> InstanceId {
        let known = self.known_instance(entry, resource, scratch);
        if known != InstanceId::UNKNOWN || resource.instance.is_empty() {
            return known;
        }
        let mut below = write(&entry.below);
        if let Some(id) = below.instances.get(scratch.as_slice()) {
            return *id;
        }
        if below.retired {
            return InstanceId::UNKNOWN;
        }
        if below.instances.len() >= self.limits.instances_per_version {
            self.counters.instances.fetch_add(1, Ordering::Relaxed);
            entry.is_cut.store(true, Ordering::Relaxed);
            return InstanceId::UNKNOWN;
        }
        let id = InstanceId(self.next_instance.fetch_add(1, Ordering::Relaxed));
        let ordinal = below.instances.len() as u32;
        let name = FixedState::default().hash_one(scratch.as_slice());
        self.instances.insert(id, InstanceMeta { version: entry.meta.id, ordinal, name });
        below.instances.insert(scratch.as_slice().into(), id);
        id
    }

    /// The instance of a resource if it was seen before; leaves its name in `scratch`.
    pub(super) fn known_instance(
        &self,
        entry: &VersionEntry,
        resource: &ResourceView<'_>,
        scratch: &mut Vec<u8>,
    ) -> InstanceId {
        if resource.instance.is_empty() {
            return InstanceId::UNKNOWN;
        }
        scratch.clear();
        scratch.extend_from_slice(clip(resource.instance, self.limits.label_bytes));
        if resource.process_id != 0 {
            scratch.push(0);
            scratch.extend_from_slice(&resource.process_id.to_le_bytes());
        }
        let known = read(&entry.below).instances.get(scratch.as_slice()).copied();
        known.unwrap_or(InstanceId::UNKNOWN)
    }

    /// The series of an operation.
    pub(crate) fn resolve_series(&self, entry: &VersionEntry, operation: &[u8]) -> SeriesId {
        let operation = clip(operation, self.limits.label_bytes);
        {
            let below = read(&entry.below);
            if let Some(id) = below.series.get(operation) {
                return *id;
            }
            // A full table stays full: no write lock for each span of a flood of names.
            let full = below.series.len() >= self.limits.operations_per_version;
            if let Some(id) = below.overflow.filter(|_| full && std::str::from_utf8(operation).is_ok()) {
                self.counters.operations.fetch_add(1, Ordering::Relaxed);
                return id;
            }
        }
        let name = label(operation, self.limits.label_bytes);
        let mut below = write(&entry.below);
        if let Some(id) = below.series.get(name.as_bytes()) {
            return *id;
        }
        if below.retired {
            return RETIRED;
        }
        if below.series.len() < self.limits.operations_per_version {
            let id = self.make_series(entry.meta.id, &name, None);
            below.series.insert(name.into_bytes().into_boxed_slice(), id);
            return id;
        }
        self.counters.operations.fetch_add(1, Ordering::Relaxed);
        *below.overflow.get_or_insert_with(|| self.make_series(entry.meta.id, OVERFLOW_OPERATION, None))
    }

    /// The series of an operation in a cohort. Beyond the cap it is that of the operation: counted, not told apart.
    pub(crate) fn resolve_cohort(
        &self,
        entry: &VersionEntry,
        operation: &[u8],
        cohort: &Arc<Cohort>,
    ) -> SeriesId {
        let of_operation = self.resolve_series(entry, operation);
        let key = (of_operation, cohort.number);
        if let Some(id) = read(&entry.below).cohorts.get(&key) {
            return *id;
        }
        let Some(meta) = self.series(of_operation) else { return of_operation };
        let mut below = write(&entry.below);
        if let Some(id) = below.cohorts.get(&key) {
            return *id;
        }
        if below.retired || below.cohorts.len() >= SERIES_OF_COHORTS {
            return of_operation;
        }
        let id = self.make_series(entry.meta.id, &meta.operation, Some(Arc::clone(cohort)));
        below.cohorts.insert(key, id);
        id
    }

    fn make_series(&self, version: VersionId, operation: &str, cohort: Option<Arc<Cohort>>) -> SeriesId {
        let id = SeriesId(self.next_series.fetch_add(1, Ordering::Relaxed));
        self.series.insert(id, SeriesMeta { version, operation: operation.into(), cohort });
        id
    }

    /// Forgets a version and all below it. A later span of it gets new ids; observations that still carry
    /// the old ones find no metadata and count as late.
    pub fn retire_version(&self, id: VersionId) {
        let mut services = lock(&self.services);
        let Some((_, entry)) = self.by_id.remove(&id) else { return };
        let key = &entry.meta.key;
        self.versions.remove(identity_of(key).as_slice());
        if let Some(population) = services.get_mut(&key.service) {
            population.all = population.all.saturating_sub(1);
            population.capped = population.capped.saturating_sub(usize::from(is_capped(&key.version)));
            if population.all == 0 {
                services.remove(&key.service);
            }
        }
        let below = std::mem::replace(&mut *write(&entry.below), Below { retired: true, ..Below::default() });
        for series in below.series.values().chain(below.cohorts.values()).chain(&below.overflow) {
            self.series.remove(series);
        }
        for instance in below.instances.values() {
            self.instances.remove(instance);
            self.places.remove(instance);
        }
        for stream in below.streams.values() {
            self.streams.remove(stream);
        }
        self.has_changed();
    }
}

/// Whether a version counts against the cap of its service.
fn is_capped(version: &str) -> bool {
    version != VersionKey::UNVERSIONED && version != VersionKey::OVERFLOW
}

/// Writes what identifies a version, each part with its length in front, so that parts cannot run together.
pub(crate) fn encode_identity(resource: &ResourceView<'_>, label_bytes: usize, out: &mut Vec<u8>) {
    out.clear();
    let fixed = [
        (resource.namespace, ""),
        (resource.service, UNKNOWN_SERVICE),
        (resource.environment, ""),
        (resource.version, VersionKey::UNVERSIONED),
    ];
    for (part, absent) in fixed.into_iter().chain(resource.extra.iter().map(|part| (*part, ""))) {
        put_part(if part.is_empty() { absent.as_bytes() } else { clip(part, label_bytes) }, out);
    }
}

/// The same from the labels themselves.
fn identity_of(key: &VersionKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let service = &key.service;
    let fixed = [&service.namespace, &service.name, &service.environment, &key.version];
    for part in fixed.into_iter().chain(&service.extra) {
        put_part(part.as_bytes(), &mut out);
    }
    out
}

fn put_part(part: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(part.len() as u32).to_le_bytes());
    out.extend_from_slice(part);
}

/// The first `max` bytes, or up to three fewer so that no UTF-8 character is cut.
pub(crate) fn clip(bytes: &[u8], max: usize) -> &[u8] {
    if bytes.len() <= max {
        return bytes;
    }
    let is_continuation = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    let cut = (max.saturating_sub(3)..=max).rev().find(|at| !is_continuation(at)).unwrap_or(max);
    &bytes[..cut]
}

/// A label: invalid UTF-8 becomes U+FFFD, and the result is again no longer than `max`.
pub(super) fn label(bytes: &[u8], max: usize) -> String {
    match String::from_utf8_lossy(clip(bytes, max)) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => String::from_utf8_lossy(clip(text.as_bytes(), max)).into_owned(),
    }
}

/// A panic while a table was held cannot leave it half written: every change is one insert or remove.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
