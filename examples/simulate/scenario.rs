//! What a simulated deployment looks like: how much traffic, which operations, what disturbs both versions alike,
//! and what is different about the new one. Plain values; `traffic.rs` turns them into slots.

use std::sync::OnceLock;

use crate::dimensions::Dimensions;

/// Requests a second and the instances that serve them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// As the tables name it.
    pub(crate) name: &'static str,
    /// Requests a second of candidate and baseline.
    pub(crate) rates: [f64; 2],
    /// Instances of candidate and baseline.
    pub(crate) instances: [usize; 2],
}

/// 10 requests a second on one new instance beside 190 on nineteen old ones.
pub(crate) const SMALL_SHARE: Load = Load { name: "5 % of 200", rates: [10.0, 190.0], instances: [1, 19] };
/// 100 requests a second on two new instances beside 1900 on thirty-eight old ones.
pub(crate) const LARGE: Load = Load { name: "5 % of 2000", rates: [100.0, 1900.0], instances: [2, 38] };
/// Half and half, little traffic.
pub(crate) const HALF: Load = Load { name: "50 % of 20", rates: [10.0, 10.0], instances: [2, 2] };
/// A request every two seconds in each version.
pub(crate) const SPARSE: Load = Load { name: "50 % of 1", rates: [0.5, 0.5], instances: [2, 2] };
/// The new version takes all traffic over; the baseline is what it was before.
pub(crate) const TAKEN_OVER: Load = Load { name: "100 % of 10", rates: [10.0, 10.0], instances: [2, 2] };
/// The same with ten times the traffic.
pub(crate) const TAKEN_OVER_LARGE: Load =
    Load { name: "100 % of 100", rates: [100.0, 100.0], instances: [4, 4] };

/// 50 requests a second on two new instances beside 150 on six old ones.
pub(crate) const QUARTER: Load = Load { name: "25 % of 200", rates: [50.0, 150.0], instances: [2, 6] };

/// The same on eight new instances beside twenty-four old ones, two and six in each of four regions.
pub(crate) const REGIONAL: Load =
    Load { name: "25 % of 200, 4 regions", rates: [50.0, 150.0], instances: [8, 24] };

/// What the service sends of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sending {
    /// As the tables name it; empty for spans alone.
    pub(crate) name: &'static str,
    /// A span for each request.
    pub(crate) spans: bool,
    /// Seconds between exports of metrics; 0 for none.
    pub(crate) interval_s: i64,
    /// Whether the latencies of metrics are in explicit buckets; else exponential.
    pub(crate) explicit: bool,
}

/// Spans alone.
pub(crate) const SPANS: Sending = Sending { name: "", spans: true, interval_s: 0, explicit: false };
/// Metrics alone, explicit buckets, every 15 s.
pub(crate) const METRICS_15_S: Sending =
    Sending { name: "metrics, 15 s", spans: false, interval_s: 15, explicit: true };
/// The same every minute, the default of the SDKs.
pub(crate) const METRICS_60_S: Sending = Sending { name: "metrics, 60 s", interval_s: 60, ..METRICS_15_S };
/// Exponential histograms.
pub(crate) const EXPONENTIAL_15_S: Sending =
    Sending { name: "metrics, 15 s, exponential", explicit: false, ..METRICS_15_S };
/// Both, of the same requests.
pub(crate) const BOTH: Sending = Sending { name: "spans and metrics, 15 s", spans: true, ..METRICS_15_S };

/// One operation of the service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    /// Its name.
    pub(crate) name: &'static str,
    /// Share of the requests.
    pub(crate) share: f64,
    /// Share of failed requests in a healthy version.
    pub(crate) error_rate: f64,
    /// Median latency in seconds; the law is log-normal.
    pub(crate) median_s: f64,
    /// Spread of ln(latency).
    pub(crate) sigma: f64,
    /// Share of requests from a second law, 3.6 times slower with a spread of 0.8.
    pub(crate) tail: f64,
    /// Requests take about 20 s unless they fail, and they fail at once.
    pub(crate) long: bool,
}

const fn operation(name: &'static str, share: f64, error_rate: f64, median_s: f64) -> Operation {
    Operation { name, share, error_rate, median_s, sigma: 0.6, tail: 0.0, long: false }
}

/// Three operations with the same error rate of 0.1 %.
pub(crate) const EVEN: &[Operation] = &[
    operation("GET /items", 0.6, 0.001, 0.05),
    operation("GET /items/{id}", 0.25, 0.001, 0.03),
    operation("POST /orders", 0.15, 0.001, 0.12),
];
/// Five operations, the rare ones failing more often.
pub(crate) const UNEVEN: &[Operation] = &[
    operation("GET /", 0.5, 0.0005, 0.02),
    operation("GET /items", 0.25, 0.001, 0.05),
    operation("GET /items/{id}", 0.15, 0.002, 0.03),
    operation("POST /cart", 0.07, 0.005, 0.08),
    operation("POST /orders", 0.03, 0.01, 0.12),
];
/// The one operation that the method was designed on: a heavy tail, an error rate of 0.1 %.
pub(crate) const REFERENCE: &[Operation] =
    &[Operation { sigma: 0.45, tail: 0.06, ..operation("GET /items", 1.0, 0.001, 0.05) }];
/// One operation with an error rate of 1 %, for sparse traffic.
pub(crate) const SINGLE: &[Operation] = &[operation("POST /jobs", 1.0, 0.01, 0.05)];
/// Long requests beside fast failures.
pub(crate) const LONG: &[Operation] = &[
    operation("GET /reports", 0.5, 0.001, 0.05),
    Operation { long: true, ..operation("POST /reports", 0.5, 0.05, 20.0) },
];

