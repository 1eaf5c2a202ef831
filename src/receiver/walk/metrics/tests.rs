//! The metrics walker beside prost, over generated and over damaged messages, and its own rules by example.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
    exponential_histogram_data_point::Buckets as Exponential, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message;

use super::super::tests::{
    Pool, attributes, attributes_of, damage, field, rewritten, service, settings as base,
};
use super::oracle::{Held, Recorder, Told, told};
use super::*;
use crate::model::{DurationUnit, Family, Outcome};
use crate::pipeline::Signal;
use crate::receiver::ids::bad_ids;

pub(super) fn settings() -> WalkSettings {
    WalkSettings { request_metrics: vec!["mesh.requests".into()], ..base() }
}

fn walked(message: &[u8]) -> Result<(Recorder, PointCounts), WalkError> {
    let mut recorder = Recorder::default();
    let counts = walk_metrics(message, &settings(), &mut recorder)?;
    Ok((recorder, counts))
}

// ---- generated messages ----

const NAMES: &[&str] = &[
    "http.route",
    "http.request.method",
    "http.response.status_code",
    "http.status_code",
    "rpc.method",
    "rpc.service",
    "rpc.grpc.status_code",
    "error.type",
    "span.name",
    "span_name",
    "span.kind",
    "status.code",
    "service.name",
    "service.namespace",
    "service.version",
    "deployment.environment",
    "destination_version",
    "response_code",
    "grpc_response_status",
    "otel.metric.overflow",
    "user_agent.synthetic.type",
    "other",
];

const TEXTS: &[&str] = &[
    "",
    "GET",
    "GET /healthz",
    "/healthz",
    "/a?b",
    "503",
    "404",
    "200",
    "unknown",
    "UNAVAILABLE",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "STATUS_CODE_ERROR",
    "STATUS_CODE_OK",
    "test",
];

const METRICS: &[(&str, &str)] = &[
    ("http.server.request.duration", "s"),
    ("http.server.duration", "ms"),
    ("rpc.server.call.duration", "s"),
    ("rpc.server.duration", "us"),
    ("messaging.process.duration", "min"),
    ("traces.span.metrics.duration", "ms"),
    ("traces.span.metrics.calls", ""),
    ("calls", "1"),
    ("duration", "ns"),
    ("duration", "By"),
    ("traces_span_metrics_duration_milliseconds", ""),
    ("mesh.requests", "ms"),
    ("jvm.memory.used", "By"),
];

fn point_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    attributes_of(NAMES, TEXTS, 6)
}

fn flags() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(0u32), 1 => Just(1), 1 => any::<u32>()]
}

/// The last one counts; the first has a bad id.
fn exemplars() -> Vec<Exemplar> {
    let exemplar =
        |n: u8, length| Exemplar { trace_id: vec![n; length], span_id: vec![n; 8], ..Default::default() };
    vec![exemplar(3, 5), exemplar(1, 16), exemplar(2, 16)]
}

/// Start and time: mostly in order.
fn times() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        8 => (0..9u64, 9..99u64),
        1 => (any::<u64>(), any::<u64>()),
        1 => Just((0, 0)),
    ]
}

prop_compose! {
    fn number()(attributes in point_attributes(), (start, time) in times(), flags in flags(),
                value in prop::option::weighted(0.9, prop_oneof![
                    4 => (0..1_000i64).prop_map(number_data_point::Value::AsInt),
                    1 => any::<i64>().prop_map(number_data_point::Value::AsInt),
                    2 => (0..1_000u32).prop_map(|n| number_data_point::Value::AsDouble(f64::from(n) / 4.0)),
                    1 => any::<f64>().prop_map(number_data_point::Value::AsDouble),
                ])) -> NumberDataPoint {
        NumberDataPoint { attributes, start_time_unix_nano: start, time_unix_nano: time, flags, value, exemplars: exemplars() }
    }
}

prop_compose! {
    fn explicit()(attributes in point_attributes(), (start, time) in times(), flags in flags(),
                  counts in prop::collection::vec(0..50u64, 0..6), shape in 0..10, wrong in 0..12) -> HistogramDataPoint {
        let mut bounds: Vec<f64> = (1..counts.len()).map(|i| i as f64 * 2.5).collect();
        if shape == 0 { bounds.push(f64::NAN) } else if shape == 1 { bounds.reverse() }
        let count = counts.iter().sum::<u64>() + u64::from(wrong == 0);
        HistogramDataPoint {
            attributes, start_time_unix_nano: start, time_unix_nano: time, flags, count, sum: Some(3.5),
            bucket_counts: counts, explicit_bounds: bounds, exemplars: exemplars(), min: Some(0.1), max: None,
        }
    }
}

