//! Every tolerance by example, and what stays refused.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as NumberValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::*;

fn request(json: &str) -> ExportTraceServiceRequest {
    let bytes = traces_from_json(json.as_bytes()).unwrap_or_else(|e| panic!("{json}: {e}"));
    ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap()
}

/// The one span whose fields are `json`.
fn span(json: &str) -> Span {
    let whole = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{json}}}]}}]}}]}}"#);
    request(&whole).resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

fn refused(json: &str) -> bool {
    let whole = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{json}}}]}}]}}]}}"#);
    traces_from_json(whole.as_bytes()).is_err()
}

#[test]
fn j1_ids_are_hex_of_any_case_and_numbers_are_text_or_numbers() {
    let text = span(r#""traceId":"0AfF","startTimeUnixNano":"1700000000000000001","kind":2"#);
    assert_eq!((text.trace_id.as_slice(), text.kind), (&[0x0a, 0xff][..], 2));
    assert_eq!(text.start_time_unix_nano, 1_700_000_000_000_000_001);
    let number = span(r#""startTimeUnixNano":1700000000000000001,"parentSpanId":"","unknown":{"a":[1]}"#);
    assert_eq!(number.start_time_unix_nano, 1_700_000_000_000_000_001);
    assert!(number.parent_span_id.is_empty());
}

#[test]
fn j2_names_snake_case_and_quoted_numbers_are_read() {
    let named = span(r#""kind":"SPAN_KIND_CONSUMER","status":{"code":"STATUS_CODE_ERROR"},"flags":"257""#);
    assert_eq!((named.kind, named.status.unwrap().code, named.flags), (5, 2, 257));
    assert_eq!(span(r#""kind":"2""#).kind, 2);
    let snake =
        r#"{"resource_spans":[{"scope_spans":[{"spans":[{"end_time_unix_nano":"7","trace_id":"01"}]}]}]}"#;
    let request = request(snake);
    assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano, 7);
}

#[test]
fn j3_what_the_node_exporter_writes_is_read() {
    let span = span(
        r#""startTimeUnixNano":"1700000000000000001","attributes":[{"key":"n","value":{"intValue":200}}],
           "droppedAttributesCount":0,"status":{"code":0}"#,
    );
    let value = span.attributes[0].value.clone().and_then(|value| value.value);
    assert_eq!((span.start_time_unix_nano, value), (1_700_000_000_000_000_001, Some(Any::IntValue(200))));
}

#[test]
fn j4_nulls_empty_lists_and_unusual_doubles_are_read() {
    assert_eq!(request(r#"{"resourceSpans":null}"#), ExportTraceServiceRequest::default());
    assert_eq!(request("{}"), ExportTraceServiceRequest::default());
    let span = span(
        r#""attributes":[null,{"key":"a","value":{"arrayValue":{}}},{"key":"n","value":{"doubleValue":"NaN"}},
           {"key":"i","value":{"doubleValue":"-Infinity"}},{"key":"b","value":{"bytesValue":"AQI="}},
           {"key":"e","value":null},{"key":"k","value":{"kvlistValue":{"values":null}}},
           {"key":"u","value":{"intValue":"9223372036854775807"}},{"key":"s","value":{"stringValue":""}}],
           "events":null,"links":null,"status":null,"name":null,"traceId":null,"kind":null"#,
    );
    let values: Vec<_> = span.attributes.into_iter().map(|a| a.value.and_then(|v| v.value)).collect();
    assert_eq!(values.len(), 8);
    assert!(matches!(&values[0], Some(Any::ArrayValue(list)) if list.values.is_empty()));
    assert!(matches!(values[1], Some(Any::DoubleValue(n)) if n.is_nan()));
    assert_eq!(values[2], Some(Any::DoubleValue(f64::NEG_INFINITY)));
    assert_eq!(values[3], Some(Any::BytesValue(vec![1, 2])));
    assert_eq!(values[4], None);
    assert!(matches!(&values[5], Some(Any::KvlistValue(list)) if list.values.is_empty()));
    assert_eq!(values[6], Some(Any::IntValue(i64::MAX)));
    assert_eq!(values[7], Some(Any::StringValue(String::new())));
}

#[test]
fn j5_depth_is_limited_and_brackets_in_strings_do_not_count() {
    let nested = |n: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(n), "]}}".repeat(n));
        format!(r#""attributes":[{{"key":"k","value":{open}{close}}}]"#)
    };
    assert!(!refused(&nested(15)));
    assert!(refused(&nested(20)));
    let unknown = |open: &str| format!("{{\"unknown\":{}", open.repeat(100_000));
    for open in ["[", "{\"a\":"] {
        assert_eq!(traces_from_json(unknown(open).as_bytes()), Err(JsonError::Depth));
    }
    assert_eq!(span(&format!(r#""name":"{}\"[""#, "[{".repeat(100))).name.len(), 202);
}

#[test]
fn g11_an_id_that_is_no_hex_has_the_wrong_length() {
    assert_eq!(span(r#""traceId":"zz""#).trace_id.len(), 1);
    assert_eq!(span(r#""spanId":"0123456789abcde""#).span_id.len(), 1);
}

#[test]
fn what_is_wrong_is_refused() {
    for json in [
        r#""kind":"SPAN_KIND_ODD""#,
        r#""startTimeUnixNano":-1"#,
        r#""startTimeUnixNano":"x""#,
        r#""name":5"#,
    ] {
        assert!(refused(json), "{json}");
    }
    assert!(traces_from_json(b"[]").is_err());
    assert!(traces_from_json(b"").is_err());
    assert!(traces_from_json(b"{\"resourceSpans\":[").is_err());
}

#[test]
fn g10_invalid_utf8_costs_the_characters_only() {
    let mut json = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a_b"}]}]}]}"#.to_vec();
    let at = json.iter().position(|b| *b == b'_').unwrap();
    json[at] = 0xff;
    let bytes = traces_from_json(&json).unwrap();
    let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].name, "a\u{fffd}b");
}

// ---- metrics and logs ----

fn metric(json: &str) -> Metric {
    let whole = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{{json}}}]}}]}}]}}"#);
    let bytes = request_from_json(Signal::Metrics, whole.as_bytes(), usize::MAX).unwrap();
    let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
    request.resource_metrics[0].scope_metrics[0].metrics[0].clone()
}

