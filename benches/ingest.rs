//! What a span costs on its way in: resolving, pushing and committing batches of 256, with one hot series
//! and with 2,000, on one thread and on two; what a resource costs; and what a metric point costs, with and without a
//! memory of its stream. The counter shows items per second.

#![allow(missing_docs, reason = "a benchmark has no readers of its documentation")]

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use rollguard::model::{
    Discard, Outcome, PointSink, PointView, ResourceAttribute, ResourceView, SamplingWeight, SpanSink,
    SpanView, StatusSource, UnixNanos,
};
use rollguard::pipeline::{Batch, DEFAULT_SHARD_CAPACITY, Drained, Intake, Registry, RegistryLimits, Shards};
use rollguard::receiver::{WalkSettings, walk_metrics};

const SPANS: usize = 256;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 2_000], threads = [1, 2])]
fn span_and_commit(bencher: Bencher, series: usize) {
    let limits = RegistryLimits { operations_per_version: 4_000, ..RegistryLimits::default() };
    let shards = Arc::new(Shards::new(2, DEFAULT_SHARD_CAPACITY));
    let door = Intake::new(Arc::new(Registry::new(limits)), Arc::clone(&shards));
    let names: Vec<String> = (0..series).map(|n| format!("/api/v1/things/{n}")).collect();
    let drained = std::sync::Mutex::new(Drained::default());
    bencher.counter(ItemsCount::new(SPANS)).bench(|| {
        let mut batch = door.begin(UnixNanos::from_secs(1_000));
        batch.resource(&ResourceView {
            service: b"checkout",
            version: b"2.4.1",
            instance: b"checkout-7d9f",
            ..ResourceView::default()
        });
        // A stride that is coprime to the number of series visits all of them over the batches.
        let mut at = fastrand::usize(..series);
        for n in 0..SPANS as u64 {
            at = (at + 37) % series;
            batch.span(&SpanView {
                operation_head: b"GET",
                operation_joint: b" ",
                operation_tail: names[at].as_bytes(),
                start: UnixNanos(1_000_000_000 + n),
                end: UnixNanos(1_050_000_000 + n * 997),
                outcome: Outcome::Good,
                status: StatusSource::Code,
                weight: SamplingWeight::Unknown,
                trace_id: &[1; 16],
                marks: 0,
                quantities: &[],
            });
        }
        if batch.commit().is_err() {
            // The evaluator's part, rarely: the log is full after a thousand batches.
            if let Ok(mut drained) = drained.lock() {
                shards.drain(&mut drained);
            }
        }
    });
}

/// What a resource costs beside its spans: 64 pods, each with one span, its ids learned and its sender accounted
/// for. The counter shows resources per second.
#[divan::bench(threads = [1, 2])]
fn resource_and_commit(bencher: Bencher) {
    const PODS: usize = 64;
    let shards = Arc::new(Shards::new(2, DEFAULT_SHARD_CAPACITY));
    let door = Intake::new(Arc::new(Registry::new(RegistryLimits::default())), Arc::clone(&shards));
    let pods: Vec<String> = (0..PODS).map(|n| format!("0198f2ac-7d4b-7c11-9d52-{n:012}")).collect();
    let drained = std::sync::Mutex::new(Drained::default());
    bencher.counter(ItemsCount::new(PODS)).bench(|| {
        let mut batch = door.begin(UnixNanos::from_secs(1_000));
        for pod in &pods {
            let mut resource = ResourceView {
                service: b"checkout",
                version: b"2.4.1",
                version_from: "service.version",
                instance: pod.as_bytes(),
                ..ResourceView::default()
            };
            for (attribute, text) in [
                (ResourceAttribute::PodUid, pod.as_bytes()),
                (ResourceAttribute::PodName, &pod.as_bytes()[20..]),
                (ResourceAttribute::K8sNamespace, b"shop"),
                (ResourceAttribute::Zone, b"eu-central-1a"),
                (ResourceAttribute::SdkLanguage, b"java"),
                (ResourceAttribute::Revision, b"3f2a9c0d"),
            ] {
                resource.texts.set(attribute, text);
            }
            batch.resource(&resource);
            batch.span(&SpanView {
                operation_head: b"GET",
                operation_joint: b" ",
                operation_tail: b"/cart",
                start: UnixNanos(1_000_000_000),
                end: UnixNanos(1_050_000_000),
                outcome: Outcome::Good,
                status: StatusSource::Code,
                weight: SamplingWeight::Unknown,
                trace_id: &[1; 16],
                marks: 0,
                quantities: &[],
            });
            batch.sender_of_spans(&resource, 1);
        }
        if batch.commit().is_err()
            && let Ok(mut drained) = drained.lock()
        {
            shards.drain(&mut drained);
        }
    });
}

