//! Versions that served long enough to be compared with, whether or not they serve now. What is here is not
//! new when it is seen (again): a version that comes back after its series ended starts no deployment.
//! Bounded: per service the versions that were known longest ago go first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::model::{ServiceKey, VersionKey};

/// Versions kept per service.
const VERSIONS: usize = 200;
/// Services with known versions; beyond it nothing is added.
const SERVICES: usize = 10_000;

/// The versions that are known, by service.
#[derive(Debug, Default)]
pub(super) struct Known {
    services: BTreeMap<ServiceKey, VecDeque<Arc<str>>>,
}

impl Known {
    pub(super) fn insert(&mut self, key: &VersionKey) {
        if self.contains(key) {
            return;
        }
        if !self.services.contains_key(&key.service) && self.services.len() >= SERVICES {
            return;
        }
        let versions = self.services.entry(key.service.clone()).or_default();
        if versions.len() >= VERSIONS {
            versions.pop_front();
        }
        versions.push_back(key.version.as_str().into());
    }

    pub(super) fn contains(&self, key: &VersionKey) -> bool {
        self.of(&key.service).any(|version| **version == *key.version)
    }

    /// Known versions of a service, those known longest ago first.
    pub(super) fn of(&self, service: &ServiceKey) -> impl Iterator<Item = &Arc<str>> {
        self.services.get(service).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_a_service_make_room() {
        let key = |version: usize| VersionKey {
            service: ServiceKey { name: "shop".into(), ..ServiceKey::default() },
            version: version.to_string(),
        };
        let mut known = Known::default();
        (0..VERSIONS + 1).for_each(|version| known.insert(&key(version)));
        known.insert(&key(VERSIONS));
        assert!(!known.contains(&key(0)) && known.contains(&key(1)) && known.contains(&key(VERSIONS)));
        assert_eq!(known.of(&key(0).service).count(), VERSIONS);
        assert_eq!(known.of(&ServiceKey::default()).count(), 0);
    }
}
