//! The real receivers in front of a world, on free ports, and a client that posts to them; the time is a number.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rollguard::model::UnixNanos;
use rollguard::pipeline::NoDownstream;
use rollguard::pipeline::clock::Clock;
use rollguard::receiver::{Doors, GrpcConfig, HttpConfig, ReceiverConfig, ReceiverDeps, Receivers};
use rollguard::telemetry::ProcessMemory;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::world::{World, at};

/// The time, set by the test.
#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> UnixNanos {
        UnixNanos(self.0.load(Ordering::Relaxed))
    }
}

/// The receivers of a world, and a client.
pub(super) struct Door {
    clock: Arc<TestClock>,
    address: SocketAddr,
    client: reqwest::Client,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Door {
    pub(super) async fn open(world: &World) -> Self {
        let clock = Arc::new(TestClock::default());
        let any = || "127.0.0.1:0".to_owned();
        let (grpc, http) = (
            GrpcConfig { endpoint: any(), ..Default::default() },
            HttpConfig { endpoint: any(), ..Default::default() },
        );
        let deps = ReceiverDeps {
            admission: world.intake.clone(),
            downstream: Arc::new(NoDownstream),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            doors: Doors::default(),
            memory: Arc::new(ProcessMemory),
        };
        let config = ReceiverConfig { grpc, http, ..Default::default() };
        let receivers = Receivers::bind(config, deps).await.expect("free ports");
        let address = receivers.http_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(receivers.serve(shutdown.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { clock, address, client, shutdown, serving }
    }

    pub(super) fn set_time(&self, now_s: u64) {
        self.clock.0.store(at(now_s) + 300_000_000, Ordering::Relaxed);
    }

    pub(super) async fn post(&self, path: &str, body: Vec<u8>) {
        let request = self.client.post(format!("http://{}{path}", self.address));
        let sent = request.header("content-type", "application/x-protobuf").body(body);
        assert_eq!(sent.send().await.expect("answered").status(), 200);
    }

    pub(super) async fn close(self) {
        self.shutdown.cancel();
        self.serving.await.expect("no panic");
    }
}
