//! `GET /api/v1/exporters`: how full the queues of each exporter are, and what its backend refused for good.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::state::ApiState;
use super::view::rfc3339;
use crate::pipeline::{ExporterReport, QueueReport, RejectedRequest};

#[derive(Serialize)]
struct List {
    exporters: Vec<View>,
}

#[derive(Serialize)]
struct View {
    name: String,
    queues: Vec<QueueView>,
    /// The newest first.
    last_rejected: Vec<RejectedView>,
}

#[derive(Serialize)]
struct QueueView {
    data_type: &'static str,
    /// Where each address has a queue of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// Waiting or being sent.
    requests: usize,
    requests_capacity: usize,
    bytes: usize,
    bytes_capacity: usize,
}

/// A request that was dropped because the backend refused it for good.
#[derive(Serialize)]
struct RejectedView {
    at: Option<String>,
    data_type: &'static str,
    records: u64,
    bytes: usize,
    services: Vec<String>,
    /// Of the bytes that were refused.
    sha256: String,
    code: String,
    message: String,
}

/// Answers with all of them, by name.
pub(super) async fn list(State(state): State<Arc<ApiState>>) -> Response {
    let exporters = state.exporters.exporters().into_iter().map(View::from).collect();
    Json(List { exporters }).into_response()
}

impl From<ExporterReport> for View {
    fn from(report: ExporterReport) -> Self {
        Self {
            name: report.name.to_string(),
            queues: report.queues.into_iter().map(QueueView::from).collect(),
            last_rejected: report.last_rejected.into_iter().map(RejectedView::from).collect(),
        }
    }
}

impl From<QueueReport> for QueueView {
    fn from(queue: QueueReport) -> Self {
        let ([requests, requests_capacity], [bytes, bytes_capacity]) = (queue.requests, queue.bytes);
        let endpoint = queue.endpoint.map(|endpoint| endpoint.to_string());
        Self { data_type: queue.data.as_str(), endpoint, requests, requests_capacity, bytes, bytes_capacity }
    }
}

impl From<RejectedRequest> for RejectedView {
    fn from(request: RejectedRequest) -> Self {
        let RejectedRequest { at, data, records, bytes, services, sha256, code, message } = request;
        let sha256 = sha256.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { at: rfc3339(at), data_type: data.as_str(), records, bytes, services, sha256, code, message }
    }
}
