//! The far ends of exporters: OTLP over gRPC and HTTP, our own log, a file. Each is given requests and says
//! whether it took them, and if not whether it may take them later.

mod addresses;
mod connect;
mod debug;
mod file;
mod gather;
mod grpc;
mod http;
mod json;
mod transport;

use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;

pub(super) use self::debug::Debug;
pub(super) use self::file::File;
pub(super) use self::transport::{Identity, Otlp};
use super::compress::{LONG_BYTES, Payload, compress};
use super::{Compression, ForwardError};
use crate::pipeline::clock::Clock;
use crate::pipeline::{DataType, Metadata};

/// Where requests go.
#[derive(Debug)]
pub(super) enum Client {
    Otlp(Box<Otlp>),
    Debug(Debug),
    File(File),
}

/// What a far end took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Taken {
    /// Records that it did not take, though it took the request.
    pub(super) rejected: u64,
    /// What it says of that.
    pub(super) message: String,
}

/// Why a far end did not take a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// A gRPC code, an HTTP status, or a word of ours.
    pub(super) code: String,
    /// What it says.
    pub(super) message: String,
    /// Whether it may take it later, and when at the earliest.
    pub(super) next: Next,
    /// Whether the far end saw nothing of the request, because it could not be reached.
    pub(super) never_sent: bool,
}

/// What a failure means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Never: the downstream cannot take this request.
    GiveUp,
    /// Later, and not before the wait that the downstream asked for.
    Retry(Option<Duration>),
}

impl Failure {
    /// One that may go away by itself.
    fn passing(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), next: Next::Retry(None), never_sent: false }
    }

    fn for_good(code: &str, message: impl Into<String>) -> Self {
        Self { next: Next::GiveUp, ..Self::passing(code, message) }
    }

    pub(super) fn timeout() -> Self {
        Self::passing("timeout", "no answer in time")
    }
}

impl Client {
    /// The body of a request for all its attempts.
    pub(super) async fn prepare(&self, messages: Vec<Bytes>) -> Payload {
        let Self::Otlp(otlp) = self else { return Payload::new(messages, Compression::None) };
        let compression = otlp.compression;
        let bytes: usize = messages.iter().map(Bytes::len).sum();
        if compression == Compression::None || bytes < LONG_BYTES {
            return Payload::new(messages, compression);
        }
        compress(messages, compression).await
    }

    /// One attempt.
    pub(super) async fn send(
        &self,
        payload: &Payload,
        records: u64,
        metadata: &Metadata,
        clock: &dyn Clock,
    ) -> Result<Taken, Failure> {
        match self {
            Self::Otlp(otlp) => otlp.send(payload, metadata, clock).await,
            Self::Debug(debug) => debug.show(payload, records, clock.now()),
            Self::File(file) => file.write(payload).await,
        }
    }
}

/// Shortens what a downstream says to what fits a log line.
fn shortened(text: &str) -> String {
    const MOST: usize = 512;
    text[..text.floor_char_boundary(MOST)].to_owned()
}

/// The number of rejected records and the message in the answer to an export: all kinds have the same layout.
/// One that cannot be read was still an answer.
fn partial_success(answer: &[u8]) -> Taken {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Answer {
        #[prost(message, optional, tag = "1")]
        partial_success: Option<Partial>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Partial {
        #[prost(int64, tag = "1")]
        rejected: i64,
        #[prost(string, tag = "2")]
        message: String,
    }
    let answer: Answer = prost::Message::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    Taken { rejected: u64::try_from(partial.rejected).unwrap_or(0), message: shortened(&partial.message) }
}

/// Adds what goes along to the headers that every request has.
fn with_metadata(headers: &HeaderMap, metadata: &Metadata) -> HeaderMap {
    let mut headers = headers.clone();
    for (name, value) in metadata.iter() {
        let name = ::http::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, ::http::HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// What a kind of data is called where it is sent.
const fn service(data: DataType) -> &'static str {
    match data {
        DataType::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        DataType::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        DataType::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        DataType::Profiles => "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
    }
}

/// The name under which we send.
fn user_agent() -> String {
    format!("Rollguard/{} ({}/{})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH)
}

/// An address that cannot be used.
fn unusable(endpoint: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ForwardError {
    ForwardError::Endpoint { endpoint: endpoint.to_owned(), cause: cause.into() }
}