prop_compose! {
    fn exponential()(attributes in point_attributes(), (start, time) in times(), flags in flags(),
                     scale in prop_oneof![9 => -10..21i32, 1 => any::<i32>()], offset in any::<i32>(),
                     counts in prop::collection::vec(prop_oneof![0..9u64, any::<u32>().prop_map(u64::from)], 0..9),
                     negative in prop::option::of(prop::collection::vec(0..9u64, 0..3)),
                     zero in 0..5u64, wrong in 0..12) -> ExponentialHistogramDataPoint {
        let all = counts.iter().chain(negative.iter().flatten()).sum::<u64>() + zero;
        ExponentialHistogramDataPoint {
            attributes, start_time_unix_nano: start, time_unix_nano: time, flags, count: all + u64::from(wrong == 0),
            sum: None, scale, zero_count: zero, zero_threshold: 0.1, min: None, max: Some(7.0), exemplars: exemplars(),
            positive: Some(Exponential { offset, bucket_counts: counts }),
            negative: negative.map(|bucket_counts| Exponential { offset: -offset.saturating_add(1), bucket_counts }),
        }
    }
}

prop_compose! {
    fn summary()(attributes in point_attributes(), (start, time) in times(), flags in flags(), count in 0..99u64) -> SummaryDataPoint {
        SummaryDataPoint { attributes, start_time_unix_nano: start, time_unix_nano: time, flags, count, sum: 1.0, quantile_values: vec![Default::default()] }
    }
}

fn metric() -> impl Strategy<Value = Metric> {
    let temporality = prop_oneof![4 => Just(1), 4 => Just(2), 1 => Just(0), 1 => any::<i32>()];
    let data = (temporality, prop_oneof![4 => Just(true), 1 => Just(false)], 0..3usize).prop_flat_map(|(t, m, n)| {
        prop_oneof![
            1 => prop::collection::vec(number(), n).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
            3 => prop::collection::vec(number(), n).prop_map(move |data_points| {
                Data::Sum(Sum { data_points, aggregation_temporality: t, is_monotonic: m })
            }),
            4 => prop::collection::vec(explicit(), n).prop_map(move |data_points| {
                Data::Histogram(Histogram { data_points, aggregation_temporality: t })
            }),
            4 => prop::collection::vec(exponential(), n).prop_map(move |data_points| {
                Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: t })
            }),
            1 => prop::collection::vec(summary(), n).prop_map(|data_points| Data::Summary(Summary { data_points })),
        ]
    });
    (prop::sample::select(METRICS), prop::option::weighted(0.95, data)).prop_map(|((name, unit), data)| {
        Metric { name: name.into(), unit: unit.into(), description: "d".into(), metadata: vec![], data }
    })
}

pub(super) fn request() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let scope =
        prop::option::of(("[ab]?", "[12]?", point_attributes()).prop_map(|(name, version, attributes)| {
            InstrumentationScope { name, version, attributes, dropped_attributes_count: 1 }
        }));
    let scopes = (scope, prop::collection::vec(metric(), 0..3)).prop_map(|(scope, metrics)| ScopeMetrics {
        scope,
        metrics,
        schema_url: "s".into(),
    });
    let resource = prop::option::weighted(
        0.9,
        attributes(6).prop_map(|attributes| Resource { attributes, ..Default::default() }),
    );
    let envelope = (resource, prop::collection::vec(scopes, 0..3)).prop_map(|(resource, scope_metrics)| {
        ResourceMetrics { resource, scope_metrics, schema_url: String::new() }
    });
    prop::collection::vec(envelope, 0..3)
        .prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}

// ---- properties ----

