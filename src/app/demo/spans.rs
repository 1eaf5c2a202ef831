//! Requests of the shop as OTLP: SERVER spans with the attributes that HTTP instrumentation sets, sent over
//! gRPC like any SDK would.

use std::sync::Arc;

use bytes::BufMut;
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status as SpanStatus};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request as GrpcRequest, Status};

use super::shop::SERVICE;
use crate::model::UnixNanos;

/// `deployment.environment.name` of the shop.
pub(super) const ENVIRONMENT: &str = "demo";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// One request that the shop has answered, or will have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    pub(super) start: UnixNanos,
    pub(super) end: UnixNanos,
    pub(super) failed: bool,
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
}

/// Who says it.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) version: &'static str,
    pub(super) instance: String,
}

/// An OTLP/gRPC client of one instance.
#[derive(Debug, Clone)]
pub(super) struct Exporter {
    grpc: Grpc<Channel>,
    resource: Arc<Resource>,
}

impl Exporter {
    /// A client for the gateway at `url`, which connects when it is first used.
    pub(super) fn new(url: String) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(url)?.connect_lazy();
        Ok(Self { grpc: Grpc::new(channel), resource: Arc::default() })
    }

    /// The same for one instance.
    pub(super) fn of_instance(&self, identity: &Identity) -> Self {
        Self { grpc: self.grpc.clone(), resource: Arc::new(resource(identity)) }
    }

    /// Sends finished requests; returns how many of them were rejected.
    pub(super) async fn export(&mut self, requests: Vec<Request>) -> Result<u64, Status> {
        let message = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some((*self.resource).clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope { name: "shop".into(), ..Default::default() }),
                    spans: requests.into_iter().map(span).collect(),
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        };
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(EXPORT);
        let answer = self.grpc.unary(GrpcRequest::new(message), path, TraceCodec).await?;
        let rejected = answer.into_inner().partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or(0))
    }
}

fn resource(identity: &Identity) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", SERVICE),
            text("service.version", identity.version),
            text("service.instance.id", &identity.instance),
            text("deployment.environment.name", ENVIRONMENT),
        ],
        ..Default::default()
    }
}

fn span(request: Request) -> Span {
    let status = if request.failed { 500 } else { 200 };
    let mut attributes = vec![
        text("http.request.method", request.method),
        text("http.route", request.route),
        text("url.scheme", "http"),
        KeyValue {
            key: "http.response.status_code".into(),
            value: Some(AnyValue { value: Some(Value::IntValue(status)) }),
            ..Default::default()
        },
    ];
    if request.failed {
        attributes.push(text("error.type", "500"));
    }
    let code = if request.failed { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: request.trace_id.to_vec(),
        span_id: request.span_id.to_vec(),
        name: format!("{} {}", request.method, request.route),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: request.start.0,
        end_time_unix_nano: request.end.0,
        attributes,
        status: Some(SpanStatus { code: code.into(), message: String::new() }),
        ..Default::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..Default::default()
    }
}

/// Protobuf in both directions.
#[derive(Debug, Clone, Copy)]
struct TraceCodec;

impl Codec for TraceCodec {
    type Encode = ExportTraceServiceRequest;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for TraceCodec {
    type Item = ExportTraceServiceRequest;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item.encode_to_vec());
        Ok(())
    }
}

impl Decoder for TraceCodec {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        ExportTraceServiceResponse::decode(from).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}
