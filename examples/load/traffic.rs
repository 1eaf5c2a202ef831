//! The load: services in two versions with many instances, each of which exports in turn. Every request has new ids,
//! times and counts, as those of real senders have; they are written into drafts that are made once (`draft.rs`).

#[path = "draft.rs"]
mod draft;

use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;
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

use self::draft::{Draft, Marks, Place};

/// Method paths of OTLP/gRPC.
pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// See [`TRACES`].
pub(crate) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// See [`TRACES`].
pub(crate) const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

const SERVICES: u64 = 20;
/// Senders of all services together, unless told otherwise.
pub(crate) const INSTANCES: u64 = 800;
const ROUTES: usize = 20;
/// Status codes of each route; with the routes, 100 series an instance.
const CODES: [i64; 5] = [200, 201, 304, 404, 500];
const SERIES: usize = ROUTES * CODES.len();
/// Records or spans of a request.
const RECORDS: u64 = 100;
/// What SDKs send at most in one request.
const BATCH: u64 = 512;
/// The bounds that the semantic conventions advise, in seconds.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;
const FRAMES: usize = 30;
/// Drafts of a connection, which take turns; a prime, so that every instance comes to each of them.
const DRAFTS: usize = 17;
/// Field 1 of a request: an envelope.
const ENVELOPE: u8 = 0x0a;

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

    /// Items of a request.
    pub(crate) const fn items(self) -> u64 {
        match self {
            Self::Delta | Self::Cumulative | Self::Exponential => SERIES as u64,
            Self::Logs | Self::Spans => RECORDS,
            Self::Batches => BATCH,
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("one of {}", names()))
    }
}

/// One sender: what it says of itself, what it has counted, and until when.
struct Instance {
    resource: Vec<u8>,
    started: u64,
    exported: u64,
    counts: Vec<[u64; BOUNDS.len() + 1]>,
}

impl Instance {
    /// Counts a few more requests of each route; returns the begin of what the counts cover.
    fn count(&mut self, kind: Kind, now: u64, random: &mut Rng) -> u64 {
        let before = std::mem::replace(&mut self.exported, now);
        for counts in &mut self.counts {
            if kind == Kind::Delta {
                *counts = Default::default();
            }
            (0..random.u32(1..8)).for_each(|_| counts[random.usize(..8)] += 1);
        }
        if kind == Kind::Cumulative { self.started } else { before }
    }
}

/// Makes the requests of one connection.
pub(crate) struct Sender {
    kind: Kind,
    random: Rng,
    instances: Vec<Instance>,
    drafts: Vec<Draft>,
    at: usize,
}

impl Sender {
    /// Connection `number` of `all`: it speaks for its share of the instances.
    pub(crate) fn new(kind: Kind, number: u64, all: u64, instances: u64) -> Self {
        let now = nanos();
        let mut random = Rng::with_seed(now ^ number);
        let series = if matches!(kind, Kind::Delta | Kind::Cumulative) { SERIES } else { 0 };
        let instance = |number| Instance {
            resource: resource(number),
            started: now,
            exported: now,
            counts: vec![[0; BOUNDS.len() + 1]; series],
        };
        let instances = (0..instances).filter(|i| i % all == number).map(instance).collect();
        let drafts = (0..DRAFTS).map(|_| draft(kind, &mut random)).collect();
        Self { kind, random, instances, drafts, at: 0 }
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
        self.at = self.at.wrapping_add(1);
        let (now, random) = (nanos(), &mut self.random);
        let (instances, drafts) = (self.instances.len(), self.drafts.len());
        let (instance, draft) =
            (&mut self.instances[self.at % instances], &mut self.drafts[self.at % drafts]);
        let start = instance.count(self.kind, now, random);
        let count = |series: usize| instance.counts[series].iter().sum::<u64>();
        let scope = draft.filled(|place| match place {
            Place::Id => random.u64(..),
            Place::Before(nanos) => now - nanos,
            Place::Start => start,
            Place::Count(series) => count(series),
            Place::Sum(series) => (count(series) as f64 * 0.05).to_bits(),
            Place::Bucket(series, bucket) => instance.counts[series][bucket],
        });
        let length = instance.resource.len() + scope.len();
        let mut request = Vec::with_capacity(length + 8);
        request.push(ENVELOPE);
        prost::encoding::encode_varint(length as u64, &mut request);
        request.extend_from_slice(&instance.resource);
        request.extend_from_slice(scope);
        (request, self.kind.items())
    }
}

