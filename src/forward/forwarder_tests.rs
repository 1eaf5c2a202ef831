//! Faults of what sends: they must not go unseen, for what it should send would stay here.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::*;
use crate::model::UnixNanos;
use crate::pipeline::{Metadata, Passage};

/// Fails whoever asks it for an age, once it is broken.
#[derive(Default)]
struct FaultyClock(AtomicBool);

impl Clock for FaultyClock {
    fn now(&self) -> UnixNanos {
        UnixNanos(1)
    }

    fn monotonic(&self) -> Duration {
        assert!(!self.0.load(Ordering::Relaxed), "a fault");
        Duration::ZERO
    }
}

fn forwarder(clock: &Arc<FaultyClock>, exporters: serde_json::Value, folder: &std::path::Path) -> Forwarder {
    let config: ExportersConfig = serde_json::from_value(exporters).unwrap();
    let storage = FileStorageConfig { directory: folder.join("queues"), ..FileStorageConfig::default() };
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Forwarder::new(&config, &storage, &Credentials::default(), &clock).unwrap()
}

fn put(to: &dyn Downstream) {
    let (message, metadata) = (Bytes::from_static(&[0x0a, 0]), Metadata::default());
    let permit = to.reserve(DataType::Traces, &message, &metadata).unwrap().unwrap();
    permit.send(Passage { message, records: 1, metadata });
}

#[tokio::test]
async fn a_consumer_that_ends_by_a_fault_is_a_fault_of_the_exporters() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FaultyClock::default());
    let forwarder = forwarder(&clock, serde_json::json!({ "debug": {} }), folder.path());
    let (fault, downstream, shutdown) = (forwarder.fault(), forwarder.downstream(), CancellationToken::new());
    let running = tokio::spawn(forwarder.run(shutdown.clone(), Duration::from_secs(20)));
    put(&*downstream);
    clock.0.store(true, Ordering::Relaxed);
    put(&*downstream);
    fault.cancelled().await;
    clock.0.store(false, Ordering::Relaxed);
    shutdown.cancel();
    running.await.unwrap();
}

/// Scenario: an exporter with a queue on disk that ends in order. Guarantee: that is no fault.
#[tokio::test]
async fn an_end_in_order_is_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let exporters = serde_json::json!({
        "otlp_grpc": { "endpoint": "http://127.0.0.1:9", "sending_queue": { "storage": "file_storage" } },
    });
    let forwarder = forwarder(&Arc::default(), exporters, folder.path());
    let (fault, shutdown) = (forwarder.fault(), CancellationToken::new());
    let running = tokio::spawn(forwarder.run(shutdown.clone(), Duration::from_secs(20)));
    shutdown.cancel();
    running.await.unwrap();
    assert!(!fault.is_cancelled());
}
