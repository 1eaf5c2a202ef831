//! SLIs of a policy's own, end to end: a configuration file, OTLP over HTTP to the real receiver, the real pipeline,
//! a verdict. Each kind of SLI finds its fault and lets a healthy twin pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::deployment::{Deployment, Mode};
use rollguard::model::{ServiceKey, UnixNanos};
use rollguard::pipeline::clock::Clock;
use rollguard::pipeline::recording::{Recording, Selection};
use rollguard::pipeline::{Disposition, NoDownstream, Signal};
use rollguard::receiver::{
    Doors, GrpcConfig, HttpConfig, ReceiverConfig, ReceiverDeps, Receivers, WalkSettings, walk_traces,
};
use rollguard::telemetry::ProcessMemory;
use rollguard::verdict::{Flag, Policy, SliEvidence, Verdict};
use tokio_util::sync::CancellationToken;

use super::world::{World, at};

/// The time, set by the test.
#[derive(Default)]
struct Stage(AtomicU64);

impl Clock for Stage {
    fn now(&self) -> UnixNanos {
        UnixNanos(self.0.load(Ordering::Relaxed))
    }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

fn number(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

/// What a version does wrong: how often, or how much more.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fault {
    /// Share of payments that are declined.
    declined: f64,
    /// Share of requests that are answered with 401.
    refused: f64,
    /// Factor on how long a call of the payment provider takes.
    slow: f64,
    /// Database calls per request.
    calls: u64,
    /// Error logs per request.
    logs: f64,
    /// Factor on the size of answers.
    bytes: f64,
    /// Share of orders that are announced.
    announced: f64,
}

pub(super) const WELL: Fault =
    Fault { declined: 0.03, refused: 0.01, slow: 1.0, calls: 3, logs: 0.02, bytes: 1.0, announced: 0.6 };

/// The spans and the error logs of one request that ends at `end`.
fn request(random: &mut fastrand::Rng, end: u64, fault: Fault) -> (Vec<Span>, Vec<LogRecord>) {
    let chance = |random: &mut fastrand::Rng, p: f64| random.f64() < p;
    let took = (20_000_000.0 * 4f64.powf(random.f64() * random.f64())) as u64;
    let call = ((5_000_000.0 * 2f64.powf(random.f64() * 2.0)) * fault.slow) as u64;
    let refused = chance(random, fault.refused);
    let declined = !refused && chance(random, fault.declined);
    let size = (2_000.0 * fault.bytes * (0.5 + random.f64())) as i64;
    let span = |kind: i32, name: &str, nanos: u64, attributes: Vec<KeyValue>| Span {
        name: name.into(),
        kind,
        start_time_unix_nano: end - nanos,
        end_time_unix_nano: end,
        attributes,
        ..Default::default()
    };
    let entry = vec![
        text("http.request.method", "POST"),
        text("http.route", "/pay"),
        number("http.response.status_code", if refused { 401 } else { 200 }),
        number("http.response.body.size", size),
        text("payment.result", if declined { "declined" } else { "accepted" }),
        text("tenant.tier", if end.is_multiple_of(2) { "gold" } else { "free" }),
    ];
    let mut spans = vec![span(2, "POST /pay", took, entry)];
    spans.push(span(3, "charge", call, vec![text("peer.service", "provider")]));
    for _ in 0..fault.calls {
        spans.push(span(3, "SELECT orders", 1_000_000, vec![text("db.system.name", "postgresql")]));
    }
    // Work inside the service counts for nothing.
    spans.push(span(1, "render", 500_000, vec![text("db.system.name", "postgresql")]));
    if chance(random, fault.announced) {
        spans.push(span(4, "orders publish", 100_000, vec![text("messaging.destination.name", "orders")]));
    }
    let log = LogRecord { time_unix_nano: end, severity_number: 17, ..Default::default() };
    let logs = if chance(random, fault.logs) { vec![log] } else { Vec::new() };
    (spans, logs)
}

pub(super) fn resource(version: &str, instance: usize) -> Option<Resource> {
    let attributes = vec![
        text("service.name", "shop"),
        text("service.version", version),
        text("service.instance.id", &format!("{version}-{instance}")),
    ];
    Some(Resource { attributes, ..Default::default() })
}

fn traces(version: &str, instance: usize, spans: Vec<Span>) -> Vec<u8> {
    traces_of(resource(version, instance), spans)
}

fn traces_of(resource: Option<Resource>, spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
    let envelope = ResourceSpans { resource, scope_spans, ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![envelope] }.encode_to_vec()
}

fn logs(version: &str, instance: usize, log_records: Vec<LogRecord>) -> Vec<u8> {
    let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
    let envelope = ResourceLogs { resource: resource(version, instance), scope_logs, ..Default::default() };
    ExportLogsServiceRequest { resource_logs: vec![envelope] }.encode_to_vec()
}

/// The policy of a configuration with these SLIs.
pub(super) fn policy(slis: &str) -> Policy {
    let yaml = format!(
        "policies:\n  defaults:\n    slo: 0.99\n    warmup: 10s\n    min_pass: 60s\n    horizon: 10m\n    slis:\n{slis}"
    );
    let config = rollguard::config::parse(&yaml, |_| None).unwrap_or_else(|e| panic!("{yaml}\n{e}"));
    config.policies.resolve(&ServiceKey::default(), Deployment::VERSION).policy
}

/// A front door with a world behind it.
pub(super) struct Front {
    pub(super) world: World,
    clock: Arc<Stage>,
    client: reqwest::Client,
    url: String,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    pub(super) random: fastrand::Rng,
    /// Bodies of traces that were sent.
    sent: Vec<Vec<u8>>,
    /// Whether each instance of `v2` is replaced by one of another name every 20 s.
    pub(super) crashes: bool,
}

impl Front {
    pub(super) async fn open(policy: Policy) -> Self {
        let world = World::new(policy, Mode::Act);
        let clock = Arc::new(Stage::default());
        let any = || "127.0.0.1:0".to_owned();
        let (grpc, http) = (
            GrpcConfig { endpoint: any(), ..Default::default() },
            HttpConfig { endpoint: any(), ..Default::default() },
        );
        let deps = ReceiverDeps {
            admission: world.intake.clone(),
            downstream: Arc::new(NoDownstream),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            doors: Doors::default(),
            memory: Arc::new(ProcessMemory),
        };
        let config = ReceiverConfig { grpc, http, ..Default::default() };
        let receivers = Receivers::bind(config, deps).await.expect("free ports");
        let url = format!("http://{}", receivers.http_addr().expect("bound"));
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(receivers.serve(shutdown.clone()));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self {
            world,
            clock,
            client,
            url,
            shutdown,
            serving,
            random: fastrand::Rng::with_seed(3),
            sent: Vec::new(),
            crashes: false,
        }
    }

