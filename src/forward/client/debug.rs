//! The `debug` exporter: messages in our own log, for people who want to see whether and what arrives.

use std::sync::{Mutex, PoisonError};

use super::super::DebugConfig;
use super::super::compress::Payload;
use super::super::config::Verbosity;
use super::{Failure, Taken, json};
use crate::model::{NANOS_PER_SECOND, UnixNanos};
use crate::pipeline::DataType;

/// Longest message that is shown whole.
const SHOWN_BYTES: usize = 64 << 10;

/// Shows messages of one kind.
#[derive(Debug)]
pub(in crate::forward) struct Debug {
    data: DataType,
    config: DebugConfig,
    shown: Mutex<Sampled>,
}

/// Messages of the second in hand.
#[derive(Debug, Default)]
struct Sampled {
    second: u64,
    messages: u64,
}

impl Debug {
    pub(in crate::forward) fn new(data: DataType, config: &DebugConfig) -> Self {
        Self { data, config: config.clone(), shown: Mutex::default() }
    }

    pub(super) fn show(&self, payload: &Payload, records: u64, now: UnixNanos) -> Result<Taken, Failure> {
        if self.is_sampled(now) {
            let (data_type, bytes) = (self.data.as_str(), payload.len());
            match self.config.verbosity {
                Verbosity::Basic => tracing::info!(data_type, records, bytes, "debug exporter"),
                Verbosity::Detailed => {
                    let text = json::of(self.data, &payload.plain()).unwrap_or_else(|error| error);
                    let message = &text[..text.floor_char_boundary(SHOWN_BYTES)];
                    tracing::info!(data_type, records, bytes, "debug exporter: {message}");
                }
            }
        }
        Ok(Taken::default())
    }

    fn is_sampled(&self, now: UnixNanos) -> bool {
        let second = now.0 / NANOS_PER_SECOND;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.second != second {
            *shown = Sampled { second, messages: 0 };
        }
        shown.messages += 1;
        let beyond = shown.messages.saturating_sub(self.config.sampling_initial);
        beyond == 0
            || self.config.sampling_thereafter > 0 && beyond.is_multiple_of(self.config.sampling_thereafter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_each_second_are_shown() {
        let config = DebugConfig { sampling_initial: 2, sampling_thereafter: 3, ..DebugConfig::default() };
        let debug = Debug::new(DataType::Logs, &config);
        let shown = |second, n| (0..n).filter(|_| debug.is_sampled(UnixNanos::from_secs(second))).count();
        assert_eq!([shown(1, 2), shown(1, 6), shown(2, 1)], [2, 2, 1]);
        let first = Debug::new(DataType::Logs, &DebugConfig { sampling_thereafter: 0, ..config });
        assert_eq!((0..9).filter(|_| first.is_sampled(UnixNanos::from_secs(5))).count(), 2);
    }
}
