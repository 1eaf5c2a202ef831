//! The walker beside an ordinary decode into structs, over the same 512 spans. The item throughput is spans per
//! second.

#![allow(missing_docs)]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use rollguard::model::{Discard, ResourceView, SpanSink, SpanView};
use rollguard::receiver::{WalkSettings, traces_from_json, walk_traces};

const SPANS: usize = 512;

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
        self.0 += span.end.since(span.start) + span.operation_tail.len() as u64;
    }

    fn discard(&mut self, _: Discard) {
        self.0 += 1;
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

/// A web service: four of five spans are entry spans with ten attributes.
fn request() -> ExportTraceServiceRequest {
    let mut random = fastrand::Rng::with_seed(1);
    let spans = (0..SPANS as u64).map(|i| Span {
        trace_id: std::iter::repeat_with(|| random.u8(..)).take(16).collect(),
        span_id: std::iter::repeat_with(|| random.u8(..)).take(8).collect(),
        name: "GET /api/items/{id}".into(),
        kind: if i % 5 == 4 { 3 } else { 2 },
        start_time_unix_nano: 1_700_000_000_000_000_000 + i * 1000,
        end_time_unix_nano: 1_700_000_000_020_000_000 + i * 1000,
        attributes: vec![
            text("http.request.method", "GET"),
            text("http.route", "/api/items/{id}"),
            text("url.path", "/api/items/4711"),
            text("url.scheme", "https"),
            text("server.address", "shop.example.com"),
            number("server.port", 443),
            text("client.address", "203.0.113.7"),
            text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
            number("http.response.status_code", 200),
            text("network.protocol.version", "1.1"),
        ],
        status: Some(Status::default()),
        flags: 0x101,
        ..Default::default()
    });
    let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..Default::default() }];
    let attributes = vec![
        text("service.name", "shop"),
        text("service.version", "1.2.3"),
        text("service.instance.id", "3f1c"),
        text("telemetry.sdk.language", "java"),
        text("host.name", "node-1"),
    ];
    let resource = Some(Resource { attributes, ..Default::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }
}

#[divan::bench]
fn walk(bencher: Bencher<'_, '_>) {
    let message = request().encode_to_vec();
    let settings = WalkSettings::default();
    bencher.counter(ItemsCount::new(SPANS)).bench_local(|| {
        let mut sink = Sum::default();
        walk_traces(black_box(&message), &settings, &mut sink).map(|_| sink.0)
    });
}

#[divan::bench]
fn prost(bencher: Bencher<'_, '_>) {
    let message = request().encode_to_vec();
    bencher
        .counter(ItemsCount::new(SPANS))
        .bench_local(|| ExportTraceServiceRequest::decode(black_box(message.as_slice())));
}

#[divan::bench]
fn json_to_protobuf(bencher: Bencher<'_, '_>) {
    let Ok(json) = serde_json::to_vec(&request()) else { return };
    bencher.counter(ItemsCount::new(SPANS)).bench_local(|| traces_from_json(black_box(&json)));
}
