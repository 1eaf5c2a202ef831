//! What forwarding costs: requests of 512 spans over 4 connections to the program with one exporter, whose backend
//! drops everything (`discard.rs`), and to the server that only decodes and drops, as fast as they answer. Plain; from a queue on disk;
//! received and sent with gzip, and with zstd. And how long an accepted request takes at 20,000 spans a second,
//! with and without an exporter.
//!
//! The goals that are printed beside what was found: plain at most 0.45 times the CPU time of the sink, from disk
//! 0.7, gzip in and out 1.5 times that of the sink with gzip in; the 99th percentile of an accepted request at most
//! 1.5 times that without an exporter. All of it holds the judging too: `compare .. batches` shows that alone.

use std::path::Path;
use std::time::Duration;

use super::target::{Pace, Target, free_port};
use super::traffic::Kind;

/// 20,000 spans a second.
const PACED: Pace = Pace { requests_per_second: Some(39), ..Pace::FULL };

struct Case {
    name: &'static str,
    compression: &'static str,
    storage: &'static str,
    is_gzip: bool,
    most: f64,
}

const CASES: [Case; 5] = [
    Case { name: "plain", compression: "none", storage: "null", is_gzip: false, most: 0.45 },
    Case { name: "disk", compression: "none", storage: "file_storage", is_gzip: false, most: 0.7 },
    Case { name: "gzip in, gzip out", compression: "gzip", storage: "null", is_gzip: true, most: 1.5 },
    Case { name: "gzip in, plain out", compression: "none", storage: "null", is_gzip: true, most: 1.5 },
    Case { name: "gzip in, zstd out", compression: "zstd", storage: "null", is_gzip: true, most: 1.5 },
];

pub(crate) async fn measure(binary: &Path, seconds: u64, rounds: u64) -> anyhow::Result<()> {
    let (time, myself) = (Duration::from_secs(seconds), std::env::current_exe()?);
    for case in &CASES {
        let pace = Pace { is_gzip: case.is_gzip, ..Pace::FULL };
        let backend = Target::discard(&myself, free_port()?).await?;
        let more = exporter(&backend, case.compression, case.storage);
        let targets = [Target::configured(binary, None, "", more).await?, Target::sink(&myself).await?];
        let mut used: [Vec<f64>; 2] = Default::default();
        for _ in 0..rounds {
            for (target, used) in targets.iter().zip(&mut used) {
                let sent = target.load(Kind::Batches, time, pace).await?;
                anyhow::ensure!(sent.refused == 0, "{} refused {}", target.name(), sent.refused);
                used.push(sent.cpu_seconds_per_million());
            }
        }
        let [ours, theirs] = used.map(super::median);
        let (name, most, share) = (case.name, case.most, ours / theirs);
        println!("{name}: {ours:.2} CPU-s per million spans, sink {theirs:.2}: {share:.2}x (goal: {most})");
    }
    latency(binary, time, rounds, &myself).await
}

async fn latency(binary: &Path, time: Duration, rounds: u64, myself: &Path) -> anyhow::Result<()> {
    let backend = Target::discard(myself, free_port()?).await?;
    let targets = [
        Target::configured(binary, None, "", exporter(&backend, "none", "null")).await?,
        Target::configured(binary, None, "", exporter(&backend, "gzip", "null")).await?,
        Target::rollguard(binary).await?,
    ];
    let mut took: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        for (target, took) in targets.iter().zip(&mut took) {
            took.push(target.load(Kind::Batches, time, PACED).await?.p99_ms);
        }
    }
    let [plain, gzip, without] = took.map(super::median);
    println!(
        "p99 of an accepted request at 20,000 spans/s: {without:.2} ms without an exporter, {plain:.2} ms with one \
         ({:.2}x), {gzip:.2} ms with gzip ({:.2}x; goal: 1.5)",
        plain / without,
        gzip / without
    );
    Ok(())
}

fn exporter<'a>(
    backend: &'a Target,
    compression: &'a str,
    storage: &'a str,
) -> impl FnOnce(&Path) -> String + use<'a> {
    move |folder| {
        format!(
            "file_storage: {{directory: '{}'}}\nexporters:\n  otlp_grpc:\n    endpoint: \
             'http://{}'\n    compression: {compression}\n    sending_queue: {{storage: {storage}}}\n",
            folder.join("queues").display(),
            backend.address()
        )
    }
}
