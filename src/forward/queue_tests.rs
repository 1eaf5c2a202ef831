//! The queue: its bounds, its order, and what is taken together.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::pipeline::Metadata;

fn queue(data: DataType, requests: usize, bytes: usize) -> Queue {
    let config =
        QueueConfig { queue_size: Some(requests), queue_bytes: Some(bytes), ..QueueConfig::default() };
    let metrics = Arc::new(LaneMetrics::new(&"otlp_grpc/test".into(), data, &config));
    Queue::in_memory(data, &config, &metrics)
}

fn passage(message: impl Into<Bytes>, tenant: Option<u8>) -> Passage {
    let headers = tenant.map(|tenant| ("x-tenant".into(), vec![tenant].into()));
    Passage { message: message.into(), records: 1, metadata: Metadata::new(headers) }
}

fn push(queue: &Queue, passage: Passage) {
    let room = queue.reserve(0, passage.message.len()).unwrap();
    queue.push(room, passage);
}

#[test]
fn rooms_are_of_the_buffer_not_of_the_message() {
    for (bytes, kib) in [(0, 8), (8192, 8), (8193, 16), (1 << 20, 1024), ((1 << 20) + 1, 2048)] {
        assert_eq!(kept_bytes(bytes), kib * 1024, "{bytes}");
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_room_comes_back() {
    let by_bytes = queue(DataType::Traces, 100, 16 * 1024);
    let first = by_bytes.reserve(0, 10).unwrap();
    let second = by_bytes.reserve(0, 10).unwrap();
    assert!(by_bytes.reserve(0, 10).is_err());
    drop(second);
    assert!(by_bytes.reserve(0, 10).is_ok());
    by_bytes.push(first, passage("x", None));
    let stop = CancellationToken::new();
    let taken = by_bytes.take(1 << 20, &stop).await.unwrap();
    assert_eq!((&taken[0].passage.message[..], taken.len()), (&b"x"[..], 1));
    assert_eq!(by_bytes.report().requests, [1, 100], "what is being sent still takes memory");
    assert!(by_bytes.reserve(0, 1 << 30).is_err());
    drop(taken);
    assert!(by_bytes.reserve(0, 1 << 30).is_ok(), "an empty queue has room for any request");
    assert_eq!((by_bytes.report().requests[0], by_bytes.report().bytes[0]), (0, 0));

    let by_requests = queue(DataType::Traces, 2, 1 << 30);
    let rooms: Vec<_> = (0..2).map(|_| by_requests.reserve(0, 1).unwrap()).collect();
    assert!(by_requests.reserve(0, 1).is_err());
    drop(rooms);
    assert!(by_requests.reserve(0, 1).is_ok());
}

#[tokio::test]
async fn profiles_are_never_joined_and_nothing_waits_for_ever() {
    let stop = CancellationToken::new();
    let profiles = queue(DataType::Profiles, 100, 1 << 20);
    for _ in 0..2 {
        push(&profiles, passage("x", None));
    }
    assert_eq!(profiles.take(1 << 20, &stop).await.unwrap().len(), 1);
    assert_eq!(profiles.take(1 << 20, &stop).await.unwrap().len(), 1);
    stop.cancel();
    assert!(profiles.take(1 << 20, &stop).await.is_none());
    push(&profiles, passage("x", None));
    assert!(profiles.take(1 << 20, &stop).await.is_some(), "what waits is sent first");
    push(&profiles, passage("x", None));
    profiles.close();
    assert_eq!(profiles.report().requests[0], 0);
    push(&profiles, passage("late", None));
    assert_eq!(profiles.report().requests[0], 0);
}

/// Scenario: several consumers sleep while several requests come at once. Guarantees: all are taken, though the
/// wake-ups are fewer than the requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_finds_a_consumer() {
    let queue = queue(DataType::Profiles, 10_000, 1 << 30);
    let stop = CancellationToken::new();
    let consumers: Vec<_> = (0..8)
        .map(|_| {
            let (queue, stop) = (queue.clone(), stop.clone());
            tokio::spawn(async move {
                let mut taken = 0;
                while let Some(mut requests) = queue.take(1, &stop).await {
                    requests.iter_mut().for_each(|request| request.sent(1, 0));
                    taken += requests.len();
                    tokio::task::yield_now().await;
                }
                taken
            })
        })
        .collect();
    for _ in 0..2_000 {
        push(&queue, passage("x", None));
    }
    while queue.report().requests[0] > 0 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    let mut taken = 0;
    for consumer in consumers {
        taken += consumer.await.unwrap();
    }
    assert_eq!(taken, 2_000);
}

proptest! {
    /// Guarantees: everything comes out once and in order; what is taken together has the same metadata and
    /// fits, unless it is one request; it could not have been more.
    #[test]
    fn joins_are_of_one_tenant_and_fit(
        requests in prop::collection::vec((0..400_usize, prop::option::of(0..3_u8)), 1..60),
        most in 1..1_000_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let queue = queue(DataType::Logs, 1_000, 1 << 30);
        for (n, (length, tenant)) in requests.iter().enumerate() {
            push(&queue, passage(vec![n as u8; *length], *tenant));
        }
        let stop = CancellationToken::new();
        stop.cancel();
        let mut out: Vec<(usize, Metadata)> = Vec::new();
        let mut by_take: Vec<(usize, usize)> = Vec::new();
        while let Some(taken) = runtime.block_on(queue.take(most, &stop)) {
            let bytes: usize = taken.iter().map(|q| q.passage.message.len()).sum();
            prop_assert!(bytes <= most || taken.len() == 1);
            let tenants: HashMap<_, _> = taken.iter().map(|q| (q.passage.metadata.to_bytes(), ())).collect();
            prop_assert_eq!(tenants.len(), 1);
            by_take.push((out.len(), bytes));
            out.extend(taken.iter().map(|q| (q.passage.message.len(), q.passage.metadata.clone())));
        }
        let expected: Vec<_> =
            requests.iter().map(|(length, tenant)| (*length, passage("", *tenant).metadata)).collect();
        prop_assert_eq!(&out, &expected);
        for pair in by_take.windows(2) {
            let ((begin, bytes), (next, _)) = (pair[0], pair[1]);
            let (length, metadata) = &out[next];
            prop_assert!(bytes + length > most || *metadata != out[begin].1, "one more had room");
        }
    }
}