fn record(json: &str) -> LogRecord {
    let whole = format!(r#"{{"resource_logs":[{{"scope_logs":[{{"log_records":[{{{json}}}]}}]}}]}}"#);
    let bytes = request_from_json(Signal::Logs, whole.as_bytes(), usize::MAX).unwrap();
    let request = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
    request.resource_logs[0].scope_logs[0].log_records[0].clone()
}

#[test]
fn j1_j2_j4_points_in_every_spelling() {
    let gauge = metric(
        r#""gauge":{"data_points":[null,{"asDouble":"NaN"},{"as_double":"-Infinity"},{"asInt":-7},
           {"asInt":"9223372036854775807","timeUnixNano":"5","flags":"1"},{"asDouble":3},{"asDouble":"2.5"}]}"#,
    );
    let Some(Data::Gauge(gauge)) = gauge.data else { panic!("{gauge:?}") };
    let values: Vec<_> = gauge.data_points.iter().map(|p| p.value.unwrap()).collect();
    assert!(matches!(values[0], NumberValue::AsDouble(n) if n.is_nan()));
    assert_eq!(
        values[1..],
        [
            NumberValue::AsDouble(f64::NEG_INFINITY),
            NumberValue::AsInt(-7),
            NumberValue::AsInt(i64::MAX),
            NumberValue::AsDouble(3.0),
            NumberValue::AsDouble(2.5)
        ]
    );
    assert_eq!((gauge.data_points[3].time_unix_nano, gauge.data_points[3].flags), (5, 1));

    let sum = metric(
        r#""sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true,
           "dataPoints":null}"#,
    );
    let Some(Data::Sum(sum)) = sum.data else { panic!("{sum:?}") };
    assert_eq!((sum.aggregation_temporality, sum.is_monotonic, sum.data_points.len()), (2, true, 0));
}

#[test]
fn j1_j4_histograms_of_both_kinds() {
    let explicit = metric(
        r#""histogram":{"aggregationTemporality":1,"dataPoints":[{"count":"3","sum":0,"bucketCounts":["1",2,0],
           "explicitBounds":[0.5,"Infinity"],"exemplars":[{"traceId":"0A","asInt":"4"}],"min":"1e-3"}]}"#,
    );
    let Some(Data::Histogram(explicit)) = explicit.data else { panic!("{explicit:?}") };
    let point = &explicit.data_points[0];
    assert_eq!((point.count, point.sum, point.min, point.max), (3, Some(0.0), Some(0.001), None));
    assert_eq!((&*point.bucket_counts, &*point.explicit_bounds), (&[1, 2, 0][..], &[0.5, f64::INFINITY][..]));
    assert_eq!(point.exemplars[0].trace_id, [10]);

    let exponential = metric(
        r#""exponentialHistogram":{"dataPoints":[{"scale":-3,"zeroCount":1,"positive":{"offset":-2,
           "bucketCounts":[1,"300"]},"negative":{"bucketCounts":[]},"zeroThreshold":"0.5"}]}"#,
    );
    let Some(Data::ExponentialHistogram(exponential)) = exponential.data else { panic!("{exponential:?}") };
    let point = &exponential.data_points[0];
    assert_eq!((point.scale, point.zero_count, point.zero_threshold), (-3, 1, 0.5));
    let positive = point.positive.clone().unwrap();
    assert_eq!((positive.offset, &*positive.bucket_counts), (-2, &[1, 300][..]));
    assert!(point.negative.clone().unwrap().bucket_counts.is_empty());
}

