//! Fan-out: who refuses, who goes without, and what each is given.

use tokio_util::sync::CancellationToken;

use super::super::QueueConfig;
use super::*;

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
    let fan = Fan::new([&drops, &refuses, &other].map(|lane| Target::One(Arc::clone(lane))));
    assert_eq!(fan.metadata_keys(), ["x-tenant".into(), "x-secret".into()]);
    assert!(fan.takes(DataType::Traces) && !fan.takes(DataType::Profiles));
    let message = passage().message;
    assert!(fan.reserve(DataType::Logs, &message, &Metadata::default()).unwrap().is_none());

    let permit = fan.reserve(DataType::Traces, &message, &Metadata::default()).unwrap().unwrap();
    let full = fan.reserve(DataType::Traces, &message, &Metadata::default()).err().unwrap();
    assert_eq!(&*full.exporter, "a");
    assert_eq!([&refuses, &drops, &other].map(|l| l.queue.report().requests[0]), [1, 1, 1], "nothing leaked");
    permit.send(passage());
    // Each is given what its keys name and nothing else.
    let tenant = Metadata::new([("x-tenant".into(), b"a".as_slice().into())]);
    assert_eq!(next(&refuses).await.unwrap().metadata, Metadata::default());
    assert_eq!(next(&other).await.unwrap().metadata, passage().metadata);
    // The one that drops is still full: it goes without, the others are served.
    let permit = fan.reserve(DataType::Traces, &message, &Metadata::default()).unwrap().unwrap();
    permit.send(passage());
    assert!(next(&refuses).await.is_some() && next(&other).await.is_some());
    assert_eq!(next(&drops).await.unwrap().metadata, tenant);
    assert!(next(&drops).await.is_none());
}

#[test]
fn a_permit_that_is_not_used_gives_its_room_back() {
    let one = lane("a", OnFull::Refuse, &[]);
    let fan = Fan::new([Target::One(Arc::clone(&one))]);
    drop(fan.reserve(DataType::Traces, &passage().message, &Metadata::default()).unwrap());
    assert_eq!(one.queue.report().requests[0], 0);
}

/// A request with an envelope of each service, of so many spans.
fn of_services(services: &[(&str, usize)]) -> Bytes {
    let field = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8][..], content].concat();
    let envelope = |(name, spans): &(&str, usize)| {
        let name = field(2, &field(1, name.as_bytes()));
        let attribute = field(1, &[field(1, b"service.name"), name].concat());
        field(1, &[field(1, &attribute), field(2, &field(2, b"").repeat(*spans))].concat())
    };
    services.iter().flat_map(envelope).collect::<Vec<u8>>().into()
}

#[tokio::test]
async fn services_have_an_address_each_and_the_numbers_add_up() {
    let addresses = ["http://a:1", "http://b:1"];
    let route = Route::new(addresses);
    let at = |service: &str| route.of(b"", service.as_bytes());
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let one = |address| names.iter().find(|name| at(name) == address).unwrap().as_str();
    let [here, there] = [one(0), one(1)];
    let lanes = [lane("x@a", OnFull::Refuse, &[]), lane("x@b", OnFull::Drop, &[])];
    let other = lane("y", OnFull::Refuse, &[]);
    let fan = Fan::new([Target::ByService(route, lanes.to_vec()), Target::One(Arc::clone(&other))]);
    let message = of_services(&[(here, 2), (there, 1), (here, 3)]);
    let passage = |message: &Bytes, records| Passage { message: message.clone(), records, ..passage() };
    let permit = fan.reserve(DataType::Traces, &message, &Metadata::default()).unwrap().unwrap();
    permit.send(passage(&message, 6));
    let (a, b, y) =
        (next(&lanes[0]).await.unwrap(), next(&lanes[1]).await.unwrap(), next(&other).await.unwrap());
    assert_eq!(a.message, of_services(&[(here, 2), (here, 3)]));
    assert_eq!((b.message, y.message), (of_services(&[(there, 1)]), message.clone()));
    assert_eq!([a.records, b.records, y.records], [5, 1, 6]);

    // A request of one service leaves the other address alone, also when it is full.
    let held = lanes[0].queue.reserve(0, 1).unwrap();
    let alone = of_services(&[(there, 1)]);
    fan.reserve(DataType::Traces, &alone, &Metadata::default()).unwrap().unwrap().send(passage(&alone, 1));
    assert!(next(&lanes[1]).await.is_some() && next(&other).await.is_some());
    assert_eq!(
        &*fan.reserve(DataType::Traces, &message, &Metadata::default()).err().unwrap().exporter,
        "x@a"
    );
    drop(held);

    // What was cut out after the room was reserved is sent nowhere, and its room is given back.
    let permit = fan.reserve(DataType::Traces, &message, &Metadata::default()).unwrap().unwrap();
    permit.send(passage(&of_services(&[(here, 2)]), 2));
    assert_eq!(next(&lanes[0]).await.unwrap().records, 2);
    assert!(next(&other).await.is_some() && next(&lanes[1]).await.is_none());
    assert!(lanes.iter().all(|lane| lane.queue.report().requests[0] == 0));
}
