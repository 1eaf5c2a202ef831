//! A second reading of the same rules, slow and plain, over prost's structs. The walker must see what this
//! sees wherever prost accepts a message.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::super::settings::WalkSettings;
use crate::model::{
    Discard, ExceptionView, LogSink, LogView, Outcome, ResourceView, SamplingWeight, SpanException, SpanSink,
    SpanView, StatusSource,
};

/// What a sink was told, owned.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Resource {
        texts: [Vec<u8>; 5],
        process_id: i64,
        extra: Vec<Vec<u8>>,
        is_function: bool,
    },
    Span {
        operation: Vec<u8>,
        times: (u64, u64),
        outcome: Outcome,
        status: StatusSource,
        weight: SamplingWeight,
        trace_id: Vec<u8>,
    },
    Discard(Discard),
    Exception {
        time: u64,
        ids: [Vec<u8>; 2],
        thrown: Thrown,
    },
    Log {
        time: u64,
        is_error: bool,
        ids: [Vec<u8>; 2],
        thrown: Option<Thrown>,
    },
    DiscardLog(Discard),
}

/// Type, stack, message, and the listed values.
type Thrown = ([Vec<u8>; 3], Vec<(Vec<u8>, Vec<u8>)>);

fn thrown(e: &ExceptionView<'_>) -> Thrown {
    (
        [e.kind, e.stack, e.message].map(<[u8]>::to_vec),
        e.values.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect(),
    )
}

/// Keeps all that it is told.
#[derive(Debug, Default)]
pub(super) struct Recorder(pub(super) Vec<Told>);

impl Recorder {
    fn tell_resource(&mut self, r: &ResourceView<'_>) {
        self.0.push(resource_told(r));
    }
}

impl SpanSink for Recorder {
    fn resource(&mut self, r: &ResourceView<'_>) {
        self.tell_resource(r);
    }

    fn span(&mut self, s: &SpanView<'_>) {
        self.0.push(Told::Span {
            operation: [s.operation_head, s.operation_joint, s.operation_tail].concat(),
            times: (s.start.0, s.end.0),
            outcome: s.outcome,
            status: s.status,
            weight: s.weight,
            trace_id: s.trace_id.to_vec(),
        });
    }

    fn discard(&mut self, reason: Discard) {
        self.0.push(Told::Discard(reason));
    }

    fn exception(&mut self, e: &SpanException<'_>) {
        let ids = [e.trace_id, e.span_id].map(<[u8]>::to_vec);
        self.0.push(Told::Exception { time: e.time.0, ids, thrown: thrown(&e.exception) });
    }
}

impl LogSink for Recorder {
    fn log_resource(&mut self, r: &ResourceView<'_>) {
        self.tell_resource(r);
    }

    fn log(&mut self, l: &LogView<'_>) {
        let ids = [l.trace_id, l.span_id].map(<[u8]>::to_vec);
        let thrown = l.exception.as_ref().map(thrown);
        self.0.push(Told::Log { time: l.time.0, is_error: l.is_error, ids, thrown });
    }

    fn discard_log(&mut self, reason: Discard) {
        self.0.push(Told::DiscardLog(reason));
    }
}

/// A resource, owned.
pub(super) fn resource_told(r: &ResourceView<'_>) -> Told {
    Told::Resource {
        texts: [r.namespace, r.service, r.environment, r.version, r.instance].map(<[u8]>::to_vec),
        process_id: r.process_id,
        extra: r.extra.iter().map(|v| v.to_vec()).collect(),
        is_function: r.is_function,
    }
}

/// What a sink should be told of `request`.
pub(super) fn told(request: &ExportTraceServiceRequest, settings: &WalkSettings) -> Vec<Told> {
    let mut all = Vec::new();
    for envelope in &request.resource_spans {
        let spans: Vec<&Span> = envelope.scope_spans.iter().flat_map(|s| &s.spans).collect();
        if !spans.is_empty() {
            all.push(resource(envelope.resource.as_ref(), settings));
            for s in spans {
                all.push(span(s, settings));
                if matches!(all.last(), Some(Told::Span { .. } | Told::Discard(Discard::Kind))) {
                    all.extend(exceptions(s, settings));
                }
            }
        }
    }
    all
}

/// Attributes by name, the last of each.
#[derive(Clone)]
pub(super) struct Attributes<'a>(HashMap<&'a str, &'a AnyValue>);

