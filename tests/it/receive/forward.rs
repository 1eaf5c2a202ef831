//! Receivers, exporters and a backend in a row: what comes in goes out unchanged, whatever the backend does.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rollguard::credentials::Credentials;
use rollguard::forward::{
    Compression, ExporterConfig, ExportersConfig, FileConfig, FileFormat, Forwarder, OnFull, OtlpConfig,
    QueueConfig, RetryConfig, RoutingKey, Storage,
};
use rollguard::pipeline::clock::{Clock, SystemClock};
use rollguard::pipeline::{DataType, Exporters, RejectedRequest, Signal};
use rollguard::receiver::ReceiverConfig;
use rollguard::spool::FileStorageConfig;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;

use super::backend::{Answer, Backend};
use super::support::*;

/// An exporter to a backend that tries again soon.
pub(super) fn otlp(to: &Backend) -> OtlpConfig {
    OtlpConfig {
        endpoint: Some(format!("http://{}", to.address)),
        signals: DataType::ALL.to_vec(),
        compression: Compression::None,
        timeout: Some(Duration::from_secs(20)),
        retry_on_failure: RetryConfig {
            initial_interval: Duration::from_millis(20),
            max_interval: Duration::from_millis(40),
            ..RetryConfig::default()
        },
        ..OtlpConfig::default()
    }
}

pub(super) fn grpc(config: OtlpConfig) -> ExporterConfig {
    ExporterConfig::OtlpGrpc(config.into())
}

/// One consumer, so that what waits is sent in order and joined.
pub(super) fn in_order(config: OtlpConfig) -> OtlpConfig {
    let sending_queue = QueueConfig { num_consumers: 1, ..config.sending_queue };
    OtlpConfig { sending_queue, ..config }
}

pub(super) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// Receivers in front of exporters.
pub(super) struct Chain {
    pub(super) first: Gateway,
    reports: Arc<dyn Exporters>,
    shutdown: CancellationToken,
    forwarding: tokio::task::JoinHandle<()>,
}

impl Chain {
    pub(super) async fn start<const N: usize>(exporters: [(&str, ExporterConfig); N]) -> Self {
        Self::with(config(), exporters).await
    }

    pub(super) async fn with<const N: usize>(
        receiver: ReceiverConfig,
        exporters: [(&str, ExporterConfig); N],
    ) -> Self {
        Self::on_disk(receiver, &FileStorageConfig::default(), exporters).await
    }

    pub(super) async fn on_disk<const N: usize>(
        receiver: ReceiverConfig,
        storage: &FileStorageConfig,
        exporters: [(&str, ExporterConfig); N],
    ) -> Self {
        Self::by(Arc::new(SystemClock), receiver, storage, exporters).await
    }

    /// With exporters that go by this clock.
    pub(super) async fn by<const N: usize>(
        clock: Arc<dyn Clock>,
        receiver: ReceiverConfig,
        storage: &FileStorageConfig,
        exporters: [(&str, ExporterConfig); N],
    ) -> Self {
        let exporters = exporters.map(|(name, exporter)| (name.to_owned(), exporter));
        let exporters = ExportersConfig(exporters.into_iter().collect());
        assert_eq!(exporters.problems(receiver.include_metadata), Vec::<String>::new());
        let forwarder = Forwarder::new(&exporters, storage, &Credentials::default(), &clock).unwrap();
        let first = Gateway::start_with(receiver, Capture::default(), forwarder.downstream()).await;
        let (reports, shutdown) = (forwarder.reports(), CancellationToken::new());
        let forwarding = tokio::spawn(forwarder.run(shutdown.clone(), Duration::from_secs(20)));
        Self { first, reports, shutdown, forwarding }
    }

    /// Sends what is still queued, and ends.
    pub(super) async fn drain(self) {
        self.shutdown.cancel();
        self.forwarding.await.unwrap();
    }

    pub(super) fn last_rejected(&self, exporter: &str) -> Vec<RejectedRequest> {
        self.reports.exporters().into_iter().find(|e| *e.name == *exporter).unwrap().last_rejected
    }

