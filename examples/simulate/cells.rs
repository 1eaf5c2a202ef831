//! The table of simulated situations, with what the judge owes in each.

use rollguard::verdict::{Flag, RegionAction};

use crate::dimensions::{CLIENTS, Dimensions, REGIONS};
use crate::scenario::{
    ALL_NOISES, BOTH, CHANCE, Change, EXPONENTIAL_15_S, HALF, LARGE, LONG, Load, METRICS_15_S, METRICS_60_S,
    Noise, QUARTER, REFERENCE, REGIONAL, SAME, SINGLE, SMALL_SHARE, SPANS, SPARSE, Scenario, Sending,
    TAKEN_OVER, TAKEN_OVER_LARGE, TENTH, UNEQUAL, UNEVEN, many,
};

/// What a cell must show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Expect {
    /// The candidate is as good as the baseline: no fail.
    Healthy,
    /// The candidate is worse from `onset_s` on: a fail, not earlier.
    Worse {
        /// Seconds after the candidate's first.
        onset_s: i64,
    },
    /// Nothing is worse, but something must be said: a flag, and neither a fail nor a pass.
    Told {
        /// Seconds after the candidate's first.
        onset_s: i64,
        /// What is said.
        flag: Flag,
    },
    /// The candidate is exactly at the margin that a PASS must exclude: no PASS; a fail is right too.
    AtPassMargin,
}

/// Bounds for the small run in the tests. Wide enough for its chance, narrow enough for a broken judge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate {
    /// Runs.
    pub(crate) runs: usize,
    /// Seconds after the candidate's first; 0 for what is too long for a test.
    pub(crate) seconds: i64,
    /// Seconds of the baseline alone before it. Short where traffic is dense, to save time: the judge is
    /// slower by it, but no less right.
    pub(crate) history_s: i64,
    /// Most false fails, of all runs.
    pub(crate) false_fails: usize,
    /// Least share of runs in which a worse candidate is found.
    pub(crate) detected: f64,
    /// Longest median delay, seconds.
    pub(crate) median_s: i64,
    /// Least share of runs that pass.
    pub(crate) passed: f64,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// What happens.
    pub(crate) name: &'static str,
    /// The situation.
    pub(crate) scenario: Scenario,
    /// What the service sends.
    pub(crate) sending: Sending,
    /// What is owed.
    pub(crate) expect: Expect,
    /// The test's bounds.
    pub(crate) gate: Gate,
}

fn healthy(name: &'static str, scenario: Scenario) -> Cell {
    let (runs, history_s) = effort(&scenario);
    let gate =
        Gate { runs, seconds: 480, history_s, false_fails: 1, detected: 0.0, median_s: 0, passed: 0.0 };
    Cell { name, scenario, sending: SPANS, expect: Expect::Healthy, gate }
}

fn worse(name: &'static str, scenario: Scenario, median_s: i64) -> Cell {
    let seconds = match scenario.load.rates {
        _ if scenario.change.from_s > 900 => 0,
        [few, _] if few < 1.0 => 1800,
        _ => 600,
    };
    let (runs, history_s) = effort(&scenario);
    let gate = Gate { runs, seconds, history_s, false_fails: 0, detected: 0.9, median_s, passed: 0.0 };
    let expect = Expect::Worse { onset_s: scenario.change.from_s };
    Cell { name, scenario, sending: SPANS, expect, gate }
}

/// Runs and seconds of history in a test, by what they cost.
fn effort(scenario: &Scenario) -> (usize, i64) {
    match scenario.load.rates[1] {
        many if many > 1000.0 => (15, 300),
        some if some > 20.0 => (30, 300),
        _ => (40, 1800),
    }
}

fn with(load: Load, noise: Noise) -> Scenario {
    Scenario { noise, ..Scenario::healthy(load) }
}

fn changed(load: Load, change: Change) -> Scenario {
    Scenario { change, ..Scenario::healthy(load) }
}

