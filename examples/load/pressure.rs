//! The memory limiter under more than leaves: the program at 200 MiB with a queue in memory that would take far more,
//! and 64 connections that send 512 spans at a time, over and over, whether they are refused or not and however long
//! they are told to wait. First the backend is away, then it refuses every request for good, so that each joined one is
//! compressed and sent again in halves, then it is there and decodes on the same machine; once for each compression.
//!
//! Held to: the resident set is below the limit at all times, at least three times as much is sent as a backend that
//! takes it lets through, and each refusal that a sender was given is counted.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;

use super::outage::watched;
use super::target::{Pace, Target, free_port};
use super::traffic::Kind;

const LIMIT_MIB: f64 = 200.0;
const OVERLOAD: f64 = 3.0;
const PACE: Pace = Pace { connections: 64, ..Pace::FULL };

pub(crate) async fn measure(binary: &Path, seconds: u64) -> anyhow::Result<()> {
    let time = Duration::from_secs(seconds);
    let mut most = 0.0_f64;
    for compression in ["none", "gzip", "zstd"] {
        most = most.max(pressure(binary, time, compression).await?);
    }
    // At the end, so that all of them are seen.
    ensure!(most < LIMIT_MIB, "over the limit: {most:.0} MiB");
    Ok(())
}

/// The largest resident set, in MiB.
async fn pressure(binary: &Path, time: Duration, compression: &str) -> anyhow::Result<f64> {
    let (backend, metrics) = (free_port()?, free_port()?);
    let receiver = format!("  memory_limiter: {{limit_mib: {LIMIT_MIB}}}\n");
    let exporter = |_: &Path| {
        format!(
            "exporters:\n  otlp_grpc:\n    endpoint: 'http://127.0.0.1:{backend}'\n    compression: {compression}\n    \
             retry_on_failure: {{initial_interval: 1s, max_interval: 2s}}\n    \
             sending_queue: {{queue_bytes: 4294967296, queue_size: 1000000}}\n"
        )
    };
    let target = Target::configured(binary, Some(metrics), &receiver, exporter).await?;
    let (away, most_away) = watched(&target, target.load(Kind::Batches, time, PACE)).await?;
    let myself = std::env::current_exe()?;
    let refusing = Target::refusing(&myself, backend).await?;
    let (for_good, most_for_good) = watched(&target, target.load(Kind::Batches, time, PACE)).await?;
    drop(refusing);
    let dropped = target.own("rollguard_exporter_dropped_records_total").await?;
    let sink = Target::sink_on(&myself, backend).await?;
    let (there, most_there) = watched(&target, target.load(Kind::Batches, time, PACE)).await?;
    drop(sink);
    let counted = target.own("rollguard_memory_refused_requests_total").await?;
    let (taken, refused) =
        (there.items / Kind::Batches.items(), away.refused + for_good.refused + there.refused);
    let overload = (taken + there.refused) as f64 / taken as f64;
    println!(
        "{compression}: {most_away:.0} MiB at most with the backend away, {most_for_good:.0} MiB while it refused \
         everything ({dropped:.0} records dropped), {most_there:.0} MiB with it back (limit {LIMIT_MIB}); {taken} requests taken and {} refused then, {overload:.1} times what was taken; {refused} refused in \
         all, {counted:.0} counted",
        there.refused
    );
    ensure!(dropped > 0.0, "nothing was refused for good");
    ensure!(overload >= OVERLOAD, "that is no overload");
    ensure!(refused as f64 <= counted, "refusals were not counted");
    Ok(most_away.max(most_for_good).max(most_there))
}
