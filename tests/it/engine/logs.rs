//! Logs and exceptions through the real pipeline: OTLP bytes in at the door, evidence out beside the verdict,
//! and nothing of what people wrote anywhere.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span::Event};
use prost::Message;
use rollguard::api::{ApiState, WriteAccess};
use rollguard::deployment::{Mode, Proposal};
use rollguard::model::Discard;
use rollguard::pipeline::clock::SystemClock;
use rollguard::pipeline::{Disposition, Signal};
use rollguard::receiver::{WalkSettings, walk_logs, walk_traces};
use rollguard::remedy::{KIND_ROLLBACK, Links, fail_body};
use rollguard::store::{NewOutboxRow, Store};
use rollguard::verdict::{Exposure, Leaning, LogEvidence, Verdict};

use super::world::{World, at, quick, traffic};

const STACK: &str = "java.lang.NullPointerException: card 4111-1111 of alice@example.com
\tat com.shop.Cart.add(Cart.java:42)
\tat com.shop.Cart.put(Cart.java:7)";

fn text(name: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: name.into(), value, key_strindex: 0 }
}

fn resource(version: &str) -> Option<Resource> {
    let attributes = vec![text("service.name", "shop"), text("service.version", version)];
    Some(Resource { attributes, ..Default::default() })
}

fn thrown(kind: &str, stack: &str) -> Vec<KeyValue> {
    vec![text("exception.type", kind), text("exception.stacktrace", stack)]
}

/// A record of severity ERROR at the beginning of the second before `world`'s.
pub(super) fn error(world: &World, attributes: Vec<KeyValue>) -> LogRecord {
    LogRecord { time_unix_nano: at(world.now_s - 1), severity_number: 17, attributes, ..Default::default() }
}

fn log_with(world: &World, version: &str, records: Vec<LogRecord>, settings: &WalkSettings) {
    let scope_logs = vec![ScopeLogs { log_records: records, ..Default::default() }];
    let envelope = ResourceLogs { resource: resource(version), scope_logs, ..Default::default() };
    let request = ExportLogsServiceRequest { resource_logs: vec![envelope] };
    let mut batch = world.intake.begin(world.now());
    walk_logs(&request.encode_to_vec(), settings, &mut batch).unwrap();
    batch.commit().unwrap();
}

pub(super) fn log(world: &World, version: &str, records: Vec<LogRecord>) {
    log_with(world, version, records, &WalkSettings::default());
}

/// Lets seconds pass in which `v1` logs one error of a usual kind and `v2` what `each` says.
fn run(world: &mut World, seconds: u64, v2: impl Fn(&World, u64) -> Vec<LogRecord>) {
    for second in 0..seconds {
        world.run(1);
        log(world, "v1", vec![error(world, thrown("Usual", "\tat a.B.c(B.java:1)"))]);
        let records = v2(world, second);
        if !records.is_empty() {
            log(world, "v2", records);
        }
    }
}

fn evidence(world: &World) -> Arc<LogEvidence> {
    world.deployment("v2").unwrap().evidence.logs.clone().unwrap()
}

/// `v1` serves and logs for long enough to be known by what it shows; then `v2` comes.
fn canary(v2: impl Fn(&World, u64) -> Vec<LogRecord>, seconds: u64) -> World {
    let mut world = World::with_known_v1(quick(), Mode::Observe, 200.0, 0.0);
    run(&mut world, 200, |_, _| Vec::new());
    world.sends("v2", traffic(4, 200.0, 0.0));
    run(&mut world, seconds, v2);
    world
}

