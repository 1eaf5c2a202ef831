//! What is said of a service's telemetry, by example.

use super::*;
use crate::pipeline::registry::RegistryLimits;

/// 100 records of a signal, of which some lack something.
fn signal(unversioned: u64, without_instance: u64, with: &[(ResourceAttribute, u64)]) -> SignalTelemetry {
    SignalTelemetry {
        resources: 10,
        records: 100,
        unversioned,
        with_instance: 100 - without_instance,
        with_environment: 100,
        with: with.iter().copied().chain([(ResourceAttribute::Zone, 100)]).collect(),
        ..SignalTelemetry::default()
    }
}

#[test]
fn what_is_missing_is_named_with_two_lines_that_mend_it() {
    use ResourceAttribute::{PodUid, Zone};
    let whole = signal(0, 0, &[]);
    let few = SignalTelemetry { records: 19, unversioned: 19, ..SignalTelemetry::default() };
    let bare = SignalTelemetry { with_environment: 0, with: BTreeMap::from([(Zone, 40)]), ..whole.clone() };
    let rows: [([Option<SignalTelemetry>; 3], &[&str]); 12] = [
        ([None, None, None], &[]),
        ([Some(whole.clone()), Some(whole.clone()), Some(whole.clone())], &[]),
        ([Some(few), None, None], &[]),
        ([Some(signal(97, 0, &[])), None, None], &["version"]),
        ([Some(signal(0, 100, &[(PodUid, 1)])), None, None], &["instance"]),
        ([Some(whole.clone()), Some(whole.clone()), Some(signal(50, 50, &[]))], &["version_of_logs"]),
        ([Some(whole), Some(signal(1, 0, &[])), None], &["version_of_metrics"]),
        ([Some(bare.clone()), None, None], &["environment", "placement"]),
        // Without spans the metrics are asked; with them, only for what is their own.
        ([None, Some(bare.clone()), None], &["environment", "placement"]),
        ([Some(signal(0, 0, &[])), Some(bare), None], &[]),
        ([None, Some(signal(60, 60, &[])), None], &["version_of_metrics", "instance_of_metrics"]),
        ([Some(signal(0, 0, &[])), Some(signal(0, 60, &[])), None], &["instance_of_metrics"]),
    ];
    for (signals, expected) in rows {
        let service = ServiceTelemetry { signals, ..ServiceTelemetry::default() };
        let found = missing(&service);
        assert_eq!(found.iter().map(|m| m.what).collect::<Vec<_>>(), expected);
        for lack in &found {
            assert!(lack.environment.starts_with("OTEL_RESOURCE_ATTRIBUTES="), "{lack:?}");
            assert!(lack.collector.contains(": {") && !lack.collector.contains('\n'), "{lack:?}");
        }
    }
    let service =
        ServiceTelemetry { signals: [Some(signal(97, 0, &[])), None, None], ..ServiceTelemetry::default() };
    let said = &missing(&service)[0];
    assert_eq!(said.text, "97 % of the spans carry no version; they are counted and never judged");
    let on_kubernetes = ServiceTelemetry {
        signals: [Some(signal(97, 0, &[(PodUid, 1)])), None, None],
        ..ServiceTelemetry::default()
    };
    assert!(missing(&on_kubernetes)[0].collector.contains("k8sattributes"));
    assert!(!said.collector.contains("k8sattributes"));
}

#[test]
fn an_empty_registry_has_nothing_to_say() {
    assert_eq!(diagnose(&Registry::new(RegistryLimits::default()), |_| None), []);
}

#[test]
fn m5_metrics_that_come_seldom_are_noted_with_what_they_cost() {
    for (interval, said) in [
        (None, None),
        (Some(15), None),
        (Some(30), None),
        (
            Some(60),
            Some(
                "the metrics come every 60 s; a fail by them takes 3 minutes at least, with 15 s it would be 45 s",
            ),
        ),
    ] {
        let service = ServiceTelemetry {
            signals: [None, Some(signal(0, 0, &[])), None],
            metrics_interval_s: interval,
            ..ServiceTelemetry::default()
        };
        let found = missing(&service);
        assert_eq!(found.first().map(|lack| &*lack.text), said, "{interval:?}");
        if let Some(lack) = found.first() {
            assert_eq!((lack.what, lack.is_warning), ("export_interval", false));
            assert_eq!(lack.environment, "OTEL_METRIC_EXPORT_INTERVAL=15000");
        }
    }
}

/// Where metrics are all there is, processes that cannot be told apart spoil the verdict.
#[test]
fn metrics_without_an_instance_are_a_warning_where_nothing_else_counts() {
    let severity = |spans: Option<SignalTelemetry>| {
        let signals = [spans, Some(signal(0, 60, &[(ResourceAttribute::PodUid, 1)])), None];
        let found = missing(&ServiceTelemetry { signals, ..ServiceTelemetry::default() });
        assert!(found[0].collector.contains("k8sattributes"), "{found:?}");
        (found[0].what, found[0].is_warning)
    };
    assert_eq!(severity(None), ("instance_of_metrics", true));
    assert_eq!(severity(Some(signal(0, 0, &[]))), ("instance_of_metrics", false));
}

/// A flag that the configuration names and that no request tells of tells nothing apart; who named it is told so.
#[test]
fn r7_flags_that_are_told_of_elsewhere_only_are_named_with_what_puts_them_on_the_request() {
    let told = |requests, other_spans, log_records| FlagTelemetry { requests, other_spans, log_records };
    type Row<'a> = (&'a [(&'a str, FlagTelemetry)], Option<&'a str>);
    let rows: [Row<'_>; 8] = [
        (&[], None),
        (&[("pay", told(0, 10, 9))], None),
        (&[("pay", told(1, 500, 500))], None),
        (&[("pay", told(50, 0, 0))], None),
        (
            &[("pay", told(0, 20, 0))],
            Some("feature flag pay is evaluated on inner spans only; requests cannot be told by it"),
        ),
        (
            &[("pay", told(0, 0, 20))],
            Some("feature flag pay is evaluated in log records only; requests cannot be told by it"),
        ),
        (
            &[("pay", told(0, 11, 9))],
            Some(
                "feature flag pay is evaluated on inner spans and in log records only; requests cannot be told by it",
            ),
        ),
        (
            &[("a", told(0, 20, 0)), ("b", told(9, 20, 0)), ("c", told(0, 30, 0))],
            Some(
                "each of the feature flags a, c is evaluated on inner spans only; requests cannot be told by them",
            ),
        ),
    ];
    for (flags, said) in rows {
        let flags = flags.iter().map(|(key, told)| ((*key).to_owned(), *told)).collect();
        let found = missing(&ServiceTelemetry { flags, ..ServiceTelemetry::default() });
        assert_eq!(found.first().and_then(|lack| lack.text.split(". ").next()), said);
        for lack in found {
            assert_eq!((lack.what, lack.is_warning), ("feature_flag", true));
            assert_eq!((lack.environment, lack.collector, lack.code.len()), ("", "", 2));
            assert!(lack.code.iter().all(|line| line.contains("etAttribute(") && !line.contains('\n')));
        }
    }
}
