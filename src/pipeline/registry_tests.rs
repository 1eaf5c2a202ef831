//! The registry's ids, caps and labels by example.

use super::*;
use crate::model::UnixNanos;

fn resource<'a>(service: &'a str, version: &'a str, instance: &'a str) -> ResourceView<'a> {
    ResourceView {
        service: service.as_bytes(),
        version: version.as_bytes(),
        instance: instance.as_bytes(),
        ..ResourceView::default()
    }
}

fn small() -> Registry {
    Registry::new(RegistryLimits {
        services: 2,
        versions_per_service: 2,
        operations_per_version: 2,
        instances_per_version: 2,
        streams_per_version: 2,
        label_bytes: 8,
    })
}

fn version_label(registry: &Registry, r: &ResourceView<'_>) -> String {
    registry.version(registry.resolve(r).0).unwrap().key.version
}

#[test]
fn the_same_resource_has_the_same_ids() {
    let registry = Registry::new(RegistryLimits::default());
    let first = registry.resolve(&resource("shop", "v1", "a"));
    assert_eq!(registry.resolve(&resource("shop", "v1", "a")), first);
    let other = registry.resolve(&resource("shop", "v1", "b"));
    assert_eq!(other.0, first.0);
    assert_eq!(registry.instance(first.1).unwrap().ordinal, 0);
    let InstanceMeta { version, ordinal, .. } = registry.instance(other.1).unwrap();
    assert_eq!((version, ordinal), (first.0, 1));
    let fork = ResourceView { process_id: 7, ..resource("shop", "v1", "b") };
    assert_eq!(registry.instance(registry.resolve(&fork).1).unwrap().ordinal, 2);
    assert_eq!(registry.resolve(&resource("shop", "v1", "")).1, InstanceId::UNKNOWN);
}

/// A policy that asks for something else of a stream gives it another id, and takes no room.
#[test]
fn a_stream_that_counts_for_something_else_gets_a_new_id() {
    let registry = small();
    let entry = registry.resolve_version(&resource("shop", "v1", "a"), &mut Vec::new());
    let meta = |key: u128, marks: u64| StreamMeta {
        key,
        series: SeriesId(1),
        instance: InstanceId(1),
        family: crate::model::Family::Measure,
        temporality: crate::model::Temporality::Delta,
        unit: crate::model::DurationUnit::Seconds,
        outcome: crate::model::Outcome::Good,
        status: crate::model::StatusSource::None,
        marks,
    };
    let before = registry.resolve_stream(&entry, &meta(1, 0)).unwrap();
    assert_eq!(registry.resolve_stream(&entry, &meta(1, 0)), Some(before));
    registry.resolve_stream(&entry, &meta(2, 0)).unwrap();
    let after = registry.resolve_stream(&entry, &meta(1, 2)).unwrap();
    assert!(after != before && !registry.is_current(before) && registry.is_current(after));
    for is_known in [true, true, false] {
        assert_eq!(registry.stream(before).is_some(), is_known, "points under way are still of it");
        registry.forget_replaced();
    }
    assert_eq!((registry.stream(after).unwrap().marks, registry.stream_count()), (2, 2));
    let moved = StreamMeta { instance: InstanceId(2), ..meta(1, 2) };
    let moved = registry.resolve_stream(&entry, &moved).unwrap();
    assert!(
        moved != after && registry.stream(moved).unwrap().instance == InstanceId(2),
        "its pod's is another"
    );
    assert_eq!(registry.resolve_stream(&entry, &meta(3, 0)), None, "the cap stands");
}

#[test]
fn parts_do_not_run_together() {
    let registry = Registry::new(RegistryLimits::default());
    assert_ne!(registry.resolve(&resource("ab", "c", "")).0, registry.resolve(&resource("a", "bc", "")).0);
}

#[test]
fn absent_names_have_names() {
    let registry = Registry::new(RegistryLimits::default());
    let (id, _) = registry.resolve(&resource("", "", ""));
    let meta = registry.version(id).unwrap();
    assert_eq!(meta.key.service.name, UNKNOWN_SERVICE);
    assert_eq!(meta.key.version, VersionKey::UNVERSIONED);
    assert!(!meta.is_judged());
}

#[test]
fn versions_beyond_the_cap_share_one_overflow() {
    let registry = small();
    for (version, expected) in [
        ("v1", "v1"),
        ("v2", "v2"),
        ("v3", "(overflow)"),
        ("v4", "(overflow)"),
        ("v1", "v1"),
        ("", "(unversioned)"),
    ] {
        assert_eq!(version_label(&registry, &resource("shop", version, "")), expected);
    }
    assert_eq!(registry.counters().all()[1], ("versions", 2));
}

