//! Exporters with their queues on disk: what was accepted leaves, by this process or by the next.

use std::path::Path;
use std::time::Duration;

use rollguard::forward::{OnFull, OtlpConfig, QueueConfig, Storage};
use rollguard::receiver::ReceiverConfig;
use rollguard::spool::FileStorageConfig;

use super::backend::{Answer, Backend};
use super::forward::{Chain, grpc, in_order, otlp, wait_until};
use super::support::*;

fn storage(folder: &Path) -> FileStorageConfig {
    FileStorageConfig { directory: folder.to_owned(), reserve_bytes: 0, ..FileStorageConfig::default() }
}

fn on_disk(config: OtlpConfig) -> OtlpConfig {
    let storage = Some(Storage::FileStorage);
    OtlpConfig { sending_queue: QueueConfig { storage, ..config.sending_queue }, ..config }
}

fn on_full(on_full: OnFull, config: OtlpConfig) -> OtlpConfig {
    OtlpConfig { sending_queue: QueueConfig { on_full, ..config.sending_queue }, ..config }
}

/// Scenario: the backend is away, the process ends in order with requests waiting, one of them under way, and another
/// one starts. Guarantees: it ends at once; the next one sends everything once, in order, joined, and with the header
/// of its tenant.
#[tokio::test]
async fn the_next_process_sends_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start().await;
    let exporter = OtlpConfig { metadata_keys: vec!["x-tenant".to_owned()], ..in_order(otlp(&backend)) };
    let receiver = ReceiverConfig { include_metadata: true, ..config() };
    let start = async || {
        let exporters = [("otlp_grpc/b", grpc(on_disk(exporter.clone())))];
        Chain::on_disk(receiver.clone(), &storage(folder.path()), exporters).await
    };
    backend.answers(|_| Answer::Busy);
    let chain = start().await;
    let names = ["a", "b", "c", "d", "e", "f"];
    for (n, name) in names.into_iter().enumerate() {
        let tenant = if n < 3 { "red" } else { "blue" };
        let request = client().post(chain.first.url("/v1/traces")).header("x-tenant", tenant);
        let request = request.header("content-type", "application/x-protobuf").body(traces(&[name]));
        assert!(request.send().await.unwrap().status().is_success());
    }
    wait_until("tried", || backend.calls().len() >= 2).await;
    assert_eq!(chain.queued(), 6);
    chain.drain().await;
    let before = backend.calls().len();

    backend.answers(|_| Answer::Take);
    let chain = start().await;
    wait_until("all is settled", || chain.queued() == 0).await;
    chain.drain().await;
    let taken: Vec<u8> = names.iter().flat_map(|name| traces(&[name])).collect();
    assert_eq!(backend.taken().concat(), taken);
    let calls = backend.calls().split_off(before);
    let tenants: Vec<_> = calls.iter().map(|call| call.headers.get("x-tenant").unwrap()).collect();
    assert_eq!(tenants, ["red", "blue"], "three requests each, joined");
}

/// Scenario: a backend that refuses one request for good. Guarantees: it is dropped from the disk as well.
#[tokio::test]
async fn what_is_refused_for_good_does_not_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start().await;
    backend.answers(|message| match message.windows(6).any(|w| w == b"guilty") {
        true => Answer::GiveUp,
        false => Answer::Take,
    });
    let start = async || {
        let exporters = [("otlp_grpc/b", grpc(on_disk(otlp(&backend))))];
        Chain::on_disk(config(), &storage(folder.path()), exporters).await
    };
    let chain = start().await;
    for name in ["a", "guilty", "b"] {
        chain.first.export(traces(&[name])).await.unwrap();
    }
    wait_until("all is settled", || chain.queued() == 0).await;
    assert_eq!(chain.last_rejected("otlp_grpc/b").len(), 1);
    chain.drain().await;
    let chain = start().await;
    assert_eq!((chain.queued(), backend.taken().len()), (0, 2));
    chain.drain().await;
}

