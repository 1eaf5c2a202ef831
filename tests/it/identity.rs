//! Who sent what, through the front door: two pods of one `service.version` are two releases where the version
//! is a composite key, and telemetry that names only a pod is of the version that the pod's spans name.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rollguard::app::Gateway;
use rollguard::app::replay::{ReplayOptions, Replayed, replay};
use rollguard::pipeline::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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

/// `shop` 1.4 for 600 s, 40 requests a second, each with an evaluation of the flag `pay` among its events; from 120 s on
/// every other request gets the variant `on` and fails.
fn flagged_recording() -> String {
    let text = |key: &str, text: &str| json!({"key": key, "value": {"stringValue": text}});
    let mut lines = String::new();
    for second in 0..600 {
        let spans: Vec<Value> = (0..40)
            .map(|n| {
                let end = (BEGIN + second) * 1_000_000_000 + n * 25_000_000;
                let is_on = second >= 120 && n % 2 == 0;
                let variant = text("feature_flag.result.variant", if is_on { "on" } else { "off" });
                json!({
                    "name": "GET /cart",
                    "kind": 2,
                    "startTimeUnixNano": (end - 20_000_000).to_string(),
                    "endTimeUnixNano": end.to_string(),
                    "events": [{
                        "timeUnixNano": (end - 19_000_000).to_string(),
                        "name": "feature_flag.evaluation",
                        "attributes": [text("feature_flag.key", "pay"), variant],
                    }],
                    "status": {"code": if is_on { 2 } else { 0 }},
                })
            })
            .collect();
        let resource = [("service.name", "shop"), ("service.version", "1.4"), ("service.instance.id", "a")];
        let resource = json!({"attributes": attributes(&resource)});
        let envelope = json!({"resource": resource, "scopeSpans": [{"spans": spans}]});
        lines.push_str(&json!({"resourceSpans": [envelope]}).to_string());
        lines.push('\n');
    }
    lines
}

