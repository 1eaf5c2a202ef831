//! OTLP metrics over HTTP to the verdict: the real receiver, the real pipeline, and a clock that is a number.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
    ResourceMetrics, ScopeMetrics, exponential_histogram_data_point::Buckets, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::deployment::Mode;
use rollguard::model::Source;
use rollguard::pipeline::{Disposition, Signal};
use rollguard::verdict::Verdict;

use super::door::Door;
use super::metrics::{BOUNDS, Fleet, Instance, Kind, OFFSET, policy};
use super::world::{World, at};

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

/// A resource of `shop` that says this of itself.
fn resource(more: &[(&str, &str)]) -> Resource {
    let all = [("service.name", "shop")].iter().chain(more);
    Resource { attributes: all.map(|(key, value)| text(key, value)).collect(), ..Default::default() }
}

/// What an instance exports at `now_s`: requests by status code, as an SDK writes them.
fn request(kind: Kind, version: &str, instance: &Instance, now_s: u64) -> Vec<u8> {
    let sender = [("service.version", version), ("service.instance.id", &instance.name)];
    request_of(kind, &sender, instance, now_s)
}

/// The same of a sender that says this of itself beside the service's name.
fn request_of(kind: Kind, sender: &[(&str, &str)], instance: &Instance, now_s: u64) -> Vec<u8> {
    let attributes = |failed: usize| {
        let code = AnyValue { value: Some(Value::IntValue(if failed == 1 { 500 } else { 200 })) };
        let mut all = vec![
            text("http.request.method", "GET"),
            text("http.route", "/cart"),
            KeyValue { key: "http.response.status_code".into(), value: Some(code), key_strindex: 0 },
        ];
        if failed == 1 {
            all.push(text("error.type", "500"));
        }
        all
    };
    let seen = || instance.counts.iter().enumerate().filter(|(_, counts)| counts.iter().any(|n| *n > 0));
    let data = match kind {
        Kind::CumulativeExplicit => Data::Histogram(Histogram {
            data_points: seen()
                .map(|(failed, counts)| HistogramDataPoint {
                    attributes: attributes(failed),
                    start_time_unix_nano: at(instance.started_s),
                    time_unix_nano: at(now_s),
                    count: counts.iter().sum(),
                    explicit_bounds: BOUNDS.to_vec(),
                    bucket_counts: counts[..BOUNDS.len() + 1].to_vec(),
                    ..Default::default()
                })
                .collect(),
            aggregation_temporality: 2,
        }),
        Kind::DeltaExponential => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: seen()
                .map(|(failed, counts)| ExponentialHistogramDataPoint {
                    attributes: attributes(failed),
                    start_time_unix_nano: at(instance.last_export_s),
                    time_unix_nano: at(now_s),
                    count: counts.iter().sum(),
                    scale: 3,
                    positive: Some(Buckets { offset: OFFSET, bucket_counts: counts.clone() }),
                    ..Default::default()
                })
                .collect(),
            aggregation_temporality: 1,
        }),
    };
    let duration = Metric {
        name: "http.server.request.duration".into(),
        unit: "s".into(),
        data: Some(data),
        ..Default::default()
    };
    let resource = resource(sender);
    let scope = ScopeMetrics { metrics: vec![duration], ..Default::default() };
    let envelope =
        ResourceMetrics { resource: Some(resource), scope_metrics: vec![scope], ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec()
}

/// Serves `v1` and then `v2` beside it, every export an HTTP request; the verdict on `v2`.
async fn served(kind: Kind, errors: f64) -> (World, Option<Verdict>) {
    let mut world = World::new(policy(), Mode::Observe);
    let door = Door::open(&world).await;
    let mut fleet = Fleet::new(kind);
    world.run(1);
    fleet.start("v1", 3, world.now_s);
    for second in 0..1_200 {
        if second == 400 {
            fleet.start("v2", 2, world.now_s);
        }
        world.run(1);
        door.set_time(world.now_s);
        let mut bodies = Vec::new();
        fleet.second(world.now_s, &[("v1", 10, 0.001, 1.0), ("v2", 10, errors, 1.0)], |version, instance| {
            bodies.push(request(kind, version, instance, world.now_s));
        });
        for body in bodies {
            door.post("/v1/metrics", body).await;
        }
        if world.deployment("v2").is_some_and(|d| d.verdict != Verdict::Pending) {
            break;
        }
    }
    world.run(30);
    door.close().await;
    let verdict = world.deployment("v2").map(|d| d.verdict);
    (world, verdict)
}

