//! What an explanation promises of the future, held to it: of deployments whose errors lie above the old version's by
//! exactly the increase that a statement names, four of five have failed in the time that it names.

use rollguard::verdict::{EarlierReleases, Memory, Outlook, Policy, Timing};

use crate::run::{Length, deploy};
use crate::scenario::{
    CHANCE, Change, HALF, LARGE, Load, Noise, QUARTER, SAME, SMALL_SHARE, SPANS, Scenario,
};
use crate::traffic::Service;

/// Errors in clusters of three.
const CLUSTERS: Noise = Noise { cluster: 3.0, ..CHANCE };
/// Bursts that hit both versions alike.
const BURSTS: Noise = Noise { shared_bursts: Some([1.0, 20.0]), ..CHANCE };
/// Seconds of the old version alone.
const HISTORY_S: i64 = 900;

/// A statement: this traffic, these errors, so many seconds of comparison.
pub(crate) struct Promise {
    load: Load,
    noise: Noise,
    errors: &'static str,
    seconds: i64,
    /// Runs of it in `tests/sim`, or none where it is known to promise too much.
    pub(crate) tested: Option<u64>,
}

const fn promise(load: Load, seconds: i64, tested: u64) -> Promise {
    Promise { load, noise: CHANCE, errors: "by chance", seconds, tested: Some(tested) }
}

pub(crate) const PROMISES: [Promise; 11] = [
    promise(SMALL_SHARE, 60, 30),
    promise(SMALL_SHARE, 300, 20),
    promise(SMALL_SHARE, 1_200, 10),
    Promise { noise: BURSTS, errors: "shared bursts", ..promise(SMALL_SHARE, 300, 20) },
    promise(QUARTER, 300, 20),
    promise(HALF, 120, 60),
    promise(HALF, 600, 60),
    promise(HALF, 1_500, 40),
    Promise { noise: CLUSTERS, errors: "clusters of 3", ..promise(LARGE, 60, 20) },
    Promise { noise: CLUSTERS, errors: "clusters of 3", ..promise(LARGE, 300, 10) },
    Promise { noise: CLUSTERS, errors: "clusters of 3", tested: None, ..promise(SMALL_SHARE, 300, 0) },
];

/// What became of the deployments of a promise.
pub(crate) struct Kept {
    runs: u64,
    found: u64,
    /// Of the increases that were named, a share of requests.
    mean_increase: f64,
}

impl Promise {
    pub(crate) const HEAD: &'static str = "| traffic | errors | seconds | increase, mean | runs | found |\n\
                                           |---|---|---|---|---|---|";

    /// Deploys a version with exactly the increase that is named, `runs` times.
    pub(crate) fn keep(&self, runs: u64, seed: u64) -> Kept {
        let (mut found, mut increases) = (0, 0.0);
        for seed in seed..seed + runs {
            let healthy = Scenario { noise: self.noise, ..Scenario::healthy(self.load) };
            let increase = self.named(healthy, seed);
            increases += increase;
            let scenario = Scenario { change: Change { errors_plus: increase, ..SAME }, ..healthy };
            let until = scenario.warmup_s + self.seconds;
            let outcome = deploy(
                scenario,
                SPANS,
                Length { history_s: HISTORY_S, seconds: until },
                (None, &EarlierReleases::default()),
                seed,
            );
            found += u64::from(outcome.failed_s.is_some_and(|s| s <= until));
        }
        Kept { runs, found, mean_increase: increases / runs as f64 }
    }

    /// What the statement would name at the end of the history, when the incident size is what the deployment will
    /// begin with.
    fn named(&self, scenario: Scenario, seed: u64) -> f64 {
        let mut service = Service::new(scenario, HISTORY_S, seed);
        let mut memory = Memory::default();
        for _ in 0..HISTORY_S {
            let (t, _, input) = service.second();
            memory.begin(t, !input.baseline.is_silent());
            memory.end(t, &input.baseline.warm, &input.baseline);
        }
        let [errors, requests] = memory.remembered();
        let outlook = Outlook {
            rates: self.load.rates,
            error_rate: (errors + 0.5) / (requests + 1.0),
            incident_size: memory.incident_size(),
            weight: 0.2,
            timing: Timing::default(),
            compared_s: self.seconds as f64,
        };
        // An outage shows in any of these times.
        outlook.shown_after(self.seconds as f64, &Policy::default()).unwrap_or(1.0)
    }

    /// A row of the table.
    pub(crate) fn markdown(&self, kept: &Kept) -> String {
        let (name, errors, seconds, runs) = (self.load.name, self.errors, self.seconds, kept.runs);
        let (increase, found) = (100.0 * kept.mean_increase, 100.0 * kept.share());
        format!("| {name} | {errors} | {seconds} | {increase:.2} points | {runs} | {found:.0} % |")
    }
}

impl Kept {
    /// Share of the deployments that failed in time.
    pub(crate) fn share(&self) -> f64 {
        self.found as f64 / self.runs as f64
    }
}
