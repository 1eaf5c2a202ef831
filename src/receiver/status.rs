//! Refusals, and what they look like on the wire: gRPC status, HTTP status, and the `google.rpc.Status` body
//! that OTLP wants on both. The codes decide what clients do next: only `UNAVAILABLE` / 503 is sent again.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use prost::encoding::{encode_varint, int32, string};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::metrics::RequestOutcome;
use crate::pipeline::DataType;

/// When a refused client should come back. Far below the 10 s after which clients give up.
pub(super) const RETRY_AFTER_SECONDS: u64 = 1;
/// Longest message of an answer.
const MESSAGE_BYTES_MAX: usize = 512;
const RETRY_INFO_TYPE: &str = "type.googleapis.com/google.rpc.RetryInfo";
/// Where the Python SDK looks; everyone else reads `grpc-status-details-bin`.
const RETRY_INFO_TRAILER: &str = "google.rpc.retryinfo-bin";

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Cannot be decoded; final.
    Malformed(String),
    /// Larger than the limit, on the wire or inflated; final.
    TooLarge(usize),
    /// No room now, or shutting down: the client should send it again.
    Busy(Cow<'static, str>),
    /// Without valid credentials; final. Over HTTP the challenge says what to send.
    Unauthenticated {
        /// What is wrong with them.
        why: &'static str,
        /// `WWW-Authenticate`.
        challenge: HeaderValue,
    },
}

impl Refusal {
    /// Says why, in at most [`MESSAGE_BYTES_MAX`]: clients read no more than 4 MiB of an answer, and part of it
    /// may be what they sent.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Malformed(why) => why[..why.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned(),
            Self::TooLarge(limit) => format!("message larger than {limit} bytes"),
            Self::Busy(why) => why[..why.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned(),
            Self::Unauthenticated { why, .. } => (*why).to_owned(),
        }
    }

    pub(super) const fn outcome(&self) -> RequestOutcome {
        match self {
            Self::Malformed(_) | Self::TooLarge(_) | Self::Unauthenticated { .. } => {
                RequestOutcome::Malformed
            }
            Self::Busy(_) => RequestOutcome::Refused,
        }
    }

    pub(super) const fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::InvalidArgument,
            Self::TooLarge(_) => Code::ResourceExhausted,
            Self::Busy(_) => Code::Unavailable,
            Self::Unauthenticated { .. } => Code::Unauthenticated,
        }
    }

    pub(super) const fn http_status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
        }
    }

    /// `google.rpc.Status` in protobuf.
    pub(super) fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        int32::encode(1, &(self.code() as i32), &mut out);
        string::encode(2, &self.message(), &mut out);
        if matches!(self, Self::Busy(_)) {
            let mut any = Vec::new();
            string::encode(1, &RETRY_INFO_TYPE.to_owned(), &mut any);
            put_message(2, &retry_info(), &mut any);
            put_message(3, &any, &mut out);
        }
        out
    }

    /// `google.rpc.Status` in JSON.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut body = serde_json::json!({ "code": self.code() as i32, "message": self.message() });
        if matches!(self, Self::Busy(_)) {
            let delay = format!("{RETRY_AFTER_SECONDS}s");
            body["details"] = serde_json::json!([{ "@type": RETRY_INFO_TYPE, "retryDelay": delay }]);
        }
        body.to_string().into_bytes()
    }

    pub(super) fn to_grpc(&self) -> Status {
        if !matches!(self, Self::Busy(_)) {
            return Status::new(self.code(), self.message());
        }
        let mut trailers = MetadataMap::new();
        trailers.insert_bin(RETRY_INFO_TRAILER, MetadataValue::from_bytes(&retry_info()));
        let details = Bytes::from(self.to_protobuf());
        Status::with_details_and_metadata(self.code(), self.message(), details, trailers)
    }
}

/// `google.rpc.RetryInfo`.
fn retry_info() -> Vec<u8> {
    let mut delay = vec![0x08];
    encode_varint(RETRY_AFTER_SECONDS, &mut delay);
    let mut out = Vec::new();
    put_message(1, &delay, &mut out);
    out
}

/// The body of a success: empty, or `partial_success` when records were rejected.
pub(super) fn success_protobuf(data: DataType, rejected: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if rejected > 0 {
        let mut partial = vec![0x08];
        encode_varint(rejected, &mut partial);
        string::encode(2, &reason(data), &mut partial);
        put_message(1, &partial, &mut out);
    }
    out
}

/// See [`success_protobuf`].
pub(super) fn success_json(data: DataType, rejected: u64) -> Vec<u8> {
    if rejected == 0 {
        return b"{}".to_vec();
    }
    let field = match data {
        DataType::Traces => "rejectedSpans",
        DataType::Metrics => "rejectedDataPoints",
        DataType::Logs => "rejectedLogRecords",
        DataType::Profiles => "rejectedProfiles",
    };
    let partial = serde_json::json!({ field: rejected.to_string(), "errorMessage": reason(data) });
    serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes()
}

/// Why records were rejected. No point is: an exemplar with a bad id is cut out alone.
fn reason(data: DataType) -> String {
    let records = match data {
        DataType::Traces => "spans",
        DataType::Metrics => "data points",
        DataType::Logs => "log records",
        DataType::Profiles => "profiles",
    };
    format!("{records} with a trace id that is not 16 bytes or a span id that is not 8 bytes")
}

fn put_message(number: u32, content: &[u8], out: &mut Vec<u8>) {
    encode_varint(u64::from(number << 3 | 2), out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h10_codes_and_statuses_say_the_same_on_both_protocols() {
        for (refusal, code, status, is_retried) in [
            (Refusal::Malformed("x".into()), 3, 400, false),
            (Refusal::TooLarge(9), 8, 413, false),
            (Refusal::Busy("x".into()), 14, 503, true),
            (
                Refusal::Unauthenticated { why: "x", challenge: HeaderValue::from_static("Bearer") },
                16,
                401,
                false,
            ),
        ] {
            assert_eq!((refusal.code() as i32, refusal.http_status().as_u16()), (code, status));
            assert_eq!(refusal.to_grpc().code() as i32, code);
            assert_eq!(!refusal.to_grpc().details().is_empty(), is_retried, "RetryInfo makes it retryable");
        }
    }

    #[test]
    fn g5_answers_are_short_whatever_was_sent() {
        let refusal = Refusal::Malformed("\u{fffd}".repeat(100_000));
        assert!(refusal.message().len() <= MESSAGE_BYTES_MAX);
        for answer in [refusal.to_protobuf(), refusal.to_json(), success_json(DataType::Logs, u64::MAX)] {
            assert!(answer.len() < 1_024, "{}", answer.len());
        }
    }
}
