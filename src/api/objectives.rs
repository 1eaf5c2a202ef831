//! `GET /api/v1/objectives`: error budgets of services and journeys, how fast they burn, and what somebody was told of.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::state::ApiState;
use super::view::{ServiceView, rfc3339};
use crate::model::{NANOS_PER_SECOND, UnixNanos};
use crate::objective::{Budget, Episode, Severity, TARGET_BURN, Window};
use crate::pipeline::ObjectiveBoard;

/// Which objectives are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filter {
    /// `name`, or `namespace/name`.
    service: Option<String>,
    environment: Option<String>,
    /// A journey by its name.
    journey: Option<String>,
}

impl Filter {
    fn matches(&self, o: &ObjectiveBoard) -> bool {
        self.service.as_deref().is_none_or(|wanted| o.service.is_called(wanted))
            && self.environment.as_ref().is_none_or(|e| *e == o.service.environment)
            && self.journey.as_ref().is_none_or(|j| o.journey.as_deref() == Some(j))
    }
}

#[derive(Serialize)]
struct List<'a> {
    evaluated_at: Option<String>,
    objectives: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    service: ServiceView<'a>,
    /// `null` for the whole service.
    journey: Option<&'a str>,
    slo: f64,
    window_days: u32,
    /// Burn rate that a service should stay below, and whether it does now; `null` without requests.
    burn_target: f64,
    within_target: Option<bool>,
    burn: Vec<BurnView>,
    /// `null` before the first request.
    budget: Option<BudgetView>,
    alerts: Vec<AlertView>,
}

#[derive(Serialize)]
struct BurnView {
    window: &'static str,
    /// `null` without requests, which say nothing.
    burn: Option<f64>,
    /// Share of the window that was watched.
    completeness: f64,
}

#[derive(Serialize)]
struct BudgetView {
    allowed_requests: f64,
    spent_requests: u64,
    left_requests: f64,
    left_ratio: f64,
    completeness: f64,
}

#[derive(Serialize)]
struct AlertView {
    severity: &'static str,
    rule: &'static str,
    burn_limit: f64,
    long_window: &'static str,
    short_window: &'static str,
    since: Option<String>,
    worst_burn: f64,
}

/// The list; its length is bounded by the caps of the pipeline.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(filter) =
        filter.map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", e.body_text()))?;
    let board = state.board.load_full();
    let objectives = board.objectives.iter().filter(|o| filter.matches(o)).map(View::new).collect();
    Ok(Json(List { evaluated_at: rfc3339(board.at), objectives }).into_response())
}

impl<'a> View<'a> {
    fn new(o: &'a ObjectiveBoard) -> Self {
        let burn = Window::ALL.into_iter().zip(o.burn).zip(o.watched);
        Self {
            service: ServiceView::new(&o.service),
            journey: o.journey.as_deref(),
            slo: o.slo,
            window_days: o.days,
            burn_target: TARGET_BURN,
            within_target: o.burn[0].map(|burn| burn < TARGET_BURN),
            burn: burn
                .map(|((window, burn), completeness)| BurnView {
                    window: window.as_str(),
                    burn,
                    completeness,
                })
                .collect(),
            budget: o.budget.as_ref().map(BudgetView::new),
            alerts: o.open.iter().map(|(severity, episode)| AlertView::new(*severity, episode)).collect(),
        }
    }
}

impl BudgetView {
    fn new(b: &Budget) -> Self {
        Self {
            allowed_requests: b.allowed,
            spent_requests: b.spent,
            left_requests: b.left(),
            left_ratio: b.left_ratio(),
            completeness: b.completeness,
        }
    }
}

impl AlertView {
    fn new(severity: Severity, episode: &Episode) -> Self {
        let tier = episode.rule.tier();
        Self {
            severity: severity.as_str(),
            rule: episode.rule.as_str(),
            burn_limit: tier.factor,
            long_window: tier.long.as_str(),
            short_window: tier.short.as_str(),
            since: rfc3339(UnixNanos(episode.since.unsigned_abs().saturating_mul(NANOS_PER_SECOND))),
            worst_burn: episode.worst_burn,
        }
    }
}
