//! What an SLI of a policy's own is: its name, what it counts, the question, and what it may decide.

use crate::model::snapshot::{Corrupt, Reader, Snapshot, Writer, snapshot_fields, snapshot_index};
use crate::model::{Measure, Source};

/// What kind of SLI it is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnKind {
    /// Bad ones of all.
    #[default]
    Ratio,
    /// How long they take.
    Latency,
    /// Requests refused as the client's fault.
    ClientErrors,
    /// Error logs per request.
    LogErrors,
    /// Events, or a quantity, per request.
    Rate,
    /// Events per minute of an instance.
    Counter,
    /// What each instance stands at while it is young.
    Gauge,
    /// Instances that die and are replaced, per minute of one.
    Churn,
    /// Requests, of the share that is meant to go to the candidate.
    TrafficShare,
}

impl OwnKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ratio,
        Self::Latency,
        Self::ClientErrors,
        Self::LogErrors,
        Self::Rate,
        Self::Counter,
        Self::Gauge,
        Self::Churn,
        Self::TrafficShare,
    ];

    /// The word used in the configuration and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::Latency => "latency",
            Self::ClientErrors => "client_errors",
            Self::LogErrors => "log_errors",
            Self::Rate => "rate",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Churn => "churn",
            Self::TrafficShare => "traffic_share",
        }
    }
}

/// Where its counts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnSource {
    /// Spans.
    #[default]
    Spans,
    /// Log records, per request that spans show.
    Logs,
    /// A metric that the policy names.
    Metrics,
}

impl OwnSource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Spans, Self::Logs, Self::Metrics];

    /// The word used in the configuration and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// The source whose slots it is judged in.
    pub const fn clock(self) -> Source {
        match self {
            Self::Spans | Self::Logs => Source::Spans,
            Self::Metrics => Source::Metrics,
        }
    }
}

/// The question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OwnTest {
    /// Null: the candidate's rate is at most `ratio` times the baseline's plus `delta`; with `is_decrease`, the
    /// arms are swapped: the baseline's is at most `ratio` times the candidate's.
    Rate {
        /// Tolerated ratio.
        ratio: f64,
        /// Tolerated absolute increase.
        delta: f64,
        /// Whether fewer is worse.
        is_decrease: bool,
        /// Whether it is a share, which cannot exceed 1.
        is_share: bool,
        /// Ratio that a PASS must have ruled out.
        pass_ratio: f64,
        /// Absolute increase that a PASS must have ruled out.
        pass_delta: f64,
    },
    /// Null: at a quantile of the baseline the candidate is at most a margin slower.
    Latency {
        /// Place in the quantiles 0.5, 0.75, 0.95, 0.99.
        quantile: u8,
        /// Tolerated shift, in buckets of 1/32 octave.
        margin: i32,
        /// Shift that a PASS must have ruled out.
        pass_margin: i32,
    },
    /// Null: at each age an instance of the candidate is no worse than earlier starts of the service by more than this.
    Gauge {
        /// Tolerated ratio.
        ratio: f64,
        /// Tolerated absolute change.
        slack: f64,
        /// Whether less is worse.
        is_decrease: bool,
    },
    /// Null: per unit of intended share the baseline gets at most `ratio` times the requests that the candidate gets.
    Share {
        /// Tolerated ratio.
        ratio: f64,
        /// The share of both versions' requests that is meant to go to the candidate, unless its deployment names
        /// another; `None`: only where it names one.
        share: Option<f64>,
    },
}

/// One SLI of a policy's own.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnSli {
    /// Its name in the policy.
    pub name: String,
    /// What kind it is.
    pub kind: OwnKind,
    /// Where its counts come from.
    pub source: OwnSource,
    /// What it counts.
    pub measure: Measure,
    /// The question.
    pub test: OwnTest,
    /// Its weight beside those of the SLIs that every service has, which are 1 together; 0: it is reported only.
    pub weight: f64,
    /// Whether a PASS rests on it.
    pub required: bool,
}

