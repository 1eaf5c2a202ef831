//! The gateway: every part built from a configuration and running. The order of stopping is the reverse of
//! the path of a span: receivers first, so that nothing accepted is lost, then the evaluator, which takes in
//! what is left and keeps its state, then what sends.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::journal::DurableJournal;
use super::totals;
use crate::api::{self, ApiState, Readiness, TokenError, WriteAccess};
use crate::config::Config;
use crate::credentials::Credentials;
use crate::deployment::Mode;
use crate::exporter::Exporter;
use crate::forward::{ForwardError, Forwarder};
use crate::model::{DeploymentId, NANOS_PER_SECOND, ServiceKey};
use crate::pipeline::clock::Clock;
use crate::pipeline::objectives::ObjectiveSettings;
use crate::pipeline::{
    Board, Command, DEFAULT_SHARD_CAPACITY, DeploymentLimits, Engine, EngineParts, Evaluator, EvaluatorParts,
    Intake, Policies, Registry, Shards,
};
use crate::receiver::{DoorError, Doors, ReceiverDeps, Receivers};
use crate::remedy::{Endpoints, Webhook, WebhookError, Worker};
use crate::store::{Store, StoreError};
use crate::telemetry::ProcessMemory;
use crate::verdict::Policy;

/// Commands that may wait for the evaluator.
const COMMANDS: usize = 64;
/// The shards are emptied this often; they hold what arrives in between.
const DRAIN_EVERY: Duration = Duration::from_millis(50);
/// Slots are seconds: more often there is nothing new.
const TICK_EVERY: Duration = Duration::from_secs(1);

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("open the store")]
    Store(#[from] StoreError),
    /// What guards an OTLP port.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// An OTLP port.
    #[error("listen for OTLP on {grpc} and {http}")]
    Receivers {
        /// The gRPC endpoint asked for.
        grpc: String,
        /// The HTTP endpoint asked for.
        http: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The port of the API and /metrics.
    #[error("listen for the API on {endpoint}")]
    Api {
        /// The endpoint asked for.
        endpoint: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The API token.
    #[error("guard the API")]
    Token(#[from] TokenError),
    /// An exporter.
    #[error("set up the exporters")]
    Forward(#[from] ForwardError),
    /// A webhook.
    #[error("set up webhook {name:?}")]
    Webhook {
        /// Its name in the configuration.
        name: String,
        /// Why.
        #[source]
        cause: WebhookError,
    },
    /// The evaluator's thread.
    #[error("start the evaluator")]
    Evaluator(#[source] io::Error),
}

/// A running gateway.
pub struct Gateway {
    config: Arc<ArcSwap<Config>>,
    credentials: Arc<Credentials>,
    endpoints: Arc<ArcSwap<Endpoints>>,
    board: Arc<ArcSwap<Board>>,
    grpc: SocketAddr,
    http: SocketAddr,
    api: SocketAddr,
    ready: Arc<Readiness>,
    commands: mpsc::Sender<Command>,
    evaluator: Evaluator,
    exporters_fault: CancellationToken,
    receiving: Stage,
    serving: Stage,
    sending: Stage,
}

/// Tasks that end together.
struct Stage {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Stage {
    fn new() -> Self {
        Self { stop: CancellationToken::new(), tasks: Vec::new() }
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the gateway ended by a fault");
            }
        }
    }
}

impl Gateway {
    /// Builds and starts every part. Needs a Tokio runtime around it.
    ///
    /// # Errors
    /// When a port, a file or an endpoint cannot be used; nothing is left running then.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let webhooks = endpoints(&config)?;
        let store = Arc::new(Store::open(&config.store.path)?);
        let restored = store.restore()?;
        let credentials = Arc::new(Credentials::new(config.extensions.clone()));
        let forwarder = Forwarder::new(&config.exporters, &config.file_storage, &credentials, &clock)?;
        let registry = Arc::new(Registry::new((&config.pipeline.limits).into()));
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let shards = Arc::new(Shards::new(workers, DEFAULT_SHARD_CAPACITY));
        let intake = Intake::new(Arc::clone(&registry), Arc::clone(&shards));
        let deps = ReceiverDeps {
            admission: intake,
            downstream: forwarder.downstream(),
            clock: Arc::clone(&clock),
            doors: Doors::new(&config.receiver, &credentials)?,
            memory: Arc::new(ProcessMemory),
        };
        let (grpc, http) = (config.receiver.grpc.endpoint.clone(), config.receiver.http.endpoint.clone());
        let failed = |cause| StartError::Receivers { grpc: grpc.clone(), http: http.clone(), cause };
        let receivers = Receivers::bind(config.receiver.clone(), deps).await.map_err(failed)?;
        let (grpc, http) = (receivers.grpc_addr().map_err(failed)?, receivers.http_addr().map_err(failed)?);
        let listener = listen(&config.api.endpoint).await?;
        let api = listener.local_addr().map_err(|cause| api_error(&config.api.endpoint, cause))?;
        let access = WriteAccess::decide(api, config.api.token_file.as_deref())?;

        let endpoints = Arc::new(ArcSwap::from_pointee(webhooks));
        let worker = Worker::new(Arc::clone(&store), Arc::clone(&endpoints), Arc::clone(&clock));
        let board = Arc::new(ArcSwap::from_pointee(Board::default()));
        let (commands, waiting) = mpsc::channel(COMMANDS);
        let shared = Arc::new(ArcSwap::from_pointee(config));
        let config = shared.load_full();
        let parts = EngineParts {
            registry: Arc::clone(&registry),
            ledger: Arc::clone(shards.ledger()),
            policies: Arc::new(Configured(Arc::clone(&shared))),
            lateness: (&config.pipeline.lateness).into(),
            series_ttl_s: config.pipeline.series_ttl.as_secs(),
            deployments: DeploymentLimits::default(),
            ids: ids(&clock),
        };
        let evaluator = Evaluator::spawn(EvaluatorParts {
            engine: Engine::new(parts, restored, clock.now()),
            shards: Arc::clone(&shards),
            commands: waiting,
            journal: Box::new(DurableJournal {
                store: Arc::clone(&store),
                config: Arc::clone(&shared),
                wake: worker.wake(),
            }),
            board: Arc::clone(&board),
            clock: Arc::clone(&clock),
            drain_every: DRAIN_EVERY,
            tick_every: TICK_EVERY,
        })
        .map_err(StartError::Evaluator)?;

        let ready = Arc::new(Readiness::default());
        let state = ApiState::new(
            Arc::clone(&board),
            commands.clone(),
            Arc::clone(&ready),
            Arc::clone(&clock),
            access,
        );
        let current = Arc::clone(&shared);
        let state = state.with_evaluator(evaluator.ended());
        let state = state.with_policies(Arc::new(move || current.load().policies.clone()));
        let state = Arc::new(state.with_exporters(forwarder.reports()));
        let exporter = Exporter::new(Arc::clone(&board), &config.receiver.identity_attributes);
        let exporters_fault = forwarder.fault();
        let router = api::router(state, config.api.request_timeout, exporter.router());

        let mut receiving = Stage::new();
        receiving.spawn(receivers.serve(receiving.stop.clone()));
        let mut serving = Stage::new();
        serving.spawn(api::serve(listener, router, config.api.max_connections, serving.stop.clone()));
        let mut sending = Stage::new();
        sending.spawn(Arc::clone(&credentials).run(sending.stop.clone()));
        sending.spawn(forwarder.run(sending.stop.clone(), config.receiver.drain_timeout));
        sending.spawn(worker.run(sending.stop.clone()));
        sending.spawn(totals::show(registry, shards, Arc::clone(&board), sending.stop.clone()));
        ready.receivers_bound();
        Ok(Self {
            config: shared,
            credentials,
            endpoints,
            board,
            grpc,
            http,
            api,
            ready,
            commands,
            evaluator,
            exporters_fault,
            receiving,
            serving,
            sending,
        })
    }

    /// Where OTLP/gRPC is received.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc
    }

    /// Where OTLP/HTTP is received.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where the API and /metrics are served.
    pub fn api_address(&self) -> SocketAddr {
        self.api
    }

    /// The published picture.
    pub fn board(&self) -> Arc<ArcSwap<Board>> {
        Arc::clone(&self.board)
    }

    /// Resolves when the evaluator has ended by a fault; the gateway is of no use then.
    pub(super) async fn evaluator_ended(&self) {
        self.evaluator.ended().cancelled_owned().await;
    }

    /// Resolves when a part of an exporter has ended by a fault: what it should send would stay here.
    pub(super) async fn exporter_ended(&self) {
        self.exporters_fault.cancelled().await;
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Looks at the files of all certificates, tokens and users now. Blocks on them.
    pub(super) fn refresh_credentials(&self) {
        self.credentials.refresh();
    }

    /// Takes over the reloadable sections of a sound configuration.
    pub(super) fn reconfigure(&self, effective: Config) -> Result<(), StartError> {
        self.endpoints.store(Arc::new(endpoints(&effective)?));
        self.config.store(Arc::new(effective));
        Ok(())
    }

    /// Stops: no new telemetry, what is in progress ends, state is kept, what is queued is sent as far as
    /// the deadlines allow.
    pub async fn stop(self) {
        self.ready.stopping();
        self.receiving.end().await;
        self.serving.end().await;
        drop(self.commands);
        let evaluator = self.evaluator;
        let ended = tokio::task::spawn_blocking(move || evaluator.join()).await;
        if !matches!(ended, Ok(true)) {
            tracing::error!("the evaluator ended by a fault; the next start goes on from its last snapshot");
        }
        self.sending.end().await;
    }
}

fn api_error(endpoint: &str, cause: io::Error) -> StartError {
    StartError::Api { endpoint: endpoint.to_owned(), cause }
}

async fn listen(endpoint: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(endpoint).await.map_err(|cause| api_error(endpoint, cause))
}

/// The webhooks of a configuration, ready to use.
fn endpoints(config: &Config) -> Result<Endpoints, StartError> {
    let one = |(name, webhook): (&String, _)| match Webhook::new(webhook) {
        Ok(webhook) => Ok((name.clone(), Arc::new(webhook))),
        Err(cause) => Err(StartError::Webhook { name: name.clone(), cause }),
    };
    config.webhooks.iter().map(one).collect::<Result<HashMap<_, _>, _>>()
}

/// What is configured now.
struct Configured(Arc<ArcSwap<Config>>);

impl Policies for Configured {
    fn resolve(&self, service: &ServiceKey, release: &str) -> (Policy, Mode) {
        let resolved = self.0.load().policies.resolve(service, release);
        (resolved.policy, resolved.mode)
    }

    fn releases(&self, service: &ServiceKey) -> Vec<String> {
        self.0.load().policies.releases(service)
    }

    fn is_named(&self, service: &ServiceKey) -> bool {
        self.0.load().policies.is_named(service)
    }

    fn objectives(&self, service: &ServiceKey) -> ObjectiveSettings {
        self.0.load().objectives.resolve(service)
    }
}

/// Ids that sort by time (UUID version 7).
fn ids(clock: &Arc<dyn Clock>) -> Box<dyn FnMut() -> DeploymentId + Send> {
    let clock = Arc::clone(clock);
    Box::new(move || {
        let now = clock.now().0;
        let (seconds, nanos) = (now / NANOS_PER_SECOND, (now % NANOS_PER_SECOND) as u32);
        let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
        DeploymentId(uuid::Uuid::new_v7(time).to_string())
    })
}
