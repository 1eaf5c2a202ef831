//! TLS and credentials at the ports, with certificates made for the occasion and real clients.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rollguard::credentials::{AuthConfig, Credentials, ExtensionsConfig, ServerTlsConfig};
use rollguard::receiver::{Doors, GrpcConfig, HttpConfig, ReceiverConfig};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::support::*;

/// An authority, and what it signed, in files of a folder.
pub(super) struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.crt"), certificate.pem()).unwrap();
        let authority = Self { folder, issuer: Issuer::new(params, key) };
        authority.sign("server", "localhost");
        authority
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `file.crt` and `file.key` for a name.
    pub(super) fn sign(&self, file: &str, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    pub(super) fn server(&self, more: serde_json::Value) -> ServerTlsConfig {
        let mut json = serde_json::json!({
            "cert_file": self.path("server.crt"), "key_file": self.path("server.key"), "reload_interval": "5ms",
        });
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json).unwrap()
    }

    /// What a client knows: this authority, and its own certificate if it has one.
    fn client(&self, own: Option<(&Path, &Path)>) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(self.path("ca.crt")).unwrap()).unwrap();
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![rustls::pki_types::CertificateDer::from_pem_file(certificate).unwrap()],
                    rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap(),
                )
                .unwrap(),
        }
    }
}

/// A gateway whose ports are guarded alike.
pub(super) async fn guarded(
    tls: Option<ServerTlsConfig>,
    auth: Option<&str>,
    extensions: serde_json::Value,
) -> Gateway {
    let extensions: ExtensionsConfig = serde_json::from_value(extensions).unwrap();
    let auth = auth.map(|name| AuthConfig { authenticator: name.to_owned() });
    let base = config();
    let config = ReceiverConfig {
        grpc: GrpcConfig { tls: tls.clone(), auth: auth.clone(), ..base.grpc.clone() },
        http: HttpConfig { tls, auth, ..base.http.clone() },
        ..base
    };
    let credentials = Arc::new(Credentials::new(extensions));
    let doors = Doors::new(&config, &credentials).unwrap();
    let gateway = Gateway::start_behind(config, doors).await;
    tokio::spawn(credentials.run(gateway.shutdown.clone()));
    gateway
}

async fn handshake(
    to: SocketAddr,
    mut config: rustls::ClientConfig,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let stream = TcpStream::connect(to).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// A gRPC channel over TLS.
async fn channel_over(
    to: SocketAddr,
    config: rustls::ClientConfig,
) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let config = config.clone();
            async move { handshake(to, config, &[b"h2"]).await.map(TokioIo::new) }
        }))
        .await
}

async fn export_over(to: SocketAddr, config: rustls::ClientConfig) -> Result<Bytes, String> {
    let channel = channel_over(to, config).await.map_err(|error| format!("{error:?}"))?;
    let export = export_on(channel, "trace.v1.TraceService", traces(&["a"]).into(), None);
    export.await.map_err(|status| format!("{status:?}"))
}

