//! Spans without a version cannot be judged, and a service that sends only such spans would look healthy for
//! ever. So it is said aloud, once per service and [`REPEAT_S`], with the way out.

use crate::model::ServiceKey;

/// Seconds between two such lines about one service.
pub(super) const REPEAT_S: u64 = 600;
/// Spans of the last 5 minutes below which nothing is said.
const MIN_SPANS: u64 = 20;
/// Share below which nothing is said: a stray health check is no news.
const MIN_SHARE: f64 = 0.01;

/// The sentence for a service of whose last `all` spans `unversioned` named no version; `None` where that is
/// not worth one.
pub(super) fn complaint(service: &ServiceKey, unversioned: u64, all: u64) -> Option<String> {
    let share = unversioned as f64 / all.max(1) as f64;
    (all >= MIN_SPANS && share >= MIN_SHARE).then(|| {
        format!(
            "{:.0} % of {service}'s spans carry no version; set service.version, or name the attribute that \
             holds the version under receiver.version_attributes. Spans without a version are counted and \
             never judged",
            100.0 * share
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_named_and_little_is_not_worth_a_line() {
        let service = ServiceKey { name: "checkout".into(), ..ServiceKey::default() };
        let said = complaint(&service, 87, 100).unwrap();
        assert!(said.starts_with("87 % of checkout's spans carry no version; set service.version"), "{said}");
        for (unversioned, all) in [(0, 0), (19, 19), (0, 1_000), (9, 1_000)] {
            assert_eq!(complaint(&service, unversioned, all), None, "{unversioned} of {all}");
        }
    }
}
