//! Who sent what, from recorded OTLP to the verdict: two pods of one `service.version` are two releases where
//! the version is a composite key.

use std::path::Path;
use std::time::Duration;

use rollguard::app::replay::{ReplayOptions, Replayed, replay};
use serde_json::{Value, json};

/// Where the recording begins, in seconds.
const BEGIN: u64 = 1_760_000_000;

/// Two pods of `shop` 1.4 for 600 s, 20 requests a second each; from 120 s on the second pod runs another
/// template, whose requests all fail.
fn recording() -> String {
    let mut lines = String::new();
    for second in 0..600 {
        for (pod, hash) in [("a", "aaa111"), ("b", if second < 120 { "aaa111" } else { "bbb222" })] {
            let spans: Vec<Value> = (0..20)
                .map(|n| {
                    let end = (BEGIN + second) * 1_000_000_000 + n * 50_000_000;
                    json!({
                        "name": "GET /cart",
                        "kind": 2,
                        "startTimeUnixNano": (end - 20_000_000).to_string(),
                        "endTimeUnixNano": end.to_string(),
                        "status": {"code": if hash == "bbb222" { 2 } else { 0 }},
                    })
                })
                .collect();
            let attribute = |key: &str, text: &str| json!({"key": key, "value": {"stringValue": text}});
            let resource = json!({"attributes": [
                attribute("service.name", "shop"),
                attribute("service.version", "1.4"),
                attribute("service.instance.id", pod),
                attribute("k8s.deployment.name", "shop"),
                attribute("k8s.replicaset.name", &format!("shop-{hash}")),
            ]});
            let envelope = json!({"resource": resource, "scopeSpans": [{"spans": spans}]});
            lines.push_str(&json!({"resourceSpans": [envelope]}).to_string());
            lines.push('\n');
        }
    }
    lines
}

fn judged(folder: &Path, version_attributes: &str) -> Result<Replayed, String> {
    let (spans, config) = (folder.join("spans.jsonl"), folder.join("rollguard.yaml"));
    std::fs::write(&spans, recording()).unwrap();
    std::fs::write(&config, format!("receiver:\n  version_attributes: [{version_attributes}]\n")).unwrap();
    let options = ReplayOptions {
        files: vec![spans],
        config: Some(config),
        warmup: Duration::from_secs(10),
        ..ReplayOptions::default()
    };
    replay(&options).map_err(|e| e.to_string())
}

#[test]
fn r3_two_templates_of_one_version_are_two_releases() {
    let folder = tempfile::tempdir().unwrap();
    let replayed = judged(folder.path(), "service.version+k8s.replicaset.name").unwrap();
    let verdict: Value = serde_json::from_str(&replayed.json()).unwrap();
    assert_eq!(verdict["baseline"], "1.4+aaa111");
    assert_eq!(verdict["candidate"], "1.4+bbb222");
    assert_eq!(verdict["verdict"], "fail");
    // By its version alone there is nothing to compare.
    let refused = judged(folder.path(), "service.version").unwrap_err();
    assert!(refused.contains(r#"the recording has "1.4""#), "{refused}");
}
