//! A deployment as JSON. Times are RFC 3339 in UTC, durations are seconds, shares are 0 to 1; what is not
//! known is null.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cohorts::{CohortView, MixView, RegionsView};
use super::days::OtherDaysView;
use super::logs::LogsView;
use crate::deployment::Deployment;
use crate::model::{Labels, ServiceKey, Slot, Source, UnixNanos};
use crate::objective::Spent;
use crate::verdict::{AgeEvidence, ChangeEvidence, Evidence, OwnEvidence, Policy, SliEvidence, Timing};
use crate::window::AGE_EDGES_S;

/// One deployment.
#[derive(Debug, Serialize)]
pub(super) struct DeploymentView<'a> {
    id: &'a str,
    service: ServiceView<'a>,
    baseline: Option<&'a str>,
    candidate: &'a str,
    /// `version`, or `before/after` a time: then baseline and candidate are the version that serves.
    kind: &'static str,
    /// The time of a change without a version.
    time: Option<String>,
    /// The requests that such a change is about, by attribute; empty: all.
    scope: BTreeMap<&'a str, &'a str>,
    phase: &'static str,
    verdict: &'static str,
    #[serde(rename = "final")]
    is_final: bool,
    /// The exporter for which the verdict waits, because it refuses telemetry for all.
    blinded_by: Option<&'a str>,
    score: f64,
    explanation: &'a str,
    mode: &'static str,
    origin: &'static str,
    /// Kind of release, which chose the policy.
    release: &'a str,
    /// The share of requests that is meant to go to the candidate, as it was named last; null where only the policy says.
    share: Option<f64>,
    rollback_ordered: bool,
    started_at: Option<String>,
    candidate_first_at: Option<String>,
    decided_at: Option<String>,
    decided_after_seconds: Option<f64>,
    url: Option<&'a str>,
    commit: Option<&'a str>,
    /// What the telemetry says of the change: commit, pipeline run and so on, by attribute.
    change: BTreeMap<&'static str, &'a str>,
    /// What its candidate has spent of the error budget, and what is left of it.
    budget: SpentView,
    /// Since when the budget burns too fast while this is the newest deployment; null otherwise.
    under_review_since: Option<String>,
    evidence: EvidenceView<'a>,
    policy: PolicyView,
    history: Vec<TransitionView<'a>>,
}

/// Who is deployed.
#[derive(Debug, Serialize)]
pub(super) struct ServiceView<'a> {
    namespace: &'a str,
    name: &'a str,
    environment: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    identity: &'a [String],
}

/// Requests and shares of the budget of all its days.
#[derive(Debug, Serialize)]
struct SpentView {
    requests: u64,
    spent_requests: u64,
    spent_ratio: Option<f64>,
    left_requests: Option<f64>,
    left_ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
struct EvidenceView<'a> {
    /// The last second of traffic that was judged.
    judged_until: Option<String>,
    nats: f64,
    fail_threshold: f64,
    pass_threshold: f64,
    requests: Sides<u64>,
    errors: Sides<u64>,
    requests_needed: Option<u64>,
    incident_size: f64,
    /// The source on which a pass rests; the totals are its own.
    required_source: &'static str,
    /// Seconds between two exports of the judged metrics, and the least time to a fail by them.
    metrics_interval_seconds: Option<i64>,
    metrics_least_seconds: Option<i64>,
    /// Spans per request that metrics count, the lower of both versions.
    span_share: Option<f64>,
    /// Scale of the exponential buckets where they are coarser than the grid, and what a latency may be off by.
    histogram_scale: Option<i8>,
    latency_error: Option<f64>,
    /// Seconds after the first request before which latency is not judged; null where earlier releases took no longer
    /// than the warm-up.
    settling_seconds: Option<i64>,
    flags: Vec<&'static str>,
    slis: Vec<SliView<'a>>,
    exemplar_trace_ids: &'a [String],
    /// Beside the verdict; null where nothing was logged.
    logs: Option<LogsView<'a>>,
    /// Before and after a time: what is held against what; null otherwise.
    change: Option<ChangeView>,
    /// Values of the policy's dimensions, the worst first.
    cohorts: Vec<CohortView<'a>>,
    /// Null where the policy names no regions, or the old version showed fewer than two.
    regions: Option<RegionsView<'a>>,
    /// The largest difference between what the versions serve; null before both have served.
    mix: Option<MixView<'a>>,
    /// The difference between the zones that both served from in the last five minutes; null where that is not known.
    zones: Option<MixView<'a>>,
    /// The same time of other days, where it rests on what is remembered; null where that is not known.
    other_days: Option<OtherDaysView>,
}

