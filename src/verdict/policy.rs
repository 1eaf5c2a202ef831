//! What a version is held to: the constants of `docs/statistics.md` with their defaults, and the few that a
//! team sets per service.

use std::sync::Arc;

use super::cohort::{Dimension, Regions};
use super::own::OwnSli;
use crate::model::snapshot::snapshot_fields;

/// The policy one deployment is judged by. A running deployment keeps the one it began with.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Objective for the share of good requests, for example 0.999. Sets the tolerated absolute increase.
    pub slo: f64,
    /// Budget for a false rollback, per deployment, over all SLIs and the whole horizon.
    pub alpha: f64,
    /// Probability of a wrong PASS, per deployment.
    pub beta: f64,
    /// Seconds after the warm-up within which a verdict is sought; then INCONCLUSIVE.
    pub horizon_s: i64,
    /// Seconds after its first span during which an instance is not compared.
    pub warmup_s: i64,
    /// Seconds after the warm-up before which there is no PASS.
    pub min_pass_s: i64,
    /// Relative increase of the error rate that counts as "not worse": 1.1 is +10 %.
    pub error_ratio: f64,
    /// Buckets (1/32 octave each) of latency increase that count as "not worse": 4 is +9.05 %.
    pub latency_margin: i32,
    /// Error ratio at which PASS must have rejected "unacceptably worse".
    pub pass_error_ratio: f64,
    /// Latency shift in buckets at which PASS must have rejected "unacceptably slower": 10 is +24 %.
    pub pass_latency_margin: i32,
    /// SLIs of its own.
    pub slis: Arc<Vec<OwnSli>>,
    /// By which its requests are told apart beside their operation.
    pub dimensions: Arc<Vec<Dimension>>,
    /// Which of the dimensions are regions, and what one that is worse leads to.
    pub regions: Option<Regions>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            slo: 0.999,
            alpha: 0.01,
            beta: 0.05,
            horizon_s: 1800,
            warmup_s: 60,
            min_pass_s: 300,
            error_ratio: 1.1,
            latency_margin: 4,
            pass_error_ratio: 2.0,
            pass_latency_margin: 10,
            slis: Arc::default(),
            dimensions: Arc::default(),
            regions: None,
        }
    }
}

impl Policy {
    /// The error budget, 1 - SLO.
    pub fn error_budget(&self) -> f64 {
        1.0 - self.slo
    }

    /// Increase of the error rate that counts as "not worse" whatever the ratio: a tenth of the budget.
    pub fn tolerated_increase(&self) -> f64 {
        0.1 * self.error_budget()
    }

    /// Evidence in nats at which a version fails: ln(1/alpha).
    pub fn fail_threshold(&self) -> f64 {
        (1.0 / self.alpha).ln()
    }

    /// Weights of its own SLIs together, beside the 1 of those that every service has.
    pub fn own_weight(&self) -> f64 {
        self.slis.iter().map(|sli| sli.weight).sum()
    }

    /// Whether requests are told apart by this attribute.
    pub fn has_dimension(&self, attribute: &str) -> bool {
        self.dimensions.iter().any(|dimension| dimension.attribute == attribute)
    }

    /// What one cohort is judged by: the same, without regions that decide. Where there are other dimensions, a mix of
    /// their values can shift within it, too.
    pub(crate) fn of_cohort(&self) -> Self {
        let dimensions =
            if self.dimensions.len() > 1 { Arc::clone(&self.dimensions) } else { Arc::default() };
        Self { slis: Arc::default(), dimensions, regions: None, ..self.clone() }
    }

    /// Evidence in nats that every required SLI needs for PASS: ln(1/beta).
    pub fn pass_threshold(&self) -> f64 {
        (1.0 / self.beta).ln()
    }
}

snapshot_fields!(Policy {
    slo,
    alpha,
    beta,
    horizon_s,
    warmup_s,
    min_pass_s,
    error_ratio,
    latency_margin,
    pass_error_ratio,
    pass_latency_margin,
    slis,
    dimensions,
    regions,
});
