//! `GET /api/v1/deployments/{id}/explanation`: what decided, the sum, what would have turned it, and what could not have
//! been seen; as JSON, text or Markdown.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::state::ApiState;
use super::view::{ServiceView, rfc3339};
use crate::deployment::Deployment;
use crate::verdict::{Account, Ground};

/// In which form it is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wanted {
    format: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    #[default]
    Json,
    Text,
    Markdown,
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    service: ServiceView<'a>,
    baseline: Option<&'a str>,
    candidate: &'a str,
    kind: &'static str,
    time: Option<String>,
    phase: &'static str,
    verdict: &'static str,
    decided_at: Option<String>,
    summary: &'a str,
    /// The sum in words, and as odds that the candidate is worse: now, and where a fail is.
    sum: &'a str,
    odds: f64,
    fail_odds: f64,
    grounds: Vec<GroundView<'a>>,
    what_would_have_turned_it: &'a [String],
    what_could_not_have_been_seen: &'a [String],
}

#[derive(Serialize)]
struct GroundView<'a> {
    what: &'a str,
    share_of_sum: f64,
    weight: f64,
    nats: f64,
    counts: &'a str,
}

/// Answers from the published picture.
pub(super) async fn of_deployment(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(wanted) = wanted.map_err(|e| {
        let message = format!("{}; `format` is json, text or markdown", e.body_text());
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", message)
    })?;
    let deployment = state.deployment(&id)?;
    let account = deployment.account();
    let plain = |kind: &'static str, text: String| ([(CONTENT_TYPE, kind)], text).into_response();
    Ok(match wanted.format {
        Form::Json => Json(View::new(&deployment, &account)).into_response(),
        Form::Text => plain("text/plain; charset=utf-8", account.text()),
        Form::Markdown => plain("text/markdown; charset=utf-8", account.markdown()),
    })
}

impl<'a> View<'a> {
    fn new(d: &'a Deployment, account: &'a Account) -> Self {
        Self {
            id: &d.id.0,
            service: ServiceView::new(&d.service),
            baseline: d.baseline.as_deref(),
            candidate: &d.candidate,
            kind: d.kind().as_str(),
            time: d.time.and_then(rfc3339),
            phase: d.phase.as_str(),
            verdict: d.verdict.as_str(),
            decided_at: d.decided_at.and_then(rfc3339),
            summary: &account.summary,
            sum: &account.sum,
            odds: account.odds[0],
            fail_odds: account.odds[1],
            grounds: account.grounds.iter().map(GroundView::new).collect(),
            what_would_have_turned_it: &account.turns,
            what_could_not_have_been_seen: &account.unseen,
        }
    }
}

impl<'a> GroundView<'a> {
    fn new(g: &'a Ground) -> Self {
        Self { what: &g.what, share_of_sum: g.share, weight: g.weight, nats: g.nats, counts: &g.counts }
    }
}
