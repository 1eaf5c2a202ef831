//! Against an oracle that shares nothing with us: any message, written as JSON by the types of
//! `opentelemetry-proto` and read back here, is the same message in protobuf. Then the same text in other
//! spellings, and damaged.

use fastrand::Rng;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{self as metrics, Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message;
use serde_json::Value;

use super::*;

/// Makes messages by throwing dice; every field is there now and then, at its default and at its limits.
struct Maker(Rng);

impl Maker {
    fn list<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.0.usize(..=most)).map(|_| one(self)).collect()
    }

    fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.0.bool().then(|| one(self))
    }

    fn text(&mut self) -> String {
        let texts = ["", "a", "GET /cart", "\"\\\n\u{1}", "größe 😀", "NaN", "null", "0", "{[", "x_y"];
        match self.0.usize(..20) {
            n if n < texts.len() => texts[n].to_owned(),
            _ => "long ".repeat(self.0.usize(..80)),
        }
    }

    fn id(&mut self, length: usize) -> Vec<u8> {
        let length = if self.0.u8(..4) == 0 { 0 } else { length };
        (0..length).map(|_| self.0.u8(..)).collect()
    }

    fn u64(&mut self) -> u64 {
        *self.0.choice(&[0, 1, 127, 128, u64::MAX, 1_700_000_000_000_000_001, 1 << 53]).unwrap()
    }

    fn u32(&mut self) -> u32 {
        *self.0.choice(&[0, 1, 300, u32::MAX]).unwrap()
    }

    fn i32(&mut self) -> i32 {
        *self.0.choice(&[0, 1, -1, 20, -10, i32::MAX, i32::MIN]).unwrap()
    }

    fn i64(&mut self) -> i64 {
        *self.0.choice(&[0, -1, 1, i64::MAX, i64::MIN, 1 << 53]).unwrap()
    }

    fn f64(&mut self) -> f64 {
        // Few digits: `respelled` goes through serde_json, which reads others to the nearest but one.
        let odd = [0.0, 0.1, -1.5, 2.5e-3, 1e15];
        if self.0.bool() { *self.0.choice(&odd).unwrap() } else { f64::from(self.0.i32(..)) / 64.0 }
    }

    fn any(&mut self, depth: u32) -> AnyValue {
        let value = match self.0.u32(..if depth == 0 { 7 } else { 9 }) {
            0 => None,
            1 => Some(Any::StringValue(self.text())),
            2 => Some(Any::BoolValue(self.0.bool())),
            3 => Some(Any::IntValue(self.i64())),
            4 => Some(Any::DoubleValue(self.f64())),
            5 => Some(Any::BytesValue(self.id(5))),
            6 => Some(Any::StringValueStrindex(self.i32())),
            7 => {
                let values = self.list(3, |m| m.any(depth - 1));
                Some(Any::ArrayValue(ArrayValue { values }))
            }
            _ => {
                let values = self.list(3, |m| m.key_value(depth - 1));
                Some(Any::KvlistValue(KeyValueList { values }))
            }
        };
        AnyValue { value }
    }

    fn key_value(&mut self, depth: u32) -> KeyValue {
        let value = self.maybe(|m| m.any(depth));
        KeyValue { key: self.text(), value, key_strindex: if self.0.u8(..4) == 0 { self.i32() } else { 0 } }
    }

    fn attributes(&mut self) -> Vec<KeyValue> {
        self.list(3, |m| m.key_value(2))
    }

    fn resource(&mut self) -> Resource {
        let entity_refs = self.list(2, |m| EntityRef {
            schema_url: m.text(),
            r#type: m.text(),
            id_keys: m.list(2, Self::text),
            description_keys: m.list(2, Self::text),
        });
        Resource { attributes: self.attributes(), dropped_attributes_count: self.u32(), entity_refs }
    }

    fn scope(&mut self) -> InstrumentationScope {
        InstrumentationScope {
            name: self.text(),
            version: self.text(),
            attributes: self.attributes(),
            dropped_attributes_count: self.u32(),
        }
    }

    fn span(&mut self) -> Span {
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.text(),
            parent_span_id: self.id(8),
            flags: self.u32(),
            name: self.text(),
            kind: self.0.i32(0..7),
            start_time_unix_nano: self.u64(),
            end_time_unix_nano: self.u64(),
            attributes: self.attributes(),
            dropped_attributes_count: self.u32(),
            events: self.list(2, |m| Event {
                time_unix_nano: m.u64(),
                name: m.text(),
                attributes: m.attributes(),
                dropped_attributes_count: m.u32(),
            }),
            dropped_events_count: self.u32(),
            links: self.list(2, |m| Link {
                trace_id: m.id(16),
                span_id: m.id(8),
                trace_state: m.text(),
                attributes: m.attributes(),
                dropped_attributes_count: m.u32(),
                flags: m.u32(),
            }),
            dropped_links_count: self.u32(),
            status: self.maybe(|m| Status { message: m.text(), code: m.0.i32(0..3) }),
        }
    }

    fn traces(&mut self) -> ExportTraceServiceRequest {
        let resource_spans = self.list(2, |m| ResourceSpans {
            resource: m.maybe(Self::resource),
            scope_spans: m.list(2, |m| ScopeSpans {
                scope: m.maybe(Self::scope),
                spans: m.list(3, Self::span),
                schema_url: m.text(),
            }),
            schema_url: m.text(),
        });
        ExportTraceServiceRequest { resource_spans }
    }

    fn logs(&mut self) -> ExportLogsServiceRequest {
        let record = |m: &mut Self| LogRecord {
            time_unix_nano: m.u64(),
            observed_time_unix_nano: m.u64(),
            severity_number: m.0.i32(0..26),
            severity_text: m.text(),
            body: m.maybe(|m| m.any(3)),
            attributes: m.attributes(),
            dropped_attributes_count: m.u32(),
            flags: m.u32(),
            trace_id: m.id(16),
            span_id: m.id(8),
            event_name: m.text(),
        };
        let resource_logs = self.list(2, |m| ResourceLogs {
            resource: m.maybe(Self::resource),
            scope_logs: m.list(2, |m| ScopeLogs {
                scope: m.maybe(Self::scope),
                log_records: m.list(3, record),
                schema_url: m.text(),
            }),
            schema_url: m.text(),
        });
        ExportLogsServiceRequest { resource_logs }
    }

    fn metrics(&mut self) -> ExportMetricsServiceRequest {
        let resource_metrics = self.list(2, |m| ResourceMetrics {
            resource: m.maybe(Self::resource),
            scope_metrics: m.list(2, |m| ScopeMetrics {
                scope: m.maybe(Self::scope),
                metrics: m.list(3, Self::metric),
                schema_url: m.text(),
            }),
            schema_url: m.text(),
        });
        ExportMetricsServiceRequest { resource_metrics }
    }

    fn metric(&mut self) -> Metric {
        let temporality = self.0.i32(0..3);
        let data = match self.0.u32(..6) {
            0 => Data::Gauge(metrics::Gauge { data_points: self.list(3, Self::number_point) }),
            1 => Data::Sum(metrics::Sum {
                data_points: self.list(3, Self::number_point),
                aggregation_temporality: temporality,
                is_monotonic: self.0.bool(),
            }),
            2 => Data::Histogram(metrics::Histogram {
                data_points: self.list(3, Self::histogram_point),
                aggregation_temporality: temporality,
            }),
            3 => Data::ExponentialHistogram(metrics::ExponentialHistogram {
                data_points: self.list(3, Self::exponential_point),
                aggregation_temporality: temporality,
            }),
            4 => Data::Summary(metrics::Summary { data_points: self.list(3, Self::summary_point) }),
            _ => return Metric { name: self.text(), ..Metric::default() },
        };
        Metric {
            name: self.text(),
            description: self.text(),
            unit: self.text(),
            metadata: self.attributes(),
            data: Some(data),
        }
    }

    fn number_point(&mut self) -> metrics::NumberDataPoint {
        use metrics::number_data_point::Value;
        metrics::NumberDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.u64(),
            time_unix_nano: self.u64(),
            exemplars: self.list(2, Self::exemplar),
            flags: self.u32(),
            value: match self.0.u32(..3) {
                0 => None,
                1 => Some(Value::AsDouble(self.f64())),
                _ => Some(Value::AsInt(self.i64())),
            },
        }
    }

    fn exemplar(&mut self) -> metrics::Exemplar {
        use metrics::exemplar::Value;
        metrics::Exemplar {
            filtered_attributes: self.attributes(),
            time_unix_nano: self.u64(),
            span_id: self.id(8),
            trace_id: self.id(16),
            value: match self.0.u32(..3) {
                0 => None,
                1 => Some(Value::AsDouble(self.f64())),
                _ => Some(Value::AsInt(self.i64())),
            },
        }
    }

    fn histogram_point(&mut self) -> metrics::HistogramDataPoint {
        metrics::HistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.u64(),
            time_unix_nano: self.u64(),
            count: self.u64(),
            sum: self.maybe(Self::f64),
            bucket_counts: self.list(20, Self::u64),
            explicit_bounds: self.list(20, Self::f64),
            exemplars: self.list(2, Self::exemplar),
            flags: self.u32(),
            min: self.maybe(Self::f64),
            max: self.maybe(Self::f64),
        }
    }

    fn exponential_point(&mut self) -> metrics::ExponentialHistogramDataPoint {
        let buckets = |m: &mut Self| Buckets { offset: m.i32(), bucket_counts: m.list(20, Self::u64) };
        metrics::ExponentialHistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.u64(),
            time_unix_nano: self.u64(),
            count: self.u64(),
            sum: self.maybe(Self::f64),
            scale: self.i32(),
            zero_count: self.u64(),
            positive: self.maybe(buckets),
            negative: self.maybe(buckets),
            flags: self.u32(),
            exemplars: self.list(2, Self::exemplar),
            min: self.maybe(Self::f64),
            max: self.maybe(Self::f64),
            zero_threshold: self.f64(),
        }
    }

    fn summary_point(&mut self) -> metrics::SummaryDataPoint {
        metrics::SummaryDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.u64(),
            time_unix_nano: self.u64(),
            count: self.u64(),
            sum: self.f64(),
            quantile_values: self.list(3, |m| ValueAtQuantile { quantile: m.f64(), value: m.f64() }),
            flags: self.u32(),
        }
    }
}

