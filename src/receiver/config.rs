//! What a user sets of the receivers.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cors::CorsConfig;
use super::memory::MemoryLimiterConfig;
use super::walk::POINT_NAMES_MAX;
use super::{PointAttributes, VersionSource, WalkSettings};
use crate::credentials::{AuthConfig, ServerTlsConfig};
use crate::pipeline::human;

/// Where telemetry is received, and within which limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiverConfig {
    /// Address of OTLP/gRPC.
    pub grpc: GrpcConfig,
    /// Address of OTLP/HTTP.
    pub http: HttpConfig,
    /// How much memory may be used before requests are pushed back.
    pub memory_limiter: MemoryLimiterConfig,
    /// Largest message in bytes, on the wire and inflated.
    pub max_request_bytes: usize,
    /// Connections of both addresses together; further ones wait to be accepted.
    pub max_connections: usize,
    /// Age at which a connection ends in good order, so that clients behind a balancer of connections spread
    /// anew; up to a tenth less, by chance. 0 is never.
    #[serde(with = "human")]
    pub max_connection_age: Duration,
    /// Requests in progress of both addresses together; further ones are pushed back.
    pub max_concurrent_requests: usize,
    /// How long the body of a request may take to arrive.
    #[serde(with = "human")]
    pub request_timeout: Duration,
    /// How long the headers of a request may take to arrive, and how long a connection may be idle.
    #[serde(with = "human")]
    pub header_timeout: Duration,
    /// How long requests in progress may take to end at shutdown.
    #[serde(with = "human")]
    pub drain_timeout: Duration,
    /// Whether headers and gRPC metadata are kept, so that exporters can pass on those that their
    /// `metadata_keys` name.
    pub include_metadata: bool,
    /// How long messages are remembered so that the same bytes, sent again, count once and are passed on once;
    /// 0 switches it off.
    #[serde(with = "human")]
    pub deduplicate: Duration,
    /// Resource attributes that name the version; the first non-empty one counts. Several may be joined with
    /// a `+`, see [`VersionSource`].
    pub version_attributes: Vec<String>,
    /// Resource attributes that belong to a service's identity beside its name and environment.
    pub identity_attributes: Vec<String>,
    /// Attributes of metric data points that name what a point is about; they go before the resource's.
    pub point_attributes: PointAttributesConfig,
    /// Routes that are health checks and never judged; `*` at the end matches any rest.
    pub health_routes: Vec<String>,
    /// HTTP status codes of requests that are never judged, for example floods of 404 from scanners.
    pub excluded_statuses: Vec<u16>,
    /// Attributes of exceptions whose values may be kept and shown. They may hold personal data.
    pub evidence_attributes: Vec<String>,
    /// Names of further metrics that count requests, of a mesh or an ingress: histograms of durations, or
    /// monotonic sums.
    pub request_metrics: Vec<String>,
}

/// Attributes of metric data points; in each list the first non-empty one counts. See [`PointAttributes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PointAttributesConfig {
    /// Name the service.
    pub service: Vec<String>,
    /// Name its namespace.
    pub namespace: Vec<String>,
    /// Name its environment.
    pub environment: Vec<String>,
    /// Name the version; several may be joined with a `+`, see [`VersionSource`].
    pub version: Vec<String>,
    /// Name the operation, after the conventions for HTTP, RPC and messaging.
    pub operation: Vec<String>,
    /// Hold the status of HTTP or gRPC, after the conventions.
    pub status: Vec<String>,
}

impl Default for PointAttributesConfig {
    fn default() -> Self {
        let PointAttributes { service, namespace, environment, version, operation, status } =
            PointAttributes::default();
        Self { service, namespace, environment, version: names(&version), operation, status }
    }
}

impl From<&PointAttributesConfig> for PointAttributes {
    fn from(c: &PointAttributesConfig) -> Self {
        Self {
            service: c.service.clone(),
            namespace: c.namespace.clone(),
            environment: c.environment.clone(),
            version: sources(&c.version),
            operation: c.operation.clone(),
            status: c.status.clone(),
        }
    }
}

fn names(sources: &[VersionSource]) -> Vec<String> {
    sources.iter().map(|source| source.name().to_owned()).collect()
}

fn sources(names: &[String]) -> Vec<VersionSource> {
    names.iter().map(|name| VersionSource::new(name)).collect()
}