/// Points of a message.
const POINTS: usize = 100;
/// Stands in the route of each point, to be written over.
const MARK: &[u8] = b"00000000";

/// A batch that is shown every attribute: what a point costs without a memory of its stream.
struct Forgetful(Batch);

impl PointSink for Forgetful {
    fn point(&mut self, resource: &ResourceView<'_>, point: &PointView<'_>) {
        self.0.point(resource, point);
    }

    fn discard_points(&mut self, reason: Discard, points: u64) {
        self.0.discard_points(reason, points);
    }

    fn sender_of_points(&mut self, resource: &ResourceView<'_>, points: u64) {
        self.0.sender_of_points(resource, points);
    }
}

/// What the points of each message are of.
#[derive(Debug, Clone, Copy)]
enum Streams {
    /// Those of the message before.
    Known,
    /// Streams that did not occur before, up to the cap of their version and beyond it.
    New,
}

/// A message of metric points, walked and committed.
#[divan::bench(args = [(Streams::Known, true), (Streams::Known, false), (Streams::New, true), (Streams::New, false)])]
fn points_and_commit(bencher: Bencher, (streams, remembers): (Streams, bool)) {
    let shards = Arc::new(Shards::new(1, DEFAULT_SHARD_CAPACITY));
    let door = Intake::new(Arc::new(Registry::new(RegistryLimits::default())), Arc::clone(&shards));
    let settings = WalkSettings::default();
    let mut message = message();
    let marks: Vec<usize> = message
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == MARK)
        .map(|(at, _)| at)
        .collect();
    let (mut drained, mut number) = (Drained::default(), 0_u32);
    bencher.counter(ItemsCount::new(POINTS)).bench_local(|| {
        if matches!(streams, Streams::New) {
            for at in &marks {
                number += 1;
                message[*at..*at + MARK.len()].copy_from_slice(format!("{number:08}").as_bytes());
            }
        }
        let batch = door.begin(UnixNanos::from_secs(1_000));
        let walked = match remembers {
            true => {
                let mut batch = batch;
                walk_metrics(&message, &settings, &mut batch).map(|_| batch)
            }
            false => {
                let mut batch = Forgetful(batch);
                walk_metrics(&message, &settings, &mut batch).map(|_| batch.0)
            }
        };
        if walked.is_ok_and(|batch| batch.commit().is_err()) {
            shards.drain(&mut drained);
        }
    });
}

fn message() -> Vec<u8> {
    let text = |key: &str, value: &str| {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
        KeyValue { key: key.into(), value, key_strindex: 0 }
    };
    let mark = String::from_utf8_lossy(MARK);
    let point = |number: usize| HistogramDataPoint {
        attributes: vec![
            text("http.request.method", "GET"),
            text("http.route", &format!("/api/{mark}/{number}")),
            text("http.response.status_code", "200"),
            text("url.scheme", "https"),
            text("network.protocol.version", "1.1"),
        ],
        start_time_unix_nano: 1,
        time_unix_nano: 1_000_000_000_000,
        count: 15,
        bucket_counts: vec![1; 15],
        explicit_bounds: (0..14).map(|bound| f64::from(bound) * 0.1 + 0.1).collect(),
        ..HistogramDataPoint::default()
    };
    let data_points = (0..POINTS).map(point).collect();
    let metric = Metric {
        name: "http.server.request.duration".into(),
        unit: "s".into(),
        data: Some(Data::Histogram(Histogram { data_points, aggregation_temporality: 1 })),
        ..Metric::default()
    };
    let attributes = ["name", "version", "instance.id"].map(|name| text(&format!("service.{name}"), "one"));
    let resource = Some(Resource { attributes: attributes.to_vec(), ..Resource::default() });
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}
