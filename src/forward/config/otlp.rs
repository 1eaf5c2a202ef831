//! `otlp_grpc` and `otlp_http`: where to, how, and with which headers.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::{QueueConfig, RetryConfig, usual_signals};
use crate::credentials::{AuthConfig, ClientTlsConfig, Secret};
use crate::pipeline::{DataType, human};

/// Headers that say how a message is sent; nobody else may set them.
const OURS: [&str; 12] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// Most headers that are set or passed on.
const HEADERS: usize = 64;
/// The least that a request may hold: smaller ones would be little but envelopes.
const LEAST_REQUEST_BYTES: usize = 64 << 10;

/// An OTLP exporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// `https://host:port` or `http://host:port`; for gRPC the scheme may be left out: with TLS then, unless
    /// `tls.insecure`. For HTTP the address to which `/v1/traces` and so on are added.
    pub endpoint: Option<String>,
    /// Several of them, of which each request goes to the next.
    pub endpoints: Vec<String>,
    /// What decides which of several addresses a request goes to; by default they take turns.
    pub routing_key: Option<RoutingKey>,
    /// HTTP only: the whole address for traces.
    pub traces_endpoint: Option<String>,
    /// HTTP only: the whole address for metrics.
    pub metrics_endpoint: Option<String>,
    /// HTTP only: the whole address for logs.
    pub logs_endpoint: Option<String>,
    /// HTTP only: the whole address for profiles.
    pub profiles_endpoint: Option<String>,
    /// Whom to trust and what to show, where an address is https.
    pub tls: Option<ClientTlsConfig>,
    /// The entry of `extensions` that says who we are; `null` for nobody.
    pub auth: Option<AuthConfig>,
    /// What is sent there.
    pub signals: Vec<DataType>,
    /// How requests are compressed.
    pub compression: Compression,
    /// How long one attempt may take; by default 5 s for gRPC and 30 s for HTTP.
    #[serde(with = "human::optional")]
    pub timeout: Option<Duration>,
    /// Headers, or gRPC metadata, set on every request.
    pub headers: BTreeMap<String, Secret>,
    /// Headers of received requests that go along; `receiver.include_metadata` must be on.
    pub metadata_keys: Vec<String>,
    /// Largest request before compression: waiting ones are joined up to it, and larger ones split between
    /// their resources.
    pub max_request_bytes: usize,
    /// What waits.
    pub sending_queue: QueueConfig,
    /// When to try again.
    pub retry_on_failure: RetryConfig,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            endpoints: Vec::new(),
            routing_key: None,
            traces_endpoint: None,
            metrics_endpoint: None,
            logs_endpoint: None,
            profiles_endpoint: None,
            tls: None,
            auth: None,
            signals: usual_signals(),
            compression: Compression::default(),
            timeout: None,
            headers: BTreeMap::new(),
            metadata_keys: Vec::new(),
            max_request_bytes: 4 << 20,
            sending_queue: QueueConfig::default(),
            retry_on_failure: RetryConfig::default(),
        }
    }
}

/// What decides which of several addresses a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutingKey {
    /// The service: all of it goes to one address, for Rollguards behind Rollguards. A request of several services is
    /// split.
    Service,
}

/// How requests are compressed, at the cheapest level of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, as the Collector by default; every OTLP server takes it.
    #[default]
    Gzip,
    /// Cheaper and smaller; the Collector takes it.
    Zstd,
}

