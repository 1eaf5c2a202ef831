//! Where decoding puts what it finds. One trait, so that the same walker serves the servers, `replay`, the
//! demo and the tests.

use std::sync::Arc;

use super::{
    DimensionTexts, Discard, MarkedSpan, PointKey, PointNumbers, PointView, Program, Recalled,
    RecalledStream, ResourceView, SpanException, SpanView,
};

/// Where a feature flag is told of that the configuration makes a part of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToldBy {
    /// The span of a request: its variant is a part of the request's version.
    Request,
    /// A span that is no request.
    OtherSpan,
    /// A log record.
    LogRecord,
}

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
    /// The same of a service whose requests are told apart by dimensions too. Who does not leaves this as it is.
    fn span_of(&mut self, span: &SpanView<'_>, _dimensions: &DimensionTexts) {
        self.span(span);
    }
    /// A span that is no request and counts for something by the program; only who has one is shown any.
    fn marked(&mut self, _span: &MarkedSpan<'_>) {}
    /// A span that makes no SLI.
    fn discard(&mut self, reason: Discard);
    /// All spans of a resource were read, this many. Who does not account for senders leaves this as it is.
    fn sender_of_spans(&mut self, _resource: &ResourceView<'_>, _spans: u64) {}
    /// So many spans of the resource that [`SpanSink::sender_of_spans`] told of just before say which variant of a named
    /// feature flag was taken. Who does not account for senders leaves this as it is.
    fn flag_told(&mut self, _flag: &str, _by: ToldBy, _spans: u64) {}
    /// An exception among the events of a span, which was handed on or discarded for its kind just before.
    /// Who does not count exceptions leaves this as it is.
    fn exception(&mut self, _exception: &SpanException<'_>) {}
}

/// Receives the data points of a message that count requests. Every point of the message is either handed to
/// [`PointSink::point`] or [`PointSink::known_point`], or counted in [`PointSink::discard_points`].
///
/// The attributes of a point say the same each time it comes, and reading them is most of the work. A sink may
/// remember what it made of them, bounded as it sees fit, and is then asked before they are read. What comes out
/// must be the same as without: it forgets whatever would be decided otherwise now.
pub trait PointSink {
    /// Whether points are to have a [`PointKey`]. Who remembers nothing leaves this and what follows as it is.
    fn remembers(&self) -> bool {
        false
    }
    /// The points that follow are of one metric of one resource, which this key names.
    fn metric(&mut self, _key: PointKey) {}
    /// What points with this key are.
    fn recall(&mut self, _key: PointKey) -> Option<Recalled> {
        None
    }
    /// A point of a stream that was recalled just now.
    fn known_point(&mut self, _stream: RecalledStream, _numbers: &PointNumbers<'_>) {}
    /// Points with this key are discarded for this reason; this one was counted.
    fn remember_discard(&mut self, _key: PointKey, _reason: Discard) {}
    /// What the points of a resource are compared with, if its service has measures that metrics count or dimensions. Who
    /// judges by neither leaves this as it is.
    fn metric_program(&mut self, _resource: &ResourceView<'_>) -> Option<Arc<Program>> {
        None
    }
    /// A point that counts requests or for a measure, and the resource that it was sent with.
    fn point(&mut self, resource: &ResourceView<'_>, point: &PointView<'_>);
    /// Points that make no SLI.
    fn discard_points(&mut self, reason: Discard, points: u64);
    /// All points of a resource were read, this many, whether they count requests or not. Who does not account
    /// for senders leaves this as it is.
    fn sender_of_points(&mut self, _resource: &ResourceView<'_>, _points: u64) {}
}