/// The address of OTLP/gRPC, and who may send to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// `host:port`; port 0 takes a free one.
    pub endpoint: String,
    /// The port's certificate; `null` for a port without TLS.
    pub tls: Option<ServerTlsConfig>,
    /// The entry of `extensions` that says who may send; `null` for everybody.
    pub auth: Option<AuthConfig>,
}

/// The address of OTLP/HTTP, who may send to it, and which pages in browsers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// `host:port`; port 0 takes a free one.
    pub endpoint: String,
    /// The port's certificate; `null` for a port without TLS.
    pub tls: Option<ServerTlsConfig>,
    /// The entry of `extensions` that says who may send; `null` for everybody.
    pub auth: Option<AuthConfig>,
    /// Pages that may send; `null` for none.
    pub cors: Option<CorsConfig>,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { endpoint: "127.0.0.1:4317".into(), tls: None, auth: None }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { endpoint: "127.0.0.1:4318".into(), tls: None, auth: None, cors: None }
    }
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        let walk = WalkSettings::default();
        Self {
            grpc: GrpcConfig::default(),
            http: HttpConfig::default(),
            memory_limiter: MemoryLimiterConfig::default(),
            max_request_bytes: 64 << 20,
            max_connections: 4096,
            max_connection_age: Duration::ZERO,
            max_concurrent_requests: 256,
            request_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
            include_metadata: false,
            deduplicate: Duration::from_secs(60),
            version_attributes: names(&walk.version_attributes),
            identity_attributes: walk.identity_attributes,
            point_attributes: PointAttributesConfig::default(),
            health_routes: walk.health_routes,
            excluded_statuses: walk.excluded_statuses,
            evidence_attributes: walk.evidence_attributes,
            request_metrics: walk.request_metrics,
        }
    }
}

impl ReceiverConfig {
    /// What the walker is told.
    pub fn walk_settings(&self) -> WalkSettings {
        WalkSettings {
            version_attributes: sources(&self.version_attributes),
            identity_attributes: self.identity_attributes.clone(),
            point_attributes: (&self.point_attributes).into(),
            health_routes: self.health_routes.clone(),
            excluded_statuses: self.excluded_statuses.clone(),
            evidence_attributes: self.evidence_attributes.clone(),
            request_metrics: self.request_metrics.clone(),
        }
    }

    /// What cannot work, each with a way out.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let positive = [
            ("max_request_bytes", self.max_request_bytes),
            ("max_connections", self.max_connections),
            ("max_concurrent_requests", self.max_concurrent_requests),
        ];
        for (name, value) in positive {
            if value == 0 {
                problems.push(format!("receiver.{name} is 0, so nothing could be received; leave it out"));
            }
        }
        if self.max_request_bytes > u32::MAX as usize {
            problems.push("receiver.max_request_bytes is beyond what a gRPC frame can hold (4 GiB)".into());
        }
        if self.walk_settings().point_attributes.names() > POINT_NAMES_MAX {
            problems.push(format!(
                "receiver.point_attributes names more than {POINT_NAMES_MAX} attributes in all"
            ));
        }
        let lists = [
            ("version_attributes", &self.version_attributes),
            ("point_attributes.version", &self.point_attributes.version),
        ];
        for (key, name) in lists.iter().flat_map(|(key, names)| names.iter().map(move |name| (key, name))) {
            if VersionSource::new(name).parts().iter().any(String::is_empty) {
                problems.push(format!(
                    "receiver.{key}: `{name}` has an empty part; write the names of attributes \
                     with one + between them"
                ));
            }
        }
        let odd = self.excluded_statuses.iter().filter(|code| !(100..600).contains(*code));
        problems.extend(odd.map(|code| format!("receiver.excluded_statuses: {code} is no HTTP status code")));
        problems.extend(self.memory_limiter.problems());
        problems.extend(self.http.cors.iter().flat_map(CorsConfig::problems));
        for (name, endpoint) in [("grpc", &self.grpc.endpoint), ("http", &self.http.endpoint)] {
            let port = endpoint.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                problems.push(format!(
                    "receiver.{name}.endpoint `{endpoint}` is not host:port, for example 0.0.0.0:4317"
                ));
            }
        }
        for (port, tls) in [("grpc", &self.grpc.tls), ("http", &self.http.tls)] {
            if tls.as_ref().is_some_and(|tls| tls.min_version > tls.max_version) {
                problems.push(format!(
                    "receiver.{port}.tls.min_version is newer than max_version, so nothing could be spoken"
                ));
            }
        }
        problems
    }

    /// What works and may not be meant, each with a way out: ports that other machines reach and that take
    /// telemetry from anybody, or credentials that anybody on the way can read.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let ports = [
            ("grpc", &self.grpc.endpoint, self.grpc.tls.as_ref(), self.grpc.auth.is_some()),
            ("http", &self.http.endpoint, self.http.tls.as_ref(), self.http.auth.is_some()),
        ];
        for (port, endpoint, tls, has_auth) in ports.into_iter().filter(|port| !is_loopback(port.1)) {
            let asks_certificates = tls.is_some_and(|tls| tls.client_ca_file.is_some());
            let key = format!("receiver.{port}");
            if tls.is_none() && has_auth {
                notes.push(format!(
                    "{key}.endpoint {endpoint} is reached from other machines without TLS: credentials can be \
                     read on the way; set {key}.tls"
                ));
            } else if !has_auth && !asks_certificates {
                let how = if tls.is_none() { "without TLS or credentials" } else { "without credentials" };
                notes.push(format!(
                    "{key}.endpoint {endpoint} is reached from other machines {how}: whoever reaches it can \
                     send telemetry that verdicts are made of; set {key}.tls with client_ca_file, or {key}.auth, \
                     or let a network policy say who may connect"
                ));
            }
        }
        notes
    }
}

