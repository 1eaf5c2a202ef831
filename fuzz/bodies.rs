//! What the fuzz targets do with their bytes. The same functions are run over the committed corpus by the
//! ordinary tests (`tests/it/fuzz.rs`), so that what a fuzzer once found stays found.
//!
//! Each function panics when the program is wrong: when a walker refuses what prost accepts, loses a record or
//! hands on one that it should not, when JSON becomes bytes that are no message, when a sampling weight is not
//! what a second, slower reading of the rules says.

#[allow(dead_code, reason = "each fuzz target uses one body")]
#[path = "spool.rs"]
pub(crate) mod spool;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rollguard::model::{
    Discard, LogSink, LogView, PointSink, PointView, ResourceView, SamplingWeight, SpanSink, SpanView,
};
use rollguard::pipeline::Signal;
use rollguard::receiver::{
    WalkSettings, request_from_json, sampling_weight, walk_logs, walk_metrics, walk_traces,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

type Body = fn(&[u8]);

/// Every function by the name of its target and of its corpus.
#[allow(dead_code, reason = "each fuzz target uses one of them by name")]
pub(crate) const ALL: [(&str, Body); 6] = [
    ("traces", traces),
    ("metrics", metrics),
    ("logs", logs),
    ("json", json),
    ("tracestate", tracestate),
    ("queue", queue),
];

/// A queue on disk: bytes as a sequence of appends, deliveries, kills and damage; see `spool.rs`.
pub(crate) fn queue(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for the queue");
    spool::run(folder.path(), &spool::steps(bytes));
}

/// What a sink was told.
#[derive(Debug, Default)]
struct Told {
    /// Of each record handed on: start, end, trace id.
    handed_on: Vec<(u64, u64, Vec<u8>)>,
    discarded: Vec<(Discard, u64)>,
}

impl Told {
    fn discarded(&self) -> u64 {
        self.discarded.iter().map(|(_, n)| n).sum()
    }

    fn discarded_as(&self, reason: Discard) -> u64 {
        self.discarded.iter().filter(|(r, _)| *r == reason).map(|(_, n)| n).sum()
    }
}

impl SpanSink for Told {
    fn resource(&mut self, _: &ResourceView<'_>) {}

    fn span(&mut self, span: &SpanView<'_>) {
        self.handed_on.push((span.start.0, span.end.0, span.trace_id.to_vec()));
    }

    fn discard(&mut self, reason: Discard) {
        self.discarded.push((reason, 1));
    }
}

impl PointSink for Told {
    fn point(&mut self, _: &ResourceView<'_>, point: &PointView<'_>) {
        assert!(point.numbers.time.0 > 0, "a point without a time is handed on");
        self.handed_on.push((point.numbers.start.0, point.numbers.time.0, Vec::new()));
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        self.discarded.push((reason, points));
    }
}

impl LogSink for Told {
    fn log_resource(&mut self, _: &ResourceView<'_>) {}

    fn log(&mut self, log: &LogView<'_>) {
        assert!(log.is_error || log.exception.is_some(), "a log record that says nothing is handed on");
        self.handed_on.push((0, log.time.0, log.trace_id.to_vec()));
    }

    fn discard_log(&mut self, reason: Discard) {
        self.discarded.push((reason, 1));
    }
}

/// Whether all of `part` is in `whole`, in this order.
fn is_subsequence<T: PartialEq>(part: &[T], whole: impl IntoIterator<Item = T>) -> bool {
    let mut left = part;
    for item in whole {
        if left.first() == Some(&item) {
            left = &left[1..];
        }
    }
    left.is_empty()
}

/// Bytes as an `ExportTraceServiceRequest`.
pub(crate) fn traces(bytes: &[u8]) {
    let mut told = Told::default();
    let walked = walk_traces(bytes, &WalkSettings::default(), &mut told);
    let Ok(request) = ExportTraceServiceRequest::decode(bytes) else { return };
    let counts = walked.expect("prost accepts it");
    let spans: Vec<&Span> =
        request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).collect();
    assert_eq!(counts.spans, spans.len() as u64, "all spans are counted");
    assert_eq!(counts.entries, told.handed_on.len() as u64);
    assert_eq!(counts.spans, counts.entries + told.discarded(), "every span is handed on or discarded");
    let fits = |id: &[u8], length| id.is_empty() || id.len() == length;
    let good_ids = |s: &&Span| fits(&s.trace_id, 16) && fits(&s.span_id, 8) && fits(&s.parent_span_id, 8);
    let bad_ids = spans.iter().filter(|s| !good_ids(s)).count() as u64;
    assert_eq!((counts.bad_ids, told.discarded_as(Discard::BadId)), (bad_ids, bad_ids));
    let is_entry = |s: &&&Span| matches!(s.kind, 2 | 5) && s.end_time_unix_nano > 0;
    let entries: Vec<_> = spans
        .iter()
        .filter(|s| good_ids(s))
        .filter(is_entry)
        .map(|s| (s.start_time_unix_nano, s.end_time_unix_nano, s.trace_id.clone()))
        .collect();
    let excused = told.discarded_as(Discard::Synthetic) + told.discarded_as(Discard::Health);
    assert_eq!(entries.len() as u64, counts.entries + excused);
    assert!(is_subsequence(&told.handed_on, entries), "what is handed on is as it was sent");
}

/// Bytes as an `ExportMetricsServiceRequest`.
pub(crate) fn metrics(bytes: &[u8]) {
    let mut told = Told::default();
    let walked = walk_metrics(bytes, &WalkSettings::default(), &mut told);
    let Ok(request) = ExportMetricsServiceRequest::decode(bytes) else { return };
    let counts = walked.expect("prost accepts it");
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    let times: Vec<Vec<(u64, u64)>> = metrics.filter_map(|m| m.data.as_ref()).map(point_times).collect();
    let times = times.concat();
    assert_eq!(counts.points, times.len() as u64, "all points are counted");
    assert_eq!(counts.handed_on, told.handed_on.len() as u64);
    assert_eq!(counts.points, counts.handed_on + told.discarded(), "every point is handed on or discarded");
    let all = times.into_iter().map(|(start, time)| (start, time, Vec::new()));
    assert!(is_subsequence(&told.handed_on, all), "what is handed on is as it was sent");
}

/// Start and time of every point.
fn point_times(data: &Data) -> Vec<(u64, u64)> {
    macro_rules! times {
        ($d:expr) => {
            $d.data_points.iter().map(|p| (p.start_time_unix_nano, p.time_unix_nano)).collect()
        };
    }
    match data {
        Data::Gauge(d) => times!(d),
        Data::Sum(d) => times!(d),
        Data::Histogram(d) => times!(d),
        Data::ExponentialHistogram(d) => times!(d),
        Data::Summary(d) => times!(d),
    }
}

/// Bytes as an `ExportLogsServiceRequest`.
pub(crate) fn logs(bytes: &[u8]) {
    let mut told = Told::default();
    let walked = walk_logs(bytes, &WalkSettings::default(), &mut told);
    let Ok(request) = ExportLogsServiceRequest::decode(bytes) else { return };
    let counts = walked.expect("prost accepts it");
    let records: Vec<_> =
        request.resource_logs.iter().flat_map(|r| &r.scope_logs).flat_map(|s| &s.log_records).collect();
    assert_eq!(counts.records, records.len() as u64, "all records are counted");
    assert_eq!(counts.taken, told.handed_on.len() as u64);
    assert_eq!(counts.records, counts.taken + told.discarded(), "every record is handed on or discarded");
    let fits = |id: &[u8], length| id.is_empty() || id.len() == length;
    let good: Vec<_> = records.iter().filter(|r| fits(&r.trace_id, 16) && fits(&r.span_id, 8)).collect();
    assert_eq!(told.discarded_as(Discard::BadId), (records.len() - good.len()) as u64);
    let times = good.iter().map(|r| {
        let time = if r.time_unix_nano == 0 { r.observed_time_unix_nano } else { r.time_unix_nano };
        (0, time, r.trace_id.clone())
    });
    assert!(is_subsequence(&told.handed_on, times), "what is handed on is as it was sent");
}

/// Text as OTLP/JSON, of the signal that the first byte names; and the message that the same bytes are in
/// protobuf, written as JSON by others and read back.
pub(crate) fn json(bytes: &[u8]) {
    let Some((signal, rest)) = bytes.split_first() else { return };
    match signal % 3 {
        0 => json_of::<ExportTraceServiceRequest>(Signal::Traces, rest),
        1 => json_of::<ExportMetricsServiceRequest>(Signal::Metrics, rest),
        _ => json_of::<ExportLogsServiceRequest>(Signal::Logs, rest),
    }
}

fn json_of<T>(signal: Signal, bytes: &[u8])
where
    T: Message + Default + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned,
{
    if let Ok(message) = request_from_json(signal, bytes, usize::MAX) {
        T::decode(message.as_slice()).expect("JSON becomes a message that can be read");
        let smaller = request_from_json(signal, bytes, message.len().saturating_sub(1));
        assert!(message.is_empty() || smaller.is_err(), "the limit holds");
    }
    let Ok(request) = T::decode(bytes) else { return };
    let Ok(text) = serde_json::to_vec(&request) else { return };
    // What the others' own reading gets wrong (numbers that are none) is no measure.
    if serde_json::from_slice::<T>(&text).is_ok_and(|again| again == request)
        && let Ok(message) = request_from_json(signal, &text, usize::MAX)
    {
        assert_eq!(T::decode(message.as_slice()).as_ref(), Ok(&request), "JSON means what protobuf meant");
    }
}

/// A trace id of 16 bytes, or less where there are fewer, and a `tracestate`.
pub(crate) fn tracestate(bytes: &[u8]) {
    let (trace_id, state) = bytes.split_at(bytes.len().min(16));
    let weight = sampling_weight(state, trace_id);
    if let SamplingWeight::Known(weight) = weight {
        assert!((1.0..=2f64.powi(56)).contains(&weight), "{weight}");
    }
    if let Ok(text) = std::str::from_utf8(state)
        && text.is_ascii()
    {
        assert_eq!(weight, plain_weight(text, trace_id), "{text:?} of {trace_id:?}");
    }
}

/// The rules W1 to W3 a second time, in text.
fn plain_weight(state: &str, trace_id: &[u8]) -> SamplingWeight {
    let is_space = |c: char| c.is_ascii_whitespace();
    let members = state.split(',').map(|m| m.trim_matches(is_space));
    let Some(ours) = members.into_iter().find_map(|m| m.strip_prefix("ot=")) else {
        return SamplingWeight::Unknown;
    };
    let is_hex = |v: &str| {
        (1..=14).contains(&v.len()) && v.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    };
    let number = |v: &str| u64::from_str_radix(&format!("{v:0<14}"), 16).expect("hex");
    let (mut threshold, mut randomness) = (None, None);
    for pair in ours.split(';') {
        match pair.split_once(':') {
            Some(("th", v)) if is_hex(v) => threshold = Some(number(v)),
            Some(("rv", v)) if is_hex(v) && v.len() == 14 => randomness = Some(number(v)),
            None | Some(("th" | "rv" | "", _)) => return SamplingWeight::Inconsistent,
            Some(_) => {}
        }
    }
    let Some(threshold) = threshold else { return SamplingWeight::Unknown };
    let low = |id: &[u8]| id.iter().rev().take(7).rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let randomness = randomness.or_else(|| (trace_id.len() == 16).then(|| low(trace_id)));
    match randomness {
        Some(randomness) if randomness < threshold => SamplingWeight::Inconsistent,
        _ => SamplingWeight::Known(2f64.powi(56) / ((1_u64 << 56) - threshold) as f64),
    }
}
