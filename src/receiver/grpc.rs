//! OTLP/gRPC: the `Export` methods of the signals, and of profiles where somebody takes them, over tonic's framing and the raw codec.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response, Status};

use super::codec::RawCodec;
use super::door::Door;
use super::exchange::{Exchange, Received};
use super::metrics::{RequestOutcome, Transport};
use super::status::{Refusal, success_protobuf};
use crate::pipeline::{Admission, DataType, Metadata};

const GRPC_STATUS: &str = "grpc-status";

/// The kind of data of a method path.
fn data_of(path: &str) -> Option<DataType> {
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(DataType::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(DataType::Metrics),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(DataType::Logs),
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export" => {
            Some(DataType::Profiles)
        }
        _ => None,
    }
}

/// Answers one call.
pub(super) async fn handle<A: Admission>(
    exchange: &Arc<Exchange<A>>,
    door: &Door,
    request: http::Request<Incoming>,
) -> http::Response<Body> {
    if let Err(refusal) = door.admit(request.headers()).await {
        exchange.metrics.request(Transport::Grpc, refusal.outcome());
        return refusal.to_grpc().into_http();
    }
    let Some(data) = data_of(request.uri().path()).filter(|data| exchange.takes(*data)) else {
        return Status::unimplemented(format!("no method {}", request.uri().path())).into_http();
    };
    let _slot = match exchange.enter(data).await {
        Ok(slot) => slot,
        Err(refusal) => {
            exchange.metrics.request(Transport::Grpc, refusal.outcome());
            return refusal.to_grpc().into_http();
        }
    };
    let mut grpc = Grpc::new(RawCodec)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(exchange.max_request_bytes);
    let metadata = match exchange.metadata(request.headers()) {
        Ok(metadata) => metadata,
        Err(refusal) => {
            exchange.metrics.request(Transport::Grpc, refusal.outcome());
            return refusal.to_grpc().into_http();
        }
    };
    let given_up = {
        let exchange = Arc::clone(exchange);
        // Whoever unpacks the request never hears of it, so it is counted here.
        move || {
            exchange.metrics.request(Transport::Grpc, RequestOutcome::Refused);
            exchange.blinded_by_memory(data);
        }
    };
    let request = request.map(|body| exchange.memory.watch(body, given_up));
    let call = grpc.unary(Export { exchange: Arc::clone(exchange), data, metadata }, request);
    match tokio::time::timeout(exchange.request_timeout, call).await {
        Ok(response) => with_final_codes(exchange, response),
        Err(_) => {
            let refusal = Refusal::Busy("the request took too long to arrive".into());
            exchange.metrics.request(Transport::Grpc, refusal.outcome());
            refusal.to_grpc().into_http()
        }
    }
}

/// tonic refuses an oversized frame with `OUT_OF_RANGE`, which OTLP clients send again for ever, and a body
/// that it cannot inflate or frame with `INTERNAL`, which says that we are at fault. Handlers never use
/// either.
fn with_final_codes<A: Admission>(
    exchange: &Exchange<A>,
    mut response: http::Response<Body>,
) -> http::Response<Body> {
    let code = response.headers().get(GRPC_STATUS).map(|v| Code::from_bytes(v.as_bytes()));
    let better = match code {
        Some(Code::OutOfRange) => Code::ResourceExhausted,
        Some(Code::Internal) => Code::InvalidArgument,
        Some(Code::ResourceExhausted | Code::Unimplemented) => {
            exchange.metrics.request(Transport::Grpc, RequestOutcome::Malformed);
            return response;
        }
        _ => return response,
    };
    exchange.metrics.request(Transport::Grpc, RequestOutcome::Malformed);
    response.headers_mut().insert(GRPC_STATUS, HeaderValue::from(better as i32));
    response
}

struct Export<A> {
    exchange: Arc<Exchange<A>>,
    data: DataType,
    metadata: Metadata,
}

impl<A: Admission> UnaryService<Bytes> for Export<A> {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let exchange = Arc::clone(&self.exchange);
        let (data, metadata) = (self.data, self.metadata.clone());
        Box::pin(async move {
            let received = Received { data, message: request.into_inner(), metadata };
            let answer = exchange.accept(Transport::Grpc, received).await;
            exchange.count_request(Transport::Grpc, &answer);
            match answer {
                Ok(rejected) => Ok(Response::new(success_protobuf(data, rejected).into())),
                Err(refusal) => Err(refusal.to_grpc()),
            }
        })
    }
}
