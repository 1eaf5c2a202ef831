//! One endpoint, one attempt: sign, send, and say what the answer means. Redirects are not followed (a login
//! page that answers 200 is no rollback), proxies from the environment are not used, and every attempt makes
//! a new connection to an address that the guard has just checked.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, StatusCode, Url};

use super::config::WebhookConfig;
use super::guard::{AddressPolicy, GuardedResolver, Refused};
use super::sign::{Secret, SecretError, sign};
use crate::model::{NANOS_PER_SECOND, UnixNanos};

/// Failed to set up an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Not an address that one can post to.
    #[error("{url:?} is no http:// or https:// address")]
    Url {
        /// As configured.
        url: String,
    },
    /// The host is an address that we do not connect to.
    #[error("use the webhook address {url}; allow_loopback or allow_link_local would permit it")]
    Refused {
        /// As configured.
        url: String,
        /// Why.
        #[source]
        cause: Refused,
    },
    /// A file cannot be read.
    #[error("read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The secret file holds no usable secret.
    #[error("use the secrets in {path}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: SecretError,
    },
    /// No certificates to trust, or unusable ones.
    #[error("set up TLS for {url}; install the system's ca-certificates, or set ca_file")]
    Tls {
        /// As configured.
        url: String,
        /// Why.
        #[source]
        cause: reqwest::Error,
    },
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// Any 2xx.
    Delivered,
    /// Not now: no connection, or any answer that the same request may not get again (404 while the receiver
    /// starts, 401 while its token changes, 429, 5xx).
    Retry {
        /// What happened.
        error: String,
        /// Seconds that the receiver asked for.
        after_seconds: Option<u64>,
    },
    /// Never: a redirect, 410, or a refusal of the very bytes (400, 413, 422).
    Dead(String),
}

/// A configured endpoint, ready to be used.
#[derive(Debug)]
pub struct Webhook {
    url: Url,
    secrets: Vec<Secret>,
    client: Client,
}

impl Webhook {
    /// Reads the secret, checks the address and sets up the client. Blocks on files; called at start and on
    /// reload.
    pub fn new(config: &WebhookConfig) -> Result<Self, WebhookError> {
        let refuse_url = || WebhookError::Url { url: config.url.clone() };
        let url = Url::parse(&config.url).map_err(|_| refuse_url())?;
        let host = url.host_str().map(str::to_owned).ok_or_else(refuse_url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse_url());
        }
        let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        // Who writes `localhost` means it; the guard is for names that lead there unasked.
        let says_loopback = host == "localhost" || literal.is_some_and(|ip| ip.is_loopback());
        let policy = AddressPolicy {
            loopback: config.allow_loopback || says_loopback,
            link_local: config.allow_link_local,
        };
        if let Some(address) = literal {
            let refused = |cause| WebhookError::Refused { url: config.url.clone(), cause };
            policy.check(&host, address).map_err(refused)?;
        }
        let client = client(config, url.scheme() == "https", policy)?;
        Ok(Self { url, secrets: secrets(config)?, client })
    }

    /// Sends `body` once. `id` is the same on every attempt, `now` is the time of this one.
    pub async fn attempt(&self, id: &str, body: Vec<u8>, now: UnixNanos) -> AttemptResult {
        let timestamp = now.0 / NANOS_PER_SECOND;
        let signature = sign(&self.secrets, id, timestamp, &body);
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        match request.send().await {
            Ok(answer) => judge(answer.status(), answer.headers(), now),
            Err(error) => AttemptResult::Retry { error: with_causes(&error), after_seconds: None },
        }
    }
}

fn secrets(config: &WebhookConfig) -> Result<Vec<Secret>, WebhookError> {
    let path = || config.secret_file.clone();
    let text = std::fs::read_to_string(&config.secret_file)
        .map_err(|cause| WebhookError::File { path: path(), cause })?;
    Secret::parse_all(&text).map_err(|cause| WebhookError::Secret { path: path(), cause })
}

fn client(config: &WebhookConfig, tls: bool, policy: AddressPolicy) -> Result<Client, WebhookError> {
    let failed = |cause| WebhookError::Tls { url: config.url.clone(), cause };
    // The program installs this at its start; a library user may not have. A second time changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("rollguard/", env!("CARGO_PKG_VERSION")))
        .timeout(config.timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .dns_resolver(GuardedResolver(policy));
    if !tls {
        // Plain HTTP must work in an image without certificates too.
        builder = builder.tls_certs_only(std::iter::empty::<Certificate>());
    } else if let Some(path) = &config.ca_file {
        let pem = std::fs::read(path).map_err(|cause| WebhookError::File { path: path.clone(), cause })?;
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&pem).map_err(failed)?);
    }
    builder.build().map_err(failed)
}

/// What a status means. Success is 2xx; beside what no repetition can change, all is tried again: what stands
/// before the receiver (an ingress, a proxy) answers 401, 403 or 404 while the receiver restarts, and a
/// rollback must not be lost to that.
fn judge(status: StatusCode, headers: &HeaderMap, now: UnixNanos) -> AttemptResult {
    let error = format!("answered {status}");
    match status.as_u16() {
        200..=299 => AttemptResult::Delivered,
        300..=399 => {
            AttemptResult::Dead(format!("{error}; redirects are not followed, set the final address"))
        }
        400 | 410 | 413 | 422 => AttemptResult::Dead(error),
        _ => AttemptResult::Retry { error, after_seconds: retry_after(headers, now) },
    }
}

/// `Retry-After`, as seconds or as a date.
fn retry_after(headers: &HeaderMap, now: UnixNanos) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    text.parse().ok().or_else(|| {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second();
        Some(u64::try_from(date).ok()?.saturating_sub(now.0 / NANOS_PER_SECOND))
    })
}

/// The error and what caused it, in one line. The address is left out: it may hold a token.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text =
        if error.is_timeout() { "no answer in time".to_owned() } else { "could not send".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
