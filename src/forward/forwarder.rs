//! The exporters built from a configuration, and their running.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Debug, File, Identity, Otlp};
use super::disk::DiskQueue;
use super::fan::{Fan, Lane, Target};
use super::metrics::LaneMetrics;
use super::queue::Queue;
use super::rejected::Rejections;
use super::route::Route;
use super::worker::{Sending, Worker};
use super::{ExporterConfig, ExportersConfig, OtlpConfig, RetryConfig};
use crate::credentials::{CredentialError, Credentials};
use crate::pipeline::clock::Clock;
use crate::pipeline::{DataType, Downstream, ExporterReport, Exporters, QueueReport};
use crate::spool::{FileStorageConfig, SpoolDirectory, SpoolError};

/// Failed to set up an exporter.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The address cannot be used.
    #[error("use the address `{endpoint}`")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificates or credentials cannot be used.
    #[error("use {key}")]
    Credentials {
        /// The key of the configuration.
        key: String,
        /// Why.
        #[source]
        cause: Box<CredentialError>,
    },
    /// A header cannot be sent.
    #[error("set the header `{name}`")]
    Header {
        /// Its name.
        name: String,
    },
    /// A queue on disk.
    #[error("open the queues on disk")]
    Storage(#[from] SpoolError),
}

/// Exporters and their queues. Give [`Forwarder::downstream`] to the receivers and run [`Forwarder::run`].
pub struct Forwarder {
    fan: Arc<Fan>,
    reports: Arc<Reports>,
    workers: Vec<Worker>,
    fault: CancellationToken,
    /// Held for as long as the queues in it are open.
    directory: Option<SpoolDirectory>,
}

/// What can be said of the exporters while they run.
struct Reports(Vec<Exporter>);

struct Exporter {
    name: Arc<str>,
    /// With the address where each has one of its own.
    lanes: Vec<(Option<Arc<str>>, Arc<Lane>)>,
    rejections: Arc<Rejections>,
}

impl Exporters for Reports {
    fn exporters(&self) -> Vec<ExporterReport> {
        let report = |exporter: &Exporter| ExporterReport {
            name: Arc::clone(&exporter.name),
            queues: exporter
                .lanes
                .iter()
                .map(|(endpoint, lane)| QueueReport { endpoint: endpoint.clone(), ..lane.queue.report() })
                .collect(),
            last_rejected: exporter.rejections.list(),
        };
        self.0.iter().map(report).collect()
    }
}

