//! OTLP/JSON to protobuf, once, so that everything after it sees one format. Senders differ a lot in what
//! they write, so reading is tolerant: 64-bit numbers as strings or numbers, ids in hex of either case, enums
//! by number or name, keys in lowerCamelCase or snake_case, `null` for anything, unknown keys ignored.

mod fields;
mod traces;

use prost::Message;
use serde_json::Value;

use crate::pipeline::Signal;

/// Deepest nesting of brackets; attributes may nest, and readers recurse.
const DEPTH_MAX: usize = 64;

/// Why JSON cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not what OTLP says.
    #[error("cannot decode the JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Brackets nested too deeply.
    #[error("JSON nested deeper than {DEPTH_MAX} levels")]
    Depth,
}

/// An `ExportTraceServiceRequest` in protobuf from one in JSON, for example a line of the Collector's file
/// exporter.
///
/// # Errors
/// When the text is not JSON, is nested too deeply, or a field has a value it cannot have.
pub fn traces_from_json(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    if is_too_deep(json) {
        return Err(JsonError::Depth);
    }
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(JsonError::Syntax(serde::de::Error::custom("expected an object")));
    }
    let request: traces::Request = match std::str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text)?,
        // Senders do write invalid UTF-8; it costs the characters, not the batch.
        Err(_) => serde_json::from_str(&String::from_utf8_lossy(json))?,
    };
    Ok(request.into_proto().encode_to_vec())
}

/// A request of any signal in protobuf from one in JSON.
pub(super) fn to_protobuf(signal: Signal, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    match signal {
        Signal::Traces => traces_from_json(json),
        Signal::Metrics => {
            Ok(serde_json::from_value::<ExportMetricsServiceRequest>(normalised(json)?)?.encode_to_vec())
        }
        Signal::Logs => {
            Ok(serde_json::from_value::<ExportLogsServiceRequest>(normalised(json)?)?.encode_to_vec())
        }
    }
}

/// Metrics and logs are read by the types of `opentelemetry-proto`, which know one spelling only: without
/// `null`s, keys in lowerCamelCase, enums as numbers.
fn normalised(json: &[u8]) -> Result<Value, JsonError> {
    if is_too_deep(json) {
        return Err(JsonError::Depth);
    }
    let mut value = serde_json::from_str(&String::from_utf8_lossy(json))?;
    normalise(&mut value);
    Ok(value)
}

fn normalise(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(normalise);
        }
        Value::Object(object) => {
            let entries = std::mem::take(object).into_iter().filter(|(_, v)| !v.is_null());
            for (key, mut inner) in entries {
                normalise(&mut inner);
                let key = camel_case(&key);
                if matches!(key.as_str(), "arrayValue" | "kvlistValue")
                    && let Value::Object(list) = &mut inner
                {
                    list.entry("values").or_insert_with(|| Value::Array(Vec::new()));
                }
                if let Some(number) = inner.as_str().and_then(|name| enum_number(&key, name)) {
                    inner = number.into();
                }
                object.insert(key, inner);
            }
        }
        _ => {}
    }
}

fn camel_case(key: &str) -> String {
    let mut words = key.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// Enums of metrics and logs that are written by name.
fn enum_number(key: &str, name: &str) -> Option<i32> {
    use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
    use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
    match key {
        "aggregationTemporality" => AggregationTemporality::from_str_name(name).map(|v| v as i32),
        "severityNumber" => SeverityNumber::from_str_name(name).map(|v| v as i32),
        _ => None,
    }
}

/// Counts brackets outside of strings.
fn is_too_deep(json: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