/// The same JSON as another sender might write it: keys in snake_case, entries in another order, numbers in
/// quotes or out of them, `null` for what is empty, keys that nobody knows.
fn respelled(value: Value, random: &mut Rng) -> Value {
    match value {
        Value::Array(items) if items.is_empty() && random.bool() => Value::Null,
        Value::Array(items) => Value::Array(items.into_iter().map(|item| respelled(item, random)).collect()),
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.into_iter().collect();
            random.shuffle(&mut entries);
            let mut object = serde_json::Map::new();
            if random.u8(..4) == 0 {
                object.insert("notKnown".into(), serde_json::json!([{ "name": "x" }, null, 1.5e3]));
            }
            for (key, value) in entries {
                let is_text = value.is_string();
                let mut value = respelled(value, random);
                if let Value::Number(number) = &value
                    && random.bool()
                {
                    value = Value::String(number.to_string());
                } else if key.ends_with("UnixNano")
                    && is_text
                    && random.bool()
                    && let Some(number) = value.as_str().and_then(|text| text.parse::<u64>().ok())
                {
                    value = number.into();
                }
                object.insert(if random.bool() { snake_case(&key) } else { key }, value);
            }
            Value::Object(object)
        }
        scalar => scalar,
    }
}

fn snake_case(key: &str) -> String {
    let letters = key.chars().flat_map(|c| {
        let mark = c.is_ascii_uppercase().then_some('_');
        mark.into_iter().chain([c.to_ascii_lowercase()])
    });
    letters.collect()
}

