//! Where the requests of both versions are served: an instance runs in one zone, and a zone has a network and
//! neighbours of its own. Where the versions serve from different zones, a difference between them may be the zones'.
//! It is told, and holds a PASS back; it moves no evidence.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cohort::{MixShift, OTHER_VALUE, Rolling};
use super::input::{SlotInput, totals};
use super::policy::Policy;
use crate::model::snapshot::snapshot_fields;
use crate::model::{ResourceAttribute, Slot, Source};

/// Zones that are told apart; requests of further ones count under [`OTHER_VALUE`].
const ZONES_MAX: usize = 32;
/// Total variation distance between the versions' shares of requests over zones above which they count as different.
const SKEW: f64 = 0.3;
/// Requests for each zone that either version must have served: with fewer, chance alone looks like a difference.
const LEAST_PER_ZONE: u64 = 20;
/// Share of a version's requests whose zone must be known.
const KNOWN: f64 = 0.8;

/// Requests of the last five minutes by zone, of one source.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ZoneMix {
    source: Source,
    zones: BTreeMap<Arc<str>, Rolling>,
    /// All that are compared, also those of instances whose zone is not known.
    all: Rolling,
}

snapshot_fields!(ZoneMix { source, zones, all });

impl ZoneMix {
    /// Counts a slot of the source on which a PASS rests; with another source it begins anew.
    pub(super) fn add(&mut self, source: Source, t: Slot, input: &SlotInput) {
        if self.source != source {
            *self = Self { source, ..Self::default() };
        }
        let arms = [&input.candidate, &input.baseline];
        self.all.add(t, arms.map(|arm| totals(&arm.warm)[0]));
        for (side, arm) in arms.into_iter().enumerate() {
            for (zone, requests) in &arm.zones {
                let is_known = self.zones.contains_key(zone) || self.zones.len() < ZONES_MAX;
                let zone = if is_known { Arc::clone(zone) } else { Arc::from(OTHER_VALUE) };
                let mut counts = [0; 2];
                counts[side] = *requests;
                self.zones.entry(zone).or_default().add(t, counts);
            }
        }
        self.zones.retain(|_, one| {
            one.forget(t);
            !one.is_empty()
        });
    }

    /// The difference between where the versions serve, once both are known well enough to tell.
    pub(super) fn shift(&self) -> Option<MixShift> {
        let counts: Vec<(&str, [u64; 2])> =
            self.zones.iter().map(|(zone, one)| (&**zone, one.sums())).collect();
        let all = self.all.sums();
        let least = LEAST_PER_ZONE * counts.len() as u64;
        let is_known = |side: usize| {
            let known: u64 = counts.iter().map(|(_, counts)| counts[side]).sum();
            known >= least && known as f64 >= KNOWN * all[side] as f64
        };
        if counts.len() < 2 || !is_known(0) || !is_known(1) {
            return None;
        }
        MixShift::of(ResourceAttribute::Zone.as_str(), counts.into_iter())
    }

