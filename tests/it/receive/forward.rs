//! Two gateways in a row: what the first one receives reaches the second one unchanged.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rollguard::forward::{Compression, DownstreamConfig, ForwardConfig, Forwarder, RetryConfig};
use rollguard::pipeline::Refused;
use rollguard::pipeline::clock::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use super::support::*;

fn to(downstream: SocketAddr, compression: Compression) -> ForwardConfig {
    let retry = RetryConfig {
        initial: Duration::from_millis(20),
        max_interval: Duration::from_millis(40),
        max_elapsed: Duration::from_secs(20),
    };
    let downstream = DownstreamConfig {
        endpoint: format!("http://{downstream}"),
        queue_bytes: 1 << 20,
        timeout: Duration::from_secs(5),
        retry,
        compression,
    };
    ForwardConfig { traces: Some(downstream.clone()), metrics: None, logs: Some(downstream) }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

struct Chain {
    first: Gateway,
    last: Gateway,
    shutdown: CancellationToken,
    forwarding: tokio::task::JoinHandle<()>,
}

async fn chain(compression: Compression) -> Chain {
    let last = Gateway::start().await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let forwarder = Forwarder::new(&to(last.grpc, compression), &clock).unwrap();
    let first = Gateway::start_with(config(), Capture::default(), forwarder.downstream()).await;
    let shutdown = CancellationToken::new();
    let forwarding = tokio::spawn(forwarder.run(shutdown.clone(), Duration::from_secs(5)));
    Chain { first, last, shutdown, forwarding }
}

/// Scenario: unknown fields and invalid UTF-8, plain and compressed. Guarantees: the same bytes come out.
#[tokio::test]
async fn g8_g19_bytes_are_passed_on_unchanged() {
    for compression in [Compression::None, Compression::Gzip] {
        let chain = chain(compression).await;
        let mut message = traces(&["abc"]);
        let at = message.windows(3).position(|w| w == b"abc").unwrap();
        message[at] = 0xfe;
        message.extend([0xa2, 0x06, 3, 1, 2, 3]);
        chain.first.export(message.clone()).await.unwrap();
        wait_until("forwarded", || !chain.last.passed.messages().is_empty()).await;
        assert_eq!(chain.last.passed.messages()[0].1, message);
    }
}

/// Scenario: the downstream refuses at first. Guarantees: counted once here, delivered once later.
#[tokio::test]
async fn g12_a_refusing_downstream_is_tried_again_and_nothing_counts_twice() {
    let chain = chain(Compression::None).await;
    chain.last.spans.refuse(Some(Refused::ShuttingDown));
    chain.first.export(traces(&["a"])).await.unwrap();
    wait_until("tried", || chain.last.spans.attempts() >= 1).await;
    chain.last.spans.refuse(None);
    wait_until("delivered", || !chain.last.spans.operations().is_empty()).await;
    assert_eq!((chain.first.spans.operations().len(), chain.last.spans.operations().len()), (1, 1));
}

/// Guarantees: what was accepted before shutdown is delivered before the end.
#[tokio::test]
async fn o9_the_queue_drains_at_shutdown() {
    let chain = chain(Compression::None).await;
    for _ in 0..50 {
        chain.first.export(traces(&["a"])).await.unwrap();
    }
    chain.shutdown.cancel();
    chain.forwarding.await.unwrap();
    assert_eq!(chain.last.spans.operations().len(), 50);
}