    pub(super) async fn post(&self, path: &str, body: Vec<u8>) {
        let sent = self.client.post(format!("{}{path}", self.url));
        let sent = sent.header("content-type", "application/x-protobuf").body(body);
        assert_eq!(sent.send().await.expect("answered").status(), 200);
    }

    /// A second in which versions serve: name, instances, requests a second, and what goes wrong.
    pub(super) async fn second(&mut self, versions: &[(&str, usize, u64, Fault)]) {
        self.world.run(1);
        let now = self.world.now_s;
        self.clock.0.store(at(now) + 300_000_000, Ordering::Relaxed);
        for &(version, instances, rps, fault) in versions {
            let mut sent: Vec<(Vec<Span>, Vec<LogRecord>)> = vec![Default::default(); instances];
            for i in 0..rps {
                let end = at(now - 1) + self.random.u64(..1_000_000_000);
                let (spans, logs) = request(&mut self.random, end, fault);
                let (all_spans, all_logs) = &mut sent[i as usize % instances];
                all_spans.extend(spans);
                all_logs.extend(logs);
            }
            for (instance, (spans, records)) in sent.into_iter().enumerate() {
                let lives = if self.crashes && version == "v2" { now as usize / 20 } else { 0 };
                let body = traces(version, instance + 1_000 * lives, spans);
                self.sent.push(body.clone());
                self.post("/v1/traces", body).await;
                if !records.is_empty() {
                    self.post("/v1/logs", logs(version, instance, records)).await;
                }
            }
        }
    }

