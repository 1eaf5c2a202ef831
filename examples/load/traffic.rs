//! The load: services in two versions with many instances, each of which exports in turn. Every request is made
//! anew, with new ids, times and values, as those of real senders are.

use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
    ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// Method paths of OTLP/gRPC.
pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// See [`TRACES`].
pub(crate) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// See [`TRACES`].
pub(crate) const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

const SERVICES: u64 = 20;
const INSTANCES: u64 = 800;
const ROUTES: usize = 20;
/// Status codes of each route; with the routes, 100 series an instance.
const CODES: [i64; 5] = [200, 201, 304, 404, 500];
/// Records or spans of a request.
const RECORDS: usize = 100;
/// What SDKs send at most in one request.
const BATCH: usize = 512;
/// The bounds that the semantic conventions advise, in seconds.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;
const FRAMES: usize = 30;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Histograms with explicit buckets that hold what is new.
    Delta,
    /// The same, holding all since the start.
    Cumulative,
    /// Exponential histograms that hold what is new.
    Exponential,
    /// Log records.
    Logs,
    /// Entry spans.
    Spans,
    /// Entry spans of eight attributes, 512 a request.
    Batches,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Delta, Self::Cumulative, Self::Exponential, Self::Logs, Self::Spans, Self::Batches];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Cumulative => "cumulative",
            Self::Exponential => "exponential",
            Self::Logs => "logs",
            Self::Spans => "spans",
            Self::Batches => "batches",
        }
    }

    /// The kind of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One exporter of metrics: what it has counted, and until when.
struct Instance {
    number: u64,
    started: u64,
    exported: u64,
    counts: Vec<[u64; BOUNDS.len() + 1]>,
}

/// Makes the requests of one connection.
pub(crate) struct Sender {
    kind: Kind,
    random: Rng,
    instances: Vec<Instance>,
    at: usize,
}

impl Sender {
    /// Connection `number` of `all`: it speaks for its share of the instances.
    pub(crate) fn new(kind: Kind, number: u64, all: u64) -> Self {
        let now = nanos();
        let series = if kind == Kind::Cumulative { ROUTES * CODES.len() } else { 0 };
        let instance = |number| Instance {
            number,
            started: now,
            exported: now,
            counts: vec![[0; BOUNDS.len() + 1]; series],
        };
        let instances = (0..INSTANCES).filter(|i| i % all == number).map(instance).collect();
        Self { kind, random: Rng::with_seed(now ^ number), instances, at: 0 }
    }

    /// Where its requests go.
    pub(crate) fn path(&self) -> &'static str {
        match self.kind {
            Kind::Delta | Kind::Cumulative | Kind::Exponential => METRICS,
            Kind::Logs => LOGS,
            Kind::Spans | Kind::Batches => TRACES,
        }
    }

    /// The next request, and how many items it holds.
    pub(crate) fn next(&mut self) -> (Vec<u8>, u64) {
        self.at = (self.at + 1) % self.instances.len();
        let (instance, random) = (&mut self.instances[self.at], &mut self.random);
        match self.kind {
            Kind::Delta | Kind::Cumulative | Kind::Exponential => metrics(self.kind, instance, random),
            Kind::Logs => logs(instance, random),
            Kind::Spans => spans(instance, RECORDS, random),
            Kind::Batches => spans(instance, BATCH, random),
        }
    }
}

fn metrics(kind: Kind, instance: &mut Instance, random: &mut Rng) -> (Vec<u8>, u64) {
    let now = nanos();
    let start = if kind == Kind::Cumulative { instance.started } else { instance.exported };
    let labels = || (0..ROUTES).flat_map(|route| CODES.map(|code| (route, code)));
    let data = if kind == Kind::Exponential {
        let data_points = labels().map(|label| exponential(label, start, now, random)).collect();
        Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: DELTA })
    } else {
        let mut data_points = Vec::with_capacity(ROUTES * CODES.len());
        for (series, label) in labels().enumerate() {
            let mut counts = instance.counts.get(series).copied().unwrap_or_default();
            (0..random.u32(1..8)).for_each(|_| counts[random.usize(..8)] += 1);
            instance.counts.get_mut(series).into_iter().for_each(|kept| *kept = counts);
            data_points.push(explicit(label, start, now, &counts));
        }
        let temporality = if kind == Kind::Cumulative { CUMULATIVE } else { DELTA };
        Data::Histogram(Histogram { data_points, aggregation_temporality: temporality })
    };
    instance.exported = now;
    let metric = Metric {
        name: "http.server.request.duration".into(),
        unit: "s".into(),
        data: Some(data),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics {
        resource: Some(resource(instance.number)),
        scope_metrics,
        ..Default::default()
    }];
    let items = (ROUTES * CODES.len()) as u64;
    (ExportMetricsServiceRequest { resource_metrics }.encode_to_vec(), items)
}