impl<'a> Attributes<'a> {
    pub(super) fn new(list: &'a [KeyValue]) -> Self {
        static NOTHING: AnyValue = AnyValue { value: None };
        Self(list.iter().map(|kv| (kv.key.as_str(), kv.value.as_ref().unwrap_or(&NOTHING))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a AnyValue> {
        self.0.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: &'a str, value: &'a AnyValue) {
        self.0.insert(name, value);
    }

    /// Whether there is any value but an empty text.
    pub(super) fn is_present(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| !matches!(value, Value::StringValue(s) if s.is_empty()))
    }

    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        let value = self.0.get(name)?.value.as_ref()?;
        (!matches!(value, Value::StringValueStrindex(_))).then_some(value)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = match self.value(name)? {
            Value::StringValue(s) => s.clone(),
            Value::ArrayValue(list) => match list.values.first()?.value.as_ref()? {
                Value::StringValue(s) => s.clone(),
                _ => return None,
            },
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::IntValue(n) => Some(*n),
            Value::StringValue(s) => s.parse().ok(),
            _ => None,
        }
    }
}

fn exceptions(s: &Span, settings: &WalkSettings) -> Vec<Told> {
    let of = s.events.iter().filter(|e| e.name == "exception" || e.name.ends_with(".exception"));
    let time = |nanos: u64| if nanos == 0 { s.end_time_unix_nano } else { nanos };
    let told = of.filter(|e| time(e.time_unix_nano) > 0).map(|e| Told::Exception {
        time: time(e.time_unix_nano),
        ids: [s.trace_id.clone(), s.span_id.clone()],
        thrown: thrown_by(&e.attributes, settings),
    });
    told.collect()
}

/// What the attributes of a log record or an event say was thrown.
pub(super) fn thrown_by(list: &[KeyValue], settings: &WalkSettings) -> Thrown {
    let a = Attributes::new(list);
    let text = |name: &str| a.text(name).unwrap_or_default().into_bytes();
    // A repeated attribute counts where it stands last.
    let is_listed = |kv: &&(usize, &KeyValue)| settings.evidence_attributes.contains(&kv.1.key);
    let is_last = |i: usize, kv: &KeyValue| !list[i + 1..].iter().any(|later| later.key == kv.key);
    let last = list.iter().enumerate().collect::<Vec<_>>();
    let values = last.iter().filter(is_listed).filter(|(i, kv)| is_last(*i, kv));
    let values = values.map(|(_, kv)| (kv.key.clone().into_bytes(), text(&kv.key)));
    let values = values.filter(|(_, text)| !text.is_empty()).collect();
    (["exception.type", "exception.stacktrace", "exception.message"].map(text), values)
}

/// Whether an attribute is there and no empty text.
pub(super) fn is_present(list: &[KeyValue], name: &str) -> bool {
    Attributes::new(list).value(name).is_some_and(|v| *v != Value::StringValue(String::new()))
}

/// The text of an attribute.
pub(super) fn text_of(list: &[KeyValue], name: &str) -> Option<String> {
    Attributes::new(list).text(name)
}

pub(super) fn resource(resource: Option<&Resource>, settings: &WalkSettings) -> Told {
    let list = resource.map_or(&[][..], |r| &r.attributes);
    let a = Attributes::new(list);
    let first = |names: &[&str]| names.iter().find_map(|n| a.text(n)).unwrap_or_default().into_bytes();
    let either_spelling = |wanted: &str| {
        let older = wanted.replace("k8s.pod.label.", "k8s.pod.labels.");
        // The last of both in the list counts.
        list.iter().rev().find(|kv| kv.key == wanted || kv.key == older).and_then(|kv| a.text(&kv.key))
    };
    let part = |wanted: &String| {
        let text = either_spelling(wanted)?;
        let text = match wanted.as_str() {
            "k8s.replicaset.name" => {
                text.strip_prefix(&format!("{}-", a.text("k8s.deployment.name")?))?.to_owned()
            }
            "container.image.repo_digests" => text.split('@').next_back()?.to_owned(),
            _ => text,
        };
        (!text.is_empty()).then_some(text)
    };
    let version = settings.version_attributes.iter().find_map(|source| {
        part(&source.parts()[0])?;
        Some(source.parts().iter().filter_map(part).collect::<Vec<_>>().join("+"))
    });
    Told::Resource {
        texts: [
            first(&["service.namespace"]),
            a.text("service.name")
                .or_else(|| Some(format!("unknown_service:{}", a.text("process.executable.name")?)))
                .unwrap_or_default()
                .into_bytes(),
            first(&["deployment.environment.name", "deployment.environment"]),
            version.unwrap_or_default().into_bytes(),
            first(&["service.instance.id", "k8s.pod.uid", "container.id", "host.name"]),
        ],
        process_id: a.number("process.pid").unwrap_or(0),
        extra: settings
            .identity_attributes
            .iter()
            .map(|name| either_spelling(name).unwrap_or_default().into_bytes())
            .collect(),
        is_function: list.iter().any(|kv| kv.key.starts_with("faas.")),
    }
}

fn span(s: &Span, settings: &WalkSettings) -> Told {
    let a = Attributes::new(&s.attributes);
    let wrong = |id: &[u8], length| !id.is_empty() && id.len() != length;
    if wrong(&s.trace_id, 16) || wrong(&s.span_id, 8) || wrong(&s.parent_span_id, 8) {
        return Told::Discard(Discard::BadId);
    }
    if s.kind != 2 && s.kind != 5 {
        return Told::Discard(Discard::Kind);
    }
    if s.end_time_unix_nano == 0 {
        return Told::Discard(Discard::NoTime);
    }
    if matches!(a.text("user_agent.synthetic.type").as_deref(), Some("bot" | "test")) {
        return Told::Discard(Discard::Synthetic);
    }
    let place = ["http.route", "url.path", "http.target"].iter().find_map(|n| a.text(n));
    let place =
        place.map_or_else(|| rpc(&a).unwrap_or_default(), |p| p.split('?').next().unwrap().to_owned());
    let is_health = settings.health_routes.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => place.starts_with(prefix),
        None => place == *pattern,
    });
    if !place.is_empty() && is_health {
        return Told::Discard(Discard::Health);
    }
    let (outcome, status) = outcome(&a, s.status.as_ref().map_or(0, |s| s.code));
    Told::Span {
        operation: operation(&a, &s.name).into_bytes(),
        times: (s.start_time_unix_nano, s.end_time_unix_nano),
        outcome,
        status,
        weight: super::sampling_weight(s.trace_state.as_bytes(), &s.trace_id),
        trace_id: s.trace_id.clone(),
    }
}

