//! What the handlers are given: the picture to read, the way to the evaluator, the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::access::WriteAccess;
use super::error::ApiError;
use super::idempotency::Idempotency;
use crate::deployment::Deployment;
use crate::pipeline::clock::Clock;
use crate::pipeline::config::PoliciesConfig;
use crate::pipeline::{Board, Command, CommandError, Exporters, NoExporters};

/// The picture must be at most this old for us to be ready.
const FRESH_NANOS: u64 = 10_000_000_000;
/// The evaluator answers at its next tick; after this long it does not.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything the handlers need.
pub struct ApiState {
    /// The published picture.
    pub board: Arc<ArcSwap<Board>>,
    /// The way to the evaluator.
    pub commands: mpsc::Sender<Command>,
    /// Set by the program when its parts are up.
    pub ready: Arc<Readiness>,
    /// For the age of the picture.
    pub clock: Arc<dyn Clock>,
    /// Who may write.
    pub access: WriteAccess,
    evaluator_ended: CancellationToken,
    pub(super) policies: CurrentPolicies,
    pub(super) exporters: Arc<dyn Exporters>,
    pub(super) idempotency: Idempotency,
}

/// The policies in force; a reload changes them.
pub type CurrentPolicies = Arc<dyn Fn() -> PoliciesConfig + Send + Sync>;

impl ApiState {
    /// State without remembered requests; policies are the defaults, and there are no exporters, until some are
    /// given.
    pub fn new(
        board: Arc<ArcSwap<Board>>,
        commands: mpsc::Sender<Command>,
        ready: Arc<Readiness>,
        clock: Arc<dyn Clock>,
        access: WriteAccess,
    ) -> Self {
        let policies: CurrentPolicies = Arc::new(PoliciesConfig::default);
        Self {
            board,
            commands,
            ready,
            clock,
            access,
            evaluator_ended: CancellationToken::new(),
            policies,
            exporters: Arc::new(NoExporters),
            idempotency: Idempotency::default(),
        }
    }

    /// The same with what the exporters say of themselves.
    pub fn with_exporters(self, exporters: Arc<dyn Exporters>) -> Self {
        Self { exporters, ..self }
    }

    /// The same with the policies in force.
    pub fn with_policies(self, policies: CurrentPolicies) -> Self {
        Self { policies, ..self }
    }

    /// The same with what is cancelled when the evaluator has ended.
    pub fn with_evaluator(self, evaluator_ended: CancellationToken) -> Self {
        Self { evaluator_ended, ..self }
    }

    /// Whether the process can still do its work, now or later.
    pub(super) fn is_alive(&self) -> bool {
        !self.evaluator_ended.is_cancelled()
    }

    /// Sends a command and waits for its durable effect.
    pub(super) async fn command(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<Arc<Deployment>, CommandError>>) -> Command,
    ) -> Result<Arc<Deployment>, ApiError> {
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            self.commands.send(make(answer)).await.map_err(|_| ())?;
            answered.await.map_err(|_| ())
        };
        match tokio::time::timeout(COMMAND_TIMEOUT, exchange).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(())) => Err(ApiError::unavailable("rollguard is stopping")),
            Err(_) => Err(ApiError::unavailable(
                "the evaluator did not answer in time; whether the command took effect shows in GET /api/v1/deployments",
            )),
        }
    }

    /// A deployment of the published picture.
    pub(super) fn deployment(&self, id: &str) -> Result<Arc<Deployment>, ApiError> {
        let board = self.board.load();
        let found = board.deployments.iter().find(|d| d.id.0 == id).cloned();
        found.ok_or_else(|| ApiError::not_found(format!("no deployment {id}")))
    }

    /// Why traffic should not be sent here yet; `None` when it may.
    pub(super) fn not_ready(&self) -> Option<String> {
        if self.ready.stopping.load(Ordering::Acquire) {
            return Some("rollguard is stopping".into());
        }
        if !self.ready.receivers.load(Ordering::Acquire) {
            return Some("the OTLP receivers are not listening yet".into());
        }
        let at = self.board.load().at;
        let age = self.clock.now().since(at);
        if at.0 == 0 {
            Some("no evaluation has been made yet".into())
        } else if age > FRESH_NANOS {
            Some(format!("the last evaluation is {} s old; the evaluator is stuck", age / 1_000_000_000))
        } else {
            None
        }
    }
}

/// Which parts of the program are up.
#[derive(Debug, Default)]
pub struct Readiness {
    receivers: AtomicBool,
    stopping: AtomicBool,
}

impl Readiness {
    /// The receivers accept connections.
    pub fn receivers_bound(&self) {
        self.receivers.store(true, Ordering::Release);
    }

    /// The program is about to end.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}
