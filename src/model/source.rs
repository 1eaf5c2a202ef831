//! Where the numbers about requests come from. A service may send both for the same requests; they are kept
//! and judged apart, and never added.

/// A kind of telemetry that counts requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Source {
    /// Entry spans, one a request.
    #[default]
    Spans,
    /// Request metrics, counted by the service itself and sent once an export interval.
    Metrics,
}

impl Source {
    /// Both, in reading order.
    pub const ALL: [Self; 2] = [Self::Spans, Self::Metrics];

    /// The word used in the API and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Metrics => "metrics",
        }
    }

    /// Its place in [`Source::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Spans => Self::Metrics,
            Self::Metrics => Self::Spans,
        }
    }
}