    /// `v1` alone until it is known, then `v2` beside it or in its place, until there is a verdict.
    pub(super) async fn judge(&mut self, fault: Fault, beside: bool) -> Arc<Deployment> {
        for _ in 0..170 {
            self.second(&[("v1", 4, 40, WELL)]).await;
        }
        for second in 0..600 {
            let v2 = ("v2", 4, 40, fault);
            if beside || second < 3 {
                self.second(&[("v1", 4, 40, WELL), v2]).await;
            } else {
                self.second(&[v2]).await;
            }
            let decided = self.world.deployment("v2").is_some_and(|d| d.verdict != Verdict::Pending);
            if decided {
                break;
            }
        }
        self.world.deployment("v2").expect("v2 was seen")
    }

    /// Everything closes; every span, log and point received is accounted for.
    pub(super) async fn end(mut self) {
        self.world.run(30);
        self.shutdown.cancel();
        self.serving.await.expect("no panic");
        let ledger = self.world.shards.ledger();
        for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
            let settled: u64 = Disposition::all().map(|d| ledger.settled(signal, d)).sum();
            assert_eq!(ledger.received(signal), settled, "{signal:?}");
            assert_eq!(ledger.settled(signal, Disposition::Late), 0);
        }
    }
}

async fn judged(slis: &str, fault: Fault, beside: bool) -> Arc<Deployment> {
    let mut front = Front::open(policy(slis)).await;
    let deployment = front.judge(fault, beside).await;
    front.end().await;
    deployment
}

pub(super) fn line<'a>(d: &'a Deployment, name: &str) -> &'a SliEvidence {
    d.evidence
        .slis
        .iter()
        .find(|e| e.name() == name)
        .unwrap_or_else(|| panic!("{name}: {:#?}", d.evidence.slis))
}

/// The kinds, what each is about, and the fault that it finds.
fn kinds() -> Vec<(&'static str, &'static str, Fault)> {
    vec![
        (
            "declined",
            "ratio, total: {operation: 'POST /pay'}, bad: {attributes: {payment.result: 'decl*'}}",
            Fault { declined: 0.2, ..WELL },
        ),
        (
            "gold_accepted",
            "ratio, total: {attributes: {tenant.tier: '!free'}}, good: {attributes: {payment.result: accepted}}",
            Fault { declined: 0.3, ..WELL },
        ),
        (
            "provider_p95",
            "latency, total: {span_kind: client, attributes: {peer.service: provider}}, quantile: 0.95",
            Fault { slow: 1.6, ..WELL },
        ),
        (
            "provider_over_15ms",
            "latency, total: {span_kind: client, attributes: {peer.service: provider}}, threshold: 15ms",
            Fault { slow: 1.6, ..WELL },
        ),
        ("unauthorised", "client_errors, codes: [401, '403']", Fault { refused: 0.2, ..WELL }),
        ("error_logs", "log_errors", Fault { logs: 0.2, ..WELL }),
        (
            "db_calls",
            "rate, events: {span_kind: client, attributes: {db.system.name: '*'}}",
            Fault { calls: 8, ..WELL },
        ),
        ("bytes", "rate, quantity: http.response.body.size", Fault { bytes: 3.0, ..WELL }),
        (
            "orders_announced",
            "rate, events: {span_kind: producer, span_name: 'orders publish'}, direction: decrease",
            Fault { announced: 0.2, ..WELL },
        ),
    ]
}

fn all_kinds(extra: &str) -> String {
    let one = |(name, words, _): (&str, &str, Fault)| format!("      {name}: {{kind: {words}{extra}}}\n");
    kinds().into_iter().map(one).collect()
}

/// Scenario: a policy with one SLI of each kind; a version has one fault after the other, which no SLI that every
/// service has can see. Guarantee: it fails, by the SLI that is about the fault, and the verdict says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_finds_its_fault() {
    for (name, words, fault) in kinds() {
        let d = judged(&format!("      {name}: {{kind: {words}, weight: 0.2}}\n"), fault, true).await;
        assert_eq!(d.verdict, Verdict::Fail, "{name}: {}", d.explanation);
        let own = line(&d, name);
        assert!(own.ln_e > 4.0 && own.degraded, "{name}: {own:?}");
        assert!(d.explanation.contains(name), "{name}: {}", d.explanation);
        // Renormalised, not added: 0.2 beside the 1 of all others.
        assert!((own.weight - 0.2 / 1.2).abs() < 1e-12, "{name}: {own:?}");
        let sum: f64 = d.evidence.slis.iter().map(|e| e.weight).sum();
        assert!(sum <= 1.0 + 1e-9, "{name}: weights are {sum}");
    }
}

