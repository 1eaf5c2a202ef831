//! Every tolerance by example, and what stays refused.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
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
    assert!(matches!(traces_from_json("[".repeat(100_000).as_bytes()), Err(JsonError::Depth)));
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

#[test]
fn logs_are_normalised_first() {
    let json = br#"{"resource_logs":[{"scope_logs":[{"log_records":[
        {"severity_number":"SEVERITY_NUMBER_ERROR","attributes":null,"timeUnixNano":"5",
         "body":{"arrayValue":{}}}]}]}]}"#;
    let bytes = to_protobuf(Signal::Logs, json).unwrap();
    let request = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, record.time_unix_nano), (17, 5));
}
