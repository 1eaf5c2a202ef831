//! The client against a stand-in for the API on a real port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use clap::Parser;
use serde_json::json;

use super::*;

/// A port where the deployment `d1` reaches `verdict` at the third look.
async fn port(verdict: &'static str) -> String {
    let looks = Arc::new(AtomicUsize::new(0));
    let one = move || async move {
        let look = looks.fetch_add(1, Ordering::SeqCst);
        let answer = match look {
            0 => json!({"id": "d1", "verdict": "pending", "phase": "warming", "final": false}),
            // A restart in between is waited out.
            1 => return refused(StatusCode::SERVICE_UNAVAILABLE, "rollguard is stopping"),
            _ => json!({"id": "d1", "verdict": verdict, "phase": "closed", "final": verdict != "pending"}),
        };
        (StatusCode::OK, answer.to_string())
    };
    let missing = || async { refused(StatusCode::NOT_FOUND, "no deployment d2") };
    let router = Router::new()
        .route("/api/v1/deployments/d1", get(one))
        .route("/api/v1/deployments/d2", get(missing))
        .route("/api/v1/deployments/d3", get(|| async { "<html>" }))
        .route("/api/v1/deployments", post(|body: String| async move { body }))
        .route("/api/v1/deployments", get(|| async { json!({"deployments": [{"id": "d1"}]}).to_string() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn refused(status: StatusCode, message: &str) -> (StatusCode, String) {
    (status, json!({"error": {"code": "refused", "message": message}}).to_string())
}

fn args(line: &str) -> DeployArgs {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        deploy: DeployArgs,
    }
    Line::try_parse_from(std::iter::once("deploy").chain(line.split_whitespace())).expect(line).deploy
}

#[tokio::test]
async fn wait_turns_verdicts_into_codes() {
    let rows = [("pass", 0), ("fail", 1), ("inconclusive", 2)];
    let checks = rows.map(|(verdict, expected)| async move {
        let url = port(verdict).await;
        let code = act(&args(&format!("wait d1 --url {url} --json"))).await;
        assert_eq!(code.unwrap(), expected, "{verdict}");
    });
    futures_util::future::join_all(checks).await;
}

#[tokio::test]
async fn wait_by_name_ends_at_the_time_limit() {
    let url = port("pending").await;
    let line = format!("wait --service a --version v --url {url} --timeout 300ms --json");
    assert_eq!(act(&args(&line)).await.unwrap(), 2);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let url = port("pass").await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let rows = [
        (format!("status --url http://{nobody}"), "is rollguard running"),
        (format!("wait d1 --url http://{nobody}"), "is rollguard running"),
        (format!("wait d2 --url {url}"), "answered 404: no deployment d2"),
        (format!("status d3 --url {url}"), "not like rollguard's API"),
        (format!("wait --url {url}"), "--service and --version"),
        ("status --url nonsense".to_owned(), "write for example http://127.0.0.1:9464"),
        (format!("status --url {url} --token-file /does/not/exist"), "read the API token"),
    ];
    for (line, expected) in rows {
        let error = act(&args(&line)).await.expect_err(&line);
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
}

#[tokio::test]
async fn start_sends_what_was_given() {
    let url = port("pass").await;
    let client = Client::new(&url, None, REQUEST_TIMEOUT);
    let Action::Start(start) = args("start --service a --version v2 --change-url https://ci/1").action else {
        panic!("start");
    };
    let echoed = client
        .unwrap()
        .post("/api/v1/deployments", Some(body(&start, UnixNanos::from_secs(0)).unwrap()))
        .await
        .unwrap();
    assert_eq!(echoed, json!({"service": "a", "version": "v2", "url": "https://ci/1"}));
}

#[test]
fn a_share_is_a_part_or_a_percentage() {
    for (text, share) in [("10%", 0.1), ("10 %", 0.1), ("0.25", 0.25), ("100%", 1.0)] {
        assert!((super::share(text).unwrap() - share).abs() < 1e-12, "{text}");
    }
    for wrong in ["10", "0", "0%", "-5%", "110%", "a tenth", "", "NaN"] {
        assert!(super::share(wrong).is_err(), "{wrong}");
    }
    let Action::Start(start) = args("start --service a --version v2 --share 10%").action else {
        panic!("start")
    };
    let sent = body(&start, UnixNanos::from_secs(0)).unwrap();
    assert_eq!(sent, json!({"service": "a", "version": "v2", "share": 0.1}));
}

#[test]
fn a_time_goes_instead_of_a_version() {
    let sent = |line: &str| {
        let Action::Start(start) = args(line).action else { panic!("start") };
        body(&start, UnixNanos::from_secs(1_769_860_800))
    };
    for (time, at) in [("now", "2026-01-31T12:00:00Z"), ("-30s", "2026-01-31T11:59:30Z")] {
        let line = format!("start --service a --time {time} --release migration");
        let expected = json!({"service": "a", "time": at, "release": "migration"});
        assert_eq!(sent(&line).unwrap(), expected);
    }
    let scoped = "start --service a --time now --scope cloud.region=eu-1 --scope";
    let scope = json!({"cloud.region": "eu-1", "operation": "/a=b"});
    assert_eq!(sent(&format!("{scoped} operation=/a=b")).unwrap()["scope"], scope);
    let error = sent(&format!("{scoped} cloud.region=us-1")).unwrap_err().to_string();
    assert!(error.contains("names cloud.region twice"), "{error}");
    for wrong in ["eu-1", "=eu-1", "cloud.region="] {
        assert!(super::scope(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn ids_are_encoded() {
    assert_eq!(path("a/../b c"), "/api/v1/deployments/a%2F..%2Fb%20c");
}