/// Whatever prost accepts, the walker accepts and reads alike. `canonical` says that equal attributes are
/// written alike, as every encoder does: only then are streams told apart as prost's structs are.
fn agrees(message: &[u8], canonical: bool) -> Result<bool, TestCaseError> {
    let Ok(decoded) = ExportMetricsServiceRequest::decode(message) else {
        // No panic, whatever it makes of it.
        let _ = walked(message);
        return Ok(false);
    };
    let (seen, counts) = walked(message).map_err(|e| TestCaseError::fail(format!("refused: {e}")))?;
    let (expected, streams) = told(&decoded, &settings());
    prop_assert_eq!(&seen.told, &expected);
    let discarded: u64 = seen.told.iter().map(|t| if let Told::Discard(_, n) = t { *n } else { 0 }).sum();
    prop_assert_eq!(counts.points, discarded + counts.handed_on);
    prop_assert_eq!(counts.handed_on, seen.streams.len() as u64);
    prop_assert_eq!(counts.bad_exemplars, bad_ids(Signal::Metrics, message).parts);
    if canonical {
        let mut by_text = HashMap::new();
        let mut by_hash = HashMap::new();
        for (text, hash) in streams.iter().zip(&seen.streams) {
            prop_assert_eq!(*by_text.entry(text).or_insert(hash), hash);
            prop_assert_eq!(*by_hash.entry(hash).or_insert(text), text);
        }
    }
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_prost_writes_is_read_alike(request in request()) {
        prop_assert!(agrees(&request.encode_to_vec(), true)?);
    }

    #[test]
    fn what_prost_accepts_in_another_form_is_read_alike(request in request(), seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let original = request.encode_to_vec();
        let mut pool = Pool::new();
        for _ in 0..10 {
            agrees(&rewritten(&original, 8, &mut pool, &mut |n| random.u32(..n)), false)?;
        }
    }

    #[test]
    fn damaged_messages_are_read_alike_or_refused(request in request(), seed in any::<u64>()) {
        let original = request.encode_to_vec();
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20 {
            let mut message = original.clone();
            for _ in 0..random.usize(1..4) {
                damage(&mut message, &mut random);
            }
            agrees(&message, false)?;
        }
    }

    /// M2: the order of attributes does not matter.
    #[test]
    fn m2_streams_do_not_depend_on_the_order_of_attributes(attributes in point_attributes(), seed in any::<u64>()) {
        let mut unique: HashMap<String, KeyValue> = HashMap::new();
        unique.extend(attributes.into_iter().map(|kv| (kv.key.clone(), kv)));
        let mut attributes: Vec<KeyValue> = unique.into_values().collect();
        let one = only_stream(calls(attributes.clone()));
        fastrand::Rng::with_seed(seed).shuffle(&mut attributes);
        prop_assert_eq!(only_stream(calls(attributes)), one);
    }
}

// ---- by example ----

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

pub(super) fn calls(attributes: Vec<KeyValue>) -> Metric {
    let point = NumberDataPoint {
        attributes,
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        value: Some(number_data_point::Value::AsInt(7)),
        ..Default::default()
    };
    let data = Data::Sum(Sum { data_points: vec![point], aggregation_temporality: 2, is_monotonic: true });
    Metric { name: "traces.span.metrics.calls".into(), data: Some(data), ..Default::default() }
}

pub(super) fn durations(name: &str, unit: &str, attributes: Vec<KeyValue>) -> Metric {
    let point = HistogramDataPoint {
        attributes,
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 5,
        bucket_counts: vec![2, 3],
        explicit_bounds: vec![0.5],
        ..Default::default()
    };
    let data = Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality: 1 });
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Default::default() }
}

pub(super) fn message(metric: Metric) -> Vec<u8> {
    let scope = ScopeMetrics { metrics: vec![metric], ..Default::default() };
    let envelope =
        ResourceMetrics { resource: Some(service("shop")), scope_metrics: vec![scope], ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![envelope] }.encode_to_vec()
}

fn only_stream(metric: Metric) -> Option<u128> {
    walked(&message(metric)).unwrap().0.streams.first().copied()
}

/// E3: requests about 0 are the fastest there are, however wide a sender calls the bucket that holds them.
#[test]
fn e3_zero_counts_are_fast_whatever_the_threshold() {
    let told = |zero_threshold: f64| {
        let point = ExponentialHistogramDataPoint {
            start_time_unix_nano: 1,
            time_unix_nano: 2,
            count: 5,
            scale: 3,
            zero_count: 2,
            zero_threshold,
            positive: Some(Exponential { offset: 4, bucket_counts: vec![3] }),
            ..Default::default()
        };
        let histogram = ExponentialHistogram { data_points: vec![point], aggregation_temporality: 1 };
        let name = "http.server.request.duration".into();
        let metric = Metric {
            name,
            unit: "s".into(),
            data: Some(Data::ExponentialHistogram(histogram)),
            ..Default::default()
        };
        walked(&message(metric)).unwrap().0.told
    };
    let without = told(0.0);
    let held = without.iter().find_map(|told| match told {
        Told::Point { durations, count: 5, .. } => Some(durations),
        _ => None,
    });
    assert!(matches!(held, Some(Held::Exponential(_, 2, ..))), "{without:?}");
    assert_eq!((told(1e-6), told(10.0)), (without.clone(), without));
}

