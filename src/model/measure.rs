//! What an SLI of a policy's own counts. A measure has a name that is the same in every run of the program, so that
//! what is remembered of it outlives a restart and a reload that leaves it as it was.

use super::selection::Selection;
use super::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields};

/// Names a measure by a hash over what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MeasureKey(pub u64);

impl MeasureKey {
    /// The key of a definition in words (FNV-1a: the same in every run and build).
    pub fn of(definition: &str) -> Self {
        let start = 0xcbf2_9ce4_8422_2325_u64;
        Self(definition.bytes().fold(start, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }
}

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// Bad ones among all.
    Share {
        /// All.
        total: Selection,
        /// Those that count as bad, or as good.
        part: Selection,
        /// Whether `part` are the good ones.
        is_good: bool,
    },
    /// Those that take longer than a threshold, in nanoseconds, among all.
    Slower {
        /// All.
        total: Selection,
        /// The threshold.
        nanos: u64,
    },
    /// How long they take.
    Latency {
        /// All.
        total: Selection,
    },
    /// Events, or a quantity, per request.
    PerRequest {
        /// The requests.
        requests: Selection,
        /// The events; with a `quantity`, those that carry it.
        events: Selection,
        /// The attribute that says how much.
        quantity: Option<String>,
    },
    /// Error logs per request.
    ErrorLogs,
    /// Deaths of instances that another one replaces, per second of an instance's life.
    Deaths,
    /// Events per second of an instance's life, as a metric counts them.
    Occurrences {
        /// The events.
        events: Selection,
    },
    /// Nothing beside the requests themselves.
    Requests,
    /// Nothing is counted: what a gauge of each instance stands at.
    Level {
        /// The gauge.
        value: Selection,
    },
}

impl Counted {
    /// Whether a metric says how many, or how much.
    pub fn is_of_metrics(&self) -> bool {
        let chosen = match self {
            Self::Share { total, .. } | Self::Slower { total, .. } | Self::Latency { total } => total,
            Self::PerRequest { events, .. } | Self::Occurrences { events } => events,
            Self::Level { value } => value,
            Self::ErrorLogs | Self::Deaths | Self::Requests => return false,
        };
        chosen.metric.is_some()
    }

    /// The metrics that it is counted by; the same one may occur twice.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        let chosen: [Option<&Selection>; 2] = match self {
            Self::Share { total, part, .. } => [Some(total), Some(part)],
            Self::Slower { total, .. } | Self::Latency { total } => [Some(total), None],
            Self::PerRequest { requests, events, .. } => [Some(events), Some(requests)],
            Self::Occurrences { events: one } | Self::Level { value: one } => [Some(one), None],
            Self::ErrorLogs | Self::Deaths | Self::Requests => [None; 2],
        };
        chosen.into_iter().flatten().filter_map(|selection| selection.metric.as_deref())
    }
}

/// A measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// Its name.
    pub key: MeasureKey,
    /// What it counts.
    pub counted: Counted,
}

snapshot_fields!(Measure { key, counted });

impl Snapshot for MeasureKey {
    fn save(&self, out: &mut Writer) {
        self.0.save(out);
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self(u64::load(from)?))
    }
}

impl Snapshot for Counted {
    fn save(&self, out: &mut Writer) {
        match self {
            Self::Share { total, part, is_good } => {
                0u8.save(out);
                total.save(out);
                part.save(out);
                is_good.save(out);
            }
            Self::Slower { total, nanos } => {
                1u8.save(out);
                total.save(out);
                nanos.save(out);
            }
            Self::Latency { total } => {
                2u8.save(out);
                total.save(out);
            }
            Self::PerRequest { requests, events, quantity } => {
                3u8.save(out);
                requests.save(out);
                events.save(out);
                quantity.save(out);
            }
            Self::ErrorLogs => 4u8.save(out),
            Self::Occurrences { events } => {
                5u8.save(out);
                events.save(out);
            }
            Self::Level { value } => {
                6u8.save(out);
                value.save(out);
            }
            Self::Deaths => 7u8.save(out),
            Self::Requests => 8u8.save(out),
        }
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(match u8::load(from)? {
            0 => Self::Share {
                total: Selection::load(from)?,
                part: Selection::load(from)?,
                is_good: bool::load(from)?,
            },
            1 => Self::Slower { total: Selection::load(from)?, nanos: u64::load(from)? },
            2 => Self::Latency { total: Selection::load(from)? },
            3 => Self::PerRequest {
                requests: Selection::load(from)?,
                events: Selection::load(from)?,
                quantity: Option::load(from)?,
            },
            4 => Self::ErrorLogs,
            5 => Self::Occurrences { events: Selection::load(from)? },
            6 => Self::Level { value: Selection::load(from)? },
            7 => Self::Deaths,
            8 => Self::Requests,
            _ => return Err(Corrupt::Body),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_in_every_run() {
        assert_eq!(MeasureKey::of(""), MeasureKey(0xcbf2_9ce4_8422_2325));
        assert_eq!(MeasureKey::of("a"), MeasureKey(0xaf63_dc4c_8601_ec8c));
        assert_ne!(MeasureKey::of("ab"), MeasureKey::of("ba"));
    }
}
