//! A shop behind the real receiver, for tests of SLIs end to end: what its instances send for each request, over HTTP or
//! straight through the walkers, in a world whose clock is a number.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::deployment::{Deployment, Mode};
use rollguard::model::{ServiceKey, UnixNanos};
use rollguard::pipeline::{Disposition, Signal};
use rollguard::receiver::{WalkSettings, walk_metrics, walk_traces};
use rollguard::verdict::{Policy, SliEvidence, Verdict};

use super::door::Door;
use super::world::{World, at};

/// Seconds in which a version becomes known, and those in which another is judged at most.
const KNOWN_S: u64 = 170;
const JUDGED_S: u64 = 600;

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
    pub(super) declined: f64,
    /// Share of requests that are answered with 401.
    pub(super) refused: f64,
    /// Factor on how long a call of the payment provider takes.
    pub(super) slow: f64,
    /// Database calls per request.
    pub(super) calls: u64,
    /// Error logs per request.
    pub(super) logs: f64,
    /// Factor on the size of answers.
    pub(super) bytes: f64,
    /// Share of orders that are announced.
    pub(super) announced: f64,
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

/// Who serves in a second.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// `v1`.
    Alone,
    /// `v1` and `v2`.
    Both,
    /// `v2`.
    Instead,
}

/// `v1` alone until it is known, then `v2` beside it; or in its place after three seconds, as in a rolling update.
pub(super) fn stages(beside: bool) -> impl Iterator<Item = Stage> {
    let second = move |second: u64| match second.checked_sub(KNOWN_S) {
        None => Stage::Alone,
        Some(since) if beside || since < 3 => Stage::Both,
        Some(_) => Stage::Instead,
    };
    (0..KNOWN_S + JUDGED_S).map(second)
}

/// Whether there is a verdict on `v2`.
pub(super) fn is_decided(world: &World) -> bool {
    world.deployment("v2").is_some_and(|d| d.verdict != Verdict::Pending)
}

/// The SLIs of a policy: name and kind, with more keys for each.
pub(super) fn all_of<'a>(kinds: impl Iterator<Item = (&'a str, &'a str)>, extra: &str) -> String {
    kinds.map(|(name, words)| format!("      {name}: {{kind: {words}{extra}}}\n")).collect()
}

/// It failed by an SLI that has a weight of 0.2 beside the 1 of all others, and says so; weights are renormalised, not
/// added.
pub(super) fn is_failed_by(d: &Deployment, name: &str) {
    assert_eq!(d.verdict, Verdict::Fail, "{name}: {}\n{:#?}", d.explanation, line(d, name));
    let own = line(d, name);
    assert!(own.ln_e > 4.0 && own.degraded, "{name}: {own:?}");
    assert!(d.explanation.contains(name), "{name}: {}", d.explanation);
    assert!((own.weight - 0.2 / 1.2).abs() < 1e-12, "{name}: {own:?}");
    is_one_budget(d);
}

/// Weights are 1 together at most.
pub(super) fn is_one_budget(d: &Deployment) {
    let sum: f64 = d.evidence.slis.iter().map(|e| e.weight).sum();
    assert!(sum <= 1.0 + 1e-9, "weights are {sum}");
}

/// It passed, and each of these SLIs says that it may.
pub(super) fn is_passed_on<'a>(d: &Deployment, names: impl Iterator<Item = &'a str>) {
    assert_eq!(d.verdict, Verdict::Pass, "{}\n{:#?}", d.explanation, d.evidence.slis);
    for name in names {
        let own = line(d, name);
        assert!(own.ln_e_pass.is_some_and(|e| e >= d.evidence.pass_threshold), "{name}: {own:?}");
        assert!(own.requests[0] > 100 && own.requests[1] > 100, "{name}: {own:?}");
    }
    is_one_budget(d);
}

/// A front door with a world behind it.
pub(super) struct Front {
    pub(super) world: World,
    door: Door,
    pub(super) random: fastrand::Rng,
    /// Bodies of traces that were sent.
    pub(super) sent: Vec<Vec<u8>>,
    /// Whether each instance of `v2` is replaced by one of another name every 20 s.
    pub(super) crashes: bool,
}

impl Front {
    pub(super) async fn open(policy: Policy) -> Self {
        let world = World::new(policy, Mode::Act);
        let door = Door::open(&world).await;
        Self { world, door, random: fastrand::Rng::with_seed(3), sent: Vec::new(), crashes: false }
    }

    pub(super) async fn post(&self, path: &str, body: Vec<u8>) {
        self.door.post(path, body).await;
    }

    /// A second in which versions serve: name, instances, requests a second, and what goes wrong.
    pub(super) async fn second(&mut self, versions: &[(&str, usize, u64, Fault)]) {
        self.world.run(1);
        let now = self.world.now_s;
        self.door.set_time(now);
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
        let (v1, v2) = (("v1", 4, 40, WELL), ("v2", 4, 40, fault));
        for stage in stages(beside) {
            match stage {
                Stage::Alone => self.second(&[v1]).await,
                Stage::Both => self.second(&[v1, v2]).await,
                Stage::Instead => self.second(&[v2]).await,
            }
            if is_decided(&self.world) {
                break;
            }
        }
        self.world.deployment("v2").expect("v2 was seen")
    }

    /// Everything closes; every span, log and point received is accounted for.
    pub(super) async fn end(mut self) {
        self.world.run(30);
        self.door.close().await;
        let ledger = self.world.shards.ledger();
        for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
            let settled: u64 = Disposition::all().map(|d| ledger.settled(signal, d)).sum();
            assert_eq!(ledger.received(signal), settled, "{signal:?}");
            assert_eq!(ledger.settled(signal, Disposition::Late), 0);
        }
    }
}

pub(super) fn line<'a>(d: &'a Deployment, name: &str) -> &'a SliEvidence {
    d.evidence
        .slis
        .iter()
        .find(|e| e.name() == name)
        .unwrap_or_else(|| panic!("{name}: {:#?}", d.evidence.slis))
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

/// A request of metrics goes straight into the intake of a world without receivers.
pub(super) fn walked_metrics(world: &World, body: &[u8]) {
    let mut batch = world.intake.begin(UnixNanos(at(world.now_s) + 300_000_000));
    walk_metrics(body, &WalkSettings::default(), &mut batch).unwrap();
    batch.commit().expect("the log has room");
}
