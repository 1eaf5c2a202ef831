//! Simulates many deployments and prints how the judge does: false fails, what it finds and after how long, and
//! how often a healthy version passes. `docs/simulation.md` holds a run with its reading.
//!
//! ```text
//! cargo run --release --example simulate -- --runs 2000 --seed 1
//! cargo run --release --example simulate -- --only "cold start" --runs 500
//! cargo run --release --example simulate -- --gates
//! cargo run --release --example simulate -- --power
//! ```
//!
//! `--runs` is for each healthy situation, `--worse-runs` for each worse one. The same seed gives the same table.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

#[allow(dead_code, reason = "the bounds are for tests/sim")]
mod cells;
mod exports;
#[allow(dead_code, reason = "one question is for tests/sim")]
mod gates;
#[allow(dead_code, reason = "how often it is run there is for tests/sim")]
mod power;
#[allow(dead_code, reason = "one figure is for tests/sim")]
mod run;
mod samplers;
mod scenario;
mod traffic;

use clap::Parser;

use cells::{Expect, cells};
use power::{PROMISES, Promise};
use run::{Length, Row, run};

/// Runs of each situation that is held to a bound.
const GATE_RUNS: usize = 2_000;

#[derive(Debug, Parser)]
#[command(about = "Simulate deployments and print how the judge does")]
struct Arguments {
    /// Runs of each situation in which the candidate is healthy.
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// Runs of each situation in which it is worse.
    #[arg(long, default_value_t = 100)]
    worse_runs: usize,
    /// Seed of the first run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of the baseline alone before the candidate begins.
    #[arg(long, default_value_t = 1800)]
    history: i64,
    /// Seconds from the candidate's first on.
    #[arg(long, default_value_t = 1800)]
    seconds: i64,
    /// Only the situations that are held to a bound, each run 2,000 times.
    #[arg(long)]
    gates: bool,
    /// Instead hold the statements about what would show to `--worse-runs` deployments each.
    #[arg(long)]
    power: bool,
    /// Only situations whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only traffic of this name.
    #[arg(long, default_value = "")]
    traffic: String,
    /// Only what is sent as this; "spans" for spans alone.
    #[arg(long, default_value = "")]
    sending: String,
}

fn main() {
    let arguments = Arguments::parse();
    let length = Length { history_s: arguments.history, seconds: arguments.seconds };
    if arguments.power {
        println!("{}", Promise::HEAD);
        for promise in &PROMISES {
            println!("{}", promise.markdown(&promise.keep(arguments.worse_runs as u64, arguments.seed)));
        }
        return;
    }
    if arguments.gates {
        println!("{}", gates::head());
        for (cell, bound) in gates::held() {
            println!("{}", gates::markdown(&run(&cell, GATE_RUNS, length, arguments.seed), bound));
        }
        return;
    }
    println!("{}", Row::HEAD);
    for cell in cells() {
        let traffic = arguments.traffic.is_empty() || cell.scenario.load.name == arguments.traffic;
        let sent = if cell.sending.name.is_empty() { "spans" } else { cell.sending.name };
        let sending = arguments.sending.is_empty() || sent == arguments.sending;
        if cell.name.contains(&arguments.only) && traffic && sending {
            let runs = match cell.expect {
                Expect::Healthy => arguments.runs,
                Expect::Worse { .. } | Expect::AtPassMargin => arguments.worse_runs,
            };
            println!("{}", run(&cell, runs, length, arguments.seed).markdown());
        }
    }
}
