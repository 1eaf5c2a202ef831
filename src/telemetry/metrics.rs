//! Our own metrics: recorded with the `metrics` macros by whoever counts something, served as Prometheus
//! text 0.0.4 on a port of their own, with the names that Collector dashboards and alerts know.
//!
//! Two rules come from the exporter behind it: there is no idle timeout (a handle that is held would write
//! into nothing after one), and handles are made once and kept, with fixed labels.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Ticks per second in `/proc/self/stat`: fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// Connections served at a time; scrapers need one.
const CONNECTIONS: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const UPKEEP: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const UPTIME: &str = "otelcol_process_uptime";
const CPU_SECONDS: &str = "otelcol_process_cpu_seconds";
const MEMORY_RSS: &str = "otelcol_process_memory_rss";
const ALLOCATED: &str = "otelcol_process_runtime_heap_alloc_bytes";

/// What a user sets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where our own metrics are served; `null` switches them off.
    pub metrics: Option<SocketAddr>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { metrics: Some(SocketAddr::from(([127, 0, 0, 1], 8888))) }
    }
}

/// Why our own metrics are not there.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// There is a recorder already.
    #[error("install the metrics recorder")]
    Install(#[source] metrics_exporter_prometheus::BuildError),
    /// The address is taken or not ours.
    #[error("listen for scrapes of our own metrics on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Installs the recorder behind the `metrics` macros, once per process.
///
/// # Errors
/// When one is installed already.
pub fn install_recorder() -> Result<PrometheusHandle, MetricsError> {
    let handle = PrometheusBuilder::new().install_recorder().map_err(MetricsError::Install)?;
    describe_process();
    Ok(handle)
}

fn describe_process() {
    metrics::describe_gauge!(UPTIME, "Uptime of the process in seconds");
    metrics::describe_gauge!(CPU_SECONDS, "CPU user and system time of the process in seconds");
    metrics::describe_gauge!(MEMORY_RSS, "Resident memory of the process in bytes");
    metrics::describe_gauge!(ALLOCATED, "Bytes allocated on the heap");
}

/// The bound endpoint of our own metrics.
#[derive(Debug)]
pub struct MetricsEndpoint {
    listener: TcpListener,
    address: SocketAddr,
    handle: PrometheusHandle,
}

impl MetricsEndpoint {
    /// Binds; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr, handle: PrometheusHandle) -> Result<Self, MetricsError> {
        let failed = |source| MetricsError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, handle })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the token is cancelled, then lets running scrapes end.
    pub async fn serve(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = upkeep.tick() => self.handle.run_upkeep(),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => serve_connection(stream, &self.handle, &slots, &graceful),
                    Err(error) => {
                        tracing::warn!(%error, "accept a connection for our own metrics failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::info!("a scrape of our own metrics was cut off");
        }
    }
}

/// Spawns the connection, or closes it when there are too many.
fn serve_connection(
    stream: TcpStream,
    handle: &PrometheusHandle,
    slots: &Arc<Semaphore>,
    graceful: &GracefulShutdown,
) {
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        tracing::debug!("too many connections for our own metrics");
        return;
    };
    let handle = handle.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = answer(request.method(), request.uri().path(), &handle);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error, "connection for our own metrics ended");
        }
        drop(slot);
    });
}

fn answer(method: &Method, path: &str, handle: &PrometheusHandle) -> Response<Full<Bytes>> {
    let text = |status: StatusCode, content_type: &'static str, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    };
    match (path, method) {
        ("/metrics", &Method::GET | &Method::HEAD) => {
            record_process();
            text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", handle.render())
        }
        ("/metrics", _) => {
            let body = "use GET\n".to_owned();
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", body);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "try /metrics\n".to_owned()),
    }
}

/// Reads what the kernel says of this process; where it says nothing, the metrics stay away.
fn record_process() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    if let Some((cpu, started)) = cpu_and_start(&stat) {
        metrics::gauge!(CPU_SECONDS).set(cpu);
        if let Some(up) = first_number(&read("/proc/uptime")) {
            metrics::gauge!(UPTIME).set((up - started).max(0.0));
        }
    }
    if let Some(bytes) = resident_bytes(&read("/proc/self/status")) {
        metrics::gauge!(MEMORY_RSS).set(bytes);
    }
    if let Some(bytes) = super::memory::allocated() {
        metrics::gauge!(ALLOCATED).set(bytes as f64);
    }
}

/// CPU seconds used, and the start in seconds after boot, from `/proc/self/stat` (proc(5)).
fn cpu_and_start(stat: &str) -> Option<(f64, f64)> {
    // The name in parentheses may hold spaces and parentheses; numbers begin behind the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND, ticks(22)? / TICKS_PER_SECOND))
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    first_number(line).map(|kibibytes| kibibytes * 1024.0)
}

fn first_number(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn the_kernels_words_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 12300 1 2 3";
        assert_eq!(cpu_and_start(stat), Some((2.0, 123.0)));
        assert_eq!(cpu_and_start(""), None);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t  12 kB\n"), Some(12_288.0));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert_eq!(serde_json::from_str::<TelemetryConfig>("{}").unwrap(), TelemetryConfig::default());
        let off = serde_json::from_str::<TelemetryConfig>(r#"{"metrics":null}"#).unwrap();
        assert_eq!(off.metrics, None);
        assert!(serde_json::from_str::<TelemetryConfig>(r#"{"metrics_port":1}"#).is_err());
    }

    async fn ask(address: SocketAddr, request_line: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Scenario: a scrape, two wrong requests, a shutdown. Guarantees: text 0.0.4 with the process and what
    /// others counted; the server ends when it is told to.
    #[tokio::test]
    async fn a_scrape_shows_what_was_counted() {
        let handle = install_recorder().unwrap();
        metrics::counter!("rollguard_test_total", "reason" => "x").increment(3);
        let endpoint = MetricsEndpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), handle).await.unwrap();
        let address = endpoint.address();
        let stop = CancellationToken::new();
        let server = tokio::spawn(endpoint.serve(stop.clone()));
        let page = ask(address, "GET /metrics").await;
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{page}");
        assert!(page.contains("rollguard_test_total{reason=\"x\"} 3"), "{page}");
        for name in [UPTIME, CPU_SECONDS, MEMORY_RSS] {
            assert!(page.contains(&format!("# TYPE {name} gauge")), "{page}");
        }
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics").await.starts_with("HTTP/1.1 405"));
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
