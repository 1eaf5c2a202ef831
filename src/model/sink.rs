//! Where decoding puts what it finds. One trait, so that the same walker serves the servers, `replay`, the
//! demo and the tests.

use super::{ResourceView, SpanView};

/// Why a span of a message is not judged. Every span is either handed to [`SpanSink::span`] or counted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// Not an entry span (kind INTERNAL, CLIENT, PRODUCER, UNSPECIFIED).
    Kind,
    /// No end time: nothing can be said of it.
    Unusable,
    /// Marked as synthetic traffic.
    Synthetic,
    /// A health check.
    Health,
    /// Trace or span id of the wrong length.
    BadId,
}

impl Discard {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Kind, Self::Unusable, Self::Synthetic, Self::Health, Self::BadId];

    /// The word used as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Unusable => "unusable",
            Self::Synthetic => "synthetic",
            Self::Health => "health",
            Self::BadId => "bad_id",
        }
    }
}

/// Receives the entry spans of a message, each after the resource it belongs to.
pub trait SpanSink {
    /// A new `ResourceSpans` begins; the spans that follow are its.
    fn resource(&mut self, resource: &ResourceView<'_>);
    /// An entry span.
    fn span(&mut self, span: &SpanView<'_>);
    /// A span that makes no SLI.
    fn discard(&mut self, reason: Discard);
}
