//! The walker beside prost, over generated and over damaged messages, and its own rules by example.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use proptest::prelude::*;
use prost::Message;

use super::super::settings::VersionSource;
use super::oracle::{Recorder, Told, told};
use super::*;

pub(super) fn settings() -> WalkSettings {
    let composite = "service.version+k8s.replicaset.name + k8s.pod.label.pod-template-hash";
    let default = WalkSettings::default();
    let version_attributes =
        std::iter::once(VersionSource::new(composite)).chain(default.version_attributes).collect();
    WalkSettings {
        version_attributes,
        identity_attributes: vec!["k8s.cluster.name".into(), "host.name".into()],
        point_attributes: default.point_attributes,
        health_routes: default.health_routes,
        excluded_statuses: default.excluded_statuses,
        evidence_attributes: vec!["error.code".into(), "thread.id".into()],
        request_metrics: default.request_metrics,
    }
}

fn walked(message: &[u8]) -> Result<(Vec<Told>, Counts), WalkError> {
    let mut recorder = Recorder::default();
    let counts = walk_traces(message, &settings(), &mut recorder)?;
    Ok((recorder.0, counts))
}

mod watched;

// ---- generated messages ----

pub(super) const NAMES: &[&str] = &[
    "service.name",
    "service.namespace",
    "service.version",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "host.name",
    "process.pid",
    "process.executable.name",
    "container.image.tags",
    "container.image.repo_digests",
    "k8s.pod.label.pod-template-hash",
    "k8s.pod.labels.pod-template-hash",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "faas.name",
    "http.route",
    "http.request.method",
    "http.method",
    "http.response.status_code",
    "http.status_code",
    "url.path",
    "http.target",
    "rpc.method",
    "rpc.service",
    "rpc.status_code",
    "rpc.grpc.status_code",
    "rpc.connect_rpc.error_code",
    "messaging.destination.name",
    "messaging.destination.template",
    "messaging.operation.name",
    "messaging.operation",
    "error.type",
    "user_agent.synthetic.type",
    "exception.type",
    "exception.message",
    "exception.stacktrace",
    "event.name",
    "error.code",
    "thread.id",
    // Of one length and one end with the one before.
    "xhread.id",
    "id",
    "a name of more than thirty-two letters, a",
    "b name of more than thirty-two letters, a",
    "",
];

pub(super) const TEXTS: &[&str] = &[
    "",
    "GET",
    "/healthz",
    "/a?b",
    "/ready",
    "shop",
    "shop-7d4",
    "a/b",
    "r@sha256:1",
    "503",
    "404",
    "401",
    "UNAVAILABLE",
    "unauthenticated",
    "test",
    "ERROR2",
    "exception",
    "é",
    "of thirty-three letters, 33, or so",
    "of more letters than one byte can count: ----------------------------------------------------------------------------------------------",
];

fn any_value(texts: &'static [&'static str]) -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        6 => prop::sample::select(texts).prop_map(|s| Some(Value::StringValue(s.into()))),
        3 => prop_oneof![Just(200), Just(500), Just(429), Just(16), any::<i64>()]
            .prop_map(|n| Some(Value::IntValue(n))),
        1 => any::<bool>().prop_map(|b| Some(Value::BoolValue(b))),
        1 => any::<f64>().prop_map(|f| Some(Value::DoubleValue(f))),
        1 => Just(Some(Value::BytesValue(vec![1, 255]))),
        1 => any::<i32>().prop_map(|i| Some(Value::StringValueStrindex(i))),
        1 => Just(None),
    ];
    leaf.prop_map(|value| AnyValue { value }).prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|values| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }),
            inner.prop_map(|v| AnyValue {
                value: Some(Value::KvlistValue(KeyValueList {
                    values: vec![KeyValue { key: "k".into(), value: Some(v), key_strindex: 0 }]
                }))
            }),
        ]
    })
}

pub(super) fn attributes(most: usize) -> impl Strategy<Value = Vec<KeyValue>> {
    attributes_of(NAMES, TEXTS, most)
}

/// Attributes with some of these names and texts.
pub(super) fn attributes_of(
    names: &'static [&'static str],
    texts: &'static [&'static str],
    most: usize,
) -> impl Strategy<Value = Vec<KeyValue>> {
    let one = (
        prop::sample::select(names),
        prop::option::weighted(0.95, any_value(texts)),
        prop_oneof![9 => Just(0), 1 => any::<i32>()],
    );
    prop::collection::vec(
        one.prop_map(|(key, value, key_strindex)| KeyValue { key: key.into(), value, key_strindex }),
        0..most,
    )
}

