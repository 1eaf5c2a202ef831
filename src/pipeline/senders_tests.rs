//! Joins, placement and the account of senders, through the registry and the batch.

use super::*;
use crate::model::{
    DurationUnit, Durations, Family, LogSink, Outcome, PointKey, PointNumbers, PointSink, PointView,
    Recalled, SamplingWeight, SpanSink, SpanView, StatusSource, Temporality,
};
use crate::pipeline::diagnosis::{ServiceTelemetry, diagnose};
use crate::pipeline::{Batch, Drained, Intake, RegistryLimits, Shards};

fn door() -> Intake {
    let limits = RegistryLimits { services: 3, ..RegistryLimits::default() };
    Intake::new(Arc::new(Registry::new(limits)), Arc::new(Shards::new(1, 1_000)))
}

/// A resource from `attribute=text`.
fn resource<'a>(attributes: &[&'a str]) -> ResourceView<'a> {
    let mut view = ResourceView::default();
    for pair in attributes {
        let (name, text) = pair.split_once('=').unwrap();
        let bytes = text.as_bytes();
        match name {
            "service.name" => view.service = bytes,
            "deployment.environment.name" => view.environment = bytes,
            "service.version" => {
                view.version = bytes;
                view.version_from = "service.version";
            }
            _ => view.texts.set(ResourceAttribute::named(name).unwrap(), bytes),
        }
    }
    let named = INSTANCE_FROM.map(|a| view.texts.get(a));
    view.instance = named.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    view
}

fn spans(batch: &mut Batch, view: &ResourceView<'_>, spans: u64) {
    batch.resource(view);
    for _ in 0..spans {
        batch.span(&SpanView {
            operation_head: b"GET",
            operation_joint: b" ",
            operation_tail: b"/",
            start: UnixNanos(10),
            end: UnixNanos(20),
            outcome: Outcome::Good,
            status: StatusSource::Code,
            weight: SamplingWeight::Unknown,
            trace_id: &[7; 16],
            marks: 0,
            quantities: &[],
        });
    }
    batch.sender_of_spans(view, spans);
}

fn send(door: &Intake, second: u64, signal: Signal, attributes: &[&str], records: u64) {
    let mut batch = door.begin(UnixNanos::from_secs(second));
    let view = resource(attributes);
    match signal {
        Signal::Traces => spans(&mut batch, &view, records),
        _ => batch.sender(signal, &view, records),
    }
    batch.commit().unwrap();
}

fn service(door: &Intake, name: &str) -> Option<ServiceTelemetry> {
    diagnose(&door.registry, |_| None).into_iter().find(|s| s.service.name == name)
}

/// Version and records by signal.
fn versions(door: &Intake, name: &str) -> Vec<(String, [u64; 3])> {
    service(door, name).unwrap().versions.into_iter().map(|v| (v.version, v.records)).collect()
}

const POD: [&str; 6] = [
    "service.name=cart",
    "service.version=v1",
    "k8s.pod.uid=u1",
    "k8s.pod.name=cart-0",
    "k8s.namespace.name=shop",
    "service.instance.id=i1",
];

#[test]
fn telemetry_with_a_pod_only_reaches_the_version() {
    let door = door();
    send(&door, 100, Signal::Traces, &POD, 5);
    for foreign in [
        &["k8s.pod.uid=u1"][..],
        &["k8s.pod.name=cart-0", "k8s.namespace.name=shop"],
        &["service.name=unknown_service:java", "k8s.pod.uid=u1"],
        &["service.name=cart", "service.instance.id=i1"],
        &["service.name=cart", "k8s.pod.uid=u1", "host.name=n"],
    ] {
        send(&door, 110, Signal::Metrics, foreign, 10);
    }
    send(&door, 110, Signal::Logs, &["k8s.pod.uid=u1"], 3);
    assert_eq!(versions(&door, "cart"), [("v1".to_owned(), [5, 50, 3])]);
    let metrics = service(&door, "cart").unwrap().signals[Signal::Metrics as usize].clone().unwrap();
    assert_eq!((metrics.joined, metrics.unversioned), (50, 0));
    assert_eq!(door.registry.join_counters().0.outcomes(), [6, 0, 0]);
}

