//! Evidence from ranks: whether new values lie above earlier ones by more than chance, whatever their distribution is.
//! Section 9.1 of `docs/statistics.md` has the derivation.

use super::ln_sum_exp;

/// Odds at which the bets of [`ln_rank_evidence`] take a new value to be the larger of it and an earlier one: a slight
/// shift, up to "nearly always".
pub const RANK_ODDS: [f64; 4] = [2.0, 5.0, 20.0, 100.0];

/// ln of the likelihood of the order of all values if a new one is the larger of a pair at these odds (Lehmann's
/// alternative), over that of the same order if all are alike. Each of two equal values counts as the lower where that
/// is better for the new ones.
pub fn ln_rank_ratio(earlier: &[f64], new: &[f64], odds: f64) -> f64 {
    let mut all: Vec<(f64, bool)> = earlier.iter().map(|value| (*value, false)).collect();
    all.extend(new.iter().map(|value| (*value, true)));
    // Of equal ones the new come first.
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    let (mut sum, mut ln) = (0.0, new.len() as f64 * odds.ln());
    for (below, (_, is_new)) in all.iter().enumerate() {
        sum += if *is_new { odds } else { 1.0 };
        ln += ((below + 1) as f64 / sum).ln();
    }
    ln
}

/// ln of the e-value that the new values are larger: the mean of the bets at [`RANK_ODDS`].
pub fn ln_rank_evidence(earlier: &[f64], new: &[f64]) -> f64 {
    let bets = RANK_ODDS.map(|odds| ln_rank_ratio(earlier, new, odds));
    ln_sum_exp(bets.into_iter()) - (RANK_ODDS.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All orders of `n` different values.
    fn orders(n: usize) -> Vec<Vec<f64>> {
        if n == 0 {
            return vec![Vec::new()];
        }
        let longer =
            |order: Vec<f64>| (0..n).map(move |at| [&order[..at], &[n as f64], &order[at..]].concat());
        orders(n - 1).into_iter().flat_map(longer).collect()
    }

    /// Guarantees: if all orders are alike, the evidence is 1 on average, and stays so whatever was seen before: given
    /// the order of all but the last value, its mean over where the last one falls is what it was without it.
    #[test]
    fn it_is_a_fair_bet_after_each_value() {
        for (earlier, new) in [(1, 1), (3, 2), (2, 4)] {
            let all = orders(earlier + new);
            let e = |values: &[f64]| ln_rank_evidence(&values[..earlier], &values[earlier..]).exp();
            let mean = all.iter().map(|values| e(values)).sum::<f64>() / all.len() as f64;
            assert!((mean - 1.0).abs() < 1e-12, "{earlier} and {new}: {mean}");
            for values in &all {
                let (last, before) = values.split_last().unwrap();
                let places = (0..=before.len()).map(|at| {
                    let mut sorted = before.to_vec();
                    sorted.sort_by(f64::total_cmp);
                    let low = if at == 0 { 0.0 } else { sorted[at - 1] };
                    let high = sorted.get(at).copied().unwrap_or(low + 2.0);
                    let moved = [before, &[f64::midpoint(low, high)]].concat();
                    e(&moved)
                });
                let mean = places.sum::<f64>() / (before.len() + 1) as f64;
                assert!((mean / e(before) - 1.0).abs() < 1e-12, "{last} after {before:?}: {mean}");
            }
        }
    }

    #[test]
    fn values_that_are_all_larger_are_nearly_as_much_evidence_as_there_can_be() {
        let earlier: Vec<f64> = (0..20).map(f64::from).collect();
        let new: Vec<f64> = (0..5).map(|i| 100.0 + f64::from(i)).collect();
        // One in 53,130 orders has all of them on top.
        let best = 53_130f64.ln();
        let found = ln_rank_evidence(&earlier, &new);
        assert!(found < best && found > best - 2.0, "{found} of {best}");
        let lower: Vec<f64> = new.iter().map(|value| -value).collect();
        assert!(ln_rank_evidence(&earlier, &lower) < -2.0);
        assert!(ln_rank_ratio(&[], &new, 5.0).abs() < 1e-12, "nothing to hold them against says nothing");
        assert!(ln_rank_ratio(&[1.0, 1.0, 1.0], &[1.0], 5.0) < 0.0, "equal is not larger");
    }

    proptest! {
        /// Guarantee: where a value is lower than it might be, or an earlier one higher, there is never more evidence.
        /// With it the bet stays fair or better for every new value that is no worse than tolerated, however they
        /// differ among themselves.
        #[test]
        fn less_is_never_more(
            earlier in prop::collection::vec(-3i8..4, 1..9),
            new in prop::collection::vec((-3i8..4, 0i8..3), 1..9),
            raised in prop::collection::vec(0i8..3, 9),
        ) {
            let of = |values: &[i8]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
            let high: Vec<i8> = new.iter().map(|(v, by)| v + by).collect();
            let low: Vec<i8> = new.iter().map(|(v, _)| *v).collect();
            let above: Vec<i8> = earlier.iter().zip(&raised).map(|(v, by)| v + by).collect();
            for odds in RANK_ODDS {
                let e = |earlier: &[i8], new: &[i8]| ln_rank_ratio(&of(earlier), &of(new), odds);
                prop_assert!(e(&earlier, &low) <= e(&earlier, &high) + 1e-9);
                prop_assert!(e(&above, &high) <= e(&earlier, &high) + 1e-9);
            }
        }
    }
}
