//! Who gets in: the TLS of a port and the credentials that its requests must bring. What fails at the door is
//! counted by reason and now and then logged with what usually mends it, for a client that cannot connect
//! rarely says why.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ReceiverConfig;
use super::metrics::{DoorMetrics, Handshake, Transport};
use super::status::Refusal;
use crate::credentials::{
    AuthConfig, Authenticator, CredentialError, Credentials, Denied, ServerTls, ServerTlsConfig,
};
use crate::model::UnixNanos;
use crate::telemetry::Limiter;

/// Seconds between two log lines about failed handshakes of one kind.
const COMPLAIN_EVERY_S: u64 = 60;
/// The first byte of every TLS connection: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// The credentials of a port cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("guard the port by {key}")]
pub struct DoorError {
    /// The key of the configuration.
    pub key: String,
    /// Why.
    #[source]
    pub cause: Box<CredentialError>,
}

/// How both ports are guarded; not at all by default.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    pub(super) grpc: Guard,
    pub(super) http: Guard,
}

/// How one port is guarded.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    tls: Option<Arc<ServerTls>>,
    auth: Option<Arc<Authenticator>>,
}

impl Doors {
    /// Reads the credentials that the ports are configured with. They follow their files from then on.
    ///
    /// # Errors
    /// When some cannot be used.
    pub fn new(config: &ReceiverConfig, credentials: &Credentials) -> Result<Self, DoorError> {
        let (grpc, http) = (&config.grpc, &config.http);
        Ok(Self {
            grpc: Guard::new("receiver.grpc", grpc.tls.as_ref(), grpc.auth.as_ref(), credentials)?,
            http: Guard::new("receiver.http", http.tls.as_ref(), http.auth.as_ref(), credentials)?,
        })
    }
}

impl Guard {
    fn new(
        port: &str,
        tls: Option<&ServerTlsConfig>,
        auth: Option<&AuthConfig>,
        credentials: &Credentials,
    ) -> Result<Self, DoorError> {
        let (tls_key, auth_key) = (format!("{port}.tls"), format!("{port}.auth.authenticator"));
        let tls = tls.map(|tls| credentials.server_tls(&tls_key, tls)).transpose();
        let tls = tls.map_err(|cause| DoorError { key: tls_key, cause: cause.into() })?;
        let auth = auth.map(|auth| credentials.authenticator(auth)).transpose();
        let auth = auth.map_err(|cause| DoorError { key: auth_key, cause: cause.into() })?;
        Ok(Self { tls, auth })
    }
}

/// The door of one port.
pub(super) struct Door {
    guard: Guard,
    metrics: DoorMetrics,
    complaints: Mutex<Limiter>,
}

/// A connection that got in.
pub(super) enum Entered {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Door {
    pub(super) fn new(guard: Guard, transport: Transport) -> Self {
        let complaints = Mutex::new(Limiter::new(COMPLAIN_EVERY_S));
        Self { guard, metrics: DoorMetrics::new(transport), complaints }
    }

    /// Does what comes before the first request. The first byte has arrived; `None` when that is the end of
    /// the connection.
    pub(super) async fn enter(&self, stream: TcpStream, within: Duration, now: UnixNanos) -> Option<Entered> {
        let mut first = [0];
        let speaks_tls = matches!(stream.peek(&mut first).await, Ok(1)) && first[0] == HANDSHAKE_RECORD;
        let peer = stream.peer_addr().ok();
        let Some(tls) = &self.guard.tls else {
            if speaks_tls {
                self.failed(Handshake::TlsOnPlainPort, peer, now, "");
                return None;
            }
            return Some(Entered::Plain(stream));
        };
        if !speaks_tls {
            self.failed(Handshake::PlainOnTlsPort, peer, now, "");
            return None;
        }
        let accept = TlsAcceptor::from(tls.current()).accept(stream);
        match tokio::time::timeout(within, accept).await {
            Ok(Ok(stream)) => Some(Entered::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                self.failed(reason(&error), peer, now, &error.to_string());
                None
            }
            Err(_) => {
                self.failed(Handshake::Timeout, peer, now, "");
                None
            }
        }
    }

    fn failed(&self, why: Handshake, peer: Option<SocketAddr>, now: UnixNanos, error: &str) {
        self.metrics.handshake(why);
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unsaid) = complaints.allow(why.as_str(), now) else { return };
        let peer = peer.map(|peer| peer.to_string());
        let (peer, reason, hint) = (peer.as_deref().unwrap_or_default(), why.as_str(), hint(why));
        tracing::warn!(peer, reason, error, unsaid, "a connection was not accepted: {hint}");
    }

    /// Whether a request with these headers may be sent.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(auth) = &self.guard.auth else { return Ok(()) };
        auth.check(headers).await.map_err(|denied| {
            self.metrics.denied(denied);
            let why = match denied {
                Denied::Missing => "credentials are missing",
                Denied::Malformed => "the credentials are not of the kind that is asked for",
                Denied::Wrong => "the credentials are not valid",
                Denied::Busy => return Refusal::Busy("too many credentials are being checked".into()),
            };
            Refusal::Unauthenticated { why, challenge: auth.challenge() }
        })
    }
}

/// What a failed handshake tells.
fn reason(error: &io::Error) -> Handshake {
    use rustls::Error as Tls;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) {
        Some(Tls::NoCertificatesPresented) => Handshake::NoClientCertificate,
        Some(Tls::InvalidCertificate(_)) => Handshake::BadClientCertificate,
        Some(Tls::PeerIncompatible(_) | Tls::NoApplicationProtocol) => Handshake::Incompatible,
        Some(Tls::AlertReceived(_)) => Handshake::RefusedByClient,
        Some(_) => Handshake::Malformed,
        None => Handshake::Closed,
    }
}

/// What to look at.
const fn hint(why: Handshake) -> &'static str {
    match why {
        Handshake::TlsOnPlainPort => {
            "the client speaks TLS and the port has no `tls` block; set one, or http:// and insecure at the client"
        }
        Handshake::PlainOnTlsPort => "the client does not speak TLS; set https:// at the client",
        Handshake::NoClientCertificate => "the client shows no certificate, and client_ca_file asks for one",
        Handshake::BadClientCertificate => {
            "the client's certificate is not valid, or not from an authority in client_ca_file"
        }
        Handshake::Incompatible => "the client speaks no version of TLS or cipher suite that the port speaks",
        Handshake::RefusedByClient => {
            "the client refused the port's certificate: look at its ca_file, at the name that it connects to, \
             and at the certificate's names and dates"
        }
        Handshake::Malformed => "what the client sent is no TLS handshake",
        Handshake::Closed => "the client went away during the TLS handshake",
        Handshake::Timeout => "the TLS handshake took too long",
    }
}
