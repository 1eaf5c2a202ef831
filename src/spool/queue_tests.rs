//! The handle: room, the three steps of a message, and what becomes of it when somebody lets go in between.

use std::collections::HashSet;
use std::path::Path;

use super::*;

fn config(folder: &Path) -> SpoolConfig {
    SpoolConfig {
        folder: folder.to_owned(),
        max_bytes: 1 << 20,
        max_entries: 1_000,
        reserve_bytes: 0,
        fsync: false,
        seed: 5,
        labels: vec![metrics::Label::new("exporter", "otlp_grpc")],
        bytes: metrics::Gauge::noop(),
        messages: metrics::Gauge::noop(),
        fault: CancellationToken::new(),
    }
}

fn open(folder: &Path) -> Spool {
    Spool::open(config(folder)).unwrap().0
}

async fn append(spool: &Spool, body: &[u8]) -> Appended {
    let room = spool.reserve(4, body.len()).unwrap();
    spool.append(room, Bytes::from_static(b"meta"), Bytes::copy_from_slice(body), 2).await.unwrap()
}

async fn put(spool: &Spool, body: &[u8]) {
    append(spool, body).await.commit();
}

async fn take(spool: &Spool) -> Delivery {
    let mut one = spool.take(0).await.unwrap();
    assert_eq!(one.len(), 1);
    one.remove(0)
}

#[tokio::test]
async fn a_message_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    put(&spool, b"one").await;
    put(&spool, b"two").await;
    let one = take(&spool).await;
    assert_eq!((&one.metadata()[..], &one.body()[..], one.records()), (&b"meta"[..], &b"one"[..], 2));
    one.done().await;
    let two = take(&spool).await;
    assert_eq!(&two.body()[..], b"two");
    two.done().await;
    assert_eq!(spool.usage().entries, 0);
    spool.close();
    assert!(spool.take(0).await.is_none());
    assert_eq!(spool.reserve(0, 1).unwrap_err(), NoRoom::Closed);
}

#[tokio::test]
async fn what_is_let_go_of_is_taken_back_or_handed_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    drop(append(&spool, b"refused elsewhere").await);
    put(&spool, b"kept").await;
    let delivery = take(&spool).await;
    assert_eq!(&delivery.body()[..], b"kept");
    drop(delivery);
    let again = take(&spool).await;
    assert_eq!(&again.body()[..], b"kept");
    again.done().await;
    spool.close();
    let (_, recovered) = Spool::open(config(folder.path())).unwrap();
    assert_eq!(recovered, Recovered::default());
}

#[tokio::test]
async fn messages_of_the_same_metadata_go_together_up_to_a_size() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    for (metadata, bytes) in [("a", 40), ("a", 40), ("a", 30), ("b", 10), ("b", 200), ("b", 0), ("a", 1)] {
        let room = spool.reserve(1, bytes).unwrap();
        let body = Bytes::from(vec![0; bytes]);
        spool.append(room, Bytes::from(metadata), body, 1).await.unwrap().commit();
    }
    let lengths = |deliveries: &[Delivery]| deliveries.iter().map(|one| one.body().len()).collect::<Vec<_>>();
    let first = spool.take(100).await.unwrap();
    assert_eq!(lengths(&first), [40, 40]);
    let second = spool.take(100).await.unwrap();
    assert_eq!(lengths(&second), [30], "the next has other metadata");
    drop(second);
    // What was read ahead stays behind what was given back.
    let mut rest = Vec::new();
    while spool.usage().entries > 2 {
        let next = spool.take(100).await.unwrap();
        rest.push(lengths(&next));
        Delivery::all_done(next).await;
    }
    assert_eq!(rest, [vec![30], vec![10], vec![200], vec![0], vec![1]]);
    Delivery::all_done(first).await;
    assert_eq!(spool.usage().entries, 0);
}

