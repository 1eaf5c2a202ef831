//! The messages of OTLP as tables: each key with its field number and what its value becomes. What the signals
//! share stands here once.

use crate::pipeline::Signal;

/// A message.
#[derive(Debug)]
pub(super) struct Schema {
    fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// In lowerCamelCase.
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) rule: Rule,
}

/// How often a field occurs, and whether its default is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Once; the default value is the same as none.
    Once,
    /// Once, and presence means something: `optional`, and the members of a `oneof`.
    Present,
    /// A list of messages or strings.
    List,
    /// A list of numbers, packed into one field.
    Packed,
}

/// What a value becomes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Hex.
    Id,
    /// Base64.
    Bytes,
    Bool,
    Double,
    /// `uint32` or `uint64`, as a varint below this.
    Unsigned(u64),
    /// `int32`.
    Int32,
    /// `int64` of a value; beyond 64 bits there is no integer in OTLP, and the double field of this number
    /// gets the nearest that there is.
    Int64OrDouble(u32),
    /// `sint32`.
    Zigzag32,
    /// `fixed32`.
    Fixed32,
    /// `fixed64`.
    Fixed64,
    /// `sfixed64`.
    SignedFixed64,
    /// An enum, by number or name.
    Enum(&'static [(&'static str, i32)]),
    Message(&'static Schema),
}

/// The request of a signal.
pub(super) fn of(signal: Signal) -> &'static Schema {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
    }
}

impl Schema {
    /// The field of a key. Senders write fields in the same order every time, so the search goes on from
    /// `hint`, where the last one was found.
    #[inline]
    pub(super) fn find(&self, key: &str, hint: &mut usize) -> Option<&'static Field> {
        for (n, field) in self.fields.iter().enumerate().skip(*hint) {
            if field.name == key {
                *hint = n + 1;
                return Some(field);
            }
        }
        let before = self.fields.iter().take(*hint);
        let (n, field) = before.enumerate().find(|(_, field)| field.name == key).or_else(|| {
            let mut all = self.fields.iter().enumerate();
            all.find(|(_, field)| key.contains('_') && is_snake_case_of(field.name, key))
        })?;
        *hint = n + 1;
        Some(field)
    }
}

/// Whether `key` is `name` with `_x` for each `X`.
fn is_snake_case_of(name: &str, key: &str) -> bool {
    let parts = name.bytes().flat_map(|letter| match letter {
        b'A'..=b'Z' => [Some(b'_'), Some(letter.to_ascii_lowercase())],
        _ => [Some(letter), None],
    });
    parts.flatten().eq(key.bytes())
}

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind, rule: Rule::Once }
}

/// A message, a member of a `oneof`, or an `optional` number.
const fn present(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind, rule: Rule::Present }
}

const fn list(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind, rule: Rule::List }
}

const fn packed(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind, rule: Rule::Packed }
}

use Kind::{
    Bool, Bytes, Double, Enum, Fixed32, Fixed64, Id, Int32, Int64OrDouble, Message, SignedFixed64, Text,
    Unsigned, Zigzag32,
};

const UINT32: Kind = Unsigned(u32::MAX as u64);
const UINT64: Kind = Unsigned(u64::MAX);

// ---- common.proto, resource.proto ----

static ANY_VALUE: Schema = Schema {
    fields: &[
        present("stringValue", 1, Text),
        present("intValue", 3, Int64OrDouble(4)),
        present("boolValue", 2, Bool),
        present("doubleValue", 4, Double),
        present("arrayValue", 5, Message(&ARRAY_VALUE)),
        present("kvlistValue", 6, Message(&KEY_VALUE_LIST)),
        present("bytesValue", 7, Bytes),
        present("stringValueStrindex", 8, Int32),
    ],
};
static ARRAY_VALUE: Schema = Schema { fields: &[list("values", 1, Message(&ANY_VALUE))] };
static KEY_VALUE_LIST: Schema = Schema { fields: &[list("values", 1, Message(&KEY_VALUE))] };
static KEY_VALUE: Schema = Schema {
    fields: &[one("key", 1, Text), present("value", 2, Message(&ANY_VALUE)), one("keyStrindex", 3, Int32)],
};
static SCOPE: Schema = Schema {
    fields: &[
        one("name", 1, Text),
        one("version", 2, Text),
        list("attributes", 3, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 4, UINT32),
    ],
};
static ENTITY_REF: Schema = Schema {
    fields: &[
        one("schemaUrl", 1, Text),
        one("type", 2, Text),
        list("idKeys", 3, Text),
        list("descriptionKeys", 4, Text),
    ],
};
static RESOURCE: Schema = Schema {
    fields: &[
        list("attributes", 1, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 2, UINT32),
        list("entityRefs", 3, Message(&ENTITY_REF)),
    ],
};