#[test]
fn m6_m7_names_and_their_families() {
    let cases = [
        ("http.server.request.duration", Some(Family::Http)),
        ("http.server.duration", Some(Family::HttpLegacy)),
        ("rpc.server.call.duration", Some(Family::Rpc)),
        ("rpc.server.duration", Some(Family::RpcLegacy)),
        ("messaging.process.duration", Some(Family::Messaging)),
        ("traces.span.metrics.duration", Some(Family::SpanDuration)),
        ("duration", Some(Family::SpanDuration)),
        ("mesh.requests", Some(Family::OtherDuration)),
        ("http.client.request.duration", None),
        ("http.server.request.duration.x", None),
    ];
    for (name, expected) in cases {
        let (seen, _) = walked(&message(durations(name, "s", vec![]))).unwrap();
        let family = seen.told.iter().find_map(|t| match t {
            Told::Point { family, .. } => Some(*family),
            _ => None,
        });
        assert_eq!(family, expected, "{name}");
        if expected.is_none() {
            assert_eq!(seen.told, [Told::Discard(Discard::MetricName, 1)], "no resource either");
        }
    }
}

#[test]
fn s3_points_with_excluded_statuses_are_not_judged() {
    for (status, excluded, expected) in [("404", vec![], 1), ("404", vec![404], 0), ("500", vec![404], 1)] {
        let settings = WalkSettings { excluded_statuses: excluded, ..settings() };
        let attributes = vec![text("http.response.status_code", status)];
        let message = message(durations("http.server.request.duration", "s", attributes));
        let counts = walk_metrics(&message, &settings, &mut Recorder::default()).unwrap();
        assert_eq!((counts.points, counts.handed_on), (1, expected), "{status}");
    }
}

#[test]
fn m9_units_are_read_and_an_unknown_one_is_not_guessed() {
    for (unit, expected) in [
        ("s", Some(DurationUnit::Seconds)),
        ("ms", Some(DurationUnit::Millis)),
        ("us", Some(DurationUnit::Micros)),
        ("ns", Some(DurationUnit::Nanos)),
        ("min", Some(DurationUnit::Minutes)),
        ("", None),
        ("By", None),
    ] {
        let (seen, counts) =
            walked(&message(durations("http.server.request.duration", unit, vec![]))).unwrap();
        match expected {
            Some(expected) => {
                assert!(matches!(&seen.told[1], Told::Point { unit, .. } if *unit == expected), "{unit}");
            }
            None => assert_eq!(seen.told, [Told::Discard(Discard::Unit, 1)], "{unit}"),
        }
        assert_eq!(counts.unknown_unit, u64::from(expected.is_none()), "{unit}");
    }
}

#[test]
fn s3_outcomes_of_points() {
    use Outcome::{Bad, ClientError, Good};
    let cases: &[(&[(&str, &str)], Outcome)] = &[
        (&[], Good),
        (&[("error.type", "timeout")], Bad),
        (&[("http.response.status_code", "500"), ("error.type", "500")], Bad),
        (&[("http.response.status_code", "200"), ("error.type", "reset")], Bad),
        (&[("http.response.status_code", "401"), ("error.type", "401")], ClientError),
        (&[("http.response.status_code", "404")], Good),
        (&[("status.code", "STATUS_CODE_ERROR")], Bad),
        (&[("status_code", "STATUS_CODE_ERROR"), ("http.response.status_code", "200")], Bad),
        (&[("status.code", "STATUS_CODE_OK"), ("error.type", "x")], Good),
        (&[("rpc.grpc.status_code", "14")], Bad),
        (&[("response_code", "503")], Bad),
        (&[("grpc_response_status", "13"), ("response_code", "200")], Bad),
        (&[("response_code", "401")], ClientError),
    ];
    for (attributes, expected) in cases {
        let attributes = attributes.iter().map(|(k, v)| text(k, v)).collect();
        let (seen, _) = walked(&message(calls(attributes))).unwrap();
        assert!(
            matches!(&seen.told[1], Told::Point { outcome, .. } if outcome == expected),
            "{:?}",
            seen.told
        );
    }
}

