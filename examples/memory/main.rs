//! Memory with 10,000 (service, version) pairs of 3 operations each at a steady 10,000 spans/s, through intake,
//! shards and engine under a simulated clock:
//!
//! ```text
//! cargo run --release --example memory -- [minutes] [pairs] [hours]
//! cargo run --release --example memory -- parts
//! ```
//!
//! Some hours (24) pass without traffic after the first minute: all that grows with the age of a version, the
//! display history above all, then has its full size, and a day need not be simulated second by second. Prints
//! the resident set each simulated minute and the real time a second of traffic takes. Limits that follow
//! from it: `docs/limits.md`.
//!
//! With `parts` it prints what each part takes: an SLI of each kind, a value of a dimension, a running deployment.

#![allow(clippy::print_stdout, reason = "an example shows what it found")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::expect_used, reason = "what the example makes is sound, and there is room for it")]

mod parts;
mod shop;

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use mimalloc::MiMalloc;
use rollguard::deployment::Mode;
use rollguard::model::{
    DeploymentId, Outcome, ResourceView, SamplingWeight, ServiceKey, SpanSink, SpanView, StatusSource,
    UnixNanos,
};
use rollguard::pipeline::{
    DEFAULT_SHARD_CAPACITY, DeploymentLimits, Drained, Engine, EngineParts, Intake, Registry, RegistryLimits,
    Restored, Shards,
};
use rollguard::verdict::Policy;
use rollguard::window::LatenessConfig;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// mimalloc, counting the bytes that are allocated as they were asked for.
struct Counted;

static ALLOCATED: AtomicI64 = AtomicI64::new(0);

/// Bytes that are allocated now.
fn allocated() -> i64 {
    ALLOCATED.load(Ordering::Relaxed)
}

// SAFETY: every call is handed to mimalloc as it came, and so is its answer; counting touches neither.
#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only counts")]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is mimalloc's too. So below.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size as i64 - layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

const VERSIONS_PER_SERVICE: u64 = 10;
const SPANS_PER_SECOND: u64 = 10_000;
/// Spans of one version that arrive together.
const SPANS_A_REQUEST: u64 = 5;
const HOUR_S: u64 = 3_600;
const BEGIN_S: u64 = 1_700_000_040;
const OPERATIONS: [&[u8]; 3] = [b"GET /", b"GET /cart", b"POST /checkout"];

fn main() -> Result<(), rollguard::pipeline::Refused> {
    if std::env::args().nth(1).as_deref() == Some("parts") {
        parts::print();
        return Ok(());
    }
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let minutes = arguments.next().unwrap_or(15);
    let pairs = arguments.next().unwrap_or(10_000);
    let hours = arguments.next().unwrap_or(24);
    let registry = Arc::new(Registry::new(RegistryLimits::default()));
    let shards = Arc::new(Shards::new(2, DEFAULT_SHARD_CAPACITY));
    let intake = Intake::new(Arc::clone(&registry), Arc::clone(&shards));
    let mut next_id = 0;
    let parts = EngineParts {
        registry: Arc::clone(&registry),
        ledger: Arc::clone(shards.ledger()),
        policies: Arc::new(|_: &ServiceKey, _: &str| (Policy::default(), Mode::Observe)),
        lateness: LatenessConfig::default(),
        series_ttl_s: (hours + 1) * HOUR_S,
        deployments: DeploymentLimits::default(),
        ids: Box::new(move || {
            next_id += 1;
            DeploymentId(format!("d{next_id}"))
        }),
    };
    let mut engine = Engine::new(parts, Restored::default(), UnixNanos::from_secs(BEGIN_S));
    let mut drained = Drained::default();
    let mut random = fastrand::Rng::with_seed(1);
    println!("at start: {:.0} MiB", resident_mib());
    for minute in 1..=minutes {
        let begin_s = BEGIN_S + (minute - 1) * 60 + if minute > 1 { hours * HOUR_S } else { 0 };
        let (mut ticks, mut boards, mut absorbs) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for second in 0..60 {
            let now_s = begin_s + second + 1;
            send(&intake, &mut random, now_s, pairs)?;
            let now = UnixNanos::from_secs(now_s);
            let begin = Instant::now();
            shards.drain(&mut drained);
            engine.absorb(&drained, now);
            absorbs += begin.elapsed();
            let begin = Instant::now();
            drop(engine.tick(now));
            ticks += begin.elapsed();
            let begin = Instant::now();
            drop(engine.board(now));
            boards += begin.elapsed();
        }
        let each = |d: Duration| d.as_secs_f64() * 1e3 / 60.0;
        println!(
            "minute {minute}: {:.0} MiB, {} versions, {} operations; a second costs {:.1} ms to absorb, {:.1} ms to close, {:.1} ms to show",
            resident_mib(),
            registry.version_count(),
            registry.series_count(),
            each(absorbs),
            each(ticks),
            each(boards),
        );
    }
    Ok(())
}

/// One second of traffic, spread over all pairs in turn.
fn send(
    intake: &Intake,
    random: &mut fastrand::Rng,
    now_s: u64,
    pairs: u64,
) -> Result<(), rollguard::pipeline::Refused> {
    let requests = SPANS_PER_SECOND / SPANS_A_REQUEST;
    for n in 0..requests {
        let pair = (now_s * requests + n) % pairs;
        let service = format!("service-{}", pair / VERSIONS_PER_SERVICE);
        let version = format!("1.0.{}", pair % VERSIONS_PER_SERVICE);
        let instance = format!("{service}-{version}-7d9f");
        let mut batch = intake.begin(UnixNanos(now_s * 1_000_000_000 - 1 - random.u64(..500_000_000)));
        batch.resource(&ResourceView {
            service: service.as_bytes(),
            version: version.as_bytes(),
            instance: instance.as_bytes(),
            ..ResourceView::default()
        });
        for _ in 0..SPANS_A_REQUEST {
            let end = now_s * 1_000_000_000 - 1_000_000_000 - random.u64(..5_000_000_000);
            let latency = (5e6 * 40f64.powf(random.f64())) as u64;
            batch.span(&SpanView {
                operation_head: b"",
                operation_joint: b"",
                operation_tail: OPERATIONS[random.usize(..3)],
                start: UnixNanos(end - latency),
                end: UnixNanos(end),
                outcome: if random.u32(..500) == 0 { Outcome::Bad } else { Outcome::Good },
                status: StatusSource::Code,
                weight: SamplingWeight::Unknown,
                trace_id: &[1; 16],
                marks: 0,
                quantities: &[],
            });
        }
        batch.commit()?;
    }
    Ok(())
}

/// Resident set of this process; 0 where the system does not say.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
