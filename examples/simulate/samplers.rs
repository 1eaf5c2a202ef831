//! Random numbers with the laws that traffic follows: Poisson arrivals, binomial and geometric failures, gamma
//! bursts, log-normal latencies. All from one seeded generator, so that a run can be repeated.

use std::sync::LazyLock;

use fastrand::Rng;

/// Largest mean that is drawn in one piece: `exp(-mean)` must stay far from underflow.
const POISSON_PIECE: f64 = 30.0;
/// Up to this many trials each one is drawn by itself.
const FEW_TRIALS: u64 = 16;
/// Equally likely steps in which the normal law is tabulated; the last lies at 4 standard deviations.
const NORMAL_STEPS: usize = 1 << 14;

/// Middles of equally likely slices of the standard normal law, in ascending order.
static NORMAL: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let mut middles = Vec::with_capacity(NORMAL_STEPS);
    let (mut z, mut below) = (-6.0_f64, 1e-9);
    let width = 1e-4;
    for i in 0..NORMAL_STEPS {
        let wanted = (i as f64 + 0.5) / NORMAL_STEPS as f64;
        while below < wanted {
            below += width * density(z + width / 2.0);
            z += width;
        }
        middles.push(z as f32);
    }
    middles
});

fn density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}

/// A standard normal variable.
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    f64::from(NORMAL[rng.u32(..) as usize % NORMAL_STEPS])
}

/// Several standard normal variables; four from each 64 random bits, because latencies need very many.
pub(crate) fn normals(rng: &mut Rng, n: u64, mut each: impl FnMut(f32)) {
    let table: &[f32] = &NORMAL;
    let mut bits = 0;
    for i in 0..n {
        if i % 4 == 0 {
            bits = rng.u64(..);
        }
        each(table[bits as usize % NORMAL_STEPS]);
        bits >>= 16;
    }
}

/// An exponential variable.
pub(crate) fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.f64()).ln()
}

/// A Poisson variable.
pub(crate) fn poisson(rng: &mut Rng, mean: f64) -> u64 {
    let (mut left, mut n) = (mean, 0);
    while left > 0.0 {
        let limit = (-left.min(POISSON_PIECE)).exp();
        let mut product = rng.f64();
        while product > limit {
            n += 1;
            product *= rng.f64();
        }
        left -= POISSON_PIECE;
    }
    n
}

/// Successes among `n` trials.
pub(crate) fn binomial(rng: &mut Rng, n: u64, p: f64) -> u64 {
    if n == 0 || p <= 0.0 {
        return 0;
    }
    if p >= 1.0 {
        return n;
    }
    if p > 0.5 {
        return n - binomial(rng, n, 1.0 - p);
    }
    if n <= FEW_TRIALS {
        return (0..n).map(|_| u64::from(rng.f64() < p)).sum();
    }
    // From success to success: as many draws as there are successes.
    let (mut at, mut successes) = (0, 0);
    loop {
        at += geometric(rng, p);
        if at > n {
            return successes;
        }
        successes += 1;
    }
}

/// Trials up to and with the first success: at least 1, 1/p on average.
pub(crate) fn geometric(rng: &mut Rng, p: f64) -> u64 {
    if p >= 1.0 {
        return 1;
    }
    let trials = ((1.0 - rng.f64()).ln() / (1.0 - p).ln()).ceil();
    trials.clamp(1.0, 1e15) as u64
}

/// A gamma variable with mean 1 and the given coefficient of variation (Marsaglia and Tsang, 2000).
pub(crate) fn gamma(rng: &mut Rng, variation: f64) -> f64 {
    let shape = 1.0 / (variation * variation);
    // Below shape 1 a variable of shape + 1 is scaled down.
    let (raised, scale) =
        if shape < 1.0 { (shape + 1.0, (1.0 - rng.f64()).powf(1.0 / shape)) } else { (shape, 1.0) };
    let d = raised - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - rng.f64()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v * scale / shape;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 40_000;

    /// Mean and variance of many draws, each within five standard errors of the wanted ones.
    fn check(name: &str, mean: f64, variance: f64, mut draw: impl FnMut(&mut Rng) -> f64) {
        let mut rng = Rng::with_seed(7);
        let values: Vec<f64> = (0..DRAWS).map(|_| draw(&mut rng)).collect();
        let n = DRAWS as f64;
        let got = values.iter().sum::<f64>() / n;
        let moment = |power: i32| values.iter().map(|v| (v - got).powi(power)).sum::<f64>() / n;
        let (spread, fourth) = (moment(2), moment(4));
        assert!((got - mean).abs() <= 5.0 * (variance / n).sqrt(), "{name}: mean {got}, not {mean}");
        let error = ((fourth - spread * spread) / n).sqrt();
        assert!((spread - variance).abs() <= 5.0 * error, "{name}: variance {spread}, not {variance}");
    }

    #[test]
    fn means_and_variances_are_those_of_the_laws() {
        for mean in [0.05, 0.9, 7.5, 29.9, 30.1, 400.0] {
            check(&format!("poisson {mean}"), mean, mean, |rng| poisson(rng, mean) as f64);
        }
        for (n, p) in [(1, 0.3), (12, 0.02), (40, 0.001), (40, 0.5), (300, 0.97), (1000, 0.01)] {
            let (mean, variance) = (n as f64 * p, n as f64 * p * (1.0 - p));
            check(&format!("binomial {n} {p}"), mean, variance, |rng| binomial(rng, n, p) as f64);
        }
        for p in [1.0 / 3.0, 0.02, 0.9] {
            check(&format!("geometric {p}"), 1.0 / p, (1.0 - p) / (p * p), |rng| geometric(rng, p) as f64);
        }
        for variation in [0.5, 1.0, 1.5] {
            check(&format!("gamma {variation}"), 1.0, variation * variation, |rng| gamma(rng, variation));
        }
        check("exponential", 20.0, 400.0, |rng| exponential(rng, 20.0));
        check("normal", 0.0, 1.0, normal);
        let e = |sigma2: f64| sigma2.exp();
        let (mean, variance) = (e(0.18), (e(0.36) - 1.0) * e(0.36));
        check("log-normal", mean, variance, |rng| (0.6 * normal(rng)).exp());
    }

    #[test]
    fn many_normals_are_as_one() {
        let mut rng = Rng::with_seed(3);
        let (mut sum, mut above, n) = (0.0, 0, 100_000);
        normals(&mut rng, n, |z| {
            sum += f64::from(z);
            above += u64::from(z > 2.326_35);
        });
        assert!((sum / n as f64).abs() < 0.016, "{sum}");
        assert!((850..=1150).contains(&above), "{above} of {n} above the 99th percentile");
    }
}