pub(super) fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => prop::collection::vec(any::<u8>(), length), 1 => Just(vec![]), 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

pub(super) fn any_event_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["exception", "message", "", "db.client.operation.exception"][..])
}

prop_compose! {
    fn any_span()(
        trace_id in id(16), span_id in id(8), parent_span_id in id(8),
        trace_state in prop::sample::select(&["", "ot=th:8", "ot=th:c;rv:ffffffffffffff", "a=b", "ot=th:X"][..]),
        name in prop::sample::select(TEXTS),
        kind in prop_oneof![4 => Just(2), 2 => Just(5), 2 => 0..8i32, 1 => any::<i32>()],
        start in any::<u64>(), end in prop_oneof![9 => any::<u64>(), 1 => Just(0)],
        attributes in attributes(8),
        dropped in prop_oneof![Just(0u32), any::<u32>()],
        events in 0..2usize,
        event in (any_event_name(), prop_oneof![Just(0), any::<u64>()], attributes(4)),
        status in prop::option::of((prop_oneof![3 => 0..3i32, 1 => any::<i32>()], prop::sample::select(TEXTS))),
        flags in any::<u32>(),
    ) -> Span {
        let (event_name, time_unix_nano, event_attributes) = event;
        let event = span::Event {
            time_unix_nano, name: event_name.into(), attributes: event_attributes, dropped_attributes_count: 3,
        };
        let link = span::Link { trace_id: vec![1; 16], span_id: vec![2; 8], ..Default::default() };
        Span {
            trace_id, span_id, parent_span_id, trace_state: trace_state.into(), flags, name: name.into(), kind,
            start_time_unix_nano: start, end_time_unix_nano: end, attributes, dropped_attributes_count: dropped,
            events: vec![event; events], dropped_events_count: dropped, links: vec![link; events],
            dropped_links_count: dropped,
            status: status.map(|(code, message)| Status { code, message: message.into() }),
        }
    }
}

fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope = prop::collection::vec(any_span(), 0..4).prop_map(|spans| ScopeSpans {
        spans,
        schema_url: "s".into(),
        scope: None,
    });
    let resource = prop::option::weighted(
        0.9,
        attributes(10).prop_map(|attributes| Resource { attributes, ..Default::default() }),
    );
    let envelope = (resource, prop::collection::vec(scope, 0..3)).prop_map(|(resource, scope_spans)| {
        ResourceSpans { resource, scope_spans, schema_url: String::new() }
    });
    prop::collection::vec(envelope, 0..3)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

// ---- the same message written otherwise ----

/// Fields seen before, by nesting and key: what may stand beside another of its kind.
pub(super) type Pool = HashMap<(u32, u32), Vec<Vec<u8>>>;

/// Rewrites a message so that its meaning stays, or at least prost still accepts it, in ways that encoders do
/// not write: fields in another order, twice, with keys of needless length, between unknown fields.
pub(super) fn rewritten(
    message: &[u8],
    depth: u32,
    pool: &mut Pool,
    dice: &mut impl FnMut(u32) -> u32,
) -> Vec<u8> {
    let mut parts = Vec::new();
    let mut fields = Fields::new(message);
    while let Ok(Some(key)) = fields.next_key() {
        let mut part = Vec::new();
        let before = fields;
        if fields.skip(key).is_err() {
            return message.to_vec();
        }
        if key & 7 == BYTES {
            let mut content = before;
            let content = content.bytes().unwrap();
            let inner = if depth > 0 && dice(8) > 0 {
                rewritten(content, depth - 1, pool, dice)
            } else {
                content.to_vec()
            };
            put_key(key, dice, &mut part);
            prost::encoding::encode_varint(inner.len() as u64, &mut part);
            part.extend(inner);
        } else {
            put_key(key, dice, &mut part);
            let raw = before.rest();
            part.extend(&raw[..raw.len() - fields.rest().len()]);
        }
        parts.push((key, part));
    }
    while dice(2) == 0 && !parts.is_empty() {
        let (from, to) = (dice(parts.len() as u32) as usize, dice(parts.len() as u32) as usize);
        parts.swap(from, to);
    }
    if dice(3) == 0 && !parts.is_empty() {
        let (key, part) = parts[dice(parts.len() as u32) as usize].clone();
        let like_it = pool.entry((depth, key)).or_default();
        like_it.push(part);
        parts.push((key, like_it[dice(like_it.len() as u32) as usize].clone()));
    }
    if dice(4) == 0 {
        let unknown: [&[u8]; 4] = [
            &[0xa3, 0x06, 0x08, 1, 0xa4, 0x06],
            &[0xa8, 0x06, 0x80, 0x01],
            &[0xa2, 0x06, 2, 9, 9],
            &[0xa3, 0x06, 0x13, 0x0d, 0, 0, 0, 0, 0x14, 0xa4, 0x06],
        ];
        parts.insert(dice(parts.len() as u32 + 1) as usize, (0, unknown[dice(4) as usize].to_vec()));
    }
    parts.into_iter().flat_map(|(_, part)| part).collect()
}

