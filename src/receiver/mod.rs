//! OTLP in, over gRPC and HTTP. The message of a request is never turned into structs: the walker reads what
//! SLIs need from the bytes in place, and the same bytes are what is passed on.
//!
//! A request is decoded whole before anything of it counts. What a client is told follows the OTLP
//! specification: final errors for what can never be accepted, `UNAVAILABLE` or 503 with a delay for what can
//! be accepted later.

mod codec;
mod config;
mod cors;
mod door;
mod encoding;
mod exchange;
mod grpc;
mod http;
mod identity;
mod ids;
mod json;
mod memory;
mod metrics;
mod resend;
mod seeds;
mod semantics;
mod server;
mod settings;
mod signal;
mod status;
mod tracestate;
mod value;
mod walk;

pub use config::{GrpcConfig, HttpConfig, PointAttributesConfig, ReceiverConfig};
pub use cors::CorsConfig;
pub use door::{DoorError, Doors};
pub use exchange::ReceiverDeps;
pub use json::{JsonError, request_from_json, traces_from_json};
pub use memory::MemoryLimiterConfig;
pub use server::Receivers;
pub use settings::{PointAttributes, VersionSource, WalkSettings};
pub use signal::{signal_of_json, signal_of_message};
pub use tracestate::sampling_weight;
pub use walk::{Counts, LogCounts, PointCounts, WalkError, walk_logs, walk_metrics, walk_traces};