#[tokio::test]
async fn a_request_that_is_aborted_while_it_is_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(open(folder.path()));
    for _ in 0..100 {
        let room = spool.reserve(0, 7).unwrap();
        let mut append = Box::pin(spool.append(room, Bytes::new(), Bytes::from_static(b"aborted"), 1));
        // Pending, or done when the thread was fast; dropped in either case.
        let _ = futures_util::poll!(&mut append);
        drop(append);
    }
    put(&spool, b"kept").await;
    let delivery = take(&spool).await;
    assert_eq!(&delivery.body()[..], b"kept");
    delivery.done().await;
    spool.close();
    assert_eq!(spool.shared.lock().reserved, Usage::default());
    assert_eq!(Spool::open(config(folder.path())).unwrap().1, Recovered::default());
}

#[tokio::test]
async fn whoever_waits_is_woken_and_a_place_in_the_line_can_be_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let mut gone = Box::pin(spool.take(0));
    assert!(futures_util::poll!(&mut gone).is_pending());
    drop(gone);
    let mut waits = Box::pin(spool.take(0));
    assert!(futures_util::poll!(&mut waits).is_pending());
    let appended = append(&spool, b"message").await;
    assert!(futures_util::poll!(&mut waits).is_pending(), "it is not committed");
    appended.commit();
    let delivery = waits.await.unwrap().remove(0);
    assert_eq!(&delivery.body()[..], b"message");
    delivery.done().await;
}

#[tokio::test]
async fn room_is_bounded_in_bytes_and_in_messages_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(SpoolConfig { max_entries: 3, ..config(folder.path()) }).unwrap().0;
    // Larger than everything: only while nothing else is there.
    let large = spool.reserve(0, 2 << 20).unwrap();
    assert_eq!(spool.reserve(0, 1).unwrap_err(), NoRoom::Full);
    drop(large);
    let half = spool.reserve(0, 600 << 10).unwrap();
    assert_eq!(spool.reserve(0, 600 << 10).unwrap_err(), NoRoom::Full);
    let small = spool.reserve(0, 1).unwrap();
    put(&spool, b"third").await;
    assert_eq!(spool.reserve(0, 1).unwrap_err(), NoRoom::Full, "three messages");
    drop((half, small));
    let delivery = take(&spool).await;
    delivery.done().await;
    let rooms: Vec<Reservation> = (0..3).map(|_| spool.reserve(0, 1).unwrap()).collect();
    assert_eq!(rooms.len(), 3);
}

#[tokio::test]
async fn a_file_system_short_of_space_refuses_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(SpoolConfig { reserve_bytes: u64::MAX, ..config(folder.path()) }).unwrap().0;
    let room = spool.reserve(0, 7).unwrap();
    let error = spool.append(room, Bytes::new(), Bytes::from_static(b"message"), 1).await.unwrap_err();
    assert_eq!(error.reason(), "reserve");
    // From now on it is known without asking.
    assert_eq!(spool.reserve(0, 7).unwrap_err(), NoRoom::Reserve);
    assert_eq!(spool.usage(), Usage::default());
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}

/// Scenario: the oldest file cannot be opened for a while. Guarantees: whoever waits gets its message as soon as the
/// system lets it be read, without anything else having to happen.
#[tokio::test]
async fn a_consumer_outlasts_a_system_that_does_not_let_it_read() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    // One in each file, and more files than are kept open.
    for n in 0..20_u8 {
        put(&spool, &vec![n; 40_000]).await;
    }
    let (oldest, aside) = (folder.path().join("0000000000000001.segment"), folder.path().join("aside"));
    std::fs::rename(&oldest, &aside).unwrap();
    std::os::unix::fs::symlink(&oldest, &oldest).unwrap();
    let mut waits = Box::pin(spool.take(0));
    assert!(futures_util::poll!(&mut waits).is_pending());
    // The first may be answered before the reader was asked, the second is not.
    put(&spool, b"one").await;
    put(&spool, b"two").await;
    assert!(futures_util::poll!(&mut waits).is_pending());
    assert_eq!(spool.usage().entries, 22);
    std::fs::rename(&aside, &oldest).unwrap();
    let delivery = waits.await.unwrap().remove(0);
    assert!(delivery.body().iter().all(|byte| *byte == 0) && delivery.body().len() == 40_000);
    delivery.done().await;
    assert_eq!(&take(&spool).await.body()[..3], [1, 1, 1]);
}

