//! One service recorded three ways by `tests/clients/record`: its spans, the metrics of its SDK, and the metrics
//! that a real Collector's span_metrics connector made of its spans. Each way comes to the same verdict.

use std::path::Path;
use std::time::Duration;

use rollguard::app::replay::{ReplayOptions, replay};
use serde_json::Value;

/// What a replay of one recording says.
fn judged(scenario: &str, way: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/threeways").join(scenario);
    let options = ReplayOptions {
        files: vec![folder.join(format!("{way}.jsonl.zst"))],
        warmup: Duration::from_secs(30),
        ..ReplayOptions::default()
    };
    serde_json::from_str(&replay(&options).unwrap().json()).unwrap()
}

/// Scenario: v2 serves beside v1 from the second minute on; it fails 5 % instead of 0.1 %, takes twice as long, or
/// is as good. Guarantees: spans, SDK metrics and span metrics agree, within the stated time after v2's first request.
#[test]
fn three_ways_come_to_the_same_verdict() {
    let table = [
        ("errors", "spans", "fail", 50.0),
        ("errors", "sdk-metrics", "fail", 80.0),
        ("errors", "span-metrics", "fail", 80.0),
        ("latency", "spans", "fail", 50.0),
        // The least time to a pass after the warm-up is 300 s.
        ("healthy", "spans", "pass", 340.0),
    ];
    for (scenario, way, verdict, within) in table {
        let said = judged(scenario, way);
        let after = said["decided_after_s"].as_f64().unwrap_or(f64::INFINITY);
        println!("{scenario} {way}: {} after {after:.1} s", said["verdict"]);
        assert_eq!(said["verdict"], verdict, "{scenario} {way}: {said}");
        assert!(after <= within, "{scenario} {way}: decided after {after:.1} s, not within {within} s");
    }
}
