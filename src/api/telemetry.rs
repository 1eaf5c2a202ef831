//! `GET /api/v1/services/{name}/telemetry`: what the telemetry of a service says of itself, and what it lacks
//! for good verdicts, with the lines of configuration that mend it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::ApiError;
use super::state::ApiState;
use super::view::{ServiceView, labels, rfc3339};
use crate::pipeline::{
    FlagTelemetry, Missing, PLACED_BY, Sdk, ServiceTelemetry, Signal, SignalTelemetry, VersionTelemetry,
};

#[derive(Serialize)]
struct Answer<'a> {
    evaluated_at: Option<String>,
    /// One for each namespace, environment and further identity under which the name occurs.
    services: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    service: ServiceView<'a>,
    /// By signal; what never came is null.
    signals: BTreeMap<&'static str, Option<SignalView<'a>>>,
    versions: Vec<VersionView<'a>>,
    /// Flags that the configuration makes a part of versions, as far as anything tells of them.
    feature_flags: BTreeMap<&'a str, FlagView>,
    missing: Vec<MissingView<'a>>,
}

/// Shares are of the records: spans, data points, log records.
#[derive(Serialize)]
struct SignalView<'a> {
    resources: u64,
    records: u64,
    unversioned_share: f64,
    /// Reached their version by an id of their pod, container or process.
    joined_share: f64,
    version_from: BTreeMap<&'a str, f64>,
    instance_from: BTreeMap<&'static str, f64>,
    namespace_share: f64,
    environment_share: f64,
    attributes: BTreeMap<&'static str, f64>,
}

#[derive(Serialize)]
struct VersionView<'a> {
    version: &'a str,
    records: BTreeMap<&'static str, u64>,
    sdks: Vec<SdkView<'a>>,
    change: BTreeMap<&'static str, &'a str>,
    /// Instances seen, by where they run.
    placement: Vec<PlaceView<'a>>,
}

#[derive(Serialize)]
struct SdkView<'a> {
    name: &'a str,
    language: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct PlaceView<'a> {
    zone: Option<&'a str>,
    region: Option<&'a str>,
    cluster: Option<&'a str>,
    instances: u64,
}

/// Records that tell which variant was taken.
#[derive(Serialize)]
struct FlagView {
    requests: u64,
    other_spans: u64,
    log_records: u64,
}

#[derive(Serialize)]
struct MissingView<'a> {
    what: &'static str,
    severity: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    environment: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    collector: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    code: &'static [&'static str],
}

/// One service by `name` or `namespace/name`.
pub(super) async fn of_service(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let board = state.board.load_full();
    let is_it = |s: &&ServiceTelemetry| {
        s.service.name == name
            || name.split_once('/') == Some((s.service.namespace.as_str(), s.service.name.as_str()))
    };
    let services: Vec<View<'_>> = board.telemetry.iter().filter(is_it).map(View::new).collect();
    if services.is_empty() {
        return Err(ApiError::not_found(format!("no telemetry of a service {name}; see /api/v1/services")));
    }
    Ok(Json(Answer { evaluated_at: rfc3339(board.at), services }).into_response())
}

impl<'a> View<'a> {
    fn new(s: &'a ServiceTelemetry) -> Self {
        let signals = Signal::ALL.into_iter().zip(&s.signals);
        Self {
            service: ServiceView::new(&s.service),
            signals: signals
                .map(|(signal, seen)| (signal.as_str(), seen.as_ref().map(SignalView::new)))
                .collect(),
            versions: s.versions.iter().map(VersionView::new).collect(),
            feature_flags: s.flags.iter().map(|(key, told)| (key.as_str(), FlagView::new(told))).collect(),
            missing: s.missing.iter().map(MissingView::new).collect(),
        }
    }
}

impl<'a> SignalView<'a> {
    fn new(s: &'a SignalTelemetry) -> Self {
        Self {
            resources: s.resources,
            records: s.records,
            unversioned_share: s.share(s.unversioned),
            joined_share: s.share(s.joined),
            version_from: s.version_from.iter().map(|(source, n)| (source.as_str(), s.share(*n))).collect(),
            instance_from: s.instance_from.iter().map(|(name, n)| (*name, s.share(*n))).collect(),
            namespace_share: s.share(s.with_namespace),
            environment_share: s.share(s.with_environment),
            attributes: s.with.iter().map(|(a, n)| (a.as_str(), s.share(*n))).collect(),
        }
    }
}

impl<'a> VersionView<'a> {
    fn new(v: &'a VersionTelemetry) -> Self {
        let place = |(place, instances): (&'a [Option<String>; PLACED_BY.len()], &u64)| {
            let [zone, region, cluster] = place.each_ref().map(Option::as_deref);
            PlaceView { zone, region, cluster, instances: *instances }
        };
        Self {
            version: &v.version,
            records: Signal::ALL.into_iter().map(Signal::as_str).zip(v.records).collect(),
            sdks: v.sdks.iter().map(SdkView::new).collect(),
            change: labels(&v.change),
            placement: v.places.iter().map(place).collect(),
        }
    }
}

impl<'a> SdkView<'a> {
    fn new(sdk: &'a Sdk) -> Self {
        Self { name: &sdk.name, language: &sdk.language, version: &sdk.version }
    }
}

impl FlagView {
    const fn new(told: &FlagTelemetry) -> Self {
        let FlagTelemetry { requests, other_spans, log_records } = *told;
        Self { requests, other_spans, log_records }
    }
}

impl<'a> MissingView<'a> {
    fn new(m: &'a Missing) -> Self {
        Self {
            what: m.what,
            severity: if m.is_warning { "warning" } else { "note" },
            text: &m.text,
            environment: m.environment,
            collector: m.collector,
            code: m.code,
        }
    }
}