/// `POST /v1/traces` over HTTP/1.1 on a stream; the answer's head.
async fn post(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, header: &str) -> String {
    let body = traces(&["a"]);
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\n{header}\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_ok() {
        let _ = stream.read_to_end(&mut answer).await;
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn t1_t4_both_ports_speak_both_protocols_over_tls() {
    let authority = Authority::new();
    let gateway = guarded(Some(authority.server(serde_json::json!({}))), None, serde_json::json!({})).await;
    for port in [gateway.grpc, gateway.http] {
        assert!(export_over(port, authority.client(None)).await.unwrap().is_empty());
        let stream = handshake(port, authority.client(None), &[b"http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(post(stream, "").await.starts_with("HTTP/1.1 200"));
        let both = handshake(port, authority.client(None), &[b"h2", b"http/1.1"]).await.unwrap();
        assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    }
    assert_eq!(gateway.spans.operations().len(), 4);
}

/// Scenario: clients that do not fit a port. Guarantees: none gets in, and others still do.
#[tokio::test]
async fn t1_who_does_not_speak_tls_or_speaks_it_to_a_plain_port_is_cut_off() {
    let authority = Authority::new();
    let gateway = guarded(Some(authority.server(serde_json::json!({}))), None, serde_json::json!({})).await;
    let plain = TcpStream::connect(gateway.http).await.unwrap();
    assert_eq!(post(plain, "").await, "");
    let stranger = Authority::new();
    assert!(handshake(gateway.grpc, stranger.client(None), &[]).await.is_err(), "another authority");
    assert!(export_over(gateway.grpc, authority.client(None)).await.is_ok());
    let open = Gateway::start().await;
    assert!(handshake(open.grpc, authority.client(None), &[]).await.is_err());
    assert!(open.export(traces(&["a"])).await.is_ok());
}

#[tokio::test]
async fn t1_mtls_asks_for_a_certificate_of_its_authority() {
    let authority = Authority::new();
    let tls = authority.server(serde_json::json!({ "client_ca_file": authority.path("ca.crt") }));
    let gateway = guarded(Some(tls), None, serde_json::json!({})).await;
    authority.sign("client", "client");
    let own = (authority.path("client.crt"), authority.path("client.key"));
    let with_own = || authority.client(Some((&own.0, &own.1)));
    assert!(export_over(gateway.grpc, authority.client(None)).await.is_err(), "without a certificate");
    let stranger = Authority::new();
    let foreign = (stranger.path("server.crt"), stranger.path("server.key"));
    let foreign = authority.client(Some((&foreign.0, &foreign.1)));
    assert!(export_over(gateway.grpc, foreign).await.is_err(), "of another authority");
    assert!(export_over(gateway.grpc, with_own()).await.is_ok());
    // Over HTTP too. A client learns only after its handshake that it was refused (TLS 1.3).
    let refused = handshake(gateway.http, authority.client(None), &[b"http/1.1"]).await;
    assert!(match refused {
        Ok(stream) => post(stream, "").await.is_empty(),
        Err(_) => true,
    });
    let stream = handshake(gateway.http, with_own(), &[b"http/1.1"]).await.unwrap();
    assert!(post(stream, "").await.starts_with("HTTP/1.1 200"));
    assert_eq!(gateway.spans.operations().len(), 2);
}

#[tokio::test]
async fn t1_versions_are_those_configured() {
    let authority = Authority::new();
    let tls = authority.server(serde_json::json!({ "min_version": "1.3" }));
    let gateway = guarded(Some(tls), None, serde_json::json!({})).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(authority.path("ca.crt")).unwrap()).unwrap();
    let old = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert!(handshake(gateway.grpc, old, &[]).await.is_err());
    assert!(handshake(gateway.grpc, authority.client(None), &[]).await.is_ok());
}

/// Scenario: a certificate is replaced while a client sends; before, its file is damaged. Guarantees: no request
/// fails, the damaged file changes nothing, and new connections get the new certificate.
#[tokio::test]
async fn t1_a_new_certificate_is_used_without_a_restart() {
    let authority = Authority::new();
    let gateway = guarded(Some(authority.server(serde_json::json!({}))), None, serde_json::json!({})).await;
    let kept = channel_over(gateway.grpc, authority.client(None)).await.unwrap();
    let shown = async || {
        let stream = handshake(gateway.grpc, authority.client(None), &[]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = shown().await;
    std::fs::write(authority.path("server.crt"), "no certificate").unwrap();
    for _ in 0..20 {
        assert_eq!(shown().await, first);
        export_on(kept.clone(), "trace.v1.TraceService", traces(&["a"]).into(), None).await.unwrap();
    }
    authority.sign("server", "localhost");
    wait_until("the new certificate is shown", async || shown().await != first).await;
    export_on(kept, "trace.v1.TraceService", traces(&["a"]).into(), None).await.unwrap();
    assert_eq!(gateway.spans.operations().len(), 21);
}

/// Calls `Export` with an `authorization`.
async fn export_as(to: SocketAddr, authorization: &str) -> Result<(), tonic::Status> {
    let authorization: tonic::metadata::MetadataValue<_> = authorization.parse().unwrap();
    let mut request = Request::new(Bytes::from(traces(&["a"])));
    request.metadata_mut().insert("authorization", authorization);
    export_request(channel(to).await, request).await.map(drop)
}

#[tokio::test]
async fn t3_tokens_are_asked_for_on_both_protocols_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "old-token\n").unwrap();
    let extensions = serde_json::json!({ "bearertokenauth": { "filename": path, "reload_interval": "5ms" } });
    let gateway = guarded(None, Some("bearertokenauth"), extensions).await;
    let code = async |authorization: &str| export_as(gateway.grpc, authorization).await.map_err(|s| s.code());
    assert_eq!(code("Bearer old-token").await, Ok(()));
    let refused = export_as(gateway.grpc, "Bearer other-token").await.unwrap_err();
    assert_eq!((refused.code(), refused.details().len()), (Code::Unauthenticated, 0), "final: no RetryInfo");
    assert_eq!(gateway.export(traces(&["a"])).await.unwrap_err().code(), Code::Unauthenticated);

    let answer = async |header: &str| post(TcpStream::connect(gateway.http).await.unwrap(), header).await;
    let missing = answer("").await.to_ascii_lowercase();
    assert!(missing.starts_with("http/1.1 401"), "{missing}");
    assert!(missing.contains("www-authenticate: bearer realm="), "{missing}");
    assert!(missing.contains("content-type: application/x-protobuf"), "H2: {missing}");
    assert!(!missing.contains("retry-after"), "{missing}");
    assert!(answer("authorization: Bearer old-token\r\n").await.starts_with("HTTP/1.1 200"));

    std::fs::write(&path, "new-token\n").unwrap();
    wait_until("the new token counts", async || code("Bearer new-token").await.is_ok()).await;
    assert_eq!(code("Bearer old-token").await, Err(Code::Unauthenticated));
    assert!(answer("authorization: Bearer old-token\r\n").await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn t3_users_are_asked_for_their_password() {
    let users = bcrypt::hash_with_salt("pass", 4, *b"0123456789abcdef").unwrap();
    let users = format!("robot:{}", users.format_for_version(bcrypt::Version::TwoY));
    let extensions = serde_json::json!({ "basicauth/server": { "htpasswd": { "inline": users } } });
    let gateway = guarded(None, Some("basicauth/server"), extensions).await;
    for _ in 0..2 {
        // `robot:pass`, then `robot:past`.
        export_as(gateway.grpc, "Basic cm9ib3Q6cGFzcw==").await.unwrap();
        let refused = export_as(gateway.grpc, "Basic cm9ib3Q6cGFzdA==").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let stream = TcpStream::connect(gateway.http).await.unwrap();
    assert!(post(stream, "").await.to_ascii_lowercase().contains("www-authenticate: basic realm="));
    assert_eq!(gateway.spans.operations().len(), 2);
}

/// Scenario: a browser asks whether its page may send. Guarantees: it is told without credentials, which it
/// does not send then; the request itself needs them.
#[tokio::test]
async fn h7_t3_browsers_ask_without_credentials() {
    let extensions: ExtensionsConfig =
        serde_json::from_value(serde_json::json!({ "bearertokenauth": { "token": "a-token" } })).unwrap();
    let mut config = config();
    config.http.cors = serde_json::from_value(
        serde_json::json!({ "allowed_origins": ["https://a.example"], "allowed_headers": ["authorization"] }),
    )
    .unwrap();
    config.http.auth = Some(AuthConfig { authenticator: "bearertokenauth".into() });
    let doors = Doors::new(&config, &Credentials::new(extensions)).unwrap();
    let gateway = Gateway::start_behind(config, doors).await;
    let request = |method: reqwest::Method| {
        client()
            .request(method, gateway.url("/v1/traces"))
            .header("origin", "https://a.example")
            .header("content-type", "application/x-protobuf")
            .header("access-control-request-method", "POST")
    };
    assert_eq!(request(reqwest::Method::OPTIONS).send().await.unwrap().status(), 200);
    let refused = request(reqwest::Method::POST).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://a.example");
    let sent = request(reqwest::Method::POST).header("authorization", "Bearer a-token").send().await.unwrap();
    assert_eq!(sent.status(), 200);
}

/// Scenario: the authority of clients is exchanged in its file, while `client_ca_file_reload` is on or off. Guarantees: on,
/// the clients of the new one get in and those of the old one do not; off, the other way round.
#[tokio::test]
async fn t1_the_authority_of_clients_is_followed_unless_that_is_off() {
    for follows in [true, false] {
        let (authority, other) = (Authority::new(), Authority::new());
        authority.sign("client", "client");
        other.sign("client", "client");
        let folder = tempfile::tempdir().unwrap();
        let (ca, certificate) = (folder.path().join("ca"), folder.path().join("crt"));
        std::fs::copy(authority.path("ca.crt"), &ca).unwrap();
        std::fs::copy(authority.path("server.crt"), &certificate).unwrap();
        let tls = authority.server(serde_json::json!({
            "client_ca_file": ca, "client_ca_file_reload": follows, "cert_file": certificate,
        }));
        let gateway = guarded(Some(tls), None, serde_json::json!({})).await;
        let of = |clients: &Authority| {
            let own = (clients.path("client.crt"), clients.path("client.key"));
            authority.client(Some((&own.0, &own.1)))
        };
        assert!(export_over(gateway.grpc, of(&authority)).await.is_ok());
        assert!(export_over(gateway.grpc, of(&other)).await.is_err());
        std::fs::copy(other.path("ca.crt"), &ca).unwrap();
        // A chain with one more certificate: whoever sees it knows that the files were looked at after the exchange.
        let chain =
            [authority.path("server.crt"), authority.path("ca.crt")].map(|f| std::fs::read(f).unwrap());
        std::fs::write(&certificate, chain.concat()).unwrap();
        wait_until("the files were looked at", async || {
            let shown =
                handshake(gateway.grpc, of(if follows { &other } else { &authority }), &[b"h2"]).await;
            shown.is_ok_and(|stream| stream.get_ref().1.peer_certificates().is_some_and(|c| c.len() == 2))
        })
        .await;
        assert_eq!(export_over(gateway.grpc, of(&authority)).await.is_ok(), !follows);
        assert_eq!(export_over(gateway.grpc, of(&other)).await.is_ok(), follows);
    }
}
