//! From many e-values to what people read: which SLIs are degraded, how much worse, and a score.

/// Indices of the SLIs that are degraded, at a false discovery rate of `rate` (e-BH: Wang and Ramdas 2022),
/// in ascending order.
pub fn degraded_list(ln_e: &[f64], rate: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ln_e.len()).collect();
    order.sort_by(|&a, &b| ln_e[b].total_cmp(&ln_e[a]).then(a.cmp(&b)));
    let count = ln_e.len() as f64;
    let last = (0..order.len()).rev().find(|&k| ln_e[order[k]] >= (count / (rate * (k + 1) as f64)).ln());
    let mut rejected: Vec<usize> = last.map_or_else(Vec::new, |k| order[..=k].to_vec());
    rejected.sort_unstable();
    rejected
}

/// Ratio of two bad rates with a 95 % interval that is valid at every look: `[ratio, low, high]`. `counts`
/// are candidate requests, bad ones, baseline requests, bad ones; `phi` is the dispersion. `None` without
/// requests in both. Section 7.6.
pub fn ratio_interval(counts: [f64; 4], phi: f64) -> Option<[f64; 3]> {
    const RHO: f64 = 4.0;
    let [n_c, x_c, n_b, x_b] = counts;
    if n_c <= 0.0 || n_b <= 0.0 {
        return None;
    }
    let ratio = (x_c + 0.5) / n_c / ((x_b + 0.5) / n_b);
    let information = 1.0 / (phi * (1.0 / (x_c + 0.5) + 1.0 / (x_b + 0.5)));
    let width = (information + RHO) * (((information + RHO) / RHO).ln() + 2.0 * 20f64.ln());
    let half = width.sqrt() / information;
    Some([ratio, ratio * (-half).exp(), ratio * half.exp()])
}

/// 0 (fail) to 100 (proven not worse) from the fractions of the way to either verdict. Section 7.6.
pub fn score(fail_fraction: f64, pass_fraction: f64) -> f64 {
    let (fail, pass) = (fail_fraction.clamp(0.0, 1.0), pass_fraction.clamp(0.0, 1.0));
    if fail >= 1.0 { 0.0 } else { 50.0 * (1.0 + pass - fail) }
}