/// Scenario: the new version throws what the old one never did, in 1 of 100 requests, and logs three lines a
/// time; its spans are fine. Guarantees: the exception is new, by name, count, share and trace; the usual one is
/// not; more error logs are seen; and none of it moves the verdict.
#[test]
fn l3_l4_what_only_the_new_version_throws_is_reported_beside_the_verdict() {
    let world = canary(
        |world, second| {
            let npe = LogRecord {
                trace_id: vec![second as u8 + 1; 16],
                span_id: vec![second as u8 + 1; 8],
                ..error(world, thrown("java.lang.NullPointerException", STACK))
            };
            let line = || error(world, Vec::new());
            let usual = error(world, thrown("Usual", "\tat a.B.c(B.java:99)"));
            vec![npe.clone(), LogRecord { trace_id: vec![9; 16], ..npe }, line(), line(), usual]
        },
        100,
    );
    let logs = evidence(&world);
    assert_eq!((logs.new.len(), logs.new_types), (1, 1), "{logs:?}");
    let new = &logs.new[0];
    assert_eq!(new.name, "NullPointerException in Cart.add");
    assert_eq!(new.frames, ["com.shop.Cart.add", "com.shop.Cart.put"]);
    assert!(new.count > 150 && (0.008..0.012).contains(&new.share.unwrap()), "{new:?}");
    assert_eq!((new.traces.len(), new.traces[0].len()), (3, 32));
    assert_eq!((logs.per, logs.leaning), (Exposure::Requests, Leaning::More));
    let ratio = logs.ratio.unwrap()[0];
    assert!((4.0..6.0).contains(&ratio), "{ratio}");
    assert!(logs.is_complete && logs.watched_s >= 300, "{logs:?}");
    let deployment = world.deployment("v2").unwrap();
    assert_ne!(deployment.verdict, Verdict::Fail);
    let without = rollguard::verdict::Evidence { logs: None, ..(*deployment.evidence).clone() };
    assert!(without.ln_e_bar < 1.0, "{}", without.ln_e_bar);
    let board = world.version("v2").unwrap();
    assert!(board.logs.error_logs > 400 && board.logs.exceptions > 200, "{:?}", board.logs);
}

/// Scenario: an INTERNAL span has the exception as an event, and a log record of the same span tells it again,
/// before or after. Guarantees: it counts once; the log record alone counts as a record; an exception of a CLIENT
/// span is the version's.
#[test]
fn s6_l4_an_exception_is_never_counted_twice() {
    let mut world = canary(|_, _| Vec::new(), 60);
    let ids = |i: u8| (vec![i; 16], vec![i; 8]);
    let before = world.version("v2").unwrap().logs;
    for i in 1..=40_u8 {
        world.run(1);
        let (trace_id, span_id) = ids(i);
        let attributes = thrown("java.lang.NullPointerException", STACK);
        let record = LogRecord {
            trace_id: trace_id.clone(),
            span_id: span_id.clone(),
            ..error(&world, attributes.clone())
        };
        let event = Event {
            time_unix_nano: at(world.now_s - 1),
            name: "exception".into(),
            attributes,
            ..Default::default()
        };
        let span = Span {
            trace_id,
            span_id,
            kind: if i % 2 == 0 { 1 } else { 3 },
            start_time_unix_nano: at(world.now_s - 1),
            end_time_unix_nano: at(world.now_s - 1) + 5,
            events: vec![event],
            ..Default::default()
        };
        if i % 3 == 0 {
            log(&world, "v2", vec![record.clone()]);
        }
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
        let envelope = ResourceSpans { resource: resource("v2"), scope_spans, ..Default::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![envelope] };
        let mut batch = world.intake.begin(world.now());
        walk_traces(&request.encode_to_vec(), &WalkSettings::default(), &mut batch).unwrap();
        batch.commit().unwrap();
        if i % 3 == 1 {
            log(&world, "v2", vec![record]);
        }
    }
    world.run(20);
    let logs = world.version("v2").unwrap().logs;
    assert_eq!(logs.exceptions - before.exceptions, 40);
    assert_eq!(logs.error_logs - before.error_logs, 27);
    assert_eq!(evidence(&world).new[0].count, 40);
}

