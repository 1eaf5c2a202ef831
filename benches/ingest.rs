//! What a span costs on its way in: resolving, pushing and committing batches of 256, with one hot series
//! and with 2,000, on one thread and on two; and what a resource costs. The counter shows items per second.

#![allow(missing_docs, reason = "a benchmark has no readers of its documentation")]

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use rollguard::model::{
    Outcome, ResourceAttribute, ResourceView, SamplingWeight, SpanSink, SpanView, StatusSource, UnixNanos,
};
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
                marks: 0,
                quantities: &[],
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

/// What a resource costs beside its spans: 64 pods, each with one span, its ids learned and its sender accounted
/// for. The counter shows resources per second.
#[divan::bench(threads = [1, 2])]
fn resource_and_commit(bencher: Bencher) {
    const PODS: usize = 64;
    let shards = Arc::new(Shards::new(2, DEFAULT_SHARD_CAPACITY));
    let door = Intake::new(Arc::new(Registry::new(RegistryLimits::default())), Arc::clone(&shards));
    let pods: Vec<String> = (0..PODS).map(|n| format!("0198f2ac-7d4b-7c11-9d52-{n:012}")).collect();
    let drained = std::sync::Mutex::new(Drained::default());
    bencher.counter(ItemsCount::new(PODS)).bench(|| {
        let mut batch = door.begin(UnixNanos::from_secs(1_000));
        for pod in &pods {
            let mut resource = ResourceView {
                service: b"checkout",
                version: b"2.4.1",
                version_from: "service.version",
                instance: pod.as_bytes(),
                ..ResourceView::default()
            };
            for (attribute, text) in [
                (ResourceAttribute::PodUid, pod.as_bytes()),
                (ResourceAttribute::PodName, &pod.as_bytes()[20..]),
                (ResourceAttribute::K8sNamespace, b"shop"),
                (ResourceAttribute::Zone, b"eu-central-1a"),
                (ResourceAttribute::SdkLanguage, b"java"),
                (ResourceAttribute::Revision, b"3f2a9c0d"),
            ] {
                resource.texts.set(attribute, text);
            }
            batch.resource(&resource);
            batch.span(&SpanView {
                operation_head: b"GET",
                operation_joint: b" ",
                operation_tail: b"/cart",
                start: UnixNanos(1_000_000_000),
                end: UnixNanos(1_050_000_000),
                outcome: Outcome::Good,
                status: StatusSource::Code,
                weight: SamplingWeight::Unknown,
                trace_id: &[1; 16],
                marks: 0,
                quantities: &[],
            });
            batch.sender_of_spans(&resource, 1);
        }
        if batch.commit().is_err()
            && let Ok(mut drained) = drained.lock()
        {
            shards.drain(&mut drained);
        }
    });
}
