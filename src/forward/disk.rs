//! The queue of one exporter for one kind of data on disk. What was accepted outlives the process: a request
//! stays in the file until the far end took it or refused it for good, and a shutdown leaves it there.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::QueueConfig;
use super::metrics::{Dropped, LaneMetrics};
use super::pieces::divisible;
use crate::pipeline::{DataType, Metadata, Passage, QueueReport};
use crate::spool::{
    AppendError, Appended, Delivery, FileStorageConfig, NoRoom, Reservation, Spool, SpoolConfig, SpoolError,
};

#[derive(Debug)]
pub(super) struct DiskQueue {
    data: DataType,
    spool: Spool,
    most_requests: usize,
    most_bytes: usize,
    pub(super) metrics: Arc<LaneMetrics>,
}

impl DiskQueue {
    /// Opens the queue in this folder. Blocks while it is looked through. `fault` is cancelled when its thread ends by a
    /// fault.
    pub(super) fn open(
        folder: PathBuf,
        exporter: &Arc<str>,
        data: DataType,
        (config, storage): (&QueueConfig, &FileStorageConfig),
        metrics: &Arc<LaneMetrics>,
        fault: &CancellationToken,
    ) -> Result<Self, SpoolError> {
        let (most_requests, most_bytes) = (config.most_requests(), config.most_bytes());
        let (spool, recovered) = Spool::open(SpoolConfig {
            folder: folder.clone(),
            max_bytes: most_bytes as u64,
            max_entries: most_requests as u64,
            reserve_bytes: storage.reserve_bytes,
            fsync: storage.fsync,
            // The hasher of the standard library is seeded by the system.
            seed: RandomState::new().build_hasher().finish(),
            labels: vec![
                metrics::Label::new("exporter", Arc::clone(exporter)),
                metrics::Label::new("data_type", data.as_str()),
            ],
            bytes: metrics.queue_bytes.clone(),
            messages: metrics.queue_size.clone(),
            fault: fault.clone(),
        })?;
        let queue = folder.display();
        if recovered.entries > 0 {
            tracing::info!(%queue, requests = recovered.entries, records = recovered.records,
                "requests that the process before this one had accepted are sent now");
        }
        if recovered.torn > 0 || recovered.damaged_places > 0 {
            tracing::warn!(%queue, torn = recovered.torn, damaged_places = recovered.damaged_places,
                damaged_bytes = recovered.damaged_bytes, "the queue is damaged; what is whole is sent");
        }
        Ok(Self { data, spool, most_requests, most_bytes, metrics: Arc::clone(metrics) })
    }

    pub(super) fn reserve(&self, metadata_bytes: usize, message_bytes: usize) -> Result<Reservation, NoRoom> {
        self.spool.reserve(metadata_bytes, message_bytes)
    }

    pub(super) async fn append(&self, room: Reservation, passage: &Passage) -> Result<Appended, AppendError> {
        let metadata = passage.metadata.to_bytes().into();
        let records = u32::try_from(passage.records).map_err(|_| AppendError::TooLarge)?;
        self.spool.append(room, metadata, passage.message.clone(), records).await
    }

    /// The next requests with what goes along; `None` after `shutdown`, for what waits is sent by the next process.
    pub(super) async fn take(
        &self,
        most_bytes: usize,
        shutdown: &CancellationToken,
    ) -> Option<Vec<(Passage, Delivery)>> {
        let most_bytes = if divisible(self.data) { most_bytes } else { 0 };
        loop {
            let deliveries = shutdown.run_until_cancelled(self.spool.take(most_bytes)).await??;
            let mut readable = Vec::with_capacity(deliveries.len());
            for delivery in deliveries {
                match passage(&delivery) {
                    Some(passage) => readable.push((passage, delivery)),
                    None => {
                        self.metrics.dropped(Dropped::Unreadable, u64::from(delivery.records()));
                        delivery.done().await;
                    }
                }
            }
            if !readable.is_empty() {
                return Some(readable);
            }
        }
    }

    /// Ends the queue's thread. Blocks.
    pub(super) fn close(&self) {
        self.spool.close();
    }

    pub(super) fn report(&self) -> QueueReport {
        let usage = self.spool.usage();
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        QueueReport {
            data: self.data,
            endpoint: None,
            requests: [size(usage.entries), self.most_requests],
            bytes: [size(usage.bytes), self.most_bytes],
        }
    }
}

fn passage(delivery: &Delivery) -> Option<Passage> {
    Some(Passage {
        message: delivery.body().clone(),
        records: u64::from(delivery.records()),
        metadata: Metadata::from_bytes(delivery.metadata())?,
    })
}
