//! Passes received telemetry on, so that Rollguard can stand in front of whatever collected it before. Any
//! number of exporters, with the Collector's names and keys, get the messages as they came in: the bytes of
//! every Resource envelope are unchanged. Profiles are passed through unread.
//!
//! A request is taken in only if every exporter has room for it, or is configured to go without
//! (`fan`). Each exporter has a bounded queue for each kind of data (`queue`), in memory or on disk (`disk`), with consumers of its own
//! (`worker`), so that a slow or dead backend holds up nobody else. What waits is joined, and what is too large is
//! split, between envelopes (`pieces`); services may have an address each (`route`). What a backend refuses for good is dropped, counted and remembered
//! (`rejected`).

mod client;
mod compress;
mod config;
mod disk;
mod fan;
mod forwarder;
mod metrics;
mod pieces;
mod queue;
mod rejected;
mod retry;
mod route;
mod worker;

pub use config::{
    Compression, DebugConfig, ExporterConfig, ExportersConfig, FileConfig, FileFormat, OnFull, OtlpConfig,
    QueueConfig, RetryConfig, RotationConfig, RoutingKey, Storage, Verbosity,
};
pub use forwarder::{ForwardError, Forwarder};
