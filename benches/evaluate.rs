//! What an evaluation costs: a second of traffic absorbed, closed, judged and shown. With 10,000 versions of 3
//! operations at a span a second each and nothing judged; and with 200 deployments of 100 processes each. The
//! aim is that both fit well into the second that they stand for.

#![allow(missing_docs, reason = "a benchmark has no readers of its documentation")]

use std::sync::Arc;

use divan::Bencher;
use rollguard::deployment::Mode;
use rollguard::model::{
    DeploymentId, Outcome, ResourceView, SamplingWeight, ServiceKey, SpanSink, SpanView, StatusSource,
    UnixNanos, VersionKey,
};
use rollguard::pipeline::{
    DeploymentLimits, Drained, Engine, EngineParts, Intake, Registry, RegistryLimits, Restored, Shards,
};
use rollguard::verdict::Policy;
use rollguard::window::LatenessConfig;

const BEGIN_S: u64 = 1_700_000_040;

fn main() {
    divan::main();
}

struct Fleet {
    engine: Engine,
    intake: Intake,
    shards: Arc<Shards>,
    drained: Drained,
    services: u64,
    versions: u64,
    operations: Vec<String>,
    now_s: u64,
}

impl Fleet {
    /// Services with versions `v0`, `v1`, ..; `v0` is known from before, so the others begin deployments.
    fn new(services: u64, versions: u64, operations: usize, known: bool) -> Self {
        let registry = Arc::new(Registry::new(RegistryLimits::default()));
        let shards = Arc::new(Shards::new(1, 1 << 20));
        let mut next_id = 0;
        let parts = EngineParts {
            registry: Arc::clone(&registry),
            ledger: Arc::clone(shards.ledger()),
            policies: Arc::new(|_: &ServiceKey, _: &str| {
                (Policy { warmup_s: 0, ..Policy::default() }, Mode::Observe)
            }),
            lateness: LatenessConfig { initial: 1.0, ..LatenessConfig::default() },
            series_ttl_s: 900,
            deployments: DeploymentLimits::default(),
            ids: Box::new(move || {
                next_id += 1;
                DeploymentId(format!("d{next_id}"))
            }),
        };
        let key = |n: u64| VersionKey {
            service: ServiceKey { name: format!("service-{n}"), ..ServiceKey::default() },
            version: "v0".into(),
        };
        let known_versions = (0..services).filter(|_| known).map(key).collect();
        let restored = Restored { known_versions, ..Restored::default() };
        let engine = Engine::new(parts, restored, UnixNanos::from_secs(BEGIN_S));
        let intake = Intake::new(registry, Arc::clone(&shards));
        let operations = (0..operations).map(|n| format!("GET /things/{n}")).collect();
        let mut fleet = Self {
            engine,
            intake,
            shards,
            drained: Drained::default(),
            services,
            versions,
            operations,
            now_s: BEGIN_S,
        };
        for _ in 0..20 {
            fleet.second();
        }
        fleet
    }

    /// A second of traffic, one span an operation, and its evaluation.
    fn second(&mut self) -> usize {
        self.now_s += 1;
        let now = UnixNanos::from_secs(self.now_s);
        for version in 0..self.versions {
            for service in 0..self.services {
                let (service, version) = (format!("service-{service}"), format!("v{version}"));
                let mut batch = self.intake.begin(now);
                batch.resource(&ResourceView {
                    service: service.as_bytes(),
                    version: version.as_bytes(),
                    instance: b"one",
                    ..ResourceView::default()
                });
                for operation in &self.operations {
                    let end = now.0 - fastrand::u64(1..1_000_000_000);
                    batch.span(&SpanView {
                        operation_head: b"",
                        operation_joint: b"",
                        operation_tail: operation.as_bytes(),
                        start: UnixNanos(end - fastrand::u64(1_000_000..200_000_000)),
                        end: UnixNanos(end),
                        outcome: Outcome::Good,
                        status: StatusSource::Code,
                        weight: SamplingWeight::Unknown,
                        trace_id: &[1; 16],
                        marks: 0,
                        quantities: &[],
                    });
                }
                assert!(batch.commit().is_ok(), "the log holds more than a second");
            }
        }
        self.shards.drain(&mut self.drained);
        self.engine.absorb(&self.drained, now);
        drop(self.engine.tick(now));
        self.engine.board(now).deployments.len()
    }
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn a_second_of_10_000_versions_that_nobody_judges(bencher: Bencher) {
    let mut fleet = Fleet::new(1_000, 10, 3, false);
    bencher.bench_local(|| fleet.second());
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn a_second_of_200_deployments_with_100_processes(bencher: Bencher) {
    let mut fleet = Fleet::new(200, 2, 23, true);
    bencher.bench_local(|| fleet.second());
}
