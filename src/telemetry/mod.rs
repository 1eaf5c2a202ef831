//! What the program says of itself: logs on stderr, and its own metrics on their own port with the
//! Collector's names. What it says of the services it watches is elsewhere.

mod log;
mod memory;
mod metrics;

pub use log::{Limiter, LogError, init as init_log};
pub use memory::{Memory, ProcessMemory, Resident, count_allocated_by};
pub use metrics::{MetricsEndpoint, MetricsError, TelemetryConfig, install_recorder};