/// Version labels of the points that were committed since the call before.
fn points(door: &Intake, second: u64, view: &ResourceView<'_>) -> Vec<String> {
    let mut batch = door.begin(UnixNanos::from_secs(second));
    let mut bytes = [view.service, view.version, view.instance].concat();
    bytes.extend_from_slice(view.texts.get(ResourceAttribute::PodUid));
    let key =
        PointKey(bytes.iter().fold(9, |all, byte| all.wrapping_mul(257).wrapping_add(u128::from(*byte))));
    let point = PointView {
        key: Some(key),
        stream: view.instance.iter().fold(7, |all, byte| all * 256 + u128::from(*byte)),
        family: Family::Http,
        temporality: Temporality::Delta,
        service: b"",
        namespace: b"",
        environment: b"",
        version: b"",
        operation_head: b"GET",
        operation_joint: b" ",
        operation_tail: b"/",
        outcome: Outcome::Good,
        status: StatusSource::Code,
        overflow: false,
        marks: 0,
        dimensions: None,
        numbers: PointNumbers {
            start: UnixNanos(1),
            time: UnixNanos::from_secs(second),
            count: 5,
            level: None,
            unit: DurationUnit::Seconds,
            durations: Durations::Unknown,
            trace_id: b"",
        },
    };
    // As the walker does.
    match batch.recall(key) {
        Some(Recalled::Stream(stream)) => batch.known_point(stream, &point.numbers),
        _ => batch.point(view, &point),
    }
    batch.commit().unwrap();
    let mut drained = Drained::default();
    door.shards.drain(&mut drained);
    let registry = &door.registry;
    let label = |stream| {
        let series = registry.series(registry.stream(stream).unwrap().series).unwrap();
        registry.version(series.version).unwrap().key.version
    };
    drained.points().map(|(point, _)| label(point.stream)).collect()
}

#[test]
fn request_metrics_that_know_a_pod_follow_it_once_it_is_known() {
    let door = door();
    let scraped = resource(&["service.name=cart", "k8s.pod.uid=u1"]);
    assert_eq!(points(&door, 90, &scraped), [VersionKey::UNVERSIONED]);
    send(&door, 100, Signal::Traces, &POD, 5);
    assert_eq!(points(&door, 105, &scraped), ["v1"]);
    // The pod's name and uid are given to another version of it.
    let mut next = POD.to_vec();
    next[1] = "service.version=v2";
    for second in [110, 230, 240] {
        send(&door, second, Signal::Traces, &next, 5);
    }
    assert_eq!(points(&door, 245, &scraped), ["v2"]);
}

#[test]
fn a_pod_that_metrics_name_otherwise_is_one_instance() {
    let door = door();
    send(&door, 100, Signal::Traces, &POD, 5);
    let instances = || door.registry.instances.len();
    assert_eq!(instances(), 1);
    let scraped = resource(&["service.name=cart", "service.version=v1", "k8s.pod.uid=u1"]);
    assert_eq!(points(&door, 105, &scraped), ["v1"]);
    assert_eq!(instances(), 1);
    let mut batch = door.begin(UnixNanos::from_secs(106));
    batch.log_resource(&scraped);
    batch.log_resource(&resource(&["service.name=cart", "service.version=v1", "k8s.pod.uid=u2"]));
    drop(batch);
    assert_eq!(instances(), 1);
    // A pod that no spans name is an instance of its metrics.
    let other = resource(&["service.name=cart", "service.version=v1", "k8s.pod.uid=u2"]);
    points(&door, 107, &other);
    assert_eq!(instances(), 2);
}