    /// Requests that wait or are being sent.
    pub(super) fn queued(&self) -> usize {
        self.reports.exporters().iter().flat_map(|e| &e.queues).map(|queue| queue.requests[0]).sum()
    }
}

/// Appends a length-delimited field.
fn field(number: u32, content: &[u8], out: &mut Vec<u8>) {
    prost::encoding::encode_varint(u64::from(number << 3 | 2), out);
    prost::encoding::encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// A request as no library writes it: fields in any order, unknown ones on every level, text that is not UTF-8,
/// envelopes without anything in them.
fn odd_message(signal: Signal, random: &mut fastrand::Rng) -> Vec<u8> {
    let junk = |random: &mut fastrand::Rng, most: usize| -> Vec<u8> {
        (0..random.usize(..=most)).map(|_| random.u8(..)).collect()
    };
    let mut message = Vec::new();
    for _ in 0..random.usize(1..6) {
        let mut parts = Vec::new();
        for _ in 0..random.usize(..4) {
            let mut record = Vec::new();
            let mut id = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| random.u8(..)).collect() };
            let mut fields: Vec<(u32, Vec<u8>)> = match signal {
                Signal::Traces => vec![(1, id(16)), (2, id(8)), (5, junk(random, 40))],
                Signal::Logs => vec![(9, id(16)), (10, id(8)), (3, junk(random, 40))],
                Signal::Metrics => vec![(1, junk(random, 40)), (2, junk(random, 40)), (3, junk(random, 9))],
            };
            fields.push((999, junk(random, 300)));
            random.shuffle(&mut fields);
            fields.iter().for_each(|(number, content)| field(*number, content, &mut record));
            let mut scope = Vec::new();
            field(2, &record, &mut scope);
            field(3, &junk(random, 9), &mut scope);
            parts.push((2, scope));
        }
        parts.push((1, Vec::new()));
        parts.push((700, junk(random, 2_000)));
        random.shuffle(&mut parts);
        let mut envelope = Vec::new();
        parts.iter().for_each(|(number, content)| field(*number, content, &mut envelope));
        field(1, &envelope, &mut message);
        if random.bool() {
            field(1_999, &junk(random, 50), &mut message);
        }
    }
    message
}

/// The hash of every field of a message, envelopes included, and how often it occurs.
fn hashes(messages: &[impl AsRef<[u8]>]) -> HashMap<[u8; 32], usize> {
    let mut found = HashMap::new();
    for message in messages {
        let mut rest = message.as_ref();
        while !rest.is_empty() {
            let whole = rest;
            let (key, wire) = prost::encoding::decode_key(&mut rest).unwrap();
            let context = prost::encoding::DecodeContext::default();
            prost::encoding::skip_field(wire, key, &mut rest, context).unwrap();
            let hash = Sha256::digest(&whole[..whole.len() - rest.len()]);
            *found.entry(hash.into()).or_default() += 1;
        }
    }
    found
}