/// Whether an endpoint is reached from this machine only.
fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_and_problems_named() {
        assert!(serde_json::from_str::<ReceiverConfig>(r#"{"grcp":{}}"#).is_err());
        let config = r#"{"grpc":{"endpoint":"localhost"},"max_connections":0,"request_timeout":"5s","excluded_statuses":[404,4]}"#;
        let config: ReceiverConfig = serde_json::from_str(config).unwrap();
        assert_eq!(config.request_timeout, Duration::from_secs(5));
        assert_eq!(config.problems().len(), 3);
        let config = r#"{"version_attributes":["a+b","a + b","a++b","+a",""]}"#;
        let config: ReceiverConfig = serde_json::from_str(config).unwrap();
        assert_eq!(config.problems().len(), 3, "{:?}", config.problems());
        assert_eq!(ReceiverConfig::default().problems(), Vec::<String>::new());
        let tls =
            r#"{"http":{"tls":{"cert_file":"c","key_file":"k","min_version":"1.3","max_version":"1.2"}}}"#;
        let config: ReceiverConfig = serde_json::from_str(tls).unwrap();
        assert_eq!(config.problems().len(), 1, "{:?}", config.problems());
    }

    #[test]
    fn open_ports_are_noted() {
        let (tls, mtls) = (
            r#""tls":{"cert_file":"c","key_file":"k"}"#,
            r#""tls":{"cert_file":"c","key_file":"k","client_ca_file":"a"}"#,
        );
        let auth = r#""auth":{"authenticator":"basicauth"}"#;
        let rows = [
            ("127.0.0.1:1", vec![], None),
            ("[::1]:1", vec![], None),
            ("LocalHost:1", vec![], None),
            ("0.0.0.0:1", vec![], Some("without TLS or credentials")),
            ("[::]:1", vec![], Some("without TLS or credentials")),
            ("gateway:1", vec![tls], Some("without credentials")),
            ("0.0.0.0:1", vec![auth], Some("can be read on the way")),
            ("0.0.0.0:1", vec![tls, auth], None),
            ("0.0.0.0:1", vec![mtls], None),
        ];
        for (endpoint, keys, expected) in rows {
            let endpoint = format!(r#""endpoint":"{endpoint}""#);
            let keys = [&[endpoint.as_str()], &keys[..]].concat().join(",");
            for port in ["grpc", "http"] {
                let config: ReceiverConfig =
                    serde_json::from_str(&format!(r#"{{"{port}":{{{keys}}}}}"#)).unwrap();
                let notes = config.notes();
                assert_eq!(notes.len(), usize::from(expected.is_some()), "{keys}: {notes:?}");
                for note in notes {
                    assert!(note.starts_with(&format!("receiver.{port}.endpoint")), "{note}");
                    assert!(note.contains(expected.unwrap_or_default()), "{note}");
                }
            }
        }
    }
}