fn errors(times: f64) -> Change {
    Change { errors_times: times, ..SAME }
}

fn latency(times: f64) -> Change {
    Change { latency_times: times, ..SAME }
}

/// On the law of latencies that the method was designed on.
fn on_reference(scenario: Scenario) -> Scenario {
    Scenario { operations: REFERENCE, ..scenario }
}

fn everything(load: Load) -> Scenario {
    Scenario { operations: UNEVEN, ..with(load, ALL_NOISES) }
}

fn gone(load: Load, noise: Noise, change: Change) -> Scenario {
    Scenario { baseline_ends: true, change, ..with(load, noise) }
}

/// All cells, healthy ones first.
pub(crate) fn cells() -> Vec<Cell> {
    let mut all = disturbances();
    all.extend(special_shapes());
    all.extend(before_after());
    all.extend(regressions());
    all.extend(releases());
    all.extend(dimensions());
    all.extend(metrics());
    all
}

/// Services that send metrics, every instance in its own phase.
fn metrics() -> Vec<Cell> {
    let sent = |sending, mut cell: Cell| {
        cell.gate = Gate { runs: 10, seconds: cell.gate.seconds.max(600), history_s: 600, ..cell.gate };
        Cell { sending, ..cell }
    };
    let shared = Noise { shared_bursts: Some([1.5, 20.0]), ..CHANCE };
    let clusters = Noise { cluster: 3.0, ..CHANCE };
    let bursts = Noise { instance_bursts: Some([600.0, 5.0, 0.2]), ..CHANCE };
    let slowdowns = Noise { slowdowns: 0.2, ..CHANCE };
    let mut cells = Vec::new();
    for sending in [METRICS_15_S, METRICS_60_S, EXPONENTIAL_15_S, BOTH] {
        for (name, noise) in [
            ("nothing but chance", CHANCE),
            ("shared error bursts", shared),
            ("errors in clusters of 3", clusters),
            ("error bursts of single instances", bursts),
            ("shared slowdowns", slowdowns),
            ("everything at once", ALL_NOISES),
        ] {
            cells.push(sent(sending, healthy(name, with(QUARTER, noise))));
        }
    }
    // Medians: the warm-up, what is young to its end, three blocks, and the phase of the export.
    for (sending, [outage, errors_s, slower]) in [
        (METRICS_15_S, [90, 150, 240]),
        (METRICS_60_S, [290, 370, 470]),
        (EXPONENTIAL_15_S, [90, 150, 180]),
        (BOTH, [30, 100, 110]),
    ] {
        cells.push(sent(sending, worse("outage, 50 % errors", changed(QUARTER, errors(500.0)), outage)));
        cells.push(sent(sending, worse("errors 0.1 -> 5 %", changed(QUARTER, errors(50.0)), errors_s)));
        cells.push(sent(sending, worse("latency x2", changed(QUARTER, latency(2.0)), slower)));
    }
    cells
}

