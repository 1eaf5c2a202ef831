//! A service that sends traces, error logs and metrics to the real pipeline under a simulated clock, so that what it
//! takes can be counted with and without something.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    metric::Data, number_data_point::Value as Number,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::deployment::{Deployment, Mode};
use rollguard::model::{DeploymentId, ServiceKey, UnixNanos};
use rollguard::pipeline::{
    DEFAULT_SHARD_CAPACITY, DeploymentLimits, Drained, Engine, EngineParts, Intake, Registry, RegistryLimits,
    Restored, Shards,
};
use rollguard::receiver::{WalkSettings, walk_logs, walk_metrics, walk_traces};
use rollguard::window::LatenessConfig;

const BEGIN_S: u64 = 1_700_000_040;
const SECOND: u64 = 1_000_000_000;
const EXPORT_S: u64 = 15;
/// Different attributes and metrics that SLIs can be about.
pub(crate) const KINDS_OF: usize = 4;
/// How long the old version is alone, and then both.
const ALONE_S: u64 = 400;
const BOTH_S: u64 = 240;

/// What the service sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Requests a second of each version.
    pub(crate) rps: usize,
    pub(crate) operations: usize,
    pub(crate) instances: usize,
    /// Values of each of three attributes, independent of each other.
    pub(crate) values: [usize; 3],
    /// Whether it sends metrics and logs as well.
    pub(crate) has_others: bool,
}

/// Bytes that are allocated after the load of both versions; with `deciding` of 0 no deployment runs.
pub(crate) fn bytes(load: Load, policy: &str, deciding: usize) -> i64 {
    let before = crate::allocated();
    let mut shop = Shop::open(policy, deciding);
    let mut random = fastrand::Rng::with_seed(1);
    for second in 0..ALONE_S + BOTH_S {
        let versions: &[&str] = if second < ALONE_S { &["v1"] } else { &["v1", "v2"] };
        shop.second(load, BEGIN_S + second + 1, versions, &mut random);
    }
    let running = shop.engine.board(UnixNanos((BEGIN_S + ALONE_S + BOTH_S) * SECOND)).deployments.len();
    assert_eq!(running, deciding.min(1), "a deployment runs exactly where it may");
    shop.drained = Drained::default();
    crate::allocated() - before
}

struct Shop {
    intake: Intake,
    shards: Arc<Shards>,
    engine: Engine,
    drained: Drained,
}

impl Shop {
    fn open(policy: &str, deciding: usize) -> Self {
        let yaml =
            format!("policies:\n  defaults:\n    slo: 0.9\n    min_pass: 25m\n    horizon: 30m\n{policy}");
        let config = rollguard::config::parse(&yaml, |_| None).unwrap_or_else(|e| panic!("{yaml}\n{e:?}"));
        let policy = config.policies.resolve(&ServiceKey::default(), Deployment::VERSION).policy;
        let registry = Arc::new(Registry::new(RegistryLimits::default()));
        let shards = Arc::new(Shards::new(1, DEFAULT_SHARD_CAPACITY));
        let mut next_id = 0;
        let parts = EngineParts {
            registry: Arc::clone(&registry),
            ledger: Arc::clone(shards.ledger()),
            policies: Arc::new(move |_: &ServiceKey, _: &str| (policy.clone(), Mode::Observe)),
            lateness: LatenessConfig::default(),
            series_ttl_s: 900,
            deployments: DeploymentLimits { deciding, ..DeploymentLimits::default() },
            ids: Box::new(move || {
                next_id += 1;
                DeploymentId(format!("d{next_id}"))
            }),
        };
        let engine = Engine::new(parts, Restored::default(), UnixNanos::from_secs(BEGIN_S));
        let intake = Intake::new(registry, Arc::clone(&shards));
        Self { intake, shards, engine, drained: Drained::default() }
    }

    fn second(&mut self, load: Load, now_s: u64, versions: &[&str], random: &mut fastrand::Rng) {
        for version in versions {
            for instance in 0..load.instances {
                let sender = format!("{version}-{instance}");
                let share = |all: usize| all / load.instances + usize::from(instance < all % load.instances);
                self.traces(resource(version, &sender), now_s, share(load.rps), load, random);
                if load.has_others {
                    if now_s.is_multiple_of(5) {
                        self.logs(resource(version, &sender), now_s);
                    }
                    if (now_s + instance as u64).is_multiple_of(EXPORT_S) {
                        self.metrics(resource(version, &sender), now_s);
                    }
                }
            }
        }
        let now = UnixNanos(now_s * SECOND);
        self.shards.drain(&mut self.drained);
        self.engine.absorb(&self.drained, now);
        drop(self.engine.tick(now));
    }