// ---- trace.proto ----

static TRACES: Schema = Schema { fields: &[list("resourceSpans", 1, Message(&RESOURCE_SPANS))] };
static RESOURCE_SPANS: Schema = Schema {
    fields: &[
        present("resource", 1, Message(&RESOURCE)),
        list("scopeSpans", 2, Message(&SCOPE_SPANS)),
        one("schemaUrl", 3, Text),
    ],
};
static SCOPE_SPANS: Schema = Schema {
    fields: &[
        present("scope", 1, Message(&SCOPE)),
        list("spans", 2, Message(&SPAN)),
        one("schemaUrl", 3, Text),
    ],
};
static SPAN: Schema = Schema {
    fields: &[
        one("traceId", 1, Id),
        one("spanId", 2, Id),
        one("traceState", 3, Text),
        one("parentSpanId", 4, Id),
        one("flags", 16, Fixed32),
        one("name", 5, Text),
        one("kind", 6, Enum(&SPAN_KIND)),
        one("startTimeUnixNano", 7, Fixed64),
        one("endTimeUnixNano", 8, Fixed64),
        list("attributes", 9, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 10, UINT32),
        list("events", 11, Message(&EVENT)),
        one("droppedEventsCount", 12, UINT32),
        list("links", 13, Message(&LINK)),
        one("droppedLinksCount", 14, UINT32),
        present("status", 15, Message(&STATUS)),
    ],
};
static EVENT: Schema = Schema {
    fields: &[
        one("timeUnixNano", 1, Fixed64),
        one("name", 2, Text),
        list("attributes", 3, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 4, UINT32),
    ],
};
static LINK: Schema = Schema {
    fields: &[
        one("traceId", 1, Id),
        one("spanId", 2, Id),
        one("traceState", 3, Text),
        list("attributes", 4, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 5, UINT32),
        one("flags", 6, Fixed32),
    ],
};
static STATUS: Schema = Schema { fields: &[one("message", 2, Text), one("code", 3, Enum(&STATUS_CODE))] };
static SPAN_KIND: [(&str, i32); 6] = [
    ("SPAN_KIND_UNSPECIFIED", 0),
    ("SPAN_KIND_INTERNAL", 1),
    ("SPAN_KIND_SERVER", 2),
    ("SPAN_KIND_CLIENT", 3),
    ("SPAN_KIND_PRODUCER", 4),
    ("SPAN_KIND_CONSUMER", 5),
];
static STATUS_CODE: [(&str, i32); 3] =
    [("STATUS_CODE_UNSET", 0), ("STATUS_CODE_OK", 1), ("STATUS_CODE_ERROR", 2)];

// ---- metrics.proto ----

