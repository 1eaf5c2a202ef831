//! Sums of exponentials without leaving log space.

/// ln(e^a + e^b).
pub fn ln_add_exp(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// ln of the sum of e^v; minus infinity for nothing.
pub fn ln_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let high = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if high == f64::NEG_INFINITY { high } else { high + values.map(|v| (v - high).exp()).sum::<f64>().ln() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        assert_eq!(ln_add_exp(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!((ln_add_exp(0.0, 0.0) - 2f64.ln()).abs() < 1e-15);
        assert!((ln_add_exp(-1e4, 3.0) - 3.0).abs() < 1e-15);
        assert!((ln_sum_exp([1000.0, 1000.0].into_iter()) - (1000.0 + 2f64.ln())).abs() < 1e-12);
        assert_eq!(ln_sum_exp(std::iter::empty()), f64::NEG_INFINITY);
    }
}