/// Scenario: hundreds of odd messages of every signal, plain and gzipped, to exporters of both protocols in every
/// compression, some of which join and split them and one of which keeps them on disk; the backend is busy every third
/// time. Guarantees: the bytes of every envelope, and of whatever stands beside it, come out once and unchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g8_g19_s8_bytes_are_passed_on_unchanged() {
    let backends = [Backend::start().await, Backend::start().await, Backend::start().await];
    for backend in &backends {
        let calls = AtomicUsize::new(0);
        backend.answers(move |_| match calls.fetch_add(1, Ordering::Relaxed) % 3 {
            1 => Answer::Busy,
            _ => Answer::Take,
        });
    }
    let [plain, gzip, zstd] = &backends;
    let compressed = |to, compression| OtlpConfig { compression, max_request_bytes: 64 << 10, ..otlp(to) };
    let mut on_disk = in_order(compressed(zstd, Compression::Zstd));
    on_disk.sending_queue.storage = Some(Storage::FileStorage);
    let exporters = [
        ("otlp_grpc/plain", grpc(otlp(plain))),
        ("otlp_grpc/gzip", grpc(in_order(compressed(gzip, Compression::Gzip)))),
        ("otlp_http/zstd", ExporterConfig::OtlpHttp(on_disk.into())),
    ];
    let folder = tempfile::tempdir().unwrap();
    let storage = FileStorageConfig {
        directory: folder.path().to_owned(),
        reserve_bytes: 0,
        ..FileStorageConfig::default()
    };
    let chain = Chain::on_disk(config(), &storage, exporters).await;
    let mut random = fastrand::Rng::with_seed(7);
    let services = [
        (Signal::Traces, "trace.v1.TraceService"),
        (Signal::Metrics, "metrics.v1.MetricsService"),
        (Signal::Logs, "logs.v1.LogsService"),
    ];
    let mut sent = Vec::new();
    let channel = channel(chain.first.grpc).await;
    for n in 0..300 {
        let (signal, service) = services[n % 3];
        let coding = (n % 2 == 0).then_some(CompressionEncoding::Gzip);
        let message = Bytes::from(odd_message(signal, &mut random));
        sent.push(message.clone());
        export_on(channel.clone(), service, message, coding).await.unwrap();
    }
    // What is on disk would stay there for the next process.
    wait_until("all is settled", || chain.queued() == 0).await;
    chain.drain().await;
    for backend in &backends {
        assert_eq!(hashes(&backend.taken()), hashes(&sent));
    }
    assert!(gzip.taken().len() < sent.len(), "nothing was joined");
}

/// Scenario: the backend refuses at first. Guarantees: counted once here, delivered once later, with the same
/// bytes.
#[tokio::test]
async fn g12_a_busy_backend_is_tried_again_and_nothing_counts_twice() {
    for is_http in [false, true] {
        let backend = Backend::start().await;
        backend.answers(|_| Answer::Busy);
        let config = match is_http {
            false => ("otlp_grpc", grpc(otlp(&backend))),
            true => ("otlp_http", ExporterConfig::OtlpHttp(otlp(&backend).into())),
        };
        let chain = Chain::start([config]).await;
        chain.first.export(traces(&["a"])).await.unwrap();
        wait_until("tried", || backend.calls().len() >= 2).await;
        backend.answers(|_| Answer::Take);
        wait_until("delivered", || !backend.taken().is_empty()).await;
        chain.drain().await;
        assert_eq!(backend.taken(), [traces(&["a"])]);
        assert!(backend.calls().iter().all(|call| call.message == traces(&["a"])[..]));
    }
}

/// Scenario: while the backend is busy, requests pile up, one of which it will never take. Guarantees: they are
/// joined; only the guilty one is dropped, and is remembered; the others arrive in order.
#[tokio::test]
async fn only_the_guilty_part_of_a_joined_request_is_dropped() {
    let backend = Backend::start().await;
    backend.answers(|_| Answer::Busy);
    let chain = Chain::start([("otlp_grpc/b", grpc(in_order(otlp(&backend))))]).await;
    chain.first.export(traces(&["first"])).await.unwrap();
    wait_until("tried", || !backend.calls().is_empty()).await;
    let names = ["a", "b", "guilty", "c", "d", "e", "f"];
    for name in names {
        chain.first.export(traces(&[name])).await.unwrap();
    }
    backend.answers(|message| match message.windows(6).any(|w| w == b"guilty") {
        true => Answer::GiveUp,
        false => Answer::Take,
    });
    wait_until("all is settled", || chain.queued() == 0).await;
    let rejected = chain.last_rejected("otlp_grpc/b");
    let guilty = traces(&["guilty"]);
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        (rejected[0].records, rejected[0].bytes, rejected[0].data),
        (1, guilty.len(), DataType::Traces)
    );
    assert_eq!(rejected[0].sha256, <[u8; 32]>::from(Sha256::digest(&guilty)));
    assert_eq!((rejected[0].code.as_str(), rejected[0].message.as_str()), ("InvalidArgument", "a backend"));
    let expected: Vec<u8> =
        ["first", "a", "b", "c", "d", "e", "f"].iter().flat_map(|name| traces(&[name])).collect();
    assert_eq!(backend.taken().concat(), expected);
    assert!(backend.taken().len() < 7, "the good ones were joined");
}