impl OwnSli {
    /// Whether it is a gauge, which is not judged slot by slot.
    pub(in crate::verdict) const fn is_gauge(&self) -> bool {
        matches!(self.test, OwnTest::Gauge { .. })
    }

    /// Whether it is about the share of traffic, of which no measure is counted.
    pub const fn is_share(&self) -> bool {
        matches!(self.test, OwnTest::Share { .. })
    }

    /// Whether it is judged slot by slot, by what its measure counts.
    pub(in crate::verdict) const fn is_measured(&self) -> bool {
        matches!(self.test, OwnTest::Rate { .. } | OwnTest::Latency { .. })
    }
}

/// What a line of evidence of such an SLI says beside its numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OwnEvidence {
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: OwnKind,
    /// Where its counts come from.
    pub source: OwnSource,
    /// Whether fewer is worse.
    pub is_decrease: bool,
    /// Whether a PASS rests on it.
    pub required: bool,
    /// Of a gauge, what is known of each age; empty for the other kinds.
    pub ages: Vec<AgeEvidence>,
    /// Of a share of traffic, the one that is meant to go to the candidate now.
    pub intended: Option<f64>,
    /// The same on average over the requests that were compared.
    pub expected: Option<f64>,
}

/// What is known of a gauge at one age of instances: of the candidate's, and of earlier starts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgeEvidence {
    /// The bin of age; see [`crate::window::AGE_EDGES_S`].
    pub age: u8,
    /// Instances that were observed.
    pub instances: [u32; 2],
    /// Starts that count: instances which started within half a minute of each other are one.
    pub starts: [u32; 2],
    /// The middle of what these showed.
    pub middles: [Option<f64>; 2],
    /// Evidence that the candidate is worse, in nats.
    pub ln_e: f64,
    /// Whether there were instances enough of earlier starts.
    pub is_testable: bool,
}

snapshot_fields!(AgeEvidence { age, instances, starts, middles, ln_e, is_testable });
snapshot_fields!(OwnSli { name, kind, source, measure, test, weight, required });
snapshot_fields!(OwnEvidence { name, kind, source, is_decrease, required, ages, intended, expected });

snapshot_index!(OwnKind, OwnSource);

impl Snapshot for OwnTest {
    fn save(&self, out: &mut Writer) {
        match *self {
            Self::Rate { ratio, delta, is_decrease, is_share, pass_ratio, pass_delta } => {
                0u8.save(out);
                [ratio, delta, pass_ratio, pass_delta].save(out);
                [is_decrease, is_share].save(out);
            }
            Self::Latency { quantile, margin, pass_margin } => {
                1u8.save(out);
                quantile.save(out);
                [margin, pass_margin].save(out);
            }
            Self::Gauge { ratio, slack, is_decrease } => {
                2u8.save(out);
                [ratio, slack].save(out);
                is_decrease.save(out);
            }
            Self::Share { ratio, share } => {
                3u8.save(out);
                ratio.save(out);
                share.save(out);
            }
        }
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(match u8::load(from)? {
            0 => {
                let [ratio, delta, pass_ratio, pass_delta] = Snapshot::load(from)?;
                let [is_decrease, is_share] = Snapshot::load(from)?;
                Self::Rate { ratio, delta, is_decrease, is_share, pass_ratio, pass_delta }
            }
            1 => {
                let quantile = u8::load(from)?;
                let [margin, pass_margin] = Snapshot::load(from)?;
                Self::Latency { quantile, margin, pass_margin }
            }
            2 => {
                let [ratio, slack] = Snapshot::load(from)?;
                Self::Gauge { ratio, slack, is_decrease: bool::load(from)? }
            }
            3 => Self::Share { ratio: f64::load(from)?, share: Option::load(from)? },
            _ => return Err(Corrupt::Body),
        })
    }
}
