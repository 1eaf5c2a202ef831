//! R7: variants of feature flags as parts of the version of a request.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span::Event};
use prost::Message;

use crate::model::{Discard, ResourceView, SpanSink, SpanView, ToldBy};
use crate::receiver::settings::{VersionSource, WalkSettings};
use crate::receiver::walk::walk_traces;

/// The version of each request, and what named it.
#[derive(Default)]
struct Versions {
    current: String,
    requests: Vec<String>,
    told: Vec<(String, ToldBy, u64)>,
}

impl SpanSink for Versions {
    fn resource(&mut self, resource: &ResourceView<'_>) {
        self.current = format!("{} by {}", String::from_utf8_lossy(resource.version), resource.version_from);
    }
    fn span(&mut self, _: &SpanView<'_>) {
        self.requests.push(self.current.clone());
    }
    fn discard(&mut self, _: Discard) {}
    fn sender_of_spans(&mut self, resource: &ResourceView<'_>, _: u64) {
        assert_eq!(resource.version, b"1.4");
    }
    fn flag_told(&mut self, flag: &str, by: ToldBy, spans: u64) {
        self.told.push((flag.to_owned(), by, spans));
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<KeyValue> {
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.into())) });
    list.iter()
        .map(|(key, value)| KeyValue { key: (*key).into(), value: text(value), key_strindex: 0 })
        .collect()
}

fn request(attributes: &[(&str, &str)], events: &[(&str, &[(&str, &str)])]) -> Span {
    let events = events.iter().map(|(name, attributes)| Event {
        name: (*name).into(),
        attributes: pairs(attributes),
        ..Event::default()
    });
    Span {
        kind: 2,
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        attributes: pairs(attributes),
        events: events.collect(),
        ..Span::default()
    }
}

fn seen(sources: &[&str], spans: Vec<Span>) -> Versions {
    let resource = Resource { attributes: pairs(&[("service.version", "1.4")]), ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    let version_attributes = sources.iter().map(|source| VersionSource::new(source)).collect();
    let settings = WalkSettings { version_attributes, ..WalkSettings::default() };
    let mut seen = Versions::default();
    walk_traces(&ExportTraceServiceRequest { resource_spans }.encode_to_vec(), &settings, &mut seen).unwrap();
    seen
}

fn versions(sources: &[&str], spans: Vec<Span>) -> Vec<String> {
    seen(sources, spans).requests
}

#[test]
fn r7_spans_that_tell_of_a_named_flag_are_counted_once_each_by_what_they_are() {
    let pay: &[(&str, &str)] = &[("feature_flag.key", "pay"), ("feature_flag.result.variant", "on")];
    let other: &[(&str, &str)] = &[("feature_flag.key", "other"), ("feature_flag.result.variant", "on")];
    let event = "feature_flag.evaluation";
    let inner = |kind, span: Span| Span { kind, ..span };
    let spans = vec![
        request(pay, &[(event, pay), (event, pay)]),
        request(&[], &[(event, other)]),
        inner(1, request(&[], &[(event, pay), (event, pay)])),
        inner(3, request(&[("feature_flag.pay", "off"), ("feature_flag.search", "b")], &[])),
        inner(1, request(&[], &[("login", pay)])),
        // A span without a time is not counted as a request.
        Span { end_time_unix_nano: 0, ..request(pay, &[]) },
    ];
    let told = |flag: &str, by, spans| (flag.to_owned(), by, spans);
    let sources = ["service.version+feature_flag.pay+feature_flag.search", "feature_flag.pay"];
    assert_eq!(
        seen(&sources, spans.clone()).told,
        [
            told("pay", ToldBy::Request, 1),
            told("pay", ToldBy::OtherSpan, 2),
            told("search", ToldBy::OtherSpan, 1)
        ]
    );
    assert_eq!(seen(&["service.version"], spans).told, []);
}

#[test]
fn r7_the_variant_of_a_named_flag_is_a_part_of_the_version_of_its_request() {
    const NEW: &[(&str, &str)] = &[("feature_flag.key", "pay"), ("feature_flag.result.variant", "on")];
    const OLD: &[(&str, &str)] = &[("feature_flag.key", "pay"), ("feature_flag.variant", "off")];
    const OTHER: &[(&str, &str)] = &[("feature_flag.key", "search"), ("feature_flag.result.variant", "b")];
    const NONE: &[(&str, &str)] = &[("feature_flag.key", "pay"), ("feature_flag.result.variant", "")];
    let (event, legacy) = ("feature_flag.evaluation", "feature_flag");
    let rows: Vec<(Span, &str)> = vec![
        (request(&[], &[(event, NEW)]), "1.4+on"),
        (request(&[], &[(legacy, OLD)]), "1.4+off"),
        (request(&[], &[(event, OTHER), (event, NEW), (event, OTHER)]), "1.4+on"),
        // The last one counts, and the span's own attributes before events.
        (request(&[], &[(event, OLD), (event, NEW)]), "1.4+on"),
        (request(OLD, &[(event, NEW)]), "1.4+off"),
        (request(&[("feature_flag.pay", "on")], &[]), "1.4+on"),
        // Nothing of it, another flag, no variant, an event of another name.
        (request(&[("http.route", "/")], &[]), "1.4"),
        (request(OTHER, &[(event, OTHER)]), "1.4"),
        (request(&[], &[(event, NONE)]), "1.4"),
        (request(&[], &[("message", NEW)]), "1.4"),
    ];
    let source = "service.version+feature_flag.pay";
    let expected: Vec<String> = rows.iter().map(|(_, version)| format!("{version} by {source}")).collect();
    let spans: Vec<Span> = rows.into_iter().map(|(span, _)| span).collect();
    assert_eq!(versions(&[source], spans.clone()), expected);
    // Where no flag is asked for, none is read.
    assert!(versions(&["service.version"], spans).iter().all(|seen| seen == "1.4 by service.version"));
}

#[test]
fn r7_a_variant_alone_may_be_the_version() {
    let evaluated: &[(&str, &str)] = &[("feature_flag.key", "pay"), ("feature_flag.result.variant", "on")];
    let spans = vec![request(evaluated, &[]), request(&[], &[])];
    let seen = versions(&["feature_flag.pay", "service.version"], spans);
    assert_eq!(seen, ["on by feature_flag.pay", "1.4 by service.version"]);
}
