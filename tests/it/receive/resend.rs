//! G12: a message that comes again within a minute, byte by byte, counts once and is passed on once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rollguard::pipeline::Refused;
use rollguard::receiver::ReceiverConfig;
use tonic::codec::CompressionEncoding;

use super::support::*;

async fn remembering() -> Gateway {
    let config = ReceiverConfig { deduplicate: Duration::from_secs(60), ..config() };
    let passed = Capture::default();
    Gateway::start_with(config, passed.clone(), Arc::new(passed)).await
}

/// Scenario: the same bytes over gRPC, gzipped, and over HTTP. Guarantees: one of them counts; all are answered
/// like the first, partial success included.
#[tokio::test]
async fn g12_the_same_bytes_count_once_whatever_way_they_come() {
    let gateway = remembering().await;
    let message = with_bad_id();
    let first = gateway.export(message.clone()).await.unwrap();
    assert!(!first.is_empty(), "the bad span is reported");
    let gzip = Some(CompressionEncoding::Gzip);
    let again = export(gateway.grpc, "trace.v1.TraceService", message.clone().into(), gzip).await.unwrap();
    let http = client().post(gateway.url("/v1/traces")).header("content-type", "application/x-protobuf");
    let http = http.body(message).send().await.unwrap().bytes().await.unwrap();
    assert_eq!((&again, &http), (&first, &first));
    assert_eq!(gateway.spans.operations(), [b"good"]);
    assert_eq!((gateway.spans.duplicates(), gateway.passed.messages().len()), (4, 1));
    gateway.export(traces(&["other"])).await.unwrap();
    assert_eq!(gateway.spans.operations().len(), 2);
    // An empty request of another signal is another message.
    for _ in 0..2 {
        export(gateway.grpc, "logs.v1.LogsService", Bytes::new(), None).await.unwrap();
        export(gateway.grpc, "metrics.v1.MetricsService", Bytes::new(), None).await.unwrap();
    }
    assert_eq!((gateway.spans.duplicates(), gateway.passed.messages().len()), (4, 4));
}

/// Guarantees: what was refused is not known, so its resend counts.
#[tokio::test]
async fn g12_a_message_is_entered_only_when_it_is_committed() {
    let gateway = remembering().await;
    gateway.spans.refuse(Some(Refused::ShuttingDown));
    gateway.export(traces(&["a"])).await.unwrap_err();
    gateway.spans.refuse(None);
    gateway.export(traces(&["a"])).await.unwrap();
    assert_eq!((gateway.spans.operations().len(), gateway.spans.duplicates()), (1, 0));
}

/// Scenario: the same message many times at once, while the queue is full at first. Guarantees: it is neither
/// lost nor doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g12_the_same_bytes_in_flight_at_once_count_once() {
    let gateway = remembering().await;
    gateway.spans.refuse(Some(Refused::QueueFull));
    let message: Bytes = traces(&["a"]).into();
    let sends: Vec<_> = (0..16)
        .map(|_| {
            let (to, message) = (gateway.grpc, message.clone());
            tokio::spawn(async move { export(to, "trace.v1.TraceService", message, None).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    gateway.spans.refuse(None);
    for send in sends {
        send.await.unwrap().unwrap();
    }
    assert_eq!((gateway.spans.operations().len(), gateway.passed.messages().len()), (1, 1));
    assert_eq!(gateway.spans.duplicates(), 15);
}
