//! Reads `ExportTraceServiceRequest` bytes in place and hands on what SLIs need: each resource once, then the
//! entry spans below it. No message struct is built and nothing is allocated per span; what is not needed is
//! skipped by its length.
//!
//! Whatever prost accepts is accepted here, with the same meaning: the last one of a repeated scalar counts,
//! sub-messages that occur twice are merged, unknown fields are ignored. Beyond that, invalid UTF-8 is
//! accepted, and so is anything inside a field that is skipped.

mod exception;
mod flags;
mod logs;
mod metrics;
mod span;
mod watch;

use std::sync::Arc;

use self::exception::{Exception, is_exception_name};
use self::flags::FlagTally;
pub use self::logs::{LogCounts, walk_logs};
pub(super) use self::metrics::POINT_NAMES_MAX;
pub use self::metrics::{PointCounts, walk_metrics};
use self::span::{EVENT, RawSpan, read_attributes};
use self::watch::Watch;
use super::identity::{Identity, VersionParts};
use super::semantics::SpanAttributes;
use super::settings::WalkSettings;
use super::tracestate::sampling_weight;
use crate::model::{
    AttributeValue, Discard, MarkedSpan, Marks, Outcome, Program, ResourceView, SpanException, SpanFacts,
    SpanSink, SpanStatus, SpanView, UnixNanos,
};
pub use crate::wire::WalkError;
use crate::wire::{BYTES, FIXED64, Fields, key, numbers};

/// `ExportTraceServiceRequest.resource_spans`.
const RESOURCE_SPANS: u32 = key(1, BYTES);

/// Fields of `ResourceSpans`.
const RESOURCE: u32 = key(1, BYTES);
const SCOPE_SPANS: u32 = key(2, BYTES);

/// Fields of `ScopeSpans`.
const SPAN: u32 = key(2, BYTES);
const RESOURCE_ATTRIBUTE: u32 = key(1, BYTES);

/// Fields of `Span.Event`.
const EVENT_TIME: u32 = key(1, FIXED64);
const EVENT_NAME: u32 = key(2, BYTES);
const EVENT_ATTRIBUTE: u32 = key(3, BYTES);
const OF_EVENT: u32 = numbers([1, 2, 3]);

/// What a message held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All spans.
    pub spans: u64,
    /// Spans handed on to [`SpanSink::span`].
    pub entries: u64,
    /// Spans handed on to [`SpanSink::marked`].
    pub marked: u64,
    /// Spans with a trace, span or parent id of the wrong length: rejected, the sender is told.
    pub bad_ids: u64,
    /// Links with such ids on other spans: the span counts, the link is not passed on.
    pub bad_links: u64,
    /// Entry spans whose sender dropped attributes and that lack an operation or a status code: the one may
    /// be the reason for the other.
    pub attributes_dropped: u64,
}

/// Reads `message` and hands what it holds to `sink`, in the order of the message. On an error the sink has
/// seen the part before it; the caller forgets that part.
pub fn walk_traces<S: SpanSink>(
    message: &[u8],
    settings: &WalkSettings,
    sink: &mut S,
) -> Result<Counts, WalkError> {
    let flags = FlagTally::new(settings);
    let (counts, quantities) = (Counts::default(), Vec::new());
    let mut walk = Walk { settings, flags, sink, counts, quantities, last: None };
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            RESOURCE_SPANS => walk.resource_spans(fields.bytes()?)?,
            _ => fields.skip_unknown(key, numbers([1]))?,
        }
    }
    Ok(walk.counts)
}

struct Walk<'s, S> {
    settings: &'s WalkSettings,
    /// Feature flags by which a request may be of a version of its own.
    flags: FlagTally<'s>,
    sink: &'s mut S,
    counts: Counts,
    /// Those of the span in hand.
    quantities: Vec<(u8, u64)>,
    /// What the resource before looked at, for one of the same service.
    last: Option<Box<Watch>>,
}

/// The resource of the spans being read; the sink hears of it at the first span, so that an envelope without
/// spans leaves no trace.
struct Envelope<'a> {
    message: &'a [u8],
    resource: ResourceView<'a>,
    /// What its version is made of, if feature flags belong to it.
    version: Option<VersionParts<'a, 'a>>,
    announced: bool,
    /// `None` where the service has no measures.
    watch: Option<Box<Watch>>,
}