/// Healthy candidates under each disturbance by itself, and under all together.
fn disturbances() -> Vec<Cell> {
    let shared = Noise { shared_bursts: Some([1.5, 20.0]), ..CHANCE };
    let clusters = Noise { cluster: 3.0, ..CHANCE };
    let bursts = Noise { instance_bursts: Some([600.0, 5.0, 0.2]), ..CHANCE };
    let unlike = Noise { error_spread: 0.3, latency_spread: 0.02, ..CHANCE };
    let slowdowns = Noise { slowdowns: 0.2, ..CHANCE };
    let pauses = Noise { pauses: Some([120.0, 0.4]), ..CHANCE };
    let cold = Change { until_s: 60, errors_times: 10.0, latency_times: 3.0, ..SAME };
    let mut chance = healthy("nothing but chance", with(LARGE, CHANCE));
    chance.gate.passed = 0.9;
    // Long enough to see what an evaluator would do that takes every error for an incident of its own.
    let mut few_instances = healthy("error bursts of single instances", with(HALF, bursts));
    few_instances.gate.seconds = 1800;
    few_instances.gate.false_fails = 2;
    vec![
        chance,
        healthy("nothing but chance", with(SMALL_SHARE, CHANCE)),
        healthy("nothing but chance", with(HALF, CHANCE)),
        healthy("shared error bursts", with(SMALL_SHARE, shared)),
        healthy("shared error bursts", with(HALF, shared)),
        healthy("errors in clusters of 3", with(SMALL_SHARE, clusters)),
        healthy("errors in clusters of 3", with(HALF, clusters)),
        healthy("error bursts of single instances", with(SMALL_SHARE, bursts)),
        few_instances,
        healthy("unlike instances", with(SMALL_SHARE, unlike)),
        healthy("shared slowdowns", with(SMALL_SHARE, slowdowns)),
        healthy("pauses (garbage collection)", with(SMALL_SHARE, pauses)),
        healthy("everything at once", everything(SMALL_SHARE)),
        healthy("everything at once", everything(LARGE)),
        healthy("cold start: errors x10, latency x3 for 60 s", changed(SMALL_SHARE, cold)),
    ]
}

/// Healthy candidates whose traffic has an unusual shape.
fn special_shapes() -> Vec<Cell> {
    let slow = |load| Scenario { slow_start: 2.0, ..Scenario::healthy(load) };
    let long = Scenario { operations: LONG, warmup_s: 0, ..Scenario::healthy(HALF) };
    let mix: &[f64] = &[0.3, 0.2, 0.15, 0.2, 0.15];
    let mixed = Scenario { operations: UNEVEN, mix: Some(mix), ..Scenario::healthy(SMALL_SHARE) };
    let renamed = Scenario { renamed: true, ..Scenario::healthy(SMALL_SHARE) };
    let sparse = Scenario { operations: SINGLE, ..Scenario::healthy(SPARSE) };
    let forty = Scenario { operations: many(), ..with(SMALL_SHARE, ALL_NOISES) };
    let clusters = with(HALF, Noise { cluster: 3.0, ..CHANCE });
    let sampled = |sampled| Scenario { sampled, ..clusters };
    let job = |from_s| Change { from_s, until_s: from_s + 60, errors_plus: 0.05, ..SAME };
    let late_job = gone(TAKEN_OVER, CHANCE, job(600));
    let mut cells = vec![
        healthy("slow start: x2, decaying over 2 min, three operations", slow(SMALL_SHARE)),
        healthy("slow start: x2, decaying over 2 min", on_reference(slow(SMALL_SHARE))),
        healthy("slow start: x2, decaying over 2 min", on_reference(slow(LARGE))),
        healthy("long requests beside fast failures", long),
        healthy("another mix of operations", mixed),
        healthy("renamed operations", renamed),
        healthy("sparse traffic, 1 % errors", sparse),
        healthy("200 comparisons, everything at once", forty),
        healthy("sampled, one in ten, clusters of 3", sampled(TENTH)),
        healthy("sampled, baseline one in ten, clusters of 3", sampled(UNEQUAL)),
        healthy("baseline gone", gone(TAKEN_OVER, CHANCE, SAME)),
        healthy("baseline gone, everything at once", gone(TAKEN_OVER, ALL_NOISES, SAME)),
        healthy("baseline gone, slowdowns", gone(TAKEN_OVER, Noise { slowdowns: 0.2, ..CHANCE }, SAME)),
        healthy("baseline gone, hourly job 10 min after", late_job),
    ];
    // Settling cannot see a slow decay in ten requests a second: `docs/statistics.md`, section 6.
    cells[0].gate.false_fails = 15;
    cells[1].gate.false_fails = 5;
    if let Some(last) = cells.last_mut() {
        last.gate.seconds = 780;
    }
    let margin = [errors(3.0), latency(2f64.powf(10.0 / 32.0))];
    for (name, change) in
        ["errors at the margin of PASS", "latency at the margin of PASS"].into_iter().zip(margin)
    {
        let mut cell = healthy(name, changed(HALF, change));
        cell.expect = Expect::AtPassMargin;
        cell.gate.seconds = 1800;
        cells.push(cell);
    }
    cells
}

