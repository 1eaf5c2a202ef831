//! What a span costs on its way in: resolving, pushing and committing batches of 256, with one hot series
//! and with 2,000, on one thread and on two. The counter shows spans per second.

#![allow(missing_docs, reason = "a benchmark has no readers of its documentation")]

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use rollguard::model::{Outcome, ResourceView, SamplingWeight, SpanSink, SpanView, StatusSource, UnixNanos};
use rollguard::pipeline::{DEFAULT_SHARD_CAPACITY, Drained, Intake, Registry, RegistryLimits, Shards};

const SPANS: usize = 256;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 2_000], threads = [1, 2])]
fn span_and_commit(bencher: Bencher, series: usize) {
    let limits = RegistryLimits { operations_per_version: 4_000, ..RegistryLimits::default() };
    let shards = Arc::new(Shards::new(2, DEFAULT_SHARD_CAPACITY));
    let door = Intake::new(Arc::new(Registry::new(limits)), Arc::clone(&shards));
    let names: Vec<String> = (0..series).map(|n| format!("/api/v1/things/{n}")).collect();
    let drained = std::sync::Mutex::new(Drained::default());
    bencher.counter(ItemsCount::new(SPANS)).bench(|| {
        let mut batch = door.begin(UnixNanos::from_secs(1_000));
        batch.resource(&ResourceView {
            service: b"checkout",
            version: b"2.4.1",
            instance: b"checkout-7d9f",
            ..ResourceView::default()
        });
        // A stride that is coprime to the number of series visits all of them over the batches.
        let mut at = fastrand::usize(..series);
        for n in 0..SPANS as u64 {
            at = (at + 37) % series;
            batch.span(&SpanView {
                operation_head: b"GET",
                operation_joint: b" ",
                operation_tail: names[at].as_bytes(),
                start: UnixNanos(1_000_000_000 + n),
                end: UnixNanos(1_050_000_000 + n * 997),
                outcome: Outcome::Good,
                status: StatusSource::Code,
                weight: SamplingWeight::Unknown,
                trace_id: &[1; 16],
            });
        }
        if batch.commit().is_err() {
            // The evaluator's part, rarely: the log is full after a thousand batches.
            if let Ok(mut drained) = drained.lock() {
                shards.drain(&mut drained);
            }
        }
    });
}