fn attributes((route, code): (usize, i64)) -> Vec<KeyValue> {
    vec![
        text("http.request.method", if route.is_multiple_of(3) { "POST" } else { "GET" }),
        text("http.route", &format!("/api/v1/resource{route}/{{id}}")),
        number("http.response.status_code", code),
        text("url.scheme", "https"),
        text("network.protocol.version", "1.1"),
    ]
}

fn explicit(
    label: (usize, i64),
    start: u64,
    now: u64,
    counts: &[u64; BOUNDS.len() + 1],
) -> HistogramDataPoint {
    let count = counts.iter().sum();
    HistogramDataPoint {
        attributes: attributes(label),
        start_time_unix_nano: start,
        time_unix_nano: now,
        count,
        sum: Some(count as f64 * 0.05),
        bucket_counts: counts.to_vec(),
        explicit_bounds: BOUNDS.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn exponential(label: (usize, i64), start: u64, now: u64, random: &mut Rng) -> ExponentialHistogramDataPoint {
    let bucket_counts: Vec<u64> = (0..20).map(|_| random.u64(..3)).collect();
    ExponentialHistogramDataPoint {
        attributes: attributes(label),
        start_time_unix_nano: start,
        time_unix_nano: now,
        count: bucket_counts.iter().sum(),
        sum: Some(1.0),
        scale: 3,
        positive: Some(Buckets { offset: -40, bucket_counts }),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn logs(instance: &Instance, random: &mut Rng) -> (Vec<u8>, u64) {
    let now = nanos();
    let log_records = (0..RECORDS).map(|n| record(n, now - random.u64(..1_000_000_000), random)).collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs =
        vec![ResourceLogs { resource: Some(resource(instance.number)), scope_logs, ..Default::default() }];
    (ExportLogsServiceRequest { resource_logs }.encode_to_vec(), RECORDS as u64)
}

/// Of 100 records, 5 are errors and one of those has a stack.
fn record(n: usize, time: u64, random: &mut Rng) -> LogRecord {
    let is_error = n % 20 == 7;
    let mut attributes = vec![
        text("thread.name", &format!("http-worker-{}", random.u32(..16))),
        text("code.function.name", "com.example.shop.OrderController.place"),
        number("order.id", random.i64(..)),
    ];
    if n == 7 {
        attributes.push(text("exception.type", "java.lang.IllegalStateException"));
        attributes.push(text("exception.message", &format!("order {} is closed", random.u32(..))));
        attributes.push(text("exception.stacktrace", &stack(random)));
    }
    let body = format!("handled request {:x} for user {} in {} ms", random.u64(..), random.u32(..), n);
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time + 1_000,
        severity_number: if is_error { 17 } else { 9 },
        severity_text: if is_error { "ERROR" } else { "INFO" }.into(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes,
        trace_id: bytes(random, 16),
        span_id: bytes(random, 8),
        ..LogRecord::default()
    }
}

fn stack(random: &mut Rng) -> String {
    let mut stack = String::from("java.lang.IllegalStateException: closed\n");
    let shifted = random.u32(..3);
    for frame in 0..FRAMES {
        let line = frame as u32 * 7 + shifted;
        stack.push_str(&format!(
            "\tat com.example.shop.layer{frame}.Handler$Inner.call(Handler.java:{line})\n"
        ));
    }
    stack
}

fn spans(instance: &Instance, number: usize, random: &mut Rng) -> (Vec<u8>, u64) {
    let now = nanos();
    let more = |random: &mut Rng| {
        [
            text("url.path", &format!("/shop/items/{}", random.u32(..))),
            text("server.address", "shop.example.com"),
            text(
                "user_agent.original",
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            ),
            text("network.protocol.version", "1.1"),
        ]
    };
    let span = |random: &mut Rng| {
        let end = now - random.u64(..1_000_000_000);
        let mut attributes = attributes((random.usize(..ROUTES), CODES[random.usize(..4)]));
        if number == BATCH {
            attributes.extend(more(random));
        }
        Span {
            trace_id: bytes(random, 16),
            span_id: bytes(random, 8),
            name: "GET".into(),
            kind: 2,
            start_time_unix_nano: end - random.u64(1_000_000..200_000_000),
            end_time_unix_nano: end,
            attributes,
            ..Span::default()
        }
    };
    let spans = (0..number).map(|_| span(random)).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource(instance.number)), scope_spans, ..Default::default() }];
    (ExportTraceServiceRequest { resource_spans }.encode_to_vec(), number as u64)
}

fn resource(instance: u64) -> Resource {
    let service = instance % SERVICES;
    let attributes = vec![
        text("service.name", &format!("service-{service}")),
        text("service.version", if (instance / SERVICES).is_multiple_of(2) { "1.4.0" } else { "1.5.0" }),
        text("service.instance.id", &format!("service-{service}-7d9f8b-{instance:05}")),
        text("telemetry.sdk.name", "opentelemetry"),
        text("telemetry.sdk.language", "java"),
        text("host.name", &format!("node-{}", instance % 50)),
    ];
    Resource { attributes, ..Resource::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn bytes(random: &mut Rng, n: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random.u8(..)).take(n).collect()
}

fn nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