fn judged(folder: &Path, recording: &str, version_attributes: &str) -> Result<Replayed, String> {
    let (spans, config) = (folder.join("spans.jsonl"), folder.join("rollguard.yaml"));
    std::fs::write(&spans, recording).unwrap();
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
    let replayed = judged(folder.path(), &recording(), "service.version+k8s.replicaset.name").unwrap();
    let verdict: Value = serde_json::from_str(&replayed.json()).unwrap();
    assert_eq!(verdict["baseline"], "1.4+aaa111");
    assert_eq!(verdict["candidate"], "1.4+bbb222");
    assert_eq!(verdict["verdict"], "fail");
    // By its version alone there is nothing to compare.
    let refused = judged(folder.path(), &recording(), "service.version").unwrap_err();
    assert!(refused.contains(r#"the recording has "1.4""#), "{refused}");
}

/// Scenario: one process whose requests get a variant of a flag each; those of the new variant fail. Guarantees: where
/// the list names the flag, the variant is judged against the one that served before, and fails; else all is one version.
#[test]
fn r7_two_variants_of_a_flag_are_two_releases() {
    let folder = tempfile::tempdir().unwrap();
    let replayed = judged(folder.path(), &flagged_recording(), "service.version+feature_flag.pay").unwrap();
    let verdict: Value = serde_json::from_str(&replayed.json()).unwrap();
    assert_eq!(verdict["baseline"], "1.4+off");
    assert_eq!(verdict["candidate"], "1.4+on");
    assert_eq!(verdict["verdict"], "fail");
    let refused = judged(folder.path(), &flagged_recording(), "service.version").unwrap_err();
    assert!(refused.contains(r#"the recording has "1.4""#), "{refused}");
}

/// One HTTP exchange on a connection of its own: status and body.
async fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn attributes(texts: &[(&str, &str)]) -> Value {
    texts.iter().map(|(key, text)| json!({"key": key, "value": {"stringValue": text}})).collect()
}

/// Spans of a pod of `cart`, and metrics and logs of agents that know the pod or the container only.
fn exports(now: u64) -> [(&'static str, Value); 3] {
    let pod = attributes(&[
        ("service.name", "cart"),
        ("service.version", "7.1"),
        ("k8s.pod.uid", "11-22"),
        ("container.id", "c0ffee"),
        ("cloud.availability_zone", "z1"),
        ("telemetry.sdk.language", "go"),
    ]);
    let time = now.to_string();
    let span = json!({"name": "GET /", "kind": 2, "startTimeUnixNano": time, "endTimeUnixNano": time});
    let spans = json!({"resourceSpans": [
        {"resource": {"attributes": pod}, "scopeSpans": [{"spans": vec![span; 30]}]}
    ]});
    let point = json!({"timeUnixNano": time, "asInt": "5"});
    let metric = json!({"name": "k8s.pod.memory.usage", "gauge": {"dataPoints": vec![point; 12]}});
    let metrics = json!({"resourceMetrics": [
        {"resource": {"attributes": attributes(&[("k8s.pod.uid", "11-22")])}, "scopeMetrics": [{"metrics": [metric]}]}
    ]});
    let record = json!({"timeUnixNano": time, "severityNumber": 9, "body": {"stringValue": "hello"}});
    let logs = json!({"resourceLogs": [
        {"resource": {"attributes": attributes(&[("container.id", "c0ffee")])}, "scopeLogs": [{"logRecords": [record]}]},
        {"resource": {"attributes": attributes(&[("service.name", "cart")])}, "scopeLogs": [{"logRecords": vec![record; 40]}]},
    ]});
    [("/v1/traces", spans), ("/v1/metrics", metrics), ("/v1/logs", logs)]
}

/// The telemetry of `cart` as the API shows it, once it has the logs.
async fn pictured(gateway: &Gateway) -> Value {
    loop {
        let (status, body) =
            exchange(gateway.api_address(), "GET", "/api/v1/services/cart/telemetry", "").await;
        let service = &body["services"][0];
        if status == 200 && !service["signals"]["logs"].is_null() {
            return service.clone();
        }
        // Asked again: it is made anew each few seconds.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Scenario: the whole gateway; spans of a pod, then metrics with nothing but its uid, a log record with nothing
/// but its container, and log records of the service that name neither. Guarantees: the API shows the first two
/// under the version that the spans name, the rest as unversioned, and says which configuration mends it.
#[tokio::test]
async fn foreign_telemetry_reaches_the_version_through_the_front_door() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!(
        "receiver: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}}}\n\
         api: {{endpoint: 127.0.0.1:0}}\nstore: {{path: {}}}\n",
        folder.path().join("rollguard.db").display()
    );
    let config = rollguard::config::parse(&file, |_| None).unwrap();
    let gateway = Gateway::start(config, Arc::new(SystemClock)).await.unwrap();
    for (path, body) in exports(SystemClock.now().0) {
        assert_eq!(exchange(gateway.http_address(), "POST", path, &body.to_string()).await.0, 200, "{path}");
    }
    let service = pictured(&gateway).await;
    let versions = &service["versions"];
    assert_eq!((&versions[0]["version"], &versions[1]["version"]), (&json!("(unversioned)"), &json!("7.1")));
    assert_eq!(versions[1]["records"], json!({"traces": 30, "metrics": 12, "logs": 1}));
    assert_eq!(versions[0]["records"]["logs"], 40);
    assert_eq!(versions[1]["placement"][0]["zone"], "z1");
    assert_eq!(versions[1]["sdks"][0]["language"], "go");
    assert_eq!(service["signals"]["traces"]["version_from"], json!({"service.version": 1.0}));
    assert_eq!(service["signals"]["traces"]["instance_from"], json!({"k8s.pod.uid": 1.0}));
    assert_eq!(service["signals"]["metrics"]["joined_share"], 1.0);
    let missing = service["missing"].as_array().unwrap();
    let lack = missing.iter().find(|m| m["what"] == "version_of_logs").unwrap();
    assert!(lack["collector"].as_str().unwrap().contains("k8sattributes"), "{lack}");
    gateway.stop().await;
}

/// Scenario: the whole gateway, with a list that names the flag `pay`; requests that do not tell of it, and inner spans and
/// log records that do. Guarantees: the API shows where the flag is told of, and the code that puts it on the request.
#[tokio::test]
async fn r7_a_flag_on_inner_spans_and_in_logs_is_shown_through_the_front_door() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!(
        "receiver: {{grpc: {{endpoint: 127.0.0.1:0}}, http: {{endpoint: 127.0.0.1:0}}, \
         version_attributes: [service.version+feature_flag.pay]}}\n\
         api: {{endpoint: 127.0.0.1:0}}\nstore: {{path: {}}}\n",
        folder.path().join("rollguard.db").display()
    );
    let config = rollguard::config::parse(&file, |_| None).unwrap();
    let gateway = Gateway::start(config, Arc::new(SystemClock)).await.unwrap();
    let time = SystemClock.now().0.to_string();
    let resource = json!({"attributes": attributes(&[("service.name", "cart"), ("service.version", "7.1")])});
    let told = attributes(&[("feature_flag.key", "pay"), ("feature_flag.result.variant", "on")]);
    let other = attributes(&[("feature_flag.key", "search"), ("feature_flag.result.variant", "on")]);
    let request = json!({"name": "GET /", "kind": 2, "startTimeUnixNano": time, "endTimeUnixNano": time});
    let mut inner = json!({"name": "pay", "kind": 1, "startTimeUnixNano": time, "endTimeUnixNano": time});
    // Twice in one span is once told.
    let event = |attributes: &Value| json!({"name": "feature_flag.evaluation", "attributes": attributes});
    inner["events"] = json!([event(&told), event(&told), event(&other)]);
    let spans: Vec<Value> = (0..60).map(|n| if n < 20 { request.clone() } else { inner.clone() }).collect();
    let spans = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]});
    let record = |name: &str| json!({"timeUnixNano": time, "severityNumber": 9, "eventName": name, "attributes": told});
    let mut by_attribute = record("");
    let name = attributes(&[("event.name", "feature_flag.evaluation")])[0].clone();
    by_attribute["attributes"].as_array_mut().unwrap().push(name);
    let records =
        json!([record("feature_flag.evaluation"), record("feature_flag"), by_attribute, record("login")]);
    let logs = json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]});
    for (path, body) in [("/v1/traces", spans), ("/v1/logs", logs)] {
        assert_eq!(exchange(gateway.http_address(), "POST", path, &body.to_string()).await.0, 200, "{path}");
    }
    let service = pictured(&gateway).await;
    assert_eq!(
        service["feature_flags"],
        json!({"pay": {"requests": 0, "other_spans": 40, "log_records": 3}})
    );
    let missing = service["missing"].as_array().unwrap();
    let lack = missing.iter().find(|m| m["what"] == "feature_flag").unwrap();
    assert!(
        lack["text"].as_str().unwrap().contains("pay is evaluated on inner spans and in log records only"),
        "{lack}"
    );
    assert!(lack["code"][0].as_str().unwrap().contains("setAttribute"), "{lack}");
    assert!(lack.get("environment").is_none(), "{lack}");
    gateway.stop().await;
}
