//! Cutting against two oracles: the same message built without the records, byte for byte, and prost.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, metric::Data};
use proptest::prelude::*;
use prost::Message;

use super::*;

/// A message as its parts in order: what is kept whatever happens, and messages within.
#[derive(Debug, Clone)]
enum Part {
    Bytes(Vec<u8>),
    Field { number: u32, long_key: bool, is_bad: bool, parts: Vec<Part> },
}

/// The bytes, with or without what is bad.
fn build(parts: &[Part], with_bad: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => out.extend(bytes),
            Part::Field { is_bad: true, .. } if !with_bad => {}
            Part::Field { number, long_key, parts, .. } => {
                let key = at(*number);
                if *long_key && key < 0x80 {
                    out.extend([key as u8 | 0x80, 0]);
                } else {
                    encode_varint(u64::from(key), &mut out);
                }
                let content = build(parts, with_bad);
                encode_varint(content.len() as u64, &mut out);
                out.extend(content);
            }
        }
    }
    out
}

fn bytes_field(number: u32, content: &[u8]) -> Vec<u8> {
    build(&[field(number, vec![Part::Bytes(content.to_vec())])], true)
}

fn field(number: u32, parts: Vec<Part>) -> Part {
    Part::Field { number, long_key: false, is_bad: false, parts }
}

/// A field that no version of OTLP has.
fn unknown() -> impl Strategy<Value = Part> {
    let fields: [&[u8]; 4] = [
        &[0xa8, 0x06, 0x80, 0x01],
        &[0xa2, 0x06, 2, 9, 9],
        &[0xa3, 0x06, 0x08, 1, 0xa4, 0x06],
        &[0xa5, 0x06, 1, 2, 3, 4],
    ];
    prop::sample::select(fields.to_vec()).prop_map(|bytes| Part::Bytes(bytes.to_vec()))
}

/// An id field, perhaps twice, and whether what counts of it is wrong.
fn id((number, right): (u32, usize)) -> impl Strategy<Value = (Vec<u8>, bool)> {
    let length = prop_oneof![6 => Just(right), 2 => Just(0), 1 => 1usize..20];
    prop::collection::vec(length, 0..3).prop_map(move |lengths| {
        let wrong = lengths.last().is_some_and(|length| *length != 0 && *length != right);
        let bytes = lengths.into_iter().flat_map(|length| bytes_field(number, &vec![7; length]));
        (bytes.collect(), wrong)
    })
}

/// A message with these ids and `inner` messages, in any order with unknown fields between.
fn with_ids(
    number: u32,
    ids: &'static [(u32, usize)],
    inner: impl Strategy<Value = Vec<Part>>,
) -> impl Strategy<Value = Part> {
    let ids: Vec<_> = ids.iter().map(|one| id(*one)).collect();
    let unknowns = prop::collection::vec(unknown(), 0..2);
    (ids, unknowns, inner, any::<bool>()).prop_flat_map(move |(ids, unknowns, inner, long_key)| {
        let is_bad = ids.iter().any(|(_, wrong)| *wrong);
        let ids = ids.into_iter().map(|(bytes, _)| Part::Bytes(bytes));
        let parts: Vec<Part> = ids.chain(unknowns).chain(inner).collect();
        Just(parts).prop_shuffle().prop_map(move |parts| Part::Field { number, long_key, is_bad, parts })
    })
}

fn list(one: impl Strategy<Value = Part>, most: usize) -> impl Strategy<Value = Vec<Part>> {
    (prop::collection::vec(one, 0..most), prop::collection::vec(unknown(), 0..2)).prop_flat_map(
        |(mut parts, unknowns)| {
            parts.extend(unknowns);
            Just(parts).prop_shuffle()
        },
    )
}

/// Around each of `numbers`, from the innermost, a list of such messages.
fn around(inner: BoxedStrategy<Vec<Part>>, numbers: &[u32]) -> BoxedStrategy<Vec<Part>> {
    numbers.iter().fold(inner, |inner, number| {
        let number = *number;
        list(
            (inner, any::<bool>()).prop_map(move |(parts, long_key)| Part::Field {
                number,
                long_key,
                is_bad: false,
                parts,
            }),
            3,
        )
        .boxed()
    })
}

fn traces() -> impl Strategy<Value = Vec<Part>> {
    let link = with_ids(13, &[(1, 16), (2, 8)], Just(vec![]));
    let span = with_ids(2, &[(1, 16), (2, 8), (4, 8)], list(link, 3));
    around(list(span, 4).boxed(), &[2, 1])
}

fn logs() -> impl Strategy<Value = Vec<Part>> {
    let record = with_ids(2, &[(9, 16), (10, 8)], Just(vec![]));
    around(list(record, 4).boxed(), &[2, 1])
}

