//! The shop: a service of four operations, two versions of it, two instances a version. It makes requests
//! at the rate it is told, lets each take its time, and sends the finished ones as OTLP five times a second,
//! as an SDK with a short flush interval would. What it does is random with a fixed seed: the demo shows
//! much the same each time, and only the moments at which the machine wakes us differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::spans::{Exporter, Identity, Request};
use crate::model::{NANOS_PER_SECOND, UnixNanos};
use crate::pipeline::clock::Clock;

/// `service.name` of the shop.
pub(super) const SERVICE: &str = "checkout";
/// The two versions, old and new.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v2"];
/// Requests per second of the whole shop, whoever serves them.
pub(super) const RATE: f64 = 1000.0;
/// Instances of each version.
pub(super) const INSTANCES: usize = 2;
/// How often an instance sends what has finished.
pub(super) const FLUSH: Duration = Duration::from_millis(200);
/// Beyond this a machine that was asleep does not catch up.
const LONGEST_GAP_NANOS: u64 = 2 * NANOS_PER_SECOND;
const SEED: u64 = 20;

/// One operation of the shop.
#[derive(Debug)]
struct Operation {
    method: &'static str,
    route: &'static str,
    /// Share of all requests.
    share: f64,
    /// Median latency in seconds.
    median_s: f64,
    /// Spread of the log-normal latency.
    sigma: f64,
    /// Share of requests that fail on a good day.
    errors: f64,
}

const OPERATIONS: [Operation; 4] = [
    Operation { method: "GET", route: "/products", share: 0.40, median_s: 0.018, sigma: 0.40, errors: 0.001 },
    Operation {
        method: "GET",
        route: "/products/{id}",
        share: 0.30,
        median_s: 0.011,
        sigma: 0.35,
        errors: 0.001,
    },
    Operation {
        method: "POST",
        route: "/cart/items",
        share: 0.18,
        median_s: 0.026,
        sigma: 0.40,
        errors: 0.002,
    },
    Operation {
        method: "POST",
        route: "/checkout",
        share: 0.12,
        median_s: 0.085,
        sigma: 0.45,
        errors: 0.004,
    },
];

/// How a version behaves, beside what all versions do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Behaviour {
    /// Share of `POST /checkout` that fails on top.
    pub(super) checkout_errors: f64,
    /// Share of all requests that fail on top.
    pub(super) errors: f64,
    /// Factor on every latency.
    pub(super) slower: f64,
}

impl Behaviour {
    /// As good as the old version.
    pub(super) const GOOD: Self = Self { checkout_errors: 0.0, errors: 0.0, slower: 1.0 };
}

/// Who serves how much, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    /// Share of all requests that goes to the old and to the new version.
    pub(super) shares: [f64; 2],
    /// How the new version behaves.
    pub(super) candidate: Behaviour,
}

impl Load {
    fn behaviour(&self, version: usize) -> Behaviour {
        if version == 0 { Behaviour::GOOD } else { self.candidate }
    }
}

/// What became of the spans.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Spans that the gateway accepted.
    pub(super) accepted: AtomicU64,
    /// Spans that it refused or that could not be sent.
    pub(super) refused: AtomicU64,
}

