//! The port as a client sees it, with a stand-in for the evaluator.

use std::sync::Mutex;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::super::{Readiness, WriteAccess};
use super::*;
use crate::deployment::{Deployment, Origin, Phase, Request as Start, Transition};
use crate::model::{DeploymentId, ResourceAttribute, ServiceKey, UnixNanos};
use crate::pipeline::clock::Clock;
use crate::pipeline::{
    Board, Command, CommandError, DataType, ExporterReport, Exporters, Missing, QueueReport, RejectedRequest,
    ServiceBoard, ServiceTelemetry, SignalTelemetry, VersionBoard, VersionTelemetry,
};
use crate::verdict::{Evidence, Sli, SliEvidence, Verdict};

struct FixedClock(Mutex<UnixNanos>);

impl Clock for FixedClock {
    fn now(&self) -> UnixNanos {
        *self.0.lock().unwrap()
    }
}

const NOW: UnixNanos = UnixNanos(1_764_031_401_000_000_000);

fn deployment(id: &str, candidate: &str, origin: Origin) -> Deployment {
    let sli = |operation: Option<&str>| SliEvidence {
        sli: Sli::ErrorRate,
        operation: operation.map(Into::into),
        weight: 0.2,
        ln_e: 5.0,
        ln_e_pass: None,
        requests: [10, 20],
        bad: [3, 0],
        ratio: Some([4.0, 2.0, f64::INFINITY]),
        threshold_seconds: None,
        degraded: true,
        ..SliEvidence::default()
    };
    Deployment {
        id: DeploymentId(id.into()),
        service: ServiceKey { namespace: "shop".into(), name: "checkout".into(), ..Default::default() },
        baseline: Some("v1".into()),
        candidate: candidate.into(),
        time: None,
        scope: Default::default(),
        origin,
        release: Deployment::VERSION.into(),
        phase: Phase::Failed,
        verdict: Verdict::Fail,
        mode: Default::default(),
        policy: Default::default(),
        started_at: NOW,
        candidate_first: Some(NOW),
        decided_at: Some(NOW),
        decided_after_seconds: Some(18.0),
        rollback_ordered: false,
        evidence: Arc::new(Evidence { slis: vec![sli(None), sli(Some("GET /"))], ..Default::default() }),
        explanation: "v2 fails more".into(),
        url: None,
        commit: None,
        share: None,
        change: {
            let mut texts = crate::model::ResourceTexts::default();
            texts.set(ResourceAttribute::Revision, b"abc123");
            texts.set(ResourceAttribute::PipelineRunUrl, b"https://bot:token@ci/run/7");
            let mut change = crate::model::Labels::default();
            change.take(&crate::model::Labels::CHANGE, &texts);
            Arc::new(change)
        },
        history: vec![Transition { at: NOW, phase: Phase::Warming, reason: "first span".into() }],
        spent: Default::default(),
        spent_before: [0; 2],
        under_review_since: None,
    }
}

/// Answers commands like the evaluator: `taken` merges, `ghost` is refused, anything else is new.
async fn evaluator(mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Start(Start { service, .. }, answer) if service == "ghost" => {
                let _ = answer.send(Err(CommandError::Ambiguous("two services are called ghost".into())));
            }
            Command::Start(request, answer) => {
                let origin = if request.version == "taken" { Origin::Detected } else { Origin::Requested };
                let _ = answer.send(Ok(Arc::new(deployment("new", &request.version, origin))));
            }
            Command::Cancel(id, answer) if id.0 == "d1" => {
                let _ = answer.send(Ok(Arc::new(deployment("d1", "v2", Origin::Detected))));
            }
            Command::Cancel(id, answer) => {
                let _ = answer.send(Err(CommandError::NotFound(id)));
            }
        }
    }
}

struct Port {
    router: Router,
    ready: Arc<Readiness>,
    clock: Arc<FixedClock>,
    board: Arc<ArcSwap<Board>>,
    evaluator_ended: CancellationToken,
}

