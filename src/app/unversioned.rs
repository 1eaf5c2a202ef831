//! Spans without a version count for nobody: no deployment of their service can be seen or judged. That is
//! the most common mistake of a first set-up, so it is said loudly, once per service, with the way out.

use std::collections::BTreeSet;

use crate::model::ServiceKey;
use crate::pipeline::Board;

/// Share of the requests of 5 minutes from which it is said.
const LOUD: f64 = 0.01;
/// Fewer requests of a service may be somebody's first try.
const MIN_REQUESTS: u64 = 100;

/// What was said already. Bounded by the services on the board.
#[derive(Debug, Default)]
pub(super) struct Unversioned {
    said: BTreeSet<ServiceKey>,
}

impl Unversioned {
    /// Services of which it must be said now, with the share of their requests that carry no version. A
    /// service that was put right and turns bad again is said again.
    fn news(&mut self, board: &Board) -> Vec<(ServiceKey, f64)> {
        let bad = board.services.iter().filter_map(|service| {
            let requests: u64 = service.versions.iter().map(|v| v.requests_5m).sum();
            let share = service.unversioned_share();
            (requests >= MIN_REQUESTS && share >= LOUD).then(|| (service.key.clone(), share))
        });
        let bad: Vec<(ServiceKey, f64)> = bad.collect();
        let before = std::mem::take(&mut self.said);
        self.said = bad.iter().map(|(key, _)| key.clone()).collect();
        bad.into_iter().filter(|(key, _)| !before.contains(key)).collect()
    }

    /// Says it.
    pub(super) fn tell(&mut self, board: &Board) {
        for (service, share) in self.news(board) {
            let per_cent = (100.0 * share).round();
            tracing::warn!(
                "{per_cent} % of {service}'s spans carry no version, so its deployments cannot be judged; set the \
                 resource attribute service.version (OTEL_RESOURCE_ATTRIBUTES=service.version=...), or name the \
                 attribute that holds it in receiver.version_attributes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VersionKey;
    use crate::pipeline::{ServiceBoard, VersionBoard};

    fn board(unversioned: u64, versioned: u64) -> Board {
        let version = |version: &str, requests_5m| VersionBoard {
            version: version.to_owned(),
            requests_5m,
            ..VersionBoard::default()
        };
        let service = ServiceBoard {
            key: ServiceKey { name: "shop".to_owned(), ..ServiceKey::default() },
            versions: vec![version(VersionKey::UNVERSIONED, unversioned), version("v1", versioned)],
            lateness_seconds: 1.0,
            completeness: 1.0,
            slo: 0.99,
        };
        Board { services: vec![service], ..Board::default() }
    }

    #[test]
    fn is_said_once_until_it_was_put_right() {
        let mut unversioned = Unversioned::default();
        let rows = [
            (50, 10, None, "too few to tell"),
            (87, 13, Some(0.87), "now"),
            (90, 10, None, "said already"),
            (0, 100, None, "put right"),
            (0, 0, None, "silent"),
            (5, 995, None, "a few strays"),
            (50, 50, Some(0.5), "again"),
        ];
        for (without, with, share, name) in rows {
            let news = unversioned.news(&board(without, with));
            assert_eq!(news.first().map(|(_, share)| *share), share, "{name}");
        }
        assert!(unversioned.news(&Board::default()).is_empty() && unversioned.said.is_empty());
    }
}