    fn traces(
        &self,
        resource: Option<Resource>,
        now_s: u64,
        count: usize,
        load: Load,
        random: &mut fastrand::Rng,
    ) {
        let mut spans = Vec::new();
        for _ in 0..count {
            let end = (now_s - 1) * SECOND + random.u64(..SECOND);
            let took = (20e6 * 8f64.powf(random.f64())) as u64;
            let mut attributes = vec![
                text("http.request.method", "GET"),
                text("http.route", &format!("/route/{}", random.usize(..load.operations))),
                number("http.response.status_code", if random.u8(..100) == 0 { 401 } else { 200 }),
                text("tenant", &format!("t{}", random.usize(..KINDS_OF))),
            ];
            for (name, values) in ["cloud.region", "client.class", "cell"].iter().zip(load.values) {
                attributes.push(text(name, &format!("value-{}", random.usize(..values.max(1)))));
            }
            attributes.extend((0..KINDS_OF).map(|n| number(&format!("size.{n}"), random.i64(1..5_000))));
            let called = format!("db{}", random.usize(..KINDS_OF));
            spans.push(span((2, "GET"), end, took, attributes));
            spans.push(span((3, "SELECT"), end, took / 2, vec![text("db.namespace", &called)]));
        }
        let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
        let envelope = ResourceSpans { resource, scope_spans, ..Default::default() };
        let body = ExportTraceServiceRequest { resource_spans: vec![envelope] }.encode_to_vec();
        let mut batch = self.intake.begin(UnixNanos(now_s * SECOND - 1));
        walk_traces(&body, &WalkSettings::default(), &mut batch).expect("sound");
        batch.commit().expect("room");
    }

    fn logs(&self, resource: Option<Resource>, now_s: u64) {
        let log = LogRecord { time_unix_nano: now_s * SECOND - 2, severity_number: 17, ..Default::default() };
        let scope_logs = vec![ScopeLogs { log_records: vec![log], ..Default::default() }];
        let envelope = ResourceLogs { resource, scope_logs, ..Default::default() };
        let body = ExportLogsServiceRequest { resource_logs: vec![envelope] }.encode_to_vec();
        let mut batch = self.intake.begin(UnixNanos(now_s * SECOND - 1));
        walk_logs(&body, &WalkSettings::default(), &mut batch).expect("sound");
        batch.commit().expect("room");
    }

    /// A counter, a histogram and a gauge of each kind, cumulative, as an SDK exports them.
    fn metrics(&self, resource: Option<Resource>, now_s: u64) {
        let (start, time) = (BEGIN_S * SECOND, now_s * SECOND - 2);
        let count = now_s - BEGIN_S;
        let value = |value| NumberDataPoint {
            start_time_unix_nano: start,
            time_unix_nano: time,
            value: Some(value),
            ..Default::default()
        };
        let metric = |name: &str, n: usize, data| Metric {
            name: format!("{name}.{n}"),
            unit: "s".into(),
            data: Some(data),
            ..Default::default()
        };
        let events = |n| {
            let point = |result, value| NumberDataPoint { attributes: vec![text("result", result)], ..value };
            let data_points = vec![
                point("bad", value(Number::AsInt((count / 7) as i64))),
                point("good", value(Number::AsInt((count * 7) as i64))),
            ];
            let data = Sum { data_points, aggregation_temporality: 2, is_monotonic: true };
            metric("events", n, Data::Sum(data))
        };
        let took = |n| {
            let buckets: Vec<u64> = (0..15).map(|bucket| count * (15 - bucket)).collect();
            let point = HistogramDataPoint {
                start_time_unix_nano: start,
                time_unix_nano: time,
                count: buckets.iter().sum(),
                explicit_bounds: (0..14).map(|n| 0.005 * 1.6f64.powi(n)).collect(),
                bucket_counts: buckets,
                ..Default::default()
            };
            metric(
                "took",
                n,
                Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality: 2 }),
            )
        };
        let level = |n| {
            metric(
                "level",
                n,
                Data::Gauge(Gauge { data_points: vec![value(Number::AsDouble(count as f64))] }),
            )
        };
        let metrics = (0..KINDS_OF).flat_map(|n| [events(n), took(n), level(n)]).collect();
        let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
        let envelope = ResourceMetrics { resource, scope_metrics, ..Default::default() };
        let body = ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec();
        let mut batch = self.intake.begin(UnixNanos(now_s * SECOND - 1));
        walk_metrics(&body, &WalkSettings::default(), &mut batch).expect("sound");
        batch.commit().expect("room");
    }
}

fn span((kind, name): (i32, &str), end: u64, took: u64, attributes: Vec<KeyValue>) -> Span {
    let (start_time_unix_nano, end_time_unix_nano) = (end - took, end);
    Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        name: name.into(),
        kind,
        start_time_unix_nano,
        end_time_unix_nano,
        attributes,
        ..Default::default()
    }
}

fn resource(version: &str, instance: &str) -> Option<Resource> {
    let attributes = vec![
        text("service.name", "shop"),
        text("service.version", version),
        text("service.instance.id", instance),
    ];
    Some(Resource { attributes, ..Default::default() })
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}