fn metrics() -> impl Strategy<Value = Vec<Part>> {
    // Sum, histogram, exponential histogram; and where each has its exemplars.
    let metric = prop_oneof![Just((7, 5)), Just((5, 5)), Just((9, 8)), Just((10, 11))].prop_flat_map(
        |(data, exemplars)| {
            let exemplar = with_ids(exemplars, &[(4, 8), (5, 16)], Just(vec![]));
            around(list(exemplar, 3).boxed(), &[1, data])
        },
    );
    around(metric.boxed(), &[2, 2, 1])
}

fn count(parts: &[Part]) -> u64 {
    let of = |part: &Part| match part {
        Part::Bytes(_) => 0,
        Part::Field { is_bad: true, .. } => 1,
        Part::Field { parts, .. } => count(parts),
    };
    parts.iter().map(of).sum()
}

fn agrees(signal: Signal, parts: &[Part]) -> Result<(Vec<u8>, Vec<u8>), TestCaseError> {
    let (before, after) = (build(parts, true), build(parts, false));
    let found = bad_ids(signal, &before);
    prop_assert_eq!(found.records + found.parts, count(parts));
    let cut = without_bad_ids(signal, &before);
    prop_assert_eq!(&cut, &after);
    prop_assert!(bad_ids(signal, &cut).is_empty());
    Ok((before, cut))
}

fn fits(id: &[u8], length: usize) -> bool {
    id.is_empty() || id.len() == length
}

fn exemplars_of(data: &mut Data) -> Vec<&mut Vec<Exemplar>> {
    match data {
        Data::Gauge(d) => d.data_points.iter_mut().map(|p| &mut p.exemplars).collect(),
        Data::Sum(d) => d.data_points.iter_mut().map(|p| &mut p.exemplars).collect(),
        Data::Histogram(d) => d.data_points.iter_mut().map(|p| &mut p.exemplars).collect(),
        Data::ExponentialHistogram(d) => d.data_points.iter_mut().map(|p| &mut p.exemplars).collect(),
        Data::Summary(_) => vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn g11_s8_spans_and_links_with_bad_ids_are_cut_and_nothing_else(parts in traces()) {
        let (before, cut) = agrees(Signal::Traces, &parts)?;
        let mut expected = ExportTraceServiceRequest::decode(&before[..]).unwrap();
        for scope in expected.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans) {
            scope.spans.retain(|s| {
                fits(&s.trace_id, 16) && fits(&s.span_id, 8) && fits(&s.parent_span_id, 8)
            });
            for span in &mut scope.spans {
                span.links.retain(|l| fits(&l.trace_id, 16) && fits(&l.span_id, 8));
            }
        }
        prop_assert_eq!(ExportTraceServiceRequest::decode(&cut[..]).unwrap(), expected);
    }

    #[test]
    fn g11_log_records_with_bad_ids_are_cut_and_nothing_else(parts in logs()) {
        let (before, cut) = agrees(Signal::Logs, &parts)?;
        let mut expected = ExportLogsServiceRequest::decode(&before[..]).unwrap();
        for scope in expected.resource_logs.iter_mut().flat_map(|r| &mut r.scope_logs) {
            scope.log_records.retain(|r| fits(&r.trace_id, 16) && fits(&r.span_id, 8));
        }
        prop_assert_eq!(ExportLogsServiceRequest::decode(&cut[..]).unwrap(), expected);
    }

    #[test]
    fn g11_exemplars_with_bad_ids_are_cut_and_their_points_stay(parts in metrics()) {
        let (before, cut) = agrees(Signal::Metrics, &parts)?;
        let mut expected = ExportMetricsServiceRequest::decode(&before[..]).unwrap();
        let scopes = expected.resource_metrics.iter_mut().flat_map(|r| &mut r.scope_metrics);
        let data = scopes.flat_map(|s| &mut s.metrics).filter_map(|m| m.data.as_mut());
        for exemplars in data.flat_map(exemplars_of) {
            exemplars.retain(|e| fits(&e.trace_id, 16) && fits(&e.span_id, 8));
        }
        prop_assert_eq!(ExportMetricsServiceRequest::decode(&cut[..]).unwrap(), expected);
    }

    /// What is not protobuf costs no panic, and what cannot be read is kept.
    #[test]
    fn damage_is_survived(parts in traces(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut message = build(&parts, true);
        if !message.is_empty() {
            let at = at.index(message.len());
            message[at] = byte;
        }
        for signal in Signal::ALL {
            let cut = without_bad_ids(signal, &message);
            prop_assert!(cut.len() <= message.len());
            if bad_ids(signal, &message).is_empty() {
                prop_assert_eq!(cut, message.clone());
            }
        }
    }
}
