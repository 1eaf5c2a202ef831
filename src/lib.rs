//! Rollguard answers one question inside the telemetry path: is the new version of a service worse than the
//! one before?

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod deployment;
pub mod exporter;
pub mod forward;
pub mod histogram;
pub mod model;
pub mod pipeline;
pub mod receiver;
pub mod remedy;
pub mod stats;
pub mod store;
pub mod telemetry;
pub mod verdict;
pub mod window;
