//! Headers that go along with a message: how many of them.

use rollguard::forward::OtlpConfig;
use rollguard::receiver::ReceiverConfig;
use tonic::Code;

use super::backend::Backend;
use super::forward::{Chain, grpc, otlp, wait_until};
use super::support::*;

/// Scenario: a sender whose header that goes along is longer than any queue would keep. Guarantees: it is told for
/// good, by both protocols, so that it does not send the same again and again, and verdicts do not wait for it; one
/// that just fits is passed on.
#[tokio::test]
async fn headers_that_are_too_long_are_refused_for_good() {
    let backend = Backend::start().await;
    let exporter = OtlpConfig { metadata_keys: vec!["x-tenant".to_owned()], ..otlp(&backend) };
    let receiver = ReceiverConfig { include_metadata: true, ..config() };
    let chain = Chain::with(receiver, [("otlp_grpc", grpc(exporter))]).await;
    // Two lengths of 8 bytes and the name come to it.
    let most = (16 << 10) - 16 - "x-tenant".len();
    for (length, is_taken) in [(most, true), (most + 1, false)] {
        let tenant = "t".repeat(length);
        let mut request = tonic::Request::new(traces(&["a"]).into());
        request.metadata_mut().insert("x-tenant", tenant.parse().unwrap());
        let answer = export_request(channel(chain.first.grpc).await, request).await;
        let post =
            client().post(chain.first.url("/v1/traces")).header("content-type", "application/x-protobuf");
        let over_http = post.header("x-tenant", &tenant).body(traces(&["b"])).send().await.unwrap();
        if is_taken {
            answer.unwrap();
            assert_eq!(over_http.status(), 200);
            continue;
        }
        let says = "the headers that are passed on are longer than 16 KiB";
        let status = answer.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, says));
        assert_eq!(over_http.status(), 400);
        assert!(over_http.text().await.unwrap().contains(says));
    }
    wait_until("what fits arrives", || chain.queued() == 0).await;
    assert_eq!((backend.taken().len(), chain.first.spans.operations().len()), (2, 2));
    assert!(chain.first.spans.blinded().is_empty());
}
