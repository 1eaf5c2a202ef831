//! The trace messages as JSON has them, and their way into protobuf. All fields are kept, for the result is
//! also what is forwarded.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1 as resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use serde::Deserialize;

use super::fields::{Base64, Double, Whole, id, list, span_kind, status_code, text, whole};

#[derive(Deserialize)]
pub(super) struct Request {
    #[serde(default, rename = "resourceSpans", alias = "resource_spans", deserialize_with = "list")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ResourceSpans {
    resource: Option<Resource>,
    #[serde(alias = "scope_spans", deserialize_with = "list")]
    scope_spans: Vec<ScopeSpans>,
    #[serde(alias = "schema_url", deserialize_with = "text")]
    schema_url: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resource {
    #[serde(deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(alias = "dropped_attributes_count", deserialize_with = "whole")]
    dropped_attributes_count: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeSpans {
    scope: Option<Scope>,
    #[serde(deserialize_with = "list")]
    spans: Vec<Span>,
    #[serde(alias = "schema_url", deserialize_with = "text")]
    schema_url: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Scope {
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(deserialize_with = "text")]
    version: String,
    #[serde(deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(alias = "dropped_attributes_count", deserialize_with = "whole")]
    dropped_attributes_count: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Span {
    #[serde(alias = "trace_id", deserialize_with = "id")]
    trace_id: Vec<u8>,
    #[serde(alias = "span_id", deserialize_with = "id")]
    span_id: Vec<u8>,
    #[serde(alias = "trace_state", deserialize_with = "text")]
    trace_state: String,
    #[serde(alias = "parent_span_id", deserialize_with = "id")]
    parent_span_id: Vec<u8>,
    #[serde(deserialize_with = "whole")]
    flags: u32,
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(deserialize_with = "span_kind")]
    kind: i32,
    #[serde(alias = "start_time_unix_nano", deserialize_with = "whole")]
    start_time_unix_nano: u64,
    #[serde(alias = "end_time_unix_nano", deserialize_with = "whole")]
    end_time_unix_nano: u64,
    #[serde(deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(alias = "dropped_attributes_count", deserialize_with = "whole")]
    dropped_attributes_count: u32,
    #[serde(deserialize_with = "list")]
    events: Vec<Event>,
    #[serde(alias = "dropped_events_count", deserialize_with = "whole")]
    dropped_events_count: u32,
    #[serde(deserialize_with = "list")]
    links: Vec<Link>,
    #[serde(alias = "dropped_links_count", deserialize_with = "whole")]
    dropped_links_count: u32,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event {
    #[serde(alias = "time_unix_nano", deserialize_with = "whole")]
    time_unix_nano: u64,
    #[serde(deserialize_with = "text")]
    name: String,
    #[serde(deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(alias = "dropped_attributes_count", deserialize_with = "whole")]
    dropped_attributes_count: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Link {
    #[serde(alias = "trace_id", deserialize_with = "id")]
    trace_id: Vec<u8>,
    #[serde(alias = "span_id", deserialize_with = "id")]
    span_id: Vec<u8>,
    #[serde(alias = "trace_state", deserialize_with = "text")]
    trace_state: String,
    #[serde(deserialize_with = "list")]
    attributes: Vec<KeyValue>,
    #[serde(alias = "dropped_attributes_count", deserialize_with = "whole")]
    dropped_attributes_count: u32,
    #[serde(deserialize_with = "whole")]
    flags: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(deserialize_with = "text")]
    message: String,
    #[serde(deserialize_with = "status_code")]
    code: i32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValue {
    #[serde(deserialize_with = "text")]
    key: String,
    value: Option<AnyValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AnyValue {
    #[serde(alias = "string_value")]
    string_value: Option<String>,
    #[serde(alias = "bool_value")]
    bool_value: Option<bool>,
    #[serde(alias = "int_value")]
    int_value: Option<Whole>,
    #[serde(alias = "double_value")]
    double_value: Option<Double>,
    #[serde(alias = "array_value")]
    array_value: Option<ArrayValue>,
    #[serde(alias = "kvlist_value")]
    kvlist_value: Option<KeyValueList>,
    #[serde(alias = "bytes_value")]
    bytes_value: Option<Base64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArrayValue {
    #[serde(deserialize_with = "list")]
    values: Vec<AnyValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValueList {
    #[serde(deserialize_with = "list")]
    values: Vec<KeyValue>,
}

fn all<T, P>(list: Vec<T>, into: impl Fn(T) -> P) -> Vec<P> {
    list.into_iter().map(into).collect()
}

impl Request {
    pub(super) fn into_proto(self) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest { resource_spans: all(self.resource_spans, ResourceSpans::into_proto) }
    }
}

impl ResourceSpans {
    fn into_proto(self) -> trace::ResourceSpans {
        trace::ResourceSpans {
            resource: self.resource.map(|resource| resource::Resource {
                attributes: all(resource.attributes, KeyValue::into_proto),
                dropped_attributes_count: resource.dropped_attributes_count,
                ..Default::default()
            }),
            scope_spans: all(self.scope_spans, ScopeSpans::into_proto),
            schema_url: self.schema_url,
        }
    }
}

impl ScopeSpans {
    fn into_proto(self) -> trace::ScopeSpans {
        trace::ScopeSpans {
            scope: self.scope.map(|scope| common::InstrumentationScope {
                name: scope.name,
                version: scope.version,
                attributes: all(scope.attributes, KeyValue::into_proto),
                dropped_attributes_count: scope.dropped_attributes_count,
            }),
            spans: all(self.spans, Span::into_proto),
            schema_url: self.schema_url,
        }
    }
}

impl Span {
    fn into_proto(self) -> trace::Span {
        trace::Span {
            trace_id: self.trace_id,
            span_id: self.span_id,
            trace_state: self.trace_state,
            parent_span_id: self.parent_span_id,
            flags: self.flags,
            name: self.name,
            kind: self.kind,
            start_time_unix_nano: self.start_time_unix_nano,
            end_time_unix_nano: self.end_time_unix_nano,
            attributes: all(self.attributes, KeyValue::into_proto),
            dropped_attributes_count: self.dropped_attributes_count,
            events: all(self.events, Event::into_proto),
            dropped_events_count: self.dropped_events_count,
            links: all(self.links, Link::into_proto),
            dropped_links_count: self.dropped_links_count,
            status: self.status.map(|status| trace::Status { message: status.message, code: status.code }),
        }
    }
}

impl Event {
    fn into_proto(self) -> trace::span::Event {
        trace::span::Event {
            time_unix_nano: self.time_unix_nano,
            name: self.name,
            attributes: all(self.attributes, KeyValue::into_proto),
            dropped_attributes_count: self.dropped_attributes_count,
        }
    }
}

impl Link {
    fn into_proto(self) -> trace::span::Link {
        trace::span::Link {
            trace_id: self.trace_id,
            span_id: self.span_id,
            trace_state: self.trace_state,
            attributes: all(self.attributes, KeyValue::into_proto),
            dropped_attributes_count: self.dropped_attributes_count,
            flags: self.flags,
        }
    }
}

impl KeyValue {
    fn into_proto(self) -> common::KeyValue {
        common::KeyValue { key: self.key, value: self.value.map(AnyValue::into_proto), key_strindex: 0 }
    }
}

impl AnyValue {
    fn into_proto(self) -> common::AnyValue {
        let value = if let Some(text) = self.string_value {
            Some(Value::StringValue(text))
        } else if let Some(flag) = self.bool_value {
            Some(Value::BoolValue(flag))
        } else if let Some(Whole(number)) = self.int_value {
            // Beyond 64 bits there is no integer in OTLP; the double is the nearest that there is.
            Some(i64::try_from(number).map_or(Value::DoubleValue(number as f64), Value::IntValue))
        } else if let Some(Double(number)) = self.double_value {
            Some(Value::DoubleValue(number))
        } else if let Some(list) = self.array_value {
            let values = all(list.values, Self::into_proto);
            Some(Value::ArrayValue(common::ArrayValue { values }))
        } else if let Some(list) = self.kvlist_value {
            let values = all(list.values, KeyValue::into_proto);
            Some(Value::KvlistValue(common::KeyValueList { values }))
        } else {
            self.bytes_value.map(|Base64(bytes)| Value::BytesValue(bytes))
        };
        common::AnyValue { value }
    }
}
