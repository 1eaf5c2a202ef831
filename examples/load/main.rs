//! CPU time per million items of the program beside a server that only decodes and drops, under a load of
//! metrics or logs in which no two requests are alike:
//!
//! ```text
//! cargo build --release --bin rollguard --example load
//! target/release/examples/load compare target/release/rollguard [seconds] [rounds] [kind..]
//! target/release/examples/load forward target/release/rollguard [seconds] [rounds]
//! target/release/examples/load outage target/release/rollguard [seconds]
//! ```
//!
//! `forward` measures what exporters cost (`forward.rs`);
//! `outage` measures memory while the backend of an exporter is away (`outage.rs`).
//!
//! Kinds: `delta` and `cumulative` (explicit buckets of 20 routes, 100 points a request), `exponential` (delta),
//! `logs` (100 records a request, 5 % ERROR, 1 % with a stack of 30 frames), `spans`. Both servers get the same
//! load from the same generator in turn, round by round, over gRPC on loopback; what is compared is the median
//! of the CPU time that each needed per item it acknowledged, as the kernel counts it for the process.

#![allow(clippy::print_stdout, reason = "an example shows what it found")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod discard;
mod forward;
mod outage;
mod sink;
mod target;
mod traffic;
mod wire;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use self::target::{Sent, Target};
use self::traffic::Kind;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.as_slice() {
        ["sink", address] => runtime.block_on(sink::serve(address)),
        ["discard", address] => runtime.block_on(discard::serve(address)),
        ["forward", binary] => runtime.block_on(forward::measure(Path::new(binary), 10, 3)),
        ["forward", binary, seconds, rounds] => {
            runtime.block_on(forward::measure(Path::new(binary), seconds.parse()?, rounds.parse()?))
        }
        ["compare", binary, rest @ ..] => runtime.block_on(compare(Path::new(binary), rest)),
        ["outage", binary] => runtime.block_on(outage::measure(Path::new(binary), 120)),
        ["outage", binary, seconds] => runtime.block_on(outage::measure(Path::new(binary), seconds.parse()?)),
        _ => bail!(
            "load forward BINARY [seconds rounds], or load outage BINARY [seconds], or load compare BINARY [seconds] [rounds] [delta|cumulative|exponential|logs|spans]..."
        ),
    }
}

async fn compare(binary: &Path, rest: &[&str]) -> anyhow::Result<()> {
    let number = |at: usize, default: u64| rest.get(at).map_or(Ok(default), |text| text.parse());
    let (seconds, rounds) = (number(0, 10)?, number(1, 5)?);
    let kinds: Vec<Kind> = match rest.get(2..) {
        Some(named @ [_, ..]) => {
            named.iter().map(|name| Kind::named(name).context("no such kind")).collect::<Result<_, _>>()?
        }
        _ => vec![Kind::Delta, Kind::Cumulative, Kind::Logs],
    };
    let myself = std::env::current_exe()?;
    for kind in kinds {
        // New processes for each kind: what one kind leaves behind is no part of the next.
        let targets = [Target::rollguard(binary).await?, Target::sink(&myself).await?];
        let mut used: [Vec<f64>; 2] = Default::default();
        for round in 1..=rounds {
            for (target, used) in targets.iter().zip(&mut used) {
                let sent = target.load(kind, Duration::from_secs(seconds)).await?;
                println!("{}", line(kind, round, target, &sent));
                used.push(sent.cpu_seconds_per_million());
            }
        }
        let [ours, theirs] = used.map(median);
        println!(
            "{}: {ours:.2} CPU-s per million items, decode-and-drop {theirs:.2}: {:.2}x",
            kind.name(),
            ours / theirs
        );
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
