//! What a user sets of forwarding.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pipeline::{Signal, human};

/// Where each signal goes on to; nowhere by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForwardConfig {
    /// Where traces go on to.
    pub traces: Option<DownstreamConfig>,
    /// Where metrics go on to.
    pub metrics: Option<DownstreamConfig>,
    /// Where logs go on to.
    pub logs: Option<DownstreamConfig>,
}

/// One OTLP/gRPC receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownstreamConfig {
    /// `http://host:port`.
    pub endpoint: String,
    /// Memory that messages waiting to be sent may take.
    #[serde(default = "default_queue_bytes")]
    pub queue_bytes: usize,
    /// How long one attempt may take.
    #[serde(with = "human", default = "default_timeout")]
    pub timeout: Duration,
    /// When to try again.
    #[serde(default)]
    pub retry: RetryConfig,
    /// How messages are compressed.
    #[serde(default)]
    pub compression: Compression,
}

const fn default_queue_bytes() -> usize {
    64 << 20
}

const fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

/// When a message is tried again: the Collector's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Wait before the second attempt; later waits grow by half.
    #[serde(with = "human")]
    pub initial: Duration,
    /// Longest wait.
    #[serde(with = "human")]
    pub max_interval: Duration,
    /// Age at which a message is given up.
    #[serde(with = "human")]
    pub max_elapsed: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(5),
            max_interval: Duration::from_secs(30),
            max_elapsed: Duration::from_secs(300),
        }
    }
}

/// Compression of forwarded messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip.
    Gzip,
}

impl ForwardConfig {
    /// The downstream of a signal.
    pub const fn downstream(&self, signal: Signal) -> Option<&DownstreamConfig> {
        match signal {
            Signal::Traces => self.traces.as_ref(),
            Signal::Metrics => self.metrics.as_ref(),
            Signal::Logs => self.logs.as_ref(),
        }
    }

    /// What cannot work, each with a way out.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for signal in Signal::ALL {
            let Some(downstream) = self.downstream(signal) else { continue };
            let name = signal.as_str();
            let is_plain = downstream.endpoint.starts_with("http://")
                && downstream.endpoint.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some());
            if !is_plain {
                problems.push(format!(
                    "forward.{name}.endpoint `{}` is not an address like http://collector:4317 (TLS to the \
                     downstream is not supported)",
                    downstream.endpoint
                ));
            }
            if downstream.queue_bytes < 1 << 20 {
                problems.push(format!("forward.{name}.queue_bytes is below 1 MiB; leave it out for 64 MiB"));
            }
            if downstream.timeout.is_zero() {
                problems.push(format!("forward.{name}.timeout is 0; leave it out for 5s"));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_collectors_and_problems_are_named() {
        let json = r#"{"traces":{"endpoint":"http://collector:4317"},"logs":{"endpoint":"collector:4317","queue_bytes":1}}"#;
        let config: ForwardConfig = serde_json::from_str(json).unwrap();
        let traces = config.traces.as_ref().unwrap();
        assert_eq!((traces.queue_bytes, traces.timeout), (64 << 20, Duration::from_secs(5)));
        assert_eq!(traces.retry.max_elapsed, Duration::from_secs(300));
        assert_eq!(config.problems().len(), 2);
        assert!(serde_json::from_str::<ForwardConfig>(r#"{"traces":{"endpoint":"x","retries":1}}"#).is_err());
    }
}
