//! A backend that takes OTLP over gRPC and HTTP on one port, keeps what comes, and answers as it is told.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rollguard::pipeline::clock::{Clock, SystemClock};
use tokio::net::TcpListener;

/// What a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Take,
    /// It took the request but for so many records.
    Reject(u8),
    /// It never takes this one.
    GiveUp,
    /// It may take it later.
    Busy,
    /// It may take it after so many seconds.
    Later(u8),
}

/// A request that was taken or not.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    /// Inflated.
    pub(super) message: Bytes,
    pub(super) answer: Answer,
    /// By a clock that nobody sets.
    pub(super) at: Duration,
}

type Judge = dyn Fn(&[u8]) -> Answer + Send + Sync;

/// The running backend.
#[derive(Clone)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    judge: Arc<Mutex<Arc<Judge>>>,
}

impl Backend {
    /// One that takes everything.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let judge: Arc<Judge> = Arc::new(|_: &[u8]| Answer::Take);
        let backend = Self {
            address: listener.local_addr().unwrap(),
            calls: Arc::default(),
            judge: Arc::new(Mutex::new(judge)),
        };
        let serving = backend.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let backend = serving.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| backend.clone().serve(request));
                    let mut builder = Builder::new(TokioExecutor::new());
                    builder.http2().max_header_list_size(64 << 10);
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        backend
    }

    pub(super) fn answers(&self, judge: impl Fn(&[u8]) -> Answer + Send + Sync + 'static) {
        *self.judge.lock().unwrap() = Arc::new(judge);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Messages that were taken.
    pub(super) fn taken(&self) -> Vec<Bytes> {
        let is_taken = |call: &&Call| matches!(call.answer, Answer::Take | Answer::Reject(_));
        self.calls().iter().filter(is_taken).map(|call| call.message.clone()).collect()
    }

    async fn serve(
        self,
        request: http::Request<Incoming>,
    ) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name: &str| head.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        let is_grpc = header("content-type").unwrap() == "application/grpc";
        let message = if is_grpc {
            assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
            let coding = header("grpc-encoding").filter(|_| body[0] == 1);
            inflated(&body[5..], coding.as_deref())
        } else {
            inflated(&body, header("content-encoding").as_deref())
        };
        let judge = Arc::clone(&self.judge.lock().unwrap());
        let answer = judge(&message);
        let call = Call {
            path: head.uri.path().to_owned(),
            headers: head.headers,
            message,
            answer,
            at: SystemClock.monotonic(),
        };
        self.calls.lock().unwrap().push(call);
        Ok(if is_grpc { grpc(answer) } else { http(answer) })
    }
}

fn inflated(body: &[u8], coding: Option<&str>) -> Bytes {
    use std::io::Read;
    let mut out = Vec::new();
    match coding {
        None => out.extend_from_slice(body),
        Some("gzip") => _ = flate2::read::GzDecoder::new(body).read_to_end(&mut out).unwrap(),
        Some("zstd") => out = zstd::decode_all(body).unwrap(),
        Some(other) => panic!("unexpected encoding {other}"),
    }
    out.into()
}

/// The answer of an export, with a partial success where there is one.
fn success(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Reject(records) => vec![0x0a, 2, 0x08, records],
        _ => Vec::new(),
    }
}

/// A `google.rpc.Status` with a `RetryInfo`, as gRPC sends it.
fn retry_info(seconds: u8) -> String {
    use base64::Engine;
    let within = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
    let info = within(0x0a, &[0x08, seconds]);
    let any = [within(0x0a, b"type.googleapis.com/google.rpc.RetryInfo"), within(0x12, &info)].concat();
    let status = [&[0x08, 14][..], &within(0x1a, &any)].concat();
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(status)
}

fn grpc(answer: Answer) -> Response<BoxBody<Bytes, Infallible>> {
    let message = success(answer);
    let code = match answer {
        Answer::Take | Answer::Reject(_) => "0",
        Answer::GiveUp => "3",
        Answer::Busy | Answer::Later(_) => "14",
    };
    let mut trailers = HeaderMap::new();
    if let Answer::Later(seconds) = answer {
        trailers.insert("grpc-status-details-bin", retry_info(seconds).parse().unwrap());
    }
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers.insert("grpc-message", "a%20backend".parse().unwrap());
    let framed = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers)];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

fn http(answer: Answer) -> Response<BoxBody<Bytes, Infallible>> {
    let (status, body) = match answer {
        Answer::Take | Answer::Reject(_) => (200, success(answer)),
        Answer::GiveUp => (400, b"\x08\x03\x12\x09a backend".to_vec()),
        Answer::Busy | Answer::Later(_) => (503, Vec::new()),
    };
    let mut response = Response::builder().status(status).header("content-type", "application/x-protobuf");
    if let Answer::Later(seconds) = answer {
        response = response.header("retry-after", u16::from(seconds));
    }
    response.body(Full::new(Bytes::from(body)).boxed()).unwrap()
}