#[test]
fn j1_j2_j4_log_records() {
    let read = record(
        r#""severity_number":"SEVERITY_NUMBER_ERROR","attributes":null,"timeUnixNano":"5",
           "observed_time_unix_nano":6,"body":{"arrayValue":{}},"traceId":"","spanId":"00112233445566AA",
           "event_name":"e","flags":1"#,
    );
    assert_eq!((read.severity_number, read.time_unix_nano, read.observed_time_unix_nano), (17, 5, 6));
    assert_eq!((read.trace_id.len(), read.span_id[7], read.flags), (0, 0xaa, 1));
    assert!(matches!(read.body.unwrap().value, Some(Any::ArrayValue(list)) if list.values.is_empty()));
    assert_eq!(record(r#""severityNumber":9"#).severity_number, 9);
    assert_eq!(record(r#""severityNumber":"9""#).severity_number, 9);
}

// ---- the text itself ----

#[test]
fn strings_are_unescaped() {
    for (json, text) in [
        (r"plain", "plain"),
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r"a\u00e9\ud83d\ude00z", "a\u{e9}\u{1f600}z"),
        (r"\ud83d", "\u{fffd}"),
        (r"\ud83dx\ude00", "\u{fffd}x\u{fffd}"),
        (r"\ud83d\u0041", "\u{fffd}A"),
    ] {
        assert_eq!(span(&format!(r#""name":"{json}""#)).name, text, "{json}");
    }
    // Keys may be escaped too.
    assert_eq!(span(r#""n\u0061me":"x""#).name, "x");
}

#[test]
fn a_string_ends_where_it_ends_at_any_offset() {
    for length in 0..40 {
        let (before, after) = ("ü".repeat(length / 2), "~".repeat(length));
        for (middle, text) in [("", ""), (r#"\""#, "\""), (r"\\", "\\"), ("\u{7f}", "\u{7f}")] {
            let name = format!("{before}{after}{text}{after}");
            assert_eq!(span(&format!(r#""name":"{before}{after}{middle}{after}""#)).name, name);
        }
        assert!(refused(&format!("\"name\":\"{after}\u{1f}\"")), "{length}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for json in [
        r#""name":"a"#,
        r#""name":"\x""#,
        r#""name":"\u12g4""#,
        "\"name\":\"a\nb\"",
        r#""kind":01"#,
        r#""kind":+1"#,
        r#""kind":1."#,
        r#""kind":.5"#,
        r#""kind":1e"#,
        r#""kind":-"#,
        r#""kind":2,"#,
        r#""kind" 2"#,
        r#"kind:2"#,
        r#""kind":tru"#,
        r#""kind":nul"#,
        r#""unknown":[1,]"#,
        r#""unknown":[1 2]"#,
        r#""unknown":{"a"}"#,
        r#""unknown":NaN"#,
    ] {
        assert!(refused(json), "{json}");
    }
    assert!(traces_from_json(b"{} {}").is_err());
    assert!(traces_from_json(b" { } ").is_ok_and(|bytes| bytes.is_empty()));
}

#[test]
fn an_error_names_the_field() {
    let error = traces_from_json(br#"{"resourceSpans":[{"schemaUrl":7}]}"#).unwrap_err();
    assert_eq!(error.to_string(), "cannot decode the JSON: `schemaUrl` before byte 32 is not a string");
}

#[test]
fn h4_short_numbers_do_not_become_a_large_message() {
    let counts = "0,".repeat(5_000);
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[
           {{"bucketCounts":[{counts}0]}}]}}}}]}}]}}]}}"#
    );
    assert!(request_from_json(Signal::Metrics, json.as_bytes(), 50_000).is_ok());
    let refused = request_from_json(Signal::Metrics, json.as_bytes(), 20_000);
    assert_eq!(refused, Err(JsonError::TooLarge(20_000)));
}
