//! The other end of the rollback webhook: a small deployer on a loopback port. It believes nobody: a message
//! counts only when its signature holds against the secret that both sides know.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::model::NANOS_PER_SECOND;
use crate::pipeline::clock::Clock;
use crate::remedy::{Secret, VerifyError, verify};

/// Messages that may wait for the demo to look at them; more than one is a fault already.
const WAITING: usize = 16;

/// What came in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Received {
    /// Header `webhook-id`.
    pub(super) id: String,
    /// Whether the signature holds.
    pub(super) verified: Result<(), VerifyError>,
    /// Bytes of the body.
    pub(super) bytes: usize,
    /// `type` of the message.
    pub(super) kind: String,
    /// Version that shall be rolled back.
    pub(super) candidate: String,
    /// Deployment it is about.
    pub(super) deployment: String,
}

struct Deployer {
    secret: Secret,
    clock: Arc<dyn Clock>,
    messages: mpsc::Sender<Received>,
}

/// The running receiver.
pub(super) struct Hook {
    address: SocketAddr,
    /// What came in, in order.
    pub(super) messages: mpsc::Receiver<Received>,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Hook {
    /// Listens on a free loopback port.
    pub(super) async fn listen(secret: Secret, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, messages) = mpsc::channel(WAITING);
        let deployer = Arc::new(Deployer { secret, clock, messages: sender });
        let router = Router::new().route("/rollback", post(receive)).with_state(deployer);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task =
            tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Ok(Self { address, messages, stop, task })
    }

    /// Where to send to.
    pub(super) fn url(&self) -> String {
        format!("http://{}/rollback", self.address)
    }

    /// Stops listening.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // A client may keep its connection; the demo does not wait for that.
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn receive(State(deployer): State<Arc<Deployer>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let id = header("webhook-id");
    let now_s = deployer.clock.now().0 / NANOS_PER_SECOND;
    let secrets = std::slice::from_ref(&deployer.secret);
    let verified =
        verify(secrets, id, header("webhook-timestamp"), header("webhook-signature"), &body, now_s);
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let received = Received {
        id: id.to_owned(),
        verified,
        bytes: body.len(),
        kind: word(&message["type"]),
        candidate: word(&message["data"]["candidate"]),
        deployment: word(&message["data"]["deployment_id"]),
    };
    if deployer.messages.try_send(received).is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    if verified.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::clock::SystemClock;
    use crate::remedy::sign;
    use base64::Engine;

    fn secret(byte: u8) -> Secret {
        let key = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        Secret::parse(&format!("whsec_{key}")).unwrap()
    }

    #[tokio::test]
    async fn only_what_is_signed_counts() {
        let (messages, mut received) = mpsc::channel(WAITING);
        let clock = Arc::new(SystemClock);
        let now_s = clock.now().0 / NANOS_PER_SECOND;
        let deployer = Arc::new(Deployer { secret: secret(1), clock, messages });
        let body = br#"{"type":"rollguard.rollback","data":{"candidate":"v2","deployment_id":"d1"}}"#;
        for (key, status) in [(1, StatusCode::NO_CONTENT), (2, StatusCode::UNAUTHORIZED)] {
            let mut headers = HeaderMap::new();
            let signature = sign(&[secret(key)], "msg_1", now_s, body);
            headers.insert("webhook-id", "msg_1".parse().unwrap());
            headers.insert("webhook-timestamp", now_s.to_string().parse().unwrap());
            headers.insert("webhook-signature", signature.parse().unwrap());
            let answer = receive(State(Arc::clone(&deployer)), headers, Bytes::from_static(body)).await;
            assert_eq!(answer, status);
            let message = received.recv().await.unwrap();
            assert_eq!(message.verified.is_ok(), status == StatusCode::NO_CONTENT);
            assert_eq!((message.candidate.as_str(), message.deployment.as_str()), ("v2", "d1"));
        }
    }
}
