//! Where the requests of both versions go: zones that differ, end to end. OTLP bodies with the zone of each instance go
//! through the real walkers into the real pipeline, as spans or as request metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::deployment::{Deployment, Mode};
use rollguard::model::UnixNanos;
use rollguard::receiver::{WalkSettings, walk_metrics, walk_traces};
use rollguard::verdict::{Flag, Policy, Verdict};

use super::dimensions::policy;
use super::front::text;
use super::world::{World, at};

/// Bounds of durations in seconds.
const BOUNDS: [f64; 6] = [0.02, 0.03, 0.04, 0.05, 0.06, 0.075];
/// Seconds between two exports of metrics.
const EXPORT_S: u64 = 5;

/// An instance: its version, its zone if it names one, and the requests that it serves in a second.
type Served<'a> = (&'a str, usize, Option<&'a str>, u64);

/// A shop whose instances are told one by one what they serve.
pub(super) struct Routed {
    pub(super) world: World,
    pub(super) random: fastrand::Rng,
    /// What each instance has counted, where it sends metrics in place of spans: since when, and requests by bucket.
    meters: Option<BTreeMap<String, (u64, [u64; BOUNDS.len() + 1])>>,
}

impl Routed {
    pub(super) fn open(policy: Policy, sends_metrics: bool) -> Self {
        Self {
            world: World::new(policy, Mode::Act),
            random: fastrand::Rng::with_seed(17),
            meters: sends_metrics.then(BTreeMap::new),
        }
    }

    /// A second of what instances serve.
    pub(super) fn second(&mut self, served: &[Served<'_>]) {
        self.world.run(1);
        let now = self.world.now_s;
        for &(version, instance, zone, requests) in served {
            let name = format!("{version}-{instance}");
            let mut attributes = vec![
                text("service.name", "shop"),
                text("service.version", version),
                text("service.instance.id", &name),
            ];
            attributes.extend(zone.map(|zone| text("cloud.availability_zone", zone)));
            let resource = Some(Resource { attributes, ..Default::default() });
            let took: Vec<u64> = (0..requests)
                .map(|_| (20_000_000.0 * 4f64.powf(self.random.f64() * self.random.f64())) as u64)
                .collect();
            let arrival = UnixNanos(at(now) + 300_000_000);
            let mut batch = self.world.intake.begin(arrival);
            if let Some(meters) = &mut self.meters {
                let (since, buckets) = meters.entry(name).or_insert_with(|| (now - 1, Default::default()));
                for took in took {
                    buckets[BOUNDS.partition_point(|bound| bound * 1e9 < took as f64)] += 1;
                }
                if (now + instance as u64 * 2).is_multiple_of(EXPORT_S) {
                    let body = export(resource, *since, now, buckets);
                    walk_metrics(&body, &WalkSettings::default(), &mut batch).expect("sound");
                }
            } else {
                let spans = took.into_iter().map(|took| {
                    let end = at(now - 1) + self.random.u64(..1_000_000_000);
                    Span {
                        name: "GET /".into(),
                        kind: 2,
                        start_time_unix_nano: end - took,
                        end_time_unix_nano: end,
                        attributes: of_route(),
                        ..Default::default()
                    }
                });
                let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..Default::default() }];
                let envelope = ResourceSpans { resource, scope_spans, ..Default::default() };
                let body = ExportTraceServiceRequest { resource_spans: vec![envelope] }.encode_to_vec();
                walk_traces(&body, &WalkSettings::default(), &mut batch).expect("sound");
            }
            batch.commit().expect("the log has room");
        }
    }

    pub(super) fn seconds(&mut self, seconds: u64, served: &[Served<'_>]) {
        (0..seconds).for_each(|_| self.second(served));
    }

    pub(super) fn v2(&self) -> Arc<Deployment> {
        self.world.deployment("v2").expect("v2 was seen")
    }
}

fn of_route() -> Vec<KeyValue> {
    vec![
        text("http.request.method", "GET"),
        text("http.route", "/cart"),
        text("http.response.status_code", "200"),
    ]
}

