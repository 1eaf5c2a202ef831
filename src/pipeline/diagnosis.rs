//! What the telemetry of a service lacks, in words: which signals come, which attributes they carry, where
//! version and instance come from, and for what is missing the two lines of SDK or Collector configuration
//! that mend it. A picture of all services is made with every round of snapshots and published with the board.
//!
//! The numbers count records since the series of their versions began, so what was mended fades once the
//! series of `(unversioned)` end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::advice::{Missing, missing};
use super::flags::FlagTelemetry;
use super::passage::Signal;
use super::registry::{Registry, VersionEntry, lock};
use super::senders::{Sdk, Tally};
use crate::model::{Labels, ResourceAttribute, ServiceKey};

/// What is known of the senders of one service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceTelemetry {
    /// Which service.
    pub service: ServiceKey,
    /// By [`Signal::ALL`]; `None` where nothing came.
    pub signals: [Option<SignalTelemetry>; 3],
    /// Its versions in name order, `(unversioned)` included.
    pub versions: Vec<VersionTelemetry>,
    /// Seconds between two exports of its request metrics, once they are known.
    pub metrics_interval_s: Option<i64>,
    /// Feature flags that the configuration makes a part of versions, by key, with where they are told of.
    pub flags: BTreeMap<String, FlagTelemetry>,
    /// What is missing, the worst first.
    pub missing: Vec<Missing>,
}

/// One signal of a service. All numbers but `resources` are records: spans, data points, log records.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SignalTelemetry {
    /// Resources of messages.
    pub resources: u64,
    /// Records.
    pub records: u64,
    /// Without a version of their own and by no id of one.
    pub unversioned: u64,
    /// That reached their version by an id of their pod, container or process.
    pub joined: u64,
    /// Whose resource names what identifies the instance.
    pub with_instance: u64,
    /// With `service.namespace`.
    pub with_namespace: u64,
    /// With a deployment environment.
    pub with_environment: u64,
    /// By the source that named the version, as it is configured.
    pub version_from: BTreeMap<String, u64>,
    /// By the attribute that named the instance.
    pub instance_from: BTreeMap<&'static str, u64>,
    /// By attribute.
    pub with: BTreeMap<ResourceAttribute, u64>,
}

/// One version of a service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VersionTelemetry {
    /// Its label.
    pub version: String,
    /// Records by [`Signal::ALL`].
    pub records: [u64; 3],
    /// SDKs that its spans name.
    pub sdks: Arc<Vec<Sdk>>,
    /// The change it carries.
    pub change: Arc<Labels>,
    /// Instances by where they run: zone, region, cluster. Those that say nothing of it are left out.
    pub places: BTreeMap<[Option<String>; 3], u64>,
}

/// The attributes of [`VersionTelemetry::places`].
pub const PLACED_BY: [ResourceAttribute; 3] =
    [ResourceAttribute::Zone, ResourceAttribute::Region, ResourceAttribute::Cluster];

impl SignalTelemetry {
    /// A number of records as a share of all.
    pub fn share(&self, records: u64) -> f64 {
        if self.records == 0 { 0.0 } else { records as f64 / self.records as f64 }
    }

    fn add(&mut self, tally: &Tally, sources: &[Box<str>], is_versioned: bool) {
        self.resources += tally.resources;
        self.records += tally.records;
        self.joined += tally.joined;
        self.unversioned += if is_versioned { 0 } else { tally.records };
        self.with_namespace += tally.with_namespace;
        self.with_environment += tally.with_environment;
        for (source, records) in sources.iter().zip(tally.version_from).filter(|(_, records)| *records > 0) {
            *self.version_from.entry(source.to_string()).or_default() += records;
        }
        for (attribute, records) in tally.instances_from().filter(|(_, records)| *records > 0) {
            *self.instance_from.entry(attribute.as_str()).or_default() += records;
            self.with_instance += records;
        }
        for (attribute, records) in ResourceAttribute::ALL.into_iter().zip(tally.with) {
            if records > 0 {
                *self.with.entry(attribute).or_default() += records;
            }
        }
    }
}

/// Every service of the registry, in order. `interval_s` knows how often the metrics of each come.
pub(super) fn diagnose(
    registry: &Registry,
    interval_s: impl Fn(&ServiceKey) -> Option<i64>,
) -> Vec<ServiceTelemetry> {
    let services = registry.entries().into_iter();
    let one = |(service, versions): (ServiceKey, Vec<Arc<VersionEntry>>)| {
        let interval_s = interval_s(&service);
        service_telemetry(registry, service, &versions, interval_s)
    };
    services.map(one).collect()
}

fn service_telemetry(
    registry: &Registry,
    service: ServiceKey,
    versions: &[Arc<VersionEntry>],
    metrics_interval_s: Option<i64>,
) -> ServiceTelemetry {
    let mut all = ServiceTelemetry { service, metrics_interval_s, ..ServiceTelemetry::default() };
    for entry in versions {
        let mut version =
            VersionTelemetry { version: entry.meta.key.version.clone(), ..VersionTelemetry::default() };
        let account = lock(&entry.account);
        version.sdks = Arc::clone(&account.sdks);
        version.change = Arc::clone(&account.change);
        for (flag, told) in &account.flags {
            all.flags.entry(flag.to_string()).or_default().add(told);
        }
        for signal in Signal::ALL {
            if let Some(tally) = &account.signals[signal as usize] {
                version.records[signal as usize] = tally.records;
                let of_service = all.signals[signal as usize].get_or_insert_default();
                of_service.add(tally, &account.sources, entry.meta.is_judged());
            }
        }
        drop(account);
        version.places = places(registry, entry);
        all.versions.push(version);
    }
    all.missing = missing(&all);
    all
}

/// Instances of a version by where they run.
fn places(registry: &Registry, entry: &VersionEntry) -> BTreeMap<[Option<String>; 3], u64> {
    let mut places = BTreeMap::new();
    for instance in entry.instances() {
        let Some(place) = registry.place_of(instance) else { continue };
        let place = PLACED_BY.map(|attribute| place.get(attribute).map(str::to_owned));
        if place.iter().any(Option::is_some) {
            *places.entry(place).or_default() += 1;
        }
    }
    places
}

#[cfg(test)]
#[path = "diagnosis_tests.rs"]
mod tests;
