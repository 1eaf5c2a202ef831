//! The worker over a real store and a real HTTP server. The clock jumps ahead at each look, so that the gaps
//! of the schedule pass without anyone sleeping.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine;

use super::super::config::WebhookConfig;
use super::super::sign::{Secret, verify};
use super::*;
use crate::model::DeploymentId;
use crate::pipeline::Commit;
use crate::store::{NewOutboxRow, OutboxState};

/// Each look is 100 s after the one before: longer than any gap.
struct LeapingClock(AtomicU64);

impl Clock for LeapingClock {
    fn now(&self) -> UnixNanos {
        UnixNanos::from_secs(self.0.fetch_add(100, Ordering::Relaxed))
    }
}

/// Stands until it is set.
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now(&self) -> UnixNanos {
        UnixNanos::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Clone)]
struct Received {
    id: String,
    timestamp: String,
    signature: String,
    body: Vec<u8>,
}

struct Receiver {
    received: Arc<Mutex<Vec<Received>>>,
    url: String,
}

/// A receiver that answers with these statuses, the last one again and again.
async fn receiver(statuses: &[u16]) -> Receiver {
    let received = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::new(Mutex::new(statuses.iter().copied().collect::<VecDeque<u16>>()));
    let seen = Arc::clone(&received);
    let handler = move |headers: HeaderMap, body: axum::body::Bytes| {
        let word = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
        seen.lock().unwrap().push(Received {
            id: word("webhook-id"),
            timestamp: word("webhook-timestamp"),
            signature: word("webhook-signature"),
            body: body.to_vec(),
        });
        let mut answers = answers.lock().unwrap();
        let status = if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() };
        let answer = (StatusCode::from_u16(status.unwrap()).unwrap(), [(header::LOCATION, "/elsewhere")]);
        async move { answer.into_response() }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/rollback", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(handler);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Receiver { received, url }
}

fn secret() -> String {
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([3u8; 32]))
}

fn endpoints(dir: &std::path::Path, url: &str) -> Arc<ArcSwap<Endpoints>> {
    let secret_file = dir.join("secret");
    std::fs::write(&secret_file, secret()).unwrap();
    let config = WebhookConfig {
        url: url.into(),
        secret_file,
        timeout: Duration::from_secs(10),
        ca_file: None,
        allow_loopback: false,
        allow_link_local: false,
    };
    let webhook = Arc::new(Webhook::new(&config).unwrap());
    Arc::new(ArcSwap::from_pointee(HashMap::from([("deployer".to_owned(), webhook)])))
}

fn row(id: &str, endpoint: &str) -> NewOutboxRow {
    NewOutboxRow {
        id: id.into(),
        deployment_id: Some(DeploymentId("d1".into())),
        kind: "rollback".into(),
        endpoint: endpoint.into(),
        body: br#"{"type":"rollguard.rollback"}"#.to_vec(),
    }
}

/// Puts the rows into the outbox while a worker runs and waits until none is pending.
async fn deliver(dir: &std::path::Path, url: &str, rows: &[NewOutboxRow]) -> Arc<Store> {
    let store = Arc::new(Store::open(dir.join("rollguard.db")).unwrap());
    let clock = Arc::new(LeapingClock(AtomicU64::new(1_800_000_000)));
    let worker = Worker::new(Arc::clone(&store), endpoints(dir, url), clock.clone());
    let (wake, shutdown) = (worker.wake(), CancellationToken::new());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    store.commit(&Commit { at: clock.now(), ..Commit::default() }, rows).unwrap();
    wake.notify_one();
    settled(&store).await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    store
}

/// Waits until no row is pending.
async fn settled(store: &Store) {
    let settled = async {
        while store.next_due().unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.unwrap();
}

/// Scenario: the endpoint answers 503 twice. Guarantees: three attempts under one id, each with a fresh
/// timestamp and a signature that verifies, then no more.
#[tokio::test]
async fn retried_under_one_id_with_fresh_timestamps() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver(&[503, 503, 202]).await;
    let store = deliver(dir.path(), &receiver.url, &[row("msg_1", "deployer")]).await;
    let received = receiver.received.lock().unwrap().clone();
    assert_eq!(received.len(), 3);
    let secrets = [Secret::parse(&secret()).unwrap()];
    for (i, r) in received.iter().enumerate() {
        assert_eq!(r.id, "msg_1");
        let sent: u64 = r.timestamp.parse().unwrap();
        assert_eq!(verify(&secrets, &r.id, &r.timestamp, &r.signature, &r.body, sent), Ok(()));
        assert!(received[..i].iter().all(|earlier| earlier.timestamp < r.timestamp), "fresh timestamp");
    }
    let rows = store.list(OutboxState::Delivered, 9).unwrap();
    assert_eq!((rows.len(), rows[0].attempts), (1, 3));
}

/// Scenario: the endpoint never gets well. Guarantees: six attempts, then the row is dead and says why.
#[tokio::test]
async fn dead_after_the_last_gap() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver(&[500]).await;
    let store = deliver(dir.path(), &receiver.url, &[row("msg_1", "deployer")]).await;
    assert_eq!(receiver.received.lock().unwrap().len(), 6);
    let dead = store.list(OutboxState::Dead, 9).unwrap();
    assert_eq!(dead[0].attempts, 6);
    let error = dead[0].last_error.as_deref().unwrap();
    assert_eq!(error, "given up after 6 attempts: answered 500 Internal Server Error");
}

