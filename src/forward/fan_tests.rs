//! Fan-out: who refuses, who goes without, and what each is given.

use tokio_util::sync::CancellationToken;

use super::super::QueueConfig;
use super::*;
use crate::pipeline::Metadata;

fn lane(name: &str, on_full: OnFull, keys: &[&str]) -> Arc<Lane> {
    let config = QueueConfig { queue_size: Some(1), on_full, ..QueueConfig::default() };
    let exporter: Arc<str> = name.into();
    let metrics = Arc::new(LaneMetrics::new(&exporter, DataType::Traces, &config));
    Arc::new(Lane {
        exporter,
        data: DataType::Traces,
        queue: Queue::in_memory(DataType::Traces, &config, &metrics),
        on_full,
        metadata_keys: keys.iter().map(|key| Box::from(*key)).collect(),
        metrics,
    })
}

fn passage() -> Passage {
    let headers = [("x-tenant", "a"), ("x-secret", "b")];
    let metadata = Metadata::new(headers.map(|(n, v)| (n.into(), v.as_bytes().into())));
    Passage { message: Bytes::from_static(b"message"), records: 1, metadata }
}

async fn next(lane: &Lane) -> Option<Passage> {
    let stop = CancellationToken::new();
    stop.cancel();
    lane.queue.take(1 << 20, &stop).await.map(|taken| taken[0].passage.clone())
}

#[tokio::test]
async fn one_that_refuses_refuses_for_all_and_one_that_drops_goes_without() {
    let (refuses, drops, other) = (
        lane("a", OnFull::Refuse, &[]),
        lane("b", OnFull::Drop, &["x-tenant"]),
        lane("c", OnFull::Refuse, &["x-tenant", "x-secret"]),
    );
    let fan = Fan::new(&[Arc::clone(&drops), Arc::clone(&refuses), Arc::clone(&other)]);
    assert_eq!(fan.metadata_keys(), ["x-tenant".into(), "x-secret".into()]);
    assert!(fan.takes(DataType::Traces) && !fan.takes(DataType::Profiles));
    let message = passage().message;
    assert!(fan.reserve(DataType::Logs, &message).unwrap().is_none());

    let permit = fan.reserve(DataType::Traces, &message).unwrap().unwrap();
    let full = fan.reserve(DataType::Traces, &message).err().unwrap();
    assert_eq!(&*full.exporter, "a");
    assert_eq!([&refuses, &drops, &other].map(|l| l.queue.report().requests[0]), [1, 1, 1], "nothing leaked");
    permit.send(passage());
    // Each is given what its keys name and nothing else.
    let tenant = Metadata::new([("x-tenant".into(), b"a".as_slice().into())]);
    assert_eq!(next(&refuses).await.unwrap().metadata, Metadata::default());
    assert_eq!(next(&other).await.unwrap().metadata, passage().metadata);
    // The one that drops is still full: it goes without, the others are served.
    let permit = fan.reserve(DataType::Traces, &message).unwrap().unwrap();
    permit.send(passage());
    assert!(next(&refuses).await.is_some() && next(&other).await.is_some());
    assert_eq!(next(&drops).await.unwrap().metadata, tenant);
    assert!(next(&drops).await.is_none());
}

#[test]
fn a_permit_that_is_not_used_gives_its_room_back() {
    let one = lane("a", OnFull::Refuse, &[]);
    let fan = Fan::new(&[Arc::clone(&one)]);
    drop(fan.reserve(DataType::Traces, &passage().message).unwrap());
    assert_eq!(one.queue.report().requests[0], 0);
}
