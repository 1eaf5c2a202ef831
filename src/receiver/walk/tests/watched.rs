//! The same messages walked for a service that has measures: what they say is the same, and each span counts for what
//! its attributes say when they are read one by one.

use std::sync::{Arc, LazyLock};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::test_runner::TestCaseError;

use super::super::oracle::{Recorder, Told};
use super::super::walk_traces;
use super::settings;
use crate::model::{
    AttributeTest, AttributeValue, Counted, Discard, MarkedSpan, Marks, Measure, MeasureKey, Program,
    ResourceView, Selection, SpanException, SpanKind, SpanSink, SpanView, ValueTest, total_bit,
};

/// Attributes of every request and others, short names and long ones, and some that are alike but for one letter.
const CONDITIONS: [(&str, &str); 14] = [
    ("http.route", "shop*"),
    ("http.response.status_code", "400..599"),
    ("http.response.status_code", "503"),
    ("error.type", "*"),
    ("rpc.grpc.status_code", "16"),
    ("thread.id", "*"),
    ("thread.id", "true"),
    ("id", "GET"),
    ("", "GET"),
    ("k8s.pod.labels.pod-template-hash", "*"),
    ("b name of more than thirty-two letters, a", "of *"),
    ("b name of more than thirty-two letters, a", "*e*"),
    ("faas.name", "200"),
    ("service.version", "é"),
];
const KINDS: [SpanKind; 2] = [SpanKind::Server, SpanKind::Client];

static PROGRAM: LazyLock<Arc<Program>> = LazyLock::new(|| {
    let measures = CONDITIONS.map(|(name, value)| {
        let test = AttributeTest { name: name.into(), any: vec![ValueTest::new(value)], is_negated: false };
        let total = Selection { kinds: KINDS.into(), attributes: vec![test], ..Selection::default() };
        Measure { key: MeasureKey::of(name), counted: Counted::Latency { total } }
    });
    Arc::new(Program::compile(&measures).unwrap())
});

/// Keeps what a [`Recorder`] does, a span that counts for something as if it did not, and what each counts for.
#[derive(Default)]
struct Watching {
    recorder: Recorder,
    marks: Vec<Marks>,
}

impl SpanSink for Watching {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        SpanSink::resource(&mut self.recorder, resource);
    }

    fn program(&self) -> Option<Arc<Program>> {
        Some(Arc::clone(&PROGRAM))
    }

    fn span(&mut self, span: &SpanView<'_>) {
        self.recorder.span(span);
        self.marks.push(span.marks);
    }

    fn marked(&mut self, span: &MarkedSpan<'_>) {
        self.recorder.discard(Discard::Kind);
        self.marks.push(span.marks);
    }

    fn discard(&mut self, reason: Discard) {
        self.recorder.discard(reason);
        self.marks.push(0);
    }

    fn exception(&mut self, exception: &SpanException<'_>) {
        self.recorder.exception(exception);
    }
}

/// `seen` is what the walk says of the message without measures.
pub(super) fn agrees(
    message: &[u8],
    decoded: &ExportTraceServiceRequest,
    seen: &[Told],
) -> Result<(), TestCaseError> {
    let mut watching = Watching::default();
    walk_traces(message, &settings(), &mut watching)
        .map_err(|error| TestCaseError::fail(format!("refused with measures: {error}")))?;
    proptest::prop_assert_eq!(&watching.recorder.0, seen);
    let of_spans = seen.iter().filter(|told| matches!(told, Told::Span { .. } | Told::Discard(_)));
    let spans = decoded.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|scope| &scope.spans);
    let expected: Vec<Marks> = spans
        .zip(of_spans)
        .map(|(span, told)| match told {
            Told::Discard(Discard::Kind) if span.end_time_unix_nano == 0 => 0,
            Told::Discard(reason) if *reason != Discard::Kind => 0,
            _ => marks(span),
        })
        .collect();
    proptest::prop_assert_eq!(&watching.marks, &expected);
    Ok(())
}

fn marks(span: &Span) -> Marks {
    if !KINDS.iter().any(|kind| *kind as i32 == span.kind) {
        return 0;
    }
    let holds = |(name, value): &(&str, &str)| {
        let last = span.attributes.iter().rfind(|attribute| attribute.key == *name);
        last.is_some_and(|attribute| ValueTest::new(value).passes(value_of(attribute)))
    };
    CONDITIONS.iter().enumerate().filter(|(_, condition)| holds(condition)).map(|(n, _)| total_bit(n)).sum()
}

fn value_of(attribute: &KeyValue) -> AttributeValue<'_> {
    match attribute.value.as_ref().and_then(|any| any.value.as_ref()) {
        None | Some(Value::StringValueStrindex(_)) => AttributeValue::Absent,
        Some(Value::StringValue(text)) => AttributeValue::Text(text.as_bytes()),
        Some(Value::IntValue(number)) => AttributeValue::Whole(*number),
        Some(Value::DoubleValue(number)) => AttributeValue::Double(*number),
        Some(Value::BoolValue(truth)) => AttributeValue::Bool(*truth),
        Some(Value::ArrayValue(list)) => match list.values.first().map(|first| &first.value) {
            None => AttributeValue::Other,
            Some(Some(Value::StringValue(text))) => AttributeValue::Text(text.as_bytes()),
            Some(_) => AttributeValue::Text(b""),
        },
        Some(Value::KvlistValue(_) | Value::BytesValue(_)) => AttributeValue::Other,
    }
}
