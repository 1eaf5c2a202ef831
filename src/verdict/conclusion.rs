//! From evidence to a word. Where the sums come from, one judge or two, does not matter here.

use super::evidence::Verdict;
use super::policy::Policy;
use crate::stats::watch_threshold;

/// Where the evidence stands as of the last slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// ln of the weighted sum of the watches, once a verdict was taken.
    pub(super) ln_watch: Option<f64>,
    /// ln of the weighted average of the evidence; `None` until the weights are fixed.
    pub(super) ln_e_bar: Option<f64>,
    /// Seconds of comparison so far; negative in the warm-up, `None` before the candidate's first request.
    pub(super) age_s: Option<i64>,
    /// The same for the SLIs that a PASS rests on.
    pub(super) pass_age_s: Option<i64>,
    /// How far the slowest required SLI has come, 0 to 1.
    pub(super) passed: f64,
    /// Whether a flag holds a PASS back.
    pub(super) blocked: bool,
    /// What the evidence of the whole must reach more, in nats, where regions decide too; and whether one of them is
    /// worse.
    pub(super) surcharge: f64,
    pub(super) region_fails: bool,
}

impl Standing {
    /// `Fail` and `Pass` are decisions; `Inconclusive` is answered once the horizon has ended; otherwise
    /// `Pending`. After a decision only the watch speaks.
    pub(super) fn verdict(&self, policy: &Policy) -> Verdict {
        if self.region_fails {
            return Verdict::Fail;
        }
        if let Some(ln_watch) = self.ln_watch {
            return if ln_watch >= watch_threshold() + self.surcharge {
                Verdict::Fail
            } else {
                Verdict::Pending
            };
        }
        let threshold = policy.fail_threshold();
        if self.ln_e_bar.is_some_and(|e| e >= threshold + self.surcharge) {
            return Verdict::Fail;
        }
        let doubtful = self.blocked || self.ln_e_bar.is_some_and(|e| e >= 0.5 * threshold);
        if self.pass_age_s.is_some_and(|age| age >= policy.min_pass_s) && !doubtful && self.passed >= 1.0 {
            return Verdict::Pass;
        }
        let over = self.age_s.is_some_and(|age| age >= policy.horizon_s);
        if over { Verdict::Inconclusive } else { Verdict::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_has_its_grounds() {
        let open = Standing {
            ln_watch: None,
            ln_e_bar: Some(0.0),
            age_s: Some(400),
            pass_age_s: Some(400),
            passed: 0.4,
            blocked: false,
            surcharge: 0.0,
            region_fails: false,
        };
        let halved = Standing { ln_e_bar: Some(4.61), surcharge: 0.694, ..open };
        let passed = Standing { passed: 1.0, ..open };
        let over = Standing { age_s: Some(1800), ..open };
        let watched = Standing { ln_watch: Some(10.6), ..passed };
        for (name, standing, want) in [
            ("nothing yet", open, Verdict::Pending),
            (
                "before the first request",
                Standing { age_s: None, pass_age_s: None, ..open },
                Verdict::Pending,
            ),
            ("worse", Standing { ln_e_bar: Some(4.61), ..passed }, Verdict::Fail),
            ("half of alpha is the regions'", halved, Verdict::Pending),
            ("a region", Standing { region_fails: true, ..open }, Verdict::Fail),
            ("all required SLIs", passed, Verdict::Pass),
            ("weights not fixed", Standing { ln_e_bar: None, ..passed }, Verdict::Pass),
            ("too early for a pass", Standing { pass_age_s: Some(299), ..passed }, Verdict::Pending),
            ("half way to a fail", Standing { ln_e_bar: Some(2.31), ..passed }, Verdict::Pending),
            ("a flag in the way", Standing { blocked: true, ..passed }, Verdict::Pending),
            ("the horizon is over", over, Verdict::Inconclusive),
            ("over, and in doubt", Standing { blocked: true, passed: 1.0, ..over }, Verdict::Inconclusive),
            ("watched, and well", watched, Verdict::Pending),
            ("watched, and worse", Standing { ln_watch: Some(10.7), ..watched }, Verdict::Fail),
        ] {
            assert_eq!(standing.verdict(&Policy::default()), want, "{name}");
        }
    }
}