/// Guarantees: what is larger than a request may be is cut between its envelopes, and a single larger envelope
/// goes alone.
#[tokio::test]
async fn a_large_request_is_cut_between_envelopes() {
    let backend = Backend::start().await;
    let small = OtlpConfig { max_request_bytes: 64 << 10, ..otlp(&backend) };
    let receiver = ReceiverConfig { max_request_bytes: 1 << 20, ..config() };
    let chain = Chain::with(receiver, [("otlp_grpc", grpc(in_order(small)))]).await;
    let names: Vec<String> = [30_000, 30_000, 30_000, 90_000, 10].map(|length| "n".repeat(length)).to_vec();
    let message: Vec<u8> = names.iter().flat_map(|name| traces(&[name])).collect();
    chain.first.export(message.clone()).await.unwrap();
    wait_until("all is settled", || chain.queued() == 0).await;
    assert_eq!(backend.taken().concat(), message);
    let sizes: Vec<usize> = backend.taken().iter().map(|m| m.len() / 10_000).collect();
    assert_eq!(sizes, [6, 3, 9, 0]);
}

/// Scenario: two backends, one of which is dead. Guarantees: with `drop` the other one and the verdict miss
/// nothing; with `refuse` the request is refused for all of them, and its sender is told by whom.
#[tokio::test]
async fn a_dead_exporter_drops_or_refuses_as_configured() {
    for on_full in [OnFull::Drop, OnFull::Refuse] {
        let (alive, dead) = (Backend::start().await, Backend::start().await);
        dead.answers(|_| Answer::Busy);
        let sending_queue = QueueConfig { queue_size: Some(2), on_full, ..QueueConfig::default() };
        let chain = Chain::start([
            ("otlp_grpc/dead", grpc(OtlpConfig { sending_queue, ..otlp(&dead) })),
            ("otlp_grpc/alive", grpc(otlp(&alive))),
        ])
        .await;
        for name in ["a", "b"] {
            chain.first.export(traces(&[name])).await.unwrap();
        }
        let third = chain.first.export(traces(&["c"])).await;
        let taken = if on_full == OnFull::Drop { 3 } else { 2 };
        wait_until("delivered", || hashes(&alive.taken()).len() == taken).await;
        assert_eq!(chain.first.spans.operations().len(), taken, "{on_full:?}");
        match on_full {
            OnFull::Drop => {
                assert!(third.is_ok());
                assert!(chain.first.spans.blinded().is_empty());
            }
            OnFull::Refuse => {
                let by = (DataType::Traces, "otlp_grpc/dead".to_owned());
                assert_eq!(chain.first.spans.blinded(), [by]);
                let status = third.unwrap_err();
                assert_eq!(status.code(), tonic::Code::Unavailable);
                assert!(status.message().contains("otlp_grpc/dead"), "{}", status.message());
            }
        }
    }
}