/// Changes without a version: the same instances before and after a time.
fn before_after() -> Vec<Cell> {
    let same = |load, noise| Scenario { before_after: true, ..with(load, noise) };
    let of_day = |load, noise| Scenario { cycle: 2.0, ..same(load, noise) };
    let slowdowns = Noise { slowdowns: 0.2, ..CHANCE };
    let changed = |load, change| Scenario { change, ..same(load, CHANCE) };
    let late = Change { from_s: 301, errors_times: 50.0, ..SAME };
    let mut cells = vec![
        healthy("before/after, nothing but chance", same(TAKEN_OVER, CHANCE)),
        healthy("before/after, nothing but chance", same(TAKEN_OVER_LARGE, CHANCE)),
        healthy("before/after, cycle of 24 h, 2x", of_day(TAKEN_OVER, CHANCE)),
        healthy("before/after, cycle of 24 h, 2x", of_day(TAKEN_OVER_LARGE, CHANCE)),
        healthy("before/after, slowdowns, cycle of 24 h, 2x", of_day(TAKEN_OVER, slowdowns)),
        healthy("before/after, everything at once, cycle of 24 h, 2x", of_day(TAKEN_OVER, ALL_NOISES)),
        // Told, and no fail.
        healthy("before/after, errors x50 after five minutes", changed(TAKEN_OVER, late)),
        worse("before/after, outage, 50 % errors", changed(TAKEN_OVER, errors(500.0)), 30),
        worse("before/after, errors 0.1 -> 5 %", changed(TAKEN_OVER, errors(50.0)), 60),
        worse("before/after, errors 0.1 -> 1 %", changed(TAKEN_OVER_LARGE, errors(10.0)), 60),
        worse("before/after, latency x2", changed(TAKEN_OVER, latency(2.0)), 60),
    ];
    // At most 4 % with the chance of so few runs: `docs/simulation.md`.
    for cell in cells.iter_mut().filter(|cell| cell.expect == Expect::Healthy) {
        (cell.gate.runs, cell.gate.false_fails) = (60, 3);
    }
    cells
}

/// Services whose earlier releases took their time to get fast, and one whose did not.
fn releases() -> Vec<Cell> {
    let third = |scenario| Scenario { releases_before: 2, ..scenario };
    let slow = |change| third(Scenario { slow_start: 2.0, ..changed(SMALL_SHARE, change) });
    let taken_over = |change| third(Scenario { slow_start: 2.0, ..changed(TAKEN_OVER_LARGE, change) });
    let mut cells = vec![
        healthy("third release that starts slowly, three operations", slow(SAME)),
        worse("third release that starts slowly, latency +50 %", slow(latency(1.5)), 480),
        worse(
            "third release that starts at once, latency +20 %",
            third(changed(SMALL_SHARE, latency(1.2))),
            330,
        ),
        healthy("third release that takes over and starts slowly", taken_over(SAME)),
        worse("third release that takes over and starts slowly, latency x2", taken_over(latency(2.0)), 480),
    ];
    cells.iter_mut().for_each(|cell| cell.gate.seconds = 900);
    cells
}

