//! Logs: one line an event on stderr, filtered by `RUST_LOG` (default `info`). And a limiter for messages
//! that would repeat with every request.

use std::collections::HashMap;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::model::UnixNanos;

/// Keys that a limiter remembers; beyond it, it forgets the oldest.
const KEYS: usize = 1_024;

/// Why the log was not set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` cannot be read as a filter.
    #[error("read RUST_LOG")]
    Filter(#[source] tracing_subscriber::filter::FromEnvError),
    /// There is a log already.
    #[error("install the log: {0}")]
    Install(Box<dyn std::error::Error + Send + Sync>),
}

/// Sets the log up, once per process.
///
/// # Errors
/// When `RUST_LOG` is not a filter, or a log was set up before.
pub fn init() -> Result<(), LogError> {
    let filter = if std::env::var_os("RUST_LOG").is_some_and(|value| !value.is_empty()) {
        EnvFilter::try_from_default_env().map_err(LogError::Filter)?
    } else {
        EnvFilter::new("info")
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init()
        .map_err(LogError::Install)
}

/// Lets one message of a kind through per interval, and counts those that it held back.
#[derive(Debug)]
pub struct Limiter {
    interval_nanos: u64,
    last: HashMap<String, (UnixNanos, u64)>,
}

impl Limiter {
    /// One message per key in this many seconds.
    pub fn new(interval_s: u64) -> Self {
        let interval_nanos = interval_s.saturating_mul(crate::model::NANOS_PER_SECOND);
        Self { interval_nanos, last: HashMap::new() }
    }

    /// Whether to say it now: the number of messages held back since it was last said, or `None`.
    pub fn allow(&mut self, key: &str, now: UnixNanos) -> Option<u64> {
        if let Some((said, held_back)) = self.last.get_mut(key) {
            if now.since(*said) < self.interval_nanos {
                *held_back += 1;
                return None;
            }
            *said = now;
            return Some(std::mem::take(held_back));
        }
        if self.last.len() >= KEYS {
            self.forget(now);
        }
        self.last.insert(key.to_owned(), (now, 0));
        Some(0)
    }

    /// Drops what is over; if nothing is, the oldest.
    fn forget(&mut self, now: UnixNanos) {
        let interval = self.interval_nanos;
        self.last.retain(|_, (said, _)| now.since(*said) < interval);
        if self.last.len() >= KEYS {
            let oldest = self.last.iter().min_by_key(|(_, (said, _))| *said).map(|(key, _)| key.clone());
            oldest.map(|key| self.last.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_per_key_and_interval() {
        let mut limiter = Limiter::new(60);
        for (key, second, expected) in [
            ("a", 0, Some(0)),
            ("a", 30, None),
            ("b", 30, Some(0)),
            ("a", 59, None),
            ("a", 60, Some(2)),
            ("a", 61, None),
            ("a", 10, None),
        ] {
            assert_eq!(limiter.allow(key, UnixNanos::from_secs(second)), expected, "{key} at {second}");
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut limiter = Limiter::new(60);
        for n in 0..3_000 {
            assert_eq!(limiter.allow(&n.to_string(), UnixNanos(n)), Some(0));
        }
        assert!(limiter.last.len() <= KEYS);
        assert_eq!(limiter.allow("2999", UnixNanos(3_000)), None);
    }
}