/// What is held against what, before and after a time.
#[derive(Debug, Serialize)]
struct ChangeView {
    judged_from: Option<String>,
    remembered_until: Option<String>,
    /// Seconds after the time that are remembered as if they were before it.
    remembered_after_seconds: i64,
    /// Remembered share of failed requests.
    error_ratio_before: Option<f64>,
}

impl ChangeView {
    fn new(change: &ChangeEvidence) -> Self {
        let at = |slot: Slot| u64::try_from(slot).ok().map(UnixNanos::from_secs).and_then(rfc3339);
        Self {
            judged_from: at(change.judged_from),
            remembered_until: at(change.remembered_until),
            remembered_after_seconds: change.late_s(),
            error_ratio_before: change.error_rate(),
        }
    }
}

#[derive(Debug, Serialize)]
struct SliView<'a> {
    sli: &'a str,
    operation: Option<&'a str>,
    weight: f64,
    nats: f64,
    pass_nats: Option<f64>,
    requests: Sides<u64>,
    bad: Sides<u64>,
    ratio: Option<f64>,
    ratio_low: Option<f64>,
    ratio_high: Option<f64>,
    threshold_seconds: Option<f64>,
    source: &'static str,
    grain: &'static str,
    exceedance: Option<f64>,
    degraded: bool,
    /// Of an SLI of the policy's own: what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<OwnView>,
}

/// What an SLI of the policy's own is.
#[derive(Debug, Serialize)]
struct OwnView {
    kind: &'static str,
    source: &'static str,
    direction: &'static str,
    required: bool,
    report_only: bool,
    /// Of a gauge: what is known of each age of instances.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ages: Vec<AgeView>,
    /// Of a share of traffic: the one that is meant to go to the candidate now, and on average over what was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    intended_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_share: Option<f64>,
}

/// A gauge at one age of instances, of the candidate and of earlier starts of the service.
#[derive(Debug, Serialize)]
struct AgeView {
    from_seconds: i64,
    to_seconds: i64,
    testable: bool,
    instances: Sides<u32>,
    /// Instances that started within half a minute of each other are one.
    starts: Sides<u32>,
    /// Of what the starts showed.
    median: Sides<Option<f64>>,
    nats: f64,
}

impl AgeView {
    fn new(age: &AgeEvidence) -> Self {
        let sides = |[candidate, baseline]: [u32; 2]| Sides { candidate, baseline };
        let [candidate, baseline] = age.middles;
        let edge = |at: usize| AGE_EDGES_S.get(at).copied().unwrap_or_default();
        Self {
            from_seconds: edge(usize::from(age.age)),
            to_seconds: edge(usize::from(age.age) + 1),
            testable: age.is_testable,
            instances: sides(age.instances),
            starts: sides(age.starts),
            median: Sides { candidate, baseline },
            nats: age.ln_e,
        }
    }
}

