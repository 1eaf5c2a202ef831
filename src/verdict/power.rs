//! What a comparison can see and when: the sums that a verdict does not show. From the traffic of both versions, the
//! baseline's error rate and how its errors cluster follow the nats that an increase adds each second, and how far chance
//! takes them from it; with them, after how long four of five deployments with such an increase have failed.
//!
//! The law of large numbers says when, a factor says how far reality lies behind it: restarts, blocks, the share of a
//! ladder that fits, an incident size that is estimated. `docs/simulation.md`, "Power", has what was measured.

use super::{Evidence, Flag, Policy, Sli, Timing};
use crate::model::{Slot, Source};
use crate::stats::{LADDER, LADDER_PASS, Term, block_cap};

/// Mass that bets from the start (w0).
const FIRST_MASS: f64 = 0.5;
/// Standard deviations by which four of five lie above.
const FOUR_OF_FIVE: f64 = 0.84;
/// How much longer than the sum says it takes until four of five are found: with 1.25, 75 to 88 % were, with this 85 to
/// 98 % (`docs/simulation.md`, "Power").
const REALITY: f64 = 1.5;
/// Longest time that is worth a word, seconds: a day.
const LONGEST_S: f64 = 86_400.0;

/// Traffic and noise as they are, and how they are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Requests a second of candidate and baseline.
    pub rates: [f64; 2],
    /// Share of the baseline's requests that fail.
    pub error_rate: f64,
    /// Mean size of an incident of the baseline; 1 for independent errors.
    pub incident_size: f64,
    /// Share of alpha of the error rate.
    pub weight: f64,
    /// Seconds of a slot.
    pub timing: Timing,
    /// Seconds compared so far.
    pub compared_s: f64,
}

impl Outlook {
    /// What the evidence says of traffic; `from` is the first slot that could be compared. `None` where nothing was
    /// compared yet, and against a remembered baseline, which has another yardstick.
    pub fn of(evidence: &Evidence, from: Slot) -> Option<Self> {
        let slot_s = evidence.slot_seconds.filter(|_| evidence.required == Source::Metrics).unwrap_or(1);
        let timing = Timing::of_slot(slot_s);
        let errors = evidence.service(Sli::ErrorRate)?;
        let compared_s = (evidence.slot + timing.slot_s() - from) as f64;
        let [candidate, baseline] = errors.requests.map(|n| n as f64);
        if compared_s < 1.0 || candidate < 1.0 || baseline < 1.0 || evidence.has(Flag::RememberedBaseline) {
            return None;
        }
        Some(Self {
            rates: [candidate / compared_s, baseline / compared_s],
            // None in so many is not never.
            error_rate: (errors.bad[1] as f64 + 0.5) / (baseline + 1.0),
            incident_size: evidence.incident_size.max(1.0),
            weight: errors.weight,
            timing,
            compared_s,
        })
    }

    /// Seconds of comparison after which four of five deployments whose error rate lies `increase` above the baseline's
    /// have failed; `None` where a day is not enough.
    pub fn seconds_to_show(&self, increase: f64, policy: &Policy) -> Option<f64> {
        let needed = policy.fail_threshold() - self.weight.max(1e-6).ln() - FIRST_MASS.ln();
        let seconds = self.fastest(&LADDER, needed, |n_c, x_c, n_b, x_b| Term::RateRatio {
            n_c,
            x_c: x_c + n_c * increase,
            n_b,
            x_b,
            r0: policy.error_ratio,
            delta: policy.tolerated_increase(),
            c: self.incident_size,
        })?;
        let blocks = needed / block_cap(policy.alpha) * self.timing.rhythm().block_s as f64;
        let least = blocks.max(self.timing.earliest_fail_s() as f64);
        Some(REALITY * seconds.max(least)).filter(|seconds| *seconds <= LONGEST_S)
    }

