//! Regions and other cohorts as the API shows them: the worst first.

use serde::Serialize;

use super::view::Sides;
use crate::verdict::{CohortEvidence, Evidence, MixShift, RegionEvidence};

/// One value of a dimension.
#[derive(Debug, Serialize)]
pub(super) struct CohortView<'a> {
    attribute: &'a str,
    value: &'a str,
    nats: f64,
    /// At which it counts as worse.
    threshold: f64,
    worse: bool,
    requests: Sides<u64>,
    errors: Sides<u64>,
    /// The SLI with most of its evidence.
    sli: Option<&'a str>,
    sli_nats: Option<f64>,
}

impl<'a> CohortView<'a> {
    pub(super) fn all(evidence: &'a Evidence) -> Vec<Self> {
        evidence.cohorts.iter().map(Self::new).collect()
    }

    fn new(one: &'a CohortEvidence) -> Self {
        Self {
            attribute: &one.attribute,
            value: &one.value,
            nats: one.ln_e,
            threshold: one.threshold,
            worse: one.is_worse,
            requests: one.requests.into(),
            errors: one.errors.into(),
            sli: one.sli.as_ref().map(|sli| sli.name()),
            sli_nats: one.sli.as_ref().map(|sli| sli.ln_e),
        }
    }
}

/// What the regions say.
#[derive(Debug, Serialize)]
pub(super) struct RegionsView<'a> {
    attribute: &'a str,
    judged: usize,
    action: &'static str,
    /// The only one that is worse while the others are well.
    odd: Option<&'a str>,
    /// What an action is for: `all`, or `region=NAME`.
    scope: Vec<String>,
}

impl<'a> RegionsView<'a> {
    pub(super) fn new(regions: &'a RegionEvidence) -> Self {
        Self {
            attribute: &regions.attribute,
            judged: regions.judged,
            action: regions.action.as_str(),
            odd: regions.odd.as_deref(),
            scope: regions.scope(),
        }
    }
}

/// The largest difference between what the versions serve.
#[derive(Debug, Serialize)]
pub(super) struct MixView<'a> {
    by: &'a str,
    value: &'a str,
    shares: Sides<f64>,
    distance: f64,
}

impl<'a> MixView<'a> {
    pub(super) fn new(mix: &'a MixShift) -> Self {
        Self { by: &mix.by, value: &mix.value, shares: mix.shares.into(), distance: mix.distance }
    }
}
