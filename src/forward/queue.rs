//! The queues, one per downstream, counted in the bytes that their messages keep in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::metrics::{Dropped, ForwardMetrics};
use super::worker::Worker;
use super::{DownstreamConfig, ForwardConfig};
use crate::pipeline::clock::Clock;
use crate::pipeline::{Downstream, Full, Permit, Signal};

/// Room is given in units of this many bytes.
const UNIT_BYTES: usize = 1024;
/// A message keeps the read buffer it arrived in, which is never smaller than this.
const LEAST_BYTES: usize = 8 * 1024;

/// Failed to set up forwarding.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The address cannot be used.
    #[error("use the downstream address `{endpoint}`")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        cause: tonic::transport::Error,
    },
}

/// Queues and their senders. Give [`Forwarder::downstream`] to the receivers and run [`Forwarder::run`].
pub struct Forwarder {
    queues: Arc<Queues>,
    workers: Vec<(Worker, UnboundedReceiver<Queued>)>,
}

/// By signal.
struct Queues([Option<Queue>; 3]);

struct Queue {
    room: Arc<Semaphore>,
    units: u32,
    sender: UnboundedSender<Queued>,
    metrics: ForwardMetrics,
}

/// A message on its way; given up if it is dropped before it is delivered.
pub(super) struct Queued {
    pub(super) message: Bytes,
    pub(super) records: u64,
    room: Option<OwnedSemaphorePermit>,
    metrics: ForwardMetrics,
    is_settled: bool,
}

impl Queued {
    /// Delivered.
    pub(super) fn sent(mut self, rejected: u64) {
        self.is_settled = true;
        self.metrics.rejected.increment(rejected.min(self.records));
        self.metrics.sent.increment(self.records.saturating_sub(rejected));
    }

    /// Given up.
    pub(super) fn give_up(mut self, why: Dropped) {
        self.is_settled = true;
        self.metrics.dropped(why, self.records);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.metrics.queue_size.decrement((room.num_permits() * UNIT_BYTES) as f64);
        }
        if !self.is_settled {
            self.metrics.dropped(Dropped::Shutdown, self.records);
        }
    }
}

impl Forwarder {
    /// Sets up what is configured. Connections are made when there is something to send. Needs a Tokio
    /// runtime around it.
    ///
    /// # Errors
    /// When an address cannot be used.
    pub fn new(config: &ForwardConfig, clock: &Arc<dyn Clock>) -> Result<Self, ForwardError> {
        let mut queues = Queues([None, None, None]);
        let mut workers = Vec::new();
        for signal in Signal::ALL {
            let Some(downstream) = config.downstream(signal) else { continue };
            let client = Client::new(signal, downstream)?;
            let (queue, receiver) = Queue::new(signal, downstream);
            let worker =
                Worker::new(client, downstream, Arc::clone(clock), signal, queue.metrics.retries.clone());
            workers.push((worker, receiver));
            queues.0[signal as usize] = Some(queue);
        }
        Ok(Self { queues: Arc::new(queues), workers })
    }

    /// Where the receivers put messages.
    pub fn downstream(&self) -> Arc<dyn Downstream> {
        Arc::clone(&self.queues) as Arc<dyn Downstream>
    }

    /// Sends until `shutdown` is cancelled, then for `drain_timeout` at most what is still queued.
    pub async fn run(self, shutdown: CancellationToken, drain_timeout: Duration) {
        let mut tasks = tokio::task::JoinSet::new();
        for (worker, receiver) in self.workers {
            worker.spawn(receiver, &shutdown, &mut tasks);
        }
        shutdown.cancelled().await;
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!(?drain_timeout, "messages still queued at the drain deadline are dropped");
        }
    }
}

impl Queue {
    fn new(signal: Signal, config: &DownstreamConfig) -> (Self, UnboundedReceiver<Queued>) {
        let units = u32::try_from(config.queue_bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let (sender, receiver) = unbounded_channel();
        let queue = Self {
            room: Arc::new(Semaphore::new(units as usize)),
            units,
            sender,
            metrics: ForwardMetrics::new(signal, config.queue_bytes),
        };
        (queue, receiver)
    }
}

impl Downstream for Queues {
    fn reserve(&self, signal: Signal, message_bytes: usize) -> Result<Option<Box<dyn Permit>>, Full> {
        let Some(queue) = &self.0[signal as usize] else { return Ok(None) };
        // A message larger than the whole queue may have it all.
        let units = units(message_bytes).min(queue.units);
        let Ok(room) = Arc::clone(&queue.room).try_acquire_many_owned(units) else {
            queue.metrics.refused.increment(1);
            return Err(Full);
        };
        Ok(Some(Box::new(Reserved { room, sender: queue.sender.clone(), metrics: queue.metrics.clone() })))
    }
}

/// Room for a message of this length: its buffer grew by doubling.
fn units(message_bytes: usize) -> u32 {
    let held = message_bytes.max(LEAST_BYTES).checked_next_power_of_two().unwrap_or(usize::MAX);
    u32::try_from(held.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

struct Reserved {
    room: OwnedSemaphorePermit,
    sender: UnboundedSender<Queued>,
    metrics: ForwardMetrics,
}

impl Permit for Reserved {
    fn send(self: Box<Self>, message: Bytes, records: u64) {
        self.metrics.queue_size.increment((self.room.num_permits() * UNIT_BYTES) as f64);
        let queued =
            Queued { message, records, room: Some(self.room), metrics: self.metrics, is_settled: false };
        // After the workers have gone the message comes back and is dropped, which counts it.
        drop(self.sender.send(queued));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_of_the_buffer_not_of_the_message() {
        for (bytes, kib) in [(0, 8), (8192, 8), (8193, 16), (1 << 20, 1024), ((1 << 20) + 1, 2048)] {
            assert_eq!(units(bytes), kib, "{bytes}");
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_room_comes_back() {
        let config = DownstreamConfig {
            endpoint: "http://127.0.0.1:9".into(),
            queue_bytes: 16 * 1024,
            timeout: Duration::from_secs(1),
            retry: super::super::RetryConfig::default(),
            compression: super::super::Compression::None,
        };
        let (queue, mut receiver) = Queue::new(Signal::Traces, &config);
        let queues = Queues([Some(queue), None, None]);
        let first = queues.reserve(Signal::Traces, 10).ok().flatten().unwrap();
        let second = queues.reserve(Signal::Traces, 10).ok().flatten().unwrap();
        assert!(queues.reserve(Signal::Traces, 10).is_err());
        assert!(matches!(queues.reserve(Signal::Logs, 10), Ok(None)));
        drop(second);
        assert!(queues.reserve(Signal::Traces, 10).is_ok());
        first.send(Bytes::from_static(b"x"), 1);
        let queued = receiver.recv().await.unwrap();
        assert_eq!((&queued.message[..], queued.records), (&b"x"[..], 1));
        assert!(queues.reserve(Signal::Traces, 1 << 30).is_err());
        drop(queued);
        assert!(matches!(queues.reserve(Signal::Traces, 1 << 30), Ok(Some(_))));
    }
}
