//! The account of records over all signals, from the bytes of messages to closed slots: whatever is sent, however
//! late, and wherever the process is restarted, each record ends in exactly one disposition.

use std::sync::Arc;

use fastrand::Rng;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;
use rollguard::deployment::Mode;
use rollguard::model::{DeploymentId, NANOS_PER_SECOND, ServiceKey, UnixNanos};
use rollguard::pipeline::{
    DeploymentLimits, Disposition, Drained, Engine, EngineParts, Intake, Ledger, Registry, RegistryLimits,
    Restored, Shards, Signal,
};
use rollguard::receiver::{WalkSettings, walk_logs, walk_metrics, walk_traces};
use rollguard::verdict::Policy;
use rollguard::window::LatenessConfig;

const BEGIN_S: u64 = 1_700_000_000;
const TTL_S: u64 = 120;
/// Seconds after which nothing waits any more, whatever was sent.
const SETTLED_S: u64 = 900;

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

/// Senders and what they send, by throwing dice.
struct World {
    random: Rng,
    now_s: u64,
    /// Requests counted so far by the cumulative counters.
    counted: u64,
    /// The last message of metrics.
    exported: Vec<u8>,
}

impl World {
    fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }

    fn resource(&mut self) -> Option<Resource> {
        let mut attributes = vec![attribute("service.name", self.random.choice(["shop", "cart"]).unwrap())];
        if !self.one_in(4) {
            attributes.push(attribute("service.version", self.random.choice(["1", "2"]).unwrap()));
        }
        Some(Resource { attributes, ..Resource::default() })
    }

    /// Mostly now, sometimes long ago, in the future, or not said.
    fn time(&mut self) -> u64 {
        let seconds = match self.random.u32(..12) {
            0 => self.now_s - self.random.u64(10..100),
            1 => self.now_s + self.random.u64(6..30),
            2 => return 0,
            _ => self.now_s - self.random.u64(..4),
        };
        seconds * NANOS_PER_SECOND + self.random.u64(..NANOS_PER_SECOND)
    }

    fn id(&mut self, length: usize) -> Vec<u8> {
        let length = if self.one_in(12) { length - 1 } else { length };
        (0..length).map(|_| self.random.u8(..)).collect()
    }

    fn traces(&mut self) -> Vec<u8> {
        let spans = (0..self.random.usize(..12)).map(|_| self.span()).collect();
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource_spans =
            vec![ResourceSpans { resource: self.resource(), scope_spans, ..Default::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    fn span(&mut self) -> Span {
        let end = self.time();
        let route = *self.random.choice(&["/a", "/b", "/healthz"]).unwrap();
        let mut attributes = vec![attribute("http.route", route)];
        if self.one_in(10) {
            attributes.push(attribute("user_agent.synthetic.type", "bot"));
        }
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            kind: self.random.i32(1..6),
            start_time_unix_nano: end.saturating_sub(1_000_000),
            end_time_unix_nano: end,
            attributes,
            ..Span::default()
        }
    }

    /// Sometimes the same again.
    fn metrics(&mut self) -> Vec<u8> {
        if self.one_in(10) {
            return self.exported.clone();
        }
        let metrics = (0..self.random.usize(1..4)).map(|_| self.metric()).collect();
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource_metrics =
            vec![ResourceMetrics { resource: self.resource(), scope_metrics, ..Default::default() }];
        self.exported = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
        self.exported.clone()
    }

    fn metric(&mut self) -> Metric {
        let names = [
            "http.server.request.duration",
            "http.server.duration",
            "rpc.server.call.duration",
            "process.cpu.time",
        ];
        let data_points = (0..self.random.usize(..4)).map(|_| self.point()).collect();
        let aggregation_temporality = *self.random.choice(&[2, 2, 2, 1, 0]).unwrap();
        Metric {
            name: (*self.random.choice(&names).unwrap()).into(),
            unit: if self.one_in(10) { "parsec" } else { "s" }.into(),
            data: Some(Data::Histogram(Histogram { data_points, aggregation_temporality })),
            ..Metric::default()
        }
    }

    fn point(&mut self) -> HistogramDataPoint {
        self.counted += self.random.u64(..10);
        HistogramDataPoint {
            attributes: vec![attribute("http.route", self.random.choice(["/a", "/b"]).unwrap())],
            start_time_unix_nano: if self.one_in(3) { 0 } else { BEGIN_S * NANOS_PER_SECOND },
            time_unix_nano: self.time(),
            count: self.counted,
            bucket_counts: vec![self.counted, 0],
            explicit_bounds: vec![0.1],
            flags: u32::from(self.one_in(10)),
            ..HistogramDataPoint::default()
        }
    }

    fn logs(&mut self) -> Vec<u8> {
        let log_records = (0..self.random.usize(..8)).map(|_| self.record()).collect();
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs =
            vec![ResourceLogs { resource: self.resource(), scope_logs, ..Default::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    fn record(&mut self) -> LogRecord {
        let thrown = attribute("exception.type", self.random.choice(["A", "B"]).unwrap());
        LogRecord {
            time_unix_nano: self.time(),
            severity_number: *self.random.choice(&[0, 9, 17, 21]).unwrap(),
            attributes: if self.one_in(3) { vec![thrown] } else { vec![] },
            trace_id: self.id(16),
            ..LogRecord::default()
        }
    }
}

/// One life of the process.
struct Process {
    intake: Intake,
    shards: Arc<Shards>,
    engine: Engine,
    drained: Drained,
    settings: WalkSettings,
    /// Records of each signal in messages that were taken.
    sent: [u64; 3],
}

impl Process {
    fn start(restored: Restored, now: UnixNanos) -> Self {
        let limits = RegistryLimits { versions_per_service: 1, streams_per_version: 3, ..Default::default() };
        let registry = Arc::new(Registry::new(limits));
        let shards = Arc::new(Shards::new(1, 50));
        let mut next = 0;
        let parts = EngineParts {
            registry: Arc::clone(&registry),
            ledger: Arc::clone(shards.ledger()),
            policies: Arc::new(|_: &ServiceKey, _: &str| (Policy::default(), Mode::Observe)),
            lateness: LatenessConfig::default(),
            series_ttl_s: TTL_S,
            deployments: DeploymentLimits::default(),
            ids: Box::new(move || {
                next += 1;
                DeploymentId(format!("{}-{next}", now.0))
            }),
        };
        let engine = Engine::new(parts, restored, now);
        let intake = Intake::new(registry, Arc::clone(&shards));
        Self {
            intake,
            shards,
            engine,
            drained: Drained::default(),
            settings: WalkSettings::default(),
            sent: [0; 3],
        }
    }

    fn ledger(&self) -> &Ledger {
        self.shards.ledger()
    }

    fn send(&mut self, signal: Signal, message: &[u8], now: UnixNanos) {
        let mut batch = self.intake.begin(now);
        let records = match signal {
            Signal::Traces => walk_traces(message, &self.settings, &mut batch).map(|counts| counts.spans),
            Signal::Metrics => walk_metrics(message, &self.settings, &mut batch).map(|counts| counts.points),
            Signal::Logs => walk_logs(message, &self.settings, &mut batch).map(|counts| counts.records),
        };
        let records = records.expect("prost wrote the message");
        if batch.commit().is_ok() {
            self.sent[signal as usize] += records;
        }
    }

    fn drain(&mut self, now: UnixNanos) {
        self.shards.drain(&mut self.drained);
        self.engine.absorb(&self.drained, now);
    }

    fn tick(&mut self, now: UnixNanos) {
        self.drain(now);
        self.engine.tick(now);
    }
}

fn sum(ledger: &Ledger, signal: Signal) -> u64 {
    Disposition::all().map(|disposition| ledger.settled(signal, disposition)).sum()
}

fn by_disposition(ledger: &Ledger, signal: Signal) -> Vec<(Disposition, u64)> {
    let all = Disposition::all().map(|disposition| (disposition, ledger.settled(signal, disposition)));
    all.filter(|(_, records)| *records > 0).collect()
}

fn run(seed: u64, steps: usize) -> Result<(), TestCaseError> {
    let mut world =
        World { random: Rng::with_seed(seed), now_s: BEGIN_S + 1_000, counted: 0, exported: Vec::new() };
    let mut now = UnixNanos::from_secs(world.now_s);
    let mut process = Process::start(Restored::default(), now);
    let mut taken_over = [0; 3];
    for _ in 0..steps {
        match world.random.u32(..20) {
            0..=3 => process.send(Signal::Traces, &world.traces(), now),
            4..=7 => process.send(Signal::Metrics, &world.metrics(), now),
            8..=10 => process.send(Signal::Logs, &world.logs(), now),
            11..=13 => process.drain(now),
            14..=17 => {
                world.now_s += world.random.u64(1..9);
                now = UnixNanos::from_secs(world.now_s);
                process.tick(now);
            }
            18 => world.now_s += *world.random.choice(&[0, 15, 60, 1_000]).unwrap(),
            _ => {
                process.tick(now);
                let snapshots = process.engine.snapshot_all(now).snapshots;
                taken_over = Signal::ALL.map(|signal| process.ledger().open(signal));
                process = Process::start(Restored { snapshots, ..Restored::default() }, now);
                for signal in Signal::ALL {
                    let lost = process.ledger().settled(signal, Disposition::Lost);
                    prop_assert_eq!(lost, taken_over[signal as usize], "{:?} over a restart", signal);
                }
            }
        }
        now = UnixNanos::from_secs(world.now_s);
        for signal in Signal::ALL {
            let expected = process.sent[signal as usize] + taken_over[signal as usize];
            prop_assert_eq!(process.ledger().received(signal), expected);
            prop_assert!(sum(process.ledger(), signal) <= expected, "{:?} settled twice", signal);
        }
    }
    for _ in 0..SETTLED_S / 5 {
        now = now.plus_secs_f64(5.0);
        process.tick(now);
    }
    for signal in Signal::ALL {
        let ledger = process.ledger();
        prop_assert_eq!(
            sum(ledger, signal),
            ledger.received(signal),
            "{:?}: {:?}",
            signal,
            by_disposition(ledger, signal)
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Guarantees: at no time is more settled than received; once the slots are closed every record is settled;
    /// what an orderly restart leaves open is counted as lost by the process that goes on.
    #[test]
    fn received_is_the_sum_of_all_dispositions(seed in any::<u64>(), steps in 1usize..150) {
        run(seed, steps)?;
    }
}

/// The dice reach what they are for: without it, the property would hold of nothing.
#[test]
fn every_disposition_of_the_engine_occurs() {
    let mut world =
        World { random: Rng::with_seed(7), now_s: BEGIN_S + 1_000, counted: 0, exported: Vec::new() };
    let mut process = Process::start(Restored::default(), UnixNanos::from_secs(world.now_s));
    for _ in 0..400 {
        let now = UnixNanos::from_secs(world.now_s);
        process.send(Signal::Traces, &world.traces(), now);
        process.send(Signal::Metrics, &world.metrics(), now);
        process.send(Signal::Logs, &world.logs(), now);
        process.tick(now);
        world.now_s += 1;
    }
    for signal in Signal::ALL {
        let found = by_disposition(process.ledger(), signal);
        let words: Vec<_> = found.iter().flat_map(|(found, _)| <[_; 2]>::from(found.labels())).collect();
        let of_metrics = ["base_point", "stale_mark", "other_metric", "duplicate", "temporality", "unit"];
        let wanted = ["aggregated", "late", "unusable", "unused", "future"].into_iter();
        for wanted in wanted.chain(of_metrics.into_iter().filter(|_| signal == Signal::Metrics)) {
            assert!(words.contains(&wanted), "{signal:?} has no {wanted}: {words:?}");
        }
    }
}
