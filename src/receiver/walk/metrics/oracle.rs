//! A second reading of the same rules, slow and plain, over prost's structs. The walker must see what this
//! sees wherever prost accepts a message. Identities of streams are compared as text here: two points are of
//! one stream exactly when their texts are equal.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    metric::Data, number_data_point,
};
use prost::Message;

use super::super::oracle::{Attributes, resource_told};
use super::*;
use crate::model::{DurationUnit, Durations, Family, Outcome, StatusSource};

/// Durations, owned.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    Unknown,
    Explicit(Vec<f64>, Vec<u64>),
    Exponential(i32, u64, i32, Vec<u64>),
}

impl Held {
    pub(super) fn of(durations: Durations<'_>) -> Self {
        match durations {
            Durations::Unknown => Self::Unknown,
            Durations::Explicit { bounds, counts } => Self::Explicit(bounds.to_vec(), counts.to_vec()),
            Durations::Exponential { scale, zero, offset, counts } => {
                Self::Exponential(scale, zero, offset, counts.to_vec())
            }
        }
    }
}

/// What a sink was told, owned.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Resource(super::super::oracle::Told),
    Point {
        family: Family,
        temporality: Temporality,
        /// Service, namespace, environment, version.
        subject: [Vec<u8>; 4],
        operation: Vec<u8>,
        outcome: Outcome,
        status: StatusSource,
        overflow: bool,
        times: (u64, u64),
        count: u64,
        unit: DurationUnit,
        durations: Held,
        trace_id: Vec<u8>,
    },
    Discard(Discard, u64),
}

/// Keeps all that it is told, and the identities beside it.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) told: Vec<Told>,
    pub(super) streams: Vec<u128>,
}

impl PointSink for Recorder {
    fn point(&mut self, resource: &ResourceView<'_>, p: &PointView<'_>) {
        self.told.push(Told::Resource(resource_told(resource)));
        self.streams.push(p.stream);
        self.told.push(Told::Point {
            family: p.family,
            temporality: p.temporality,
            subject: [p.service, p.namespace, p.environment, p.version].map(<[u8]>::to_vec),
            operation: [p.operation_head, p.operation_joint, p.operation_tail].concat(),
            outcome: p.outcome,
            status: p.status,
            overflow: p.overflow,
            times: (p.numbers.start.0, p.numbers.time.0),
            count: p.numbers.count,
            unit: p.numbers.unit,
            trace_id: p.numbers.trace_id.to_vec(),
            durations: Held::of(p.numbers.durations),
        });
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        self.told.push(Told::Discard(reason, points));
    }
}

/// What a sink should be told of `request`, and the identity of each point that is handed on.
pub(super) fn told(
    request: &ExportMetricsServiceRequest,
    settings: &WalkSettings,
) -> (Vec<Told>, Vec<String>) {
    let mut reading = Reading { settings, told: Vec::new(), streams: Vec::new() };
    for envelope in &request.resource_metrics {
        reading.envelope(envelope);
    }
    (reading.told, reading.streams)
}

struct Reading<'s> {
    settings: &'s WalkSettings,
    told: Vec<Told>,
    streams: Vec<String>,
}

/// The numbers of a point of any type.
struct Numbers<'a> {
    attributes: &'a [KeyValue],
    times: (u64, u64),
    flags: u32,
    count: Option<u64>,
    adds_up: bool,
    durations: Held,
    trace_id: Vec<u8>,
}

/// The trace of the last exemplar.
fn last_trace(exemplars: &[Exemplar]) -> Vec<u8> {
    exemplars.last().map(|e| e.trace_id.clone()).unwrap_or_default()
}