/// Scenario: a redirect, a refusal, an endpoint that is not configured. Guarantees: neither of the first two
/// is tried again or followed, the third is tried to the end, and another endpoint's row is not held up.
#[tokio::test]
async fn redirects_and_refusals_are_final() {
    for (status, says) in [(307, "redirects are not followed"), (410, "410 Gone")] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = receiver(&[status]).await;
        let rows = [row("msg_1", "deployer"), row("msg_2", "nobody")];
        let store = deliver(dir.path(), &receiver.url, &rows).await;
        assert_eq!(receiver.received.lock().unwrap().len(), 1, "{status}");
        let dead = store.list(OutboxState::Dead, 9).unwrap();
        let error =
            |id: &str| dead.iter().find(|r| r.new.id == id).and_then(|r| r.last_error.clone()).unwrap();
        assert!(error("msg_1").contains(says), "{}", error("msg_1"));
        assert!(error("msg_2").ends_with("no webhook named \"nobody\" is configured"), "{}", error("msg_2"));
    }
}

/// Scenario: what stands before the receiver answers 404 or 401 while the receiver restarts or its token
/// changes. Guarantees: the rollback is tried again and delivered.
#[tokio::test]
async fn a_receiver_that_is_not_there_yet_gets_it_later() {
    for status in [401, 403, 404] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = receiver(&[status, 200]).await;
        let store = deliver(dir.path(), &receiver.url, &[row("msg_1", "deployer")]).await;
        assert_eq!(receiver.received.lock().unwrap().len(), 2, "{status}");
        let rows = store.list(OutboxState::Delivered, 9).unwrap();
        assert_eq!((rows.len(), rows[0].attempts), (1, 2), "{status}");
    }
}

/// Scenario: the process dies after the decision and before the first attempt. Guarantees: the next start
/// sends it, and only once although the decision is committed again.
#[tokio::test]
async fn what_was_decided_before_a_crash_is_sent_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver(&[200]).await;
    let before = Store::open(dir.path().join("rollguard.db")).unwrap();
    before.commit(&Commit::default(), &[row("msg_1", "deployer")]).unwrap();
    drop(before);
    let store = deliver(dir.path(), &receiver.url, &[row("msg_1", "deployer")]).await;
    assert_eq!(receiver.received.lock().unwrap().len(), 1);
    assert_eq!(store.list(OutboxState::Delivered, 9).unwrap().len(), 1);
}

/// Scenario: the endpoint answers 200, and the database takes no writes for a while (a full disk). Guarantees:
/// only the write is tried again; the request is made once, and recorded once writes are taken.
#[tokio::test]
async fn an_outcome_that_cannot_be_recorded_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver(&[200]).await;
    let store = Arc::new(Store::open(dir.path().join("rollguard.db")).unwrap());
    store.commit(&Commit::default(), &[row("msg_1", "deployer")]).unwrap();
    store.refuse_writes(true);
    let clock = Arc::new(LeapingClock(AtomicU64::new(1_800_000_000)));
    let mut worker = Worker::new(Arc::clone(&store), endpoints(dir.path(), &receiver.url), clock);
    let failures = Arc::new(AtomicU64::new(0));
    worker.counters.unrecorded = Counter::from_arc(Arc::clone(&failures));
    let (wake, shutdown) = (worker.wake(), CancellationToken::new());
    let task = tokio::spawn(worker.run(shutdown.clone()));
    // Each turn makes the worker look at the outbox, where the row is still pending and due.
    let failed_thrice = async {
        while failures.load(Ordering::Relaxed) < 3 {
            wake.notify_one();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), failed_thrice).await.unwrap();
    assert_eq!(receiver.received.lock().unwrap().len(), 1);
    store.refuse_writes(false);
    settled(&store).await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    assert_eq!(receiver.received.lock().unwrap().len(), 1);
    let rows = store.list(OutboxState::Delivered, 9).unwrap();
    assert_eq!((rows.len(), rows[0].attempts), (1, 1));
}

/// Scenario: the first attempt fails, then the clock is set back by an hour. Guarantees: the row does not wait
/// for that hour again; a row within its gap does wait.
#[tokio::test]
async fn a_clock_that_is_set_back_does_not_hold_a_row_up() {
    for (set_back, attempts) in [(3_600, 2), (0, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let receiver = receiver(&[503, 200]).await;
        let store = Arc::new(Store::open(dir.path().join("rollguard.db")).unwrap());
        store.commit(&Commit::default(), &[row("msg_1", "deployer")]).unwrap();
        let clock = Arc::new(SetClock(AtomicU64::new(1_800_000_000)));
        let worker = Worker::new(Arc::clone(&store), endpoints(dir.path(), &receiver.url), clock.clone());
        let mut running = Running::default();
        worker.start_due(&mut running).await.unwrap();
        running.tasks.join_next().await.unwrap().unwrap();
        running.rows.clear();
        clock.0.fetch_sub(set_back, Ordering::Relaxed);
        let pause = worker.start_due(&mut running).await.unwrap();
        while let Some(ended) = running.tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(receiver.received.lock().unwrap().len(), attempts, "set back by {set_back} s");
        let expected = if attempts == 1 { Duration::from_secs(1) } else { LONGEST_SLEEP };
        assert_eq!(pause, expected, "set back by {set_back} s");
    }
}
