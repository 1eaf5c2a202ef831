//! Memory while a backend is away. The program under full load, first without an exporter, then with one whose backend
//! dies: with its queue in memory (64 MiB) and on disk (1 GiB), `on_full: drop`. Then the load ends and the backend
//! comes back.
//!
//! Before the backend dies comes a warm-up, until the windows of five minutes are full: what is remembered of services
//! grows until then, exporter or not. The start is what the program takes then, with nothing in its queue.
//!
//! Held to: while the backend is away the resident set is at most 1.3 times the one without an exporter and the bytes
//! of a queue in memory, or of what is being sent from disk; within 60 s of the queue being empty again it is at most
//! 1.3 times the start.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::target::{Pace, Sent, Target, free_port};
use super::traffic::Kind;

const SHARE: f64 = 1.3;
const MEMORY_QUEUE_MIB: f64 = 64.0;
/// From disk only what is being sent is in memory: ten requests of 4 MiB.
const IN_FLIGHT_MIB: f64 = 40.0;
const DRAINED_WITHIN: Duration = Duration::from_secs(300);
const BACK_WITHIN: Duration = Duration::from_secs(60);
const WATCH_EVERY: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn measure(binary: &Path, seconds: u64, warm_up: u64) -> anyhow::Result<()> {
    let times = [warm_up, seconds].map(Duration::from_secs);
    let plain = Target::rollguard(binary).await?;
    let without = loaded(&plain, times[0] + times[1]).await?;
    println!("no exporter: {without:.0} MiB at most in {} s of load", warm_up + seconds);
    drop(plain);
    for (storage, queue_mib) in [("null", MEMORY_QUEUE_MIB), ("file_storage", IN_FLIGHT_MIB)] {
        outage(binary, times, storage, [without, queue_mib]).await?;
    }
    Ok(())
}

async fn outage(
    binary: &Path,
    [warm_up, time]: [Duration; 2],
    storage: &str,
    [without, queue_mib]: [f64; 2],
) -> anyhow::Result<()> {
    let most_mib = SHARE * without + queue_mib;
    let (backend, metrics) = (free_port()?, free_port()?);
    let more = |folder: &Path| {
        format!(
            "file_storage: {{directory: '{}'}}\nexporters:\n  otlp_grpc:\n    endpoint: 'http://127.0.0.1:{backend}'\n    \
             compression: none\n    retry_on_failure: {{initial_interval: 1s, max_interval: 2s}}\n    \
             sending_queue: {{storage: {storage}, on_full: drop}}\n",
            folder.join("queues").display()
        )
    };
    let target = Target::configured(binary, Some(metrics), "", more).await?;
    let myself = std::env::current_exe()?;
    let sink = Target::sink_on(&myself, backend).await?;
    loaded(&target, warm_up).await?;
    emptied(&target).await?;
    let start = target.resident_mib()?;
    drop(sink);
    let away = loaded(&target, time).await?;
    let queued = target.own("rollguard_exporter_queue_bytes").await? / f64::from(1 << 20);
    let dropped = target.own("rollguard_exporter_dropped_records_total").await?;
    println!(
        "storage {storage}: {start:.0} MiB at the start, {away:.0} MiB at most without it (allowed {most_mib:.0}), \
         {queued:.0} MiB queued, {dropped:.0} records dropped"
    );
    ensure!(away <= most_mib, "too much memory");

    let back = Instant::now();
    let sink = Target::sink_on(&myself, backend).await?;
    emptied(&target).await?;
    let drained = Instant::now();
    println!(
        "storage {storage}: the queue is empty {:.0} s after the backend came back",
        back.elapsed().as_secs_f64()
    );
    while target.resident_mib()? > SHARE * start {
        ensure!(
            drained.elapsed() < BACK_WITHIN,
            "{:.0} MiB after {} s",
            target.resident_mib()?,
            BACK_WITHIN.as_secs()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    println!(
        "storage {storage}: {:.0} MiB {:.0} s after that (allowed {:.0})",
        target.resident_mib()?,
        drained.elapsed().as_secs_f64(),
        SHARE * start
    );
    drop(sink);
    Ok(())
}

/// Waits until nothing is queued or being sent.
async fn emptied(target: &Target) -> anyhow::Result<()> {
    let asked = Instant::now();
    while target.own("otelcol_exporter_in_flight_requests").await?
        + target.own("otelcol_exporter_queue_size").await?
        > 0.0
    {
        ensure!(
            asked.elapsed() < DRAINED_WITHIN,
            "the queue is not empty after {} s",
            DRAINED_WITHIN.as_secs()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The largest resident set during so much load, in MiB.
async fn loaded(target: &Target, time: Duration) -> anyhow::Result<f64> {
    let (sent, most) = watched(target, target.load(Kind::Batches, time, Pace::FULL)).await?;
    ensure!(sent.items > 0, "nothing was acknowledged");
    Ok(most)
}

/// What a load came to, and the largest resident set meanwhile, in MiB.
pub(super) async fn watched(
    target: &Target,
    load: impl Future<Output = anyhow::Result<Sent>>,
) -> anyhow::Result<(Sent, f64)> {
    let mut load = std::pin::pin!(load);
    let mut most = 0.0_f64;
    loop {
        tokio::select! {
            sent = &mut load => return Ok((sent?, most)),
            () = tokio::time::sleep(WATCH_EVERY) => most = most.max(target.resident_mib()?),
        }
    }
}
