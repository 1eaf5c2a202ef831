//! Where the requests of both versions go: zones that differ, and shares of traffic that are missed, end to end. OTLP bodies
//! of single instances go through the real walkers into the real pipeline, as spans or as request metrics.

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
use rollguard::deployment::{Deployment, Mode, Request};
use rollguard::model::UnixNanos;
use rollguard::pipeline::{CommandError, Commit};
use rollguard::receiver::{WalkSettings, walk_metrics, walk_traces};
use rollguard::verdict::{Flag, Policy, Verdict};

use super::dimensions::policy;
use super::front::{line, text};
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

/// A policy that asks for the share of traffic, with these keys of the SLI beside its kind.
fn asks_for_share(keys: &str) -> Policy {
    let slis = format!("    slis:\n      traffic_share: {{kind: traffic_share{keys}}}\n");
    Policy { min_pass_s: 300, horizon_s: 600, ..policy(&slis) }
}

/// Three instances of the old version with ten requests a second each, and two of the new one with so many.
fn beside(rps_each: u64) -> Vec<Served<'static>> {
    let old = (0..3).map(|i| ("v1", i, None, 10));
    old.chain((0..2).map(|i| ("v2", i, None, rps_each))).collect()
}

/// Scenario: a quarter of the traffic is meant to go to a sound new version, and it gets that, or an eighth of it; as spans,
/// as request metrics, over a restart. Guarantees: where it gets what is meant it passes; else there is no pass, and the
/// verdict says by how much and what to look at. Nothing fails unless the policy gives it weight; then that is the ground.
#[test]
fn a_version_that_gets_fewer_requests_than_its_share_does_not_pass() {
    for (keys, rps_each, sends_metrics, restarts, expected) in [
        (", share: 0.25", 5, false, false, Verdict::Pass),
        (", share: 0.25", 5, true, false, Verdict::Pass),
        (", share: 0.25", 2, false, false, Verdict::Inconclusive),
        (", share: 0.25", 2, true, false, Verdict::Inconclusive),
        (", share: 0.25", 2, false, true, Verdict::Inconclusive),
        (", share: 0.25, weight: 0.2", 5, false, false, Verdict::Pass),
        (", share: 0.25, weight: 0.2", 2, false, true, Verdict::Fail),
        // More than is meant is shown and nothing else, and without a share there is nothing to miss.
        (", share: 0.25", 20, false, false, Verdict::Pass),
        ("", 2, false, false, Verdict::Pass),
    ] {
        let is_missed = !matches!(expected, Verdict::Pass);
        let case = format!("{keys} {rps_each} {sends_metrics} {restarts}");
        let mut shop = Routed::open(asks_for_share(keys), sends_metrics);
        shop.seconds(170, &(0..3).map(|i| ("v1", i, None, 10)).collect::<Vec<_>>());
        for second in 0..700 {
            if restarts && second == 120 {
                shop.world.restart(3);
            }
            shop.second(&beside(rps_each));
            if shop.world.deployment("v2").is_some_and(|d| d.verdict != Verdict::Pending) {
                break;
            }
            if second == 450 && is_missed {
                let d = shop.v2();
                assert!(
                    d.explanation.contains("No pass while the new version gets clearly fewer"),
                    "{}",
                    d.explanation
                );
                assert!(d.explanation.contains("where 25 % are meant"), "{}", d.explanation);
                assert!(d.account().text().contains("a router that passes it by"), "{}", d.account().text());
            }
        }
        let d = shop.v2();
        assert_eq!(d.verdict, expected, "{case}: {} {:?}", d.explanation, d.evidence.flags);
        assert_eq!(d.evidence.has(Flag::ShareMismatch), is_missed, "{case}: {:?}", d.evidence.flags);
        let own = line(&d, "traffic_share");
        if keys.is_empty() {
            assert_eq!((own.requests, own.ln_e), ([0, 0], 0.0));
        } else {
            let got = own.bad[0] as f64 / own.requests[0] as f64;
            let meant = f64::from(rps_each as u32 * 2) / f64::from(rps_each as u32 * 2 + 30);
            assert!((got - meant).abs() < 0.02 && own.requests[0] > 300, "{case}: {own:?}");
            assert_eq!(own.ln_e > 4.6, is_missed, "{case}: {own:?}");
        }
        if expected == Verdict::Fail {
            assert!(d.explanation.contains("traffic_share is lower than meant"), "{}", d.explanation);
            assert!((own.weight - 0.2 / 1.2).abs() < 1e-12 && own.degraded, "{own:?}");
        }
    }
}

/// Scenario: a rollout in two steps, each told by starting the deployment again with its share; then the new version falls
/// silent. Guarantees: each step is held to its own share, what is told again changes nothing, and of a version that sends
/// nothing only that is said. A share that nothing is held against is refused with the way out.
#[test]
fn a_rollout_tells_the_share_of_each_step() {
    let start = |shop: &mut Routed, share: f64| {
        let (service, version) = ("shop".to_owned(), "v2".to_owned());
        let request = Request { service, version, share: Some(share), ..Request::default() };
        let (mut commit, now) = (Commit::default(), shop.world.now());
        let started = shop.world.engine.start(&request, now, &mut commit);
        shop.world.kept.take(commit);
        started
    };
    let mut shop = Routed::open(Policy { min_pass_s: 900, horizon_s: 1_200, ..asks_for_share("") }, false);
    shop.seconds(170, &(0..3).map(|i| ("v1", i, None, 10)).collect::<Vec<_>>());
    let begun = start(&mut shop, 0.25).expect("it begins");
    assert_eq!(begun.share, Some(0.25));
    shop.seconds(240, &beside(5));
    let before = line(&shop.v2(), "traffic_share").requests[0];
    assert!(before > 1_000, "{before}");
    for _ in 0..2 {
        let again = start(&mut shop, 0.5).expect("it goes on");
        assert_eq!((&again.id, again.share), (&begun.id, Some(0.5)));
    }
    shop.seconds(240, &beside(15));
    let d = shop.v2();
    assert!(!d.evidence.has(Flag::ShareMismatch), "{:?} {:?}", d.evidence.flags, line(&d, "traffic_share"));
    // As if the second step had not come at the router.
    shop.seconds(120, &beside(5));
    let d = shop.v2();
    assert!(d.evidence.has(Flag::ShareMismatch), "{:?} {:?}", d.evidence.flags, line(&d, "traffic_share"));
    assert_eq!(line(&d, "traffic_share").own.as_ref().and_then(|own| own.intended), Some(0.5));
    shop.seconds(40, &beside(0));
    let d = shop.v2();
    assert!(d.evidence.has(Flag::CandidateSilent), "{:?}", d.evidence.flags);
    assert!(d.explanation.contains("has stopped sending"), "{}", d.explanation);
    assert!(!d.explanation.contains("its share"), "{}", d.explanation);

    let mut other = Routed::open(policy(""), false);
    other.seconds(5, &beside(5));
    match start(&mut other, 0.1) {
        Err(CommandError::Invalid(text)) => assert!(text.contains("kind: traffic_share"), "{text}"),
        other => panic!("{other:?}"),
    }
}