static METRICS: Schema = Schema { fields: &[list("resourceMetrics", 1, Message(&RESOURCE_METRICS))] };
static RESOURCE_METRICS: Schema = Schema {
    fields: &[
        present("resource", 1, Message(&RESOURCE)),
        list("scopeMetrics", 2, Message(&SCOPE_METRICS)),
        one("schemaUrl", 3, Text),
    ],
};
static SCOPE_METRICS: Schema = Schema {
    fields: &[
        present("scope", 1, Message(&SCOPE)),
        list("metrics", 2, Message(&METRIC)),
        one("schemaUrl", 3, Text),
    ],
};
static METRIC: Schema = Schema {
    fields: &[
        one("name", 1, Text),
        one("description", 2, Text),
        one("unit", 3, Text),
        present("gauge", 5, Message(&GAUGE)),
        present("sum", 7, Message(&SUM)),
        present("histogram", 9, Message(&HISTOGRAM)),
        present("exponentialHistogram", 10, Message(&EXPONENTIAL_HISTOGRAM)),
        present("summary", 11, Message(&SUMMARY)),
        list("metadata", 12, Message(&KEY_VALUE)),
    ],
};
static GAUGE: Schema = Schema { fields: &[list("dataPoints", 1, Message(&NUMBER_POINT))] };
static SUM: Schema = Schema {
    fields: &[
        list("dataPoints", 1, Message(&NUMBER_POINT)),
        one("aggregationTemporality", 2, Enum(&TEMPORALITY)),
        one("isMonotonic", 3, Bool),
    ],
};
static HISTOGRAM: Schema = Schema {
    fields: &[
        list("dataPoints", 1, Message(&HISTOGRAM_POINT)),
        one("aggregationTemporality", 2, Enum(&TEMPORALITY)),
    ],
};
static EXPONENTIAL_HISTOGRAM: Schema = Schema {
    fields: &[
        list("dataPoints", 1, Message(&EXPONENTIAL_POINT)),
        one("aggregationTemporality", 2, Enum(&TEMPORALITY)),
    ],
};
static SUMMARY: Schema = Schema { fields: &[list("dataPoints", 1, Message(&SUMMARY_POINT))] };
static TEMPORALITY: [(&str, i32); 3] = [
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
];
static NUMBER_POINT: Schema = Schema {
    fields: &[
        list("attributes", 7, Message(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        list("exemplars", 5, Message(&EXEMPLAR)),
        one("flags", 8, UINT32),
        present("asDouble", 4, Double),
        present("asInt", 6, SignedFixed64),
    ],
};
static HISTOGRAM_POINT: Schema = Schema {
    fields: &[
        list("attributes", 9, Message(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        present("sum", 5, Double),
        packed("bucketCounts", 6, Fixed64),
        packed("explicitBounds", 7, Double),
        list("exemplars", 8, Message(&EXEMPLAR)),
        one("flags", 10, UINT32),
        present("min", 11, Double),
        present("max", 12, Double),
    ],
};
static EXPONENTIAL_POINT: Schema = Schema {
    fields: &[
        list("attributes", 1, Message(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        present("sum", 5, Double),
        one("scale", 6, Zigzag32),
        one("zeroCount", 7, Fixed64),
        present("positive", 8, Message(&BUCKETS)),
        present("negative", 9, Message(&BUCKETS)),
        one("flags", 10, UINT32),
        list("exemplars", 11, Message(&EXEMPLAR)),
        present("min", 12, Double),
        present("max", 13, Double),
        one("zeroThreshold", 14, Double),
    ],
};
static BUCKETS: Schema = Schema { fields: &[one("offset", 1, Zigzag32), packed("bucketCounts", 2, UINT64)] };
static SUMMARY_POINT: Schema = Schema {
    fields: &[
        list("attributes", 7, Message(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Double),
        list("quantileValues", 6, Message(&QUANTILE_VALUE)),
        one("flags", 8, UINT32),
    ],
};
static QUANTILE_VALUE: Schema = Schema { fields: &[one("quantile", 1, Double), one("value", 2, Double)] };
static EXEMPLAR: Schema = Schema {
    fields: &[
        list("filteredAttributes", 7, Message(&KEY_VALUE)),
        one("timeUnixNano", 2, Fixed64),
        one("spanId", 4, Id),
        one("traceId", 5, Id),
        present("asDouble", 3, Double),
        present("asInt", 6, SignedFixed64),
    ],
};

// ---- logs.proto ----

static LOGS: Schema = Schema { fields: &[list("resourceLogs", 1, Message(&RESOURCE_LOGS))] };
static RESOURCE_LOGS: Schema = Schema {
    fields: &[
        present("resource", 1, Message(&RESOURCE)),
        list("scopeLogs", 2, Message(&SCOPE_LOGS)),
        one("schemaUrl", 3, Text),
    ],
};
static SCOPE_LOGS: Schema = Schema {
    fields: &[
        present("scope", 1, Message(&SCOPE)),
        list("logRecords", 2, Message(&LOG_RECORD)),
        one("schemaUrl", 3, Text),
    ],
};
static LOG_RECORD: Schema = Schema {
    fields: &[
        one("timeUnixNano", 1, Fixed64),
        one("observedTimeUnixNano", 11, Fixed64),
        one("severityNumber", 2, Enum(&SEVERITY)),
        one("severityText", 3, Text),
        present("body", 5, Message(&ANY_VALUE)),
        list("attributes", 6, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 7, UINT32),
        one("flags", 8, Fixed32),
        one("traceId", 9, Id),
        one("spanId", 10, Id),
        one("eventName", 12, Text),
    ],
};
static SEVERITY: [(&str, i32); 25] = [
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
];
