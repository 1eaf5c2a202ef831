//! OTLP/gRPC as a client: one length-prefixed message each way, and the status in the trailers. Hand-made on top
//! of HTTP/2, for a general client compresses anew for each attempt, at a level that is not ours to choose, and
//! panics on a status whose details are no base64.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use tonic::Code;

use super::super::compress::Payload;
use super::super::retry::next_of;
use super::transport::{Connections, broken};
use super::{Failure, Taken, partial_success, shortened};

/// Longest answer; the specification advises 4 MiB.
const ANSWER_BYTES: usize = 4 << 20;
/// Before each message: a byte that says whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// One attempt at a call.
pub(super) async fn send(
    pool: &Connections,
    url: &Uri,
    mut headers: HeaderMap,
    payload: &Payload,
    timeout: Duration,
) -> Result<Taken, Failure> {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    if let Some(coding) = payload.coding() {
        headers.insert("grpc-encoding", HeaderValue::from_static(coding));
    }
    // Eight digits at most.
    let millis = timeout.as_millis().min(99_999_999) as u64;
    if let Ok(value) = HeaderValue::from_str(&format!("{millis}m")) {
        headers.insert("grpc-timeout", value);
    }
    let Ok(length) = u32::try_from(payload.len()) else {
        return Err(Failure::for_good("too_large", "a gRPC message cannot be longer than 4 GiB"));
    };
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
    prefix.put_u8(u8::from(payload.coding().is_some()));
    prefix.put_u32(length);
    let mut request = Request::new(payload.body(Some(prefix.freeze())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.clone();
    *request.headers_mut() = headers;

    let response = pool.request(request).await.map_err(|error| broken(&error))?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(of_http_status(head.status));
    }
    if let Some(status) = Status::of(&head.headers) {
        return status.outcome(&Bytes::new());
    }
    let answer = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| {
        Failure::passing("unavailable", shortened(&format!("the answer broke off: {error}")))
    })?;
    let Some(status) = answer.trailers().and_then(Status::of) else {
        return Err(Failure::passing("unavailable", "the answer has no grpc-status"));
    };
    status.outcome(&answer.to_bytes())
}

/// What an HTTP status in place of a gRPC one means, as gRPC says; proxies answer so.
fn of_http_status(status: StatusCode) -> Failure {
    let text = format!("HTTP status {status} where gRPC was expected");
    match status.as_u16() {
        429 | 502 | 503 | 504 => Failure::passing(status.as_str(), text),
        _ => Failure::for_good(status.as_str(), text),
    }
}

/// How a call ended.
struct Status {
    code: Code,
    message: String,
    details: Vec<u8>,
}

impl Status {
    /// Out of the trailers, or of the headers of an answer without a body.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let code = Code::from_bytes(headers.get("grpc-status")?.as_bytes());
        let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let details = text("grpc-status-details-bin");
        let details =
            STANDARD_NO_PAD.decode(details).or_else(|_| STANDARD.decode(details)).unwrap_or_default();
        Some(Self { code, message: percent_decoded(text("grpc-message")), details })
    }

    fn outcome(self, answer: &[u8]) -> Result<Taken, Failure> {
        if self.code != Code::Ok {
            return Err(Failure {
                code: format!("{:?}", self.code),
                message: shortened(&self.message),
                next: next_of(self.code, &self.details),
                never_sent: false,
            });
        }
        match answer.split_first_chunk::<PREFIX_BYTES>() {
            // We asked for an answer that is not compressed.
            Some(([0, ..], message)) => Ok(partial_success(message)),
            _ => Ok(Taken::default()),
        }
    }
}

/// `%41` stands for `A`; what is no such code stands for itself.
fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.first_chunk::<2>().filter(|_| byte == b'%');
        let decoded = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Next;
    use super::*;

    fn status(headers: &[(&'static str, &str)]) -> Result<Taken, Failure> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        Status::of(&map).unwrap().outcome(&[0, 0, 0, 0, 4, 0x0a, 2, 8, 3])
    }

    #[test]
    fn answers_are_read_whatever_they_hold() {
        assert_eq!(status(&[("grpc-status", "0")]), Ok(Taken { rejected: 3, message: String::new() }));
        let refused = status(&[("grpc-status", "3"), ("grpc-message", "no%20such%2")]).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("InvalidArgument", "no such%2"));
        assert_eq!(refused.next, Next::GiveUp);
        // Details that are no base64 are no reason to fall over.
        let busy = status(&[("grpc-status", "14"), ("grpc-status-details-bin", "*?*")]).unwrap_err();
        assert_eq!(busy.next, Next::Retry(None));
        assert_eq!(status(&[("grpc-status", "junk")]).unwrap_err().code, "Unknown");
    }

    #[test]
    fn proxies_that_answer_in_http_are_understood() {
        for (code, next) in [(503, Next::Retry(None)), (429, Next::Retry(None)), (404, Next::GiveUp)] {
            assert_eq!(of_http_status(StatusCode::from_u16(code).unwrap()).next, next, "{code}");
        }
    }
}
