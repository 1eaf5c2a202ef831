//! Why a record of a message is not judged, said by whoever reads the message. Together with what becomes of
//! the others later on, every record is accounted for exactly once.

/// Why a span, data point or log record is not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// Not an entry span (kind INTERNAL, CLIENT, PRODUCER, UNSPECIFIED).
    Kind,
    /// A point of a metric that is no SLI.
    MetricName,
    /// A log record below ERROR.
    Severity,
    /// A log record that does not say how severe it is.
    NoSeverity,
    /// The first point of a cumulative stream: what later ones are counted from.
    BasePoint,
    /// A point that says that its stream has ended.
    StaleMark,
    /// A span without an end, a point without a time: nothing can be said of it.
    NoTime,
    /// A point that does not say whether it is a difference or a total.
    Temporality,
    /// A duration in a unit that is not known.
    Unit,
    /// A point whose numbers contradict each other: a count below 0, buckets that do not add up to it, bounds
    /// out of order, an end before its start.
    Numbers,
    /// A point of a stream beyond the cap of its version: what its streams said last is kept of a bounded number
    /// only, to count cumulative points from and to know repeated differences.
    Streams,
    /// A point whose requests another metric of the service counts already.
    OtherMetric,
    /// Marked as synthetic traffic.
    Synthetic,
    /// A health check.
    Health,
    /// Excluded by the configuration.
    Excluded,
    /// Trace or span id of the wrong length.
    BadId,
}

impl Discard {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Kind,
        Self::MetricName,
        Self::Severity,
        Self::NoSeverity,
        Self::BasePoint,
        Self::StaleMark,
        Self::NoTime,
        Self::Temporality,
        Self::Unit,
        Self::Numbers,
        Self::Streams,
        Self::OtherMetric,
        Self::Synthetic,
        Self::Health,
        Self::Excluded,
        Self::BadId,
    ];

    /// The word for the reason, used as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::MetricName => "metric_name",
            Self::Severity => "severity",
            Self::NoSeverity => "no_severity",
            Self::BasePoint => "base_point",
            Self::StaleMark => "stale_mark",
            Self::NoTime => "no_time",
            Self::Temporality => "temporality",
            Self::Unit => "unit",
            Self::Numbers => "numbers",
            Self::Streams => "streams",
            Self::OtherMetric => "other_metric",
            Self::Synthetic => "synthetic",
            Self::Health => "health",
            Self::Excluded => "excluded",
            Self::BadId => "bad_id",
        }
    }
}