impl Reading<'_> {
    fn envelope(&mut self, envelope: &ResourceMetrics) {
        for scope in &envelope.scope_metrics {
            for metric in &scope.metrics {
                let identity = format!(
                    "{:?} {:?}",
                    envelope.resource.as_ref().map_or_else(Vec::new, |r| in_order(&r.attributes)),
                    scope
                        .scope
                        .as_ref()
                        .map_or_else(|| scope_text(&InstrumentationScope::default()), scope_text),
                );
                self.metric(envelope, &identity, metric);
            }
        }
    }

    fn metric(&mut self, envelope: &ResourceMetrics, identity: &str, metric: &Metric) {
        let Some(data) = &metric.data else { return };
        let (kind, temporality, monotonic, points) = numbers_of(data);
        let meaning = meaning(metric, kind, temporality, monotonic, self.settings);
        let (family, unit, temporality) = match meaning {
            Ok(meaning) => meaning,
            Err(reason) => {
                if !points.is_empty() {
                    self.told.push(Told::Discard(reason, points.len() as u64));
                }
                return;
            }
        };
        for point in points {
            let a = Attributes::new(point.attributes);
            if let Some(reason) = discard(&point, &a, self.settings) {
                self.told.push(Told::Discard(reason, 1));
                continue;
            }
            self.told.push(Told::Resource(super::super::oracle::resource(
                envelope.resource.as_ref(),
                self.settings,
            )));
            self.streams.push(format!(
                "{identity} {} {} {kind} {temporality:?} {monotonic} {:?}",
                metric.name,
                metric.unit,
                in_order(point.attributes)
            ));
            self.told.push(point_told(point, &a, family, unit, temporality));
        }
    }
}

fn in_order(attributes: &[KeyValue]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = attributes.iter().map(Message::encode_to_vec).collect();
    all.sort();
    all
}

fn scope_text(scope: &InstrumentationScope) -> String {
    format!("{} {} {:?}", scope.name, scope.version, in_order(&scope.attributes))
}

fn numbers_of(data: &Data) -> (u8, i32, bool, Vec<Numbers<'_>>) {
    match data {
        Data::Gauge(gauge) => (0, 0, false, gauge.data_points.iter().map(number).collect()),
        Data::Sum(sum) => {
            (1, sum.aggregation_temporality, sum.is_monotonic, sum.data_points.iter().map(number).collect())
        }
        Data::Histogram(h) => {
            (2, h.aggregation_temporality, false, h.data_points.iter().map(explicit).collect())
        }
        Data::ExponentialHistogram(h) => {
            (3, h.aggregation_temporality, false, h.data_points.iter().map(exponential).collect())
        }
        Data::Summary(summary) => {
            let points = summary.data_points.iter().map(|p| Numbers {
                attributes: &p.attributes,
                times: (p.start_time_unix_nano, p.time_unix_nano),
                flags: p.flags,
                count: Some(p.count),
                adds_up: true,
                durations: Held::Unknown,
                trace_id: Vec::new(),
            });
            (4, 2, false, points.collect())
        }
    }
}

fn number(p: &NumberDataPoint) -> Numbers<'_> {
    let count = match p.value {
        Some(number_data_point::Value::AsInt(n)) => u64::try_from(n).ok(),
        Some(number_data_point::Value::AsDouble(f)) if (0.0..=2f64.powi(53)).contains(&f) => {
            Some(f.round() as u64)
        }
        _ => None,
    };
    Numbers {
        attributes: &p.attributes,
        times: (p.start_time_unix_nano, p.time_unix_nano),
        flags: p.flags,
        count,
        adds_up: true,
        durations: Held::Unknown,
        trace_id: last_trace(&p.exemplars),
    }
}

fn explicit(p: &HistogramDataPoint) -> Numbers<'_> {
    let sum: u128 = p.bucket_counts.iter().map(|n| u128::from(*n)).sum();
    let ascending =
        p.explicit_bounds.iter().all(|b| b.is_finite()) && p.explicit_bounds.windows(2).all(|w| w[0] < w[1]);
    let matching = p.bucket_counts.len() == p.explicit_bounds.len() + 1;
    let none = p.bucket_counts.is_empty();
    Numbers {
        attributes: &p.attributes,
        times: (p.start_time_unix_nano, p.time_unix_nano),
        flags: p.flags,
        count: Some(p.count),
        adds_up: none || matching && ascending && sum == u128::from(p.count),
        durations: if none {
            Held::Unknown
        } else {
            Held::Explicit(p.explicit_bounds.clone(), p.bucket_counts.clone())
        },
        trace_id: last_trace(&p.exemplars),
    }
}

