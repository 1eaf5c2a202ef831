//! The account of records under whatever order of sending, waiting, ticking, refusing and restarting.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    DeploymentLimits, Disposition, Drained, Engine, EngineParts, Intake, Ledger, Registry, RegistryLimits,
    Restored, Shards, Signal,
};
use crate::deployment::Mode;
use crate::model::{
    DeploymentId, Discard, Outcome, ResourceView, SamplingWeight, ServiceKey, SpanSink, SpanView,
    StatusSource, UnixNanos,
};
use crate::verdict::Policy;
use crate::window::LatenessConfig;

const BEGIN_S: u64 = 1_700_000_000;
const TTL_S: u64 = 60;
/// Small, so that batches are refused too.
const CAPACITY: usize = 40;

#[derive(Debug, Clone)]
enum Step {
    /// Spans of a version of a service that ended so many seconds before (or, negative, after) now.
    Send {
        service: u8,
        version: u8,
        spans: u8,
        age_s: i64,
    },
    /// Records that make no SLI.
    Discard(Discard, u8),
    Drain,
    /// Seconds pass without a tick.
    Wait(u64),
    Tick,
    /// Ticks go on for longer than a silent version lives.
    Idle,
    /// An orderly end and a new process.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let send = (0u8..3, 0u8..4, 1u8..20, -12i64..40)
        .prop_map(|(service, version, spans, age_s)| Step::Send { service, version, spans, age_s });
    prop_oneof![
        8 => send,
        2 => (0..Discard::ALL.len(), 1u8..5).prop_map(|(reason, n)| Step::Discard(Discard::ALL[reason], n)),
        6 => Just(Step::Drain),
        4 => prop_oneof![Just(0u64), 1u64..8, Just(70), Just(1_000)].prop_map(Step::Wait),
        6 => Just(Step::Tick),
        1 => Just(Step::Idle),
        1 => Just(Step::Restart),
    ]
}

/// One life of the process.
struct Process {
    intake: Intake,
    shards: Arc<Shards>,
    engine: Engine,
    drained: Drained,
    /// What was taken in this life, counted from outside.
    sent: u64,
}

impl Process {
    fn start(restored: Restored, now: UnixNanos) -> Self {
        let registry =
            Arc::new(Registry::new(RegistryLimits { versions_per_service: 2, ..RegistryLimits::default() }));
        let shards = Arc::new(Shards::new(1, CAPACITY));
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
        Self { intake, shards, engine, drained: Drained::default(), sent: 0 }
    }

    fn ledger(&self) -> &Ledger {
        self.shards.ledger()
    }

    fn drain(&mut self, now: UnixNanos) {
        self.shards.drain(&mut self.drained);
        self.engine.absorb(&self.drained, now);
    }

    fn send(&mut self, (service, version): (u8, u8), spans: u8, age_s: i64, now: UnixNanos) {
        let mut batch = self.intake.begin(now);
        let (service, version) = ([b's', service], [b'0' + version]);
        // Version 0 names none.
        let version = if version == *b"0" { &[][..] } else { &version[..] };
        batch.resource(&ResourceView { service: &service, version, ..ResourceView::default() });
        let end = UnixNanos(now.0.saturating_add_signed(-age_s * 1_000_000_000));
        for n in 0..spans {
            batch.span(&SpanView {
                operation_head: b"",
                operation_joint: b"",
                operation_tail: &[b'a' + n % 3],
                start: UnixNanos(end.0 - 1_000_000),
                end,
                outcome: Outcome::Good,
                status: StatusSource::Code,
                weight: SamplingWeight::Unknown,
                trace_id: b"",
                marks: 0,
                quantities: &[],
            });
        }
        if batch.commit().is_ok() {
            self.sent += u64::from(spans);
        }
    }

    fn discard(&mut self, reason: Discard, records: u8, now: UnixNanos) {
        let mut batch = self.intake.begin(now);
        (0..records).for_each(|_| SpanSink::discard(&mut batch, reason));
        if batch.commit().is_ok() {
            self.sent += u64::from(records);
        }
    }

