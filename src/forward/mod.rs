//! Passes received telemetry on, so that Rollguard can stand in front of whatever collected it before. One
//! optional OTLP/gRPC downstream per signal gets the messages exactly as they came in. In between is a queue
//! in memory, bounded in bytes; when it is full the receiver pushes back, and what is in it when the process
//! is killed is lost, as with any collector without a queue on disk.

mod client;
mod config;
mod metrics;
mod queue;
mod retry;
mod worker;

pub use config::{Compression, DownstreamConfig, ForwardConfig, RetryConfig};
pub use queue::{ForwardError, Forwarder};
