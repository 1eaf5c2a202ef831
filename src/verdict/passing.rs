//! The way to PASS: every required SLI that can be tested must have shown that it is not unacceptably worse. The test is the
//! reversed one, on a ladder below 1, with all its mass from the start and neither cap nor restarts
//! (`docs/statistics.md`, "PASS").

use super::evidence::Sli;
use crate::model::snapshot::snapshot_fields;
use crate::stats::{LADDER_PASS, Steps, Term, ln_sum_exp};

/// Evidence for "not unacceptably worse" of the four required SLIs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Passing {
    nats: [Steps; 4],
    /// Candidate requests that went in.
    pub(crate) requests: u64,
}

snapshot_fields!(Passing { nats, requests });

impl Passing {
    /// The required SLIs, in the order of the indices used here.
    pub(crate) const SLIS: [Sli; 4] = [Sli::ErrorRate, Sli::LatencyP50, Sli::LatencyP95, Sli::LatencyP99];

    pub(crate) fn add(&mut self, index: usize, terms: &[Term]) {
        terms.iter().for_each(|term| term.add_to(&mut self.nats[index], &LADDER_PASS));
    }

    /// ln E of the required SLIs.
    pub(crate) fn ln_e(&self) -> [f64; 4] {
        self.nats.map(|nats| {
            let steps = LADDER_PASS.len();
            ln_sum_exp(nats.iter().take(steps).copied()) - (steps as f64).ln()
        })
    }

    /// How far the slowest of the `required` SLIs has come, 0 to 1.
    pub(crate) fn fraction(&self, threshold: f64, required: [bool; 4]) -> f64 {
        self.of(required).map(|e| (e / threshold).clamp(0.0, 1.0)).fold(1.0, f64::min)
    }

    fn of(&self, required: [bool; 4]) -> impl Iterator<Item = f64> {
        self.ln_e().into_iter().zip(required).filter_map(|(e, required)| required.then_some(e))
    }

    /// Candidate requests still needed at the rate of evidence so far; `None` where there is none yet.
    pub(crate) fn requests_needed(&self, threshold: f64, required: [bool; 4]) -> Option<u64> {
        let mut most = 0.0f64;
        for e in self.of(required) {
            if e <= 0.0 {
                return None;
            }
            most = most.max((threshold - e).max(0.0) / (e / self.requests.max(1) as f64));
        }
        Some(most.ceil() as u64)
    }
}
