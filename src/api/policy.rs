//! `GET /api/v1/services/{name}/policy`: what a service is held to, each value with the block of the configuration
//! that it comes from. Also for a service that was never seen: the answer is what would hold for it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::state::ApiState;
use crate::deployment::{Deployment, Resolution, resolve_service};
use crate::model::ServiceKey;

/// Which policy of the service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    environment: Option<String>,
    release: Option<String>,
}

/// One service by `name` or `namespace/name`; one policy for each environment and namespace in which it was seen.
pub(super) async fn of_service(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) =
        asked.map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", e.body_text()))?;
    let board = state.board.load_full();
    let known = board.services.iter().map(|service| &service.key);
    let (keys, seen) = match resolve_service(&name, asked.environment.as_deref(), known) {
        Resolution::Found(key) => (vec![key], true),
        Resolution::Ambiguous(keys) => (keys, true),
        Resolution::Unknown(key) => (vec![key], false),
    };
    let release = asked.release.as_deref().unwrap_or(Deployment::VERSION);
    let policies = (state.policies)();
    let one = |key: &ServiceKey| {
        let mut policy = policies.explain(key, release).json(key, release);
        policy["seen"] = Value::Bool(seen);
        policy
    };
    Ok(Json(json!({"policies": keys.iter().map(one).collect::<Vec<_>>()})).into_response())
}
