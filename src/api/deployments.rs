//! `/api/v1/deployments`: list, one, start, cancel.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::access::is_json;
use super::error::ApiError;
use super::idempotency::{Known, MAX_KEY_BYTES};
use super::request;
use super::state::ApiState;
use super::view::{DeploymentView, Detail};
use crate::deployment::{Deployment, Origin, Request};
use crate::model::DeploymentId;
use crate::pipeline::Command;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

/// Which deployments are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filter {
    /// `name`, or `namespace/name`.
    service: Option<String>,
    environment: Option<String>,
    version: Option<String>,
    limit: Option<usize>,
}

impl Filter {
    fn matches(&self, d: &Deployment) -> bool {
        self.service.as_deref().is_none_or(|wanted| d.service.is_called(wanted))
            && self.environment.as_ref().is_none_or(|e| *e == d.service.environment)
            && self.version.as_ref().is_none_or(|v| *v == d.candidate)
    }
}

#[derive(Serialize)]
struct List<'a> {
    deployments: Vec<DeploymentView<'a>>,
}

/// `GET /api/v1/deployments`: newest first.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(filter) =
        filter.map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", e.body_text()))?;
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::field("limit", format!("must be between 1 and {MAX_LIMIT}")));
    }
    let board = state.board.load_full();
    let mut found: Vec<&Deployment> =
        board.deployments.iter().map(AsRef::as_ref).filter(|d| filter.matches(d)).collect();
    found.sort_by_key(|d| std::cmp::Reverse(d.started_at));
    let blinded_by = board.blinded_by.as_deref();
    let view = |d| DeploymentView::new(d, blinded_by, Detail::Service);
    let views = found.into_iter().take(limit).map(view).collect();
    Ok(Json(List { deployments: views }).into_response())
}

/// `GET /api/v1/deployments/{id}`, with the evidence of single operations.
pub(super) async fn one(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = state.deployment(&id)?;
    Ok(full(&state, StatusCode::OK, &found))
}

/// `POST /api/v1/deployments`: 201 for a new one, 200 when it merged with one that runs already.
pub(super) async fn create(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    if !is_json(&headers) {
        let message = "send `Content-Type: application/json`";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let request = request::parse(&body.map_err(|e| body_error(&e))?)?;
    let Some(key) = idempotency_key(&headers)? else {
        let (status, deployment) = start(&state, request).await?;
        return Ok(full(&state, status, &deployment));
    };
    match state.idempotency.get(&key, &request) {
        Known::Same(deployment) => Ok(full(&state, StatusCode::OK, &current(&state, deployment))),
        Known::Different => Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "this Idempotency-Key came with another request before",
        )),
        Known::No => {
            let (status, deployment) = start(&state, request.clone()).await?;
            state.idempotency.put(key, request, deployment.clone());
            Ok(full(&state, status, &deployment))
        }
    }
}

async fn start(state: &ApiState, request: Request) -> Result<(StatusCode, Arc<Deployment>), ApiError> {
    let before = state.board.load_full();
    let deployment = state.command(|answer| Command::Start(request, answer)).await?;
    let known = before.deployments.iter().any(|d| d.id == deployment.id);
    let merged = known || deployment.origin == Origin::Detected;
    Ok((if merged { StatusCode::OK } else { StatusCode::CREATED }, deployment))
}

/// `POST /api/v1/deployments/{id}/cancel`.
pub(super) async fn cancel(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let deployment = state.command(|answer| Command::Cancel(DeploymentId(id), answer)).await?;
    Ok(full(&state, StatusCode::OK, &deployment))
}

/// The newest state of a deployment that was answered with before.
fn current(state: &ApiState, answered: Arc<Deployment>) -> Arc<Deployment> {
    state.deployment(&answered.id.0).unwrap_or(answered)
}

fn full(state: &ApiState, status: StatusCode, deployment: &Deployment) -> Response {
    let board = state.board.load();
    let view = DeploymentView::new(deployment, board.blinded_by.as_deref(), Detail::Operations);
    (status, Json(view)).into_response()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY_BYTES => Ok(Some(key.to_owned())),
        _ => {
            Err(ApiError::field("Idempotency-Key", format!("must be 1 to {MAX_KEY_BYTES} plain characters")))
        }
    }
}

fn body_error(error: &BytesRejection) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than 64 KiB")
        }
        status => ApiError::new(status, "unreadable_body", error.body_text()),
    }
}
