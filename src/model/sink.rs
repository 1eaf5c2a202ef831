//! Where decoding puts what it finds. One trait, so that the same walker serves the servers, `replay`, the
//! demo and the tests.

use std::sync::Arc;

use super::{Discard, MarkedSpan, PointView, Program, ResourceView, SpanException, SpanView};

/// Receives the entry spans of a message, each after the resource it belongs to. Every span of the message is
/// either handed to [`SpanSink::span`] or [`SpanSink::marked`], or named in [`SpanSink::discard`].
pub trait SpanSink {
    /// A new `ResourceSpans` begins; the spans that follow are its.
    fn resource(&mut self, resource: &ResourceView<'_>);
    /// The measures of the service that the resource is of, asked after [`SpanSink::resource`]. Who judges by no
    /// SLIs of a policy's own leaves this as it is.
    fn program(&self) -> Option<Arc<Program>> {
        None
    }
    /// An entry span.
    fn span(&mut self, span: &SpanView<'_>);
    /// A span that is no request and counts for something by the program; only who has one is shown any.
    fn marked(&mut self, _span: &MarkedSpan<'_>) {}
    /// A span that makes no SLI.
    fn discard(&mut self, reason: Discard);
    /// All spans of a resource were read, this many. Who does not account for senders leaves this as it is.
    fn sender_of_spans(&mut self, _resource: &ResourceView<'_>, _spans: u64) {}
    /// An exception among the events of a span, which was handed on or discarded for its kind just before.
    /// Who does not count exceptions leaves this as it is.
    fn exception(&mut self, _exception: &SpanException<'_>) {}
}

/// Receives the data points of a message that count requests. Every point of the message is either handed to
/// [`PointSink::point`] or counted in [`PointSink::discard_points`].
pub trait PointSink {
    /// A point that counts requests, and the resource that it was sent with.
    fn point(&mut self, resource: &ResourceView<'_>, point: &PointView<'_>);
    /// Points that make no SLI.
    fn discard_points(&mut self, reason: Discard, points: u64);
    /// All points of a resource were read, this many, whether they count requests or not. Who does not account
    /// for senders leaves this as it is.
    fn sender_of_points(&mut self, _resource: &ResourceView<'_>, _points: u64) {}
}