/// Scenario: requests of several tenants pile up. Guarantees: they are joined per tenant only and carry that
/// tenant's header; headers that nobody named do not go along, and none do unless the receiver keeps them.
#[tokio::test]
async fn tenants_are_never_mixed() {
    for include_metadata in [true, false] {
        let backend = Backend::start().await;
        backend.answers(|_| Answer::Busy);
        let keys = if include_metadata { vec!["X-Tenant".to_owned()] } else { Vec::new() };
        let exporter = OtlpConfig {
            metadata_keys: keys,
            headers: [("x-key".to_owned(), "ours".into())].into(),
            ..in_order(otlp(&backend))
        };
        let receiver = ReceiverConfig { include_metadata, deduplicate: Duration::from_secs(60), ..config() };
        let chain = Chain::with(receiver, [("otlp_grpc", grpc(exporter))]).await;
        let send = async |name: &str, tenant: &str| {
            let request = client().post(chain.first.url("/v1/traces")).header("x-other", "secret");
            let request = request.header("x-tenant", tenant).header("content-type", "application/x-protobuf");
            assert!(request.body(traces(&[name])).send().await.unwrap().status().is_success());
        };
        // The same bytes of two tenants are two messages.
        for (name, tenant) in [("x", "a"), ("y", "a"), ("z", "a"), ("z", "b"), ("w", "b"), ("v", "a")] {
            send(name, tenant).await;
        }
        backend.answers(|_| Answer::Take);
        wait_until("all is settled", || chain.queued() == 0).await;
        let mut by_tenant: HashMap<String, Vec<u8>> = HashMap::new();
        for call in backend.calls().iter().filter(|call| call.answer == Answer::Take) {
            assert_eq!(call.headers.get("x-key").unwrap(), "ours");
            assert!(call.headers.get("x-other").is_none());
            let tenant = call.headers.get("x-tenant").map_or("", |v| v.to_str().unwrap());
            by_tenant.entry(tenant.to_owned()).or_default().extend_from_slice(&call.message);
        }
        let of = |names: &[&str]| names.iter().flat_map(|name| traces(&[name])).collect::<Vec<u8>>();
        let expected: HashMap<String, Vec<u8>> = match include_metadata {
            true => [("a".into(), of(&["x", "y", "z", "v"])), ("b".into(), of(&["z", "w"]))].into(),
            // Nothing tells the tenants apart then: the same bytes are a resend.
            false => [(String::new(), of(&["x", "y", "z", "w", "v"]))].into(),
        };
        assert_eq!(by_tenant, expected);
    }
}

/// Scenario: requests of many services for two backends by service, one of which is busy at first. Guarantees: all
/// of a service arrives at one of them, and what is for the one that takes is not held up by the other.
#[tokio::test]
async fn services_go_to_one_address_each() {
    let backends = [Backend::start().await, Backend::start().await];
    backends[0].answers(|_| Answer::Busy);
    let endpoints = backends.iter().map(|backend| format!("http://{}", backend.address)).collect();
    let exporter = OtlpConfig {
        endpoint: None,
        endpoints,
        routing_key: Some(RoutingKey::Service),
        signals: vec![DataType::Traces],
        ..otlp(&backends[0])
    };
    let chain = Chain::start([("otlp_grpc", grpc(exporter))]).await;
    let spans = |service: &str, version: &str| {
        let text = |key: &str, value: &str| KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
            ..Default::default()
        };
        let attributes = vec![text("service.version", version), text("service.name", service)];
        let resource = Some(Resource { attributes, ..Default::default() });
        let scope_spans = vec![ScopeSpans { spans: vec![Span::default()], ..Default::default() }];
        ResourceSpans { resource, scope_spans, ..Default::default() }
    };
    let service = |n: usize| format!("service-{}", n % 20);
    for n in 0..40 {
        let resource_spans = (0..3).map(|more| spans(&service(n + more), ["v1", "v2"][n % 2])).collect();
        chain.first.export(ExportTraceServiceRequest { resource_spans }.encode_to_vec()).await.unwrap();
    }
    let waiting =
        || chain.reports.exporters()[0].queues.iter().map(|queue| queue.requests[0]).collect::<Vec<_>>();
    wait_until("the other one has all that is for it", || waiting()[1] == 0).await;
    assert!(waiting()[0] > 0 && !backends[1].taken().is_empty());
    backends[0].answers(|_| Answer::Take);
    wait_until("all is settled", || chain.queued() == 0).await;
    let services = |backend: &Backend| {
        let mut found: HashMap<String, usize> = HashMap::new();
        for message in backend.taken() {
            for spans in ExportTraceServiceRequest::decode(message).unwrap().resource_spans {
                let name = spans.resource.unwrap().attributes.pop().unwrap().value.unwrap().value.unwrap();
                let Value::StringValue(name) = name else { panic!("a name is text") };
                *found.entry(name).or_default() += 1;
            }
        }
        found
    };
    let (mut all, other) = (services(&backends[0]), services(&backends[1]));
    assert!(!all.is_empty() && !other.is_empty());
    for (service, n) in other {
        assert_eq!(all.insert(service, n), None, "at both");
    }
    assert_eq!(all, (0..20).map(|n| (service(n), 6)).collect());
}

