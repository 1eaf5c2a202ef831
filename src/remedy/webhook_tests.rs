//! Answers and addresses, and real connections where the guard matters.

use std::time::Duration;

use base64::Engine;

use super::*;

fn config(dir: &std::path::Path, url: &str) -> WebhookConfig {
    let secret_file = dir.join("secret");
    let key = base64::engine::general_purpose::STANDARD.encode([3u8; 32]);
    std::fs::write(&secret_file, format!("whsec_{key}\n")).unwrap();
    WebhookConfig {
        url: url.into(),
        secret_file,
        timeout: Duration::from_secs(5),
        ca_file: None,
        allow_loopback: false,
        allow_link_local: false,
    }
}

#[test]
fn what_an_answer_means() {
    let now = UnixNanos::from_secs(1_767_323_045);
    for (status, header, expected) in [
        (200, None, "delivered"),
        (204, None, "delivered"),
        (301, None, "dead"),
        (400, None, "dead"),
        (410, None, "dead"),
        (413, None, "dead"),
        (422, None, "dead"),
        (401, None, "retry None"),
        (403, None, "retry None"),
        (404, Some("5"), "retry Some(5)"),
        (408, None, "retry None"),
        (429, Some("20"), "retry Some(20)"),
        (500, None, "retry None"),
        (503, Some("Fri, 02 Jan 2026 03:04:35 GMT"), "retry Some(30)"),
        (503, Some("Fri, 02 Jan 2026 03:00:00 GMT"), "retry Some(0)"),
        (503, Some("soon"), "retry None"),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        let said = match judge(StatusCode::from_u16(status).unwrap(), &headers, now) {
            AttemptResult::Delivered => "delivered".to_owned(),
            AttemptResult::Dead(_) => "dead".into(),
            AttemptResult::Retry { after_seconds, .. } => format!("retry {after_seconds:?}"),
        };
        assert_eq!(said, expected, "{status} {header:?}");
    }
}

#[test]
fn endpoints_that_can_be_used_and_that_cannot() {
    let dir = tempfile::tempdir().unwrap();
    for (url, says) in [
        ("https://deployer.example/rollback", ""),
        ("http://deployer.shop.svc:8080/rollback", ""),
        ("http://10.1.2.3/", ""),
        ("http://localhost:1/", ""),
        ("http://[::1]:1/", ""),
        ("ftp://a/", "\"ftp://a/\" is no http:// or https:// address"),
        ("deployer", "\"deployer\" is no http:// or https:// address"),
        ("http://169.254.169.254/latest", "use the webhook address http://169.254.169.254/latest"),
        ("http://[::ffff:169.254.169.254]/", "use the webhook address"),
        ("http://0.0.0.0/", "use the webhook address"),
    ] {
        let said = Webhook::new(&config(dir.path(), url)).err().map_or_else(String::new, |e| e.to_string());
        assert!(said.starts_with(says) && said.is_empty() == says.is_empty(), "{url}: {said}");
    }
    let mut allowed = config(dir.path(), "http://169.254.169.254/");
    allowed.allow_link_local = true;
    assert!(Webhook::new(&allowed).is_ok());
    let mut missing = config(dir.path(), "http://a/");
    missing.secret_file = dir.path().join("none");
    assert!(matches!(Webhook::new(&missing).unwrap_err(), WebhookError::File { .. }));
    std::fs::write(&missing.secret_file, "hunter2").unwrap();
    assert!(matches!(Webhook::new(&missing).unwrap_err(), WebhookError::Secret { .. }));
}

/// Guarantees: a name that leads to a loopback address is not connected to unless allowed; the reason is
/// said, the address with its token is not.
#[tokio::test]
async fn a_name_that_leads_to_ourselves_is_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("http://localhost:{port}/?token=hidden"));
    let mut webhook = Webhook::new(&config).unwrap();
    // As it is for any other name: the word `localhost` itself would be taken as meant.
    webhook.client = client(&config, false, AddressPolicy::default()).unwrap();
    let result = webhook.attempt("msg_1", b"{}".to_vec(), UnixNanos::from_secs(1)).await;
    let AttemptResult::Retry { error, .. } = result else { panic!("{result:?}") };
    assert!(
        error.contains("refused to connect to localhost") && error.contains("a loopback address"),
        "{error}"
    );
    assert!(!error.contains("hidden"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_a_reason_to_try_again() {
    let port = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let dir = tempfile::tempdir().unwrap();
    let webhook = Webhook::new(&config(dir.path(), &format!("http://127.0.0.1:{port}/"))).unwrap();
    let result = webhook.attempt("msg_1", b"{}".to_vec(), UnixNanos::from_secs(1)).await;
    assert!(matches!(result, AttemptResult::Retry { .. }), "{result:?}");
}