fn port(access: WriteAccess) -> Port {
    let version =
        |name: &str, requests_5m| VersionBoard { version: name.into(), requests_5m, ..Default::default() };
    let spans = SignalTelemetry {
        resources: 4,
        records: 40,
        unversioned: 30,
        with_instance: 40,
        version_from: [("service.version".to_owned(), 10)].into(),
        instance_from: [("k8s.pod.uid", 40)].into(),
        with: [(ResourceAttribute::PodUid, 40)].into(),
        ..Default::default()
    };
    let telemetry = ServiceTelemetry {
        metrics_interval_s: None,
        service: ServiceKey { namespace: "shop".into(), name: "checkout".into(), ..Default::default() },
        signals: [Some(spans), None, None],
        flags: Default::default(),
        versions: vec![VersionTelemetry {
            version: "v1".into(),
            records: [10, 0, 0],
            places: [([Some("z1".to_owned()), None, None], 2)].into(),
            ..Default::default()
        }],
        missing: vec![Missing {
            what: "version",
            is_warning: true,
            text: "75 % of the spans carry no version".into(),
            environment: "OTEL_RESOURCE_ATTRIBUTES=service.version=1",
            collector: "processors: {}",
            code: &[],
        }],
    };
    let board = Board {
        objectives: Arc::default(),
        telemetry: Arc::new(vec![telemetry]),
        counters: Default::default(),
        at: NOW,
        services: vec![ServiceBoard {
            key: ServiceKey { name: "checkout".into(), ..Default::default() },
            versions: vec![version("(unversioned)", 30), version("v1", 10)],
            lateness_seconds: 7.0,
            completeness: 1.0,
            metrics: None,
            sli_metrics: Default::default(),
            slo: 0.999,
        }],
        deployments: vec![Arc::new(deployment("d1", "v2", Origin::Detected))],
        blinded_by: None,
    };
    let board = Arc::new(ArcSwap::from_pointee(board));
    let (commands, received) = mpsc::channel(8);
    tokio::spawn(evaluator(received));
    let ready = Arc::new(Readiness::default());
    let clock = Arc::new(FixedClock(Mutex::new(NOW)));
    let state = ApiState::new(board.clone(), commands, ready.clone(), clock.clone(), access);
    let evaluator_ended = CancellationToken::new();
    let state = state.with_evaluator(evaluator_ended.clone());
    let extra = Router::new().route("/metrics", get(|| async { "page" }));
    let router = router(Arc::new(state), Duration::from_secs(5), extra);
    Port { router, ready, clock, board, evaluator_ended }
}

impl Port {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let mut request =
            axum::http::Request::builder().method(method).uri(path).header("host", "localhost:9464");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, &[], "").await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.send(Method::POST, path, &[("content-type", "application/json")], body).await
    }
}

