//! Where decoding puts what it finds. One trait, so that the same walker serves the servers, `replay`, the
//! demo and the tests.

use super::{Discard, ResourceView, SpanView};

/// Receives the entry spans of a message, each after the resource it belongs to. Every span of the message is
/// either handed to [`SpanSink::span`] or named in [`SpanSink::discard`].
pub trait SpanSink {
    /// A new `ResourceSpans` begins; the spans that follow are its.
    fn resource(&mut self, resource: &ResourceView<'_>);
    /// An entry span.
    fn span(&mut self, span: &SpanView<'_>);
    /// A span that makes no SLI.
    fn discard(&mut self, reason: Discard);
}
