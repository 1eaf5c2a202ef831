//! What people ask of the evaluator. Commands are answered after their effect is durable.

use tokio::sync::oneshot;

use crate::deployment::{Deployment, Request};
use crate::model::DeploymentId;
use std::sync::Arc;

/// A question to the evaluator and where its answer goes.
#[derive(Debug)]
pub enum Command {
    /// Start a deployment, or merge with one that began by itself.
    Start(Request, oneshot::Sender<Result<Arc<Deployment>, CommandError>>),
    /// End a deployment.
    Cancel(DeploymentId, oneshot::Sender<Result<Arc<Deployment>, CommandError>>),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A field is missing or cannot be right.
    #[error("{0}")]
    Invalid(String),
    /// The service exists in several environments or namespaces; the message names them.
    #[error("{0}")]
    Ambiguous(String),
    /// No such deployment.
    #[error("no deployment {0}")]
    NotFound(DeploymentId),
    /// The deployment is over already.
    #[error("{0}")]
    Conflict(String),
    /// The decision could not be made durable.
    #[error("{0}")]
    Unavailable(String),
}
