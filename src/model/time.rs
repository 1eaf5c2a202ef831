//! Event time as nanoseconds and as 1-second slots. Arithmetic only: nothing here asks what time it is.

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A point in time, nanoseconds since the Unix epoch, as OTLP carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixNanos(pub u64);

/// A second of event time, counted from the Unix epoch: the unit in which versions are compared.
pub type Slot = i64;

impl UnixNanos {
    /// The point `seconds` after the epoch.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * NANOS_PER_SECOND)
    }

    /// The slot this point lies in.
    pub const fn slot(self) -> Slot {
        (self.0 / NANOS_PER_SECOND) as Slot
    }

    /// Seconds since the epoch, with the fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_SECOND as f64
    }

    /// Nanoseconds from `earlier` to here; 0 when `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This point moved into the future by `nanos`.
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// This point moved into the future by `seconds` (fractions allowed, negative counts as 0).
    pub fn plus_secs_f64(self, seconds: f64) -> Self {
        self.plus_nanos((seconds.max(0.0) * NANOS_PER_SECOND as f64) as u64)
    }
}
