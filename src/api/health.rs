//! `/healthz`: the process is alive, or 503 when only a new start helps. `/readyz`: it does its work, or 503 and why not.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::error::ApiError;
use super::state::ApiState;

#[derive(Serialize)]
pub(super) struct Status {
    status: &'static str,
    version: &'static str,
}

const fn status(status: &'static str) -> Json<Status> {
    Json(Status { status, version: env!("CARGO_PKG_VERSION") })
}

pub(super) async fn alive(State(state): State<Arc<ApiState>>) -> Result<Json<Status>, ApiError> {
    if state.is_alive() {
        return Ok(status("alive"));
    }
    let reason = "the evaluator ended by a fault; rollguard has to be started again";
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_alive", reason))
}

pub(super) async fn ready(State(state): State<Arc<ApiState>>) -> Result<Json<Status>, ApiError> {
    match state.not_ready() {
        None => Ok(status("ready")),
        Some(reason) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason)),
    }
}