    /// Whether it is large enough to hold a PASS back. Where zones are a dimension of the policy, operations are compared
    /// within each.
    pub(super) fn is_skewed(&self, policy: &Policy) -> bool {
        !policy.has_dimension(ResourceAttribute::Zone.as_str())
            && self.shift().is_some_and(|shift| shift.distance > SKEW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Arm, Cell, Counts, Dimension};

    /// Requests by zone.
    type ByZone<'a> = &'a [(&'a str, u64)];

    /// An arm that serves so many requests in each zone; those of "" are of instances of which no zone is known.
    fn arm(zones: ByZone<'_>) -> Arm {
        let all = zones.iter().map(|(_, n)| n).sum();
        let counts = Counts { requests: all, ..Counts::default() };
        let cell = Cell { groups: [counts, Counts::default()], bounds: None };
        let named = zones.iter().filter(|(zone, _)| !zone.is_empty());
        Arm {
            warm: [("GET /".into(), cell)].into(),
            zones: named.map(|(zone, n)| (Arc::from(*zone), *n)).collect(),
            ..Arm::default()
        }
    }

    fn mix(candidate: ByZone<'_>, baseline: ByZone<'_>) -> ZoneMix {
        let mut mix = ZoneMix::default();
        let input = SlotInput { candidate: arm(candidate), baseline: arm(baseline), ..SlotInput::default() };
        (0..10).for_each(|t| mix.add(Source::Spans, t, &input));
        mix
    }

    #[test]
    fn versions_that_serve_from_different_zones_are_told() {
        let alike: ByZone<'_> = &[("a", 10), ("b", 10), ("c", 10)];
        let rows: [(ByZone<'_>, ByZone<'_>, Option<f64>); 8] = [
            (alike, alike, Some(0.0)),
            (&[("a", 30)], alike, Some(2.0 / 3.0)),
            (&[("a", 10)], &[("b", 30)], Some(1.0)),
            // One zone in all: nothing to differ by.
            (&[("a", 10)], &[("a", 30)], None),
            // Too few of the candidate for three zones.
            (&[("a", 5)], alike, None),
            // Of most of its requests no zone is known.
            (&[("a", 10), ("", 30)], alike, None),
            (&[("a", 30), ("", 5)], alike, Some(2.0 / 3.0)),
            (&[], alike, None),
        ];
        for (candidate, baseline, distance) in rows {
            let mix = mix(candidate, baseline);
            let shift = mix.shift();
            assert_eq!(
                shift.as_ref().map(|s| (s.distance * 1e9).round() / 1e9),
                distance.map(|d| (d * 1e9_f64).round() / 1e9),
                "{candidate:?} {baseline:?}"
            );
            let skewed = distance.is_some_and(|d| d > 0.3);
            assert_eq!(mix.is_skewed(&Policy::default()), skewed, "{candidate:?} {baseline:?}");
            if skewed {
                let shift = shift.unwrap();
                assert_eq!(shift.by, "cloud.availability_zone");
                assert_eq!(shift.value, if shift.distance < 1.0 { "a" } else { "b" });
            }
        }
    }

    #[test]
    fn a_zone_that_is_a_dimension_is_compared_within() {
        let zone = Dimension { attribute: "cloud.availability_zone".into(), values: 8 };
        let policy = Policy { dimensions: Arc::new(vec![zone]), ..Policy::default() };
        assert!(!mix(&[("a", 30)], &[("b", 30)]).is_skewed(&policy));
    }

    #[test]
    fn only_the_last_five_minutes_of_one_source_count_and_zones_are_bounded() {
        let mut mix = mix(&[("a", 30)], &[("b", 30)]);
        let alike = [("a", 15), ("b", 15)];
        let input = SlotInput { candidate: arm(&alike), baseline: arm(&alike), ..SlotInput::default() };
        (10..400).for_each(|t| mix.add(Source::Spans, t, &input));
        assert!(mix.shift().unwrap().distance < 1e-9, "what was skewed six minutes ago is over");
        mix.add(Source::Metrics, 400, &SlotInput::default());
        assert_eq!((mix.shift(), mix.zones.len()), (None, 0));
        for t in 0..500 {
            let zone = format!("zone-{t}");
            let one = SlotInput { candidate: arm(&[(&zone, 5)]), ..SlotInput::default() };
            mix.add(Source::Metrics, 401 + t / 100, &one);
        }
        assert_eq!(mix.zones.len(), ZONES_MAX + 1);
        mix.add(Source::Metrics, 1_000, &SlotInput::default());
        assert_eq!(mix.zones.len(), 0);
    }

    /// Property: of versions that serve alike, chance alone is never told, however few requests suffice.
    #[test]
    fn chance_is_no_skew() {
        let mut random = fastrand::Rng::with_seed(5);
        for zones in 2..=8usize {
            let mut told = 0;
            for _ in 0..400 {
                let mut draw = |requests: usize| {
                    let mut counts = vec![0u64; zones];
                    (0..requests).for_each(|_| counts[random.usize(..zones)] += 1);
                    counts
                };
                let (candidate, baseline) = (draw(20 * zones), draw(20 * zones));
                let names: Vec<String> = (0..zones).map(|zone| format!("z{zone}")).collect();
                let of = |counts: &[u64]| {
                    let named: Vec<(&str, u64)> =
                        names.iter().map(String::as_str).zip(counts.iter().copied()).collect();
                    arm(&named)
                };
                let mut mix = ZoneMix::default();
                let input =
                    SlotInput { candidate: of(&candidate), baseline: of(&baseline), ..SlotInput::default() };
                mix.add(Source::Spans, 0, &input);
                told += u32::from(mix.is_skewed(&Policy::default()));
            }
            assert!(told <= 2, "{zones} zones: {told} of 400");
        }
    }
}
