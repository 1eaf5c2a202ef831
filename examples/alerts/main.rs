//! How often a healthy service is paged, ticketed and put under review: simulated days of one service whose share of
//! failed requests stays within its objective of 99.9 %, by traffic and by how its failures come. `docs/objectives.md` holds
//! a run.
//!
//! ```text
//! cargo run --release --example alerts -- --days 300 --seed 1
//! ```

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod days;
#[allow(dead_code, reason = "the simulation of deployments uses the rest")]
#[path = "../simulate/samplers.rs"]
mod samplers;

use clap::Parser;
use fastrand::Rng;

use days::{Law, live};

#[derive(Debug, Parser)]
#[command(about = "Simulate healthy services and count what would be told of their error budgets")]
struct Arguments {
    /// Days of each situation, after three days that fill the windows.
    #[arg(long, default_value_t = 300)]
    days: i64,
    /// Seed of the first situation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const LAWS: [Law; 4] = [
    Law { name: "half of the budget, by chance", share: 0.0005, cluster: 1.0, bursts: None },
    Law { name: "nine tenths of the budget, by chance", share: 0.0009, cluster: 1.0, bursts: None },
    Law { name: "half, in clusters of 10", share: 0.0005, cluster: 10.0, bursts: None },
    Law {
        name: "half, most of it in 6 bursts a day of about 60 s",
        share: 0.0005,
        cluster: 1.0,
        bursts: Some([0.8, 60.0, 6.0]),
    },
];
const RATES: [f64; 5] = [0.1, 1.0, 10.0, 100.0, 1_000.0];

fn main() {
    let arguments = Arguments::parse();
    println!("| failures | requests a second | pages | deploy pages | tickets | reviews |");
    println!("|---|---|---|---|---|---|");
    for (i, law) in LAWS.into_iter().enumerate() {
        for (j, rate) in RATES.into_iter().enumerate() {
            let rng = Rng::with_seed(arguments.seed + (100 * i + j) as u64);
            let told = live(law, rate, arguments.days, rng);
            let told = [told.pages, told.deploy_pages, told.tickets, told.reviews];
            let a_day = told.map(|n| format!("{:.3}", f64::from(n) / arguments.days as f64));
            println!("| {} | {rate} | {} |", law.name, a_day.join(" | "));
        }
    }
}
