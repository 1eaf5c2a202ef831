//! Where a flag is told of, counted by service.

use std::sync::Arc;

use crate::model::{LogSink, ResourceView, SpanSink, ToldBy, UnixNanos};
use crate::pipeline::diagnosis::diagnose;
use crate::pipeline::{Batch, FlagTelemetry, Intake, Registry, RegistryLimits, Shards};

fn resource(version: &str) -> ResourceView<'_> {
    ResourceView { service: b"shop", version: version.as_bytes(), ..ResourceView::default() }
}

/// A message of spans, with what it tells of `pay`.
fn spans(door: &Intake, version: &str, by: ToldBy, spans: u64) -> Batch {
    let mut batch = door.begin(UnixNanos(1));
    batch.resource(&resource(version));
    batch.sender_of_spans(&resource(version), spans);
    batch.flag_told("pay", by, spans);
    batch
}

#[test]
fn what_versions_tell_of_a_flag_is_added_up_by_service_once_it_is_committed() {
    let door =
        Intake::new(Arc::new(Registry::new(RegistryLimits::default())), Arc::new(Shards::new(1, 1_000)));
    drop(spans(&door, "v1", ToldBy::Request, 7));
    assert!(diagnose(&door.registry, |_| None)[0].flags.is_empty());
    spans(&door, "v1", ToldBy::OtherSpan, 2).commit().unwrap();
    spans(&door, "v2", ToldBy::OtherSpan, 3).commit().unwrap();
    spans(&door, "v2", ToldBy::Request, 1).commit().unwrap();
    let mut logs = door.begin(UnixNanos(1));
    logs.sender_of_logs(&resource("v1"), 30);
    logs.flag_logged("search", 20);
    // Nobody has heard of this one, so that it is shown nowhere.
    let stranger = ResourceView { service: b"agent", ..ResourceView::default() };
    logs.sender_of_logs(&stranger, 9);
    logs.flag_logged("search", 9);
    logs.commit().unwrap();
    let services = diagnose(&door.registry, |_| None);
    assert_eq!(services.len(), 1);
    let told = |key: &str| services[0].flags[key];
    assert_eq!(told("pay"), FlagTelemetry { requests: 1, other_spans: 5, log_records: 0 });
    assert_eq!(told("search"), FlagTelemetry { log_records: 20, ..FlagTelemetry::default() });
    assert_eq!(services[0].flags.len(), 2);
    // Told by requests, `pay` lacks nothing.
    let missing: Vec<&str> =
        services[0].missing.iter().filter(|m| m.what == "feature_flag").map(|m| &*m.text).collect();
    assert!(matches!(missing[..], [text] if text.contains("flag search is")), "{missing:?}");
}
