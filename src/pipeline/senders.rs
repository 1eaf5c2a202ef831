//! What is known of the senders of a version beside its SLIs: how much of each signal comes and what its
//! resources say of themselves, by which SDK, with which change, and where each instance runs. It is for people
//! (the diagnosis, the placement in the API) and for flags; nothing here moves a verdict.
//!
//! Cost: one short lock of the version per resource of a message. Bounded: per version and signal about 400
//! bytes, four SDKs, ten labels of the change; per instance its placement, about 400 bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::flags::FlagTelemetry;
use super::joins::{Claim, Found, has_id};
use super::passage::Signal;
use super::registry::{Registry, UNKNOWN_SERVICE, VersionEntry, encode_identity, label, lock};
use crate::model::{
    InstanceId, Labels, NANOS_PER_SECOND, ResourceAttribute, ResourceView, ServiceKey, UnixNanos, VersionId,
    VersionKey,
};

/// SDKs of one version that are told apart.
const SDKS: usize = 4;
/// Sources of a version that are told apart; the list is the user's.
const SOURCES: usize = 16;
const ATTRIBUTES: usize = ResourceAttribute::ALL.len();

/// What names the instance of a resource, the first that is present.
const INSTANCE_FROM: [ResourceAttribute; 4] = [
    ResourceAttribute::InstanceId,
    ResourceAttribute::PodUid,
    ResourceAttribute::ContainerId,
    ResourceAttribute::HostName,
];

/// Whose records are coming in.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) version: Arc<VersionEntry>,
    pub(super) instance: InstanceId,
    /// Whether it was found by an id of its pod, container or process.
    pub(super) is_joined: bool,
}

/// One resource of a message and how many records came with it, until the message is committed.
#[derive(Debug)]
pub(super) struct Heard {
    version: Arc<VersionEntry>,
    signal: Signal,
    facts: Facts,
    resources: u64,
    records: u64,
}

/// What a resource says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    /// See [`crate::model::ResourceTexts::present`].
    present: u32,
    has_namespace: bool,
    has_environment: bool,
    is_joined: bool,
    /// Which of [`Account::sources`] named the version.
    source: Option<u8>,
}

impl Heard {
    /// Adds `records` to this one if they are of the same kind of sender.
    pub(super) fn absorb(&mut self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.version, &other.version)
            && self.signal == other.signal
            && self.facts == other.facts;
        if same {
            self.resources += other.resources;
            self.records += other.records;
        }
        same
    }

    /// Counts it for its version.
    pub(super) fn settle(&self) {
        let mut account = lock(&self.version.account);
        let tally = account.signals[self.signal as usize].get_or_insert_default();
        tally.add(&self.facts, self.resources, self.records);
    }
}

/// How much of a signal came, and of it what share named what. In records: spans, data points, log records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) resources: u64,
    pub(super) records: u64,
    /// Records that reached the version by an id of their pod, container or process.
    pub(super) joined: u64,
    pub(super) with: [u64; ATTRIBUTES],
    pub(super) with_namespace: u64,
    pub(super) with_environment: u64,
    /// By [`Account::sources`].
    pub(super) version_from: [u64; SOURCES],
    /// By [`INSTANCE_FROM`].
    instance_from: [u64; INSTANCE_FROM.len()],
}

impl Tally {
    fn add(&mut self, facts: &Facts, resources: u64, records: u64) {
        self.resources += resources;
        self.records += records;
        let counts = [
            (facts.is_joined, &mut self.joined),
            (facts.has_namespace, &mut self.with_namespace),
            (facts.has_environment, &mut self.with_environment),
        ];
        for (is_so, count) in counts {
            *count += if is_so { records } else { 0 };
        }
        for (bit, count) in self.with.iter_mut().enumerate() {
            *count += if facts.present & (1 << bit) != 0 { records } else { 0 };
        }
        if let Some(source) = facts.source {
            self.version_from[usize::from(source)] += records;
        }
        let is_present = |name: &ResourceAttribute| facts.present & bits(&[*name]) != 0;
        if let Some(at) = INSTANCE_FROM.iter().position(is_present) {
            self.instance_from[at] += records;
        }
    }