    fn idle(&mut self, mut now: UnixNanos) -> UnixNanos {
        for _ in 0..TTL_S / 5 {
            now = now.plus_secs_f64(9.0);
            self.engine.tick(now);
        }
        now
    }

    /// An orderly end: what was taken in is evaluated, the state is kept.
    fn stop(mut self, known: &mut Restored, now: UnixNanos) -> Arc<Ledger> {
        self.drain(now);
        let commit = self.engine.tick(now);
        known.known_versions.extend(commit.known_versions);
        known.snapshots = self.engine.snapshot_all(now).snapshots;
        Arc::clone(self.shards.ledger())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Guarantees: at any time no more is settled than received; once the slots are closed, each record is
    /// settled exactly once; what an orderly restart loses is counted as lost by the process that goes on.
    #[test]
    fn every_record_ends_in_exactly_one_disposition(steps in prop::collection::vec(step(), 1..120)) {
        let mut now = UnixNanos::from_secs(BEGIN_S);
        let mut kept = Restored::default();
        let mut process = Process::start(Restored::default(), now);
        let mut taken_over = 0;
        for step in steps {
            match step {
                Step::Send { service, version, spans, age_s } => {
                    process.send((service, version), spans, age_s, now);
                }
                Step::Discard(reason, records) => process.discard(reason, records, now),
                Step::Drain => process.drain(now),
                Step::Wait(seconds) => now = now.plus_secs_f64(seconds as f64),
                Step::Tick => _ = process.engine.tick(now),
                Step::Idle => now = process.idle(now),
                Step::Restart => {
                    let before = process.stop(&mut kept, now);
                    taken_over = before.open(Signal::Traces);
                    let restored = Restored { snapshots: kept.snapshots.clone(), ..Restored::default() };
                    process = Process::start(restored, now);
                    let ledger = process.ledger();
                    prop_assert_eq!(ledger.settled(Signal::Traces, Disposition::Lost), taken_over);
                }
            }
            let ledger = process.ledger();
            prop_assert_eq!(ledger.received(Signal::Traces), process.sent + taken_over);
            prop_assert!(sum(ledger) <= ledger.received(Signal::Traces));
        }
        process.drain(now);
        now = now.plus_secs_f64(100.0);
        process.engine.tick(now);
        prop_assert_eq!(sum(process.ledger()), process.ledger().received(Signal::Traces));
        prop_assert_eq!(process.ledger().open(Signal::Traces), 0);
        prop_assert_eq!(process.ledger().received(Signal::Metrics), 0);
    }
}

fn sum(ledger: &Ledger) -> u64 {
    Disposition::all().map(|disposition| ledger.settled(Signal::Traces, disposition)).sum()
}

/// Spans of one version: in time, too late, from the future, and of a series that ended meanwhile.
#[test]
fn each_way_to_miss_a_slot_has_its_own_disposition() {
    let now = UnixNanos::from_secs(BEGIN_S);
    let mut process = Process::start(Restored::default(), now);
    process.send((0, 1), 3, 0, now);
    process.send((0, 1), 4, 30, now);
    process.send((0, 1), 5, -10, now);
    process.drain(now);
    process.engine.tick(now);
    let settled = |process: &Process, d| process.ledger().settled(Signal::Traces, d);
    assert_eq!(settled(&process, Disposition::Late), 4);
    assert_eq!(settled(&process, Disposition::Future), 5);
    assert_eq!((settled(&process, Disposition::Aggregated), process.ledger().open(Signal::Traces)), (0, 3));
    let later = now.plus_secs_f64(20.0);
    process.engine.tick(later);
    assert_eq!(settled(&process, Disposition::Aggregated), 3);
    // Committed before the series end, taken in after it.
    process.send((0, 1), 6, 0, later);
    let ended = process.idle(later);
    process.drain(ended);
    assert_eq!(settled(&process, Disposition::Orphaned), 6);
    assert_eq!(process.ledger().open(Signal::Traces), 0);
}
