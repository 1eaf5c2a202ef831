//! Browsers that send telemetry (H7): what a page of another origin may ask of the OTLP/HTTP paths. Off unless
//! origins are named. Credentials are allowed, as the Collector does, so an origin is always answered by its
//! own name and never by a star.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, request};
use serde::{Deserialize, Serialize};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::pipeline::human;

/// What exporters in browsers set, whatever is configured.
const ALWAYS: [HeaderName; 4] =
    [ACCEPT, CONTENT_TYPE, CONTENT_ENCODING, HeaderName::from_static("x-requested-with")];
/// Stands for every header or origin, or within an origin for any part of it.
const ANY: &str = "*";

/// Which pages may send telemetry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// Origins, such as `https://shop.example.com`; one `*` in each stands for any text, as in
    /// `https://*.example.com`.
    pub allowed_origins: Vec<String>,
    /// Headers a page may send beside `Accept`, `Content-Type`, `Content-Encoding` and `X-Requested-With`;
    /// `*` for any.
    pub allowed_headers: Vec<String>,
    /// Headers of answers that a page may read.
    pub exposed_headers: Vec<String>,
    /// How long a browser may remember what it was allowed; 0 leaves it to the browser.
    #[serde(with = "human")]
    pub max_age: Duration,
}

impl CorsConfig {
    /// What cannot work, each with a way out.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.allowed_origins.is_empty() {
            problems.push(
                "receiver.http.cors names no allowed_origins, so no page may send; leave it out".into(),
            );
        }
        for origin in self.allowed_origins.iter().filter(|origin| !is_pattern(origin)) {
            problems.push(format!(
                "receiver.http.cors.allowed_origins: `{origin}` is no origin; write https://shop.example.com, \
                 https://*.example.com or *"
            ));
        }
        let headers =
            [("allowed_headers", &self.allowed_headers), ("exposed_headers", &self.exposed_headers)];
        for (list, name) in
            headers.iter().flat_map(|(list, names)| names.iter().map(move |name| (list, name)))
        {
            if name != ANY && HeaderName::try_from(name.as_str()).is_err() {
                problems.push(format!("receiver.http.cors.{list}: `{name}` is no header name"));
            }
        }
        problems
    }

    /// What answers browsers.
    pub(super) fn layer(&self) -> CorsLayer {
        let origins = self.allowed_origins.clone();
        let allowed = move |origin: &HeaderValue, _: &request::Parts| {
            let origin = origin.to_str().unwrap_or_default();
            origins.iter().any(|pattern| is_allowed(pattern, origin))
        };
        let any = |names: &[String]| names.iter().any(|name| name == ANY);
        let named =
            |names: &[String]| names.iter().filter_map(|name| name.parse::<HeaderName>().ok()).collect();
        let allowed_headers = if any(&self.allowed_headers) {
            AllowHeaders::mirror_request()
        } else {
            let more: Vec<HeaderName> = named(&self.allowed_headers);
            AllowHeaders::list(ALWAYS.into_iter().chain(more))
        };
        let exposed: Vec<HeaderName> = named(&self.exposed_headers);
        let layer = CorsLayer::new()
            .allow_credentials(true)
            .allow_methods([Method::POST])
            .allow_origin(AllowOrigin::predicate(allowed))
            .allow_headers(allowed_headers)
            .expose_headers(exposed);
        if self.max_age.is_zero() { layer } else { layer.max_age(self.max_age) }
    }
}

fn is_pattern(origin: &str) -> bool {
    let has_scheme = origin
        .split_once("://")
        .is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains('/'));
    origin == ANY || has_scheme && origin.matches('*').count() <= 1
}

/// Whether an origin is what the pattern says. The star stands for at least one character, and never for the
/// end of a host.
fn is_allowed(pattern: &str, origin: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == origin };
    let between = origin.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    between.is_some_and(|between| !between.is_empty() && (pattern == ANY || !between.contains('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h7_origins_match_their_patterns() {
        for (pattern, origin, expected) in [
            ("https://x.com", "https://x.com", true),
            ("https://x.com", "http://x.com", false),
            ("https://x.com", "https://x.com.evil.com", false),
            ("https://*.x.com", "https://shop.x.com", true),
            ("https://*.x.com", "https://a.b.x.com", true),
            ("https://*.x.com", "https://x.com", false),
            ("https://*.x.com", "https://.x.com", false),
            ("https://*.x.com", "https://evilx.com", false),
            ("https://*.x.com", "https://evil.com/.x.com", false),
            ("http://localhost:*", "http://localhost:8080", true),
            ("*", "https://anything.example", true),
            ("*", "null", true),
            ("https://x.com", "", false),
        ] {
            assert_eq!(is_allowed(pattern, origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn h7_what_cannot_work_is_named() {
        let problems = |yaml: &str| serde_json::from_str::<CorsConfig>(yaml).unwrap().problems().len();
        assert_eq!(
            problems(r#"{"allowed_origins":["*","https://*.x.com","http://a:80"],"max_age":"1h"}"#),
            0
        );
        assert_eq!(problems("{}"), 1);
        assert_eq!(problems(r#"{"allowed_origins":["x.com","https://x.com/","https://*.*.com"]}"#), 3);
        assert_eq!(problems(r#"{"allowed_origins":["*"],"allowed_headers":["*","a b"]}"#), 1);
        assert!(serde_json::from_str::<CorsConfig>(r#"{"allow_origins":[]}"#).is_err());
    }
}
