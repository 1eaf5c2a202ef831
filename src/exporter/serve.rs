//! The HTTP side: `/metrics` and the rules file for it, routes that the program mounts on its port.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::json;

use super::families::{identity_labels, render};
use super::negotiate;
use super::rules::{Wanted, rules};
use super::tally::Tally;
use super::text::Format;
use crate::model::ServiceKey;
use crate::pipeline::Board;

/// Answers scrapes from the published picture.
#[derive(Debug)]
pub struct Exporter {
    board: Arc<ArcSwap<Board>>,
    identity: Vec<String>,
    tally: Mutex<Tally>,
}

impl Exporter {
    /// Reads `board` at each scrape. `identity_attributes` are the configured attributes whose values are in
    /// `ServiceKey::extra`, in the same order; they become labels.
    pub fn new(board: Arc<ArcSwap<Board>>, identity_attributes: &[String]) -> Self {
        Self { board, identity: identity_labels(identity_attributes), tally: Mutex::default() }
    }

    /// The page as of now.
    pub fn render(&self, format: Format) -> String {
        let board = self.board.load_full();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        render(&board, &self.identity, tally.update(&board), format)
    }

    /// A router with `/metrics`, and with the rules file that goes with it.
    pub fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(scrape))
            .route("/api/v1/rules", get(rules_file))
            .with_state(Arc::new(self))
    }

    /// The rules file for some services; `None` where none is called like that.
    fn rules(&self, asked: Asked) -> Option<String> {
        let mut wanted = Wanted { only: Vec::new(), runbook_url: asked.runbook_url };
        let Some(name) = asked.service else { return Some(rules(&wanted, &self.identity)) };
        let board = self.board.load_full();
        let is_meant = |key: &ServiceKey| {
            key.is_called(&name) && asked.environment.as_ref().is_none_or(|e| *e == key.environment)
        };
        let mut known =
            board.services.iter().map(|s| &s.key).chain(board.objectives.iter().map(|o| &o.service));
        let found = known.find(|key| is_meant(key))?;
        if found.name != name {
            wanted.only.push(("service_namespace", found.namespace.clone()));
        }
        wanted.only.push(("service_name", found.name.clone()));
        wanted.only.extend(asked.environment.map(|environment| ("environment", environment)));
        Some(rules(&wanted, &self.identity))
    }
}

/// Which rules are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    /// `name`, or `namespace/name`; all services without it.
    service: Option<String>,
    environment: Option<String>,
    runbook_url: Option<String>,
}

async fn rules_file(
    State(exporter): State<Arc<Exporter>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let refuse = |status: StatusCode, code: &str, message: &str| {
        (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
    };
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "invalid_query", &error.body_text()),
    };
    match exporter.rules(asked) {
        Some(text) => ([(CONTENT_TYPE, "application/yaml; charset=utf-8")], text).into_response(),
        None => {
            let message =
                "no telemetry of such a service yet; without `service` the rules are for all of them";
            refuse(StatusCode::NOT_FOUND, "not_found", message)
        }
    }
}

async fn scrape(State(exporter): State<Arc<Exporter>>, headers: HeaderMap) -> Response {
    let format = negotiate::format(joined(&headers, &ACCEPT).as_deref());
    let page = exporter.render(format);
    let typed = [(CONTENT_TYPE, format.content_type()), (VARY, "Accept, Accept-Encoding")];
    if negotiate::gzip(joined(&headers, &ACCEPT_ENCODING).as_deref())
        && let Ok(small) = compressed(page.as_bytes())
    {
        return (typed, [(CONTENT_ENCODING, "gzip")], small).into_response();
    }
    (typed, page).into_response()
}

/// A list header that may come in several lines.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// Fast compression: a page is text that repeats itself, the level hardly matters.
fn compressed(page: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8), Compression::fast());
    encoder.write_all(page)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get(accept: &str, encoding: &str) -> (HeaderMap, Vec<u8>) {
        let exporter = Exporter::new(Arc::default(), &[]);
        let request = Request::get("/metrics")
            .header(ACCEPT, accept)
            .header(ACCEPT_ENCODING, encoding)
            .body(Body::empty())
            .unwrap();
        let response = exporter.router().oneshot(request).await.unwrap();
        let headers = response.headers().clone();
        (headers, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn answers_in_the_wanted_form() {
        let (headers, plain) = get("*/*", "identity").await;
        assert_eq!(headers[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        assert!(!headers.contains_key(CONTENT_ENCODING));
        let (headers, small) = get("application/openmetrics-text", "gzip").await;
        assert_eq!(headers[CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert_eq!(headers[CONTENT_ENCODING], "gzip");
        let mut page = String::new();
        flate2::read::GzDecoder::new(small.as_slice()).read_to_string(&mut page).unwrap();
        assert_eq!(page, String::from_utf8(plain).unwrap() + "# EOF\n");
    }
}
