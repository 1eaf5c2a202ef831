//! Exporters over TLS with credentials, to ports that ask for both.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::time::Duration;

use rollguard::credentials::Credentials;
use rollguard::forward::{ExportersConfig, Forwarder};
use rollguard::pipeline::clock::{Clock, SystemClock};
use rollguard::spool::FileStorageConfig;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::support::*;
use super::tls::{Authority, guarded, wait_until};

/// A gateway that passes on with one exporter, and keeps its credentials up to date.
async fn chain(kind: &str, exporter: Value, extensions: Value) -> Gateway {
    let mut exporter = exporter;
    exporter["retry_on_failure"] = json!({ "initial_interval": "20ms", "max_interval": "40ms" });
    let exporters: ExportersConfig = serde_json::from_value(json!({ kind: exporter })).unwrap();
    assert_eq!(exporters.problems(false), Vec::<String>::new());
    let credentials = Arc::new(Credentials::new(serde_json::from_value(extensions).unwrap()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let forwarder = Forwarder::new(&exporters, &FileStorageConfig::default(), &credentials, &clock).unwrap();
    let gateway = Gateway::start_with(config(), Capture::default(), forwarder.downstream()).await;
    tokio::spawn(forwarder.run(CancellationToken::new(), Duration::ZERO));
    tokio::spawn(credentials.run(CancellationToken::new()));
    gateway
}

async fn arrived(at: &Gateway, number: usize) {
    wait_until("it arrives", async || at.spans.operations().len() == number).await;
}

/// Scenario: a backend that asks for a certificate and a token, over both protocols. Guarantees: what is sent
/// arrives; the address may leave out its scheme for gRPC, and TLS is meant then.
#[tokio::test]
async fn t2_t3_exporters_show_a_certificate_and_a_token() {
    let authority = Authority::new();
    authority.sign("client", "client");
    let tls = authority.server(json!({ "client_ca_file": authority.path("ca.crt") }));
    let extensions = json!({ "bearertokenauth": { "token": "a-token" } });
    let backend = guarded(Some(tls), Some("bearertokenauth"), extensions.clone()).await;
    let identity = json!({
        "ca_file": authority.path("ca.crt"),
        "cert_file": authority.path("client.crt"),
        "key_file": authority.path("client.key"),
        "server_name_override": "localhost",
    });
    let rows = [
        ("otlp_grpc", format!("https://{}", backend.grpc)),
        ("otlp_grpc", backend.grpc.to_string()),
        ("otlp_http", format!("https://{}", backend.http)),
        ("otlp_http", format!("https://localhost:{}", backend.http.port())),
    ];
    for (n, (kind, endpoint)) in rows.into_iter().enumerate() {
        let auth = json!({ "authenticator": "bearertokenauth" });
        let exporter = json!({ "endpoint": endpoint, "tls": identity, "auth": auth });
        let first = chain(kind, exporter, extensions.clone()).await;
        first.export(traces(&["a"])).await.unwrap();
        arrived(&backend, n + 1).await;
    }
}

/// Scenario: exporters that do not trust the backend, or that it does not know. Guarantees: nothing is sent, and
/// what waits is sent as soon as the files are right, without a restart and without a loss.
#[tokio::test]
async fn t2_t3_what_waits_for_credentials_is_not_lost() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let (ca, token) = (folder.path().join("ca"), folder.path().join("token"));
    std::fs::copy(stranger.path("ca.crt"), &ca).unwrap();
    std::fs::write(&token, "old-token").unwrap();
    let extensions = json!({ "bearertokenauth": { "token": "new-token" } });
    let backend = guarded(Some(authority.server(json!({}))), Some("bearertokenauth"), extensions).await;
    let extensions = json!({ "bearertokenauth": { "filename": token, "reload_interval": "5ms" } });
    let exporter = following(json!({ "endpoint": format!("localhost:{}", backend.grpc.port()) }), &ca);
    let first = chain("otlp_grpc", exporter, extensions).await;
    first.export(traces(&["a"])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(backend.spans.operations().is_empty(), "an authority that we do not trust");
    std::fs::copy(authority.path("ca.crt"), &ca).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(backend.spans.operations().is_empty(), "a token that it does not know");
    std::fs::write(&token, "new-token").unwrap();
    arrived(&backend, 1).await;
    assert_eq!(backend.spans.operations(), first.spans.operations());
}

/// An exporter with an authority and a token from files that are looked at all the time.
fn following(mut exporter: Value, ca: &std::path::Path) -> Value {
    exporter["tls"] = json!({ "ca_file": ca, "reload_interval": "5ms" });
    exporter["auth"] = json!({ "authenticator": "bearertokenauth" });
    exporter
}

/// Scenario: an exporter that sends by service to two backends, whose authority and token are exchanged while it
/// runs. Guarantees: what is sent to each address follows the files, not only what is sent to one of them.
#[tokio::test]
async fn t2_t3_every_address_of_a_routed_exporter_follows_its_files() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let (ca, token) = (folder.path().join("ca"), folder.path().join("token"));
    std::fs::copy(stranger.path("ca.crt"), &ca).unwrap();
    std::fs::write(&token, "old-token").unwrap();
    let extensions = json!({ "bearertokenauth": { "token": "new-token" } });
    let mut backends = Vec::new();
    for _ in 0..2 {
        let tls = Some(authority.server(json!({})));
        backends.push(guarded(tls, Some("bearertokenauth"), extensions.clone()).await);
    }
    let extensions = json!({ "bearertokenauth": { "filename": token, "reload_interval": "5ms" } });
    let endpoints: Vec<String> =
        backends.iter().map(|backend| format!("localhost:{}", backend.grpc.port())).collect();
    let exporter = following(json!({ "endpoints": endpoints, "routing_key": "service" }), &ca);
    let first = chain("otlp_grpc", exporter, extensions).await;
    // As many services as it takes for each address to have some.
    for n in 0..32 {
        first.export(traces_of(&format!("service-{n}"), &["a"])).await.unwrap();
    }
    std::fs::copy(authority.path("ca.crt"), &ca).unwrap();
    std::fs::write(&token, "new-token").unwrap();
    wait_until("all arrive", async || {
        backends.iter().map(|backend| backend.spans.operations().len()).sum::<usize>() == 32
    })
    .await;
    assert!(backends.iter().all(|backend| !backend.spans.operations().is_empty()));
}

/// Scenario: an address without a scheme, with `insecure` and without. Guarantees: plain text only where it is
/// asked for.
#[tokio::test]
async fn t2_tls_is_the_default_and_insecure_is_asked_for() {
    let open = Gateway::start().await;
    let endpoint = open.grpc.to_string();
    let plain =
        chain("otlp_grpc", json!({ "endpoint": endpoint, "tls": { "insecure": true } }), json!({})).await;
    plain.export(traces(&["a"])).await.unwrap();
    arrived(&open, 1).await;
    let authority = Authority::new();
    let tls = guarded(Some(authority.server(json!({}))), None, json!({})).await;
    let skip = json!({ "endpoint": tls.grpc.to_string(), "tls": { "insecure_skip_verify": true } });
    let skipping = chain("otlp_grpc", skip, json!({})).await;
    skipping.export(traces(&["a"])).await.unwrap();
    arrived(&tls, 1).await;
}

/// Scenario: certificates and keys as text in the configuration (from a secret in the environment), at a port and at
/// exporters. Guarantee: the handshakes are those of files.
#[tokio::test]
async fn t1_t2_certificates_may_stand_in_the_configuration() {
    let authority = Authority::new();
    authority.sign("client", "client");
    let text = |name: &str| std::fs::read_to_string(authority.path(name)).unwrap();
    let tls = json!({
        "cert_pem": text("server.crt"), "key_pem": text("server.key"), "client_ca_file": authority.path("ca.crt"),
    });
    let backend = guarded(Some(serde_json::from_value(tls).unwrap()), None, json!({})).await;
    let identity = json!({
        "ca_pem": text("ca.crt"), "cert_pem": text("client.crt"), "key_pem": text("client.key"),
        "server_name_override": "localhost",
    });
    let rows = [("otlp_grpc", backend.grpc), ("otlp_http", backend.http)];
    for (n, (kind, port)) in rows.into_iter().enumerate() {
        let exporter = json!({ "endpoint": format!("https://{port}"), "tls": identity });
        let first = chain(kind, exporter, json!({})).await;
        first.export(traces(&["a"])).await.unwrap();
        arrived(&backend, n + 1).await;
    }
}