/// What an instance exports, as an SDK writes it.
fn export(resource: Option<Resource>, since: u64, now: u64, buckets: &[u64; BOUNDS.len() + 1]) -> Vec<u8> {
    let point = HistogramDataPoint {
        attributes: of_route(),
        start_time_unix_nano: at(since),
        time_unix_nano: at(now),
        count: buckets.iter().sum(),
        explicit_bounds: BOUNDS.to_vec(),
        bucket_counts: buckets.to_vec(),
        ..Default::default()
    };
    let histogram = Histogram { data_points: vec![point], aggregation_temporality: 2 };
    let metric = Metric {
        name: "http.server.request.duration".into(),
        unit: "s".into(),
        data: Some(Data::Histogram(histogram)),
        ..Default::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
    let envelope = ResourceMetrics { resource, scope_metrics, ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec()
}

const ZONES: [Option<&str>; 3] = [Some("eu-1a"), Some("eu-1b"), Some("eu-1c")];

/// The old version in three zones, ten requests a second in each.
fn spread(version: &'static str) -> Vec<Served<'static>> {
    (0..3).map(|i| (version, i, ZONES[i], 10)).collect()
}

/// Scenario: a sound version runs beside one that is spread over three zones: in one of them only, spread alike, or in no
/// zone that is known; as spans and as request metrics, also over a restart. Guarantees: where they serve from different
/// zones there is no pass, the verdict names the zone and the way out, and nothing fails; else it passes.
#[test]
fn versions_that_serve_from_different_zones_do_not_pass() {
    let in_one: Vec<Served<'_>> = (0..3).map(|i| ("v2", i, ZONES[0], 10)).collect();
    let in_none: Vec<Served<'_>> = (0..3).map(|i| ("v2", i, None, 10)).collect();
    for (v2, sends_metrics, restarts, is_skewed) in [
        (in_one.clone(), false, false, true),
        (in_one.clone(), true, false, true),
        (in_one, false, true, true),
        (spread("v2"), false, false, false),
        (in_none, false, false, false),
    ] {
        let mut shop = Routed::open(Policy { horizon_s: 300, ..policy("") }, sends_metrics);
        let old = spread("v1");
        shop.seconds(170, &old);
        let both: Vec<Served<'_>> = old.into_iter().chain(v2).collect();
        for second in 0..360 {
            if restarts && second == 100 {
                shop.world.restart(3);
            }
            shop.second(&both);
            if shop.world.deployment("v2").is_some_and(|d| d.verdict != Verdict::Pending) {
                break;
            }
            let is_due = if sends_metrics { second == 150 } else { second == 60 };
            if is_due && is_skewed {
                let d = shop.v2();
                assert!(d.explanation.contains("different zones (eu-1a: "), "{}", d.explanation);
                let account = d.account().text();
                assert!(account.contains("make cloud.availability_zone a dimension"), "{account}");
            }
        }
        let d = shop.v2();
        assert_eq!(d.evidence.has(Flag::ZoneSkew), is_skewed, "{:?}", d.evidence.flags);
        let expected = if is_skewed { Verdict::Inconclusive } else { Verdict::Pass };
        assert_eq!(d.verdict, expected, "{} {:?}", d.explanation, d.evidence.flags);
        if is_skewed {
            let zones = d.evidence.zones.as_ref().expect("both are known");
            assert_eq!((zones.by.as_str(), zones.value.as_str()), ("cloud.availability_zone", "eu-1a"));
            assert!((zones.distance - 2.0 / 3.0).abs() < 0.05 && zones.shares[0] > 0.99, "{zones:?}");
        }
    }
}

/// Scenario: the same in one zone only, where zones are a dimension of the policy. Guarantee: operations are compared
/// within each zone, so that nothing holds the pass back; what differs is still told.
#[test]
fn zones_that_are_a_dimension_hold_nothing_back() {
    let keys = "    dimensions: {cloud.availability_zone: {}}\n";
    let mut shop = Routed::open(policy(keys), false);
    let old = spread("v1");
    shop.seconds(170, &old);
    let both: Vec<Served<'_>> = old.into_iter().chain((0..3).map(|i| ("v2", i, ZONES[0], 10))).collect();
    shop.seconds(200, &both);
    let d = shop.v2();
    assert_eq!(d.verdict, Verdict::Pass, "{} {:?}", d.explanation, d.evidence.flags);
    assert!(!d.evidence.has(Flag::ZoneSkew) && d.evidence.zones.as_ref().is_some_and(|z| z.distance > 0.5));
}

/// Scenario: the new version begins in one zone and grows into all of them later. Guarantee: five minutes after that
/// nothing holds the pass back any more.
#[test]
fn the_flag_falls_when_instances_are_spread() {
    let mut shop = Routed::open(Policy { horizon_s: 900, ..policy("") }, false);
    let old = spread("v1");
    shop.seconds(170, &old);
    let with = |v2: Vec<Served<'static>>| -> Vec<Served<'static>> { old.iter().copied().chain(v2).collect() };
    shop.seconds(100, &with((0..3).map(|i| ("v2", i, ZONES[0], 10)).collect()));
    assert!(shop.v2().evidence.has(Flag::ZoneSkew) && shop.v2().verdict == Verdict::Pending);
    shop.seconds(330, &with((0..9).map(|i| ("v2", i, ZONES[i / 3], 3)).collect()));
    let d = shop.v2();
    assert_eq!(d.verdict, Verdict::Pass, "{} {:?}", d.explanation, d.evidence.flags);
}
