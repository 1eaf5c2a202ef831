//! What the logs of two versions say: error logs per request of the same version, and exceptions that only the
//! new one shows. None of it enters a verdict, unless a policy has an SLI `log_errors` of its own: how often a program logs an error is its own habit, which a
//! release may change for the better, and of rare exceptions some are new every time. It is reported beside the
//! verdict, for people (`docs/logs.md`).

use crate::exception::News;
use crate::model::snapshot::{snapshot_fields, snapshot_index};
use crate::stats::ratio_interval;

/// New exceptions that are listed; the rest is counted.
const LISTED: usize = 20;
/// Requests of the baseline at the same time below which what it showed before is added.
const FEW_REQUESTS: u64 = 100;
/// Requests before sampling per span above which spans are no measure of requests: 90 % of them.
pub const SAMPLED: f64 = 1.0 / 0.9;

/// By what error logs are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exposure {
    /// Requests, from entry spans.
    #[default]
    Requests,
    /// Requests, from metrics.
    Points,
    /// Minutes of instances with traffic: spans are sampled and there are no metrics.
    InstanceMinutes,
}

impl Exposure {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Points, Self::InstanceMinutes];

    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Points => "metric_requests",
            Self::InstanceMinutes => "instance_minutes",
        }
    }
}

/// Which version logs more errors, as far as the interval of the ratio tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leaning {
    /// The interval holds 1, or there is none.
    #[default]
    Unclear,
    /// The candidate logs more.
    More,
    /// The candidate logs fewer.
    Fewer,
}

impl Leaning {
    /// All leanings.
    pub const ALL: [Self; 3] = [Self::Unclear, Self::More, Self::Fewer];

    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unclear => "unclear",
            Self::More => "more",
            Self::Fewer => "fewer",
        }
    }
}

/// What one closed second of a version adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogSlot {
    /// Log records of severity ERROR and above.
    pub error_logs: u64,
    /// Exceptions, of log records and of spans, each counted once.
    pub exceptions: u64,
    /// Requests, from entry spans.
    pub requests: u64,
    /// Instances with traffic; at least 1 where there were requests and none is named.
    pub instances: u64,
}

/// One version's logs over a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LogArm {
    /// Sums of what the slots held.
    pub error_logs: u64,
    /// See `error_logs`.
    pub exceptions: u64,
    /// See `error_logs`.
    pub requests: u64,
    /// Seconds times instances.
    pub instance_seconds: u64,
    slots: u64,
    /// Sums of error logs squared, by requests and by instances.
    squares: [f64; 2],
}

impl LogArm {
    /// Adds a closed second.
    pub fn add(&mut self, slot: &LogSlot) {
        self.error_logs += slot.error_logs;
        self.exceptions += slot.exceptions;
        self.requests += slot.requests;
        self.instance_seconds += slot.instances;
        if slot.requests + slot.error_logs > 0 {
            let square = (slot.error_logs as f64).powi(2);
            self.slots += 1;
            self.squares[0] += square / slot.requests.max(1) as f64;
            self.squares[1] += square / slot.instances.max(1) as f64;
        }
    }

    /// Adds another stretch of the same version.
    pub fn merge(&mut self, other: &Self) {
        self.error_logs += other.error_logs;
        self.exceptions += other.exceptions;
        self.requests += other.requests;
        self.instance_seconds += other.instance_seconds;
        self.slots += other.slots;
        (0..2).for_each(|i| self.squares[i] += other.squares[i]);
    }

    /// Pearson's sum over the seconds, less what independent lines would give; and its degrees of freedom.
    fn excess(&self, by: usize, exposure: f64) -> (f64, f64) {
        let (lines, slots) = (self.error_logs as f64, self.slots as f64);
        if lines == 0.0 || exposure == 0.0 || slots < 2.0 {
            return (0.0, 0.0);
        }
        (self.squares[by] * exposure / lines - lines, slots - 1.0)
    }
}

/// What is known when the evidence is drawn up.
#[derive(Debug, Clone, Copy)]
pub struct LogInput<'a> {
    /// Candidate and baseline since the first judged second.
    pub arms: [&'a LogArm; 2],
    /// The baseline's 30 minutes before that.
    pub before: &'a LogArm,
    /// Requests of both in the same time by their metrics, where both send any.
    pub points: Option<[u64; 2]>,
    /// Whether spans stand for more requests than there are, in either arm.
    pub is_sampled: bool,
    /// Exceptions that only the candidate shows.
    pub news: &'a News,
    /// Requests of the candidate since it was first seen.
    pub candidate_requests: u64,
}

/// An exception that only the candidate shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewException {
    /// `NullPointerException in Cart.add`.
    pub name: String,
    /// Type in full.
    pub kind: String,
    /// Names of the top frames.
    pub frames: Vec<String>,
    /// How often, since the candidate was first seen.
    pub count: u64,
    /// Per request of the candidate since then; `None` where spans are sampled or there are none.
    pub share: Option<f64>,
    /// Trace ids (hex) of the first ones.
    pub traces: Vec<String>,
    /// Attributes that the configuration allows to be shown.
    pub values: Vec<(String, String)>,
}

