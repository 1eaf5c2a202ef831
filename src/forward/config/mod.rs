//! What a user sets of the exporters: the Collector's names and keys, as far as there is something behind them.

mod otlp;
mod queue;
mod sinks;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use self::otlp::{Compression, OtlpConfig, RoutingKey};
pub use self::queue::{OnFull, QueueConfig, RetryConfig, Storage};
pub use self::sinks::{DebugConfig, FileConfig, FileFormat, RotationConfig, Verbosity};
use crate::pipeline::DataType;

/// The exporters by their names, `type` or `type/name`; none by default.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct ExportersConfig(pub BTreeMap<String, ExporterConfig>);

/// One exporter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ExporterConfig {
    /// OTLP/gRPC.
    OtlpGrpc(Box<OtlpConfig>),
    /// OTLP/HTTP with protobuf.
    OtlpHttp(Box<OtlpConfig>),
    /// Lines in our own log.
    Debug(DebugConfig),
    /// Messages in a file.
    File(FileConfig),
}

/// What stands before the slash of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    OtlpGrpc,
    OtlpHttp,
    Debug,
    File,
}

impl Type {
    fn of(name: &str) -> Result<Self, String> {
        let (kind, suffix) = name.split_once('/').map_or((name, None), |(kind, rest)| (kind, Some(rest)));
        if suffix.is_some_and(|suffix| suffix.trim().is_empty()) {
            return Err(format!("`{name}`: a name must follow the slash, for example {kind}/backend"));
        }
        match kind {
            "otlp_grpc" | "otlp" => Ok(Self::OtlpGrpc),
            "otlp_http" | "otlphttp" => Ok(Self::OtlpHttp),
            "debug" => Ok(Self::Debug),
            "file" => Ok(Self::File),
            _ => Err(format!(
                "`{name}`: there is no exporter of type `{kind}`; there are otlp_grpc (or otlp), otlp_http (or \
                 otlphttp), debug and file, each alone or with a name, for example otlp_grpc/backend"
            )),
        }
    }
}

impl ExporterConfig {
    /// What is given to it.
    pub fn signals(&self) -> &[DataType] {
        match self {
            Self::OtlpGrpc(otlp) | Self::OtlpHttp(otlp) => &otlp.signals,
            Self::Debug(debug) => &debug.signals,
            Self::File(file) => &file.signals,
        }
    }

    /// Its queues, one for each kind of data.
    pub const fn queue(&self) -> &QueueConfig {
        match self {
            Self::OtlpGrpc(otlp) | Self::OtlpHttp(otlp) => &otlp.sending_queue,
            Self::Debug(debug) => &debug.sending_queue,
            Self::File(file) => &file.sending_queue,
        }
    }

    /// Names of the headers that it passes on, in lower case.
    pub fn metadata_keys(&self) -> Vec<Box<str>> {
        match self {
            Self::OtlpGrpc(otlp) | Self::OtlpHttp(otlp) => {
                otlp.metadata_keys.iter().map(|key| key.to_ascii_lowercase().into()).collect()
            }
            Self::Debug(_) | Self::File(_) => Vec::new(),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = match self {
            Self::OtlpGrpc(otlp) => otlp.problems(false),
            Self::OtlpHttp(otlp) => otlp.problems(true),
            Self::Debug(debug) => debug.problems(),
            Self::File(file) => file.problems(),
        };
        problems.extend(self.queue().problems());
        if self.signals().is_empty() {
            problems.push(
                "signals: is empty, so nothing would be sent; leave it out for all but profiles".into(),
            );
        }
        problems
    }
}

impl ExportersConfig {
    /// The OTLP exporters, by name; whether over HTTP.
    pub fn otlp(&self) -> impl Iterator<Item = (&str, &OtlpConfig, bool)> {
        self.0.iter().filter_map(|(name, exporter)| match exporter {
            ExporterConfig::OtlpGrpc(otlp) => Some((name.as_str(), &**otlp, false)),
            ExporterConfig::OtlpHttp(otlp) => Some((name.as_str(), &**otlp, true)),
            ExporterConfig::Debug(_) | ExporterConfig::File(_) => None,
        })
    }

    /// What cannot work, each at its key and with a way out. `include_metadata` is the receiver's.
    pub fn problems(&self, include_metadata: bool) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, exporter) in &self.0 {
            let at = |problem: &String| format!("exporters.{name}.{problem}");
            problems.extend(exporter.problems().iter().map(at));
            if !include_metadata && !exporter.metadata_keys().is_empty() {
                problems.push(format!(
                    "exporters.{name}.metadata_keys: the receiver keeps no headers; set receiver.include_metadata: true"
                ));
            }
        }
        problems
    }
}

