//! When a release counts as fast: by the course of its operations, for what it is not, and what the next one is held to.

use fastrand::Rng;

use super::*;
use crate::model::snapshot::{Reader, Snapshot, Writer};
use crate::verdict::Counts;

/// Requests of one operation in a second: `n` of them, about a middle in buckets.
fn cell(rng: &mut Rng, n: u64, middle: f64) -> Cell {
    let bucket = |rng: &mut Rng| {
        // The sum of twelve has a spread of one; 28 buckets are a spread of ln(latency) of 0.6.
        let z: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        (middle + 28.0 * z).floor() as i16
    };
    let latency = (0..n).map(|_| (bucket(rng), 1)).collect();
    Cell { groups: [Counts { requests: n, latency, ..Counts::default() }, Counts::default()], bounds: None }
}

/// How many buckets slower an operation is at an age, and its requests a second.
type Law = fn(f64) -> f64;

fn run(seed: u64, operations: &[(u64, Law)], weather: Law, restart: bool) -> i64 {
    let (mut rng, mut warming) = (Rng::with_seed(seed), Warming::default());
    for age in 0..=600 {
        let at = age as f64;
        let mut cells = [Cells::new(), Cells::new()];
        for (i, (rate, law)) in operations.iter().enumerate() {
            let (name, middle) =
                (Arc::<str>::from(format!("GET /{i}")), -100.0 + 60.0 * i as f64 + weather(at));
            cells[1].insert(Arc::clone(&name), cell(&mut rng, 10, middle));
            if age >= 60 {
                cells[0].insert(name, cell(&mut rng, *rate, middle + law(at)));
            }
        }
        let [new, old] = &cells;
        warming.add(age, 60, [new, old], Timing::default());
        if restart && age % 50 == 0 {
            let mut out = Writer::default();
            warming.save(&mut out);
            let bytes = out.into_bytes();
            let again = Warming::load(&mut Reader::new(&bytes)).unwrap();
            assert_eq!(warming, again);
            warming = again;
        }
    }
    assert!(warming.operations.is_empty(), "nothing is kept of it");
    warming.settled_s.unwrap()
}

/// ln(1 + e^(-t/120)) in buckets: twice as slow, decaying over two minutes.
fn decaying(at: f64) -> f64 {
    (1.0 + (-at / 120.0).exp()).ln() * 32.0 / std::f64::consts::LN_2
}

fn none(_: f64) -> f64 {
    0.0
}

/// Scenario: releases that differ in how they begin, of ten requests a second in three operations of unlike latency.
/// Guarantees: one that is fast from the start, or slow for good, took no more than a little; one that decays takes
/// until 4 to 9 % are left, also where a single operation does; weather that the old version shows too is no part of it.
#[test]
fn a_release_is_fast_when_what_is_left_is_within_the_tolerance() {
    /// What it is called, operations, weather, least and most of the median.
    type Row = (&'static str, [(u64, Law); 3], Law, [i64; 2]);
    let rows: [Row; 6] = [
        ("fast from the start", [(6, none), (3, none), (1, none)], none, [60, 120]),
        ("slower for good", [(6, |_| 9.0), (3, |_| 9.0), (1, |_| 9.0)], none, [60, 120]),
        ("getting slower", [(6, |t| t / 30.0), (3, none), (1, none)], none, [60, 120]),
        ("decaying", [(6, decaying), (3, decaying), (1, decaying)], none, [240, 420]),
        ("one operation decays", [(6, none), (4, decaying), (1, none)], none, [180, 420]),
        ("weather", [(6, none), (3, none), (1, none)], |t| 20.0 * (t / 60.0).sin(), [60, 150]),
    ];
    for (name, operations, weather, [least, most]) in rows {
        let mut all: Vec<i64> = (0..9).map(|seed| run(seed, &operations, weather, seed == 3)).collect();
        all.sort_unstable();
        assert!((least..=most).contains(&all[4]), "{name}: {all:?}");
    }
}

/// Scenario: so little traffic that no window counts; a candidate that is silent after a few requests; wide slots of
/// metrics. Guarantees: of what is not known nothing is learned, of wide slots something is.
#[test]
fn what_was_not_seen_is_not_fast() {
    let quiet = Timing::default();
    let wide = Timing::of_slot(120);
    for (name, timing, rate, until, is_known) in [
        ("one request in four seconds", quiet, 4, 600, false),
        ("silent after two minutes", quiet, 1, 120, false),
        ("ten a second", quiet, 1, 600, true),
        ("slots of two minutes", wide, 1, 600, true),
    ] {
        let (mut rng, mut warming) = (Rng::with_seed(1), Warming::default());
        for age in (0..=720).step_by(timing.slot_s() as usize) {
            let mut cells = Cells::new();
            if age < until && age % rate == 0 {
                let n = if rate == 1 { 10 * timing.slot_s() as u64 } else { 1 };
                cells.insert("GET /".into(), cell(&mut rng, n, 0.0));
            }
            warming.add(age, 60, [&cells, &Cells::new()], timing);
        }
        assert!(warming.is_over(), "{name}");
        assert_eq!(warming.settled_s.is_some(), is_known, "{name}: {:?}", warming.settled_s);
    }
}

#[test]
fn without_a_warm_up_nothing_is_learned() {
    let mut warming = Warming::default();
    let cells = [(Arc::<str>::from("GET /"), cell(&mut Rng::with_seed(1), 9, 0.0))].into_iter().collect();
    for age in 0..=700 {
        warming.add(age, 0, [&cells, &Cells::new()], Timing::default());
    }
    assert_eq!(warming.settled_s, None);
    assert!(warming.operations.is_empty());
}

#[test]
fn the_next_release_waits_as_long_as_the_slowest_but_one() {
    let policy = Policy::default();
    let releases = |seconds: &[i64]| {
        let mut all = EarlierReleases::default();
        seconds.iter().enumerate().for_each(|(i, s)| all.note(&format!("v{i}"), *s));
        all
    };
    let rows: [(&[i64], Option<i64>); 7] = [
        (&[], None),
        (&[60], None),
        (&[60, 90], Some(90)),
        (&[330, 60, 300], Some(330)),
        (&[330, 60, 300, 600], Some(330)),
        (&[570], Some(570)),
        // Only eight are remembered.
        (&[600, 600, 90, 60, 60, 60, 120, 60, 60, 60], Some(90)),
    ];
    for (seconds, expected) in rows {
        assert_eq!(releases(seconds).settle_s(&policy), expected, "{seconds:?}");
    }
    let short = Policy { horizon_s: 400, ..Policy::default() };
    assert_eq!(releases(&[570]).settle_s(&short), Some(260), "half of the horizon is left");
    assert_eq!(releases(&[570]).settle_s(&Policy { warmup_s: 0, ..Policy::default() }), None);
    let mut failed = releases(&[60, 500]);
    assert!(failed.contains("v1"));
    failed.forget("v1");
    assert_eq!(failed.settle_s(&policy), None);
    failed.note("v0", 240);
    assert_eq!(failed.settle_s(&policy), Some(240), "noted again, it counts once");
}
