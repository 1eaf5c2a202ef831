//! What spans count for by the program of their service, whatever the order of their fields; what else is read of
//! them stays the same.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message;

use super::*;
use crate::model::{AttributeTest, Counted, Measure, MeasureKey, Selection, ValueTest, part_bit, total_bit};

/// Keeps what spans count for: `None` for a span that is no request, with its quantities.
#[derive(Default)]
struct Marked {
    program: Option<Arc<Program>>,
    requests: Vec<(Marks, Vec<(u8, u64)>)>,
    others: Vec<Marks>,
    discarded: Vec<Discard>,
}

impl SpanSink for Marked {
    fn resource(&mut self, _: &ResourceView<'_>) {}

    fn program(&self) -> Option<Arc<Program>> {
        self.program.clone()
    }

    fn span(&mut self, span: &SpanView<'_>) {
        self.requests.push((span.marks, span.quantities.to_vec()));
    }

    fn marked(&mut self, span: &MarkedSpan<'_>) {
        self.others.push(span.marks);
    }

    fn discard(&mut self, reason: Discard) {
        self.discarded.push(reason);
    }
}

fn test(name: &str, value: &str) -> AttributeTest {
    AttributeTest { name: name.into(), any: vec![ValueTest::new(value)], is_negated: false }
}

/// 0: requests with `slow` true are bad; 1: client calls of a database per request; 2: a quantity per request.
fn program() -> Arc<Program> {
    let of = |attributes| Selection { attributes, ..Selection::default() };
    let measures = [
        Counted::Share { total: Selection::default(), part: of(vec![test("slow", "true")]), is_good: false },
        Counted::PerRequest {
            requests: Selection::default(),
            events: Selection { kinds: vec![SpanKind::Client], ..of(vec![test("db.system.name", "*")]) },
            quantity: None,
        },
        Counted::PerRequest {
            requests: Selection::default(),
            events: Selection::default(),
            quantity: Some("size".into()),
        },
    ]
    .map(|counted| Measure { key: MeasureKey::of(&format!("{counted:?}")), counted });
    Arc::new(Program::compile(&measures).unwrap())
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

/// A message with one span, whose encoded pieces stand in this order.
fn message(pieces: &[Span]) -> Vec<u8> {
    let span: Vec<u8> = pieces.iter().flat_map(Message::encode_to_vec).collect();
    let wrap = |field: u8, body: &[u8]| {
        let mut out = vec![field << 3 | 2];
        prost::encode_length_delimiter(body.len(), &mut out).unwrap();
        out.extend_from_slice(body);
        out
    };
    wrap(1, &wrap(2, &wrap(2, &span)))
}

fn walked(program: Option<Arc<Program>>, pieces: &[Span]) -> Marked {
    let mut sink = Marked { program, ..Marked::default() };
    walk_traces(&message(pieces), &WalkSettings::default(), &mut sink).unwrap();
    sink
}

fn kind(kind: i32) -> Span {
    Span { kind, end_time_unix_nano: 9, ..Span::default() }
}

fn with(attributes: Vec<KeyValue>) -> Span {
    Span { attributes, ..Span::default() }
}

#[test]
fn the_order_of_fields_does_not_matter() {
    let told = vec![
        attribute("slow", Value::BoolValue(false)),
        attribute("size", Value::DoubleValue(1023.6)),
        attribute("slow", Value::BoolValue(true)),
    ];
    let expected = (total_bit(0) | part_bit(0) | total_bit(1) | total_bit(2), vec![(2, 1024)]);
    let (first, last) = (told[..2].to_vec(), told[2..].to_vec());
    for pieces in [
        vec![kind(2), with(told.clone())],
        vec![with(told.clone()), kind(2)],
        vec![with(first), kind(2), with(last)],
        vec![kind(3), with(told), kind(2)],
    ] {
        let sink = walked(Some(program()), &pieces);
        assert_eq!((sink.requests, sink.others), (vec![expected.clone()], vec![]), "{pieces:?}");
    }
}

#[test]
fn a_call_counts_and_work_inside_does_not() {
    let call = with(vec![attribute("db.system.name", Value::StringValue("redis".into()))]);
    for pieces in [[kind(3), call.clone()], [call.clone(), kind(3)]] {
        let sink = walked(Some(program()), &pieces);
        assert_eq!((sink.others, sink.discarded), (vec![part_bit(1)], vec![]), "{pieces:?}");
    }
    let bad_id = Span { span_id: vec![1], ..kind(3) };
    let never_ended = Span { kind: 3, ..Span::default() };
    for (span, reason) in [
        (kind(1), Discard::Kind),
        (kind(4), Discard::Kind),
        (bad_id, Discard::BadId),
        (never_ended, Discard::Kind),
    ] {
        let sink = walked(Some(program()), &[span, call.clone()]);
        assert_eq!((sink.others, sink.discarded), (vec![], vec![reason]));
    }
    // A call to something else.
    let other = walked(Some(program()), &[kind(3), with(vec![])]);
    assert_eq!((other.others, other.discarded), (vec![], vec![Discard::Kind]));
}

#[test]
fn without_a_program_nothing_counts() {
    let slow = with(vec![attribute("slow", Value::BoolValue(true))]);
    let failed = Span { status: Some(Status { code: 2, ..Status::default() }), ..kind(2) };
    let sink = walked(None, &[failed, slow.clone()]);
    assert_eq!(sink.requests, [(0, vec![])]);
    let sink = walked(None, &[kind(3), slow]);
    assert_eq!((sink.others, sink.discarded), (vec![], vec![Discard::Kind]));
}
