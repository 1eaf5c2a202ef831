//! The queue on disk: messages per second through `Log`, in the caller's thread, and through `Spool`, from a task to
//! the queue's thread and back. Sizes are those of an Export request of one span, of 100 and of 512.
//!
//! `cargo bench --bench queue`; files are made in `TMPDIR`.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a benchmark may end by a panic")]

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use rollguard::spool::{Delivery, Log, LogConfig, Spool, SpoolConfig};

const BODIES: [usize; 3] = [350, 35_000, 180_000];
/// Messages per round.
const MESSAGES: usize = 64;

fn main() {
    divan::main();
}

fn open(folder: &tempfile::TempDir) -> Log {
    let config = LogConfig { segment_bytes: 64 << 20, reserve_bytes: 1, fsync: false, seed: 3 };
    Log::open(folder.path(), config).unwrap().0
}

fn append(log: &mut Log, body: &[u8]) {
    for _ in 0..MESSAGES {
        let position = log.append(b"traces", body, 512).unwrap();
        log.commit(position);
    }
}

fn drain(log: &mut Log) {
    while let Some(entry) = log.take().unwrap() {
        log.acknowledge(black_box(entry).position);
    }
}

#[divan::bench(args = BODIES)]
fn append_take_acknowledge(bencher: Bencher<'_, '_>, bytes: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, body) = (open(&folder), vec![7; bytes]);
    bencher.counter(BytesCount::new(bytes * MESSAGES)).bench_local(|| {
        append(&mut log, &body);
        drain(&mut log);
    });
}

/// 64 messages that wait: what a start has to look through.
#[divan::bench(args = BODIES)]
fn recover(bencher: Bencher<'_, '_>, bytes: usize) {
    let folder = tempfile::tempdir().unwrap();
    append(&mut open(&folder), &vec![7; bytes]);
    bencher.counter(BytesCount::new(bytes * MESSAGES)).bench_local(|| open(&folder).entries());
}

#[divan::bench(args = BODIES)]
fn through_the_thread(bencher: Bencher<'_, '_>, bytes: usize) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let config = SpoolConfig {
        folder: folder.path().to_owned(),
        max_bytes: 1 << 30,
        max_entries: 10_000,
        reserve_bytes: 1,
        fsync: false,
        seed: 3,
        labels: Vec::new(),
        bytes: metrics::Gauge::noop(),
        messages: metrics::Gauge::noop(),
        fault: tokio_util::sync::CancellationToken::new(),
    };
    let (spool, _) = Spool::open(config).unwrap();
    let body = Bytes::from(vec![7; bytes]);
    bencher.counter(BytesCount::new(bytes * MESSAGES)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..MESSAGES {
                let room = spool.reserve(6, body.len()).unwrap();
                let metadata = Bytes::from_static(b"traces");
                spool.append(room, metadata, body.clone(), 512).await.unwrap().commit();
                Delivery::all_done(spool.take(0).await.unwrap()).await;
            }
        });
    });
}