/// Scenario: a rolling update; the old version ends with the new one's arrival, then Rollguard restarts.
/// Guarantees: what the old one showed is not new, before or after the restart, and its rate of error logs is that
/// of its last 30 minutes.
#[test]
fn l4_what_the_old_version_showed_is_remembered_over_a_restart() {
    let usual = |world: &World| error(world, thrown("Usual", "\tat a.B.c(B.java:5)"));
    let mut world = canary(|_, _| Vec::new(), 0);
    world.stops("v1");
    for second in 0..60 {
        world.run(1);
        let npe = error(&world, thrown("java.lang.NullPointerException", STACK));
        let usual = usual(&world);
        log(&world, "v2", if second % 10 == 0 { vec![usual, npe] } else { vec![usual] });
    }
    let names = |world: &World| evidence(world).new.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&world), ["NullPointerException in Cart.add"]);
    let logs = evidence(&world);
    assert!(logs.is_remembered && logs.error_logs[1] > 150, "{logs:?}");
    world.run(1);
    let waiting = world.shards.ledger().open(Signal::Logs);
    assert!(waiting > 0);
    world.kept.take(world.engine.snapshot_all(world.now()));
    world.restart(5);
    assert_eq!(world.shards.ledger().settled(Signal::Logs, Disposition::Lost), waiting);
    for _ in 0..60 {
        world.run(1);
        log(&world, "v2", vec![usual(&world)]);
    }
    assert_eq!(names(&world), ["NullPointerException in Cart.add"]);
    assert!(evidence(&world).error_logs[0] > 80);
}

/// Scenario: the old version's logs are not collected; the new one's are. Guarantee: what the new one logs is
/// not called new, for the old one may throw the same and not tell.
#[test]
fn l4_a_baseline_without_logs_makes_no_news() {
    let mut world = World::with_known_v1(quick(), Mode::Observe, 200.0, 0.0);
    world.run(200);
    world.sends("v2", traffic(4, 200.0, 0.0));
    for _ in 0..60 {
        world.run(1);
        log(&world, "v2", vec![error(&world, thrown("java.lang.NullPointerException", STACK))]);
    }
    let logs = evidence(&world);
    assert_eq!(logs.new, []);
    assert!(logs.exceptions[0] > 40);
}

/// Every record is in one disposition: counted, unused, without time, rejected, late, of the future.
#[test]
fn every_log_record_ends_in_one_disposition() {
    let mut world = World::new(quick(), Mode::Observe);
    world.run(60);
    let good = error(&world, Vec::new());
    let records = vec![
        good.clone(),
        LogRecord { severity_number: 9, ..good.clone() },
        LogRecord { severity_number: 0, ..good.clone() },
        LogRecord { time_unix_nano: 0, ..good.clone() },
        LogRecord { trace_id: vec![1; 3], ..good.clone() },
        LogRecord { time_unix_nano: at(world.now_s - 60), ..good.clone() },
        LogRecord { time_unix_nano: at(world.now_s + 60), ..good.clone() },
        LogRecord { time_unix_nano: 0, observed_time_unix_nano: at(world.now_s), ..good },
    ];
    // A service that only logs is watched too.
    log(&world, "v1", records.clone());
    let ledger = Arc::clone(world.shards.ledger());
    assert_eq!((ledger.received(Signal::Logs), ledger.open(Signal::Logs)), (8, 4));
    world.run(20);
    let settled = |disposition| ledger.settled(Signal::Logs, disposition);
    assert_eq!(ledger.open(Signal::Logs), 0);
    for (disposition, n) in [
        (Disposition::Aggregated, 2),
        (Disposition::Late, 1),
        (Disposition::Future, 1),
        (Disposition::Discarded(Discard::Severity), 1),
        (Disposition::Discarded(Discard::NoSeverity), 1),
        (Disposition::Discarded(Discard::NoTime), 1),
        (Disposition::Discarded(Discard::BadId), 1),
    ] {
        assert_eq!(settled(disposition), n, "{disposition:?}");
    }
    let board = world.version("v1").unwrap();
    assert_eq!((board.logs.error_logs, board.logs.late, board.logs.future), (2, 1, 1));
    // When it falls silent, it is forgotten.
    world.run(1000);
    assert!(world.version("v1").is_none());
    assert_eq!(world.registry.version_count(), 0);
    log(&world, "v1", records);
    world.run(20);
    assert_eq!(ledger.open(Signal::Logs), 0);
}