/// Requests told apart by region and by kind of client, of which the versions serve different shares; and a candidate
/// that stops showing any.
fn dimensions() -> Vec<Cell> {
    let regions = Dimensions {
        regions: REGIONS,
        is_placed: true,
        clients: &[],
        action: RegionAction::Fail,
        only_in: None,
    };
    let both = Dimensions { is_placed: false, clients: CLIENTS, ..regions };
    let one = Dimensions { only_in: Some("us-1"), ..regions };
    let of = |dimensions, scenario| Scenario { dimensions: Some(dimensions), ..scenario };
    let silent_from_s = 330;
    let silent = Scenario { silent_from_s, ..Scenario::healthy(QUARTER) };
    let mut falls_silent = healthy("candidate falls silent before its PASS", silent);
    falls_silent.expect = Expect::Told { onset_s: silent_from_s, flag: Flag::CandidateSilent };
    vec![
        healthy("regions and clients, another mix, everything at once", of(both, with(QUARTER, ALL_NOISES))),
        healthy("regions with instances of their own, everything at once", of(regions, everything(REGIONAL))),
        worse("one of four regions, errors 0.1 -> 5 %", of(one, changed(REGIONAL, errors(50.0))), 120),
        worse("one of four regions, latency x1.5", of(one, changed(REGIONAL, latency(1.5))), 180),
        falls_silent,
    ]
}

/// Worse candidates.
fn regressions() -> Vec<Cell> {
    let late = |from_s| Change { from_s, errors_times: 10.0, ..SAME };
    let soon = Change { from_s: 120, until_s: 180, errors_plus: 0.05, ..SAME };
    let renamed = Scenario { renamed: true, ..changed(SMALL_SHARE, errors(50.0)) };
    let sparse = Scenario { operations: SINGLE, ..changed(SPARSE, errors(10.0)) };
    // It cannot be told from the version's fault: `docs/statistics.md`, section 8.
    let job = gone(TAKEN_OVER, CHANCE, soon);
    let mut failed_by_a_job =
        worse("baseline gone, hourly job 2 min after (no fault of the version)", job, 60);
    failed_by_a_job.gate.detected = 0.7;
    let noisy = |times| Scenario { change: errors(times), ..everything(LARGE) };
    vec![
        worse("outage, 50 % errors", changed(SMALL_SHARE, errors(500.0)), 18),
        worse("outage, 50 % errors", changed(LARGE, errors(500.0)), 18),
        worse("errors 0.1 -> 5 %", changed(SMALL_SHARE, errors(50.0)), 100),
        worse("errors 0.1 -> 5 %", changed(LARGE, errors(50.0)), 80),
        worse("errors 0.1 -> 1 %", changed(SMALL_SHARE, errors(10.0)), 260),
        worse("errors 0.1 -> 1 %", changed(LARGE, errors(10.0)), 90),
        worse("latency +20 %, three operations", changed(SMALL_SHARE, latency(1.2)), 300),
        worse("latency +20 %", on_reference(changed(SMALL_SHARE, latency(1.2))), 180),
        worse("latency +20 %", on_reference(changed(LARGE, latency(1.2))), 95),
        worse("latency +50 %", on_reference(changed(SMALL_SHARE, latency(1.5))), 95),
        worse("latency x2", on_reference(changed(SMALL_SHARE, latency(2.0))), 90),
        worse("latency x2", on_reference(changed(LARGE, latency(2.0))), 90),
        worse("errors x10 from minute 5 on", changed(LARGE, late(300)), 45),
        worse("errors x10 from minute 20 on", changed(SMALL_SHARE, late(1200)), 300),
        worse("errors x10 from minute 20 on", changed(LARGE, late(1200)), 45),
        worse("errors x10, everything at once", noisy(10.0), 240),
        worse("renamed operations, errors 0.1 -> 5 %", renamed, 110),
        worse("sparse traffic, errors 1 -> 10 %", sparse, 1100),
        worse("baseline gone, errors 0.1 -> 5 %", gone(TAKEN_OVER, CHANCE, errors(50.0)), 110),
        worse("baseline gone, errors 0.1 -> 1 %", gone(TAKEN_OVER_LARGE, CHANCE, errors(10.0)), 110),
        worse("baseline gone, latency x2", gone(TAKEN_OVER, CHANCE, latency(2.0)), 100),
        failed_by_a_job,
    ]
}
