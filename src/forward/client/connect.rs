//! Connections, with TLS where an address says https. A connection is made with the certificates that are in
//! the files then.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::gather::Gathered;
use crate::credentials::ClientTls;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections to the addresses of one exporter.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Option<Arc<ClientTls>>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(mut tcp: HttpConnector, tls: Option<Arc<ClientTls>>, timeout: Duration) -> Self {
        tcp.enforce_http(false);
        Self { tcp, tls, timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let tls = self.tls.clone().filter(|_| address.scheme_str() == Some("https"));
        let (connecting, timeout) = (self.tcp.call(address.clone()), self.timeout);
        Box::pin(async move {
            let plain = connecting.await?;
            let Some(tls) = tls else { return Ok(Stream::Plain(Gathered::new(plain))) };
            let name = match tls.server_name() {
                Some(name) => name.clone(),
                None => name_of(&address)?,
            };
            let handshake = TlsConnector::from(tls.current()).connect(name, plain.into_inner());
            let stream = tokio::time::timeout(timeout, handshake)
                .await
                .map_err(|_| "the TLS handshake took too long")?
                .map_err(|error| format!("the TLS handshake failed: {error}"))?;
            Ok(Stream::Tls(Box::new(TokioIo::new(stream))))
        })
    }
}

/// The name that the other side's certificate must have.
fn name_of(address: &Uri) -> Result<ServerName<'static>, BoxError> {
    let host = address.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    Ok(ServerName::try_from(bare.to_owned())?)
}

/// A connection of either kind.
pub(super) enum Stream {
    Plain(Gathered<TokioIo<TcpStream>>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(stream) => stream.get_ref().connected(),
            Self::Tls(stream) => {
                let (tcp, tls) = stream.inner().get_ref();
                let connected = tcp.connected();
                match tls.alpn_protocol() {
                    Some(b"h2") => connected.negotiated_h2(),
                    _ => connected,
                }
            }
        }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, into),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, from),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, from),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, from),
        }
    }
}
