//! Connections to OTLP receivers, made at the first request and again after they broke, and the turn of several
//! addresses. One pool serves both protocols: gRPC shares a connection per address, HTTP/1.1 takes as many as
//! there are consumers.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pool, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::super::compress::{Chunks, Payload};
use super::super::{Compression, ForwardError, OtlpConfig};
use super::addresses::Addresses;
use super::connect::Connector;
use super::{Failure, Next, Taken, grpc, http, service, unusable, user_agent, with_metadata};
use crate::credentials::{ClientTls, Credentials, SentCredentials};
use crate::pipeline::clock::Clock;
use crate::pipeline::{DataType, Metadata};

/// How long a dead peer may go unnoticed. Servers must not punish pings of 10 s and more.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Idle connections are closed before most servers and balancers close them.
const IDLE: Duration = Duration::from_secs(50);

/// What sends requests.
pub(super) type Connections = Pool<Connector, Chunks>;

/// What gRPC offers by ALPN, and what HTTP does.
const GRPC: [&[u8]; 1] = [b"h2"];
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Whom an exporter trusts and who it is: the same for all kinds of data that it sends.
#[derive(Debug, Clone, Default)]
pub(in crate::forward) struct Identity {
    tls: Option<Arc<ClientTls>>,
    sent: Option<Arc<SentCredentials>>,
}

impl Identity {
    /// Reads the credentials that an exporter is configured with. They follow their files from then on.
    pub(in crate::forward) fn new(
        exporter: &str,
        config: &OtlpConfig,
        is_http: bool,
        credentials: &Credentials,
    ) -> Result<Self, ForwardError> {
        let failed = |key: &str| {
            let key = format!("exporters.{exporter}.{key}");
            move |cause| ForwardError::Credentials { key, cause: Box::new(cause) }
        };
        let protocols = if is_http { &HTTP[..] } else { &GRPC[..] };
        let tls = config.wants_tls(is_http).then(|| {
            let tls = config.tls.clone().unwrap_or_default();
            credentials.client_tls(&format!("exporters.{exporter}.tls"), &tls, protocols)
        });
        let sent =
            config.auth.as_ref().map(|auth| credentials.sent(&format!("exporters.{exporter}.auth"), auth));
        Ok(Self {
            tls: tls.transpose().map_err(failed("tls"))?,
            sent: sent.transpose().map_err(failed("auth.authenticator"))?,
        })
    }
}

/// An OTLP receiver, or several that take turns.
#[derive(Debug)]
pub(in crate::forward) struct Otlp {
    pool: Connections,
    addresses: Addresses,
    headers: HeaderMap,
    sent: Option<Arc<SentCredentials>>,
    is_http: bool,
    timeout: Duration,
    pub(in crate::forward) compression: Compression,
}

impl Otlp {
    /// Sets up what sends one kind of data. Nothing is connected yet. Needs a Tokio runtime around it.
    pub(in crate::forward) fn new(
        data: DataType,
        config: &OtlpConfig,
        is_http: bool,
        identity: &Identity,
    ) -> Result<Self, ForwardError> {
        let addresses = match is_http {
            true => config.http_urls(data),
            false => config
                .bases()
                .map(|base| config.with_scheme(base))
                .map(|base| format!("{}{}", base.trim_end_matches('/'), service(data)))
                .collect(),
        };
        let urls = addresses
            .iter()
            .map(|address| address.parse::<Uri>().map_err(|cause| unusable(address, cause)))
            .collect::<Result<Vec<_>, _>>()?;
        let timeout = config.timeout(is_http);
        // So that one that does not even refuse leaves the others time.
        let reached_within = timeout / u32::try_from(urls.len().max(1)).unwrap_or(u32::MAX);
        Ok(Self {
            pool: pool(
                Connector::new(connector(reached_within), identity.tls.clone(), reached_within),
                is_http,
            ),
            addresses: Addresses::new(urls),
            headers: headers(config)?,
            sent: identity.sent.clone(),
            is_http,
            timeout,
            compression: config.compression,
        })
    }

    /// One attempt, at the address whose turn it is, or at the next where that cannot be reached. After a failure
    /// of another kind the next attempt goes to another.
    pub(super) async fn send(
        &self,
        payload: &Payload,
        metadata: &Metadata,
        clock: &dyn Clock,
    ) -> Result<Taken, Failure> {
        let mut headers = with_metadata(&self.headers, metadata);
        if let Some(sent) = &self.sent {
            let (name, value) = sent.header();
            headers.insert(name, HeaderValue::clone(&value));
        }
        let attempt = async {
            let mut failure = Failure::passing("unavailable", "there is no address");
            for address in self.addresses.in_turn(clock.monotonic()) {
                let (url, headers) = (&address.url, headers.clone());
                let outcome = match self.is_http {
                    true => http::send(&self.pool, url, headers, payload, clock.now()).await,
                    false => grpc::send(&self.pool, url, headers, payload, self.timeout).await,
                };
                failure = match outcome {
                    Err(failure) if failure.never_sent => failure,
                    outcome => return outcome,
                };
                address.went_down(clock.monotonic());
            }
            Err(failure)
        };
        let outcome = tokio::time::timeout(self.timeout, attempt).await;
        outcome.unwrap_or_else(|_| Err(Failure::timeout())).map_err(|failure| self.not_its_fault(failure))
    }

    /// Where we say who we are and are not believed, the request is as good as before: a token that is being
    /// exchanged must not cost data.
    fn not_its_fault(&self, failure: Failure) -> Failure {
        let is_unauthenticated = matches!(failure.code.as_str(), "Unauthenticated" | "401");
        match self.sent.is_some() && is_unauthenticated {
            true => Failure { next: Next::Retry(None), ..failure },
            false => failure,
        }
    }
}

fn connector(timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    connector.set_keepalive(Some(PING_INTERVAL));
    connector
}

fn pool(connector: Connector, is_http: bool) -> Connections {
    let mut builder = Pool::builder(TokioExecutor::new());
    builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
    if !is_http {
        builder
            .http2_only(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT);
    }
    builder.build(connector)
}

/// The headers of every request.
fn headers(config: &OtlpConfig) -> Result<HeaderMap, ForwardError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let parsed =
            HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value.as_str()).ok());
        let Some((name, mut value)) = parsed else {
            return Err(ForwardError::Header { name: name.clone() });
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let agent = HeaderValue::from_str(&user_agent());
    headers.insert(header::USER_AGENT, agent.unwrap_or_else(|_| HeaderValue::from_static("Rollguard")));
    Ok(headers)
}

/// What went wrong on the way, with its causes: the first one alone says little.
pub(super) fn broken(error: &PoolError) -> Failure {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    Failure { never_sent: error.is_connect(), ..Failure::passing("unavailable", super::shortened(&text)) }
}