fn exponential(p: &ExponentialHistogramDataPoint) -> Numbers<'_> {
    let positive = p.positive.clone().unwrap_or_default();
    let negative = p.negative.clone().unwrap_or_default();
    let below: u128 = negative.bucket_counts.iter().map(|n| u128::from(*n)).sum();
    let above: u128 = positive.bucket_counts.iter().map(|n| u128::from(*n)).sum();
    Numbers {
        attributes: &p.attributes,
        times: (p.start_time_unix_nano, p.time_unix_nano),
        flags: p.flags,
        count: Some(p.count),
        adds_up: (-10..=20).contains(&p.scale)
            && below + above + u128::from(p.zero_count) == u128::from(p.count),
        durations: Held::Exponential(
            p.scale,
            p.zero_count.saturating_add(u64::try_from(below).unwrap_or(u64::MAX)),
            positive.offset,
            positive.bucket_counts,
        ),
        trace_id: last_trace(&p.exemplars),
    }
}

fn meaning(
    metric: &Metric,
    kind: u8,
    temporality: i32,
    monotonic: bool,
    settings: &WalkSettings,
) -> Result<(Family, DurationUnit, Temporality), Discard> {
    let known: HashMap<&str, Family> = HashMap::from([
        ("http.server.request.duration", Family::Http),
        ("http.server.duration", Family::HttpLegacy),
        ("rpc.server.call.duration", Family::Rpc),
        ("rpc.server.duration", Family::RpcLegacy),
        ("messaging.process.duration", Family::Messaging),
        ("traces.span.metrics.duration", Family::SpanDuration),
        ("duration", Family::SpanDuration),
        ("traces_span_metrics_duration_milliseconds", Family::SpanDuration),
        ("traces.span.metrics.calls", Family::SpanCalls),
        ("calls", Family::SpanCalls),
        ("traces_span_metrics_calls_total", Family::SpanCalls),
    ]);
    let name = metric.name.as_str();
    let family = match known.get(name) {
        Some(family) => *family,
        None if settings.request_metrics.iter().any(|m| m == name) => {
            if kind == 1 {
                Family::OtherCalls
            } else {
                Family::OtherDuration
            }
        }
        None => return Err(Discard::MetricName),
    };
    if kind == 0 || (kind == 1) == family.is_duration() || kind == 1 && !monotonic {
        return Err(Discard::Kind);
    }
    let unit = match metric.unit.as_str() {
        "s" => DurationUnit::Seconds,
        "ms" => DurationUnit::Millis,
        "us" => DurationUnit::Micros,
        "ns" => DurationUnit::Nanos,
        "min" => DurationUnit::Minutes,
        "" if name.ends_with("_milliseconds") => DurationUnit::Millis,
        "" if name.ends_with("_seconds") => DurationUnit::Seconds,
        _ if kind == 1 || kind == 4 => DurationUnit::Seconds,
        _ => return Err(Discard::Unit),
    };
    match temporality {
        1 => Ok((family, unit, Temporality::Delta)),
        2 => Ok((family, unit, Temporality::Cumulative)),
        _ => Err(Discard::Temporality),
    }
}

