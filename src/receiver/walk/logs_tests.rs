//! The log walker beside prost, over generated and over damaged messages, and its own rules by example.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message;

use super::super::oracle::{Recorder, Told, is_present, resource, text_of, thrown_by};
use super::super::tests::{
    Pool, TEXTS, any_event_name, attributes, damage, field, id, rewritten, service, settings,
};
use super::*;

fn walked(message: &[u8]) -> Result<(Vec<Told>, LogCounts), WalkError> {
    let mut recorder = Recorder::default();
    let counts = walk_logs(message, &settings(), &mut recorder)?;
    Ok((recorder.0, counts))
}

/// What a sink should be told of `request`: the same rules, slow and plain, over prost's structs.
fn told(request: &ExportLogsServiceRequest) -> Vec<Told> {
    let mut all = Vec::new();
    for envelope in &request.resource_logs {
        let mut announced = false;
        for r in envelope.scope_logs.iter().flat_map(|s| &s.log_records) {
            let one = record(r);
            if matches!(one, Told::Log { .. }) && !announced {
                announced = true;
                all.push(resource(envelope.resource.as_ref(), &settings()));
            }
            all.push(one);
        }
    }
    all
}

fn record(r: &LogRecord) -> Told {
    let wrong = |id: &[u8], length| !id.is_empty() && id.len() != length;
    let is_exception = |name: &str| name == "exception" || name.ends_with(".exception");
    let was_thrown = ["exception.type", "exception.message", "exception.stacktrace"]
        .iter()
        .any(|n| is_present(&r.attributes, n))
        || text_of(&r.attributes, "event.name").is_some_and(|n| is_exception(&n))
        || is_exception(&r.event_name);
    let severity = match r.severity_number {
        1..=16 => Some(false),
        17..=24 => Some(true),
        _ if r.severity_text == "ERROR2" => Some(true),
        _ => None,
    };
    let time = if r.time_unix_nano == 0 { r.observed_time_unix_nano } else { r.time_unix_nano };
    if wrong(&r.trace_id, 16) || wrong(&r.span_id, 8) {
        return Told::DiscardLog(Discard::BadId);
    }
    match severity {
        _ if was_thrown => {}
        Some(false) => return Told::DiscardLog(Discard::Severity),
        None => return Told::DiscardLog(Discard::NoSeverity),
        Some(true) => {}
    }
    if time == 0 {
        return Told::DiscardLog(Discard::NoTime);
    }
    Told::Log {
        time,
        is_error: severity == Some(true),
        ids: [r.trace_id.clone(), r.span_id.clone()],
        thrown: was_thrown.then(|| thrown_by(&r.attributes, &settings())),
    }
}

prop_compose! {
    fn any_record()(
        times in (prop_oneof![Just(0), any::<u64>()], prop_oneof![Just(0), any::<u64>()]),
        severity_number in prop_oneof![6 => 0..26i32, 1 => any::<i32>()],
        severity_text in prop::sample::select(TEXTS),
        attributes in attributes(6),
        trace_id in id(16), span_id in id(8),
        event_name in any_event_name(),
        body in prop::option::of(prop::sample::select(TEXTS)),
        numbers in any::<(u32, u32)>(),
    ) -> LogRecord {
        let body = body.map(|text| AnyValue { value: Some(Value::StringValue(text.into())) });
        LogRecord {
            time_unix_nano: times.0, observed_time_unix_nano: times.1, severity_number,
            severity_text: severity_text.into(), body, attributes, dropped_attributes_count: numbers.0,
            flags: numbers.1, trace_id, span_id, event_name: event_name.into(),
        }
    }
}

