//! A log record and an exception as borrowed views. As with spans, decoding hands these on and nothing else,
//! and they are never stored. What a person may have written (message, body, stack as text) stays in the
//! message it came in: of a stack only the names of its top frames are taken.

use super::{Discard, ResourceView, UnixNanos};

/// A log record that is an error, an exception, or both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogView<'a> {
    /// `time_unix_nano`, or where that is 0 `observed_time_unix_nano`; never 0.
    pub time: UnixNanos,
    /// Whether its severity is ERROR or above.
    pub is_error: bool,
    /// Raw trace id, empty or 16 bytes.
    pub trace_id: &'a [u8],
    /// Raw span id, empty or 8 bytes.
    pub span_id: &'a [u8],
    /// What it says was thrown.
    pub exception: Option<ExceptionView<'a>>,
}

/// What was thrown, from the `exception.*` attributes of a log record or of a span event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExceptionView<'a> {
    /// `exception.type`; empty where only a message was sent.
    pub kind: &'a [u8],
    /// `exception.stacktrace`; empty when absent.
    pub stack: &'a [u8],
    /// `exception.message`, only to tell it from the frames of the stack.
    pub message: &'a [u8],
    /// Name and value of the attributes that the configuration lists; empty unless it lists any.
    pub values: &'a [(&'a [u8], &'a [u8])],
}

/// An exception of a span: the span it was thrown in says where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanException<'a> {
    /// The event's time, or where that is 0 the span's end.
    pub time: UnixNanos,
    /// Raw trace id, empty or 16 bytes.
    pub trace_id: &'a [u8],
    /// Raw span id, empty or 8 bytes.
    pub span_id: &'a [u8],
    /// What was thrown.
    pub exception: ExceptionView<'a>,
}

/// Receives the records of a logs message that matter, each after the resource it belongs to. Every record of
/// the message is either handed to [`LogSink::log`] or named in [`LogSink::discard_log`].
pub trait LogSink {
    /// A new `ResourceLogs` begins; the records that follow are its.
    fn log_resource(&mut self, resource: &ResourceView<'_>);
    /// An error or an exception.
    fn log(&mut self, log: &LogView<'_>);
    /// A record that is not counted.
    fn discard_log(&mut self, reason: Discard);
    /// All records of a resource were read, this many, whether they count or not. Who does not account for
    /// senders leaves this as it is.
    fn sender_of_logs(&mut self, _resource: &ResourceView<'_>, _records: u64) {}
    /// So many records of the resource that [`LogSink::sender_of_logs`] told of just before say which variant of a named
    /// feature flag was taken. Who does not account for senders leaves this as it is.
    fn flag_logged(&mut self, _flag: &str, _records: u64) {}
}
