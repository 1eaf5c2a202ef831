//! A deployment: one candidate version held against one baseline, from its first request to its end. A pure
//! state machine; the pipeline feeds it, the store keeps it.

mod record;

pub use record::{Action, Deployment, Mode, Origin, Phase, Request, Transition};