/// Scenario: a service of two versions sends metrics over HTTP each 15 s and nothing else. Guarantees: a version
/// that fails 5 % fails, an equal one passes, by cumulative explicit and by delta exponential histograms; every
/// point received is accounted for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_at_the_front_door_come_to_a_verdict() {
    for (kind, errors, expected) in [
        (Kind::CumulativeExplicit, 0.05, Verdict::Fail),
        (Kind::CumulativeExplicit, 0.001, Verdict::Pass),
        (Kind::DeltaExponential, 0.05, Verdict::Fail),
    ] {
        let (world, verdict) = served(kind, errors).await;
        assert_eq!(verdict, Some(expected), "{kind:?} {errors}");
        let ledger = world.shards.ledger();
        let settled: u64 = Disposition::all().map(|d| ledger.settled(Signal::Metrics, d)).sum();
        assert_eq!(ledger.received(Signal::Metrics), settled);
        assert_eq!(ledger.settled(Signal::Metrics, Disposition::Late), 0);
    }
}

/// A pod's inner span, which names its version and is no request.
fn span_of(version: &str, pod: &str, now_s: u64) -> Vec<u8> {
    let span = Span { kind: 1, end_time_unix_nano: at(now_s), ..Default::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    let resource = Some(resource(&[("service.version", version), ("k8s.pod.uid", pod)]));
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Scenario: the counters of a pod know its uid only. It is of no version at first, of v1 once a span says so, of none
/// while v2 claims the pod as well, and of v2 once v1 is silent. Guarantees: every request counts for one version, that
/// of its time, by cumulative and by delta points; every point is accounted for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_a_pod_that_becomes_known_count_for_one_version() {
    for kind in [Kind::CumulativeExplicit, Kind::DeltaExponential] {
        let mut world = World::new(policy(), Mode::Observe);
        let door = Door::open(&world).await;
        let mut fleet = Fleet::new(kind);
        world.run(1);
        fleet.start("pod", 1, world.now_s);
        let mut exported = 0;
        for second in 0..900 {
            world.run(1);
            door.set_time(world.now_s);
            if second % 10 == 0 && (200..420).contains(&second) {
                door.post("/v1/traces", span_of("v1", "pod-0", world.now_s)).await;
            }
            if second % 10 == 0 && second >= 400 {
                door.post("/v1/traces", span_of("v2", "pod-0", world.now_s)).await;
            }
            let mut bodies = Vec::new();
            fleet.second(world.now_s, &[("pod", 10, 0.01, 1.0)], |_, instance| {
                let held: u64 = instance.counts.iter().flatten().sum();
                exported = if kind == Kind::CumulativeExplicit { held } else { exported + held };
                bodies.push(request_of(kind, &[("k8s.pod.uid", &instance.name)], instance, world.now_s));
            });
            for body in bodies {
                door.post("/v1/metrics", body).await;
            }
        }
        world.run(60);
        door.close().await;
        let metrics = |version: &str| {
            let board = world.version(version).expect("on the board");
            board.sources[Source::Metrics as usize].expect("counted by metrics").requests_total
        };
        let counted = ["(unversioned)", "v1", "v2"].map(metrics);
        assert_eq!(counted.iter().sum::<u64>(), exported, "{kind:?} {counted:?}");
        // 200 s and the 120 s of the two claims, 200 s, and the rest; each border within two exports.
        for (counted, expected) in counted.into_iter().zip([3_200, 2_000, 3_800]) {
            assert!(counted.abs_diff(expected) <= 500, "{kind:?} {counted} of {expected}");
        }
        let ledger = world.shards.ledger();
        let settled: u64 = Disposition::all().map(|d| ledger.settled(Signal::Metrics, d)).sum();
        assert_eq!(ledger.received(Signal::Metrics), settled, "{kind:?}");
    }
}
