//! In which zone the instances of a version run, for the requests that they serve: learned from their resources while a
//! deployment of the version is looked at, about 60 bytes an instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::registry::Registry;
use super::service::Service;
use super::version::Version;
use crate::model::{InstanceId, ResourceAttribute, UnixNanos};
use crate::window::InstanceSlot;

/// Seconds between two looks for instances that have come.
const LOOK_S: i64 = 10;

/// The zones of the instances of a version, of those that name one.
#[derive(Debug, Default)]
pub(super) struct InstanceZones {
    of: BTreeMap<InstanceId, Arc<str>>,
}

impl InstanceZones {
    /// Looks where instances run of which that is not known yet.
    fn learn(&mut self, instances: impl Iterator<Item = InstanceId>, registry: &Registry) {
        for id in instances {
            if !self.of.contains_key(&id)
                && let Some(zone) =
                    registry.place_of(id).as_ref().and_then(|place| place.get(ResourceAttribute::Zone))
            {
                self.of.insert(id, zone.into());
            }
        }
    }

    /// Requests of a slot by zone, those in their warm-up left out as in what is compared.
    pub(super) fn count(&self, instances: &[InstanceSlot]) -> Vec<(Arc<str>, u64)> {
        if self.of.is_empty() {
            return Vec::new();
        }
        let mut counts = BTreeMap::<&Arc<str>, u64>::new();
        for seen in instances.iter().filter(|seen| seen.n > 0) {
            if let Some(zone) = self.of.get(&seen.instance) {
                *counts.entry(zone).or_default() += u64::from(seen.n);
            }
        }
        counts.into_iter().map(|(zone, n)| (Arc::clone(zone), n)).collect()
    }
}

impl Service {
    /// Looks where the instances of versions run that are compared.
    pub(super) fn learn_zones(&mut self, registry: &Registry, now: UnixNanos) {
        if now.slot() % LOOK_S != 0 {
            return;
        }
        for running in self.running.iter().filter(|running| running.is_judging()) {
            let deployment = running.deployment();
            let labels = [Some(&deployment.candidate), deployment.baseline.as_ref()];
            for label in labels.into_iter().flatten() {
                if let Some(Version { zones, ordinals, .. }) =
                    self.versions.get_mut(label.as_str()).map(Box::as_mut)
                {
                    zones.learn(ordinals.keys().copied(), registry);
                }
            }
        }
    }
}
