//! What spans count for by the program of their service, whatever the order of their fields; what else is read of
//! them stays the same.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::model::{
    AttributeTest, Counted, Measure, MeasureKey, Selection, SpanKind, ValueTest, part_bit, total_bit,
};

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

/// A field that holds a message.
fn wrap(field: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    prost::encode_length_delimiter(body.len(), &mut out).unwrap();
    out.extend_from_slice(body);
    out
}

/// A message with one span, whose encoded pieces stand in this order.
fn message(pieces: &[Span]) -> Vec<u8> {
    let span: Vec<u8> = pieces.iter().flat_map(Message::encode_to_vec).collect();
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

/// Conditions on attributes that are read anyway and on others, on short values and on long ones.
fn many_conditions() -> Arc<Program> {
    let names = ["http.route", "rpc.grpc.status_code", "tenant", "tenant.class"];
    let values =
        ["*", "a*", "*b", "aaaaaaaaaaaaaaa*", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa*b", "1", "2..300", "true"];
    let part = |name: &str, value: &str| Selection {
        kinds: vec![SpanKind::Server, SpanKind::Client],
        attributes: vec![test(name, value)],
        ..Selection::default()
    };
    let measures: Vec<Measure> = names
        .iter()
        .flat_map(|name| values.iter().map(|value| part(name, value)))
        .map(|part| Counted::Share {
            total: Selection { attributes: vec![], ..part.clone() },
            part,
            is_good: false,
        })
        .map(|counted| Measure { key: MeasureKey::of(&format!("{counted:?}")), counted })
        .collect();
    Arc::new(Program::compile(&measures).unwrap())
}

fn values() -> impl Strategy<Value = Option<AnyValue>> {
    let value = prop_oneof![
        4 => "(a{0,2}|[ab]a{13,17}|[ab]a{29,34})b?".prop_map(Value::StringValue),
        2 => prop::sample::select(vec![-1, 0, 1, 2, 299, 301, i64::MAX]).prop_map(Value::IntValue),
        1 => any::<bool>().prop_map(Value::BoolValue),
        1 => Just(Value::DoubleValue(1.0)),
        1 => Just(Value::BytesValue(vec![7; 3])),
    ];
    prop::option::weighted(0.9, value).prop_map(|value| Some(AnyValue { value }))
}

/// A span of one of two kinds, encoded; now and then an attribute has its value before its key, or two of them.
fn encoded_span() -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop::sample::select(vec!["http.route", "rpc.grpc.status_code", "tenant", "tenant.class", "x"]);
    let attribute = (name, values(), 0..8_u8).prop_map(|(name, value, oddity)| {
        let key = KeyValue { key: name.into(), ..KeyValue::default() }.encode_to_vec();
        let value = KeyValue { value, ..KeyValue::default() }.encode_to_vec();
        match oddity {
            0 => [value, key].concat(),
            1 => [key, value.clone(), value].concat(),
            _ => [key, value].concat(),
        }
    });
    (prop::sample::select(vec![2, 3]), prop::collection::vec(attribute, 0..6)).prop_map(|(of, attributes)| {
        let attributes = attributes.iter().flat_map(|attribute| wrap(9, attribute));
        kind(of).encode_to_vec().into_iter().chain(attributes).collect()
    })
}

proptest! {
    /// What is kept of the values and spans before never shows in those that follow.
    #[test]
    fn spans_count_for_the_same_together_and_alone(spans in prop::collection::vec(encoded_span(), 1..24)) {
        let program = many_conditions();
        let walked = |spans: &[Vec<u8>]| {
            let scope: Vec<u8> = spans.iter().flat_map(|span| wrap(2, span)).collect();
            let mut sink = Marked { program: Some(Arc::clone(&program)), ..Marked::default() };
            walk_traces(&wrap(1, &wrap(2, &scope)), &WalkSettings::default(), &mut sink).unwrap();
            (sink.requests, sink.others)
        };
        let (mut requests, mut others) = (Vec::new(), Vec::new());
        for span in &spans {
            let alone = walked(std::slice::from_ref(span));
            requests.extend(alone.0);
            others.extend(alone.1);
        }
        prop_assert_eq!(walked(&spans), (requests, others));
    }
}