#[test]
fn what_does_not_fit_is_not_joined() {
    let door = door();
    send(&door, 100, Signal::Traces, &POD, 5);
    let not_joined = |signal, attributes: &[&str], outcome: usize| {
        let before = door.registry.join_counters().0.outcomes();
        send(&door, 110, signal, attributes, 7);
        let after = door.registry.join_counters().0.outcomes();
        assert_eq!(after[0], before[0], "{attributes:?}");
        assert_eq!(after[outcome], before[outcome] + 1, "{attributes:?}");
    };
    // Another pod; another service in the pod; the service in another environment.
    not_joined(Signal::Metrics, &["k8s.pod.uid=u2"], 2);
    not_joined(Signal::Logs, &["service.name=envoy", "k8s.pod.uid=u1"], 1);
    not_joined(Signal::Logs, &["service.name=cart", "deployment.environment.name=x", "k8s.pod.uid=u1"], 1);
    // Two services in one pod.
    send(&door, 111, Signal::Traces, &["service.name=till", "service.version=v1", "k8s.pod.uid=u1"], 1);
    not_joined(Signal::Metrics, &["k8s.pod.uid=u1"], 1);
    // Spans that name no service stay apart: a sidecar's would be judged as the service's own.
    let before = door.registry.join_counters().0.outcomes();
    send(&door, 112, Signal::Traces, &["k8s.pod.uid=u1", "k8s.pod.name=cart-0"], 1);
    assert_eq!(door.registry.join_counters().0.outcomes(), before);
    assert_eq!(versions(&door, UNKNOWN_SERVICE), [("(unversioned)".to_owned(), [1, 0, 0])]);
    assert_eq!(versions(&door, "cart"), [("v1".to_owned(), [5, 0, 0])]);
}

#[test]
fn a_refused_batch_counts_no_sender_and_unjudged_services_take_no_place() {
    let door = door();
    let mut batch = door.begin(UnixNanos::from_secs(1));
    spans(&mut batch, &resource(&POD), 5);
    drop(batch);
    assert!(service(&door, "cart").unwrap().signals.iter().all(Option::is_none));
    send(&door, 2, Signal::Metrics, &["service.name=node-exporter"], 5);
    assert_eq!(service(&door, "node-exporter"), None);
    // Of a service that is known, what names no version is shown.
    send(&door, 3, Signal::Logs, &["service.name=cart", "host.name=h"], 9);
    let expected = [("(unversioned)".to_owned(), [0, 0, 9]), ("v1".to_owned(), [0; 3])];
    assert_eq!(versions(&door, "cart"), expected);
}

#[test]
fn r5_placement_is_kept_per_instance_and_goes_with_its_version() {
    let door = door();
    for (instance, zone) in [("a", "z1"), ("b", "z1"), ("c", "z2")] {
        let instance = format!("service.instance.id={instance}");
        let zone = format!("cloud.availability_zone={zone}");
        send(&door, 1, Signal::Traces, &["service.name=cart", "service.version=v1", &instance, &zone], 1);
    }
    let version = &service(&door, "cart").unwrap().versions[0];
    let zone = |zone: &str| [Some(zone.to_owned()), None, None];
    assert_eq!(version.places, BTreeMap::from([(zone("z1"), 2), (zone("z2"), 1)]));
    assert_eq!(door.registry.places.len(), 3);
    let entry = Arc::clone(&door.registry.by_id.iter().next().unwrap());
    door.registry.retire_version(entry.meta.id);
    assert_eq!(door.registry.places.len(), 0);
}

#[test]
fn r6_r8_change_and_sdk_come_from_the_service_itself() {
    let door = door();
    let mut own = POD.to_vec();
    own.extend(["telemetry.sdk.language=go", "telemetry.sdk.version=1.38", "vcs.ref.head.revision=abc"]);
    send(&door, 1, Signal::Traces, &own, 1);
    send(&door, 2, Signal::Logs, &["k8s.pod.uid=u1", "vcs.ref.head.revision=other"], 1);
    let version = service(&door, "cart").unwrap().versions.remove(0);
    assert_eq!(version.change.get(ResourceAttribute::Revision), Some("abc"));
    assert_eq!(version.sdks.len(), 1);
    assert_eq!((version.sdks[0].language.as_str(), version.sdks[0].version.as_str()), ("go", "1.38"));
}

#[test]
fn versions_that_nobody_uses_are_forgotten() {
    let door = door();
    send(&door, 100, Signal::Traces, &POD, 1);
    send(&door, 200, Signal::Logs, &["service.name=cart"], 1);
    let forget = |second, used: bool| {
        door.registry.forget_unused(UnixNanos::from_secs(second), 60, |_| used);
        service(&door, "cart").map_or(0, |s| s.versions.len())
    };
    assert_eq!(forget(160, false), 2);
    assert_eq!(forget(161, true), 2);
    assert_eq!(forget(161, false), 1);
    assert_eq!(forget(261, false), 0);
}