impl Forwarder {
    /// Sets up what is configured. Connections are made when there is something to send. Needs a Tokio
    /// runtime around it, and blocks while queues on disk are opened.
    ///
    /// # Errors
    /// When an address, a header, a file of certificates or credentials, or the storage cannot be used.
    pub fn new(
        config: &ExportersConfig,
        storage: &FileStorageConfig,
        credentials: &Credentials,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, ForwardError> {
        let directory = directory(config, storage)?;
        let storage = directory.as_ref().map(|directory| (directory, storage));
        let fault = CancellationToken::new();
        let (mut exporters, mut workers, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for (name, exporter) in &config.0 {
            let rejections = Arc::new(Rejections::default());
            let mut lanes = Vec::new();
            let mut signals = exporter.signals().to_vec();
            signals.sort_by_key(|data| *data as usize);
            signals.dedup();
            let routes = routes(name, exporter);
            // One for all addresses: what follows files is known by the exporter's name.
            let identity = identity(name, exporter, credentials)?;
            let mut by_data: Vec<Vec<Arc<Lane>>> = vec![Vec::new(); signals.len()];
            for Routed { id, endpoint, config } in &routes {
                let clients = clients(config, &signals, &identity)?;
                for ((data, client), own) in signals.iter().zip(clients).zip(&mut by_data) {
                    let lane = Arc::new(lane(id, *data, config, storage, &fault)?);
                    lanes.push((endpoint.clone(), Arc::clone(&lane)));
                    own.push(Arc::clone(&lane));
                    workers.push(Worker::new(Sending {
                        lane,
                        client,
                        consumers: config.queue().num_consumers,
                        retry: retry(config),
                        most_elapsed: retry(config).most_elapsed(config.queue().storage),
                        max_request_bytes: max_request_bytes(config),
                        rejections: Arc::clone(&rejections),
                        clock: Arc::clone(clock),
                    }));
                }
            }
            let addresses = || routes.iter().filter_map(|routed| routed.endpoint.as_deref());
            targets.extend(by_data.into_iter().flat_map(|lanes| match addresses().next() {
                Some(_) => vec![Target::ByService(Route::new(addresses()), lanes)],
                None => lanes.into_iter().map(Target::One).collect(),
            }));
            exporters.push(Exporter { name: name.as_str().into(), lanes, rejections });
        }
        Ok(Self {
            fan: Arc::new(Fan::new(targets)),
            reports: Arc::new(Reports(exporters)),
            workers,
            fault,
            directory,
        })
    }

    /// What is wrong with the files of certificates and credentials that exporters are configured with.
    pub fn credential_problems(config: &ExportersConfig, credentials: &Credentials) -> Vec<ForwardError> {
        let one = |(name, otlp, is_http)| Identity::new(name, otlp, is_http, credentials).err();
        config.otlp().filter_map(one).collect()
    }

    /// Where the receivers put messages.
    pub fn downstream(&self) -> Arc<dyn Downstream> {
        Arc::clone(&self.fan) as Arc<dyn Downstream>
    }

    /// What can be said of the exporters, also while they run.
    pub fn reports(&self) -> Arc<dyn Exporters> {
        Arc::clone(&self.reports) as Arc<dyn Exporters>
    }

    /// Cancelled when a part of an exporter has ended by a fault: its data is not sent any more, and only a new start
    /// helps.
    pub fn fault(&self) -> CancellationToken {
        self.fault.clone()
    }

    /// Sends until `shutdown` is cancelled, then for `drain_timeout` at most what is still queued.
    pub async fn run(self, shutdown: CancellationToken, drain_timeout: Duration) {
        let mut tasks = JoinSet::new();
        for worker in self.workers {
            worker.spawn(&shutdown, &mut tasks);
        }
        watch(&mut tasks, &self.fault, &shutdown).await;
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!(?drain_timeout, "requests still queued at the drain deadline are dropped");
        }
        tasks.shutdown().await;
        let (reports, directory) = (self.reports, self.directory);
        let closed = tokio::task::spawn_blocking(move || {
            let lanes = reports.0.iter().flat_map(|exporter| &exporter.lanes);
            lanes.for_each(|(_, lane)| lane.queue.close());
            drop(directory);
        });
        if closed.await.is_err() {
            tracing::error!("the queues were not closed in order; what is on disk is sent after a restart");
        }
    }
}

/// Waits for the end. Consumers end with it; one that ends before has met a fault, of its own or of its queue.
async fn watch(tasks: &mut JoinSet<()>, fault: &CancellationToken, shutdown: &CancellationToken) {
    while let Some(Some(ended)) = shutdown.run_until_cancelled(tasks.join_next()).await {
        if shutdown.is_cancelled() {
            return;
        }
        let error = ended.err().map(|error| error.to_string());
        tracing::error!(
            error,
            "a part of an exporter ended by a fault; its data is not sent until Rollguard is started again"
        );
        fault.cancel();
    }
    shutdown.cancelled().await;
}

/// The directory of the queues on disk, where an exporter has one. Queues in it that are no exporter's any more are
/// named in the log, for nobody sends what is in them.
fn directory(
    config: &ExportersConfig,
    storage: &FileStorageConfig,
) -> Result<Option<SpoolDirectory>, ForwardError> {
    let on_disk = || config.0.iter().filter(|(_, exporter)| exporter.queue().storage.is_some());
    if on_disk().next().is_none() {
        return Ok(None);
    }
    let directory = SpoolDirectory::open(&storage.directory)?;
    let names: Vec<String> = on_disk()
        .flat_map(|(name, exporter)| routes(name, exporter))
        .flat_map(|Routed { id, config, .. }| {
            let names = config.signals().iter().map(|data| queue_name(&id, *data));
            names.collect::<Vec<_>>()
        })
        .collect();
    for queue in directory.left_behind(&names)? {
        tracing::warn!(queue = %queue.display(),
            "requests wait in a queue whose exporter is not configured any more; they are sent when it is again");
    }
    Ok(Some(directory))
}

/// An exporter, or what of it is for one address.
struct Routed {
    /// Its name, with the address where it is for one.
    id: Arc<str>,
    endpoint: Option<Arc<str>>,
    config: ExporterConfig,
}

/// One for each address where the service decides, with its part of the queue; else one for all.
fn routes(name: &str, exporter: &ExporterConfig) -> Vec<Routed> {
    let (otlp, wrap): (_, fn(Box<OtlpConfig>) -> ExporterConfig) = match exporter {
        ExporterConfig::OtlpGrpc(otlp) if otlp.routing_key.is_some() => (otlp, ExporterConfig::OtlpGrpc),
        ExporterConfig::OtlpHttp(otlp) if otlp.routing_key.is_some() => (otlp, ExporterConfig::OtlpHttp),
        _ => return vec![Routed { id: name.into(), endpoint: None, config: exporter.clone() }],
    };
    let addresses: Vec<&str> = otlp.bases().collect();
    let part = |address: &str| {
        let sending_queue = otlp.sending_queue.part(addresses.len());
        let config = OtlpConfig { sending_queue, ..otlp.at(address) };
        Routed {
            id: format!("{name}@{address}").into(),
            endpoint: Some(address.into()),
            config: wrap(Box::new(config)),
        }
    };
    addresses.iter().map(|address| part(address)).collect()
}

fn queue_name(exporter: &str, data: DataType) -> String {
    format!("{exporter} {}", data.as_str())
}

fn lane(
    exporter: &Arc<str>,
    data: DataType,
    config: &ExporterConfig,
    directory: Option<(&SpoolDirectory, &FileStorageConfig)>,
    fault: &CancellationToken,
) -> Result<Lane, ForwardError> {
    let queue = config.queue();
    let metrics = Arc::new(LaneMetrics::new(exporter, data, queue));
    let on_disk = directory.filter(|_| queue.storage.is_some());
    let waits = match on_disk {
        None => Queue::in_memory(data, queue, &metrics),
        Some((directory, storage)) => {
            let folder = directory.folder(&queue_name(exporter, data));
            let queue = DiskQueue::open(folder, exporter, data, (queue, storage), &metrics, fault)?;
            Queue::Disk(Arc::new(queue))
        }
    };
    Ok(Lane {
        exporter: Arc::clone(exporter),
        data,
        queue: waits,
        on_full: queue.on_full,
        metadata_keys: config.metadata_keys(),
        metrics,
    })
}

/// Whom an exporter trusts and who it is.
fn identity(
    name: &str,
    config: &ExporterConfig,
    credentials: &Credentials,
) -> Result<Identity, ForwardError> {
    match config {
        ExporterConfig::OtlpGrpc(config) => Identity::new(name, config, false, credentials),
        ExporterConfig::OtlpHttp(config) => Identity::new(name, config, true, credentials),
        ExporterConfig::Debug(_) | ExporterConfig::File(_) => Ok(Identity::default()),
    }
}

/// One for each kind of data.
fn clients(
    config: &ExporterConfig,
    signals: &[DataType],
    identity: &Identity,
) -> Result<Vec<Client>, ForwardError> {
    let otlp = |config, is_http| {
        let one = |data: &DataType| Otlp::new(*data, config, is_http, identity);
        signals.iter().map(|data| Ok(Client::Otlp(Box::new(one(data)?)))).collect()
    };
    match config {
        ExporterConfig::OtlpGrpc(config) => otlp(config, false),
        ExporterConfig::OtlpHttp(config) => otlp(config, true),
        ExporterConfig::Debug(config) => {
            Ok(signals.iter().map(|data| Client::Debug(Debug::new(*data, config))).collect())
        }
        ExporterConfig::File(config) => {
            let file = File::new(DataType::Traces, config);
            Ok(signals.iter().map(|data| Client::File(file.also_for(*data))).collect())
        }
    }
}

fn retry(config: &ExporterConfig) -> RetryConfig {
    match config {
        ExporterConfig::OtlpGrpc(otlp) | ExporterConfig::OtlpHttp(otlp) => otlp.retry_on_failure.clone(),
        ExporterConfig::Debug(_) | ExporterConfig::File(_) => RetryConfig::default(),
    }
}

/// Up to how many bytes requests are joined and split; `None` where they stay as they came.
fn max_request_bytes(config: &ExporterConfig) -> Option<usize> {
    match config {
        ExporterConfig::OtlpGrpc(otlp) | ExporterConfig::OtlpHttp(otlp) => Some(otlp.max_request_bytes),
        ExporterConfig::Debug(_) | ExporterConfig::File(_) => None,
    }
}

#[cfg(test)]
#[path = "forwarder_tests.rs"]
mod tests;