    /// The counts by what named the instance.
    pub(super) fn instances_from(&self) -> impl Iterator<Item = (ResourceAttribute, u64)> {
        INSTANCE_FROM.into_iter().zip(self.instance_from)
    }
}

/// A telemetry SDK.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sdk {
    /// `telemetry.sdk.name`.
    pub name: String,
    /// `telemetry.sdk.language`.
    pub language: String,
    /// `telemetry.sdk.version`.
    pub version: String,
}

/// What is known of a version's senders.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) signals: [Option<Box<Tally>>; 3],
    /// Version sources seen, as they are configured.
    pub(super) sources: Vec<Box<str>>,
    /// In order.
    pub(super) sdks: Arc<Vec<Sdk>>,
    pub(super) change: Arc<Labels>,
    /// By key; only those that the configuration makes a part of versions.
    pub(super) flags: BTreeMap<Box<str>, FlagTelemetry>,
}

impl Account {
    /// Keeps what a resource says that is not a number.
    fn learn(
        &mut self,
        signal: Signal,
        resource: &ResourceView<'_>,
        present: u32,
        label_bytes: usize,
    ) -> Option<u8> {
        // What others say of a pod may be of another build; the service's own word counts.
        if signal == Signal::Traces || !resource.texts.get(ResourceAttribute::SdkName).is_empty() {
            if present & bits(&Labels::CHANGE) != 0 {
                let mut change = (*self.change).clone();
                if change.take(&Labels::CHANGE, &resource.texts) {
                    self.change = Arc::new(change);
                }
            }
            if signal == Signal::Traces {
                self.learn_sdk(resource, label_bytes);
            }
        }
        if resource.version_from.is_empty() {
            return None;
        }
        let known = self.sources.iter().position(|source| **source == *resource.version_from);
        let at = match known {
            Some(at) => at,
            None if self.sources.len() < SOURCES => {
                self.sources.push(resource.version_from.into());
                self.sources.len() - 1
            }
            None => return None,
        };
        u8::try_from(at).ok()
    }

    fn learn_sdk(&mut self, resource: &ResourceView<'_>, label_bytes: usize) {
        use ResourceAttribute::{SdkLanguage, SdkName, SdkVersion};
        let [name, language, version] = [SdkName, SdkLanguage, SdkVersion].map(|a| resource.texts.get(a));
        if name.is_empty() && language.is_empty() && version.is_empty() {
            return;
        }
        let same = |sdk: &Sdk| {
            sdk.name.as_bytes() == name
                && sdk.language.as_bytes() == language
                && sdk.version.as_bytes() == version
        };
        if self.sdks.len() >= SDKS || self.sdks.iter().any(same) {
            return;
        }
        let [name, language, version] = [name, language, version].map(|text| label(text, label_bytes));
        let sdk = Sdk { name, language, version };
        let mut sdks = (*self.sdks).clone();
        if let Err(at) = sdks.binary_search(&sdk) {
            sdks.insert(at, sdk);
            self.sdks = Arc::new(sdks);
        }
    }
}

fn bits(attributes: &[ResourceAttribute]) -> u32 {
    attributes.iter().fold(0, |bits, attribute| bits | 1 << *attribute as u32)
}

impl VersionEntry {
    /// The SDKs that its spans name, in order.
    pub(super) fn sdks(&self) -> Arc<Vec<Sdk>> {
        Arc::clone(&lock(&self.account).sdks)
    }

    /// The change it carries, as far as its telemetry says.
    pub(super) fn change(&self) -> Arc<Labels> {
        Arc::clone(&lock(&self.account).change)
    }
}

