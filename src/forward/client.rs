//! The gRPC call: bytes out as they came in, and of the answer only how many records were rejected.

use bytes::{BufMut, Bytes};
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::{Compression, DownstreamConfig, ForwardError};
use crate::pipeline::Signal;

/// A connection to one downstream, made at the first call and again after it broke.
#[derive(Debug, Clone)]
pub(super) struct Client {
    grpc: Grpc<Channel>,
    path: PathAndQuery,
}

impl Client {
    pub(super) fn new(signal: Signal, config: &DownstreamConfig) -> Result<Self, ForwardError> {
        let agent = format!(
            "Rollguard/{} ({}/{})",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        );
        let endpoint = Endpoint::from_shared(config.endpoint.clone())
            .and_then(|endpoint| endpoint.user_agent(agent))
            .map_err(|cause| ForwardError::Endpoint { endpoint: config.endpoint.clone(), cause })?;
        let channel = endpoint.connect_timeout(config.timeout).connect_lazy();
        let mut grpc = Grpc::new(channel);
        if config.compression == Compression::Gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self { grpc, path: PathAndQuery::from_static(method(signal)) })
    }

    /// Sends a message; returns how many of its records were rejected.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<u64, Status> {
        self.grpc
            .ready()
            .await
            .map_err(|error| Status::unavailable(format!("downstream not reachable: {error}")))?;
        let answer = self.grpc.unary(Request::new(message), self.path.clone(), ForwardCodec).await?;
        Ok(answer.into_inner())
    }
}

const fn method(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

#[derive(Debug, Clone, Copy)]
struct ForwardCodec;

impl Codec for ForwardCodec {
    type Encode = Bytes;
    type Decode = u64;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for ForwardCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for ForwardCodec {
    type Item = u64;
    type Error = Status;

    /// The answers of the three signals have the same layout. One that cannot be read was still an answer.
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<u64>, Status> {
        let answer = ExportTraceServiceResponse::decode(from).unwrap_or_default();
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(Some(u64::try_from(rejected).unwrap_or(0)))
    }
}