impl<S: SpanSink> Walk<'_, S> {
    /// The Resource may come after the spans, and in pieces: it is looked for first.
    fn resource_spans(&mut self, message: &[u8]) -> Result<(), WalkError> {
        let mut identity = Identity::new(self.settings);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                RESOURCE => identity.merge(fields.bytes()?)?,
                SCOPE_SPANS => fields.skip(key)?,
                _ => fields.skip_unknown(key, numbers([1, 2]))?,
            }
        }
        let version = (!self.flags.is_empty()).then(|| identity.version_parts());
        let mut envelope =
            Envelope { message, resource: identity.view(), version, announced: false, watch: None };
        let before = self.counts.spans;
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                SCOPE_SPANS => self.scope_spans(&mut envelope, fields.bytes()?)?,
                _ => fields.skip(key)?,
            }
        }
        self.last = envelope.watch.or_else(|| self.last.take());
        if envelope.announced {
            self.sink.sender_of_spans(&envelope.resource, self.counts.spans - before);
            self.flags.drain(|flag, by, spans| self.sink.flag_told(flag, by, spans));
        }
        Ok(())
    }

    /// In a box, of which a message needs one: it is handed from resource to resource.
    fn watch(&mut self, program: Arc<Program>) -> Box<Watch> {
        let same = self.last.take().filter(|last| Arc::ptr_eq(&last.program, &program));
        same.unwrap_or_else(|| Box::new(Watch::new(program)))
    }

    fn scope_spans<'a>(&mut self, envelope: &mut Envelope<'a>, message: &'a [u8]) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                SPAN => {
                    let span = fields.bytes()?;
                    if !envelope.announced {
                        envelope.announced = true;
                        self.sink.resource(&envelope.resource);
                        self.quantities.clear();
                        let program = self.sink.program().filter(|program| !program.is_empty());
                        envelope.watch = program.map(|program| self.watch(program));
                        if let Some(watch) = &mut envelope.watch {
                            watch.begin_resource(envelope.message)?;
                        }
                    }
                    let Envelope { resource, version, watch, .. } = envelope;
                    self.span(span, (resource, version.as_ref()), watch.as_deref_mut())?;
                }
                _ => fields.skip_unknown(key, numbers([2]))?,
            }
        }
        Ok(())
    }

    fn span<'a>(
        &mut self,
        message: &'a [u8],
        (resource, version): (&ResourceView<'a>, Option<&VersionParts<'a, '_>>),
        mut watch: Option<&mut Watch>,
    ) -> Result<(), WalkError> {
        self.counts.spans += 1;
        let mut attributes = SpanAttributes::new();
        if let Some(watch) = &mut watch {
            watch.begin_span();
        }
        let span = RawSpan::read(message, &mut attributes, watch.as_deref_mut())?;
        let discard = span.discard();
        if discard == Some(Discard::BadId) {
            self.counts.bad_ids += 1;
        } else {
            self.counts.bad_links += span.bad_links;
        }
        if let Some(reason) = discard {
            let is_marked =
                match watch.filter(|watch| reason == Discard::Kind && watch.program.reads(span.kind)) {
                    Some(watch) => self.mark(message, &span, watch, &mut attributes)?,
                    None => false,
                };
            if !is_marked {
                self.sink.discard(reason);
            }
            if !self.flags.is_empty() && reason == Discard::Kind {
                self.flags.of_span(message, self.counts.spans)?;
            }
            if span.has_events && reason == Discard::Kind {
                self.exceptions(message, &span)?;
            }
            return Ok(());
        }
        if span.attributes_missed || span.only_watched {
            attributes = SpanAttributes::new();
            read_attributes(message, &mut attributes, watch.as_deref_mut())?;
        }
        if attributes.is_synthetic() {
            self.sink.discard(Discard::Synthetic);
        } else if attributes.is_health_check(self.settings) {
            self.sink.discard(Discard::Health);
        } else if attributes.is_excluded(self.settings) {
            self.sink.discard(Discard::Excluded);
        } else {
            let is_apart = match version {
                Some(version) => self.set_apart(message, resource, version)?,
                None => false,
            };
            self.entry(&span, &attributes, watch);
            if span.has_events {
                self.exceptions(message, &span)?;
            }
            if is_apart {
                self.sink.resource(resource);
            }
        }
        Ok(())
    }

    /// Announces the resource of a request whose feature flags make its version, until the resource is announced again.
    fn set_apart<'a>(
        &mut self,
        message: &'a [u8],
        resource: &ResourceView<'a>,
        version: &VersionParts<'a, '_>,
    ) -> Result<bool, WalkError> {
        let Some(parts) = self.flags.version_parts(message, version, self.counts.spans)? else {
            return Ok(false);
        };
        let (from, version) = parts.version();
        self.sink.resource(&ResourceView { version: &version, version_from: from, ..resource.clone() });
        Ok(true)
    }

    /// Hands on the exceptions among the events of a span: those of an entry span, and those of the spans
    /// below it, which are the same service's. Most spans have no events, and this is not run for them.
    #[cold]
    fn exceptions(&mut self, message: &[u8], span: &RawSpan<'_>) -> Result<(), WalkError> {
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                EVENT => self.event(fields.bytes()?, span)?,
                _ => fields.skip(key)?,
            }
        }
        Ok(())
    }

    fn event(&mut self, message: &[u8], span: &RawSpan<'_>) -> Result<(), WalkError> {
        let (mut time, mut name) = (0, &b""[..]);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                EVENT_TIME => time = fields.fixed64()?,
                EVENT_NAME => name = fields.bytes()?,
                EVENT_ATTRIBUTE => fields.skip(key)?,
                _ => fields.skip_unknown(key, OF_EVENT)?,
            }
        }
        if !is_exception_name(name) {
            return Ok(());
        }
        let mut exception = Exception::new(self.settings);
        let mut fields = Fields::new(message);
        while let Some(key) = fields.next_key()? {
            match key {
                EVENT_ATTRIBUTE => exception.attribute(fields.bytes()?)?,
                _ => fields.skip(key)?,
            }
        }
        let time = UnixNanos(if time == 0 { span.end } else { time });
        if time.0 > 0 {
            let (trace_id, span_id) = (span.trace_id, span.span_id);
            self.sink.exception(&SpanException { time, trace_id, span_id, exception: exception.view() });
        }
        Ok(())
    }

    /// Hands on a span that is no request, if it counts for something.
    fn mark<'a>(
        &mut self,
        message: &'a [u8],
        span: &RawSpan<'a>,
        watch: &mut Watch,
        attributes: &mut SpanAttributes<'a>,
    ) -> Result<bool, WalkError> {
        if span.end == 0 {
            return Ok(false);
        }
        if span.attributes_missed {
            *attributes = SpanAttributes::new();
            read_attributes(message, attributes, Some(watch))?;
        }
        let status = SpanStatus::of(span.status_code);
        let outcome = if status == SpanStatus::Error { Outcome::Bad } else { Outcome::Good };
        let told = Told { outcome, operation: [b"", b"", span.name], code: code(watch, attributes) };
        let marks = self.marks(watch, span, &told);
        if marks == 0 && self.quantities.is_empty() {
            return Ok(false);
        }
        self.counts.marked += 1;
        let (start, end) = (UnixNanos(span.start.min(span.end)), UnixNanos(span.end));
        self.sink.marked(&MarkedSpan { start, end, marks, quantities: &self.quantities });
        Ok(true)
    }

    /// What a span counts for; leaves its quantities in `self.quantities`.
    fn marks(&mut self, watch: &mut Watch, span: &RawSpan<'_>, told: &Told<'_>) -> Marks {
        self.quantities.clear();
        let all = SpanFacts {
            kind: span.kind,
            status: SpanStatus::of(span.status_code),
            outcome: told.outcome,
            name: span.name,
            operation: told.operation,
            code: told.code,
            nanos: span.end.saturating_sub(span.start),
        };
        let quantities = &mut self.quantities;
        let Watch { program, recent, facts, .. } = watch;
        program.marks(facts, &all, recent, |measure, amount| quantities.push((measure, amount)))
    }

    fn entry(&mut self, span: &RawSpan<'_>, attributes: &SpanAttributes<'_>, watch: Option<&mut Watch>) {
        let operation = attributes.operation(span.name);
        let (outcome, status) = attributes.outcome(span.status_code);
        let pieces = [operation.head, operation.joint, operation.tail];
        let (marks, dimensions) = watch.map_or((0, None), |watch| {
            let told = Told { outcome, operation: pieces, code: code(watch, attributes) };
            (self.marks(watch, span, &told), watch.dimensions())
        });
        self.counts.entries += 1;
        if span.dropped_attributes > 0 && !attributes.has_operation_and_code() {
            self.counts.attributes_dropped += 1;
        }
        let view = SpanView {
            operation_head: operation.head,
            operation_joint: operation.joint,
            operation_tail: operation.tail,
            start: UnixNanos(span.start),
            end: UnixNanos(span.end),
            outcome,
            status,
            weight: sampling_weight(span.trace_state, span.trace_id),
            trace_id: span.trace_id,
            marks,
            quantities: &self.quantities,
        };
        match dimensions {
            None => self.sink.span(&view),
            Some(dimensions) => self.sink.span_of(&view, dimensions),
        }
    }
}

/// The status code, if any measure looks at it.
fn code<'a>(watch: &Watch, attributes: &SpanAttributes<'a>) -> AttributeValue<'a> {
    if watch.program.reads_codes() { attributes.code() } else { AttributeValue::Absent }
}

/// What the attributes of a span say, as far as measures look at it.
struct Told<'a> {
    outcome: Outcome,
    operation: [&'a [u8]; 3],
    code: AttributeValue<'a>,
}

#[cfg(test)]
mod marks_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
