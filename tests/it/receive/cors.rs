//! H7: browsers whose pages come from another origin.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rollguard::receiver::{CorsConfig, ReceiverConfig};

use super::support::*;

async fn gateway(cors: Option<CorsConfig>) -> Gateway {
    let mut config: ReceiverConfig = config();
    config.http.cors = cors;
    let passed = Capture::default();
    Gateway::start_with(config, passed.clone(), Arc::new(passed)).await
}

fn shop() -> CorsConfig {
    CorsConfig {
        allowed_origins: vec!["https://*.x.com".into(), "http://localhost:3000".into()],
        allowed_headers: vec!["X-Team".into()],
        exposed_headers: vec!["Retry-After".into()],
        max_age: Duration::from_secs(600),
    }
}

async fn ask(gateway: &Gateway, method: Method, path: &str, origin: &str) -> (StatusCode, HeaderMap) {
    let mut request = client()
        .request(method.clone(), gateway.url(path))
        .header("origin", origin)
        .header("content-type", "application/json");
    if method == Method::OPTIONS {
        request = request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-team");
    }
    let response = request.body("{}").send().await.unwrap();
    (response.status(), response.headers().clone())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn h7_a_preflight_says_what_a_page_may_send() {
    let gateway = gateway(Some(shop())).await;
    for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        let (status, headers) = ask(&gateway, Method::OPTIONS, path, "https://shop.x.com").await;
        assert!(status.is_success(), "{status}");
        assert_eq!(text(&headers, "access-control-allow-origin"), "https://shop.x.com");
        assert_eq!(text(&headers, "access-control-allow-credentials"), "true");
        assert_eq!(text(&headers, "access-control-allow-methods"), "POST");
        assert_eq!(text(&headers, "access-control-max-age"), "600");
        let allowed = text(&headers, "access-control-allow-headers").to_ascii_lowercase();
        for header in ["content-type", "content-encoding", "x-team"] {
            assert!(allowed.contains(header), "{allowed}");
        }
        assert!(text(&headers, "vary").to_ascii_lowercase().contains("origin"));
    }
}

#[tokio::test]
async fn h7_answers_to_a_page_carry_its_origin_also_when_they_are_errors() {
    let gateway = gateway(Some(shop())).await;
    let (status, headers) = ask(&gateway, Method::POST, "/v1/traces", "http://localhost:3000").await;
    assert_eq!(status, 200);
    assert_eq!(text(&headers, "access-control-allow-origin"), "http://localhost:3000");
    assert_eq!(text(&headers, "access-control-expose-headers").to_ascii_lowercase(), "retry-after");
    let (status, headers) = ask(&gateway, Method::GET, "/v1/traces", "http://localhost:3000").await;
    assert_eq!(
        (status.as_u16(), text(&headers, "access-control-allow-origin")),
        (405, "http://localhost:3000")
    );
}

#[tokio::test]
async fn h7_other_origins_and_other_paths_are_allowed_nothing() {
    let gateway = gateway(Some(shop())).await;
    for (path, origin) in [("/v1/traces", "https://x.com.evil.com"), ("/other", "https://shop.x.com")] {
        for method in [Method::OPTIONS, Method::POST] {
            let (_, headers) = ask(&gateway, method, path, origin).await;
            assert_eq!(text(&headers, "access-control-allow-origin"), "", "{path} {origin}");
        }
    }
}

#[tokio::test]
async fn h7_any_header_is_allowed_by_a_star() {
    let any = CorsConfig { allowed_headers: vec!["*".into()], ..shop() };
    let gateway = gateway(Some(any)).await;
    let (_, headers) = ask(&gateway, Method::OPTIONS, "/v1/logs", "https://a.x.com").await;
    assert_eq!(text(&headers, "access-control-allow-headers"), "content-type,x-team");
}

#[tokio::test]
async fn h7_it_is_off_by_default() {
    let gateway = gateway(None).await;
    let (status, headers) = ask(&gateway, Method::OPTIONS, "/v1/traces", "https://shop.x.com").await;
    assert_eq!(status, 405);
    assert!(headers.keys().all(|name| !name.as_str().starts_with("access-control")));
}