/// The running shop.
pub(super) struct Shop {
    load: watch::Sender<Load>,
    sent: Arc<Sent>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Shop {
    /// Opens the shop: every instance is a client of its own.
    pub(super) fn open(endpoint: &Exporter, load: Load, clock: &Arc<dyn Clock>) -> Self {
        let (sender, receiver) = watch::channel(load);
        let (sent, stop) = (Arc::<Sent>::default(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for (version, label) in VERSIONS.into_iter().enumerate() {
            for number in 0..INSTANCES {
                let identity =
                    Identity { version: label, instance: format!("{SERVICE}-{label}-{}", number + 1) };
                let instance = Instance {
                    version,
                    exporter: endpoint.of_instance(&identity),
                    load: receiver.clone(),
                    sent: Arc::clone(&sent),
                    traffic: Traffic::new(SEED + (version * INSTANCES + number) as u64),
                };
                tasks.spawn(instance.run(Arc::clone(clock), stop.clone()));
            }
        }
        Self { load: sender, sent, stop, tasks }
    }

    /// From now on.
    pub(super) fn change(&self, load: Load) {
        self.load.send_replace(load);
    }

    /// Spans accepted and refused so far.
    pub(super) fn sent(&self) -> [u64; 2] {
        [self.sent.accepted.load(Ordering::Relaxed), self.sent.refused.load(Ordering::Relaxed)]
    }

    /// Closes the shop; what is in flight is not sent any more.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Instance {
    version: usize,
    exporter: Exporter,
    load: watch::Receiver<Load>,
    sent: Arc<Sent>,
    traffic: Traffic,
}

impl Instance {
    async fn run(mut self, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let mut timer = tokio::time::interval(FLUSH);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = clock.now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            let now = clock.now();
            let load = *self.load.borrow();
            let rate = RATE * load.shares[self.version] / INSTANCES as f64;
            self.traffic.begin(last, now, rate, load.behaviour(self.version));
            last = now;
            let finished = self.traffic.finish(now);
            if finished.is_empty() {
                continue;
            }
            let count = finished.len() as u64;
            let rejected = self.exporter.export(finished).await.unwrap_or(count);
            self.sent.refused.fetch_add(rejected, Ordering::Relaxed);
            self.sent.accepted.fetch_add(count - rejected.min(count), Ordering::Relaxed);
        }
    }
}

/// Requests of one instance: begun, and finished later.
#[derive(Debug)]
struct Traffic {
    rng: Rng,
    in_flight: Vec<Request>,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), in_flight: Vec::new() }
    }

    /// Begins the requests of the time from `from` to `to` at `rate` per second, evenly at random.
    fn begin(&mut self, from: UnixNanos, to: UnixNanos, rate: f64, behaviour: Behaviour) {
        let from = UnixNanos(from.0.max(to.0.saturating_sub(LONGEST_GAP_NANOS)));
        let end = to.since(from) as f64;
        if rate <= 0.0 {
            return;
        }
        // Gaps between the requests of many independent customers are exponential.
        let mean_gap = NANOS_PER_SECOND as f64 / rate;
        let mut at = self.exponential() * mean_gap;
        while at < end {
            let request = self.request(from.plus_nanos(at as u64), behaviour);
            self.in_flight.push(request);
            at += self.exponential() * mean_gap;
        }
    }

    /// Takes out what has finished by `now`.
    fn finish(&mut self, now: UnixNanos) -> Vec<Request> {
        let (finished, in_flight) =
            std::mem::take(&mut self.in_flight).into_iter().partition(|request| request.end <= now);
        self.in_flight = in_flight;
        finished
    }

    fn request(&mut self, start: UnixNanos, behaviour: Behaviour) -> Request {
        let operation = self.choose();
        let mut errors = operation.errors + behaviour.errors;
        if operation.route == "/checkout" {
            errors += behaviour.checkout_errors;
        }
        let seconds = operation.median_s * behaviour.slower * (operation.sigma * self.normal()).exp();
        Request {
            method: operation.method,
            route: operation.route,
            start,
            end: start.plus_secs_f64(seconds),
            failed: self.rng.f64() < errors,
            trace_id: self.rng.u128(1..).to_be_bytes(),
            span_id: self.rng.u64(1..).to_be_bytes(),
        }
    }

    fn choose(&mut self) -> &'static Operation {
        let mut at = self.rng.f64();
        let found = OPERATIONS.iter().find(|operation| {
            at -= operation.share;
            at < 0.0
        });
        found.unwrap_or(&OPERATIONS[0])
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.rng.f64()).ln()
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.rng.f64()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(behaviour: Behaviour) -> Vec<Request> {
        let mut traffic = Traffic::new(7);
        let at = |s: f64| UnixNanos::from_secs(1_000).plus_secs_f64(s);
        let mut all = Vec::new();
        for n in 0..300 {
            let (from, to) = (at(f64::from(n) * 0.2), at(f64::from(n + 1) * 0.2));
            traffic.begin(from, to, 500.0, behaviour);
            all.extend(traffic.finish(to));
        }
        all
    }

    fn share(all: &[Request], what: impl Fn(&Request) -> bool) -> f64 {
        all.iter().filter(|r| what(r)).count() as f64 / all.len() as f64
    }

    fn median_s(all: &[Request], route: &str) -> f64 {
        let mut times: Vec<u64> =
            all.iter().filter(|r| r.route == route).map(|r| r.end.since(r.start)).collect();
        times.sort_unstable();
        times[times.len() / 2] as f64 / NANOS_PER_SECOND as f64
    }

    #[test]
    fn the_traffic_is_what_it_is_said_to_be() {
        let all = minute(Behaviour::GOOD);
        assert!((all.len() as f64 / 30_000.0 - 1.0).abs() < 0.03, "{} requests", all.len());
        for operation in &OPERATIONS {
            let part = share(&all, |r| r.route == operation.route);
            assert!((part - operation.share).abs() < 0.02, "{}: {part}", operation.route);
            let median = median_s(&all, operation.route);
            assert!((median / operation.median_s - 1.0).abs() < 0.05, "{}: {median} s", operation.route);
        }
        let errors = share(&all, |r| r.failed);
        assert!(errors > 0.0005 && errors < 0.003, "{errors}");
        let sum: f64 = OPERATIONS.iter().map(|o| o.share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn what_is_bad_about_a_version_shows() {
        let bad = Behaviour { checkout_errors: 0.3, errors: 0.0, slower: 1.5 };
        let all = minute(bad);
        let checkouts: Vec<Request> = all.into_iter().filter(|r| r.route == "/checkout").collect();
        assert!((share(&checkouts, |r| r.failed) - 0.304).abs() < 0.03);
        assert!((median_s(&checkouts, "/checkout") / 0.1275 - 1.0).abs() < 0.06);
    }

    #[test]
    fn requests_finish_later_than_they_begin_and_no_traffic_is_none() {
        let mut traffic = Traffic::new(1);
        let (from, to) = (UnixNanos::from_secs(10), UnixNanos::from_secs(11));
        traffic.begin(from, to, 1000.0, Behaviour::GOOD);
        assert!(traffic.in_flight.iter().all(|r| r.start >= from && r.start < to && r.end > r.start));
        let begun = traffic.in_flight.len();
        let finished = traffic.finish(to);
        assert!(finished.iter().all(|r| r.end <= to));
        assert_eq!(finished.len() + traffic.in_flight.len(), begun);
        assert!(!traffic.in_flight.is_empty());
        traffic.finish(UnixNanos::from_secs(100));
        traffic.begin(from, to, 0.0, Behaviour::GOOD);
        assert!(traffic.in_flight.is_empty());
    }
}
