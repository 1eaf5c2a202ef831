//! Which signal a recorded message holds. On the wire the path says it; a file does not.

use crate::pipeline::Signal;
use crate::wire::{BYTES, FIXED64, Fields, key};

/// The signal of a request in JSON, by its first key; traces where that says nothing.
pub fn signal_of_json(json: &[u8]) -> Signal {
    let text = json.trim_ascii_start();
    let inside = text.strip_prefix(b"{").unwrap_or(text).trim_ascii_start();
    let name = inside.strip_prefix(b"\"").unwrap_or_default();
    match name.split(|b| *b == b'"').next().unwrap_or_default() {
        b"resourceMetrics" | b"resource_metrics" => Signal::Metrics,
        b"resourceLogs" | b"resource_logs" => Signal::Logs,
        _ => Signal::Traces,
    }
}

/// The signal of a request in protobuf, by the shape of its first record: a span has its times as fields 7
/// and 8, a log record as 1 and 11, and a metric has no times at all. Traces where there is no record.
pub fn signal_of_message(message: &[u8]) -> Signal {
    first_record(message, &[1, 2, 2]).map_or(Signal::Traces, signal_of_record)
}

/// The first message at the end of a path of fields.
fn first_record<'a>(message: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
    let Some((step, below)) = path.split_first() else { return Some(message) };
    let mut fields = Fields::new(message);
    while let Ok(Some(found)) = fields.next_key() {
        if found == key(*step, BYTES) {
            let inner = fields.bytes().ok()?;
            if let Some(record) = first_record(inner, below) {
                return Some(record);
            }
        } else {
            fields.skip(found).ok()?;
        }
    }
    None
}

fn signal_of_record(record: &[u8]) -> Signal {
    let mut fields = Fields::new(record);
    while let Ok(Some(found)) = fields.next_key() {
        if found == key(7, FIXED64) || found == key(8, FIXED64) {
            return Signal::Traces;
        }
        if found == key(1, FIXED64) || found == key(11, FIXED64) {
            return Signal::Logs;
        }
        if fields.skip(found).is_err() {
            break;
        }
    }
    Signal::Metrics
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::metrics::v1::{
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
    };
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    use super::*;

    #[test]
    fn files_say_their_signal_by_key_or_by_shape() {
        for (json, expected) in [
            (" {\"resourceSpans\":[]}", Signal::Traces),
            ("{ \"resourceMetrics\" : []}", Signal::Metrics),
            ("{\"resource_logs\":[]}", Signal::Logs),
            ("{}", Signal::Traces),
        ] {
            assert_eq!(signal_of_json(json.as_bytes()), expected, "{json}");
        }
        let span = Span { end_time_unix_nano: 3, name: "n".into(), ..Default::default() };
        let scope_spans = vec![ScopeSpans::default(), ScopeSpans { spans: vec![span], ..Default::default() }];
        let spans = ExportTraceServiceRequest {
            resource_spans: vec![
                ResourceSpans::default(),
                ResourceSpans { scope_spans, ..Default::default() },
            ],
        };
        let point = NumberDataPoint { time_unix_nano: 5, ..Default::default() };
        let sum = Sum { data_points: vec![point], aggregation_temporality: 2, is_monotonic: true };
        let metric = Metric { name: "calls".into(), data: Some(Data::Sum(sum)), ..Default::default() };
        let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
        let metrics = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics { scope_metrics, ..Default::default() }],
        };
        let log_records = vec![LogRecord { observed_time_unix_nano: 9, ..Default::default() }];
        let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
        let logs = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }],
        };
        assert_eq!(signal_of_message(&spans.encode_to_vec()), Signal::Traces);
        assert_eq!(signal_of_message(&metrics.encode_to_vec()), Signal::Metrics);
        assert_eq!(signal_of_message(&logs.encode_to_vec()), Signal::Logs);
        assert_eq!(signal_of_message(b"\xff\xff"), Signal::Traces);
    }
}