/// Scenario: the same policy with all of them at once, each required for a PASS, and a version that is as good.
/// Guarantees: it passes, on all of them; alpha is one budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_version_passes_all_kinds() {
    let d = judged(&all_kinds(", required: true"), WELL, true).await;
    assert_eq!(d.verdict, Verdict::Pass, "{}\n{:#?}", d.explanation, d.evidence.slis);
    for (name, ..) in kinds() {
        let own = line(&d, name);
        assert!(own.ln_e_pass.is_some_and(|e| e >= d.evidence.pass_threshold), "{name}: {own:?}");
        assert!(own.requests[0] > 100 && own.requests[1] > 100, "{name}: {own:?}");
    }
    let sum: f64 = d.evidence.slis.iter().map(|e| e.weight).sum();
    assert!(sum <= 1.0 + 1e-9, "{sum}");
}

/// Scenario: all of them report only; a version with every fault at once. Guarantee: each line shows it, and none
/// decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reports_only_decides_nothing() {
    let fault =
        Fault { declined: 0.2, refused: 0.01, slow: 1.6, calls: 8, logs: 0.2, bytes: 3.0, announced: 0.2 };
    let d = judged(&all_kinds(", report_only: true"), fault, true).await;
    assert_eq!(d.verdict, Verdict::Pass, "{}", d.explanation);
    for (name, ..) in kinds().into_iter().filter(|(name, ..)| *name != "unauthorised") {
        let own = line(&d, name);
        assert!(own.weight == 0.0 && own.ln_e > 4.0, "{name}: {own:?}");
    }
}

/// Scenario: a rolling update: `v1` ends as `v2` begins. Guarantees: each kind finds its fault by what is remembered
/// of `v1`, and the verdict says that it is remembered; a healthy version never fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_is_held_to_what_is_remembered() {
    for (name, words, fault) in kinds() {
        let d = judged(&format!("      {name}: {{kind: {words}, weight: 0.2}}\n"), fault, false).await;
        assert_eq!(d.verdict, Verdict::Fail, "{name}: {}\n{:#?}", d.explanation, line(&d, name));
        assert!(d.evidence.has(Flag::RememberedBaseline) && line(&d, name).ln_e > 4.0, "{name}");
    }
    let d = judged(&all_kinds(""), WELL, false).await;
    assert_ne!(d.verdict, Verdict::Fail, "{}", d.explanation);
}

/// Scenario: what was sent is judged again from a recording. Guarantee: the same SLI decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_is_judged_by_the_same_slis() {
    let policy = policy(
        "      db_calls: {kind: rate, events: {span_kind: client, attributes: {db.system.name: '*'}}, weight: 0.2}\n",
    );
    let mut front = Front::open(policy.clone()).await;
    let live = front.judge(Fault { calls: 8, ..WELL }, true).await;
    let mut recording = Recording::under(&policy);
    for body in &front.sent {
        walk_traces(body, &WalkSettings::default(), &mut recording).unwrap();
    }
    front.end().await;
    let outcomes = recording.judge(&Selection::default(), policy, |_, _, _, _| {}).unwrap();
    assert_eq!((live.verdict, outcomes.verdict), (Verdict::Fail, Verdict::Fail));
    let own = outcomes.evidence.slis.iter().find(|e| e.name() == "db_calls").unwrap();
    assert!(own.ln_e > 4.0 && own.bad[0] > 2 * own.bad[1], "{own:?}");
}