    /// The smallest increase that has shown in four of five deployments after `seconds` of comparison; `None` where not
    /// even an outage would.
    pub fn shown_after(&self, seconds: f64, policy: &Policy) -> Option<f64> {
        let shows = |increase: f64| self.seconds_to_show(increase, policy).is_some_and(|s| s <= seconds);
        let (mut low, mut high) = (1e-7, 1.0 - self.error_rate);
        if !shows(high) {
            return None;
        }
        // In equal ratios: an increase of 0.01 points and one of 10 are equally worth telling apart.
        for _ in 0..40 {
            let middle = (low * high).sqrt();
            if shows(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }

    /// Seconds of comparison after which four of five deployments without any difference have the evidence on errors that
    /// a PASS needs; `None` where a day is not enough.
    pub fn seconds_to_pass(&self, policy: &Policy) -> Option<f64> {
        let needed = policy.pass_threshold() + (LADDER_PASS.len() as f64).ln();
        let seconds = self.fastest(&LADDER_PASS, needed, |n_c, x_c, n_b, x_b| Term::RateRatio {
            n_c,
            x_c,
            n_b,
            x_b,
            r0: policy.pass_error_ratio,
            delta: policy.error_budget(),
            c: self.incident_size,
        })?;
        Some(seconds.max(policy.min_pass_s as f64)).filter(|seconds| *seconds <= LONGEST_S)
    }

    /// The share of the service's traffic that the candidate would need to have within `seconds` what a PASS needs; `None`
    /// where none is enough.
    pub fn share_to_pass(&self, seconds: f64, policy: &Policy) -> Option<f64> {
        let all = self.rates[0] + self.rates[1];
        let passes = |share: f64| {
            let split = Self { rates: [all * share, all * (1.0 - share)], ..*self };
            split.seconds_to_pass(policy).is_some_and(|s| s <= seconds)
        };
        (1..=50).map(|percent| f64::from(percent) / 100.0).find(|share| passes(*share))
    }

    /// Seconds until four of five sums on the best step of a ladder reach `needed`. `term` gets what happens in a second
    /// where nothing is different.
    fn fastest(&self, ladder: &[f64], needed: f64, term: impl Fn(f64, f64, f64, f64) -> Term) -> Option<f64> {
        let [n_c, n_b] = self.rates;
        let second = term(n_c, n_c * self.error_rate, n_b, n_b * self.error_rate);
        let [_, x_c, _, x_b] = second.counts();
        let none = without_events(second);
        let one = |g: f64| {
            let mean = second.nats(g);
            // A failed request adds what the sum has more with it. Incidents come as a whole: their spread is phi times that
            // of single failures, and c = (phi + 1)/2.
            let of = |x: f64, y: f64| with_events(none, x, y).nats(g) - none.nats(g);
            let phi = 2.0 * self.incident_size - 1.0;
            let spread = phi * (x_c * of(1.0, 0.0).powi(2) + x_b * of(0.0, 1.0).powi(2));
            if mean <= 0.0 {
                return None;
            }
            // mean D - 0.84 sqrt(spread D) = needed, solved for sqrt(D).
            let b = FOUR_OF_FIVE * spread.sqrt();
            let root = (b + (b * b + 4.0 * mean * needed).sqrt()) / (2.0 * mean);
            Some(root * root)
        };
        ladder.iter().filter_map(|g| one(*g)).reduce(f64::min)
    }
}

fn with_events(term: Term, x: f64, y: f64) -> Term {
    match term {
        Term::RateRatio { n_c, n_b, r0, delta, c, .. } => {
            Term::RateRatio { n_c, x_c: x, n_b, x_b: y, r0, delta, c }
        }
        other => other,
    }
}

fn without_events(term: Term) -> Term {
    with_events(term, 0.0, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(rates: [f64; 2]) -> Outlook {
        Outlook {
            rates,
            error_rate: 0.001,
            incident_size: 1.1,
            weight: 0.2,
            timing: Timing::default(),
            compared_s: 300.0,
        }
    }

    #[test]
    fn more_traffic_more_time_and_larger_increases_show_sooner() {
        let policy = Policy::default();
        let small = outlook([10.0, 190.0]);
        let large = outlook([100.0, 1_900.0]);
        let mut last = f64::INFINITY;
        for increase in [0.002, 0.005, 0.01, 0.05, 0.5] {
            let seconds = small.seconds_to_show(increase, &policy).unwrap();
            assert!(seconds <= last && seconds >= 11.0, "{increase}: {seconds}");
            assert!(large.seconds_to_show(increase, &policy).unwrap() <= seconds);
            last = seconds;
        }
        let after = |seconds| small.shown_after(seconds, &policy).unwrap();
        assert!(after(1_800.0) < after(600.0) && after(600.0) < after(60.0));
        assert_eq!(small.shown_after(5.0, &policy), None, "nothing fails within five seconds");
        // What is said to show after ten minutes shows after ten minutes.
        let increase = after(600.0);
        let back = small.seconds_to_show(increase, &policy).unwrap();
        assert!((back - 600.0).abs() < 5.0, "{back}");
    }

    #[test]
    fn incidents_cost_time() {
        let policy = Policy::default();
        let bursty = Outlook { incident_size: 10.0, ..outlook([10.0, 190.0]) };
        let calm = outlook([10.0, 190.0]);
        assert!(bursty.seconds_to_show(0.05, &policy) > calm.seconds_to_show(0.05, &policy));
    }

    #[test]
    fn a_pass_takes_its_minimum_or_its_requests() {
        let policy = Policy::default();
        assert_eq!(outlook([100.0, 1_900.0]).seconds_to_pass(&policy), Some(300.0));
        let few = outlook([2.0, 38.0]);
        let needed = few.seconds_to_pass(&policy).unwrap();
        assert!((1_800.0..10_800.0).contains(&needed), "thousands of requests at two a second: {needed}");
        let share = few.share_to_pass(1_800.0, &policy).unwrap();
        assert!((0.05..0.5).contains(&share), "{share}");
        assert_eq!(outlook([0.01, 0.1]).seconds_to_pass(&policy), None);
    }
}
