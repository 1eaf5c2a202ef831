//! Batches by example: what becomes of spans, that a batch is taken whole or not at all, and that nothing is lost.

use std::sync::Arc;

use super::*;
use crate::model::{Outcome, StatusSource};
use crate::pipeline::{Disposition, Drained, Registry, RegistryLimits, Shards};

fn door(capacity: usize) -> Intake {
    Intake::new(Arc::new(Registry::new(RegistryLimits::default())), Arc::new(Shards::new(2, capacity)))
}

fn resource(version: &str) -> ResourceView<'_> {
    ResourceView { service: b"shop", version: version.as_bytes(), ..ResourceView::default() }
}

fn span(operation: &str, start: u64, end: u64, outcome: Outcome) -> SpanView<'_> {
    SpanView {
        operation_head: b"GET",
        operation_joint: b" ",
        operation_tail: operation.as_bytes(),
        start: UnixNanos(start),
        end: UnixNanos(end),
        outcome,
        status: StatusSource::Code,
        weight: SamplingWeight::Unknown,
        trace_id: &[7; 16],
        marks: 0,
        quantities: &[],
    }
}

fn fill(batch: &mut Batch, version: &str, spans: usize) {
    batch.resource(&resource(version));
    for _ in 0..spans {
        batch.span(&span("/", 10, 20, Outcome::Good));
    }
}

fn drain(door: &Intake) -> Drained {
    let mut drained = Drained::default();
    door.shards.drain(&mut drained);
    drained
}

#[test]
fn s2_a_span_becomes_an_observation() {
    let door = door(100);
    let mut batch = door.begin(UnixNanos(99));
    batch.resource(&resource("v1"));
    batch.span(&span("/a", 1_000, 2_000_001_000, Outcome::Bad));
    batch.span(&SpanView { weight: SamplingWeight::Known(4.0), ..span("/b", 50, 20, Outcome::Good) });
    batch.discard(Discard::Kind);
    batch.commit().unwrap();
    let drained = drain(&door);
    let all: Vec<_> = drained.observations().copied().collect();
    assert_eq!((all[0].bucket, all[0].arrival, all[0].skewed), (31, UnixNanos(99), false));
    assert_eq!((all[1].start, all[1].end, all[1].skewed), (UnixNanos(20), UnixNanos(20), true));
    assert_eq!((all[1].bucket, all[1].weight, all[1].weight_known), (layout::LOWEST, 4.0, true));
    assert_eq!(&*door.registry.series(all[0].series).unwrap().operation, "GET /a");
    let kind = Disposition::Discarded(Discard::Kind);
    assert_eq!(door.shards.ledger().settled(Signal::Traces, kind), 1);
    assert_eq!(door.shards.ledger().open(Signal::Traces), 2);
    assert_eq!(drained.exemplars.len(), 2);
    assert!(drained.exemplars[0].failed && !drained.exemplars[1].failed);
}

#[test]
fn operations_are_joined_only_where_both_parts_are_there() {
    let door = door(100);
    let mut batch = door.begin(UnixNanos(0));
    for (head, joint, tail, expected) in [
        ("GET", " ", "/a", "GET /a"),
        ("", " ", "/a", "/a"),
        ("GET", " ", "", "GET"),
        ("shop.Cart", "/", "Add", "shop.Cart/Add"),
        ("", "", "", ""),
    ] {
        batch.span(&SpanView {
            operation_head: head.as_bytes(),
            operation_joint: joint.as_bytes(),
            operation_tail: tail.as_bytes(),
            ..span("", 1, 2, Outcome::Good)
        });
        let series = batch.buffers.as_ref().unwrap().observations.last().unwrap().series;
        assert_eq!(&*door.registry.series(series).unwrap().operation, expected);
    }
    let meta = door.registry.version(batch.current.as_ref().unwrap().version.meta.id).unwrap();
    assert_eq!(meta.key.service.name, crate::pipeline::UNKNOWN_SERVICE);
}

#[test]
fn a_dropped_or_refused_batch_leaves_no_trace() {
    let door = door(10);
    let mut batch = door.begin(UnixNanos(0));
    fill(&mut batch, "v1", 3);
    batch.discard(Discard::Health);
    drop(batch);
    assert!(drain(&door).is_empty());
    let mut batch = door.begin(UnixNanos(0));
    fill(&mut batch, "v1", 8);
    batch.commit().unwrap();
    let mut batch = door.begin(UnixNanos(0));
    fill(&mut batch, "v1", 3);
    batch.discard(Discard::Health);
    assert_eq!(batch.commit(), Err(Refused::QueueFull));
    let mut batch = door.begin(UnixNanos(0));
    fill(&mut batch, "v1", 2);
    batch.commit().unwrap();
    assert_eq!(drain(&door).len(), 10);
    let counters = door.shards.counters();
    assert_eq!(door.shards.ledger().received(Signal::Traces), 10);
    assert_eq!(counters.refused_full.load(Ordering::Relaxed), 3);
    door.close();
    let mut batch = door.begin(UnixNanos(0));
    fill(&mut batch, "v1", 1);
    assert_eq!(batch.commit(), Err(Refused::ShuttingDown));
    assert_eq!(counters.spans.load(Ordering::Relaxed), 10);
}

#[test]
fn an_empty_log_takes_a_batch_larger_than_itself() {
    let door = door(10);
    let mut batch = door.begin(UnixNanos(0));
    fill(&mut batch, "v1", 25);
    batch.commit().unwrap();
    assert_eq!(drain(&door).len(), 25);
}

#[test]
fn ids_cached_before_a_retirement_are_not_used_after_it() {
    let door = door(100);
    let series = || {
        let mut batch = door.begin(UnixNanos(0));
        fill(&mut batch, "v1", 1);
        batch.commit().unwrap();
        drain(&door).observations().next().unwrap().series
    };
    let before = series();
    assert_eq!(series(), before);
    door.registry.retire_version(door.registry.series(before).unwrap().version);
    let after = series();
    assert_ne!(after, before);
    assert!(door.registry.series(after).is_some());
}

/// Scenario: four threads commit while one drains. Guarantees: what was committed is drained exactly
/// once, what was refused never.
#[test]
fn nothing_is_lost_or_doubled_under_concurrency() {
    let door = door(500);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let mut taken = HashMap::<u64, u64>::new();
    let committed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u64)
            .map(|worker| {
                let (door, done) = (&door, &done);
                scope.spawn(move || {
                    let mut committed = Vec::new();
                    for n in 0..400 {
                        let id = worker * 1_000 + n;
                        let mut batch = door.begin(UnixNanos(id));
                        fill(&mut batch, ["v1", "v2", "v3"][(id % 3) as usize], 1 + (id % 40) as usize);
                        if batch.commit().is_ok() {
                            committed.push((id, 1 + id % 40));
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                    committed
                })
            })
            .collect();
        let mut drained = Drained::default();
        loop {
            let last = done.load(Ordering::SeqCst) == 4;
            door.shards.drain(&mut drained);
            for observation in drained.observations() {
                *taken.entry(observation.arrival.0).or_default() += 1;
            }
            if last {
                break;
            }
        }
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<HashMap<_, _>>()
    });
    assert_eq!(taken, committed);
    let spans: u64 = committed.values().sum();
    assert_eq!(door.shards.counters().spans.load(Ordering::Relaxed), spans);
}