#[test]
fn m7_span_metrics_count_entry_spans_only() {
    let discarded = |attributes: &[(&str, &str)]| {
        let attributes = attributes.iter().map(|(k, v)| text(k, v)).collect();
        let (seen, _) = walked(&message(calls(attributes))).unwrap();
        seen.told.iter().find_map(|t| if let Told::Discard(reason, _) = t { Some(*reason) } else { None })
    };
    assert_eq!(discarded(&[("span.kind", "SPAN_KIND_SERVER")]), None);
    assert_eq!(discarded(&[("span_kind", "SPAN_KIND_CONSUMER")]), None);
    assert_eq!(discarded(&[("span.kind", "SPAN_KIND_CLIENT")]), Some(Discard::Kind));
    assert_eq!(discarded(&[("reporter", "source")]), Some(Discard::Kind));
    assert_eq!(discarded(&[("span.name", "GET /healthz")]), Some(Discard::Health));
    assert_eq!(discarded(&[("span.name", "GET /health/check")]), None);
    assert_eq!(discarded(&[("user_agent.synthetic.type", "bot")]), Some(Discard::Synthetic));
}

#[test]
fn m1_a_point_says_that_it_has_no_value() {
    let mut metric = durations("http.server.request.duration", "s", vec![]);
    let Some(Data::Histogram(histogram)) = &mut metric.data else { unreachable!() };
    histogram.data_points[0].flags = 1;
    assert_eq!(walked(&message(metric)).unwrap().0.told, [Told::Discard(Discard::StaleMark, 1)]);
}

#[test]
fn the_subject_of_a_point_goes_before_its_resource() {
    let attributes = vec![
        text("service.name", "cart"),
        text("destination_version", "v7"),
        text("service.version", "unknown"),
    ];
    let (seen, _) = walked(&message(calls(attributes))).unwrap();
    let expected = ["cart", "", "", "v7"].map(|s| s.as_bytes().to_vec());
    assert!(matches!(&seen.told[1], Told::Point { subject, .. } if *subject == expected), "{:?}", seen.told);
}

#[test]
fn x1_a_histogram_without_buckets_still_counts() {
    let mut metric = durations("http.server.request.duration", "s", vec![]);
    let Some(Data::Histogram(histogram)) = &mut metric.data else { unreachable!() };
    histogram.data_points[0].bucket_counts.clear();
    histogram.data_points[0].explicit_bounds.clear();
    let (seen, _) = walked(&message(metric)).unwrap();
    assert!(matches!(&seen.told[1], Told::Point { durations: Held::Unknown, count: 5, .. }));
}

#[test]
fn resource_and_temporality_may_follow_the_points() {
    let histogram = [
        field(1, &HistogramDataPoint { time_unix_nano: 3, count: 1, ..Default::default() }.encode_to_vec()),
        vec![0x10, 2],
    ]
    .concat();
    let metric = [field(9, &histogram), field(3, b"s"), field(1, b"http.server.request.duration")].concat();
    let scope = [field(2, &metric), field(1, &field(1, b"meter"))].concat();
    let envelope = [field(2, &scope), field(1, &service("late").encode_to_vec())].concat();
    let (seen, _) = walked(&field(1, &envelope)).unwrap();
    assert!(
        matches!(&seen.told[1], Told::Point { temporality: Temporality::Cumulative, .. }),
        "{:?}",
        seen.told
    );
}

#[test]
fn a_flood_of_buckets_costs_one_point() {
    let mut metric = durations("http.server.request.duration", "s", vec![]);
    let Some(Data::Histogram(histogram)) = &mut metric.data else { unreachable!() };
    let many = 100_000;
    histogram.data_points[0].bucket_counts = vec![1; many + 1];
    histogram.data_points[0].explicit_bounds = (0..many).map(|i| i as f64).collect();
    histogram.data_points[0].count = many as u64 + 1;
    assert_eq!(walked(&message(metric)).unwrap().0.told, [Told::Discard(Discard::Numbers, 1)]);
}
