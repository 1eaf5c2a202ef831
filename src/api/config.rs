//! The `api` section: where the HTTP port is and who may write.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pipeline::human;

/// The HTTP port for people, pipelines and Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address to listen on, `host:port`. Loopback by default: open it on purpose.
    pub endpoint: String,
    /// File with the bearer token that writes need. Without it, writes work on loopback only.
    pub token_file: Option<PathBuf>,
    /// Connections at once; further ones wait.
    pub max_connections: usize,
    /// A request that takes longer is answered with 503.
    #[serde(with = "human")]
    pub request_timeout: Duration,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:9464".into(),
            token_file: None,
            max_connections: 256,
            request_timeout: Duration::from_secs(30),
        }
    }
}