pub(super) fn rpc(a: &Attributes<'_>) -> Option<String> {
    let method = a.text("rpc.method")?;
    match a.text("rpc.service") {
        Some(service) if !method.contains('/') => Some(format!("{service}/{method}")),
        _ => Some(method),
    }
}

pub(super) fn operation(a: &Attributes<'_>, name: &str) -> String {
    let first = |names: &[&str]| names.iter().find_map(|n| a.text(n));
    if let Some(route) = a.text("http.route") {
        return match first(&["http.request.method", "http.method"]) {
            Some(method) => format!("{method} {route}"),
            None => route,
        };
    }
    if let Some(rpc) = rpc(a) {
        return rpc;
    }
    let Some(destination) = first(&["messaging.destination.template", "messaging.destination.name"]) else {
        return name.to_owned();
    };
    match first(&["messaging.operation.name", "messaging.operation.type", "messaging.operation"]) {
        Some(action) => format!("{action} {destination}"),
        None => destination,
    }
}

pub(super) fn outcome(a: &Attributes<'_>, status_code: i32) -> (Outcome, StatusSource) {
    let http = ["http.response.status_code", "http.status_code"]
        .iter()
        .find_map(|n| a.number(n).filter(|code| *code >= 100));
    let rpc_names =
        ["rpc.status_code", "rpc.response.status_code", "rpc.grpc.status_code", "rpc.connect_rpc.error_code"];
    let rpc = rpc_names.iter().find_map(|n| match a.value(n)? {
        Value::IntValue(n) => Some(n.to_string()),
        _ => a.text(n),
    });
    let source =
        if http.or(rpc.as_ref().map(|_| 0)).is_some() { StatusSource::Code } else { StatusSource::None };
    let by_error_type = || match a.value("error.type") {
        None => Outcome::Good,
        Some(Value::StringValue(s)) if s.is_empty() => Outcome::Good,
        Some(_) => Outcome::Bad,
    };
    let decided = match (status_code, http, rpc) {
        (2, ..) => Outcome::Bad,
        (1, ..) => Outcome::Good,
        (_, Some(500..), _) => Outcome::Bad,
        (_, Some(404 | 429 | 499), _) => Outcome::Good,
        (_, Some(400..), _) => Outcome::ClientError,
        (_, Some(_), _) => Outcome::Good,
        (_, None, Some(code)) => match code.to_uppercase().as_str() {
            "2" | "4" | "12" | "13" | "14" | "15" | "UNKNOWN" | "DEADLINE_EXCEEDED" | "UNIMPLEMENTED"
            | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS" => Outcome::Bad,
            "0" | "1" | "8" | "OK" | "CANCELLED" | "RESOURCE_EXHAUSTED" => Outcome::Good,
            "3"
            | "5"
            | "6"
            | "7"
            | "9"
            | "10"
            | "11"
            | "16"
            | "INVALID_ARGUMENT"
            | "NOT_FOUND"
            | "ALREADY_EXISTS"
            | "PERMISSION_DENIED"
            | "FAILED_PRECONDITION"
            | "ABORTED"
            | "OUT_OF_RANGE"
            | "UNAUTHENTICATED" => Outcome::ClientError,
            _ => by_error_type(),
        },
        _ => by_error_type(),
    };
    (decided, source)
}
