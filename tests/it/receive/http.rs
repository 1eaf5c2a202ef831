//! OTLP/HTTP.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rollguard::pipeline::Refused;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

struct Answer {
    status: u16,
    content_type: String,
    retry_after: Option<String>,
    body: Bytes,
}

async fn post(gateway: &Gateway, content_type: &str, encoding: &str, body: Vec<u8>) -> Answer {
    let mut request =
        client().post(gateway.url("/v1/traces")).header("content-type", content_type).body(body);
    if !encoding.is_empty() {
        request = request.header("content-encoding", encoding);
    }
    answer(request).await
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    Answer {
        status: response.status().as_u16(),
        content_type: header("content-type").unwrap_or_default(),
        retry_after: header("retry-after"),
        body: response.bytes().await.unwrap(),
    }
}

const JSON_SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[
    {"traceId":"","name":"from json","kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;

#[tokio::test]
async fn h1_only_post_and_only_the_three_paths() {
    let gateway = Gateway::start().await;
    let got = answer(client().get(gateway.url("/v1/traces"))).await;
    assert_eq!((got.status, got.content_type.starts_with("text/plain")), (405, true));
    assert_eq!(answer(client().post(gateway.url("/v1/spans"))).await.status, 404);
    for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        let request = client().post(gateway.url(path)).header("content-type", PROTOBUF);
        assert_eq!(answer(request).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn h1_http2_without_tls_works_on_both_ports() {
    let gateway = Gateway::start().await;
    let h2 = reqwest::Client::builder();
    let _ = client();
    let h2 = h2.no_proxy().http2_prior_knowledge().build().unwrap();
    for addr in [gateway.http, gateway.grpc] {
        let request = h2.post(format!("http://{addr}/v1/traces")).header("content-type", PROTOBUF);
        assert_eq!(answer(request.body(traces(&["a"]))).await.status, 200);
    }
    assert_eq!(gateway.spans.operations().len(), 2);
}

#[tokio::test]
async fn h2_the_answer_has_the_type_of_the_request() {
    let gateway = Gateway::start().await;
    let got = post(&gateway, PROTOBUF, "", traces(&["a"])).await;
    assert_eq!((got.status, got.content_type.as_str(), got.body.len()), (200, PROTOBUF, 0));
    let got = post(&gateway, "application/json; charset=utf-8", "", JSON_SPAN.into()).await;
    assert_eq!((got.status, got.content_type.as_str(), &got.body[..]), (200, JSON, &b"{}"[..]));
    assert_eq!(gateway.spans.operations(), [b"a".to_vec(), b"from json".to_vec()]);
    let got = post(&gateway, "text/plain", "", vec![]).await;
    assert_eq!((got.status, got.content_type.starts_with("text/plain")), (415, true));
    assert_eq!(answer(client().post(gateway.url("/v1/traces"))).await.status, 415);
}

#[tokio::test]
async fn g19_json_is_passed_on_as_protobuf() {
    let gateway = Gateway::start().await;
    post(&gateway, JSON, "", JSON_SPAN.into()).await;
    let message = gateway.passed.messages().remove(0).1;
    assert!(message.windows(9).any(|w| w == b"from json") && !message.contains(&b'{'));
}

#[tokio::test]
async fn h3_encodings() {
    let gateway = Gateway::start().await;
    let message = traces(&["a"]);
    let (head, tail) = message.split_at(5);
    let cases = [
        ("gzip", gzip(&message)),
        ("gzip", [gzip(head), gzip(tail)].concat()),
        ("zstd", zstd::encode_all(&message[..], 0).unwrap()),
    ];
    let count = cases.len();
    for (encoding, body) in cases {
        assert_eq!(post(&gateway, PROTOBUF, encoding, body).await.status, 200, "{encoding}");
    }
    assert_eq!(gateway.spans.operations().len(), count);
    for (encoding, body) in [("br", message.clone()), ("gzip", message)] {
        let got = post(&gateway, PROTOBUF, encoding, body).await;
        assert_eq!((got.status, got.content_type.as_str()), (400, PROTOBUF), "{encoding}");
    }
}

#[tokio::test]
async fn h4_too_large_is_413_on_the_wire_and_inflated() {
    let gateway = Gateway::start().await;
    let large = traces(&["x".repeat(LIMIT).as_str()]);
    assert_eq!(post(&gateway, PROTOBUF, "", large.clone()).await.status, 413);
    let got = post(&gateway, JSON, "gzip", gzip(&large)).await;
    assert_eq!((got.status, got.content_type.as_str()), (413, JSON));
    // Without a length, so that only reading tells.
    let mut stream = chunked(&gateway).await;
    let chunk = format!("{:x}\r\n{}\r\n", LIMIT + 1, "x".repeat(LIMIT + 1));
    let _ = stream.write_all(chunk.as_bytes()).await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 413"));
}

async fn chunked(gateway: &Gateway) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(gateway.http).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
                transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn read_head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = vec![0; 1024];
    let length = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut head)).await.unwrap().unwrap();
    String::from_utf8_lossy(&head[..length]).into_owned()
}

#[tokio::test]
async fn h5_chunked_bodies_are_read() {
    let gateway = Gateway::start().await;
    let mut stream = chunked(&gateway).await;
    let message = traces(&["chunk"]);
    let mut body = format!("{:x}\r\n", message.len()).into_bytes();
    body.extend(&message);
    body.extend(b"\r\n0\r\n\r\n");
    stream.write_all(&body).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(gateway.spans.operations(), [b"chunk"]);
}

#[tokio::test]
async fn h5_a_client_that_expects_100_continue_is_told_so() {
    let gateway = Gateway::start().await;
    let message = traces(&["later"]);
    let mut stream = tokio::net::TcpStream::connect(gateway.http).await.unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        message.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100"));
    stream.write_all(&message).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(gateway.spans.operations(), [b"later"]);
}

#[tokio::test]
async fn h6_a_body_that_does_not_come_is_not_waited_for() {
    let short =
        rollguard::receiver::ReceiverConfig { request_timeout: Duration::from_millis(50), ..config() };
    let passed = Capture::default();
    let gateway = Gateway::start_with(short, passed.clone(), std::sync::Arc::new(passed)).await;
    let mut stream = chunked(&gateway).await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn h8_errors_are_a_status_in_the_encoding_of_the_request() {
    let gateway = Gateway::start().await;
    let got = post(&gateway, PROTOBUF, "", b"\x0a\x7f".to_vec()).await;
    let status = RpcStatus::decode(got.body).unwrap();
    assert_eq!((got.status, status.code), (400, 3));
    assert!(status.message.contains("cannot decode"));
    let got = post(&gateway, JSON, "", b"{".to_vec()).await;
    assert_eq!((got.status, got.content_type.as_str()), (400, JSON));
    let status: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(status["code"], 3);
    assert!(gateway.spans.operations().is_empty());
}

#[tokio::test]
async fn g17_partial_success_in_both_encodings() {
    let gateway = Gateway::start().await;
    let got = post(&gateway, PROTOBUF, "", with_bad_id()).await;
    assert_eq!((got.status, got.body[0]), (200, 0x0a));
    let json = JSON_SPAN.replace(r#""traceId":"""#, r#""traceId":"abcd""#);
    let got = post(&gateway, JSON, "", json.into()).await;
    let body: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!((got.status, body["partialSuccess"]["rejectedSpans"].as_str()), (200, Some("1")));
}

#[tokio::test]
async fn h9_a_full_queue_is_503_with_retry_after() {
    let gateway = Gateway::start().await;
    gateway.spans.refuse(Some(Refused::QueueFull));
    let (protobuf, json) = tokio::join!(
        post(&gateway, PROTOBUF, "", traces(&["a"])),
        post(&gateway, JSON, "", JSON_SPAN.into())
    );
    for got in [&protobuf, &json] {
        assert_eq!((got.status, got.retry_after.as_deref()), (503, Some("1")));
    }
    assert_eq!(RpcStatus::decode(protobuf.body).unwrap().code, 14);
    let status: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(status["details"][0]["retryDelay"], "1s");
}

#[tokio::test]
async fn too_many_requests_in_progress_are_pushed_back() {
    let one = rollguard::receiver::ReceiverConfig { max_concurrent_requests: 1, ..config() };
    let passed = Capture::default();
    let gateway = Gateway::start_with(one, passed.clone(), std::sync::Arc::new(passed)).await;
    let _busy = chunked(&gateway).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(post(&gateway, PROTOBUF, "", traces(&["a"])).await.status, 503);
}