fn discard(point: &Numbers<'_>, a: &Attributes<'_>, settings: &WalkSettings) -> Option<Discard> {
    if point.times.1 == 0 {
        return Some(Discard::NoTime);
    }
    if point.flags & 1 != 0 {
        return Some(Discard::StaleMark);
    }
    if point.count.is_none() || point.times.0 > point.times.1 || !point.adds_up {
        return Some(Discard::Numbers);
    }
    let outgoing = match a.value("span.kind") {
        None if a.get("span.kind").is_none() => false,
        _ => !matches!(a.text("span.kind").as_deref(), Some("SPAN_KIND_SERVER" | "SPAN_KIND_CONSUMER")),
    };
    if outgoing {
        return Some(Discard::Kind);
    }
    if matches!(a.text("user_agent.synthetic.type").as_deref(), Some("bot" | "test")) {
        return Some(Discard::Synthetic);
    }
    let named = ["http.route", "url.path", "http.target"].iter().find_map(|n| a.text(n));
    let name = known(a, &["span.name", "span_name"]);
    let place = match (named, super::super::oracle::rpc(a)) {
        (Some(place), _) => place.split('?').next().unwrap().to_owned(),
        (_, Some(rpc)) => rpc,
        _ => {
            let path = name.split_once(' ').map_or(name.as_str(), |(_, path)| path);
            path.split('?').next().unwrap().to_owned()
        }
    };
    let is_health = settings.health_routes.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => place.starts_with(prefix),
        None => place == *pattern,
    });
    (!place.is_empty() && is_health).then_some(Discard::Health)
}

/// The first of some attributes with a text; meshes write `unknown` for none.
fn known(a: &Attributes<'_>, names: &[&str]) -> String {
    names.iter().filter_map(|n| a.text(n)).find(|text| text != "unknown").unwrap_or_default()
}

fn point_told(
    point: Numbers<'_>,
    a: &Attributes<'_>,
    family: Family,
    unit: DurationUnit,
    temporality: Temporality,
) -> Told {
    let status = match a.text("status.code").as_deref() {
        Some("STATUS_CODE_OK") => 1,
        Some("STATUS_CODE_ERROR") => 2,
        _ => 0,
    };
    let (mut outcome, mut source) = super::super::oracle::outcome(a, status);
    let http = ["http.response.status_code", "http.status_code"]
        .iter()
        .find_map(|n| a.number(n).filter(|code| *code >= 100));
    if status != 1 && http.is_some_and(|code| code < 400) && a.is_present("error.type") {
        outcome = Outcome::Bad;
    }
    let extra = ["grpc_response_status", "response_code"].iter().find_map(|n| {
        let text = a.text(n).filter(|t| t != "unknown");
        a.number(n).map(|n| n.to_string()).or(text)
    });
    if let (StatusSource::None, Some(code)) = (source, extra) {
        let is_http = code.parse::<i64>().is_ok_and(|code| code >= 100);
        let name = if is_http { "http.response.status_code" } else { "rpc.status_code" };
        let value = AnyValue { value: Some(Value::StringValue(code.clone())) };
        let mut with_code = a.clone();
        with_code.insert(name, &value);
        (outcome, source) = super::super::oracle::outcome(&with_code, status);
        let below_400 = code.parse::<i64>().is_ok_and(|code| (100..400).contains(&code));
        if status != 1 && below_400 && a.is_present("error.type") {
            outcome = Outcome::Bad;
        }
    }
    let name = known(a, &["span.name", "span_name"]);
    let mut operation = super::super::oracle::operation(a, &name);
    if operation.is_empty() {
        operation = ["http.request.method", "http.method"].iter().find_map(|n| a.text(n)).unwrap_or_default();
    }
    Told::Point {
        family,
        temporality,
        subject: [
            known(a, &["service.name", "destination_canonical_service", "destination_workload"]),
            known(a, &["service.namespace"]),
            known(a, &["deployment.environment.name", "deployment.environment"]),
            known(a, &["service.version", "destination_version", "destination_canonical_revision"]),
        ]
        .map(String::into_bytes),
        operation: operation.into_bytes(),
        outcome,
        status: source,
        overflow: a.is_present("otel.metric.overflow"),
        times: point.times,
        count: point.count.unwrap(),
        unit,
        durations: point.durations,
        trace_id: if outcome == Outcome::Bad { point.trace_id } else { Vec::new() },
    }
}