impl OtlpConfig {
    /// How long one attempt may take.
    pub fn timeout(&self, is_http: bool) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(if is_http { 30 } else { 5 }))
    }

    /// The addresses, with the key of each.
    fn addresses(&self) -> impl Iterator<Item = (String, &str)> {
        let several = self.endpoints.iter().enumerate().map(|(i, e)| (format!("endpoints[{i}]"), e.as_str()));
        let one = self.endpoint.iter().map(|e| ("endpoint".to_owned(), e.as_str()));
        one.chain(several).chain(self.own_addresses().filter_map(|(key, e)| Some((key.to_owned(), e?))))
    }

    /// The addresses of single kinds of data.
    fn own_addresses(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        [
            ("traces_endpoint", &self.traces_endpoint),
            ("metrics_endpoint", &self.metrics_endpoint),
            ("logs_endpoint", &self.logs_endpoint),
            ("profiles_endpoint", &self.profiles_endpoint),
        ]
        .into_iter()
        .map(|(key, endpoint)| (key, endpoint.as_deref()))
    }

    /// The same for one of its addresses alone.
    pub(in crate::forward) fn at(&self, address: &str) -> Self {
        Self { endpoint: Some(address.to_owned()), endpoints: Vec::new(), ..self.clone() }
    }

    /// Where requests of one kind go, over HTTP; several are taken in turn.
    pub(in crate::forward) fn http_urls(&self, data: DataType) -> Vec<String> {
        if let Some((_, Some(own))) = self.own_addresses().nth(data as usize) {
            return vec![own.to_owned()];
        }
        let path = match data {
            DataType::Traces => "v1/traces",
            DataType::Metrics => "v1/metrics",
            DataType::Logs => "v1/logs",
            DataType::Profiles => "v1development/profiles",
        };
        self.bases().map(|base| format!("{}/{path}", base.trim_end_matches('/'))).collect()
    }

    /// Whether any address is https.
    pub(in crate::forward) fn wants_tls(&self, is_http: bool) -> bool {
        self.addresses().any(|(_, address)| match is_http {
            true => address.starts_with("https://"),
            false => self.with_scheme(address).starts_with("https://"),
        })
    }

    /// An address with its scheme.
    pub(in crate::forward) fn with_scheme(&self, address: &str) -> String {
        let is_insecure = self.tls.as_ref().is_some_and(|tls| tls.insecure);
        match (address.contains("://"), is_insecure) {
            (true, _) => address.to_owned(),
            (false, true) => format!("http://{address}"),
            (false, false) => format!("https://{address}"),
        }
    }

    /// What `endpoint` or `endpoints` name.
    pub(in crate::forward) fn bases(&self) -> impl Iterator<Item = &str> {
        self.endpoint.iter().chain(&self.endpoints).map(String::as_str)
    }

    pub(super) fn problems(&self, is_http: bool) -> Vec<String> {
        let mut problems = Vec::new();
        let own = self.own_addresses().filter(|(_, endpoint)| endpoint.is_some());
        if is_http {
            let covered = |data: &&DataType| self.http_urls(**data).is_empty();
            if let Some(data) = self.signals.iter().find(covered) {
                let name = data.as_str();
                problems.push(format!(
                    "endpoint: there is no address for {name}; for example endpoint: http://collector:4318"
                ));
            }
        } else {
            problems.extend(own.map(|(key, _)| format!("{key}: is a key of otlp_http; use endpoint")));
            if self.bases().next().is_none() {
                problems.push("endpoint: is missing; for example http://collector:4317".into());
            }
        }
        if self.endpoint.is_some() && !self.endpoints.is_empty() {
            problems.push("endpoints: is set beside endpoint; name all addresses in endpoints".into());
        }
        if problems.is_empty() {
            let usable = |address: &str| match is_http {
                true => is_usable(address, is_http),
                false => is_usable(&self.with_scheme(address), is_http),
            };
            let wrong = self.addresses().filter(|(_, address)| !usable(address));
            problems.extend(wrong.map(|(key, address)| {
                let port = if is_http { 4318 } else { 4317 };
                format!(
                    "{key}: `{address}` is not an address like https://collector:{port} or http://collector:{port}"
                )
            }));
        }
        if let Some(tls) = &self.tls {
            let (certificate, key) = (
                tls.cert_file.is_some() || tls.cert_pem.is_some(),
                tls.key_file.is_some() || tls.key_pem.is_some(),
            );
            if certificate != key {
                problems.push(
                    "tls.cert_file: needs key_file (or key_pem) beside it, and a key needs cert_file or cert_pem".into(),
                );
            }
            if tls.min_version > tls.max_version {
                problems
                    .push("tls.min_version: is newer than max_version, so nothing could be spoken".into());
            }
        }
        if let (Some(auth), true) =
            (&self.auth, self.headers.keys().any(|h| h.eq_ignore_ascii_case("authorization")))
        {
            let name = &auth.authenticator;
            problems
                .push(format!("headers: `authorization` is set by auth ({name}) as well; keep one of them"));
        }
        if self.routing_key.is_some() {
            if self.own_addresses().any(|(_, endpoint)| endpoint.is_some()) {
                problems.push(
                    "routing_key: chooses among endpoints; leave the address of a single kind out".into(),
                );
            } else if self.signals.contains(&DataType::Profiles) {
                problems.push(
                    "routing_key: profiles are not read, so their services are not known; give them an exporter of their \
                     own"
                        .into(),
                );
            }
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            problems.push("timeout: is 0s, so no attempt could succeed; leave it out".into());
        }
        if self.max_request_bytes < LEAST_REQUEST_BYTES {
            problems.push(format!("max_request_bytes: must be at least {LEAST_REQUEST_BYTES} (64 KiB)"));
        }
        problems.extend(self.header_problems());
        problems.extend(self.retry_on_failure.problems());
        problems
    }

    fn header_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value) in &self.headers {
            if let Some(why) = wrong_header(name) {
                problems.push(format!("headers: {why}"));
            } else if HeaderValue::from_str(value.as_str()).is_err() {
                problems
                    .push(format!("headers: the value of `{name}` has characters that a header cannot hold"));
            }
        }
        for name in &self.metadata_keys {
            if let Some(why) = wrong_header(name) {
                problems.push(format!("metadata_keys: {why}"));
            } else if self.headers.keys().any(|set| set.eq_ignore_ascii_case(name)) {
                problems.push(format!("metadata_keys: `{name}` is set in headers as well; keep one of them"));
            }
        }
        if self.headers.len() + self.metadata_keys.len() > HEADERS {
            problems.push(format!("headers: there are more than {HEADERS}, with those of metadata_keys"));
        }
        problems
    }
}

/// What is wrong with the name of a header that is to be set or passed on.
fn wrong_header(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(lower.as_bytes()).is_err() {
        Some(format!("`{name}` is no name of a header"))
    } else if OURS.contains(&lower.as_str()) || lower.starts_with("grpc-") {
        Some(format!("`{name}` says how a message is sent and is set by Rollguard"))
    } else {
        None
    }
}

/// Whether this is `http[s]://host[:port]`, for HTTP with a path if need be.
fn is_usable(address: &str, is_http: bool) -> bool {
    address.parse::<Uri>().is_ok_and(|uri| {
        let has_path = !matches!(uri.path(), "" | "/");
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && (is_http || !has_path)
            && uri.query().is_none()
    })
}