/// Traces, metrics and logs. Profiles are in development, and few backends take them: they are named.
fn usual_signals() -> Vec<DataType> {
    vec![DataType::Traces, DataType::Metrics, DataType::Logs]
}

impl<'de> Deserialize<'de> for ExportersConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Exporters)
    }
}

struct Exporters;

impl<'de> Visitor<'de> for Exporters {
    type Value = ExportersConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("exporters by name, for example otlp_grpc: {endpoint: http://collector:4317}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<ExportersConfig, A::Error> {
        let mut exporters = BTreeMap::new();
        while let Some(name) = from.next_key::<String>()? {
            let exporter = match Type::of(&name).map_err(de::Error::custom)? {
                Type::OtlpGrpc => ExporterConfig::OtlpGrpc(from.next_value()?),
                Type::OtlpHttp => ExporterConfig::OtlpHttp(from.next_value()?),
                Type::Debug => ExporterConfig::Debug(from.next_value::<Option<_>>()?.unwrap_or_default()),
                Type::File => ExporterConfig::File(from.next_value()?),
            };
            if exporters.insert(name.clone(), exporter).is_some() {
                return Err(de::Error::custom(format!("duplicate exporter `{name}`")));
            }
        }
        Ok(ExportersConfig(exporters))
    }

