//! A small version of the simulation of `examples/simulate`, with bounds that a broken judge does not keep. No
//! I/O, no clock, fixed seeds: the same table each time. `cargo test --test sim -- --nocapture` shows it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may end by a panic and may say what it found"
)]
#![allow(dead_code, reason = "the example uses what the test does not")]

#[path = "../../examples/simulate/cells.rs"]
mod cells;
#[path = "../../examples/simulate/churn.rs"]
mod churn;
#[path = "../../examples/alerts/days.rs"]
mod days;
#[path = "../../examples/simulate/dimensions.rs"]
mod dimensions;
#[path = "../../examples/simulate/exports.rs"]
mod exports;
#[path = "../../examples/simulate/gates.rs"]
mod gates;
#[path = "../../examples/simulate/gauges.rs"]
mod gauges;
#[path = "../../examples/simulate/other_days.rs"]
mod other_days;
#[path = "../../examples/simulate/power.rs"]
mod promises;
#[path = "../../examples/simulate/run.rs"]
mod run;
#[path = "../../examples/simulate/samplers.rs"]
mod samplers;
#[path = "../../examples/simulate/scenario.rs"]
mod scenario;
#[path = "../../examples/simulate/traffic.rs"]
mod traffic;

mod alerts;
mod power;
mod young;

use cells::{Cell, Expect, cells};
use gates::Bound;
use run::{Length, Row, run};

const SEED: u64 = 20;

/// What a row does not keep of its cell's gate.
fn complaints(row: &Row) -> Vec<String> {
    let (gate, mut found) = (row.cell.gate, Vec::new());
    if row.false_fails > gate.false_fails {
        found.push(format!("{} false fails, at most {}", row.false_fails, gate.false_fails));
    }
    if (row.passes as f64) < gate.passed * row.runs as f64 {
        found.push(format!("{} passes of {}, at least {}", row.passes, row.runs, gate.passed));
    }
    match row.cell.expect {
        Expect::Healthy => {}
        // A wrong PASS has a probability of at most 5 %.
        Expect::AtPassMargin if row.passes * 10 > row.runs => {
            found.push(format!("{} wrong passes", row.passes));
        }
        Expect::AtPassMargin => {}
        Expect::Told { .. } if row.passes > 0 => found.push(format!("{} passes", row.passes)),
        Expect::Worse { .. } | Expect::Told { .. } => {
            if row.detected() < gate.detected {
                found.push(format!("found in {:.2}, at least {}", row.detected(), gate.detected));
            }
            if row.delay_s(0.5).is_some_and(|s| s > gate.median_s) {
                found.push(format!("median {:?} s, at most {}", row.delay_s(0.5), gate.median_s));
            }
        }
    }
    found.into_iter().map(|what| format!("{} ({}): {what}", row.cell.name, row.cell.sending.name)).collect()
}

fn check(cells: impl Iterator<Item = Cell>) {
    let mut found = Vec::new();
    println!("{}", Row::HEAD);
    for cell in cells.filter(|c| c.gate.seconds > 0 && gates::of(c).is_none_or(|b| b == Bound::KnownBad)) {
        let row = run(
            &cell,
            cell.gate.runs,
            Length { history_s: cell.gate.history_s, seconds: cell.gate.seconds },
            SEED,
        );
        println!("{}", row.markdown());
        found.extend(complaints(&row));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Scenario: the rows of the published table, a hundred deployments each. Guarantees: their bounds, as far as a
/// hundred can tell.
#[test]
fn published_rows_keep_their_bounds() {
    let mut broken = Vec::new();
    println!("{}", gates::head());
    for held in gates::held() {
        let length = |cell: &Cell| Length { history_s: cell.gate.history_s, seconds: cell.gate.seconds };
        let row = held.play(100, length, SEED);
        println!("{row}");
        broken.extend(row.contains("BROKEN").then_some(row));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Scenario: instances that die on one request in two hundred, and fleets that scale, are rolled out or lose a node, a
/// hundred deployments each. Guarantees: the first are flagged within five minutes, hardly one of the others fails.
#[test]
fn instances_that_die_are_told_from_fleets_that_scale() {
    let mut broken = Vec::new();
    println!("{}", churn::Tally::HEAD);
    for situation in &churn::SITUATIONS {
        let row = churn::tally(situation, 100, SEED).markdown(situation);
        println!("{row}");
        broken.extend(row.contains("BROKEN").then_some(row));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Scenario: candidates as good as the baseline. Guarantees: hardly a false fail; no PASS at its margin.
#[test]
fn healthy_candidates_are_left_alone() {
    check(cells().into_iter().filter(|c| !matches!(c.expect, Expect::Worse { .. })));
}

/// Scenario: worse candidates. Guarantees: nearly all are found, about as fast as the method promises.
#[test]
fn worse_candidates_are_found() {
    check(cells().into_iter().filter(|c| matches!(c.expect, Expect::Worse { .. })));
}

/// A situation by name: fails without other days and with them, of 40.
fn with_other_days(name: &str) -> [u64; 2] {
    let situation = other_days::situations().into_iter().find(|one| one.name == name).unwrap();
    let fails = situation.run(40, SEED);
    println!("{}", situation.markdown(fails));
    [fails.without, fails.with]
}

#[test]
fn what_recurs_each_day_is_withheld_and_a_fault_is_not() {
    let [without, with] = with_other_days("a job fails 5 % for five minutes, each day");
    assert!(without >= 30 && with <= 6, "{without} {with}");
    let [without, with] = with_other_days("errors 0.1 -> 5 %, yesterday was well");
    assert!(without >= 38 && with + 1 >= without, "{without} {with}");
}