impl OwnView {
    fn new(own: &OwnEvidence, weight: f64) -> Self {
        Self {
            kind: own.kind.as_str(),
            source: own.source.as_str(),
            direction: if own.is_decrease { "decrease" } else { "increase" },
            required: own.required,
            report_only: weight <= 0.0 && !own.required,
            ages: own.ages.iter().map(AgeView::new).collect(),
            intended_share: own.intended,
            expected_share: own.expected,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Sides<T> {
    candidate: T,
    baseline: T,
}

#[derive(Debug, Serialize)]
struct PolicyView {
    slo: f64,
    alpha: f64,
    beta: f64,
    horizon_seconds: i64,
    warmup_seconds: i64,
    min_pass_seconds: i64,
    error_ratio: f64,
    latency_ratio: f64,
    pass_error_ratio: f64,
    pass_latency_ratio: f64,
}

#[derive(Debug, Serialize)]
struct TransitionView<'a> {
    at: Option<String>,
    phase: &'static str,
    reason: &'a str,
}

/// How much of the evidence is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// The SLIs of the service as a whole.
    Service,
    /// Those of single operations too.
    Operations,
}

impl<'a> DeploymentView<'a> {
    pub(super) fn new(d: &'a Deployment, blinded_by: Option<&'a str>, detail: Detail) -> Self {
        Self {
            id: &d.id.0,
            service: ServiceView::new(&d.service),
            baseline: d.baseline.as_deref(),
            candidate: &d.candidate,
            kind: d.kind().as_str(),
            time: d.time.and_then(rfc3339),
            scope: d.scope.iter().collect(),
            phase: d.phase.as_str(),
            verdict: d.verdict.as_str(),
            is_final: d.is_final(),
            blinded_by: blinded_by.filter(|_| !d.is_final()),
            score: d.evidence.score,
            explanation: &d.explanation,
            mode: d.mode.as_str(),
            origin: d.origin.as_str(),
            release: &d.release,
            share: d.share,
            rollback_ordered: d.rollback_ordered,
            started_at: rfc3339(d.started_at),
            candidate_first_at: d.candidate_first.and_then(rfc3339),
            decided_at: d.decided_at.and_then(rfc3339),
            decided_after_seconds: d.decided_after_seconds,
            url: d.url.as_deref(),
            commit: d.commit(),
            change: labels(&d.change),
            budget: SpentView::new(&d.spent),
            under_review_since: d.under_review_since.and_then(rfc3339),
            evidence: EvidenceView::new(&d.evidence, detail),
            policy: PolicyView::new(&d.policy),
            history: d.history.iter().map(TransitionView::new).collect(),
        }
    }
}

impl<'a> ServiceView<'a> {
    pub(super) fn new(key: &'a ServiceKey) -> Self {
        Self {
            namespace: &key.namespace,
            name: &key.name,
            environment: &key.environment,
            identity: &key.extra,
        }
    }
}

impl SpentView {
    fn new(spent: &Spent) -> Self {
        Self {
            requests: spent.requests,
            spent_requests: spent.failed,
            spent_ratio: spent.share,
            left_requests: spent.left.map(|[requests, _]| requests),
            left_ratio: spent.left.map(|[_, ratio]| ratio),
        }
    }
}

impl<'a> EvidenceView<'a> {
    fn new(e: &'a Evidence, detail: Detail) -> Self {
        let interval = e.slot_seconds;
        let own_interval = interval.filter(|_| e.required == Source::Metrics);
        let slot_s = own_interval.map_or(1, i64::unsigned_abs);
        let judged_until =
            u64::try_from(e.slot).ok().filter(|s| *s > 0).map(|s| UnixNanos::from_secs(s + slot_s));
        Self {
            judged_until: judged_until.and_then(rfc3339),
            nats: e.ln_e_bar,
            fail_threshold: e.fail_threshold,
            pass_threshold: e.pass_threshold,
            requests: e.requests.into(),
            errors: e.errors.into(),
            requests_needed: e.requests_needed,
            incident_size: e.incident_size,
            required_source: e.required.as_str(),
            metrics_interval_seconds: interval,
            metrics_least_seconds: interval.map(|s| Timing::of_slot(s).earliest_fail_s()),
            span_share: e.span_share,
            histogram_scale: e.coarse_scale,
            latency_error: e.coarse_scale.map(crate::histogram::error_of_scale),
            settling_seconds: e.settle_s,
            flags: e.flags.iter().map(|f| f.as_str()).collect(),
            slis: e
                .slis
                .iter()
                .filter(|s| detail == Detail::Operations || s.operation.is_none())
                .map(SliView::new)
                .collect(),
            exemplar_trace_ids: &e.exemplars,
            logs: e.logs.as_deref().map(LogsView::new),
            change: e.change.as_ref().map(ChangeView::new),
            cohorts: CohortView::all(e),
            regions: e.regions.as_ref().map(RegionsView::new),
            mix: e.mix.as_ref().map(MixView::new),
            zones: e.zones.as_ref().map(MixView::new),
            other_days: e.other_days.as_ref().map(OtherDaysView::new),
        }
    }
}

impl<'a> SliView<'a> {
    fn new(e: &'a SliEvidence) -> Self {
        let [ratio, ratio_low, ratio_high] = e.ratio.map_or([None; 3], |r| r.map(Some));
        Self {
            sli: e.name(),
            operation: e.operation.as_deref(),
            weight: e.weight,
            nats: e.ln_e,
            pass_nats: e.ln_e_pass,
            requests: e.requests.into(),
            bad: e.bad.into(),
            ratio,
            ratio_low,
            ratio_high,
            threshold_seconds: e.threshold_seconds,
            source: e.source.as_str(),
            grain: e.grain.as_str(),
            exceedance: e.exceedance,
            degraded: e.degraded,
            own: e.own.as_deref().map(|own| OwnView::new(own, e.weight)),
        }
    }
}

/// The core keeps candidate before baseline.
impl<T> From<[T; 2]> for Sides<T> {
    fn from([candidate, baseline]: [T; 2]) -> Self {
        Self { candidate, baseline }
    }
}

impl PolicyView {
    fn new(p: &Policy) -> Self {
        // Buckets are 1/32 octave wide.
        let shift = |buckets: i32| (f64::from(buckets) / 32.0).exp2();
        Self {
            slo: p.slo,
            alpha: p.alpha,
            beta: p.beta,
            horizon_seconds: p.horizon_s,
            warmup_seconds: p.warmup_s,
            min_pass_seconds: p.min_pass_s,
            error_ratio: p.error_ratio,
            latency_ratio: shift(p.latency_margin),
            pass_error_ratio: p.pass_error_ratio,
            pass_latency_ratio: shift(p.pass_latency_margin),
        }
    }
}

impl<'a> TransitionView<'a> {
    fn new(t: &'a crate::deployment::Transition) -> Self {
        Self { at: rfc3339(t.at), phase: t.phase.as_str(), reason: &t.reason }
    }
}

/// Kept resource attributes by their names.
pub(super) fn labels(labels: &Labels) -> BTreeMap<&'static str, &str> {
    labels.iter().map(|(attribute, text)| (attribute.as_str(), text)).collect()
}

/// A time for people and programs. `None` for the epoch (never) and for what lies beyond the year 9999.
pub(super) fn rfc3339(at: UnixNanos) -> Option<String> {
    if at.0 == 0 {
        return None;
    }
    // Milliseconds: finer digits of an evaluation's time mean nothing.
    let millis = i64::try_from(at.0 / 1_000_000).ok()?;
    jiff::Timestamp::from_millisecond(millis).ok().map(|t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let rows = [
            (0, None),
            (1_764_031_401_250_000_000, Some("2025-11-25T00:43:21.25Z")),
            (1_764_031_401_000_000_000, Some("2025-11-25T00:43:21Z")),
            (u64::MAX, Some("2554-07-21T23:34:33.709Z")),
        ];
        for (nanos, expected) in rows {
            assert_eq!(rfc3339(UnixNanos(nanos)).as_deref(), expected);
        }
    }
}