fn put_key(key: u32, dice: &mut impl FnMut(u32) -> u32, out: &mut Vec<u8>) {
    if key < 0x80 && dice(8) == 0 {
        out.extend([key as u8 | 0x80, 0]);
    } else {
        prost::encoding::encode_varint(u64::from(key), out);
    }
}

// ---- properties ----

/// Whatever prost accepts, the walker accepts and reads alike.
fn agrees(message: &[u8]) -> Result<bool, TestCaseError> {
    let Ok(decoded) = ExportTraceServiceRequest::decode(message) else {
        // No panic, whatever it makes of it.
        let _ = walked(message);
        return Ok(false);
    };
    let (seen, counts) = walked(message).map_err(|e| TestCaseError::fail(format!("refused: {e}")))?;
    prop_assert_eq!(&seen, &told(&decoded, &settings()));
    let spans = decoded.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len() as u64);
    prop_assert_eq!(counts.spans, spans.sum::<u64>());
    let bad = seen.iter().filter(|t| **t == Told::Discard(Discard::BadId)).count() as u64;
    prop_assert_eq!(counts.bad_ids, bad);
    watched::agrees(message, &decoded, &seen)?;
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_prost_writes_is_read_alike(request in request()) {
        prop_assert!(agrees(&request.encode_to_vec())?);
    }

    #[test]
    fn what_prost_accepts_in_another_form_is_read_alike(request in request(), seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let original = request.encode_to_vec();
        let mut pool = Pool::new();
        for _ in 0..10 {
            agrees(&rewritten(&original, 8, &mut pool, &mut |n| random.u32(..n)))?;
        }
    }

    #[test]
    fn damaged_messages_are_read_alike_or_refused(
        request in request(),
        seed in any::<u64>(),
    ) {
        let original = request.encode_to_vec();
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20 {
            let mut message = original.clone();
            for _ in 0..random.usize(1..4) {
                damage(&mut message, &mut random);
            }
            agrees(&message)?;
        }
    }
}

pub(super) fn damage(message: &mut Vec<u8>, random: &mut fastrand::Rng) {
    if message.is_empty() {
        return message.push(random.u8(..));
    }
    let at = random.usize(..message.len());
    match random.u32(..6) {
        0 => message[at] = random.u8(..),
        1 => message[at] ^= 1 << random.u32(..8),
        2 => message[at] = message[at].wrapping_add(8),
        3 => drop(message.remove(at)),
        4 => message.insert(at, random.u8(..)),
        _ => message.truncate(at),
    }
}

// ---- by example ----

fn server_span(name: &str) -> Span {
    Span { name: name.into(), kind: 2, start_time_unix_nano: 5, end_time_unix_nano: 9, ..Default::default() }
}

pub(super) fn service(name: &str) -> Resource {
    let value = Some(AnyValue { value: Some(Value::StringValue(name.into())) });
    let attribute = KeyValue { key: "service.name".into(), value, key_strindex: 0 };
    Resource { attributes: vec![attribute], ..Default::default() }
}

pub(super) fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(key(number, BYTES)), &mut out);
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    out.extend(content);
    out
}

#[test]
fn the_resource_may_follow_its_spans() {
    let spans = ScopeSpans { spans: vec![server_span("a"), server_span("b")], ..Default::default() };
    let envelope = [field(2, &spans.encode_to_vec()), field(1, &service("late").encode_to_vec())].concat();
    let (seen, _) = walked(&field(1, &envelope)).unwrap();
    assert_eq!(seen.len(), 3);
    assert!(matches!(&seen[0], Told::Resource { texts, .. } if texts[1] == b"late"));
}

