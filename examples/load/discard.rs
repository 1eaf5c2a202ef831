//! A backend that drops what it is sent frame by frame and says that it took it: the least that can be downstream,
//! so that what an exporter costs is seen apart from what a backend does. Or one that refuses all of it for good.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// `INVALID_ARGUMENT`: no reason to try again.
const REFUSED: HeaderValue = HeaderValue::from_static("3");

/// Serves until the process is ended.
pub(crate) async fn serve(address: &str, refuses: bool) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, refuses));
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
            // A client that goes away ends its connection.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = http::Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;

async fn answer(mut request: http::Request<Incoming>, refuses: bool) -> Result<Answer, hyper::Error> {
    while let Some(frame) = request.frame().await {
        drop(frame?);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", if refuses { REFUSED } else { HeaderValue::from_static("0") });
    let empty = Bytes::from_static(&[0, 0, 0, 0, 0]);
    let frames = [Frame::data(empty), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let mut response = http::Response::new(StreamBody::new(stream::iter(frames)).boxed());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
