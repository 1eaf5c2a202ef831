//! When a request is sent again, where to, and when it is given up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rollguard::forward::{ExporterConfig, OtlpConfig, RetryConfig};
use rollguard::model::UnixNanos;
use rollguard::pipeline::clock::Clock;
use rollguard::receiver::ReceiverConfig;
use rollguard::spool::FileStorageConfig;

use super::backend::{Answer, Backend};
use super::forward::{Chain, grpc, in_order, otlp, wait_until};
use super::support::*;

/// The exporter over both protocols.
fn both(config: &OtlpConfig) -> [(&'static str, ExporterConfig); 2] {
    let config = || config.clone().into();
    [("otlp_grpc", ExporterConfig::OtlpGrpc(config())), ("otlp_http", ExporterConfig::OtlpHttp(config()))]
}

/// A retry that would come after the test.
fn after_the_test() -> RetryConfig {
    let hour = Duration::from_secs(3_600);
    RetryConfig { initial_interval: hour, max_interval: hour, ..RetryConfig::default() }
}

/// Scenario: a backend that never takes a request. Guarantees: it is given up once it is as old as is configured; its
/// records are counted as expired, and the queue is empty.
#[tokio::test]
async fn what_is_too_old_is_given_up_and_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _shown = metrics::set_default_local_recorder(&recorder);
    let backend = Backend::start().await;
    backend.answers(|_| Answer::Busy);
    let mut exporter = otlp(&backend);
    exporter.retry_on_failure.max_elapsed_time = Some(Duration::from_millis(50));
    let chain = Chain::start([("otlp_grpc/b", grpc(exporter))]).await;
    chain.first.export(traces(&["a", "b"])).await.unwrap();
    wait_until("it is given up", || chain.queued() == 0).await;
    assert!(backend.taken().is_empty() && backend.calls().len() >= 2, "{}", backend.calls().len());
    let page = recorder.handle().render();
    let dropped = page.lines().find(|line| {
        line.starts_with("rollguard_exporter_dropped_records_total{")
            && ["otlp_grpc/b", "traces", "expired"].iter().all(|label| line.contains(label))
    });
    assert!(dropped.is_some_and(|line| line.ends_with(" 2")), "{page}");
}

/// A clock that somebody sets ten minutes forward all the time.
#[derive(Debug, Default)]
struct Set(AtomicU64);

impl Clock for Set {
    fn now(&self) -> UnixNanos {
        UnixNanos::from_secs(1_800_000_000 + 600 * self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Scenario: the clock is set while requests wait for a backend. Guarantees: they are as old as they are, and are
/// delivered.
#[tokio::test]
async fn a_clock_that_is_set_does_not_make_requests_old() {
    let backend = Backend::start().await;
    let calls = AtomicUsize::new(0);
    backend.answers(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0..3 => Answer::Busy,
        _ => Answer::Take,
    });
    let exporters = [("otlp_grpc", grpc(otlp(&backend)))];
    let chain = Chain::by(Arc::new(Set::default()), config(), &FileStorageConfig::default(), exporters).await;
    chain.first.export(traces(&["a"])).await.unwrap();
    wait_until("all is settled", || chain.queued() == 0).await;
    assert_eq!(backend.taken(), [traces(&["a"])]);
}

/// Scenario: a busy backend that says when to come back. Guarantees: nobody comes back before.
#[tokio::test]
async fn the_wait_that_a_backend_asks_for_is_kept() {
    let backends = [Backend::start().await, Backend::start().await];
    let mut chains = Vec::new();
    for (n, backend) in backends.iter().enumerate() {
        let calls = AtomicUsize::new(0);
        backend.answers(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Later(1),
            _ => Answer::Take,
        });
        let [grpc, http] = both(&otlp(backend));
        let chain = Chain::start([if n == 0 { grpc } else { http }]).await;
        chain.first.export(traces(&["a"])).await.unwrap();
        chains.push(chain);
    }
    for (chain, backend) in chains.iter().zip(&backends) {
        wait_until("all is settled", || chain.queued() == 0).await;
        let calls = backend.calls();
        assert_eq!(
            calls.iter().map(|call| call.answer).collect::<Vec<_>>(),
            [Answer::Later(1), Answer::Take]
        );
        assert!(calls[1].at - calls[0].at >= Duration::from_secs(1), "{:?}", calls[1].at - calls[0].at);
    }
}

/// Scenario: a request that is too large is cut, and the backend refuses one of its pieces for good. Guarantees: only
/// that piece is dropped and remembered; the others arrive.
#[tokio::test]
async fn only_the_guilty_piece_of_a_large_request_is_dropped() {
    let backend = Backend::start().await;
    backend.answers(|message| match message.windows(6).any(|w| w == b"guilty") {
        true => Answer::GiveUp,
        false => Answer::Take,
    });
    let exporter = OtlpConfig { max_request_bytes: 64 << 10, ..in_order(otlp(&backend)) };
    let receiver = ReceiverConfig { max_request_bytes: 1 << 20, ..config() };
    let chain = Chain::with(receiver, [("otlp_grpc/b", grpc(exporter))]).await;
    let piece = |name: &str| traces(&[&name.repeat(50_000 / name.len())]);
    let pieces = ["first", "guilty", "last"].map(piece);
    chain.first.export(pieces.concat()).await.unwrap();
    wait_until("all is settled", || chain.queued() == 0).await;
    assert_eq!(backend.taken(), [pieces[0].clone(), pieces[2].clone()]);
    let rejected = chain.last_rejected("otlp_grpc/b");
    assert_eq!((rejected.len(), rejected[0].records, rejected[0].bytes), (1, 1, pieces[1].len()));
    assert_eq!(backend.calls().len(), 3, "nothing is sent again");
}

fn spread_over(addresses: &[SocketAddr], like: &Backend) -> OtlpConfig {
    let endpoints = addresses.iter().map(|address| format!("http://{address}")).collect();
    OtlpConfig { endpoint: None, endpoints, retry_on_failure: after_the_test(), ..otlp(like) }
}

/// Guarantees: several addresses share the requests.
#[tokio::test]
async fn several_addresses_take_turns() {
    for protocol in 0..2 {
        let backends = [Backend::start().await, Backend::start().await];
        let exporter = spread_over(&backends.each_ref().map(|b| b.address), &backends[0]);
        // One at a time: those that wait would be joined.
        let chain = Chain::start([both(&in_order(exporter)).into_iter().nth(protocol).unwrap()]).await;
        for n in 1..=10 {
            chain.first.export(traces(&["a"])).await.unwrap();
            wait_until("it arrives", || backends.iter().map(|b| b.taken().len()).sum::<usize>() == n).await;
        }
        assert_eq!(backends.each_ref().map(|b| b.taken().len()), [5, 5]);
    }
}

/// Scenario: one of two addresses is down, and a retry would take an hour. Guarantees: all goes to the other one at
/// once.
#[tokio::test]
async fn what_is_for_an_address_that_is_down_goes_to_the_next() {
    // Nobody listens there any more.
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for protocol in 0..2 {
        let backend = Backend::start().await;
        let exporter = spread_over(&[down, backend.address], &backend);
        let chain = Chain::start([both(&exporter).into_iter().nth(protocol).unwrap()]).await;
        for n in 0..10 {
            chain.first.export(traces(&[&format!("span-{n}")])).await.unwrap();
        }
        wait_until("all is settled", || chain.queued() == 0).await;
        let expected: usize = (0..10).map(|n| traces(&[&format!("span-{n}")]).len()).sum();
        assert_eq!(backend.taken().concat().len(), expected);
    }
}