#[tokio::test]
async fn one_deployment_in_full() {
    let port = port(WriteAccess::Open);
    let (status, body) = port.get("/api/v1/deployments/d1").await;
    assert_eq!(status, 200);
    let service = json!({"namespace": "shop", "name": "checkout", "environment": ""});
    assert_eq!(body["service"], service);
    let change = json!({"vcs.ref.head.revision": "abc123", "cicd.pipeline.run.url.full": "https://ci/run/7"});
    assert_eq!((&body["change"], &body["commit"]), (&change, &json!("abc123")));
    for (key, expected) in [
        ("id", json!("d1")),
        ("baseline", json!("v1")),
        ("candidate", json!("v2")),
        ("phase", json!("failed")),
        ("verdict", json!("fail")),
        ("final", json!(true)),
        ("explanation", json!("v2 fails more")),
        ("mode", json!("observe")),
        ("started_at", json!("2025-11-25T00:43:21Z")),
        ("decided_after_seconds", json!(18.0)),
    ] {
        assert_eq!(body[key], expected, "{key}");
    }
    let slis = body["evidence"]["slis"].as_array().unwrap();
    assert_eq!(slis.len(), 2);
    assert_eq!(slis[1]["operation"], "GET /");
    assert_eq!((&slis[0]["bad"]["candidate"], &slis[0]["ratio_high"]), (&json!(3), &Value::Null));
    assert_eq!(body["history"][0]["reason"], "first span");
    let (status, body) = port.get("/api/v1/deployments/d9").await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn lists_are_filtered_and_strict() {
    let port = port(WriteAccess::Open);
    let rows = [
        ("", 200, 1),
        ("?service=checkout&version=v2&environment=", 200, 1),
        ("?service=shop/checkout", 200, 1),
        ("?service=other", 200, 0),
        ("?environment=prod", 200, 0),
        ("?limit=0", 422, 0),
        ("?limit=x", 400, 0),
        ("?servce=checkout", 400, 0),
    ];
    for (query, expected, found) in rows {
        let (status, body) = port.get(&format!("/api/v1/deployments{query}")).await;
        let n = body["deployments"].as_array().map_or(0, Vec::len);
        assert_eq!((status, n), (expected, found), "{query}: {body}");
    }
    let (_, body) = port.get("/api/v1/deployments").await;
    assert_eq!(body["deployments"][0]["evidence"]["slis"].as_array().unwrap().len(), 1, "service level only");
}

#[tokio::test]
async fn starting_and_cancelling() {
    let port = port(WriteAccess::Open);
    let rows = [
        (r#"{"service":"checkout","version":"v3"}"#, 201, Value::Null),
        (r#"{"service":"checkout","version":"taken"}"#, 200, Value::Null),
        (r#"{"service":"ghost","version":"v3"}"#, 422, json!("service")),
        (r#"{"service":"checkout"}"#, 422, json!("version")),
        (r#"{"service":"checkout","version":"v3","x":1}"#, 422, json!("x")),
        ("{", 400, Value::Null),
    ];
    for (body, expected, field) in rows {
        let (status, answer) = port.post("/api/v1/deployments", body).await;
        assert_eq!((status, &answer["error"]["field"]), (expected, &field), "{body}: {answer}");
    }
    let large = format!(r#"{{"service":"{}"}}"#, "x".repeat(70_000));
    let (status, answer) = port.post("/api/v1/deployments", &large).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("body_too_large")));
    assert_eq!(port.post("/api/v1/deployments/d1/cancel", "").await.0, 200);
    assert_eq!(port.post("/api/v1/deployments/d2/cancel", "").await.0, 404);
}

#[tokio::test]
async fn repeats_with_a_key_get_the_same_deployment() {
    let port = port(WriteAccess::Open);
    let headers = [("content-type", "application/json"), ("idempotency-key", "run-1")];
    let body = r#"{"service":"checkout","version":"v3"}"#;
    let rows = [(body, 201), (body, 200), (r#"{"service":"checkout","version":"v4"}"#, 422)];
    for (body, expected) in rows {
        let (status, answer) = port.send(Method::POST, "/api/v1/deployments", &headers, body).await;
        assert_eq!(status, expected, "{answer}");
    }
}

#[tokio::test]
async fn writes_are_guarded_and_reads_are_not() {
    let body = r#"{"service":"checkout","version":"v3"}"#;
    let token = WriteAccess::Token(b"0123456789abcdef".as_slice().into());
    for (access, expected) in [(WriteAccess::Open, 201), (WriteAccess::Locked, 403), (token.clone(), 401)] {
        let port = port(access);
        assert_eq!(port.post("/api/v1/deployments", body).await.0, expected);
        assert_eq!(port.get("/api/v1/deployments").await.0, 200);
    }
    let port = port(token);
    let headers = [("content-type", "application/json"), ("authorization", "Bearer 0123456789abcdef")];
    assert_eq!(port.send(Method::POST, "/api/v1/deployments", &headers, body).await.0, 201);
    // With a token, a cancel needs no body and so no content type.
    assert_eq!(port.send(Method::POST, "/api/v1/deployments/d1/cancel", &headers[1..], "").await.0, 200);
}

#[tokio::test]
async fn ready_when_fresh_and_bound() {
    let port = port(WriteAccess::Open);
    assert_eq!(port.get("/healthz").await.0, 200);
    let (status, body) = port.get("/readyz").await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("not_ready")));
    port.ready.receivers_bound();
    assert_eq!(port.get("/readyz").await.0, 200);
    *port.clock.0.lock().unwrap() = NOW.plus_nanos(11_000_000_000);
    let (status, body) = port.get("/readyz").await;
    assert!(status == 503 && body["error"]["message"].as_str().unwrap().contains("11 s old"), "{body}");
    port.board.store(Arc::default());
    assert_eq!(port.get("/readyz").await.0, 503);
    assert_eq!(port.get("/healthz").await.0, 200);
    port.evaluator_ended.cancel();
    let (status, body) = port.get("/healthz").await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("not_alive")));
}

#[tokio::test]
async fn services_show_what_carries_no_version() {
    let port = port(WriteAccess::Open);
    let (_, body) = port.get("/api/v1/services").await;
    assert_eq!(body["services"][0]["unversioned_share_5m"], 0.75);
    assert_eq!(body["services"][0]["versions"][1]["version"], "v1");
}

#[tokio::test]
async fn what_the_telemetry_of_a_service_lacks() {
    let port = port(WriteAccess::Open);
    let (status, body) = port.get("/api/v1/services/checkout/telemetry").await;
    assert_eq!(status, 200);
    let service = &body["services"][0];
    let traces = &service["signals"]["traces"];
    assert_eq!((&traces["records"], &traces["unversioned_share"]), (&json!(40), &json!(0.75)));
    assert_eq!(traces["version_from"], json!({"service.version": 0.25}));
    assert_eq!(traces["instance_from"], json!({"k8s.pod.uid": 1.0}));
    assert_eq!(service["signals"]["logs"], Value::Null);
    let version = &service["versions"][0];
    assert_eq!(version["records"], json!({"traces": 10, "metrics": 0, "logs": 0}));
    let place = json!([{"zone": "z1", "region": null, "cluster": null, "instances": 2}]);
    assert_eq!(version["placement"], place);
    assert_eq!(service["missing"][0]["severity"], "warning");
    assert_eq!(port.get("/api/v1/services/shop%2Fcheckout/telemetry").await.1, body);
    assert_eq!(port.get("/api/v1/services/nobody/telemetry").await.0, 404);
}

#[tokio::test]
async fn a_policy_names_the_block_behind_each_value() {
    use crate::pipeline::config::{PoliciesConfig, PolicyOverride};
    let over = PolicyOverride { slo: Some(0.9), ..Default::default() };
    let policies = PoliciesConfig { environments: [("prod".into(), over)].into(), ..Default::default() };
    let clock = Arc::new(FixedClock(Mutex::new(NOW)));
    let (commands, _received) = mpsc::channel(1);
    let board = port(WriteAccess::Open).board;
    let state = ApiState::new(board.clone(), commands, Arc::default(), clock.clone(), WriteAccess::Open)
        .with_policies(Arc::new(move || policies.clone()));
    let router = router(Arc::new(state), Duration::from_secs(5), Router::new());
    let evaluator_ended = CancellationToken::new();
    let port = Port { router, ready: Arc::default(), clock, board, evaluator_ended };
    let slo = |body: &Value| {
        let values = body["policies"][0]["values"].as_array().unwrap().clone();
        values.into_iter().find(|line| line["key"] == "slo").map(|line| line["origin"].clone())
    };
    let (status, body) = port.get("/api/v1/services/checkout/policy").await;
    assert_eq!((status, &body["policies"][0]["seen"]), (200, &json!(true)), "{body}");
    assert_eq!(slo(&body), Some(json!("default")));
    let (_, body) = port.get("/api/v1/services/checkout/policy?environment=prod&release=canary").await;
    assert_eq!(
        (&body["policies"][0]["seen"], &body["policies"][0]["release"]),
        (&json!(false), &json!("canary"))
    );
    assert_eq!(slo(&body), Some(json!("policies.environments.prod")));
    assert_eq!(port.get("/api/v1/services/checkout/policy?colour=red").await.0, 400);
}

#[tokio::test]
async fn an_undecided_verdict_says_for_which_exporter_it_waits() {
    let port = port(WriteAccess::Open);
    let mut board = (**port.board.load()).clone();
    let undecided = Deployment {
        verdict: Verdict::Pending,
        phase: Phase::Evaluating,
        ..deployment("d2", "v3", Origin::Detected)
    };
    board.deployments.push(Arc::new(undecided));
    board.blinded_by = Some("otlp_grpc/full".into());
    port.board.store(Arc::new(board));
    let (_, body) = port.get("/api/v1/deployments/d2").await;
    assert_eq!(body["blinded_by"], "otlp_grpc/full");
    assert_eq!(port.get("/api/v1/deployments/d1").await.1["blinded_by"], Value::Null, "it is decided");
    let (_, list) = port.get("/api/v1/deployments").await;
    let by: Vec<_> =
        list["deployments"].as_array().unwrap().iter().map(|d| d["blinded_by"].clone()).collect();
    assert!(by.contains(&json!("otlp_grpc/full")) && by.contains(&Value::Null));
}

/// One exporter with a request that was refused for good.
struct OneExporter;

impl Exporters for OneExporter {
    fn exporters(&self) -> Vec<ExporterReport> {
        let queue = QueueReport {
            data: DataType::Logs,
            endpoint: None,
            requests: [3, 1_000],
            bytes: [24_576, 1 << 26],
        };
        let rejected = RejectedRequest {
            at: NOW,
            data: DataType::Logs,
            records: 7,
            bytes: 900,
            services: vec!["checkout".into()],
            sha256: [0xab; 32],
            code: "InvalidArgument".into(),
            message: "no such tenant".into(),
        };
        vec![ExporterReport {
            name: "otlp_grpc/b".into(),
            queues: vec![queue],
            last_rejected: vec![rejected],
        }]
    }
}

#[tokio::test]
async fn exporters_say_how_full_they_are_and_what_was_refused() {
    let port = port(WriteAccess::Open);
    assert_eq!(port.get("/api/v1/exporters").await, (200, json!({"exporters": []})));
    let (commands, _received) = mpsc::channel(1);
    let state =
        ApiState::new(port.board.clone(), commands, Arc::default(), port.clock.clone(), WriteAccess::Open)
            .with_exporters(Arc::new(OneExporter));
    let router = router(Arc::new(state), Duration::from_secs(5), Router::new());
    let (_, body) = Port { router, ..port }.get("/api/v1/exporters").await;
    let queue = json!({"data_type": "logs", "requests": 3, "requests_capacity": 1000, "bytes": 24576,
        "bytes_capacity": 67_108_864});
    let rejected = json!({"at": "2025-11-25T00:43:21Z", "data_type": "logs", "records": 7, "bytes": 900,
        "services": ["checkout"], "sha256": "ab".repeat(32), "code": "InvalidArgument", "message": "no such tenant"});
    let expected = json!({"name": "otlp_grpc/b", "queues": [queue], "last_rejected": [rejected]});
    assert_eq!(body, json!({"exporters": [expected]}));
}

#[tokio::test]
async fn everything_else_is_a_json_error() {
    let port = port(WriteAccess::Open);
    assert_eq!(port.get("/metrics").await, (200, json!("page")));
    assert_eq!(port.get("/nowhere").await.0, 404);
    assert_eq!(port.get("/nowhere").await.1["error"]["code"], "not_found");
    let (status, body) = port.send(Method::DELETE, "/healthz", &[], "").await;
    assert_eq!((status, &body["error"]["code"]), (405, &json!("method_not_allowed")));
}

#[tokio::test]
async fn a_stopped_evaluator_is_503() {
    let (commands, received) = mpsc::channel(1);
    drop(received);
    let clock = Arc::new(FixedClock(Mutex::new(NOW)));
    let state = ApiState::new(Arc::default(), commands, Arc::default(), clock, WriteAccess::Open);
    let router = router(Arc::new(state), Duration::from_secs(5), Router::new());
    let request = axum::http::Request::post("/api/v1/deployments/d1/cancel")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (503, true));
}

/// Scenario: the program stops while a client keeps a connection open. Guarantee: requests before are
/// answered, and serving ends well before the deadline.
#[tokio::test]
async fn serves_and_drains() {
    let port = port(WriteAccess::Open);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(super::super::serve(listener, port.router.clone(), 4, stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(3), serving).await.expect("ends in time").unwrap();
}
