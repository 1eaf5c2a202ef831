//! Takes messages from a queue and sends each until it is taken or given up. Several calls are open at a
//! time, so one slow answer does not hold up the rest; messages may overtake one another.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use tokio::sync::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::client::Client;
use super::metrics::Dropped;
use super::queue::Queued;
use super::retry::{Next, next_of, wait};
use super::{DownstreamConfig, RetryConfig};
use crate::pipeline::Signal;
use crate::pipeline::clock::Clock;

/// Calls open at a time per downstream: the Collector's default.
const CONSUMERS: usize = 10;

/// Sends the messages of one queue.
#[derive(Clone)]
pub(super) struct Worker {
    client: Client,
    timeout: Duration,
    retry: RetryConfig,
    clock: Arc<dyn Clock>,
    signal: Signal,
    retries: Counter,
}

impl Worker {
    pub(super) fn new(
        client: Client,
        config: &DownstreamConfig,
        clock: Arc<dyn Clock>,
        signal: Signal,
        retries: Counter,
    ) -> Self {
        Self { client, timeout: config.timeout, retry: config.retry.clone(), clock, signal, retries }
    }

    /// Starts the consumers. After `shutdown` each ends as soon as the queue is empty.
    pub(super) fn spawn(
        self,
        receiver: UnboundedReceiver<Queued>,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..CONSUMERS {
            tasks.spawn(self.clone().consume(Arc::clone(&receiver), shutdown.clone()));
        }
    }

    async fn consume(mut self, receiver: Arc<Mutex<UnboundedReceiver<Queued>>>, shutdown: CancellationToken) {
        loop {
            let next = shutdown.run_until_cancelled(async { receiver.lock().await.recv().await }).await;
            let queued = match next {
                Some(queued) => queued,
                None => receiver.lock().await.try_recv().ok(),
            };
            let Some(queued) = queued else { return };
            self.deliver(queued).await;
        }
    }

    async fn deliver(&mut self, queued: Queued) {
        let began = self.clock.now();
        let seed = began.0 ^ queued.message.as_ptr().addr() as u64;
        let mut attempt = 1;
        loop {
            let error = match self.attempt(&queued).await {
                Ok(rejected) => {
                    if rejected > 0 {
                        tracing::warn!(
                            rejected,
                            signal = self.signal.as_str(),
                            "downstream rejected records"
                        );
                    }
                    return queued.sent(rejected);
                }
                Err(error) => error,
            };
            let Next::Retry(asked) = next_of(&error) else {
                self.log(&error, &queued, "downstream refused a message for good");
                return queued.give_up(Dropped::Permanent);
            };
            let pause = wait(&self.retry, attempt, seed).max(asked.unwrap_or_default());
            let age = Duration::from_nanos(self.clock.now().since(began));
            if age + pause > self.retry.max_elapsed {
                self.log(&error, &queued, "message given up after the longest time to retry");
                return queued.give_up(Dropped::Expired);
            }
            if attempt == 1 {
                self.log(&error, &queued, "downstream does not take messages; trying again");
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
            self.retries.increment(1);
        }
    }

    async fn attempt(&mut self, queued: &Queued) -> Result<u64, Status> {
        let call = self.client.send(queued.message.clone());
        tokio::time::timeout(self.timeout, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("downstream did not answer in time")))
    }

    fn log(&self, error: &Status, queued: &Queued, what: &str) {
        let (code, message) = (error.code(), error.message());
        tracing::warn!(signal = self.signal.as_str(), records = queued.records, ?code, message, "{what}");
    }
}