fn request() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope = prop::collection::vec(any_record(), 0..4)
        .prop_map(|log_records| ScopeLogs { log_records, ..Default::default() });
    let resource = prop::option::weighted(
        0.9,
        attributes(6).prop_map(|attributes| Resource { attributes, ..Default::default() }),
    );
    let envelope = (resource, prop::collection::vec(scope, 0..3))
        .prop_map(|(resource, scope_logs)| ResourceLogs { resource, scope_logs, schema_url: String::new() });
    prop::collection::vec(envelope, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

/// Whatever prost accepts, the walker accepts and reads alike.
fn agrees(message: &[u8]) -> Result<bool, TestCaseError> {
    let Ok(decoded) = ExportLogsServiceRequest::decode(message) else {
        let _ = walked(message);
        return Ok(false);
    };
    let (seen, counts) = walked(message).map_err(|e| TestCaseError::fail(format!("refused: {e}")))?;
    prop_assert_eq!(&seen, &told(&decoded));
    let records =
        decoded.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len() as u64);
    let of = |is: fn(&Told) -> bool| seen.iter().filter(|t| is(t)).count() as u64;
    prop_assert_eq!(counts.records, records.sum::<u64>());
    prop_assert_eq!(counts.taken, of(|t| matches!(t, Told::Log { .. })));
    prop_assert_eq!(counts.bad_ids, of(|t| *t == Told::DiscardLog(Discard::BadId)));
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

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
    fn damaged_messages_are_read_alike_or_refused(request in request(), seed in any::<u64>()) {
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

fn one(record: &LogRecord) -> Told {
    let scope = ScopeLogs { log_records: vec![record.clone()], ..Default::default() };
    let envelope = ResourceLogs { scope_logs: vec![scope], ..Default::default() };
    let request = ExportLogsServiceRequest { resource_logs: vec![envelope] };
    walked(&request.encode_to_vec()).unwrap().0.pop().unwrap()
}

fn text(name: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: name.into(), value, key_strindex: 0 }
}

#[test]
fn l1_severity_by_number_else_by_text() {
    let taken = |number, text: &str| {
        let told = one(&LogRecord {
            severity_number: number,
            severity_text: text.into(),
            time_unix_nano: 1,
            ..Default::default()
        });
        match told {
            Told::Log { is_error, .. } => Ok(is_error),
            Told::DiscardLog(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    };
    let rows = [
        (17, "", Ok(true)),
        (24, "info", Ok(true)),
        (16, "error", Err(Discard::Severity)),
        (1, "", Err(Discard::Severity)),
        (0, "Error", Ok(true)),
        (0, "ERR", Ok(true)),
        (0, " critical ", Ok(true)),
        (0, "FATAL4", Ok(true)),
        (0, "SEVERE", Ok(true)),
        (0, "emergency", Ok(true)),
        (25, "panic", Ok(true)),
        (-1, "WARNING", Err(Discard::Severity)),
        (0, "Information", Err(Discard::Severity)),
        (0, "errors: none", Err(Discard::NoSeverity)),
        (0, "", Err(Discard::NoSeverity)),
        (0, "7", Err(Discard::NoSeverity)),
    ];
    for (number, text, expected) in rows {
        assert_eq!(taken(number, text), expected, "{number} {text:?}");
    }
}

#[test]
fn l2_time_or_observed_time_and_raw_ids() {
    let error = LogRecord { severity_number: 17, ..Default::default() };
    let at = |time, observed| {
        one(&LogRecord { time_unix_nano: time, observed_time_unix_nano: observed, ..error.clone() })
    };
    assert!(matches!(at(5, 9), Told::Log { time: 5, .. }));
    assert!(matches!(at(0, 9), Told::Log { time: 9, .. }));
    assert_eq!(at(0, 0), Told::DiscardLog(Discard::NoTime));
    // Hex text where raw bytes belong.
    let hex = b"0af7651916cd43dd8448eb211c80319c".to_vec();
    let record = LogRecord { trace_id: hex, time_unix_nano: 5, ..error };
    assert_eq!(one(&record), Told::DiscardLog(Discard::BadId));
}

#[test]
fn l4_an_exception_counts_at_any_severity() {
    let info = LogRecord { severity_number: 9, time_unix_nano: 5, ..Default::default() };
    let thrown = |record: &LogRecord| match one(record) {
        Told::Log { is_error, thrown, .. } => (is_error, thrown.map(|([kind, ..], _)| kind)),
        other => panic!("{other:?}"),
    };
    let typed = LogRecord { attributes: vec![text("exception.type", "E")], ..info.clone() };
    assert_eq!(thrown(&typed), (false, Some(b"E".to_vec())));
    let messaged = LogRecord { attributes: vec![text("exception.message", "m")], ..info.clone() };
    assert_eq!(thrown(&messaged), (false, Some(vec![])));
    let named = LogRecord { event_name: "db.client.operation.exception".into(), ..info.clone() };
    assert_eq!(thrown(&named), (false, Some(vec![])));
    let older = LogRecord { attributes: vec![text("event.name", "exception")], ..info.clone() };
    assert_eq!(thrown(&older), (false, Some(vec![])));
    let empty = LogRecord { attributes: vec![text("exception.type", "")], ..info };
    assert_eq!(one(&empty), Told::DiscardLog(Discard::Severity));
}

#[test]
fn the_last_name_of_an_attribute_counts() {
    let value = AnyValue { value: Some(Value::StringValue("E".into())) }.encode_to_vec();
    for filler in [0, 200] {
        let long = AnyValue { value: Some(Value::StringValue("x".repeat(filler))) }.encode_to_vec();
        let attribute =
            [field(1, b"other"), field(2, &long), field(1, b"exception.type"), field(2, &value)].concat();
        let record = LogRecord { severity_number: 9, time_unix_nano: 5, ..Default::default() };
        let record = [record.encode_to_vec(), field(6, &attribute)].concat();
        let message = field(1, &field(2, &field(2, &record)));
        let (seen, _) = walked(&message).unwrap();
        assert!(
            matches!(&seen[1], Told::Log { thrown: Some(([kind, ..], _)), .. } if kind == b"E"),
            "{seen:?}"
        );
    }
}

#[test]
fn the_resource_may_follow_its_records_and_is_not_resolved_for_nothing() {
    let record = |severity_number| LogRecord { severity_number, time_unix_nano: 1, ..Default::default() };
    let message = |severity| {
        let logs = ScopeLogs { log_records: vec![record(severity)], ..Default::default() };
        let envelope = [field(2, &logs.encode_to_vec()), field(1, &service("late").encode_to_vec())].concat();
        field(1, &envelope)
    };
    let (seen, _) = walked(&message(17)).unwrap();
    assert!(matches!(&seen[0], Told::Resource { texts, .. } if texts[1] == b"late"));
    assert_eq!(walked(&message(9)).unwrap().0, [Told::DiscardLog(Discard::Severity)]);
}
