//! The server that is compared with: tonic, each message decoded into the structs of `opentelemetry-proto` and
//! dropped. It is the least that a server which reads OTLP in the ordinary way must do.

use std::convert::Infallible;
use std::future::{Ready, ready};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};

use super::traffic::{LOGS, METRICS, TRACES};
use super::wire::Decoding;

/// Serves until the process is ended.
pub(crate) async fn serve(address: &str) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = hyper::service::service_fn(answer);
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // A client that goes away ends its connection; the sink does not mind how.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: http::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        TRACES => decode::<ExportTraceServiceRequest>(request).await,
        METRICS => decode::<ExportMetricsServiceRequest>(request).await,
        LOGS => decode::<ExportLogsServiceRequest>(request).await,
        path => Status::unimplemented(path.to_owned()).into_http(),
    })
}

async fn decode<T>(request: http::Request<Incoming>) -> http::Response<Body>
where
    T: Message + Default + Send + 'static,
{
    let mut grpc = Grpc::new(Decoding::<T>::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(64 << 20);
    grpc.unary(Drop, request).await
}

struct Drop;

impl<T> UnaryService<T> for Drop {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<T>) -> Self::Future {
        drop(std::hint::black_box(request));
        ready(Ok(Response::new(Bytes::new())))
    }
}
