//! How often a healthy release shows a "new" exception: both versions throw from the same seeded distribution
//! of types with a long tail. The numbers are in `docs/logs.md`; `cargo test --lib chance -- --ignored --nocapture`
//! makes the table again.

use std::sync::Arc;

use super::*;
use crate::exception::Exception;

/// What both versions throw.
#[derive(Debug, Clone, Copy)]
struct Habit {
    /// Exceptions a second of either version at its share of the traffic.
    per_second: f64,
    /// Types there are; the k-th is thrown in proportion to k^-exponent.
    types: usize,
    exponent: f64,
}

/// Deployments with at least one new type, new types a deployment, and what was expected of them.
#[derive(Debug, Default, Clone, Copy)]
struct Rate {
    any: f64,
    types: f64,
    expected: f64,
}

/// `runs` deployments: the baseline is watched for `watched_s`, then the candidate serves `share` of the traffic
/// for 10 minutes beside it.
fn simulate(habit: Habit, watched_s: Slot, share: f64, runs: u32, seed: u64) -> Rate {
    const JUDGED_S: Slot = 600;
    let mut random = fastrand::Rng::with_seed(seed);
    let weights: Vec<f64> = (1..=habit.types).map(|k| (k as f64).powf(-habit.exponent)).collect();
    let total: f64 = weights.iter().sum();
    let names: Vec<Arc<Exception>> =
        (0..habit.types).map(|k| Arc::new(Exception::named(&format!("E{k}"), Box::default()))).collect();
    let [old, new]: [Arc<str>; 2] = ["v1".into(), "v2".into()];
    let mut rate = Rate::default();
    for _ in 0..runs {
        let mut shown = Shown::default();
        for slot in 0..watched_s + JUDGED_S {
            let is_beside = slot >= watched_s;
            let arms = [
                (&old, if is_beside { 1.0 - share } else { 1.0 }),
                (&new, if is_beside { share } else { 0.0 }),
            ];
            for (version, part) in arms.into_iter().filter(|(_, part)| *part > 0.0) {
                let mean = habit.per_second * part;
                // Poisson by a fine grid: at most one in a 64th of a second is near enough.
                for _ in 0..64 {
                    if random.f64() < mean / 64.0 {
                        let mut at = random.f64() * total;
                        let kind = weights
                            .iter()
                            .position(|w| {
                                at -= w;
                                at <= 0.0
                            })
                            .unwrap_or(0);
                        let occurrence = Occurrence { slot, counts: true, ..Occurrence::default() };
                        shown.show(version, &names[kind], &occurrence);
                    }
                }
                shown.second(version, slot);
            }
        }
        let news = shown.news("v2", Some("v1"), watched_s, watched_s + JUDGED_S, true);
        rate.any += f64::from(u8::from(!news.new.is_empty()));
        rate.types += news.new.len() as f64;
        rate.expected += news.expected;
    }
    let runs = f64::from(runs);
    Rate { any: rate.any / runs, types: rate.types / runs, expected: rate.expected / runs }
}

/// What the docs say of one cell of the table, with fewer runs.
#[test]
fn l4_a_healthy_release_shows_few_new_types_and_chance_says_how_many() {
    let habit = Habit { per_second: 1.0, types: 200, exponent: 1.5 };
    let rate = simulate(habit, 1800, 0.1, 60, 1);
    assert!((0.3..2.0).contains(&rate.types), "{rate:?}");
    assert!((rate.types - rate.expected).abs() < 0.5, "{rate:?}");
    let steady = simulate(Habit { types: 5, ..habit }, 1800, 0.1, 60, 2);
    assert!(steady.any < 0.05, "{steady:?}");
}

#[test]
#[ignore = "makes the table of the documentation"]
fn table() {
    println!("| types | exponent | per s | share | watched | any new | new types | expected |");
    println!("|---|---|---|---|---|---|---|---|");
    for (types, exponent) in [(5, 1.0), (50, 1.5), (200, 1.5), (200, 2.0)] {
        for per_second in [0.1, 1.0] {
            for (share, watched_s) in [(0.1, 300), (0.1, 1800), (0.5, 300), (0.5, 1800)] {
                let habit = Habit { per_second, types, exponent };
                let rate = simulate(habit, watched_s, share, 500, 7);
                println!(
                    "| {types} | {exponent} | {per_second} | {:.0} % | {} min | {:.0} % | {:.2} | {:.2} |",
                    100.0 * share,
                    watched_s / 60,
                    100.0 * rate.any,
                    rate.types,
                    rate.expected
                );
            }
        }
    }
}
