//! CPU time per million items of the program beside a server that only decodes and drops, under a load of
//! traces, metrics or logs in which no two requests are alike:
//!
//! ```text
//! cargo build --release --bin rollguard --example load
//! target/release/examples/load compare target/release/rollguard [seconds] [rounds] [kind..]
//! target/release/examples/load forward target/release/rollguard [seconds] [rounds]
//! target/release/examples/load outage target/release/rollguard [seconds] [warm-up]
//! target/release/examples/load pressure target/release/rollguard [seconds]
//! ```
//!
//! `forward` measures what exporters cost (`forward.rs`); `outage` measures memory while the backend of an exporter
//! is away (`outage.rs`), `pressure` under more than the memory limiter lets in (`pressure.rs`).
//!
//! Kinds: `delta` and `cumulative` (explicit buckets of 20 routes, 100 points a request), `exponential` (delta),
//! `logs` (100 records a request, 5 % ERROR, 1 % with a stack of 30 frames), `spans` (100 a request), `batches` (512
//! larger ones). Both servers get the same load from the same generator in turn, round by round, over gRPC on loopback,
//! each of four connections sending its next request as soon as the last one is answered; what is compared is the
//! median of the CPU time that each needed per item it acknowledged, as the kernel counts it for the process.
//! `--instances` says of how many senders the load is, 800 unless told otherwise: of metrics each has 100 series. `--beside`
//! measures another server in the same rounds, `--rate` sends so many requests a second instead: a server that is mostly idle pays for waking up with nearly every
//! request, and more so the one that has less to do.

#![allow(clippy::print_stdout, reason = "an example shows what it found")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod discard;
mod forward;
mod outage;
mod pressure;
mod sink;
mod target;
mod traffic;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::target::{Pace, Sent, Target};
use self::traffic::Kind;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "What the program costs under load, beside a server that only decodes and drops")]
struct Arguments {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// CPU time per million items, by kind
    Compare {
        /// The program
        binary: PathBuf,
        /// Of each run
        #[arg(default_value_t = 10)]
        seconds: u64,
        /// Runs of each server
        #[arg(default_value_t = 5)]
        rounds: u64,
        /// What is sent
        #[arg(default_values = ["delta", "cumulative", "logs"])]
        kinds: Vec<Kind>,
        /// Connections, each with one request at a time
        #[arg(long, default_value_t = Pace::FULL.connections, value_parser = clap::value_parser!(u64).range(1..=64))]
        connections: u64,
        /// Requests a second over all connections; as many as are answered without it
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        rate: Option<u64>,
        /// Senders whose requests they are; of metrics each has 100 series
        #[arg(long, default_value_t = Pace::FULL.instances, value_parser = clap::value_parser!(u64).range(1..))]
        instances: u64,
        /// Another server to compare with as well: a command in which {port} stands for where it listens
        #[arg(long)]
        beside: Vec<String>,
    },
    /// What exporters cost
    Forward {
        /// The program
        binary: PathBuf,
        /// Of each run
        #[arg(default_value_t = 10)]
        seconds: u64,
        /// Runs of each server
        #[arg(default_value_t = 3)]
        rounds: u64,
    },
    /// Memory while the backend of an exporter is away
    Outage {
        /// The program
        binary: PathBuf,
        /// Of each part
        #[arg(default_value_t = 120)]
        seconds: u64,
        /// Seconds of load before the backend dies
        #[arg(default_value_t = 330)]
        warm_up: u64,
    },
    /// Memory under more than the memory limiter lets in
    Pressure {
        /// The program
        binary: PathBuf,
        /// Of each part
        #[arg(default_value_t = 20)]
        seconds: u64,
    },
    /// Load on a server that runs already
    Send {
        /// Where it listens: host:port
        address: String,
        /// What is sent
        kind: Kind,
        /// For so long
        seconds: u64,
        /// Connections, each with one request at a time
        #[arg(long, default_value_t = Pace::FULL.connections, value_parser = clap::value_parser!(u64).range(1..=64))]
        connections: u64,
        /// Requests a second over all connections; as many as are answered without it
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        rate: Option<u64>,
        /// Compress requests
        #[arg(long)]
        gzip: bool,
        /// Senders whose requests they are
        #[arg(long, default_value_t = Pace::FULL.instances, value_parser = clap::value_parser!(u64).range(1..))]
        instances: u64,
    },
    /// The server that decodes and drops
    Sink { address: String },
    /// A backend that drops what comes
    Discard {
        address: String,
        /// Refuse it all for good instead
        #[arg(long)]
        refuse: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Arguments::parse().measure {
        Measure::Compare { binary, seconds, rounds, kinds, connections, rate, instances, beside } => {
            let pace = Pace { connections, requests_per_second: rate, instances, ..Pace::FULL };
            let time = Duration::from_secs(seconds);
            runtime.block_on(compare(&binary, &beside, time, rounds, &kinds, pace))
        }
        Measure::Forward { binary, seconds, rounds } => {
            runtime.block_on(forward::measure(&binary, seconds, rounds))
        }
        Measure::Outage { binary, seconds, warm_up } => {
            runtime.block_on(outage::measure(&binary, seconds, warm_up))
        }
        Measure::Pressure { binary, seconds } => runtime.block_on(pressure::measure(&binary, seconds)),
        Measure::Send { address, kind, seconds, connections, rate, gzip, instances } => {
            let pace = Pace { connections, requests_per_second: rate, is_gzip: gzip, instances };
            let load = target::send_to(&address, kind, Duration::from_secs(seconds), pace);
            let Sent { items, refused, p99_ms, .. } = runtime.block_on(load)?;
            println!("{items} items acknowledged, {refused} requests refused, p99 {p99_ms:.2} ms");
            Ok(())
        }
        Measure::Sink { address } => runtime.block_on(sink::serve(&address)),
        Measure::Discard { address, refuse } => runtime.block_on(discard::serve(&address, refuse)),
    }
}

async fn compare(
    binary: &Path,
    beside: &[String],
    time: Duration,
    rounds: u64,
    kinds: &[Kind],
    pace: Pace,
) -> anyhow::Result<()> {
    let myself = std::env::current_exe()?;
    for &kind in kinds {
        // New processes for each kind: what one kind leaves behind is no part of the next.
        let mut targets = vec![Target::rollguard(binary).await?, Target::sink(&myself).await?];
        for command in beside {
            targets.push(Target::other(command).await?);
        }
        let mut used = vec![Vec::new(); targets.len()];
        for round in 1..=rounds {
            for (target, used) in targets.iter().zip(&mut used) {
                let sent = target.load(kind, time, pace).await?;
                println!("{}", line(kind, round, target, &sent));
                used.push(sent.cpu_seconds_per_million());
            }
        }
        let used: Vec<f64> = used.into_iter().map(median).collect();
        let [ours, theirs @ ..] = used.as_slice() else { continue };
        for (target, theirs) in targets.iter().skip(1).zip(theirs) {
            println!(
                "{}: {ours:.2} CPU-s per million items, {} {theirs:.2}: {:.2}x",
                kind.name(),
                target.name(),
                ours / theirs
            );
        }
    }
    Ok(())
}

fn line(kind: Kind, round: u64, target: &Target, sent: &Sent) -> String {
    format!(
        "{} round {round}, {}: {} items in {:.1} s, {} requests refused, {:.2} CPU-s, {:.2} per million, {:.0} MiB",
        kind.name(),
        target.name(),
        sent.items,
        sent.seconds,
        sent.refused,
        sent.cpu_seconds,
        sent.cpu_seconds_per_million(),
        sent.resident_mib
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