#[test]
fn g9_any_kind_of_value_is_taken_for_any_attribute() {
    let list =
        ArrayValue { values: vec![AnyValue::default(), AnyValue { value: Some(Value::BoolValue(true)) }] };
    let map = KeyValueList { values: vec![KeyValue::default()] };
    let values = [
        None,
        Some(Value::BytesValue(vec![0xff])),
        Some(Value::DoubleValue(f64::NAN)),
        Some(Value::ArrayValue(list)),
        Some(Value::KvlistValue(map)),
    ];
    for value in values {
        for key in ["http.route", "http.response.status_code", "error.type", "anything"] {
            let value = Some(AnyValue { value: value.clone() });
            let attributes = vec![KeyValue { key: key.into(), value, key_strindex: 0 }];
            let span = Span { attributes, ..server_span("a") };
            let message = field(1, &field(2, &field(2, &span.encode_to_vec())));
            assert_eq!(walked(&message).unwrap().1.entries, 1, "{key}");
        }
    }
}

/// S1, S2: entry spans make requests; one without an end says nothing, whatever its kind.
#[test]
fn s1_s2_entry_spans_are_requests() {
    let walked = |span: Span| walked(&field(1, &field(2, &field(2, &span.encode_to_vec())))).unwrap().0;
    for kind in 0..=6 {
        let told = walked(Span { kind, ..server_span("a") });
        let is_request = told.iter().any(|told| matches!(told, Told::Span { times: (5, 9), .. }));
        assert_eq!(is_request, kind == 2 || kind == 5, "kind {kind}: {told:?}");
        assert_eq!(told.contains(&Told::Discard(Discard::Kind)), !is_request, "kind {kind}: {told:?}");
    }
    let open = walked(Span { end_time_unix_nano: 0, ..server_span("a") });
    assert!(open.contains(&Told::Discard(Discard::NoTime)), "{open:?}");
}

#[test]
fn s3_requests_with_excluded_statuses_are_not_judged() {
    let walked = |code: i64, excluded: &[u16]| {
        let value = Some(AnyValue { value: Some(Value::IntValue(code)) });
        let attributes = vec![KeyValue { key: "http.response.status_code".into(), value, key_strindex: 0 }];
        let span = Span { attributes, ..server_span("a") };
        let message = field(1, &field(2, &field(2, &span.encode_to_vec())));
        let settings = WalkSettings { excluded_statuses: excluded.to_vec(), ..settings() };
        let mut recorder = Recorder::default();
        walk_traces(&message, &settings, &mut recorder).unwrap().entries
    };
    assert_eq!((walked(404, &[]), walked(404, &[401, 404]), walked(500, &[401, 404])), (1, 0, 1));
}

#[test]
fn g10_invalid_utf8_costs_nothing() {
    let mut span = server_span("abcd").encode_to_vec();
    let at = span.windows(4).position(|w| w == b"abcd").unwrap();
    span[at] = 0xff;
    let message = field(1, &field(2, &field(2, &span)));
    assert!(ExportTraceServiceRequest::decode(message.as_slice()).is_err());
    let (seen, _) = walked(&message).unwrap();
    assert!(matches!(&seen[1], Told::Span { operation, .. } if operation == b"\xffbcd"));
}

#[test]
fn g11_a_bad_id_costs_its_own_span_only() {
    let bad = Span { trace_id: vec![1; 15], ..server_span("bad") };
    let scope = ScopeSpans { spans: vec![bad, server_span("good")], ..Default::default() };
    let envelope = ResourceSpans { scope_spans: vec![scope], ..Default::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![envelope] };
    let (seen, counts) = walked(&request.encode_to_vec()).unwrap();
    assert_eq!(seen[1], Told::Discard(Discard::BadId));
    assert_eq!(counts, Counts { spans: 2, entries: 1, bad_ids: 1, ..Counts::default() });
}

#[test]
fn g7_empty_envelopes_leave_no_trace() {
    let envelope = ResourceSpans { resource: Some(service("s")), ..Default::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![envelope] };
    assert_eq!(walked(&request.encode_to_vec()), Ok((vec![], Counts::default())));
    assert_eq!(walked(b""), Ok((vec![], Counts::default())));
}

#[test]
fn s9_dropped_attributes_are_counted_where_they_may_matter() {
    let span = Span { dropped_attributes_count: 1, ..server_span("a") };
    let message = field(1, &field(2, &field(2, &span.encode_to_vec())));
    assert_eq!(walked(&message).unwrap().1.attributes_dropped, 1);
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let mut value = Vec::new();
    for _ in 0..20_000 {
        value = field(5, &field(1, &value));
    }
    let attribute = [field(1, b"error.type"), field(2, &value)].concat();
    let mut span = server_span("deep").encode_to_vec();
    span.extend(field(9, &attribute));
    assert!(walked(&field(1, &field(2, &field(2, &span)))).is_ok());
}