/// Scenario: a fault ends the thread of a queue. Guarantees: nobody is given room that nothing fills, and whoever waits
/// is told.
#[tokio::test]
async fn a_queue_whose_thread_ended_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    put(&spool, b"kept").await;
    spool.close();
    let (log, _) = Log::open(
        folder.path(),
        LogConfig { segment_bytes: 1 << 20, reserve_bytes: 0, fsync: false, seed: 1 },
    )
    .unwrap();
    let config = config(&folder.path().join("other"));
    let fault = config.fault.clone();
    let (spool, _) = Spool::open(config).unwrap();
    let (commands, waiting) = channel();
    let worker = Worker::new(log, waiting, Arc::clone(&spool.shared));
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Take(Taker { most_bytes: 0, reply, commands: commands.clone() })).unwrap();
    let faulty = std::thread::spawn(move || {
        let _worker = worker;
        panic!("a fault");
    });
    assert!(faulty.join().is_err());
    assert!(answer.await.is_err(), "whoever waited is told");
    assert_eq!(spool.reserve(0, 1).unwrap_err(), NoRoom::Closed);
    assert!(fault.is_cancelled());
}

/// Scenario: a queue is closed in order. Guarantee: that is no fault.
#[tokio::test]
async fn a_queue_that_is_closed_is_not_faulty() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let fault = config.fault.clone();
    Spool::open(config).unwrap().0.close();
    assert!(!fault.is_cancelled());
}

#[tokio::test]
async fn a_restart_goes_on_with_what_was_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    for n in 0..10_u8 {
        put(&spool, &[n; 1_000]).await;
    }
    let out: Vec<Delivery> = vec![take(&spool).await, take(&spool).await];
    let mut out = out.into_iter();
    out.next().unwrap().done().await;
    spool.close();
    drop(out);
    let (spool, recovered) = Spool::open(config(folder.path())).unwrap();
    assert_eq!((recovered.entries, recovered.records), (9, 18));
    assert_eq!(spool.usage().entries, 9);
    for n in 1..10_u8 {
        let delivery = take(&spool).await;
        assert_eq!(&delivery.body()[..], &[n; 1_000]);
        delivery.done().await;
    }
    assert_eq!(spool.usage().entries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_each_once() {
    const SENDERS: u32 = 8;
    const EACH: u32 = 200;
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(SpoolConfig { fsync: true, ..config(folder.path()) }).unwrap();
    let spool = Arc::new(spool);
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let spool = Arc::clone(&spool);
        tasks.spawn(async move {
            for n in 0..EACH {
                let appended = append(&spool, &[sender.to_le_bytes(), n.to_le_bytes()].concat()).await;
                // One of ten is refused by somebody else.
                if n % 10 > 0 {
                    appended.commit();
                }
            }
            Vec::new()
        });
    }
    for consumer in 0..4 {
        let spool = Arc::clone(&spool);
        tasks.spawn(async move {
            let mut seen = Vec::new();
            while let Some(deliveries) = spool.take(20).await {
                // Now and then a delivery fails.
                if (seen.len() + consumer) % 7 == 3 {
                    seen.push(Bytes::new());
                    continue;
                }
                let bodies: Vec<Bytes> = deliveries.iter().map(|one| one.body().clone()).collect();
                Delivery::all_done(deliveries).await;
                seen.extend(bodies);
            }
            seen
        });
    }
    let expected = (SENDERS * EACH * 9 / 10) as usize;
    let mut seen = Vec::new();
    for _ in 0..SENDERS {
        seen.extend(tasks.join_next().await.unwrap().unwrap());
    }
    while spool.usage().entries > 0 {
        tokio::task::yield_now().await;
    }
    let closing = Arc::clone(&spool);
    tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
    while let Some(one) = tasks.join_next().await {
        seen.extend(one.unwrap());
    }
    let delivered: Vec<Bytes> = seen.into_iter().filter(|body| !body.is_empty()).collect();
    let different: HashSet<&Bytes> = delivered.iter().collect();
    assert_eq!((delivered.len(), different.len()), (expected, expected));
}
