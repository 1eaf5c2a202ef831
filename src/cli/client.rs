//! Talking to the API of a running Rollguard, with errors that say what to do.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use crate::api::access::{TokenError, read_token};

/// Longer answers are not ours.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Why the API gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No TLS, bad proxy settings.
    #[error("set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// The TLS library.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// Nobody there.
    #[error("cannot reach {url}; is rollguard running, and is this its API port (`api.endpoint`, 9464)?")]
    Connect {
        url: String,
        #[source]
        cause: reqwest::Error,
    },
    /// Somebody is there and said no.
    #[error("{url} answered {status}: {message}")]
    Refused { url: String, status: u16, message: String },
    /// Somebody else is there.
    #[error("{url} answered, but not like rollguard's API; is this its API port (`api.endpoint`, 9464)?")]
    Foreign { url: String },
}

impl ClientError {
    /// Whether the same request may succeed a little later.
    pub(super) const fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

/// One Rollguard.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(url: &str, token_file: Option<&Path>, timeout: Duration) -> Result<Self, ClientError> {
        let base = Url::parse(url).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        let base = base.ok_or_else(|| {
            ClientError::Usage(format!("--url {url}: not a link; write for example http://127.0.0.1:9464"))
        })?;
        let token = token_file.map(read_token).transpose()?;
        let mut builder = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("Rollguard/", env!("CARGO_PKG_VERSION")));
        if base.host_str().is_some_and(is_this_machine) {
            // A proxy cannot reach our own loopback.
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            builder = builder.tls_backend_preconfigured(without_roots()?);
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Self { http, base, token })
    }

    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, ClientError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(Method::GET, url, None).await
    }

    /// An answer that is text.
    pub(super) async fn get_text(&self, path: &str, query: &[(&str, &str)]) -> Result<String, ClientError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let (shown, status, bytes) = self.exchange(Method::GET, url, None).await?;
        match String::from_utf8(bytes) {
            Ok(text) if status.is_success() => Ok(text),
            Ok(text) => Err(refusal(shown, status, &serde_json::from_str(&text).unwrap_or_default())),
            Err(_) => Err(ClientError::Foreign { url: shown }),
        }
    }

    pub(super) async fn post(&self, path: &str, body: Option<Value>) -> Result<Value, ClientError> {
        self.send(Method::POST, self.url(path), body).await
    }

    /// `--url` may carry a path, where a proxy puts us under one.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{path}"));
        url
    }

    async fn send(&self, method: Method, url: Url, body: Option<Value>) -> Result<Value, ClientError> {
        let (shown, status, bytes) = self.exchange(method, url, body).await?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() && answer.is_object() {
            return Ok(answer);
        }
        Err(refusal(shown, status, &answer))
    }

    /// Sends a request: where to, and what came back.
    async fn exchange(
        &self,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<(String, StatusCode, Vec<u8>), ClientError> {
        let shown = url.to_string();
        let connect = |cause| ClientError::Connect { url: shown.clone(), cause };
        let mut request = self.http.request(method, url).header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.map_err(connect)?;
        let status = response.status();
        if response.content_length().is_some_and(|n| n > MAX_ANSWER_BYTES as u64) {
            return Err(ClientError::Foreign { url: shown });
        }
        let bytes = response.bytes().await.map_err(connect)?;
        Ok((shown, status, bytes.into()))
    }
}

/// What an answer that is none says.
fn refusal(url: String, status: StatusCode, answer: &Value) -> ClientError {
    let Some(message) = answer["error"]["message"].as_str() else { return ClientError::Foreign { url } };
    let message = match answer["error"]["field"].as_str() {
        Some(field) => format!("{field}: {message}"),
        None => message.to_owned(),
    };
    ClientError::Refused { url, status: status.as_u16(), message }
}

/// Runs a question to its end on a runtime of its own.
pub(super) fn block_on<T>(ask: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| ClientError::Usage(format!("start the runtime: {error}")))?.block_on(ask)
}

/// TLS settings for clients that use none: loading the system's certificates fails where there are none, as
/// in a small container, and plain HTTP does not need them.
fn without_roots() -> Result<rustls::ClientConfig, ClientError> {
    let provider = rustls::crypto::ring::default_provider();
    Ok(rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Encodes an id for a path: what is not plainly safe becomes `%XX`.
pub(super) fn encode(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A service of an answer as people write it.
pub(super) fn service(service: &Value) -> String {
    let text = |key: &str| service[key].as_str().unwrap_or_default();
    let mut out = String::new();
    if !text("namespace").is_empty() {
        out = format!("{}/", text("namespace"));
    }
    out.push_str(service["name"].as_str().unwrap_or("-"));
    if !text("environment").is_empty() {
        out.push_str(&format!(" ({})", text("environment")));
    }
    out
}
