//! OTLP/HTTP: `POST /v1/{traces,metrics,logs}` with protobuf or JSON, and `/v1development/profiles` with
//! protobuf where somebody takes profiles. The answer has the content type of the
//! request, also when it is an error.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use tonic::body::Body;
use tower::{Layer, ServiceExt, service_fn};

use super::door::Door;
use super::encoding::Encoding;
use super::exchange::{Exchange, Received};
use super::json::{self, JsonError};
use super::memory::out_of_memory;
use super::metrics::Transport;
use super::status::{RETRY_AFTER_SECONDS, Refusal, success_json, success_protobuf};
use crate::pipeline::{Admission, DataType, Signal};

/// How messages are written. What is passed through unread is not written anew, so it comes as protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    Protobuf,
    Json(Signal),
}

impl Media {
    /// From a `Content-Type`, parameters aside.
    fn named(header: Option<&HeaderValue>, data: DataType) -> Option<Self> {
        let header = header?.to_str().ok()?;
        match header.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => data.signal().map(Self::Json),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json(_) => "application/json",
        }
    }
}

fn data_of(path: &str) -> Option<DataType> {
    match path {
        "/v1/traces" => Some(DataType::Traces),
        "/v1/metrics" => Some(DataType::Metrics),
        "/v1/logs" => Some(DataType::Logs),
        "/v1development/profiles" => Some(DataType::Profiles),
        _ => None,
    }
}

/// Answers one request; that of a browser with the headers which its page needs.
pub(super) async fn handle<A: Admission>(
    exchange: &Arc<Exchange<A>>,
    door: &Door,
    request: Request<Incoming>,
) -> Response<Body> {
    let Some(cors) = exchange.cors.as_ref().filter(|_| data_of(request.uri().path()).is_some()) else {
        return answer(exchange, door, request).await;
    };
    // Browsers ask without credentials whether they may send; the layer answers that.
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(exchange, door, request).await) });
    match cors.layer(service).oneshot(request).await {
        Ok(response) => response,
    }
}

async fn answer<A: Admission>(
    exchange: &Arc<Exchange<A>>,
    door: &Door,
    request: Request<Incoming>,
) -> Response<Body> {
    let Some(data) = data_of(request.uri().path()).filter(|data| exchange.takes(*data)) else {
        return plain(
            StatusCode::NOT_FOUND,
            "no such path; OTLP/HTTP is at /v1/traces, /v1/metrics, /v1/logs\n",
        );
    };
    if request.method() != Method::POST {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let Some(media) = Media::named(request.headers().get(CONTENT_TYPE), data) else {
        return plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/x-protobuf or application/json; for profiles, which are passed \
             through unread, application/x-protobuf\n",
        );
    };
    let answer = match door.admit(request.headers()).await {
        Ok(()) => exchange_message(exchange, media, data, request).await,
        Err(refusal) => {
            read_to_the_end(exchange, request).await;
            Err(refusal)
        }
    };
    exchange.count_request(Transport::Http, &answer);
    respond(media, data, answer)
}

async fn exchange_message<A: Admission>(
    exchange: &Arc<Exchange<A>>,
    media: Media,
    data: DataType,
    request: Request<Incoming>,
) -> Result<u64, Refusal> {
    let _slot = match exchange.enter(data).await {
        Ok(slot) => slot,
        Err(refusal) => {
            read_to_the_end(exchange, request).await;
            return Err(refusal);
        }
    };
    let metadata = match exchange.metadata(request.headers()) {
        Ok(metadata) => metadata,
        Err(refusal) => {
            read_to_the_end(exchange, request).await;
            return Err(refusal);
        }
    };
    let receive = receive(exchange, media, data, request);
    let message = tokio::time::timeout(exchange.request_timeout, receive)
        .await
        .unwrap_or_else(|_| Err(Refusal::Busy("the request took too long to arrive".into())))?;
    exchange.accept(Transport::Http, Received { data, message, metadata }).await
}

/// Reads a body that nobody wants and keeps none of it. Over HTTP/1.1 a client that is answered while it writes
/// meets a closed connection, often before the answer, and takes the refusal for a failure. One that asks before it
/// writes needs no such care.
async fn read_to_the_end<A: Admission>(exchange: &Exchange<A>, request: Request<Incoming>) {
    if request.version() > Version::HTTP_11 || request.headers().contains_key(EXPECT) {
        return;
    }
    let mut left = exchange.max_request_bytes;
    let mut body = request.into_body();
    let reading = async {
        while let (true, Some(Ok(frame))) = (left > 0, body.frame().await) {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    };
    let _ = tokio::time::timeout(exchange.request_timeout, reading).await;
}

/// The message of a request as protobuf.
async fn receive<A: Admission>(
    exchange: &Exchange<A>,
    media: Media,
    data: DataType,
    request: Request<Incoming>,
) -> Result<Bytes, Refusal> {
    let limit = exchange.max_request_bytes;
    let encoding = Encoding::named(request.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes))?;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::TooLarge(limit));
    }
    let watched = exchange.memory.watch(request.into_body(), || exchange.blinded_by_memory(data));
    let body = match Limited::new(watched, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<tonic::Status>() => return Err(out_of_memory()),
        Err(error) if error.is::<LengthLimitError>() => return Err(Refusal::TooLarge(limit)),
        Err(error) => return Err(Refusal::Malformed(format!("cannot read the body: {error}"))),
    };
    let body = encoding.inflate(body, limit)?;
    match media {
        Media::Protobuf => Ok(body),
        Media::Json(signal) => match json::request_from_json(signal, &body, limit) {
            Ok(message) => Ok(message.into()),
            Err(JsonError::TooLarge(limit)) => Err(Refusal::TooLarge(limit)),
            Err(error) => Err(Refusal::Malformed(error.to_string())),
        },
    }
}

fn respond(media: Media, data: DataType, answer: Result<u64, Refusal>) -> Response<Body> {
    let (status, body) = match (&answer, media) {
        (Ok(rejected), Media::Protobuf) => (StatusCode::OK, success_protobuf(data, *rejected)),
        (Ok(rejected), Media::Json(_)) => (StatusCode::OK, success_json(data, *rejected)),
        (Err(refusal), Media::Protobuf) => (refusal.http_status(), refusal.to_protobuf()),
        (Err(refusal), Media::Json(_)) => (refusal.http_status(), refusal.to_json()),
    };
    let mut response = with_body(status, media.as_str(), body.into());
    match answer {
        Err(Refusal::Busy(_)) => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        Err(Refusal::Unauthenticated { challenge, .. }) => {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        _ => {}
    }
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    with_body(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