    fn visit_unit<E>(self) -> Result<ExportersConfig, E> {
        Ok(ExportersConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parse(json: &str) -> Result<ExportersConfig, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn names_have_a_type_and_defaults_are_the_collectors() {
        let config = parse(
            r#"{"otlp":{"endpoint":"http://a:4317"},"otlp_grpc/b":{"endpoint":"http://b:4317","timeout":"1s"},
                "otlphttp/c":{"endpoint":"http://c:4318","compression":"none"},"debug":null,"file":{"path":"x"}}"#,
        )
        .unwrap();
        assert_eq!(config.problems(false), Vec::<String>::new());
        let ExporterConfig::OtlpGrpc(otlp) = &config.0["otlp"] else { panic!("otlp is otlp_grpc") };
        assert_eq!((otlp.timeout(false), otlp.compression), (Duration::from_secs(5), Compression::Gzip));
        assert_eq!((otlp.sending_queue.most_requests(), otlp.sending_queue.num_consumers), (1_000, 10));
        let retry = &otlp.retry_on_failure;
        assert_eq!(
            (retry.initial_interval, retry.most_elapsed(None)),
            (Duration::from_secs(5), Some(Duration::from_secs(300)))
        );
        let ExporterConfig::OtlpHttp(http) = &config.0["otlphttp/c"] else { panic!("otlphttp is otlp_http") };
        assert_eq!((http.timeout(true), http.compression), (Duration::from_secs(30), Compression::None));
        assert!(matches!(config.0["debug"], ExporterConfig::Debug(_)));
        assert!(!config.0["otlp"].signals().contains(&DataType::Profiles));
    }

    #[test]
    fn exporters_for_people_who_look_never_stand_in_the_way_unless_they_are_told_to() {
        for (json, expected) in [
            (r#"{"debug":null}"#, (1_000, 1, OnFull::Drop)),
            (r#"{"debug":{}}"#, (1_000, 1, OnFull::Drop)),
            (r#"{"debug":{"sending_queue":{}}}"#, (1_000, 1, OnFull::Drop)),
            (r#"{"debug":{"sending_queue":{"queue_size":3}}}"#, (3, 1, OnFull::Drop)),
            (r#"{"debug":{"sending_queue":{"num_consumers":2}}}"#, (1_000, 2, OnFull::Drop)),
            (r#"{"file":{"path":"x"}}"#, (1_000, 1, OnFull::Drop)),
            (r#"{"file":{"path":"x","sending_queue":{"queue_size":3}}}"#, (3, 1, OnFull::Drop)),
            (r#"{"file":{"path":"x","sending_queue":{"on_full":"refuse"}}}"#, (1_000, 1, OnFull::Refuse)),
            (
                r#"{"otlp":{"endpoint":"http://a:1","sending_queue":{"queue_size":3}}}"#,
                (3, 10, OnFull::Refuse),
            ),
        ] {
            let config = parse(json).unwrap();
            let queue = config.0.values().next().unwrap().queue();
            assert_eq!((queue.most_requests(), queue.num_consumers, queue.on_full), expected, "{json}");
        }
        let error = parse(r#"{"debug":{"sending_queue":{"sise":3}}}"#).unwrap_err();
        assert!(error.contains("unknown field `sise`") && error.contains("queue_size"), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_a_way_out() {
        for (json, says) in [
            (r#"{"kafka":{}}"#, "there is no exporter of type `kafka`"),
            (r#"{"otlp_grpc/":{}}"#, "a name must follow the slash"),
            (r#"{"otlp_grpc":{"endpiont":"x"}}"#, "unknown field `endpiont`"),
            (r#"{"debug":{"verbosity":"loud"}}"#, "unknown variant `loud`"),
            (r#"{"file":{}}"#, "missing field `path`"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(says), "{json}: {error}");
        }
        for (json, says) in [
            (r#"{"otlp_grpc":{}}"#, "exporters.otlp_grpc.endpoint: "),
            (
                r#"{"otlp_grpc":{"endpoint":"http://a:1","endpoints":["http://b:1"]}}"#,
                "exporters.otlp_grpc.endpoints: ",
            ),
            (
                r#"{"otlp_grpc":{"endpoint":"http://a:1","traces_endpoint":"http://b:1"}}"#,
                "exporters.otlp_grpc.traces_endpoint: ",
            ),
            (r#"{"otlp_http":{"endpoint":"a:4318"}}"#, "exporters.otlp_http.endpoint: "),
            (
                r#"{"otlp_grpc":{"endpoint":"a:4317","tls":{"key_file":"k"}}}"#,
                "exporters.otlp_grpc.tls.cert_file: ",
            ),
            (
                r#"{"otlp_http":{"endpoint":"http://a:1","auth":{"authenticator":"a"},"headers":{"Authorization":"x"}}}"#,
                "exporters.otlp_http.headers: ",
            ),
            (r#"{"otlp_http":{"endpoint":"ftp://a:4317"}}"#, "exporters.otlp_http.endpoint: "),
            (r#"{"otlp_http":{"endpoint":"http://a:1","timeout":"0s"}}"#, "exporters.otlp_http.timeout: "),
            (r#"{"otlp_http":{"endpoint":"http://a:1","signals":[]}}"#, "exporters.otlp_http.signals: "),
            (
                r#"{"otlp_http":{"endpoint":"http://a:1","headers":{"a b":"x"}}}"#,
                "exporters.otlp_http.headers: ",
            ),
            (
                r#"{"otlp_http":{"endpoint":"http://a:1","metadata_keys":["te"]}}"#,
                "exporters.otlp_http.metadata_keys: ",
            ),
            (
                r#"{"otlp_http":{"endpoint":"http://a:1","max_request_bytes":9}}"#,
                "exporters.otlp_http.max_request_bytes: ",
            ),
            (
                r#"{"otlp_http":{"endpoint":"http://a:1","sending_queue":{"enabled":false}}}"#,
                "exporters.otlp_http.sending_queue.enabled: ",
            ),
            (
                r#"{"otlp_http":{"endpoint":"http://a:1","retry_on_failure":{"multiplier":0.5}}}"#,
                "exporters.otlp_http.retry_on_failure.multiplier: ",
            ),
            (
                r#"{"otlp_http":{"endpoint":"http://a:1","routing_key":"service","signals":["profiles"]}}"#,
                "exporters.otlp_http.routing_key: ",
            ),
            (
                r#"{"otlp_http":{"endpoint":"http://a:1","routing_key":"service","logs_endpoint":"http://b:1"}}"#,
                "exporters.otlp_http.routing_key: ",
            ),
            (r#"{"file":{"path":"x","signals":["profiles"]}}"#, "exporters.file.signals: "),
        ] {
            let problems = parse(json).unwrap().problems(true);
            assert!(problems.len() == 1 && problems[0].starts_with(says), "{json}: {problems:?}");
        }
        let tenants =
            parse(r#"{"otlp_http":{"endpoint":"http://a:1","metadata_keys":["X-Scope-OrgID"]}}"#).unwrap();
        assert_eq!(tenants.problems(true), Vec::<String>::new());
        assert!(tenants.problems(false)[0].contains("receiver.include_metadata"));
        assert_eq!(tenants.0["otlp_http"].metadata_keys(), ["x-scope-orgid".into()]);
    }
}