/// What the program logs, as bytes.
#[derive(Clone, Default)]
struct OwnLog(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for OwnLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const SECRETS: [&str; 5] = ["hunter2", "alice@example.com", "4111-1111", "sk_live_51", "card of"];

/// Records in which a secret stands wherever people put one.
fn leaky(world: &World) -> Vec<LogRecord> {
    let message = "payment for alice@example.com failed\n\tat sk_live_51(card of 4111-1111)";
    let stack = format!(
        "com.shop.PaymentException: {message}\n\tat com.shop.Pay.charge(Pay.java:1)\nCaused by: hunter2"
    );
    let attributes = vec![
        text("exception.type", "com.shop.PaymentException"),
        text("exception.message", message),
        text("exception.stacktrace", &stack),
        text("password", "hunter2"),
        text("user.email", "alice@example.com"),
        text("error.code", "card_declined"),
    ];
    let body =
        Some(AnyValue { value: Some(Value::StringValue("login of alice@example.com hunter2".into())) });
    let python = "Traceback (most recent call last):\n  File \"/home/x/pay.py\", line 1, in charge\n    pay(\"sk_live_51\")\nValueError: 4111-1111";
    let typed = thrown("ValueError: card of alice@example.com", python);
    vec![LogRecord { body, ..error(world, attributes) }, error(world, typed)]
}

/// Everything that is shown, sent or kept of a failed deployment after such records.
fn shown(settings: &WalkSettings) -> Vec<(&'static str, Vec<u8>)> {
    let own = OwnLog::default();
    let writer = own.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let world = tracing::subscriber::with_default(subscriber, || {
        let mut world = canary(|_, _| Vec::new(), 0);
        world.sends("v2", traffic(4, 200.0, 0.5));
        for _ in 0..60 {
            world.run(1);
            log_with(&world, "v2", leaky(&world), settings);
        }
        tracing::info!("the log is kept");
        world
    });
    let deployment = world.deployment("v2").unwrap();
    assert_eq!(deployment.verdict, Verdict::Fail);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("rollguard.db")).unwrap();
    let body = fail_body(&deployment, Proposal::Rollback, &Links::default());
    let row = NewOutboxRow {
        id: "r".into(),
        deployment_id: Some(deployment.id.clone()),
        kind: KIND_ROLLBACK.into(),
        endpoint: "e".into(),
        body: body.clone(),
    };
    let mut commit = world.engine.snapshot_all(world.now());
    commit.deployments.push(Arc::clone(&deployment));
    store.commit(&commit, &[row]).unwrap();
    drop(store);
    let files = std::fs::read_dir(directory.path()).unwrap();
    let kept = files.flat_map(|f| std::fs::read(f.unwrap().path()).unwrap()).collect();
    let one = api(&world, &format!("/api/v1/deployments/{}", deployment.id.0));
    let services = api(&world, "/api/v1/services");
    let log = own.0.lock().unwrap().clone();
    vec![("webhook", body), ("store", kept), ("api", one), ("services", services), ("log", log)]
}

fn api(world: &World, path: &str) -> Vec<u8> {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let board = Arc::new(arc_swap::ArcSwap::from_pointee(world.engine.board(world.now())));
        let (commands, _received) = tokio::sync::mpsc::channel(1);
        let state = ApiState::new(board, commands, Arc::default(), Arc::new(SystemClock), WriteAccess::Open);
        let router = rollguard::api::router(Arc::new(state), Duration::from_secs(5), axum::Router::new());
        let request = http::Request::get(path).header("host", "localhost").body(axum::body::Body::empty());
        let response = router.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        response.into_body().collect().await.unwrap().to_bytes().to_vec()
    })
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Scenario: messages, stacks, bodies, attributes and even types hold passwords, addresses and card numbers.
/// Guarantees: none of it is in the webhook, the store's files, the API or our own log; the type and the frames
/// are, and the value of an attribute only where the configuration lists it.
#[test]
fn what_people_write_is_nowhere() {
    let listed = WalkSettings { evidence_attributes: vec!["error.code".into()], ..WalkSettings::default() };
    for (settings, has_value) in [(WalkSettings::default(), false), (listed, true)] {
        for (place, bytes) in shown(&settings) {
            for secret in SECRETS {
                assert!(!holds(&bytes, secret), "{secret} is in the {place}");
            }
            if matches!(place, "webhook" | "store" | "api") {
                assert!(holds(&bytes, "com.shop.PaymentException"), "no type in the {place}");
                assert!(holds(&bytes, "com.shop.Pay.charge"), "no frame in the {place}");
            }
            if place == "api" {
                assert_eq!(holds(&bytes, "card_declined"), has_value, "{has_value}");
            }
            if place == "log" {
                assert!(holds(&bytes, "the log is kept"));
            }
        }
    }
}
