//! OTLP/HTTP with protobuf as a client.

use std::time::Duration;

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use ::http::{HeaderMap, Method, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};

use super::super::compress::Payload;
use super::transport::{Connections, broken};
use super::{Failure, Next, Taken, partial_success, shortened};
use crate::model::{NANOS_PER_SECOND, UnixNanos};

/// As much of an answer as is read.
const ANSWER_BYTES: usize = 4 << 20;
const PROTOBUF: &str = "application/x-protobuf";

/// One attempt.
pub(super) async fn send(
    pool: &Connections,
    url: &Uri,
    mut headers: HeaderMap,
    payload: &Payload,
    now: UnixNanos,
) -> Result<Taken, Failure> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    if let Some(coding) = payload.coding() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    let mut request = Request::new(payload.body(None));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    *request.headers_mut() = headers;

    let response = pool.request(request).await.map_err(|error| broken(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await;
    if head.status.is_success() {
        // It was taken, whatever became of the rest of the answer.
        let is_protobuf =
            head.headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(PROTOBUF.as_bytes()));
        return Ok(body
            .ok()
            .filter(|_| is_protobuf)
            .map(|b| partial_success(&b.to_bytes()))
            .unwrap_or_default());
    }
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    Err(Failure {
        code: head.status.as_str().to_owned(),
        message: said(&head.headers, &body),
        next: next_of(head.status, head.headers.get(RETRY_AFTER), now),
        never_sent: false,
    })
}

/// What the OTLP specification says of an HTTP status.
fn next_of(status: StatusCode, retry_after: Option<&HeaderValue>, now: UnixNanos) -> Next {
    match status.as_u16() {
        429 | 502 | 503 | 504 => Next::Retry(retry_after.and_then(|value| delay(value, now))),
        _ => Next::GiveUp,
    }
}

/// `Retry-After`: seconds, or a date.
fn delay(value: &HeaderValue, now: UnixNanos) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second();
    let now = i64::try_from(now.0 / NANOS_PER_SECOND).ok()?;
    Some(Duration::from_secs(u64::try_from(then - now).unwrap_or(0)))
}

/// The message of an error: that of its `google.rpc.Status`, or the text itself.
fn said(headers: &HeaderMap, body: &Bytes) -> String {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Status {
        #[prost(string, tag = "2")]
        message: String,
    }
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if content_type.starts_with(PROTOBUF.as_bytes()) {
        let status: Status = prost::Message::decode(body.clone()).unwrap_or_default();
        return shortened(&status.message);
    }
    shortened(String::from_utf8_lossy(&body[..body.len().min(2_048)]).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h9_delays_are_seconds_or_dates() {
        // 2025-11-25T00:43:21Z.
        let now = UnixNanos::from_secs(1_764_031_401);
        for (text, seconds) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("Tue, 25 Nov 2025 00:43:51 GMT", Some(30)),
            ("Tue, 25 Nov 2025 00:43:11 GMT", Some(0)),
            ("soon", None),
        ] {
            let found = delay(&HeaderValue::from_str(text).unwrap(), now);
            assert_eq!(found, seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn statuses_decide_as_otlp_says() {
        let now = UnixNanos(0);
        for status in [429, 502, 503, 504] {
            assert_eq!(
                next_of(StatusCode::from_u16(status).unwrap(), None, now),
                Next::Retry(None),
                "{status}"
            );
        }
        for status in [301, 400, 401, 403, 404, 405, 413, 415, 500, 501] {
            assert_eq!(next_of(StatusCode::from_u16(status).unwrap(), None, now), Next::GiveUp, "{status}");
        }
    }

    #[test]
    fn errors_are_quoted_in_few_words() {
        let mut headers = HeaderMap::new();
        assert_eq!(said(&headers, &Bytes::from_static(b"  go away\n")), "go away");
        assert!(said(&headers, &vec![0xff; 100_000].into()).len() <= 512);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        assert_eq!(said(&headers, &Bytes::from_static(b"\x08\x03\x12\x03bad")), "bad");
    }
}
