//! OTLP/gRPC.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;
use rollguard::pipeline::{DataType, NoDownstream, Refused};
use tonic::Code;
use tonic::codec::CompressionEncoding;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

#[tokio::test]
async fn g1_g16_every_signal_is_accepted_with_an_empty_answer() {
    let gateway = Gateway::start().await;
    assert!(gateway.export(traces(&["a", "b"])).await.unwrap().is_empty());
    let scope = ScopeLogs { log_records: vec![LogRecord::default()], ..Default::default() };
    let logs = vec![ResourceLogs { scope_logs: vec![scope], ..Default::default() }];
    let logs = ExportLogsServiceRequest { resource_logs: logs }.encode_to_vec();
    assert!(export(gateway.grpc, "logs.v1.LogsService", logs.into(), None).await.unwrap().is_empty());
    let empty = bytes::Bytes::new();
    assert!(export(gateway.grpc, "metrics.v1.MetricsService", empty, None).await.unwrap().is_empty());
    assert_eq!(gateway.spans.operations(), [b"a", b"b"]);
    let signals: Vec<DataType> = gateway.passed.messages().into_iter().map(|m| m.0).collect();
    assert_eq!(signals, [DataType::Traces, DataType::Logs, DataType::Metrics]);
}

#[tokio::test]
async fn g1_g13_unknown_methods_are_unimplemented() {
    let gateway = Gateway::start_with(config(), Capture::default(), Arc::new(NoDownstream)).await;
    for service in ["profiles.v1development.ProfilesService", "trace.v2.TraceService"] {
        let status = export(gateway.grpc, service, vec![].into(), None).await;
        assert_eq!(status.unwrap_err().code(), Code::Unimplemented, "{service}");
    }
    for method in ["grpc.health.v1.Health/Check", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
    {
        let status = call(gateway.grpc, method).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{method}");
    }
    let http = client().post(gateway.url("/v1development/profiles")).send().await.unwrap();
    assert_eq!(http.status(), 404);
}

/// Scenario: many calls on one connection wait for room. Guarantees: another one is answered meanwhile.
#[tokio::test]
async fn g2_calls_of_one_connection_do_not_wait_for_each_other() {
    let gateway = Gateway::start().await;
    gateway.spans.refuse(Some(Refused::QueueFull));
    let channel = channel(gateway.grpc).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let message = traces(&["a"]).into();
            tokio::spawn(export_on(channel.clone(), "trace.v1.TraceService", message, None))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    gateway.spans.refuse(None);
    let logs = export_on(channel, "logs.v1.LogsService", vec![].into(), None);
    tokio::time::timeout(Duration::from_millis(500), logs).await.unwrap().unwrap();
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert_eq!(gateway.spans.operations().len(), 20);
}

/// Scenario: connections end at an age of 60 ms. Guarantees: every call of a client that goes on is answered, and
/// counts once. A client whose connection ends between a call's making and its sending makes it again by itself, as
/// gRPC clients do (transparent retry); the one of this test has to be told.
#[tokio::test]
async fn g6_connections_end_at_their_age_and_no_call_is_lost() {
    let short =
        rollguard::receiver::ReceiverConfig { max_connection_age: Duration::from_millis(60), ..config() };
    let passed = Capture::default();
    let gateway = Gateway::start_with(short, passed.clone(), std::sync::Arc::new(passed)).await;
    let idle = tokio::net::TcpStream::connect(gateway.grpc).await.unwrap();
    let channel = channel(gateway.grpc).await;
    let export = || export_on(channel.clone(), "trace.v1.TraceService", traces(&["a"]).into(), None);
    let is_unsent = |status: &tonic::Status| matches!(status.code(), Code::Cancelled | Code::Unavailable);
    for _ in 0..30 {
        // On a busy machine a connection may be over before a call gets to it, again and again.
        for attempt in 1.. {
            let Err(unsent) = export().await else { break };
            assert!(is_unsent(&unsent) && attempt < 100, "attempt {attempt}: {unsent:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(gateway.spans.operations().len(), 30);
    drop(idle);
    let request = b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
                    content-length: 0\r\n\r\n";
    let mut answer = Vec::new();
    // The same over HTTP/1.1, where a connection that ended before the request is read gives no answer.
    while answer.is_empty() {
        let mut kept = tokio::net::TcpStream::connect(gateway.http).await.unwrap();
        if kept.write_all(request).await.is_ok() {
            // It ends by itself, or this does not.
            let _ = kept.read_to_end(&mut answer).await;
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn g3_gzip_and_zstd_are_taken_and_others_are_named() {
    let gateway = Gateway::start().await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let message = traces(&["packed"]).into();
        export(gateway.grpc, "trace.v1.TraceService", message, Some(encoding)).await.unwrap();
    }
    assert_eq!(gateway.spans.operations().len(), 2);

    let _ = rustls::crypto::ring::default_provider().install_default();
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let answer = h2
        .post(format!("http://{}{path}", gateway.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", "snappy")
        .body(vec![1, 0, 0, 0, 0])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["grpc-status"], "12");
    assert!(answer.headers()["grpc-accept-encoding"].to_str().unwrap().contains("gzip"));
}

#[tokio::test]
async fn g4_too_large_is_final_before_and_after_inflation() {
    let gateway = Gateway::start().await;
    let large = traces(&["x".repeat(LIMIT).as_str()]);
    for compression in [None, Some(CompressionEncoding::Gzip)] {
        let message = large.clone().into();
        let status = export(gateway.grpc, "trace.v1.TraceService", message, compression).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{compression:?}");
        assert!(status.details().is_empty(), "RetryInfo would make it retryable");
    }
    assert!(gateway.spans.operations().is_empty());
}

#[tokio::test]
async fn g7_nothing_is_accepted_as_nothing() {
    let gateway = Gateway::start().await;
    assert!(gateway.export(vec![]).await.unwrap().is_empty());
    assert!(gateway.spans.operations().is_empty());
}

#[tokio::test]
async fn g10_invalid_utf8_is_counted_and_passed_on_as_it_is() {
    let gateway = Gateway::start().await;
    let mut message = traces(&["abc"]);
    let at = message.windows(3).position(|w| w == b"abc").unwrap();
    message[at] = 0xff;
    gateway.export(message.clone()).await.unwrap();
    assert_eq!(gateway.spans.operations(), [b"\xffbc"]);
    assert_eq!(gateway.passed.messages()[0].1, message);
}

#[tokio::test]
async fn g11_g17_bad_ids_are_a_partial_success() {
    let gateway = Gateway::start().await;
    let answer = gateway.export(with_bad_id()).await.unwrap();
    let partial = ExportTraceServiceResponse::decode(answer).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("16 bytes"));
    assert_eq!(gateway.spans.operations(), [b"good"]);
    assert_eq!(gateway.passed.messages()[0].1, without_bad_id(), "only the bad span is cut out");
}

#[tokio::test]
async fn g11_g17_a_log_record_with_a_bad_id_is_a_partial_success_too() {
    let gateway = Gateway::start().await;
    let good = LogRecord { severity_number: 9, ..Default::default() };
    let bad = LogRecord { span_id: vec![1; 9], ..good.clone() };
    let message = |log_records| {
        let scope = ScopeLogs { log_records, ..Default::default() };
        let resource = ResourceLogs { scope_logs: vec![scope], ..Default::default() };
        ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec()
    };
    let sent = message(vec![good.clone(), bad.clone(), bad]);
    let answer = export(gateway.grpc, "logs.v1.LogsService", sent.into(), None).await.unwrap();
    let partial = ExportLogsServiceResponse::decode(answer).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 2);
    assert!(partial.error_message.contains("log records"));
    assert_eq!(gateway.passed.messages()[0].1, message(vec![good]));
}

#[tokio::test]
async fn g14_g15_a_full_queue_is_unavailable_with_both_retry_infos() {
    let gateway = Gateway::start().await;
    gateway.spans.refuse(Some(Refused::QueueFull));
    let status = gateway.export(traces(&["a"])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let retry_info = [0x0a, 0x02, 0x08, 0x01];
    assert!(status.details().windows(4).any(|w| w == retry_info));
    let trailer = status.metadata().get_bin("google.rpc.retryinfo-bin").unwrap();
    assert_eq!(trailer.to_bytes().unwrap(), retry_info[..]);
    assert!(gateway.spans.attempts() > 1, "a short wait comes before the refusal");
    assert!(gateway.passed.messages().is_empty(), "what is refused is not passed on");
}

#[tokio::test]
async fn g15_a_queue_that_empties_in_time_costs_nothing() {
    let gateway = Gateway::start().await;
    gateway.passed.fill(true);
    let (passed, spans) = (gateway.passed.clone(), gateway.spans.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(spans.attempts(), 0, "room downstream comes before the commit");
        passed.fill(false);
    });
    gateway.export(traces(&["a"])).await.unwrap();
    assert_eq!((gateway.spans.operations().len(), gateway.passed.messages().len()), (1, 1));
}

#[tokio::test]
async fn g14_shutting_down_is_unavailable_at_once() {
    let gateway = Gateway::start().await;
    gateway.spans.refuse(Some(Refused::ShuttingDown));
    assert_eq!(gateway.export(traces(&["a"])).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(gateway.spans.attempts(), 1);
}

#[tokio::test]
async fn undecodable_is_final_and_counts_nothing() {
    let gateway = Gateway::start().await;
    let mut message = traces(&["a", "b"]);
    message.extend([0x0a, 0x7f]);
    let status = gateway.export(message).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(gateway.spans.operations().is_empty() && gateway.passed.messages().is_empty());
}

#[tokio::test]
async fn o9_shutdown_ends_idle_connections_and_serve() {
    let gateway = Gateway::start().await;
    gateway.export(traces(&["a"])).await.unwrap();
    let idle = tokio::net::TcpStream::connect(gateway.grpc).await.unwrap();
    gateway.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), gateway.served).await.unwrap().unwrap();
    drop(idle);
}
