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

/// How much later metrics decide, at most: five export intervals of 15 s. Evidence comes at the end of an interval,
/// those in which v2 appears and in which its warm-up ends are not compared, and blocks are as long as an
/// interval: two intervals later. At the bounds of explicit buckets a slower version shows less than in
/// the fine buckets of spans, and the more so where two instances seem unlike.
const LATER_BY_S: f64 = 75.0;

/// Scenario: v2 serves beside v1 from the second minute on; it fails 5 % instead of 0.1 %, takes twice as long, or
/// is as good. Guarantees: spans, SDK metrics and span metrics agree; metrics decide later, by five intervals at most.
#[test]
fn three_ways_come_to_the_same_verdict() {
    // The least time to a pass is 300 s after the warm-up of 30 s.
    let table = [("errors", "fail", 50.0), ("latency", "fail", 50.0), ("healthy", "pass", 340.0)];
    for (scenario, verdict, within) in table {
        let spans = decided(scenario, "spans", verdict);
        assert!(spans <= within, "{scenario}: decided after {spans:.1} s, not within {within} s");
        for way in ["sdk-metrics", "span-metrics"] {
            let metrics = decided(scenario, way, verdict);
            println!("{scenario}: {verdict} by spans after {spans:.1} s, by {way} after {metrics:.1} s");
            let later = metrics - spans;
            assert!(
                (0.0..=LATER_BY_S).contains(&later),
                "{scenario} {way}: {later:.1} s later than by spans"
            );
        }
    }
}

/// Seconds from v2's first request to the verdict, which must be the expected one.
fn decided(scenario: &str, way: &str, verdict: &str) -> f64 {
    let said = judged(scenario, way);
    assert_eq!(said["verdict"], verdict, "{scenario} {way}: {said}");
    said["decided_after_s"].as_f64().unwrap_or(f64::INFINITY)
}