impl Registry {
    /// Whether any log record of a version came, of whatever severity.
    pub(super) fn sends_logs(&self, id: VersionId) -> bool {
        self.by_id.get(&id).is_some_and(|entry| lock(&entry.account).signals[Signal::Logs as usize].is_some())
    }

    /// The version and the instance that a resource reaches by its ids. Asked where it names no service or no
    /// version. Spans are joined only to the service that they name: those of a sidecar that names none would
    /// else be judged as the service's own.
    pub(super) fn join(&self, signal: Signal, resource: &ResourceView<'_>, now: UnixNanos) -> Option<Sender> {
        if !is_joinable(signal, resource) {
            return None;
        }
        let counters = self.joins.counters();
        let found = match self.joins.find(resource, now) {
            Found::One(version, instance) => {
                self.by_id.get(&version).map(|entry| Some((Arc::clone(&entry), instance)))
            }
            Found::Several => Some(None),
            Found::None => None,
        };
        match found {
            Some(Some((version, instance))) if fits(resource, &version.meta.key.service) => {
                counters.joined.fetch_add(1, Ordering::Relaxed);
                Some(Sender { version, instance, is_joined: true })
            }
            Some(_) => {
                counters.ambiguous.fetch_add(1, Ordering::Relaxed);
                None
            }
            None => {
                counters.unknown.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// The instance of a resource whose version is known. Other telemetry often names an instance otherwise than
    /// its spans do (a pod's uid instead of the process's id) and then takes the one that they made: two for
    /// one would put it into both groups of instances. Records that are not judged by instance make none.
    pub(super) fn instance_of(
        &self,
        signal: Signal,
        version: &VersionEntry,
        resource: &ResourceView<'_>,
        now: UnixNanos,
        scratch: &mut Vec<u8>,
    ) -> InstanceId {
        if signal == Signal::Traces {
            return self.resolve_instance(version, resource, scratch);
        }
        let known = self.known_instance(version, resource, scratch);
        if known != InstanceId::UNKNOWN {
            return known;
        }
        match self.joins.find(resource, now) {
            Found::One(owner, instance) if owner == version.meta.id && instance != InstanceId::UNKNOWN => {
                instance
            }
            _ if signal == Signal::Metrics => self.resolve_instance(version, resource, scratch),
            _ => InstanceId::UNKNOWN,
        }
    }

    /// Version and instance of a resource none of whose records is judged: as they are known, and the version
    /// made where at least its service is. A service that is known from such records alone is not worth a
    /// place among the services.
    pub(super) fn known_sender(&self, resource: &ResourceView<'_>, scratch: &mut Vec<u8>) -> Option<Sender> {
        encode_identity(resource, self.limits.label_bytes, scratch);
        let known = self.versions.get(scratch.as_slice()).map(|entry| Arc::clone(&entry));
        let version = known.or_else(|| {
            let key = self.version_key(resource);
            let is_known = lock(&self.services).contains_key(&key.service);
            is_known.then(|| self.find_or_make_version(key, resource.is_function))
        })?;
        let instance = self.known_instance(&version, resource, scratch);
        Some(Sender { version, instance, is_joined: false })
    }

    /// Keeps what a resource says of its sender, and answers what is counted once the message is committed.
    pub(super) fn hear(
        &self,
        sender: &Sender,
        signal: Signal,
        resource: &ResourceView<'_>,
        records: u64,
        now: UnixNanos,
    ) -> Heard {
        let Sender { version, instance, is_joined } = sender;
        version.touched.fetch_max(now.0, Ordering::Relaxed);
        let present = resource.texts.present();
        let mut source = None;
        if !*is_joined {
            source = lock(&version.account).learn(signal, resource, present, self.limits.label_bytes);
            self.place(*instance, resource, present);
            if version.meta.is_judged() && resource.names_service() && has_id(&resource.texts) {
                let by_spans = signal == Signal::Traces;
                let claim = Claim { version: version.meta.id, instance: *instance, by_spans, at: now };
                self.joins.learn(resource, claim, |id| self.by_id.contains_key(&id));
            }
        }
        let facts = Facts {
            present,
            has_namespace: !resource.namespace.is_empty(),
            has_environment: !resource.environment.is_empty(),
            is_joined: *is_joined,
            source,
        };
        Heard { version: Arc::clone(version), signal, facts, resources: 1, records }
    }

    /// Keeps where an instance runs; read once.
    fn place(&self, instance: InstanceId, resource: &ResourceView<'_>, present: u32) {
        if instance == InstanceId::UNKNOWN
            || present & bits(&Labels::PLACE) == 0
            || self.places.contains_key(&instance)
            || !self.instances.contains_key(&instance)
        {
            return;
        }
        let mut place = Labels::default();
        place.take(&Labels::PLACE, &resource.texts);
        self.places.insert(instance, Arc::new(place));
    }

    /// What is kept of a version while it lives.
    pub(super) fn entry(&self, id: VersionId) -> Option<Arc<VersionEntry>> {
        self.by_id.get(&id).map(|entry| Arc::clone(&entry))
    }

    /// Where an instance runs, as far as its telemetry says.
    pub fn place_of(&self, instance: InstanceId) -> Option<Arc<Labels>> {
        self.places.get(&instance).map(|place| Arc::clone(&place))
    }

    /// Forgets versions that nothing was heard of for `ttl_s` and that `is_used` does not name: resources none
    /// of whose records is judged make versions too, and nobody else ends those.
    pub(super) fn forget_unused(&self, now: UnixNanos, ttl_s: u64, is_used: impl Fn(VersionId) -> bool) {
        let is_unused = |entry: &VersionEntry| {
            // One that was made just now may not have been heard yet.
            let heard = entry.touched.compare_exchange(0, now.0, Ordering::Relaxed, Ordering::Relaxed);
            let heard = UnixNanos(heard.unwrap_or_else(|heard| heard));
            heard.0 != 0 && now.since(heard) > ttl_s * NANOS_PER_SECOND && !is_used(entry.meta.id)
        };
        let unused: Vec<VersionId> =
            self.by_id.iter().filter(|entry| is_unused(entry)).map(|entry| *entry.key()).collect();
        for id in unused {
            self.retire_version(id);
        }
    }

    /// Every living version by service, in order.
    pub(super) fn entries(&self) -> BTreeMap<ServiceKey, Vec<Arc<VersionEntry>>> {
        let mut services: BTreeMap<ServiceKey, Vec<Arc<VersionEntry>>> = BTreeMap::new();
        for entry in &self.by_id {
            services.entry(entry.meta.key.service.clone()).or_default().push(Arc::clone(&entry));
        }
        for versions in services.values_mut() {
            versions.sort_by(|a, b| a.meta.key.version.cmp(&b.meta.key.version));
        }
        services
    }
}

/// Whether an id of a resource may say whose it is: now, or once others have named it.
pub(super) fn is_joinable(signal: Signal, resource: &ResourceView<'_>) -> bool {
    let names_service = resource.names_service();
    let is_complete = names_service && !resource.version.is_empty();
    !is_complete && (names_service || signal != Signal::Traces) && has_id(&resource.texts)
}

/// Whether a resource may belong to this service: what it says of it must be so.
fn fits(resource: &ResourceView<'_>, service: &ServiceKey) -> bool {
    let same = |said: &[u8], known: &str| said.is_empty() || said == known.as_bytes();
    (!resource.names_service() || resource.service == service.name.as_bytes())
        && service.name != UNKNOWN_SERVICE
        && service.name != VersionKey::OVERFLOW
        && same(resource.namespace, &service.namespace)
        && same(resource.environment, &service.environment)
}

#[cfg(test)]
#[path = "senders_tests.rs"]
mod tests;
