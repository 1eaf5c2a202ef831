//! OTLP/JSON beside the reading of it that `opentelemetry-proto` brings (serde), on the same bodies of 100
//! spans, data points and log records. Ours goes to the end: to protobuf, which is also what is forwarded, and
//! through the walker; theirs ends with the structs. The item throughput is records per second.
//!
//! The aim is at most 0.6 of the time; `cargo bench --bench json`.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the bodies carry real times")]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use rollguard::model::{Discard, LogSink, LogView, PointSink, PointView, ResourceView, SpanSink, SpanView};
use rollguard::pipeline::Signal;
use rollguard::receiver::{WalkSettings, request_from_json, walk_logs, walk_metrics, walk_traces};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[allow(dead_code, reason = "the load generator needs more of it")]
#[path = "../examples/load/traffic.rs"]
mod traffic;

use self::traffic::{Kind, Sender};

fn main() {
    divan::main();
}

/// Adds up what it is given, so that nothing can be left out.
#[derive(Default)]
struct Sum(u64);

impl SpanSink for Sum {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        self.0 += resource.service.len() as u64;
    }

    fn span(&mut self, span: &SpanView<'_>) {
        self.0 += span.end.since(span.start);
    }

    fn discard(&mut self, _: Discard) {
        self.0 += 1;
    }
}

impl PointSink for Sum {
    fn point(&mut self, _: &ResourceView<'_>, point: &PointView<'_>) {
        self.0 += point.numbers.count;
    }

    fn discard_points(&mut self, _: Discard, points: u64) {
        self.0 += points;
    }
}

impl LogSink for Sum {
    fn log_resource(&mut self, resource: &ResourceView<'_>) {
        self.0 += resource.service.len() as u64;
    }

    fn log(&mut self, log: &LogView<'_>) {
        self.0 += log.time.0;
    }

    fn discard_log(&mut self, _: Discard) {
        self.0 += 1;
    }
}

/// A request of the load generator as JSON.
fn body<T: Message + Default + Serialize>(kind: Kind) -> (Vec<u8>, ItemsCount) {
    let (message, items) = Sender::new(kind, 0, 1, traffic::INSTANCES).next();
    let json = T::decode(message.as_slice()).ok().and_then(|request| serde_json::to_vec(&request).ok());
    (json.unwrap_or_default(), ItemsCount::new(items))
}

/// Reads it their way.
fn theirs<T: Message + Default + Serialize + DeserializeOwned>(bencher: Bencher<'_, '_>, kind: Kind) {
    let (json, items) = body::<T>(kind);
    bencher.counter(items).bench_local(|| serde_json::from_slice::<T>(black_box(&json)));
}

#[divan::bench]
fn traces_ours(bencher: Bencher<'_, '_>) {
    let (json, items) = body::<ExportTraceServiceRequest>(Kind::Spans);
    let settings = WalkSettings::default();
    bencher.counter(items).bench_local(|| {
        let mut sink = Sum::default();
        let message = request_from_json(Signal::Traces, black_box(&json), usize::MAX).unwrap_or_default();
        walk_traces(&message, &settings, &mut sink).map(|_| sink.0)
    });
}

#[divan::bench]
fn traces_theirs(bencher: Bencher<'_, '_>) {
    theirs::<ExportTraceServiceRequest>(bencher, Kind::Spans);
}

#[divan::bench]
fn metrics_ours(bencher: Bencher<'_, '_>) {
    let (json, items) = body::<ExportMetricsServiceRequest>(Kind::Delta);
    let settings = WalkSettings::default();
    bencher.counter(items).bench_local(|| {
        let mut sink = Sum::default();
        let message = request_from_json(Signal::Metrics, black_box(&json), usize::MAX).unwrap_or_default();
        walk_metrics(&message, &settings, &mut sink).map(|_| sink.0)
    });
}

#[divan::bench]
fn metrics_theirs(bencher: Bencher<'_, '_>) {
    theirs::<ExportMetricsServiceRequest>(bencher, Kind::Delta);
}

#[divan::bench]
fn logs_ours(bencher: Bencher<'_, '_>) {
    let (json, items) = body::<ExportLogsServiceRequest>(Kind::Logs);
    let settings = WalkSettings::default();
    bencher.counter(items).bench_local(|| {
        let mut sink = Sum::default();
        let message = request_from_json(Signal::Logs, black_box(&json), usize::MAX).unwrap_or_default();
        walk_logs(&message, &settings, &mut sink).map(|_| sink.0)
    });
}

#[divan::bench]
fn logs_theirs(bencher: Bencher<'_, '_>) {
    theirs::<ExportLogsServiceRequest>(bencher, Kind::Logs);
}