fn agrees<M>(signal: Signal, message: &M, random: &mut Rng) -> Result<(), TestCaseError>
where
    M: Message + Default + serde::Serialize + PartialEq,
{
    let expected = message.encode_to_vec();
    let json = serde_json::to_vec(message).unwrap();
    let other = serde_json::to_vec(&respelled(serde_json::from_slice(&json).unwrap(), random)).unwrap();
    for json in [&json, &other] {
        let text = String::from_utf8_lossy(json);
        let read = request_from_json(signal, json, usize::MAX);
        let read = read.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        // Fields stand in the order of the text; prost puts them in the order of their numbers.
        let decoded = M::decode(read.as_slice()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(decoded.encode_to_vec() == expected && read.len() == expected.len(), "{text}");
    }
    for _ in 0..20 {
        damaged(signal, &other, random);
    }
    Ok(())
}

/// Whatever is done to the text, reading it ends, without a panic.
fn damaged(signal: Signal, json: &[u8], random: &mut Rng) {
    let mut json = json.to_vec();
    let at = random.usize(..json.len());
    match random.u32(..5) {
        0 => json[at] = random.u8(..),
        1 => json.truncate(at),
        2 => drop(json.remove(at)),
        3 => json.insert(at, *random.choice(b"{}[]\",:\\0-eE.nNtu").unwrap()),
        _ => json[at] ^= 1 << random.u32(..8),
    }
    let _ = request_from_json(signal, &json, 1 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn traces_are_read_as_they_were_written(seed in any::<u64>()) {
        let mut maker = Maker(Rng::with_seed(seed));
        let message = maker.traces();
        agrees(Signal::Traces, &message, &mut maker.0)?;
    }

    #[test]
    fn metrics_are_read_as_they_were_written(seed in any::<u64>()) {
        let mut maker = Maker(Rng::with_seed(seed));
        let message = maker.metrics();
        agrees(Signal::Metrics, &message, &mut maker.0)?;
    }

    #[test]
    fn logs_are_read_as_they_were_written(seed in any::<u64>()) {
        let mut maker = Maker(Rng::with_seed(seed));
        let message = maker.logs();
        agrees(Signal::Logs, &message, &mut maker.0)?;
    }
}
