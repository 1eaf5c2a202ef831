//! What exporters say of themselves, for readers that know nothing of how they work.

use std::sync::Arc;

use super::passage::DataType;
use crate::model::UnixNanos;

/// The exporters as they are now.
pub trait Exporters: Send + Sync {
    /// One report each, by name.
    fn exporters(&self) -> Vec<ExporterReport>;
}

/// There are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoExporters;

impl Exporters for NoExporters {
    fn exporters(&self) -> Vec<ExporterReport> {
        Vec::new()
    }
}

/// One exporter.
#[derive(Debug, Clone)]
pub struct ExporterReport {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its queues, by kind of data.
    pub queues: Vec<QueueReport>,
    /// The last requests that were refused for good, the newest first.
    pub last_rejected: Vec<RejectedRequest>,
}

/// One queue of an exporter.
#[derive(Debug, Clone)]
pub struct QueueReport {
    /// What it is for.
    pub data: DataType,
    /// The address that it is for, where each has one.
    pub endpoint: Option<Arc<str>>,
    /// Requests waiting or being sent, and how many may be.
    pub requests: [usize; 2],
    /// Bytes that they keep, and may keep.
    pub bytes: [usize; 2],
}

/// A request that a downstream refused for good: it was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRequest {
    /// When.
    pub at: UnixNanos,
    /// What it held.
    pub data: DataType,
    /// How many records; 1 for profiles, which are not read.
    pub records: u64,
    /// Its length.
    pub bytes: usize,
    /// Names of services in it, a few of them.
    pub services: Vec<String>,
    /// SHA-256 of its bytes, to find it again among what was sent.
    pub sha256: [u8; 32],
    /// The answer: a gRPC code or an HTTP status.
    pub code: String,
    /// What the downstream said, shortened.
    pub message: String,
}
