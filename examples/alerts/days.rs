//! Days of one service: its requests, its failures, and what is told of its error budget.

use fastrand::Rng;
use rollguard::objective::{Alerts, Change, Record, Severity, Situation};

use crate::samplers::{exponential, poisson};

const SLO: f64 = 0.999;
const DAY_S: i64 = 86_400;
/// Seconds of a step, and between two looks.
const STEP_S: i64 = 30;
/// Days that fill the windows; what is told in them does not count.
const BEFORE: i64 = 3;
const BEGIN_S: i64 = 1_700_000_000 / DAY_S * DAY_S;

/// How failures come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Law {
    pub(crate) name: &'static str,
    /// Mean share of failed requests.
    pub(crate) share: f64,
    /// Mean size of a cluster of failures, geometric.
    pub(crate) cluster: f64,
    /// Share of the failures that come in bursts; mean seconds of one, and how many a day.
    pub(crate) bursts: Option<[f64; 3]>,
}

/// How often what was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Pages of the rules that always hold.
    pub(crate) pages: u32,
    /// Pages of the rule for deployments, with one watched all the time.
    pub(crate) deploy_pages: u32,
    pub(crate) tickets: u32,
    /// Reviews, with a deployment watched all the time.
    pub(crate) reviews: u32,
}

/// What is told of a service in so many days, at `rate` requests a second.
pub(crate) fn live(law: Law, rate: f64, days: i64, mut rng: Rng) -> Told {
    let mut record = Record::default();
    let (mut usual, mut deploying) = (Alerts::default(), Alerts::default());
    let mut told = Told::default();
    let mut weather = Weather::new(law, &mut rng);
    for step in 0..(days + BEFORE) * DAY_S / STEP_S {
        let now = BEGIN_S + (step + 1) * STEP_S;
        // Where there are many, their chance is nothing beside that of the failures.
        let expected = rate * STEP_S as f64;
        let requests = if expected < 100.0 { poisson(&mut rng, expected) } else { expected as u64 };
        let mean = requests as f64 * weather.share(&mut rng) / law.cluster;
        let clusters = poisson(&mut rng, mean);
        let failed: u64 = (0..clusters).map(|_| cluster(&mut rng, law.cluster)).sum();
        record.count(now - STEP_S, requests, failed.min(requests));
        record.watch(now - STEP_S, now);
        let counts = step >= BEFORE * DAY_S / STEP_S;
        for (alerts, is_deploying) in [(&mut usual, false), (&mut deploying, true)] {
            let situation = Situation { record: &record, slo: SLO, deploying: is_deploying, now };
            for change in alerts.look(&situation) {
                if let (Change::Fired(episode), true) = (change, counts) {
                    let tier = episode.rule.tier();
                    match (tier.severity, is_deploying) {
                        (Severity::Page, false) => told.pages += 1,
                        (Severity::Page, true) if tier.deploying => told.deploy_pages += 1,
                        (Severity::Ticket, false) => told.tickets += 1,
                        (Severity::Review, true) => told.reviews += 1,
                        _ => {}
                    }
                }
            }
        }
    }
    told
}

/// Size of one cluster.
fn cluster(rng: &mut Rng, mean: f64) -> u64 {
    let mut size = 1;
    while rng.f64() >= 1.0 / mean {
        size += 1;
    }
    size
}

/// When it rains.
struct Weather {
    law: Law,
    /// Seconds until the running burst is over, else until the next begins.
    left: f64,
    in_burst: bool,
}

impl Weather {
    fn new(law: Law, rng: &mut Rng) -> Self {
        let left = law.bursts.map_or(f64::INFINITY, |[.., a_day]| exponential(rng, DAY_S as f64 / a_day));
        Self { law, left, in_burst: false }
    }

    /// Mean share of failures in the next step.
    fn share(&mut self, rng: &mut Rng) -> f64 {
        let Some([part, seconds, a_day]) = self.law.bursts else { return self.law.share };
        let within = if self.in_burst { self.left.min(STEP_S as f64) } else { 0.0 };
        let share = within / STEP_S as f64;
        self.left -= STEP_S as f64;
        if self.left <= 0.0 {
            self.in_burst = !self.in_burst;
            self.left = exponential(rng, if self.in_burst { seconds } else { DAY_S as f64 / a_day });
        }
        let rain = self.law.share * part * DAY_S as f64 / (seconds * a_day);
        self.law.share * (1.0 - part) + (rain * share).min(1.0)
    }
}