/// What the logs say of a deployment. Outside of alpha: nothing of it enters the verdict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogEvidence {
    /// Error logs: candidate, baseline.
    pub error_logs: [u64; 2],
    /// Exceptions.
    pub exceptions: [u64; 2],
    /// By what they are divided.
    pub per: Exposure,
    /// How many of these.
    pub exposure: [f64; 2],
    /// Ratio of the error logs per exposure with its 95 % interval: `[ratio, low, high]`.
    pub ratio: Option<[f64; 3]>,
    /// What the interval says.
    pub leaning: Leaning,
    /// Whether the baseline's numbers are of the 30 minutes before, too: it had few requests at the same time.
    pub is_remembered: bool,
    /// Exceptions that only the candidate shows, the most frequent first; at most 20.
    pub new: Vec<NewException>,
    /// All of these, the listed ones included.
    pub new_types: u64,
    /// How many would be new by chance alone.
    pub expected_types: f64,
    /// Seconds of traffic for which the versions before were watched.
    pub watched_s: u64,
    /// Whether every exception found room; where not, none is called new.
    pub is_complete: bool,
}

impl LogEvidence {
    /// Draws it up; `None` where neither version logged an error or threw.
    pub fn new(input: &LogInput<'_>) -> Option<Self> {
        let [candidate, concurrent] = input.arms;
        let is_remembered = concurrent.requests < FEW_REQUESTS && input.before.requests > 0;
        let mut baseline = *concurrent;
        if is_remembered {
            baseline.merge(input.before);
        }
        let error_logs = [candidate.error_logs, baseline.error_logs];
        let exceptions = [candidate.exceptions, baseline.exceptions];
        if error_logs == [0, 0] && exceptions == [0, 0] && input.news.new.is_empty() {
            return None;
        }
        let points = input.points.filter(|points| !is_remembered && points.iter().all(|n| *n > 0));
        let (per, exposure) = match points {
            Some(points) => (Exposure::Points, points.map(|n| n as f64)),
            None if input.is_sampled => {
                let minutes = [candidate, &baseline].map(|arm| arm.instance_seconds as f64 / 60.0);
                (Exposure::InstanceMinutes, minutes)
            }
            None => (Exposure::Requests, [candidate, &baseline].map(|arm| arm.requests as f64)),
        };
        let phi = dispersion([candidate, &baseline], per);
        let counts = [exposure[0], error_logs[0] as f64, exposure[1], error_logs[1] as f64];
        let ratio = ratio_interval(counts, phi).filter(|_| error_logs != [0, 0]);
        let leaning = match ratio {
            Some([_, low, _]) if low > 1.0 => Leaning::More,
            Some([_, _, high]) if high < 1.0 => Leaning::Fewer,
            _ => Leaning::Unclear,
        };
        let requests =
            (!input.is_sampled || points.is_some()).then_some(input.candidate_requests).filter(|n| *n > 0);
        Some(Self {
            error_logs,
            exceptions,
            per,
            exposure,
            ratio,
            leaning,
            is_remembered,
            new: input.news.new.iter().take(LISTED).map(|new| listed(new, requests)).collect(),
            new_types: input.news.new.len() as u64,
            expected_types: input.news.expected,
            watched_s: u64::from(input.news.watched_s),
            is_complete: input.news.is_complete,
        })
    }
}

fn listed(new: &crate::exception::New, requests: Option<u64>) -> NewException {
    let hex = |id: &[u8; 16]| id.iter().map(|b| format!("{b:02x}")).collect();
    NewException {
        name: new.exception.short(),
        kind: new.exception.kind.to_string(),
        frames: new.exception.frames.iter().map(ToString::to_string).collect(),
        count: new.showing.count,
        share: requests.map(|n| new.showing.count as f64 / n as f64),
        traces: new.showing.traces.iter().map(hex).collect(),
        values: new.showing.values.clone(),
    }
}

/// How much more error logs vary from second to second than independent ones would: a request that fails may
/// write many. At least 1.
fn dispersion(arms: [&LogArm; 2], per: Exposure) -> f64 {
    let by = usize::from(per == Exposure::InstanceMinutes);
    let sums = arms.map(|arm| arm.excess(by, [arm.requests, arm.instance_seconds][by] as f64));
    let (excess, freedom) = (sums[0].0 + sums[1].0, sums[0].1 + sums[1].1);
    if freedom > 0.0 { (excess / freedom).max(1.0) } else { 1.0 }
}

snapshot_index!(Exposure, Leaning);
snapshot_fields!(LogArm { error_logs, exceptions, requests, instance_seconds, slots, squares });
snapshot_fields!(NewException { name, kind, frames, count, share, traces, values });
snapshot_fields!(LogEvidence {
    error_logs,
    exceptions,
    per,
    exposure,
    ratio,
    leaning,
    is_remembered,
    new,
    new_types,
    expected_types,
    watched_s,
    is_complete,
});

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
