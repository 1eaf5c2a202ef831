//! OTLP metrics over HTTP to the verdict: the real receiver, the real pipeline, and a clock that is a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
    ResourceMetrics, ScopeMetrics, exponential_histogram_data_point::Buckets, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use rollguard::deployment::Mode;
use rollguard::model::UnixNanos;
use rollguard::pipeline::clock::Clock;
use rollguard::pipeline::{Disposition, NoDownstream, Signal};
use rollguard::receiver::{Doors, GrpcConfig, HttpConfig, ReceiverConfig, ReceiverDeps, Receivers};
use rollguard::telemetry::ProcessMemory;
use rollguard::verdict::Verdict;
use tokio_util::sync::CancellationToken;

use super::metrics::{BOUNDS, Fleet, Instance, Kind, OFFSET, policy};
use super::world::{World, at};

/// The time, set by the test.
#[derive(Default)]
struct Stage(AtomicU64);

impl Clock for Stage {
    fn now(&self) -> UnixNanos {
        UnixNanos(self.0.load(Ordering::Relaxed))
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

/// What an instance exports at `now_s`: requests by status code, as an SDK writes them.
fn request(kind: Kind, version: &str, instance: &Instance, now_s: u64) -> Vec<u8> {
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
    let resource = Resource {
        attributes: vec![
            text("service.name", "shop"),
            text("service.version", version),
            text("service.instance.id", &instance.name),
        ],
        ..Default::default()
    };
    let scope = ScopeMetrics { metrics: vec![duration], ..Default::default() };
    let envelope =
        ResourceMetrics { resource: Some(resource), scope_metrics: vec![scope], ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec()
}

/// Serves `v1` and then `v2` beside it, every export an HTTP request; the verdict on `v2`.
async fn served(kind: Kind, errors: f64) -> (World, Option<Verdict>) {
    let mut world = World::new(policy(), Mode::Observe);
    let clock = Arc::new(Stage::default());
    let any = || "127.0.0.1:0".to_owned();
    let (grpc, http) = (
        GrpcConfig { endpoint: any(), ..Default::default() },
        HttpConfig { endpoint: any(), ..Default::default() },
    );
    let deps = ReceiverDeps {
        admission: world.intake.clone(),
        downstream: Arc::new(NoDownstream),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        doors: Doors::default(),
        memory: Arc::new(ProcessMemory),
    };
    let receivers =
        Receivers::bind(ReceiverConfig { grpc, http, ..Default::default() }, deps).await.expect("free ports");
    let url = format!("http://{}/v1/metrics", receivers.http_addr().expect("bound"));
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(receivers.serve(shutdown.clone()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut fleet = Fleet::new(kind);
    world.run(1);
    fleet.start("v1", 3, world.now_s);
    for second in 0..1_200 {
        if second == 400 {
            fleet.start("v2", 2, world.now_s);
        }
        world.run(1);
        clock.0.store(at(world.now_s) + 300_000_000, Ordering::Relaxed);
        let mut bodies = Vec::new();
        fleet.second(world.now_s, &[("v1", 10, 0.001, 1.0), ("v2", 10, errors, 1.0)], |version, instance| {
            bodies.push(request(kind, version, instance, world.now_s));
        });
        for body in bodies {
            let sent = client.post(&url).header("content-type", "application/x-protobuf").body(body);
            let answer = sent.send().await.expect("answered");
            assert_eq!(answer.status(), 200);
        }
        if world.deployment("v2").is_some_and(|d| d.verdict != Verdict::Pending) {
            break;
        }
    }
    world.run(30);
    shutdown.cancel();
    serving.await.expect("no panic");
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
