//! Rollguard answers one question inside the telemetry path: is the new version of a service worse than the
//! one before?

pub mod deployment;
pub mod forward;
pub mod histogram;
pub mod model;
pub mod pipeline;
pub mod receiver;
pub mod verdict;
