//! Listening: sockets, connections, and an orderly end. Both ports speak HTTP/1.1 and HTTP/2 and serve both
//! protocols, told apart by content type, so a client with the wrong port still delivers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::door::{Door, Doors, Entered};
use super::exchange::{Exchange, ReceiverDeps};
use super::metrics::Transport;
use super::{ReceiverConfig, grpc, http};
use crate::pipeline::Admission;

/// Calls that one HTTP/2 connection may have open; clients queue the rest.
const STREAMS_PER_CONNECTION: u32 = 256;
/// Headers of a call, each with 32 bytes beside its own. A call with more is reset without a word of ours, so this is
/// well above what may go along with a message.
const HEADER_LIST_BYTES: u32 = 64 << 10;
/// Receive windows: large enough that a batch arrives without waiting for us, small enough that what all
/// open streams may have in flight stays bounded per connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Longest frame. A client that heeds it sends a usual batch in one piece, which is read by one call and wakes us
/// once, not for every 16 KiB. A frame is held whole, so it is small beside the windows.
const FRAME: u32 = 128 << 10;
/// How long a dead peer may go unnoticed.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long to wait when a connection cannot be accepted, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bound sockets, ready to serve.
pub struct Receivers<A> {
    grpc: TcpListener,
    http: TcpListener,
    exchange: Arc<Exchange<A>>,
    doors: Doors,
    config: ReceiverConfig,
}

impl<A: Admission> Receivers<A> {
    /// Binds both addresses.
    ///
    /// # Errors
    /// When an address is not valid or taken; the message names it.
    pub async fn bind(config: ReceiverConfig, deps: ReceiverDeps<A>) -> io::Result<Self> {
        let grpc = listen(&config.grpc.endpoint).await?;
        let http = listen(&config.http.endpoint).await?;
        let doors = deps.doors.clone();
        let exchange = Arc::new(Exchange::new(deps, &config));
        let receivers = Self { grpc, http, exchange, doors, config };
        receivers.announce()?;
        Ok(receivers)
    }

    /// Where OTLP/gRPC listens.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn grpc_addr(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where OTLP/HTTP listens.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn http_addr(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// One line, for the commonest report of all is "it does not receive anything".
    fn announce(&self) -> io::Result<()> {
        let (grpc, http) = (self.grpc_addr()?, self.http_addr()?);
        if grpc.ip().is_loopback() || http.ip().is_loopback() {
            tracing::warn!(
                %grpc, %http,
                "receiving OTLP on loopback only: other machines and containers cannot reach it; set \
                 receiver.grpc.endpoint to 0.0.0.0:4317 and receiver.http.endpoint to 0.0.0.0:4318 to change that"
            );
        } else {
            tracing::info!(%grpc, %http, "receiving OTLP");
        }
        self.config.notes().iter().for_each(|note| tracing::warn!("{note}"));
        Ok(())
    }

    /// Serves until `shutdown` is cancelled, then lets requests in progress end, up to the drain timeout.
    pub async fn serve(self, shutdown: CancellationToken) {
        let connections = Arc::new(Semaphore::new(self.config.max_connections));
        let on = |listener, guard, transport| {
            let server = Server {
                door: Arc::new(Door::new(guard, transport)),
                exchange: Arc::clone(&self.exchange),
                connections: Arc::clone(&connections),
                header_timeout: self.config.header_timeout,
                max_age: self.config.max_connection_age,
            };
            server.run(listener, shutdown.clone(), self.config.drain_timeout)
        };
        let (grpc, http) = (self.doors.grpc, self.doors.http);
        tokio::join!(on(self.grpc, grpc, Transport::Grpc), on(self.http, http, Transport::Http));
        if tokio::time::timeout(self.config.drain_timeout, self.exchange.settled()).await.is_err() {
            tracing::warn!("messages are still being written to disk; they count if that ends in time");
        }
    }
}

async fn listen(endpoint: &str) -> io::Result<TcpListener> {
    TcpListener::bind(endpoint)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {endpoint}: {error}")))
}

struct Server<A> {
    door: Arc<Door>,
    exchange: Arc<Exchange<A>>,
    connections: Arc<Semaphore>,
    header_timeout: Duration,
    max_age: Duration,
}

impl<A: Admission> Server<A> {
    async fn run(self, listener: TcpListener, shutdown: CancellationToken, drain_timeout: Duration) {
        let mut tasks = JoinSet::new();
        while let Some((stream, place)) = shutdown.run_until_cancelled(self.accept(&listener)).await {
            self.exchange.metrics.connections.increment(1);
            let serve = self.connection(stream, shutdown.clone());
            tasks.spawn(async move {
                serve.await;
                drop(place);
            });
            while tasks.try_join_next().is_some() {}
        }
        drop(listener);
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!(?drain_timeout, "connections still busy at the drain deadline; closing them");
        }
    }

    /// The next connection, once there is a place for it.
    async fn accept(&self, listener: &TcpListener) -> (TcpStream, OwnedSemaphorePermit) {
        loop {
            let Ok(place) = Arc::clone(&self.connections).acquire_owned().await else {
                // Nobody closes the semaphore.
                std::future::pending().await
            };
            match listener.accept().await {
                Ok((stream, _)) => return (stream, place),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<A> {
        let (exchange, door) = (Arc::clone(&self.exchange), Arc::clone(&self.door));
        let header_timeout = self.header_timeout;
        let age = age_of(&stream, self.max_age);
        async move {
            let _ = stream.set_nodelay(true);
            // A peer that connects and says nothing is not waited for.
            let first_byte = tokio::time::timeout(header_timeout, stream.readable());
            if !matches!(shutdown.run_until_cancelled(first_byte).await, Some(Ok(Ok(())))) {
                return;
            }
            let entering = door.enter(stream, header_timeout, exchange.now());
            let Some(Some(entered)) = shutdown.run_until_cancelled(entering).await else { return };
            match entered {
                Entered::Plain(stream) => serve(stream, exchange, door, header_timeout, shutdown, age).await,
                Entered::Tls(stream) => serve(*stream, exchange, door, header_timeout, shutdown, age).await,
            }
        }
    }
}

/// Serves a connection until its peer, its age or a shutdown ends it.
async fn serve<A: Admission>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    exchange: Arc<Exchange<A>>,
    door: Arc<Door>,
    header_timeout: Duration,
    shutdown: CancellationToken,
    age: impl Future<Output = ()>,
) {
    let service = service_fn(move |request| answer(Arc::clone(&exchange), Arc::clone(&door), request));
    let builder = builder(header_timeout);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // What is in progress ends; the client is told to come back on another connection.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled_owned() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = age => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The end of a connection's life, if it has one. Clients that connected together do not come back together:
/// up to a tenth of the time is taken off by the port they have.
fn age_of(stream: &TcpStream, max_age: Duration) -> impl Future<Output = ()> + Send + use<> {
    let port = stream.peer_addr().map_or(0, |peer| peer.port());
    async move {
        if max_age.is_zero() {
            return std::future::pending().await;
        }
        tokio::time::sleep(max_age - max_age / 10 * u32::from(port % 64) / 64).await;
    }
}

fn builder(header_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn answer<A: Admission>(
    exchange: Arc<Exchange<A>>,
    door: Arc<Door>,
    request: ::http::Request<Incoming>,
) -> Result<::http::Response<Body>, Infallible> {
    let is_grpc =
        request.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    Ok(match is_grpc {
        true => grpc::handle(&exchange, &door, request).await,
        false => http::handle(&exchange, &door, request).await,
    })
}
