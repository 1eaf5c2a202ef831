//! Every vector of `tests/golden/statistics-vectors.json` that concerns increments and processes, to 1e-9.

use serde_json::Value;

use super::{EProcess, Rhythm, WatchProcess};
use crate::stats::{LADDER, LADDER_PASS, STEPS, Steps, Term, block_cap, lower_bound, upper_bound};
use crate::stats::{degraded_list, ln_sum_exp, ratio_interval, score};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/statistics-vectors.json")).unwrap()
}

#[track_caller]
fn near(got: f64, want: &Value) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{got} is not {want}");
}

fn num(v: &Value, key: &str) -> f64 {
    v[key].as_f64().unwrap_or_else(|| panic!("no {key} in {v}"))
}

fn list(v: &Value, key: &str) -> Vec<f64> {
    v[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn rate_ratio(v: &Value, r0: &str, delta: &str) -> Term {
    Term::RateRatio {
        n_c: num(v, "n_c"),
        x_c: num(v, "x_c"),
        n_b: num(v, "n_b"),
        x_b: num(v, "x_b"),
        r0: num(v, r0),
        delta: num(v, delta),
        c: num(v, "cbar"),
    }
}

#[test]
fn constants() {
    let v = vectors();
    assert_eq!(list(&v, "ladder_fail"), LADDER);
    assert_eq!(list(&v, "ladder_pass"), LADDER_PASS);
    near(block_cap(num(&v, "alpha")), &v["cap_nats"]);
}

#[test]
fn rate_ratio_increments() {
    for case in vectors()["increment_fail"].as_array().unwrap() {
        near(rate_ratio(case, "r0", "delta").nats(num(case, "g")), &case["ell"]);
    }
}

#[test]
fn under_the_null_the_expectation_is_one() {
    // Poisson incidents of geometric size: the law under which the increment is exactly fair.
    for case in vectors()["null_expectation_is_one"].as_array().unwrap() {
        let (n_c, n_b, p, r0) = (num(case, "n_c"), num(case, "n_b"), num(case, "p_b"), num(case, "r0"));
        let (c, g) = (num(case, "cbar"), num(case, "g"));
        let b = (n_c * r0 + n_b) / (n_c * r0 * g + n_b);
        let log_mgf = |ratio: f64| {
            let z = c * ratio / (1.0 + ratio * (c - 1.0));
            (z - 1.0) / (c - (c - 1.0) * z)
        };
        let total = n_c * r0 * p * log_mgf(g * b) + n_b * p * log_mgf(b);
        near(total.exp(), &case["mean_exp_ell"]);
    }
}

fn path_terms(v: &Value) -> Vec<Steps> {
    let columns: Vec<Vec<f64>> = ["n_c", "x_c", "n_b", "x_b"].iter().map(|k| list(v, k)).collect();
    (0..columns[0].len())
        .map(|t| {
            let [n_c, x_c, n_b, x_b] = std::array::from_fn(|i| columns[i][t]);
            let mut nats = [0.0; STEPS];
            Term::RateRatio {
                n_c,
                x_c,
                n_b,
                x_b,
                r0: num(v, "r0"),
                delta: num(v, "delta"),
                c: num(v, "cbar"),
            }
            .add_to(&mut nats, &LADDER);
            nats
        })
        .collect()
}

#[test]
fn e_process_path() {
    let all = vectors();
    let v = &all["e_process_path"];
    let mut process = EProcess::new(10, 0, num(v, "cap"), 40, Rhythm { restart_s: 10, ..Rhythm::SECONDS });
    for (t, (nats, want)) in path_terms(v).iter().zip(v["lnE"].as_array().unwrap()).enumerate() {
        process.add(t as i64, nats);
        near(process.ln_e(), want);
    }
}

#[test]
fn watch_path() {
    let all = vectors();
    let v = &all["e_process_path"];
    let mut watch =
        WatchProcess::with_unit(10, 0, num(v, "cap"), Rhythm { restart_s: 10, ..Rhythm::SECONDS }, 1.0);
    for (t, (nats, want)) in
        path_terms(v).iter().zip(all["watch_path"]["lnR"].as_array().unwrap()).enumerate()
    {
        watch.add(t as i64, nats);
        near(watch.ln_r(), want);
    }
}

#[test]
fn pass_increments() {
    for case in vectors()["pass_single_slot"].as_array().unwrap() {
        let term = rate_ratio(case, "r1", "delta1");
        let nats: Vec<f64> = LADDER_PASS.iter().map(|&g| term.nats(g)).collect();
        nats.iter().zip(case["ell"].as_array().unwrap()).for_each(|(got, want)| near(*got, want));
        near(ln_sum_exp(nats.iter().copied()) - 5f64.ln(), &case["lnE"]);
    }
}

#[test]
fn bernoulli_increments() {
    for case in vectors()["bernoulli_increment"].as_array().unwrap() {
        let term = Term::Bernoulli {
            n_c: num(case, "n_c"),
            x_c: num(case, "x_c"),
            n_b: num(case, "n_b"),
            x_b: num(case, "x_b"),
            p: num(case, "p_hat"),
            phi: num(case, "phi"),
        };
        near(term.nats(num(case, "odds")), &case["ell"]);
    }
}

#[test]
fn burn_and_remembered() {
    for case in vectors()["burn_single_window"].as_array().unwrap() {
        let p0 = num(case, "burn_limit") * num(case, "error_budget");
        let term = Term::OneSample { n: num(case, "n"), x: num(case, "bad"), p0, c: num(case, "cbar") };
        near(ln_sum_exp(LADDER.iter().map(|&g| term.nats(g))) - 10f64.ln(), &case["lnE"]);
    }
    for case in vectors()["remembered"].as_array().unwrap() {
        let p0 = upper_bound(num(case, "X"), num(case, "N"), num(case, "k")).max(num(case, "floor"));
        near(p0, &case["p0"]);
        let term = Term::OneSample { n: num(case, "n"), x: num(case, "x"), p0, c: num(case, "cbar") };
        near(term.nats(num(case, "g")), &case["ell"]);
    }
    assert_eq!(lower_bound(1.0, 10.0), 0.0);
}

#[test]
fn intervals_verdict_and_list() {
    let all = vectors();
    for case in all["ratio_interval"].as_array().unwrap() {
        let counts = ["n_c", "x_c", "n_b", "x_b"].map(|k| num(case, k));
        let [ratio, low, high] = ratio_interval(counts, num(case, "phi")).unwrap();
        near(ratio, &case["ratio"]);
        near(low, &case["lo"]);
        near(high, &case["hi"]);
    }
    let v = &all["verdict"];
    let ln_e = list(v, "lnE_fail");
    let bar = ln_sum_exp(
        ln_e.iter().zip(list(v, "weights")).map(|(e, w)| e + w.ln()).collect::<Vec<_>>().into_iter(),
    );
    near(bar, &v["lnE_bar"]);
    near(score(bar / 100f64.ln(), num(v, "pass_fraction")), &v["score"]);
    let ebh = &v["ebh"];
    let values: Vec<f64> = list(ebh, "e_values").iter().map(|e| e.ln()).collect();
    let want: Vec<usize> = list(ebh, "rejected_indices").iter().map(|&i| i as usize).collect();
    assert_eq!(degraded_list(&values, num(ebh, "fdr")), want);
}
