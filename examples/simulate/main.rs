//! Simulates many deployments and prints how the judge does: false fails, what it finds and after how long, and
//! how often a healthy version passes. `docs/simulation.md` holds a run with its reading.
//!
//! ```text
//! cargo run --release --example simulate -- --runs 2000 --seed 1
//! cargo run --release --example simulate -- --only "cold start" --runs 500
//! cargo run --release --example simulate -- --gates
//! cargo run --release --example simulate -- --power
//! cargo run --release --example simulate -- --gauges
//! cargo run --release --example simulate -- --other-days --runs 500
//! cargo run --release --example simulate -- --churn
//! ```
//!
//! `--runs` is for each healthy situation, `--worse-runs` for each worse one. The same seed gives the same table.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

#[allow(dead_code, reason = "the bounds are for tests/sim")]
mod cells;
mod churn;
mod dimensions;
mod exports;
#[allow(dead_code, reason = "one question is for tests/sim")]
mod gates;
#[allow(dead_code, reason = "the bounds are held by tests/sim")]
mod gauges;
mod other_days;
#[allow(dead_code, reason = "how often it is run there is for tests/sim")]
mod power;
#[allow(dead_code, reason = "one figure is for tests/sim")]
mod run;
mod samplers;
mod scenario;
mod traffic;

use clap::Parser;

use cells::{Cell, Expect, cells};
use gates::Held;
use gauges::{SITUATIONS, Situation};
use power::{PROMISES, Promise};
use run::{Length, Row, run};

/// Runs of each situation in which the candidate is healthy.
const HEALTHY_RUNS: usize = 200;
/// Runs of each situation that is held to a bound.
const GATE_RUNS: usize = 2_000;
/// Runs of each situation in which yesterday is looked at.
const OTHER_DAYS_RUNS: usize = 500;

#[derive(Debug, Parser)]
#[command(about = "Simulate deployments and print how the judge does")]
struct Arguments {
    /// Runs of each situation in which the candidate is healthy, 200 by default; with `--gates` of each, 2,000.
    #[arg(long)]
    runs: Option<usize>,
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
    /// Only the situations that are held to a bound.
    #[arg(long)]
    gates: bool,
    /// Instead hold the statements about what would show to `--worse-runs` deployments each.
    #[arg(long)]
    power: bool,
    /// Instead gauges of young instances, each situation 2,000 times.
    #[arg(long)]
    gauges: bool,
    /// Instead hold changes without a version to what the same time yesterday showed, `--runs` of each, 500 by default.
    #[arg(long)]
    other_days: bool,
    /// Instead instances that die on a request, and fleets that scale, each 2,000 times.
    #[arg(long)]
    churn: bool,
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
    if arguments.gauges {
        let runs = arguments.runs.unwrap_or(GATE_RUNS) as u64;
        println!("{}", Situation::HEAD);
        for situation in SITUATIONS.iter().filter(|s| s.name.contains(&arguments.only)) {
            println!("{}", situation.markdown(&situation.play(runs, arguments.seed)));
        }
        return;
    }
    if arguments.other_days {
        println!("{}", other_days::HEAD);
        for situation in other_days::situations() {
            if situation.name.contains(&arguments.only) {
                let runs = arguments.runs.unwrap_or(OTHER_DAYS_RUNS) as u64;
                println!("{}", situation.markdown(situation.run(runs, arguments.seed)));
            }
        }
        return;
    }
    let is_wanted = |cell: &Cell| {
        let traffic = arguments.traffic.is_empty() || cell.scenario.load.name == arguments.traffic;
        let sent = if cell.sending.name.is_empty() { "spans" } else { cell.sending.name };
        let sending = arguments.sending.is_empty() || sent == arguments.sending;
        cell.name.contains(&arguments.only) && traffic && sending
    };
    if arguments.churn {
        println!("{}", churn::Tally::HEAD);
        for situation in churn::SITUATIONS.iter().filter(|s| s.name.contains(&arguments.only)) {
            let tally = churn::tally(situation, arguments.runs.unwrap_or(GATE_RUNS), arguments.seed);
            println!("{}", tally.markdown(situation));
        }
        return;
    }
    if arguments.gates {
        let runs = arguments.runs.unwrap_or(GATE_RUNS);
        println!("{}", gates::head());
        for held in gates::held() {
            let is_wanted = match &held {
                Held::Requests(cell, _) => is_wanted(cell),
                Held::Gauge(_) | Held::Deaths(_) => {
                    held.name().contains(&arguments.only)
                        && arguments.traffic.is_empty()
                        && arguments.sending.is_empty()
                }
            };
            if is_wanted {
                println!("{}", held.play(runs, |_| length, arguments.seed));
            }
        }
        return;
    }
    println!("{}", Row::HEAD);
    for cell in cells() {
        if is_wanted(&cell) {
            let runs = match cell.expect {
                Expect::Healthy => arguments.runs.unwrap_or(HEALTHY_RUNS),
                Expect::Worse { .. } | Expect::Told { .. } | Expect::AtPassMargin => arguments.worse_runs,
            };
            println!("{}", run(&cell, runs, length, arguments.seed).markdown());
        }
    }
}