fn draft(kind: Kind, random: &mut Rng) -> Draft {
    let mut marks = Marks::default();
    match kind {
        Kind::Delta | Kind::Cumulative | Kind::Exponential => {
            let scope_metrics = vec![metrics(kind, &mut marks, random)];
            Draft::new(&ResourceMetrics { scope_metrics, ..Default::default() }, &marks)
        }
        Kind::Logs => {
            let log_records = (0..RECORDS).map(|n| record(n, &mut marks, random)).collect();
            let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
            Draft::new(&ResourceLogs { scope_logs, ..Default::default() }, &marks)
        }
        Kind::Spans | Kind::Batches => {
            let spans = (0..kind.items()).map(|_| span(kind, &mut marks, random)).collect();
            let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
            Draft::new(&ResourceSpans { scope_spans, ..Default::default() }, &marks)
        }
    }
}

fn metrics(kind: Kind, marks: &mut Marks, random: &mut Rng) -> ScopeMetrics {
    let labels = (0..ROUTES).flat_map(|route| CODES.map(|code| (route, code)));
    let data = if kind == Kind::Exponential {
        let data_points = labels.map(|label| exponential(label, marks, random)).collect();
        Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: DELTA })
    } else {
        let data_points = labels.enumerate().map(|(series, label)| explicit(label, series, marks)).collect();
        let temporality = if kind == Kind::Cumulative { CUMULATIVE } else { DELTA };
        Data::Histogram(Histogram { data_points, aggregation_temporality: temporality })
    };
    let metric = Metric {
        name: "http.server.request.duration".into(),
        unit: "s".into(),
        data: Some(data),
        ..Metric::default()
    };
    ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }
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

fn explicit(label: (usize, i64), series: usize, marks: &mut Marks) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(label),
        start_time_unix_nano: marks.number(Place::Start),
        time_unix_nano: marks.number(Place::Before(0)),
        count: marks.number(Place::Count(series)),
        sum: Some(f64::from_bits(marks.number(Place::Sum(series)))),
        bucket_counts: (0..=BOUNDS.len()).map(|bucket| marks.number(Place::Bucket(series, bucket))).collect(),
        explicit_bounds: BOUNDS.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn exponential(label: (usize, i64), marks: &mut Marks, random: &mut Rng) -> ExponentialHistogramDataPoint {
    let bucket_counts: Vec<u64> = (0..20).map(|_| random.u64(..3)).collect();
    ExponentialHistogramDataPoint {
        attributes: attributes(label),
        start_time_unix_nano: marks.number(Place::Start),
        time_unix_nano: marks.number(Place::Before(0)),
        count: bucket_counts.iter().sum(),
        sum: Some(1.0),
        scale: 3,
        positive: Some(Buckets { offset: -40, bucket_counts }),
        ..ExponentialHistogramDataPoint::default()
    }
}

/// Of 100 records, 5 are errors and one of those has a stack.
fn record(n: u64, marks: &mut Marks, random: &mut Rng) -> LogRecord {
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
    let age = random.u64(1_000..1_000_000_000);
    LogRecord {
        time_unix_nano: marks.number(Place::Before(age)),
        observed_time_unix_nano: marks.number(Place::Before(age - 1_000)),
        severity_number: if is_error { 17 } else { 9 },
        severity_text: if is_error { "ERROR" } else { "INFO" }.into(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes,
        trace_id: marks.id(2),
        span_id: marks.id(1),
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

fn span(kind: Kind, marks: &mut Marks, random: &mut Rng) -> Span {
    let mut attributes = attributes((random.usize(..ROUTES), CODES[random.usize(..4)]));
    if kind == Kind::Batches {
        attributes.extend([
            text("url.path", &format!("/shop/items/{}", random.u32(..))),
            text("server.address", "shop.example.com"),
            text(
                "user_agent.original",
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            ),
            text("network.protocol.version", "1.1"),
        ]);
    }
    let age = random.u64(..1_000_000_000);
    Span {
        trace_id: marks.id(2),
        span_id: marks.id(1),
        name: "GET".into(),
        kind: 2,
        start_time_unix_nano: marks.number(Place::Before(age + random.u64(1_000_000..200_000_000))),
        end_time_unix_nano: marks.number(Place::Before(age)),
        attributes,
        ..Span::default()
    }
}

/// What an instance says of itself: field 1 of an envelope, which is the same for all signals.
fn resource(instance: u64) -> Vec<u8> {
    let service = instance % SERVICES;
    let attributes = vec![
        text("service.name", &format!("service-{service}")),
        text("service.version", if (instance / SERVICES).is_multiple_of(2) { "1.4.0" } else { "1.5.0" }),
        text("service.instance.id", &format!("service-{service}-7d9f8b-{instance:05}")),
        text("telemetry.sdk.name", "opentelemetry"),
        text("telemetry.sdk.language", "java"),
        text("host.name", &format!("node-{}", instance % 50)),
    ];
    let resource = Some(Resource { attributes, ..Resource::default() });
    ResourceSpans { resource, ..ResourceSpans::default() }.encode_to_vec()
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