#[test]
fn services_beyond_the_cap_share_one_overflow() {
    let registry = small();
    registry.resolve(&resource("a", "v1", ""));
    registry.resolve(&resource("b", "v1", ""));
    let (c, _) = registry.resolve(&resource("c", "v1", ""));
    let (d, _) = registry.resolve(&resource("d", "v2", ""));
    assert_eq!(c, d);
    assert_eq!(registry.version(c).unwrap().key.service.name, "(overflow)");
    assert_eq!(registry.counters().all()[0], ("services", 2));
}

#[test]
fn operations_and_instances_beyond_the_cap() {
    let registry = small();
    let (version, _) = registry.resolve(&resource("a", "v1", "1"));
    let known = registry.resolve_operation(version, b"GET /").unwrap();
    registry.resolve_operation(version, b"GET /a").unwrap();
    let over = registry.resolve_operation(version, b"GET /b").unwrap();
    assert_eq!(registry.resolve_operation(version, b"GET /c"), Some(over));
    assert_eq!(&*registry.series(over).unwrap().operation, OVERFLOW_OPERATION);
    assert_eq!(registry.resolve_operation(version, b"GET /"), Some(known));
    registry.resolve(&resource("a", "v1", "2"));
    assert_eq!(registry.resolve(&resource("a", "v1", "3")).1, InstanceId::UNKNOWN);
    assert_eq!(registry.counters().all()[2..4], [("operations", 2), ("instances", 1)]);
}

#[test]
fn labels_are_clipped_between_characters_and_made_valid() {
    for (bytes, max, expected) in [
        (b"abc".as_slice(), 8, "abc"),
        (b"abcdefghij", 8, "abcdefgh"),
        ("abcdefg\u{e9}".as_bytes(), 8, "abcdefg"),
        ("abcd\u{1f600}x".as_bytes(), 7, "abcd"),
        (b"a\xffb", 8, "a\u{fffd}b"),
        (b"\xff\xff\xff\xff", 8, "\u{fffd}\u{fffd}"),
    ] {
        assert_eq!(label(bytes, max), expected, "{bytes:?}");
    }
}

#[test]
fn different_bytes_with_one_label_are_one_series() {
    let registry = small();
    let (version, _) = registry.resolve(&resource("a", "v1", ""));
    let valid = registry.resolve_operation(version, "x\u{fffd}".as_bytes());
    assert_eq!(registry.resolve_operation(version, b"x\xff"), valid);
    assert_eq!(registry.resolve_operation(version, b"x\xfe"), valid);
    let bad = |bytes| ResourceView { version: bytes, ..resource("a", "", "") };
    assert_eq!(registry.resolve(&bad(b"\xff")).0, registry.resolve(&bad(b"\xfe")).0);
    assert_eq!(registry.series_count(), 1);
}

#[test]
fn a_retired_version_is_forgotten_and_returns_with_new_ids() {
    let registry = small();
    let (version, instance) = registry.resolve(&resource("a", "v1", "1"));
    let series = registry.resolve_operation(version, b"GET /").unwrap();
    registry.resolve(&resource("a", "v2", ""));
    let before = registry.generation();
    registry.retire_version(version);
    assert!(registry.generation() > before);
    assert_eq!(registry.version(version), None);
    assert_eq!(registry.series(series), None);
    assert_eq!(registry.instance(instance), None);
    assert_eq!(registry.resolve_operation(version, b"GET /"), None);
    assert_eq!((registry.version_count(), registry.series_count()), (1, 0));
    // The cap counts living versions: there is room for another one.
    assert_eq!(version_label(&registry, &resource("a", "v3", "")), "v3");
    registry.retire_version(version);
    assert_ne!(registry.resolve(&resource("a", "v1", "1")).0, version);
}

#[test]
fn bounds_are_forgotten_once_nobody_asks_for_them() {
    let registry = Registry::new(RegistryLimits::default());
    let second = UnixNanos::from_secs;
    let ask = |id: u64, now| registry.resolve_bounds(BoundsId(id), now, || vec![0.1, id as f64]);
    assert!((0..4_096).all(|id| ask(id, second(100))) && !ask(5_000, second(100)));
    assert_eq!(
        registry.counters().all().into_iter().find(|(what, _)| *what == "bounds"),
        Some(("bounds", 1))
    );
    assert!(ask(7, second(200)));
    let before = registry.generation();
    registry.retire_bounds(second(100), |_| false);
    assert_eq!(registry.generation(), before, "all were asked for since");
    registry.retire_bounds(second(150), |id| id == BoundsId(9));
    assert!(registry.generation() > before, "what workers remember is void");
    let known: Vec<u64> = (0..4_096).filter(|id| registry.bounds(BoundsId(*id)).is_some()).collect();
    assert_eq!(known, [7, 9]);
    assert!(ask(5_000, second(200)), "there is room again");
}
