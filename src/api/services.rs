//! `GET /api/v1/services`: which services and versions send telemetry, how much, and what cannot be versioned.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::state::ApiState;
use super::view::{ServiceView, rfc3339};
use crate::pipeline::{ServiceBoard, SourceBoard, VersionBoard};
use crate::verdict::BoundTest;

#[derive(Serialize)]
struct List<'a> {
    evaluated_at: Option<String>,
    services: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    service: ServiceView<'a>,
    slo: f64,
    lateness_seconds: f64,
    completeness: f64,
    /// Share of the requests of the last 5 minutes that carry no version and so cannot be judged.
    unversioned_share_5m: f64,
    /// `null` where it sends no request metrics.
    metrics: Option<MetricsView>,
    /// Metrics that SLIs of its policy read.
    sli_metrics: Vec<SliMetricView<'a>>,
    versions: Vec<VersionView<'a>>,
}

/// A metric that an SLI reads.
#[derive(Serialize)]
struct SliMetricView<'a> {
    metric: &'a str,
    /// Whether a point of it has come that counts for an SLI.
    seen: bool,
}

/// How the request metrics of a service are read.
#[derive(Serialize)]
struct MetricsView {
    interval_seconds: i64,
    lateness_seconds: f64,
    completeness: f64,
    metric: &'static str,
    /// p50, p95 and p99 in explicit buckets, by the busiest version; `null` where latencies are on the log grid.
    latency_bounds: Option<[BoundView; 3]>,
}

/// The bound at which a quantile is tested, or the nearest where none is near enough.
#[derive(Serialize)]
struct BoundView {
    quantile: f64,
    testable: bool,
    bound_seconds: Option<f64>,
    /// Share of the requests of the last 5 minutes above it.
    exceeded_share: Option<f64>,
    /// The bounds between which the quantile lies; `null` below the first and above the last.
    between_seconds: [Option<f64>; 2],
}

impl BoundView {
    fn new(test: BoundTest) -> Self {
        let BoundTest { quantile, is_testable, nearest, between } = test;
        Self {
            quantile,
            testable: is_testable,
            bound_seconds: nearest.map(|(bound, _)| bound),
            exceeded_share: nearest.map(|(_, share)| share),
            between_seconds: between,
        }
    }
}

/// What one source says of a version.
#[derive(Serialize)]
struct SourceView {
    requests_total: u64,
    errors_total: u64,
    requests_5m: u64,
    errors_5m: u64,
}

impl SourceView {
    fn new(said: &SourceBoard) -> Self {
        let SourceBoard { requests_total, errors_total, requests_5m, errors_5m } = *said;
        Self { requests_total, errors_total, requests_5m, errors_5m }
    }
}

#[derive(Serialize)]
struct VersionView<'a> {
    version: &'a str,
    /// Where the numbers below come from; `spans` and `metrics` count the same requests.
    source: &'static str,
    spans: Option<SourceView>,
    metrics: Option<SourceView>,
    requests_total: u64,
    errors_total: u64,
    client_errors_total: u64,
    weighted_requests_total: f64,
    requests_5m: u64,
    errors_5m: u64,
    burn_5m: f64,
    requests_per_second: f64,
    latency_seconds: Option<Latency>,
    instances: u64,
    late_total: u64,
    future_total: u64,
    skewed_total: u64,
    first_seen_at: Option<String>,
    last_seen_at: Option<String>,
    /// Log records of severity ERROR and above, and exceptions of logs and spans, each counted once.
    error_logs_total: u64,
    exceptions_total: u64,
    late_logs_total: u64,
    future_logs_total: u64,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// The whole list; its length is bounded by the caps of the pipeline.
pub(super) async fn list(State(state): State<Arc<ApiState>>) -> Response {
    let board = state.board.load_full();
    let services = board.services.iter().map(View::new).collect();
    Json(List { evaluated_at: rfc3339(board.at), services }).into_response()
}

impl<'a> View<'a> {
    fn new(s: &'a ServiceBoard) -> Self {
        Self {
            service: ServiceView::new(&s.key),
            slo: s.slo,
            lateness_seconds: s.lateness_seconds,
            completeness: s.completeness,
            unversioned_share_5m: s.unversioned_share(),
            metrics: s.metrics.map(|side| MetricsView {
                interval_seconds: side.slot_seconds,
                lateness_seconds: side.lateness_seconds,
                completeness: side.completeness,
                metric: side.metric,
                latency_bounds: side.bounds.map(|bounds| bounds.map(BoundView::new)),
            }),
            sli_metrics: s
                .sli_metrics
                .iter()
                .map(|(metric, seen)| SliMetricView { metric, seen: *seen })
                .collect(),
            versions: s.versions.iter().map(VersionView::new).collect(),
        }
    }
}

impl<'a> VersionView<'a> {
    fn new(v: &'a VersionBoard) -> Self {
        Self {
            version: &v.version,
            source: v.source.as_str(),
            spans: v.sources[0].as_ref().map(SourceView::new),
            metrics: v.sources[1].as_ref().map(SourceView::new),
            requests_total: v.requests_total,
            errors_total: v.errors_total,
            client_errors_total: v.client_errors_total,
            weighted_requests_total: v.weighted_requests_total,
            requests_5m: v.requests_5m,
            errors_5m: v.errors_5m,
            burn_5m: v.burn_5m,
            requests_per_second: v.rate,
            latency_seconds: v.latency_seconds.map(|[p50, p95, p99]| Latency { p50, p95, p99 }),
            instances: v.instances,
            late_total: v.late_total,
            future_total: v.future_total,
            skewed_total: v.skewed_total,
            first_seen_at: rfc3339(v.first_seen),
            last_seen_at: rfc3339(v.last_seen),
            error_logs_total: v.logs.error_logs,
            exceptions_total: v.logs.exceptions,
            late_logs_total: v.logs.late,
            future_logs_total: v.logs.future,
        }
    }
}