/// Guarantees: profiles are passed through as they came, by both protocols, also where they are no profiles.
#[tokio::test]
async fn profiles_are_passed_through_unread() {
    let backend = Backend::start().await;
    let chain = Chain::start([("otlp_http", ExporterConfig::OtlpHttp(otlp(&backend).into()))]).await;
    let profiles = Bytes::from_static(b"\xff\xff whatever");
    export(chain.first.grpc, "profiles.v1development.ProfilesService", profiles.clone(), None).await.unwrap();
    let http =
        |media| client().post(chain.first.url("/v1development/profiles")).header("content-type", media);
    let answer = http("application/x-protobuf").body(profiles.clone()).send().await.unwrap();
    assert!(answer.status().is_success());
    assert_eq!(http("application/json").body("{}").send().await.unwrap().status(), 415);
    wait_until("all is settled", || chain.queued() == 0).await;
    assert_eq!(backend.taken(), [profiles.clone(), profiles]);
    assert!(backend.calls().iter().all(|call| call.path == "/v1development/profiles"));
}

/// Guarantees: a partial success is a success, and its records are not sent again.
#[tokio::test]
async fn rejected_records_are_not_sent_again() {
    let backend = Backend::start().await;
    backend.answers(|_| Answer::Reject(1));
    let chain = Chain::start([("otlp_grpc", grpc(otlp(&backend)))]).await;
    chain.first.export(traces(&["a", "b"])).await.unwrap();
    wait_until("all is settled", || chain.queued() == 0).await;
    assert_eq!(backend.calls().len(), 1);
}

/// Guarantees: what was accepted before shutdown is delivered before the end, also if the backend is busy then.
#[tokio::test]
async fn o9_the_queue_drains_at_shutdown() {
    let backend = Backend::start().await;
    let calls = AtomicUsize::new(0);
    backend.answers(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0..4 => Answer::Busy,
        _ => Answer::Take,
    });
    let slow = RetryConfig { initial_interval: Duration::from_secs(3_600), ..RetryConfig::default() };
    let slow =
        RetryConfig { max_interval: slow.initial_interval, max_elapsed_time: Some(Duration::ZERO), ..slow };
    let exporter = OtlpConfig { retry_on_failure: slow, ..in_order(otlp(&backend)) };
    let chain = Chain::start([("otlp_grpc", grpc(exporter))]).await;
    for _ in 0..50 {
        chain.first.export(traces(&["a"])).await.unwrap();
    }
    chain.drain().await;
    assert_eq!(backend.taken().concat(), traces(&["a"]).repeat(50));
}

/// Guarantees: a file holds what came, as bytes or as JSON that can be read back.
#[tokio::test]
async fn files_hold_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| FileConfig::at(folder.path().join(name));
    let chain = Chain::start([
        ("file/json", ExporterConfig::File(at("out.json"))),
        ("file/proto", ExporterConfig::File(FileConfig { format: FileFormat::Proto, ..at("out.binpb") })),
    ])
    .await;
    let messages = [traces(&["a", "b"]), traces(&["c"])];
    for message in &messages {
        chain.first.export(message.clone()).await.unwrap();
    }
    chain.drain().await;
    let json = std::fs::read_to_string(folder.path().join("out.json")).unwrap();
    for (line, message) in json.lines().zip(&messages) {
        let back = rollguard::receiver::traces_from_json(line.as_bytes()).unwrap();
        assert_eq!(hashes(&[back]), hashes(&[message]), "{line}");
    }
    assert_eq!(json.lines().count(), 2);
    let proto = std::fs::read(folder.path().join("out.binpb")).unwrap();
    let framed = messages.map(|message| [&(message.len() as u32).to_be_bytes()[..], &message].concat());
    assert_eq!(proto, framed.concat());
}
