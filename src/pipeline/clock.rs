//! The one file that may ask what time it is. Everything else is told.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::model::UnixNanos;

/// A source of wall-clock time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> UnixNanos;

    /// How long ago some moment was that stays the same for the process. Nobody sets this one: it is for ages and waits,
    /// where the time of day may jump.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn monotonic(&self) -> Duration {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        BEGIN.get_or_init(Instant::now).elapsed()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> UnixNanos {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        UnixNanos(since_epoch.map_or(0, |d| d.as_nanos() as u64))
    }
}