/// Scenario: every 20 s each instance of `v2` dies and another takes its place; no span shows an error. Guarantees:
/// the verdict says so and holds the PASS back; as many instances that stay pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_die_and_are_replaced_hold_a_pass_back() {
    for crashes in [true, false] {
        let mut front = Front::open(Policy { horizon_s: 180, ..policy("      {}\n") }).await;
        front.crashes = crashes;
        let d = front.judge(WELL, true).await;
        let expected = if crashes { Verdict::Inconclusive } else { Verdict::Pass };
        assert_eq!(d.verdict, expected, "{}", d.explanation);
        assert_eq!(d.evidence.has(Flag::InstancesRestart), crashes, "{:?}", d.evidence.flags);
        assert_eq!(d.explanation.contains("die and are replaced"), crashes, "{}", d.explanation);
        front.end().await;
    }
}

/// Scenario: `v2` serves for a while and falls silent while `v1` serves on. Guarantees: never a PASS, never a fail; the
/// verdict says that it is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_falls_silent_is_told_and_never_passed() {
    let mut front = Front::open(Policy { horizon_s: 120, ..policy("      {}\n") }).await;
    for second in 0..400 {
        let v1 = ("v1", 4, 40, WELL);
        if (170..215).contains(&second) {
            front.second(&[v1, ("v2", 4, 40, WELL)]).await;
        } else {
            front.second(&[v1]).await;
        }
    }
    let d = front.world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Inconclusive, "{}", d.explanation);
    assert!(d.evidence.has(Flag::CandidateSilent), "{:?}", d.evidence.flags);
    front.end().await;
}

/// A second of a world without receivers: what walkers would hand on goes straight into its intake.
pub(super) fn walked(world: &mut World, random: &mut fastrand::Rng, versions: &[(&str, Fault)]) {
    world.run(1);
    for &(version, fault) in versions {
        (0..4).for_each(|instance| walked_by(world, random, resource(version, instance), fault));
    }
}

/// What one instance served in this second.
pub(super) fn walked_by(world: &World, random: &mut fastrand::Rng, resource: Option<Resource>, fault: Fault) {
    let now = world.now_s;
    let spans = (0..10).flat_map(|_| {
        let end = at(now - 1) + random.u64(..1_000_000_000);
        request(random, end, fault).0
    });
    let body = traces_of(resource, spans.collect());
    let mut batch = world.intake.begin(UnixNanos(at(now) + 300_000_000));
    walk_traces(&body, &WalkSettings::default(), &mut batch).unwrap();
    batch.commit().expect("the log has room");
}

/// Scenario: Rollguard restarts in the middle of a deployment, and comes back with a configuration that has no SLIs of
/// its own any more; then the new version begins to call the database more often. Guarantees: the deployment keeps
/// the policy that it began with, what was learned of the baseline is there, and the fault is found.
#[test]
fn a_deployment_keeps_its_slis_over_a_restart_and_a_reload() {
    let slis = "      db_calls: {kind: rate, events: {span_kind: client, attributes: {db.system.name: '*'}}, weight: 0.2}\n";
    let mut world = World::new(policy(slis), Mode::Act);
    let mut random = fastrand::Rng::with_seed(5);
    (0..170).for_each(|_| walked(&mut world, &mut random, &[("v1", WELL)]));
    (0..40).for_each(|_| walked(&mut world, &mut random, &[("v1", WELL), ("v2", WELL)]));
    let before = world.deployment("v2").unwrap();
    assert_eq!(before.verdict, Verdict::Pending, "{}", before.explanation);
    world.restart_under(3, policy("      {}\n"));
    (0..20).for_each(|_| walked(&mut world, &mut random, &[("v1", WELL), ("v2", WELL)]));
    let d = world.deployment("v2").unwrap();
    assert_eq!((d.verdict, d.policy.slis.len()), (Verdict::Pending, 1), "{}", d.explanation);
    assert!(
        line(&d, "db_calls").requests[1] > line(&before, "db_calls").requests[1],
        "{:?}",
        line(&d, "db_calls")
    );
    let fault = Fault { calls: 8, ..WELL };
    (0..60).for_each(|_| walked(&mut world, &mut random, &[("v1", WELL), ("v2", fault)]));
    let d = world.deployment("v2").unwrap();
    assert_eq!(d.verdict, Verdict::Fail, "{}", d.explanation);
    assert!(d.explanation.contains("db_calls"), "{}", d.explanation);
}
