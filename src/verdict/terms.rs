//! What one closed group says, as terms: for the service's sums, for the operation's own processes, and for
//! the way to PASS. Pure arithmetic on a group and what was fixed for it.

use super::buckets;
use super::dispersion::incident_size;
use super::pairing::Group;
use super::policy::Policy;
use super::thresholds::Cuts;
use crate::stats::Term;

/// Client errors: half as many again and two points are tolerated.
const CLIENT_ERRORS: (f64, f64) = (1.5, 0.02);
/// Which of the thresholds p50, p75, p95, p99 the latency SLIs use.
const LATENCY_QUANTILES: [usize; 3] = [0, 2, 3];

/// Terms of one group: errors, p50, p95, p99. Latency is missing while there is no threshold or the
/// candidate has not settled.
#[derive(Debug, Default)]
pub(super) struct GroupTerms {
    /// With the dispersion of the service: worse?
    pub(super) service: [Option<Term>; 4],
    /// With the dispersion of the operation: worse?
    pub(super) own: [Option<Term>; 4],
    /// With the dispersion of the service: not unacceptably worse?
    pub(super) pass: [Option<Term>; 4],
    pub(super) client_errors: Option<Term>,
    /// Baseline requests above the median threshold.
    pub(super) above_median: Option<u64>,
}

/// The terms of a group. `share` is the predicted share of baseline requests above the median threshold,
/// `with_latency` whether latency is compared already.
pub(super) fn of_group(policy: &Policy, group: &Group, share: f64, with_latency: bool) -> GroupTerms {
    let mut terms = GroupTerms::default();
    let (service, own) = (group.fixed.service_sizes(), group.fixed.own_sizes());
    let bad = [group.candidate.bad, group.baseline.bad];
    let budget = policy.error_budget();
    let tolerated = (policy.error_ratio * group.fixed.error_factor, policy.tolerated_increase());
    terms.service[0] = Some(ratio(group, bad, tolerated, service[0]));
    terms.own[0] = Some(ratio(group, bad, tolerated, own[0]));
    terms.pass[0] = Some(ratio(group, bad, (policy.pass_error_ratio, budget), service[0]));
    let refused = [group.candidate.client_errors, group.baseline.client_errors];
    let size = incident_size(group.fixed.client_errors);
    terms.client_errors = Some(ratio(group, refused, CLIENT_ERRORS, size));
    if with_latency {
        latency(policy, group, share, &mut terms);
    }
    terms
}

fn latency(policy: &Policy, group: &Group, share: f64, terms: &mut GroupTerms) {
    let Some(cuts) = group.fixed.cuts else { return };
    if cuts.explicit {
        return at_bounds(group, &cuts, terms);
    }
    let (service, own) = (group.fixed.service_sizes(), group.fixed.own_sizes());
    let margin = policy.latency_margin + group.fixed.latency_extra;
    for (i, q) in LATENCY_QUANTILES.into_iter().enumerate() {
        let Some(at) = cuts.at[q].map(i32::from) else { continue };
        let i = i + 1;
        let above = |shift| group.candidate.latency.count_above(at + shift);
        let slow = [above(margin), group.baseline.latency.count_above(at)];
        // Half of all requests lie above the median: the Poisson form would waste half the evidence.
        let make = |phi: f64, size: f64| {
            if i == 1 {
                bernoulli(group, slow, share, phi.max(1.0))
            } else {
                ratio(group, slow, (1.0, 0.0), size)
            }
        };
        terms.service[i] = Some(make(group.fixed.service[i], service[i]));
        terms.own[i] = Some(make(group.fixed.own[i], own[i]));
        let slow_for_pass = [above(policy.pass_latency_margin), slow[1]];
        terms.pass[i] = Some(ratio(group, slow_for_pass, (1.0, 0.0), service[i]));
        if i == 1 {
            terms.above_median = Some(slow[1]);
        }
    }
}

/// In explicit buckets both versions are held to the same bound. All quantiles use the ratio of the shares
/// above it: a margin on the latency itself would need a bound where it ends.
fn at_bounds(group: &Group, cuts: &Cuts, terms: &mut GroupTerms) {
    let (service, own) = (group.fixed.service_sizes(), group.fixed.own_sizes());
    for (i, q) in LATENCY_QUANTILES.into_iter().enumerate() {
        let Some(at) = cuts.at[q].map(i32::from) else { continue };
        let i = i + 1;
        let above = group.candidate.latency.count_above(at);
        if let Some(base) = cuts.base[q].map(i32::from) {
            let slow = [above, group.baseline.latency.count_above(base)];
            terms.service[i] = Some(ratio(group, slow, (buckets::RATIO, 0.0), service[i]));
            terms.own[i] = Some(ratio(group, slow, (buckets::RATIO, 0.0), own[i]));
        }
        let slow = [above, group.baseline.latency.count_above(at)];
        terms.pass[i] = Some(ratio(group, slow, (buckets::PASS_RATIO, 0.0), service[i]));
    }
}

fn counts(group: &Group, bad: [u64; 2]) -> [f64; 4] {
    [group.candidate.requests, bad[0], group.baseline.requests, bad[1]].map(|v| v as f64)
}

/// Null: at most `r0` times the baseline's rate plus `delta`; `c` is the incident size.
pub(super) fn ratio(group: &Group, bad: [u64; 2], (r0, delta): (f64, f64), c: f64) -> Term {
    let [n_c, x_c, n_b, x_b] = counts(group, bad);
    Term::RateRatio { n_c, x_c, n_b, x_b, r0, delta, c }
}

fn bernoulli(group: &Group, bad: [u64; 2], p: f64, phi: f64) -> Term {
    let [n_c, x_c, n_b, x_b] = counts(group, bad);
    Term::Bernoulli { n_c, x_c, n_b, x_b, p, phi }
}