/// How many operations [`many`] has: with errors, client errors and three quantiles each, 200 comparisons.
const MANY: usize = 40;

/// Forty operations from busy to rare, in every one of which each SLI is compared.
pub(crate) fn many() -> &'static [Operation] {
    static OPERATIONS: OnceLock<Vec<Operation>> = OnceLock::new();
    OPERATIONS.get_or_init(|| {
        let total: f64 = (1..=MANY).map(|i| 1.0 / i as f64).sum();
        let one = |i: usize| {
            // They live as long as the program.
            let name = Box::leak(format!("GET /resource-{i}").into_boxed_str());
            operation(
                name,
                1.0 / i as f64 / total,
                0.001 * (1.0 + (i % 4) as f64),
                0.02 + 0.005 * (i % 9) as f64,
            )
        };
        (1..=MANY).map(one).collect()
    })
}

/// What disturbs both versions by the same law.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Noise {
    /// Error bursts that hit both versions at once: coefficient of variation and mean seconds.
    pub(crate) shared_bursts: Option<[f64; 2]>,
    /// Mean size of a cluster of errors, geometric; 0 or 1 for single errors.
    pub(crate) cluster: f64,
    /// Error bursts of one instance: mean seconds between them, mean seconds, added error rate.
    pub(crate) instance_bursts: Option<[f64; 3]>,
    /// Spread of ln(error rate) over instances.
    pub(crate) error_spread: f64,
    /// Spread of ln(latency) over instances.
    pub(crate) latency_spread: f64,
    /// Spread of ln(latency) over time, the same for both versions (autoregressive, steps of 5 s).
    pub(crate) slowdowns: f64,
    /// Pauses of one instance: mean seconds between them, mean seconds.
    pub(crate) pauses: Option<[f64; 2]>,
}

/// Nothing but chance.
pub(crate) const CHANCE: Noise = Noise {
    shared_bursts: None,
    cluster: 1.0,
    instance_bursts: None,
    error_spread: 0.0,
    latency_spread: 0.0,
    slowdowns: 0.0,
    pauses: None,
};
/// Everything at once.
pub(crate) const ALL_NOISES: Noise = Noise {
    shared_bursts: Some([1.0, 20.0]),
    cluster: 2.0,
    instance_bursts: Some([3600.0, 4.0, 0.1]),
    error_spread: 0.2,
    latency_spread: 0.02,
    slowdowns: 0.2,
    pauses: Some([120.0, 0.4]),
};

/// How the candidate differs from `from_s` to `until_s` after its first second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// First second.
    pub(crate) from_s: i64,
    /// First second that is no longer different.
    pub(crate) until_s: i64,
    /// Factor on error rates.
    pub(crate) errors_times: f64,
    /// Added to error rates.
    pub(crate) errors_plus: f64,
    /// Factor on latencies.
    pub(crate) latency_times: f64,
}

/// No difference; the start of every [`Change`].
pub(crate) const SAME: Change =
    Change { from_s: 0, until_s: i64::MAX, errors_times: 1.0, errors_plus: 0.0, latency_times: 1.0 };

/// One request in ten of each version is kept, by its trace id.
pub(crate) const TENTH: [f64; 2] = [0.1, 0.1];
/// All of the new version's, one in ten of the old one's.
pub(crate) const UNEQUAL: [f64; 2] = [1.0, 0.1];

/// One simulated situation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Traffic.
    pub(crate) load: Load,
    /// Operations.
    pub(crate) operations: &'static [Operation],
    /// Disturbances of both versions.
    pub(crate) noise: Noise,
    /// What the candidate does differently.
    pub(crate) change: Change,
    /// The candidate begins this many times slower and gets faster with a time constant of 2 minutes.
    pub(crate) slow_start: f64,
    /// The candidate's operations have other names.
    pub(crate) renamed: bool,
    /// The candidate's shares of the operations, where they are not the baseline's.
    pub(crate) mix: Option<&'static [f64]>,
    /// The baseline's traffic ends when the candidate's begins.
    pub(crate) baseline_ends: bool,
    /// Seconds for which a new instance is not compared.
    pub(crate) warmup_s: i64,
    /// No new version: the instances go on, and `change` happens to them at a time that is announced.
    pub(crate) before_after: bool,
    /// Shares of the requests of candidate and baseline whose spans are kept by a head sampler, which knows nothing
    /// of how they end.
    pub(crate) sampled: [f64; 2],
    /// How many times as high errors and traffic are at their peak as at their trough, 12 hours later.
    pub(crate) cycle: f64,
    /// By what its requests are told apart.
    pub(crate) dimensions: Option<Dimensions>,
    /// Seconds after its first from which the candidate shows no request any more: they never end.
    pub(crate) silent_from_s: i64,
    /// Releases of the same service before this one that begin as it does; nothing else happens to them.
    pub(crate) releases_before: u64,
}

impl Scenario {
    /// A healthy candidate under nothing but chance.
    pub(crate) fn healthy(load: Load) -> Self {
        Self {
            load,
            operations: EVEN,
            noise: CHANCE,
            change: SAME,
            slow_start: 1.0,
            renamed: false,
            mix: None,
            baseline_ends: false,
            warmup_s: 60,
            before_after: false,
            sampled: [1.0; 2],
            cycle: 1.0,
            dimensions: None,
            silent_from_s: i64::MAX,
            releases_before: 0,
        }
    }
}
