//! The routes, and what holds for all of them: body limit, time limit, errors as JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::access::guard_writes;
use super::error::ApiError;
use super::state::ApiState;
use super::{deployments, explanation, exporters, health, objectives, policy, services, slots, telemetry};

const MAX_BODY_BYTES: usize = 64 * 1024;

/// The whole port. `extra` are routes of siblings, such as `/metrics`, that share it.
pub fn router(state: Arc<ApiState>, request_timeout: Duration, extra: Router) -> Router {
    let writes = Router::new()
        .route("/api/v1/deployments", post(deployments::create))
        .route("/api/v1/deployments/{id}/cancel", post(deployments::cancel))
        .route_layer(from_fn_with_state(state.clone(), guard_writes));
    Router::new()
        .route("/api/v1/deployments", get(deployments::list))
        .route("/api/v1/deployments/{id}", get(deployments::one))
        .route("/api/v1/deployments/{id}/explanation", get(explanation::of_deployment))
        .route("/api/v1/deployments/{id}/slots", get(slots::of_deployment))
        .route("/api/v1/exporters", get(exporters::list))
        .route("/api/v1/objectives", get(objectives::list))
        .route("/api/v1/services", get(services::list))
        .route("/api/v1/services/{name}/policy", get(policy::of_service))
        .route("/api/v1/services/{name}/telemetry", get(telemetry::of_service))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(writes)
        .with_state(state)
        .merge(extra)
        .fallback(|| async {
            ApiError::not_found("no such path; see /api/v1/deployments, /api/v1/services, /metrics")
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path has no such method",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(request_timeout, within))
        .layer(from_fn(headers))
}

/// Answers for a handler that takes too long, or a client that never sends its body.
async fn within(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable("the request took too long").into_response(),
    }
}

/// Answers are of the moment, and are data rather than pages.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
