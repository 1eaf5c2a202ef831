//! The memory limiter at the ports, with a memory that is what the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rollguard::pipeline::DataType;
use rollguard::receiver::MemoryLimiterConfig;
use rollguard::receiver::ReceiverConfig;
use rollguard::telemetry::{Memory, Resident};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use super::support::*;

const MIB: u64 = 1 << 20;

#[derive(Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn set(&self, mib: u64) {
        self.0.store(mib * MIB, Ordering::Relaxed);
    }
}

impl Memory for Told {
    fn allocated(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn resident(&self) -> Resident {
        Resident::default()
    }

    fn most(&self) -> u64 {
        1000 * MIB
    }
}

/// Soft limit 160 MiB, hard limit 200 MiB.
async fn limited() -> (Gateway, Told) {
    limited_to(LIMIT).await
}

/// With requests of up to so many bytes.
async fn limited_to(max_request_bytes: usize) -> (Gateway, Told) {
    let memory = Told::default();
    let limiter = MemoryLimiterConfig { limit_mib: 200, ..Default::default() };
    let config = ReceiverConfig { memory_limiter: limiter, max_request_bytes, ..config() };
    (Gateway::start_in(config, Arc::new(memory.clone())).await, memory)
}

/// Scenario: memory is short, then there is some again. Guarantees: both protocols push back with a delay to
/// come again after, nothing counts, and the first request after that is taken.
#[tokio::test]
async fn o3_short_memory_pushes_back_and_free_memory_takes_in() {
    let (gateway, memory) = limited().await;
    memory.set(160);
    let refused = gateway.export(traces(&["a"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("memory") && !refused.details().is_empty(), "{refused:?}");
    let post = || client().post(gateway.url("/v1/traces")).header("content-type", "application/x-protobuf");
    let refused = post().body(traces(&["a"])).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(gateway.spans.operations().is_empty());
    let waits = (DataType::Traces, "memory_limiter".to_owned());
    assert_eq!(gateway.spans.blinded(), [waits.clone(), waits], "verdicts wait meanwhile");
    memory.set(159);
    gateway.export(traces(&["a"])).await.unwrap();
    assert_eq!(post().body(traces(&["b"])).send().await.unwrap().status(), 200);
    assert_eq!(gateway.spans.operations(), [b"a", b"b"]);
}

/// Scenario: memory comes back while a request waits at the door. Guarantees: the request is taken.
#[tokio::test]
async fn o3_a_short_wait_saves_a_request() {
    let (gateway, memory) = limited().await;
    memory.set(170);
    let waiting = gateway.export(traces(&["a"]));
    let relief = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        memory.set(10);
    };
    let (answer, ()) = tokio::join!(waiting, relief);
    assert!(answer.is_ok(), "{answer:?}");
}

/// Scenario: memory runs out while a body arrives. Guarantees: the body is given up with 503 and nothing counts;
/// above the soft limit alone a body that has begun is taken.
#[tokio::test]
async fn o3_bodies_are_given_up_when_memory_runs_out() {
    let (gateway, memory) = limited().await;
    for (mib, expected) in [(190, "HTTP/1.1 200"), (200, "HTTP/1.1 503")] {
        memory.set(0);
        let body = traces(&["a"]);
        let (first, second) = body.split_at(body.len() / 2);
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n\
             content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(gateway.http).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // Its body is asked for, so it is past the door.
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked[..], b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(first).await.unwrap();
        memory.set(mib);
        stream.write_all(second).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(expected), "{mib}: {answer}");
    }
    assert_eq!(gateway.spans.operations().len(), 1);
}

/// Scenario: a client over HTTP/1.1 writes a body of 4 MiB, more than fits into sockets, while memory is short.
/// Guarantees: it gets to write all of it, reads the refusal, and may use the connection again.
#[tokio::test]
async fn o3_a_client_that_is_refused_while_it_writes_reads_the_answer() {
    let (gateway, memory) = limited_to(8 << 20).await;
    let mut stream = TcpStream::connect(gateway.http).await.unwrap();
    let message = traces(&["a"]);
    let large = [&message[..], &[0x82, 0x7d, 0x80, 0x80, 0x80, 0x02], &vec![0; 4 << 20]].concat();
    for (mib, body, expected) in [(170, &large, "HTTP/1.1 503"), (0, &message, "HTTP/1.1 200")] {
        memory.set(mib);
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: \
             {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }
}
