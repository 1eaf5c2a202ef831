//! The HTTP port for people and pipelines: deployments and verdicts with their evidence, services, health.

mod config;

pub use config::ApiConfig;
