//! OTLP in.
mod identity;
mod semantics;
mod settings;
mod tracestate;
mod value;
mod walk;
mod wire;

pub use settings::WalkSettings;
pub use walk::{Counts, WalkError, walk_traces};
