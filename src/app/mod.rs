//! The one place that knows every part: it builds the gateway from a configuration, runs it until it is told
//! to stop, applies reloads, and carries out the commands that use the parts without a gateway.

pub mod demo;
mod gateway;
mod journal;
mod reload;
pub mod replay;
mod run;
mod totals;

pub use gateway::{Gateway, StartError};
pub use run::{RunError, run};