/// Scenario: no space beside the reserve. Guarantees: with `refuse` the sender is told which exporter it was and nothing
/// counts; with `drop` everybody else gets the request.
#[tokio::test]
async fn without_space_it_refuses_or_goes_without() {
    for mode in [OnFull::Refuse, OnFull::Drop] {
        let folder = tempfile::tempdir().unwrap();
        let (full, other) = (Backend::start().await, Backend::start().await);
        let storage = FileStorageConfig { reserve_bytes: u64::MAX, ..storage(folder.path()) };
        let exporters = [
            ("otlp_grpc/full", grpc(on_full(mode, on_disk(otlp(&full))))),
            ("otlp_grpc/other", grpc(otlp(&other))),
        ];
        let chain = Chain::on_disk(config(), &storage, exporters).await;
        // The first finds out by trying, the second is told before.
        for name in ["a", "b"] {
            let answer = chain.first.export(traces(&[name])).await;
            match mode {
                OnFull::Drop => assert!(answer.is_ok()),
                OnFull::Refuse => {
                    let status = answer.unwrap_err();
                    assert_eq!(status.code(), tonic::Code::Unavailable);
                    assert!(status.message().contains("otlp_grpc/full"), "{}", status.message());
                }
            }
        }
        wait_until("all is settled", || chain.queued() == 0).await;
        let taken = if mode == OnFull::Drop { 2 } else { 0 };
        assert_eq!(other.taken().len(), taken);
        assert_eq!(chain.first.spans.operations().len(), taken, "{mode:?}");
        chain.drain().await;
        assert!(full.calls().is_empty());
    }
}

/// Scenario: two queues on disk that refuse, and one of the two cannot be written. Guarantees: when it is the first,
/// the request is refused; when the other is written already, it goes without.
#[tokio::test]
async fn once_it_is_on_one_disk_the_request_is_taken() {
    for broken in ["otlp_grpc/first", "otlp_grpc/second"] {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (Backend::start().await, Backend::start().await);
        let exporters = [
            ("otlp_grpc/first", grpc(on_disk(otlp(&first)))),
            ("otlp_grpc/second", grpc(on_disk(otlp(&second)))),
        ];
        let chain = Chain::on_disk(config(), &storage(folder.path()), exporters).await;
        // Whoever does this to a queue loses it until the next start.
        let queue = broken.replace('/', "%2f") + "%20traces";
        std::fs::remove_dir_all(folder.path().join(queue)).unwrap();
        let answer = chain.first.export(traces(&["a"])).await;
        wait_until("all is settled", || chain.queued() == 0).await;
        let counted = chain.first.spans.operations().len();
        match broken {
            "otlp_grpc/first" => {
                assert!(answer.unwrap_err().message().contains(broken));
                assert_eq!((counted, first.taken().len() + second.taken().len()), (0, 0));
            }
            _ => {
                answer.unwrap();
                assert_eq!((counted, first.taken().len(), second.taken().len()), (1, 1, 0));
            }
        }
        chain.drain().await;
    }
}

/// Guarantees: a second process is told who is in its way.
#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::start().await;
    let exporters = [("otlp_grpc", grpc(on_disk(otlp(&backend))))];
    let chain = Chain::on_disk(config(), &storage(folder.path()), exporters.clone()).await;
    let second = rollguard::spool::SpoolDirectory::open(folder.path()).unwrap_err();
    assert!(second.to_string().contains("another Rollguard is using it"), "{second}");
    chain.drain().await;
    Chain::on_disk(config(), &storage(folder.path()), exporters).await.drain().await;
}

/// Scenario: a retry that lasts longer than any memory queue would wait. Guarantees: from disk it is tried for ever,
/// unless somebody says otherwise.
#[test]
fn from_disk_it_is_tried_for_ever() {
    let retry = rollguard::forward::RetryConfig::default();
    assert_eq!(retry.most_elapsed(None), Some(Duration::from_secs(300)));
    assert_eq!(retry.most_elapsed(Some(Storage::FileStorage)), None);
    let limited = rollguard::forward::RetryConfig { max_elapsed_time: Some(Duration::from_secs(9)), ..retry };
    assert_eq!(limited.most_elapsed(Some(Storage::FileStorage)), Some(Duration::from_secs(9)));
}
