//! The HTTP port for people and pipelines: deployments and verdicts with their evidence, services, health.
//! Reads come from the published picture; writes go to the evaluator as commands and are answered after
//! their effect is durable. JSON types live here, written by hand, so that the core is free to change.

pub mod access;
mod cohorts;
mod config;
mod days;
mod deployments;
mod error;
mod explanation;
mod exporters;
mod health;
mod idempotency;
mod logs;
mod objectives;
mod policy;
mod request;
mod router;
mod serve;
mod services;
mod slots;
mod state;
mod telemetry;
mod view;

pub use access::{TokenError, WriteAccess};
pub use config::ApiConfig;
pub use router::router;
pub use serve::serve;
pub use state::{ApiState, CurrentPolicies, Readiness};
