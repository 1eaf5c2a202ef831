//! `rollguard run`: the gateway until a signal ends it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::gateway::{Gateway, StartError};
use super::reload::reload;
use crate::config::{self, Config, Files, LoadError};
use crate::pipeline::clock::SystemClock;
use crate::telemetry::{self, MetricsEndpoint, MetricsError};

/// Why `run` ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A part of the gateway.
    #[error("start the gateway")]
    Start(#[from] StartError),
    /// Our own metrics.
    #[error("serve our own metrics")]
    Metrics(#[from] MetricsError),
    /// The runtime or its signals.
    #[error("set up the process")]
    Process(#[from] io::Error),
    /// The thread that judges is gone; whoever runs us should start us again.
    #[error(
        "the evaluator ended by a fault; the log says which, and the next start goes on from its last snapshot"
    )]
    Evaluator,
    /// What sends for an exporter is gone; as a Collector does, we end, for whoever runs us to start us again.
    #[error(
        "an exporter ended by a fault; the log says which, and what is in queues on disk is sent after the next start"
    )]
    Exporter,
}

/// Runs the gateway until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the configuration is not sound, a part does not start, or the evaluator or an exporter ends by a
/// fault.
pub fn run(file: Option<PathBuf>) -> Result<(), RunError> {
    let config = match &file {
        Some(path) => config::load(path, Files::Tried)?,
        None => Config::default(),
    };
    // A log that cannot be set up (a bad RUST_LOG) must not keep the gateway from running.
    if let Err(error) = telemetry::init_log() {
        let _ = std::io::Write::write_fmt(&mut io::stderr(), format_args!("rollguard: {error}\n"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config, file.as_deref()))
}

async fn serve(config: Config, file: Option<&Path>) -> Result<(), RunError> {
    let handle = telemetry::install_recorder()?;
    let (mut hangup, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let mut own_metrics = None;
    if let Some(address) = config.telemetry.metrics {
        let endpoint = MetricsEndpoint::bind(address, handle).await?;
        tracing::info!(address = %endpoint.address(), "our own metrics are on /metrics");
        own_metrics = Some(tokio::spawn(endpoint.serve(stop.clone())));
    }
    let gateway = Gateway::start(config, Arc::new(SystemClock)).await?;
    greet(&gateway, file);
    let ended = wait(&gateway, file, &mut hangup, &mut terminate).await;
    gateway.stop().await;
    stop.cancel();
    if let Some(task) = own_metrics {
        let _ = task.await;
    }
    tracing::info!("stopped");
    ended
}

fn greet(gateway: &Gateway, file: Option<&Path>) {
    if file.is_none() {
        tracing::warn!(
            "no --config: embedded defaults, everything listens on loopback only, verdicts are observed and \
             nothing is rolled back; `rollguard validate --print-defaults` prints a file to begin with"
        );
    }
    tracing::info!(
        otlp_grpc = %gateway.grpc_address(),
        otlp_http = %gateway.http_address(),
        api = %gateway.api_address(),
        version = env!("CARGO_PKG_VERSION"),
        "rollguard is running"
    );
}

/// Waits for the end; reloads on the way.
async fn wait(
    gateway: &Gateway,
    file: Option<&Path>,
    hangup: &mut Signal,
    terminate: &mut Signal,
) -> Result<(), RunError> {
    let ended = loop {
        tokio::select! {
            _ = hangup.recv() => match file {
                Some(file) => reload(gateway, file),
                None => tracing::warn!("SIGHUP: there is no configuration file to reload"),
            },
            _ = terminate.recv() => break Ok(()),
            _ = tokio::signal::ctrl_c() => break Ok(()),
            () = gateway.evaluator_ended() => break Err(RunError::Evaluator),
            () = gateway.exporter_ended() => break Err(RunError::Exporter),
        }
    };
    tracing::info!("stopping: finishing what is in progress");
    ended
}
